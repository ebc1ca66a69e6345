/*
 * unit.c - building a unit: segments over two bufs.
 *
 * One worker thread. Owns bufs, segments and the records given to it. Must not know how a unit is
 * delivered (delivery.c) or what is in it. Tests: tests/unit/test_stream.c.
 */
#include "stream/unit.h"

#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>

/* After an oversized unit (one huge message) the bufs are given back, so that peaks do not stay. */
enum { KEEP_BYTES = 24 * 1024 * 1024 };

void mr_unit_init(struct mr_unit *unit)
{
    *unit = (struct mr_unit){0};
}

static struct mr_resumed *resume(const struct mr_part *part)
{
    if (!part->has_job)
        return NULL;
    struct mr_resumed *resumed = mr_calloc(1, sizeof *resumed);
    mr_buf_put(&resumed->keys, part->job_keys.ptr, part->job_keys.len);
    mr_buf_put(&resumed->cursor, part->job_cursor.ptr, part->job_cursor.len);
    resumed->trigger_ms = part->job_trigger_ms;
    return resumed;
}

static void forget(struct mr_segment *segment)
{
    free(segment->error);
    mr_buf_fini(&segment->job_keys);
    mr_buf_fini(&segment->job_cursor);
    if (segment->resumed) {
        mr_buf_fini(&segment->resumed->keys);
        mr_buf_fini(&segment->resumed->cursor);
        free(segment->resumed);
    }
}

static void clear_segment(struct mr_segment *segment, struct mr_source *source)
{
    if (segment->owns_record)
        source->ops->release(source, &segment->rec);
    forget(segment);
}

static void shrink(struct mr_buf *buf)
{
    mr_buf_reset(buf);
    if (buf->cap > KEEP_BYTES)
        mr_buf_fini(buf);
}

void mr_unit_reset(struct mr_unit *unit, struct mr_source *source)
{
    for (size_t i = 0; i < unit->n_segments; i++)
        clear_segment(&unit->segments[i], source);
    shrink(&unit->frames);
    shrink(&unit->rows);
    unit->n_segments = unit->n_runs = 0;
    unit->n_frames = 0;
    unit->n_outputs = 0;
    unit->dead_bytes = 0;
}

void mr_unit_fini(struct mr_unit *unit, struct mr_source *source)
{
    mr_unit_reset(unit, source);
    mr_buf_fini(&unit->frames);
    mr_buf_fini(&unit->rows);
    free(unit->runs);
    free(unit->segments);
    *unit = (struct mr_unit){0};
}

static struct mr_unit_extent extent(const struct mr_unit *unit)
{
    return (struct mr_unit_extent){unit->frames.len, unit->rows.len, unit->n_runs, unit->n_frames,
                                   unit->n_outputs};
}

struct mr_segment *mr_unit_begin(struct mr_unit *unit, struct mr_part *part,
                                 const struct mr_record *rec)
{
    if (unit->n_segments == unit->cap_segments) {
        unit->cap_segments = unit->cap_segments ? unit->cap_segments * 2 : 64;
        unit->segments = mr_realloc(unit->segments, unit->cap_segments * sizeof *unit->segments);
    }
    if (mr_unit_empty(unit))
        unit->opened_ms = mr_clock_mono_ms();
    struct mr_segment *segment = &unit->segments[unit->n_segments++];
    *segment = (struct mr_segment){.part = part, .rec = *rec, .next_offset = rec->offset + 1};
    segment->resumed = resume(part);
    segment->from = segment->to = extent(unit);
    return segment;
}

void mr_unit_end(struct mr_unit *unit, struct mr_segment *segment)
{
    segment->to = extent(unit);
}

void mr_unit_undo(struct mr_unit *unit)
{
    struct mr_segment *segment = &unit->segments[--unit->n_segments];
    unit->frames.len = segment->from.frames;
    unit->rows.len = segment->from.rows;
    unit->n_runs = segment->from.runs;
    unit->n_frames = segment->from.n_frames;
    unit->n_outputs = segment->from.outputs;
    forget(segment);
}

void mr_unit_note_row(struct mr_unit *unit, const struct mr_column_set *set, size_t from)
{
    /* A run never crosses a segment, so that undo and halving can cut between runs. */
    const struct mr_segment *segment = &unit->segments[unit->n_segments - 1];
    if (unit->n_runs > segment->from.runs && unit->runs[unit->n_runs - 1].set == set) {
        unit->runs[unit->n_runs - 1].n++;
        return;
    }
    if (unit->n_runs == unit->cap_runs) {
        unit->cap_runs = unit->cap_runs ? unit->cap_runs * 2 : 64;
        unit->runs = mr_realloc(unit->runs, unit->cap_runs * sizeof *unit->runs);
    }
    unit->runs[unit->n_runs++] = (struct mr_unit_run){set, from, 1};
}

void mr_segment_bury(struct mr_segment *segment, struct mr_source *source,
                     const struct mr_error *err)
{
    source->ops->headers(source, &segment->rec);
    segment->dead = true;
    snprintf(segment->class_, sizeof segment->class_, "%s",
             err->class_[0] ? err->class_ : "rejected");
    free(segment->error);
    segment->error = mr_strdup(err->msg);
    /* The message is settled by this: what was left of its fan-out does not go out. */
    segment->has_job = false;
    segment->next_offset = segment->rec.offset + 1;
}

struct mr_job_state mr_segment_job(const struct mr_segment *segment)
{
    return (struct mr_job_state){
        .keys = {segment->job_keys.ptr, segment->job_keys.len},
        .cursor = {segment->job_cursor.ptr, segment->job_cursor.len},
        .trigger_ms = segment->job_trigger_ms,
    };
}

struct mr_job_state mr_segment_resumed(const struct mr_segment *segment)
{
    const struct mr_resumed *resumed = segment->resumed;
    return (struct mr_job_state){
        .keys = {resumed->keys.ptr, resumed->keys.len},
        .cursor = {resumed->cursor.ptr, resumed->cursor.len},
        .trigger_ms = resumed->trigger_ms,
    };
}
