/*
 * store.c - the contract of the store (include/millrace/store.h) over the simulated database.
 *
 * One of each worker; a handle on one session. Does what core/postgres does, statement by
 * statement. A lost request or reply is a lost connection, and the session may live on without us.
 * Claims and attempts: store_claim.c.
 */
#include "store.h"

#include "base/clock.h"
#include "base/fault.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { NOTICES_US = 40 * SECOND };

bool sim_store_away(struct mr_error *err, const char *what)
{
    return mr_error_set(err, MR_RETRY, MR_EXIT_UNREACHABLE, "%s: no connection to Postgres", what);
}

/* The connection is gone, for us; the server may notice late. */
static void lose(struct sim_store *store)
{
    struct sim_session *session = store->worker->session;
    store->worker->session = NULL;
    if (!session)
        return;
    sim_counts.sessions_lost++;
    if (sim_percent(50))
        sim_session_kill(session);
    else
        sim_session_orphan(session, sim.now_us + sim_between(0, NOTICES_US));
}

/* A statement reaches the server; NULL: it does not. */
struct sim_session *sim_store_ask(struct sim_store *store, const char *what, struct mr_error *err)
{
    enum sim_fate fate = sim_before(store->worker, what);
    if (fate == SIM_DEAD) {
        sim_dead(err);
        return NULL;
    }
    struct sim_session *session = store->worker->session;
    if (fate == SIM_LOST || !session || !session->alive || sim_pg_down()) {
        lose(store);
        sim_store_away(err, what);
        return NULL;
    }
    session->active_us = sim.now_us;
    return session;
}

bool sim_store_answered(struct sim_store *store, const char *what, struct mr_error *err)
{
    enum sim_fate fate = sim_after(store->worker, what);
    if (fate == SIM_DEAD)
        return sim_dead(err);
    if (fate == SIM_GO && store->worker->session && store->worker->session->alive) {
        store->worker->session->active_us = sim.now_us;
        return true;
    }
    lose(store);
    return sim_store_away(err, what);
}

static bool store_connect(struct mr_store *base, struct mr_error *err)
{
    struct sim_store *store = sim_store_of(base);
    if (store->worker->session && store->worker->session->alive)
        return true;
    enum sim_fate fate = sim_before(store->worker, "connect");
    if (fate == SIM_DEAD)
        return sim_dead(err);
    lose(store);
    if (fate == SIM_LOST || sim_pg_down())
        return sim_store_away(err, "connect");
    store->worker->session = sim_session_new(store->worker);
    return store->worker->session ? true : sim_store_away(err, "connect");
}

/* --- a unit --- */

static bool swap(struct sim_session *session, const struct mr_advance *advance)
{
    const struct sim_ledger *ledger = &sim.ledger[advance->at.partition];
    struct sim_step *step = &session->steps[advance->at.partition];
    if ((ledger->epoch != advance->epoch || ledger->unit != advance->unit) &&
        !mr_fault_mutant("no_cas"))
        return false;
    *step = (struct sim_step){.touched = true,
                              .unit_before = ledger->unit,
                              .unit = advance->new_unit,
                              .next_offset = advance->next_offset};
    sim_job_set(&step->job, advance->job);
    if (!advance->redo)
        return true;
    const struct mr_redo *redo = advance->redo;
    step->has_redo = true;
    step->redo = (struct sim_redo){.unit = advance->new_unit,
                                   .payload = mr_alloc(redo->payload.len + 1),
                                   .len = redo->payload.len,
                                   .n = redo->n,
                                   .crc32c = redo->crc32c,
                                   .codec = redo->codec};
    memcpy(step->redo.payload, redo->payload.ptr, redo->payload.len);
    return true;
}

