/*
 * sink.c - a producer as a sink: frames go out without a copy of their values, acknowledgements are
 * counted, failures are named.
 *
 * One worker's thread; delivery reports arrive inside its calls of poll and flush. Owns the names
 * of the topics. Must not know units or what is in a message. The producer: sink_producer.c,
 * transactions: sink_transaction.c. Tests: tests/unit/test_kafka_sink.c, test_kafka_transactions.c.
 */
#include "kafka/sink.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    MIN_BATCH_BYTES = 1024,
    TRANSACTION_TIMEOUT_MS = 60000,
    AFTERMATH_MS = 2000 /* after a failure: for the reports of the others */
};

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

/* Thrown away by librdkafka itself: the reason lies elsewhere. */
static bool is_consequence(rd_kafka_resp_err_t code)
{
    return code == RD_KAFKA_RESP_ERR__PURGE_QUEUE || code == RD_KAFKA_RESP_ERR__PURGE_INFLIGHT;
}

/* What blames no message outranks what does: the unit is then repeated, and nothing dead-lettered
 * for it. */
static int rank(rd_kafka_resp_err_t code)
{
    return is_consequence(code) ? 0 : blames_message(code) ? 1 : 2;
}

static void note_failure(struct mr_kafka_sink *sink, rd_kafka_resp_err_t code, size_t index,
                         size_t bytes, uint16_t topic, bool certain)
{
    bool first = !sink->n_failed++;
    sink->n_refused += blames_message(code);
    if (!first && (rank(code) < rank(sink->failure) ||
                   (rank(code) == rank(sink->failure) && index >= sink->first_bad)))
        return;
    sink->failure = code;
    sink->first_bad = index;
    sink->bad_bytes = bytes;
    sink->bad_topic = topic;
    sink->bad_is_certain = certain;
}

static uint16_t topic_index(const struct mr_kafka_sink *sink, const rd_kafka_topic_t *topic)
{
    const char *name = rd_kafka_topic_name(topic);
    for (size_t i = 0; i < sink->n_topics; i++)
        if (strcmp(sink->names[i], name) == 0)
            return (uint16_t)i;
    return 0;
}

void mr_kafka_sink_on_delivery(rd_kafka_t *rk, const rd_kafka_message_t *msg, void *opaque)
{
    (void)rk;
    struct mr_kafka_sink *sink = opaque;
    sink->n_done++;
    if (__builtin_expect(msg->err == RD_KAFKA_RESP_ERR_NO_ERROR, 1))
        return;
    note_failure(sink, msg->err, (size_t)(uintptr_t)msg->_private, msg->len + msg->key_len,
                 topic_index(sink, msg->rkt), false);
}

static rd_kafka_headers_t *headers_of(const struct mr_frame *frame, struct mr_bytes bytes)
{
    rd_kafka_headers_t *headers = rd_kafka_headers_new(frame->n_headers);
    const char *at = bytes.ptr;
    for (unsigned i = 0; i < frame->n_headers; i++) {
        struct mr_bytes name, value;
        at = mr_frame_header(at, &name, &value);
        rd_kafka_header_add(headers, name.ptr, (ssize_t)name.len, value.ptr, (ssize_t)value.len);
    }
    return headers;
}

/* Takes one frame; a full queue is waited for. False: *err, the unit cannot go on. What blames only
 * this message is noted, for flush to report. */
static bool put(struct mr_kafka_sink *sink, const struct mr_frame *frame, struct mr_bytes key,
                struct mr_bytes headers, struct mr_bytes value, struct mr_error *err)
{
    rd_kafka_topic_t *topic = mr_kafka_sink_topic(sink, frame->topic, err);
    if (__builtin_expect(!topic, 0))
        return false;
    size_t index = sink->n_frames++;
    rd_kafka_headers_t *list = frame->n_headers ? headers_of(frame, headers) : NULL;
    rd_kafka_vu_t args[] = {
        {.vtype = RD_KAFKA_VTYPE_RKT, .u.rkt = topic},
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
            rd_kafka_poll(sink->rk, MR_KAFKA_SLICE_MS);
            continue;
        }
        if (list)
            rd_kafka_headers_destroy(list);
        if (code == RD_KAFKA_RESP_ERR__STATE && sink->open && !sink->n_failed)
            rd_kafka_poll(sink->rk, MR_KAFKA_SLICE_MS); /* the report of what ended it */
        if (sink->n_failed &&
            (code == RD_KAFKA_RESP_ERR__QUEUE_FULL || code == RD_KAFKA_RESP_ERR__STATE))
            return true; /* flush tells what went wrong before */
        if (blames_message(code)) {
            note_failure(sink, code, index, value.len + key.len, frame->topic, true);
            return true;
        }
        sink->spoilt = true;
        if (mr_kafka_sink_transaction_failed(sink, "producing", sink->names[frame->topic], err))
            return false;
        return mr_kafka_contact_fail(&sink->contact, code, "producing", sink->names[frame->topic],
                                     NULL, err);
    }
}

static bool sink_produce(struct mr_sink *base, struct mr_bytes frames, struct mr_error *err)
{
    struct mr_kafka_sink *sink = mr_kafka_sink_of(base);
    mr_assert(sink->open == sink->transactional && !sink->call);
    if (!sink->rk && !mr_kafka_sink_open_producer(sink, err))
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
static bool retry_smaller(struct mr_kafka_sink *sink, struct mr_error *err)
{
    if (!is_size(sink->failure) || sink->bad_is_certain || sink->n_refused == 1)
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
                         sink->names[sink->bad_topic], sink->n_refused);
}

