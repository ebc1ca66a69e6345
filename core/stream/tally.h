/*
 * tally.h - what a worker counts: messages taken, dropped, dead, and the times it began anew.
 *
 * Counters are of the pipeline: its workers share them. One worker's thread. What is delivered is
 * counted by delivery.c.
 */
#ifndef MR_STREAM_TALLY_H
#define MR_STREAM_TALLY_H

#include "base/metrics.h"

enum { MR_TALLY_REASONS = 16 };

/* Of one worker; `reasons` spares it the way to the registry for each message that is dropped. */
struct mr_tally {
    const char *pipeline; /* borrowed */
    struct mr_metric *messages, *recoveries, *stale, *tick_errors;
    struct {
        char name[48];
        struct mr_metric *metric;
    } reasons[MR_TALLY_REASONS];
    size_t n_reasons;
};

void mr_tally_init(struct mr_tally *tally, const char *pipeline);
void mr_tally_drop(struct mr_tally *tally, const char *reason); /* NULL: the filter gave none */
void mr_tally_dead(struct mr_tally *tally, const char *class_);

#endif
