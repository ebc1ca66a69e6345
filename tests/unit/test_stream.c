/*
 * test_stream.c - the engine (pipeline, unit, delivery, claim, worker) over in-memory source, sink,
 * store and script.
 *
 * The real worker thread runs; faults strike at a named step. What must hold: rows exactly once,
 * messages at least once (at_least_once), dead letters once, positions at the end of the input.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/log.h"
#include "stream/app.h"
#include "stream/mark.h"
#include "support/memory.h"
#include "support/wait.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { DEADLINE_MS = 20000 };

/* The tests run twice: in at_least_once, and in exactly_once. */
static bool exactly;

struct bench {
    struct mem_world world;
    struct mr_lookup *lookup;
    atomic_bool stop;
    struct mr_worker *worker;
    struct mr_worker_options options;
};

static bool make_script(void *arg, int index, const struct mr_edition *edition,
                        const struct mr_lookup_schema *lookup, const struct mr_row_schema *rows,
                        struct mr_script **out, struct mr_error *err)
{
    (void)arg;
    (void)index;
    (void)edition;
    (void)err;
    *out = mem_script(lookup, rows != NULL);
    return true;
}

static void bench_init(struct bench *bench, int rows_per_key)
{
    *bench = (struct bench){0};
    mem_hush_log();
    mem_world_init(&bench->world);
    if (exactly)
        bench->world.mode = MR_MODE_EXACTLY_ONCE;
    bench->lookup = mem_lookup(rows_per_key);
    bench->options = (struct mr_worker_options){
        .pipeline = "test",
        .factory = {&bench->world, mem_make_source, mem_make_sink, mem_make_store, make_script},
        .lookup = bench->lookup,
        .delivery = {.pipeline = "test",
                     .group = "g",
                     .exactly_once = exactly,
                     .dead_topic = -1,
                     .flush_timeout_ms = 100,
                     .claim_timeout_ms = 100},
        .settings.linger_ms = 20,
        .settings.unit_outputs = 50,
        .settings.unit_bytes = 1 << 20,
        .settings.max_message_bytes = 100,
    };
}

static void bench_start(struct bench *bench)
{
    atomic_store(&bench->stop, false);
    bench->worker = mr_worker_start(&bench->options, &bench->stop);
}

static int bench_stop(struct bench *bench)
{
    int code = -1;
    atomic_store(&bench->stop, true);
    assert_true(mr_worker_join(bench->worker, mr_clock_mono_ms() + DEADLINE_MS, &code));
    bench->worker = NULL;
    return code;
}

static void bench_fini(struct bench *bench)
{
    mr_lookup_free(bench->lookup);
    mem_world_fini(&bench->world);
    mr_log_hook(NULL, NULL);
}

static void wait_for(const struct mem_log *log, const char *text, size_t n)
{
    WAIT(mem_count(log, text) >= n);
}

static void wait_all_read(const struct bench *bench)
{
    WAIT(mem_all_read(&bench->world));
}

static void wait_ended(struct bench *bench)
{
    WAIT(mr_worker_status(bench->worker).ended);
}

/* How many messages were dropped for `reason`, ever. */
static double dropped(const char *reason)
{
    char labels[64];
    snprintf(labels, sizeof labels, "pipeline=\"test\",reason=\"%s\"", reason);
    return mr_metric_read(mr_metrics_get(MR_COUNTER, "millrace_dropped_total", "", labels));
}

static void wait_dropped(const char *reason, double until)
{
    WAIT(dropped(reason) >= until);
}

/* Every row of `key` for the message `text`: once in Postgres, at least (exactly, with `exact`)
 * once in Kafka. */
static void assert_fan_out(struct mem_world *world, const char *text, char key, int rows,
                           bool exact)
{
    for (int i = 0; i < rows; i++) {
        char row[64], message[96];
        snprintf(row, sizeof row, "%s|%c-%04d", text, key, i);
        snprintf(message, sizeof message, "%c-%04d|%s:%c-%04d", key, i, text, key, i);
        assert_int_equal(mem_count(&world->rows, row), 1);
        size_t n = mem_count(&world->out, message);
        assert_true(exact || exactly ? n == 1 : n >= 1);
    }
}

static void assert_at_rest(const struct mem_world *world)
{
    for (int p = 0; p < MEM_PARTS; p++) {
        if (!world->input[p].n)
            continue;
        struct mr_mark_text mark;
        struct mr_buf job = {0};
        assert_int_equal(world->ledger[p].next_offset, world->input[p].n);
        assert_int_equal(world->offsets[p].offset, world->input[p].n);
        assert_int_equal(mr_mark_read(&world->offsets[p], world->ledger_id, &mark, &job),
                         MR_MARK_OURS);
        assert_int_equal(mark.unit, world->ledger[p].unit);
        mr_buf_fini(&job);
        assert_null(world->ledger[p].redo); /* tidied at the stop */
        assert_false(world->ledger[p].has_job);
    }
}

static void marks_survive_the_round_trip(void **state)
{
    (void)state;
    struct mr_committed committed = {.present = true, .offset = 7};
    struct mr_mark_text mark;
    struct mr_buf bytes = {0};
    assert_true(mr_mark_format(committed.metadata, "deadbeef", 42, 0, NULL));
    assert_string_equal(committed.metadata, "mr1;l=deadbeef;u=42");
    assert_int_equal(mr_mark_read(&committed, "deadbeef", &mark, &bytes), MR_MARK_OURS);
    assert_int_equal(mark.unit, 42);
    assert_int_equal(mark.probe, 0);
    assert_false(mark.has_job);
    assert_int_equal(mr_mark_read(&committed, "00000000", &mark, &bytes), MR_MARK_FOREIGN);

    struct mr_job_state job = {{"\0k\xff", 3}, {"cur", 3}, 1700000000123};
    assert_true(mr_mark_format(committed.metadata, "00000000", 1, 99, &job));
    assert_string_equal(committed.metadata,
                        "mr1;l=00000000;u=1;p=99;t=1700000000123;k=006bff;c=637572");
    assert_int_equal(mr_mark_read(&committed, "00000000", &mark, &bytes), MR_MARK_OURS);
    assert_int_equal(mark.probe, 99);
    assert_true(mark.has_job);
    assert_int_equal(mark.job.trigger_ms, 1700000000123);
    assert_int_equal(mark.job.keys.len, 3);
    assert_memory_equal(mark.job.keys.ptr, "\0k\xff", 3);
    assert_memory_equal(mark.job.cursor.ptr, "cur", 3);
    char much[2100] = {0};
    job.keys = (struct mr_bytes){much, sizeof much};
    assert_false(mr_mark_format(committed.metadata, "00000000", 1, 0, &job));

    const char *others[] = {"",
                            "x",
                            "mr1;l=deadbeef",
                            "mr1;l=deadbeef;u=",
                            "mr1;l=deadbeef;u=-1",
                            "mr1;l=deadbeef;u=4x"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        snprintf(committed.metadata, sizeof committed.metadata, "%s", others[i]);
        assert_int_equal(mr_mark_read(&committed, "deadbeef", &mark, &bytes), MR_MARK_PLAIN);
    }
    committed.present = false;
    assert_int_equal(mr_mark_read(&committed, "deadbeef", &mark, &bytes), MR_MARK_ABSENT);
    mr_buf_fini(&bytes);
}

