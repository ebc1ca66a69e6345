/*
 * test_postgres_lookup.c - lookups read from a real server, and every type both ways.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "support/side.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

/* --- the lookup, and all types both ways --- */

static struct mr_postgres_lookup_options lookup_of(const char *table, const char *key)
{
    static const char *keys[1];
    keys[0] = key;
    return (struct mr_postgres_lookup_options){
        .name = "l", .dsn = dsn, .table = table, .keys = keys, .n_keys = 1, .distinct = true};
}

static const char types_table[] =
    "(id int, t text, v varchar(30), b bpchar(7), n name, m mood, d shortish, j json, jb jsonb, "
    "u uuid, i2 int2, i4 int4, i8 int8, bo bool, f4 float4, f8 float8, nu numeric, nm numeric(12, "
    "4), "
    "tz timestamptz, ts timestamp, da date)";

/* Rows 1 to 8: extremes and nulls; then random ones. */
static void fill_types(void)
{
    ask("INSERT INTO source VALUES "
        "(1, '', '', '', '', 'sad', '', '{}', '{}', '00000000-0000-0000-0000-000000000000', "
        "-32768, "
        "-2147483648, -9223372036854775808, false, '-infinity', '-infinity', '-infinity', 0, "
        "'-infinity', '-infinity', '-infinity'), "
        "(2, 'x', 'x', 'x', 'x', 'ok', 'x', '[ 1 ]', '[1, 2.50]', "
        "'ffffffff-ffff-ffff-ffff-ffffffffffff', 32767, 2147483647, 9223372036854775807, true, "
        "'infinity', 'infinity', 'infinity', -99999999.9999, 'infinity', 'infinity', 'infinity'), "
        "(3, E'\\n\\t\"\\\\', '\xc3\xbc', '\xe2\x82\xac', 'n', 'ok', 'y', '\"\\u0000\"', 'null', "
        "null, "
        "0, 0, 0, null, 'nan', 'nan', 'nan', null, '4714-11-24 00:00:00+00 BC', "
        "'4714-11-24 00:00:00 BC', '4714-11-24 BC'), "
        "(4, null, null, null, null, null, null, null, null, null, null, null, null, null, null, "
        "null, "
        "null, null, null, null, null), "
        "(5, '123E4567-E89B-12D3-A456-426614174000', '123e4567-e89b', 'a  ', 'b', 'sad', 'z', "
        "'1e400', '1e400', gen_random_uuid(), 1, 1, 1, true, 1.17549435e-38, "
        "2.2250738585072014e-308, "
        "0.000000000000000000000000000001, 0.0001, '294276-12-31 23:59:59.999999+00', "
        "'294276-12-31 23:59:59.999999', '5874897-12-31'), "
        "(6, repeat('long ', 20000), 'v', 'b', 'n', 'ok', 'q', '{\"a\": [true]}', '{\"b\": {\"c\": "
        "1}}', "
        "gen_random_uuid(), 2, 2, 2, false, 3.4028235e38, 1.7976931348623157e308, "
        "repeat('9', 5000)::numeric, 1, '2000-01-01 00:00:00+00', '2000-01-01', '2000-01-01'), "
        "(7, 'y', 'y', 'y', 'y', 'ok', 'y', '1', '1', gen_random_uuid(), 3, 3, 3, true, 1e-45, "
        "5e-324, "
        "('0.' || repeat('0', 3000) || '7000')::numeric, 2, '1999-12-31 23:59:59.999999+00', "
        "'1999-12-31 23:59:59.999999', '0001-01-01'), "
        "(8, 'z', 'z', 'z', 'z', 'sad', 'z', '2', '2', gen_random_uuid(), 4, 4, 4, true, 0.1, 0.1, "
        "10000000000000000000, 1.5, '1969-12-31 23:59:59.9+00', '0001-01-01 00:00:00', "
        "'2000-02-29')");
    ask("SELECT setseed(0.42)");
    ask("INSERT INTO source SELECT i, md5(random()::text), left(md5(random()::text), 1 + i %% 20), "
        "left(md5(random()::text), i %% 8), md5(i::text), (ARRAY['sad', 'ok'])[1 + i %% 2]::mood, "
        "left(md5(random()::text), i %% 4), json_build_object('k', random()), "
        "jsonb_build_object('k', i * random(), 'n', null), gen_random_uuid(), "
        "((random() - 0.5) * 60000)::int2, ((random() - 0.5) * 4e9)::int4, "
        "((random() - 0.5) * 1e18)::int8, random() < 0.5, ((random() - 0.5) * 10 ^ (i %% 60 - "
        "30))::float4, "
        "(random() - 0.5) * 10 ^ (i %% 600 - 300), "
        "((random() - 0.5) * 10 ^ (i %% 40 - 20))::numeric::numeric * (10::numeric ^ (i %% 7)), "
        "((random() - 0.5) * 1e7)::numeric(12, 4), "
        "'2000-01-01 00:00+00'::timestamptz + (random() - 0.5) * 6000 * interval '1 year', "
        "'2000-01-01'::timestamp + (random() - 0.5) * 6000 * interval '1 year', "
        "'2000-01-01'::date + ((random() - 0.5) * 2000000)::int FROM generate_series(9, 3000) i");
}

