/*
 * store.c - the store of one worker: opening, connecting, the lock on its name, the clock.
 *
 * One thread. Owns the connection and every description it has given out. A new connection is set
 * up from scratch: name locked, Millrace's tables found, feedback table described, statements
 * prepared. Claims are in claim.c, the transaction of a unit in ledger.c and copy.c. Must not know
 * Kafka. Tests: tests/unit/test_postgres.c.
 */
#include "postgres/store.h"
#include "postgres/postgres.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"

#include <stdlib.h>

const char mr_pg_clock_sql[] =
    "SELECT (pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()) * 1000)::bigint";

/* --- the lock that says: this name is taken --- */

static const char lock_key[] = "pg_catalog.hashtextextended('millrace ' || $1, 0)";

static bool lock_with(struct mr_pg_store *s, const char *function, bool *locked,
                      struct mr_error *err)
{
    struct mr_buf sql = {0};
    struct mr_pg_args args = {0};
    mr_pg_arg_text(&args, s->owner);
    mr_buf_printf(&sql, "SELECT %s(%s)", function, lock_key);
    PGresult *res = mr_pg_query(&s->pg, mr_buf_cstr(&sql), &args);
    bool timed_out = mr_pg_is(res, "55P03");
    bool ok = timed_out || mr_pg_expect(&s->pg, res, PGRES_TUPLES_OK, MR_PG_OURS,
                                        "locking the name of this instance", err);
    *locked = ok && !timed_out && *PQgetvalue(res, 0, 0) != 'f';
    PQclear(res);
    mr_buf_fini(&sql);
    return ok;
}

/* Who holds it, for the sentence; and our own session of before, if it has not ended yet, is ended.
 */
static void find_holder(struct mr_pg_store *s, int old_pid, struct mr_buf *who)
{
    static const char sql[] =
        "SELECT a.pid, a.application_name, pg_catalog.host(a.client_addr), "
        "CASE WHEN a.pid = $2::int AND a.application_name = $3 "
        "THEN pg_catalog.pg_terminate_backend(a.pid) END "
        "FROM pg_catalog.pg_locks k JOIN pg_catalog.pg_stat_activity a ON a.pid = k.pid, "
        "(SELECT pg_catalog.hashtextextended('millrace ' || $1, 0) AS key) h "
        "WHERE k.locktype = 'advisory' AND k.granted AND k.objsubid = 1 "
        "AND k.database = (SELECT oid FROM pg_catalog.pg_database "
        "WHERE datname = pg_catalog.current_database()) "
        "AND k.classid::bigint = (h.key >> 32) & 4294967295 "
        "AND k.objid::bigint = h.key & 4294967295";
    struct mr_pg_args args = {0};
    mr_pg_arg_text(&args, s->owner);
    mr_pg_arg_int(&args, old_pid);
    mr_pg_arg_text(&args, s->pg.application_name);
    PGresult *res = mr_pg_query(&s->pg, sql, &args);
    if (PQresultStatus(res) == PGRES_TUPLES_OK && PQntuples(res)) {
        mr_buf_printf(who, "server process %s, \"%s\", from %s", PQgetvalue(res, 0, 0),
                      PQgetvalue(res, 0, 1),
                      PQgetisnull(res, 0, 2) ? "this host's socket" : PQgetvalue(res, 0, 2));
    } else {
        mr_buf_put_text(who, "a session that is not shown to this role");
    }
    PQclear(res);
}

/* The session of a predecessor that was just killed may linger: Postgres is asked to wait for it.
 */
static bool take_name(struct mr_pg_store *s, int old_pid, struct mr_error *err)
{
    bool locked = false;
    struct mr_buf who = {0};
    bool ok = lock_with(s, "pg_catalog.pg_try_advisory_lock", &locked, err);
    if (!ok || locked)
        return ok;
    find_holder(s, old_pid, &who);
    mr_log(MR_INFO, "the name \"%s\" is still held by %s: waiting for it", s->owner,
           mr_buf_cstr(&who));
    PQclear(mr_pg_query(&s->pg, "SET lock_timeout = '10s'", NULL));
    ok = lock_with(s, "pg_catalog.pg_advisory_lock", &locked, err);
    PQclear(mr_pg_query(&s->pg, "SET lock_timeout = '5s'", NULL));
    if (ok && !locked)
        ok = mr_error_set(err, MR_STOP, MR_EXIT_TRY_AGAIN,
                          "another process with instance name \"%s\" is running (\"%s\" is held by "
                          "%s): stop it, or give this one another name (instance, or "
                          "MILLRACE_INSTANCE)",
                          s->instance ? s->instance : s->owner, s->owner, mr_buf_cstr(&who));
    mr_buf_fini(&who);
    return ok;
}

/* --- setting a connection up --- */

