/*
 * test_kafka_source.c - the source on librdkafka's mock cluster: records as they were sent, the
 * group's comings and goings, committed offsets with metadata, lost positions, brokers that are
 * away. Also the questions to a cluster that `check` and `init` ask. The mock delays the first join
 * of a group by 3 s: tests share groups.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/log.h"
#include "../support/mockcluster.h"

enum { PARTITIONS = 4, WAIT_MS = 20000 };

/* `mock` has one client, so that an error put into it meets that one; the others are at `other`. */
static struct mock mock, other;
static struct mr_sink *sink, *other_sink;
static struct mr_source *source; /* a member of group "shared", assigned all of topic "in" */
static struct mr_source *headers_reader, *short_reader, *nowhere_reader, *bulk_reader, *trio[3];

static const struct mr_kafka_property session = {"session.timeout.ms", "6500", false};

static struct mr_source *open_source(struct mock *at, const char *group, const char *topic)
{
    struct mr_error err = {0};
    struct mr_source *opened = NULL;
    struct mr_kafka_property properties[5];
    size_t n = at->n_properties;
    memcpy(properties, at->properties, n * sizeof *properties);
    properties[n++] = session;
    properties[n++] = (struct mr_kafka_property){"heartbeat.interval.ms", "100", false};
    const char *const topics[] = {topic};
    struct mr_kafka_source_options options = {.properties = properties,
                                              .n_properties = n,
                                              .topics = topics,
                                              .n_topics = 1,
                                              .group = group,
                                              .prefetch_bytes = 65536};
    if (!mr_kafka_source_open(&options, &opened, &err))
        fail_msg("%s", err.msg);
    return opened;
}

/* Polls until `want` comes; records and positions on the way are given back, other events fail the
 * test. */
static void await(struct mr_source *from, enum mr_event want, struct mr_record *rec,
                  struct mr_error *err)
{
    struct mr_error ignored = {0};
    struct mr_record unwanted;
    rec = rec ? rec : &unwanted;
    err = err ? err : &ignored;
    int64_t deadline = mr_clock_mono_ms() + WAIT_MS;
    while (mr_clock_mono_ms() < deadline) {
        enum mr_event event = from->ops->poll(from, 50, rec, err);
        if (event == want)
            return;
        if (event == MR_EVENT_RECORD)
            from->ops->release(from, rec);
        else if (event == MR_EVENT_ERROR && want != MR_EVENT_ERROR)
            fail_msg("%s", err->msg);
        else if (event == MR_EVENT_ASSIGNED || event == MR_EVENT_REVOKED)
            fail_msg("event %d instead of %d", (int)event, (int)want);
    }
    fail_msg("no event %d came", (int)want);
}

static void start_all(struct mr_source *at, int64_t offset)
{
    struct mr_error err;
    struct mr_mark marks[PARTITIONS];
    size_t n;
    const struct mr_partition *list = at->ops->assignment(at, &n);
    assert_true(n <= PARTITIONS);
    for (size_t i = 0; i < n; i++)
        marks[i] = (struct mr_mark){.at = list[i], .next_offset = offset};
    if (!at->ops->start(at, marks, n, &err))
        fail_msg("%s", err.msg);
}

static struct mr_sink *open_sink(struct mock *at, const char *topic)
{
    struct mr_error err;
    struct mr_sink *opened = NULL;
    struct mr_kafka_sink_options options = {.properties = at->properties,
                                            .n_properties = at->n_properties,
                                            .topics = &topic,
                                            .n_topics = 1};
    if (!mr_kafka_sink_open(&options, &opened, &err))
        fail_msg("%s", err.msg);
    return opened;
}

static int open_cluster(void **state)
{
    (void)state;
    if (!mock_up(&mock) || !mock_up(&other))
        return -1;
    mock_topic(&mock, "in", PARTITIONS);
    mock_topic(&other, "headers", 1);
    mock_topic(&other, "short", 1);
    mock_topic(&other, "idle", 2);
    mock_topic(&other, "bulk", 1);
    mock_topic(&other, "nowhere", 1); /* the mock would create it when asked for it */
    rd_kafka_mock_topic_set_error(other.cluster, "nowhere",
                                  RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART);
    sink = open_sink(&mock, "in");
    other_sink = open_sink(&other, "headers");
    source = open_source(&mock, "shared", "in");
    headers_reader = open_source(&other, "headers", "headers");
    short_reader = open_source(&other, "short", "short");
    nowhere_reader = open_source(&other, "nowhere", "nowhere");
    bulk_reader = open_source(&other, "bulk", "bulk");
    for (int i = 0; i < 3; i++)
        trio[i] = open_source(&other, "trio", "idle");
    return 0;
}

