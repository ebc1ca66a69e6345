/*
 * worker.c - the loop of one worker thread: poll, run the pipeline, commit, serve the group.
 *
 * Owns source, sink, store, script, the open unit and the state of its partitions (worker_state.h).
 * Must not know which adapters those are. The loop has one line per duty (worker_duties.c); the
 * switch over verdicts stands in take_record and nowhere else. Tests: tests/unit/test_stream.c,
 * tests/integration.
 */
#include "stream/worker_state.h"

#include "base/clock.h"
#include "base/fault.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    IDLE_POLL_MS = 100,   /* how long a stop or a due duty may wait */
    DECISION_POLL_MS = 5, /* the others are voting on a reload */
    SERVE_AFTER = 4,      /* chunks of a fan-out the group is served between the others */
    STRICT_MS = 5000,     /* for a lookup to catch up (consistency = "strict") */
    CRASH_LOOP_AT = 6     /* attempts, at which a message is taken for what kills the process */
};

static void on_assigned(struct mr_worker *worker)
{
    size_t n;
    const struct mr_partition *list = worker->source->ops->assignment(worker->source, &n);
    mr_worker_reset_unit(worker);
    mr_worker_drop_parts(worker);
    worker->parts = mr_calloc(n, sizeof *worker->parts);
    worker->n_parts = n;
    for (size_t i = 0; i < n; i++)
        worker->parts[i].at = list[i];
    worker->delivery.ended_owner[0] = '\0';
    worker->claims_due = n > 0;
    worker->claim_at_ms = 0;
    worker->source_away = false;
    mr_worker_set_status(worker, n == 0, n ? "claiming its partitions" : NULL);
    if (!n) {
        worker->left_job = false;
        mr_worker_set_joined(worker);
    }
    mr_fault_point("assigned", "rebalance");
    mr_log(MR_INFO, "assigned %zu partition%s", n, n == 1 ? "" : "s");
}

static void on_revoked(struct mr_worker *worker)
{
    mr_log(MR_INFO, "partitions revoked; %zu undecided messages go to their next owner",
           worker->unit.n_segments);
    mr_fault_point("revoked", "rebalance");
    mr_worker_reset_unit(worker);
    mr_worker_forget_attempts(worker);
    mr_worker_drop_parts(worker);
    if (!worker->source_away) /* else: taken away because of it */
        mr_worker_set_status(worker, true, NULL);
}

/* With consistency = "strict": what was committed until now is in the table. */
static bool await_lookup(struct mr_worker *worker, struct mr_error *err)
{
    mr_watch_enter(&worker->watch, MR_PHASE_LOOKUP);
    if (mr_fresh_await(worker->options.fresh, worker->stop, STRICT_MS))
        return true;
    return mr_error_set(err, MR_RETRY, MR_EXIT_UNREACHABLE,
                        "the lookup did not catch up with Postgres within %d s, and consistency = "
                        "\"strict\" waits for it",
                        STRICT_MS / 1000);
}

/* Pins the lookup for a new unit; a table of another shape than the script knows is as good as
 * none. */
static bool pin(struct mr_worker *worker, struct mr_error *err)
{
    bool pinned = worker->pipeline.pin.table != NULL || !worker->options.lookup;
    if (!pinned && worker->options.fresh && !await_lookup(worker, err))
        return false;
    if (!mr_pipeline_pin(&worker->pipeline))
        return mr_error_set(err, MR_RETRY, MR_EXIT_UNREACHABLE, "the lookup is not loaded");
    if (!pinned && !mr_lookup_schema_equal(worker->script_columns,
                                           mr_table_schema(worker->pipeline.pin.table)))
        return mr_error_set(err, MR_RETRY, MR_EXIT_UNREACHABLE,
                            "the lookup's columns have changed, the script is opened again");
    return true;
}

static void on_error(struct mr_worker *worker, const struct mr_error *err)
{
    if (err->action == MR_RECOVER) {
        /* The consumer itself is lost: a new one joins the group. */
        mr_worker_recover(worker, err);
        mr_worker_forget_attempts(worker);
        mr_worker_drop_parts(worker);
        mr_unit_fini(&worker->unit, worker->source);
        worker->source->ops->close(worker->source);
        worker->source = NULL;
        mr_worker_open_all(worker);
        return;
    }
    if (err->action == MR_STOP) {
        mr_worker_halt(worker, err);
        return;
    }
    mr_log(MR_WARN, "%s", err->msg);
    worker->source_away = true;
    mr_worker_set_status(worker, false, err->msg);
}

