/*
 * store.c - the contract of the store (include/millrace/store.h) over the simulated database.
 *
 * One of each worker; a handle on one session. Does what core/postgres does statement by statement:
 * fence, compare and swap, attempts. A lost request or reply is a lost connection, and the session
 * may live on without us.
 */
#include "sim.h"

#include "base/clock.h"
#include "base/fault.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { LOCK_US = 5 * SECOND, CLAIM_TRIES = 8, NOTICES_US = 40 * SECOND };

struct store {
    struct mr_store base;
    struct sim_worker *worker;
    char *lent; /* what the last call returned */
    int64_t unsure_epoch;
    int unsure_partition;
};

static struct store *store_of(struct mr_store *base)
{
    return (struct store *)base;
}

static bool away(struct mr_error *err, const char *what)
{
    return mr_error_set(err, MR_RETRY, MR_EXIT_UNREACHABLE, "%s: no connection to Postgres", what);
}

/* The connection is gone, for us; the server may notice late. */
static void lose(struct store *store)
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
static struct sim_session *ask(struct store *store, const char *what, struct mr_error *err)
{
    enum sim_fate fate = sim_before(store->worker, what);
    if (fate == SIM_DEAD) {
        sim_dead(err);
        return NULL;
    }
    struct sim_session *session = store->worker->session;
    if (fate == SIM_LOST || !session || !session->alive || sim_pg_down()) {
        lose(store);
        away(err, what);
        return NULL;
    }
    session->active_us = sim.now_us;
    return session;
}

static bool answered(struct store *store, const char *what, struct mr_error *err)
{
    enum sim_fate fate = sim_after(store->worker, what);
    if (fate == SIM_DEAD)
        return sim_dead(err);
    if (fate == SIM_GO && store->worker->session && store->worker->session->alive) {
        store->worker->session->active_us = sim.now_us;
        return true;
    }
    lose(store);
    return away(err, what);
}

static bool store_connect(struct mr_store *base, struct mr_error *err)
{
    struct store *store = store_of(base);
    if (store->worker->session && store->worker->session->alive)
        return true;
    enum sim_fate fate = sim_before(store->worker, "connect");
    if (fate == SIM_DEAD)
        return sim_dead(err);
    lose(store);
    if (fate == SIM_LOST || sim_pg_down())
        return away(err, "connect");
    store->worker->session = sim_session_new(store->worker);
    return store->worker->session ? true : away(err, "connect");
}

/* --- claim --- */

static bool lock_for_claim(struct store *store, struct sim_session *session, int partition)
{
    for (int tries = 0; tries < CLAIM_TRIES; tries++) {
        if (sim_lock(session, partition, sim.now_us + LOCK_US))
            return true;
        if (store->worker->crashed || !session->alive)
            return false;
        struct sim_session *blocker = sim.ledger[partition].lock;
        if (blocker && sim.may_kill) {
            sim_trace(store->worker, "ends the session that holds the ledger of %d", partition);
            sim_counts.blockers_ended++;
            sim_session_kill(blocker);
        }
    }
    return false;
}

/* As core/postgres has it: who began counts once. */
static void count_attempt(struct sim_ledger *ledger, int64_t epoch_before)
{
    if (ledger->begun && ledger->epoch == epoch_before)
        ledger->trying = -1;
    if (ledger->trying < 0)
        ledger->attempts = 0;
    else if (ledger->begun)
        ledger->attempts++;
    ledger->begun = false;
    if (ledger->attempts)
        sim_counts.attempts++;
}

static bool is_connected(const char *name)
{
    for (size_t i = 0; i < sim.n_sessions; i++)
        if (sim.sessions[i]->alive && strcmp(sim.sessions[i]->name, name) == 0)
            return true;
    return false;
}

static void lend_job(struct store *store, const struct sim_job *job, struct mr_claim *out)
{
    free(store->lent);
    store->lent = NULL;
    out->has_job = job->present;
    if (!job->present)
        return;
    store->lent = mr_alloc(job->keys_len + job->cursor_len + 1);
    memcpy(store->lent, job->keys, job->keys_len);
    memcpy(store->lent + job->keys_len, job->cursor, job->cursor_len);
    out->job = (struct mr_job_state){{store->lent, job->keys_len},
                                     {store->lent + job->keys_len, job->cursor_len},
                                     job->trigger_ms};
}

