/*
 * sink.h - the contract of the message sink (core/kafka/sink.c; in-memory in tests).
 *
 * One sink belongs to one worker thread. Frames (message.h) are borrowed, not copied, from produce
 * until the flush or abort that follows: the unit keeps its buf still. A full queue is
 * back-pressure and handled inside. Topics are given by name when the sink is opened; frames name
 * them by index.
 */
#ifndef MILLRACE_SINK_H
#define MILLRACE_SINK_H

#include "base/error.h"
#include "millrace/message.h"

struct mr_sink {
    const struct mr_sink_ops *ops;
};

struct mr_sink_ops {
    /* Enqueues all frames of `frames`. Borrows until flush or abort. */
    bool (*produce)(struct mr_sink *sink, struct mr_bytes frames, struct mr_error *err);
    /* Waits until each frame since the last flush is acknowledged by all in-sync replicas. False:
     * at least one is not; then abort. MR_REJECT (a permanent refusal such as "message too large"):
     * *bad is the index of the frame among those since the last flush, or SIZE_MAX if a batch was
     * refused and nobody knows which of its frames was at fault: halve the unit. */
    bool (*flush)(struct mr_sink *sink, int timeout_ms, size_t *bad, struct mr_error *err);
    /* Forgets what is queued and waits until nothing borrowed is in use any more. */
    void (*abort)(struct mr_sink *sink);
    void (*close)(struct mr_sink *sink);
};

#endif
