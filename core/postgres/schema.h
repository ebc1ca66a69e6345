/*
 * schema.h - private to core/postgres: Millrace's own tables, and the description of the user's.
 *
 * A description is immutable once made; struct mr_pg_table owns everything that its mr_row_schema
 * shows.
 */
#ifndef MR_POSTGRES_SCHEMA_H
#define MR_POSTGRES_SCHEMA_H

#include "postgres/pg.h"
#include "millrace/row.h"

#include <stdint.h>

enum { MR_PG_SCHEMA_VERSION = 2 };

/* --- schema.c: our own tables --- */
struct mr_pg_home {
    char ledger_id[9];    /* first 8 hex digits */
    struct mr_buf ledger; /* millrace_ledger, quoted, with its schema */
    struct mr_buf redo;   /* millrace_redo */
    struct mr_buf dead;   /* empty when there is no dead letter table */
};
/* Finds them, checks the version. */
MR_MUSTCHECK bool mr_pg_home_find(struct mr_pg *pg, const char *dead_table, struct mr_pg_home *home,
                                  struct mr_error *err);
void mr_pg_home_fini(struct mr_pg_home *home);

/* --- describe.c: the user's feedback table --- */
struct mr_pg_table {
    struct mr_row_schema schema;
    struct mr_row_column *columns;
    struct mr_buf sql_name; /* quoted, with its schema */
    uint32_t oid;
    int64_t fingerprint;              /* changes when the columns do */
    bool can_lock;                    /* LOCK TABLE ... IN ROW EXCLUSIVE MODE is allowed */
    bool written[MR_ROW_COLUMNS_MAX]; /* columns that rows have had so far */
    char *text;                       /* owns table, names, type names */
    struct mr_pg_table *next;
};
MR_MUSTCHECK bool mr_pg_describe(struct mr_pg *pg, const char *table, const char *const *columns,
                                 size_t n_columns, struct mr_pg_table **out, struct mr_error *err);
bool mr_pg_table_equal(const struct mr_pg_table *a, const struct mr_pg_table *b);
/* Can what was written to `old` be written to the altered table? False, MR_STOP: not without a
 * change of the script; going on would make a dead letter of every message. */
MR_MUSTCHECK bool mr_pg_table_fits(const struct mr_pg_table *old, struct mr_pg_table *altered,
                                   struct mr_error *err);
void mr_pg_table_free(struct mr_pg_table *table);
/* Statement with one parameter, the table's oid: its fingerprint. */
extern const char mr_pg_fingerprint_sql[];

#endif
