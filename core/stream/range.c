/*
 * range.c - see range.h. The order of frames is that of the segments, then the dead letters.
 *
 * One worker thread. Owns nothing. Must not know Kafka, Postgres or the protocol (delivery.c).
 * Tests: tests/unit/test_stream.c.
 */
#include "stream/range.h"

#include "base/clock.h"
#include "base/fault.h"
#include "stream/redo.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static int compare_parts(const void *a, const void *b)
{
    const struct mr_part *x = *(struct mr_part *const *)a, *y = *(struct mr_part *const *)b;
    return mr_partition_compare(&x->at, &y->at);
}

static void list_parts(struct mr_delivery *delivery, struct mr_range *range)
{
    range->n_steps = 0;
    range->what = "unit";
    for (size_t i = range->lo; i < range->hi; i++) {
        const struct mr_segment *segment = &range->unit->segments[i];
        size_t s = 0;
        if (segment->has_job || segment->resumed)
            range->what = "chunk";
        else if (segment->dead)
            range->what = "dead";
        while (s < range->n_steps && delivery->parts[s] != segment->part)
            s++;
        if (s < range->n_steps)
            continue;
        mr_delivery_reserve(delivery, s + 1);
        delivery->parts[range->n_steps++] = segment->part;
    }
    qsort(delivery->parts, range->n_steps, sizeof(struct mr_part *), compare_parts);
}

static const struct mr_segment *last_of(const struct mr_range *range, const struct mr_part *part)
{
    size_t i = range->hi;
    while (range->unit->segments[--i].part != part)
        continue;
    return &range->unit->segments[i];
}

/* The mutant redo_recomputed: a unit that was decided is built once more, for Kafka alone. */
static bool recomputes(const struct mr_part *part, const struct mr_segment *segment)
{
    return mr_fault_mutant("redo_recomputed") && segment->rec.offset < part->recompute_until;
}

bool mr_range_plan(struct mr_delivery *delivery, struct mr_range *range, struct mr_error *err)
{
    range->rejected = range->hi;
    range->n_rows = range->n_frames = 0;
    list_parts(delivery, range);
    for (size_t s = 0; s < range->n_steps; s++) {
        const struct mr_part *part = delivery->parts[s];
        const struct mr_segment *segment = last_of(range, part);
        delivery->jobs[s] = mr_segment_job(segment);
        delivery->steps[s] = (struct mr_advance){
            .at = part->at,
            .epoch = part->epoch,
            .unit = part->unit,
            .new_unit = part->unit + (recomputes(part, segment) ? 0 : 1),
            .next_offset = segment->next_offset,
            .job = segment->has_job ? &delivery->jobs[s] : NULL,
        };
        range->recomputes = recomputes(part, segment);
        const struct mr_advance *step = &delivery->steps[s];
        if (!mr_delivery_put_mark(delivery, s, &step->at, step->next_offset, step->new_unit, 0,
                                  step->job, err)) {
            range->rejected = (size_t)(segment - range->unit->segments);
            return false;
        }
    }
    return true;
}

/* --- rows and dead letters --- */

bool mr_range_copy(struct mr_delivery *delivery, struct mr_range *range, struct mr_error *err)
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

bool mr_range_bury(struct mr_delivery *delivery, struct mr_range *range, struct mr_error *err)
{
    size_t n = 0;
    if (delivery->cap_letters < range->hi - range->lo) {
        delivery->cap_letters = range->hi - range->lo;
        delivery->letters =
            mr_realloc(delivery->letters, delivery->cap_letters * sizeof *delivery->letters);
        delivery->letter_jobs = mr_realloc(delivery->letter_jobs,
                                           delivery->cap_letters * sizeof *delivery->letter_jobs);
    }
    for (size_t i = range->lo; i < range->hi; i++) {
        const struct mr_segment *segment = &range->unit->segments[i];
        if (!segment->dead)
            continue;
        /* Of a chunk: the state from before it, so that a retry goes on there. */
        if (segment->resumed)
            delivery->letter_jobs[n] = mr_segment_resumed(segment);
        delivery->letters[n] = (struct mr_dead_letter){
            .rec = segment->rec,
            .class_ = segment->class_,
            .error = segment->error,
            .bundle = segment->bundle ? segment->bundle : "",
            .job = segment->resumed ? &delivery->letter_jobs[n] : NULL,
        };
        n++;
    }
    return !n || delivery->store->ops->bury(delivery->store, delivery->letters, n, err);
}

/* --- messages --- */