static void a_message_reaches_both_sinks_once_a_row(void **state)
{
    (void)state;
    struct bench bench;
    bench_init(&bench, 3);
    mem_add(&bench.world, 0, "a hello");
    mem_add(&bench.world, 1, "b world");
    mem_add(&bench.world, 1, "x nobody");
    mem_add(&bench.world, 1, "none keyless");
    mem_add(&bench.world, 2, "drop expired");
    bench_start(&bench);
    wait_for(&bench.world.rows, "hello|a-0002", 1);
    wait_for(&bench.world.rows, "world|b-0002", 1);
    wait_all_read(&bench); /* those without rows, too */
    assert_int_equal(bench_stop(&bench), 0);
    assert_fan_out(&bench.world, "hello", 'a', 3, true);
    assert_fan_out(&bench.world, "world", 'b', 3, true);
    assert_int_equal(bench.world.rows.n, 6);
    assert_int_equal(bench.world.out.n, 6);
    assert_at_rest(&bench.world);
    bench_fini(&bench);
}

static void any_fault_at_any_step_leaves_the_rows_exact(void **state)
{
    (void)state;
    for (int fault = 1; fault < MEM_FAULTS; fault++)
        for (int in = 1; in <= 2; in++) {
            if (fault == MEM_PLAIN_FAULTS || (fault > MEM_PLAIN_FAULTS && !exactly) ||
                (exactly && (fault == MEM_OFFSETS || fault == MEM_OFFSETS_LOST)) ||
                (fault == MEM_FENCE && in > 1)) /* happens once */
                continue;
            struct bench bench;
            bench_init(&bench, 4);
            for (int i = 0; i < 24; i++) {
                char text[32];
                snprintf(text, sizeof text, "a m%d", i);
                mem_add(&bench.world, i % MEM_PARTS, text);
            }
            bench.options.settings.unit_outputs = 20;
            bench.world.fault = (enum mem_fault)fault;
            bench.world.fault_in = in;
            bench_start(&bench);
            for (int i = 0; i < 24; i++) {
                char row[32];
                snprintf(row, sizeof row, "m%d|a-0003", i);
                wait_for(&bench.world.rows, row, 1);
            }
            assert_int_equal(bench_stop(&bench), 0);
            assert_int_equal(bench.world.fault, MEM_NONE); /* it did strike */
            for (int i = 0; i < 24; i++) {
                char text[32];
                snprintf(text, sizeof text, "m%d", i);
                assert_fan_out(&bench.world, text, 'a', 4, false);
            }
            assert_int_equal(bench.world.rows.n, 24 * 4);
            /* Kafka may repeat only the unit in flight, and that in at_least_once alone. */
            assert_true(bench.world.out.n <= 24 * 4 + (exactly ? 0 : 20 + 4));
            assert_at_rest(&bench.world);
            bench_fini(&bench);
        }
}

static void a_big_fan_out_goes_in_chunks_and_resumes_after_its_cursor(void **state)
{
    (void)state;
    const enum mem_fault faults[] = {MEM_NONE, MEM_COPY, MEM_COMMIT_LOST, MEM_COMMIT_UNDONE,
                                     MEM_OFFSETS};
    for (size_t f = 0; f < sizeof faults / sizeof *faults; f++) {
        struct bench bench;
        bench_init(&bench, 500);
        mem_add(&bench.world, 0, "a big");
        mem_add(&bench.world, 0, "b next");
        bench.world.fault = faults[f];
        bench.world.fault_in = 4;
        bench_start(&bench);
        wait_for(&bench.world.rows, "next|b-0499", 1);
        assert_int_equal(bench_stop(&bench), 0);
        assert_fan_out(&bench.world, "big", 'a', 500, false);
        assert_fan_out(&bench.world, "next", 'b', 500, false);
        assert_int_equal(bench.world.rows.n, 1000);
        assert_true(bench.world.transactions >= 20);
        assert_at_rest(&bench.world);
        bench_fini(&bench);
    }
}

static void a_restart_in_the_middle_of_a_fan_out_goes_on(void **state)
{
    (void)state;
    struct bench bench;
    bench_init(&bench, 500);
    bench.options.settings.unit_outputs = 5;
    mem_add(&bench.world, 0, "a big");
    bench_start(&bench);
    wait_for(&bench.world.rows, "big|a-0020", 1);
    bench_stop(&bench); /* between two chunks, or at the end */
    bench_start(&bench);
    wait_for(&bench.world.rows, "big|a-0499", 1);
    bench_stop(&bench);
    assert_fan_out(&bench.world, "big", 'a', 500, true);
    assert_int_equal(bench.world.rows.n, 500);
    bench_fini(&bench);
}

