/*
 * lookup_model.h - a naive model of a lookup's table, for its tests: a list of rows of values,
 * which knows nothing of cells; and random tables of both.
 */
#ifndef MR_TESTS_LOOKUP_MODEL_H
#define MR_TESTS_LOOKUP_MODEL_H

#include "base/arena.h"
#include "base/text.h"
#include "millrace/lookup.h"
#include "seed.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { COLUMNS_MAX = 6, KEYS_ASKED_MAX = 6 };

struct model_row {
    struct mr_value values[COLUMNS_MAX];
    uint64_t copies;
    const struct model_row *shown; /* whose key is shown */
    int64_t id;
};

/* What identities are: an integer of 32 bits, any, a text, two values. */
enum model_ids { IDS_NONE, IDS_INT, IDS_BIG, IDS_TEXT, IDS_PAIR, IDS_KINDS };

struct model {
    struct mr_lookup_schema schema;
    struct mr_lookup_column columns[COLUMNS_MAX];
    bool distinct;
    struct model_row *rows;
    size_t n, cap, null_keys;
    enum model_ids ids;
    int64_t next_id;
    struct model_row *unkept; /* with a NULL key: null_keys of them */
    struct mr_arena arena;
};

/* --- the model's own idea of values --- */

static inline bool model_is_uuid(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        if (dash ? text[i] != '-' : !memchr("0123456789abcdef", text[i], 16))
            return false;
    }
    return len == 36;
}

/* The form in which a value is expected back: canonical uuid text is a uuid. */
static inline struct mr_value model_form(struct mr_value value)
{
    if (value.type != MR_TEXT || !model_is_uuid(value.bytes.ptr, value.bytes.len))
        return value;
    struct mr_value uuid = {.type = MR_UUID};
    char plain[33];
    size_t n = 0;
    for (size_t i = 0; i < 36; i++)
        if (value.bytes.ptr[i] != '-')
            plain[n++] = value.bytes.ptr[i];
    for (size_t i = 0; i < 16; i++) {
        unsigned byte;
        char pair[3] = {plain[2 * i], plain[2 * i + 1], 0};
        sscanf(pair, "%2x", &byte);
        uuid.uuid[i] = (uint8_t)byte;
    }
    return uuid;
}

static inline int sign(int64_t a, int64_t b)
{
    return (a > b) - (a < b);
}

static inline int compare_values(const struct mr_value *a, const struct mr_value *b)
{
    if (a->type != b->type) { /* the documented order of kinds in a posting */
        static const int rank[] = {
            [MR_NULL] = 0, [MR_BOOL] = 1, [MR_INT] = 2,       [MR_FLOAT] = 3, [MR_NUMERIC] = 4,
            [MR_UUID] = 5, [MR_TEXT] = 6, [MR_TIMESTAMP] = 7, [MR_DATE] = 8,  [MR_JSON] = 9};
        return sign(rank[a->type], rank[b->type]);
    }
    int order;
    switch (a->type) {
    case MR_NULL:
        return 0;
    case MR_BOOL:
        return sign(a->b, b->b);
    case MR_FLOAT:
        if (isnan(a->f) || isnan(b->f))
            return sign(isnan(a->f), isnan(b->f));
        if (a->f == b->f)
            return sign(!signbit(a->f), !signbit(b->f));
        return a->f < b->f ? -1 : 1;
    case MR_UUID:
        return memcmp(a->uuid, b->uuid, 16);
    case MR_NUMERIC:
    case MR_TEXT:
    case MR_JSON:
        order = memcmp(a->bytes.ptr, b->bytes.ptr,
                       a->bytes.len < b->bytes.len ? a->bytes.len : b->bytes.len);
        return order ? order : sign((int64_t)a->bytes.len, (int64_t)b->bytes.len);
    default:
        return sign(a->i, b->i);
    }
}

static size_t compare_from, compare_to; /* qsort has no argument for them */

static inline int compare_model_rows(const void *a, const void *b)
{
    const struct model_row *x = a, *y = b;
    int order = 0;
    for (size_t i = compare_from; i < compare_to && !order; i++)
        order = compare_values(&x->values[i], &y->values[i]);
    return order;
}

/* --- random data --- */

