/*
 * source.c - one member of a consumer group as a source: records, events and errors out of
 * rd_kafka_consumer_poll.
 *
 * One worker's thread. Owns the consumer and the topic names. A record borrows librdkafka's message
 * until release: nothing is copied, allocated or locked by us for it. Must not decide a position:
 * it reads where `start` said. Group: rebalance.c, leave.c; offsets: offsets.c. Tests:
 * tests/unit/test_kafka_source.c.
 */
#include "kafka/consumer.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    DEFAULT_PREFETCH_BYTES = 4 * 1024 * 1024,
    ASK_TIMEOUT_MS = 2000,
    REPEAT_MS = 10000, /* the same error is reported at most this often */
};

static struct mr_kafka_consumer *consumer_of(struct mr_source *source)
{
    return (struct mr_kafka_consumer *)source;
}

const char *mr_kafka_intern(struct mr_kafka_consumer *consumer, const char *topic)
{
    for (size_t i = 0; i < consumer->n_topics; i++)
        if (strcmp(consumer->topics[i], topic) == 0)
            return consumer->topics[i];
    consumer->topics =
        mr_realloc(consumer->topics, (consumer->n_topics + 1) * sizeof *consumer->topics);
    consumer->topics[consumer->n_topics] = mr_strdup(topic);
    return consumer->topics[consumer->n_topics++];
}

/* A topic object lives as long as an assignment that has it: start and rebalance forget last_topic.
 */
static const char *name_of(struct mr_kafka_consumer *consumer, const rd_kafka_topic_t *topic)
{
    if (topic && topic == consumer->last_topic)
        return consumer->last_name;
    if (!topic)
        return NULL;
    consumer->last_name = mr_kafka_intern(consumer, rd_kafka_topic_name(topic));
    consumer->last_topic = topic;
    return consumer->last_name;
}

/* auto.offset.reset=error: the position is outside of what the broker has. */
static enum mr_event position_lost(struct mr_kafka_consumer *consumer, const char *topic,
                                   const rd_kafka_message_t *msg, struct mr_error *err)
{
    int64_t low = 0, high = 0;
    rd_kafka_resp_err_t code = rd_kafka_query_watermark_offsets(consumer->rk, topic, msg->partition,
                                                                &low, &high, ASK_TIMEOUT_MS);
    long long offset = (long long)msg->offset;
    if (code || (low <= msg->offset && msg->offset <= high)) {
        mr_error_set(err, MR_RECOVER, MR_EXIT_TRY_AGAIN,
                     "%s/%d: the broker refused offset %lld for the moment: %s", topic,
                     msg->partition, offset, code ? rd_kafka_err2str(code) : "a new leader");
        return MR_EVENT_ERROR;
    }
    /* Whether a person has to decide where to go on, and how, is for the next claim to say. */
    bool behind = msg->offset < low;
    mr_error_set(err, MR_RECOVER, MR_EXIT_DATA,
                 "%s/%d: offset %lld, the next to be read, does not exist: the topic has %lld to "
                 "%lld. %s",
                 topic, msg->partition, offset, (long long)low, (long long)high,
                 behind ? "Input was deleted by retention before it was read, or the topic was "
                          "created anew"
                        : "The topic was created anew, or its newest messages were lost");
    return MR_EVENT_ERROR;
}

static enum mr_event fatal(struct mr_kafka_consumer *consumer, struct mr_error *err)
{
    char why[512] = "";
    rd_kafka_resp_err_t code = rd_kafka_fatal_error(consumer->rk, why, sizeof why);
    /* No proof of a second process: a static member whose answer to JoinGroup was lost with its
     * broker is fenced by itself. A lock in Postgres tells two processes of one name apart. */
    if (code == RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID)
        mr_error_set(err, MR_RECOVER, MR_EXIT_TRY_AGAIN,
                     "the consumer of group %s was fenced by one of the same instance name, "
                     "which may be itself, before a connection broke: joining again (should two "
                     "processes run under one `instance`, give each its own)",
                     consumer->group);
    else
        mr_error_set(err, MR_STOP, MR_EXIT_UNREACHABLE, "the consumer of group %s gave up: %s",
                     consumer->group, why);
    return MR_EVENT_ERROR;
}

