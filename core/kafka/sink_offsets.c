/*
 * sink_offsets.c - the offsets of a transaction, sent within a bound.
 *
 * librdkafka 2.0.2 waits for ever for the group's coordinator while its connection is not up
 * (rd_kafka_coord_req has a deadline that nothing looks at), and cannot be interrupted: neither by
 * its own time-out nor by rd_kafka_destroy. So each call has a thread of its own, which also lets
 * its two round trips run beside those of the messages and of the store. One that does not come
 * back keeps the producer, ends it when it does, and touches nothing of the sink: everything was
 * reported by then, and nothing is borrowed. Tests: tests/unit/test_kafka_transactions.c.
 */
#include "kafka/sink.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"

#include <pthread.h>
#include <stdlib.h>

enum {
    GRACE_MS = 1000, /* the call has a bound of its own, where it keeps it */
    REAP_MS = 100    /* for one that has come back to say so */
};

enum state { RUNNING, ENDED, ABANDONED };

struct mr_kafka_call {
    struct mr_thread thread;
    struct mr_kafka_call *next; /* of those that are left behind */
    rd_kafka_t *rk;
    struct mr_kafka_sent *sent;
    rd_kafka_topic_partition_list_t *list;
    rd_kafka_consumer_group_metadata_t *member; /* a copy: the consumer may forget its own */
    int timeout_ms;
    int64_t deadline_ms; /* monotonic; whoever waits for it does no longer */
    rd_kafka_error_t *error;
    atomic_int state;
};

static void run(void *arg)
{
    struct mr_kafka_call *call = arg;
    call->error =
        rd_kafka_send_offsets_to_transaction(call->rk, call->list, call->member, call->timeout_ms);
    if (atomic_exchange(&call->state, ENDED) != ABANDONED)
        return;
    if (call->error)
        rd_kafka_error_destroy(call->error);
    rd_kafka_topic_partition_list_destroy(call->list);
    rd_kafka_consumer_group_metadata_destroy(call->member);
    rd_kafka_destroy(call->rk);
    free(call->sent);
    mr_log(MR_INFO, "a producer that waited for the group's coordinator has ended");
}

static rd_kafka_consumer_group_metadata_t *
copy_member(const rd_kafka_consumer_group_metadata_t *member)
{
    rd_kafka_consumer_group_metadata_t *copy = NULL;
    void *bytes = NULL;
    size_t size = 0;
    mr_assert(!rd_kafka_consumer_group_metadata_write(member, &bytes, &size) &&
              !rd_kafka_consumer_group_metadata_read(&copy, bytes, size));
    rd_kafka_mem_free(NULL, bytes);
    return copy;
}

void mr_kafka_sink_reap_calls(struct mr_kafka_sink *sink)
{
    for (struct mr_kafka_call **at = &sink->left_behind; *at;) {
        struct mr_kafka_call *call = *at;
        if (mr_thread_join(&call->thread, mr_clock_mono_ms() + REAP_MS)) {
            *at = call->next;
            free(call);
        } else {
            at = &call->next;
        }
    }
}

/* Of sinks that were closed: nobody waits for them any more, and the process ends without them. */
static struct mr_kafka_call *orphans;
static pthread_mutex_t orphans_lock = PTHREAD_MUTEX_INITIALIZER;

void mr_kafka_sink_leave_calls(struct mr_kafka_sink *sink)
{
    mr_kafka_sink_reap_calls(sink);
    pthread_mutex_lock(&orphans_lock);
    while (sink->left_behind) {
        struct mr_kafka_call *call = sink->left_behind;
        sink->left_behind = call->next;
        call->next = orphans;
        orphans = call;
    }
    pthread_mutex_unlock(&orphans_lock);
}

void mr_kafka_sink_start_offsets(struct mr_kafka_sink *sink, rd_kafka_topic_partition_list_t *list,
                                 const rd_kafka_consumer_group_metadata_t *member, int timeout_ms)
{
    mr_assert(!sink->call);
    struct mr_kafka_call *call = mr_calloc(1, sizeof *call);
    call->rk = sink->rk;
    call->sent = sink->sent;
    call->list = list;
    call->member = copy_member(member);
    call->timeout_ms = timeout_ms;
    call->deadline_ms = mr_clock_mono_ms() + timeout_ms + GRACE_MS;
    sink->call = call;
    mr_thread_start(&call->thread, run, call);
}

/* librdkafka reports each message, well or not, once its request is over: until then the memory of
 * the messages is in use. */
static void await_reports(struct mr_kafka_sink *sink)
{
    while (sink->n_done < sink->n_queued)
        rd_kafka_flush(sink->rk, MR_KAFKA_SLICE_MS);
}

bool mr_kafka_sink_end_offsets(struct mr_kafka_sink *sink, rd_kafka_error_t **error)
{
    struct mr_kafka_call *call = sink->call;
    *error = NULL;
    sink->call = NULL;
    if (!mr_thread_join(&call->thread, call->deadline_ms)) {
        await_reports(sink);
        if (atomic_exchange(&call->state, ABANDONED) == RUNNING) {
            mr_log(MR_WARN, "librdkafka does not let go of a producer while the group's "
                            "coordinator is away: it is left behind");
            mr_kafka_leave_behind();
            mr_kafka_sink_abandon_producer(sink);
            call->next = sink->left_behind;
            sink->left_behind = call;
            return false;
        }
        mr_assert(mr_thread_join(&call->thread, INT64_MAX)); /* it came back this moment */
    }
    *error = call->error;
    rd_kafka_topic_partition_list_destroy(call->list);
    rd_kafka_consumer_group_metadata_destroy(call->member);
    free(call);
    return true;
}

void mr_kafka_sink_settle_offsets(struct mr_kafka_sink *sink)
{
    rd_kafka_error_t *error = NULL;
    if (!sink->call)
        return;
    sink->spoilt |= !mr_kafka_sink_end_offsets(sink, &error);
    if (error)
        rd_kafka_error_destroy(error);
}
