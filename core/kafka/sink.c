/*
 * sink.c - an idempotent producer as a sink: frames go out without a copy of their values,
 * acknowledgements are counted.
 *
 * One worker's thread; delivery reports arrive inside its calls of poll and flush. Owns the
 * producer, which is thrown away and made again after an abort that caught messages on their way:
 * only a destroyed producer is certain to have let go of the borrowed memory, and the sequence
 * numbers start afresh. Must not know units or what is in a message. Transactions belong into
 * open_producer, flush and abort. Tests: tests/unit/test_kafka_sink.c.
 */
#include "kafka/client.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    DEFAULT_QUEUE_BYTES = 64 * 1024 * 1024,
    BATCH_BYTES = 1000000,
    MIN_BATCH_BYTES = 1024,
    SLICE_MS = 100,     /* how long flush waits before it looks at failures */
    AFTERMATH_MS = 2000 /* after a failure: for the reports of the others */
};

struct sink {
    struct mr_sink base; /* first */
    rd_kafka_conf_t *conf;
    char **names;
    size_t n_topics;
    struct mr_kafka_contact contact;

    rd_kafka_t *rk; /* NULL: the next produce makes one */
    rd_kafka_topic_t **topics;
    bool spoilt; /* not to be used again after the abort that must follow */
    size_t batch_bytes;

    /* Since the last flush or abort. A frame's opaque is its index. */
    size_t n_frames;            /* given to us */
    size_t n_queued, n_done;    /* taken by librdkafka; reported, well or not */
    size_t n_failed, first_bad; /* reported as failed; the lowest index */
    size_t bad_bytes;           /* size of that frame */
    bool bad_is_certain;        /* refused for itself, not as part of a batch */
    rd_kafka_resp_err_t failure;
    uint16_t bad_topic;
};

static struct sink *sink_of(struct mr_sink *sink)
{
    return (struct sink *)sink;
}

/* Does it blame the message (or its batch) rather than the state of the cluster? */
static bool blames_message(rd_kafka_resp_err_t code)
{
    return code == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE ||
           code == RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE ||
           code == RD_KAFKA_RESP_ERR_INVALID_RECORD || code == RD_KAFKA_RESP_ERR_INVALID_MSG_SIZE ||
           code == RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP;
}

static bool is_size(rd_kafka_resp_err_t code)
{
    return code == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE ||
           code == RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE;
}

/* What blames no message outranks what does: the unit is then repeated, and nothing dead-lettered
 * for it. */
static void note_failure(struct sink *sink, rd_kafka_resp_err_t code, size_t index, size_t bytes,
                         uint16_t topic, bool certain)
{
    bool first = !sink->n_failed++;
    if (!first && blames_message(code) != blames_message(sink->failure)) {
        if (blames_message(code))
            return;
    } else if (!first && index >= sink->first_bad) {
        return;
    }
    sink->failure = code;
    sink->first_bad = index;
    sink->bad_bytes = bytes;
    sink->bad_topic = topic;
    sink->bad_is_certain = certain;
}

static uint16_t topic_index(const struct sink *sink, const rd_kafka_topic_t *topic)
{
    const char *name = rd_kafka_topic_name(topic);
    for (size_t i = 0; i < sink->n_topics; i++)
        if (strcmp(sink->names[i], name) == 0)
            return (uint16_t)i;
    return 0;
}

static void on_delivery(rd_kafka_t *rk, const rd_kafka_message_t *msg, void *opaque)
{
    (void)rk;
    struct sink *sink = opaque;
    sink->n_done++;
    if (__builtin_expect(msg->err == RD_KAFKA_RESP_ERR_NO_ERROR, 1))
        return;
    note_failure(sink, msg->err, (size_t)(uintptr_t)msg->_private, msg->len + msg->key_len,
                 topic_index(sink, msg->rkt), false);
}

static void on_client_error(rd_kafka_t *rk, int code, const char *reason, void *opaque)
{
    (void)rk;
    struct sink *sink = opaque;
    mr_kafka_contact_error(&sink->contact, (rd_kafka_resp_err_t)code, reason);
    sink->spoilt |= code == RD_KAFKA_RESP_ERR__FATAL;
}

