/*
 * copy.c - the rows and the dead letters of a unit.
 *
 * One thread; works on the connection that struct mr_pg_store owns, inside the transaction that
 * ledger.c began. Rows arrive encoded (rows.c) and are only framed here: one COPY for each set of
 * columns. Must not look into rows. Tests: tests/unit/test_postgres.c.
 */
#include "postgres/store.h"
#include "base/text.h"

#include <inttypes.h>
#include <stdlib.h>

enum { CHUNK_BYTES = 128 * 1024 };

static const char copy_header[] = "PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0";
enum { COPY_HEADER_LEN = 19 };

static bool same_set(const struct mr_row_run *a, const struct mr_row_run *b)
{
    return a->set == b->set || mr_column_set_equal(a->set, b->set);
}

/* Was there an earlier run of this set, whose COPY has taken it along? */
static bool is_done(const struct mr_row_run *runs, size_t i)
{
    for (size_t k = 0; k < i; k++)
        if (same_set(&runs[k], &runs[i]))
            return true;
    return false;
}

static void put_copy_sql(struct mr_buf *sql, const struct mr_pg_table *table,
                         const struct mr_column_set *set)
{
    mr_buf_printf(sql, "COPY %.*s (", (int)table->sql_name.len, table->sql_name.ptr);
    for (uint16_t i = 0; i < set->n; i++) {
        if (i)
            mr_buf_put_text(sql, ", ");
        mr_pg_put_ident(sql, table->columns[set->columns[i]].name);
    }
    mr_buf_put_text(sql, ") FROM STDIN (FORMAT binary)");
}

/* In pieces, each flushed: libpq would otherwise hold a second copy of the unit. */
static bool send_bytes(struct mr_pg *pg, const char *bytes, size_t len)
{
    while (len) {
        size_t n = len < CHUNK_BYTES ? len : CHUNK_BYTES;
        if (PQputCopyData(pg->conn, bytes, (int)n) != 1 || !mr_pg_flush(pg))
            return false;
        bytes += n;
        len -= n;
    }
    return true;
}

/* 42P01, 42703, 42804 in spite of the fingerprint: a trigger or function is at fault, or somebody
 * is quick. */
static bool copy_failed(struct mr_pg_store *s, const PGresult *res, struct mr_error *err)
{
    bool other = mr_pg_is(res, "42P01") || mr_pg_is(res, "42703") || mr_pg_is(res, "42804");
    if (other && s->other_table && err) {
        err->action = MR_STOP;
        err->code = MR_EXIT_CONFIG;
    }
    s->other_table = s->other_table || other;
    return false;
}

static bool copy_set(struct mr_pg_store *s, const struct mr_row_run *runs, size_t i, size_t n,
                     struct mr_error *err)
{
    struct mr_buf sql = {0}, doing = {0};
    PGresult *res = NULL;
    static const char trailer[2] = {'\377', '\377'};
    mr_buf_printf(&doing, "writing rows to \"%s\"", s->table);
    put_copy_sql(&sql, s->described, runs[i].set);
    res = mr_pg_query(&s->pg, mr_buf_cstr(&sql), NULL);
    bool ok = mr_pg_expect(&s->pg, res, PGRES_COPY_IN, MR_PG_DATA, mr_buf_cstr(&doing), err);
    if (!ok) {
        copy_failed(s, res, err);
        goto out;
    }
    bool sent = send_bytes(&s->pg, copy_header, COPY_HEADER_LEN);
    for (size_t k = i; sent && k < n; k++)
        if (same_set(&runs[i], &runs[k]))
            sent = send_bytes(&s->pg, runs[k].rows.ptr, runs[k].rows.len);
    sent =
        sent && send_bytes(&s->pg, trailer, sizeof trailer) && PQputCopyEnd(s->pg.conn, NULL) == 1;
    PQclear(res);
    res = sent ? mr_pg_next(&s->pg, MR_PG_REPLY_MS) : NULL;
    ok = mr_pg_expect(&s->pg, res, PGRES_COMMAND_OK, MR_PG_DATA, mr_buf_cstr(&doing), err);
    if (!ok)
        copy_failed(s, res, err);
    if (!sent)
        s->pg.lost = true;
    for (PGresult *rest; (rest = mr_pg_next(&s->pg, MR_PG_REPLY_MS));)
        PQclear(rest);
    for (uint16_t k = 0; ok && k < runs[i].set->n; k++)
        s->described->written[runs[i].set->columns[k]] = true;
out:
    PQclear(res);
    mr_buf_fini(&sql);
    mr_buf_fini(&doing);
    return ok;
}

