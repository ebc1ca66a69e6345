/*
 * test_kafka_trouble.c - a sink's transactions under errors that a healthy broker does not give:
 * requests that are repeated, refusals of every kind. On librdkafka's mock cluster, which answers
 * the requests of a transaction but keeps none of its promises: what is visible is the matter of
 * test_kafka_transactions.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/log.h"
#include "../support/mockcluster.h"

#include <pthread.h>

enum {
    API_INIT_PRODUCER_ID = 22,
    API_ADD_PARTITIONS = 24,
    API_ADD_OFFSETS = 25,
    API_END_TXN = 26,
    API_TXN_OFFSET_COMMIT = 28
};

static struct mock mock;
static struct mr_sink *sink;
static struct mr_error err;
static char lines[262144];
static pthread_mutex_t lines_lock = PTHREAD_MUTEX_INITIALIZER;

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

/* A source that is a member for as long as it lives. */
static struct mr_source source;
static rd_kafka_consumer_group_metadata_t *proof;

static const struct mr_member *member(struct mr_source *of)
{
    (void)of;
    return (const struct mr_member *)proof;
}

static int set_up_with(int brokers)
{
    static const struct mr_source_ops ops = {.member = member};
    static const char *const topics[] = {"out"};
    lines[0] = '\0';
    mr_log_init(MR_DEBUG, MR_LOG_TEXT);
    mr_log_hook(keep_line, NULL);
    if (!mock_up_with(&mock, brokers))
        return -1;
    mock_topic(&mock, "out", 1);
    source.ops = &ops;
    proof = rd_kafka_consumer_group_metadata_new_with_genid("group", 1, "member", NULL);
    struct mr_kafka_sink_options options = {.properties = mock.properties,
                                            .n_properties = mock.n_properties,
                                            .topics = topics,
                                            .n_topics = 1,
                                            .transactional_id = "t.trouble"};
    return mr_kafka_sink_open(&options, &sink, &err) ? 0 : -1;
}

static int set_up(void **state)
{
    (void)state;
    return set_up_with(1);
}

/* The group's coordinator is a broker of its own. */
static int set_up_two(void **state)
{
    (void)state;
    if (set_up_with(2) != 0)
        return -1;
    rd_kafka_mock_coordinator_set(mock.cluster, "transaction", "t.trouble", 1);
    rd_kafka_mock_coordinator_set(mock.cluster, "group", "group", 2);
    rd_kafka_mock_partition_set_leader(mock.cluster, "out", 0, 1);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    if (sink)
        sink->ops->close(sink);
    sink = NULL;
    rd_kafka_consumer_group_metadata_destroy(proof);
    mock_down(&mock);
    mr_log_hook(NULL, NULL);
    mr_log_init(MR_INFO, MR_LOG_TEXT);
    return 0;
}

static void must(bool ok)
{
    if (!ok)
        fail_msg("%s", err.msg);
}

static void fence(void)
{
    must(sink->ops->fence(sink, true, NULL, &err));
}

static void inject(int16_t api, rd_kafka_resp_err_t code)
{
    rd_kafka_mock_push_request_errors(mock.cluster, api, 1, code);
}

static bool offsets(void)
{
    struct mr_mark mark = {.at = {"in", 0}, .next_offset = 5, .metadata = "u"};
    return sink->ops->offsets(sink, &source, &mark, 1, &err);
}

/* Up to the commit. */
static void prepare(void)
{
    must(sink->ops->begin(sink, &err));
    must(send_numbered(sink, "m", 3, &err));
    must(offsets());
}

static void whole(void)
{
    prepare();
    must(sink->ops->commit(sink, &err));
}

/* --- doubts about what may still be on its way --- */

static void without_trouble_the_producer_stays(void **state)
{
    (void)state;
    fence();
    for (int i = 0; i < 3; i++)
        whole();
    prepare();
    sink->ops->abort(sink);
    whole();
    /* A machine that stands still for a second is trouble enough. */
    assert_true(!was_logged("is made anew") || was_logged("the end of a transaction took long"));
}

static void an_end_that_was_sent_twice_costs_the_producer(void **state)
{
    (void)state;
    fence();
    inject(API_END_TXN, RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS);
    whole();
    assert_false(was_logged("is made anew"));
    whole();
    assert_true(was_logged("is made anew: the end of a transaction was sent more than once"));
}

