/*
 * consumer.h - the inside of a source: shared by source.c (records), rebalance.c and leave.c
 * (group) and offsets.c (committed offsets, commits). Private to these files. Everything runs in
 * the worker's thread: librdkafka calls back only from within its poll.
 */
#ifndef MR_KAFKA_CONSUMER_H
#define MR_KAFKA_CONSUMER_H

#include "kafka/client.h"

/* What was taken from librdkafka's queue since its threads were woken last. */
struct mr_kafka_prefetch {
    size_t drained,
        quarter; /* bytes; each message counts `each` more, so that many small ones count */
    size_t each;
    uint64_t wakes;
};

struct mr_kafka_consumer {
    struct mr_source base; /* first */
    rd_kafka_t *rk;
    struct mr_kafka_contact contact;
    char *group;

    /* Topic names, each once, so that equal topics have equal pointers. */
    char **topics;
    size_t n_topics;
    const rd_kafka_topic_t *last_topic; /* of the newest record: the name without a search */
    const char *last_name;

    /* What the group gave us, and what the worker has not been told yet. */
    struct mr_partition *assigned;
    size_t n_assigned, cap_assigned;
    bool owned; /* the worker has been told ASSIGNED, and not REVOKED since */
    bool tell_revoked, tell_assigned;
    /* Captured first thing in the assign callback: the proof of membership that a commit or a
     * transaction of this assignment carries. NULL: none, or one that the broker would not
     * fence. */
    rd_kafka_consumer_group_metadata_t *member;

    struct mr_kafka_prefetch prefetch;

    /* The error that was reported last: librdkafka repeats some twice a second. */
    rd_kafka_resp_err_t repeated;
    const char *repeated_topic;
    int64_t repeat_after_ms;
};

const char *mr_kafka_intern(struct mr_kafka_consumer *consumer, const char *topic);

/* prefetch.c */
void mr_kafka_prefetch_init(struct mr_kafka_prefetch *prefetch, const rd_kafka_conf_t *conf);
void mr_kafka_prefetch_wake(struct mr_kafka_prefetch *prefetch, rd_kafka_t *rk);
static inline void mr_kafka_prefetch_drain(struct mr_kafka_prefetch *prefetch, rd_kafka_t *rk,
                                           size_t bytes)
{
    prefetch->drained += bytes + prefetch->each;
    if (__builtin_expect(prefetch->drained >= prefetch->quarter, 0))
        mr_kafka_prefetch_wake(prefetch, rk);
}

/* rebalance.c */
void mr_kafka_rebalance(rd_kafka_t *rk, rd_kafka_resp_err_t code,
                        rd_kafka_topic_partition_list_t *partitions, void *opaque);
/* REVOKED or ASSIGNED if the worker has to hear of one, else NONE. */
enum mr_event mr_kafka_rebalance_take(struct mr_kafka_consumer *consumer);
/* Is the group's member and generation still that of the assignment in force? */
bool mr_kafka_rebalance_is_member(struct mr_kafka_consumer *consumer);
/* Member of mr_source_ops. */
const struct mr_member *mr_kafka_rebalance_member(struct mr_source *source);
void mr_kafka_rebalance_forget(struct mr_kafka_consumer *consumer);

/* offsets.c */
/* rd_kafka_assign, and its end. Any thread. */
rd_kafka_resp_err_t mr_kafka_assign(rd_kafka_t *rk, const rd_kafka_topic_partition_list_t *list);
/* offsets.c: members of mr_source_ops */
bool mr_kafka_offsets_committed(struct mr_source *source, const struct mr_partition *at,
                                int timeout_ms, struct mr_committed *out, struct mr_error *err);
bool mr_kafka_offsets_watermarks(struct mr_source *source, const struct mr_partition *at,
                                 int timeout_ms, int64_t *low, int64_t *high, struct mr_error *err);
bool mr_kafka_offsets_start(struct mr_source *source, const struct mr_mark *marks, size_t n,
                            struct mr_error *err);
bool mr_kafka_offsets_commit(struct mr_source *source, const struct mr_mark *marks, size_t n,
                             struct mr_error *err);

/* leave.c */
/* Leaves the group; a static member (group.instance.id) only goes silent and keeps its place. */
void mr_kafka_leave(rd_kafka_t *rk);
/* Destroys it. False: it did not end, and keeps its memory; mr_kafka_left_behind is true. */
bool mr_kafka_end_consumer(rd_kafka_t *rk);

#endif
