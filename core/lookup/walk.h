/*
 * walk.h - walking over packed rows, one run or several in order, for this room: spans merge the
 * postings of several keys, the builder merges the sorted runs of one.
 *
 * One owner, no thread safety; borrows the rows. Must not know what is done with them.
 * Tests: tests/unit/test_lookup.c.
 */
#ifndef MR_LOOKUP_WALK_H
#define MR_LOOKUP_WALK_H

#include "lookup/posting.h"

/* A walk over one posting, standing on a row. */
struct walk {
    const uint8_t *key, *at; /* `at`: the row's cells */
    const uint8_t *next;     /* where the next row begins, its copies in front */
    uint64_t left;           /* rows from `next` on */
    int64_t copies;          /* how many equal rows stand here; below 0: so many less */
    uint64_t prefix; /* of the row's first cell, while in a heap: settles most comparisons */
    uint32_t stride; /* bytes of each row; 0 if they differ */
    uint32_t order;  /* settles ties: of a span, the key's place in the list */
    bool marked;     /* a run of changes */
};

static inline struct walk walk_of(const struct posting *posting, size_t order)
{
    return (struct walk){.key = posting->key,
                         .next = posting->rows,
                         .left = posting->n,
                         .stride = posting->stride,
                         .copies = 1,
                         .order = (uint32_t)order,
                         .marked = posting->marked};
}

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
        walk->next = at + walk->stride;
        if (walk->marked) {
            walk->copies = *at == CELL_LESS ? -(int64_t)at[1] : (int64_t)at[1];
            at += MARK_LEN;
        }
        walk->at = at;
        return true;
    }
    uint64_t copies = 1;
    uint8_t tag = *at;
    if (tag == CELL_COPIES || tag == CELL_LESS)
        at = varint_read(at + 1, &copies);
    walk->copies = tag == CELL_LESS ? -(int64_t)copies : (int64_t)copies;
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
