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

#include "lookup_model.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

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
    take_row(churn, &row);
    model->rows[at] = model->rows[--model->n];
    size_t c = seed_below(churn->seed, model->schema.n_columns);
    row.values[c] = random_value(model, churn->seed, model->columns[c].type,
                                 c < model->schema.n_keys ? churn->keys : churn->variety);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(changed_tables_answer_as_the_model_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
