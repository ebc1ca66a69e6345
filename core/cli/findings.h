/*
 * findings.h - what `millrace check` finds, one by one: for people, or as JSON at the end.
 *
 * What is well goes to stdout, what is not to stderr, as it is found; with JSON everything goes to
 * stdout. A finding of a file is shown as compilers do: file:line:column, the line and a caret. The
 * JSON is described in docs/CHECK.md. Main thread. Embedded: init / fini.
 */
#ifndef MR_CLI_FINDINGS_H
#define MR_CLI_FINDINGS_H

#include "base/buf.h"

struct mr_findings {
    bool json;
    size_t n, n_errors;
    int code;          /* how the process ends: MR_EXIT_CONFIG before any other */
    struct mr_buf out; /* JSON so far */
};

/* What is not known is NULL or 0. */
struct mr_finding {
    const char *code;  /* a short name of the kind, for programs */
    const char *where; /* a path of the configuration, such as "pipelines.promo.script" */
    const char *file;
    int line, column, length; /* from 1, in bytes */
    const char *message, *hint;
    const char *text; /* the line */
};

void mr_findings_init(struct mr_findings *findings, bool json);
void mr_findings_fini(struct mr_findings *findings);

void mr_findings_ok(struct mr_findings *findings, const char *where, const char *text);
/* A text that begins "file:line: " gives file and line. */
void mr_findings_error(struct mr_findings *findings, const char *where, const struct mr_error *err);
/* An error at a place of a file; the process ends with MR_EXIT_CONFIG. */
void mr_findings_at(struct mr_findings *findings, const struct mr_finding *finding);
/* The errors of the configuration, as core/lua/config.h writes them. */
void mr_findings_config(struct mr_findings *findings, const char *text);

/* Prints the JSON, or the last line; returns the exit code. */
int mr_findings_end(struct mr_findings *findings, const char *config);

#endif
