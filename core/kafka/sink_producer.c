/*
 * sink_producer.c - the life of a sink's producer: its configuration, how it is made, plain or
 * transactional, and thrown away.
 *
 * One worker's thread; on_request_sent runs in librdkafka's. Owns the producer and its topic
 * objects. A producer is thrown away and made again wherever its past is in doubt: only a destroyed
 * one is certain to have let go of the borrowed memory, and only a new epoch (init_transactions)
 * makes the broker refuse what an old one still has on its way. Must not know messages. Tests:
 * tests/unit/test_kafka_sink.c, test_kafka_transactions.c.
 */
#include "kafka/sink.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    DEFAULT_QUEUE_BYTES = 64 * 1024 * 1024,
    BATCH_BYTES = 1000000,
    INIT_TIMEOUT_MS = 10000,
    INIT_SLICE_MS = 200,
    API_END_TXN = 26,
    API_TXN_OFFSET_COMMIT = 28
};

static void on_client_error(rd_kafka_t *rk, int code, const char *reason, void *opaque)
{
    (void)rk;
    struct mr_kafka_sink *sink = opaque;
    mr_kafka_contact_error(&sink->contact, (rd_kafka_resp_err_t)code, reason);
    /* A connection that was never made carried no request: a broker that is down for long, one of
     * several, must not cost a producer a transaction. */
    bool never_made = code == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN ||
                      code == RD_KAFKA_RESP_ERR__RESOLVE || strstr(reason, ": Connect to ");
    if (code == RD_KAFKA_RESP_ERR__FATAL)
        sink->spoilt = true;
    else if (!never_made)
        sink->doubt = "a connection was lost";
}

/* In a thread of librdkafka. It repeats a request by itself, and says so nowhere else. */
static rd_kafka_resp_err_t on_request_sent(rd_kafka_t *rk, int socket, const char *broker,
                                           int32_t broker_id, int16_t api, int16_t version,
                                           int32_t correlation, size_t size, void *opaque)
{
    (void)rk, (void)socket, (void)broker, (void)broker_id;
    (void)version, (void)correlation, (void)size;
    struct mr_kafka_sent *sent = opaque;
    if (api == API_END_TXN)
        atomic_fetch_add(&sent->n_end, 1);
    else if (api == API_TXN_OFFSET_COMMIT)
        atomic_fetch_add(&sent->n_offsets, 1);
    return RD_KAFKA_RESP_ERR_NO_ERROR;
}

static rd_kafka_resp_err_t on_new(rd_kafka_t *rk, const rd_kafka_conf_t *conf, void *opaque,
                                  char *why, size_t size)
{
    (void)conf, (void)why, (void)size;
    return rd_kafka_interceptor_add_on_request_sent(rk, "millrace", on_request_sent, opaque);
}

static void let_go_of_topics(struct mr_kafka_sink *sink)
{
    for (size_t i = 0; i < sink->n_topics; i++)
        if (sink->topics[i])
            rd_kafka_topic_destroy(sink->topics[i]);
    memset(sink->topics, 0, sink->n_topics * sizeof *sink->topics);
}

void mr_kafka_sink_abandon_producer(struct mr_kafka_sink *sink)
{
    mr_assert(sink->n_done == sink->n_queued);
    let_go_of_topics(sink);
    sink->rk = NULL;
    sink->sent = NULL;
}

