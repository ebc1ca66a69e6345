/*
 * ledger.c - the ledger: claim (the fence), begin (compare and swap), check, commit, rollback.
 *
 * One thread; works on the connection that struct mr_pg_store owns. Invariant: a unit is decided
 * only by a COMMIT whose tag and warnings say so; whatever is not certain is in doubt and settled
 * by the next claim (docs/INVARIANTS.md). Must not know Kafka or scripts. Tests:
 * tests/unit/test_postgres.c.
 */
#include "postgres/store.h"
#include "base/clock.h"
#include "base/log.h"

#include <inttypes.h>
#include <stdlib.h>

static const char begin_sql[] = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";

/* --- claim --- */

enum { CLAIM_BEGIN, CLAIM_INSERT, CLAIM_READ, CLAIM_UPDATE, CLAIM_CLOCK, CLAIM_COMMIT, CLAIM_N };
enum { CLAIM_TRIES = 8 }; /* times lock_timeout: longer than an idle transaction may live */

struct claim_sql {
    struct mr_buf insert, read, update, end_blocker;
    struct mr_pg_args place, take; /* grp, topic, part; and epoch, owner, mode */
};

static void claim_sql_init(struct claim_sql *sql, struct mr_pg_store *s,
                           const struct mr_partition *at, int64_t epoch)
{
    const char *ledger = mr_buf_cstr(&s->home.ledger);
    static const char where[] = "WHERE l.grp = $1 AND l.topic = $2 AND l.part = $3::int";
    *sql = (struct claim_sql){0};
    mr_buf_printf(&sql->insert,
                  "INSERT INTO %s (grp, topic, part, epoch, owner, mode) "
                  "VALUES ($1, $2, $3::int, $4::bigint, $5, $6) ON CONFLICT DO NOTHING",
                  ledger);
    mr_buf_printf(&sql->read,
                  "SELECT l.unit, l.next_offset, l.mode, "
                  "pg_catalog.encode(l.job_keys, 'hex'), pg_catalog.encode(l.job_cursor, 'hex'), "
                  "l.job_trigger_ms FROM %s l %s FOR UPDATE",
                  ledger, where);
    mr_buf_printf(&sql->update,
                  "UPDATE %s l SET epoch = $4::bigint, owner = $5 %s AND $6::text IS NOT NULL",
                  ledger, where);
    /* Who holds the row is the transaction in its xmax; only a session of Millrace is ended. */
    mr_buf_printf(&sql->end_blocker,
                  "SELECT a.pid, a.application_name, pg_catalog.pg_terminate_backend(a.pid) "
                  "FROM %s l JOIN pg_catalog.pg_locks k ON k.locktype = 'transactionid' "
                  "AND k.transactionid = l.xmax AND k.granted AND k.mode = 'ExclusiveLock' "
                  "JOIN pg_catalog.pg_stat_activity a ON a.pid = k.pid %s "
                  "AND a.application_name LIKE 'millrace/%%' "
                  "AND a.datname = pg_catalog.current_database() "
                  "AND a.pid <> pg_catalog.pg_backend_pid()",
                  ledger, where);
    mr_pg_arg_text(&sql->place, s->group);
    mr_pg_arg_text(&sql->place, at->topic);
    mr_pg_arg_int(&sql->place, at->partition);
    sql->take = (struct mr_pg_args){0};
    mr_pg_arg_text(&sql->take, s->group);
    mr_pg_arg_text(&sql->take, at->topic);
    mr_pg_arg_int(&sql->take, at->partition);
    mr_pg_arg_int(&sql->take, epoch);
    mr_pg_arg_text(&sql->take, s->owner);
    mr_pg_arg_text(&sql->take, s->mode);
}

static void claim_sql_fini(struct claim_sql *sql)
{
    mr_buf_fini(&sql->insert);
    mr_buf_fini(&sql->read);
    mr_buf_fini(&sql->update);
    mr_buf_fini(&sql->end_blocker);
}

/* One try, one round trip. */
static void claim_once(struct mr_pg_store *s, struct claim_sql *sql, PGresult **results)
{
    for (int i = 0; i < CLAIM_N; i++)
        results[i] = NULL;
    s->pg.warned = false;
    if (!mr_pg_pipe_begin(&s->pg))
        return;
    mr_pg_pipe_add(&s->pg, begin_sql, NULL);
    mr_pg_pipe_add(&s->pg, mr_buf_cstr(&sql->insert), &sql->take);
    mr_pg_pipe_add(&s->pg, mr_buf_cstr(&sql->read), &sql->place);
    mr_pg_pipe_add(&s->pg, mr_buf_cstr(&sql->update), &sql->take);
    mr_pg_pipe_add(&s->pg, mr_pg_clock_sql, NULL);
    mr_pg_pipe_add(&s->pg, "COMMIT", NULL);
    (void)mr_pg_pipe_run(&s->pg, results, CLAIM_N); /* what went wrong is in the results */
}

