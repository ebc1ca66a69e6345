/*
 * snapshot.c - a table or query read whole, by one binary COPY, into a lookup table.
 *
 * One thread a call; owns its connection for the length of the call. A read-only repeatable read
 * transaction, so that types and rows are of one moment, or of the moment that another session has
 * exported. Rows are parsed where libpq put them (tuples.c). Must not know how the table is laid
 * out. Tests: tests/unit/test_postgres_lookup.c.
 */
#include "postgres/snapshot.h"
#include "postgres/tuples.h"
#include "base/clock.h"

#include <stdlib.h>

enum { PROGRESS_MS = 100, LOOK_EVERY = 1024 };

struct reader {
    const struct mr_pg_snapshot_options *options;
    const struct mr_postgres_lookup_options *lookup;
    struct mr_pg pg;
    struct mr_buf select; /* of keys, columns and ids */
    struct mr_pg_shape *shape;
    struct mr_pg_tuples *tuples; /* while rows are read */
    uint64_t estimated, bytes;
    int64_t next_progress_ms;
};

static const char reading[] = "reading the lookup";

static bool expect(struct reader *r, const PGresult *res, ExecStatusType status, const char *doing,
                   struct mr_error *err)
{
    return mr_pg_expect(&r->pg, res, status, MR_PG_READ, doing, err);
}

static bool execute(struct reader *r, const char *sql, struct mr_error *err)
{
    PGresult *res = mr_pg_query(&r->pg, sql, NULL);
    bool ok = expect(r, res, PGRES_COMMAND_OK, reading, err);
    PQclear(res);
    return ok;
}

/* "... (cost=0.00..1.10 rows=10 width=64)": a guess for the progress bar, 0 if there is none. What
 * is refused here (no right to the table) would be refused below, and has aborted the transaction.
 */
static bool estimate(struct reader *r, struct mr_error *err)
{
    struct mr_buf sql = {0};
    mr_buf_printf(&sql, "EXPLAIN %s", mr_buf_cstr(&r->select));
    PGresult *res = mr_pg_query(&r->pg, mr_buf_cstr(&sql), NULL);
    bool ok = expect(r, res, PGRES_TUPLES_OK, reading, err);
    if (ok && PQntuples(res)) {
        const char *rows = strstr(PQgetvalue(res, 0, 0), " rows=");
        r->estimated = rows ? strtoull(rows + 6, NULL, 10) : 0;
    }
    PQclear(res);
    mr_buf_fini(&sql);
    return ok;
}

/* Which transactions the read sees; Postgres 12 has it under another name. A standby's says
 * nothing about those to come. */
static bool note_seen(struct reader *r, struct mr_error *err)
{
    struct mr_buf sql = {0};
    mr_buf_printf(&sql,
                  "SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN NULL ELSE "
                  "pg_catalog.%s()::text END",
                  PQserverVersion(r->pg.conn) >= 130000 ? "pg_current_snapshot"
                                                        : "txid_current_snapshot");
    PGresult *res = mr_pg_query(&r->pg, mr_buf_cstr(&sql), NULL);
    bool ok = expect(r, res, PGRES_TUPLES_OK, reading, err);
    if (ok && !PQgetisnull(res, 0, 0))
        r->shape->seen = mr_strdup(PQgetvalue(res, 0, 0));
    PQclear(res);
    mr_buf_fini(&sql);
    return ok;
}

/* --- the rows --- */

static void report(struct reader *r, bool last)
{
    int64_t now = mr_clock_mono_ms();
    if (!r->lookup->progress || (!last && now < r->next_progress_ms))
        return;
    r->next_progress_ms = now + PROGRESS_MS;
    r->lookup->progress(r->lookup->progress_arg, mr_pg_tuples_rows(r->tuples), r->estimated,
                        r->bytes);
}

static bool called_off(struct reader *r, struct mr_error *err)
{
    if (!r->lookup->cancel || !atomic_load(r->lookup->cancel))
        return false;
    mr_error_set(err, MR_RETRY, MR_EXIT_TRY_AGAIN, "the read was called off");
    return true;
}

static bool read_rows(struct reader *r, struct mr_error *err)
{
    for (uint64_t messages = 0;; messages++) {
        char *row = NULL;
        int len = PQgetCopyData(r->pg.conn, &row, 1);
        if (len < 0)
            break; /* the end, or an error: the result says which */
        if (len == 0) {
            report(r, false);
            if (!mr_pg_wait_readable(&r->pg, MR_PG_FOREVER_MS) || !PQconsumeInput(r->pg.conn))
                return called_off(r, err) ? false : expect(r, NULL, PGRES_COMMAND_OK, reading, err);
            continue;
        }
        r->bytes += (uint64_t)len;
        bool ok = mr_pg_tuples_put(r->tuples, row, (size_t)len, err);
        PQfreemem(row);
        if (!ok)
            return false;
        if (messages % LOOK_EVERY == 0) {
            report(r, false);
            if (called_off(r, err))
                return false;
        }
    }
    PGresult *res = mr_pg_next(&r->pg, MR_PG_REPLY_MS);
    bool ok = expect(r, res, PGRES_COMMAND_OK, reading, err) && mr_pg_tuples_end(r->tuples, err);
    PQclear(res);
    return ok;
}