static bool store_claim(struct mr_store *base, const struct mr_partition *at, int64_t epoch_before,
                        struct mr_claim *out, struct mr_error *err)
{
    struct store *store = store_of(base);
    struct sim_ledger *ledger = &sim.ledger[at->partition];
    struct sim_session *session = ask(store, "claim", err);
    if (!session)
        return false;
    mr_assert(!session->in_transaction);
    /* A claim whose answer was lost is tried again with its own epoch, as in core/postgres. */
    if (!store->unsure_epoch || store->unsure_partition != at->partition)
        store->unsure_epoch = mr_clock_random63();
    store->unsure_partition = at->partition;
    if (!lock_for_claim(store, session, at->partition)) {
        if (store->worker->crashed)
            return sim_dead(err);
        return session->alive
                   ? mr_error_set(err, MR_RETRY, MR_EXIT_TRY_AGAIN, "claim: the ledger is locked")
                   : away(err, "claim");
    }
    *out = (struct mr_claim){.inserted = !ledger->there, .epoch = store->unsure_epoch};
    const char *name = store->worker->name;
    if (!ledger->there) {
        *ledger = (struct sim_ledger){
            .there = true, .next_offset = -1, .trying = -1, .trying_safe = -1, .lock = session};
        memcpy(ledger->mode, session->mode, sizeof ledger->mode);
        sim_counts.adopts++;
    } else {
        if (strcmp(ledger->owner, name) != 0) {
            snprintf(out->owner, sizeof out->owner, "%s", ledger->owner);
            out->owner_gone = !is_connected(ledger->owner);
        }
        count_attempt(ledger, epoch_before);
    }
    ledger->epoch = out->epoch;
    snprintf(ledger->owner, sizeof ledger->owner, "%s", name);
    snprintf(out->mode, sizeof out->mode, "%s", ledger->mode);
    out->unit = ledger->unit;
    out->next_offset = ledger->next_offset;
    out->trying = ledger->trying;
    out->attempts = ledger->attempts;
    lend_job(store, &ledger->job, out);
    sim_pg_flush();
    sim_unlock(session);
    sim_trace(store->worker, "claim of %d: unit %" PRId64 " at %" PRId64 ", trying %" PRId64 " %d",
              at->partition, out->unit, out->next_offset, out->trying, out->attempts);
    if (!answered(store, "claim", err))
        return false;
    store->unsure_epoch = 0;
    return true;
}

static bool store_redo(struct mr_store *base, const struct mr_partition *at, int64_t unit,
                       struct mr_redo *out, bool *found, struct mr_error *err)
{
    struct store *store = store_of(base);
    if (!ask(store, "redo", err))
        return false;
    const struct sim_redo *redo = sim_redo_find(&sim.ledger[at->partition], unit);
    free(store->lent);
    store->lent = NULL;
    *found = redo != NULL;
    if (redo) {
        store->lent = mr_alloc(redo->len + 1);
        memcpy(store->lent, redo->payload, redo->len);
        *out = (struct mr_redo){{store->lent, redo->len}, redo->codec, redo->n, redo->crc32c};
        sim_counts.redo_reads++;
    }
    sim_trace(store->worker, "redo of unit %" PRId64 " of %d: %s", unit, at->partition,
              redo ? "there" : "none");
    return answered(store, "redo", err);
}