static inline struct mr_value random_text(struct model *model, struct seed *seed, uint64_t variety)
{
    char text[400];
    size_t len;
    uint64_t which = seed_below(seed, variety);
    switch (seed_below(seed, 6)) {
    case 0:
    case 1: /* a uuid, with digits that differ early or late */
        len = (size_t)snprintf(text, sizeof text, "%08x-0000-4000-8000-%012x",
                               (unsigned)(which & 7) * 0x11111111u, (unsigned)which);
        break;
    case 2: /* not canonical */
        len = (size_t)snprintf(text, sizeof text, "%08X-0000-4000-8000-ABCDEFABCDEF",
                               (unsigned)which);
        break;
    case 3: /* a long common beginning */
        len = (size_t)snprintf(text, sizeof text, "subscriber-%06u", (unsigned)which);
        break;
    case 4:
        len = which % 7;
        memset(text, 'a' + (int)(which % 3), len);
        break;
    default:
        len = which % 300;
        memset(text, 'x', len);
        if (len)
            text[len - 1] = '"';
    }
    return (struct mr_value){.type = MR_TEXT,
                             .bytes = {mr_arena_copy(&model->arena, text, len), len}};
}

static inline struct mr_value random_digits(struct model *model, struct seed *seed,
                                            uint64_t variety)
{
    char text[40];
    static const char *const forms[] = {"%d", "%d.0", "%d.50", "-%d.25"};
    size_t len = (size_t)snprintf(text, sizeof text, forms[seed_below(seed, 4)],
                                  (int)seed_below(seed, variety) + 1);
    return (struct mr_value){.type = MR_NUMERIC,
                             .bytes = {mr_arena_copy(&model->arena, text, len), len}};
}

static inline struct mr_value random_value(struct model *model, struct seed *seed,
                                           enum mr_type type, uint64_t variety)
{
    struct mr_value value = {.type = type};
    int64_t small = (int64_t)seed_below(seed, variety) - (int64_t)(variety / 2);
    if (seed_below(seed, 16) == 0)
        return (struct mr_value){.type = MR_NULL};
    switch (type) {
    case MR_BOOL:
        value.b = seed_below(seed, 2);
        break;
    case MR_INT:
    case MR_TIMESTAMP:
        value.i = seed_below(seed, 3) ? small : small * 0x123456789ab;
        break;
    case MR_DATE:
        value.i = small;
        break;
    case MR_FLOAT:
        value.f = seed_below(seed, 9)   ? (double)small / 4
                  : seed_below(seed, 2) ? -0.0
                                        : (double)NAN;
        break;
    case MR_NUMERIC:
        return random_digits(model, seed, variety);
    case MR_UUID:
        memset(value.uuid, (int)(small & 255), 16);
        value.uuid[15] = (uint8_t)(small >> 8);
        break;
    default:
        value = random_text(model, seed, variety);
        value.type = type;
    }
    return value;
}

static inline void random_schema(struct model *model, struct seed *seed)
{
    static const enum mr_type key_types[] = {MR_TEXT,    MR_TEXT, MR_UUID, MR_INT,      MR_FLOAT,
                                             MR_NUMERIC, MR_BOOL, MR_DATE, MR_TIMESTAMP};
    static const char *const names[COLUMNS_MAX] = {"a", "b", "c", "d", "e", "f"};
    size_t n_keys = 1 + seed_below(seed, 2);
    size_t n_columns = n_keys + seed_below(seed, COLUMNS_MAX - n_keys + 1);
    for (size_t i = 0; i < n_columns; i++) {
        enum mr_type type = i < n_keys            ? key_types[seed_below(seed, 9)]
                            : seed_below(seed, 2) ? MR_TEXT
                                                  : (enum mr_type)(1 + seed_below(seed, MR_JSON));
        model->columns[i] = (struct mr_lookup_column){names[i], type, mr_type_name(type)};
    }
    model->schema = (struct mr_lookup_schema){"model", model->columns, n_keys, n_columns};
    model->distinct = seed_below(seed, 2);
}

/* What stands for a key column's value: Postgres calls 12.50 and 12.5 equal. */
static inline struct mr_value key_form(struct model *model, struct mr_value value)
{
    if (value.type == MR_FLOAT && value.f == 0)
        value.f = 0;
    if (value.type == MR_NUMERIC) {
        char *copy = mr_arena_copy(&model->arena, value.bytes.ptr, value.bytes.len);
        size_t len = value.bytes.len;
        if (memchr(copy, '.', len)) {
            while (copy[len - 1] == '0')
                len--;
            len -= copy[len - 1] == '.';
        }
        value.bytes = (struct mr_bytes){copy, len};
    }
    return model_form(value);
}

