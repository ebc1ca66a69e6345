/*
 * test_reload.c - a worker that gets another script while it works, over in-memory source, sink,
 * store and scripts.
 *
 * The script says its edition in every output. What must hold, whatever fails meanwhile: outputs
 * once, each message wholly by one edition, each unit too; a half-sent fan-out ends as it began;
 * what was opened is closed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/log.h"
#include "stream/app.h"
#include "support/memory.h"
#include "support/wait.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { DEADLINE_MS = 20000, MESSAGES = 60 };

static bool exactly; /* the tests run twice */

/* An edition whose tag is its bundle; "bad" does not open. */
struct edition {
    struct mr_edition base;
    struct bench *bench;
};

struct bench {
    struct mem_world world; /* first: what the factories are given */
    struct mr_lookup *lookup;
    atomic_bool stop;
    struct mr_worker *worker;
    struct mr_worker_options options;
    struct edition a, b;
    /* Calls of the scripts, and at which of them what happens. */
    int calls, offer_at, decide_from, rebalance_at;
    bool offered, decided, take;
    enum mr_vote vote;
    struct mr_error err;
    atomic_int open, opened_b, freed;
    size_t columns_b;   /* of the lookup, when B was opened last */
    size_t rows_before; /* of the unit */
    size_t mixed;       /* units */
};

static struct bench *current; /* for the store's commit */
static const struct mr_store_ops *store_ops;

static void free_edition(struct mr_edition *base)
{
    struct edition *edition = (struct edition *)base;
    atomic_fetch_add(&edition->bench->freed, 1);
}

static void edition_init(struct edition *edition, struct bench *bench, const char *tag)
{
    *edition = (struct edition){.base = {.bundle = tag, .free = free_edition}, .bench = bench};
    atomic_init(&edition->base.refs, 1);
}

static char tag_of(const char *row)
{
    return row[strcspn(row, "|") - 1];
}

/* The rows that a unit brings are of one edition. */
static enum mr_decision commit(struct mr_store *store, struct mr_error *err)
{
    struct bench *bench = current;
    enum mr_decision decision = store_ops->commit(store, err);
    const struct mem_log *rows = &bench->world.rows;
    for (size_t i = bench->rows_before; i + 1 < rows->n; i++)
        bench->mixed += tag_of(rows->items[i]) != tag_of(rows->items[i + 1]);
    bench->rows_before = rows->n;
    return decision;
}

static bool make_store(void *arg, int index, struct mr_store **out, struct mr_error *err)
{
    static struct mr_store_ops ops;
    struct bench *bench = arg;
    (void)index;
    (void)err;
    *out = mem_store(&bench->world);
    store_ops = (*out)->ops;
    struct mr_store_ops made = *store_ops;
    made.commit = commit;
    ops = made;
    (*out)->ops = &ops;
    return true;
}

static void (*real_close)(struct mr_script *script);

static void count_close(struct mr_script *script)
{
    atomic_fetch_sub(&current->open, 1);
    real_close(script);
}

/* In the worker's thread, with every message and chunk: what the other thread does, at a known
 * moment. */
static void on_call(void *arg)
{
    struct bench *bench = arg;
    bench->calls++;
    if (bench->rebalance_at && bench->calls == bench->rebalance_at)
        bench->world.rebalance = true;
    if (bench->offer_at && bench->calls == bench->offer_at) {
        mr_worker_offer(bench->worker, &bench->b.base, &bench->options.settings);
        bench->offered = true;
    }
    if (!bench->offered || bench->decided || bench->calls < bench->decide_from)
        return;
    bench->vote = mr_worker_vote(bench->worker, &bench->err);
    if (bench->vote != MR_VOTE_PENDING) {
        mr_worker_decide(bench->worker, bench->vote == MR_VOTE_YES && bench->take);
        bench->decided = true;
    }
}

