/*
 * watch.c - see watch.h: one query, asked again and again, and its answer compared with the first.
 *
 * One thread; owns its connection. Catalogue rows and file names are of the query's own snapshot,
 * the log's position is taken after it: what a look saw was committed below that position. Must not
 * know the stream. Tests: tests/unit/test_postgres_logical.c.
 */
#include "postgres/watch.h"
#include "postgres/pgoutput.h"
#include "base/clock.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

enum { ANSWER_MS = 5000, AGAIN_MS = 5000 };

/* The answer's columns. */
enum { OID, SCHEMA, NAME, DEFINITION, FILES, POSITION, BLOCK, SEGMENT, WRITTEN };

struct mr_pg_watch {
    const struct mr_postgres_feed_options *options;
    struct mr_pg pg;
    struct mr_buf sql, table, columns; /* the query and its arguments; columns empty: all */
    char *schema, *name, *definition, *files, *last_files;
    uint32_t oid;
    bool asked, kept; /* a question is out; its answer came between others, and is kept */
    struct mr_pg_seen kept_seen;
    int64_t asked_ms, again_ms; /* of the question; not before, after a failure */
};

static const char watching[] = "watching the table of the lookup";

/* --- the query --- */

/* $1 the table as SQL, $2 the publication, $3 the columns that count, NULL for all. Schemas are
 * published from version 15 on. */
static const char head_sql[] =
    "SELECT c.oid, n.nspname, c.relname, pg_catalog.concat_ws('/', c.oid, c.relkind, "
    "c.relpersistence, c.relreplident, c.relrowsecurity, "
    "(SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', a.attnum, a.attname, a.atttypid, "
    "a.atttypmod, a.attgenerated), ',' ORDER BY a.attnum) FROM pg_catalog.pg_attribute a WHERE "
    "a.attrelid = "
    "c.oid AND a.attnum > 0 AND NOT a.attisdropped AND ($3::text[] IS NULL OR a.attname = ANY "
    "($3::text[]))), "
    "(SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', i.indkey, i.indisprimary, "
    "i.indisreplident), ',' ORDER BY i.indexrelid) FROM pg_catalog.pg_index i WHERE i.indrelid = "
    "c.oid AND (i.indisprimary OR i.indisreplident)), "
    "(SELECT pg_catalog.concat_ws(' ', p.oid, p.puballtables, p.pubinsert, p.pubupdate, "
    "p.pubdelete, p.pubtruncate, p.pubviaroot, "
    "(SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', r.oid, r.xmin), ',' ORDER BY r.oid) "
    "FROM pg_catalog.pg_publication_rel r WHERE r.prpubid = p.oid AND (r.prrelid = c.oid OR "
    "r.prrelid IN (SELECT relid FROM pg_catalog.pg_partition_ancestors(c.oid))))";
static const char schemas_sql[] =
    ", (SELECT pg_catalog.string_agg(s.oid::text, ',' ORDER BY s.oid) FROM "
    "pg_catalog.pg_publication_namespace s WHERE s.pnpubid = p.oid AND s.pnnspid = c.relnamespace)";
static const char tail_sql[] =
    ") FROM pg_catalog.pg_publication p WHERE p.pubname = $2)), "
    "CASE c.relkind WHEN 'p' THEN (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', t.oid, "
    "t.relfilenode, t.relreplident), ',' ORDER BY t.oid) FROM "
    "pg_catalog.pg_partition_tree(c.oid) x "
    "JOIN pg_catalog.pg_class t ON t.oid = x.relid) ELSE c.relfilenode::text END, "
    "pg_catalog.pg_current_wal_insert_lsn(), pg_catalog.current_setting('wal_block_size'), "
    "pg_catalog.pg_size_bytes(pg_catalog.current_setting('wal_segment_size')), "
    "pg_catalog.pg_current_wal_flush_lsn() FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace "
    "n ON n.oid = c.relnamespace "
    "WHERE c.oid = pg_catalog.to_regclass($1)";

static void put_array(struct mr_buf *out, const char *const *names, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        mr_buf_put_text(out, out->len ? ",\"" : "{\"");
        for (const char *at = names[i]; *at; at++) {
            if (*at == '"' || *at == '\\')
                mr_buf_put_char(out, '\\');
            mr_buf_put_char(out, *at);
        }
        mr_buf_put_char(out, '"');
    }
}