static void a_refused_row_buries_its_message_and_no_other(void **state)
{
    (void)state;
    struct bench bench;
    bench_init(&bench, 2);
    for (int i = 0; i < 9; i++) {
        char text[32];
        snprintf(text, sizeof text, "a good%d", i);
        mem_add(&bench.world, 0, i == 4 ? "a poison" : text);
    }
    mem_add(&bench.world, 0, "bad broken");
    mem_add(&bench.world, 0, "a unsendable");
    mem_add(&bench.world, 0, "a last");
    bench_start(&bench);
    wait_for(&bench.world.rows, "last|a-0001", 1);
    assert_int_equal(bench_stop(&bench), 0);
    for (int i = 0; i < 9; i++)
        if (i != 4) {
            char text[32];
            snprintf(text, sizeof text, "good%d", i);
            assert_fan_out(&bench.world, text, 'a', 2, false);
        }
    assert_int_equal(bench.world.rows.n, 9 * 2);
    assert_int_equal(mem_count(&bench.world.out, "a-0000|poison:a-0000"), 0);
    assert_int_equal(bench.world.dead.n, 3);
    assert_int_equal(mem_count(&bench.world.dead, "script|bad broken|broken"), 1);
    assert_int_equal(mem_count(&bench.world.dead, "rejected|a poison|injected: a row is refused"),
                     1);
    assert_at_rest(&bench.world);
    bench_fini(&bench);
}

static void a_refused_row_in_a_later_chunk_settles_the_message(void **state)
{
    (void)state;
    struct bench bench;
    bench_init(&bench, 500);
    mem_add(&bench.world, 0, "a poison@a-0120");
    mem_add(&bench.world, 0, "b next");
    bench_start(&bench);
    wait_for(&bench.world.rows, "next|b-0499", 1);
    assert_int_equal(bench_stop(&bench), 0);
    assert_fan_out(&bench.world, "poison@a-0120", 'a', 100, true); /* the two chunks before */
    assert_int_equal(bench.world.rows.n, 100 + 500);
    assert_int_equal(bench.world.out.n, 100 + 500);
    assert_int_equal(bench.world.dead.n, 1);
    assert_int_equal(bench.world.dead_jobs, 1); /* a retry goes on after the 100 */
    assert_at_rest(&bench.world);
    bench_fini(&bench);
}

static void dead_letters_can_go_to_a_topic(void **state)
{
    (void)state;
    struct bench bench;
    bench_init(&bench, 1);
    bench.options.delivery.dead_topic = 1;
    mem_add(&bench.world, 0, "bad broken");
    bench_start(&bench);
    wait_for(&bench.world.out, "|bad broken", 1);
    assert_int_equal(bench_stop(&bench), 0);
    assert_int_equal(bench.world.dead.n, 0);
    assert_at_rest(&bench.world);
    bench_fini(&bench);
}

static void a_dead_letter_that_is_too_large_goes_without_the_message(void **state)
{
    (void)state;
    struct bench bench;
    bench_init(&bench, 1);
    bench.options.delivery.dead_topic = 1;
    mem_add(&bench.world, 0, "a unsendable");
    mem_add(&bench.world, 0, "a next");
    bench_start(&bench);
    wait_for(&bench.world.rows, "next|a-0000", 1);
    assert_int_equal(bench_stop(&bench), 0);
    assert_int_equal(bench.world.out.n, 2);
    assert_int_equal(mem_count(&bench.world.out, "|"), 1);
    assert_at_rest(&bench.world);
    bench_fini(&bench);
}

static void an_oversized_message_is_buried_unread(void **state)
{
    (void)state;
    struct bench bench;
    char big[300];
    bench_init(&bench, 1);
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = '\0';
    mem_add(&bench.world, 0, big);
    mem_add(&bench.world, 0, "a after");
    bench_start(&bench);
    wait_for(&bench.world.rows, "after|a-0000", 1);
    bench_stop(&bench);
    assert_int_equal(bench.world.dead.n, 1);
    assert_memory_equal(bench.world.dead.items[0], "too_large|xxx", 13);
    bench_fini(&bench);
}

static void traffic_that_is_only_dropped_costs_few_transactions(void **state)
{
    (void)state;
    struct bench bench;
    double before = dropped("expired");
    bench_init(&bench, 1);
    for (int i = 0; i < 5000; i++)
        mem_add(&bench.world, 0, "drop expired");
    mem_add(&bench.world, 0, NULL); /* a control record ends the log */
    bench_start(&bench);
    wait_dropped("expired", before + 5000);
    wait_all_read(&bench); /* the control record, too */
    bench_stop(&bench);
    assert_true(bench.world.transactions < 20);
    assert_at_rest(&bench.world);
    bench_fini(&bench);
}

static void a_new_table_is_seen_after_messages_that_found_nothing(void **state)
{
    (void)state;
    struct bench bench;
    double before = dropped("no_rows");
    bench_init(&bench, 2);
    mem_add(&bench.world, 0, "n early");
    bench_start(&bench);
    wait_dropped("no_rows", before + 1);
    mr_lookup_swap(bench.lookup, mem_table("abcn", 2));
    mem_add(&bench.world, 0, "n late");
    wait_for(&bench.world.rows, "late|n-0001", 1);
    bench_stop(&bench);
    assert_int_equal(mem_count(&bench.world.rows, "early|n-0001"), 0);
    bench_fini(&bench);
}

/* --- claim ---------------------------------------------------------------------------------------
 */

struct hand {
    struct mem_world *world;
    struct mr_delivery delivery;
    struct mr_part part;
};

static void hand_init(struct hand *hand, struct mem_world *world)
{
    *hand = (struct hand){.world = world};
    const struct mr_delivery_options options = {.pipeline = "test",
                                                .group = "g",
                                                .dead_topic = -1,
                                                .exactly_once = exactly,
                                                .flush_timeout_ms = 100,
                                                .claim_timeout_ms = 100};
    if (exactly)
        world->mode = MR_MODE_EXACTLY_ONCE;
    mr_delivery_init(&hand->delivery, "test", &options);
    hand->delivery.source = mem_source(world);
    hand->delivery.sink = mem_sink(world);
    hand->delivery.store = mem_store(world);
    struct mr_source *source = hand->delivery.source;
    assert_int_equal(source->ops->poll(source, 0, &(struct mr_record){0}, NULL), MR_EVENT_ASSIGNED);
    hand->part.at = *source->ops->assignment(source, &(size_t){0});
}

static void hand_fini(struct hand *hand)
{
    mr_part_fini(&hand->part);
    hand->delivery.source->ops->close(hand->delivery.source);
    hand->delivery.sink->ops->close(hand->delivery.sink);
    hand->delivery.store->ops->close(hand->delivery.store);
    mr_delivery_fini(&hand->delivery);
}

