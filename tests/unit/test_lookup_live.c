/*
 * test_lookup_live.c - a table that is changed while it is read: core/lookup.
 *
 * Random churn against the naive model of lookup_model.h; pins, epochs, limits, compaction; a
 * writer against readers. MILLRACE_LOOKUP_ROWS sets the size of the budget test (default 200000).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/clock.h"
#include "lookup_model.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

enum { DEADLINE_MS = 60000 }; /* for readers to come by, however busy the machine is */

#define INT(v) ((struct mr_value){.type = MR_INT, .i = (v)})

/* --- random churn --- */

struct churn {
    struct model model;
    struct mr_lookup *lookup;
    struct seed *seed;
    uint64_t keys, variety;
};

static void put_row(struct churn *churn, const struct model_row *row)
{
    struct mr_value ids[2];
    char text[40];
    struct mr_error err = {0};
    size_t n = model_id(&churn->model, row->id, text, ids);
    if (!mr_lookup_put(churn->lookup, row->values, n ? ids : NULL, &err))
        fail_msg("%s", err.msg);
}

static void put_random(struct churn *churn)
{
    struct model_row row = {0};
    random_row(&churn->model, churn->seed, churn->keys, churn->variety, &row);
    put_row(churn, &row);
    model_add(&churn->model, &row);
}

static void take_row(struct churn *churn, const struct model_row *row)
{
    struct mr_value ids[2];
    char text[40];
    struct mr_error err = {0};
    size_t n = model_id(&churn->model, row->id, text, ids);
    if (!(n ? mr_lookup_take_id(churn->lookup, ids, &err)
            : mr_lookup_take(churn->lookup, row->values, &err)))
        fail_msg("%s", err.msg);
}

/* Without identities any of equal rows may go: the model's are all alike. */
static struct model_row take_random(struct churn *churn)
{
    struct model *model = &churn->model;
    size_t at = seed_below(churn->seed, model->n + model->null_keys);
    bool kept = at < model->n;
    struct model_row *row = kept ? &model->rows[at] : &model->unkept[at - model->n], gone = *row;
    take_row(churn, row);
    *row = kept ? model->rows[--model->n] : model->unkept[--model->null_keys];
    return gone;
}

static bool is_same(struct churn *churn, const struct model_row *row)
{
    struct mr_value ids[2];
    char text[40];
    struct mr_error err = {0};
    bool same = false;
    model_id(&churn->model, row->id, text, ids);
    if (!mr_lookup_same_id(churn->lookup, row->values, ids, &same, &err))
        fail_msg("%s", err.msg);
    return same;
}

/* Finds the row of an identity, changes one column, as an update that leaves out the others. */
static void update_random(struct churn *churn)
{
    struct model *model = &churn->model;
    struct mr_value ids[2], values[COLUMNS_MAX];
    char text[40];
    struct mr_error err = {0};
    bool kept = false;
    if (!model->ids || !model->n)
        return;
    size_t at = seed_below(churn->seed, model->n);
    struct model_row row = model->rows[at];
    model_id(model, row.id, text, ids);
    if (!mr_lookup_find_id(churn->lookup, ids, values, &kept, &err))
        fail_msg("%s", err.msg);
    assert_true(kept);
    for (size_t c = 0; c < model->schema.n_columns; c++)
        assert_int_equal(compare_values(&values[c], &row.values[c]), 0);
    size_t c = seed_below(churn->seed, model->schema.n_columns);
    struct model_row was = row;
    assert_true(is_same(churn, &row));
    row.values[c] = random_value(model, churn->seed, model->columns[c].type,
                                 c < model->schema.n_keys ? churn->keys : churn->variety);
    struct mr_value form = model_form(row.values[c]);
    if (c >= model->schema.n_keys)
        assert_int_equal(is_same(churn, &row), compare_values(&form, &was.values[c]) == 0);
    take_row(churn, &was);
    model->rows[at] = model->rows[--model->n];
    put_row(churn, &row);
    model_add(model, &row);
}

