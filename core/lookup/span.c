/*
 * span.c - the rows of one message: the postings of its keys, merged in row-key order.
 *
 * One thread. Owns its cursors; borrows the table while it is read. One key, the usual case, is a
 * walk over contiguous bytes; several keys are a heap of such walks. Nothing is copied. Must not
 * know units or chunks. Tests: tests/unit/test_lookup.c.
 */
#include "lookup/table.h"
#include "lookup/walk.h"

#include <stdlib.h>

struct mr_span {
    bool distinct;
    struct walks heap;
    size_t cap;
    bool several;        /* more than one key had rows */
    const uint8_t *last; /* the row given before */
    bool first_pending;  /* walks[0] has not been given yet */
};

struct mr_span *mr_span_new(void)
{
    return mr_calloc(1, sizeof(struct mr_span));
}

void mr_span_free(struct mr_span *span)
{
    if (!span)
        return;
    free(span->heap.walks);
    free(span);
}

/* Steps to the first row after the cursor; false if there is none. */
static bool walk_seek(struct walk *walk, const uint8_t *cursor, size_t n_cells)
{
    if (!n_cells)
        return false; /* rows without a column have no row key: what was considered is all there is
                       */
    if (!walk->stride) {
        while (walk_step(walk, n_cells))
            if (mr_cell_compare(walk->at, cursor) > 0)
                return true;
        return false;
    }
    uint64_t low = 0, high = walk->left;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        if (mr_cell_compare(walk->next + middle * walk->stride, cursor) > 0)
            high = middle;
        else
            low = middle + 1;
    }
    walk->next += low * walk->stride;
    walk->left -= low;
    return walk_step(walk, n_cells);
}

size_t mr_span_open(struct mr_span *span, const struct mr_table *table, const struct mr_bytes *keys,
                    size_t n, struct mr_bytes cursor)
{
    size_t known = 0;
    span->heap.n_cells = table->n_row_cells;
    span->heap.n = 0;
    span->distinct = table->distinct;
    span->last = NULL;
    span->first_pending = true;
    if (span->cap < n) {
        span->heap.walks = mr_realloc(span->heap.walks, n * sizeof *span->heap.walks);
        span->cap = n;
    }
    for (size_t i = 0; i < n; i++) {
        struct mr_posting posting;
        if (!mr_table_find(table, keys[i], &posting))
            continue;
        known++;
        struct walk walk = {.key = posting.key,
                            .next = posting.rows,
                            .left = posting.n,
                            .stride = posting.stride,
                            .copies = 1,
                            .order = (uint32_t)i};
        if (cursor.ptr ? walk_seek(&walk, (const uint8_t *)cursor.ptr, span->heap.n_cells)
                       : walk_step(&walk, span->heap.n_cells))
            span->heap.walks[span->heap.n++] = walk;
    }
    mr_walks_order(&span->heap);
    span->several = span->heap.n > 1;
    return known;
}

bool mr_span_next(struct mr_span *span, struct mr_row_ref *row)
{
    struct walks *heap = &span->heap;
    do {
        if (span->first_pending)
            span->first_pending = false;
        else if (heap->n)
            walks_step(heap);
        if (!heap->n)
            return false;
        /* Within a posting rows differ: only several keys can bring the same row again. */
    } while (span->distinct && span->several && span->last &&
             cells_compare(heap->walks[0].at, span->last, heap->n_cells) == 0);
    const struct walk *first = &heap->walks[0];
    row->key = first->key;
    row->cells = first->at;
    row->copies = span->distinct ? 1 : (uint32_t)first->copies;
    row->new_row_key =
        !span->last || (heap->n_cells && mr_cell_compare(first->at, span->last) != 0);
    span->last = first->at;
    return true;
}
