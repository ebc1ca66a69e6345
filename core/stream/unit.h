/*
 * unit.h - what is delivered together: messages, rows, dead letters and positions, or none of them.
 *
 * A unit is a list of segments in input order, one for each source message that left something
 * behind (or one chunk of a big fan-out). Messages of all segments lie in one buf of frames, rows
 * in one buf of tuples, so a range of segments is a range of bytes: when Postgres refuses some row,
 * the unit is halved by segment until the message at fault stands alone, from the bytes that are
 * already built.
 *
 * Built by one worker thread. Owns the records of its segments until mr_unit_reset.
 */
#ifndef MR_STREAM_UNIT_H
#define MR_STREAM_UNIT_H

#include "millrace/source.h"
#include "millrace/store.h"
#include "stream/part.h"

/* Where frames and rows end at some moment. */
struct mr_unit_extent {
    size_t frames, rows, runs;
    uint32_t n_frames;
    uint64_t outputs;
};

/* The state of a fan-out before a chunk of it. */
struct mr_resumed {
    struct mr_buf keys, cursor;
    int64_t trigger_ms;
};

struct mr_segment {
    struct mr_part *part;
    struct mr_record rec; /* owned by the unit, but for a chunk that others follow */
    bool owns_record;
    int64_t next_offset; /* the partition's position once this is decided */
    struct mr_unit_extent from, to;
    bool has_job; /* a chunk, and others follow: its state after this one */
    struct mr_buf job_keys, job_cursor;
    int64_t job_trigger_ms;
    struct mr_resumed *resumed; /* NULL: the segment begins its message */
    bool dead;                  /* leaves a dead letter instead of its outputs */
    bool cut; /* the dead letter goes without the message: too large for its topic */
    size_t dead_from, dead_to; /* in the delivery's dead_frames, where they go to a topic */
    char class_[16];
    char *error;
    const char *bundle; /* the script's; lives as long as the script */
};

/* Rows of one column set that lie one behind the other. */
struct mr_unit_run {
    const struct mr_column_set *set;
    size_t from, n;
};

struct mr_unit {
    struct mr_buf frames, rows;
    struct mr_unit_run *runs;
    struct mr_segment *segments;
    size_t n_runs, cap_runs, n_segments, cap_segments;
    uint32_t n_frames;
    size_t dead_bytes;  /* of the messages that a script or the decoder has refused */
    uint64_t n_outputs; /* messages and rows of one joined row count once */
    int64_t opened_ms;  /* monotonic, at the first segment */
};

void mr_unit_init(struct mr_unit *unit);
void mr_unit_fini(struct mr_unit *unit, struct mr_source *source);
/* Gives back the records. Keeps the memory, up to what a normal unit needs. */
void mr_unit_reset(struct mr_unit *unit, struct mr_source *source);

static inline bool mr_unit_empty(const struct mr_unit *unit)
{
    return unit->n_segments == 0;
}

/* Opens a segment for `rec`; what is stamped until mr_unit_end belongs to it. Takes the record when
 * `owns_record` is set by the caller before the end. The pointer is good until the next begin. */
struct mr_segment *mr_unit_begin(struct mr_unit *unit, struct mr_part *part,
                                 const struct mr_record *rec);
void mr_unit_end(struct mr_unit *unit, struct mr_segment *segment);
/* Takes back the segment that was begun last, with all that was stamped. */
void mr_unit_undo(struct mr_unit *unit);
/* The rows stamped since the last note belong to `set`. */
void mr_unit_note_row(struct mr_unit *unit, const struct mr_column_set *set, size_t from);

/* Turns a segment into a dead letter: its outputs stay out of what is delivered. Reads the headers.
 */
void mr_segment_bury(struct mr_segment *segment, struct mr_source *source,
                     const struct mr_error *err);
struct mr_job_state mr_segment_job(const struct mr_segment *segment);     /* borrows */
struct mr_job_state mr_segment_resumed(const struct mr_segment *segment); /* borrows */

#endif