static void close_producer(struct sink *sink)
{
    if (!sink->rk)
        return;
    for (size_t i = 0; i < sink->n_topics; i++)
        if (sink->topics[i])
            rd_kafka_topic_destroy(sink->topics[i]);
    memset(sink->topics, 0, sink->n_topics * sizeof *sink->topics);
    rd_kafka_destroy(
        sink->rk); /* joins librdkafka's threads: nothing borrowed is in use after it */
    sink->rk = NULL;
    sink->spoilt = false;
}

static bool open_producer(struct sink *sink, struct mr_error *err)
{
    char why[512], batch[24];
    rd_kafka_conf_t *conf = rd_kafka_conf_dup(sink->conf);
    if (sink->batch_bytes) {
        snprintf(batch, sizeof batch, "%zu", sink->batch_bytes);
        rd_kafka_conf_set(conf, "batch.size", batch, why, sizeof why);
    }
    sink->rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof why);
    if (!sink->rk) {
        rd_kafka_conf_destroy(conf);
        return mr_error_set(err, MR_STOP, MR_EXIT_CONFIG, "Kafka producer: %s", why);
    }
    for (size_t i = 0; i < sink->n_topics; i++) {
        sink->topics[i] = rd_kafka_topic_new(sink->rk, sink->names[i], NULL);
        if (!sink->topics[i]) {
            mr_error_set(err, MR_STOP, MR_EXIT_CONFIG, "topic \"%s\" of the sink: %s",
                         sink->names[i], rd_kafka_err2str(rd_kafka_last_error()));
            close_producer(sink);
            return false;
        }
    }
    return true;
}

static rd_kafka_headers_t *headers_of(const struct mr_frame *frame, struct mr_bytes bytes)
{
    rd_kafka_headers_t *headers = rd_kafka_headers_new(frame->n_headers);
    const char *at = bytes.ptr;
    for (unsigned i = 0; i < frame->n_headers; i++) {
        uint32_t lens[2];
        memcpy(lens, at, sizeof lens);
        at += sizeof lens;
        bool null = lens[1] == MR_ABSENT;
        rd_kafka_header_add(headers, at, lens[0], null ? NULL : at + lens[0], null ? 0 : lens[1]);
        at += lens[0] + (null ? 0 : lens[1]);
    }
    return headers;
}

/* Takes one frame; a full queue is waited for. False: *err, the unit cannot go on. What blames only
 * this message is noted, for flush to report. */
static bool put(struct sink *sink, const struct mr_frame *frame, struct mr_bytes key,
                struct mr_bytes headers, struct mr_bytes value, struct mr_error *err)
{
    size_t index = sink->n_frames++;
    rd_kafka_headers_t *list = frame->n_headers ? headers_of(frame, headers) : NULL;
    rd_kafka_vu_t args[] = {
        {.vtype = RD_KAFKA_VTYPE_RKT, .u.rkt = sink->topics[frame->topic]},
        {.vtype = RD_KAFKA_VTYPE_VALUE, .u.mem = {(void *)(uintptr_t)value.ptr, value.len}},
        {.vtype = RD_KAFKA_VTYPE_KEY, .u.mem = {(void *)(uintptr_t)key.ptr, key.len}},
        {.vtype = RD_KAFKA_VTYPE_TIMESTAMP, .u.i64 = frame->timestamp_ms},
        {.vtype = RD_KAFKA_VTYPE_OPAQUE, .u.ptr = (void *)(uintptr_t)index},
        {.vtype = RD_KAFKA_VTYPE_HEADERS, .u.headers = list}, /* taken on success only */
    };
    size_t n_args = sizeof args / sizeof *args - (list ? 0 : 1);
    for (;;) {
        rd_kafka_error_t *error = rd_kafka_produceva(sink->rk, args, n_args);
        if (__builtin_expect(!error, 1)) {
            sink->n_queued++;
            return true;
        }
        rd_kafka_resp_err_t code = rd_kafka_error_code(error);
        rd_kafka_error_destroy(error);
        if (code == RD_KAFKA_RESP_ERR__QUEUE_FULL && !sink->n_failed && !sink->spoilt) {
            rd_kafka_poll(sink->rk, SLICE_MS);
            continue;
        }
        if (list)
            rd_kafka_headers_destroy(list);
        if (code == RD_KAFKA_RESP_ERR__QUEUE_FULL)
            return true; /* flush tells what went wrong before */
        if (blames_message(code)) {
            note_failure(sink, code, index, value.len + key.len, frame->topic, true);
            return true;
        }
        sink->spoilt = true;
        return mr_kafka_contact_fail(&sink->contact, code, "producing", sink->names[frame->topic],
                                     NULL, err);
    }
}

