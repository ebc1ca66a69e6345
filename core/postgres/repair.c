/*
 * repair.c - `millrace repair`: one partition's ledger row, held while the caller looks at Kafka.
 *
 * One thread; struct mr_postgres_repair owns a connection of its own, in one open transaction. Its
 * application_name is none that a claim ends (claim.c), so no daemon breaks in; the daemon waits.
 * Must not know Kafka, nor decide what is right. Tests: tests/unit/test_postgres_claim.c.
 */
#include "postgres/schema.h"
#include "postgres/postgres.h"
#include "base/clock.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

struct mr_postgres_repair {
    struct mr_pg pg;
    struct mr_pg_home home;
    char *group, *topic;
    int32_t partition;
};

static const char doing[] = "reading the ledger row to repair";

static void arg_place(struct mr_pg_args *args, const struct mr_postgres_repair *r)
{
    mr_pg_arg_text(args, r->group);
    mr_pg_arg_text(args, r->topic);
    mr_pg_arg_int(args, r->partition);
}

static bool name_it(const struct mr_postgres_repair *r, struct mr_error *err)
{
    return mr_error_context(err, "%s/%" PRId32 " of group %s", r->topic, r->partition, r->group);
}

static bool busy(struct mr_error *err)
{
    return mr_error_set(err, MR_RETRY, MR_EXIT_TRY_AGAIN,
                        "its ledger row is in use: stop every Millrace of this group first");
}

/* One statement whose only result of interest is that it worked; `rows`: how many it changed. */
static bool run(struct mr_postgres_repair *r, const char *sql, const struct mr_pg_args *args,
                const char *what, int *rows, struct mr_error *err)
{
    PGresult *res = mr_pg_query(&r->pg, sql, args);
    bool ok = mr_pg_is(res, "55P03")
                  ? busy(err)
                  : mr_pg_expect(&r->pg, res, PGRES_COMMAND_OK, MR_PG_OURS, what, err);
    if (ok && rows)
        *rows = atoi(PQcmdTuples(res));
    PQclear(res);
    return ok;
}

/* Reads the row and holds it; *present false: there is none. */
static bool lock_row(struct mr_postgres_repair *r, struct mr_postgres_repair_state *state,
                     struct mr_error *err)
{
    struct mr_buf sql = {0};
    struct mr_pg_args args = {0};
    arg_place(&args, r);
    /* The owner holds a lock on its name while it is connected (store.c). */
    mr_buf_printf(&sql,
                  "SELECT l.unit, l.next_offset, l.mode, l.owner, l.job_keys IS NOT NULL, "
                  "EXISTS (SELECT FROM %s r WHERE r.grp = l.grp AND r.topic = l.topic "
                  "AND r.part = l.part AND r.unit = l.unit), "
                  "EXISTS (SELECT FROM pg_catalog.pg_locks k, (SELECT "
                  "pg_catalog.hashtextextended('millrace ' || l.owner, 0) AS key) h "
                  "WHERE k.locktype = 'advisory' AND k.granted AND k.objsubid = 1 "
                  "AND k.database = (SELECT oid FROM pg_catalog.pg_database "
                  "WHERE datname = pg_catalog.current_database()) "
                  "AND k.classid::bigint = (h.key >> 32) & 4294967295 "
                  "AND k.objid::bigint = h.key & 4294967295) "
                  "FROM %s l WHERE l.grp = $1 AND l.topic = $2 AND l.part = $3::int "
                  "FOR UPDATE OF l NOWAIT",
                  mr_buf_cstr(&r->home.redo), mr_buf_cstr(&r->home.ledger));
    PGresult *res = mr_pg_query(&r->pg, mr_buf_cstr(&sql), &args);
    mr_buf_fini(&sql);
    bool ok = mr_pg_is(res, "55P03")
                  ? busy(err)
                  : mr_pg_expect(&r->pg, res, PGRES_TUPLES_OK, MR_PG_OURS, doing, err);
    state->present = ok && PQntuples(res) == 1;
    if (state->present) {
        state->unit = strtoll(PQgetvalue(res, 0, 0), NULL, 10);
        state->next_offset = strtoll(PQgetvalue(res, 0, 1), NULL, 10);
        snprintf(state->mode, sizeof state->mode, "%s", PQgetvalue(res, 0, 2));
        snprintf(state->owner, sizeof state->owner, "%s", PQgetvalue(res, 0, 3));
        state->has_job = *PQgetvalue(res, 0, 4) == 't';
        state->has_redo = *PQgetvalue(res, 0, 5) == 't';
        state->owner_connected = *PQgetvalue(res, 0, 6) == 't';
    }
    PQclear(res);
    return ok;
}

/* A row that is not there cannot be held: it is made, and gone again if nothing is set. */
static bool insert_row(struct mr_postgres_repair *r, struct mr_error *err)
{
    struct mr_buf sql = {0};
    struct mr_pg_args args = {0};
    int rows = 0;
    arg_place(&args, r);
    mr_pg_arg_int(&args, mr_clock_random63());
    /* The mode whose recovery halts rather than guesses. */
    mr_buf_printf(&sql,
                  "INSERT INTO %s (grp, topic, part, epoch, owner, mode) VALUES "
                  "($1, $2, $3::int, $4::bigint, '', 'exactly_once') ON CONFLICT DO NOTHING",
                  mr_buf_cstr(&r->home.ledger));
    bool ok = run(r, mr_buf_cstr(&sql), &args, doing, &rows, err) && (rows == 1 || busy(err));
    mr_buf_fini(&sql);
    return ok;
}

