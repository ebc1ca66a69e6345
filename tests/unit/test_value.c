/*
 * test_value.c - values as JSON and text, cells as bytes that order: core/lookup/value.c, cell.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "millrace/lookup.h"
#include "seed.h"

#include <float.h>
#include <math.h>
#include <string.h>
#include <time.h>

static const int64_t to_2000 = 946684800; /* unix seconds */

static struct mr_value text_of(const char *text)
{
    return (struct mr_value){.type = MR_TEXT, .bytes = mr_bytes_of(text)};
}

static void expect_json(struct mr_value value, const char *expected)
{
    struct mr_buf out = {0};
    struct mr_error err;
    assert_true(mr_value_json(&out, &value, &err));
    assert_string_equal(mr_buf_cstr(&out), expected);
    mr_buf_fini(&out);
}

static void expect_text(struct mr_value value, const char *expected)
{
    struct mr_buf out = {0};
    struct mr_error err;
    assert_true(mr_value_text(&out, &value, &err));
    assert_string_equal(mr_buf_cstr(&out), expected);
    mr_buf_fini(&out);
}

static void expect_refused(struct mr_value value, const char *word)
{
    struct mr_buf out = {0};
    struct mr_error err = {0};
    mr_buf_put_text(&out, "kept");
    assert_false(mr_value_json(&out, &value, &err));
    assert_int_equal(err.action, MR_REJECT);
    assert_string_equal(err.class_, "schema");
    assert_non_null(strstr(err.msg, word));
    assert_int_equal(out.len, 4);
    assert_false(mr_value_text(&out, &value, &err));
    assert_int_equal(out.len, 4);
    mr_buf_fini(&out);
}

static void values_become_json(void **state)
{
    (void)state;
    expect_json((struct mr_value){.type = MR_NULL}, "null");
    expect_json((struct mr_value){.type = MR_BOOL, .b = true}, "true");
    expect_json((struct mr_value){.type = MR_BOOL, .b = false}, "false");
    expect_json((struct mr_value){.type = MR_INT, .i = INT64_MIN}, "-9223372036854775808");
    expect_json((struct mr_value){.type = MR_INT, .i = INT64_MAX}, "9223372036854775807");
    expect_json((struct mr_value){.type = MR_FLOAT, .f = 3}, "3.0");
    expect_json((struct mr_value){.type = MR_FLOAT, .f = 0.1}, "0.1");
    expect_json((struct mr_value){.type = MR_NUMERIC, .bytes = mr_bytes_of("-12.50")}, "-12.50");
    expect_json((struct mr_value){.type = MR_NUMERIC, .bytes = mr_bytes_of("0.000")}, "0.000");
    expect_json(text_of("a \"b\"\\\n\x01 \xc3\xa4"), "\"a \\\"b\\\"\\\\\\n\\u0001 \xc3\xa4\"");
    expect_json((struct mr_value){.type = MR_JSON, .bytes = mr_bytes_of("{\"a\": [1, null]}")},
                "{\"a\": [1, null]}");
    struct mr_value uuid = {.type = MR_UUID, .uuid = {0x12, 0x3e, 0x45, 0x67, 0xe8, 0x9b}};
    expect_json(uuid, "\"123e4567-e89b-0000-0000-000000000000\"");
    expect_text(uuid, "123e4567-e89b-0000-0000-000000000000");
    expect_text((struct mr_value){.type = MR_NULL}, "");
    expect_text(text_of("\"\n"), "\"\n");
}

static void what_json_cannot_carry_is_refused(void **state)
{
    (void)state;
    expect_refused((struct mr_value){.type = MR_FLOAT, .f = NAN}, "NaN");
    expect_refused((struct mr_value){.type = MR_FLOAT, .f = -INFINITY}, "infinite");
    expect_refused((struct mr_value){.type = MR_NUMERIC, .bytes = mr_bytes_of("NaN")}, "NaN");
    expect_refused((struct mr_value){.type = MR_NUMERIC, .bytes = mr_bytes_of("-Infinity")},
                   "infinite");
    expect_refused((struct mr_value){.type = MR_TIMESTAMP, .i = INT64_MAX}, "timestamp");
    expect_refused((struct mr_value){.type = MR_TIMESTAMP, .i = INT64_MIN}, "timestamp");
    expect_refused((struct mr_value){.type = MR_DATE, .i = INT32_MAX}, "date");
    expect_refused((struct mr_value){.type = MR_DATE, .i = INT32_MIN}, "date");
}