static bool commit_one(struct hand *hand, int64_t offset, struct mr_error *err)
{
    struct mr_unit unit;
    struct mr_record rec = {.topic = hand->part.at.topic, .offset = offset};
    mr_unit_init(&unit);
    mr_unit_end(&unit, mr_unit_begin(&unit, &hand->part, &rec));
    bool ok = mr_delivery_commit(&hand->delivery, &unit, err);
    mr_unit_fini(&unit, hand->delivery.source);
    return ok;
}

/* --- a store that misbehaves for longer than one step ----------------------------------------- */

static struct {
    const struct mr_store_ops *real;
    size_t most_rows; /* of one transaction; more are refused as by a time-out */
    int refused;      /* how often that was so */
    int commits_left; /* then `stop` is set, the group rebalances, or the lookup is stale */
    atomic_bool *stop;
    struct mem_world *rebalance;
    struct mr_fresh *goes_stale;
} odd;

static bool odd_copy(struct mr_store *store, const struct mr_row_run *runs, size_t n,
                     struct mr_error *err)
{
    size_t rows = 0;
    for (size_t i = 0; i < n; i++)
        rows += runs[i].n;
    if (rows <= odd.most_rows)
        return odd.real->copy(store, runs, n, err);
    if (++odd.refused == 5 && odd.stop)
        atomic_store(odd.stop, true);
    return mr_error_set(err, MR_RETRY, MR_EXIT_UNREACHABLE, "injected: %zu rows time out", rows);
}

static enum mr_decision odd_commit(struct mr_store *store, struct mr_error *err)
{
    enum mr_decision decision = odd.real->commit(store, err);
    if (odd.commits_left && --odd.commits_left == 0) {
        if (odd.stop)
            atomic_store(odd.stop, true);
        if (odd.rebalance)
            odd.rebalance->rebalance = true;
        if (odd.goes_stale)
            mr_fresh_set(odd.goes_stale, 0, 0);
    }
    return decision;
}

static bool make_odd_store(void *arg, int index, struct mr_store **out, struct mr_error *err)
{
    static struct mr_store_ops ops;
    (void)index;
    (void)err;
    *out = mem_store(arg);
    odd.real = (*out)->ops;
    ops = *odd.real;
    ops.copy = odd_copy;
    ops.commit = odd_commit;
    (*out)->ops = &ops;
    return true;
}

static void odd_init(struct bench *bench, int rows_per_key, size_t most_rows)
{
    bench_init(bench, rows_per_key);
    bench->options.factory.store = make_odd_store;
    memset(&odd, 0, sizeof odd);
    odd.most_rows = most_rows;
}

static void a_stop_does_not_wait_for_the_end_of_a_fan_out(void **state)
{
    (void)state;
    struct bench bench;
    odd_init(&bench, 500, SIZE_MAX);
    bench.options.settings.unit_outputs = 50;
    odd.commits_left = MEM_PARTS + 3; /* first positions, then chunks */
    odd.stop = &bench.stop;
    mem_add(&bench.world, 0, "a big");
    bench_start(&bench);
    wait_ended(&bench);
    assert_int_equal(bench_stop(&bench), 0);
    assert_int_equal(bench.world.rows.n, 150);
    odd.stop = NULL;
    bench_start(&bench);
    wait_for(&bench.world.rows, "big|a-0499", 1);
    assert_int_equal(bench_stop(&bench), 0);
    assert_fan_out(&bench.world, "big", 'a', 500, true);
    assert_int_equal(bench.world.rows.n, 500);
    assert_at_rest(&bench.world);
    bench_fini(&bench);
}

static void a_rebalance_does_not_wait_for_the_end_of_a_fan_out(void **state)
{
    (void)state;
    for (int late = 0; late < 2; late++) {
        struct bench bench;
        odd_init(&bench, 1000, SIZE_MAX);
        bench.options.settings.unit_outputs = 10;
        odd.commits_left = late ? MEM_PARTS + 50 : MEM_PARTS + 1;
        odd.rebalance = &bench.world;
        mem_add(&bench.world, 0, "a big");
        mem_add(&bench.world, 0, "b behind");
        mem_add(&bench.world, 1, "c beside");
        bench_start(&bench);
        wait_for(&bench.world.rows, "behind|b-0999", 1);
        wait_for(&bench.world.rows, "beside|c-0999", 1);
        assert_int_equal(bench_stop(&bench), 0);
        /* Told within a few chunks of ten. */
        assert_in_range(bench.world.rows_at_rebalance, 10, late ? 510 : 50);
        assert_fan_out(&bench.world, "big", 'a', 1000, true);
        assert_fan_out(&bench.world, "behind", 'b', 1000, true);
        assert_fan_out(&bench.world, "beside", 'c', 1000, true);
        assert_int_equal(bench.world.rows.n, 3000);
        assert_at_rest(&bench.world);
        bench_fini(&bench);
    }
}

/* --- on_stale = "pause" --- */

static const struct mr_fresh_options pauses = {.max_staleness_ms = 60000, .pause = true};

static bool is_paused(struct bench *bench)
{
    struct mr_worker_status status = mr_worker_status(bench->worker);
    return !status.well && strncmp(status.problem, "paused", 6) == 0;
}

/* Until the worker has paused, and has looked at its source a few times since. */
static void wait_paused(struct bench *bench)
{
    WAIT(is_paused(bench));
    size_t until = bench->world.polls + 5;
    WAIT(bench->world.polls >= until);
}

static void a_stale_lookup_pauses_the_worker(void **state)
{
    (void)state;
    struct bench bench;
    bench_init(&bench, 2);
    struct mr_fresh *fresh = bench.options.fresh = mr_fresh_new(&pauses);
    mr_fresh_set(fresh, mr_clock_mono_ms(), 0);
    mem_add(&bench.world, 0, "a before");
    bench_start(&bench);
    wait_for(&bench.world.rows, "before|a-0001", 1);
    mr_fresh_set(fresh, 0, 0);
    wait_paused(&bench);
    mem_add(&bench.world, 0, "n meanwhile"); /* would be dropped now */
    wait_paused(&bench);
    mr_lookup_swap(bench.lookup, mem_table("abcn", 2));
    mr_fresh_set(fresh, mr_clock_mono_ms(), 0);
    wait_for(&bench.world.rows, "meanwhile|n-0001", 1);
    assert_true(mr_worker_status(bench.worker).well);
    assert_int_equal(bench_stop(&bench), 0);
    assert_at_rest(&bench.world);
    mr_fresh_free(fresh);
    bench_fini(&bench);
}