static bool make_query(struct mr_pg_watch *w, const struct mr_pg_survey *survey,
                       struct mr_error *err)
{
    const struct mr_postgres_lookup_options *lookup = &w->options->lookup;
    if (lookup->n_columns) {
        put_array(&w->columns, lookup->keys, lookup->n_keys);
        put_array(&w->columns, lookup->columns, lookup->n_columns);
        put_array(&w->columns, survey->ids, survey->n_ids);
        mr_buf_put_char(&w->columns, '}');
    }
    mr_buf_printf(&w->sql, "%s%s%s", head_sql,
                  PQserverVersion(w->pg.conn) >= 150000 ? schemas_sql : "", tail_sql);
    return mr_pg_put_table(&w->table, lookup->table, err);
}

static void put_arguments(struct mr_pg_watch *w, struct mr_pg_args *args)
{
    mr_pg_arg_text(args, mr_buf_cstr(&w->table));
    mr_pg_arg_text(args, w->options->publication);
    mr_pg_arg_text(args, w->columns.len ? mr_buf_cstr(&w->columns) : NULL);
}

/* The position just behind a page's header is that of the page's end before: nothing lies between,
 * and the stream will not tell of it. */
static bool read_position(const PGresult *res, uint64_t *lsn)
{
    enum { SHORT_HEADER = 24, LONG_HEADER = 40 };
    uint64_t block = strtoull(PQgetvalue(res, 0, BLOCK), NULL, 10),
             segment = strtoull(PQgetvalue(res, 0, SEGMENT), NULL, 10);
    if (!mr_pgo_lsn_parse(PQgetvalue(res, 0, POSITION), lsn) || !block || !segment)
        return false;
    uint64_t header = *lsn % segment < block ? LONG_HEADER : SHORT_HEADER;
    if (*lsn % block == header)
        *lsn -= header;
    return true;
}

/* The query is asked so often that its plan is worth keeping. The session may rest for as long as a
 * load takes. */
static bool prepare(struct mr_pg_watch *w, struct mr_error *err)
{
    struct mr_buf sql = {0};
    if (PQserverVersion(w->pg.conn) >= 140000)
        mr_buf_put_text(&sql, "SET idle_session_timeout = 0; ");
    mr_buf_printf(&sql, "PREPARE look (text, text, text[]) AS %s", mr_buf_cstr(&w->sql));
    PGresult *res = mr_pg_query(&w->pg, mr_buf_cstr(&sql), NULL);
    bool ok = mr_pg_expect(&w->pg, res, PGRES_COMMAND_OK, MR_PG_READ, watching, err);
    PQclear(res);
    mr_buf_fini(&sql);
    return ok;
}

/* --- opening --- */

static bool first_look(struct mr_pg_watch *w, struct mr_error *err)
{
    struct mr_pg_args args = {0};
    put_arguments(w, &args);
    PGresult *res = mr_pg_query(&w->pg, mr_buf_cstr(&w->sql), &args);
    bool ok = mr_pg_expect(&w->pg, res, PGRES_TUPLES_OK, MR_PG_READ, watching, err);
    if (ok && !PQntuples(res))
        ok = mr_error_set(err, MR_STOP, MR_EXIT_CONFIG, "table \"%s\" does not exist",
                          w->options->lookup.table);
    if (ok) {
        w->oid = (uint32_t)strtoul(PQgetvalue(res, 0, OID), NULL, 10);
        w->schema = mr_strdup(PQgetvalue(res, 0, SCHEMA));
        w->name = mr_strdup(PQgetvalue(res, 0, NAME));
        w->definition = mr_strdup(PQgetvalue(res, 0, DEFINITION));
        w->files = mr_strdup(PQgetvalue(res, 0, FILES));
    }
    PQclear(res);
    return ok;
}

bool mr_pg_watch_open(const struct mr_postgres_feed_options *options,
                      const struct mr_pg_survey *survey, struct mr_pg_watch **out,
                      struct mr_error *err)
{
    struct mr_pg_watch *w = mr_calloc(1, sizeof *w);
    struct mr_buf name = {0};
    w->options = options;
    mr_buf_printf(&name, "millrace/lookup/%s", options->lookup.name);
    mr_pg_init(&w->pg, options->lookup.dsn, mr_buf_cstr(&name), false);
    w->pg.cancel = options->lookup.cancel;
    w->pg.interruptible = true;
    bool ok = mr_pg_connect(&w->pg, err) && make_query(w, survey, err) && prepare(w, err) &&
              first_look(w, err);
    if (ok)
        *out = w;
    else
        mr_pg_watch_close(w);
    mr_buf_fini(&name);
    return ok;
}

void mr_pg_watch_close(struct mr_pg_watch *watch)
{
    if (!watch)
        return;
    mr_pg_fini(&watch->pg);
    mr_buf_fini(&watch->sql);
    mr_buf_fini(&watch->table);
    mr_buf_fini(&watch->columns);
    free(watch->schema);
    free(watch->name);
    free(watch->definition);
    free(watch->files);
    free(watch->last_files);
    free(watch);
}

