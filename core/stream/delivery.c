/*
 * delivery.c - the commit protocol: see the picture in delivery.h.
 *
 * One worker thread. Owns its scratch memory only. Must not know Kafka, Postgres or Lua. Read
 * mr_delivery_commit first, then deliver, then deliver_range and the two ways below it. What a
 * range consists of is range.c's; recovery is claim.c's. Tests: tests/unit/test_stream.c,
 * tests/sim, tests/fault, tests/integration.
 */
#include "stream/delivery.h"

#include "base/clock.h"
#include "base/fault.h"
#include "stream/range.h"

#include <inttypes.h>
#include <stdlib.h>

void mr_delivery_init(struct mr_delivery *delivery, const char *pipeline,
                      const struct mr_delivery_options *options)
{
    *delivery = (struct mr_delivery){.options = *options};
    mr_metrics_label(&delivery->labels, "pipeline", pipeline);
    const char *labels = mr_buf_cstr(&delivery->labels);
    delivery->counters = (struct mr_delivery_counters){
        .units = mr_metrics_get(MR_COUNTER, "millrace_units_total", "Units decided.", labels),
        .decided_at = mr_metrics_get(MR_GAUGE, "millrace_last_unit_timestamp_seconds",
                                     "When the last unit was decided, 0 if none was.", labels),
        .outputs = mr_metrics_get(MR_COUNTER, "millrace_outputs_total",
                                  "Messages delivered to Kafka by decided units.", labels),
        .rows = mr_metrics_get(MR_COUNTER, "millrace_rows_total",
                               "Rows delivered to Postgres by decided units.", labels),
        .claims = mr_metrics_get(MR_COUNTER, "millrace_claims_total",
                                 "Partitions claimed: at start, at assign, after errors.", labels),
        .marks_again =
            mr_metrics_get(MR_COUNTER, "millrace_marks_recovered_total",
                           "Decided units whose offset reached Kafka only by a claim.", labels),
        .redos = mr_metrics_get(MR_COUNTER, "millrace_redos_total",
                                "Decided units whose messages reached Kafka only by a claim, from "
                                "the bytes kept in the ledger.",
                                labels),
    };
}

void mr_delivery_fini(struct mr_delivery *delivery)
{
    for (size_t i = 0; i < delivery->cap_steps; i++)
        mr_buf_fini(&delivery->redo_bytes[i]);
    free(delivery->parts);
    free(delivery->steps);
    free(delivery->marks);
    free(delivery->jobs);
    free(delivery->redos);
    free(delivery->redo_bytes);
    free(delivery->runs);
    free(delivery->letters);
    free(delivery->letter_jobs);
    free(delivery->slices);
    mr_buf_fini(&delivery->dead_frames);
    mr_buf_fini(&delivery->redo_frames);
    mr_buf_fini(&delivery->labels);
}

/* --- the steps of both ways --- */

static void enter(struct mr_delivery *delivery, enum mr_phase phase)
{
    mr_watch_enter(delivery->watch, phase);
}

static void passed(const struct mr_range *range, const char *point)
{
    mr_fault_point(point, range->what);
}

/* The unit's time counts from here: a producer that had to be made anew first is not its fault. */
static bool begin_messages(struct mr_delivery *delivery, struct mr_range *range,
                           struct mr_error *err)
{
    enter(delivery, MR_PHASE_PRODUCE);
    bool ok = delivery->sink->ops->begin(delivery->sink, err);
    range->began_ms = mr_clock_mono_ms();
    return ok;
}

/* With transactions the offsets go out beside the messages; send_offsets waits for them. */
static bool produce(struct mr_delivery *delivery, struct mr_range *range, struct mr_error *err)
{
    struct mr_sink *sink = delivery->sink;
    enter(delivery, MR_PHASE_PRODUCE);
    if (!mr_range_produce(delivery, range, err))
        return false;
    if (mr_delivery_transactional(delivery) && !mr_fault_mutant("commit_without_offsets"))
        sink->ops->begin_offsets(sink, delivery->source, delivery->marks, range->n_steps);
    passed(range, "produced");
    return true;
}

/* The store's part up to the last moment at which it can refuse data. */
static bool ask_store(struct mr_delivery *delivery, struct mr_range *range, struct mr_error *err)
{
    struct mr_store *store = delivery->store;
    enter(delivery, MR_PHASE_STORE);
    if (!store->ops->begin(store, delivery->steps, range->n_steps, err))
        return false;
    passed(range, "swapped");
    if (!mr_range_copy(delivery, range, err) ||
        (delivery->options.dead_topic < 0 && !mr_range_bury(delivery, range, err)))
        return false;
    passed(range, "copied");
    return store->ops->check(store, err);
}

