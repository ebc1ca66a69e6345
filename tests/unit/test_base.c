/*
 * test_base.c - the base room: errors, bufs, arenas, text forms, metrics, log lines.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/metrics.h"
#include "base/text.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void error_context_goes_in_front(void **state)
{
    (void)state;
    struct mr_error err;
    assert_false(mr_error_reject(&err, "decode", "bad byte at %d", 3));
    assert_false(mr_error_context(&err, "topic_in/0@%d", 7));
    assert_string_equal(err.msg, "topic_in/0@7: bad byte at 3");
    assert_string_equal(err.class_, "decode");
    assert_int_equal(err.action, MR_REJECT);
}

static void buf_grows_and_keeps_bytes(void **state)
{
    (void)state;
    struct mr_buf buf;
    mr_buf_init(&buf);
    for (int i = 0; i < 5000; i++)
        mr_buf_put_be32(&buf, (uint32_t)i);
    assert_int_equal(buf.len, 20000);
    assert_memory_equal(buf.ptr + 4 * 4999, "\x00\x00\x13\x87", 4);
    mr_buf_fini(&buf);
}

static void arena_hands_out_distinct_aligned_memory(void **state)
{
    (void)state;
    struct mr_arena arena;
    mr_arena_init(&arena);
    for (int round = 0; round < 3; round++) {
        char *last = NULL;
        for (int i = 1; i < 3000; i++) {
            char *p = mr_arena_alloc(&arena, (size_t)i);
            assert_int_equal((uintptr_t)p % 16, 0);
            memset(p, i & 0xff, (size_t)i);
            if (last)
                assert_int_equal((unsigned char)last[0], (i - 1) & 0xff);
            last = p;
        }
        mr_arena_reset(&arena);
    }
    mr_arena_fini(&arena);
}

static void json_strings_escape_what_json_demands(void **state)
{
    (void)state;
    struct mr_buf buf;
    mr_buf_init(&buf);
    mr_text_json_string(&buf, "a\"b\\c\n\t\x01z\xc3\xa9", 11);
    assert_string_equal(mr_buf_cstr(&buf), "\"a\\\"b\\\\c\\n\\t\\u0001z\xc3\xa9\"");
    mr_buf_fini(&buf);
}

static void floats_are_shortest_and_exact(void **state)
{
    (void)state;
    const struct {
        double value;
        const char *text;
    } cases[] = {{0.1, "0.1"},      {1.0, "1.0"},       {-0.0, "-0.0"},
                 {1e300, "1e+300"}, {5e-324, "5e-324"}, {1.0 / 3, "0.3333333333333333"}};
    struct mr_buf buf;
    mr_buf_init(&buf);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        mr_buf_reset(&buf);
        assert_true(mr_text_float(&buf, cases[i].value));
        assert_string_equal(mr_buf_cstr(&buf), cases[i].text);
        assert_true(strtod(buf.ptr, NULL) == cases[i].value);
    }
    assert_false(mr_text_float(&buf, NAN));
    assert_false(mr_text_float(&buf, INFINITY));
    mr_buf_fini(&buf);
}

static void integers_cover_int64(void **state)
{
    (void)state;
    struct mr_buf buf;
    mr_buf_init(&buf);
    mr_text_int(&buf, INT64_MIN);
    mr_buf_put_char(&buf, ' ');
    mr_text_int(&buf, 0);
    mr_buf_put_char(&buf, ' ');
    mr_text_int(&buf, INT64_MAX);
    assert_string_equal(mr_buf_cstr(&buf), "-9223372036854775808 0 9223372036854775807");
    mr_buf_fini(&buf);
}

static void utf8_refuses_overlong_surrogates_and_cuts(void **state)
{
    (void)state;
    assert_true(mr_text_utf8_valid("a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 10));
    assert_false(mr_text_utf8_valid("\xc0\x80", 2));
    assert_false(mr_text_utf8_valid("\xed\xa0\x80", 3));
    assert_false(mr_text_utf8_valid("\xe2\x82", 2));
    assert_false(mr_text_utf8_valid("\xf4\x90\x80\x80", 4));
    assert_false(mr_text_utf8_valid("\x80", 1));
}

static void uuids_round_trip_only_in_canonical_form(void **state)
{
    (void)state;
    uint8_t uuid[16];
    char text[36];
    const char *canonical = "123e4567-e89b-12d3-a456-426614174000";
    assert_true(mr_text_uuid_parse(canonical, 36, uuid));
    mr_text_uuid_format(uuid, text);
    assert_memory_equal(text, canonical, 36);
    assert_false(mr_text_uuid_parse("123E4567-E89B-12D3-A456-426614174000", 36, uuid));
    assert_true(mr_text_uuid_parse_any("123E4567-E89B-12D3-A456-426614174000", 36, uuid));
    assert_false(mr_text_uuid_parse(canonical, 35, uuid));
    assert_false(mr_text_uuid_parse("123e4567-e89b-12d3-a456+426614174000", 36, uuid));
}

static void nearest_name_suggests_only_near_ones(void **state)
{
    (void)state;
    const char *names[] = {"topics", "group", "kafka", "start"};
    assert_string_equal(mr_text_nearest("topcis", names, 4), "topics");
    assert_string_equal(mr_text_nearest("Group", names, 4), "group");
    assert_null(mr_text_nearest("zookeeper", names, 4));
}

static void metrics_share_and_print(void **state)
{
    (void)state;
    struct mr_buf labels, out;
    mr_buf_init(&labels);
    mr_buf_init(&out);
    mr_metrics_label(&labels, "reason", "a\"b\nc");
    struct mr_metric *m =
        mr_metrics_get(MR_COUNTER, "millrace_test_total", "A test.", mr_buf_cstr(&labels));
    assert_ptr_equal(m, mr_metrics_get(MR_COUNTER, "millrace_test_total", "A test.", labels.ptr));
    mr_metric_add(m, 2);
    mr_metric_add(m, 3);
    mr_metrics_write(&out);
    assert_non_null(strstr(mr_buf_cstr(&out), "# TYPE millrace_test_total counter\n"
                                              "millrace_test_total{reason=\"a\\\"b\\nc\"} 5\n"));
    mr_buf_fini(&labels);
    mr_buf_fini(&out);
}

static void metrics_bound_the_label_sets(void **state)
{
    (void)state;
    struct mr_metric *last = NULL;
    for (int i = 0; i < 300; i++) {
        char labels[32];
        snprintf(labels, sizeof labels, "reason=\"r%d\"", i);
        last = mr_metrics_get(MR_COUNTER, "millrace_many_total", "Many.", labels);
    }
    assert_string_equal(last->labels, "other=\"1\"");
}

static char captured[8192];
static void capture(const char *text, void *arg)
{
    (void)arg;
    snprintf(captured, sizeof captured, "%s", text);
}

static void log_lines_cannot_be_forged(void **state)
{
    (void)state;
    mr_log_hook(capture, NULL);
    mr_log_init(MR_INFO, MR_LOG_JSON);
    mr_log_thread_name("promo/0");
    mr_log(MR_WARN, "bad \"%s\"", "x\ny\x1b[31m");
    assert_non_null(strstr(captured, "\"level\":\"warn\",\"worker\":\"promo/0\","
                                     "\"message\":\"bad \\\"x\\ny\\u001b[31m\\\"\"}"));
    captured[0] = '\0';
    mr_log(MR_DEBUG, "unseen");
    assert_string_equal(captured, "");
    mr_log_thread_name(NULL);
    mr_log_hook(NULL, NULL);
}

static void log_gate_counts_what_it_holds_back(void **state)
{
    (void)state;
    mr_log_hook(capture, NULL);
    mr_log_init(MR_INFO, MR_LOG_JSON);
    struct mr_log_gate gate = {0};
    for (int i = 0; i < 1000; i++)
        mr_log_every(&gate, MR_WARN, "line %d", i);
    assert_true(gate.suppressed >= 900);
    gate.next_ms = 0;
    mr_log_every(&gate, MR_WARN, "last");
    assert_non_null(strstr(captured, "like it were not logged"));
    mr_log_hook(NULL, NULL);
}

static void trouble_is_told_once_until_it_changes(void **state)
{
    (void)state;
    mr_log_hook(capture, NULL);
    mr_log_init(MR_INFO, MR_LOG_JSON);
    struct mr_log_trouble trouble = {0};
    for (int i = 0; i < 5; i++) {
        captured[0] = '\0';
        mr_log_trouble(&trouble, MR_WARN, "%s is away", "it");
        assert_int_equal(captured[0] != '\0', i == 0);
    }
    mr_log_trouble(&trouble, MR_WARN, "%s refuses", "it");
    assert_non_null(strstr(captured, "it refuses"));
    captured[0] = '\0';
    mr_log_trouble(&trouble, MR_WARN, "%s refuses", "it");
    assert_string_equal(captured, "");
    trouble.next_ms = 0;
    mr_log_trouble(&trouble, MR_WARN, "%s refuses", "it");
    assert_non_null(strstr(captured, "it refuses (2 attempts since the line before)"));
    mr_log_hook(NULL, NULL);
}

static void backoff_stays_in_its_range(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 40; i++) {
        int ms = mr_clock_backoff_ms(i, 10000);
        assert_in_range(ms, 50, 10000);
    }
    assert_true(mr_clock_backoff_ms(0, 10000) <= 100);
    assert_true(mr_clock_backoff_ms(30, 10000) >= 5000);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) /* they keep what is freed */
