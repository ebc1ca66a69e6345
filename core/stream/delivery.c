/*
 * delivery.c - the commit protocol, at_least_once: see the picture in delivery.h.
 *
 * One worker thread. Owns its scratch memory only. Must not know Kafka, Postgres or Lua, nor read a
 * clock. Read mr_delivery_commit first, then deliver_range, then `decide`. Recovery is claim.c.
 * Tests: tests/unit/test_stream.c, tests/integration.
 */
#include "stream/delivery.h"

#include "base/clock.h"
#include "base/log.h"
#include "stream/mark.h"

#include <inttypes.h>
#include <stdio.h>
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
    };
}

void mr_delivery_fini(struct mr_delivery *delivery)
{
    free(delivery->steps);
    free(delivery->marks);
    free(delivery->jobs);
    free(delivery->runs);
    free(delivery->letters);
    mr_buf_fini(&delivery->dead_frames);
    mr_buf_fini(&delivery->labels);
}

static void reserve_steps(struct mr_delivery *delivery, size_t n)
{
    if (n <= delivery->cap_steps)
        return;
    delivery->cap_steps = n + 16;
    delivery->steps = mr_realloc(delivery->steps, delivery->cap_steps * sizeof *delivery->steps);
    delivery->marks = mr_realloc(delivery->marks, delivery->cap_steps * sizeof *delivery->marks);
    delivery->jobs = mr_realloc(delivery->jobs, delivery->cap_steps * sizeof *delivery->jobs);
}

static int compare_steps(const void *a, const void *b)
{
    const struct mr_advance *x = a, *y = b;
    int order = strcmp(x->at.topic, y->at.topic);
    return order ? order
                 : (x->at.partition > y->at.partition) - (x->at.partition < y->at.partition);
}

/* A range of segments [lo, hi) on its way out. */
struct range {
    struct mr_unit *unit;
    size_t lo, hi;
    size_t n_steps;
    size_t n_frames, n_rows; /* that are alive */
    size_t rejected;         /* segment that a sink named as being at fault; hi if none */
};

/* One step a partition: the last segment of it in the range says how far. */
static void plan_steps(struct mr_delivery *delivery, struct range *range)
{
    range->n_steps = 0;
    for (size_t i = range->lo; i < range->hi; i++) {
        const struct mr_segment *segment = &range->unit->segments[i];
        const struct mr_part *part = segment->part;
        size_t s = 0;
        while (s < range->n_steps && !(delivery->steps[s].at.topic == part->at.topic &&
                                       delivery->steps[s].at.partition == part->at.partition))
            s++;
        reserve_steps(delivery, s + 1);
        delivery->jobs[s] = mr_segment_job(segment);
        delivery->steps[s] = (struct mr_advance){
            .at = part->at,
            .epoch = part->epoch,
            .unit = part->unit,
            .new_unit = part->unit + 1,
            .next_offset = segment->next_offset,
            .job = segment->has_job ? &delivery->jobs[s] : NULL,
        };
        if (s == range->n_steps)
            range->n_steps++;
    }
    /* `jobs` may have moved while it grew. */
    for (size_t s = 0; s < range->n_steps; s++)
        if (delivery->steps[s].job)
            delivery->steps[s].job = &delivery->jobs[s];
    qsort(delivery->steps, range->n_steps, sizeof *delivery->steps, compare_steps);
}

static bool copy_rows(struct mr_delivery *delivery, struct range *range, struct mr_error *err)
{
    const struct mr_unit *unit = range->unit;
    size_t n = 0;
    range->n_rows = 0;
    if (delivery->cap_runs < unit->n_runs) {
        delivery->cap_runs = unit->n_runs * 2;
        delivery->runs = mr_realloc(delivery->runs, delivery->cap_runs * sizeof *delivery->runs);
    }
    for (size_t i = range->lo; i < range->hi; i++) {
        const struct mr_segment *segment = &unit->segments[i];
        if (segment->dead)
            continue;
        for (size_t r = segment->from.runs; r < segment->to.runs; r++) {
            const struct mr_unit_run *run = &unit->runs[r];
            size_t end = r + 1 < segment->to.runs ? unit->runs[r + 1].from : segment->to.rows;
            struct mr_bytes rows = {unit->rows.ptr + run->from, end - run->from};
            struct mr_row_run *last = n ? &delivery->runs[n - 1] : NULL;
            range->n_rows += run->n;
            if (last && last->set == run->set && last->rows.ptr + last->rows.len == rows.ptr) {
                last->rows.len += rows.len;
                last->n += run->n;
            } else {
                delivery->runs[n++] = (struct mr_row_run){run->set, rows, run->n};
            }
        }
    }
    return !n || delivery->store->ops->copy(delivery->store, delivery->runs, n, err);
}