static bool flush(struct mr_delivery *delivery, struct mr_range *range, struct mr_error *err)
{
    size_t bad = 0;
    enter(delivery, MR_PHASE_FLUSH);
    if (!delivery->sink->ops->flush(delivery->sink, delivery->options.flush_timeout_ms, &bad,
                                    err)) {
        if (err->action == MR_REJECT)
            range->rejected = mr_range_blame(range, bad);
        return false;
    }
    passed(range, "flushed");
    return true;
}

static bool send_offsets(struct mr_delivery *delivery, struct mr_range *range, struct mr_error *err)
{
    enter(delivery, MR_PHASE_OFFSETS);
    if (!mr_fault_mutant("commit_without_offsets") &&
        !delivery->sink->ops->offsets(delivery->sink, delivery->source, delivery->marks,
                                      range->n_steps, err))
        return false;
    passed(range, "offsets");
    return true;
}

/* Kafka's commit. False: whether it happened is for the claim to find out. */
static bool commit_messages(struct mr_delivery *delivery, const struct mr_range *range,
                            struct mr_error *err)
{
    enter(delivery, MR_PHASE_COMMIT);
    if (!delivery->sink->ops->commit(delivery->sink, err)) {
        delivery->fenced = false;
        return false;
    }
    passed(range, "committed");
    return true;
}

/* Nothing of it has happened: makes sure. */
static bool undo(struct mr_delivery *delivery)
{
    if (delivery->sink)
        delivery->sink->ops->abort(delivery->sink);
    if (delivery->store)
        delivery->store->ops->rollback(delivery->store);
    return false;
}

/* COMMIT. False, *err: undone for certain (then *undone), or in doubt. */
static bool decide(struct mr_delivery *delivery, const struct mr_range *range, bool *undone,
                   struct mr_error *err)
{
    *undone = false;
    enter(delivery, MR_PHASE_DECIDE);
    switch (delivery->store->ops->commit(delivery->store, err)) {
    case MR_DECIDED:
        passed(range, "decided");
        return true;
    case MR_ROLLED_BACK:
        *undone = true;
        return false;
    case MR_IN_DOUBT:
        err->action = MR_RECOVER;
        break;
    }
    return false;
}

static void mark_parts(struct mr_delivery *delivery, const struct mr_range *range)
{
    for (size_t s = 0; s < range->n_steps; s++)
        delivery->parts[s]->marked_offset = delivery->parts[s]->decided;
}

static bool decided_only(struct mr_error *err)
{
    if (err->action != MR_STOP)
        err->action = MR_RECOVER;
    return mr_error_context(err, "the unit is decided, but Kafka has not confirmed it yet");
}

/* --- at_least_once, and whatever has no sink --- */

static bool deliver_plainly(struct mr_delivery *delivery, struct mr_range *range,
                            struct mr_error *err)
{
    bool undone;
    if ((delivery->store && !ask_store(delivery, range, err)) ||
        (delivery->sink && !(produce(delivery, range, err) && flush(delivery, range, err))))
        return undo(delivery);
    if (delivery->store && !decide(delivery, range, &undone, err))
        return undone ? undo(delivery) : false;
    mr_range_settle(delivery, range);
    enter(delivery, MR_PHASE_OFFSETS);
    if (!delivery->source->ops->commit(delivery->source, delivery->marks, range->n_steps, err))
        return decided_only(
            err); /* the claim will find unit - 1 in Kafka: sends the offset again */
    mark_parts(delivery, range);
    passed(range, "marked");
    return true;
}

/* --- exactly_once --- */

/* What is decided says when it was built: not long ago. */
static bool is_stale(const struct mr_delivery *delivery, const struct mr_range *range,
                     struct mr_error *err)
{
    int64_t took_ms = mr_clock_mono_ms() - range->began_ms;
    if (!delivery->options.decide_within_ms || took_ms < delivery->options.decide_within_ms ||
        delivery->smallest)
        return false;
    mr_error_set(err, MR_RETRY, MR_EXIT_UNREACHABLE,
                 "a unit took %" PRId64 " ms to be written to Kafka and Postgres, at most %d are "
                 "allowed: it is undone and built again, smaller",
                 took_ms, delivery->options.decide_within_ms);
    return true;
}

/*
 * `careful`: the store is asked before anything is produced, so that its refusals cost Kafka
 * nothing; otherwise Kafka takes messages while Postgres takes rows.
 */
