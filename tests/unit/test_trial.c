/*
 * test_trial.c - messages through a trial: what is shown is what the engine would send and write.
 * Scripts and tables are those of support/memory.h.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "stream/anyrow.h"
#include "stream/trial.h"
#include "support/memory.h"

#include <stdio.h>

struct bench {
    struct mr_lookup *lookup;
    struct mr_lookup_schema *columns;
    struct mr_anyrow *any;
    struct mr_script *script;
    struct mr_trial_options options;
    struct mr_trial *trial;
    struct mr_buf seen; /* "key|value|b;" of each output */
    struct mr_trial_result result;
    struct mr_error err;
};

static void note(void *arg, const struct mr_trial_output *output)
{
    struct bench *bench = arg;
    const char *at = NULL;
    assert_true(output->has_message && output->has_row);
    mr_trial_field(output->row, &at);
    struct mr_bytes b = mr_trial_field(output->row, &at);
    mr_buf_printf(&bench->seen, "%.*s|%.*s|%.*s;", (int)output->key.len, output->key.ptr,
                  (int)output->value.len, output->value.ptr, (int)b.len, b.ptr);
}

static void bench_init(struct bench *bench, int rows_per_key, uint32_t chunk, uint64_t max)
{
    struct mr_pin pin = {0};
    *bench = (struct bench){.lookup = mem_lookup(rows_per_key)};
    assert_true(mr_lookup_pin(bench->lookup, &pin));
    bench->columns = mr_lookup_schema_copy(mr_table_schema(pin.table));
    mr_lookup_unpin(bench->lookup, &pin);
    struct mem_world world;
    mem_world_init(&world);
    struct mr_store *store = mem_store(&world);
    bench->script = mem_script(bench->columns, true);
    bench->options = (struct mr_trial_options){
        .script = bench->script,
        .lookup = bench->lookup,
        .columns = bench->columns,
        .rows = store->ops->schema(store),
        .chunk_outputs = chunk,
        .outputs_max = max,
        .output = note,
        .arg = bench,
    };
    bench->trial = mr_trial_new(&bench->options);
    store->ops->close(store);
    mem_world_fini(&world);
}

static void bench_fini(struct bench *bench)
{
    mr_trial_free(bench->trial);
    bench->script->ops->close(bench->script);
    mr_lookup_free(bench->lookup); /* aborts if something is still pinned */
    mr_lookup_schema_free(bench->columns);
    mr_buf_fini(&bench->seen);
}

static enum mr_verdict run(struct bench *bench, const char *value)
{
    struct mr_record rec = {.topic = "in", .offset = 7, .value = mr_bytes_of(value)};
    mr_buf_reset(&bench->seen);
    return mr_trial_run(bench->trial, &rec, 1000, &bench->result, &bench->err);
}

static void messages_and_rows_of_one_joined_row_come_together(void **state)
{
    struct bench bench;
    (void)state;
    bench_init(&bench, 2, 0, 0);
    assert_int_equal(run(&bench, "a hello"), MR_VERDICT_EMIT);
    assert_string_equal(mr_buf_cstr(&bench.seen),
                        "a-0000|hello:a-0000|a-0000;a-0001|hello:a-0001|a-0001;");
    assert_int_equal(bench.result.n_outputs, 2);
    assert_int_equal(bench.result.n_keys, 1);
    bench_fini(&bench);
}

static void a_fan_out_goes_on_from_chunk_to_chunk(void **state)
{
    struct bench whole, chunked;
    (void)state;
    bench_init(&whole, 500, 0, 0);
    bench_init(&chunked, 500, 7, 0);
    assert_int_equal(run(&whole, "b x"), MR_VERDICT_EMIT);
    assert_int_equal(run(&chunked, "b x"), MR_VERDICT_EMIT);
    assert_int_equal(chunked.result.n_outputs, 500);
    assert_false(chunked.result.cut);
    assert_string_equal(mr_buf_cstr(&whole.seen), mr_buf_cstr(&chunked.seen));
    /* Nothing of it is left for the next message. */
    assert_int_equal(run(&chunked, "a y"), MR_VERDICT_EMIT);
    assert_int_equal(chunked.result.n_outputs, 500);
    bench_fini(&whole);
    bench_fini(&chunked);
}

static void outputs_are_cut_where_no_more_are_wanted(void **state)
{
    struct bench bench;
    (void)state;
    bench_init(&bench, 500, 0, 3);
    assert_int_equal(run(&bench, "c x"), MR_VERDICT_EMIT);
    assert_int_equal(bench.result.n_outputs, 3);
    assert_true(bench.result.cut);
    assert_int_equal(run(&bench, "drop it"), MR_VERDICT_DROP);
    assert_false(bench.result.cut);
    bench_fini(&bench);
}