static void assert_live_stats(const struct churn *churn)
{
    const struct model *model = &churn->model;
    struct mr_table_stats stats = mr_lookup_stats(churn->lookup);
    struct model_row *sorted = mr_calloc(model->n + 1, sizeof *sorted);
    size_t keys = 0;
    if (model->n)
        memcpy(sorted, model->rows, model->n * sizeof *sorted);
    compare_from = 0, compare_to = model->schema.n_keys;
    qsort(sorted, model->n, sizeof *sorted, compare_model_rows);
    for (size_t i = 0; i < model->n; i++)
        keys += i == 0 || compare_model_rows(&sorted[i - 1], &sorted[i]) != 0;
    free(sorted);
    assert_int_equal(stats.rows, model->n);
    assert_int_equal(stats.keys, keys);
    assert_int_equal(stats.null_keys, model->null_keys);
}

static void change_some(struct churn *churn, uint64_t n, uint64_t puts_of_ten)
{
    for (uint64_t i = 0; i < n; i++) {
        uint64_t drawn = seed_below(churn->seed, 10);
        if (churn->model.n + churn->model.null_keys == 0 || drawn < puts_of_ten)
            put_random(churn);
        else if (drawn % 3 == 0)
            update_random(churn);
        else
            take_random(churn);
    }
}

/* Changes that are given up leave nothing behind. */
static void change_and_discard(struct churn *churn)
{
    struct model_row row = {0};
    random_row(&churn->model, churn->seed, churn->keys, churn->variety, &row);
    put_row(churn, &row);
    if (churn->model.n)
        take_row(churn, &churn->model.rows[seed_below(churn->seed, churn->model.n)]);
    mr_lookup_discard(churn->lookup);
}

static void publish(struct mr_lookup *lookup)
{
    struct mr_error err = {0};
    if (!mr_lookup_publish(lookup, &err))
        fail_msg("%s", err.msg);
}

static void compare_live(struct churn *churn, int questions)
{
    struct mr_pin pin = {0};
    assert_live_stats(churn);
    assert_true(mr_lookup_pin(churn->lookup, &pin));
    for (int i = 0; i < questions; i++)
        compare_questions(&churn->model, pin.table, churn->seed);
    mr_lookup_unpin(churn->lookup, &pin);
}

static void churn_random_table(struct seed *seed, size_t n, uint64_t keys, int rounds)
{
    struct churn churn = {.lookup = mr_lookup_new("model"), .seed = seed, .keys = keys};
    mr_arena_init(&churn.model.arena);
    random_schema(&churn.model, seed);
    churn.model.ids = (enum model_ids)seed_below(seed, IDS_KINDS);
    churn.variety = 1 + seed_below(seed, 2 * n + 20);
    mr_lookup_swap(churn.lookup, build_random(&churn.model, seed, n, 0));
    for (int i = 0; i < rounds; i++) {
        if (seed_below(seed, 4) == 0)
            change_and_discard(&churn);
        change_some(&churn, seed_below(seed, seed_below(seed, 5) ? 8 : 200), seed_below(seed, 8));
        publish(churn.lookup);
        compare_live(&churn, 3);
    }
    while (churn.model.n + churn.model.null_keys)
        take_random(&churn);
    publish(churn.lookup);
    assert_live_stats(&churn);
    mr_lookup_free(churn.lookup);
    model_free(&churn.model);
}

static void changed_tables_answer_as_the_model_does(void **state)
{
    (void)state;
    struct seed seed = seed_start("changed_tables_answer_as_the_model_does");
    for (int i = 0; i < (SANITIZED ? 30 : 100); i++)
        churn_random_table(&seed, seed_below(&seed, 200), 1 + seed_below(&seed, 30), 12);
    churn_random_table(&seed, SANITIZED ? 500 : 2000, 1, 12); /* one giant key */
}

/* --- pairs: an integer key, an integer --- */

static struct mr_lookup_column pair_columns[] = {
    {"k", MR_INT, "bigint"}, {"v", MR_INT, "bigint"}, {"filling", MR_TEXT, "text"}};
