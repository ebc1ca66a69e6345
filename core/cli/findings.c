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
#include <stdlib.h>
#include <string.h>

void mr_findings_init(struct mr_findings *findings, bool json)
{
    *findings = (struct mr_findings){.json = json};
    mr_buf_init(&findings->out);
}

void mr_findings_fini(struct mr_findings *findings)
{
    mr_buf_fini(&findings->out);
}

/* What a script or a file said may be no UTF-8, JSON must be. */
static void put_text(struct mr_buf *out, const char *name, struct mr_bytes text)
{
    mr_buf_printf(out, ", \"%s\": ", name);
    if (!text.ptr) {
        mr_buf_put_text(out, "null");
        return;
    }
    mr_buf_put_char(out, '"');
    for (size_t at = 0, n; at < text.len; at += n) {
        n = 1;
        while (n < 4 && at + n < text.len && !mr_text_utf8_valid(text.ptr + at, n))
            n++;
        bool valid = mr_text_utf8_valid(text.ptr + at, n);
        n = valid ? n : 1;
        mr_text_json_escape(out, valid ? text.ptr + at : "?", n);
    }
    mr_buf_put_char(out, '"');
}

static void put_number(struct mr_buf *out, const char *name, int number)
{
    if (number)
        mr_buf_printf(out, ", \"%s\": %d", name, number);
    else
        mr_buf_printf(out, ", \"%s\": null", name);
}

static void put_json(struct mr_findings *findings, bool ok, const struct mr_finding *finding)
{
    struct mr_buf *out = &findings->out;
    mr_buf_printf(out, "%s\n    {\"severity\": \"%s\"", findings->n ? "," : "",
                  ok ? "ok" : "error");
    put_text(out, "code", mr_bytes_of(finding->code));
    put_text(out, "where", mr_bytes_of(finding->where));
    put_text(out, "file", mr_bytes_of(finding->file));
    put_number(out, "line", finding->line);
    put_number(out, "column", finding->column);
    put_text(out, "message", mr_bytes_of(finding->message));
    put_text(out, "hint", mr_bytes_of(finding->hint));
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
    struct mr_finding finding = {.where = where, .message = text};
    if (findings->json)
        put_json(findings, true, &finding);
    else
        printf("ok     %s: %s\n", where, text);
    findings->n++;
}

static const char *code_name(int code)
{
    switch (code) {
    case MR_EXIT_CONFIG:
        return "config";
    case MR_EXIT_UNREACHABLE:
        return "unreachable";
    case MR_EXIT_DATA:
        return "data";
    default:
        return "error";
    }
}

/* "file:line: text": cuts the text apart in place. */
static void find_place(char *text, struct mr_finding *finding)
{
    const char *line_end = text + strcspn(text, "\n");
    for (char *colon = strchr(text, ':'); colon && colon < line_end;
         colon = strchr(colon + 1, ':')) {
        char *end;
        long line = strtol(colon + 1, &end, 10);
        if (end > colon + 1 && end[0] == ':' && end[1] == ' ' && line > 0) {
            *colon = '\0';
            finding->file = text;
            finding->line = (int)line;
            finding->message = end + 2;
            return;
        }
    }
}

/* The cure is part of the sentence: for programs it is told apart. */
static void find_hint(const char *message, struct mr_finding *finding, struct mr_buf *space)
{
    const char *from = strstr(message, "did you mean "), *end = from ? strchr(from, '?') : NULL;
    if (!end)
        return;
    mr_buf_put(space, from, (size_t)(end - from) + 1);
    finding->hint = mr_buf_cstr(space);
}

void mr_findings_error(struct mr_findings *findings, const char *where, const struct mr_error *err)
{
    char *text = mr_strdup(err->msg);
    struct mr_buf hint = {0};
    struct mr_finding finding = {.code = code_name(err->code), .where = where, .message = text};
    if (findings->json) {
        find_place(text, &finding);
        find_hint(finding.message, &finding, &hint);
        put_json(findings, false, &finding);
    } else {
        fprintf(stderr, "error  %s: %s\n", where, err->msg);
    }
    findings->n++;
    count_error(findings, err->code);
    mr_buf_fini(&hint);
    free(text);
}

void mr_findings_at(struct mr_findings *findings, const struct mr_finding *finding)
{
    if (findings->json) {
        put_json(findings, false, finding);
    } else if (!finding->file) {
        fprintf(stderr, "error  %s: %s\n", finding->where, finding->message);
    } else {
        fprintf(stderr, "%s:%d:%d: error: %s; %s\n%5d | %s\n      | ", finding->file, finding->line,
                finding->column, finding->message, finding->hint, finding->line, finding->text);
        /* A tab stays a tab, and a character of several bytes is one. */
        for (int i = 0; i < finding->column - 1 && finding->text[i]; i++)
            if (((unsigned char)finding->text[i] & 0xc0) != 0x80)
                fputc(finding->text[i] == '\t' ? '\t' : ' ', stderr);
        fputc('^', stderr);
        for (int i = 1; i < finding->length; i++)
            fputc('~', stderr);
        fputc('\n', stderr);
    }
    findings->n++;
    count_error(findings, MR_EXIT_CONFIG);
}

/* "   12 | text" and "      |  ^": the line below an error. */
static bool is_picture(const char *line)
{
    while (*line == ' ' || isdigit((unsigned char)*line))
        line++;
    return *line == '|';
}

/* "file:line:column" and "path: sentence", as the configuration's report has them. */
static void put_config(struct mr_findings *findings, struct mr_bytes place,
                       struct mr_bytes sentence)
{
    char *where = mr_strndup(place.ptr, place.len), *text = mr_strndup(sentence.ptr, sentence.len);
    struct mr_buf hint = {0};
    struct mr_finding finding = {.code = "config", .message = text};
    char *column = strrchr(where, ':');
    if (column) {
        *column = '\0';
        finding.column = atoi(column + 1);
        char *line = strrchr(where, ':');
        if (line) {
            *line = '\0';
            finding.line = atoi(line + 1);
        }
        finding.file = where;
    }
    char *path_end = strstr(text, ": ");
    if (path_end && path_end == text + strcspn(text, " ") - 1) {
        *path_end = '\0';
        finding.where = text;
        finding.message = path_end + 2;
    }
    find_hint(finding.message, &finding, &hint);
    put_json(findings, false, &finding);
    mr_buf_fini(&hint);
    free(where);
    free(text);
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
                put_config(findings, where, sentence);
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