static bool is_repeat(struct mr_kafka_consumer *consumer, rd_kafka_resp_err_t code,
                      const char *topic)
{
    int64_t now_ms = mr_clock_mono_ms();
    if (consumer->repeated == code && consumer->repeated_topic == topic &&
        now_ms < consumer->repeat_after_ms)
        return true;
    consumer->repeated = code;
    consumer->repeated_topic = topic;
    consumer->repeat_after_ms = now_ms + REPEAT_MS;
    return false;
}

/* A message of librdkafka that is not a record. */
static enum mr_event on_error(struct mr_kafka_consumer *consumer, const rd_kafka_message_t *msg,
                              struct mr_record *rec, struct mr_error *err)
{
    const char *topic = msg->rkt ? mr_kafka_intern(consumer, rd_kafka_topic_name(msg->rkt)) : NULL;
    switch (msg->err) {
    case RD_KAFKA_RESP_ERR__PARTITION_EOF:
        mr_kafka_contact_made(&consumer->contact);
        *rec = (struct mr_record){
            .topic = topic, .partition = msg->partition, .offset = msg->offset, .timestamp_ms = -1};
        return MR_EVENT_POSITION;
    case RD_KAFKA_RESP_ERR__MAX_POLL_EXCEEDED:
        mr_log(MR_WARN,
               "nothing was polled for max.poll.interval.ms: leaving group %s and "
               "joining again",
               consumer->group);
        return MR_EVENT_NONE; /* the revocation follows */
    case RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET:
        return position_lost(consumer, topic, msg, err);
    case RD_KAFKA_RESP_ERR__FATAL:
        return fatal(consumer, err);
    default:
        if (is_repeat(consumer, msg->err, topic))
            return MR_EVENT_NONE;
        mr_kafka_contact_fail(&consumer->contact, msg->err, topic, topic,
                              rd_kafka_message_errstr(msg), err);
        return MR_EVENT_ERROR;
    }
}

/* What callbacks left to be told: the group first, then the connection. */
static enum mr_event pending(struct mr_kafka_consumer *consumer, struct mr_error *err)
{
    enum mr_event event = mr_kafka_rebalance_take(consumer);
    if (event == MR_EVENT_NONE && mr_kafka_contact_take(&consumer->contact, err))
        event = MR_EVENT_ERROR;
    return event;
}

static enum mr_event source_poll(struct mr_source *source, int timeout_ms, struct mr_record *rec,
                                 struct mr_error *err)
{
    struct mr_kafka_consumer *consumer = consumer_of(source);
    enum mr_event event = pending(consumer, err);
    if (event != MR_EVENT_NONE)
        return event;
    /* Looking first is cheaper than waiting: under load there is always something. */
    rd_kafka_message_t *msg = rd_kafka_consumer_poll(consumer->rk, 0);
    if (!msg && (event = pending(consumer, err)) != MR_EVENT_NONE)
        return event;
    if (!msg && timeout_ms > 0)
        msg = rd_kafka_consumer_poll(consumer->rk, timeout_ms);
    if (!msg)
        return pending(consumer, err);
    if (__builtin_expect(msg->err != RD_KAFKA_RESP_ERR_NO_ERROR, 0)) {
        event = on_error(consumer, msg, rec, err);
        rd_kafka_message_destroy(msg);
        return event;
    }
    if (__builtin_expect(!consumer->contact.connected || consumer->contact.down, 0))
        mr_kafka_contact_made(&consumer->contact);
    mr_kafka_prefetch_drain(&consumer->prefetch, consumer->rk, msg->len + msg->key_len);
    *rec = (struct mr_record){
        .topic = name_of(consumer, msg->rkt),
        .partition = msg->partition,
        .offset = msg->offset,
        .timestamp_ms = rd_kafka_message_timestamp(msg, NULL),
        .key = {msg->key, msg->key_len},
        .value = {msg->payload, msg->len},
        .handle = msg,
    };
    return MR_EVENT_RECORD;
}