static const struct mr_lookup_schema pair_schema = {"pairs", pair_columns, 1, 2};
static const struct mr_lookup_schema wide_schema = {"pairs", pair_columns, 1, 3};

/* n rows (i % keys, i), with i as the identity if asked for. */
static struct mr_lookup *pairs(int64_t n, int64_t keys, bool identified, size_t max_bytes)
{
    struct mr_error err;
    struct mr_table *table = NULL;
    struct mr_lookup *lookup = mr_lookup_new("pairs");
    struct mr_table_builder *builder = mr_table_builder_new(&pair_schema, true, max_bytes);
    if (identified)
        mr_table_builder_identify(builder, 1);
    for (int64_t i = 0; i < n; i++) {
        struct mr_value values[] = {INT(i % keys), INT(i)};
        assert_true(identified ? mr_table_builder_add_id(builder, values, &values[1], &err)
                               : mr_table_builder_add(builder, values, &err));
    }
    assert_true(mr_table_builder_finish(builder, &table, &err));
    mr_lookup_swap(lookup, table);
    return lookup;
}

static bool put_pair(struct mr_lookup *lookup, int64_t key, int64_t value, struct mr_error *err)
{
    struct mr_value values[] = {INT(key), INT(value)};
    return mr_lookup_put(lookup, values, NULL, err);
}

static bool take_pair(struct mr_lookup *lookup, int64_t key, int64_t value, struct mr_error *err)
{
    struct mr_value values[] = {INT(key), INT(value)};
    return mr_lookup_take(lookup, values, err);
}

static size_t open_pair(struct mr_span *span, const struct mr_table *table, int64_t key)
{
    struct mr_buf cells = {0};
    struct mr_value value = INT(key);
    mr_cell_put(&cells, &value);
    struct mr_bytes bytes = {cells.ptr, cells.len};
    size_t known = mr_span_open(span, table, &bytes, 1, (struct mr_bytes){0});
    mr_buf_fini(&cells);
    return known;
}

/* How many rows are left in the span; -1: not the numbers from `next` on in steps. */
static int64_t count_steps(struct mr_span *span, int64_t next, int64_t step)
{
    struct mr_row_ref row;
    struct mr_value value;
    int64_t n = 0;
    for (; mr_span_next(span, &row); n++, next += step) {
        mr_cell_read(row.cells, &value);
        if (value.i != next)
            return -1;
    }
    return n;
}

static int64_t count_pair(struct mr_lookup *lookup, int64_t key)
{
    struct mr_pin pin = {0};
    struct mr_span *span = mr_span_new();
    struct mr_row_ref row;
    int64_t n = 0;
    assert_true(mr_lookup_pin(lookup, &pin));
    if (open_pair(span, pin.table, key))
        while (mr_span_next(span, &row))
            n++;
    mr_lookup_unpin(lookup, &pin);
    mr_span_free(span);
    return n;
}

static void a_span_stays_as_it_was_opened(void **state)
{
    (void)state;
    enum { ROWS = 3000, MORE = 400000 };
    struct mr_error err = {0};
    struct mr_lookup *lookup = pairs(ROWS, 3, false, 0);
    struct mr_span *span = mr_span_new();
    struct mr_pin pin = {0}, later = {0};
    struct mr_row_ref row;
    assert_true(put_pair(lookup, 0, ROWS, &err)); /* so that the span has several runs */
    publish(lookup);
    assert_true(mr_lookup_pin(lookup, &pin));
    assert_int_equal(open_pair(span, pin.table, 0), 1);
    for (int i = 0; i < 100; i++)
        assert_true(mr_span_next(span, &row));
    for (int64_t i = 0; i < ROWS; i += 3) { /* the key goes, in many steps */
        assert_true(take_pair(lookup, 0, i, &err));
        publish(lookup);
    }
    assert_int_equal(count_pair(lookup, 0), 1);
    for (int64_t i = 0; i < MORE; i++) /* and the table is put into a new one */
        assert_true(put_pair(lookup, 1000 + i % 1000, i, &err));
    publish(lookup);
    assert_true(mr_lookup_pin(lookup, &later));
    assert_ptr_not_equal(pin.table, later.table);
    assert_int_equal(count_steps(span, 300, 3), ROWS / 3 - 100 + 1);
    mr_lookup_unpin(lookup, &pin);
    mr_lookup_unpin(lookup, &later);
    mr_span_free(span);
    mr_lookup_free(lookup);
}

