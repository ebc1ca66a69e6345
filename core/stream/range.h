/*
 * range.h - a range of a unit's segments on its way out: which partitions it moves, its rows, dead
 * letters, messages and redo.
 *
 * Everything borrows from the unit, or lies in the delivery's scratch memory until the next range.
 * One worker thread.
 */
#ifndef MR_STREAM_RANGE_H
#define MR_STREAM_RANGE_H

#include "stream/delivery.h"

struct mr_range {
    struct mr_unit *unit;
    size_t lo, hi;           /* segments [lo, hi) */
    size_t n_steps;          /* partitions: delivery->parts, steps, marks */
    size_t n_frames, n_rows; /* that are alive, once they were handed over */
    size_t rejected;         /* segment that a sink named as being at fault; hi if none */
    int64_t began_ms;        /* of its transaction in Kafka, monotonic */
    bool recomputes;         /* mutant redo_recomputed only */
    const char *what;        /* unit, chunk or dead: for crash points */
};

/* One step and one mark a partition, sorted: the last segment of it in the range says how far. */
MR_MUSTCHECK bool mr_range_plan(struct mr_delivery *delivery, struct mr_range *range,
                                struct mr_error *err);
/* Makes messages of the dead letters, where they go to a topic: before produce and pack. */
void mr_range_build_dead(struct mr_delivery *delivery, struct mr_range *range);
/* Packs each partition's messages, for its step. */
void mr_range_pack(struct mr_delivery *delivery, struct mr_range *range);
/* Hands over rows and dead letters; messages. */
MR_MUSTCHECK bool mr_range_copy(struct mr_delivery *delivery, struct mr_range *range,
                                struct mr_error *err);
MR_MUSTCHECK bool mr_range_bury(struct mr_delivery *delivery, struct mr_range *range,
                                struct mr_error *err);
MR_MUSTCHECK bool mr_range_produce(struct mr_delivery *delivery, struct mr_range *range,
                                   struct mr_error *err);
/* The segment that holds the `bad`-th frame of those that were produced. */
size_t mr_range_blame(const struct mr_range *range, size_t bad);
/* It is decided: the partitions follow. */
void mr_range_settle(struct mr_delivery *delivery, const struct mr_range *range);

#endif