static bool bury_dead(struct mr_delivery *delivery, struct range *range, struct mr_error *err)
{
    size_t n = 0;
    for (size_t i = range->lo; i < range->hi; i++) {
        const struct mr_segment *segment = &range->unit->segments[i];
        if (!segment->dead)
            continue;
        if (n == delivery->cap_letters) {
            delivery->cap_letters = n ? n * 2 : 16;
            delivery->letters =
                mr_realloc(delivery->letters, delivery->cap_letters * sizeof *delivery->letters);
        }
        delivery->letters[n++] = (struct mr_dead_letter){
            .rec = segment->rec,
            .class_ = segment->class_,
            .error = segment->error,
            .bundle = segment->bundle ? segment->bundle : "",
        };
    }
    return !n || delivery->store->ops->bury(delivery->store, delivery->letters, n, err);
}

/* The store's part up to the last moment at which it can refuse data. */
static bool ask_store(struct mr_delivery *delivery, struct range *range, struct mr_error *err)
{
    struct mr_store *store = delivery->store;
    return store->ops->begin(store, delivery->steps, range->n_steps, err) &&
           copy_rows(delivery, range, err) &&
           (delivery->options.dead_topic >= 0 || bury_dead(delivery, range, err)) &&
           store->ops->check(store, err);
}

static void put_header(struct mr_buf *out, const char *name, struct mr_bytes value)
{
    uint32_t name_len = (uint32_t)strlen(name);
    uint32_t value_len = value.ptr ? (uint32_t)value.len : MR_ABSENT;
    mr_buf_put(out, &name_len, sizeof name_len);
    mr_buf_put(out, &value_len, sizeof value_len);
    mr_buf_put(out, name, name_len);
    mr_buf_put(out, value.ptr, value.len);
}

/* A dead letter as a message: the original key, value and headers, and ours that say what happened.
 */
static void put_dead_frame(struct mr_delivery *delivery, const struct mr_segment *segment)
{
    const struct mr_record *rec = &segment->rec;
    char partition[16], offset[24];
    snprintf(partition, sizeof partition, "%" PRId32, rec->partition);
    snprintf(offset, sizeof offset, "%" PRId64, rec->offset);
    const struct {
        const char *name, *value;
    } ours[] = {{"millrace-class", segment->class_},
                {"millrace-error", segment->error},
                {"millrace-topic", rec->topic},
                {"millrace-partition", partition},
                {"millrace-offset", offset},
                {"millrace-group", delivery->options.group},
                {"millrace-bundle", segment->bundle ? segment->bundle : ""}};
    enum { N_OURS = sizeof ours / sizeof *ours };
    struct mr_buf headers = {0};
    for (size_t i = 0; i < rec->n_headers; i++) {
        char *name = mr_strndup(rec->headers[i].name.ptr, rec->headers[i].name.len);
        put_header(&headers, name, rec->headers[i].value);
        free(name);
    }
    for (size_t i = 0; i < N_OURS; i++)
        put_header(&headers, ours[i].name, mr_bytes_of(ours[i].value));
    struct mr_frame frame = {
        .key_len = rec->key.ptr ? (uint32_t)rec->key.len : MR_ABSENT,
        .value_len = rec->value.ptr ? (uint32_t)rec->value.len : MR_ABSENT,
        .headers_len = (uint32_t)headers.len,
        .n_headers = (uint16_t)(rec->n_headers + N_OURS),
        .topic = (uint16_t)delivery->options.dead_topic,
        .timestamp_ms = rec->timestamp_ms,
    };
    mr_buf_put(&delivery->dead_frames, &frame, sizeof frame);
    mr_buf_put(&delivery->dead_frames, rec->key.ptr, rec->key.len);
    mr_buf_put(&delivery->dead_frames, headers.ptr, headers.len);
    mr_buf_put(&delivery->dead_frames, rec->value.ptr, rec->value.len);
    mr_buf_fini(&headers);
}

