/*
 * worker_duties.c - what a worker has to do besides messages: claims, commits, positions, a look at
 * its services.
 *
 * The worker's thread. Each looks whether it is due and does it. Must not know which adapters it
 * talks to, nor what is in a unit. Tests: tests/unit/test_stream.c.
 */
#include "stream/worker_state.h"

#include "base/clock.h"
#include "base/fault.h"

#include <inttypes.h>

enum {
    ADVANCE_AFTER_MS = 1000,   /* dropped messages move the ledger's position at least this often */
    ADVANCE_AFTER_N = 1000000, /* or after so many of them */
    MARK_AFTER_MS = 5000,      /* Kafka's visible offset follows drops this often */
    PULSE_MS = 5000,           /* an idle worker feels its services' pulse this often, */
    PULSE_AWAY_MS = 1000,      /* and this often while the source is away */
    TIDY_AFTER_MS = 1000,      /* of quiet, until redos that are not needed any more go */
    PIN_RECORDS = 1000,        /* dropped in a row on one table of the lookup */
    CLAIM_SLICE_MS = 2000 /* of claims, until the group is served and what is claimed goes on */
};

int64_t mr_worker_now_ms(struct mr_worker *worker)
{
    return worker->store ? worker->store->ops->now_ms(worker->store) : mr_clock_wall_ms();
}

/* What was too slow for a time-out as a whole may go through in parts: a unit that failed halves
 * the next, one that was decided doubles it again. */
static void size_unit(struct mr_worker *worker, uint64_t n_outputs, bool decided)
{
    uint32_t *limit = &worker->pipeline.unit_outputs, most = worker->options.settings.unit_outputs;
    if (decided)
        *limit = *limit < most / 2 ? *limit * 2 : most;
    else if (n_outputs / 2 < *limit)
        *limit = n_outputs < 2 ? 1 : (uint32_t)(n_outputs / 2);
}

bool mr_worker_commit_unit(struct mr_worker *worker)
{
    struct mr_error err;
    uint64_t n_outputs = worker->unit.n_outputs;
    worker->delivery.smallest = worker->pipeline.unit_outputs <= 1;
    bool ok = mr_delivery_commit(&worker->delivery, &worker->unit, &err);
    for (size_t i = 0; ok && i < worker->unit.n_segments; i++)
        if (worker->unit.segments[i].dead)
            mr_tally_dead(&worker->tally, worker->unit.segments[i].class_);
    mr_worker_reset_unit(worker);
    size_unit(worker, n_outputs, ok);
    if (!ok) {
        mr_worker_recover(worker, &err);
    } else {
        worker->failures = 0;
        worker->trouble = (struct mr_log_trouble){0};
        if (mr_delivery_transactional(&worker->delivery) && worker->store)
            worker->tidy_at_ms = mr_clock_mono_ms() + TIDY_AFTER_MS;
    }
    return ok;
}

bool mr_worker_note_attempt(struct mr_worker *worker, struct mr_part *part, int64_t offset)
{
    struct mr_error err;
    if (!worker->store || (!part->try_due && !part->careful))
        return true;
    mr_watch_enter(&worker->watch, MR_PHASE_STORE);
    if (!worker->store->ops->attempt(worker->store, &part->at, part->epoch, offset, &err)) {
        mr_worker_recover(worker, &err);
        return false;
    }
    part->try_due = false;
    part->tried = true;
    if (part->careful)
        part->careful--;
    mr_fault_point("tried", "unit");
    return true;
}

void mr_worker_forget_attempts(struct mr_worker *worker)
{
    for (size_t i = 0; worker->store && i < worker->n_parts; i++) {
        struct mr_part *part = &worker->parts[i];
        struct mr_error err;
        if (!part->tried)
            continue;
        /* After an error the partition may not be claimed again yet, nor Postgres connected. */
        mr_watch_enter(&worker->watch, MR_PHASE_OPEN);
        if (!worker->store->ops->connect(worker->store, &err))
            return; /* then it counts as one of several that are needed */
        mr_watch_enter(&worker->watch, MR_PHASE_STORE);
        if (!worker->store->ops->attempt(worker->store, &part->at, part->epoch, -1, &err))
            return;
        part->tried = false;
    }
}