static bool report_failure(struct mr_kafka_sink *sink, size_t *bad, struct mr_error *err)
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
        if (is_consequence(code) && mr_kafka_sink_transaction_failed(sink, what, topic, err))
            return false;
        return mr_kafka_contact_fail(&sink->contact, code, what, topic, NULL, err);
    }
    if (retry_smaller(sink, err))
        return false;
    bool certain = sink->bad_is_certain || sink->n_refused == 1;
    *bad = certain ? sink->first_bad : SIZE_MAX;
    return mr_error_reject(err, is_size(code) ? "too_large" : "rejected",
                           "topic %s refused %s of %zu bytes: %s", topic,
                           certain ? "a message" : "a batch with a message", sink->bad_bytes,
                           rd_kafka_err2str(code));
}

void mr_kafka_sink_start_over(struct mr_kafka_sink *sink)
{
    sink->n_frames = sink->n_queued = sink->n_done = 0;
    sink->n_failed = sink->n_refused = 0;
    sink->first_bad = sink->bad_bytes = 0;
    sink->bad_is_certain = false;
    sink->failure = RD_KAFKA_RESP_ERR_NO_ERROR;
}

static bool sink_flush(struct mr_sink *base, int timeout_ms, size_t *bad, struct mr_error *err)
{
    struct mr_kafka_sink *sink = mr_kafka_sink_of(base);
    int64_t deadline = mr_clock_mono_ms() + timeout_ms;
    bool failed = sink->n_failed > 0, unreachable = false;
    while (sink->n_done < sink->n_queued && !unreachable) {
        int64_t left = deadline - mr_clock_mono_ms();
        if (left <= 0)
            break;
        rd_kafka_flush(sink->rk, left < MR_KAFKA_SLICE_MS ? (int)left : MR_KAFKA_SLICE_MS);
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
    mr_kafka_sink_start_over(sink);
    return true;
}

static void sink_abort(struct mr_sink *base)
{
    struct mr_kafka_sink *sink = mr_kafka_sink_of(base);
    if (sink->open)
        mr_kafka_sink_abort_transaction(sink);
    else if (sink->spoilt || sink->n_done < sink->n_queued)
        mr_kafka_sink_close_producer(sink);
    mr_kafka_sink_start_over(sink);
}

static uint16_t sink_topic(struct mr_sink *base, const char *name)
{
    struct mr_kafka_sink *sink = mr_kafka_sink_of(base);
    for (size_t i = 0; i < sink->n_topics; i++)
        if (strcmp(sink->names[i], name) == 0)
            return (uint16_t)i;
    mr_assert(sink->n_topics < UINT16_MAX);
    sink->names = mr_realloc(sink->names, (sink->n_topics + 1) * sizeof *sink->names);
    sink->topics = mr_realloc(sink->topics, (sink->n_topics + 1) * sizeof(rd_kafka_topic_t *));
    sink->names[sink->n_topics] = mr_strdup(name);
    sink->topics[sink->n_topics] = NULL;
    return (uint16_t)sink->n_topics++;
}

static const char *sink_topic_name(struct mr_sink *base, uint16_t index)
{
    const struct mr_kafka_sink *sink = mr_kafka_sink_of(base);
    return index < sink->n_topics ? sink->names[index] : NULL;
}

static void sink_close(struct mr_sink *base)
{
    struct mr_kafka_sink *sink = mr_kafka_sink_of(base);
    if (!base)
        return;
    sink_abort(base);
    mr_kafka_sink_close_producer(sink);
    mr_kafka_sink_leave_calls(sink);
    for (size_t i = 0; i < sink->n_topics; i++)
        free(sink->names[i]);
    free(sink->names);
    free(sink->topics);
    free(sink->transactional_id);
    if (sink->conf)
        rd_kafka_conf_destroy(sink->conf);
    free(sink);
}

static const struct mr_sink_ops sink_ops = {
    .fence = mr_kafka_sink_fence,
    .begin = mr_kafka_sink_begin,
    .produce = sink_produce,
    .flush = sink_flush,
    .begin_offsets = mr_kafka_sink_begin_offsets,
    .offsets = mr_kafka_sink_offsets,
    .commit = mr_kafka_sink_commit,
    .abort = sink_abort,
    .topic = sink_topic,
    .topic_name = sink_topic_name,
    .close = sink_close,
};

bool mr_kafka_sink_open(const struct mr_kafka_sink_options *options, struct mr_sink **out,
                        struct mr_error *err)
{
    *out = NULL;
    if (!mr_kafka_properties_check(options->properties, options->n_properties, true, err))
        return false;
    struct mr_kafka_sink *sink = mr_calloc(1, sizeof *sink);
    sink->base.ops = &sink_ops;
    if (options->transactional_id)
        sink->transactional_id = mr_strdup(options->transactional_id);
    sink->transaction_timeout_ms =
        options->transaction_timeout_ms ? options->transaction_timeout_ms : TRANSACTION_TIMEOUT_MS;
    for (size_t i = 0; i < options->n_topics; i++)
        mr_assert(sink_topic(&sink->base, options->topics[i]) == i);
    /* What librdkafka only finds out when it makes a producer belongs here, before anything is
     * read. */
    if (!mr_kafka_sink_configure(sink, options, err) || !mr_kafka_sink_open_producer(sink, err)) {
        sink_close(&sink->base);
        return false;
    }
    *out = &sink->base;
    return true;
}
