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

enum { MR_PG_SCHEMA_VERSION = 1 };

/* --- schema.c: our own tables --- */
struct mr_pg_home {
    char ledger_id[9];    /* first 8 hex digits */
    struct mr_buf ledger; /* millrace_ledger, quoted, with its schema */
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
    int64_t fingerprint; /* changes when the columns do */
    bool can_lock;       /* LOCK TABLE ... IN ROW EXCLUSIVE MODE is allowed */
    char *text;          /* owns table, names, type names */
    struct mr_pg_table *next;
};
MR_MUSTCHECK bool mr_pg_describe(struct mr_pg *pg, const char *table, const char *const *columns,
                                 size_t n_columns, struct mr_pg_table **out, struct mr_error *err);
bool mr_pg_table_equal(const struct mr_pg_table *a, const struct mr_pg_table *b);
void mr_pg_table_free(struct mr_pg_table *table);
/* Statement with one parameter, the table's oid: its fingerprint. */
extern const char mr_pg_fingerprint_sql[];

/* --- rows.c, numeric.c, times.c: values in COPY's binary form --- */
enum {
    MR_OID_BOOL = 16,
    MR_OID_BYTEA = 17,
    MR_OID_NAME = 19,
    MR_OID_INT8 = 20,
    MR_OID_INT2 = 21,
    MR_OID_INT4 = 23,
    MR_OID_TEXT = 25,
    MR_OID_JSON = 114,
    MR_OID_FLOAT4 = 700,
    MR_OID_FLOAT8 = 701,
    MR_OID_BPCHAR = 1042,
    MR_OID_VARCHAR = 1043,
    MR_OID_DATE = 1082,
    MR_OID_TIMESTAMP = 1114,
    MR_OID_TIMESTAMPTZ = 1184,
    MR_OID_NUMERIC = 1700,
    MR_OID_UUID = 2950,
    MR_OID_JSONB = 3802
};
/* Can rows be written to a column of this base type? is_text: see row.h. */
bool mr_pg_type_supported(uint32_t oid, bool is_text);
extern const char mr_pg_types_supported[]; /* for sentences */

/* Decimal text (optional sign, digits, point, exponent; NaN, Infinity) as numeric's binary form,
 * without the length. False: malformed or out of numeric's range; nothing is written. */
bool mr_pg_numeric_put(struct mr_buf *out, const char *text, size_t len);
/* Binary numeric as Postgres prints it. False: malformed. */
bool mr_pg_numeric_text(struct mr_buf *out, const uint8_t *bytes, size_t len);

enum mr_pg_zone { MR_PG_ZONE_NONE, MR_PG_ZONE_GIVEN };
/* ISO 8601 date and time ("2026-11-22T17:31:18.25+01:00", blank for T, up to 6 decimals),
 * "infinity": microseconds since 2000-01-01, in UTC when a zone was given. Strict. */
bool mr_pg_timestamp_parse(const char *text, size_t len, int64_t *micros, enum mr_pg_zone *zone);
bool mr_pg_date_parse(const char *text, size_t len, int32_t *days);
/* "2026-11-22T17:31:18.25", without a zone. */
void mr_pg_timestamp_text(struct mr_buf *out, int64_t micros);

#endif
