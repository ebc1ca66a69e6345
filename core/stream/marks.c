/*
 * marks.c - positions that move without a unit: the ledger's, and Kafka's visible offsets.
 *
 * One worker thread. Owns nothing. Must not know Kafka or Postgres. In exactly_once an offset goes
 * to Kafka inside a transaction, and only that way: a plain commit that was delayed on its way
 * could take the unit number back. Tests: tests/unit/test_stream.c, tests/sim.
 */
#include "base/fault.h"
#include "stream/delivery.h"
#include "stream/mark.h"

#include <inttypes.h>
#include <stdlib.h>

void mr_delivery_reserve(struct mr_delivery *delivery, size_t n)
{
    size_t before = delivery->cap_steps;
    if (n <= before)
        return;
    size_t cap = delivery->cap_steps = n + 16;
    delivery->parts = mr_realloc(delivery->parts, cap * sizeof(struct mr_part *));
    delivery->steps = mr_realloc(delivery->steps, cap * sizeof *delivery->steps);
    delivery->marks = mr_realloc(delivery->marks, cap * sizeof *delivery->marks);
    delivery->jobs = mr_realloc(delivery->jobs, cap * sizeof *delivery->jobs);
    delivery->redos = mr_realloc(delivery->redos, cap * sizeof *delivery->redos);
    delivery->redo_bytes = mr_realloc(delivery->redo_bytes, cap * sizeof *delivery->redo_bytes);
    for (size_t i = before; i < cap; i++)
        delivery->redo_bytes[i] = (struct mr_buf){0};
}

const char *mr_delivery_ledger_id(const struct mr_delivery *delivery)
{
    return delivery->store ? delivery->store->ops->ledger_id(delivery->store) : MR_NO_LEDGER;
}

bool mr_delivery_put_mark(struct mr_delivery *delivery, size_t i, const struct mr_partition *at,
                          int64_t next_offset, int64_t unit, int64_t probe,
                          const struct mr_job_state *job, struct mr_error *err)
{
    struct mr_mark *mark = &delivery->marks[i];
    mark->at = *at;
    mark->next_offset = next_offset;
    const char *ledger_id = mr_delivery_ledger_id(delivery);
    if (mr_mark_format(mark->metadata, ledger_id, unit, probe, job))
        return true;
    /* With a ledger the fan-out's state is there too. */
    if (delivery->store && mr_mark_format(mark->metadata, ledger_id, unit, probe, NULL))
        return true;
    return mr_error_reject(err, "too_large",
                           "the keys of this message's fan-out do not fit into an offset's "
                           "metadata, where they are kept without a Postgres sink: with one they "
                           "would be kept in its ledger");
}

static bool send_in_transaction(struct mr_delivery *delivery, size_t n, struct mr_error *err)
{
    struct mr_sink *sink = delivery->sink;
    mr_watch_enter(delivery->watch, MR_PHASE_OFFSETS);
    if (!sink->ops->begin(sink, err) ||
        !sink->ops->offsets(sink, delivery->source, delivery->marks, n, err)) {
        sink->ops->abort(sink);
        return false;
    }
    mr_fault_point("offsets", "mark");
    mr_watch_enter(delivery->watch, MR_PHASE_COMMIT);
    if (!sink->ops->commit(sink, err)) {
        delivery->fenced = false;
        return false;
    }
    mr_fault_point("committed", "mark");
    return true;
}

bool mr_delivery_send_marks(struct mr_delivery *delivery, size_t n, struct mr_error *err)
{
    if (!n)
        return true;
    if (mr_delivery_transactional(delivery))
        return send_in_transaction(delivery, n, err);
    mr_watch_enter(delivery->watch, MR_PHASE_OFFSETS);
    return delivery->source->ops->commit(delivery->source, delivery->marks, n, err);
}

static int compare_steps(const void *a, const void *b)
{
    const struct mr_advance *x = a, *y = b;
    return mr_partition_compare(&x->at, &y->at);
}

/* A redo alone waits while a message is under suspicion: writing the position acquits it. */
static bool is_due(const struct mr_part *part)
{
    return part->claimed && !part->has_job &&
           (part->position != part->decided || (part->has_redo && !part->attempts));
}

static bool write_positions(struct mr_delivery *delivery, size_t n_steps, struct mr_error *err)
{
    struct mr_store *store = delivery->store;
    mr_watch_enter(delivery->watch, MR_PHASE_STORE);
    if (!store->ops->begin(store, delivery->steps, n_steps, err)) {
        store->ops->rollback(store);
        return false;
    }
    mr_fault_point("swapped", "advance");
    mr_watch_enter(delivery->watch, MR_PHASE_DECIDE);
    enum mr_decision decision = store->ops->commit(store, err);
    if (decision != MR_DECIDED) {
        if (decision == MR_IN_DOUBT)
            err->action = MR_RECOVER;
        store->ops->rollback(store);
        return false;
    }
    mr_fault_point("decided", "advance");
    return true;
}

bool mr_delivery_advance(struct mr_delivery *delivery, struct mr_part *parts, size_t n,
                         struct mr_error *err)
{
    size_t n_steps = 0;
    mr_delivery_reserve(delivery, n);
    for (size_t i = 0; i < n; i++)
        if (is_due(&parts[i]))
            delivery->steps[n_steps++] = (struct mr_advance){
                .at = parts[i].at,
                .epoch = parts[i].epoch,
                .unit = parts[i].unit,
                .new_unit = parts[i].unit,
                .next_offset = parts[i].position,
            };
    if (!n_steps)
        return true;
    qsort(delivery->steps, n_steps, sizeof *delivery->steps, compare_steps);
    if (delivery->store && !write_positions(delivery, n_steps, err))
        return false;
    for (size_t i = 0; i < n; i++)
        if (is_due(&parts[i])) {
            parts[i].decided = parts[i].position;
            parts[i].dropped = 0;
            parts[i].has_redo = parts[i].tried = false;
        }
    return true;
}

bool mr_delivery_mark(struct mr_delivery *delivery, struct mr_part *parts, size_t n,
                      struct mr_error *err)
{
    size_t n_marks = 0;
    mr_delivery_reserve(delivery, n);
    for (size_t i = 0; i < n; i++) {
        const struct mr_part *part = &parts[i];
        if (!part->claimed || part->marked_offset == part->decided)
            continue;
        struct mr_job_state job = mr_part_job(part);
        if (!mr_delivery_put_mark(delivery, n_marks, &part->at, part->decided, part->unit, 0,
                                  part->has_job ? &job : NULL, err))
            return false;
        n_marks++;
    }
    if (!mr_delivery_send_marks(delivery, n_marks, err))
        return false;
    for (size_t i = 0; i < n; i++)
        if (parts[i].claimed)
            parts[i].marked_offset = parts[i].decided;
    return true;
}