static void a_fan_out_is_cut_when_time_is_over_or_somebody_stops_it(void **state)
{
    struct bench bench;
    atomic_bool stop;
    (void)state;
    bench_init(&bench, 500, 7, 0);
    struct mr_trial_options options = bench.options;
    mr_trial_free(bench.trial);
    options.deadline_mono_ms = 1;
    bench.trial = mr_trial_new(&options);
    assert_int_equal(run(&bench, "b x"), MR_VERDICT_EMIT);
    assert_int_equal(bench.result.n_outputs, 7);
    assert_true(bench.result.cut);
    mr_trial_free(bench.trial);
    options.deadline_mono_ms = 0;
    options.stop = &stop;
    atomic_init(&stop, true);
    bench.trial = mr_trial_new(&options);
    assert_int_equal(run(&bench, "b x"), MR_VERDICT_EMIT);
    assert_int_equal(bench.result.n_outputs, 7);
    assert_true(bench.result.cut);
    bench_fini(&bench);
}

static void verdicts_are_those_of_the_engine(void **state)
{
    struct bench bench;
    (void)state;
    bench_init(&bench, 1, 0, 0);
    assert_int_equal(run(&bench, "drop late"), MR_VERDICT_DROP);
    assert_string_equal(bench.result.reason, "late");
    assert_int_equal(run(&bench, "nobody x"), MR_VERDICT_DROP);
    assert_string_equal(bench.result.reason, "no_rows");
    assert_int_equal(run(&bench, "bad luck"), MR_VERDICT_REJECT);
    assert_string_equal(bench.err.class_, "script");
    assert_string_equal(bench.err.msg, "luck");
    assert_int_equal(run(&bench, "a fine"), MR_VERDICT_EMIT);
    bench_fini(&bench);
}

static void a_table_of_other_columns_is_refused(void **state)
{
    struct bench bench;
    (void)state;
    bench_init(&bench, 1, 0, 0);
    struct mr_lookup_column *columns = (struct mr_lookup_column *)(uintptr_t)bench.columns->columns;
    columns[0].type = MR_INT;
    assert_int_equal(run(&bench, "a x"), MR_VERDICT_RETRY);
    assert_string_equal(bench.err.msg, "the lookup's columns have changed");
    columns[0].type = MR_TEXT;
    assert_int_equal(run(&bench, "a x"), MR_VERDICT_EMIT);
    bench_fini(&bench);
}

static void any_row_takes_any_name_and_shows_what_it_took(void **state)
{
    struct mr_anyrow *any = mr_anyrow_new("t");
    const struct mr_row_schema *schema = mr_anyrow_schema(any);
    struct mr_buf field = {0}, text = {0};
    struct mr_error err;
    (void)state;
    assert_true(schema->add(schema, "x"));
    assert_string_equal(schema->columns[0].name, "x");
    const struct {
        struct mr_value value;
        const char *shown;
    } cases[] = {
        {{.type = MR_INT, .i = -7}, "-7"},
        {{.type = MR_BOOL, .b = true}, "true"},
        {{.type = MR_FLOAT, .f = 0.5}, "0.5"},
        {{.type = MR_NUMERIC, .bytes = {"1.50", 4}}, "1.50"},
        {{.type = MR_TEXT, .bytes = {"a\"b", 3}}, "\"a\\\"b\""},
        {{.type = MR_JSON, .bytes = {"[1]", 3}}, "[1]"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        mr_buf_reset(&field);
        mr_buf_reset(&text);
        assert_true(schema->encode(&schema->columns[0], &cases[i].value, &field, &err));
        assert_true(schema->show(&schema->columns[0],
                                 (struct mr_bytes){field.ptr + 4, field.len - 4}, &text));
        assert_string_equal(mr_buf_cstr(&text), cases[i].shown);
    }
    struct mr_value nan = {.type = MR_FLOAT, .f = __builtin_nan("")};
    assert_false(schema->encode(&schema->columns[0], &nan, &field, &err));
    assert_string_equal(err.class_, "schema");
    for (int i = 1; i < MR_ROW_COLUMNS_MAX; i++) {
        char name[16];
        snprintf(name, sizeof name, "c%d", i);
        assert_true(schema->add(schema, name));
    }
    assert_false(schema->add(schema, "one too many"));
    mr_buf_fini(&field);
    mr_buf_fini(&text);
    mr_anyrow_free(any);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_and_rows_of_one_joined_row_come_together),
        cmocka_unit_test(a_fan_out_goes_on_from_chunk_to_chunk),
        cmocka_unit_test(outputs_are_cut_where_no_more_are_wanted),
        cmocka_unit_test(a_fan_out_is_cut_when_time_is_over_or_somebody_stops_it),
        cmocka_unit_test(verdicts_are_those_of_the_engine),
        cmocka_unit_test(a_table_of_other_columns_is_refused),
        cmocka_unit_test(any_row_takes_any_name_and_shows_what_it_took),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
