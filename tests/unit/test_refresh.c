/*
 * test_refresh.c - the life of a lookup's table over a feed that does as it is told: loads,
 * follows, breaks, comes back empty, lets workers wait.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/log.h"
#include "stream/refresh.h"
#include "support/memory.h"
#include "support/wait.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { DEADLINE_MS = 20000 };

/* What the feed does next, and what it has done. */
static struct {
    pthread_mutex_t lock;
    const char *keys; /* of the next table */
    int rows;         /* under each */
    int fail_loads;   /* so many fail */
    enum mr_action fail_action;
    enum mr_feed_event event; /* of the next call of follow, then FOLLOWS again */
    bool again;               /* no: always */
    int64_t as_of_ms;         /* 0: now */
    bool marks, reaches;
    enum mr_feed_kind kind;
    int loads, opened, closed, marked;
} script = {.lock = PTHREAD_MUTEX_INITIALIZER};

static struct mr_feed_state last_state;

static bool feed_load(struct mr_feed *feed, struct mr_table **out, struct mr_error *err)
{
    (void)feed;
    pthread_mutex_lock(&script.lock);
    script.loads++;
    bool fails = script.fail_loads > 0;
    if (fails)
        script.fail_loads--;
    else
        *out = mem_table(script.keys, script.rows);
    last_state = (struct mr_feed_state){.kind = script.kind, .lag_ms = -1};
    last_state.as_of_ms = script.as_of_ms ? script.as_of_ms : mr_clock_mono_ms();
    enum mr_action action = script.fail_action;
    pthread_mutex_unlock(&script.lock);
    return !fails || mr_error_set(err, action, MR_EXIT_CONFIG, "the load was told to fail");
}

static enum mr_feed_event feed_follow(struct mr_feed *feed, struct mr_lookup *lookup,
                                      int timeout_ms, struct mr_error *err)
{
    (void)feed;
    (void)lookup;
    mr_clock_sleep_ms(timeout_ms < 5 ? timeout_ms : 5);
    pthread_mutex_lock(&script.lock);
    enum mr_feed_event event = script.event;
    if (!script.again)
        script.event = MR_FEED_FOLLOWS;
    last_state.as_of_ms = script.as_of_ms ? script.as_of_ms : mr_clock_mono_ms();
    pthread_mutex_unlock(&script.lock);
    if (event != MR_FEED_FOLLOWS)
        mr_error_set(err, MR_RETRY, MR_EXIT_UNREACHABLE, "the feed was told so");
    return event;
}

static bool feed_mark(struct mr_feed *feed, struct mr_error *err)
{
    (void)feed;
    pthread_mutex_lock(&script.lock);
    bool marks = script.marks;
    script.marked++;
    pthread_mutex_unlock(&script.lock);
    return marks || mr_error_set(err, MR_RETRY, MR_EXIT_UNREACHABLE, "the server does not say");
}

static bool feed_reached(struct mr_feed *feed)
{
    (void)feed;
    pthread_mutex_lock(&script.lock);
    bool reaches = script.reaches;
    pthread_mutex_unlock(&script.lock);
    return reaches;
}

static struct mr_feed_state feed_state(struct mr_feed *feed)
{
    (void)feed;
    return last_state;
}

static void feed_close(struct mr_feed *feed)
{
    (void)feed;
    script.closed++;
}

static bool open_feed(void *arg, const atomic_bool *stop, struct mr_feed **out,
                      struct mr_error *err)
{
    static const struct mr_feed_ops ops = {.load = feed_load,
                                           .follow = feed_follow,
                                           .mark = feed_mark,
                                           .reached = feed_reached,
                                           .state = feed_state,
                                           .close = feed_close};
    static struct mr_feed feed = {&ops};
    (void)arg;
    (void)stop;
    (void)err;
    script.opened++;
    *out = &feed;
    return true;
}

struct bench {
    struct mr_lookup *lookup;
    struct mr_fresh *fresh;
    struct mr_refresh *refresh;
    struct mr_refresh_options options;
    atomic_bool stop;
};