static bool make_script(void *arg, int index, const struct mr_edition *edition,
                        const struct mr_lookup_schema *lookup, const struct mr_row_schema *rows,
                        struct mr_script **out, struct mr_error *err)
{
    static struct mr_script_ops ops;
    struct bench *bench = arg;
    (void)index;
    if (strcmp(edition->bundle, "bad") == 0)
        return mr_error_set(err, MR_STOP, MR_EXIT_CONFIG, "bad.lua:1: it does not open");
    *out = mem_script_tagged(lookup, rows != NULL, edition->bundle, on_call, bench);
    struct mr_script_ops made = *(*out)->ops;
    real_close = made.close;
    made.close = count_close;
    ops = made; /* the same, whichever worker writes it */
    (*out)->ops = &ops;
    atomic_fetch_add(&bench->open, 1);
    atomic_fetch_add(&bench->opened_b, edition == &bench->b.base);
    if (edition == &bench->b.base)
        bench->columns_b = lookup->n_columns;
    return true;
}

static void bench_init(struct bench *bench, int rows_per_key)
{
    *bench = (struct bench){.take = true};
    current = bench;
    mem_hush_log();
    mem_world_init(&bench->world);
    if (exactly)
        bench->world.mode = MR_MODE_EXACTLY_ONCE;
    bench->lookup = mem_lookup(rows_per_key);
    edition_init(&bench->a, bench, "A");
    edition_init(&bench->b, bench, "B");
    bench->options = (struct mr_worker_options){
        .pipeline = "test",
        .factory = {&bench->world, mem_make_source, mem_make_sink, make_store, make_script},
        .lookup = bench->lookup,
        .delivery = {.pipeline = "test",
                     .group = "g",
                     .exactly_once = exactly,
                     .dead_topic = -1,
                     .flush_timeout_ms = 100,
                     .claim_timeout_ms = 100},
        .edition = &bench->a.base,
        .settings = {.linger_ms = 10000,
                     .unit_outputs = 51, /* so that no message of three rows is cut */
                     .unit_bytes = 1 << 20,
                     .max_message_bytes = 100},
    };
}

/* Not started yet: the script's first call needs bench->worker. */
static void bench_start(struct bench *bench)
{
    bench->worker = mr_worker_new(&bench->options, &bench->stop);
}

static void run(void *arg)
{
    mr_worker_run(arg);
}

static void wait_for(const struct mem_log *log, const char *text)
{
    WAIT(mem_count(log, text));
}

static void bench_join(struct bench *bench, struct mr_thread *thread)
{
    atomic_store(&bench->stop, true);
    assert_true(mr_thread_join(thread, mr_clock_mono_ms() + DEADLINE_MS));
    assert_int_equal(mr_worker_free(bench->worker), 0);
}

/* Works until a row begins with `text`, in either edition. */
static void bench_run_until(struct bench *bench, const char *text, const char *column)
{
    struct mr_thread thread;
    char a[64], b[64];
    snprintf(a, sizeof a, "%sA|%s", text, column);
    snprintf(b, sizeof b, "%sB|%s", text, column);
    bench_start(bench);
    mr_thread_start(&thread, run, bench->worker);
    WAIT(mem_count(&bench->world.rows, a) || mem_count(&bench->world.rows, b));
    bench_join(bench, &thread);
}

static void bench_fini(struct bench *bench)
{
    assert_int_equal(bench->mixed, 0);
    assert_int_equal(bench->open, 0); /* whatever was opened is closed, */
    mr_edition_release(&bench->a.base);
    mr_edition_release(&bench->b.base);
    assert_int_equal(bench->freed, 2); /* and held by nobody */
    mr_lookup_free(bench->lookup);
    mem_world_fini(&bench->world);
    mr_log_hook(NULL, NULL);
}

/* All rows of the message, once, by one edition; which. */
static char made_by(const struct mem_world *world, const char *text, char key, int rows)
{
    char row[64], message[96], by = 0;
    for (int i = 0; i < rows; i++) {
        size_t n = 0;
        for (const char *tag = "AB"; *tag; tag++) {
            snprintf(row, sizeof row, "%s%c|%c-%04d", text, *tag, key, i);
            snprintf(message, sizeof message, "%c-%04d|%s%c:%c-%04d", key, i, text, *tag, key, i);
            size_t found = mem_count(&world->rows, row);
            if (!found)
                continue;
            assert_true(!by || by == *tag);
            by = *tag;
            n += found;
            assert_true(mem_count(&world->out, message) >= 1);
            assert_true(!exactly || mem_count(&world->out, message) == 1);
        }
        assert_int_equal(n, 1);
    }
    return by;
}