static struct mr_value time_of(int64_t us)
{
    return (struct mr_value){.type = MR_TIMESTAMP, .i = us};
}

static struct mr_value date_of(int64_t days)
{
    return (struct mr_value){.type = MR_DATE, .i = days};
}

/* The expected forms are what to_json prints in Postgres 15, with Z for +00:00. */
static void times_are_iso_8601_as_postgres_prints_it(void **state)
{
    (void)state;
    expect_json(time_of(0), "\"2000-01-01T00:00:00Z\"");
    expect_json(time_of(-1), "\"1999-12-31T23:59:59.999999Z\"");
    expect_json(time_of(848683878250000), "\"2026-11-22T17:31:18.25Z\"");
    expect_text(time_of(848683878250000), "2026-11-22T17:31:18.25Z");
    expect_json(date_of(9822), "\"2026-11-22\"");
    expect_json(date_of(59), "\"2000-02-29\"");
    expect_json(date_of(-730119), "\"0001-01-01\"");
    expect_json(date_of(-730120), "\"0001-12-31 BC\"");
    expect_json(date_of(-730426), "\"0001-02-29 BC\"");
    expect_json(date_of(-2451507), "\"4713-01-01 BC\"");
    expect_json(date_of(2921940), "\"10000-01-01\"");
    expect_json(date_of(2145031948), "\"5874897-12-31\"");
    expect_json(time_of(-730120LL * 86400000000 + 1), "\"0001-12-31T00:00:00.000001Z BC\"");
    expect_json(time_of(9223371331199999999), "\"294276-12-31T23:59:59.999999Z\"");
}

static void times_agree_with_the_c_library(void **state)
{
    (void)state;
    struct seed seed = seed_start("times_agree_with_the_c_library");
    for (int i = 0; i < 20000; i++) {
        int64_t unix_seconds = (int64_t)seed_below(&seed, 315537897599) - 62135596800;
        time_t at = (time_t)unix_seconds;
        struct tm tm;
        char expected[64];
        assert_non_null(gmtime_r(&at, &tm));
        snprintf(expected, sizeof expected, "%04d-%02d-%02dT%02d:%02d:%02dZ", tm.tm_year + 1900,
                 tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec);
        expect_text(time_of((unix_seconds - to_2000) * 1000000), expected);
        expected[strcspn(expected, "T")] = '\0';
        int64_t days = (unix_seconds + 62135596800) / 86400 - 730119;
        expect_text(date_of(days), expected);
    }
}

static void expect_order(struct mr_value low, struct mr_value high)
{
    struct mr_buf a = {0}, b = {0};
    mr_cell_put(&a, &low);
    mr_cell_put(&b, &high);
    const uint8_t *x = (const uint8_t *)a.ptr, *y = (const uint8_t *)b.ptr;
    assert_true(mr_cell_compare(x, y) < 0);
    assert_true(mr_cell_compare(y, x) > 0);
    assert_int_equal(mr_cell_compare(x, x), 0);
    mr_buf_fini(&a);
    mr_buf_fini(&b);
}

static int64_t random_int(struct seed *seed)
{
    uint64_t bits = seed_next(seed) >> seed_below(seed, 64);
    return (int64_t)(seed_next(seed) & 1 ? bits : 0 - bits);
}

