/*
 * record.c - see record.h.
 *
 * Main thread; owns nothing. A type fits if the table's own encoder takes one value of it: several
 * are tried, since a text may be a uuid, a number or a time. Must not know Lua. Tests:
 * tests/integration/cli_spec.lua.
 */
#include "cli/record.h"

#include <stdio.h>
#include <string.h>

/* Values of a column of the lookup; n of them. */
static size_t samples_of(enum mr_type type, struct mr_value out[4])
{
    static const char *const texts[] = {"1", "00000000-0000-0000-0000-000000000000",
                                        "2026-01-01T00:00:00Z", "{}"};
    enum { N_TEXTS = sizeof texts / sizeof *texts };
    memset(out, 0, N_TEXTS * sizeof *out);
    out[0].type = type;
    switch (type) {
    case MR_TEXT:
        for (size_t i = 0; i < N_TEXTS; i++)
            out[i] = (struct mr_value){.type = MR_TEXT, .bytes = mr_bytes_of(texts[i])};
        return N_TEXTS;
    case MR_NUMERIC:
        out[0].bytes = mr_bytes_of("1");
        return 1;
    case MR_JSON:
        out[0].bytes = mr_bytes_of("{}");
        return 1;
    case MR_FLOAT:
        out[0].f = 1.0;
        return 1;
    default:
        return 1;
    }
}

static bool fits(const struct mr_row_schema *rows, const struct mr_row_column *column,
                 enum mr_type type, struct mr_error *err)
{
    struct mr_value samples[4];
    struct mr_buf out = {0};
    bool ok = false;
    size_t n = samples_of(type, samples);
    for (size_t i = 0; !ok && i < n; i++)
        ok = rows->encode(column, &samples[i], &out, err);
    mr_buf_fini(&out);
    return ok;
}

static void report(struct mr_findings *findings, const char *where, const char *code,
                   const char *message)
{
    struct mr_finding finding = {.code = code, .where = where, .message = message};
    mr_findings_at(findings, &finding);
}

static void check_output(struct mr_findings *findings, const char *where,
                         const struct mr_output *output, const struct mr_lookup_schema *lookup,
                         const struct mr_row_schema *rows)
{
    char message[512];
    struct mr_error err;
    for (uint16_t i = 0; output->has_row && i < output->set->n; i++) {
        const struct mr_template_field *field = &output->fields[i];
        if (field->kind != MR_FIELD_COLUMN)
            continue;
        const struct mr_row_column *column = &rows->columns[field->row_column];
        const struct mr_lookup_column *from = &lookup->columns[field->lookup_column];
        if (fits(rows, column, from->type, &err))
            continue;
        snprintf(message, sizeof message,
                 "the row's %s is col.%s, which is %s; the column of the table %s is %s and cannot "
                 "take it",
                 column->name, from->name, from->type_name, rows->table, column->type_name);
        report(findings, where, "column-type", message);
    }
}

void mr_record_check(struct mr_findings *findings, const char *where, struct mr_script *script,
                     struct mr_bytes sample, int64_t now_ms, const struct mr_lookup_schema *lookup,
                     const struct mr_row_schema *rows)
{
    struct mr_record rec = {.topic = "check", .timestamp_ms = now_ms, .value = sample};
    struct mr_context ctx = {.now_ms = now_ms};
    const struct mr_template *template = NULL;
    struct mr_error err;
    const char *reason;
    if (script->ops->by_row && script->ops->by_row(script))
        return;
    /* Whether the filter likes the made-up message says nothing. */
    enum mr_verdict verdict = script->ops->accept(script, &rec, NULL, &ctx, &reason, &err);
    if (verdict == MR_VERDICT_EMIT || verdict == MR_VERDICT_DROP)
        verdict = script->ops->project(script, &ctx, &template, &reason, &err);
    /* Of what is refused only what no message could mend. */
    if (verdict == MR_VERDICT_REJECT && strcmp(err.class_, "schema") == 0 &&
        (strstr(err.msg, "has no column '") || strstr(err.msg, " is missing: the column is NOT ")))
        report(findings, where, "record", err.msg);
    for (size_t i = 0; template && lookup && i < template->n_outputs; i++)
        check_output(findings, where, &template->outputs[i], lookup, rows);
    script->ops->finish(script);
}