static bool sink_produce(struct mr_sink *base, struct mr_bytes frames, struct mr_error *err)
{
    struct sink *sink = sink_of(base);
    if (!sink->rk && !open_producer(sink, err))
        return false;
    const char *at = frames.ptr, *end = frames.ptr + frames.len;
    while (at < end) {
        struct mr_frame frame;
        struct mr_bytes key, headers, value;
        at = mr_frame_read(at, &frame, &key, &headers, &value);
        mr_assert(at <= end && frame.topic < sink->n_topics);
        if (!put(sink, &frame, key, headers, value, err))
            return false;
    }
    rd_kafka_poll(sink->rk, 0);
    return true;
}

/* The broker refuses a batch as a whole. With several in it nobody knows which was at fault:
 * smaller batches find out, or were all that was needed. */
static bool retry_smaller(struct sink *sink, struct mr_error *err)
{
    if (!is_size(sink->failure) || sink->bad_is_certain || sink->n_failed == 1)
        return false;
    size_t batch = sink->batch_bytes;
    if (!batch) {
        char text[24];
        mr_kafka_conf_get(sink->conf, "batch.size", text, sizeof text);
        batch = (size_t)strtoul(text, NULL, 10);
    }
    if (batch / 2 < MIN_BATCH_BYTES || sink->bad_bytes >= batch)
        return false;
    sink->batch_bytes = batch / 2;
    sink->spoilt = true;
    mr_log(MR_WARN,
           "topic %s takes no batches of %zu bytes: going on with %zu; set \"batch.size\" of the "
           "sink below the topic's max.message.bytes",
           sink->names[sink->bad_topic], batch, sink->batch_bytes);
    return !mr_error_set(err, MR_RETRY, MR_EXIT_TRY_AGAIN,
                         "topic %s refused a batch of %zu messages as too large",
                         sink->names[sink->bad_topic], sink->n_failed);
}

static bool report_failure(struct sink *sink, size_t *bad, struct mr_error *err)
{
    const char *topic = sink->names[sink->bad_topic];
    rd_kafka_resp_err_t code = sink->failure;
    if (!blames_message(code)) {
        /* A topic that has gone, an expired message: with a new producer, a new look at the
         * cluster. */
        sink->spoilt = true;
        char what[320];
        snprintf(what, sizeof what, "%zu of %zu messages for topic %s not delivered",
                 sink->n_failed, sink->n_queued, topic);
        return mr_kafka_contact_fail(&sink->contact, code, what, topic, NULL, err);
    }
    if (retry_smaller(sink, err))
        return false;
    bool certain = sink->bad_is_certain || sink->n_failed == 1;
    *bad = certain ? sink->first_bad : SIZE_MAX;
    return mr_error_reject(err, is_size(code) ? "too_large" : "rejected",
                           "topic %s refused %s of %zu bytes: %s", topic,
                           certain ? "a message" : "a batch with a message", sink->bad_bytes,
                           rd_kafka_err2str(code));
}

static void start_over(struct sink *sink)
{
    sink->n_frames = sink->n_queued = sink->n_done = sink->n_failed = 0;
    sink->first_bad = sink->bad_bytes = 0;
    sink->bad_is_certain = false;
    sink->failure = RD_KAFKA_RESP_ERR_NO_ERROR;
}

static bool sink_flush(struct mr_sink *base, int timeout_ms, size_t *bad, struct mr_error *err)
{
    struct sink *sink = sink_of(base);
    int64_t deadline = mr_clock_mono_ms() + timeout_ms;
    bool failed = sink->n_failed > 0, unreachable = false;
    while (sink->n_done < sink->n_queued && !unreachable) {
        int64_t left = deadline - mr_clock_mono_ms();
        if (left <= 0)
            break;
        rd_kafka_flush(sink->rk, left < SLICE_MS ? (int)left : SLICE_MS);
        if (sink->n_failed && !failed) {
            int64_t soon = mr_clock_mono_ms() + AFTERMATH_MS;
            deadline = soon < deadline ? soon : deadline;
            failed = true;
        }
        /* A login that fails will not get better within this unit; brokers that are away may. */
        unreachable =
            sink->contact.pending && sink->contact.pending != RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN;
    }
    if (sink->n_failed)
        return report_failure(sink, bad, err);
    if (unreachable && mr_kafka_contact_take(&sink->contact, err))
        return false;
    if (sink->n_done < sink->n_queued)
        return mr_error_set(err, MR_RETRY, MR_EXIT_UNREACHABLE,
                            "Kafka at %s has not acknowledged %zu of %zu messages within %d ms%s%s",
                            sink->contact.brokers, sink->n_queued - sink->n_done, sink->n_queued,
                            timeout_ms, sink->contact.last[0] ? ": " : "", sink->contact.last);
    if (sink->n_queued)
        mr_kafka_contact_made(&sink->contact);
    start_over(sink);
    return true;
}