const struct mr_pg *mr_pg_watch_pg(const struct mr_pg_watch *watch)
{
    return &watch->pg;
}

uint32_t mr_pg_watch_oid(const struct mr_pg_watch *watch)
{
    return watch->oid;
}

const char *mr_pg_watch_schema(const struct mr_pg_watch *watch)
{
    return watch->schema;
}

const char *mr_pg_watch_name(const struct mr_pg_watch *watch)
{
    return watch->name;
}

/* --- from time to time --- */

static bool give_up(struct mr_pg_watch *w)
{
    w->asked = false;
    w->again_ms = mr_clock_mono_ms() + AGAIN_MS;
    mr_pg_disconnect(&w->pg);
    return false;
}

/* Connects again after a failure, not more often than every few seconds. */
static bool connected(struct mr_pg_watch *w, struct mr_error *err)
{
    if (mr_pg_alive(&w->pg))
        return true;
    if (mr_clock_mono_ms() < w->again_ms)
        return mr_error_set(err, MR_RETRY, MR_EXIT_UNREACHABLE,
                            "%s: the connection to Postgres is lost", watching);
    return (mr_pg_connect(&w->pg, err) && prepare(w, err)) || give_up(w);
}

static bool question(struct mr_pg_watch *w)
{
    struct mr_pg_args args = {0};
    struct mr_error err;
    if (!connected(w, &err))
        return false;
    put_arguments(w, &args);
    w->asked_ms = mr_clock_mono_ms();
    w->asked =
        PQsendQueryPrepared(w->pg.conn, "look", args.n, args.values, args.lengths, args.formats, 0);
    return w->asked && mr_pg_flush(&w->pg) ? true : give_up(w);
}

static bool altered(const struct mr_pg_watch *w, const PGresult *res)
{
    return !PQntuples(res) || strcmp(PQgetvalue(res, 0, DEFINITION), w->definition) != 0;
}

/* What an answer says. False: it is none. */
static bool digest(struct mr_pg_watch *w, const PGresult *res, struct mr_pg_seen *seen)
{
    uint64_t written = 0;
    *seen = (struct mr_pg_seen){.asked_ms = w->asked_ms};
    if (PQresultStatus(res) != PGRES_TUPLES_OK)
        return false;
    seen->altered = altered(w, res);
    if (!PQntuples(res))
        return true;
    free(w->last_files);
    w->last_files = mr_strdup(PQgetvalue(res, 0, FILES));
    seen->refiled = strcmp(w->files, w->last_files) != 0;
    if (!read_position(res, &seen->lsn) || !mr_pgo_lsn_parse(PQgetvalue(res, 0, WRITTEN), &written))
        return false;
    seen->unwritten = written < seen->lsn;
    return true;
}

/* Reads the answer that is outstanding; the connection is free again, or lost. */
static bool answer(struct mr_pg_watch *w, struct mr_pg_seen *seen)
{
    PGresult *res = mr_pg_next(&w->pg, ANSWER_MS), *rest;
    while (res && (rest = mr_pg_next(&w->pg, ANSWER_MS)))
        PQclear(rest);
    bool ok = !w->pg.lost && digest(w, res, seen);
    PQclear(res);
    w->asked = false;
    return ok ? true : give_up(w);
}

bool mr_pg_watch_look(struct mr_pg_watch *w, struct mr_pg_seen *seen)
{
    if (w->kept) {
        w->kept = false;
        *seen = w->kept_seen;
        return true;
    }
    if (!w->asked)
        return question(w) && false;
    if (!PQconsumeInput(w->pg.conn) || PQstatus(w->pg.conn) != CONNECTION_OK)
        return give_up(w);
    if (!PQisBusy(w->pg.conn))
        return answer(w, seen);
    return mr_clock_mono_ms() - w->asked_ms > MR_PG_REPLY_MS ? give_up(w) : false;
}

int mr_pg_watch_socket(const struct mr_pg_watch *w)
{
    return w->asked ? PQsocket(w->pg.conn) : -1;
}

void mr_pg_watch_adopt(struct mr_pg_watch *w)
{
    free(w->files);
    w->files = mr_strdup(w->last_files);
}

/* --- with waiting --- */