static size_t resident_bytes(void)
{
    size_t pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%*u %zu", &pages), 1);
    fclose(file);
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}

static void freed_memory_is_given_back(void **state)
{
    (void)state;
    enum { BLOCKS = 4096, BLOCK = 16 << 10 };
    static char *blocks[BLOCKS];
    size_t before = resident_bytes();
    for (int i = 0; i < BLOCKS; i++)
        memset(blocks[i] = mr_alloc(BLOCK), i, BLOCK);
    size_t peak = resident_bytes();
    assert_true(peak > before + (size_t)BLOCKS * BLOCK / 2); /* some was there before */
    for (int i = 0; i < BLOCKS; i++)
        free(blocks[i]);
    mr_memory_give_back();
    assert_true(resident_bytes() < peak - (size_t)BLOCKS * BLOCK / 2);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(error_context_goes_in_front),
        cmocka_unit_test(buf_grows_and_keeps_bytes),
        cmocka_unit_test(arena_hands_out_distinct_aligned_memory),
        cmocka_unit_test(json_strings_escape_what_json_demands),
        cmocka_unit_test(floats_are_shortest_and_exact),
        cmocka_unit_test(integers_cover_int64),
        cmocka_unit_test(utf8_refuses_overlong_surrogates_and_cuts),
        cmocka_unit_test(uuids_round_trip_only_in_canonical_form),
        cmocka_unit_test(nearest_name_suggests_only_near_ones),
        cmocka_unit_test(metrics_share_and_print),
        cmocka_unit_test(metrics_bound_the_label_sets),
        cmocka_unit_test(log_lines_cannot_be_forged),
        cmocka_unit_test(log_gate_counts_what_it_holds_back),
        cmocka_unit_test(trouble_is_told_once_until_it_changes),
        cmocka_unit_test(backoff_stays_in_its_range),
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
        cmocka_unit_test(freed_memory_is_given_back),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
