/*
 * ledger.c - a unit in the ledger: begin (compare and swap, redo), check, commit, rollback.
 *
 * One thread; works on the connection that struct mr_pg_store owns. Invariant: a unit is decided
 * only by a COMMIT whose tag and warnings say so; whatever is not certain is in doubt and settled
 * by the next claim (claim.c; docs/INVARIANTS.md). Must not know Kafka or scripts. Tests:
 * tests/unit/test_postgres_unit.c.
 */
#include "postgres/store.h"

#include <inttypes.h>
#include <stdlib.h>

const char mr_pg_begin_sql[] = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";

/* --- begin --- */

void mr_pg_arg_job(struct mr_pg_args *args, const struct mr_job_state *job)
{
    /* An empty cursor is none, which differs from no job. */
    const struct mr_bytes null = {NULL, 0}, empty = {"", 0};
    mr_pg_arg_bytes(args, !job ? null : job->keys.ptr ? job->keys : empty);
    mr_pg_arg_bytes(args, !job ? null : job->cursor.ptr ? job->cursor : empty);
    mr_pg_arg_int(args, job ? job->trigger_ms : 0);
    if (!job)
        args->values[args->n - 1] = NULL;
}

/* What is older than the unit that begins is in Kafka for certain: it goes, whatever comes. */
static void add_redo(struct mr_pg_store *s, const struct mr_advance *step)
{
    struct mr_pg_args gone = {0}, args = {0};
    mr_pg_arg_text(&gone, s->group);
    mr_pg_arg_text(&gone, step->at.topic);
    mr_pg_arg_int(&gone, step->at.partition);
    mr_pg_arg_int(&gone, step->unit);
    mr_pg_pipe_call(&s->pg, MR_PG_FORGET, &gone);
    if (!step->redo)
        return;
    struct mr_bytes payload = step->redo->payload;
    mr_pg_arg_text(&args, s->group);
    mr_pg_arg_text(&args, step->at.topic);
    mr_pg_arg_int(&args, step->at.partition);
    mr_pg_arg_int(&args, step->new_unit);
    mr_pg_arg_text(&args, step->redo->codec);
    mr_pg_arg_int(&args, step->redo->n);
    mr_pg_arg_int(&args, step->redo->crc32c);
    mr_pg_arg_bytes(&args, payload.ptr ? payload : (struct mr_bytes){"", 0});
    mr_pg_pipe_call(&s->pg, MR_PG_KEEP, &args);
    /* Or libpq would hold the bytes of all partitions at once. What fails shows in the answers. */
    (void)!mr_pg_flush(&s->pg);
}

static void add_step(struct mr_pg_store *s, const struct mr_advance *step)
{
    struct mr_pg_args args = {0};
    mr_pg_arg_text(&args, s->group);
    mr_pg_arg_text(&args, step->at.topic);
    mr_pg_arg_int(&args, step->at.partition);
    mr_pg_arg_int(&args, step->epoch);
    mr_pg_arg_int(&args, step->unit);
    mr_pg_arg_int(&args, step->new_unit);
    mr_pg_arg_int(&args, step->next_offset);
    mr_pg_arg_text(&args, s->mode);
    mr_pg_arg_job(&args, step->job);
    mr_pg_pipe_call(&s->pg, MR_PG_ADVANCE, &args);
    add_redo(s, step);
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

/* In the order in which they were sent: a lost compare-and-swap is told before what comes of it. */
static size_t check_step(struct mr_pg_store *s, const struct mr_advance *step,
                         PGresult *const *results, struct mr_error *err)
{
    size_t n = step->redo ? 3 : 2; /* advance, forget, keep */
    for (size_t i = 0; i < n; i++) {
        if (!mr_pg_expect(&s->pg, results[i], PGRES_COMMAND_OK, MR_PG_OURS, "advancing the ledger",
                          err))
            return 0;
        if (i == 0 && strcmp(PQcmdTuples(results[i]), "1") != 0) {
            mr_error_set(err, MR_RECOVER, MR_EXIT_TRY_AGAIN,
                         "%s/%" PRId32 ": the ledger does not stand at unit %" PRId64
                         " of our claim: another process has claimed the partition",
                         step->at.topic, step->at.partition, step->unit);
            return 0;
        }
    }
    return n;
}

bool mr_pg_store_begin(struct mr_store *store, const struct mr_advance *steps, size_t n,
                       struct mr_error *err)
{
    struct mr_pg_store *s = mr_pg_store_of(store);
    /* BEGIN, three for each step at most, the clock, lock and fingerprint of the table. */
    PGresult **results = mr_calloc(3 * n + 4, sizeof *results);
    size_t n_results = 0, at = 1;
    bool ok = false;
    mr_pg_store_drop_redo(s);
    if (!s->ready || !mr_pg_pipe_begin(&s->pg)) {
        mr_error_set(err, MR_RETRY, MR_EXIT_UNREACHABLE,
                     "beginning a unit: not connected to Postgres");
        goto out;
    }
    mr_pg_pipe_add(&s->pg, mr_pg_begin_sql, NULL);
    n_results = 2;
    for (size_t i = 0; i < n; i++) {
        add_step(s, &steps[i]);
        n_results += steps[i].redo ? 3 : 2;
    }
    mr_pg_pipe_add(&s->pg, mr_pg_clock_sql, NULL);
    n_results += add_table_checks(s);
    (void)mr_pg_pipe_run(&s->pg, results, n_results); /* what went wrong is in the results */
    if (!mr_pg_expect(&s->pg, results[0], PGRES_COMMAND_OK, MR_PG_OURS, "beginning a unit", err))
        goto out;
    for (size_t i = 0; i < n; i++) {
        size_t taken = check_step(s, &steps[i], results + at, err);
        if (!taken)
            goto out;
        at += taken;
    }
    if (!mr_pg_expect(&s->pg, results[at], PGRES_TUPLES_OK, MR_PG_OURS, "asking for the time",
                      err) ||
        (s->described && !check_table(s, results + at + 1, err)))
        goto out;
    mr_pg_store_clock(s, PQgetvalue(results[at], 0, 0));
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
