/*
 * leave.c - the end of a consumer: it leaves its group and is destroyed, each within a bound.
 *
 * The worker's thread, and one more for a destruction that may never return. Owns what was left
 * behind by one. Must not know what was read. Tests: tests/unit/test_kafka_source.c,
 * tests/integration.
 */
#include "kafka/consumer.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"

#include <stdatomic.h>
#include <stdlib.h>

enum { CLOSE_TIMEOUT_MS = 5000, DESTROY_TIMEOUT_MS = 3000 };

/* Leaves the group, so that the others need not wait for the session to time out; but not at any
 * price. */
void mr_kafka_leave(rd_kafka_t *rk)
{
    rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
    rd_kafka_error_t *error = rd_kafka_consumer_close_queue(rk, queue);
    int64_t deadline = mr_clock_mono_ms() + CLOSE_TIMEOUT_MS;
    while (!error && !rd_kafka_consumer_closed(rk) && mr_clock_mono_ms() < deadline) {
        rd_kafka_event_t *event = rd_kafka_queue_poll(queue, 50);
        if (event && rd_kafka_event_type(event) == RD_KAFKA_EVENT_REBALANCE)
            rd_kafka_assign(rk, NULL);
        if (event)
            rd_kafka_event_destroy(event);
    }
    if (error)
        rd_kafka_error_destroy(error);
    rd_kafka_queue_destroy(queue);
}

static atomic_bool left_behind;

bool mr_kafka_left_behind(void)
{
    return atomic_load(&left_behind);
}

void mr_kafka_leave_behind(void)
{
    atomic_store(&left_behind, true);
}

struct ending {
    struct mr_thread thread;
    rd_kafka_t *rk;
};

static void destroy(void *arg)
{
    const struct ending *ending = arg;
    rd_kafka_destroy_flags(ending->rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
}

/* librdkafka 2.0.2 waits for ever for a broker's thread when a topic it had read was deleted. It
 * may do so alone: a worker that has halted could not end. False: it still waits, and keeps its
 * memory. */
bool mr_kafka_end_consumer(rd_kafka_t *rk)
{
    struct ending *ending = mr_calloc(1, sizeof *ending);
    ending->rk = rk;
    mr_thread_start(&ending->thread, destroy, ending);
    if (!mr_thread_join(&ending->thread, mr_clock_mono_ms() + DESTROY_TIMEOUT_MS)) {
        mr_kafka_leave_behind();
        mr_log(MR_WARN, "librdkafka does not let go of a consumer: it is left behind");
        return false;
    }
    free(ending);
    return true;
}
