/*
 * madeup.c - a lookup's table that nobody has: rows of made-up texts, for `millrace bench`.
 *
 * Main thread. Owns what it builds until it is given away. A value is a uuid that holds the number
 * of its row: as long as ids are, and none comes twice. Must not know messages. Tests:
 * tests/spec/bench_command_spec.lua.
 */
#include "cli/madeup.h"

#include "base/text.h"
#include "cli/settings.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { UUID_SIZE = 37 };

bool mr_madeup_schema(const struct mr_node *node, struct mr_lookup_schema **out,
                      struct mr_error *err)
{
    struct mr_names keys = mr_settings_names(mr_node_at(node, "key"));
    struct mr_names columns = mr_settings_names(mr_node_at(node, "columns"));
    size_t n = keys.n + columns.n;
    struct mr_lookup_column *list = mr_calloc(n + 1, sizeof *list);
    struct mr_lookup_schema schema = {node->name, list, keys.n, n};
    bool ok = columns.n > 0;
    if (!ok)
        mr_error_set(err, MR_STOP, MR_EXIT_USAGE,
                     "lookups.%s names no `columns`, so that no rows can be made up for it: give "
                     "its rows with --rows FILE (.csv or .jsonl), or name them",
                     node->name);
    for (size_t i = 0; ok && i < n; i++)
        list[i] = (struct mr_lookup_column){i < keys.n ? keys.items[i] : columns.items[i - keys.n],
                                            MR_TEXT, "text"};
    if (ok)
        *out = mr_lookup_schema_copy(&schema);
    free(list);
    free(keys.items);
    free(columns.items);
    return ok;
}

void mr_madeup_keys_add(struct mr_madeup_keys *keys, struct mr_bytes key)
{
    if (keys->n == keys->cap) {
        keys->cap = keys->cap ? 2 * keys->cap : 64;
        keys->items = mr_realloc(keys->items, keys->cap * sizeof *keys->items);
    }
    char *copy = mr_calloc(1, key.len + 1);
    memcpy(copy, key.ptr, key.len);
    keys->items[keys->n++] = (struct mr_bytes){copy, key.len};
}

void mr_madeup_keys_fini(struct mr_madeup_keys *keys)
{
    for (size_t i = 0; i < keys->n; i++)
        free((char *)(uintptr_t)keys->items[i].ptr);
    free(keys->items);
}

static int compare(const void *a, const void *b)
{
    const struct mr_bytes *x = a, *y = b;
    int order = memcmp(x->ptr, y->ptr, x->len < y->len ? x->len : y->len);
    return order ? order : (x->len > y->len) - (x->len < y->len);
}

static void leave_each_once(struct mr_madeup_keys *keys)
{
    size_t kept = 0;
    if (keys->n)
        qsort(keys->items, keys->n, sizeof *keys->items, compare);
    for (size_t i = 0; i < keys->n; i++) {
        if (kept && compare(&keys->items[i], &keys->items[kept - 1]) == 0)
            free((char *)(uintptr_t)keys->items[i].ptr);
        else
            keys->items[kept++] = keys->items[i];
    }
    keys->n = kept;
}

/* Spread, so that neighbours in number are none in order. */
static struct mr_value text(char out[UUID_SIZE], uint64_t number)
{
    snprintf(out, UUID_SIZE, "%08" PRIx32 "-%04x-4000-8000-%012" PRIx64,
             (uint32_t)(number * UINT32_C(2654435761)), (unsigned)(number >> 48) & 0xffff,
             number & UINT64_C(0xffffffffffff));
    return (struct mr_value){.type = MR_TEXT, .bytes = {out, UUID_SIZE - 1}};
}

/* The key columns of key number k. Texts lie in `texts`. */
static void put_key(const struct mr_lookup_schema *schema, const struct mr_madeup_keys *keys,
                    uint64_t k, char (*texts)[UUID_SIZE], struct mr_value *values)
{
    const uint8_t *at = k < keys->n ? (const uint8_t *)keys->items[k].ptr : NULL;
    for (size_t i = 0; i < schema->n_keys; i++)
        if (at)
            at = mr_cell_read(at, &values[i]);
        else
            values[i] = text(texts[i], k);
}

bool mr_madeup_lookup(const char *name, const struct mr_lookup_schema *schema,
                      struct mr_madeup_keys *keys, uint64_t n, uint64_t each,
                      struct mr_lookup **out, struct mr_error *err)
{
    struct mr_value *values = mr_calloc(schema->n_columns, sizeof *values);
    char(*texts)[UUID_SIZE] = mr_calloc(schema->n_columns, sizeof *texts);
    struct mr_table_builder *builder = mr_table_builder_new(schema, true, 0);
    struct mr_table *table;
    bool ok = true;
    leave_each_once(keys);
    if (!each)
        each = keys->n ? (n + keys->n - 1) / keys->n : 1;
    for (uint64_t i = 0; ok && i < n; i++) {
        put_key(schema, keys, i / each, texts, values);
        for (size_t c = schema->n_keys; c < schema->n_columns; c++)
            values[c] = text(texts[c], i);
        ok = mr_table_builder_add(builder, values, err);
    }
    if (ok) {
        ok = mr_table_builder_finish(builder, &table, err);
        builder = NULL;
    }
    if (ok) {
        *out = mr_lookup_new(name);
        mr_lookup_swap(*out, table);
    }
    mr_table_builder_free(builder);
    free(values);
    free(texts);
    return ok;
}