static int close_cluster(void **state)
{
    (void)state;
    struct mr_source *all[] = {source,      headers_reader, short_reader, nowhere_reader,
                               bulk_reader, trio[0],        trio[1],      trio[2]};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i])
            all[i]->ops->close(all[i]);
    sink->ops->close(sink);
    other_sink->ops->close(other_sink);
    mock_down(&mock);
    mock_down(&other);
    return 0;
}

static void assignment_comes_first_and_nothing_is_read_before_start(void **state)
{
    (void)state;
    struct mr_error err;
    struct mr_record rec;
    assert_true(send_numbered(sink, "m", 20, &err));
    await(source, MR_EVENT_ASSIGNED, NULL, NULL);
    size_t n;
    const struct mr_partition *list = source->ops->assignment(source, &n);
    assert_int_equal(n, PARTITIONS);
    for (size_t i = 0; i < n; i++) {
        assert_string_equal(list[i].topic, "in");
        assert_ptr_equal(list[i].topic, list[0].topic);
    }
    for (int i = 0; i < 5; i++)
        assert_int_equal(source->ops->poll(source, 20, &rec, &err), MR_EVENT_NONE);
    start_all(source, 0);
    for (int i = 0; i < 20; i++) {
        await(source, MR_EVENT_RECORD, &rec, NULL);
        list = source->ops->assignment(source, &n);
        assert_ptr_equal(rec.topic, list[0].topic);
        assert_memory_equal(rec.value.ptr, rec.key.ptr, rec.key.len);
        source->ops->release(source, &rec);
        assert_null(rec.handle);
    }
}

static void committed_offsets_carry_their_metadata(void **state)
{
    (void)state;
    struct mr_error err;
    struct mr_committed got;
    size_t n;
    const struct mr_partition *list = source->ops->assignment(source, &n);
    struct mr_mark marks[2] = {{.at = list[0], .next_offset = 3, .metadata = "mr1;l=0a1b2c3d;u=17"},
                               {.at = list[1], .next_offset = 0}};
    assert_true(source->ops->committed(source, &list[0], 5000, &got, &err));
    assert_false(got.present);
    assert_true(source->ops->commit(source, marks, 2, &err));
    assert_true(source->ops->committed(source, &list[0], 5000, &got, &err));
    assert_true(got.present);
    assert_int_equal(got.offset, 3);
    assert_string_equal(got.metadata, "mr1;l=0a1b2c3d;u=17");
    assert_true(source->ops->committed(source, &list[1], 5000, &got, &err));
    assert_true(got.present);
    assert_int_equal(got.offset, 0);
    assert_string_equal(got.metadata, "");
    assert_true(source->ops->committed(source, &list[2], 5000, &got, &err));
    assert_false(got.present);
    assert_true(source->ops->commit(source, NULL, 0, &err));
}

static void an_offset_fetch_that_fails_says_ask_again(void **state)
{
    (void)state;
    struct mr_error err;
    struct mr_committed got = {.present = true};
    size_t n;
    const struct mr_partition *list = source->ops->assignment(source, &n);
    rd_kafka_mock_push_request_errors(mock.cluster, API_OFFSET_FETCH, 1, RD_KAFKA_RESP_ERR_UNKNOWN);
    assert_false(source->ops->committed(source, &list[0], 2000, &got, &err));
    assert_int_equal(err.action, MR_RETRY);
    assert_non_null(strstr(err.msg, "committed offset of in/"));
    rd_kafka_mock_clear_request_errors(mock.cluster, API_OFFSET_FETCH);
    assert_true(source->ops->committed(source, &list[0], 5000, &got, &err));
}