enum { CUT_KEY_BYTES = 1024 }; /* a longer key is left out with the message */

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
    char partition[16], offset[24], trigger[24], bytes[24];
    const struct mr_resumed *resumed = segment->resumed;
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
    enum { N_OURS = sizeof ours / sizeof *ours, N_RESUMED = 3 };
    struct mr_buf headers = {0};
    struct mr_bytes key = rec->key, value = rec->value;
    size_t n_theirs = rec->n_headers;
    if (segment->cut) { /* where it came from is told: it can be read there */
        snprintf(bytes, sizeof bytes, "%zu", value.len);
        put_header(&headers, "millrace-truncated", mr_bytes_of(bytes));
        value = (struct mr_bytes){0};
        key = key.len > CUT_KEY_BYTES ? (struct mr_bytes){0} : key;
        n_theirs = 0;
    }
    for (size_t i = 0; i < n_theirs; i++) {
        char *name = mr_strndup(rec->headers[i].name.ptr, rec->headers[i].name.len);
        put_header(&headers, name, rec->headers[i].value);
        free(name);
    }
    for (size_t i = 0; i < N_OURS; i++)
        put_header(&headers, ours[i].name, mr_bytes_of(ours[i].value));
    if (resumed) { /* what was sent of its fan-out stays; a retry goes on from here */
        snprintf(trigger, sizeof trigger, "%" PRId64, resumed->trigger_ms);
        put_header(&headers, "millrace-job-keys",
                   (struct mr_bytes){resumed->keys.ptr, resumed->keys.len});
        put_header(&headers, "millrace-job-cursor",
                   (struct mr_bytes){resumed->cursor.ptr, resumed->cursor.len});
        put_header(&headers, "millrace-job-trigger-ms", mr_bytes_of(trigger));
    }
    struct mr_frame frame = {
        .key_len = key.ptr ? (uint32_t)key.len : MR_ABSENT,
        .value_len = value.ptr ? (uint32_t)value.len : MR_ABSENT,
        .headers_len = (uint32_t)headers.len,
        .n_headers = (uint16_t)(n_theirs + N_OURS + segment->cut + (resumed ? N_RESUMED : 0)),
        .topic = (uint16_t)delivery->options.dead_topic,
        .timestamp_ms = rec->timestamp_ms,
    };
    mr_buf_put(&delivery->dead_frames, &frame, sizeof frame);
    mr_buf_put(&delivery->dead_frames, key.ptr, key.len);
    mr_buf_put(&delivery->dead_frames, headers.ptr, headers.len);
    mr_buf_put(&delivery->dead_frames, value.ptr, value.len);
    mr_buf_fini(&headers);
}

void mr_range_build_dead(struct mr_delivery *delivery, struct mr_range *range)
{
    mr_buf_reset(&delivery->dead_frames);
    for (size_t i = range->lo; delivery->options.dead_topic >= 0 && i < range->hi; i++) {
        struct mr_segment *segment = &range->unit->segments[i];
        if (!segment->dead)
            continue;
        segment->dead_from = delivery->dead_frames.len;
        put_dead_frame(delivery, segment);
        segment->dead_to = delivery->dead_frames.len;
    }
}

bool mr_range_produce(struct mr_delivery *delivery, struct mr_range *range, struct mr_error *err)
{
    struct mr_sink *sink = delivery->sink;
    const struct mr_unit *unit = range->unit;
    range->n_frames = 0;
    for (size_t i = range->lo; i < range->hi;) {
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
        if (frames.len && !sink->ops->produce(sink, frames, err))
            return false;
    }
    struct mr_bytes dead = {delivery->dead_frames.ptr, delivery->dead_frames.len};
    return !dead.len || sink->ops->produce(sink, dead, err);
}

size_t mr_range_blame(const struct mr_range *range, size_t bad)
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

/* --- redo --- */

static void add_slice(struct mr_delivery *delivery, size_t *n, struct mr_bytes slice)
{
    struct mr_bytes *last = *n ? &delivery->slices[*n - 1] : NULL;
    if (!slice.len)
        return;
    if (last && last->ptr + last->len == slice.ptr) {
        last->len += slice.len;
        return;
    }
    if (*n == delivery->cap_slices) {
        delivery->cap_slices = *n ? *n * 2 : 64;
        delivery->slices =
            mr_realloc(delivery->slices, delivery->cap_slices * sizeof *delivery->slices);
    }
    delivery->slices[(*n)++] = slice;
}

void mr_range_pack(struct mr_delivery *delivery, struct mr_range *range)
{
    const struct mr_unit *unit = range->unit;
    for (size_t s = 0; s < range->n_steps; s++) {
        size_t n = 0;
        uint32_t n_messages = 0;
        for (size_t i = range->lo; i < range->hi; i++) {
            const struct mr_segment *segment = &unit->segments[i];
            if (segment->part != delivery->parts[s])
                continue;
            if (!segment->dead) {
                add_slice(delivery, &n,
                          (struct mr_bytes){unit->frames.ptr + segment->from.frames,
                                            segment->to.frames - segment->from.frames});
                n_messages += segment->to.n_frames - segment->from.n_frames;
            } else if (delivery->options.dead_topic >= 0) {
                add_slice(delivery, &n,
                          (struct mr_bytes){delivery->dead_frames.ptr + segment->dead_from,
                                            segment->dead_to - segment->dead_from});
                n_messages++;
            }
        }
        mr_redo_pack(delivery->sink, delivery->slices, n, n_messages, &delivery->redo_bytes[s],
                     &delivery->redos[s]);
        delivery->steps[s].redo = &delivery->redos[s];
    }
}

/* --- after the decision --- */

void mr_range_settle(struct mr_delivery *delivery, const struct mr_range *range)
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
    for (size_t s = 0; s < range->n_steps; s++) {
        delivery->parts[s]->unit = delivery->steps[s].new_unit;
        delivery->parts[s]->has_redo = delivery->steps[s].redo != NULL;
        delivery->parts[s]->attempts = 0;
        delivery->parts[s]->tried = false;
    }
    mr_metric_add(delivery->counters.units, 1);
    mr_metric_set(delivery->counters.decided_at, (double)mr_clock_wall_ms() / 1000);
    mr_metric_add(delivery->counters.outputs, (double)range->n_frames);
    mr_metric_add(delivery->counters.rows, (double)range->n_rows);
}
