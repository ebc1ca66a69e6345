/*
 * test_kafka_sink.c - the sink on librdkafka's mock cluster: acknowledgements, refusals, brokers
 * that are away, and above all that an abort lets go of the memory that was lent.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/log.h"
#include "../support/mockcluster.h"

#include <pthread.h>

static struct mock mock;
static struct mr_sink *sink;
static char lines[65536];
static pthread_mutex_t lines_lock = PTHREAD_MUTEX_INITIALIZER; /* librdkafka's threads log too */

static void keep_line(const char *line, void *arg)
{
    (void)arg;
    pthread_mutex_lock(&lines_lock);
    size_t len = strlen(lines);
    snprintf(lines + len, sizeof lines - len, "%s\n", line);
    pthread_mutex_unlock(&lines_lock);
}

static bool was_logged(const char *text)
{
    pthread_mutex_lock(&lines_lock);
    bool found = strstr(lines, text) != NULL;
    pthread_mutex_unlock(&lines_lock);
    return found;
}

static void open_sink(const char *name, const char *value, size_t queue_bytes)
{
    static const char *const topics[] = {"out", "gone"};
    struct mr_error err = {0};
    struct mr_kafka_property properties[5];
    size_t n = mock.n_properties;
    memcpy(properties, mock.properties, n * sizeof *properties);
    if (name)
        properties[n++] = (struct mr_kafka_property){name, value, false};
    struct mr_kafka_sink_options options = {.properties = properties,
                                            .n_properties = n,
                                            .topics = topics,
                                            .n_topics = 2,
                                            .queue_bytes = queue_bytes};
    if (!mr_kafka_sink_open(&options, &sink, &err))
        fail_msg("%s", err.msg);
}

static int set_up(void **state)
{
    (void)state;
    lines[0] = '\0';
    mr_log_hook(keep_line, NULL);
    if (!mock_up(&mock))
        return -1;
    mock_topic(&mock, "out", 1);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    if (sink)
        sink->ops->close(sink);
    sink = NULL;
    mock_down(&mock);
    mr_log_hook(NULL, NULL);
    return 0;
}

/* Reads topic `out` from its beginning to its end by a consumer that is not ours; the values, in
 * order, each with a blank behind it. */
static void read_out(struct mr_buf *text)
{
    char why[256];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_set(conf, "bootstrap.servers", mock.properties[0].value, why, sizeof why);
    rd_kafka_conf_set(conf, "group.id", "reader", why, sizeof why);
    rd_kafka_conf_set(conf, "enable.partition.eof", "true", why, sizeof why);
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, why, sizeof why);
    assert_non_null(rk);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, "out", 0)->offset = 0;
    rd_kafka_assign(rk, list);
    rd_kafka_topic_partition_list_destroy(list);
    int64_t deadline = mr_clock_mono_ms() + 20000;
    bool end = false;
    while (!end && mr_clock_mono_ms() < deadline) {
        rd_kafka_message_t *msg = rd_kafka_consumer_poll(rk, 100);
        if (!msg)
            continue;
        end = msg->err == RD_KAFKA_RESP_ERR__PARTITION_EOF;
        if (!msg->err) {
            mr_buf_put(text, msg->payload, msg->len);
            mr_buf_put_char(text, ' ');
        }
        rd_kafka_message_destroy(msg);
    }
    assert_true(end);
    rd_kafka_consumer_close(rk);
    rd_kafka_destroy(rk);
}

static void assert_out(const char *expected)
{
    struct mr_buf text;
    mr_buf_init(&text);
    read_out(&text);
    assert_string_equal(mr_buf_cstr(&text), expected);
    mr_buf_fini(&text);
}

static void units_arrive_in_order(void **state)
{
    (void)state;
    struct mr_error err;
    open_sink(NULL, NULL, 0);
    assert_true(send_numbered(sink, "a", 3, &err));
    assert_true(send_numbered(sink, "b", 2, &err));
    size_t bad;
    assert_true(sink->ops->flush(sink, 0, &bad, &err)); /* nothing to wait for */
    assert_out("a0 a1 a2 b0 b1 ");
}

static void an_error_that_passes_is_retried_inside(void **state)
{
    (void)state;
    struct mr_error err;
    open_sink(NULL, NULL, 0);
    assert_true(send_numbered(sink, "a", 1, &err));
    rd_kafka_mock_push_request_errors(mock.cluster, API_PRODUCE, 2,
                                      RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
                                      RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT);
    if (!send_numbered(sink, "b", 3, &err))
        fail_msg("%s", err.msg);
    assert_out("a0 b0 b1 b2 ");
}