static void what_was_replaced_is_given_back_with_its_last_reader(void **state)
{
    (void)state;
    enum { ROWS = 10000 };
    struct mr_error err = {0};
    struct mr_lookup *lookup = pairs(ROWS, 100, false, 0);
    uint64_t bytes = mr_lookup_stats(lookup).bytes;
    struct mr_pin pins[2] = {0};
    assert_true(mr_lookup_pin(lookup, &pins[0]));
    for (int64_t round = 0; round < 20; round++) {
        for (int64_t i = 0; i < 50; i++)
            assert_true(put_pair(lookup, i, ROWS + round, &err));
        publish(lookup);
        if (round == 10)
            assert_true(mr_lookup_pin(lookup, &pins[1]));
    }
    for (int64_t round = 0; round < 20; round++)
        for (int64_t i = 0; i < 50; i++)
            assert_true(take_pair(lookup, i, ROWS + round, &err));
    publish(lookup);
    uint64_t waiting = mr_lookup_stats(lookup).bytes;
    assert_true(waiting > bytes + 20 * 50 * 64);
    mr_lookup_unpin(lookup, &pins[0]); /* the younger pin holds what was shown after it */
    uint64_t less = mr_lookup_stats(lookup).bytes;
    assert_true(less < waiting && less > bytes);
    mr_lookup_unpin(lookup, &pins[1]);
    assert_int_equal(mr_lookup_stats(lookup).bytes, bytes); /* all keys are as they were built */
    assert_int_equal(mr_lookup_stats(lookup).rows, ROWS);
    mr_lookup_free(lookup);
}

static void a_change_that_exceeds_max_bytes_is_not_shown(void **state)
{
    (void)state;
    enum { ROWS = 20000, LIMIT = 2 << 20 };
    struct mr_error err = {0};
    struct mr_lookup *lookup = pairs(ROWS, 100, false, LIMIT);
    int64_t n = ROWS;
    for (bool ok = true; ok;) {
        for (int i = 0; i < 500 && ok; i++)
            ok = put_pair(lookup, n % 70, n + i, &err);
        ok = ok && mr_lookup_publish(lookup, &err);
        n += ok ? 500 : 0;
        assert_true(mr_lookup_stats(lookup).bytes <= LIMIT);
        assert_int_equal(mr_lookup_stats(lookup).rows, n);
    }
    assert_int_equal(err.action, MR_STOP);
    assert_int_equal(err.code, MR_EXIT_CONFIG);
    assert_non_null(strstr(err.msg, "max_bytes"));
    assert_true(n > ROWS + 5000);
    mr_lookup_discard(lookup);
    for (int64_t i = 0; i < ROWS; i++) { /* it goes on with what has room */
        assert_true(take_pair(lookup, i % 100, i, &err));
        if (i % 500 != 499)
            continue;
        publish(lookup);
        assert_true(mr_lookup_stats(lookup).bytes <= LIMIT + LIMIT / 8);
    }
    assert_int_equal(mr_lookup_stats(lookup).rows, n - ROWS);
    mr_lookup_free(lookup);
}

