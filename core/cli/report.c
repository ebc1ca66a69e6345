/*
 * report.c - prints what an audit found.
 *
 * Main thread; writes to stdout only. Must not know where the findings come from. Tests:
 * tests/integration/audit_spec.lua.
 */
#include "cli/report.h"

#include "base/text.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

bool mr_report_equal(const struct mr_postgres_audit_result *result)
{
    return !result->missing && !result->extra && !result->differing && !result->doubled &&
           !result->unreadable;
}

static void put_time(struct mr_buf *out, int64_t ms)
{
    time_t seconds = (time_t)(ms / 1000);
    struct tm tm;
    char text[32];
    gmtime_r(&seconds, &tm);
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm);
    mr_buf_put_text(out, text);
}

static void put_json_text(struct mr_buf *out, const char *text)
{
    if (text)
        mr_text_json_string(out, text, strlen(text));
    else
        mr_buf_put_text(out, "null");
}

static void put_json_time(struct mr_buf *out, const char *name, int64_t ms)
{
    mr_buf_printf(out, "  \"%s\": ", name);
    if (ms < 0) {
        mr_buf_put_text(out, "null,\n");
        return;
    }
    mr_buf_put_char(out, '"');
    put_time(out, ms);
    mr_buf_put_text(out, "\",\n");
}

static void print(struct mr_buf *out)
{
    fwrite(out->ptr, 1, out->len, stdout);
    mr_buf_fini(out);
}

static void begin_json(const struct mr_report *report,
                       const struct mr_postgres_audit_result *result, struct mr_buf *out)
{
    const struct {
        const char *name;
        int64_t n;
    } counts[] = {
        {"messages", result->messages},     {"rows", result->rows},
        {"missing", result->missing},       {"extra", result->extra},
        {"differing", result->differing},   {"doubled", result->doubled},
        {"unreadable", result->unreadable}, {"repeated", result->repeated},
    };
    mr_buf_put_text(out, "{\n  \"pipeline\": ");
    put_json_text(out, report->pipeline);
    mr_buf_put_text(out, ",\n  \"topic\": ");
    put_json_text(out, report->topic);
    mr_buf_put_text(out, ",\n  \"table\": ");
    put_json_text(out, report->table);
    mr_buf_printf(out, ",\n  \"equal\": %s,\n", mr_report_equal(result) ? "true" : "false");
    put_json_time(out, "since", report->since_ms);
    put_json_time(out, "until", report->until_ms);
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        mr_buf_printf(out, "  \"%s\": %" PRId64 ",\n", counts[i].name, counts[i].n);
    mr_buf_put_text(out, "  \"examples\": [");
}

static void begin_text(const struct mr_report *report,
                       const struct mr_postgres_audit_result *result, struct mr_buf *out)
{
    mr_buf_printf(out,
                  "%s: %" PRId64 " messages, %" PRId64 " rows, %" PRId64 " missing, %" PRId64
                  " extra, %" PRId64 " differing, %" PRId64 " doubled",
                  report->pipeline, result->messages, result->rows, result->missing, result->extra,
                  result->differing, result->doubled);
    if (result->unreadable)
        mr_buf_printf(out, ", %" PRId64 " unreadable", result->unreadable);
    if (report->since_ms >= 0) {
        mr_buf_put_text(out, ", since ");
        put_time(out, report->since_ms);
    }
    if (report->until_ms >= 0) {
        mr_buf_put_text(out, ", until ");
        put_time(out, report->until_ms);
    }
    mr_buf_put_char(out, '\n');
    if (result->repeated)
        mr_buf_printf(out,
                      "note: %" PRId64 " outputs stand in both sinks more than once, equally "
                      "often: does audit.key tell them apart?\n",
                      result->repeated);
    if (result->missing && report->n_deleted && report->since_ms < 0)
        mr_buf_printf(out,
                      "note: %s no longer has its first %" PRId64 " offsets (retention): rows of "
                      "then have no message; begin later with --since\n",
                      report->topic, report->n_deleted);
}

void mr_report_begin(struct mr_report *report, const struct mr_postgres_audit_result *result)
{
    struct mr_buf out = {0};
    if (report->json)
        begin_json(report, result, &out);
    else
        begin_text(report, result, &out);
    print(&out);
}

/* --- examples --- */