static void so_does_an_abort_that_was_sent_twice(void **state)
{
    (void)state;
    fence();
    prepare();
    inject(API_END_TXN, RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS);
    sink->ops->abort(sink);
    whole();
    assert_true(was_logged("is made anew: the end of a transaction was sent more than once"));
}

static void so_do_offsets_that_were_sent_twice(void **state)
{
    (void)state;
    fence();
    inject(API_TXN_OFFSET_COMMIT, RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS);
    whole();
    whole();
    assert_true(was_logged("is made anew: offsets were sent more than once"));
}

static void so_does_a_slow_commit(void **state)
{
    (void)state;
    fence();
    prepare();
    rd_kafka_mock_broker_set_rtt(mock.cluster, -1, 1100);
    must(sink->ops->commit(sink, &err));
    rd_kafka_mock_broker_set_rtt(mock.cluster, -1, 0);
    whole();
    assert_true(was_logged("is made anew: the end of a transaction took long"));
}

static void so_does_a_lost_connection(void **state)
{
    (void)state;
    fence();
    whole();
    assert_false(was_logged("FAIL"));
    rd_kafka_mock_broker_set_down(mock.cluster, -1);
    int64_t deadline = mr_clock_mono_ms() + 10000;
    while (!was_logged("FAIL") && mr_clock_mono_ms() < deadline)
        mr_clock_sleep_ms(5);
    rd_kafka_mock_broker_set_up(mock.cluster, -1);
    /* librdkafka logs it, and tells it a moment later. */
    do
        whole();
    while (!was_logged("is made anew") && mr_clock_mono_ms() < deadline);
    assert_true(was_logged("is made anew: a connection was lost"));
}

/* --- refusals --- */

static void a_name_that_may_not_be_used_is_told(void **state)
{
    (void)state;
    inject(API_INIT_PRODUCER_ID, RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED);
    assert_false(sink->ops->fence(sink, true, NULL, &err));
    assert_int_equal(err.action, MR_STOP);
    assert_int_equal(err.code, MR_EXIT_CONFIG);
    assert_non_null(strstr(err.msg, "no right to transactional id t.trouble"));
    fence();
    inject(API_INIT_PRODUCER_ID, RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED);
    assert_false(sink->ops->fence(sink, true, "t.other", &err));
    assert_int_equal(err.action, MR_RETRY); /* it was allowed in before */
    assert_non_null(strstr(err.msg, "no right to transactional id t.other"));
    whole();
}

static void a_broker_without_such_long_transactions_is_told(void **state)
{
    (void)state;
    inject(API_INIT_PRODUCER_ID, RD_KAFKA_RESP_ERR_INVALID_TRANSACTION_TIMEOUT);
    assert_false(sink->ops->fence(sink, true, NULL, &err));
    assert_int_equal(err.action, MR_STOP);
    assert_non_null(strstr(err.msg, "transaction.max.timeout.ms"));
}

static void a_coordinator_that_still_loads_is_waited_for(void **state)
{
    (void)state;
    inject(API_INIT_PRODUCER_ID, RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS);
    fence();
    whole();
}

static void a_topic_that_may_not_be_written_is_told_with_its_reason(void **state)
{
    (void)state;
    fence();
    must(sink->ops->begin(sink, &err));
    inject(API_ADD_PARTITIONS, RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED);
    assert_false(send_numbered(sink, "m", 3, &err)); /* aborts */
    assert_int_equal(err.action, MR_RETRY);
    assert_int_equal(err.code, MR_EXIT_CONFIG);
    assert_non_null(strstr(err.msg, "no right to topic out: "));
    whole();
}

static void a_fatal_error_leaves_it_to_a_claim(void **state)
{
    (void)state;
    static const struct {
        int16_t api;
        rd_kafka_resp_err_t code;
    } cases[] = {
        {API_ADD_PARTITIONS, RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH},
        {API_ADD_PARTITIONS, RD_KAFKA_RESP_ERR_INVALID_TXN_STATE},
        {API_ADD_OFFSETS, RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH},
        {API_TXN_OFFSET_COMMIT, RD_KAFKA_RESP_ERR_INVALID_TXN_STATE},
        {API_END_TXN, RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH},
        {API_END_TXN, RD_KAFKA_RESP_ERR_INVALID_TXN_STATE},
    };
    fence();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        must(sink->ops->begin(sink, &err));
        inject(cases[i].api, cases[i].code);
        bool sent = send_numbered(sink, "m", 3, &err); /* aborts if it fails */
        bool ok = sent && offsets() && sink->ops->commit(sink, &err);
        assert_false(ok);
        if (err.action != MR_RECOVER)
            fail_msg("case %zu: action %d: %s", i, (int)err.action, err.msg);
        if (sent)
            sink->ops->abort(sink);
        whole();
    }
}