static bool store_attempt(struct mr_store *base, const struct mr_partition *at, int64_t epoch,
                          int64_t offset, struct mr_error *err)
{
    struct store *store = store_of(base);
    struct sim_ledger *ledger = &sim.ledger[at->partition];
    struct sim_session *session = ask(store, "attempt", err);
    if (!session)
        return false;
    if (!sim_lock(session, at->partition, sim.now_us + LOCK_US))
        return store->worker->crashed ? sim_dead(err) : away(err, "attempt");
    bool ours = ledger->epoch == epoch;
    if (ours) {
        if (offset < 0 || offset != ledger->trying)
            ledger->attempts = 0;
        ledger->trying = offset;
        ledger->begun = offset >= 0;
    }
    sim_unlock(session);
    sim_trace(store->worker, "attempt at %" PRId64 " of %d%s", offset, at->partition,
              ours ? "" : ": fenced");
    if (!ours) {
        sim_counts.swaps_lost++;
        return mr_error_set(err, MR_RECOVER, MR_EXIT_TRY_AGAIN, "attempt: somebody else claimed");
    }
    return answered(store, "attempt", err);
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
    struct store *store = store_of(base);
    struct sim_session *session = ask(store, "begin", err);
    if (!session)
        return false;
    mr_assert(!session->in_transaction);
    session->in_transaction = true;
    sim_event_at(0);
    for (size_t i = 0; i < n; i++) {
        mr_assert(!i || steps[i - 1].at.partition < steps[i].at.partition);
        if (!sim_lock(session, steps[i].at.partition, sim.now_us + LOCK_US))
            return store->worker->crashed ? sim_dead(err) : away(err, "begin");
        if (!swap(session, &steps[i])) {
            sim_counts.swaps_lost++;
            return mr_error_set(err, MR_RECOVER, MR_EXIT_TRY_AGAIN,
                                "begin: partition %d does not stand at our unit",
                                steps[i].at.partition);
        }
    }
    return answered(store, "begin", err);
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
    struct store *store = store_of(base);
    struct sim_session *session = ask(store, "copy", err);
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
    return answered(store, "copy", err);
}

static bool store_bury(struct mr_store *base, const struct mr_dead_letter *letters, size_t n,
                       struct mr_error *err)
{
    struct store *store = store_of(base);
    struct sim_session *session = ask(store, "bury", err);
    if (!session)
        return false;
    for (size_t i = 0; i < n; i++) {
        int id = sim.input[letters[i].rec.partition][letters[i].rec.offset].id;
        mr_assert(
            memcmp(letters[i].rec.value.ptr, sim.messages[id].text, letters[i].rec.value.len) == 0);
        sim_letters_add(&session->letters, id, mr_bytes_of(letters[i].class_));
    }
    return answered(store, "bury", err);
}

static bool store_check(struct mr_store *base, struct mr_error *err)
{
    struct store *store = store_of(base);
    struct sim_session *session = ask(store, "check", err);
    if (!session)
        return false;
    if (session->fails_check) {
        sim_counts.refusals++;
        return mr_error_reject(err, "rejected", "a deferred constraint fails");
    }
    return answered(store, "check", err);
}

/* The request did not get there, or got there alone: nobody knows. */
static enum mr_decision in_doubt(struct store *store, struct sim_session *session,
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
    away(err, "commit");
    return MR_IN_DOUBT;
}

static enum mr_decision store_commit(struct mr_store *base, struct mr_error *err)
{
    struct store *store = store_of(base);
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
    if (answered(store, "commit", err))
        return MR_DECIDED;
    sim_counts.in_doubt++;
    return store->worker->crashed ? MR_ROLLED_BACK : MR_IN_DOUBT;
}

static void store_rollback(struct mr_store *base)
{
    struct store *store = store_of(base);
    struct sim_session *session = store->worker->session;
    if (!session || !session->in_transaction)
        return;
    enum sim_fate fate = sim_before(store->worker, "rollback");
    if (fate == SIM_LOST || !session->alive)
        lose(store);
    else if (fate == SIM_GO)
        sim_session_rollback(session);
}

static void store_reset(struct mr_store *base)
{
    struct store *store = store_of(base);
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
    static const struct mr_row_schema schema = {"rows", columns, 3, encode};
    (void)base;
    return &schema;
}

static void store_close(struct mr_store *base)
{
    struct store *store = store_of(base);
    store_reset(base);
    free(store->lent);
    free(store);
}

struct mr_store *sim_store(struct sim_worker *worker)
{
    static const struct mr_store_ops ops = {.connect = store_connect,
                                            .claim = store_claim,
                                            .redo = store_redo,
                                            .attempt = store_attempt,
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
    struct store *store = mr_calloc(1, sizeof *store);
    store->base.ops = &ops;
    store->worker = worker;
    return &store->base;
}