/* The owner of before holds the row, in a transaction that may be the COMMIT in doubt: it is ended,
 * and whether it committed is definite then. Where that is not allowed, its idle time-out ends it.
 */
static void end_blocker(struct mr_pg_store *s, struct claim_sql *sql, const struct mr_partition *at)
{
    PGresult *res = mr_pg_query(&s->pg, mr_buf_cstr(&sql->end_blocker), &sql->place);
    if (PQresultStatus(res) != PGRES_TUPLES_OK) {
        char why[300];
        mr_pg_one_line(why, sizeof why, res ? PQresultErrorMessage(res) : "connection lost");
        mr_log(MR_WARN,
               "%s/%" PRId32 ": the ledger is locked, and who locks it cannot be ended: %s",
               at->topic, at->partition, why);
    } else if (!PQntuples(res)) {
        mr_log(MR_WARN, "%s/%" PRId32 ": the ledger is locked, by no session of Millrace: waiting",
               at->topic, at->partition);
    }
    for (int i = 0; PQresultStatus(res) == PGRES_TUPLES_OK && i < PQntuples(res); i++)
        mr_log(MR_WARN, "%s/%" PRId32 ": ended server process %s (\"%s\"), which held the ledger",
               at->topic, at->partition, PQgetvalue(res, i, 0), PQgetvalue(res, i, 1));
    PQclear(res);
}

static size_t put_hex(struct mr_buf *out, const char *hex)
{
    size_t start = out->len;
    for (; hex[0] && hex[1]; hex += 2) {
        char pair[3] = {hex[0], hex[1], '\0'};
        mr_buf_put_char(out, (char)strtoul(pair, NULL, 16));
    }
    return out->len - start;
}

static void read_claim(struct mr_pg_store *s, PGresult *const *results, int64_t epoch,
                       struct mr_claim *out)
{
    const PGresult *row = results[CLAIM_READ];
    *out = (struct mr_claim){.inserted = strcmp(PQcmdTuples(results[CLAIM_INSERT]), "1") == 0,
                             .epoch = epoch,
                             .unit = strtoll(PQgetvalue(row, 0, 0), NULL, 10),
                             .next_offset = strtoll(PQgetvalue(row, 0, 1), NULL, 10)};
    size_t len = strnlen(PQgetvalue(row, 0, 2), sizeof out->mode - 1);
    memcpy(out->mode, PQgetvalue(row, 0, 2), len);
    out->has_job = !PQgetisnull(row, 0, 3);
    if (!out->has_job)
        return;
    mr_buf_reset(&s->job);
    size_t keys = put_hex(&s->job, PQgetvalue(row, 0, 3));
    size_t cursor = put_hex(&s->job, PQgetvalue(row, 0, 4));
    out->job.keys = (struct mr_bytes){mr_buf_cstr(&s->job), keys};
    out->job.cursor = (struct mr_bytes){s->job.ptr + keys, cursor};
    out->job.trigger_ms = strtoll(PQgetvalue(row, 0, 5), NULL, 10);
}

bool mr_pg_store_claim(struct mr_store *store, const struct mr_partition *at, int64_t epoch_before,
                       struct mr_claim *out, struct mr_error *err)
{
    (void)epoch_before;
    struct mr_pg_store *s = mr_pg_store_of(store);
    struct claim_sql sql = {0};
    PGresult *results[CLAIM_N] = {NULL};
    int64_t epoch = mr_clock_random63();
    bool ok = false;
    if (!mr_pg_store_ready(s, err))
        return false;
    claim_sql_init(&sql, s, at, epoch);
    s->pg.interruptible = true;
    for (int tries = 0; tries < CLAIM_TRIES; tries++) {
        mr_pg_clear(results, CLAIM_N);
        claim_once(s, &sql, results);
        if (!mr_pg_is(results[CLAIM_INSERT], "55P03") && !mr_pg_is(results[CLAIM_READ], "55P03"))
            break;
        mr_pg_store_rollback(store);
        end_blocker(s, &sql, at);
    }
    static const ExecStatusType expected[CLAIM_N] = {PGRES_COMMAND_OK, PGRES_COMMAND_OK,
                                                     PGRES_TUPLES_OK,  PGRES_COMMAND_OK,
                                                     PGRES_TUPLES_OK,  PGRES_COMMAND_OK};
    for (int i = 0; i < CLAIM_N; i++)
        if (!mr_pg_expect(&s->pg, results[i], expected[i], MR_PG_OURS, "claiming the ledger", err))
            goto out;
    if (strcmp(PQcmdStatus(results[CLAIM_COMMIT]), "COMMIT") != 0 || s->pg.warned ||
        PQntuples(results[CLAIM_READ]) != 1 ||
        strcmp(PQcmdTuples(results[CLAIM_UPDATE]), "1") != 0) {
        mr_error_set(err, MR_RETRY, MR_EXIT_UNREACHABLE,
                     "claiming the ledger: Postgres did not confirm it");
        goto out;
    }
    read_claim(s, results, epoch, out);
    mr_pg_store_clock(s, PQgetvalue(results[CLAIM_CLOCK], 0, 0));
    ok = true;
out:
    s->pg.interruptible = false;
    mr_pg_clear(results, CLAIM_N);
    claim_sql_fini(&sql);
    return ok || mr_error_context(err, "%s/%" PRId32, at->topic, at->partition);
}