static void a_commit_that_fails_leaves_it_to_a_claim(void **state)
{
    (void)state;
    fence();
    prepare();
    inject(API_END_TXN, RD_KAFKA_RESP_ERR_INVALID_PRODUCER_ID_MAPPING);
    assert_false(sink->ops->commit(sink, &err));
    assert_int_equal(err.action, MR_RECOVER);
    fence(); /* without an abort */
    whole();
}

static void refused_offsets_say_what_to_do(void **state)
{
    (void)state;
    static const struct {
        rd_kafka_resp_err_t code;
        enum mr_action action;
    } cases[] = {
        {RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION, MR_RECOVER},
        {RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID, MR_RECOVER},
        {RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID, MR_RECOVER},
        {RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS, MR_RECOVER},
        {RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED, MR_RETRY},
        {RD_KAFKA_RESP_ERR_INVALID_COMMIT_OFFSET_SIZE, MR_RETRY},
    };
    fence();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        must(sink->ops->begin(sink, &err));
        inject(API_TXN_OFFSET_COMMIT, cases[i].code);
        assert_false(offsets());
        if (err.action != cases[i].action)
            fail_msg("case %zu: action %d: %s", i, (int)err.action, err.msg);
        sink->ops->abort(sink);
        whole();
    }
}

/* librdkafka would wait for it for ever. */
static void a_group_without_a_coordinator_is_not_waited_for(void **state)
{
    (void)state;
    fence();
    rd_kafka_mock_broker_set_down(mock.cluster, 2);
    must(sink->ops->begin(sink, &err));
    must(send_numbered(sink, "m", 3, &err));
    int64_t began = mr_clock_mono_ms();
    assert_false(offsets());
    assert_int_equal(err.action, MR_RETRY);
    assert_true(mr_clock_mono_ms() - began < 20000);
    assert_true(was_logged("it is left behind"));
    assert_true(mr_kafka_left_behind());
    began = mr_clock_mono_ms();
    sink->ops->abort(sink);
    must(sink->ops->begin(sink, &err)); /* of a new producer */
    sink->ops->abort(sink);
    assert_true(mr_clock_mono_ms() - began < 9000);
    rd_kafka_mock_broker_set_up(mock.cluster, 2);
    whole();
    int64_t deadline = mr_clock_mono_ms() + 30000;
    while (!was_logged("a producer that waited") && mr_clock_mono_ms() < deadline)
        mr_clock_sleep_ms(10);
    assert_true(was_logged("a producer that waited"));
}

#define ON_CLUSTER(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(int argc, char **argv)
{
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
        ON_CLUSTER(without_trouble_the_producer_stays),
        ON_CLUSTER(an_end_that_was_sent_twice_costs_the_producer),
        ON_CLUSTER(so_does_an_abort_that_was_sent_twice),
        ON_CLUSTER(so_do_offsets_that_were_sent_twice),
        ON_CLUSTER(so_does_a_slow_commit),
        ON_CLUSTER(so_does_a_lost_connection),
        ON_CLUSTER(a_name_that_may_not_be_used_is_told),
        ON_CLUSTER(a_broker_without_such_long_transactions_is_told),
        ON_CLUSTER(a_coordinator_that_still_loads_is_waited_for),
        ON_CLUSTER(a_topic_that_may_not_be_written_is_told_with_its_reason),
        ON_CLUSTER(a_fatal_error_leaves_it_to_a_claim),
        ON_CLUSTER(a_commit_that_fails_leaves_it_to_a_claim),
        ON_CLUSTER(refused_offsets_say_what_to_do),
        cmocka_unit_test_setup_teardown(a_group_without_a_coordinator_is_not_waited_for, set_up_two,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