static void a_full_queue_is_waited_for(void **state)
{
    (void)state;
    struct mr_error err;
    open_sink("queue.buffering.max.messages", "7", 0);
    if (!send_numbered(sink, "m", 100, &err))
        fail_msg("%s", err.msg);
    struct mr_buf text;
    mr_buf_init(&text);
    read_out(&text);
    assert_non_null(strstr(mr_buf_cstr(&text), " m99 "));
    mr_buf_fini(&text);
}

static void a_message_beyond_our_own_limit_is_named(void **state)
{
    (void)state;
    struct mr_error err;
    open_sink("message.max.bytes", "2000", 0);
    struct mr_buf frames;
    mr_buf_init(&frames);
    char *huge = mr_alloc(3001);
    memset(huge, 'x', 3000);
    huge[3000] = '\0';
    put_frame(&frames, NULL, "small", NULL, 1);
    put_frame(&frames, NULL, huge, NULL, 1);
    put_frame(&frames, NULL, "small too", NULL, 1);
    size_t bad = 99;
    assert_true(sink->ops->produce(sink, bytes_of(&frames), &err));
    assert_false(sink->ops->flush(sink, 10000, &bad, &err));
    assert_int_equal(err.action, MR_REJECT);
    assert_string_equal(err.class_, "too_large");
    assert_int_equal(bad, 1);
    sink->ops->abort(sink);
    mr_buf_fini(&frames);
    free(huge);
    assert_true(send_numbered(sink, "next", 1, &err));
}

static void a_message_that_the_broker_refuses_is_named(void **state)
{
    (void)state;
    struct mr_error err;
    open_sink(NULL, NULL, 0);
    rd_kafka_mock_push_request_errors(mock.cluster, API_PRODUCE, 1,
                                      RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE);
    struct mr_buf frames;
    mr_buf_init(&frames);
    put_frame(&frames, "k", "alone", NULL, 1);
    size_t bad = 99;
    assert_true(sink->ops->produce(sink, bytes_of(&frames), &err));
    assert_false(sink->ops->flush(sink, 10000, &bad, &err));
    assert_int_equal(err.action, MR_REJECT);
    assert_string_equal(err.class_, "too_large");
    assert_int_equal(bad, 0);
    assert_non_null(strstr(err.msg, "topic out"));
    sink->ops->abort(sink);
    mr_buf_fini(&frames);
    assert_true(send_numbered(sink, "next", 1, &err));
    assert_out("next0 ");
}

static void a_batch_that_is_too_large_is_sent_in_smaller_ones(void **state)
{
    (void)state;
    struct mr_error err;
    open_sink("linger.ms", "5000", 0); /* so that all of them share a batch */
    rd_kafka_mock_push_request_errors(mock.cluster, API_PRODUCE, 1,
                                      RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE);
    assert_false(send_numbered(sink, "m", 4, &err));
    assert_int_equal(err.action, MR_RETRY); /* nobody is dead-lettered for it */
    assert_true(was_logged("going on with 500000"));
    assert_true(send_numbered(sink, "m", 4, &err));
    assert_out("m0 m1 m2 m3 ");
}

static void a_refused_batch_of_several_blames_no_single_message(void **state)
{
    (void)state;
    struct mr_error err;
    open_sink("linger.ms", "5000", 0);
    struct mr_buf frames;
    mr_buf_init(&frames);
    put_frame(&frames, NULL, "a", NULL, 1);
    put_frame(&frames, NULL, "b", NULL, 1);
    rd_kafka_mock_push_request_errors(mock.cluster, API_PRODUCE, 1,
                                      RD_KAFKA_RESP_ERR_INVALID_RECORD);
    size_t bad = 0;
    assert_true(sink->ops->produce(sink, bytes_of(&frames), &err));
    assert_false(sink->ops->flush(sink, 10000, &bad, &err));
    assert_int_equal(err.action, MR_REJECT);
    assert_string_equal(err.class_, "rejected");
    assert_true(bad == SIZE_MAX);
    sink->ops->abort(sink);
    mr_buf_fini(&frames);
}

static void a_missing_topic_is_a_sentence(void **state)
{
    (void)state;
    struct mr_error err;
    /* First: a producer asks for the topic as soon as it is there. */
    rd_kafka_mock_topic_set_error(mock.cluster, "out", RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART);
    open_sink("topic.metadata.propagation.max.ms", "2000", 0);
    assert_false(send_numbered(sink, "a", 2, &err));
    assert_int_equal(err.action, MR_RETRY);
    assert_non_null(strstr(err.msg, "topic out does not exist"));
    assert_non_null(strstr(err.msg, "init --create-topics"));
    rd_kafka_mock_topic_set_error(mock.cluster, "out", RD_KAFKA_RESP_ERR_NO_ERROR);
    /* Found when it is there, with a new look at the cluster. */
    int64_t deadline = mr_clock_mono_ms() + 20000;
    while (!send_numbered(sink, "b", 2, &err)) {
        assert_int_equal(err.action, MR_RETRY);
        assert_true(mr_clock_mono_ms() < deadline);
    }
}