static bool store_begin(struct mr_store *base, const struct mr_advance *steps, size_t n,
                        struct mr_error *err)
{
    struct sim_store *store = sim_store_of(base);
    struct sim_session *session = sim_store_ask(store, "begin", err);
    if (!session)
        return false;
    mr_assert(!session->in_transaction);
    session->in_transaction = true;
    sim_event_at(0);
    for (size_t i = 0; i < n; i++) {
        mr_assert(!i || steps[i - 1].at.partition < steps[i].at.partition);
        if (!sim_lock(session, steps[i].at.partition, sim.now_us + SIM_LOCK_US))
            return store->worker->crashed ? sim_dead(err) : sim_store_away(err, "begin");
        if (!swap(session, &steps[i])) {
            sim_counts.swaps_lost++;
            return mr_error_set(err, MR_RECOVER, MR_EXIT_TRY_AGAIN,
                                "begin: partition %d does not stand at our unit",
                                steps[i].at.partition);
        }
    }
    return sim_store_answered(store, "begin", err);
}

static struct mr_bytes field(const char **at)
{
    uint32_t len;
    memcpy(&len, *at, sizeof len);
    len = __builtin_bswap32(len);
    struct mr_bytes bytes = {*at + 4, len};
    *at += 4 + len;
    return bytes;
}

/* False: COPY refuses it. */
static bool take_row(struct sim_session *session, const struct sim_output *row)
{
    const struct sim_message *message = &sim.messages[row->id];
    bool hit = message->victim < 0 || message->victim == row->client;
    if (hit && message->kind == SIM_POISON)
        return false;
    session->fails_check |= hit && message->kind == SIM_POISON_LATE;
    session->fails_last |= hit && message->kind == SIM_POISON_LAST;
    sim_outputs_add(&session->rows, row);
    return true;
}

static bool store_copy(struct mr_store *base, const struct mr_row_run *runs, size_t n,
                       struct mr_error *err)
{
    struct sim_store *store = sim_store_of(base);
    struct sim_session *session = sim_store_ask(store, "copy", err);
    if (!session)
        return false;
    for (size_t i = 0; i < n; i++)
        for (const char *at = runs[i].rows.ptr, *end = at + runs[i].rows.len; at < end;) {
            struct sim_output row;
            at += 2;
            struct mr_bytes text = field(&at), client = field(&at), device = field(&at);
            if (!sim_parse_row(text, client, device, &row))
                sim_fail(SIM_OUTCOME, "a row that nobody made: \"%.*s\"", (int)text.len, text.ptr);
            else if (!take_row(session, &row)) {
                sim_counts.refusals++;
                return mr_error_reject(err, "rejected", "a row is refused");
            }
        }
    return sim_store_answered(store, "copy", err);
}

static bool store_bury(struct mr_store *base, const struct mr_dead_letter *letters, size_t n,
                       struct mr_error *err)
{
    struct sim_store *store = sim_store_of(base);
    struct sim_session *session = sim_store_ask(store, "bury", err);
    if (!session)
        return false;
    for (size_t i = 0; i < n; i++) {
        int id = sim.input[letters[i].rec.partition][letters[i].rec.offset].id;
        mr_assert(
            memcmp(letters[i].rec.value.ptr, sim.messages[id].text, letters[i].rec.value.len) == 0);
        sim_letters_add(&session->letters, id, mr_bytes_of(letters[i].class_));
    }
    return sim_store_answered(store, "bury", err);
}

static bool store_check(struct mr_store *base, struct mr_error *err)
{
    struct sim_store *store = sim_store_of(base);
    struct sim_session *session = sim_store_ask(store, "check", err);
    if (!session)
        return false;
    if (session->fails_check) {
        sim_counts.refusals++;
        return mr_error_reject(err, "rejected", "a deferred constraint fails");
    }
    return sim_store_answered(store, "check", err);
}

/* The request did not get there, or got there alone: nobody knows. */
static enum mr_decision in_doubt(struct sim_store *store, struct sim_session *session,
                                 struct mr_error *err)
{
    sim_counts.in_doubt++;
    if (session && session->alive && sim_percent(50)) {
        session->commit_us = sim.now_us + sim_between(0, 10 * SECOND);
        store->worker->session = NULL;
        sim_session_orphan(session, session->commit_us + SECOND);
        sim_event_at(session->commit_us);
    }
    lose(store);
    sim_store_away(err, "commit");
    return MR_IN_DOUBT;
}