static void cells_of_numbers_order_as_numbers(void **state)
{
    (void)state;
    struct seed seed = seed_start("cells_of_numbers_order_as_numbers");
    for (int i = 0; i < 50000; i++) {
        int64_t a = random_int(&seed), b = i % 7 ? random_int(&seed) : a + 1;
        if (a == b)
            continue;
        struct mr_value low = {.type = MR_INT, .i = a < b ? a : b};
        struct mr_value high = {.type = MR_INT, .i = a < b ? b : a};
        expect_order(low, high);
        low.type = high.type = MR_TIMESTAMP;
        expect_order(low, high);
        low.type = high.type = MR_DATE;
        low.i = (int32_t)low.i;
        high.i = (int32_t)high.i;
        if (low.i != high.i)
            expect_order(low.i < high.i ? low : high, low.i < high.i ? high : low);
        double f = (double)a / 3, g = (double)b * 1e-3;
        if (f != g) {
            struct mr_value small = {.type = MR_FLOAT, .f = f < g ? f : g};
            struct mr_value large = {.type = MR_FLOAT, .f = f < g ? g : f};
            expect_order(small, large);
        }
    }
    expect_order((struct mr_value){.type = MR_INT, .i = INT64_MIN},
                 (struct mr_value){.type = MR_INT, .i = INT64_MIN + 1});
    expect_order((struct mr_value){.type = MR_FLOAT, .f = -INFINITY},
                 (struct mr_value){.type = MR_FLOAT, .f = -DBL_MAX});
    expect_order((struct mr_value){.type = MR_FLOAT, .f = INFINITY},
                 (struct mr_value){.type = MR_FLOAT, .f = NAN});
    expect_order(text_of("a"), text_of("aa"));
    expect_order(text_of("aa"), text_of("b"));
    expect_order(text_of(""), text_of("\x01"));
    expect_order(text_of("z"), text_of("\xc3\xa4")); /* bytes, unsigned */
}

static void expect_cell(struct mr_value value, size_t size)
{
    struct mr_buf out = {0};
    struct mr_value back;
    mr_buf_put_char(&out, '!');
    mr_cell_put(&out, &value);
    mr_buf_put_char(&out, '?');
    const uint8_t *cell = (const uint8_t *)out.ptr + 1, *end = (const uint8_t *)out.ptr + out.len;
    if (size)
        assert_int_equal(end - cell - 1, size);
    assert_ptr_equal(mr_cell_skip(cell), end - 1);
    assert_ptr_equal(mr_cell_read(cell, &back), end - 1);
    assert_int_equal(back.type, value.type);
    struct mr_buf again = {0};
    mr_cell_put(&again, &back);
    assert_int_equal(again.len, out.len - 2);
    assert_memory_equal(again.ptr, cell, again.len);
    switch (value.type) {
    case MR_NULL:
        break;
    case MR_BOOL:
        assert_int_equal(back.b, value.b);
        break;
    case MR_INT:
    case MR_TIMESTAMP:
    case MR_DATE:
        assert_true(back.i == value.i);
        break;
    case MR_FLOAT:
        assert_true(memcmp(&back.f, &value.f, sizeof back.f) == 0);
        break;
    case MR_UUID:
        assert_memory_equal(back.uuid, value.uuid, 16);
        break;
    default:
        assert_int_equal(back.bytes.len, value.bytes.len);
        assert_memory_equal(back.bytes.ptr, value.bytes.ptr, value.bytes.len);
    }
    mr_buf_fini(&out);
    mr_buf_fini(&again);
}

static void cells_come_back_as_they_went_in(void **state)
{
    (void)state;
    struct seed seed = seed_start("cells_come_back_as_they_went_in");
    expect_cell((struct mr_value){.type = MR_NULL}, 1);
    expect_cell((struct mr_value){.type = MR_BOOL, .b = true}, 1);
    expect_cell((struct mr_value){.type = MR_INT, .i = 0}, 1);
    expect_cell((struct mr_value){.type = MR_INT, .i = 255}, 2);
    expect_cell((struct mr_value){.type = MR_INT, .i = -255}, 2);
    expect_cell((struct mr_value){.type = MR_INT, .i = 256}, 3);
    expect_cell((struct mr_value){.type = MR_INT, .i = INT64_MIN}, 9);
    expect_cell((struct mr_value){.type = MR_INT, .i = INT64_MAX}, 9);
    expect_cell((struct mr_value){.type = MR_FLOAT, .f = -0.0}, 9);
    expect_cell((struct mr_value){.type = MR_NUMERIC, .bytes = mr_bytes_of("1.50")}, 6);
    expect_cell((struct mr_value){.type = MR_TIMESTAMP, .i = INT64_MIN}, 9);
    expect_cell((struct mr_value){.type = MR_DATE, .i = INT32_MIN}, 5);
    expect_cell((struct mr_value){.type = MR_DATE, .i = INT32_MAX}, 5);
    expect_cell((struct mr_value){.type = MR_JSON, .bytes = mr_bytes_of("[]")}, 4);
    expect_cell(text_of(""), 2);
    char text[40000];
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (char)('a' + seed_below(&seed, 26));
    for (size_t len = 1; len < sizeof text; len = len * 2 + seed_below(&seed, 5))
        expect_cell((struct mr_value){.type = MR_TEXT, .bytes = {text, len}}, 0);
    for (int i = 0; i < 20000; i++)
        expect_cell((struct mr_value){.type = MR_INT, .i = random_int(&seed)}, 0);
}