/* Set `script` and bench->options after init, then start. */
static void bench_init(struct bench *bench)
{
    script.keys = "abc";
    script.rows = 10;
    script.fail_loads = script.loads = script.opened = script.closed = script.marked = 0;
    script.fail_action = MR_RETRY;
    script.event = MR_FEED_FOLLOWS;
    script.again = false;
    script.as_of_ms = 0;
    script.marks = script.reaches = false;
    script.kind = MR_FEED_LOGICAL;
    mem_hush_log();
    *bench = (struct bench){.lookup = mr_lookup_new("subscribers")};
    bench->options = (struct mr_refresh_options){
        .name = "subscribers", .open = open_feed, .fresh = {.max_staleness_ms = 60000}};
}

static void bench_start(struct bench *bench)
{
    bench->fresh = mr_fresh_new(&bench->options.fresh);
    bench->refresh = mr_refresh_start(&bench->options, bench->lookup, bench->fresh, &bench->stop);
}

static void bench_fini(struct bench *bench)
{
    atomic_store(&bench->stop, true);
    assert_true(mr_refresh_join(bench->refresh, mr_clock_mono_ms() + DEADLINE_MS));
    assert_int_equal(script.closed, script.opened);
    mr_fresh_free(bench->fresh);
    mr_lookup_free(bench->lookup);
    mr_log_hook(NULL, NULL);
}

static struct mr_refresh_status status_of(struct bench *bench)
{
    return mr_refresh_status(bench->refresh);
}

static int loads(void)
{
    pthread_mutex_lock(&script.lock);
    int n = script.loads;
    pthread_mutex_unlock(&script.lock);
    return n;
}

/* The next load brings so many rows under each key; the feed asks for it. */
static void read_again(const char *keys, int rows)
{
    pthread_mutex_lock(&script.lock);
    script.keys = keys;
    script.rows = rows;
    script.event = MR_FEED_READ;
    pthread_mutex_unlock(&script.lock);
}

static uint64_t rows_of(struct bench *bench)
{
    return mr_lookup_stats(bench->lookup).rows;
}

static void a_table_is_loaded_followed_and_read_again_when_the_feed_asks(void **state)
{
    (void)state;
    struct bench bench;
    bench_init(&bench);
    bench_start(&bench);
    WAIT(status_of(&bench).loaded);
    assert_int_equal(rows_of(&bench), 30);
    assert_false(status_of(&bench).stale);
    read_again("abc", 20);
    WAIT(rows_of(&bench) == 60);
    assert_int_equal(script.opened, 1);
    bench_fini(&bench);
}

static void a_first_load_that_fails_is_tried_again(void **state)
{
    (void)state;
    struct bench bench;
    bench_init(&bench);
    script.fail_loads = 2;
    bench_start(&bench);
    WAIT(status_of(&bench).loaded);
    assert_int_equal(loads(), 3);
    assert_string_equal(status_of(&bench).problem, "");
    bench_fini(&bench);
}

static void a_first_load_that_needs_a_person_ends(void **state)
{
    (void)state;
    struct bench bench;
    bench_init(&bench);
    script.fail_loads = 100;
    script.fail_action = MR_STOP;
    bench_start(&bench);
    WAIT(status_of(&bench).ended);
    assert_int_equal(status_of(&bench).exit_code, MR_EXIT_CONFIG);
    assert_int_equal(loads(), 1);
    bench_fini(&bench);
}

static void a_feed_that_breaks_leaves_the_old_rows_and_loads_again(void **state)
{
    (void)state;
    struct bench bench;
    bench_init(&bench);
    bench_start(&bench);
    WAIT(status_of(&bench).loaded);
    pthread_mutex_lock(&script.lock);
    script.event = MR_FEED_FAILED;
    script.fail_loads = 1000;
    script.fail_action = MR_STOP; /* later than the first load it does not end anything */
    pthread_mutex_unlock(&script.lock);
    WAIT(loads() >= 2 && status_of(&bench).problem[0]);
    assert_int_equal(rows_of(&bench), 30);
    pthread_mutex_lock(&script.lock);
    script.fail_loads = 0;
    pthread_mutex_unlock(&script.lock);
    WAIT(!status_of(&bench).problem[0]);
    assert_false(status_of(&bench).ended);
    bench_fini(&bench);
}