static void a_table_that_has_changed_much_is_put_into_a_new_one(void **state)
{
    (void)state;
    enum { ROWS = 120000, KEYS = 1200 };
    struct mr_error err = {0};
    struct mr_lookup *lookup = pairs(ROWS, KEYS, true, 0);
    uint64_t bytes = mr_lookup_stats(lookup).bytes;
    struct mr_pin pin = {0};
    assert_true(mr_lookup_pin(lookup, &pin));
    const struct mr_table *first = pin.table;
    mr_lookup_unpin(lookup, &pin);
    bool moved = false;
    for (int64_t i = 0; i < ROWS; i++) { /* every row moves to the next key */
        struct mr_value id = INT(i), values[] = {INT((i + 1) % KEYS), INT(i)};
        assert_true(mr_lookup_take_id(lookup, &id, &err));
        assert_true(mr_lookup_put(lookup, values, &id, &err));
        if (i % 1000 != 999)
            continue;
        publish(lookup);
        assert_true(mr_lookup_stats(lookup).bytes < bytes + bytes / 2 + (2 << 20));
        assert_true(mr_lookup_pin(lookup, &pin));
        moved = moved || pin.table != first;
        mr_lookup_unpin(lookup, &pin);
    }
    assert_true(moved);
    assert_int_equal(mr_lookup_stats(lookup).rows, ROWS);
    assert_int_equal(mr_lookup_stats(lookup).keys, KEYS);
    struct mr_span *span = mr_span_new();
    assert_true(mr_lookup_pin(lookup, &pin));
    for (int64_t key = 0; key < KEYS; key++) {
        assert_int_equal(open_pair(span, pin.table, key), 1);
        assert_int_equal(count_steps(span, (key + KEYS - 1) % KEYS, KEYS), ROWS / KEYS);
    }
    mr_lookup_unpin(lookup, &pin);
    mr_span_free(span);
    mr_lookup_free(lookup);
}

/* --- what the feed must read again for --- */

static void assert_lost(struct mr_lookup *lookup, bool ok, struct mr_error *err)
{
    if (ok) /* at the latest */
        ok = mr_lookup_publish(lookup, err);
    assert_false(ok);
    assert_int_equal(err->action, MR_RECOVER);
    assert_non_null(strstr(err->msg, "pairs"));
    mr_lookup_discard(lookup);
    *err = (struct mr_error){0};
}

static void changes_that_do_not_fit_ask_for_a_new_read(void **state)
{
    (void)state;
    struct mr_error err = {0};
    struct mr_lookup *lookup = pairs(100, 10, true, 0);
    struct mr_value id = INT(7), unknown = INT(100), values[] = {INT(1), INT(7)};
    struct mr_value found[2], no_key[] = {{.type = MR_NULL}, INT(200)};
    bool kept;
    assert_lost(lookup, mr_lookup_take_id(lookup, &unknown, &err), &err);
    assert_lost(lookup, mr_lookup_find_id(lookup, &unknown, found, &kept, &err), &err);
    assert_lost(lookup, mr_lookup_put(lookup, values, &id, &err), &err);
    assert_true(mr_lookup_take_id(lookup, &id, &err));
    assert_lost(lookup, mr_lookup_take_id(lookup, &id, &err), &err);
    assert_true(mr_lookup_put(lookup, values, &unknown, &err));
    assert_lost(lookup, mr_lookup_put(lookup, values, &unknown, &err), &err);
    assert_int_equal(mr_lookup_stats(lookup).rows, 100); /* nothing of it was shown */
    assert_int_equal(count_pair(lookup, 7), 10);
    /* A row with a NULL key is not kept, its identity is. */
    assert_true(mr_lookup_put(lookup, no_key, &no_key[1], &err));
    publish(lookup);
    assert_true(mr_lookup_find_id(lookup, &no_key[1], found, &kept, &err));
    assert_false(kept);
    assert_true(mr_lookup_take_id(lookup, &no_key[1], &err));
    publish(lookup);
    assert_int_equal(mr_lookup_stats(lookup).null_keys, 0);
    mr_lookup_free(lookup);

    lookup = pairs(100, 10, false, 0);
    assert_lost(lookup, take_pair(lookup, 7, 8, &err), &err);   /* no such row */
    assert_lost(lookup, take_pair(lookup, 700, 7, &err), &err); /* no such key */
    assert_true(take_pair(lookup, 7, 7, &err));
    assert_lost(lookup, take_pair(lookup, 7, 7, &err), &err); /* not twice */
    assert_int_equal(count_pair(lookup, 7), 10);
    mr_lookup_free(lookup);
}