static void add_messages(struct bench *bench)
{
    for (int i = 0; i < MESSAGES; i++) {
        char text[32];
        snprintf(text, sizeof text, "a m%d", i);
        mem_add(&bench->world, 0, text);
    }
}

/* The number of messages that edition A made; those of B follow them all. */
static int until_swap(struct bench *bench)
{
    int n = 0;
    for (int i = 0; i < MESSAGES; i++) {
        char text[32];
        snprintf(text, sizeof text, "m%d", i);
        char by = made_by(&bench->world, text, 'a', 3);
        assert_true(by == 'B' || n == i);
        n += by == 'A';
    }
    assert_int_equal(bench->world.rows.n, MESSAGES * 3);
    return n;
}

static void a_new_script_takes_over_between_two_units(void **state)
{
    (void)state;
    struct bench bench;
    bench_init(&bench, 3);
    add_messages(&bench);
    bench.offer_at = 20;
    bench_run_until(&bench, "m59", "a-0002");
    assert_int_equal(bench.vote, MR_VOTE_YES);
    /* Offered with the 20th, voted after it, decided with the 21st, taken before the 22nd. */
    assert_int_equal(until_swap(&bench), 21);
    assert_int_equal(bench.opened_b, 1);
    bench_fini(&bench);
}

static void whatever_fails_around_a_swap_each_message_is_of_one_edition(void **state)
{
    (void)state;
    for (int fault = MEM_CLAIM; fault < MEM_FAULTS; fault++)
        for (int in = 1; in < 20; in++) {
            struct bench bench;
            if (fault == MEM_PLAIN_FAULTS || (fault > MEM_PLAIN_FAULTS && !exactly))
                continue;
            bench_init(&bench, 3);
            add_messages(&bench);
            bench.options.settings.unit_outputs = 10; /* each fourth message is cut */
            bench.offer_at = 20;
            bench.world.fault = (enum mem_fault)fault;
            bench.world.fault_in = in;
            bench_run_until(&bench, "m59", "a-0002");
            assert_in_range(until_swap(&bench), 1, 22);
            bench_fini(&bench);
        }
}

static void a_half_sent_fan_out_keeps_its_script(void **state)
{
    (void)state;
    const enum mem_fault faults[] = {MEM_NONE, MEM_COPY, MEM_COMMIT_LOST, MEM_COMMIT_UNDONE};
    for (size_t f = 0; f < sizeof faults / sizeof *faults; f++) {
        struct bench bench;
        bench_init(&bench, 500);
        bench.options.settings.unit_outputs = 5;
        mem_add(&bench.world, 0, "a big");
        mem_add(&bench.world, 0, "b next");
        bench.offer_at = 10;
        bench.world.fault = faults[f];
        bench.world.fault_in = 30; /* after the decision, in the middle */
        bench_run_until(&bench, "next", "b-0499");
        assert_true(bench.decided);
        assert_int_equal(made_by(&bench.world, "big", 'a', 500), 'A');
        assert_int_equal(made_by(&bench.world, "next", 'b', 500), 'B');
        assert_int_equal(bench.opened_b, 1);
        bench_fini(&bench);
    }
}

/* Of another group member, say: all partitions are taken away, and this one comes back. */
static void a_half_sent_fan_out_keeps_its_script_over_a_rebalance(void **state)
{
    (void)state;
    struct bench bench;
    bench_init(&bench, 500);
    bench.options.settings.unit_outputs = 5;
    mem_add(&bench.world, 0, "a big");
    mem_add(&bench.world, 0, "b next");
    bench.offer_at = 10;
    bench.rebalance_at = 30; /* after the decision, in the middle */
    bench_run_until(&bench, "next", "b-0499");
    assert_true(bench.decided && bench.world.rows_at_rebalance > 0);
    assert_int_equal(made_by(&bench.world, "big", 'a', 500), 'A');
    assert_int_equal(made_by(&bench.world, "next", 'b', 500), 'B');
    bench_fini(&bench);
}

