/*
 * report.h - what `millrace audit` found, for people or as JSON, on stdout.
 *
 * begin, then an example at a time, then end. Main thread. Embedded; owns nothing between calls.
 */
#ifndef MR_CLI_REPORT_H
#define MR_CLI_REPORT_H

#include "postgres/postgres.h"

struct mr_report {
    bool json;
    const char *pipeline, *topic, *table;
    const struct mr_postgres_audit_field *fields;
    size_t n_fields;
    int64_t since_ms, until_ms; /* -1: none */
    int64_t n_deleted;          /* offsets that the topic no longer has */
    int examples_max;           /* of each kind */
    /* what has been printed */
    char kind[16];
    size_t n_examples;
};

bool mr_report_equal(const struct mr_postgres_audit_result *result);
void mr_report_begin(struct mr_report *report, const struct mr_postgres_audit_result *result);
/* arg: the report. */
void mr_report_example(void *arg, const struct mr_postgres_audit_example *example);
/* complete: no error came in between. */
void mr_report_end(struct mr_report *report, bool complete);

#endif
