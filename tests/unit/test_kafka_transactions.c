/*
 * test_kafka_transactions.c - a sink's transactions on a real broker: what becomes visible and
 * when, who fences whom, what a death leaves behind, and the offsets of a group from outside.
 *
 * Each test has a group and topics of its own; what readers see is read by a consumer that is not
 * ours. The tests from the_broker_dies_* on end and start the broker.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "support/mockcluster.h"

enum { WAIT_MS = 30000, UNSTABLE_MS = 300 };

static struct mr_kafka_property brokers;
static struct mr_sink *sinks[4]; /* closed by tear_down */
static struct mr_source *sources[4];
static struct mr_error err;

/* --- opening --- */

static struct mr_sink *open_sink(const char *id, const char *topic)
{
    struct mr_kafka_sink_options options = {.properties = &brokers,
                                            .n_properties = 1,
                                            .topics = &topic,
                                            .n_topics = 1,
                                            .transactional_id = id};
    size_t i = 0;
    while (sinks[i])
        i++;
    assert_true(i < 4);
    if (!mr_kafka_sink_open(&options, &sinks[i], &err))
        fail_msg("%s", err.msg);
    return sinks[i];
}

static void must(bool ok)
{
    if (!ok)
        fail_msg("%s", err.msg);
}

/* A broker that has just come back may need longer than one call. */
static void fence(struct mr_sink *sink)
{
    int64_t deadline = mr_clock_mono_ms() + WAIT_MS;
    while (!sink->ops->fence(sink, true, NULL, &err))
        if (err.action != MR_RETRY || mr_clock_mono_ms() > deadline)
            fail_msg("%s", err.msg);
}

static struct mr_sink *fenced(const char *id, const char *topic)
{
    struct mr_sink *sink = open_sink(id, topic);
    fence(sink);
    return sink;
}

static struct mr_source *join(const char *group, const char *topic, const char *instance)
{
    struct mr_kafka_source_options options = {.properties = &brokers,
                                              .n_properties = 1,
                                              .topics = &topic,
                                              .n_topics = 1,
                                              .group = group,
                                              .group_instance_id = instance};
    size_t i = 0;
    while (sources[i])
        i++;
    assert_true(i < 4);
    must(mr_kafka_source_open(&options, &sources[i], &err));
    return sources[i];
}

static void leave(struct mr_source *source)
{
    for (size_t i = 0; i < 4; i++)
        if (sources[i] == source)
            sources[i] = NULL;
    source->ops->close(source);
}

static void close_sink(struct mr_sink *sink)
{
    for (size_t i = 0; i < 4; i++)
        if (sinks[i] == sink)
            sinks[i] = NULL;
    sink->ops->close(sink);
}

static void await(struct mr_source *source, enum mr_event want)
{
    struct mr_record rec;
    int64_t deadline = mr_clock_mono_ms() + WAIT_MS;
    while (mr_clock_mono_ms() < deadline) {
        enum mr_event event = source->ops->poll(source, 50, &rec, &err);
        if (event == want)
            return;
        if (event == MR_EVENT_RECORD)
            source->ops->release(source, &rec);
    }
    fail_msg("no event %d came", (int)want);
}

/* Both are in one generation: whoever joins second is let in only when the first is served too. */
static void await_both(struct mr_source *one, struct mr_source *other)
{
    struct mr_source *both[2] = {one, other};
    bool told[2] = {false, false};
    int64_t deadline = mr_clock_mono_ms() + WAIT_MS;
    for (int i = 0; mr_clock_mono_ms() < deadline && !(told[0] && told[1]); i = !i) {
        struct mr_record rec;
        enum mr_event event = both[i]->ops->poll(both[i], 50, &rec, &err);
        told[i] = event == MR_EVENT_ASSIGNED || (told[i] && event != MR_EVENT_REVOKED);
        if (event == MR_EVENT_RECORD)
            both[i]->ops->release(both[i], &rec);
    }
    assert_true(told[0] && told[1]);
}

static struct mr_source *member(const char *group, const char *topic)
{
    struct mr_source *source = join(group, topic, NULL);
    await(source, MR_EVENT_ASSIGNED);
    return source;
}

/* --- a unit's steps --- */

static struct mr_buf lent; /* what is borrowed by the sink under test */