static enum mr_decision store_commit(struct mr_store *base, struct mr_error *err)
{
    struct sim_store *store = sim_store_of(base);
    struct sim_session *session = store->worker->session;
    enum sim_fate fate = sim_before(store->worker, "commit");
    if (fate == SIM_DEAD) {
        sim_dead(err);
        return MR_ROLLED_BACK;
    }
    if (fate == SIM_LOST || !session || !session->alive || sim_pg_down())
        return in_doubt(store, session, err);
    mr_assert(session->in_transaction && !session->fails_check);
    if (session->fails_last) {
        sim_session_rollback(session);
        sim_counts.refusals++;
        mr_error_reject(err, "rejected", "COMMIT refuses a row");
        return MR_ROLLED_BACK;
    }
    if (sim.faults && sim_percent(1)) {
        sim_session_rollback(session);
        mr_error_set(err, MR_RETRY, MR_EXIT_TRY_AGAIN, "COMMIT: could not serialize");
        return MR_ROLLED_BACK;
    }
    sim_trace(store->worker, "COMMIT");
    sim_session_commit(session);
    session->active_us = sim.now_us;
    if (sim_store_answered(store, "commit", err))
        return MR_DECIDED;
    sim_counts.in_doubt++;
    return store->worker->crashed ? MR_ROLLED_BACK : MR_IN_DOUBT;
}

static void store_rollback(struct mr_store *base)
{
    struct sim_store *store = sim_store_of(base);
    struct sim_session *session = store->worker->session;
    if (!session || !session->in_transaction)
        return;
    enum sim_fate fate = sim_before(store->worker, "rollback");
    if (fate == SIM_DEAD) /* and the session with it */
        return;
    if (fate == SIM_LOST || !session->alive)
        lose(store);
    else
        sim_session_rollback(session);
}

static void store_reset(struct mr_store *base)
{
    struct sim_store *store = sim_store_of(base);
    struct sim_session *session = store->worker->session;
    if (!session)
        return;
    enum sim_fate fate = sim_before(store->worker, "disconnect");
    if (fate == SIM_LOST) {
        lose(store);
    } else if (fate == SIM_GO) {
        store->worker->session = NULL;
        sim_session_kill(session);
    }
}

static int64_t store_now_ms(struct mr_store *base)
{
    (void)base;
    return mr_clock_wall_ms();
}

static const char *store_ledger_id(struct mr_store *base)
{
    (void)base;
    return "0123abcd";
}

static bool encode(const struct mr_row_column *column, const struct mr_value *value,
                   struct mr_buf *out, struct mr_error *err)
{
    struct mr_buf text = {0};
    (void)column;
    bool ok = mr_value_text(&text, value, err);
    mr_buf_put_be32(out, (uint32_t)text.len);
    mr_buf_put(out, text.ptr, text.len);
    mr_buf_fini(&text);
    return ok;
}

static const struct mr_row_schema *store_schema(struct mr_store *base)
{
    static const struct mr_row_column columns[] = {
        {.name = "a", .type_name = "text", .is_text = true},
        {.name = "b", .type_name = "text", .is_text = true},
        {.name = "c", .type_name = "text", .is_text = true},
    };
    static const struct mr_row_schema schema = {
        .table = "rows", .columns = columns, .n = 3, .encode = encode};
    (void)base;
    return &schema;
}

static void store_close(struct mr_store *base)
{
    struct sim_store *store = sim_store_of(base);
    store_reset(base);
    free(store->lent);
    free(store);
}

struct mr_store *sim_store(struct sim_worker *worker)
{
    static const struct mr_store_ops ops = {.connect = store_connect,
                                            .claim = sim_store_claim,
                                            .redo = sim_store_redo,
                                            .attempt = sim_store_attempt,
                                            .begin = store_begin,
                                            .copy = store_copy,
                                            .bury = store_bury,
                                            .check = store_check,
                                            .commit = store_commit,
                                            .rollback = store_rollback,
                                            .reset = store_reset,
                                            .now_ms = store_now_ms,
                                            .ledger_id = store_ledger_id,
                                            .schema = store_schema,
                                            .close = store_close};
    struct sim_store *store = mr_calloc(1, sizeof *store);
    store->base.ops = &ops;
    store->worker = worker;
    return &store->base;
}