static void sink_abort(struct mr_sink *base)
{
    struct sink *sink = sink_of(base);
    if (sink->rk && sink->n_done < sink->n_queued) {
        rd_kafka_purge(sink->rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
        rd_kafka_flush(sink->rk, SLICE_MS); /* takes the reports of what was purged */
        sink->spoilt = true;
    }
    if (sink->spoilt)
        close_producer(sink);
    start_over(sink);
}

static void sink_close(struct mr_sink *base)
{
    struct sink *sink = sink_of(base);
    if (!base)
        return;
    sink_abort(base);
    close_producer(sink);
    for (size_t i = 0; i < sink->n_topics; i++)
        free(sink->names[i]);
    free(sink->names);
    free(sink->topics);
    if (sink->conf)
        rd_kafka_conf_destroy(sink->conf);
    free(sink);
}

static const struct mr_sink_ops sink_ops = {
    .produce = sink_produce,
    .flush = sink_flush,
    .abort = sink_abort,
    .close = sink_close,
};

static bool build_conf(const struct mr_kafka_sink_options *options, rd_kafka_conf_t **out,
                       struct mr_error *err)
{
    size_t queue_kb = (options->queue_bytes ? options->queue_bytes : DEFAULT_QUEUE_BYTES) / 1024;
    char queue[24], batch[24];
    snprintf(queue, sizeof queue, "%zu",
             queue_kb < 1           ? 1
             : queue_kb > INT32_MAX ? INT32_MAX
                                    : queue_kb);
    snprintf(batch, sizeof batch, "%d", BATCH_BYTES);
    const struct mr_kafka_setting defaults[] = {
        {"client.id", options->client_id ? options->client_id : "millrace"},
        {"linger.ms", "5"},
        {"batch.size", batch},
        {"batch.num.messages", "100000"},
        {"queue.buffering.max.kbytes", queue},
        {"queue.buffering.max.messages", "200000"},
        /* How long a topic may be unknown before a message for it fails: below message.timeout.ms,
         * so that the reason is told, not only the time. */
        {"topic.metadata.propagation.max.ms", "5000"},
    };
    static const struct mr_kafka_setting fixed[] = {
        {"enable.idempotence", "true"},        {"acks", "all"},
        {"message.timeout.ms", "20000"},       {"delivery.report.only.error", "false"},
        {"allow.auto.create.topics", "false"},
    };
    return mr_kafka_conf_build(MR_KAFKA_SINK, options->properties, options->n_properties, defaults,
                               sizeof defaults / sizeof *defaults, fixed,
                               sizeof fixed / sizeof *fixed, out, err);
}

bool mr_kafka_sink_open(const struct mr_kafka_sink_options *options, struct mr_sink **out,
                        struct mr_error *err)
{
    *out = NULL;
    rd_kafka_conf_t *conf = NULL;
    if (!mr_kafka_properties_check(options->properties, options->n_properties, true, err) ||
        !build_conf(options, &conf, err))
        return false;
    struct sink *sink = mr_calloc(1, sizeof *sink);
    sink->base.ops = &sink_ops;
    sink->conf = conf;
    sink->n_topics = options->n_topics;
    sink->names = mr_calloc(options->n_topics + 1, sizeof *sink->names);
    sink->topics = mr_calloc(options->n_topics + 1, sizeof(rd_kafka_topic_t *));
    for (size_t i = 0; i < options->n_topics; i++)
        sink->names[i] = mr_strdup(options->topics[i]);
    mr_kafka_contact_init(&sink->contact, conf);
    rd_kafka_conf_set_opaque(conf, sink);
    rd_kafka_conf_set_error_cb(conf, on_client_error);
    rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
    /* What librdkafka only finds out when it makes a producer belongs here, before anything is
     * read. */
    if (!open_producer(sink, err)) {
        sink_close(&sink->base);
        return false;
    }
    *out = &sink->base;
    return true;
}