static void produce(struct mr_sink *sink, uint16_t topic, const char *prefix, int n)
{
    mr_buf_reset(&lent);
    for (int i = 0; i < n; i++) {
        char text[64];
        snprintf(text, sizeof text, "%s%d", prefix, i);
        size_t at = lent.len;
        put_frame(&lent, text, text, NULL, mr_clock_wall_ms());
        struct mr_frame frame;
        memcpy(&frame, lent.ptr + at, sizeof frame);
        frame.topic = topic;
        memcpy(lent.ptr + at, &frame, sizeof frame);
    }
    must(sink->ops->produce(sink, bytes_of(&lent), &err));
}

static void flush(struct mr_sink *sink)
{
    size_t bad;
    must(sink->ops->flush(sink, 20000, &bad, &err));
}

static struct mr_mark mark_of(const char *topic, int64_t next_offset, const char *metadata)
{
    struct mr_mark mark = {.at = {topic, 0}, .next_offset = next_offset};
    snprintf(mark.metadata, sizeof mark.metadata, "%s", metadata);
    return mark;
}

static bool offsets(struct mr_sink *sink, struct mr_source *source, const char *topic,
                    int64_t next_offset, const char *metadata)
{
    struct mr_mark mark = mark_of(topic, next_offset, metadata);
    return sink->ops->offsets(sink, source, &mark, 1, &err);
}

/* Begins a transaction and brings it to the point before its commit. */
static void prepare(struct mr_sink *sink, struct mr_source *source, const char *topic,
                    const char *prefix, int n, int64_t next_offset, const char *metadata)
{
    must(sink->ops->begin(sink, &err));
    produce(sink, 0, prefix, n);
    flush(sink);
    must(offsets(sink, source, topic, next_offset, metadata));
}

static void commit(struct mr_sink *sink)
{
    must(sink->ops->commit(sink, &err));
}

/* --- looking --- */

/* Values, a blank after each. */
static void read_topic(const char *topic, const char *isolation, struct mr_buf *text)
{
    char why[256];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_set(conf, "bootstrap.servers", brokers.value, why, sizeof why);
    rd_kafka_conf_set(conf, "group.id", "reader", why, sizeof why);
    rd_kafka_conf_set(conf, "enable.partition.eof", "true", why, sizeof why);
    rd_kafka_conf_set(conf, "isolation.level", isolation, why, sizeof why);
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, why, sizeof why);
    assert_non_null(rk);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, topic, 0)->offset = 0;
    rd_kafka_assign(rk, list);
    rd_kafka_topic_partition_list_destroy(list);
    int64_t deadline = mr_clock_mono_ms() + WAIT_MS;
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
    rd_kafka_consumer_close(rk);
    rd_kafka_destroy(rk);
    assert_true(end);
}

static void assert_read(const char *topic, const char *isolation, const char *expected)
{
    int64_t deadline = mr_clock_mono_ms() + WAIT_MS;
    struct mr_buf text;
    mr_buf_init(&text);
    do { /* the end of a transaction is promised a moment before it can be read */
        mr_buf_reset(&text);
        read_topic(topic, isolation, &text);
    } while (strlen(mr_buf_cstr(&text)) < strlen(expected) && mr_clock_mono_ms() < deadline);
    assert_string_equal(mr_buf_cstr(&text), expected);
    mr_buf_fini(&text);
}

static void assert_visible(const char *topic, const char *expected)
{
    assert_read(topic, "read_committed", expected);
}

static struct mr_committed committed(struct mr_source *source, const char *topic)
{
    static struct mr_committed found;
    must(source->ops->committed(source, &(struct mr_partition){topic, 0}, WAIT_MS, &found, &err));
    return found;
}

static void assert_committed(struct mr_source *source, const char *topic, int64_t offset,
                             const char *metadata)
{
    struct mr_committed found = committed(source, topic);
    assert_true(found.present);
    assert_int_equal(found.offset, offset);
    assert_string_equal(found.metadata, metadata);
}

/* A transaction is pending on it: asking is answered by an error. */
static void assert_unstable(struct mr_source *source, const char *topic)
{
    struct mr_committed found;
    assert_false(source->ops->committed(source, &(struct mr_partition){topic, 0}, UNSTABLE_MS,
                                        &found, &err));
    assert_int_equal(err.action, MR_RETRY);
    assert_false(found.present);
}

/* --- visibility --- */