/* The segment that holds the `bad`-th frame of those sent by send_frames, in the same order. */
static size_t blame(const struct range *range, size_t bad)
{
    for (size_t i = range->lo; i < range->hi; i++) {
        const struct mr_segment *segment = &range->unit->segments[i];
        size_t n = segment->dead ? 0 : segment->to.n_frames - segment->from.n_frames;
        if (bad < n)
            return i;
        bad -= n;
    }
    return range->hi;
}

static bool send_frames(struct mr_delivery *delivery, struct range *range, struct mr_error *err)
{
    struct mr_sink *sink = delivery->sink;
    const struct mr_unit *unit = range->unit;
    bool ok = true;
    range->n_frames = 0;
    mr_buf_reset(&delivery->dead_frames);
    for (size_t i = range->lo; ok && i < range->hi;) {
        const struct mr_segment *first = &unit->segments[i];
        if (first->dead) {
            i++;
            continue;
        }
        const struct mr_segment *last = first;
        while (++i < range->hi && !unit->segments[i].dead)
            last = &unit->segments[i];
        range->n_frames += last->to.n_frames - first->from.n_frames;
        struct mr_bytes frames = {unit->frames.ptr + first->from.frames,
                                  last->to.frames - first->from.frames};
        ok = !frames.len || sink->ops->produce(sink, frames, err);
    }
    if (ok && delivery->options.dead_topic >= 0) {
        for (size_t i = range->lo; i < range->hi; i++)
            if (unit->segments[i].dead)
                put_dead_frame(delivery, &unit->segments[i]);
        ok =
            !delivery->dead_frames.len ||
            sink->ops->produce(
                sink, (struct mr_bytes){delivery->dead_frames.ptr, delivery->dead_frames.len}, err);
    }
    size_t bad = 0;
    ok = ok && sink->ops->flush(sink, delivery->options.flush_timeout_ms, &bad, err);
    if (!ok) {
        if (err->action == MR_REJECT)
            range->rejected = blame(range, bad);
        sink->ops->abort(sink);
    }
    return ok;
}

/* Postgres has decided (or there is none): our state follows, then Kafka's visible offsets. */
static bool settle(struct mr_delivery *delivery, const struct range *range, struct mr_error *err)
{
    for (size_t i = range->lo; i < range->hi; i++) {
        const struct mr_segment *segment = &range->unit->segments[i];
        struct mr_part *part = segment->part;
        struct mr_job_state job = mr_segment_job(segment);
        part->decided = segment->next_offset;
        if (segment->dead && part->position < part->decided)
            part->position = part->decided; /* of a chunk: the rest of the message is settled too */
        mr_part_set_job(part, segment->has_job ? &job : NULL);
    }
    for (size_t s = 0; s < range->n_steps; s++)
        for (size_t i = range->lo; i < range->hi; i++) {
            struct mr_part *part = range->unit->segments[i].part;
            if (part->at.topic == delivery->steps[s].at.topic &&
                part->at.partition == delivery->steps[s].at.partition) {
                part->unit = delivery->steps[s].new_unit;
                break;
            }
        }
    mr_metric_add(delivery->counters.units, 1);
    mr_metric_set(delivery->counters.decided_at, (double)mr_clock_wall_ms() / 1000);
    mr_metric_add(delivery->counters.outputs, (double)range->n_frames);
    mr_metric_add(delivery->counters.rows, (double)range->n_rows);
    for (size_t s = 0; s < range->n_steps; s++) {
        const struct mr_advance *step = &delivery->steps[s];
        delivery->marks[s] = (struct mr_mark){.at = step->at, .next_offset = step->next_offset};
        mr_mark_format(delivery->marks[s].metadata,
                       delivery->store ? delivery->store->ops->ledger_id(delivery->store)
                                       : "00000000",
                       step->new_unit);
    }
    if (!delivery->source->ops->commit(delivery->source, delivery->marks, range->n_steps, err)) {
        /* Decided all the same: claim will find unit - 1 in Kafka and send the offset again. */
        if (err->action != MR_STOP)
            err->action = MR_RECOVER;
        return mr_error_context(err, "unit decided, its offset not yet in Kafka");
    }
    for (size_t i = range->lo; i < range->hi; i++) {
        struct mr_part *part = range->unit->segments[i].part;
        part->marked_offset = part->decided;
    }
    return true;
}

/* One transaction for the range. False with REJECT: nothing happened, data of some segment is at
 * fault. */