static bool prepare(struct mr_delivery *delivery, struct mr_range *range, bool careful,
                    struct mr_error *err)
{
    if (careful && delivery->store) {
        mr_range_build_dead(delivery, range);
        mr_range_pack(delivery, range);
        return ask_store(delivery, range, err) && begin_messages(delivery, range, err) &&
               produce(delivery, range, err);
    }
    if (!begin_messages(delivery, range, err))
        return false;
    mr_range_build_dead(delivery, range);
    if (!produce(delivery, range, err))
        return false;
    if (!delivery->store || range->recomputes)
        return true;
    mr_range_pack(delivery, range);
    return ask_store(delivery, range, err);
}

static bool deliver_exactly(struct mr_delivery *delivery, struct mr_range *range, bool careful,
                            struct mr_error *err)
{
    bool undone;
    if (!prepare(delivery, range, careful, err) || !flush(delivery, range, err) ||
        !send_offsets(delivery, range, err) || is_stale(delivery, range, err))
        return undo(delivery);
    if (!delivery->store || range->recomputes) { /* Kafka's commit is the decision */
        if (!commit_messages(delivery, range, err))
            return false;
        mr_range_settle(delivery, range);
        mark_parts(delivery, range);
        return true;
    }
    if (mr_fault_mutant("kafka_first") && !commit_messages(delivery, range, err))
        return false;
    /* From here on nothing is aborted by choice: what was decided is finished, here or by the next
     * claim. */
    if (!decide(delivery, range, &undone, err)) {
        if (undone)
            return undo(delivery);
        delivery->fenced = false;
        return false;
    }
    mr_range_settle(delivery, range);
    if (!mr_fault_mutant("kafka_first") && !commit_messages(delivery, range, err))
        return decided_only(err);
    mark_parts(delivery, range);
    return true;
}

/* One transaction for the range. False with REJECT: nothing happened, data of some segment is at
 * fault. */
static bool deliver_range(struct mr_delivery *delivery, struct mr_range *range, bool careful,
                          struct mr_error *err)
{
    if (!mr_range_plan(delivery, range, err))
        return false;
    passed(range, "built");
    if (mr_delivery_transactional(delivery))
        return deliver_exactly(delivery, range, careful, err);
    mr_range_build_dead(delivery, range);
    return deliver_plainly(delivery, range, err);
}

/*
 * Delivers [lo, hi); where data is refused, halves until the message at fault stands alone, and
 * buries that one. What stands before it is decided on the way, in order.
 */
static bool deliver(struct mr_delivery *delivery, struct mr_unit *unit, size_t lo, size_t hi,
                    bool careful, struct mr_error *err)
{
    struct mr_range range = {.unit = unit, .lo = lo, .hi = hi};
    if (deliver_range(delivery, &range, careful, err))
        return true;
    if (err->action != MR_REJECT)
        return false;
    size_t at_fault = hi - lo == 1 ? lo : range.rejected;
    if (at_fault < hi) {
        struct mr_segment *segment = &unit->segments[at_fault];
        if (segment->dead && !segment->cut && delivery->options.dead_topic >= 0 &&
            strcmp(err->class_, "too_large") == 0) {
            segment->cut = true;
            return deliver(delivery, unit, lo, hi, true, err);
        }
        if (segment->dead) {
            /* The dead letter itself was refused: no message is at fault any more. */
            err->action = MR_STOP;
            err->code = MR_EXIT_DATA;
            return mr_error_context(err, "the dead letter of %s/%" PRId32 "@%" PRId64 " is refused",
                                    segment->rec.topic, segment->rec.partition,
                                    segment->rec.offset);
        }
        mr_segment_bury(segment, delivery->source, err);
        if (hi - lo == 1)
            return deliver(delivery, unit, lo, hi, true, err);
        /* Halved all the same: were the whole sent again for each message at fault, a unit with
         * many would go out as many times. */
    }
    size_t middle = lo + (hi - lo) / 2;
    return deliver(delivery, unit, lo, middle, true, err) &&
           deliver(delivery, unit, middle, hi, true, err);
}

bool mr_delivery_commit(struct mr_delivery *delivery, struct mr_unit *unit, struct mr_error *err)
{
    mr_assert(!mr_unit_empty(unit));
    return deliver(delivery, unit, 0, unit->n_segments, false, err);
}

void mr_delivery_abandon(struct mr_delivery *delivery)
{
    if (delivery->sink)
        delivery->sink->ops->abort(delivery->sink);
    if (delivery->store)
        delivery->store->ops->reset(delivery->store);
    delivery->fenced = false;
    delivery->ended_owner[0] = '\0';
}