/* One statement; an answer that is outstanding is read before. NULL: *err says why. */
static PGresult *ask(struct mr_pg_watch *w, const char *sql, const struct mr_pg_args *args,
                     struct mr_error *err)
{
    if (w->asked)
        w->kept = answer(w, &w->kept_seen);
    if (!connected(w, err))
        return NULL;
    int sent = args ? PQsendQueryParams(w->pg.conn, sql, args->n, NULL, args->values, args->lengths,
                                        args->formats, 0)
                    : PQsendQuery(w->pg.conn, sql);
    PGresult *res = sent ? mr_pg_next(&w->pg, ANSWER_MS) : NULL, *rest;
    while (res && (rest = mr_pg_next(&w->pg, ANSWER_MS)))
        PQclear(rest);
    if (!mr_pg_expect(&w->pg, res, PGRES_TUPLES_OK, MR_PG_READ, watching, err)) {
        PQclear(res);
        res = NULL;
    }
    if (!mr_pg_alive(&w->pg))
        give_up(w);
    return res;
}

bool mr_pg_watch_look_now(struct mr_pg_watch *w, struct mr_pg_seen *seen, struct mr_error *err)
{
    if (w->asked)
        (void)answer(w, &w->kept_seen); /* this one is newer */
    w->kept = false;
    *seen = (struct mr_pg_seen){0};
    bool ok = (question(w) && answer(w, seen)) ||
              mr_error_set(err, MR_RETRY, MR_EXIT_UNREACHABLE,
                           "%s: the connection to Postgres is lost", watching);
    if (ok && seen->unwritten)
        mr_pg_watch_nudge(w);
    return ok;
}

void mr_pg_watch_nudge(struct mr_pg_watch *w)
{
    /* A transaction that has written something is flushed with everything before it. */
    struct mr_error err;
    PQclear(ask(w, "SELECT pg_catalog.pg_logical_emit_message(true, 'millrace', '')", NULL, &err));
}

void mr_pg_watch_end(struct mr_pg_watch *w, int pid)
{
    struct mr_pg_args args = {0};
    struct mr_error err;
    mr_pg_arg_int(&args, pid);
    w->pg.interruptible = false; /* it is often for a cancel that this is done */
    if (mr_pg_alive(&w->pg))
        PQclear(ask(w, "SELECT pg_catalog.pg_terminate_backend($1::int)", &args, &err));
    w->pg.interruptible = true;
}

void mr_pg_watch_blocker(struct mr_pg_watch *w, char *text, size_t size)
{
    static const char sql[] =
        "SELECT pg_catalog.concat('(the oldest is of process ', a.pid, ', application \"', "
        "a.application_name, '\", since ', pg_catalog.to_char(a.xact_start, 'HH24:MI:SS'), ')') "
        "FROM pg_catalog.pg_stat_activity a WHERE a.backend_xid IS NOT NULL AND a.pid <> "
        "pg_catalog.pg_backend_pid() ORDER BY a.xact_start LIMIT 1";
    struct mr_error err;
    PGresult *res = ask(w, sql, NULL, &err);
    mr_pg_one_line(text, size, res && PQntuples(res) ? PQgetvalue(res, 0, 0) : "");
    PQclear(res);
}

static bool still_the_same(struct mr_pg_watch *w, struct mr_error *err)
{
    struct mr_pg_seen seen;
    return mr_pg_watch_look_now(w, &seen, err) &&
           (!seen.altered ||
            mr_error_set(err, MR_RETRY, MR_EXIT_TRY_AGAIN,
                         "table \"%s\" was altered while it was read", w->options->lookup.table));
}

bool mr_pg_watch_declared(struct mr_pg_watch *w, const struct mr_pg_shape *shape,
                          uint32_t **declared, struct mr_error *err)
{
    /* A column that is gone comes as 0, and is told below. */
    static const char sql[] =
        "SELECT coalesce(a.atttypid, 0) FROM pg_catalog.unnest($2::text[]) WITH ORDINALITY AS u "
        "(name, i) LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = $1 AND a.attname = u.name "
        "AND a.attnum > 0 AND NOT a.attisdropped ORDER BY u.i";
    size_t n = shape->n_columns + shape->n_ids;
    struct mr_buf names = {0};
    struct mr_pg_args args = {0};
    put_array(&names, shape->names, n);
    mr_buf_put_char(&names, '}');
    mr_pg_arg_int(&args, w->oid);
    mr_pg_arg_text(&args, mr_buf_cstr(&names));
    w->again_ms = 0; /* there is no later time for this */
    PGresult *res = ask(w, sql, &args, err);
    bool ok = res && still_the_same(w, err);
    if (ok) {
        mr_assert((size_t)PQntuples(res) == n);
        *declared = mr_calloc(n, sizeof **declared);
        for (size_t i = 0; i < n; i++)
            (*declared)[i] = (uint32_t)strtoul(PQgetvalue(res, (int)i, 0), NULL, 10);
    }
    PQclear(res);
    mr_buf_fini(&names);
    return ok;
}