/* --- begin --- */

static void add_step(struct mr_pg_store *s, const struct mr_advance *step)
{
    struct mr_pg_args args = {0};
    const struct mr_bytes null = {NULL, 0};
    mr_pg_arg_text(&args, s->group);
    mr_pg_arg_text(&args, step->at.topic);
    mr_pg_arg_int(&args, step->at.partition);
    mr_pg_arg_int(&args, step->epoch);
    mr_pg_arg_int(&args, step->unit);
    mr_pg_arg_int(&args, step->new_unit);
    mr_pg_arg_int(&args, step->next_offset);
    mr_pg_arg_text(&args, s->mode);
    if (step->job) {
        /* An empty cursor is none, which differs from no job. */
        struct mr_bytes keys = step->job->keys, cursor = step->job->cursor;
        mr_pg_arg_bytes(&args, keys.ptr ? keys : (struct mr_bytes){"", 0});
        mr_pg_arg_bytes(&args, cursor.ptr ? cursor : (struct mr_bytes){"", 0});
        mr_pg_arg_int(&args, step->job->trigger_ms);
    } else {
        mr_pg_arg_bytes(&args, null);
        mr_pg_arg_bytes(&args, null);
        mr_pg_arg_text(&args, NULL);
    }
    mr_pg_pipe_call(&s->pg, MR_PG_ADVANCE, &args);
}

/* The table is held as it was described until the end of the unit: binary rows for a column that
 * has meanwhile become another type of the same size would be taken without a word. */
static size_t add_table_checks(struct mr_pg_store *s)
{
    const struct mr_pg_table *t = s->described;
    struct mr_pg_args args = {0};
    struct mr_buf lock = {0};
    if (!t)
        return 0;
    mr_buf_printf(&lock, t->can_lock ? "LOCK TABLE %.*s IN ROW EXCLUSIVE MODE" : "SELECT 1",
                  (int)t->sql_name.len, t->sql_name.ptr);
    mr_pg_pipe_add(&s->pg, mr_buf_cstr(&lock), NULL);
    mr_buf_fini(&lock);
    mr_pg_arg_int(&args, t->oid);
    mr_pg_pipe_call(&s->pg, MR_PG_FINGERPRINT, &args);
    return 2;
}

/* The second time in a row a new look has not helped: some function or trigger is at fault. */
static bool table_changed(struct mr_pg_store *s, struct mr_error *err)
{
    if (s->other_table && err) {
        err->action = MR_STOP;
        err->code = MR_EXIT_CONFIG;
    }
    s->other_table = true;
    return false;
}

static bool check_table(struct mr_pg_store *s, PGresult *const *results, struct mr_error *err)
{
    const PGresult *lock = results[0], *print = results[1];
    if (s->described->can_lock && !mr_pg_expect(&s->pg, lock, PGRES_COMMAND_OK, MR_PG_DATA,
                                                "locking the feedback table", err))
        return mr_pg_is(lock, "42P01") ? table_changed(s, err) : false;
    if (!mr_pg_expect(&s->pg, print, PGRES_TUPLES_OK, MR_PG_OURS, "looking at the feedback table",
                      err))
        return false;
    if (strtoll(PQgetvalue(print, 0, 0), NULL, 10) == s->described->fingerprint)
        return true;
    mr_error_set(err, MR_RETRY, MR_EXIT_CONFIG,
                 "table \"%s\" was altered: it will be described again", s->table);
    return false;
}