/* Between two chunks of a long fan-out: a rebalance need not wait for its end. Nothing else is read
 * meanwhile. False: the partition is not what it was, whoever owns it goes on from the ledger. */
static bool serve_group(struct mr_worker *worker, bool *paused)
{
    struct mr_record rec;
    struct mr_error err;
    if (!*paused && !worker->source->ops->start(worker->source, NULL, 0, &err)) {
        mr_worker_recover(worker, &err);
        return false;
    }
    *paused = true;
    switch (worker->source->ops->poll(worker->source, 0, &rec, &err)) {
    case MR_EVENT_RECORD:
        worker->source->ops->release(worker->source, &rec); /* comes again */
        return true;
    case MR_EVENT_ASSIGNED:
        on_assigned(worker);
        return false;
    case MR_EVENT_REVOKED:
        on_revoked(worker);
        return false;
    case MR_EVENT_ERROR:
        if (err.action != MR_RETRY) {
            mr_worker_recover(worker, &err);
            return false;
        }
        on_error(worker, &err);
        return true;
    case MR_EVENT_NONE:
    case MR_EVENT_POSITION:
        break;
    }
    return true;
}

/* Runs the pipeline over a record, chunk by chunk where its fan-out is larger than a unit. */
static void take_record(struct mr_worker *worker, struct mr_part *part, struct mr_record *rec)
{
    struct mr_error err;
    struct mr_pass pass = {.more = true};
    bool owned = false; /* by a segment */
    bool paused = false;
    int chunks = 0;
    while (pass.more) {
        if (!pin(worker, &err)) {
            if (!mr_worker_stopping(worker)) /* then nobody waits for the lookup any more */
                mr_worker_recover(worker, &err);
            break;
        }
        mr_watch_enter(&worker->watch, MR_PHASE_BUILD);
        int64_t now_ms = mr_worker_now_ms(worker);
        if (!chunks)
            mr_recent_note(worker->options.recent, &worker->tap, worker->source, rec, now_ms);
        enum mr_verdict verdict =
            mr_pipeline_run(&worker->pipeline, part, rec, now_ms, &worker->unit, &pass, &err);
        switch (verdict) {
        case MR_VERDICT_EMIT:
        case MR_VERDICT_REJECT:
            if (verdict == MR_VERDICT_REJECT)
                mr_log_every(&worker->reject_gate, MR_WARN,
                             "dead letter %s/%" PRId32 "@%" PRId64 " (%s): %s", rec->topic,
                             rec->partition, rec->offset, err.class_, err.msg);
            part->position = pass.segment->next_offset;
            part->had_job = part->had_job || part->has_job || pass.more;
            pass.segment->owns_record = owned = !pass.more;
            if (!pass.more)
                mr_part_set_job(part, NULL); /* the ledger's follows with the unit */
            /* A chunk that was refused has settled the whole message as a dead letter. After a
             * stop the ledger knows where the next process goes on. */
            if (pass.more &&
                (!mr_worker_commit_unit(worker) || !part->has_job || mr_worker_stopping(worker)))
                pass.more = false;
            if (pass.more && ++chunks >= SERVE_AFTER && !serve_group(worker, &paused))
                pass.more = paused = false;
            if (pass.more) {
                mr_worker_heed_offer(worker);
                mr_worker_heed_staleness(worker);
            }
            if (worker->paused) /* the message comes again, and goes on after its cursor */
                pass.more = false;
            break;
        case MR_VERDICT_DROP:
            mr_tally_drop(&worker->tally, pass.reason);
            mr_worker_passed(worker, part, rec->offset + 1);
            break;
        case MR_VERDICT_HOLD: /* a script that holds is refused at load */
            mr_assert_failed("a message is held", __FILE__, __LINE__);
        case MR_VERDICT_RETRY:
        case MR_VERDICT_STOP:
            mr_worker_recover(worker, &err);
            break;
        }
    }
    if (!owned)
        worker->source->ops->release(worker->source, rec);
    if (paused && part->claimed && !mr_worker_start_source(worker, &err))
        mr_worker_recover(worker, &err);
}

