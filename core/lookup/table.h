/*
 * table.h - the inside of a table, for this room: an index of slots over one region of postings.
 *
 * A posting is | varint n << 1 | fixed | varint size | key cells | rows |: `size` is that of each
 * row when they are fixed, else of all rows together. In a posting that is not fixed, a row may
 * have CELL_COPIES and a varint in front: it came so often. Immutable once built; any thread reads.
 * Tests: tests/unit/test_lookup.c.
 */
#ifndef MR_LOOKUP_TABLE_H
#define MR_LOOKUP_TABLE_H

#include "lookup/cell.h"
#include "lookup/pages.h"

#include <stdatomic.h>

/* A slot: 24 bits of the hash above 40 bits of offset, 0 when empty; offset 0 is never a posting.
 */
enum { SLOT_OFFSET_BITS = 40 };
#define SLOT_OFFSET_MASK ((1ULL << SLOT_OFFSET_BITS) - 1)

struct mr_table {
    struct mr_lookup_schema *schema; /* owned */
    size_t n_row_cells;
    bool distinct;
    uint64_t seed;
    size_t n_slots;
    struct mr_pages slots;    /* uint64_t[n_slots] */
    struct mr_pages postings; /* the first byte is not used */
    struct mr_table_stats stats;
};

uint64_t mr_table_hash(uint64_t seed, const void *key, size_t len);

/* The high bits choose, so that the keys of one partition of the builder are neighbours here. */
static inline size_t table_home(const struct mr_table *table, uint64_t hash)
{
    return (size_t)((unsigned __int128)hash * table->n_slots >> 64);
}
static inline uint64_t table_tag(uint64_t hash)
{
    return hash << SLOT_OFFSET_BITS;
}

/* Enters a key that is not there yet; room has been made. */
void mr_table_enter(struct mr_table *table, uint64_t hash, size_t offset);

#endif
