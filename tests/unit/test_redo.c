/*
 * test_redo.c - the final bytes of a unit: packed, unpacked, and never sent when they are damaged.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "stream/redo.h"

#include <stdio.h>

/* A sink that only knows topics. */
struct topics {
    struct mr_sink base;
    const char *names[4];
    char added[4][64];
    uint16_t n;
};

static uint16_t topic(struct mr_sink *sink, const char *name)
{
    struct topics *topics = (struct topics *)sink;
    for (uint16_t i = 0; i < topics->n; i++)
        if (strcmp(topics->names[i], name) == 0)
            return i;
    snprintf(topics->added[topics->n], sizeof topics->added[0], "%s", name);
    topics->names[topics->n] = topics->added[topics->n];
    return topics->n++;
}

static const char *topic_name(struct mr_sink *sink, uint16_t index)
{
    return index < ((struct topics *)sink)->n ? ((struct topics *)sink)->names[index] : NULL;
}

static const struct mr_sink_ops ops = {.topic = topic, .topic_name = topic_name};

static void put(struct mr_buf *out, uint16_t at_topic, const char *key, const char *value)
{
    struct mr_frame frame = {.key_len = key ? (uint32_t)strlen(key) : MR_ABSENT,
                             .value_len = value ? (uint32_t)strlen(value) : MR_ABSENT,
                             .topic = at_topic,
                             .timestamp_ms = 1700000000123};
    mr_buf_put(out, &frame, sizeof frame);
    mr_buf_put(out, key, key ? strlen(key) : 0);
    mr_buf_put(out, value, value ? strlen(value) : 0);
}

static void what_was_packed_comes_back(void **state)
{
    (void)state;
    struct topics before = {.base = {&ops}, .names = {"out", "dead"}, .n = 2};
    struct topics after = {.base = {&ops}, .names = {"other", "dead"}, .n = 2};
    struct mr_buf first = {0}, second = {0}, packed = {0}, frames = {0}, again = {0};
    struct mr_redo redo;
    struct mr_error err;
    for (int i = 0; i < 5000; i++)
        put(&first, 0, "a-key", "{\"the\":\"same message, nearly\"}");
    put(&first, 0, NULL, "no key");
    put(&second, 1, "key", NULL);
    const struct mr_bytes parts[] = {{first.ptr, first.len}, {second.ptr, second.len}};
    mr_redo_pack(&before.base, parts, 2, 5002, &packed, &redo);
    assert_string_equal(redo.codec, "lz4/1");
    assert_int_equal(redo.n, 5002);
    assert_true(redo.payload.len < first.len / 10);

    assert_true(mr_redo_unpack(&before.base, &redo, &frames, &err));
    assert_int_equal(frames.len, first.len + second.len);
    assert_memory_equal(frames.ptr, first.ptr, first.len);
    assert_memory_equal(frames.ptr + first.len, second.ptr, second.len);

    /* The configuration has changed: the messages still go where they were meant to. */
    assert_true(mr_redo_unpack(&after.base, &redo, &again, &err));
    struct mr_frame frame;
    memcpy(&frame, again.ptr, sizeof frame);
    assert_string_equal(after.names[frame.topic], "out");
    memcpy(&frame, again.ptr + first.len, sizeof frame);
    assert_int_equal(frame.topic, 1);
    mr_buf_fini(&first);
    mr_buf_fini(&second);
    mr_buf_fini(&packed);
    mr_buf_fini(&frames);
    mr_buf_fini(&again);
}

static void a_unit_without_messages_is_packed_too(void **state)
{
    (void)state;
    struct topics topics = {.base = {&ops}, .names = {"out"}, .n = 1};
    struct mr_buf packed = {0}, frames = {0};
    struct mr_redo redo;
    struct mr_error err;
    mr_redo_pack(&topics.base, NULL, 0, 0, &packed, &redo);
    assert_true(mr_redo_unpack(&topics.base, &redo, &frames, &err));
    assert_int_equal(frames.len, 0);
    mr_buf_fini(&packed);
    mr_buf_fini(&frames);
}

static void what_is_damaged_is_refused(void **state)
{
    (void)state;
    struct topics topics = {.base = {&ops}, .names = {"out"}, .n = 1};
    struct mr_buf in = {0}, packed = {0}, frames = {0};
    struct mr_redo redo, bad;
    struct mr_error err;
    put(&in, 0, "k", "some value or other");
    mr_redo_pack(&topics.base, &(struct mr_bytes){in.ptr, in.len}, 1, 1, &packed, &redo);
    for (size_t i = 0; i < redo.payload.len; i++)
        for (int bit = 0; bit < 8; bit++) {
            ((char *)packed.ptr)[i] ^= (char)(1 << bit);
            assert_false(mr_redo_unpack(&topics.base, &redo, &frames, &err));
            assert_int_equal(err.action, MR_STOP);
            assert_non_null(strstr(err.msg, "crc32c"));
            ((char *)packed.ptr)[i] ^= (char)(1 << bit);
        }
    bad = redo;
    bad.payload.len--;
    assert_false(mr_redo_unpack(&topics.base, &bad, &frames, &err));
    bad = redo;
    bad.n = 2;
    assert_false(mr_redo_unpack(&topics.base, &bad, &frames, &err));
    assert_non_null(strstr(err.msg, "the messages"));
    bad = redo;
    bad.codec = "zstd/9";
    assert_false(mr_redo_unpack(&topics.base, &bad, &frames, &err));
    assert_non_null(strstr(err.msg, "zstd/9"));
    assert_true(mr_redo_unpack(&topics.base, &redo, &frames, &err));
    mr_buf_fini(&in);
    mr_buf_fini(&packed);
    mr_buf_fini(&frames);
}

/* The check value of CRC-32C, so that another program can check what is stored. */
static void the_checksum_is_crc32c(void **state)
{
    (void)state;
    assert_int_equal(mr_redo_crc32c((struct mr_bytes){"123456789", 9}), 0xe3069283);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_packed_comes_back),
        cmocka_unit_test(a_unit_without_messages_is_packed_too),
        cmocka_unit_test(what_is_damaged_is_refused),
        cmocka_unit_test(the_checksum_is_crc32c),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