void mr_kafka_sink_close_producer(struct mr_kafka_sink *sink)
{
    mr_kafka_sink_settle_offsets(sink);
    sink->spoilt = sink->open = sink->refused = false;
    sink->doubt = NULL;
    if (!sink->rk)
        return;
    if (sink->n_done < sink->n_queued) {
        rd_kafka_purge(sink->rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
        rd_kafka_flush(sink->rk, MR_KAFKA_SLICE_MS); /* takes the reports of what was purged */
    }
    let_go_of_topics(sink);
    /* Joins librdkafka's threads: nothing borrowed is in use after it. */
    rd_kafka_destroy(sink->rk);
    sink->rk = NULL;
    free(sink->sent);
    sink->sent = NULL;
    sink->spoilt = false; /* by a report of what was purged */
    sink->doubt = NULL;
}

/* Takes `conf`. */
static rd_kafka_t *new_producer(const struct mr_kafka_sink *sink, rd_kafka_conf_t *conf,
                                const char *transactional_id, struct mr_error *err)
{
    char timeout[16];
    snprintf(timeout, sizeof timeout, "%d", sink->transaction_timeout_ms);
    const struct mr_kafka_setting settings[] = {
        {"transaction.timeout.ms", timeout},
        /* A request to the coordinator that nobody answers is given up, and sent again, within the
         * bound of a commit. */
        {"socket.timeout.ms", "10000"},
        /* A transaction that begins while the broker still writes down the end of the one before is
         * told to wait: not for librdkafka's 100 ms. */
        {"retry.backoff.ms", "10"},
    };
    char why[512] = "";
    bool ok = true;
    if (transactional_id) {
        ok = rd_kafka_conf_set(conf, "transactional.id", transactional_id, why, sizeof why) ==
             RD_KAFKA_CONF_OK;
        for (size_t i = 0; ok && i < sizeof settings / sizeof *settings; i++)
            ok = rd_kafka_conf_set(conf, settings[i].name, settings[i].value, why, sizeof why) ==
                 RD_KAFKA_CONF_OK;
    }
    rd_kafka_t *rk = ok ? rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof why) : NULL;
    if (!rk) {
        rd_kafka_conf_destroy(conf);
        mr_error_set(err, MR_STOP, MR_EXIT_CONFIG, "Kafka producer: %s", why);
    }
    return rk;
}

rd_kafka_topic_t *mr_kafka_sink_topic(struct mr_kafka_sink *sink, uint16_t index,
                                      struct mr_error *err)
{
    if (__builtin_expect(sink->topics[index] != NULL, 1))
        return sink->topics[index];
    sink->topics[index] = rd_kafka_topic_new(sink->rk, sink->names[index], NULL);
    if (!sink->topics[index])
        mr_error_set(err, MR_STOP, MR_EXIT_CONFIG, "topic \"%s\" of the sink: %s",
                     sink->names[index], rd_kafka_err2str(rd_kafka_last_error()));
    return sink->topics[index];
}

bool mr_kafka_sink_open_producer(struct mr_kafka_sink *sink, struct mr_error *err)
{
    char why[512], batch[24];
    rd_kafka_conf_t *conf = rd_kafka_conf_dup(sink->conf);
    if (sink->batch_bytes) {
        snprintf(batch, sizeof batch, "%zu", sink->batch_bytes);
        rd_kafka_conf_set(conf, "batch.size", batch, why, sizeof why);
    }
    sink->sent = mr_calloc(1, sizeof *sink->sent);
    if (sink->transactional)
        rd_kafka_conf_interceptor_add_on_new(conf, "millrace", on_new, sink->sent);
    sink->contact.transactional_id = sink->transactional ? sink->transactional_id : NULL;
    sink->rk = new_producer(sink, conf, sink->contact.transactional_id, err);
    if (!sink->rk) {
        free(sink->sent);
        sink->sent = NULL;
    }
    for (size_t i = 0; sink->rk && i < sink->n_topics; i++)
        if (!mr_kafka_sink_topic(sink, (uint16_t)i, err))
            mr_kafka_sink_close_producer(sink);
    return sink->rk != NULL;
}