static const struct mr_partition *source_assignment(struct mr_source *source, size_t *n)
{
    const struct mr_kafka_consumer *consumer = consumer_of(source);
    *n = consumer->n_assigned;
    return consumer->assigned;
}

static void source_headers(struct mr_source *source, struct mr_record *rec)
{
    (void)source;
    rd_kafka_headers_t *headers = NULL;
    if (rec->headers || !rec->handle || rd_kafka_message_headers(rec->handle, &headers))
        return;
    size_t n = rd_kafka_header_cnt(headers);
    if (!n)
        return;
    struct mr_header *list = mr_calloc(n, sizeof *list);
    for (size_t i = 0; i < n; i++) {
        const char *name = NULL;
        const void *value = NULL;
        size_t size = 0;
        if (rd_kafka_header_get_all(headers, i, &name, &value, &size))
            break;
        list[i] = (struct mr_header){mr_bytes_of(name), {value, size}};
        rec->n_headers = i + 1;
    }
    rec->headers = list;
}

static void source_release(struct mr_source *source, struct mr_record *rec)
{
    (void)source;
    free((void *)(uintptr_t)rec->headers);
    if (rec->handle)
        rd_kafka_message_destroy(rec->handle);
    rec->headers = NULL;
    rec->n_headers = 0;
    rec->handle = NULL;
}

static void source_close(struct mr_source *source)
{
    struct mr_kafka_consumer *consumer = consumer_of(source);
    if (!source)
        return;
    mr_kafka_rebalance_forget(consumer);
    if (consumer->rk) {
        mr_kafka_leave(consumer->rk);
        if (!mr_kafka_end_consumer(consumer->rk))
            return; /* the consumer is its opaque */
    }
    for (size_t i = 0; i < consumer->n_topics; i++)
        free(consumer->topics[i]);
    free(consumer->topics);
    free(consumer->assigned);
    free(consumer->group);
    free(consumer);
}

static const struct mr_source_ops source_ops = {
    .poll = source_poll,
    .assignment = source_assignment,
    .committed = mr_kafka_offsets_committed,
    .watermarks = mr_kafka_offsets_watermarks,
    .start = mr_kafka_offsets_start,
    .commit = mr_kafka_offsets_commit,
    .member = mr_kafka_rebalance_member,
    .headers = source_headers,
    .release = source_release,
    .close = source_close,
};

static void on_client_error(rd_kafka_t *rk, int code, const char *reason, void *opaque)
{
    struct mr_kafka_consumer *consumer = opaque;
    mr_kafka_contact_error(&consumer->contact, (rd_kafka_resp_err_t)code, reason);
    if (consumer->contact.pending)
        rd_kafka_yield(rk);
}

static size_t clamp(size_t value, size_t low, size_t high)
{
    return value < low ? low : value > high ? high : value;
}

