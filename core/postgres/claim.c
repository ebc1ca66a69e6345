/*
 * claim.c - taking a partition over in the ledger: the fence, what the last owner left, attempts.
 *
 * One thread; works on the connection that struct mr_pg_store owns. Each function is a transaction
 * of its own. Invariant: after a claim no earlier owner's transaction can commit
 * (docs/INVARIANTS.md). Must not know Kafka or scripts. Tests: tests/unit/test_postgres_claim.c.
 */
#include "postgres/store.h"
#include "base/clock.h"
#include "base/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* --- claim --- */

enum { CLAIM_BEGIN, CLAIM_INSERT, CLAIM_READ, CLAIM_UPDATE, CLAIM_CLOCK, CLAIM_COMMIT, CLAIM_N };
enum { CLAIM_TRIES = 8 }; /* times lock_timeout: longer than an idle transaction may live */

struct claim_sql {
    struct mr_buf insert, read, update, end_blocker;
    /* grp, topic, part; and epoch, owner; and mode, or the epoch before */
    struct mr_pg_args place, insert_args, take;
};

static void arg_place(struct mr_pg_args *args, const struct mr_pg_store *s,
                      const struct mr_partition *at)
{
    mr_pg_arg_text(args, s->group);
    mr_pg_arg_text(args, at->topic);
    mr_pg_arg_int(args, at->partition);
}

