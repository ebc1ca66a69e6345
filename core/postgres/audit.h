/*
 * audit.h - private to core/postgres: what audit.c (the session, the messages) and audit_rows.c
 * (the comparison) share.
 */
#ifndef MR_POSTGRES_AUDIT_H
#define MR_POSTGRES_AUDIT_H

#include "postgres/pg.h"
#include "postgres/postgres.h"

/* One field, as it is compared. */
struct mr_pg_audit_column {
    char *name, *column;
    char *type;  /* in which both sides are compared, as SQL */
    char *shown; /* the column's own type */
    bool is_key;
    bool is_text;  /* any text is a value of it */
    bool is_bytes; /* the text's bytes are the value */
};

struct mr_postgres_audit {
    struct mr_pg pg;
    struct mr_buf table; /* quoted */
    struct mr_pg_audit_column *columns;
    size_t n;
    char *time_column; /* NULL: none */
    int time_field;
    bool time_is_number;
    int64_t time_per_s;
    int64_t since_ms, until_ms; /* -1: none */
    struct mr_buf chunk;        /* of COPY */
};

/* One statement that may take as long as it takes; *res (may be NULL) is the caller's to clear. */
MR_MUSTCHECK bool mr_pg_audit_run(struct mr_postgres_audit *audit, const char *sql,
                                  ExecStatusType expected, PGresult **res, const char *doing,
                                  struct mr_error *err);
/* All messages are there. */
MR_MUSTCHECK bool mr_pg_audit_end_copy(struct mr_postgres_audit *audit, struct mr_error *err);

#endif