static void a_fan_out_pauses_between_chunks_and_goes_on_after_its_cursor(void **state)
{
    (void)state;
    struct bench bench;
    odd_init(&bench, 500, SIZE_MAX);
    struct mr_fresh *fresh = bench.options.fresh = odd.goes_stale = mr_fresh_new(&pauses);
    mr_fresh_set(fresh, mr_clock_mono_ms(), 0);
    bench.options.settings.unit_outputs = 50;
    odd.commits_left = MEM_PARTS + 3; /* first positions, then chunks */
    mem_add(&bench.world, 0, "a big");
    bench_start(&bench);
    wait_paused(&bench);
    assert_int_equal(mem_count(&bench.world.rows, "big|a-0149"), 1);
    assert_int_equal(mem_count(&bench.world.rows, "big|a-0150"), 0);
    mr_fresh_set(fresh, mr_clock_mono_ms(), 0);
    wait_for(&bench.world.rows, "big|a-0499", 1);
    assert_int_equal(bench_stop(&bench), 0);
    assert_fan_out(&bench.world, "big", 'a', 500, true);
    assert_int_equal(bench.world.rows.n, 500);
    assert_at_rest(&bench.world);
    mr_fresh_free(fresh);
    bench_fini(&bench);
}

static void with_strict_a_unit_waits_for_the_lookup(void **state)
{
    (void)state;
    struct bench bench;
    bench_init(&bench, 2);
    struct mr_fresh *fresh = bench.options.fresh =
        mr_fresh_new(&(struct mr_fresh_options){.max_staleness_ms = 60000, .strict = true});
    mr_fresh_set(fresh, mr_clock_mono_ms(), 0);
    mem_add(&bench.world, 0, "n first");
    bench_start(&bench);
    WAIT(mr_fresh_asked(fresh));
    /* What was committed before the question comes now, and is seen. */
    mr_lookup_swap(bench.lookup, mem_table("abcn", 2));
    mr_fresh_answer(fresh, mr_fresh_asked(fresh));
    wait_for(&bench.world.rows, "first|n-0001", 1);
    assert_int_equal(bench_stop(&bench), 0);
    mr_fresh_free(fresh);
    bench_fini(&bench);
}

static void a_unit_that_is_too_slow_goes_through_in_parts(void **state)
{
    (void)state;
    struct bench bench;
    odd_init(&bench, 100, 7);
    mem_add(&bench.world, 0, "a big");
    bench_start(&bench);
    wait_for(&bench.world.rows, "big|a-0099", 1);
    assert_int_equal(bench_stop(&bench), 0);
    assert_fan_out(&bench.world, "big", 'a', 100, true);
    assert_int_equal(bench.world.rows.n, 100);
    assert_at_rest(&bench.world);
    bench_fini(&bench);
}

static void what_fails_for_ever_is_tried_less_and_less(void **state)
{
    (void)state;
    struct bench bench;
    odd_init(&bench, 1, 0);
    odd.stop = &bench.stop; /* at the fifth time */
    mem_add(&bench.world, 0, "a never");
    int64_t began_ms = mr_clock_mono_ms();
    bench_start(&bench);
    wait_ended(&bench);
    /* Four waits, each at least half of 100, 200, 400, 800 ms; without growth they take 400 at
     * most. */
    assert_true(mr_clock_mono_ms() - began_ms >= 750);
    assert_int_equal(bench_stop(&bench), 0);
    assert_int_equal(bench.world.rows.n + bench.world.out.n, 0);
    bench_fini(&bench);
}

static void many_messages_at_fault_do_not_send_the_others_as_often(void **state)
{
    (void)state;
    enum { N = 256 };
    struct bench bench;
    bench_init(&bench, 1);
    bench.options.settings.unit_outputs = N;
    bench.options.settings.linger_ms = 10000;
    for (int i = 0; i < N; i++) {
        char text[32];
        snprintf(text, sizeof text, i % 2 ? "a unsendable%d" : "a good%d", i);
        mem_add(&bench.world, 0, text);
    }
    mem_add(&bench.world, 0, "a last");
    bench_start(&bench);
    wait_for(&bench.world.rows, "last|a-0000", 1);
    assert_int_equal(bench_stop(&bench), 0);
    assert_int_equal(bench.world.rows.n, N / 2 + 1);
    assert_int_equal(bench.world.out.n, N / 2 + 1);
    assert_int_equal(bench.world.dead.n, N / 2);
    assert_true(bench.world.produced <= N * 9); /* once each level of halving */
    assert_at_rest(&bench.world);
    bench_fini(&bench);
}

static void a_flood_of_bad_messages_is_kept_in_units_of_bounded_size(void **state)
{
    (void)state;
    struct bench bench;
    bench_init(&bench, 1);
    bench.options.settings.linger_ms = 10000;
    for (int i = 0; i < 500; i++)
        mem_add(&bench.world, 0, "bad broken");
    bench_start(&bench);
    wait_for(&bench.world.dead, "script|bad broken|broken", 500);
    assert_int_equal(bench_stop(&bench), 0);
    assert_true(bench.world.transactions >= 500 / 50);
    assert_at_rest(&bench.world);
    bench_fini(&bench);
}

static void an_earlier_owner_is_fenced(void **state)
{
    (void)state;
    struct mem_world world;
    struct hand old, new;
    struct mr_error err;
    mem_world_init(&world);
    mem_add(&world, 0, "a x");
    mem_add(&world, 0, "a y");
    hand_init(&old, &world);
    hand_init(&new, &world);
    assert_true(mr_delivery_claim(&old.delivery, &old.part, &err));
    assert_true(commit_one(&old, 0, &err));
    assert_true(mr_delivery_claim(&new.delivery, &new.part, &err));
    assert_int_equal(new.part.position, 1);
    assert_false(commit_one(&old, 1, &err)); /* the zombie */
    assert_int_equal(err.action, MR_RECOVER);
    assert_true(commit_one(&new, 1, &err));
    assert_int_equal(world.ledger[0].next_offset, 2);
    assert_int_equal(world.ledger[0].unit, 2);
    hand_fini(&old);
    hand_fini(&new);
    mem_world_fini(&world);
}