static void watermarks_tell_first_and_last(void **state)
{
    (void)state;
    struct mr_error err;
    int64_t low = -1, high = -1, sum = 0;
    size_t n;
    const struct mr_partition *list = source->ops->assignment(source, &n);
    for (size_t i = 0; i < n; i++) {
        assert_true(source->ops->watermarks(source, &list[i], 5000, &low, &high, &err));
        assert_int_equal(low, 0);
        sum += high;
    }
    assert_int_equal(sum, 20);
}

static void the_end_of_a_partition_is_a_position(void **state)
{
    (void)state;
    struct mr_record rec;
    struct mr_error err;
    start_all(source, 0);
    unsigned ends = 0;
    for (int i = 0; i < PARTITIONS; i++) {
        int64_t low, high;
        await(source, MR_EVENT_POSITION, &rec, NULL);
        assert_null(rec.handle);
        struct mr_partition at = {rec.topic, rec.partition};
        assert_true(source->ops->watermarks(source, &at, 5000, &low, &high, &err));
        assert_int_equal(rec.offset, high);
        ends |= 1u << rec.partition;
    }
    assert_int_equal(ends, (1u << PARTITIONS) - 1);
}

static void a_commit_while_the_group_rebalances_asks_for_recovery(void **state)
{
    (void)state;
    struct mr_error err;
    size_t n;
    const struct mr_partition *list = source->ops->assignment(source, &n);
    struct mr_mark mark = {.at = list[0], .next_offset = 4, .metadata = "later"};
    rd_kafka_mock_push_request_errors(mock.cluster, API_OFFSET_COMMIT, 1,
                                      RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS);
    assert_false(source->ops->commit(source, &mark, 1, &err));
    assert_int_equal(err.action, MR_RECOVER);
    assert_true(source->ops->commit(source, &mark, 1, &err)); /* still a member */
}

static void a_fenced_member_sends_no_more_commits(void **state)
{
    (void)state;
    struct mr_error err;
    struct mr_committed got;
    size_t n;
    struct mr_partition at = source->ops->assignment(source, &n)[0];
    struct mr_mark mark = {.at = at, .next_offset = 5, .metadata = "never"};
    rd_kafka_mock_push_request_errors(mock.cluster, API_OFFSET_COMMIT, 1,
                                      RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION);
    assert_false(source->ops->commit(source, &mark, 1, &err));
    assert_int_equal(err.action, MR_RECOVER);
    /* The broker would take this one: the mock does not know generations, a real one not those
     * below zero. */
    assert_false(source->ops->commit(source, &mark, 1, &err));
    assert_int_equal(err.action, MR_RECOVER);
    await(source, MR_EVENT_REVOKED, NULL, NULL);
    assert_false(source->ops->start(source, &mark, 1, &err));
    assert_int_equal(err.action, MR_RECOVER);
    assert_false(source->ops->commit(source, &mark, 1, &err));
    assert_int_equal(err.action, MR_RECOVER);
    source->ops->assignment(source, &n);
    assert_int_equal(n, 0);
    await(source, MR_EVENT_ASSIGNED, NULL, NULL);
    assert_true(source->ops->committed(source, &at, 5000, &got, &err));
    assert_int_equal(got.offset, 4);
    assert_string_equal(got.metadata, "later");
    mark.metadata[0] = '\0';
    assert_true(source->ops->commit(source, &mark, 1, &err));
}

static void losing_membership_is_told_before_the_new_assignment(void **state)
{
    (void)state;
    rd_kafka_mock_push_request_errors(mock.cluster, API_HEARTBEAT, 1,
                                      RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID);
    await(source, MR_EVENT_REVOKED, NULL, NULL);
    await(source, MR_EVENT_ASSIGNED, NULL, NULL);
    size_t n;
    source->ops->assignment(source, &n);
    assert_int_equal(n, PARTITIONS);
}