static bool describe(struct mr_pg_store *s, struct mr_error *err)
{
    struct mr_pg_table *table = NULL;
    if (!s->table)
        return true;
    if (!mr_pg_describe(&s->pg, s->table, (const char *const *)s->columns, s->n_columns, &table,
                        err))
        return false;
    if (s->described && mr_pg_table_equal(s->described, table)) {
        /* What was given out stays in force; only what is ours may differ. */
        s->described->fingerprint = table->fingerprint;
        s->described->can_lock = table->can_lock;
        mr_buf_reset(&s->described->sql_name);
        mr_buf_put(&s->described->sql_name, table->sql_name.ptr, table->sql_name.len);
        mr_pg_table_free(table);
        return true;
    }
    if (s->described && !mr_pg_table_fits(s->described, table, err)) {
        mr_pg_table_free(table);
        return false;
    }
    table->next = s->described;
    s->described = table;
    return true;
}

static void prepare_ledger(struct mr_pg_store *s)
{
    static const char place[] = "grp = $1 AND topic = $2 AND part = $3::int";
    struct mr_buf sql = {0};
    const char *ledger = mr_buf_cstr(&s->home.ledger), *redo = mr_buf_cstr(&s->home.redo);
    /* The mutant asks for the same parameters and compares nothing. */
    const char *compare = mr_fault_mutant("no_cas") ? "($4::bigint + $5::bigint) IS NOT NULL"
                                                    : "epoch = $4::bigint AND unit = $5::bigint";
    mr_buf_printf(&sql,
                  "UPDATE %s SET unit = $6::bigint, next_offset = $7::bigint, mode = $8, "
                  "trying = NULL, attempts = 0, begun = false, job_keys = $9::bytea, job_cursor = "
                  "$10::bytea, "
                  "job_trigger_ms = $11::bigint, job_bundle = NULL WHERE %s AND %s",
                  ledger, place, compare);
    mr_pg_pipe_prepare(&s->pg, MR_PG_ADVANCE, mr_buf_cstr(&sql));
    mr_buf_reset(&sql);
    mr_buf_printf(&sql, "DELETE FROM %s WHERE %s AND unit <= $4::bigint", redo, place);
    mr_pg_pipe_prepare(&s->pg, MR_PG_FORGET, mr_buf_cstr(&sql));
    mr_buf_reset(&sql);
    mr_buf_printf(&sql,
                  "INSERT INTO %s (grp, topic, part, unit, codec, n, crc32c, payload) VALUES "
                  "($1, $2, $3::int, $4::bigint, $5, $6::int, $7::bigint, $8::bytea)",
                  redo);
    mr_pg_pipe_prepare(&s->pg, MR_PG_KEEP, mr_buf_cstr(&sql));
    mr_buf_reset(&sql);
    mr_buf_printf(&sql,
                  "UPDATE %s SET trying = $5::bigint, begun = $5::bigint IS NOT NULL, "
                  "attempts = CASE WHEN trying = $5::bigint THEN attempts ELSE 0 END "
                  "WHERE %s AND epoch = $4::bigint",
                  ledger, place);
    mr_pg_pipe_prepare(&s->pg, MR_PG_TRY, mr_buf_cstr(&sql));
    mr_buf_fini(&sql);
}

static void prepare_bury(struct mr_pg_store *s)
{
    struct mr_buf sql = {0};
    mr_buf_printf(&sql,
                  "INSERT INTO %s (grp, topic, part, src_offset, src_timestamp_ms, class, error, "
                  "bundle, key, value, headers, job_keys, job_cursor, job_trigger_ms) VALUES "
                  "($1, $2, $3::int, $4::bigint, $5::bigint, $6, $7, $8, $9::bytea, $10::bytea, "
                  "$11::bytea[], $12::bytea, $13::bytea, $14::bigint)",
                  mr_buf_cstr(&s->home.dead));
    mr_pg_pipe_prepare(&s->pg, MR_PG_BURY, mr_buf_cstr(&sql));
    mr_buf_fini(&sql);
}

static bool prepare(struct mr_pg_store *s, struct mr_error *err)
{
    static const char doing[] = "preparing the statements of Millrace's tables";
    enum { CLOCK, ADVANCE, FORGET, KEEP, TRY, FINGERPRINT, BURY, N };
    PGresult *results[N] = {NULL};
    size_t n = s->home.dead.len ? N : BURY;
    if (!mr_pg_pipe_begin(&s->pg))
        return mr_pg_expect(&s->pg, NULL, PGRES_COMMAND_OK, MR_PG_OURS, doing, err);
    mr_pg_pipe_add(&s->pg, mr_pg_clock_sql, NULL);
    prepare_ledger(s);
    mr_pg_pipe_prepare(&s->pg, MR_PG_FINGERPRINT, mr_pg_fingerprint_sql);
    if (n == N)
        prepare_bury(s);
    (void)mr_pg_pipe_run(&s->pg, results, n); /* what went wrong is in the results */
    bool ok = true;
    for (size_t i = 0; ok && i < n; i++)
        ok = mr_pg_expect(&s->pg, results[i], i == CLOCK ? PGRES_TUPLES_OK : PGRES_COMMAND_OK,
                          MR_PG_OURS, doing, err);
    if (ok)
        mr_pg_store_clock(s, PQgetvalue(results[CLOCK], 0, 0));
    mr_pg_clear(results, N);
    return ok;
}