bool mr_pg_store_copy(struct mr_store *store, const struct mr_row_run *runs, size_t n,
                      struct mr_error *err)
{
    struct mr_pg_store *s = mr_pg_store_of(store);
    mr_assert(s->described);
    for (size_t i = 0; i < n; i++)
        if (!is_done(runs, i) && !copy_set(s, runs, i, n, err))
            return false;
    return true;
}

/* --- dead letters --- */

/* bytea[][2] in binary: {{name, value}, ...}; no headers: null. */
static struct mr_bytes header_array(struct mr_buf *out, const struct mr_record *rec)
{
    enum { BYTEA_OID = 17 };
    if (!rec->n_headers)
        return (struct mr_bytes){NULL, 0};
    size_t start = out->len;
    mr_buf_put_be32(out, 2); /* dimensions */
    mr_buf_put_be32(out, 1); /* may hold nulls */
    mr_buf_put_be32(out, BYTEA_OID);
    mr_buf_put_be32(out, (uint32_t)rec->n_headers);
    mr_buf_put_be32(out, 1); /* from index 1 */
    mr_buf_put_be32(out, 2);
    mr_buf_put_be32(out, 1);
    for (size_t i = 0; i < rec->n_headers; i++) {
        const struct mr_bytes pair[2] = {rec->headers[i].name, rec->headers[i].value};
        for (int k = 0; k < 2; k++) {
            mr_buf_put_be32(out, pair[k].ptr ? (uint32_t)pair[k].len : UINT32_MAX);
            if (pair[k].ptr)
                mr_buf_put(out, pair[k].ptr, pair[k].len);
        }
    }
    return (struct mr_bytes){out->ptr + start, out->len - start};
}

/* Text that Postgres takes whatever a script put into it: broken UTF-8 becomes '?'. */
static const char *safe_text(struct mr_buf *out, const char *text)
{
    mr_buf_reset(out);
    mr_buf_put_text(out, text);
    if (!mr_text_utf8_valid(out->ptr, out->len)) {
        size_t at = 0;
        while (at < out->len) {
            size_t len = 1;
            while (len < 4 && at + len < out->len && !mr_text_utf8_valid(out->ptr + at, len))
                len++;
            if (mr_text_utf8_valid(out->ptr + at, len)) {
                at += len;
            } else {
                out->ptr[at++] = '?';
            }
        }
    }
    return mr_buf_cstr(out);
}

static void bury_one(struct mr_pg_store *s, const struct mr_dead_letter *letter,
                     struct mr_buf *error)
{
    const struct mr_record *rec = &letter->rec;
    struct mr_pg_args args = {0};
    mr_buf_reset(&s->chunk);
    mr_pg_arg_text(&args, s->group);
    mr_pg_arg_text(&args, rec->topic);
    mr_pg_arg_int(&args, rec->partition);
    mr_pg_arg_int(&args, rec->offset);
    mr_pg_arg_int(&args, rec->timestamp_ms);
    if (rec->timestamp_ms < 0)
        args.values[args.n - 1] = NULL;
    mr_pg_arg_text(&args, letter->class_);
    mr_pg_arg_text(&args, safe_text(error, letter->error));
    mr_pg_arg_text(&args, letter->bundle);
    mr_pg_arg_bytes(&args, rec->key);
    mr_pg_arg_bytes(&args, rec->value);
    mr_pg_arg_bytes(&args, header_array(&s->chunk, rec));
    mr_pg_arg_job(&args, letter->job);
    mr_pg_pipe_call(&s->pg, MR_PG_BURY, &args);
}

bool mr_pg_store_bury(struct mr_store *store, const struct mr_dead_letter *letters, size_t n,
                      struct mr_error *err)
{
    struct mr_pg_store *s = mr_pg_store_of(store);
    struct mr_buf error = {0};
    PGresult **results = mr_calloc(n, sizeof *results);
    bool ok = false;
    if (!s->home.dead.len) {
        mr_error_set(err, MR_STOP, MR_EXIT_BUG, "there is no table for dead letters");
        goto out;
    }
    if (!mr_pg_pipe_begin(&s->pg)) {
        mr_error_set(err, MR_RETRY, MR_EXIT_UNREACHABLE, "writing dead letters: connection lost");
        goto out;
    }
    for (size_t i = 0; i < n; i++) {
        bury_one(s, &letters[i], &error);
        if (!mr_pg_flush(&s->pg))
            break;
    }
    (void)mr_pg_pipe_run(&s->pg, results, n); /* what went wrong is in the results */
    ok = true;
    for (size_t i = 0; ok && i < n; i++)
        ok = mr_pg_expect(&s->pg, results[i], PGRES_COMMAND_OK, MR_PG_OURS, "writing dead letters",
                          err);
out:
    mr_pg_clear(results, n);
    free(results);
    mr_buf_fini(&error);
    return ok;
}