static void messages_and_offsets_become_visible_together(void **state)
{
    (void)state;
    struct mr_source *source = member("together", "in");
    struct mr_sink *sink = fenced("t.together", "together");
    assert_false(committed(source, "in").present);
    prepare(sink, source, "in", "a", 3, 7, "mr1;l=01234567;u=1");
    assert_visible("together", "");
    assert_read("together", "read_uncommitted", "a0 a1 a2 ");
    assert_unstable(source, "in");
    commit(sink);
    assert_committed(source, "in", 7, "mr1;l=01234567;u=1");
    assert_visible("together", "a0 a1 a2 ");
    /* Offsets alone, as of a mark. */
    must(sink->ops->begin(sink, &err));
    must(offsets(sink, source, "in", 8, "mr1;l=01234567;u=1"));
    commit(sink);
    assert_committed(source, "in", 8, "mr1;l=01234567;u=1");
}

static void the_longest_metadata_comes_back_whole(void **state)
{
    (void)state;
    char longest[MR_METADATA_MAX + 1];
    memset(longest, 'm', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    struct mr_source *source = member("longest", "in");
    struct mr_sink *sink = fenced("t.longest", "longest");
    prepare(sink, source, "in", "a", 1, 1, longest);
    commit(sink);
    assert_committed(source, "in", 1, longest);
}

static void an_abort_leaves_nothing(void **state)
{
    (void)state;
    struct mr_source *source = member("abort", "in");
    struct mr_sink *sink = fenced("t.abort", "abort");
    prepare(sink, source, "in", "a", 3, 7, "gone");
    sink->ops->abort(sink);
    assert_false(committed(source, "in").present);
    /* Nothing done yet; and with messages on their way, their memory scribbled over at once. */
    must(sink->ops->begin(sink, &err));
    sink->ops->abort(sink);
    for (int round = 0; round < 5; round++) {
        must(sink->ops->begin(sink, &err));
        produce(sink, 0, "flying", 500);
        sink->ops->abort(sink);
        memset(lent.ptr, 'z', lent.len);
    }
    prepare(sink, source, "in", "b", 2, 9, "stays");
    commit(sink);
    assert_visible("abort", "b0 b1 ");
    assert_committed(source, "in", 9, "stays");
}

static void offsets_go_out_beside_the_messages(void **state)
{
    (void)state;
    struct mr_source *source = member("beside", "in");
    struct mr_sink *sink = fenced("t.beside", "beside");
    struct mr_mark mark = mark_of("in", 7, "gone");
    /* Given up while both are on their way, their memory scribbled over at once. */
    for (int round = 0; round < 5; round++) {
        must(sink->ops->begin(sink, &err));
        produce(sink, 0, "flying", 500);
        sink->ops->begin_offsets(sink, source, &mark, 1);
        memset(&mark, 'z', sizeof mark);
        sink->ops->abort(sink);
        memset(lent.ptr, 'z', lent.len);
        mark = mark_of("in", 7, "gone");
    }
    assert_false(committed(source, "in").present);
    must(sink->ops->begin(sink, &err));
    produce(sink, 0, "a", 2);
    mark = mark_of("in", 8, "stays");
    sink->ops->begin_offsets(sink, source, &mark, 1);
    flush(sink);
    must(sink->ops->offsets(sink, source, &mark, 1, &err));
    commit(sink);
    assert_visible("beside", "a0 a1 ");
    assert_committed(source, "in", 8, "stays");
}

static void two_topics_in_one_transaction(void **state)
{
    (void)state;
    struct mr_source *source = member("two", "in");
    struct mr_sink *sink = fenced("t.two", "two-a");
    uint16_t other = sink->ops->topic(sink, "two-b");
    assert_int_equal(other, 1);
    assert_int_equal(sink->ops->topic(sink, "two-a"), 0);
    assert_int_equal(sink->ops->topic(sink, "two-b"), 1);
    assert_string_equal(sink->ops->topic_name(sink, 1), "two-b");
    must(sink->ops->begin(sink, &err));
    produce(sink, 0, "a", 2);
    flush(sink);
    produce(sink, other, "b", 1);
    flush(sink);
    must(offsets(sink, source, "in", 3, "u"));
    assert_visible("two-a", "");
    assert_visible("two-b", "");
    commit(sink);
    assert_visible("two-a", "a0 a1 ");
    assert_visible("two-b", "b0 ");
}

static void a_refused_message_is_named_and_the_next_transaction_works(void **state)
{
    (void)state;
    struct mr_source *source = member("refused", "in");
    struct mr_sink *sink = fenced("t.refused", "refused");
    uint16_t small = sink->ops->topic(sink, "small");
    char huge[3000];
    memset(huge, 'x', sizeof huge - 1);
    huge[sizeof huge - 1] = '\0';
    must(sink->ops->begin(sink, &err));
    struct mr_buf frames;
    mr_buf_init(&frames);
    put_frame(&frames, NULL, "first", NULL, 1);
    size_t at = frames.len;
    put_frame(&frames, NULL, huge, NULL, 1);
    struct mr_frame frame;
    memcpy(&frame, frames.ptr + at, sizeof frame);
    frame.topic = small;
    memcpy(frames.ptr + at, &frame, sizeof frame);
    for (int i = 0; i < 2000; i++)
        put_frame(&frames, NULL, "later", NULL, 1);
    size_t bad = 99;
    must(sink->ops->produce(sink, bytes_of(&frames), &err));
    assert_false(sink->ops->flush(sink, 20000, &bad, &err));
    assert_int_equal(err.action, MR_REJECT);
    assert_string_equal(err.class_, "too_large");
    assert_int_equal(bad, 1);
    sink->ops->abort(sink);
    mr_buf_fini(&frames);
    prepare(sink, source, "in", "b", 1, 1, "u");
    commit(sink);
    assert_visible("refused", "b0 ");
}

/* How long the steps of `rounds` transactions of n messages take, gap_ms apart. */
static void measure(struct mr_sink *sink, struct mr_source *source, int rounds, int n, int gap_ms)
{
    int64_t us[5] = {0};
    for (int i = 0; i < rounds; i++) {
        if (gap_ms)
            mr_clock_sleep_ms(gap_ms);
        int64_t at[5] = {mr_clock_mono_us()};
        must(sink->ops->begin(sink, &err));
        at[1] = mr_clock_mono_us();
        if (n)
            produce(sink, 0, "m", n);
        flush(sink);
        at[2] = mr_clock_mono_us();
        must(offsets(sink, source, "in", i, "u"));
        at[3] = mr_clock_mono_us();
        commit(sink);
        at[4] = mr_clock_mono_us();
        for (int s = 0; s < 4; s++)
            us[s] += at[s + 1] - at[s];
        us[4] += at[4] - at[0];
    }
    print_message("%d messages, %d ms apart: begin %.2f, produce and flush %.2f, offsets %.2f, "
                  "commit %.2f, all %.2f ms\n",
                  n, gap_ms, (double)us[0] / 1000 / rounds, (double)us[1] / 1000 / rounds,
                  (double)us[2] / 1000 / rounds, (double)us[3] / 1000 / rounds,
                  (double)us[4] / 1000 / rounds);
}

static void many_small_transactions(void **state)
{
    (void)state;
    enum { ROUNDS = 200 };
    struct mr_source *source = member("many", "in");
    struct mr_sink *sink = fenced("t.many", "many");
    struct mr_buf expected;
    mr_buf_init(&expected);
    for (int i = 0; i < ROUNDS; i++) {
        char prefix[16];
        snprintf(prefix, sizeof prefix, "%d-", i);
        prepare(sink, source, "in", prefix, 1, i + 1, prefix);
        commit(sink);
        mr_buf_printf(&expected, "%s0 ", prefix);
    }
    assert_visible("many", mr_buf_cstr(&expected));
    assert_committed(source, "in", ROUNDS, "199-");
    mr_buf_fini(&expected);
    static const int n[] = {0, 1, 1000, 20000};
    for (size_t i = 0; i < sizeof n / sizeof *n; i++) {
        measure(sink, source, 50, n[i], 0);
        measure(sink, source, 20, n[i], 50);
    }
    int64_t began = mr_clock_mono_us();
    for (int i = 0; i < 20; i++)
        must(sink->ops->fence(sink, true, NULL, &err));
    print_message("fence: %.2f ms\n", (double)(mr_clock_mono_us() - began) / 1000 / 20);
}

static void a_plain_sink_again(void **state)
{
    (void)state;
    struct mr_source *source = member("plain", "in");
    struct mr_sink *sink = fenced("t.plain", "plain");
    prepare(sink, source, "in", "lost", 1, 5, "u");
    /* A switch of the mode with a transaction open: it is ended by whoever comes next. */
    must(sink->ops->fence(sink, false, NULL, &err));
    must(send_numbered(sink, "a", 2, &err));
    must(sink->ops->fence(sink, true, NULL, &err));
    assert_false(committed(source, "in").present);
    prepare(sink, source, "in", "b", 1, 6, "u");
    commit(sink);
    assert_visible("plain", "a0 a1 b0 ");
}

/* --- fencing --- */

static void a_successor_of_the_same_name_fences(void **state)
{
    (void)state;
    struct mr_source *source = member("fence", "in");
    struct mr_sink *old = fenced("t.fence", "fence");
    prepare(old, source, "in", "old", 2, 5, "old");
    struct mr_sink *new = fenced("t.fence", "fence");
    assert_false(committed(source, "in").present); /* ended, and stable */
    prepare(new, source, "in", "new", 2, 6, "new");
    assert_false(old->ops->commit(old, &err));
    assert_int_equal(err.action, MR_RECOVER);
    assert_non_null(strstr(err.msg, "will be looked up"));
    commit(new);
    old->ops->abort(old);
    assert_visible("fence", "new0 new1 ");
    assert_committed(source, "in", 6, "new");
    /* It may come back, as a claim would have it; then the other one is out, and hears of it while
     * it sends. */
    must(old->ops->fence(old, true, NULL, &err));
    must(new->ops->begin(new, &err));
    size_t bad;
    produce(new, 0, "late", 1);
    assert_false(new->ops->flush(new, 20000, &bad, &err));
    assert_int_equal(err.action, MR_RECOVER);
    new->ops->abort(new);
    prepare(old, source, "in", "back", 1, 7, "back");
    commit(old);
    assert_visible("fence", "new0 new1 back0 ");
}

static void the_open_transaction_of_the_dead_is_ended_by_name(void **state)
{
    (void)state;
    struct mr_source *source = member("dead", "in");
    struct mr_sink *dead = fenced("t.dead-1", "dead");
    struct mr_sink *heir = fenced("t.dead-2", "dead");
    prepare(dead, source, "in", "dead", 1, 5, "dead");
    assert_unstable(source, "in");
    must(heir->ops->begin(heir, &err)); /* it stays as it is */
    produce(heir, 0, "heir", 1);
    flush(heir);
    must(heir->ops->fence(heir, true, "t.dead-1", &err));
    assert_false(committed(source, "in").present);
    must(offsets(heir, source, "in", 6, "heir"));
    commit(heir);
    assert_visible("dead", "heir0 ");
    assert_committed(source, "in", 6, "heir");
    /* Its own name, from before: the producer of that name is replaced without a word. */
    must(heir->ops->fence(heir, true, "t.dead-2", &err));
    prepare(heir, source, "in", "more", 1, 7, "more");
    commit(heir);
    assert_committed(source, "in", 7, "more");
    /* A plain sink ends what a transactional owner left. */
    prepare(heir, source, "in", "open", 1, 8, "open");
    struct mr_sink *plain = open_sink("t.dead-3", "dead");
    must(plain->ops->fence(plain, false, NULL, &err));
    must(plain->ops->fence(plain, false, "t.dead-2", &err));
    assert_committed(source, "in", 7, "more");
}

/* --- the group --- */

static void who_is_no_member_commits_nothing(void **state)
{
    (void)state;
    struct mr_source *source = member("moved", "in");
    struct mr_sink *sink = fenced("t.moved", "moved");
    assert_non_null(source->ops->member(source));
    must(sink->ops->begin(sink, &err));
    produce(sink, 0, "a", 1);
    flush(sink);
    struct mr_source *second = join("moved", "in", NULL);
    await(source, MR_EVENT_REVOKED);
    assert_null(source->ops->member(source));
    assert_false(offsets(sink, source, "in", 5, "u"));
    assert_int_equal(err.action, MR_RECOVER);
    assert_non_null(strstr(err.msg, "the consumer group has moved on"));
    sink->ops->abort(sink);
    leave(second);
    await(source, MR_EVENT_ASSIGNED);
    prepare(sink, source, "in", "b", 1, 6, "u");
    commit(sink);
    assert_visible("moved", "b0 ");
}

/* A source whose proof of membership is of an earlier generation. */
static struct mr_source stale;
static rd_kafka_consumer_group_metadata_t *stale_proof;

static const struct mr_member *stale_member(struct mr_source *source)
{
    (void)source;
    return (const struct mr_member *)stale_proof;
}

static void the_broker_refuses_an_old_generation(void **state)
{
    (void)state;
    static const struct mr_source_ops ops = {.member = stale_member};
    stale.ops = &ops;
    struct mr_source *source = member("stale", "in");
    struct mr_sink *sink = fenced("t.stale", "stale");
    stale_proof = rd_kafka_consumer_group_metadata_new_with_genid("stale", 77, "nobody", NULL);
    must(sink->ops->begin(sink, &err));
    produce(sink, 0, "a", 1);
    flush(sink);
    assert_false(offsets(sink, &stale, "in", 5, "u"));
    rd_kafka_consumer_group_metadata_destroy(stale_proof);
    assert_int_equal(err.action, MR_RECOVER);
    sink->ops->abort(sink);
    assert_false(committed(source, "in").present);
    prepare(sink, source, "in", "b", 1, 6, "u");
    commit(sink);
    assert_visible("stale", "b0 ");
}

static void a_static_member_comes_back_at_once(void **state)
{
    (void)state;
    struct mr_source *source = join("static", "in", "one");
    struct mr_source *other = join("static", "in", "two");
    await_both(source, other);
    struct mr_sink *sink = fenced("t.static", "static");
    leave(source); /* as a death: a static member says nothing when it goes */
    int64_t began = mr_clock_mono_ms();
    source = join("static", "in", "one");
    await(source, MR_EVENT_ASSIGNED);
    print_message("a static member is back after %d ms\n", (int)(mr_clock_mono_ms() - began));
    assert_true(mr_clock_mono_ms() - began < 9000); /* its session is of 10 s */
    assert_non_null(source->ops->member(source));
    prepare(sink, source, "in", "a", 1, 6, "u");
    commit(sink);
    assert_committed(source, "in", 6, "u");
}

static void offsets_are_written_only_for_an_empty_group(void **state)
{
    (void)state;
    struct mr_partition at = {"in", 0};
    struct mr_committed found;
    int64_t low = -1, high = -1;
    struct mr_mark mark = mark_of("in", 5, "mr1;l=01234567;u=9");
    must(mr_kafka_group_offsets(&brokers, 1, "repair", &at, 10000, &found, &low, &high, &err));
    assert_false(found.present);
    assert_int_equal(low, 0);
    assert_int_equal(high, 3); /* as filled by set_up_all */
    struct mr_source *source = member("repair", "in");
    assert_false(mr_kafka_group_set_offsets(&brokers, 1, "repair", &mark, 1, 10000, &err));
    assert_int_equal(err.action, MR_STOP);
    assert_non_null(strstr(err.msg, "group repair still has members: stop its processes first"));
    assert_false(committed(source, "in").present);
    leave(source);
    must(mr_kafka_group_set_offsets(&brokers, 1, "repair", &mark, 1, 10000, &err));
    must(mr_kafka_group_offsets(&brokers, 1, "repair", &at, 10000, &found, &low, &high, &err));
    assert_int_equal(found.offset, 5);
    assert_string_equal(found.metadata, "mr1;l=01234567;u=9");
    source = member("repair", "in");
    assert_committed(source, "in", 5, "mr1;l=01234567;u=9");
    /* A group that never was. */
    must(mr_kafka_group_set_offsets(&brokers, 1, "repair-new", &mark, 1, 10000, &err));
}

/* --- a broker that dies --- */

static void broker(const char *what)
{
    char command[64];
    snprintf(command, sizeof command, "tests/support/kafka %s >&2", what);
    assert_int_equal(system(command), 0);
}

static void took_at_most(int64_t began, int ms, const char *what)
{
    int64_t took = mr_clock_mono_ms() - began;
    print_message("%s: %d ms\n", what, (int)took);
    if (took > ms)
        fail_msg("%s took %d ms", what, (int)took);
}

static void the_broker_dies_before_the_commit(void **state)
{
    (void)state;
    struct mr_source *source = member("death", "in");
    struct mr_sink *sink = fenced("t.death", "death");
    prepare(sink, source, "in", "a", 1, 5, "a");
    commit(sink);
    prepare(sink, source, "in", "b", 1, 6, "b");
    broker("kill");
    int64_t began = mr_clock_mono_ms();
    assert_false(sink->ops->commit(sink, &err));
    took_at_most(began, 20000, "commit without a broker");
    assert_int_equal(err.action, MR_RECOVER);
    began = mr_clock_mono_ms();
    sink->ops->abort(sink);
    took_at_most(began, 9000, "abort without a broker");
    began = mr_clock_mono_ms();
    assert_false(sink->ops->begin(sink, &err));
    took_at_most(began, 20000, "begin without a broker");
    assert_int_equal(err.action, MR_RETRY);
    assert_int_equal(err.code, MR_EXIT_UNREACHABLE);
    began = mr_clock_mono_ms();
    assert_false(sink->ops->fence(sink, true, "t.another", &err));
    took_at_most(began, 20000, "fence without a broker");
    assert_int_equal(err.action, MR_RETRY);
    broker("start");
    fence(sink);
    assert_committed(source, "in", 5, "a");
    leave(source);
    source = member("death", "in");
    prepare(sink, source, "in", "c", 1, 7, "c");
    commit(sink);
    assert_visible("death", "a0 c0 ");
}

static void the_broker_dies_between_transactions(void **state)
{
    (void)state;
    struct mr_source *source = member("pause", "in");
    struct mr_sink *sink = fenced("t.pause", "pause");
    prepare(sink, source, "in", "a", 1, 5, "a");
    commit(sink);
    broker("kill");
    broker("start");
    leave(source);
    source = member("pause", "in");
    prepare(sink, source, "in", "b", 1, 6, "b");
    commit(sink);
    assert_visible("pause", "a0 b0 ");
}

static void the_broker_dies_with_messages_on_their_way(void **state)
{
    (void)state;
    size_t bad;
    struct mr_source *source = member("flight", "in");
    struct mr_sink *sink = fenced("t.flight", "flight");
    must(sink->ops->begin(sink, &err));
    produce(sink, 0, "a", 1);
    flush(sink);
    broker("kill");
    produce(sink, 0, "b", 1000);
    assert_false(sink->ops->flush(sink, 1000, &bad, &err));
    assert_int_equal(err.action, MR_RETRY);
    int64_t began = mr_clock_mono_ms();
    sink->ops->abort(sink);
    took_at_most(began, 9000, "abort with messages on their way");
    memset(lent.ptr, 'z', lent.len);
    /* The same with offsets. */
    broker("start");
    leave(source);
    source = member("flight", "in");
    must(sink->ops->begin(sink, &err));
    produce(sink, 0, "c", 1);
    flush(sink);
    broker("kill");
    began = mr_clock_mono_ms();
    assert_false(offsets(sink, source, "in", 5, "u"));
    took_at_most(began, 23000, "offsets without a broker");
    assert_int_equal(err.action, MR_RETRY);
    sink->ops->abort(sink);
    began = mr_clock_mono_ms();
    close_sink(sink);
    took_at_most(began, 9000, "close without a broker");
    broker("start");
    assert_visible("flight", "");
}

/* Stopped, it keeps its connections and answers nothing; what was sent it reads later. */
static void produce_and_begin_offsets(struct mr_sink *sink, struct mr_source *source)
{
    struct mr_mark mark = mark_of("in", 9, "never");
    must(sink->ops->begin(sink, &err));
    produce(sink, 0, "never", 3);
    sink->ops->begin_offsets(sink, source, &mark, 1);
}

static void the_broker_holds_its_breath(void **state)
{
    (void)state;
    static const char stop[] = "read -r pid rest <\"$MILLRACE_RUN/pids/kafka\" && kill -STOP $pid";
    static const char go_on[] = "read -r pid rest <\"$MILLRACE_RUN/pids/kafka\" && kill -CONT $pid";
    struct mr_source *source = member("breath", "in");
    struct mr_sink *sink = fenced("t.breath", "breath");
    struct mr_sink *other = fenced("t.breath-2", "breath");
    prepare(sink, source, "in", "a", 1, 5, "a");
    must(other->ops->begin(other, &err));
    produce(other, 0, "other", 1);
    flush(other);
    assert_int_equal(system(stop), 0);
    int64_t began = mr_clock_mono_ms();
    assert_false(offsets(other, source, "in", 6, "other"));
    took_at_most(began, 23000, "offsets without an answer");
    if (err.action != MR_RETRY)
        fail_msg("%s", err.msg);
    began = mr_clock_mono_ms();
    assert_false(sink->ops->commit(sink, &err));
    took_at_most(began, 20000, "commit without an answer");
    assert_int_equal(err.action, MR_RECOVER);
    began = mr_clock_mono_ms();
    sink->ops->abort(sink);
    took_at_most(began, 9000, "abort after it");
    began = mr_clock_mono_ms();
    assert_false(sink->ops->fence(sink, true, NULL, &err));
    took_at_most(began, 20000, "fence without an answer");
    assert_int_equal(err.action, MR_RETRY);
    began = mr_clock_mono_ms();
    other->ops->abort(other);
    took_at_most(began, 15000, "abort without an answer");
    assert_int_equal(system(go_on), 0);
    fence(sink);
    fence(other);
    /* Offsets on their way hold up the end of a transaction, but not for long. */
    produce_and_begin_offsets(other, source);
    assert_int_equal(system(stop), 0);
    began = mr_clock_mono_ms();
    other->ops->abort(other);
    memset(lent.ptr, 'z', lent.len);
    took_at_most(began, 33000, "abort with offsets on their way");
    assert_int_equal(system(go_on), 0);
    /* The end of "a" was on its way: either it came in time, or never. */
    struct mr_committed found = committed(source, "in");
    print_message("the commit %s\n", found.present ? "came in time" : "was refused");
    assert_visible("breath", found.present ? "a0 " : "");
}

static void a_missing_topic_is_told(void **state)
{
    (void)state;
    size_t bad;
    struct mr_source *source = member("missing", "in");
    struct mr_sink *sink = fenced("t.missing", "missing");
    must(sink->ops->begin(sink, &err));
    produce(sink, 0, "a", 3);
    assert_false(sink->ops->flush(sink, 20000, &bad, &err));
    assert_int_equal(err.action, MR_RETRY);
    assert_non_null(strstr(err.msg, "topic missing does not exist"));
    sink->ops->abort(sink);
    assert_int_equal(system("tests/support/topics missing:1"), 0);
    prepare(sink, source, "in", "b", 3, 5, "b");
    commit(sink);
    assert_visible("missing", "b0 b1 b2 ");
}

/* --- main --- */

static int set_up_all(void **state)
{
    (void)state;
    if (!getenv("KAFKA_BROKERS"))
        return -1;
    brokers = (struct mr_kafka_property){"bootstrap.servers", getenv("KAFKA_BROKERS"), false};
    if (system("tests/support/topics in:1 together:1 longest:1 abort:1 beside:1 two-a:1 two-b:1 "
               "refused:1 "
               "small:1:max.message.bytes=2000 many:1 plain:1 fence:1 dead:1 moved:1 stale:1 "
               "static:1 death:1 pause:1 flight:1 breath:1") != 0)
        return -1;
    mr_buf_init(&lent);
    struct mr_sink *sink = open_sink(NULL, "in");
    must(send_numbered(sink, "in", 3, &err));
    close_sink(sink);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    for (size_t i = 0; i < 4; i++) {
        if (sinks[i])
            sinks[i]->ops->close(sinks[i]);
        if (sources[i])
            sources[i]->ops->close(sources[i]);
        sinks[i] = NULL;
        sources[i] = NULL;
    }
    return 0;
}

static int tear_down_all(void **state)
{
    (void)state;
    mr_buf_fini(&lent);
    return 0;
}

#define ON_BROKER(f) cmocka_unit_test_teardown(f, tear_down)

int main(int argc, char **argv)
{
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
        ON_BROKER(messages_and_offsets_become_visible_together),
        ON_BROKER(the_longest_metadata_comes_back_whole),
        ON_BROKER(an_abort_leaves_nothing),
        ON_BROKER(offsets_go_out_beside_the_messages),
        ON_BROKER(two_topics_in_one_transaction),
        ON_BROKER(a_refused_message_is_named_and_the_next_transaction_works),
        ON_BROKER(many_small_transactions),
        ON_BROKER(a_plain_sink_again),
        ON_BROKER(a_successor_of_the_same_name_fences),
        ON_BROKER(the_open_transaction_of_the_dead_is_ended_by_name),
        ON_BROKER(who_is_no_member_commits_nothing),
        ON_BROKER(the_broker_refuses_an_old_generation),
        ON_BROKER(a_static_member_comes_back_at_once),
        ON_BROKER(offsets_are_written_only_for_an_empty_group),
        ON_BROKER(a_missing_topic_is_told),
        ON_BROKER(the_broker_holds_its_breath),
        ON_BROKER(the_broker_dies_before_the_commit),
        ON_BROKER(the_broker_dies_between_transactions),
        ON_BROKER(the_broker_dies_with_messages_on_their_way),
    };
    return cmocka_run_group_tests(tests, set_up_all, tear_down_all);
}