static bool copy_out(struct reader *r, struct mr_table_builder *builder, struct mr_error *err)
{
    struct mr_buf sql = {0};
    const struct mr_pg_shape *shape = r->shape;
    r->tuples = mr_pg_tuples_new(shape->oids, shape->n_columns, shape->n_ids, builder);
    mr_buf_printf(&sql, "COPY (%s) TO STDOUT (FORMAT binary)", mr_buf_cstr(&r->select));
    PGresult *res = mr_pg_query(&r->pg, mr_buf_cstr(&sql), NULL);
    bool ok = expect(r, res, PGRES_COPY_OUT, reading, err) && read_rows(r, err);
    PQclear(res);
    mr_buf_fini(&sql);
    return ok;
}

/* --- the whole --- */

static bool begin(struct reader *r, struct mr_error *err)
{
    struct mr_buf sql = {0};
    mr_buf_put_text(&sql, "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY");
    if (r->options->snapshot) {
        mr_buf_put_text(&sql, "; SET TRANSACTION SNAPSHOT ");
        mr_pg_put_literal(&sql, r->options->snapshot);
    }
    bool ok = execute(r, mr_buf_cstr(&sql), err);
    mr_buf_fini(&sql);
    return ok;
}

/*
 * A table that was rewritten (ALTER TABLE, TRUNCATE) after the snapshot looks empty to it: what is
 * read under the lock must be the file that the snapshot's own catalogue names, for each partition.
 */
static const char rewritten_sql[] =
    "SELECT pg_catalog.count(*) FROM (SELECT $1::pg_catalog.regclass AS oid UNION "
    "SELECT relid FROM pg_catalog.pg_partition_tree($1::pg_catalog.regclass)) t "
    "LEFT JOIN pg_catalog.pg_class c ON c.oid = t.oid WHERE c.oid IS NULL OR "
    "c.relfilenode <> coalesce(pg_catalog.pg_relation_filenode(c.oid), 0)";

static bool lock(struct reader *r, struct mr_error *err)
{
    struct mr_buf name = {0}, sql = {0};
    struct mr_pg_args args = {0};
    PGresult *res = NULL;
    bool ok = !r->options->snapshot || mr_pg_put_table(&name, r->lookup->table, err);
    if (!ok || !r->options->snapshot)
        goto out;
    mr_buf_printf(&sql, "LOCK TABLE %s IN ACCESS SHARE MODE", mr_buf_cstr(&name));
    ok = execute(r, mr_buf_cstr(&sql), err);
    if (!ok)
        goto out;
    mr_pg_arg_text(&args, mr_buf_cstr(&name));
    res = mr_pg_query(&r->pg, rewritten_sql, &args);
    ok = expect(r, res, PGRES_TUPLES_OK, reading, err) &&
         (strcmp(PQgetvalue(res, 0, 0), "0") == 0 ||
          mr_error_set(err, MR_RETRY, MR_EXIT_TRY_AGAIN,
                       "table \"%s\" was altered or emptied while it was about to be read",
                       r->lookup->table));
out:
    PQclear(res);
    mr_buf_fini(&sql);
    mr_buf_fini(&name);
    return ok;
}

static bool reader_open(struct reader *r, const struct mr_pg_snapshot_options *options,
                        struct mr_error *err)
{
    *r = (struct reader){.options = options, .lookup = options->lookup};
    struct mr_buf name = {0};
    mr_buf_printf(&name, "millrace/lookup/%s", r->lookup->name);
    mr_pg_init(&r->pg, r->lookup->dsn, mr_buf_cstr(&name), true);
    mr_buf_fini(&name);
    r->pg.cancel = r->lookup->cancel;
    r->pg.interruptible = true;
    r->pg.beside = options->beside;
    return mr_pg_connect(&r->pg, err) && begin(r, err) && lock(r, err) &&
           mr_pg_shape_describe(&r->pg, options, &r->select, &r->shape, err);
}

static void reader_close(struct reader *r)
{
    mr_pg_fini(&r->pg);
    mr_pg_tuples_free(r->tuples);
    mr_buf_fini(&r->select);
    mr_pg_shape_free(r->shape);
}

bool mr_pg_snapshot_read(const struct mr_pg_snapshot_options *options, struct mr_table **table,
                         struct mr_pg_shape **shape, struct mr_error *err)
{
    struct reader r;
    struct mr_table_builder *builder = NULL;
    bool ok = reader_open(&r, options, err) && estimate(&r, err) && note_seen(&r, err);
    if (!ok)
        goto out;
    builder = mr_table_builder_new(r.shape->schema, r.lookup->distinct, r.lookup->max_bytes);
    if (r.shape->n_ids)
        mr_table_builder_identify(builder, r.shape->n_ids);
    ok = copy_out(&r, builder, err);
    if (!ok)
        goto out;
    report(&r, true);
    ok = mr_table_builder_finish(builder, table, err);
    builder = NULL;
    if (ok && shape) {
        *shape = r.shape;
        r.shape = NULL;
    }
out:
    mr_table_builder_free(builder);
    reader_close(&r);
    return ok;
}

bool mr_postgres_lookup_load(const struct mr_postgres_lookup_options *options,
                             struct mr_table **out, struct mr_error *err)
{
    struct mr_pg_snapshot_options whole = {.lookup = options};
    return mr_pg_snapshot_read(&whole, out, NULL, err);
}

bool mr_postgres_lookup_schema(const struct mr_postgres_lookup_options *options,
                               struct mr_lookup_schema **out, struct mr_error *err)
{
    struct mr_pg_snapshot_options whole = {.lookup = options};
    struct reader r;
    bool ok = reader_open(&r, &whole, err);
    if (ok) {
        *out = r.shape->schema;
        r.shape->schema = NULL;
    }
    reader_close(&r);
    return ok;
}

void mr_postgres_lookup_schema_free(struct mr_lookup_schema *schema)
{
    mr_lookup_schema_free(schema);
}