/* The Postgres sink was added to a pipeline in the middle of a fan-out. */
static void no_database_before(struct mem_world *world)
{
    struct mr_job_state job = {{"keys", 4}, {"cursor", 6}, 17};
    world->ledger[0] = (struct mem_ledger){0};
    assert_true(mr_mark_format(world->offsets[0].metadata, "00000000", 8, 0, &job));
}

/* Claims partition 0 of a world that stands at unit 5, offset 3 of 10, after `change`; the sentence
 * if it halts. */
static bool claim_after(void (*change)(struct mem_world *), char msg[1024])
{
    struct mem_world world;
    struct hand hand;
    struct mr_error err = {0};
    mem_world_init(&world);
    for (int i = 0; i < 10; i++)
        mem_add(&world, 0, "a x");
    world.ledger[0] =
        (struct mem_ledger){.there = true, .unit = 5, .next_offset = 3, .mode = "at_least_once"};
    world.offsets[0] = (struct mr_committed){.present = true, .offset = 3};
    assert_true(mr_mark_format(world.offsets[0].metadata, world.ledger_id, 5, 0, NULL));
    change(&world);
    hand_init(&hand, &world);
    bool ok = mr_delivery_claim(&hand.delivery, &hand.part, &err);
    if (ok) {
        struct mr_mark_text mark;
        struct mr_buf job = {0};
        assert_int_equal(hand.part.position, world.ledger[0].next_offset);
        assert_int_equal(mr_mark_read(&world.offsets[0], world.ledger_id, &mark, &job),
                         MR_MARK_OURS);
        assert_int_equal(mark.unit, world.ledger[0].unit);
        assert_int_equal(mark.has_job, world.ledger[0].has_job);
        assert_int_equal(hand.part.has_job, world.ledger[0].has_job);
        if (change == no_database_before) {
            assert_int_equal(mark.unit, 8);
            assert_int_equal(hand.part.job_trigger_ms, 17);
            assert_memory_equal(world.ledger[0].cursor, "cursor", 6);
        }
        mr_buf_fini(&job);
    } else {
        assert_int_equal(err.action, MR_STOP);
        assert_false(hand.part.claimed);
    }
    snprintf(msg, 1024, "%s", err.msg);
    hand_fini(&hand);
    mem_world_fini(&world);
    return ok;
}

static void nothing(struct mem_world *world)
{
    (void)world;
}
static void mark(struct mem_world *world, const char *ledger_id, int64_t unit)
{
    assert_true(mr_mark_format(world->offsets[0].metadata, ledger_id, unit, 0, NULL));
}
static void offset_one_unit_behind(struct mem_world *world)
{
    mark(world, world->ledger_id, 4);
    world->offsets[0].offset = 2;
}
static void offset_expired(struct mem_world *world)
{
    world->offsets[0].present = false;
}
static void offset_ahead(struct mem_world *world)
{
    mark(world, world->ledger_id, 6);
}
static void offset_far_behind(struct mem_world *world)
{
    mark(world, world->ledger_id, 3);
}
static void offset_moved(struct mem_world *world)
{
    world->offsets[0].metadata[0] = '\0';
}
static void other_database(struct mem_world *world)
{
    mark(world, "ffffffff", 5);
}
static void ledger_empty(struct mem_world *world)
{
    world->ledger[0].there = false;
}
static void retention(struct mem_world *world)
{
    world->low[0] = 4;
}
static void topic_made_again(struct mem_world *world)
{
    world->ledger[0].next_offset = 11;
}
static void redo_missing(struct mem_world *world)
{
    snprintf(world->ledger[0].mode, sizeof world->ledger[0].mode, "exactly_once");
    mark(world, world->ledger_id, 4);
}
static void redo_damaged(struct mem_world *world)
{
    redo_missing(world);
    world->ledger[0].redo = mr_strdup("nonsense");
    world->ledger[0].redo_len = 8;
}
static void deleted_in_flight(struct mem_world *world)
{
    redo_damaged(world);
    world->offsets[0].present = false;
}

static void claim_goes_on_or_halts_with_a_cure(void **state)
{
    (void)state;
    char msg[1024];
    assert_true(claim_after(nothing, msg));
    assert_true(claim_after(offset_one_unit_behind, msg));
    assert_true(claim_after(offset_expired, msg));
    assert_true(claim_after(no_database_before, msg));
    const struct {
        void (*change)(struct mem_world *);
        const char *says, *cure;
    } halts[] = {
        {offset_ahead, "Postgres lost committed rows", "--partition 0 --take kafka"},
        {offset_far_behind, "from outside", "--partition 0 --take ledger"},
        {offset_moved, "from outside", "--take kafka"},
        {other_database, "another database's ledger", "sinks.postgres.dsn"},
        {ledger_empty, "this database does not have", "sinks.postgres.dsn"},
        {retention, "deleted by retention",
         "millrace repair test --topic in --partition 0 --take earliest"},
        {topic_made_again, "deleted and made again", "--take earliest"},
        {redo_missing, "millrace_redo does not have them", "--take ledger"},
        {redo_damaged, "crc32c", "--take ledger"},
        {deleted_in_flight, "was deleted while", "--take ledger"},
    };
    for (size_t i = 0; i < sizeof halts / sizeof *halts; i++) {
        assert_false(claim_after(halts[i].change, msg));
        assert_non_null(strstr(msg, halts[i].says));
        assert_non_null(strstr(msg, halts[i].cure));
    }
}

static void without_a_ledger_the_cure_names_none(void **state)
{
    (void)state;
    struct mem_world world;
    struct hand hand;
    struct mr_error err;
    mem_world_init(&world);
    mem_add(&world, 0, "a x");
    world.low[0] = 4;
    world.offsets[0] = (struct mr_committed){.present = true, .offset = 1};
    hand_init(&hand, &world);
    struct mr_store *store = hand.delivery.store;
    hand.delivery.store = NULL;
    assert_false(mr_delivery_claim(&hand.delivery, &hand.part, &err));
    assert_int_equal(err.action, MR_STOP);
    assert_non_null(
        strstr(err.msg, "millrace repair test --topic in --partition 0 --take earliest"));
    assert_null(strstr(err.msg, "ledger"));
    hand.delivery.store = store;
    hand_fini(&hand);
    mem_world_fini(&world);
}