static void a_read_that_lost_rows_is_held_back_until_it_is_confirmed(void **state)
{
    static const struct {
        const char *keys;
        int rows;
    } less[] = {{"", 0}, {"a", 10}, {"abc", 4}};
    (void)state;
    for (size_t i = 0; i < sizeof less / sizeof *less; i++) {
        struct bench bench;
        bench_init(&bench);
        bench_start(&bench);
        WAIT(status_of(&bench).loaded);
        assert_false(mr_refresh_accept(bench.refresh)); /* nothing to confirm */
        read_again(less[i].keys, less[i].rows);
        WAIT(status_of(&bench).held);
        assert_int_equal(rows_of(&bench), 30);
        assert_non_null(strstr(status_of(&bench).problem, "held back"));
        assert_true(mr_refresh_accept(bench.refresh));
        WAIT(!status_of(&bench).held);
        assert_int_equal(rows_of(&bench), strlen(less[i].keys) * (size_t)less[i].rows);
        assert_string_equal(status_of(&bench).problem, "");
        bench_fini(&bench);
    }
}

static void a_read_with_half_of_the_rows_is_taken(void **state)
{
    (void)state;
    struct bench bench;
    bench_init(&bench);
    bench_start(&bench);
    WAIT(status_of(&bench).loaded);
    read_again("abc", 5);
    WAIT(rows_of(&bench) == 15);
    bench_fini(&bench);
}

static void a_confirmation_is_for_one_read(void **state)
{
    (void)state;
    struct bench bench;
    bench_init(&bench);
    bench_start(&bench);
    WAIT(status_of(&bench).loaded);
    read_again("", 0);
    WAIT(status_of(&bench).held);
    pthread_mutex_lock(&script.lock);
    script.keys = "abc"; /* somebody has mended the table meanwhile */
    script.rows = 10;
    pthread_mutex_unlock(&script.lock);
    assert_true(mr_refresh_accept(bench.refresh));
    WAIT(!status_of(&bench).held && rows_of(&bench) == 30);
    read_again("", 0);
    WAIT(status_of(&bench).held);
    bench_fini(&bench);
}

static void a_confirmation_does_not_hurry_a_load_that_fails(void **state)
{
    (void)state;
    struct bench bench;
    bench_init(&bench);
    bench_start(&bench);
    WAIT(status_of(&bench).loaded);
    read_again("", 0);
    WAIT(status_of(&bench).held);
    pthread_mutex_lock(&script.lock);
    script.fail_loads = 4; /* Postgres goes away just then */
    pthread_mutex_unlock(&script.lock);
    int64_t began_ms = mr_clock_mono_ms();
    assert_true(mr_refresh_accept(bench.refresh));
    WAIT(rows_of(&bench) == 0); /* the confirmation holds */
    assert_true(mr_clock_mono_ms() - began_ms >= 50 + 100 + 200 + 400);
    bench_fini(&bench);
}

/* Whatever it is that cannot be followed for long: a server that is busy with our reads all the
 * time is no help. */
static void a_table_that_must_be_read_again_and_again_is_read_ever_more_seldom(void **state)
{
    static const enum mr_feed_event events[] = {MR_FEED_READ, MR_FEED_FAILED};
    (void)state;
    for (size_t i = 0; i < sizeof events / sizeof *events; i++) {
        struct bench bench;
        bench_init(&bench);
        script.event = events[i];
        script.again = true;
        int64_t began_ms = mr_clock_mono_ms();
        bench_start(&bench);
        WAIT(loads() >= 6);
        assert_true(mr_clock_mono_ms() - began_ms >= 50 + 100 + 200 + 400);
        bench_fini(&bench);
    }
}

static void a_table_of_an_old_moment_is_stale(void **state)
{
    (void)state;
    struct bench bench;
    bench_init(&bench);
    bench.options.fresh = (struct mr_fresh_options){.max_staleness_ms = 1000, .pause = true};
    script.as_of_ms = mr_clock_mono_ms() - 5000;
    struct mr_fresh *unset = mr_fresh_new(&bench.options.fresh);
    assert_int_equal(mr_fresh_staleness_ms(unset), -1);
    mr_fresh_free(unset);
    bench_start(&bench);
    WAIT(status_of(&bench).loaded);
    assert_true(status_of(&bench).stale && status_of(&bench).pauses);
    assert_true(status_of(&bench).staleness_ms >= 5000);
    pthread_mutex_lock(&script.lock);
    script.as_of_ms = 0;
    pthread_mutex_unlock(&script.lock);
    WAIT(!status_of(&bench).stale && !status_of(&bench).pauses);
    bench_fini(&bench);
}

