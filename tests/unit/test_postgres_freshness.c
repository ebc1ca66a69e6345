/*
 * test_postgres_freshness.c - how long after COMMIT a subscriber is seen, for each kind of feed.
 *
 * Another session inserts and deletes rows; the clock runs from the moment its COMMIT has returned
 * until a reader that pins again and again sees the change. The figures are printed; the bounds are
 * those of the issue. MILLRACE_FRESHNESS_SAMPLES=n: more of them (default 200).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "support/follower.h"
#include "support/side.h"
#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { SEEN_MS = 20000, ROWS = 100000 };

static bool seen(struct follower *follower, struct mr_span *span, int64_t restaurant)
{
    struct mr_pin pin = {0};
    struct mr_buf cells = {0};
    struct mr_error err;
    struct mr_row_ref row;
    struct mr_value key = {.type = MR_INT, .i = restaurant};
    assert_true(mr_lookup_pin(follower_lookup(follower), &pin));
    assert_true(mr_lookup_key(mr_table_schema(pin.table), &key, &cells, &err));
    struct mr_bytes one = {cells.ptr, cells.len};
    bool found = mr_span_open(span, pin.table, &one, 1, (struct mr_bytes){NULL, 0}) &&
                 mr_span_next(span, &row);
    mr_lookup_unpin(follower_lookup(follower), &pin);
    mr_buf_fini(&cells);
    return found;
}

static int by_size(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* Microseconds from the end of the statement until the reader sees (or no longer sees) the row. */
static int64_t delay_us(struct follower *follower, struct mr_span *span, const char *sql,
                        int64_t restaurant, bool wanted)
{
    ask(sql, (int)restaurant);
    int64_t since = mr_clock_mono_us();
    while (seen(follower, span, restaurant) != wanted) {
        if (mr_clock_mono_us() - since > (int64_t)SEEN_MS * 1000)
            fail_msg("not seen within %d ms: %s", SEEN_MS, follower_status(follower).problem);
        usleep(100); /* poll */
    }
    return mr_clock_mono_us() - since;
}

static void tell(const char *feed, const char *what, int64_t *us, size_t n, int64_t median_ms)
{
    qsort(us, n, sizeof *us, by_size);
    print_message("%s: COMMIT of %s -> visible, %zu samples: median %.2f ms, 95%% %.2f ms, worst "
                  "%.2f ms\n",
                  feed, what, n, (double)us[n / 2] / 1000, (double)us[n * 95 / 100] / 1000,
                  (double)us[n - 1] / 1000);
    if (us[n / 2] >= median_ms * 1000)
        fail_msg("the median is not under %d ms", (int)median_ms);
}

static void measure(const char *schema, enum mr_postgres_refresh refresh, enum mr_feed_kind kind,
                    int64_t median_ms)
{
    static const char *keys[] = {"restaurant"}, *columns[] = {"client"};
    fresh(schema);
    ask("DROP PUBLICATION IF EXISTS %s", schema);
    ask("CREATE TABLE subs (id serial PRIMARY KEY, restaurant int, client uuid DEFAULT "
        "gen_random_uuid())");
    ask("INSERT INTO subs (restaurant) SELECT -i / 100 - 1 FROM generate_series(1, %d) i", ROWS);
    struct mr_postgres_feed_options options = {
        .lookup = {.name = schema,
                   .dsn = dsn,
                   .table = "subs",
                   .keys = keys,
                   .n_keys = 1,
                   .columns = columns,
                   .n_columns = 1,
                   .distinct = true},
        .refresh = refresh,
        .interval_ms = 60000,
        .publication = schema,
        .changelog = refresh == MR_POSTGRES_REFRESH_CHANGELOG ? "subs_changes" : NULL};
    struct mr_buf sql = {0}, report = {0};
    struct mr_error err;
    if (!mr_postgres_feed_init(&options, false, &sql, &report, &err))
        fail_msg("%s", err.msg);
    const char *samples = getenv("MILLRACE_FRESHNESS_SAMPLES");
    size_t n = samples ? strtoul(samples, NULL, 10) : 200;
    int64_t *put = mr_calloc(n, sizeof *put), *taken = mr_calloc(n, sizeof *taken);
    struct follower *follower = follower_start(&options);
    if (!follower_loaded(follower, SEEN_MS) || !follower_strict(follower, SEEN_MS))
        fail_msg("nothing was loaded: %s", follower_status(follower).problem);
    assert_int_equal(follower_status(follower).state.kind, kind);
    unsigned loads = follower_status(follower).loads; /* a slot that was late costs one more */
    struct mr_span *span = mr_span_new();
    for (size_t i = 0; i < n; i++) {
        int64_t id = (int64_t)i + 1;
        put[i] = delay_us(follower, span, "INSERT INTO subs (restaurant) VALUES (%d)", id, true);
        taken[i] = delay_us(follower, span, "DELETE FROM subs WHERE restaurant = %d", id, false);
    }
    tell(mr_feed_kind_name(kind), "an insert", put, n, median_ms);
    tell(mr_feed_kind_name(kind), "a delete", taken, n, median_ms);
    assert_int_equal(follower_status(follower).loads, loads);
    mr_span_free(span);
    follower_stop(follower);
    free(put);
    free(taken);
    mr_buf_fini(&sql);
    mr_buf_fini(&report);
}

static void a_logical_feed_shows_a_change_within_milliseconds(void **state)
{
    (void)state;
    measure("fresh_logical", MR_POSTGRES_REFRESH_LOGICAL, MR_FEED_LOGICAL, 50);
}

static void a_changelog_feed_shows_a_change_within_a_second(void **state)
{
    (void)state;
    measure("fresh_changelog", MR_POSTGRES_REFRESH_CHANGELOG, MR_FEED_CHANGELOG, 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_logical_feed_shows_a_change_within_milliseconds),
        cmocka_unit_test(a_changelog_feed_shows_a_change_within_a_second),
    };
    return cmocka_run_group_tests(tests, side_setup, side_teardown);
}