static void an_identity_that_was_read_twice_asks_for_a_new_read(void **state)
{
    (void)state;
    for (int64_t times = 2; times <= 1000; times *= 10) { /* many: more than a bucket holds */
        struct mr_error err = {0};
        struct mr_table *table = NULL;
        struct mr_lookup *lookup = mr_lookup_new("pairs");
        struct mr_table_builder *builder = mr_table_builder_new(&pair_schema, true, 0);
        struct mr_value id = INT(5);
        mr_table_builder_identify(builder, 1);
        for (int64_t i = 0; i < times; i++) {
            struct mr_value values[] = {INT(1), INT(i)};
            assert_true(mr_table_builder_add_id(builder, values, &id, &err));
        }
        assert_true(mr_table_builder_finish(builder, &table, &err));
        mr_lookup_swap(lookup, table);
        assert_int_equal(count_pair(lookup, 1), times);
        assert_lost(lookup, mr_lookup_take_id(lookup, &id, &err), &err);
        mr_lookup_free(lookup);
    }
}

/* Ten identities, one row: each takes one of its copies with it. */
static void doubled_rows_go_one_by_one(void **state)
{
    (void)state;
    struct mr_error err = {0};
    struct mr_table *table = NULL;
    struct mr_lookup *lookup = mr_lookup_new("pairs");
    struct mr_table_builder *builder = mr_table_builder_new(&pair_schema, true, 0);
    struct mr_value values[] = {INT(1), INT(1)};
    mr_table_builder_identify(builder, 1);
    for (int64_t i = 0; i < 10; i++) {
        struct mr_value id = INT(i);
        assert_true(mr_table_builder_add_id(builder, values, &id, &err));
    }
    assert_true(mr_table_builder_finish(builder, &table, &err));
    mr_lookup_swap(lookup, table);
    for (int64_t i = 0; i < 9; i += 3) {
        for (int64_t j = i; j < i + 3; j++) {
            struct mr_value id = INT(j);
            assert_true(mr_lookup_take_id(lookup, &id, &err));
        }
        publish(lookup);
        assert_int_equal(mr_lookup_stats(lookup).rows, 10 - i - 3);
        assert_int_equal(count_pair(lookup, 1), 1);
    }
    struct mr_value last = INT(9);
    assert_true(mr_lookup_take_id(lookup, &last, &err));
    publish(lookup);
    assert_int_equal(mr_lookup_stats(lookup).keys, 0);
    assert_int_equal(count_pair(lookup, 1), 0);
    mr_lookup_free(lookup);
}

/* --- a writer against readers --- */

enum { MOVERS = 2000, READERS = 3, FILLING = 300 };

struct moving {
    struct mr_lookup *lookup;
    atomic_bool over;
    atomic_uint wrong;
    atomic_uint_fast64_t reads;
};

static bool move_one(struct mr_lookup *lookup, int64_t who, int64_t from, int64_t to)
{
    char text[FILLING];
    struct mr_error err;
    memset(text, 'a' + (char)(who % 26), sizeof text);
    struct mr_value filling = {.type = MR_TEXT, .bytes = {text, sizeof text}}, id = INT(who);
    struct mr_value after[] = {INT(to), INT(who), filling};
    return (from < 0 || mr_lookup_take_id(lookup, &id, &err)) &&
           (to < 0 || mr_lookup_put(lookup, after, &id, &err));
}

/* Whoever moves is in one of two keys, and in both never. */
static void *watch_movers(void *arg)
{
    struct moving *moving = arg;
    struct mr_span *span = mr_span_new();
    struct mr_buf cells[2] = {0};
    struct mr_bytes keys[2];
    struct mr_row_ref row;
    struct mr_value value;
    for (int i = 0; i < 2; i++) {
        value = INT(i);
        mr_cell_put(&cells[i], &value);
        keys[i] = (struct mr_bytes){cells[i].ptr, cells[i].len};
    }
    while (!atomic_load(&moving->over)) {
        struct mr_pin pin = {0};
        if (!mr_lookup_pin(moving->lookup, &pin))
            abort();
        for (int again = 0; again < 3; again++) {
            int64_t next = 0;
            bool whole = mr_span_open(span, pin.table, keys, 2, (struct mr_bytes){0}) > 0;
            for (; mr_span_next(span, &row); next++) {
                mr_cell_read(mr_cell_read(row.cells, &value), &(struct mr_value){0});
                whole = whole && value.i == next;
            }
            if (!whole || next != MOVERS)
                atomic_fetch_add(&moving->wrong, 1);
        }
        mr_lookup_unpin(moving->lookup, &pin);
        atomic_fetch_add(&moving->reads, 1);
    }
    mr_buf_fini(&cells[0]);
    mr_buf_fini(&cells[1]);
    mr_span_free(span);
    return NULL;
}