static void what_does_not_open_or_is_not_wanted_changes_nothing(void **state)
{
    (void)state;
    for (int bad = 0; bad < 2; bad++) {
        struct bench bench;
        bench_init(&bench, 3);
        add_messages(&bench);
        bench.offer_at = 20;
        bench.take = false;
        bench.b.base.bundle = bad ? "bad" : "B";
        bench_run_until(&bench, "m59", "a-0002");
        assert_int_equal(bench.vote, bad ? MR_VOTE_NO : MR_VOTE_YES);
        if (bad)
            assert_string_equal(bench.err.msg, "bad.lua:1: it does not open");
        assert_int_equal(until_swap(&bench), MESSAGES);
        assert_int_equal(bench.opened_b, !bad);
        bench_fini(&bench);
    }
}

static void a_decision_that_never_came_is_forgotten_at_the_end(void **state)
{
    (void)state;
    struct bench bench;
    bench_init(&bench, 3);
    add_messages(&bench);
    bench.offer_at = 20;
    bench.decide_from = MESSAGES + 1;
    bench_run_until(&bench, "m59", "a-0002");
    assert_int_equal(until_swap(&bench), MESSAGES);
    assert_int_equal(bench.opened_b, 1);
    bench_fini(&bench);
}

static void other_settings_leave_the_script_alone(void **state)
{
    (void)state;
    struct bench bench;
    struct mr_thread thread;
    struct mr_error err;
    bench_init(&bench, 3);
    bench.options.settings.linger_ms = 20;
    bench_start(&bench);
    mem_add(&bench.world, 0, "a first");
    mr_thread_start(&thread, run, bench.worker);
    wait_for(&bench.world.rows, "firstA|a-0002");
    struct mr_worker_settings settings = bench.options.settings;
    settings.unit_outputs = 7;
    mr_worker_offer(bench.worker, &bench.a.base, &settings);
    WAIT(mr_worker_vote(bench.worker, &err) == MR_VOTE_YES);
    mr_worker_decide(bench.worker, true);
    WAIT(mr_worker_settled(bench.worker));
    bench_join(&bench, &thread);
    assert_int_equal(bench.opened_b, 0);
    bench_fini(&bench);
}

/* "a" with one row, and one column more than the others have. */
static struct mr_table *wider_table(void)
{
    const struct mr_lookup_column columns[] = {
        {"k", MR_TEXT, "text"}, {"client", MR_TEXT, "text"}, {"more", MR_TEXT, "text"}};
    const struct mr_lookup_schema schema = {"subscribers", columns, 1, 3};
    const struct mr_value values[] = {{.type = MR_TEXT, .bytes = {"a", 1}},
                                      {.type = MR_TEXT, .bytes = {"a-0000", 6}},
                                      {.type = MR_TEXT, .bytes = {"more", 4}}};
    struct mr_table_builder *builder = mr_table_builder_new(&schema, true, 0);
    struct mr_table *table = NULL;
    struct mr_error err;
    assert_true(mr_table_builder_add(builder, values, &err));
    assert_true(mr_table_builder_finish(builder, &table, &err));
    return table;
}

static void a_script_is_opened_with_the_columns_that_the_lookup_has_got_meanwhile(void **state)
{
    (void)state;
    for (int back = 0; back < 2; back++) {
        struct bench bench;
        struct mr_thread thread;
        struct mr_error err;
        bench_init(&bench, 1);
        bench.options.settings.linger_ms = 20;
        bench_start(&bench);
        mem_add(&bench.world, 0, "a first");
        mr_thread_start(&thread, run, bench.worker);
        wait_for(&bench.world.rows, "firstA|a-0000");
        mr_lookup_swap(bench.lookup, wider_table()); /* and no message comes that would tell */
        mr_worker_offer(bench.worker, &bench.b.base, &bench.options.settings);
        WAIT(mr_worker_vote(bench.worker, &err) == MR_VOTE_YES);
        assert_int_equal(bench.columns_b, 3);
        if (back)
            mr_lookup_swap(bench.lookup, mem_table("abc", 1));
        mr_worker_decide(bench.worker, true);
        WAIT(mr_worker_settled(bench.worker));
        mem_add(&bench.world, 0, "a second");
        wait_for(&bench.world.rows, "secondB|a-0000");
        assert_int_equal(bench.columns_b, back ? 2 : 3);
        bench_join(&bench, &thread);
        assert_int_equal(bench.world.rows.n, 2);
        bench_fini(&bench);
    }
}