/* Only what prints as the same bytes may be held in sixteen. */
static void only_canonical_uuid_text_is_held_short(void **state)
{
    (void)state;
    struct mr_buf out = {0};
    struct mr_value back, value = text_of("123e4567-e89b-12d3-a456-42661417400f");
    mr_cell_put(&out, &value);
    assert_int_equal(out.len, 17);
    mr_cell_read((const uint8_t *)out.ptr, &back);
    assert_int_equal(back.type, MR_UUID);
    expect_text(back, "123e4567-e89b-12d3-a456-42661417400f");
    static const char *const others[] = {
        "123e4567-e89b-12d3-a456-42661417400F", "123e4567-e89b-12d3-a456-42661417400",
        "123e4567-e89b-12d3-a456-42661417400g", "123e4567e89b-12d3-a456-426614174000-",
        "{23e4567-e89b-12d3-a456-42661417400}", "123e4567 e89b-12d3-a456-426614174000"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        expect_cell(text_of(others[i]), 2 + strlen(others[i]));
    mr_buf_fini(&out);
}

/* Keys and cursors come back from the ledger: whatever stands there must not be read past its end.
 */
static void cells_from_outside_are_counted_or_refused(void **state)
{
    (void)state;
    struct seed seed = seed_start("cells_from_outside_are_counted_or_refused");
    struct mr_buf out = {0};
    struct mr_value values[] = {text_of("abc"),
                                {.type = MR_NULL},
                                {.type = MR_INT, .i = -70000},
                                {.type = MR_UUID, .uuid = {1}},
                                {.type = MR_JSON, .bytes = mr_bytes_of("{}")}};
    size_t n = sizeof values / sizeof *values, ends[5];
    for (size_t i = 0; i < n; i++) {
        mr_cell_put(&out, &values[i]);
        ends[i] = out.len;
    }
    for (size_t len = 0, whole = 0; len <= out.len; len++) {
        bool is_end = false;
        for (size_t i = 0; i < n; i++)
            is_end = is_end || ends[i] == len;
        whole += is_end;
        char *exact = malloc(len ? len : 1); /* the address sanitizer sees a read too far */
        memcpy(exact, out.ptr, len);
        assert_int_equal(mr_cells_count((struct mr_bytes){exact, len}), is_end ? whole : 0);
        free(exact);
    }
    for (int i = 0; i < 100000; i++) {
        size_t len = 1 + seed_below(&seed, 24);
        uint8_t *exact = malloc(len);
        for (size_t j = 0; j < len; j++)
            exact[j] = (uint8_t)(seed_next(&seed) & (j ? 255 : 63));
        size_t counted = mr_cells_count((struct mr_bytes){(char *)exact, len});
        const uint8_t *at = exact;
        for (size_t j = 0; j < counted; j++)
            at = mr_cell_skip(at);
        if (counted)
            assert_ptr_equal(at, exact + len);
        free(exact);
    }
    mr_buf_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_become_json),
        cmocka_unit_test(what_json_cannot_carry_is_refused),
        cmocka_unit_test(times_are_iso_8601_as_postgres_prints_it),
        cmocka_unit_test(times_agree_with_the_c_library),
        cmocka_unit_test(cells_of_numbers_order_as_numbers),
        cmocka_unit_test(cells_come_back_as_they_went_in),
        cmocka_unit_test(only_canonical_uuid_text_is_held_short),
        cmocka_unit_test(cells_from_outside_are_counted_or_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