static const char *explain(const char *kind)
{
    static const char *const texts[][2] = {
        {"missing", "rows without a message"},
        {"extra", "messages without a row"},
        {"differing", "message and row that are not equal"},
        {"doubled", "more often in one sink than in the other"},
        {"unreadable", "messages that cannot be compared"},
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (strcmp(texts[i][0], kind) == 0)
            return texts[i][1];
    return "";
}

static void put_value(struct mr_buf *out, const char *text)
{
    enum { SHOWN = 80 };
    size_t len = text ? strlen(text) : 0;
    if (!text) {
        mr_buf_put_text(out, "null");
        return;
    }
    if (len > SHOWN)
        for (len = SHOWN; len && ((unsigned char)text[len] & 0xc0) == 0x80;)
            len--;
    for (size_t i = 0; i < len; i++)
        mr_buf_put_char(out, (unsigned char)text[i] < ' ' ? ' ' : text[i]);
    if (text[len])
        mr_buf_put_text(out, "...");
}

static void put_example_text(const struct mr_report *report,
                             const struct mr_postgres_audit_example *example, struct mr_buf *out)
{
    const char *separator = "  ";
    for (size_t i = 0; !example->why && i < report->n_fields; i++) {
        if (!report->fields[i].is_key)
            continue;
        mr_buf_printf(out, "%s%s=", separator, report->fields[i].column);
        put_value(out, example->of_message[i]);
        separator = " ";
    }
    separator = example->why ? "  " : ": ";
    for (size_t i = 0; strcmp(example->kind, "differing") == 0 && i < report->n_fields; i++) {
        if (!example->differs[i])
            continue;
        mr_buf_printf(out, "%s%s is ", separator, report->fields[i].column);
        put_value(out, example->of_message[i]);
        mr_buf_put_text(out, " in the message, ");
        put_value(out, example->of_row[i]);
        mr_buf_put_text(out, " in the row");
        separator = "; ";
    }
    if (strcmp(example->kind, "doubled") == 0)
        mr_buf_printf(out, ": %" PRId64 " message%s, %" PRId64 " row%s", example->messages,
                      example->messages == 1 ? "" : "s", example->rows,
                      example->rows == 1 ? "" : "s");
    if (example->offset >= 0)
        mr_buf_printf(out, "%s%s/%" PRId64 "@%" PRId64 "%s", example->why ? "  " : " (",
                      report->topic, example->partition, example->offset, example->why ? "" : ")");
    if (example->why)
        mr_buf_printf(out, ": %s", example->why);
    mr_buf_put_char(out, '\n');
}

static void put_values_json(const struct mr_report *report, const char *const *values,
                            const bool *differs, bool keys, struct mr_buf *out)
{
    const char *separator = "{";
    for (size_t i = 0; i < report->n_fields; i++) {
        if (keys ? !report->fields[i].is_key : !differs[i])
            continue;
        mr_buf_put_text(out, separator);
        put_json_text(out, report->fields[i].column);
        mr_buf_put_text(out, ": ");
        put_json_text(out, values[i]);
        separator = ", ";
    }
    mr_buf_put_text(out, *separator == '{' ? "{}" : "}");
}

static void put_example_json(const struct mr_report *report,
                             const struct mr_postgres_audit_example *example, struct mr_buf *out)
{
    mr_buf_printf(out, "%s\n    {\"kind\": \"%s\", \"messages\": %" PRId64 ", \"rows\": %" PRId64,
                  report->n_examples ? "," : "", example->kind, example->messages, example->rows);
    if (example->offset >= 0)
        mr_buf_printf(out, ", \"partition\": %" PRId64 ", \"offset\": %" PRId64, example->partition,
                      example->offset);
    if (example->why) {
        mr_buf_put_text(out, ", \"why\": ");
        put_json_text(out, example->why);
    } else {
        mr_buf_put_text(out, ", \"key\": ");
        put_values_json(report, example->of_message, NULL, true, out);
    }
    if (strcmp(example->kind, "differing") == 0) {
        mr_buf_put_text(out, ", \"message\": ");
        put_values_json(report, example->of_message, example->differs, false, out);
        mr_buf_put_text(out, ", \"row\": ");
        put_values_json(report, example->of_row, example->differs, false, out);
    }
    mr_buf_put_char(out, '}');
}

void mr_report_example(void *arg, const struct mr_postgres_audit_example *example)
{
    struct mr_report *report = arg;
    struct mr_buf out = {0};
    if (report->json) {
        put_example_json(report, example, &out);
    } else {
        if (strcmp(report->kind, example->kind) != 0) {
            snprintf(report->kind, sizeof report->kind, "%s", example->kind);
            mr_buf_printf(&out, "%s: %s\n", example->kind, explain(example->kind));
        }
        put_example_text(report, example, &out);
    }
    report->n_examples++;
    print(&out);
}

void mr_report_end(struct mr_report *report, bool complete)
{
    if (report->json)
        printf("%s]%s\n}\n", report->n_examples ? "\n  " : "",
               complete ? "" : ",\n  \"complete\": false");
}
