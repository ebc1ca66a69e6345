/*
 * span.c - the rows of one message: the postings of its keys, merged in row-key order.
 *
 * One thread. Owns its cursors; borrows the table while it is read. One key, the usual case, is a
 * walk over contiguous bytes; several keys, and keys that have changed, are a heap of such walks.
 * Nothing is copied. Must not know units or chunks. Tests: tests/unit/test_lookup.c.
 */
#include "lookup/table.h"
#include "lookup/walk.h"

#include <sched.h>
#include <stdlib.h>

struct mr_span {
    bool distinct;
    struct walks heap;
    size_t cap;
    bool several;        /* keys, known ones */
    bool merges;         /* more than one run has rows: of several keys, or changes */
    const uint8_t *last; /* the row given before */
    bool first_pending;  /* without merging: walks[0] has not been given yet */
};

struct span_opening {
    struct mr_span *span;
    const uint8_t *cursor;
    size_t order; /* of the key */
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
    uint64_t low = 0, high = walk->left, mark = walk->marked ? MARK_LEN : 0;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        if (mr_cell_compare(walk->next + middle * walk->stride + mark, cursor) > 0)
            high = middle;
        else
            low = middle + 1;
    }
    walk->next += low * walk->stride;
    walk->left -= low;
    return walk_step(walk, n_cells);
}

static void add_run(struct span_opening *opening, const struct posting *run, const uint8_t *key)
{
    struct mr_span *span = opening->span;
    struct walks *heap = &span->heap;
    struct walk walk = walk_of(run, opening->order);
    walk.key = key;
    if (opening->cursor ? !walk_seek(&walk, opening->cursor, heap->n_cells)
                        : !walk_step(&walk, heap->n_cells))
        return;
    if (heap->n == span->cap) {
        span->cap = span->cap ? 2 * span->cap : 4;
        heap->walks = mr_realloc(heap->walks, span->cap * sizeof *heap->walks);
    }
    heap->walks[heap->n++] = walk;
}

static bool add_key(struct span_opening *opening, const struct mr_table *table,
                    const struct index *index, struct mr_bytes key)
{
    size_t at;
    uint64_t slot =
        mr_table_look(table, index, mr_table_hash(table->seed, key.ptr, key.len), key, &at);
    if (!slot)
        return false;
    const struct version *version = slot_version(slot);
    struct posting first = posting_read(slot_first(table, slot), key.len);
    add_run(opening, &first, first.key);
    for (uint32_t i = 1; version && i < version->n_runs; i++) {
        struct posting run = changes_read(version->runs[i]);
        add_run(opening, &run, first.key);
    }
    opening->span->merges = opening->span->merges || (version && version->n_runs > 1);
    return true;
}

/* Slots are stored while the sequence is odd: several that are read meanwhile may be of two
 * moments. */
static unsigned sequence_load(const struct mr_table *table)
{
    return atomic_load_explicit(&((struct mr_table *)(uintptr_t)table)->sequence,
                                memory_order_acquire);
}

size_t mr_span_open(struct mr_span *span, const struct mr_table *table, const struct mr_bytes *keys,
                    size_t n, struct mr_bytes cursor)
{
    struct span_opening opening = {.span = span, .cursor = (const uint8_t *)cursor.ptr};
    size_t known;
    unsigned before = 0;
    span->heap.n_cells = table->n_row_cells;
    span->distinct = table->distinct;
    span->last = NULL;
    span->first_pending = true;
    do {
        while (n > 1 && (before = sequence_load(table)) & 1)
            sched_yield();
        const struct index *index = table_index(table);
        span->heap.n = known = 0;
        span->merges = false;
        for (opening.order = 0; opening.order < n; opening.order++)
            known += add_key(&opening, table, index, keys[opening.order]);
    } while (n > 1 && sequence_load(table) != before);
    if (span->heap.n > 1)
        mr_walks_order(&span->heap);
    span->merges = span->merges || span->heap.n > 1;
    span->several = known > 1;
    return known;
}

/* Takes the first row, and the equal ones of the same key; what is left over of them. */
static int64_t take_row(struct walks *heap, struct mr_row_ref *row)
{
    const struct walk *first = &heap->walks[0];
    int64_t copies = first->copies;
    uint32_t order = first->order;
    row->key = first->key;
    row->cells = first->at;
    for (walks_step(heap); heap->n && heap->walks[0].order == order &&
                           cells_compare(heap->walks[0].at, row->cells, heap->n_cells) == 0;
         walks_step(heap))
        copies += heap->walks[0].copies;
    return copies;
}

/* Several keys can bring the same row, several runs of a key a row that is gone. */
static bool merge_next(struct mr_span *span, struct mr_row_ref *row, int64_t *copies)
{
    do {
        if (!span->heap.n)
            return false;
        *copies = take_row(&span->heap, row);
    } while (*copies <= 0 || (span->several && span->distinct && span->last &&
                              cells_compare(row->cells, span->last, span->heap.n_cells) == 0));
    return true;
}

static bool walk_next(struct mr_span *span, struct mr_row_ref *row, int64_t *copies)
{
    if (span->first_pending)
        span->first_pending = false;
    else if (span->heap.n)
        walks_step(&span->heap);
    if (!span->heap.n)
        return false;
    const struct walk *walk = &span->heap.walks[0];
    row->key = walk->key;
    row->cells = walk->at;
    *copies = walk->copies;
    return true;
}

bool mr_span_next(struct mr_span *span, struct mr_row_ref *row)
{
    int64_t copies;
    if (!(span->merges ? merge_next(span, row, &copies) : walk_next(span, row, &copies)))
        return false;
    row->copies = span->distinct ? 1 : (uint32_t)copies;
    row->new_row_key =
        !span->last || (span->heap.n_cells && mr_cell_compare(row->cells, span->last) != 0);
    span->last = row->cells;
    return true;
}