static bool build_conf(const struct mr_kafka_source_options *options, rd_kafka_conf_t **out,
                       struct mr_error *err)
{
    size_t prefetch = options->prefetch_bytes ? options->prefetch_bytes : DEFAULT_PREFETCH_BYTES;
    /* Half may wait, half may be on its way. Small messages cost more in bookkeeping than in bytes:
     * hence a bound of their number too. What one request brings of a partition counts as it was
     * compressed, and may unpack to many times that: hence so little. */
    char queued_kb[24], queued_n[24], one[24], all[24];
    snprintf(queued_kb, sizeof queued_kb, "%zu", clamp(prefetch / 2048, 1, 2097151));
    snprintf(queued_n, sizeof queued_n, "%zu", clamp(prefetch / 256, 100, 100000));
    snprintf(one, sizeof one, "%zu", clamp(prefetch / 32, 65536, 1048576));
    snprintf(all, sizeof all, "%zu", clamp(prefetch / 2, 1048576, 52428800));
    const struct mr_kafka_setting defaults[] = {
        {"client.id", options->client_id ? options->client_id : "millrace"},
        {"session.timeout.ms", "10000"},
        /* A member learns by its next heartbeat that the group is shared out anew. */
        {"heartbeat.interval.ms", "1000"},
        {"queued.max.messages.kbytes", queued_kb},
        {"queued.min.messages", queued_n},
        {"fetch.message.max.bytes", one},
        {"fetch.max.bytes", all},
    };
    const struct mr_kafka_setting fixed[] = {
        {"group.id", options->group},
        {"partition.assignment.strategy", "range"},
        {"enable.auto.commit", "false"},
        {"enable.auto.offset.store", "false"},
        {"auto.offset.reset", "error"},
        {"isolation.level", "read_committed"},
        {"enable.partition.eof", "true"},
        {"allow.auto.create.topics", "false"},
        {"group.instance.id", options->group_instance_id},
    };
    size_t n_fixed = sizeof fixed / sizeof *fixed - (options->group_instance_id ? 0 : 1);
    return mr_kafka_conf_build(MR_KAFKA_SOURCE, options->properties, options->n_properties,
                               defaults, sizeof defaults / sizeof *defaults, fixed, n_fixed, out,
                               err);
}

static bool subscribe(struct mr_kafka_consumer *consumer,
                      const struct mr_kafka_source_options *options, struct mr_error *err)
{
    rd_kafka_topic_partition_list_t *list =
        rd_kafka_topic_partition_list_new((int)options->n_topics);
    for (size_t i = 0; i < options->n_topics; i++)
        rd_kafka_topic_partition_list_add(list, options->topics[i], RD_KAFKA_PARTITION_UA);
    rd_kafka_resp_err_t code = rd_kafka_subscribe(consumer->rk, list);
    rd_kafka_topic_partition_list_destroy(list);
    if (code)
        return mr_error_set(err, MR_STOP, MR_EXIT_CONFIG,
                            "subscription to the topics of source.topics: %s",
                            rd_kafka_err2str(code));
    return true;
}

bool mr_kafka_source_open(const struct mr_kafka_source_options *options, struct mr_source **out,
                          struct mr_error *err)
{
    rd_kafka_conf_t *conf = NULL;
    struct mr_kafka_consumer *consumer = NULL;
    char why[512];
    bool ok = false;
    *out = NULL;
    if (!mr_kafka_properties_check(options->properties, options->n_properties, false, err) ||
        !build_conf(options, &conf, err))
        goto out;
    consumer = mr_calloc(1, sizeof *consumer);
    consumer->base.ops = &source_ops;
    consumer->group = mr_strdup(options->group);
    mr_kafka_contact_init(&consumer->contact, conf);
    mr_kafka_prefetch_init(&consumer->prefetch, conf);
    rd_kafka_conf_set_opaque(conf, consumer);
    rd_kafka_conf_set_error_cb(conf, on_client_error);
    rd_kafka_conf_set_rebalance_cb(conf, mr_kafka_rebalance);
    consumer->rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, why, sizeof why);
    if (!consumer->rk) {
        mr_error_set(err, MR_STOP, MR_EXIT_CONFIG, "Kafka consumer: %s", why);
        goto out;
    }
    conf = NULL; /* the consumer has taken it */
    rd_kafka_poll_set_consumer(consumer->rk);
    ok = subscribe(consumer, options, err);
out:
    if (conf)
        rd_kafka_conf_destroy(conf);
    if (!ok && consumer)
        source_close(&consumer->base);
    else if (ok)
        *out = &consumer->base;
    return ok;
}
