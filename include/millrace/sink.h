/*
 * sink.h - the contract of the message sink (core/kafka/sink.c; in-memory in tests).
 *
 * One sink belongs to one worker thread. Frames (message.h) are borrowed, not copied, from produce
 * until the flush or abort that follows: the unit keeps its buf still. A full queue is
 * back-pressure and handled inside. Topics are given by name when the sink is opened; frames name
 * them by index.
 *
 * A sink is plain (acknowledged messages stand, an abort takes back nothing that was sent) or
 * transactional (messages and offsets become visible together by commit, or never). `fence`
 * chooses, at each claim. The order in a transaction: begin, produce, begin_offsets (or not),
 * flush, offsets, commit; abort from anywhere before commit.
 */
#ifndef MILLRACE_SINK_H
#define MILLRACE_SINK_H

#include "base/error.h"
#include "millrace/message.h"
#include "millrace/source.h"

struct mr_sink {
    const struct mr_sink_ops *ops;
};

struct mr_sink_ops {
    /* Starts afresh, with nothing open: in transactional mode whatever transaction this sink's
     * transactional id left open, here or in a process before, is ended, and definitely so.
     * owner: NULL, or the transactional id of an earlier owner whose open transaction is to be
     * ended instead; the sink itself stays as it is then. RETRY: away. */
    bool (*fence)(struct mr_sink *sink, bool transactional, const char *owner,
                  struct mr_error *err);
    /* Transactional: begins a transaction. May replace the producer first, when it has doubts about
     * its past. RETRY or RECOVER. */
    bool (*begin)(struct mr_sink *sink, struct mr_error *err);
    /* Enqueues all frames of `frames`. Borrows until flush or abort. */
    bool (*produce)(struct mr_sink *sink, struct mr_bytes frames, struct mr_error *err);
    /* Waits until each frame since the last flush is acknowledged by all in-sync replicas. False:
     * at least one is not; then abort. MR_REJECT (a permanent refusal such as "message too large"):
     * *bad is the index of the frame among those since the last flush, or SIZE_MAX if a batch was
     * refused and nobody knows which of its frames was at fault: halve the unit. */
    bool (*flush)(struct mr_sink *sink, int timeout_ms, size_t *bad, struct mr_error *err);
    /* Transactional: begins to send the offsets that `offsets` is called with later, and does not
     * wait: the round trips run beside whatever comes between the two. Nothing is produced after
     * it. What goes wrong is told by `offsets`. */
    void (*begin_offsets)(struct mr_sink *sink, struct mr_source *source,
                          const struct mr_mark *marks, size_t n);
    /* Transactional: offsets to become visible with the messages, as the member of the group that
     * `source` proves to be. Everything is flushed. RECOVER: the group has moved on. */
    bool (*offsets)(struct mr_sink *sink, struct mr_source *source, const struct mr_mark *marks,
                    size_t n, struct mr_error *err);
    /* Transactional: makes it visible. False: it may be or not, or never will; only a claim tells.
     */
    bool (*commit)(struct mr_sink *sink, struct mr_error *err);
    /* Forgets what is queued, ends the open transaction, and waits until nothing borrowed is in use
     * any more. */
    void (*abort)(struct mr_sink *sink);
    /* Index of a topic by name, for bytes that an earlier configuration wrote; adds it. */
    uint16_t (*topic)(struct mr_sink *sink, const char *name);
    /* Name of the topic of that index; NULL beyond the last. Lives as long as the sink. */
    const char *(*topic_name)(struct mr_sink *sink, uint16_t index);
    void (*close)(struct mr_sink *sink);
};

#endif