static void readers_see_whole_transactions(void **state)
{
    (void)state;
    struct moving moving = {.lookup = mr_lookup_new("pairs")};
    struct seed seed = seed_start("readers_see_whole_transactions");
    struct mr_error err;
    struct mr_table *table = NULL;
    pthread_t readers[READERS];
    int8_t *at = mr_calloc(MOVERS, sizeof *at);
    struct mr_table_builder *builder = mr_table_builder_new(&wide_schema, false, 0);
    mr_table_builder_identify(builder, 1);
    assert_true(mr_table_builder_finish(builder, &table, &err));
    mr_lookup_swap(moving.lookup, table);
    for (int64_t who = 0; who < MOVERS; who++)
        assert_true(move_one(moving.lookup, who, -1, 0));
    publish(moving.lookup);
    for (int i = 0; i < READERS; i++)
        assert_int_equal(pthread_create(&readers[i], NULL, watch_movers, &moving), 0);
    int64_t strangers = MOVERS, tables = 0;
    const struct mr_table *last = NULL;
    for (int round = 0; round < (SANITIZED ? 200 : 500); round++) {
        uint64_t n = seed_below(&seed, 20) ? 1 + seed_below(&seed, 10) : MOVERS;
        for (uint64_t i = 0; i < n; i++) { /* now and then one moves back at once */
            size_t who = n == MOVERS ? i : seed_below(&seed, MOVERS);
            assert_true(move_one(moving.lookup, (int64_t)who, at[who], 1 - at[who]));
            at[who] = (int8_t)(1 - at[who]);
        }
        for (int i = 0; i < 20; i++, strangers++) /* keys come, so that the index grows */
            assert_true(move_one(moving.lookup, strangers, -1, 2 + strangers % 997));
        publish(moving.lookup);
        struct mr_pin pin = {0};
        assert_true(mr_lookup_pin(moving.lookup, &pin));
        tables += pin.table != last;
        last = pin.table;
        mr_lookup_unpin(moving.lookup, &pin);
        uint64_t reads = atomic_load(&moving.reads);
        int64_t deadline_ms = mr_clock_mono_ms() + DEADLINE_MS;
        while (round % 10 == 0 && atomic_load(&moving.reads) < reads + 2) {
            assert_true(mr_clock_mono_ms() < deadline_ms);
            usleep(50); /* poll */
        }
    }
    atomic_store(&moving.over, true);
    for (int i = 0; i < READERS; i++)
        pthread_join(readers[i], NULL);
    assert_int_equal(atomic_load(&moving.wrong), 0);
    assert_true(tables > 1); /* compacted under the readers */
    free(at);
    mr_lookup_free(moving.lookup);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(changed_tables_answer_as_the_model_does),
        cmocka_unit_test(a_span_stays_as_it_was_opened),
        cmocka_unit_test(what_was_replaced_is_given_back_with_its_last_reader),
        cmocka_unit_test(a_change_that_exceeds_max_bytes_is_not_shown),
        cmocka_unit_test(a_table_that_has_changed_much_is_put_into_a_new_one),
        cmocka_unit_test(changes_that_do_not_fit_ask_for_a_new_read),
        cmocka_unit_test(an_identity_that_was_read_twice_asks_for_a_new_read),
        cmocka_unit_test(doubled_rows_go_one_by_one),
        cmocka_unit_test(readers_see_whole_transactions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