static void claim_sql_init(struct claim_sql *sql, struct mr_pg_store *s,
                           const struct mr_partition *at, int64_t epoch, int64_t epoch_before)
{
    const char *ledger = mr_buf_cstr(&s->home.ledger);
    static const char where[] = "WHERE l.grp = $1 AND l.topic = $2 AND l.part = $3::int";
    *sql = (struct claim_sql){0};
    mr_buf_printf(&sql->insert,
                  "INSERT INTO %s (grp, topic, part, epoch, owner, mode) "
                  "VALUES ($1, $2, $3::int, $4::bigint, $5, $6) ON CONFLICT DO NOTHING",
                  ledger);
    /* Whether the owner before still holds its name is looked up after the row was waited for. */
    mr_buf_printf(&sql->read,
                  "WITH l AS MATERIALIZED (SELECT l.unit, l.next_offset, l.mode, "
                  "pg_catalog.encode(l.job_keys, 'hex'), pg_catalog.encode(l.job_cursor, 'hex'), "
                  "l.job_trigger_ms, l.owner FROM %s l %s FOR UPDATE) "
                  "SELECT l.*, NOT EXISTS (SELECT FROM pg_catalog.pg_locks k, (SELECT "
                  "pg_catalog.hashtextextended('millrace ' || l.owner, 0) AS key) h "
                  "WHERE k.locktype = 'advisory' AND k.granted AND k.objsubid = 1 "
                  "AND k.database = (SELECT oid FROM pg_catalog.pg_database "
                  "WHERE datname = pg_catalog.current_database()) "
                  "AND k.classid::bigint = (h.key >> 32) & 4294967295 "
                  "AND k.objid::bigint = h.key & 4294967295) FROM l",
                  ledger, where);
    /* Who began with a message counts once, however often the partition is claimed until somebody
     * begins again. Our own claim before: we are alive, so what we were at has not killed us. */
    mr_buf_printf(&sql->update,
                  "UPDATE %s l SET epoch = $4::bigint, owner = $5, begun = false, "
                  "trying = CASE WHEN l.begun AND l.epoch = $6::bigint AND l.epoch <> 0 THEN NULL "
                  "ELSE l.trying END, "
                  "attempts = CASE WHEN l.trying IS NULL THEN 0 WHEN NOT l.begun THEN l.attempts "
                  "WHEN l.epoch = $6::bigint AND l.epoch <> 0 THEN 0 ELSE l.attempts + 1 END "
                  "%s RETURNING l.trying, l.attempts",
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
    arg_place(&sql->place, s, at);
    arg_place(&sql->insert_args, s, at);
    mr_pg_arg_int(&sql->insert_args, epoch);
    mr_pg_arg_text(&sql->insert_args, s->owner);
    mr_pg_arg_text(&sql->insert_args, s->mode);
    arg_place(&sql->take, s, at);
    mr_pg_arg_int(&sql->take, epoch);
    mr_pg_arg_text(&sql->take, s->owner);
    mr_pg_arg_int(&sql->take, epoch_before);
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
    mr_pg_pipe_add(&s->pg, mr_pg_begin_sql, NULL);
    mr_pg_pipe_add(&s->pg, mr_buf_cstr(&sql->insert), &sql->insert_args);
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
    snprintf(out->mode, sizeof out->mode, "%s", PQgetvalue(row, 0, 2));
    if (!out->inserted)
        snprintf(out->owner, sizeof out->owner, "%s",
                 strcmp(PQgetvalue(row, 0, 6), s->owner) == 0 ? "" : PQgetvalue(row, 0, 6));
    out->owner_gone = out->owner[0] && *PQgetvalue(row, 0, 7) == 't';
    const PGresult *tried = results[CLAIM_UPDATE];
    out->trying = PQgetisnull(tried, 0, 0) ? -1 : strtoll(PQgetvalue(tried, 0, 0), NULL, 10);
    out->attempts = atoi(PQgetvalue(tried, 0, 1));
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

/*
 * Random, new for each claim; but one whose answer was lost is tried again with its own, so that
 * losing answers does not count as dying (claim_sql.update). That is safe: nobody began a unit
 * under an epoch that nobody was told, and the session that was to write it has ended, since it
 * held the lock on our name (store.c).
 */
static int64_t epoch_of(struct mr_pg_store *s, const struct mr_partition *at)
{
    if (s->unsure.topic && s->unsure.partition == at->partition &&
        strcmp(s->unsure.topic, at->topic) == 0)
        return s->unsure.epoch;
    free(s->unsure.topic);
    s->unsure.topic = mr_strdup(at->topic);
    s->unsure.partition = at->partition;
    s->unsure.epoch = mr_clock_random63();
    return s->unsure.epoch;
}

bool mr_pg_store_claim(struct mr_store *store, const struct mr_partition *at, int64_t epoch_before,
                       struct mr_claim *out, struct mr_error *err)
{
    struct mr_pg_store *s = mr_pg_store_of(store);
    struct claim_sql sql = {0};
    PGresult *results[CLAIM_N] = {NULL};
    int64_t epoch = epoch_of(s, at);
    bool ok = false;
    mr_pg_store_drop_redo(s);
    if (!mr_pg_store_ready(s, err))
        return false;
    claim_sql_init(&sql, s, at, epoch, epoch_before);
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
                                                     PGRES_TUPLES_OK,  PGRES_TUPLES_OK,
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
    free(s->unsure.topic);
    s->unsure.topic = NULL;
    mr_pg_store_clock(s, PQgetvalue(results[CLAIM_CLOCK], 0, 0));
    ok = true;
out:
    s->pg.interruptible = false;
    mr_pg_clear(results, CLAIM_N);
    claim_sql_fini(&sql);
    return ok || mr_error_context(err, "%s/%" PRId32, at->topic, at->partition);
}

/* --- redo --- */

static uint64_t read_be(const PGresult *res, int column)
{
    const char *at = PQgetvalue(res, 0, column);
    uint64_t value = 0;
    for (int i = 0; i < PQgetlength(res, 0, column); i++)
        value = value << 8 | (unsigned char)at[i];
    return value;
}

/* It may be as large as a unit: it goes with the next call, not with the next redo. */
void mr_pg_store_drop_redo(struct mr_pg_store *s)
{
    PQclear(s->redo);
    s->redo = NULL;
}

bool mr_pg_store_redo(struct mr_store *store, const struct mr_partition *at, int64_t unit,
                      struct mr_redo *out, bool *found, struct mr_error *err)
{
    struct mr_pg_store *s = mr_pg_store_of(store);
    struct mr_buf sql = {0};
    struct mr_pg_args args = {.binary = true};
    mr_pg_store_drop_redo(s);
    *found = false;
    if (!s->ready)
        return mr_error_set(err, MR_RETRY, MR_EXIT_UNREACHABLE,
                            "reading the redo of a unit: not connected to Postgres");
    mr_buf_printf(&sql,
                  "SELECT codec, n, crc32c, payload FROM %s "
                  "WHERE grp = $1 AND topic = $2 AND part = $3::int AND unit = $4::bigint",
                  mr_buf_cstr(&s->home.redo));
    arg_place(&args, s, at);
    mr_pg_arg_int(&args, unit);
    s->redo = mr_pg_query(&s->pg, mr_buf_cstr(&sql), &args);
    mr_buf_fini(&sql);
    if (!mr_pg_expect(&s->pg, s->redo, PGRES_TUPLES_OK, MR_PG_OURS, "reading the redo of a unit",
                      err))
        return mr_error_context(err, "%s/%" PRId32, at->topic, at->partition);
    *found = PQntuples(s->redo) == 1;
    if (*found)
        *out = (struct mr_redo){
            .codec = PQgetvalue(s->redo, 0, 0),
            .n = (uint32_t)read_be(s->redo, 1),
            .crc32c = (uint32_t)read_be(s->redo, 2),
            .payload = {PQgetvalue(s->redo, 0, 3), (size_t)PQgetlength(s->redo, 0, 3)}};
    return true;
}

/* --- attempts --- */

bool mr_pg_store_attempt(struct mr_store *store, const struct mr_partition *at, int64_t epoch,
                         int64_t offset, struct mr_error *err)
{
    enum { BEGIN, ASYNC, TRY, COMMIT, N };
    struct mr_pg_store *s = mr_pg_store_of(store);
    struct mr_pg_args args = {0};
    PGresult *results[N] = {NULL};
    bool ok = s->ready && mr_pg_pipe_begin(&s->pg);
    if (!ok) {
        mr_error_set(err, MR_RETRY, MR_EXIT_UNREACHABLE,
                     "noting an attempt: not connected to Postgres");
        goto out;
    }
    arg_place(&args, s, at);
    mr_pg_arg_int(&args, epoch);
    mr_pg_arg_int(&args, offset);
    if (offset < 0)
        args.values[args.n - 1] = NULL;
    mr_pg_pipe_add(&s->pg, mr_pg_begin_sql, NULL);
    mr_pg_pipe_add(&s->pg, "SET LOCAL synchronous_commit = off", NULL);
    mr_pg_pipe_call(&s->pg, MR_PG_TRY, &args);
    mr_pg_pipe_add(&s->pg, "COMMIT", NULL);
    (void)mr_pg_pipe_run(&s->pg, results, N); /* what went wrong is in the results */
    for (int i = 0; ok && i < N; i++)
        ok = mr_pg_expect(&s->pg, results[i], PGRES_COMMAND_OK, MR_PG_OURS, "noting an attempt",
                          err);
    if (!ok)
        mr_pg_store_rollback(store);
    else if (strcmp(PQcmdTuples(results[TRY]), "1") != 0)
        ok = mr_error_set(err, MR_RECOVER, MR_EXIT_TRY_AGAIN,
                          "the ledger does not stand at our claim: another process has claimed the "
                          "partition");
out:
    mr_pg_clear(results, N);
    return ok || mr_error_context(err, "%s/%" PRId32, at->topic, at->partition);
}