/* What an abort leaves behind must be gone from librdkafka: the values are scribbled over and freed
 * at once. Above 64 KiB librdkafka sends from our memory; below, it copies. */
static void abort_lets_go_of_what_was_lent(void **state)
{
    (void)state;
    struct mr_error err;
    open_sink("message.max.bytes", "1000000", 0);
    enum { LEN = 200000 };
    char *value = mr_alloc(LEN + 1);
    memset(value, 'a', LEN);
    value[LEN] = '\0';
    assert_true(send_numbered(sink, "first", 1, &err));
    for (int round = 0; round < 6; round++) {
        rd_kafka_mock_broker_set_rtt(mock.cluster, -1, 6000);
        struct mr_buf frames;
        mr_buf_init(&frames);
        for (int i = 0; i < 5; i++)
            put_frame(&frames, NULL, value, NULL, 1);
        assert_true(sink->ops->produce(sink, bytes_of(&frames), &err));
        size_t bad;
        assert_false(
            sink->ops->flush(sink, 20 + 20 * round, &bad, &err)); /* some are on their way */
        assert_int_equal(err.action, MR_RETRY);
        sink->ops->abort(sink);
        memset(frames.ptr, 'z', frames.len);
        mr_buf_fini(&frames);
    }
    rd_kafka_mock_broker_set_rtt(mock.cluster, -1, 0);
    if (!send_numbered(sink, "last", 2, &err))
        fail_msg("%s", err.msg);
    struct mr_buf text;
    mr_buf_init(&text);
    read_out(&text);
    assert_null(strchr(mr_buf_cstr(&text), 'z')); /* it may have arrived or not, but whole */
    assert_non_null(strstr(text.ptr, "last0 last1 "));
    mr_buf_fini(&text);
    free(value);
}

static void brokers_that_are_away_are_told_and_come_back(void **state)
{
    (void)state;
    struct mr_error err;
    open_sink(NULL, NULL, 0);
    assert_true(send_numbered(sink, "a", 1, &err));
    rd_kafka_mock_broker_set_down(mock.cluster, -1);
    struct mr_buf frames;
    mr_buf_init(&frames);
    put_frame(&frames, NULL, "lost", NULL, 1);
    size_t bad;
    int64_t began = mr_clock_mono_ms();
    assert_true(sink->ops->produce(sink, bytes_of(&frames), &err));
    assert_false(sink->ops->flush(sink, 700, &bad, &err));
    assert_int_equal(err.action, MR_RETRY);
    assert_int_equal(err.code, MR_EXIT_UNREACHABLE);
    assert_non_null(strstr(err.msg, mock.properties[0].value));
    assert_non_null(strstr(err.msg, "1 of 1 messages"));
    sink->ops->abort(sink);
    assert_true(mr_clock_mono_ms() - began < 15000);
    mr_buf_fini(&frames);
    rd_kafka_mock_broker_set_up(mock.cluster, -1);
    if (!send_numbered(sink, "b", 1, &err))
        fail_msg("%s", err.msg);
    assert_out("a0 b0 ");
}

static void closing_does_not_wait_for_brokers(void **state)
{
    (void)state;
    struct mr_error err;
    open_sink(NULL, NULL, 0);
    rd_kafka_mock_broker_set_down(mock.cluster, -1);
    struct mr_buf frames;
    mr_buf_init(&frames);
    put_frame(&frames, NULL, "lost", NULL, 1);
    int64_t began = mr_clock_mono_ms();
    assert_true(sink->ops->produce(sink, bytes_of(&frames), &err));
    sink->ops->close(sink);
    sink = NULL;
    assert_true(mr_clock_mono_ms() - began < 15000);
    mr_buf_fini(&frames);
}

#define ON_CLUSTER(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_CLUSTER(units_arrive_in_order),
        ON_CLUSTER(an_error_that_passes_is_retried_inside),
        ON_CLUSTER(a_full_queue_is_waited_for),
        ON_CLUSTER(a_message_beyond_our_own_limit_is_named),
        ON_CLUSTER(a_message_that_the_broker_refuses_is_named),
        ON_CLUSTER(a_batch_that_is_too_large_is_sent_in_smaller_ones),
        ON_CLUSTER(a_refused_batch_of_several_blames_no_single_message),
        ON_CLUSTER(a_missing_topic_is_a_sentence),
        ON_CLUSTER(abort_lets_go_of_what_was_lent),
        ON_CLUSTER(brokers_that_are_away_are_told_and_come_back),
        ON_CLUSTER(closing_does_not_wait_for_brokers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