static void a_worker_that_has_not_started_says_no(void **state)
{
    (void)state;
    struct bench bench;
    struct mr_thread thread;
    struct mr_error err = {0};
    bench_init(&bench, 3);
    struct mr_lookup *loaded = bench.lookup;
    bench.options.lookup = bench.lookup = mr_lookup_new("never");
    bench_start(&bench);
    mr_thread_start(&thread, run, bench.worker);
    mr_worker_offer(bench.worker, &bench.b.base, &bench.options.settings);
    WAIT(mr_worker_vote(bench.worker, &err) == MR_VOTE_NO);
    assert_non_null(strstr(err.msg, "not started"));
    mr_worker_decide(bench.worker, false);
    bench_join(&bench, &thread);
    mr_lookup_free(loaded);
    bench_fini(&bench);
}

/* --- all workers of all pipelines --- */

#ifndef __SANITIZE_THREAD__ /* the two workers share this file's statics */
static void one_worker_that_cannot_keeps_all_from_it(void **state)
{
    (void)state;
    struct bench bench;
    struct mr_error err = {0};
    int code;
    size_t n_late;
    bench_init(&bench, 3);
    struct mr_app *app = mr_app_new();
    struct mr_worker_options other = bench.options;
    other.pipeline = "other";
    /* One world for one worker: the second one reads nothing. */
    struct bench second;
    bench_init(&second, 3);
    current = &bench;
    other.factory.arg = &second.world;
    other.edition = &second.a.base;
    other.lookup = second.lookup;
    mr_app_add_pipeline(app, &bench.options, 1);
    mr_app_add_pipeline(app, &other, 1);
    mr_app_start(app);
    WAIT(mr_app_state(app, &code) == MR_APP_READY);
    struct mr_app_change changes[] = {
        {"test", &bench.b.base, bench.options.settings},
        {"other", &second.b.base, bench.options.settings},
    };
    second.b.base.bundle = "bad";
    assert_false(mr_app_reload(app, changes, 2, &n_late, &err));
    assert_string_equal(err.msg, "worker other/0: bad.lua:1: it does not open");
    assert_int_equal(bench.opened_b, 1);
    second.b.base.bundle = "B";
    assert_true(mr_app_reload(app, changes, 2, &n_late, &err));
    assert_int_equal(n_late, 0);
    assert_int_equal(bench.opened_b, 2);
    assert_int_equal(second.opened_b, 1);
    mr_app_request_stop(app);
    assert_false(mr_app_reload(app, changes, 2, &n_late, &err) &&
                 bench.opened_b > 2); /* a stop ends it at once */
    assert_true(mr_app_join(app, mr_clock_mono_ms() + DEADLINE_MS, &code));
    second.open = 0; /* counted in the first one */
    bench.open = 0;
    bench_fini(&second);
    bench_fini(&bench);
}
#endif

static int run_plain(void **state)
{
    (void)state;
    exactly = false;
    return 0;
}

static int run_exactly(void **state)
{
    (void)state;
    exactly = true;
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_script_takes_over_between_two_units),
        cmocka_unit_test(whatever_fails_around_a_swap_each_message_is_of_one_edition),
        cmocka_unit_test(a_half_sent_fan_out_keeps_its_script),
        cmocka_unit_test(a_half_sent_fan_out_keeps_its_script_over_a_rebalance),
        cmocka_unit_test(what_does_not_open_or_is_not_wanted_changes_nothing),
        cmocka_unit_test(a_decision_that_never_came_is_forgotten_at_the_end),
        cmocka_unit_test(other_settings_leave_the_script_alone),
        cmocka_unit_test(a_script_is_opened_with_the_columns_that_the_lookup_has_got_meanwhile),
        cmocka_unit_test(a_worker_that_has_not_started_says_no),
#ifndef __SANITIZE_THREAD__
        cmocka_unit_test(one_worker_that_cannot_keeps_all_from_it),
#endif
    };
    return cmocka_run_group_tests_name("at_least_once", tests, run_plain, NULL) +
           cmocka_run_group_tests_name("exactly_once", tests, run_exactly, NULL);
}
