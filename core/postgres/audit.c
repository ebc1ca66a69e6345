/*
 * audit.c - the session of an audit: its columns, its range of time, and the messages on their way
 * into a temporary table.
 *
 * One thread; owns the connection. The comparison is left to Postgres (audit_rows.c): it knows best
 * which texts are one value of a type, and goes to its disk when there is more than memory. Here a
 * message is a few texts in COPY's text form, so that this process stays small. Nothing but
 * temporary tables is written. Must not know Kafka or JSON. Tests:
 * tests/integration/audit_spec.lua.
 */
#include "postgres/audit.h"
#include "postgres/values.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { CHUNK_BYTES = 256 * 1024, SETTLED_MS = 5000 };

bool mr_pg_audit_run(struct mr_postgres_audit *audit, const char *sql, ExecStatusType expected,
                     PGresult **res, const char *doing, struct mr_error *err)
{
    struct mr_pg *pg = &audit->pg;
    PGresult *last = NULL, *next;
    if (mr_pg_alive(pg) && PQsendQuery(pg->conn, sql))
        while ((next = mr_pg_next(pg, MR_PG_FOREVER_MS))) {
            PQclear(last);
            last = next;
            if (PQresultStatus(next) == PGRES_COPY_IN)
                break;
        }
    bool ok = mr_pg_expect(pg, last, expected, MR_PG_READ, doing, err);
    if (ok && res)
        *res = last;
    else
        PQclear(last);
    return ok;
}

/* --- columns --- */

static const char column_sql[] =
    "WITH RECURSIVE t AS ("
    "SELECT a.atttypid AS typ, a.atttypmod AS mod, "
    "pg_catalog.format_type(a.atttypid, a.atttypmod) AS shown FROM pg_catalog.pg_attribute a "
    "WHERE a.attrelid = pg_catalog.to_regclass($1) AND a.attname = $2 AND a.attnum > 0 "
    "AND NOT a.attisdropped UNION ALL "
    "SELECT y.typbasetype, CASE WHEN t.mod >= 0 THEN t.mod ELSE y.typtypmod END, t.shown "
    "FROM t JOIN pg_catalog.pg_type y ON y.oid = t.typ WHERE y.typtype = 'd') "
    "SELECT y.oid, y.typcategory, t.shown, "
    /* An explicit cast would cut a text to its length without a word. */
    "pg_catalog.format_type(y.oid, CASE WHEN y.typcategory = 'S' THEN -1 ELSE t.mod END) "
    "FROM t JOIN pg_catalog.pg_type y ON y.oid = t.typ AND y.typtype <> 'd'";

static PGresult *ask_column(struct mr_postgres_audit *audit, const char *table, const char *column,
                            struct mr_error *err)
{
    struct mr_pg_args args = {0};
    mr_pg_arg_text(&args, mr_buf_cstr(&audit->table));
    mr_pg_arg_text(&args, column);
    PGresult *res = mr_pg_query(&audit->pg, column_sql, &args);
    bool ok = mr_pg_expect(&audit->pg, res, PGRES_TUPLES_OK, MR_PG_READ,
                           "looking at the table's columns", err);
    if (ok && !PQntuples(res))
        ok = mr_error_set(err, MR_STOP, MR_EXIT_CONFIG,
                          "table \"%s\" does not exist or has no column \"%s\", which `audit` "
                          "names",
                          table, column);
    if (ok)
        return res;
    PQclear(res);
    return NULL;
}

/* Numbers are compared as numeric, so that 1 and 1.0 are one, and 1.5 is not 2. */
static const char *type_of(uint32_t oid, const char *own)
{
    switch (oid) {
    case MR_OID_INT2:
    case MR_OID_INT4:
    case MR_OID_INT8:
        return "numeric";
    case MR_OID_JSON:
        return "jsonb";
    default:
        return own;
    }
}

static bool describe(struct mr_postgres_audit *audit, const char *table,
                     const struct mr_postgres_audit_field *field, struct mr_pg_audit_column *out,
                     struct mr_error *err)
{
    PGresult *res = ask_column(audit, table, field->column, err);
    if (!res)
        return false;
    uint32_t oid = (uint32_t)strtoul(PQgetvalue(res, 0, 0), NULL, 10);
    *out = (struct mr_pg_audit_column){
        .name = mr_strdup(field->name),
        .column = mr_strdup(field->column),
        .type = mr_strdup(type_of(oid, PQgetvalue(res, 0, 3))),
        .shown = mr_strdup(PQgetvalue(res, 0, 2)),
        .is_key = field->is_key,
        .is_text = *PQgetvalue(res, 0, 1) == 'S',
        .is_bytes = oid == MR_OID_BYTEA,
    };
    PQclear(res);
    return true;
}

