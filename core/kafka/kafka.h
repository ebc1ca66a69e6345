/*
 * kafka.h - the Kafka room: a source and a sink (include/millrace) over librdkafka 2.0.2, and what
 * `check` and `init` ask of a cluster.
 *
 * No type of librdkafka leaves the room. A source or sink belongs to one worker thread;
 * librdkafka's own threads reach our code only through the log callback. Options are copied. Values
 * of properties marked `secret` and of those that are secret by nature never appear in a message.
 * Tests: tests/unit/test_kafka_conf.c (no broker), tests/unit/test_kafka_source.c and
 * test_kafka_sink.c (librdkafka's mock cluster), test_kafka_transactions.c (a real broker).
 */
#ifndef MR_KAFKA_KAFKA_H
#define MR_KAFKA_KAFKA_H

#include "millrace/sink.h"
#include "millrace/source.h"

/* One of librdkafka's own settings, as the user wrote it. */
struct mr_kafka_property {
    const char *name, *value;
    bool secret;
};

/* --- properties --- */

/* All names that a configuration can set, sorted; for did-you-mean. Lives for ever; any thread. */
const char *const *mr_kafka_property_names(size_t *n);

/* Is it a property that librdkafka knows, has it a value that librdkafka takes, and is it the
 * user's to set? Those that the delivery guarantee owns are refused with the reason. A property of
 * the other role is fine: one table may serve source and sink, and each takes what is for it.
 * MR_STOP, 78. */
MR_MUSTCHECK bool mr_kafka_property_check(const struct mr_kafka_property *property, bool for_sink,
                                          struct mr_error *err);

/* Do they make sense together? Each is checked as above; then SASL PLAIN without TLS, and
 * credentials that the security protocol would ignore, are refused. MR_STOP, 78. */
MR_MUSTCHECK bool mr_kafka_properties_check(const struct mr_kafka_property *properties, size_t n,
                                            bool for_sink, struct mr_error *err);

/* --- the source --- */

struct mr_kafka_source_options {
    const struct mr_kafka_property *properties;
    size_t n_properties;
    const char *const *topics;
    size_t n_topics;
    const char *group;
    const char *client_id; /* what the broker's logs call us; client.id among the properties wins */
    const char *group_instance_id; /* static membership; NULL: dynamic */
    size_t prefetch_bytes;         /* bound of what is read ahead; 0: 4 MiB */
};

/* Makes the consumer and subscribes; reaching a broker, and saying so, is left to poll. */
MR_MUSTCHECK bool mr_kafka_source_open(const struct mr_kafka_source_options *options,
                                       struct mr_source **out, struct mr_error *err);
/* A consumer or producer could not be closed: librdkafka's threads may be at work still, and the
 * process must end by _exit. Any thread. */
bool mr_kafka_left_behind(void);

/* --- the sink --- */

struct mr_kafka_sink_options {
    const struct mr_kafka_property *properties;
    size_t n_properties;
    const char *const *topics; /* mr_frame.topic is an index into it */
    size_t n_topics;
    const char *client_id;
    size_t queue_bytes; /* bound of what waits in the producer, beyond which produce waits; 0: 64
                           MiB */
    const char *transactional_id; /* for fence(transactional); NULL: there is none */
    int transaction_timeout_ms;   /* after which the broker ends an open one; 0: 60 s */
};

/* Makes a plain producer; a broker is reached by the first produce, or by fence. */
MR_MUSTCHECK bool mr_kafka_sink_open(const struct mr_kafka_sink_options *options,
                                     struct mr_sink **out, struct mr_error *err);

/* --- questions to a cluster --- */

/*
 * Reaches the brokers, logs in, and looks for each topic (names that begin with '^' are patterns
 * and are left out). MR_STOP, 78: login refused, certificate not trusted, no right to a topic;
 * MR_RETRY, 69: away; MR_RETRY, 78: a topic does not exist, with the list of those that are
 * missing.
 */
MR_MUSTCHECK bool mr_kafka_check(const struct mr_kafka_property *properties, size_t n_properties,
                                 const char *const *topics, size_t n_topics, int timeout_ms,
                                 struct mr_error *err);

/* How many partitions the topic has; errors as above. */
MR_MUSTCHECK bool mr_kafka_partitions(const struct mr_kafka_property *properties,
                                      size_t n_properties, const char *topic, int timeout_ms,
                                      int32_t *n, struct mr_error *err);

/* Do both lead to the same cluster? MR_STOP, 78: they do not. */
MR_MUSTCHECK bool mr_kafka_same_cluster(const struct mr_kafka_property *source, size_t n_source,
                                        const struct mr_kafka_property *sink, size_t n_sink,
                                        int timeout_ms, struct mr_error *err);

/* Creates topics; one that exists already is fine and is left as it is. replication 0: the broker's
 * default. */
MR_MUSTCHECK bool mr_kafka_create_topics(const struct mr_kafka_property *properties,
                                         size_t n_properties, const char *const *topics,
                                         size_t n_topics, int partitions, int replication,
                                         int timeout_ms, struct mr_error *err);

/* --- a group's offsets, for repair --- */

/* What group `group` has committed for one partition, stable, and the partition's bounds. Waits up
 * to timeout_ms a question; an error is never "absent". */
MR_MUSTCHECK bool mr_kafka_group_offsets(const struct mr_kafka_property *properties,
                                         size_t n_properties, const char *group,
                                         const struct mr_partition *at, int timeout_ms,
                                         struct mr_committed *committed, int64_t *low,
                                         int64_t *high, struct mr_error *err);

/* Writes offsets with their metadata for a group that has no members (the broker refuses it
 * otherwise: MR_STOP), and reads them back. */
MR_MUSTCHECK bool mr_kafka_group_set_offsets(const struct mr_kafka_property *properties,
                                             size_t n_properties, const char *group,
                                             const struct mr_mark *marks, size_t n, int timeout_ms,
                                             struct mr_error *err);

/* --- a topic read once, for `millrace audit` --- */

/* What is about to be read. */
struct mr_kafka_read_extent {
    int64_t n_offsets; /* at most as many messages: control records and aborted ones count too */
    int64_t n_deleted; /* offsets that the topic no longer has: retention */
};

struct mr_kafka_read_options {
    const struct mr_kafka_property *properties;
    size_t n_properties;
    const char *topic;
    const char *group; /* only a name for librdkafka: it is not joined, nothing is committed */
    int64_t since_ms;  /* begins at the first message as young as this; -1: at the first of all */
    void *arg;
    void (*begin)(void *arg, const struct mr_kafka_read_extent *extent); /* may be NULL */
    /* Each message, borrowed for the call; headers are not filled. False ends it with *err. */
    bool (*take)(void *arg, const struct mr_record *rec, struct mr_error *err);
};

/* Calls `take` for every committed message of all partitions up to where they end at the call. */
MR_MUSTCHECK bool mr_kafka_read_topic(const struct mr_kafka_read_options *options,
                                      struct mr_error *err);

#endif