static bool deliver_range(struct mr_delivery *delivery, struct range *range, struct mr_error *err)
{
    struct mr_store *store = delivery->store;
    range->rejected = range->hi;
    range->n_rows = range->n_frames = 0;
    plan_steps(delivery, range);
    if ((store && !ask_store(delivery, range, err)) ||
        (delivery->sink && !send_frames(delivery, range, err))) {
        if (store)
            store->ops->rollback(store);
        return false;
    }
    if (store)
        switch (store->ops->commit(store, err)) {
        case MR_DECIDED:
            break;
        case MR_ROLLED_BACK:
            store->ops->rollback(store);
            return false;
        case MR_IN_DOUBT:
            err->action = MR_RECOVER;
            return false;
        }
    return settle(delivery, range, err);
}

/*
 * Delivers [lo, hi); where data is refused, halves until the message at fault stands alone, and
 * buries that one. What stands before it is decided on the way, in order.
 */
static bool deliver(struct mr_delivery *delivery, struct mr_unit *unit, size_t lo, size_t hi,
                    struct mr_error *err)
{
    struct range range = {.unit = unit, .lo = lo, .hi = hi};
    if (deliver_range(delivery, &range, err))
        return true;
    if (err->action != MR_REJECT)
        return false;
    size_t at_fault = hi - lo == 1 ? lo : range.rejected;
    if (at_fault < hi) {
        struct mr_segment *segment = &unit->segments[at_fault];
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
            return deliver(delivery, unit, lo, hi, err);
        /* Halved all the same: were the whole sent again for each message at fault, a unit with
         * many would go out as many times. */
    }
    size_t middle = lo + (hi - lo) / 2;
    return deliver(delivery, unit, lo, middle, err) && deliver(delivery, unit, middle, hi, err);
}

bool mr_delivery_commit(struct mr_delivery *delivery, struct mr_unit *unit, struct mr_error *err)
{
    mr_assert(!mr_unit_empty(unit));
    return deliver(delivery, unit, 0, unit->n_segments, err);
}

bool mr_delivery_advance(struct mr_delivery *delivery, struct mr_part *parts, size_t n,
                         struct mr_error *err)
{
    struct mr_store *store = delivery->store;
    size_t n_steps = 0;
    reserve_steps(delivery, n);
    for (size_t i = 0; i < n; i++) {
        struct mr_part *part = &parts[i];
        if (!part->claimed || part->position == part->decided || part->has_job)
            continue;
        delivery->steps[n_steps++] = (struct mr_advance){
            .at = part->at,
            .epoch = part->epoch,
            .unit = part->unit,
            .new_unit = part->unit,
            .next_offset = part->position,
        };
    }
    if (!n_steps)
        return true;
    qsort(delivery->steps, n_steps, sizeof *delivery->steps, compare_steps);
    if (store) {
        if (!store->ops->begin(store, delivery->steps, n_steps, err)) {
            store->ops->rollback(store);
            return false;
        }
        enum mr_decision decision = store->ops->commit(store, err);
        if (decision != MR_DECIDED) {
            if (decision == MR_IN_DOUBT)
                err->action = MR_RECOVER;
            store->ops->rollback(store);
            return false;
        }
    }
    for (size_t i = 0; i < n; i++)
        if (parts[i].claimed && !parts[i].has_job) {
            parts[i].decided = parts[i].position;
            parts[i].dropped = 0;
        }
    return true;
}

bool mr_delivery_mark(struct mr_delivery *delivery, struct mr_part *parts, size_t n,
                      struct mr_error *err)
{
    size_t n_marks = 0;
    reserve_steps(delivery, n);
    for (size_t i = 0; i < n; i++) {
        const struct mr_part *part = &parts[i];
        if (!part->claimed || part->marked_offset == part->decided)
            continue;
        struct mr_mark *mark = &delivery->marks[n_marks++];
        *mark = (struct mr_mark){.at = part->at, .next_offset = part->decided};
        mr_mark_format(mark->metadata,
                       delivery->store ? delivery->store->ops->ledger_id(delivery->store)
                                       : "00000000",
                       part->unit);
    }
    if (n_marks && !delivery->source->ops->commit(delivery->source, delivery->marks, n_marks, err))
        return false;
    for (size_t i = 0; i < n; i++)
        if (parts[i].claimed) {
            parts[i].marked_offset = parts[i].decided;
        }
    return true;
}