/* False: the worker has halted, or begins again with all of them. */
static bool claim_part(struct mr_worker *worker, struct mr_part *part, struct mr_error *err)
{
    if (mr_delivery_claim(&worker->delivery, part, err)) {
        if (part->marked_offset != part->decided && !worker->mark_at_ms)
            worker->mark_at_ms = mr_clock_mono_ms() + MARK_AFTER_MS;
        if (part->has_redo && !worker->tidy_at_ms)
            worker->tidy_at_ms = mr_clock_mono_ms() + TIDY_AFTER_MS;
        mr_log(MR_INFO, "claimed %s/%" PRId32 " at offset %" PRId64 ", unit %" PRId64 "%s",
               part->at.topic, part->at.partition, part->position, part->unit,
               part->has_job ? ", in the middle of a fan-out" : "");
        return true;
    }
    mr_error_context(err, "claiming %s/%" PRId32, part->at.topic, part->at.partition);
    if (err->action == MR_STOP) {
        mr_worker_halt(worker, err);
        return false;
    }
    struct mr_error away;
    mr_log_trouble(&worker->trouble, MR_WARN, "%s; trying again", err->msg);
    if (!worker->store)
        return true;
    worker->store->ops->rollback(worker->store);
    mr_watch_enter(&worker->watch, MR_PHASE_OPEN);
    if (worker->store->ops->connect(worker->store, &away))
        return true;
    mr_worker_recover(worker, &away);
    return false;
}

void mr_worker_claim_due(struct mr_worker *worker)
{
    struct mr_error err;
    size_t claimed = 0, failed = 0, left = 0, first = worker->claim_next;
    int64_t began_ms = mr_clock_mono_ms();
    if (!worker->claims_due || began_ms < worker->claim_at_ms)
        return;
    /* The open unit borrows from the script, which may be opened anew below. */
    if (!mr_unit_empty(&worker->unit) && !mr_worker_commit_unit(worker))
        return;
    mr_watch_enter(&worker->watch, MR_PHASE_OPEN);
    if ((worker->store && !worker->store->ops->connect(worker->store, &err)) ||
        !mr_worker_open_script(worker, &err)) {
        mr_worker_recover(worker, &err);
        return;
    }
    for (size_t i = 0; i < worker->n_parts && !mr_worker_stopping(worker); i++) {
        /* In turn, so that those that cannot be claimed do not keep the others from it. */
        struct mr_part *part = &worker->parts[(first + i) % worker->n_parts];
        if (part->claimed)
            continue;
        if ((claimed || failed) && mr_clock_mono_ms() - began_ms >= CLAIM_SLICE_MS) {
            left++;
            continue;
        }
        if (!claim_part(worker, part, &err))
            return;
        *(part->claimed ? &claimed : &failed) += 1;
        worker->claim_next = first + i + 1;
    }
    worker->claims_due = failed || left;
    if (failed) {
        worker->claim_at_ms = mr_clock_mono_ms() + mr_worker_backoff_ms(worker);
        mr_worker_set_status(worker, false, err.msg);
    } else if (!left) {
        worker->left_job = false; /* who has it knows by now */
        mr_worker_set_status(worker, true, NULL);
        mr_worker_set_joined(worker);
    }
    if (claimed && !mr_worker_start_source(worker, &err))
        mr_worker_recover(worker, &err);
}

void mr_worker_commit_if_due(struct mr_worker *worker, bool queue_empty)
{
    if (mr_unit_empty(&worker->unit)) {
        /* Messages that are only dropped make no unit: they may not hold on to an old table either.
         */
        if (queue_empty || ++worker->pinned >= PIN_RECORDS) {
            mr_pipeline_unpin(&worker->pipeline);
            worker->pinned = 0;
        }
        return;
    }
    int64_t age_ms = mr_clock_mono_ms() - worker->unit.opened_ms;
    if (queue_empty || age_ms >= worker->options.settings.linger_ms ||
        mr_pipeline_unit_full(&worker->pipeline, &worker->unit))
        mr_worker_commit_unit(worker);
}

