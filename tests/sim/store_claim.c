/*
 * store_claim.c - taking a partition over in the simulated ledger: the fence, the redo, attempts.
 *
 * One of each worker. As core/postgres/claim.c has it.
 */
#include "store.h"

#include "base/clock.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { CLAIM_TRIES = 8 };

static bool lock_for_claim(struct sim_store *store, struct sim_session *session, int partition)
{
    for (int tries = 0; tries < CLAIM_TRIES; tries++) {
        if (sim_lock(session, partition, sim.now_us + SIM_LOCK_US))
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

static void lend_job(struct sim_store *store, const struct sim_job *job, struct mr_claim *out)
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

bool sim_store_claim(struct mr_store *base, const struct mr_partition *at, int64_t epoch_before,
                     struct mr_claim *out, struct mr_error *err)
{
    struct sim_store *store = sim_store_of(base);
    struct sim_ledger *ledger = &sim.ledger[at->partition];
    struct sim_session *session = sim_store_ask(store, "claim", err);
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
                   : sim_store_away(err, "claim");
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
    if (!sim_store_answered(store, "claim", err))
        return false;
    store->unsure_epoch = 0;
    return true;
}

bool sim_store_redo(struct mr_store *base, const struct mr_partition *at, int64_t unit,
                    struct mr_redo *out, bool *found, struct mr_error *err)
{
    struct sim_store *store = sim_store_of(base);
    if (!sim_store_ask(store, "redo", err))
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
    return sim_store_answered(store, "redo", err);
}

bool sim_store_attempt(struct mr_store *base, const struct mr_partition *at, int64_t epoch,
                       int64_t offset, struct mr_error *err)
{
    struct sim_store *store = sim_store_of(base);
    struct sim_ledger *ledger = &sim.ledger[at->partition];
    struct sim_session *session = sim_store_ask(store, "attempt", err);
    if (!session)
        return false;
    if (!sim_lock(session, at->partition, sim.now_us + SIM_LOCK_US))
        return store->worker->crashed ? sim_dead(err) : sim_store_away(err, "attempt");
    bool ours = ledger->epoch == epoch;
    if (ours) {
        if (offset < 0 || offset != ledger->trying)
            ledger->attempts = 0;
        ledger->trying = offset;
        store->worker->noted[at->partition] = offset + 1;
        ledger->begun = offset >= 0;
    }
    sim_unlock(session);
    sim_trace(store->worker, "attempt at %" PRId64 " of %d%s", offset, at->partition,
              ours ? "" : ": fenced");
    if (!ours) {
        sim_counts.swaps_lost++;
        return mr_error_set(err, MR_RECOVER, MR_EXIT_TRY_AGAIN, "attempt: somebody else claimed");
    }
    return sim_store_answered(store, "attempt", err);
}
