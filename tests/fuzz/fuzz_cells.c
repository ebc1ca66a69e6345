/*
 * fuzz_cells.c - cells as they come back from the ledger, and tables of the values in them.
 *
 * mr_cells_count is the guard: what it counts can be read, skipped and compared, and ends where it
 * said. The values, taken two by two as rows, are found again in a table by their key.
 */
#include "fuzz.h"

#include "millrace/lookup.h"

enum { CELLS_MAX = 64 };

/* Reading, skipping and writing agree about each cell. */
static size_t read_all(struct mr_bytes cells, struct mr_value *values, size_t n)
{
    const uint8_t *at = (const uint8_t *)cells.ptr, *end = at + cells.len, *before = NULL;
    struct mr_buf again = {0};
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        struct mr_value value, copy;
        const uint8_t *next = mr_cell_read(at, &value);
        FUZZ_CHECK(next <= end && next == mr_cell_skip(at), "cell %zu", i);
        FUZZ_CHECK(mr_cell_compare(at, at) == 0, "cell %zu is not itself", i);
        if (before)
            FUZZ_CHECK(mr_cell_compare(before, at) == -mr_cell_compare(at, before) ||
                           mr_cell_compare(before, at) * mr_cell_compare(at, before) < 0,
                       "cells %zu and %zu have two orders", i - 1, i);
        mr_buf_reset(&again);
        mr_cell_put(&again, &value);
        FUZZ_CHECK(mr_cells_count((struct mr_bytes){again.ptr, again.len}) == 1, "cell %zu", i);
        mr_cell_read((const uint8_t *)again.ptr, &copy);
        FUZZ_CHECK(copy.type == value.type || value.type == MR_TEXT, "cell %zu", i);
        if (kept < CELLS_MAX)
            values[kept++] = value;
        before = at;
        at = next;
    }
    FUZZ_CHECK(at == end, "%zu bytes are left", (size_t)(end - at));
    mr_buf_fini(&again);
    return kept;
}

static void find_row(const struct mr_table *table, const struct mr_value *row)
{
    struct mr_span *span = mr_span_new();
    struct mr_lookup_column column = {"k", row[0].type, "any"};
    struct mr_lookup_schema schema = {"fuzz", &column, 1, 1};
    struct mr_buf key = {0};
    struct mr_error err = {0};
    FUZZ_CHECK(mr_lookup_key(&schema, row, &key, &err), "%s", err.msg);
    struct mr_bytes keys[1] = {{key.ptr, key.len}};
    struct mr_row_ref at;
    size_t n = 0, known = mr_span_open(span, table, keys, 1, (struct mr_bytes){0});
    FUZZ_CHECK(known == (row[0].type != MR_NULL), "a %s key", mr_type_name(row[0].type));
    while (mr_span_next(span, &at))
        n++;
    FUZZ_CHECK(!known == !n, "%zu rows", n);
    mr_span_free(span);
    mr_buf_fini(&key);
}

static void build_table(const struct mr_value *values, size_t n)
{
    struct mr_lookup_column columns[] = {{"k", MR_TEXT, "text"}, {"v", MR_TEXT, "text"}};
    struct mr_lookup_schema schema = {"fuzz", columns, 1, 2};
    struct mr_error err = {0};
    struct mr_table *table = NULL;
    struct mr_table_builder *builder = mr_table_builder_new(&schema, n % 4 < 2, 0);
    for (size_t i = 0; i + 1 < n; i += 2)
        FUZZ_CHECK(mr_table_builder_add(builder, &values[i], &err), "%s", err.msg);
    FUZZ_CHECK(mr_table_builder_finish(builder, &table, &err), "%s", err.msg);
    for (size_t i = 0; i + 1 < n; i += 2)
        find_row(table, &values[i]);
    mr_table_free(table);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mr_bytes cells = {(const char *)data, size};
    struct mr_value values[CELLS_MAX];
    size_t n = mr_cells_count(cells);
    if (n)
        build_table(values, read_all(cells, values, n));
    return 0;
}
