/*
 * source.h - the contract of a partitioned, offset-addressed source (core/kafka/source.c; in-memory
 * in tests).
 *
 * One source belongs to one worker thread and is used by it alone. The source never decides a
 * position: after ASSIGNED it delivers nothing until the worker, having claimed each partition,
 * calls `start` with the offsets. Records may still arrive that are no longer owned or lie before
 * the position (rule R2): the worker checks. Errors carry the action: RETRY (away, comes back),
 * STOP (a person must act).
 */
#ifndef MILLRACE_SOURCE_H
#define MILLRACE_SOURCE_H

#include "base/error.h"
#include "millrace/record.h"

struct mr_source {
    const struct mr_source_ops *ops;
};

enum mr_event {
    MR_EVENT_NONE,     /* nothing within the time-out */
    MR_EVENT_RECORD,   /* *rec is filled; give it back with release */
    MR_EVENT_ASSIGNED, /* the group gave us partitions (maybe none): see assignment() */
    MR_EVENT_REVOKED,  /* all of them were taken away: forget what is not committed */
    MR_EVENT_POSITION, /* rec->topic/partition is read up to rec->offset (exclusive): control
                          records at the end move the position past them */
    MR_EVENT_ERROR     /* *err is filled */
};

struct mr_partition {
    const char *topic; /* same pointer as in the records */
    int32_t partition;
};

/* Kafka's own bound is 4096 bytes (offset.metadata.max.bytes). */
enum { MR_METADATA_MAX = 4096 };

/* What the group's committed offset says. `metadata` is ours or anybody's; not interpreted here. */
struct mr_committed {
    bool present;
    int64_t offset;
    char metadata[MR_METADATA_MAX + 1]; /* NUL-terminated, cut if longer */
};

/* Proof of membership in the group, captured when the assignment arrived; opaque. A sink of the
 * same room hands it to the broker with a transaction's offsets. */
struct mr_member;

/* An offset to commit, with its metadata (ASCII). Also where to start. */
struct mr_mark {
    struct mr_partition at;
    int64_t next_offset;
    char metadata[MR_METADATA_MAX + 1];
};

struct mr_source_ops {
    /* Borrowed: rec until release. Returns at once if something is queued. timeout_ms 0 only looks.
     */
    enum mr_event (*poll)(struct mr_source *source, int timeout_ms, struct mr_record *rec,
                          struct mr_error *err);
    /* Borrows until the next poll. */
    const struct mr_partition *(*assignment)(struct mr_source *source, size_t *n);
    /* The committed offset of one partition, stable; waits up to timeout_ms while a transaction is
     * pending on it. An error means "ask again", never "absent". */
    bool (*committed)(struct mr_source *source, const struct mr_partition *at, int timeout_ms,
                      struct mr_committed *out, struct mr_error *err);
    /* First offset that exists, and the high watermark. */
    bool (*watermarks)(struct mr_source *source, const struct mr_partition *at, int timeout_ms,
                       int64_t *low, int64_t *high, struct mr_error *err);
    /* Replaces what is being read by exactly this list (only next_offset is used). */
    bool (*start)(struct mr_source *source, const struct mr_mark *marks, size_t n,
                  struct mr_error *err);
    /* Commits offsets as the member of the assignment in force; waits. A refusal because the group
     * has moved on is RECOVER. */
    bool (*commit)(struct mr_source *source, const struct mr_mark *marks, size_t n,
                   struct mr_error *err);
    /* Of the assignment in force; NULL if the group has moved on, or counts us as no member.
     * Borrows until the next poll. */
    const struct mr_member *(*member)(struct mr_source *source);
    /* Fills rec->headers; they live until release. */
    void (*headers)(struct mr_source *source, struct mr_record *rec);
    void (*release)(struct mr_source *source, struct mr_record *rec);
    /* Leaves the group (waits up to its own bound) and frees the source. */
    void (*close)(struct mr_source *source);
};

#endif