/* So many processes were not heard of again after they began with this message that it is not given
 * to Lua once more. */
static void bury_unread(struct mr_worker *worker, struct mr_part *part, struct mr_record *rec)
{
    struct mr_error err;
    mr_error_reject(&err, "crash_loop",
                    "%d processes in a row ended, or lost their partitions, while they worked on "
                    "this message: it was not tried again",
                    part->attempts);
    mr_log(MR_WARN, "dead letter %s/%" PRId32 "@%" PRId64 " (crash_loop): %s", rec->topic,
           rec->partition, rec->offset, err.msg);
    struct mr_segment *segment = mr_unit_begin(&worker->unit, part, rec);
    mr_segment_bury(segment, worker->source, &err);
    segment->owns_record = true;
    mr_unit_end(&worker->unit, segment);
    part->position = segment->next_offset;
    mr_part_set_job(part, NULL);
}

/* What came before is decided, dropped messages too: if the next one kills us, be it of another
 * partition, the next owner begins with it, and what came before is not blamed. */
static bool settle(struct mr_worker *worker, const struct mr_part *part)
{
    struct mr_error err;
    if (!mr_unit_empty(&worker->unit) && !mr_worker_commit_unit(worker))
        return false;
    if (part->position == part->decided ||
        mr_delivery_advance(&worker->delivery, worker->parts, worker->n_parts, &err))
        return true;
    mr_worker_recover(worker, &err);
    return false;
}

static void on_record(struct mr_worker *worker, struct mr_record *rec)
{
    struct mr_part *part = mr_worker_find_part(worker, rec);
    if (!part || !part->claimed || rec->offset < part->position) {
        /* Rule R2: not ours (any more), or seen already. */
        mr_metric_add(worker->tally.stale, 1);
        worker->source->ops->release(worker->source, rec);
        return;
    }
    if (part->has_job && rec->offset > part->position) {
        mr_log(MR_WARN,
               "%s/%" PRId32 "@%" PRId64 " was in the middle of its fan-out and is gone "
               "from the topic; what was not sent yet stays unsent",
               rec->topic, rec->partition, part->position);
        mr_part_set_job(part, NULL);
    }
    mr_metric_add(worker->tally.messages, 1);
    if (part->careful && !settle(worker, part)) {
        worker->source->ops->release(worker->source, rec);
        return;
    }
    bool alone = part->careful > 0;
    if (!mr_worker_note_attempt(worker, part, rec->offset)) {
        worker->source->ops->release(worker->source, rec);
        return;
    }
    if (part->attempts >= CRASH_LOOP_AT && rec->offset == part->trying)
        bury_unread(worker, part, rec);
    else
        take_record(worker, part, rec);
    /* Looked up anew: a rebalance in a long fan-out has freed what we had. */
    part = alone ? mr_worker_find_part(worker, rec) : NULL;
    if (part)
        settle(worker, part);
}

/* One look at the source. True if something came. */
static bool poll_source(struct mr_worker *worker)
{
    struct mr_record rec;
    struct mr_error err;
    int timeout_ms = !mr_unit_empty(&worker->unit) ? 0
                     : worker->tried.there         ? DECISION_POLL_MS
                                                   : IDLE_POLL_MS;
    mr_watch_enter(&worker->watch, MR_PHASE_POLL);
    if (worker->claims_due) {
        int64_t due_ms = worker->claim_at_ms - mr_clock_mono_ms();
        timeout_ms = due_ms < 0 ? 0 : due_ms < IDLE_POLL_MS ? (int)due_ms : IDLE_POLL_MS;
    }
    switch (worker->source->ops->poll(worker->source, timeout_ms, &rec, &err)) {
    case MR_EVENT_NONE:
        return false;
    case MR_EVENT_RECORD:
        mr_worker_source_is_back(worker);
        mr_worker_heed_staleness(worker); /* the poll may have waited for long */
        if (worker->paused) {
            worker->source->ops->release(worker->source, &rec); /* comes again */
            return false;
        }
        on_record(worker, &rec);
        return true;
    case MR_EVENT_ASSIGNED:
        on_assigned(worker);
        return true;
    case MR_EVENT_REVOKED:
        on_revoked(worker);
        return true;
    case MR_EVENT_POSITION: {
        mr_worker_source_is_back(worker);
        struct mr_part *part = mr_worker_find_part(worker, &rec);
        if (part && part->claimed && !part->has_job && rec.offset > part->position)
            mr_worker_passed(worker, part, rec.offset);
        return false;
    }
    case MR_EVENT_ERROR:
        on_error(worker, &err);
        return false;
    }
    return false;
}

