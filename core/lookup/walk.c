/*
 * walk.c - the heap of walks: which row comes next.
 *
 * One owner, no thread safety. Must not know spans or the builder. Tests: tests/unit/test_lookup.c.
 */
#include "lookup/walk.h"

static bool walk_before(const struct walk *a, const struct walk *b, size_t n_cells)
{
    if (a->prefix != b->prefix)
        return a->prefix < b->prefix;
    int order = cells_compare(a->at, b->at, n_cells);
    return order ? order < 0 : a->order < b->order;
}

void mr_walks_settle(struct walks *heap, size_t at)
{
    struct walk moving = heap->walks[at];
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= heap->n)
            break;
        if (child + 1 < heap->n &&
            walk_before(&heap->walks[child + 1], &heap->walks[child], heap->n_cells))
            child++;
        if (!walk_before(&heap->walks[child], &moving, heap->n_cells))
            break;
        heap->walks[at] = heap->walks[child];
        at = child;
    }
    heap->walks[at] = moving;
}

void mr_walks_order(struct walks *heap)
{
    for (size_t i = 0; i < heap->n; i++)
        heap->walks[i].prefix = cell_prefix(heap->walks[i].at, heap->n_cells);
    for (size_t i = heap->n / 2; i-- > 0;)
        mr_walks_settle(heap, i);
}
