/*
 * sink.h - the inside of a sink: shared by sink.c (messages), sink_producer.c (the producer's life)
 * and sink_transaction.c. Private to these files. Everything runs in the worker's thread, except
 * the two counters of requests, which librdkafka's threads raise, and the call that sends offsets
 * (sink_offsets.c).
 */
#ifndef MR_KAFKA_SINK_H
#define MR_KAFKA_SINK_H

#include "kafka/client.h"

#include <stdatomic.h>

enum { MR_KAFKA_SLICE_MS = 100 }; /* how long a wait goes on before it looks at failures */

/* Requests of one producer, since they were last set to 0. Lives as long as the producer does,
 * which may be longer than the sink. */
struct mr_kafka_sent {
    atomic_uint n_end, n_offsets;
};

struct mr_kafka_sink {
    struct mr_sink base; /* first */
    rd_kafka_conf_t *conf;
    char *transactional_id; /* NULL: plain for ever */
    int transaction_timeout_ms;
    char **names;
    size_t n_topics;
    struct mr_kafka_contact contact;

    rd_kafka_t *rk;            /* NULL: the next produce or begin makes one */
    rd_kafka_topic_t **topics; /* of rk; NULL: not used yet */
    bool transactional;        /* what the last fence asked for */
    bool open;                 /* a transaction is */
    bool refused;              /* its offsets were: it must not be committed */
    bool spoilt;               /* rk is not to be used again after the abort that must follow */
    const char *doubt; /* why a request of rk may still be on its way: the next begin makes another;
                          NULL: none */
    size_t batch_bytes;
    struct mr_kafka_sent *sent;        /* by rk */
    struct mr_kafka_call *call;        /* sink_offsets.c: on its way, for the open transaction */
    struct mr_kafka_call *left_behind; /* those that have not come back */

    /* Since the last flush or abort. A frame's opaque is its index. */
    size_t n_frames;            /* given to us */
    size_t n_queued, n_done;    /* taken by librdkafka; reported, well or not */
    size_t n_failed, n_refused; /* reported as failed; of these, for what they are */
    size_t first_bad;           /* the lowest index of the gravest failure */
    size_t bad_bytes;           /* size of that frame */
    bool bad_is_certain;        /* refused for itself, not as part of a batch */
    rd_kafka_resp_err_t failure;
    uint16_t bad_topic;
};

static inline struct mr_kafka_sink *mr_kafka_sink_of(struct mr_sink *sink)
{
    return (struct mr_kafka_sink *)sink;
}

/* sink.c */
void mr_kafka_sink_on_delivery(rd_kafka_t *rk, const rd_kafka_message_t *msg, void *opaque);
void mr_kafka_sink_start_over(struct mr_kafka_sink *sink);

/* sink_producer.c */
/* The configuration that all producers of this sink share. */
MR_MUSTCHECK bool mr_kafka_sink_configure(struct mr_kafka_sink *sink,
                                          const struct mr_kafka_sink_options *options,
                                          struct mr_error *err);
/* Makes the producer, plain or transactional as the last fence asked; no broker is reached. */
MR_MUSTCHECK bool mr_kafka_sink_open_producer(struct mr_kafka_sink *sink, struct mr_error *err);
/* Nothing borrowed is in use after it. */
void mr_kafka_sink_close_producer(struct mr_kafka_sink *sink);
/* The producer now belongs to somebody else; `sent` too. Nothing may be borrowed. */
void mr_kafka_sink_abandon_producer(struct mr_kafka_sink *sink);
/* The topic object for frames of this index; NULL: *err. */
rd_kafka_topic_t *mr_kafka_sink_topic(struct mr_kafka_sink *sink, uint16_t index,
                                      struct mr_error *err);
/* Ends the open transaction of another transactional id, by a producer that lives for this call. */
MR_MUSTCHECK bool mr_kafka_sink_end_other(struct mr_kafka_sink *sink, const char *owner,
                                          struct mr_error *err);
/* Reaches the transaction coordinator, bounded; a transaction that the id left open is ended. */
MR_MUSTCHECK bool mr_kafka_sink_init(rd_kafka_t *rk, struct mr_kafka_contact *contact,
                                     struct mr_error *err);

/* sink_transaction.c: members of mr_sink_ops */
bool mr_kafka_sink_fence(struct mr_sink *sink, bool transactional, const char *owner,
                         struct mr_error *err);
bool mr_kafka_sink_begin(struct mr_sink *sink, struct mr_error *err);
void mr_kafka_sink_begin_offsets(struct mr_sink *sink, struct mr_source *source,
                                 const struct mr_mark *marks, size_t n);
bool mr_kafka_sink_offsets(struct mr_sink *sink, struct mr_source *source,
                           const struct mr_mark *marks, size_t n, struct mr_error *err);
bool mr_kafka_sink_commit(struct mr_sink *sink, struct mr_error *err);

/* sink_offsets.c */
/* Starts rd_kafka_send_offsets_to_transaction, beside this thread. Takes `list`, copies `member`.
 */
void mr_kafka_sink_start_offsets(struct mr_kafka_sink *sink, rd_kafka_topic_partition_list_t *list,
                                 const rd_kafka_consumer_group_metadata_t *member, int timeout_ms);
/* Waits for what was started, within a bound; *error NULL: done. False: it did not come back; then
 * the sink has no producer any more, and nothing is borrowed. */
MR_MUSTCHECK bool mr_kafka_sink_end_offsets(struct mr_kafka_sink *sink, rd_kafka_error_t **error);
/* The same, however it ends, before the transaction is looked at or ended in another way. */
void mr_kafka_sink_settle_offsets(struct mr_kafka_sink *sink);
/* Frees what calls left behind, as far as they have come back. */
void mr_kafka_sink_reap_calls(struct mr_kafka_sink *sink);
/* The same, at the end: what has not come back is nobody's any more. */
void mr_kafka_sink_leave_calls(struct mr_kafka_sink *sink);

/* sink_transaction.c, for sink.c */
/* Ends the open transaction, or the producer where that is not certain to work. */
void mr_kafka_sink_abort_transaction(struct mr_kafka_sink *sink);
/* Why the open transaction, sending to `topic`, cannot go on, if that is known: true, and *err says
 * it. */
bool mr_kafka_sink_transaction_failed(struct mr_kafka_sink *sink, const char *what,
                                      const char *topic, struct mr_error *err);

#endif
