/*
 * builder.h - the inside of a builder, for this room.
 *
 * Rows are dealt out by the hash of their key to partitions. A partition has its keys once, in
 * `keys`, and its rows in `rows`: first sorted runs, then the unsorted tail, which becomes a run
 * when it is long enough. Finishing takes one partition after the other: merges its runs into the
 * table and gives its memory back, so that table and what is left to do together stay near the size
 * of the table.
 */
#ifndef MR_LOOKUP_BUILDER_H
#define MR_LOOKUP_BUILDER_H

#include "lookup/table.h"

enum { PARTITION_BITS = 6, PARTITIONS = 1 << PARTITION_BITS };

/*
 * rows: in a run, for each key in the order of `keys`: a group | varint key | varint n << 1 | fixed
 * | varint size | rows |, with n, fixed, size and rows as in a posting; in the tail: | varint key |
 * row |. `key` is an offset in `keys`, which holds key cells one behind the other from 1 on.
 */
struct partition {
    struct mr_pages rows, keys, slots;
    size_t n_slots, n_keys; /* slots: uint32 of hash above uint32 of offset in keys, 0 when empty */
    size_t *runs;           /* where each begins */
    size_t n_runs, cap_runs;
    size_t tail;
};

/* What sorting needs, used again for each run. */
struct sort_space {
    struct mr_pages elements, other, out;
};

/* Sorts the tail into a run. */
void mr_partition_sort(struct partition *part, size_t n_row_cells, struct sort_space *space);
/* Moves the partition, all of it in runs, into the table, and frees it. */
void mr_partition_merge(struct partition *part, struct mr_table *table, size_t n_key_cells);
void mr_partition_free(struct partition *part);
void mr_sort_space_free(struct sort_space *space);

#endif