static void a_new_group_starts_where_it_is_told(void **state)
{
    (void)state;
    for (int latest = 0; latest <= 1; latest++)
        for (int plain = 0; plain <= 1; plain++) {
            struct mem_world world;
            struct hand hand;
            struct mr_error err;
            mem_world_init(&world);
            for (int i = 0; i < 10; i++)
                mem_add(&world, 0, "a x");
            world.low[0] = 2;
            if (plain)
                world.offsets[0] = (struct mr_committed){.present = true, .offset = 5};
            hand_init(&hand, &world);
            hand.delivery.options.start = latest ? MR_START_LATEST : MR_START_EARLIEST;
            assert_true(mr_delivery_claim(&hand.delivery, &hand.part, &err));
            assert_int_equal(hand.part.position, plain ? 5 : latest ? 10 : 2);
            /* Written at once: a crash now must not ask again what "latest" is. */
            assert_int_equal(world.ledger[0].next_offset, hand.part.position);
            hand_fini(&hand);
            mem_world_fini(&world);
        }
}

static void without_a_ledger_a_start_is_written_into_kafka(void **state)
{
    (void)state;
    for (int latest = 0; latest <= 1; latest++) {
        struct mem_world world;
        struct hand hand;
        struct mr_error err;
        mem_world_init(&world);
        mem_add(&world, 0, "a x");
        hand_init(&hand, &world);
        struct mr_store *store = hand.delivery.store;
        hand.delivery.store = NULL;
        hand.delivery.options.start = latest ? MR_START_LATEST : MR_START_EARLIEST;
        assert_true(mr_delivery_claim(&hand.delivery, &hand.part, &err));
        assert_true(world.offsets[0].present);
        assert_int_equal(world.offsets[0].offset, latest);
        hand.delivery.store = store;
        hand_fini(&hand);
        mem_world_fini(&world);
    }
}

/* A crash after the ledger was written, before Kafka was told, changes nothing. */
static void what_was_brought_along_is_adopted_once(void **state)
{
    (void)state;
    const struct mr_job_state job = {{"keys", 4}, {"at", 2}, 77};
    struct mem_world world;
    struct hand hand;
    struct mr_error err;
    mem_world_init(&world);
    mem_add(&world, 0, "a x");
    world.offsets[0] = (struct mr_committed){.present = true};
    assert_true(mr_mark_format(world.offsets[0].metadata, "00000000", 7, 0, &job));
    struct mr_committed before = world.offsets[0];
    for (int i = 0; i < 2; i++) {
        world.offsets[0] = before;
        hand_init(&hand, &world);
        assert_true(mr_delivery_claim(&hand.delivery, &hand.part, &err));
        assert_int_equal(hand.part.unit, 7);
        assert_true(hand.part.has_job);
        assert_int_equal(world.ledger[0].unit, 7);
        assert_non_null(strstr(world.offsets[0].metadata, world.ledger_id));
        assert_non_null(strstr(world.offsets[0].metadata, ";t=77;k=6b657973;c=6174"));
        hand_fini(&hand);
    }
    mem_world_fini(&world);
}

/* The ledger may hold a fan-out in progress, which would begin once more. */
static void a_store_that_was_taken_away_halts(void **state)
{
    (void)state;
    struct mem_world world;
    struct hand hand;
    struct mr_error err;
    mem_world_init(&world);
    mem_add(&world, 0, "a x");
    world.offsets[0] = (struct mr_committed){.present = true};
    mark(&world, "ffffffff", 5);
    hand_init(&hand, &world);
    struct mr_store *store = hand.delivery.store;
    hand.delivery.store = NULL;
    assert_false(mr_delivery_claim(&hand.delivery, &hand.part, &err));
    assert_int_equal(err.action, MR_STOP);
    assert_int_equal(err.code, MR_EXIT_DATA);
    assert_non_null(strstr(err.msg, "put sinks.postgres back"));
    assert_non_null(strstr(err.msg, "millrace repair test --topic in --partition 0 --take kafka"));
    hand.delivery.store = store;
    hand_fini(&hand);
    mem_world_fini(&world);
}

static void a_halt_ends_the_worker_with_its_code(void **state)
{
    (void)state;
    struct bench bench;
    bench_init(&bench, 1);
    mem_add(&bench.world, 0, "a x");
    bench.world.ledger[0] =
        (struct mem_ledger){.there = true, .unit = 5, .next_offset = 0, .mode = "at_least_once"};
    bench.world.offsets[0] = (struct mr_committed){.present = true};
    mark(&bench.world, "ffffffff", 5);
    bench_start(&bench);
    wait_ended(&bench);
    assert_non_null(strstr(mr_worker_status(bench.worker).problem, "another database"));
    assert_int_equal(bench_stop(&bench), MR_EXIT_DATA);
    assert_int_equal(bench.world.rows.n, 0);
    bench_fini(&bench);
}

static void a_message_that_kills_is_buried_unread(void **state)
{
    (void)state;
    struct bench bench;
    bench_init(&bench, 3);
    mem_add(&bench.world, 0, "a killer");
    mem_add(&bench.world, 0, "a other");
    /* Five owners before were not heard of again, and a sixth. */
    bench.world.ledger[0] =
        (struct mem_ledger){.there = true, .trying = 0, .attempts = 5, .begun = true};
    snprintf(bench.world.ledger[0].mode, sizeof bench.world.ledger[0].mode, "%s", bench.world.mode);
    bench_start(&bench);
    wait_for(&bench.world.rows, "other|a-0002", 1);
    assert_int_equal(bench_stop(&bench), 0);
    assert_int_equal(bench.world.dead.n, 1);
    assert_int_equal(strncmp(bench.world.dead.items[0], "crash_loop|a killer|6 processes", 31), 0);
    assert_int_equal(bench.world.rows.n, 3);
    assert_int_equal(bench.world.ledger[0].trying, -1);
    assert_at_rest(&bench.world);
    bench_fini(&bench);
}

/* One fewer: it is tried once more, alone, and turns out to be innocent. */
static void a_message_under_suspicion_is_tried_alone(void **state)
{
    (void)state;
    struct bench bench;
    bench_init(&bench, 3);
    for (int i = 0; i < 6; i++)
        mem_add(&bench.world, 0, i == 2 ? "drop it" : i == 4 ? "bad one" : "a word");
    bench.world.ledger[0] =
        (struct mem_ledger){.there = true, .trying = 0, .attempts = 4, .begun = true};
    snprintf(bench.world.ledger[0].mode, sizeof bench.world.ledger[0].mode, "%s", bench.world.mode);
    bench_start(&bench);
    wait_for(&bench.world.rows, "word|a-0002", 4);
    assert_int_equal(bench_stop(&bench), 0);
    assert_int_equal(bench.world.dead.n, 1);
    assert_int_equal(bench.world.ledger[0].unit, 5); /* each by itself */
    assert_at_rest(&bench.world);
    bench_fini(&bench);
}