static void an_outage_is_told_once_and_ends_by_itself(void **state)
{
    (void)state;
    struct mr_error err, again;
    struct mr_record rec;
    struct mr_committed got;
    size_t n;
    struct mr_partition at = source->ops->assignment(source, &n)[0];
    int64_t low, high;
    assert_true(source->ops->watermarks(source, &at, 5000, &low, &high, &err));
    start_all(source, high);
    await(source, MR_EVENT_POSITION, NULL, NULL);
    rd_kafka_mock_broker_set_down(mock.cluster, -1);
    await(source, MR_EVENT_ERROR, NULL, &err);
    assert_int_equal(err.action, MR_RETRY);
    assert_int_equal(err.code, MR_EXIT_UNREACHABLE);
    assert_non_null(strstr(err.msg, mock.properties[0].value));
    assert_false(source->ops->committed(source, &at, 200, &got, &again));
    assert_int_equal(again.action, MR_RETRY);
    int64_t until = mr_clock_mono_ms() + 1000;
    while (mr_clock_mono_ms() < until) {
        enum mr_event event = source->ops->poll(source, 50, &rec, &again);
        assert_true(event != MR_EVENT_ERROR);
    }
    rd_kafka_mock_broker_set_up(mock.cluster, -1);
    if (!send_numbered(sink, "back", 1, &err))
        fail_msg("%s", err.msg);
    /* Whether the session outlived the outage is the broker's affair: both ways the record comes.
     */
    int64_t deadline = mr_clock_mono_ms() + WAIT_MS;
    bool found = false;
    while (!found && mr_clock_mono_ms() < deadline) {
        enum mr_event event = source->ops->poll(source, 50, &rec, &err);
        if (event == MR_EVENT_ASSIGNED)
            start_all(source, 0);
        if (event != MR_EVENT_RECORD)
            continue;
        found = rec.value.len == 5 && memcmp(rec.value.ptr, "back0", 5) == 0;
        source->ops->release(source, &rec);
    }
    assert_true(found);
}

static void keys_nulls_headers_and_timestamps_survive(void **state)
{
    (void)state;
    struct mr_error err;
    struct mr_record rec;
    size_t bad;
    static const char *const headers[] = {"trace", "abc",   "empty",  "",  "none",
                                          NULL,    "trace", "second", NULL};
    struct mr_buf frames;
    mr_buf_init(&frames);
    put_frame(&frames, "key", "value", headers, 1700000000123);
    put_frame(&frames, NULL, NULL, NULL, 1700000000456);
    put_frame(&frames, "", "", NULL, 1700000000789);
    assert_true(other_sink->ops->produce(other_sink, bytes_of(&frames), &err));
    assert_true(other_sink->ops->flush(other_sink, 10000, &bad, &err));
    mr_buf_fini(&frames);

    struct mr_source *reader = headers_reader;
    await(reader, MR_EVENT_ASSIGNED, NULL, NULL);
    start_all(reader, 0);
    await(reader, MR_EVENT_RECORD, &rec, NULL);
    assert_null(rec.headers);
    reader->ops->headers(reader, &rec);
    reader->ops->headers(reader, &rec); /* again: the same */
    assert_int_equal(rec.n_headers, 4);
    assert_string_equal(rec.headers[0].name.ptr, "trace");
    assert_int_equal(rec.headers[0].name.len, 5);
    assert_memory_equal(rec.headers[0].value.ptr, "abc", 3);
    assert_int_equal(rec.headers[1].value.len, 0);
    assert_non_null(rec.headers[1].value.ptr);
    assert_null(rec.headers[2].value.ptr);
    assert_memory_equal(rec.headers[3].value.ptr, "second", 6);
    assert_int_equal(rec.key.len, 3);
    assert_memory_equal(rec.value.ptr, "value", 5);
    assert_int_equal(rec.timestamp_ms, 1700000000123);
    assert_int_equal(rec.offset, 0);
    reader->ops->release(reader, &rec);

    await(reader, MR_EVENT_RECORD, &rec, NULL);
    assert_null(rec.key.ptr);
    assert_null(rec.value.ptr);
    assert_int_equal(rec.value.len, 0);
    assert_int_equal(rec.timestamp_ms, 1700000000456);
    reader->ops->headers(reader, &rec);
    assert_int_equal(rec.n_headers, 0);
    reader->ops->release(reader, &rec);

    await(reader, MR_EVENT_RECORD, &rec, NULL);
    assert_non_null(rec.key.ptr);
    assert_non_null(rec.value.ptr);
    assert_int_equal(rec.value.len, 0);
    reader->ops->release(reader, &rec);
}

