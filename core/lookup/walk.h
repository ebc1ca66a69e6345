/*
 * walk.h - walking over packed rows, one run or several in order, for this room: spans merge the
 * postings of several keys, the builder merges the sorted runs of one.
 *
 * One owner, no thread safety; borrows the rows. Must not know what is done with them.
 * Tests: tests/unit/test_lookup.c.
 */
#ifndef MR_LOOKUP_WALK_H
#define MR_LOOKUP_WALK_H

#include "lookup/cell.h"

/* A walk over one posting, standing on a row. */
struct walk {
    const uint8_t *key, *at; /* `at`: the row's cells */
    const uint8_t *next;     /* where the next row begins, its copies in front */
    uint64_t left;           /* rows from `next` on */
    uint64_t copies;         /* how many equal rows stand here */
    uint64_t prefix; /* of the row's first cell, while in a heap: settles most comparisons */
    uint32_t stride; /* bytes of each row; 0 if they differ */
    uint32_t order;  /* settles ties: of a span, the key's place in the list */
};

/* A heap: walks[0] stands on the first row of all. */
struct walks {
    struct walk *walks;
    size_t n, n_cells;
};

/* Steps to the next row; false at the end. */
static inline bool walk_step(struct walk *walk, size_t n_cells)
{
    if (!walk->left)
        return false;
    walk->left--;
    const uint8_t *at = walk->next;
    if (walk->stride) {
        walk->at = at;
        walk->next = at + walk->stride;
        return true;
    }
    uint64_t copies = 1;
    if (*at == CELL_COPIES)
        at = varint_read(at + 1, &copies);
    walk->copies = copies;
    walk->at = at;
    walk->next = cells_skip(at, n_cells);
    return true;
}

/* Makes a heap of walks that each stand on a row. */
void mr_walks_order(struct walks *heap);
/* Moves the walk at `at` down to its place. */
void mr_walks_settle(struct walks *heap, size_t at);

/* The first walk steps on, or leaves at its end. */
static inline void walks_step(struct walks *heap)
{
    if (!walk_step(&heap->walks[0], heap->n_cells))
        heap->walks[0] = heap->walks[--heap->n];
    if (heap->n > 1) {
        heap->walks[0].prefix = cell_prefix(heap->walks[0].at, heap->n_cells);
        mr_walks_settle(heap, 0);
    }
}

#endif