/* The value of the lookup column `i` (cells in order: keys, then the others). */
static void read_cells(const struct mr_row_ref *row, struct mr_value *values, size_t n)
{
    const uint8_t *at = mr_cell_read(row->key, &values[0]);
    at = row->cells;
    for (size_t i = 1; i < n; i++)
        at = mr_cell_read(at, &values[i]);
}

static void every_type_comes_through_unchanged(void **state)
{
    (void)state;
    fresh("t_types");
    ask("CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE DOMAIN shortish AS varchar(4) CHECK "
        "(true)");
    ask("CREATE TABLE source %s", types_table);
    ask("CREATE TABLE target %s", types_table);
    fill_types();
    struct mr_postgres_lookup_options options = lookup_of("source", "id");
    struct mr_table *table = NULL;
    struct mr_error err;
    if (!mr_postgres_lookup_load(&options, &table, &err))
        fail_msg("%s", err.msg);
    const struct mr_lookup_schema *from = mr_table_schema(table);
    assert_int_equal(from->n_columns, 21);
    assert_int_equal(mr_table_stats(table).rows, 3000);

    struct mr_store *store = connected("a", "target");
    struct mr_claim claim = claimed(store);
    const struct mr_row_schema *to = store->ops->schema(store);
    assert_int_equal(to->n, 21);
    struct mr_column_set set = {.n = 21};
    for (uint16_t i = 0; i < 21; i++)
        set.columns[i] = i;
    struct mr_buf rows = {0}, key = {0};
    struct mr_span *span = mr_span_new();
    size_t n = 0;
    for (int64_t id = 1; id <= 3000; id++) {
        struct mr_value wanted = {.type = MR_INT, .i = id}, values[21];
        struct mr_row_ref row;
        mr_buf_reset(&key);
        assert_true(mr_lookup_key(from, &wanted, &key, &err));
        struct mr_bytes one = {key.ptr, key.len};
        assert_int_equal(mr_span_open(span, table, &one, 1, (struct mr_bytes){NULL, 0}), 1);
        assert_true(mr_span_next(span, &row));
        read_cells(&row, values, 21);
        mr_buf_put_be16(&rows, 21);
        for (size_t i = 0; i < 21; i++)
            if (!to->encode(&to->columns[i], &values[i], &rows, &err))
                fail_msg("row %d: %s", (int)id, err.msg);
        n++;
    }
    begun(store, &claim, 1);
    struct mr_row_run run = {&set, {rows.ptr, rows.len}, n};
    if (!store->ops->copy(store, &run, 1, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(store->ops->commit(store, &err), MR_DECIDED);
    assert_string_equal(ask("SELECT count(*) FROM target"), "3000");
    for (size_t i = 0; i < 21; i++) {
        char first[64];
        const char *name = to->columns[i].name;
        snprintf(first, sizeof first, "%s",
                 ask("SELECT min(id) FROM source s JOIN target t USING (id) "
                     "WHERE s.%s::text IS DISTINCT FROM t.%s::text",
                     name, name));
        if (*first)
            fail_msg("%s: %s <- %s", name,
                     ask("SELECT left(%s::text, 200) FROM target WHERE id = %s", name, first),
                     "differs");
    }
    mr_span_free(span);
    mr_table_free(table);
    mr_buf_fini(&rows);
    mr_buf_fini(&key);
    store->ops->close(store);
}

static void a_query_is_described_and_read(void **state)
{
    (void)state;
    fresh("t_query");
    ask("CREATE TABLE subs AS SELECT 'r' || i %% 10 AS restaurant, i AS client, i %% 2 = 0 AS vip, "
        "point(1, 2) AS at FROM generate_series(1, 1000) i");
    ask("INSERT INTO subs VALUES (NULL, 1, true, NULL), ('r1', 1, false, NULL), ('r1', 1, false, "
        "NULL)");
    struct mr_postgres_lookup_options options = lookup_of(NULL, "restaurant");
    options.query = "select restaurant, client, vip from subs -- and a comment ; \n;  ";
    struct mr_lookup_schema *schema = NULL;
    struct mr_error err;
    if (!mr_postgres_lookup_schema(&options, &schema, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(schema->n_columns, 3);
    assert_string_equal(schema->columns[1].name, "client");
    assert_int_equal(schema->columns[1].type, MR_INT);
    assert_string_equal(schema->columns[1].type_name, "integer");
    mr_postgres_lookup_schema_free(schema);
    struct mr_table *table = NULL;
    assert_true(mr_postgres_lookup_load(&options, &table, &err));
    struct mr_table_stats stats = mr_table_stats(table);
    assert_int_equal(stats.rows_read, 1003);
    assert_int_equal(stats.null_keys, 1);
    assert_int_equal(stats.keys, 10);
    assert_int_equal(stats.rows, 1002); /* equal ones each for itself, as SELECT counts them */
    mr_table_free(table);
}

static void refuse_lookup(const struct mr_postgres_lookup_options *options, const char *says)
{
    struct mr_table *table = NULL;
    struct mr_error err = {0};
    assert_false(mr_postgres_lookup_load(options, &table, &err));
    if (!strstr(err.msg, says))
        fail_msg("%s", err.msg);
    assert_int_equal(err.action, MR_STOP);
}

static void lookups_that_cannot_be_read(void **state)
{
    (void)state;
    fresh("t_unreadable");
    ask("CREATE TABLE subs (restaurant text, client int, at point)");
    struct mr_postgres_lookup_options options = lookup_of("subs", "restaurant");
    refuse_lookup(&options, "column \"at\" has type point");
    options.columns = (const char *const[]){"clientt"};
    options.n_columns = 1;
    refuse_lookup(&options, "clientt");
    options.table = "nosuch";
    refuse_lookup(&options, "nosuch");
    options.table = NULL;
    options.query = "delete from subs returning *";
    refuse_lookup(&options, "syntax error");
    /* The first thing that is refused is what is told, not that the transaction is aborted. */
    ask("DO $$ BEGIN CREATE ROLE t_nobody; EXCEPTION WHEN duplicate_object THEN NULL; END $$");
    ask("GRANT USAGE ON SCHEMA t_unreadable TO t_nobody");
    setenv("PGOPTIONS", "-c search_path=t_unreadable -c role=t_nobody", 1);
    options = lookup_of("subs", "restaurant");
    options.columns = (const char *const[]){"client"};
    options.n_columns = 1;
    refuse_lookup(&options, "permission denied for table subs");
}

static void an_empty_table_and_wide_ones(void **state)
{
    (void)state;
    fresh("t_empty");
    ask("CREATE TABLE subs (restaurant text, client int)");
    struct mr_postgres_lookup_options options = lookup_of("subs", "restaurant");
    struct mr_table *table = NULL;
    struct mr_error err;
    assert_true(mr_postgres_lookup_load(&options, &table, &err));
    assert_int_equal(mr_table_stats(table).rows, 0);
    mr_table_free(table);
}

struct seen {
    uint64_t calls, rows, estimated;
    atomic_bool cancel;
    bool cancel_at_once;
};

static void on_progress(void *arg, uint64_t rows, uint64_t estimated, uint64_t bytes)
{
    struct seen *seen = arg;
    (void)bytes;
    seen->calls++;
    seen->rows = rows;
    seen->estimated = estimated;
    if (seen->cancel_at_once)
        atomic_store(&seen->cancel, true);
}

static void progress_is_told_and_a_load_can_be_called_off(void **state)
{
    (void)state;
    fresh("t_progress");
    ask("CREATE TABLE subs AS SELECT i AS restaurant, i AS client FROM generate_series(1, 200000) "
        "i");
    ask("ANALYZE subs");
    struct seen seen = {0};
    struct mr_postgres_lookup_options options = lookup_of("subs", "restaurant");
    options.progress = on_progress;
    options.progress_arg = &seen;
    options.cancel = &seen.cancel;
    struct mr_table *table = NULL;
    struct mr_error err;
    assert_true(mr_postgres_lookup_load(&options, &table, &err));
    mr_table_free(table);
    assert_true(seen.calls >= 1);
    assert_int_equal(seen.rows, 200000);
    assert_true(seen.estimated > 100000 && seen.estimated < 400000);
    seen.cancel_at_once = true;
    assert_false(mr_postgres_lookup_load(&options, &table, &err));
    assert_int_equal(err.action, MR_RETRY);
    assert_non_null(strstr(err.msg, "called off"));
    assert_true(seen.rows < 200000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_comes_through_unchanged),
        cmocka_unit_test(a_query_is_described_and_read),
        cmocka_unit_test(lookups_that_cannot_be_read),
        cmocka_unit_test(an_empty_table_and_wide_ones),
        cmocka_unit_test(progress_is_told_and_a_load_can_be_called_off),
    };
    return cmocka_run_group_tests(tests, side_setup, side_teardown);
}