static inline size_t model_id(const struct model *model, int64_t id, char text[40],
                              struct mr_value out[2])
{
    switch (model->ids) {
    case IDS_INT:
        out[0] = (struct mr_value){.type = MR_INT, .i = id};
        return 1;
    case IDS_BIG:
        out[0] = (struct mr_value){.type = MR_INT, .i = id % 2 ? id << 40 : -id};
        return 1;
    case IDS_TEXT:
        out[0] = (struct mr_value){.type = MR_TEXT,
                                   .bytes = {text, (size_t)snprintf(text, 40, "id-%" PRId64, id)}};
        return 1;
    case IDS_PAIR:
        out[0] = (struct mr_value){.type = MR_INT, .i = id % 5};
        out[1] = (struct mr_value){.type = MR_INT, .i = id / 5};
        return 2;
    default:
        return 0;
    }
}

/* A row as it comes: often one that is there already. */
static inline void random_row(struct model *model, struct seed *seed, uint64_t keys,
                              uint64_t variety, struct model_row *row)
{
    bool again = model->n && seed_below(seed, 5) == 0;
    if (again)
        *row = model->rows[seed_below(seed, model->n)];
    for (size_t c = 0; c < model->schema.n_columns && !again; c++)
        row->values[c] = random_value(model, seed, model->columns[c].type,
                                      c < model->schema.n_keys ? keys : variety);
    row->id = model->next_id++;
}

/* Counts or keeps a row that was given to a table. */
static inline void model_add(struct model *model, const struct model_row *row)
{
    bool null_key = false;
    for (size_t c = 0; c < model->schema.n_keys; c++)
        null_key = null_key || row->values[c].type == MR_NULL;
    if (model->n + model->null_keys >= model->cap) {
        model->cap = 2 * model->cap + 16;
        model->rows = mr_realloc(model->rows, model->cap * sizeof *model->rows);
        model->unkept = mr_realloc(model->unkept, model->cap * sizeof *model->unkept);
    }
    if (null_key) {
        model->unkept[model->null_keys++] = *row;
        return;
    }
    struct model_row *kept = &model->rows[model->n++];
    *kept = *row;
    for (size_t c = 0; c < model->schema.n_columns; c++)
        kept->values[c] =
            c < model->schema.n_keys ? key_form(model, row->values[c]) : model_form(row->values[c]);
}

static inline void model_free(struct model *model)
{
    free(model->rows);
    free(model->unkept);
    mr_arena_fini(&model->arena);
}

static inline struct mr_table *build_random(struct model *model, struct seed *seed, size_t n,
                                            size_t max_bytes)
{
    struct mr_error err;
    struct mr_table *table = NULL;
    struct mr_value ids[2];
    char text[40];
    uint64_t keys = 1 + seed_below(seed, 20), variety = 1 + seed_below(seed, 2 * n + 1);
    struct mr_table_builder *builder =
        mr_table_builder_new(&model->schema, model->distinct, max_bytes);
    if (model->ids)
        mr_table_builder_identify(builder, model_id(model, 0, text, ids));
    for (size_t i = 0; i < n; i++) {
        struct model_row row = {0};
        random_row(model, seed, keys, variety, &row);
        model_id(model, row.id, text, ids);
        assert_true(model->ids ? mr_table_builder_add_id(builder, row.values, ids, &err)
                               : mr_table_builder_add(builder, row.values, &err));
        model_add(model, &row);
    }
    assert_true(mr_table_builder_finish(builder, &table, &err));
    return table;
}

/* --- comparing --- */

/* The rows that the model gives for a list of keys (rows of the model whose keys are asked for). */
static inline size_t ask_model(const struct model *model, const struct model_row *const *asked,
                               size_t n_asked, const struct mr_value *cursor,
                               struct model_row *found)
{
    size_t n = 0, kept = 0, n_keys = model->schema.n_keys, n_columns = model->schema.n_columns;
    for (size_t k = 0; k < n_asked; k++) {
        size_t from = n, to = n;
        for (size_t i = 0; i < model->n; i++) {
            compare_from = 0, compare_to = n_keys;
            if (compare_model_rows(asked[k], &model->rows[i]) != 0)
                continue;
            found[n] = model->rows[i];
            found[n].copies = 1;
            found[n++].shown = asked[k];
        }
        compare_from = n_keys, compare_to = n_columns;
        qsort(found + from, n - from, sizeof *found, compare_model_rows);
        for (size_t i = from; i < n; i++) {
            if (i > from && compare_model_rows(&found[to - 1], &found[i]) == 0)
                found[to - 1].copies++;
            else
                found[to++] = found[i];
        }
        n = to;
    }
    /* Stable merge of the keys' rows: an insertion sort keeps the order of the list among equals.
     */
    for (size_t i = 1; i < n; i++) {
        struct model_row moving = found[i];
        size_t at = i;
        for (; at && compare_model_rows(&found[at - 1], &moving) > 0; at--)
            found[at] = found[at - 1];
        found[at] = moving;
    }
    for (size_t i = 0; i < n; i++) {
        if (cursor &&
            (n_columns == n_keys || compare_values(&found[i].values[n_keys], cursor) <= 0))
            continue;
        if (model->distinct && kept && compare_model_rows(&found[kept - 1], &found[i]) == 0)
            continue;
        found[kept++] = found[i];
    }
    return kept;
}