bool mr_pg_store_begin(struct mr_store *store, const struct mr_advance *steps, size_t n,
                       struct mr_error *err)
{
    struct mr_pg_store *s = mr_pg_store_of(store);
    /* BEGIN, the steps, the clock, lock and fingerprint of the table. */
    PGresult **results = mr_calloc(n + 4, sizeof *results);
    size_t n_results = 0;
    bool ok = false;
    if (!s->ready || !mr_pg_pipe_begin(&s->pg)) {
        mr_error_set(err, MR_RETRY, MR_EXIT_UNREACHABLE,
                     "beginning a unit: not connected to Postgres");
        goto out;
    }
    mr_pg_pipe_add(&s->pg, begin_sql, NULL);
    for (size_t i = 0; i < n; i++)
        add_step(s, &steps[i]);
    mr_pg_pipe_add(&s->pg, mr_pg_clock_sql, NULL);
    n_results = n + 2 + add_table_checks(s);
    (void)mr_pg_pipe_run(&s->pg, results, n_results); /* what went wrong is in the results */
    for (size_t i = 0; i <= n; i++)
        if (!mr_pg_expect(&s->pg, results[i], PGRES_COMMAND_OK, MR_PG_OURS, "advancing the ledger",
                          err))
            goto out;
    for (size_t i = 0; i < n; i++)
        if (strcmp(PQcmdTuples(results[1 + i]), "1") != 0) {
            mr_error_set(err, MR_RECOVER, MR_EXIT_TRY_AGAIN,
                         "%s/%" PRId32 ": the ledger does not stand at unit %" PRId64
                         " of our claim: another process has claimed the partition",
                         steps[i].at.topic, steps[i].at.partition, steps[i].unit);
            goto out;
        }
    if (!mr_pg_expect(&s->pg, results[n + 1], PGRES_TUPLES_OK, MR_PG_OURS, "asking for the time",
                      err) ||
        (s->described && !check_table(s, results + n + 2, err)))
        goto out;
    mr_pg_store_clock(s, PQgetvalue(results[n + 1], 0, 0));
    ok = true;
out:
    mr_pg_clear(results, n_results);
    free(results);
    return ok;
}

/* --- the end of a unit --- */

bool mr_pg_store_check(struct mr_store *store, struct mr_error *err)
{
    struct mr_pg_store *s = mr_pg_store_of(store);
    PGresult *res = mr_pg_query(&s->pg, "SET CONSTRAINTS ALL IMMEDIATE", NULL);
    bool ok = mr_pg_expect(&s->pg, res, PGRES_COMMAND_OK, MR_PG_DATA, "checking constraints", err);
    PQclear(res);
    return ok;
}

/*
 * What COMMIT says. Tag COMMIT without a warning: decided. (A cancelled wait for a synchronous
 * replica is a WARNING with tag COMMIT; COMMIT of a transaction that had failed succeeds with tag
 * ROLLBACK.) An error of class 22, 23 or 40: definitely rolled back. Everything else is in doubt,
 * and the next claim settles it.
 */
enum mr_decision mr_pg_store_commit(struct mr_store *store, struct mr_error *err)
{
    struct mr_pg_store *s = mr_pg_store_of(store);
    enum mr_decision decision = MR_IN_DOUBT;
    s->pg.warned = false;
    PGresult *res = mr_pg_query(&s->pg, "COMMIT", NULL);
    if (PQresultStatus(res) == PGRES_COMMAND_OK && strcmp(PQcmdStatus(res), "COMMIT") == 0 &&
        !s->pg.warned && mr_pg_alive(&s->pg)) {
        s->other_table = false;
        decision = MR_DECIDED;
        goto out;
    }
    if (res && PQresultStatus(res) == PGRES_COMMAND_OK)
        mr_error_set(err, MR_RECOVER, MR_EXIT_UNREACHABLE,
                     "committing a unit: Postgres answered %s%s; what it decided will be looked up",
                     PQcmdStatus(res), s->pg.warned ? " with a warning" : "");
    else if (!mr_pg_expect(&s->pg, res, PGRES_COMMAND_OK, MR_PG_DATA, "committing a unit", err)) {
        const char *state = mr_pg_sqlstate(res);
        const char *severity = res ? PQresultErrorField(res, PG_DIAG_SEVERITY_NONLOCALIZED) : NULL;
        bool definite =
            severity && strcmp(severity, "ERROR") == 0 &&
            (!strncmp(state, "22", 2) || !strncmp(state, "23", 2) || !strncmp(state, "40", 2));
        if (definite)
            decision = MR_ROLLED_BACK;
        else if (err)
            err->action = MR_RECOVER;
    }
out:
    PQclear(res);
    return decision;
}

void mr_pg_store_rollback(struct mr_store *store)
{
    struct mr_pg_store *s = mr_pg_store_of(store);
    if (!mr_pg_alive(&s->pg) || PQtransactionStatus(s->pg.conn) == PQTRANS_IDLE)
        return;
    PGresult *res = mr_pg_query(&s->pg, "ROLLBACK", NULL);
    if (PQresultStatus(res) != PGRES_COMMAND_OK ||
        PQtransactionStatus(s->pg.conn) != PQTRANS_IDLE) {
        /* The server rolls back when it sees the connection go. */
        s->ready = false;
        mr_pg_disconnect(&s->pg);
    }
    PQclear(res);
}