bool mr_pg_store_ready(struct mr_pg_store *s, struct mr_error *err)
{
    if (s->ready && mr_pg_alive(&s->pg))
        return true;
    int old_pid = s->pg.last_pid;
    s->ready = false;
    s->pg.interruptible = true;
    bool ok = mr_pg_connect(&s->pg, err) && take_name(s, old_pid, err) &&
              mr_pg_home_find(&s->pg, s->dead_table, &s->home, err) && describe(s, err) &&
              prepare(s, err);
    s->pg.interruptible = false;
    s->ready = ok;
    if (!ok)
        mr_pg_disconnect(&s->pg);
    return ok;
}

static bool connect_store(struct mr_store *store, struct mr_error *err)
{
    return mr_pg_store_ready(mr_pg_store_of(store), err);
}

static void reset(struct mr_store *store)
{
    struct mr_pg_store *s = mr_pg_store_of(store);
    s->ready = false;
    mr_pg_store_drop_redo(s);
    mr_pg_disconnect(&s->pg);
}

/* --- the clock --- */

void mr_pg_store_clock(struct mr_pg_store *s, const char *server_ms)
{
    s->server_ms = strtoll(server_ms, NULL, 10);
    s->at_mono_ms = mr_clock_mono_ms();
}

static int64_t now_ms(struct mr_store *store)
{
    const struct mr_pg_store *s = mr_pg_store_of(store);
    return s->server_ms ? s->server_ms + (mr_clock_mono_ms() - s->at_mono_ms) : mr_clock_wall_ms();
}

static const char *ledger_id(struct mr_store *store)
{
    return mr_pg_store_of(store)->home.ledger_id;
}

static const struct mr_row_schema *schema(struct mr_store *store)
{
    struct mr_pg_store *s = mr_pg_store_of(store);
    return s->described ? &s->described->schema : NULL;
}

/* --- open and close --- */

static void close_store(struct mr_store *store)
{
    struct mr_pg_store *s = mr_pg_store_of(store);
    if (!s)
        return;
    mr_pg_fini(&s->pg);
    mr_pg_home_fini(&s->home);
    while (s->described) {
        struct mr_pg_table *next = s->described->next;
        mr_pg_table_free(s->described);
        s->described = next;
    }
    for (size_t i = 0; i < s->n_columns; i++)
        free(s->columns[i]);
    free(s->columns);
    free(s->table);
    free(s->dead_table);
    free(s->group);
    free(s->owner);
    free(s->instance);
    free(s->mode);
    mr_pg_store_drop_redo(s);
    free(s->unsure.topic);
    mr_buf_fini(&s->job);
    mr_buf_fini(&s->chunk);
    free(s);
}

static const struct mr_store_ops store_ops = {
    .connect = connect_store,
    .claim = mr_pg_store_claim,
    .redo = mr_pg_store_redo,
    .attempt = mr_pg_store_attempt,
    .begin = mr_pg_store_begin,
    .copy = mr_pg_store_copy,
    .bury = mr_pg_store_bury,
    .check = mr_pg_store_check,
    .commit = mr_pg_store_commit,
    .rollback = mr_pg_store_rollback,
    .reset = reset,
    .now_ms = now_ms,
    .ledger_id = ledger_id,
    .schema = schema,
    .close = close_store,
};

static char *copy_text(const char *text)
{
    return text ? mr_strdup(text) : NULL;
}

bool mr_postgres_store_open(const struct mr_postgres_store_options *options, struct mr_store **out,
                            struct mr_error *err)
{
    if (!mr_postgres_dsn_check(options->dsn, err) ||
        (options->table && !mr_postgres_table_check(options->table, err)) ||
        (options->dead_table && !mr_postgres_table_check(options->dead_table, err)))
        return false;
    struct mr_pg_store *s = mr_calloc(1, sizeof *s);
    s->base.ops = &store_ops;
    mr_pg_init(&s->pg, options->dsn, options->application_name, false);
    s->pg.cancel = options->cancel;
    s->table = copy_text(options->table);
    s->dead_table = copy_text(options->dead_table);
    s->group = mr_strdup(options->group);
    s->owner = mr_strdup(options->owner);
    s->instance = copy_text(options->instance);
    s->mode = mr_strdup(options->mode);
    s->n_columns = options->n_columns;
    s->columns = mr_calloc(options->n_columns, sizeof *s->columns);
    for (size_t i = 0; i < options->n_columns; i++)
        s->columns[i] = mr_strdup(options->columns[i]);
    *out = &s->base;
    return true;
}