static inline void assert_cells(const uint8_t *cells, const struct mr_value *values, size_t n)
{
    struct mr_value value;
    for (size_t i = 0; i < n; i++) {
        cells = mr_cell_read(cells, &value);
        assert_int_equal(compare_values(&value, &values[i]), 0);
    }
}

static inline void assert_span(const struct model *model, struct mr_span *span,
                               const struct model_row *found, size_t n)
{
    size_t n_keys = model->schema.n_keys, n_cells = model->schema.n_columns - n_keys;
    struct mr_row_ref row;
    for (size_t i = 0; i < n; i++) {
        assert_true(mr_span_next(span, &row));
        assert_cells(row.key, found[i].shown->values, n_keys);
        assert_cells(row.cells, found[i].values + n_keys, n_cells);
        assert_int_equal(row.copies, model->distinct ? 1 : found[i].copies);
        bool new_row_key = i == 0 || (n_cells && compare_values(&found[i - 1].values[n_keys],
                                                                &found[i].values[n_keys]) != 0);
        assert_int_equal(row.new_row_key, new_row_key);
    }
    assert_false(mr_span_next(span, &row));
    assert_false(mr_span_next(span, &row));
}

/* Asks for random keys: from the start, and after the row key of every row. */
static inline void compare_questions(struct model *model, const struct mr_table *table,
                                     struct seed *seed)
{
    const struct model_row *asked[KEYS_ASKED_MAX];
    struct mr_buf packed[KEYS_ASKED_MAX] = {0};
    struct mr_bytes keys[KEYS_ASKED_MAX];
    struct mr_error err;
    struct mr_span *span = mr_span_new();
    struct model_row *found = mr_calloc(KEYS_ASKED_MAX * model->n + 1, sizeof *found);
    struct model_row *all = mr_calloc(KEYS_ASKED_MAX * model->n + 1, sizeof *all);
    struct mr_buf cursor = {0};
    size_t n_asked = 0, wanted = 1 + seed_below(seed, KEYS_ASKED_MAX);
    for (size_t tries = 0; n_asked < wanted && tries < 20 && model->n; tries++) {
        const struct model_row *row = &model->rows[seed_below(seed, model->n)];
        bool repeated = false;
        compare_from = 0, compare_to = model->schema.n_keys;
        for (size_t i = 0; i < n_asked; i++)
            repeated = repeated || compare_model_rows(asked[i], row) == 0;
        if (!repeated)
            asked[n_asked++] = row;
    }
    for (size_t i = 0; i < n_asked; i++) {
        assert_true(mr_lookup_key(&model->schema, asked[i]->values, &packed[i], &err));
        keys[i] = (struct mr_bytes){packed[i].ptr, packed[i].len};
        assert_int_equal(mr_cells_count(keys[i]), model->schema.n_keys);
    }
    size_t n = ask_model(model, asked, n_asked, NULL, all);
    assert_int_equal(mr_span_open(span, table, keys, n_asked, (struct mr_bytes){0}), n_asked);
    assert_span(model, span, all, n);
    for (size_t i = 0; i < n && model->schema.n_columns > model->schema.n_keys; i += 1 + n / 40) {
        const struct mr_value *at = &all[i].values[model->schema.n_keys];
        size_t left = ask_model(model, asked, n_asked, at, found);
        mr_buf_reset(&cursor);
        mr_cell_put(&cursor, at);
        mr_span_open(span, table, keys, n_asked, (struct mr_bytes){cursor.ptr, cursor.len});
        assert_span(model, span, found, left);
    }
    for (size_t i = 0; i < KEYS_ASKED_MAX; i++)
        mr_buf_fini(&packed[i]);
    mr_buf_fini(&cursor);
    mr_span_free(span);
    free(found);
    free(all);
}

#endif