/* What init_transactions said last, when there is no use in waiting on. */
static bool init_failed(struct mr_kafka_contact *contact, rd_kafka_resp_err_t code,
                        const char *detail, struct mr_error *err)
{
    char what[320];
    snprintf(what, sizeof what, "starting transactions as \"%s\"", contact->transactional_id);
    if (code == RD_KAFKA_RESP_ERR_INVALID_TRANSACTION_TIMEOUT)
        return mr_error_set(err, MR_STOP, MR_EXIT_CONFIG,
                            "%s: Kafka at %s does not allow transactions as long as Millrace's: "
                            "set the brokers' transaction.max.timeout.ms to 60000 or more",
                            what, contact->brokers);
    if (contact->down && contact->last[0])
        return mr_kafka_contact_fail(contact, RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN, what, NULL,
                                     contact->last, err);
    mr_kafka_contact_fail(contact, code, what, NULL, detail, err);
    if (err && err->action == MR_RECOVER)
        err->action = MR_RETRY; /* fenced while it began: nothing is open, another one may begin */
    return false;
}

bool mr_kafka_sink_init(rd_kafka_t *rk, struct mr_kafka_contact *contact, struct mr_error *err)
{
    int64_t deadline = mr_clock_mono_ms() + INIT_TIMEOUT_MS;
    for (;;) {
        rd_kafka_error_t *error = rd_kafka_init_transactions(rk, INIT_SLICE_MS);
        rd_kafka_poll(rk, 0);
        if (!error) {
            mr_kafka_contact_made(contact);
            return true;
        }
        rd_kafka_resp_err_t code = rd_kafka_error_code(error);
        char detail[512];
        snprintf(detail, sizeof detail, "%s", rd_kafka_error_string(error));
        bool again = rd_kafka_error_is_retriable(error) && mr_clock_mono_ms() < deadline;
        rd_kafka_error_destroy(error);
        /* A login that fails will not get better; brokers that are away may. */
        bool refused = contact->pending &&
                       contact->pending != RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN &&
                       contact->pending != RD_KAFKA_RESP_ERR__FATAL;
        if (refused && mr_kafka_contact_take(contact, err))
            return false;
        if (!again)
            return init_failed(contact, code, detail, err);
    }
}

static void on_other_error(rd_kafka_t *rk, int code, const char *reason, void *opaque)
{
    (void)rk;
    mr_kafka_contact_error(opaque, (rd_kafka_resp_err_t)code, reason);
}

bool mr_kafka_sink_end_other(struct mr_kafka_sink *sink, const char *owner, struct mr_error *err)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_dup(sink->conf);
    struct mr_kafka_contact contact;
    mr_kafka_contact_init(&contact, conf);
    contact.transactional_id = owner;
    contact.connected = sink->contact.connected;
    rd_kafka_conf_set_opaque(conf, &contact);
    rd_kafka_conf_set_error_cb(conf, on_other_error);
    rd_kafka_t *rk = new_producer(sink, conf, owner, err);
    if (!rk)
        return false;
    bool ok = mr_kafka_sink_init(rk, &contact, err);
    rd_kafka_destroy(rk);
    if (ok)
        mr_log(MR_INFO, "the open transaction of \"%s\", if there was one, has been ended", owner);
    return ok;
}

bool mr_kafka_sink_configure(struct mr_kafka_sink *sink,
                             const struct mr_kafka_sink_options *options, struct mr_error *err)
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
        /* Until then a batch fills up, or until the unit is flushed: sent sooner, a unit goes out
         * in many small requests while it is still being produced, which costs both sides more. */
        {"linger.ms", "50"},
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
    rd_kafka_conf_t *conf = NULL;
    if (!mr_kafka_conf_build(MR_KAFKA_SINK, options->properties, options->n_properties, defaults,
                             sizeof defaults / sizeof *defaults, fixed,
                             sizeof fixed / sizeof *fixed, &conf, err))
        return false;
    sink->conf = conf;
    mr_kafka_contact_init(&sink->contact, conf);
    rd_kafka_conf_set_opaque(conf, sink);
    rd_kafka_conf_set_error_cb(conf, on_client_error);
    rd_kafka_conf_set_dr_msg_cb(conf, mr_kafka_sink_on_delivery);
    return true;
}