/* librdkafka alone looks at a queue that was full only each second: this would take ten and more.
 */
static void a_small_prefetch_does_not_stall(void **state)
{
    (void)state;
    enum { MESSAGES = 1000, BYTES = 1024 };
    struct mr_error err;
    struct mr_record rec;
    struct mr_sink *bulk = open_sink(&other, "bulk");
    struct mr_buf frames;
    char value[BYTES + 1];
    size_t bad;
    mr_buf_init(&frames);
    for (int i = 0; i < BYTES; i++)
        value[i] = (char)('a' + i % 26);
    value[BYTES] = '\0';
    for (int i = 0; i < MESSAGES; i++) {
        put_frame(&frames, NULL, value, NULL, mr_clock_wall_ms());
        if (i % 50 < 49) /* batches of 50: a fetch of the mock brings one */
            continue;
        assert_true(bulk->ops->produce(bulk, bytes_of(&frames), &err));
        assert_true(bulk->ops->flush(bulk, 10000, &bad, &err));
        mr_buf_reset(&frames);
    }
    mr_buf_fini(&frames);
    bulk->ops->close(bulk);
    await(bulk_reader, MR_EVENT_ASSIGNED, NULL, NULL);
    start_all(bulk_reader, 0);
    int64_t began = mr_clock_mono_ms();
    for (int i = 0; i < MESSAGES; i++) {
        await(bulk_reader, MR_EVENT_RECORD, &rec, NULL);
        assert_int_equal(rec.offset, i);
        bulk_reader->ops->release(bulk_reader, &rec);
    }
    assert_true(mr_clock_mono_ms() - began < 9000);
}

/* Without waiting for each, librdkafka aborts the process within some hundred rounds. */
static void starts_close_behind_each_other_are_survived(void **state)
{
    (void)state;
    struct mr_error err;
    for (int i = 0; i < 3000; i++) {
        start_all(bulk_reader, i % 100);
        start_all(bulk_reader, i % 50);
        assert_true(bulk_reader->ops->start(bulk_reader, NULL, 0, &err));
    }
    struct mr_record rec;
    start_all(bulk_reader, 7);
    await(bulk_reader, MR_EVENT_RECORD, &rec, NULL);
    assert_int_equal(rec.offset, 7);
    bulk_reader->ops->release(bulk_reader, &rec);
}

static void a_position_outside_of_the_topic_is_left_to_a_claim(void **state)
{
    (void)state;
    struct mr_error err;
    struct mr_source *reader = short_reader;
    await(reader, MR_EVENT_ASSIGNED, NULL, NULL);
    start_all(reader, 1000);
    await(reader, MR_EVENT_ERROR, NULL, &err);
    assert_int_equal(err.action, MR_RECOVER);
    assert_int_equal(err.code, MR_EXIT_DATA);
    assert_non_null(strstr(err.msg, "short/0: offset 1000"));
    assert_non_null(strstr(err.msg, "0 to 0"));
}

/* Polls all three until each has an assignment and all partitions are given once. */
static void settle_trio(size_t counts[3])
{
    bool told[3] = {false};
    int64_t deadline = mr_clock_mono_ms() + WAIT_MS;
    for (int i = 0; mr_clock_mono_ms() < deadline; i = (i + 1) % 3) {
        struct mr_record rec;
        struct mr_error err = {0};
        enum mr_event event = trio[i]->ops->poll(trio[i], 20, &rec, &err);
        if (event == MR_EVENT_ERROR)
            fail_msg("%s", err.msg);
        told[i] = event == MR_EVENT_ASSIGNED || (told[i] && event != MR_EVENT_REVOKED);
        trio[i]->ops->assignment(trio[i], &counts[i]);
        if (told[0] && told[1] && told[2] && counts[0] + counts[1] + counts[2] == 2)
            return;
    }
    fail_msg("three members did not settle");
}

