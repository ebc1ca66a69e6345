/*
 * sink_transaction.c - messages and offsets that become visible together, or never: a sink's
 * transactions.
 *
 * One worker's thread. Owns nothing. What a failure means is decided here: before the commit the
 * transaction is given up and nothing has happened (RETRY); a fatal error, a group that has moved
 * on and any failure of the commit leave it to a claim (RECOVER). A producer that had trouble ends
 * with its transaction. A request that may still be on its way could tear a later transaction, so
 * the next one begins under a new epoch. Must not know units. Tests:
 * tests/unit/test_kafka_transactions.c.
 */
#include "kafka/sink.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdio.h>

enum {
    OFFSETS_TIMEOUT_MS = 10000,
    COMMIT_TIMEOUT_MS = 10000,
    SLOW_MS = 1000,               /* an end of a transaction that took longer casts a doubt */
    ABORT_ACKNOWLEDGED_MS = 1000, /* for what is on its way, before an abort */
    ABORT_TIMEOUT_MS = 5000
};

/* The transaction, and with it the producer, is done for. Takes `error`. */
static bool give_up(struct mr_kafka_sink *sink, rd_kafka_error_t *error, const char *what,
                    const char *topic, struct mr_error *err)
{
    struct mr_error ignored;
    err = err ? err : &ignored;
    bool fatal = rd_kafka_error_is_fatal(error);
    sink->spoilt = true;
    mr_kafka_contact_fail(&sink->contact, rd_kafka_error_code(error), what, topic,
                          rd_kafka_error_string(error), err);
    rd_kafka_error_destroy(error);
    if (fatal && err->action == MR_RETRY && err->code != MR_EXIT_CONFIG)
        err->action = MR_RECOVER;
    return false;
}

bool mr_kafka_sink_transaction_failed(struct mr_kafka_sink *sink, const char *what,
                                      const char *topic, struct mr_error *err)
{
    /* Within a transaction it never succeeds: its error is the one that the transaction has. Unless
     * another call is on its way. */
    mr_kafka_sink_settle_offsets(sink);
    rd_kafka_error_t *error = sink->open && sink->rk ? rd_kafka_begin_transaction(sink->rk) : NULL;
    if (!error)
        return false;
    if (rd_kafka_error_is_fatal(error) || rd_kafka_error_txn_requires_abort(error))
        return !give_up(sink, error, what, topic, err);
    rd_kafka_error_destroy(error);
    return false;
}

bool mr_kafka_sink_fence(struct mr_sink *base, bool transactional, const char *owner,
                         struct mr_error *err)
{
    struct mr_kafka_sink *sink = mr_kafka_sink_of(base);
    if (owner) {
        /* One of our own name would be fenced too. */
        if (sink->transactional_id && strcmp(owner, sink->transactional_id) == 0)
            sink->doubt = "its name was fenced";
        return mr_kafka_sink_end_other(sink, owner, err);
    }
    mr_assert(!transactional || sink->transactional_id);
    mr_kafka_sink_close_producer(sink);
    mr_kafka_sink_start_over(sink);
    mr_kafka_sink_reap_calls(sink);
    sink->transactional = transactional;
    if (!mr_kafka_sink_open_producer(sink, err))
        return false;
    if (transactional && !mr_kafka_sink_init(sink->rk, &sink->contact, err)) {
        mr_kafka_sink_close_producer(sink);
        return false;
    }
    sink->doubt = NULL; /* by what was sent before there was an epoch */
    return true;
}

bool mr_kafka_sink_begin(struct mr_sink *base, struct mr_error *err)
{
    struct mr_kafka_sink *sink = mr_kafka_sink_of(base);
    char why[512] = "";
    mr_assert(sink->transactional && !sink->open);
    if (sink->rk)
        rd_kafka_poll(sink->rk, 0); /* lost connections are told here */
    if (sink->rk && rd_kafka_fatal_error(sink->rk, why, sizeof why)) {
        mr_kafka_sink_close_producer(sink);
        return mr_error_set(err, MR_RECOVER, MR_EXIT_TRY_AGAIN,
                            "the producer \"%s\" cannot go on: %s", sink->transactional_id, why);
    }
    if (sink->rk && sink->doubt)
        mr_log(MR_DEBUG, "the producer \"%s\" is made anew: %s", sink->transactional_id,
               sink->doubt);
    if ((!sink->rk || sink->spoilt || sink->doubt) && !mr_kafka_sink_fence(base, true, NULL, err))
        return false;
    rd_kafka_error_t *error = rd_kafka_begin_transaction(sink->rk);
    if (error) {
        give_up(sink, error, "beginning a transaction", NULL, err);
        mr_kafka_sink_close_producer(sink);
        return false;
    }
    sink->open = true;
    sink->refused = false;
    return true;
}

static bool start_offsets(struct mr_kafka_sink *sink, struct mr_source *source,
                          const struct mr_mark *marks, size_t n, int timeout_ms)
{
    const rd_kafka_consumer_group_metadata_t *member =
        (const rd_kafka_consumer_group_metadata_t *)source->ops->member(source);
    mr_assert(sink->open);
    sink->refused = true; /* until they are there */
    if (member)
        mr_kafka_sink_start_offsets(sink, mr_kafka_offsets_list(marks, n, true), member,
                                    timeout_ms);
    return member != NULL;
}