bool mr_postgres_repair_open(const char *dsn, const char *group, const struct mr_partition *at,
                             struct mr_postgres_repair **out,
                             struct mr_postgres_repair_state *state, struct mr_error *err)
{
    struct mr_postgres_repair *r = mr_calloc(1, sizeof *r);
    *state = (struct mr_postgres_repair_state){.next_offset = -1};
    r->group = mr_strdup(group);
    r->topic = mr_strdup(at->topic);
    r->partition = at->partition;
    mr_pg_init(&r->pg, dsn, "millrace-repair", false);
    /* A person may be asked meanwhile; who holds the row for longer has been forgotten. */
    bool ok = mr_pg_connect(&r->pg, err) && mr_pg_home_find(&r->pg, NULL, &r->home, err);
    if (ok) {
        snprintf(state->ledger_id, sizeof state->ledger_id, "%s", r->home.ledger_id);
        ok = (run(r, "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE", NULL, doing, NULL, err) &&
              run(r, "SET LOCAL idle_in_transaction_session_timeout = '10min'", NULL, doing, NULL,
                  err) &&
              run(r, "SET LOCAL lock_timeout = '2s'", NULL, doing, NULL, err) &&
              lock_row(r, state, err) && (state->present || insert_row(r, err))) ||
             name_it(r, err);
    }
    if (!ok) {
        mr_postgres_repair_close(r);
        return false;
    }
    *out = r;
    return true;
}

bool mr_postgres_repair_set(struct mr_postgres_repair *r, int64_t unit, int64_t next_offset,
                            const struct mr_job_state *job, struct mr_error *err)
{
    static const char what[] = "repairing the ledger row";
    static const char where[] = "grp = $1 AND topic = $2 AND part = $3::int";
    static const char set_job[] = "job_keys = $7::bytea, job_cursor = $8::bytea, "
                                  "job_trigger_ms = $9::bigint, job_bundle = NULL";
    static const char keep_job[] =
        "job_keys = CASE WHEN next_offset = $5::bigint THEN job_keys END, "
        "job_cursor = CASE WHEN next_offset = $5::bigint THEN job_cursor END, "
        "job_trigger_ms = CASE WHEN next_offset = $5::bigint THEN job_trigger_ms END, "
        "job_bundle = CASE WHEN next_offset = $5::bigint THEN job_bundle END";
    struct mr_buf sql = {0};
    struct mr_pg_args set = {0}, place = {0};
    int rows = 0;
    arg_place(&place, r);
    arg_place(&set, r);
    mr_pg_arg_int(&set, unit);
    mr_pg_arg_int(&set, next_offset);
    mr_pg_arg_int(&set, mr_clock_random63());
    if (job) {
        struct mr_bytes cursor = job->cursor.ptr ? job->cursor : (struct mr_bytes){"", 0};
        mr_pg_arg_bytes(&set, job->keys);
        mr_pg_arg_bytes(&set, cursor);
        mr_pg_arg_int(&set, job->trigger_ms);
    }
    /* A fan-out in progress is that of the message at next_offset. The owner stays: its
     * transactional id may be needed to end what it left open in Kafka. */
    mr_buf_printf(&sql,
                  "UPDATE %s SET unit = $4::bigint, next_offset = $5::bigint, epoch = $6::bigint, "
                  "trying = NULL, attempts = 0, begun = false, "
                  "%s WHERE %s",
                  mr_buf_cstr(&r->home.ledger), job ? set_job : keep_job, where);
    bool ok = run(r, mr_buf_cstr(&sql), &set, what, &rows, err);
    if (ok && rows != 1)
        ok = mr_error_set(err, MR_STOP, MR_EXIT_DATA, "%s: it is gone", what);
    mr_buf_reset(&sql);
    mr_buf_printf(&sql, "DELETE FROM %s WHERE %s", mr_buf_cstr(&r->home.redo), where);
    ok = ok && run(r, mr_buf_cstr(&sql), &place, what, NULL, err);
    mr_buf_fini(&sql);
    return ok || name_it(r, err);
}

bool mr_postgres_repair_commit(struct mr_postgres_repair *r, struct mr_error *err)
{
    static const char what[] = "committing the repair";
    r->pg.warned = false;
    PGresult *res = mr_pg_query(&r->pg, "COMMIT", NULL);
    bool ok = mr_pg_expect(&r->pg, res, PGRES_COMMAND_OK, MR_PG_OURS, what, err);
    if (ok && (strcmp(PQcmdStatus(res), "COMMIT") != 0 || r->pg.warned))
        ok = mr_error_set(err, MR_RETRY, MR_EXIT_UNREACHABLE, "%s: Postgres answered %s%s", what,
                          PQcmdStatus(res), r->pg.warned ? " with a warning" : "");
    PQclear(res);
    if (!ok)
        mr_error_context(err, "whether it was repaired is not certain, repeat the command");
    return ok || name_it(r, err);
}

void mr_postgres_repair_close(struct mr_postgres_repair *r)
{
    if (!r)
        return;
    /* Asked for, so that the row is free when this returns. */
    if (mr_pg_alive(&r->pg) && PQtransactionStatus(r->pg.conn) != PQTRANS_IDLE)
        PQclear(mr_pg_query(&r->pg, "ROLLBACK", NULL));
    mr_pg_home_fini(&r->home);
    mr_pg_fini(&r->pg);
    free(r->group);
    free(r->topic);
    free(r);
}