void mr_worker_advance_if_due(struct mr_worker *worker, bool now)
{
    struct mr_error err;
    int64_t mono_ms = mr_clock_mono_ms();
    if (!mr_unit_empty(&worker->unit))
        return;
    if ((worker->advance_at_ms && (now || mono_ms >= worker->advance_at_ms)) ||
        (worker->tidy_at_ms && (now || mono_ms >= worker->tidy_at_ms))) {
        worker->advance_at_ms = worker->tidy_at_ms = 0;
        if (!mr_delivery_advance(&worker->delivery, worker->parts, worker->n_parts, &err)) {
            mr_worker_recover(worker, &err);
            return;
        }
        if (!worker->mark_at_ms)
            worker->mark_at_ms = mono_ms + MARK_AFTER_MS;
    }
    if (worker->mark_at_ms && (now || mono_ms >= worker->mark_at_ms)) {
        worker->mark_at_ms = 0;
        if (!mr_delivery_mark(&worker->delivery, worker->parts, worker->n_parts, &err))
            mr_worker_recover(worker, &err);
    }
}

void mr_worker_source_is_back(struct mr_worker *worker)
{
    if (!worker->source_away)
        return;
    worker->source_away = false;
    if (!worker->claims_due)
        mr_worker_set_status(worker, true, NULL);
}

void mr_worker_feel_pulse(struct mr_worker *worker)
{
    struct mr_error err;
    int64_t mono_ms = mr_clock_mono_ms(), low, high;
    if (mono_ms < worker->pulse_at_ms || worker->claims_due || !worker->n_parts ||
        !mr_unit_empty(&worker->unit))
        return;
    worker->pulse_at_ms = mono_ms + (worker->source_away ? PULSE_AWAY_MS : PULSE_MS);
    if (worker->store) {
        mr_watch_enter(&worker->watch, MR_PHASE_STORE);
        bool ok = worker->store->ops->begin(worker->store, NULL, 0, &err);
        worker->store->ops->rollback(worker->store);
        if (!ok) {
            mr_worker_recover(worker, &err);
            return;
        }
    }
    if (worker->source_away && worker->source->ops->watermarks(worker->source, &worker->parts[0].at,
                                                               PULSE_AWAY_MS, &low, &high, &err)) {
        mr_log(MR_INFO, "the source is back");
        mr_worker_source_is_back(worker);
    }
}

void mr_worker_heed_staleness(struct mr_worker *worker)
{
    struct mr_error err;
    bool stale = worker->options.fresh && mr_fresh_pauses(worker->options.fresh) &&
                 mr_fresh_staleness_ms(worker->options.fresh) >= 0; /* loaded once */
    if (stale == worker->paused)
        return;
    /* What was joined while the table was fresh goes out. */
    if (!mr_unit_empty(&worker->unit) && !mr_worker_commit_unit(worker))
        return;
    worker->paused = stale;
    mr_log(stale ? MR_WARN : MR_INFO,
           stale ? "the lookup is stale: no messages are taken until it "
                   "follows Postgres again (on_stale = \"pause\")"
                 : "the lookup follows Postgres again: messages are taken");
    if (!worker->claims_due)
        mr_worker_set_status(worker, true, NULL);
    if (worker->n_parts && !mr_worker_start_source(worker, &err))
        mr_worker_recover(worker, &err);
}

void mr_worker_passed(struct mr_worker *worker, struct mr_part *part, int64_t position)
{
    part->position = position;
    part->dropped++;
    mr_part_set_job(part, NULL);
    if (!worker->advance_at_ms)
        worker->advance_at_ms = mr_clock_mono_ms() + ADVANCE_AFTER_MS;
    if (part->dropped >= ADVANCE_AFTER_N)
        worker->advance_at_ms = 1;
}
