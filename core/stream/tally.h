/*
 * tally.h - what a worker counts: messages taken, dropped, dead, and the times it began anew.
 *
 * Counters are of the pipeline: its workers share them. Any thread. What is delivered is counted by
 * delivery.c.
 */
#ifndef MR_STREAM_TALLY_H
#define MR_STREAM_TALLY_H

#include "base/metrics.h"

struct mr_tally {
    struct mr_metric *messages, *recoveries, *stale;
};

struct mr_tally mr_tally_new(const char *pipeline);
void mr_tally_drop(const char *pipeline, const char *reason); /* NULL: the filter gave none */
void mr_tally_dead(const char *pipeline, const char *class_);

#endif
