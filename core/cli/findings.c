/*
 * findings.c - prints findings, or gathers them as JSON.
 *
 * Main thread. Owns the JSON while it grows. Must not know what is checked. Tests:
 * tests/spec/cli_spec.lua.
 */
#include "cli/findings.h"

#include "base/text.h"

#include <ctype.h>
#include <stdio.h>

void mr_findings_init(struct mr_findings *findings, bool json)
{
    *findings = (struct mr_findings){.json = json};
    mr_buf_init(&findings->out);
}

void mr_findings_fini(struct mr_findings *findings)
{
    mr_buf_fini(&findings->out);
}

static void put_json(struct mr_findings *findings, bool ok, struct mr_bytes where,
                     struct mr_bytes text)
{
    struct mr_buf *out = &findings->out;
    mr_buf_printf(out, "%s\n    {\"ok\": %s, \"where\": ", findings->n ? "," : "",
                  ok ? "true" : "false");
    mr_text_json_string(out, where.ptr, where.len);
    mr_buf_put_text(out, ", \"text\": ");
    mr_text_json_string(out, text.ptr, text.len);
    mr_buf_put_char(out, '}');
}

static void count_error(struct mr_findings *findings, int code)
{
    findings->n_errors++;
    if (!findings->code || code == MR_EXIT_CONFIG)
        findings->code = code;
}

void mr_findings_ok(struct mr_findings *findings, const char *where, const char *text)
{
    if (findings->json)
        put_json(findings, true, mr_bytes_of(where), mr_bytes_of(text));
    else
        printf("ok     %s: %s\n", where, text);
    findings->n++;
}

void mr_findings_error(struct mr_findings *findings, const char *where, const struct mr_error *err)
{
    if (findings->json)
        put_json(findings, false, mr_bytes_of(where), mr_bytes_of(err->msg));
    else
        fprintf(stderr, "error  %s: %s\n", where, err->msg);
    findings->n++;
    count_error(findings, err->code);
}

/* "   12 | text" and "      |  ^": the line below an error. */
static bool is_picture(const char *line)
{
    while (*line == ' ' || isdigit((unsigned char)*line))
        line++;
    return *line == '|';
}

void mr_findings_config(struct mr_findings *findings, const char *text)
{
    if (!findings->json)
        fputs(text, stderr);
    while (*text) {
        size_t len = strcspn(text, "\n");
        const char *mark = memmem(text, len, ": error: ", 9);
        if (mark && !is_picture(text)) {
            struct mr_bytes where = {text, (size_t)(mark - text)};
            struct mr_bytes sentence = {mark + 9, len - where.len - 9};
            if (findings->json)
                put_json(findings, false, where, sentence);
            findings->n++;
            count_error(findings, MR_EXIT_CONFIG);
        }
        text += len + (text[len] == '\n');
    }
}

int mr_findings_end(struct mr_findings *findings, const char *config)
{
    if (findings->json)
        printf("{\n  \"ok\": %s,\n  \"findings\": [%s%s]\n}\n",
               findings->n_errors ? "false" : "true", mr_buf_cstr(&findings->out),
               findings->n ? "\n  " : "");
    else if (findings->n_errors)
        fprintf(stderr, "%s: %zu error%s\n", config, findings->n_errors,
                findings->n_errors == 1 ? "" : "s");
    else
        printf("%s: no errors\n", config);
    return findings->code;
}