static void drain(struct mr_worker *worker)
{
    if (!worker->done && !mr_unit_empty(&worker->unit))
        mr_worker_commit_unit(worker);
    if (!worker->done)
        mr_worker_advance_if_due(worker, true);
}

void mr_worker_run(struct mr_worker *worker)
{
    char name[96];
    snprintf(name, sizeof name, "%s/%d", worker->options.pipeline, worker->options.index);
    mr_log_thread_name(name);
    if (mr_worker_open_all(worker))
        while (!mr_worker_stopping(worker)) {
            mr_worker_heed_offer(worker);
            mr_worker_swap_if_due(worker);
            mr_worker_heed_staleness(worker);
            bool busy = poll_source(worker);
            mr_worker_commit_if_due(worker, !busy);
            mr_worker_advance_if_due(worker, false);
            mr_worker_claim_due(worker);
            mr_worker_feel_pulse(worker);
            mr_worker_tick_if_due(worker);
        }
    if (worker->source)
        drain(worker);
    mr_worker_forget_attempts(worker);
    mr_watch_enter(&worker->watch, MR_PHASE_ENDED);
    mr_worker_close_all(worker);
    pthread_mutex_lock(&worker->lock);
    worker->status.ended = true;
    worker->status.exit_code = worker->exit_code;
    pthread_mutex_unlock(&worker->lock);
}

static void run(void *arg)
{
    mr_worker_run(arg);
}

struct mr_worker *mr_worker_new(const struct mr_worker_options *options, atomic_bool *stop)
{
    struct mr_worker *worker = mr_calloc(1, sizeof *worker);
    worker->options = *options;
    worker->stop = stop;
    worker->edition = mr_edition_acquire(options->edition);
    worker->offer.settled = true;
    pthread_mutex_init(&worker->lock, NULL);
    snprintf(worker->status.problem, sizeof worker->status.problem, "starting");
    mr_delivery_init(&worker->delivery, options->pipeline, &options->delivery);
    mr_unit_init(&worker->unit);
    worker->pipeline = (struct mr_pipeline){
        .lookup = options->lookup,
        .span = mr_span_new(),
        .unit_outputs = options->settings.unit_outputs,
        .unit_bytes = options->settings.unit_bytes,
        .max_message_bytes = options->settings.max_message_bytes,
    };
    mr_watch_init(&worker->watch, options->pipeline);
    worker->delivery.watch = &worker->watch;
    mr_tally_init(&worker->tally, options->pipeline);
    return worker;
}

struct mr_worker *mr_worker_start(const struct mr_worker_options *options, atomic_bool *stop)
{
    struct mr_worker *worker = mr_worker_new(options, stop);
    mr_thread_start(&worker->thread, run, worker);
    return worker;
}

int mr_worker_free(struct mr_worker *worker)
{
    int exit_code = worker->exit_code;
    mr_worker_forget_offers(worker); /* those that came after its end */
    pthread_mutex_destroy(&worker->lock);
    free(worker);
    return exit_code;
}

struct mr_watch *mr_worker_watch(struct mr_worker *worker)
{
    return &worker->watch;
}

struct mr_worker_status mr_worker_status(struct mr_worker *worker)
{
    pthread_mutex_lock(&worker->lock);
    struct mr_worker_status status = worker->status;
    pthread_mutex_unlock(&worker->lock);
    return status;
}

bool mr_worker_join(struct mr_worker *worker, int64_t deadline_mono_ms, int *exit_code)
{
    if (!mr_thread_join(&worker->thread, deadline_mono_ms))
        return false;
    *exit_code = mr_worker_free(worker);
    return true;
}