static bool describe_time(struct mr_postgres_audit *audit, const char *table, struct mr_error *err)
{
    PGresult *res = ask_column(audit, table, audit->time_column, err);
    if (!res)
        return false;
    char category = *PQgetvalue(res, 0, 1);
    audit->time_is_number = category == 'N';
    bool ok = category == 'N' || category == 'D' ||
              mr_error_set(err, MR_STOP, MR_EXIT_CONFIG,
                           "column \"%s\" of table \"%s\" is of type %s: audit.time expects a "
                           "number, timestamptz, timestamp or date",
                           audit->time_column, table, PQgetvalue(res, 0, 2));
    PQclear(res);
    return ok;
}

/* --- the range of time --- */

/* "90m": so long before now. */
static bool read_ago(const char *text, int64_t *ms)
{
    static const struct {
        const char *unit;
        int64_t ms;
    } units[] = {{"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}};
    char *end;
    long long n = strtoll(text, &end, 10);
    if (end == text || n < 0 || n > 1000000000)
        return false;
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (strcmp(end, units[i].unit) == 0) {
            *ms = n * units[i].ms;
            return true;
        }
    return false;
}

static bool read_time(struct mr_postgres_audit *audit, const char *option, const char *text,
                      int64_t ago_ms, int64_t *out, struct mr_error *err)
{
    static const char sql[] =
        "SELECT pg_catalog.floor(pg_catalog.date_part('epoch', CASE WHEN $1::text IS NULL THEN "
        "pg_catalog.clock_timestamp() ELSE $1::text::timestamptz END) * 1000)::bigint - $2::bigint";
    struct mr_pg_args args = {0};
    mr_pg_arg_text(&args, text && !read_ago(text, &ago_ms) ? text : NULL);
    mr_pg_arg_int(&args, args.values[0] ? 0 : ago_ms);
    PGresult *res = mr_pg_query(&audit->pg, sql, &args);
    bool unread = strncmp(mr_pg_sqlstate(res), "22", 2) == 0;
    bool ok = !unread &&
              mr_pg_expect(&audit->pg, res, PGRES_TUPLES_OK, MR_PG_READ, "reading a time", err);
    if (unread)
        mr_error_set(err, MR_STOP, MR_EXIT_USAGE,
                     "%s: \"%s\" is no time: expected one such as \"2026-11-22 10:00\", "
                     "\"2026-11-22T10:00:00Z\" or \"yesterday\", or so long before now as \"90m\", "
                     "\"2h\" or \"7d\"",
                     option, text);
    if (ok)
        *out = strtoll(PQgetvalue(res, 0, 0), NULL, 10);
    PQclear(res);
    return ok;
}

static bool read_range(struct mr_postgres_audit *audit,
                       const struct mr_postgres_audit_options *options, struct mr_error *err)
{
    audit->since_ms = audit->until_ms = -1;
    if (!options->time_column) {
        if (!options->since && !options->until)
            return true;
        return mr_error_set(err, MR_STOP, MR_EXIT_CONFIG,
                            "a range of time needs `audit.time`, the column that says when an "
                            "output was made");
    }
    return (!options->since ||
            read_time(audit, "--since", options->since, 0, &audit->since_ms, err)) &&
           /* What was made a moment ago may be on its way into one of the two sinks. */
           read_time(audit, "--until", options->until, SETTLED_MS, &audit->until_ms, err);
}

/* --- open, close --- */

static bool make_stage(struct mr_postgres_audit *audit, struct mr_error *err)
{
    struct mr_buf sql = {0};
    /* The server may take its time; half of it is sorting. */
    mr_buf_put_text(&sql, "SET statement_timeout = 0; SET work_mem = '64MB'; "
                          "CREATE TEMPORARY TABLE millrace_audit_stage "
                          "(part bigint, off bigint, ts bigint, why text");
    for (size_t i = 0; i < audit->n; i++)
        mr_buf_printf(&sql, ", f%zu text", i);
    mr_buf_put_char(&sql, ')');
    bool ok = mr_pg_audit_run(audit, mr_buf_cstr(&sql), PGRES_COMMAND_OK, NULL,
                              "making a temporary table (the role needs the right to: grant "
                              "temporary on database ... to ...)",
                              err) &&
              mr_pg_audit_run(audit, "COPY millrace_audit_stage FROM STDIN", PGRES_COPY_IN, NULL,
                              "sending messages to Postgres", err);
    mr_buf_fini(&sql);
    return ok;
}

bool mr_postgres_audit_open(const struct mr_postgres_audit_options *options,
                            struct mr_postgres_audit **out, struct mr_error *err)
{
    struct mr_postgres_audit *audit = mr_calloc(1, sizeof *audit);
    *out = NULL;
    mr_pg_init(&audit->pg, options->dsn, "millrace/audit", false);
    audit->columns = mr_calloc(options->n_fields, sizeof *audit->columns);
    audit->time_column = options->time_column ? mr_strdup(options->time_column) : NULL;
    audit->time_field = options->time_field;
    audit->time_per_s = options->time_per_s;
    bool ok = mr_pg_put_table(&audit->table, options->table, err) && mr_pg_connect(&audit->pg, err);
    for (size_t i = 0; ok && i < options->n_fields; i++) {
        ok = describe(audit, options->table, &options->fields[i], &audit->columns[i], err);
        audit->n += ok;
    }
    ok = ok && (!audit->time_column || describe_time(audit, options->table, err)) &&
         read_range(audit, options, err) && make_stage(audit, err);
    if (ok)
        *out = audit;
    else
        mr_postgres_audit_close(audit);
    return ok;
}

void mr_postgres_audit_range(const struct mr_postgres_audit *audit, int64_t *since_ms,
                             int64_t *until_ms)
{
    *since_ms = audit->since_ms;
    *until_ms = audit->until_ms;
}

void mr_postgres_audit_close(struct mr_postgres_audit *audit)
{
    if (!audit)
        return;
    for (size_t i = 0; i < audit->n; i++) {
        free(audit->columns[i].name);
        free(audit->columns[i].column);
        free(audit->columns[i].type);
        free(audit->columns[i].shown);
    }
    free(audit->columns);
    free(audit->time_column);
    mr_buf_fini(&audit->table);
    mr_buf_fini(&audit->chunk);
    mr_pg_fini(&audit->pg);
    free(audit);
}

/* --- messages --- */

/* COPY's text form. */
static void put_text(struct mr_buf *out, struct mr_bytes text)
{
    if (!text.ptr) {
        mr_buf_put_text(out, "\\N");
        return;
    }
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        char escaped = c == '\\' ? '\\' : c == '\n' ? 'n' : c == '\r' ? 'r' : c == '\t' ? 't' : 0;
        if (escaped)
            mr_buf_put_char(out, '\\');
        mr_buf_put_char(out, escaped ? escaped : c);
    }
}

static bool send_chunk(struct mr_postgres_audit *audit, struct mr_error *err)
{
    struct mr_pg *pg = &audit->pg;
    struct mr_buf *chunk = &audit->chunk;
    bool ok = mr_pg_alive(pg) && PQputCopyData(pg->conn, chunk->ptr, (int)chunk->len) == 1 &&
              mr_pg_flush(pg);
    mr_buf_reset(chunk);
    return ok || mr_pg_expect(pg, NULL, PGRES_COMMAND_OK, MR_PG_READ,
                              "sending messages to Postgres", err);
}

bool mr_postgres_audit_put(struct mr_postgres_audit *audit, const struct mr_record *rec,
                           const struct mr_bytes *values, const char *why, struct mr_error *err)
{
    struct mr_buf *chunk = &audit->chunk;
    mr_buf_printf(chunk, "%" PRId32 "\t%" PRId64 "\t%" PRId64 "\t", rec->partition, rec->offset,
                  rec->timestamp_ms);
    put_text(chunk, mr_bytes_of(why));
    for (size_t i = 0; i < audit->n; i++) {
        mr_buf_put_char(chunk, '\t');
        put_text(chunk, why ? (struct mr_bytes){0} : values[i]);
    }
    mr_buf_put_char(chunk, '\n');
    return chunk->len < CHUNK_BYTES || send_chunk(audit, err);
}

bool mr_pg_audit_end_copy(struct mr_postgres_audit *audit, struct mr_error *err)
{
    static const char doing[] = "sending messages to Postgres";
    if (audit->chunk.len && !send_chunk(audit, err))
        return false;
    PGresult *res = NULL;
    if (PQputCopyEnd(audit->pg.conn, NULL) == 1)
        res = mr_pg_next(&audit->pg, MR_PG_FOREVER_MS);
    bool ok = mr_pg_expect(&audit->pg, res, PGRES_COMMAND_OK, MR_PG_READ, doing, err);
    PQclear(res);
    for (PGresult *rest; (rest = mr_pg_next(&audit->pg, MR_PG_FOREVER_MS));)
        PQclear(rest);
    return ok;
}