void mr_kafka_sink_begin_offsets(struct mr_sink *base, struct mr_source *source,
                                 const struct mr_mark *marks, size_t n)
{
    struct mr_kafka_sink *sink = mr_kafka_sink_of(base);
    atomic_store(&sink->sent->n_offsets, 0);
    start_offsets(sink, source, marks, n, OFFSETS_TIMEOUT_MS);
}

bool mr_kafka_sink_offsets(struct mr_sink *base, struct mr_source *source,
                           const struct mr_mark *marks, size_t n, struct mr_error *err)
{
    struct mr_kafka_sink *sink = mr_kafka_sink_of(base);
    static const char what[] = "offsets of the transaction";
    mr_assert(sink->open && sink->n_done == sink->n_queued);
    int64_t deadline = mr_clock_mono_ms() + OFFSETS_TIMEOUT_MS;
    unsigned calls = 0;
    rd_kafka_error_t *error = NULL; /* of the last call */
    if (!sink->call)
        mr_kafka_sink_begin_offsets(base, source, marks, n);
    if (!sink->call)
        return mr_kafka_contact_fail(&sink->contact, RD_KAFKA_RESP_ERR__ASSIGNMENT_LOST, what, NULL,
                                     "the partitions were taken away meanwhile", err);
    for (;;) {
        calls++;
        if (!mr_kafka_sink_end_offsets(sink, &error)) {
            sink->spoilt = true;
            return mr_kafka_contact_fail(&sink->contact, RD_KAFKA_RESP_ERR__TIMED_OUT, what, NULL,
                                         NULL, err);
        }
        int64_t left = deadline - mr_clock_mono_ms();
        if (!error)
            break;
        bool again = rd_kafka_error_is_retriable(error) && left > 0;
        if (again)
            rd_kafka_poll(sink->rk, MR_KAFKA_SLICE_MS);
        if (!again || !start_offsets(sink, source, marks, n, (int)left))
            return give_up(sink, error, what, NULL, err);
        rd_kafka_error_destroy(error);
    }
    if (calls > 1 || atomic_load(&sink->sent->n_offsets) > 1)
        sink->doubt = "offsets were sent more than once";
    sink->refused = false;
    return true;
}

/* Commits or aborts, in at most timeout_ms: what may be repeated is. NULL: done. */
static rd_kafka_error_t *end(struct mr_kafka_sink *sink,
                             rd_kafka_error_t *(*call)(rd_kafka_t *, int), int timeout_ms)
{
    int64_t began = mr_clock_mono_ms();
    atomic_store(&sink->sent->n_end, 0);
    for (;;) {
        int64_t left = began + timeout_ms - mr_clock_mono_ms();
        rd_kafka_error_t *error = call(sink->rk, left > 1 ? (int)left : 1);
        int64_t now = mr_clock_mono_ms();
        if (!error) {
            if (atomic_load(&sink->sent->n_end) > 1)
                sink->doubt = "the end of a transaction was sent more than once";
            else if (now - began > SLOW_MS)
                sink->doubt = "the end of a transaction took long";
            return NULL;
        }
        if (!rd_kafka_error_is_retriable(error) || now - began >= timeout_ms)
            return error;
        rd_kafka_error_destroy(error);
        rd_kafka_poll(sink->rk, MR_KAFKA_SLICE_MS);
    }
}

bool mr_kafka_sink_commit(struct mr_sink *base, struct mr_error *err)
{
    struct mr_kafka_sink *sink = mr_kafka_sink_of(base);
    mr_assert(sink->open && !sink->refused && !sink->call);
    rd_kafka_error_t *error = end(sink, rd_kafka_commit_transaction, COMMIT_TIMEOUT_MS);
    if (!error) {
        sink->open = false;
        mr_kafka_contact_made(&sink->contact);
        return true;
    }
    sink->spoilt = true;
    mr_error_set(err, MR_RECOVER, MR_EXIT_TRY_AGAIN,
                 "the commit of a transaction of \"%s\" at %s failed: %s; whether it reached Kafka "
                 "will be looked up",
                 sink->transactional_id, sink->contact.brokers, rd_kafka_error_string(error));
    rd_kafka_error_destroy(error);
    return false;
}

static bool has_trouble(const struct mr_kafka_sink *sink)
{
    return !sink->rk || sink->spoilt || sink->n_failed || sink->contact.down;
}

void mr_kafka_sink_abort_transaction(struct mr_kafka_sink *sink)
{
    mr_kafka_sink_settle_offsets(sink);
    int64_t deadline = mr_clock_mono_ms() + ABORT_ACKNOWLEDGED_MS;
    /* An abort that overtakes messages ends in a fatal error, and they would still be borrowed. */
    while (!has_trouble(sink) && sink->n_done < sink->n_queued && mr_clock_mono_ms() < deadline)
        rd_kafka_flush(sink->rk, MR_KAFKA_SLICE_MS);
    bool ok = !has_trouble(sink) && sink->n_done == sink->n_queued;
    if (ok) {
        rd_kafka_error_t *error = end(sink, rd_kafka_abort_transaction, ABORT_TIMEOUT_MS);
        ok = !error;
        if (error)
            rd_kafka_error_destroy(error);
    }
    if (!ok)
        mr_kafka_sink_close_producer(sink);
    sink->open = sink->refused = false;
}