static void a_broker_that_drops_offsets_is_refused(void **state)
{
    (void)state;
    struct bench bench;
    bench_init(&bench, 3);
    bench.world.drops_offsets = true;
    mem_add(&bench.world, 0, "a hello");
    bench_start(&bench);
    if (!exactly) {
        wait_for(&bench.world.rows, "hello|a-0002", 1);
        assert_int_equal(bench_stop(&bench), 0);
    } else {
        wait_ended(&bench);
        assert_non_null(strstr(mr_worker_status(bench.worker).problem, "at_least_once"));
        assert_int_equal(bench_stop(&bench), MR_EXIT_CONFIG);
        assert_int_equal(bench.world.rows.n + bench.world.out.n, 0);
    }
    bench_fini(&bench);
}

static void kafka_alone_goes_on_in_the_middle_of_a_fan_out(void **state)
{
    (void)state;
    struct bench bench;
    bench_init(&bench, 500);
    bench.options.settings.unit_outputs = 5;
    bench.options.factory.store = NULL;
    bench.options.delivery.dead_topic = 1;
    mem_add(&bench.world, 0, "a big");
    bench_start(&bench);
    wait_for(&bench.world.out, "a-0020|big:a-0020", 1);
    bench_stop(&bench); /* between two chunks, or at the end */
    bench_start(&bench);
    wait_for(&bench.world.out, "a-0499|big:a-0499", 1);
    bench_stop(&bench);
    assert_int_equal(bench.world.out.n, 500);
    bench_fini(&bench);
}

static void kafka_alone_needs_no_store(void **state)
{
    (void)state;
    struct bench bench;
    bench_init(&bench, 3);
    bench.options.factory.store = NULL;
    bench.options.delivery.dead_topic = 1;
    mem_add(&bench.world, 0, "a hello");
    mem_add(&bench.world, 0, "bad broken");
    bench_start(&bench);
    wait_for(&bench.world.out, "|bad broken", 1);
    bench_stop(&bench);
    bench_start(&bench); /* goes on where it was */
    mem_add(&bench.world, 0, "b again");
    wait_for(&bench.world.out, "b-0002|again:b-0002", 1);
    bench_stop(&bench);
    assert_int_equal(bench.world.out.n, 7);
    assert_int_equal(bench.world.offsets[0].offset, 3);
    bench_fini(&bench);
}

static void postgres_alone_needs_no_sink(void **state)
{
    (void)state;
    struct bench bench;
    bench_init(&bench, 3);
    bench.options.factory.sink = NULL;
    mem_add(&bench.world, 0, "a hello");
    bench_start(&bench);
    wait_for(&bench.world.rows, "hello|a-0002", 1);
    bench_stop(&bench);
    assert_int_equal(bench.world.rows.n, 3);
    assert_at_rest(&bench.world);
    bench_fini(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(marks_survive_the_round_trip),
        cmocka_unit_test(a_message_reaches_both_sinks_once_a_row),
        cmocka_unit_test(any_fault_at_any_step_leaves_the_rows_exact),
        cmocka_unit_test(a_big_fan_out_goes_in_chunks_and_resumes_after_its_cursor),
        cmocka_unit_test(a_restart_in_the_middle_of_a_fan_out_goes_on),
        cmocka_unit_test(a_refused_row_buries_its_message_and_no_other),
        cmocka_unit_test(a_refused_row_in_a_later_chunk_settles_the_message),
        cmocka_unit_test(dead_letters_can_go_to_a_topic),
        cmocka_unit_test(a_dead_letter_that_is_too_large_goes_without_the_message),
        cmocka_unit_test(an_oversized_message_is_buried_unread),
        cmocka_unit_test(traffic_that_is_only_dropped_costs_few_transactions),
        cmocka_unit_test(a_new_table_is_seen_after_messages_that_found_nothing),
        cmocka_unit_test(a_stop_does_not_wait_for_the_end_of_a_fan_out),
        cmocka_unit_test(a_rebalance_does_not_wait_for_the_end_of_a_fan_out),
        cmocka_unit_test(a_stale_lookup_pauses_the_worker),
        cmocka_unit_test(a_fan_out_pauses_between_chunks_and_goes_on_after_its_cursor),
        cmocka_unit_test(with_strict_a_unit_waits_for_the_lookup),
        cmocka_unit_test(a_unit_that_is_too_slow_goes_through_in_parts),
        cmocka_unit_test(what_fails_for_ever_is_tried_less_and_less),
        cmocka_unit_test(many_messages_at_fault_do_not_send_the_others_as_often),
        cmocka_unit_test(a_flood_of_bad_messages_is_kept_in_units_of_bounded_size),
        cmocka_unit_test(an_earlier_owner_is_fenced),
        cmocka_unit_test(claim_goes_on_or_halts_with_a_cure),
        cmocka_unit_test(without_a_ledger_the_cure_names_none),
        cmocka_unit_test(without_a_ledger_a_start_is_written_into_kafka),
        cmocka_unit_test(what_was_brought_along_is_adopted_once),
        cmocka_unit_test(a_store_that_was_taken_away_halts),
        cmocka_unit_test(a_new_group_starts_where_it_is_told),
        cmocka_unit_test(a_halt_ends_the_worker_with_its_code),
        cmocka_unit_test(a_message_that_kills_is_buried_unread),
        cmocka_unit_test(a_message_under_suspicion_is_tried_alone),
        cmocka_unit_test(a_broker_that_drops_offsets_is_refused),
        cmocka_unit_test(kafka_alone_goes_on_in_the_middle_of_a_fan_out),
        cmocka_unit_test(kafka_alone_needs_no_store),
        cmocka_unit_test(postgres_alone_needs_no_sink),
    };
    int failed = cmocka_run_group_tests_name("at_least_once", tests, NULL, NULL);
    exactly = true;
    return failed + cmocka_run_group_tests_name("exactly_once", tests, NULL, NULL);
}