static void two_members_share_and_a_third_gets_nothing(void **state)
{
    (void)state;
    size_t counts[3] = {0}, n = 0;
    settle_trio(counts);
    assert_int_equal((counts[0] == 0) + (counts[1] == 0) + (counts[2] == 0), 1);
    /* The two leave: the one that had nothing hears of the change and gets everything. */
    int last = counts[0] == 0 ? 0 : counts[1] == 0 ? 1 : 2;
    for (int i = 0; i < 3; i++)
        if (i != last) {
            trio[i]->ops->close(trio[i]);
            trio[i] = NULL;
        }
    int64_t deadline = mr_clock_mono_ms() + WAIT_MS;
    do {
        await(trio[last], MR_EVENT_REVOKED, NULL, NULL);
        await(trio[last], MR_EVENT_ASSIGNED, NULL, NULL);
        trio[last]->ops->assignment(trio[last], &n);
    } while (n != 2 && mr_clock_mono_ms() < deadline);
    assert_int_equal(n, 2);
}

static void a_topic_that_does_not_exist_is_named(void **state)
{
    (void)state;
    struct mr_error err;
    struct mr_source *reader = nowhere_reader;
    await(reader, MR_EVENT_ERROR, NULL, &err);
    assert_int_equal(err.action, MR_RETRY);
    assert_non_null(strstr(err.msg, "topic nowhere does not exist"));
    assert_non_null(strstr(err.msg, "init --create-topics"));
}

static void check_reaches_brokers_and_finds_topics(void **state)
{
    (void)state;
    struct mr_error err;
    static const char *const there[] = {"headers", "idle", "^pattern"};
    static const char *const missing[] = {"idle", "absent", "lost"};
    assert_true(mr_kafka_check(other.properties, other.n_properties, there, 3, 5000, &err));
    assert_false(mr_kafka_check(other.properties, other.n_properties, missing, 3, 5000, &err));
    assert_int_equal(err.action, MR_RETRY);
    assert_non_null(strstr(err.msg, "topics absent, lost do not exist"));
    assert_false(mr_kafka_check(other.properties, other.n_properties, missing, 2, 5000, &err));
    assert_non_null(strstr(err.msg, "topic absent does not exist"));
    assert_true(mr_kafka_create_topics(other.properties, other.n_properties, there, 2, 1, 0, 5000,
                                       &err)); /* they are there: nothing to be done */
}

static void check_says_that_nobody_answers(void **state)
{
    (void)state;
    struct mr_error err;
    const struct mr_kafka_property away[] = {{"bootstrap.servers", "127.0.0.1:1", false}};
    int64_t began = mr_clock_mono_ms();
    assert_false(mr_kafka_check(away, 1, NULL, 0, 600, &err));
    assert_true(mr_clock_mono_ms() - began < 15000);
    assert_int_equal(err.action, MR_RETRY);
    assert_int_equal(err.code, MR_EXIT_UNREACHABLE);
    assert_non_null(strstr(err.msg, "127.0.0.1:1 cannot be reached"));
    assert_non_null(strstr(err.msg, "refused"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(assignment_comes_first_and_nothing_is_read_before_start),
        cmocka_unit_test(committed_offsets_carry_their_metadata),
        cmocka_unit_test(an_offset_fetch_that_fails_says_ask_again),
        cmocka_unit_test(watermarks_tell_first_and_last),
        cmocka_unit_test(the_end_of_a_partition_is_a_position),
        cmocka_unit_test(a_commit_while_the_group_rebalances_asks_for_recovery),
        cmocka_unit_test(a_fenced_member_sends_no_more_commits),
        cmocka_unit_test(losing_membership_is_told_before_the_new_assignment),
        cmocka_unit_test(keys_nulls_headers_and_timestamps_survive),
        cmocka_unit_test(a_small_prefetch_does_not_stall),
        cmocka_unit_test(starts_close_behind_each_other_are_survived),
        cmocka_unit_test(a_position_outside_of_the_topic_is_left_to_a_claim),
        cmocka_unit_test(two_members_share_and_a_third_gets_nothing),
        cmocka_unit_test(a_topic_that_does_not_exist_is_named),
        cmocka_unit_test(check_reaches_brokers_and_finds_topics),
        cmocka_unit_test(check_says_that_nobody_answers),
        cmocka_unit_test(an_outage_is_told_once_and_ends_by_itself),
    };
    return cmocka_run_group_tests(tests, open_cluster, close_cluster);
}