static void a_reload_may_be_older_by_its_interval(void **state)
{
    (void)state;
    struct bench bench;
    bench_init(&bench);
    bench.options.fresh = (struct mr_fresh_options){.max_staleness_ms = 1000};
    bench.options.interval_ms = 60000;
    script.kind = MR_FEED_RELOAD;
    script.as_of_ms = mr_clock_mono_ms() - 30000;
    bench_start(&bench);
    WAIT(status_of(&bench).loaded);
    assert_false(status_of(&bench).stale);
    pthread_mutex_lock(&script.lock);
    script.as_of_ms = mr_clock_mono_ms() - 62000;
    pthread_mutex_unlock(&script.lock);
    WAIT(status_of(&bench).stale);
    assert_false(status_of(&bench).pauses); /* on_stale = "serve" */
    bench_fini(&bench);
}

/* --- consistency = "strict" --- */

struct question {
    struct bench *bench;
    int timeout_ms;
    bool answer;
    atomic_bool done;
};

static void *ask(void *arg)
{
    struct question *question = arg;
    question->answer =
        mr_fresh_await(question->bench->fresh, &question->bench->stop, question->timeout_ms);
    atomic_store(&question->done, true);
    return NULL;
}

static int marked(void)
{
    pthread_mutex_lock(&script.lock);
    int n = script.marked;
    pthread_mutex_unlock(&script.lock);
    return n;
}

static void a_worker_waits_until_the_feed_is_where_the_server_was(void **state)
{
    (void)state;
    struct bench bench;
    bench_init(&bench);
    bench.options.fresh.strict = true;
    script.marks = true;
    bench_start(&bench);
    WAIT(status_of(&bench).loaded);
    struct question question = {.bench = &bench, .timeout_ms = DEADLINE_MS};
    pthread_t thread;
    pthread_create(&thread, NULL, ask, &question);
    WAIT(marked() == 1);
    read_again("abc", 20); /* what is read anew must be asked anew */
    WAIT(marked() == 2);
    assert_false(atomic_load(&question.done));
    pthread_mutex_lock(&script.lock);
    script.reaches = true;
    pthread_mutex_unlock(&script.lock);
    WAIT(atomic_load(&question.done));
    pthread_join(thread, NULL);
    assert_true(question.answer);
    bench_fini(&bench);
}

static void a_worker_that_gets_no_answer_is_told(void **state)
{
    (void)state;
    struct bench bench;
    bench_init(&bench);
    bench.options.fresh.strict = true;
    bench_start(&bench);
    WAIT(status_of(&bench).loaded);
    struct question question = {.bench = &bench, .timeout_ms = 50};
    ask(&question);
    assert_false(question.answer);
    WAIT(marked() > 0);
    bench_fini(&bench);
}

static void without_strict_nobody_waits(void **state)
{
    (void)state;
    struct bench bench;
    bench_init(&bench);
    bench_start(&bench);
    assert_true(mr_fresh_await(bench.fresh, &bench.stop, 0));
    bench_fini(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_table_is_loaded_followed_and_read_again_when_the_feed_asks),
        cmocka_unit_test(a_first_load_that_fails_is_tried_again),
        cmocka_unit_test(a_first_load_that_needs_a_person_ends),
        cmocka_unit_test(a_feed_that_breaks_leaves_the_old_rows_and_loads_again),
        cmocka_unit_test(a_read_that_lost_rows_is_held_back_until_it_is_confirmed),
        cmocka_unit_test(a_read_with_half_of_the_rows_is_taken),
        cmocka_unit_test(a_confirmation_is_for_one_read),
        cmocka_unit_test(a_confirmation_does_not_hurry_a_load_that_fails),
        cmocka_unit_test(a_table_that_must_be_read_again_and_again_is_read_ever_more_seldom),
        cmocka_unit_test(a_table_of_an_old_moment_is_stale),
        cmocka_unit_test(a_reload_may_be_older_by_its_interval),
        cmocka_unit_test(a_worker_waits_until_the_feed_is_where_the_server_was),
        cmocka_unit_test(a_worker_that_gets_no_answer_is_told),
        cmocka_unit_test(without_strict_nobody_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
