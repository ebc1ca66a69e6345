/*
 * rowmap.h - which row an identity (a primary key) belongs to, in few bytes, for this room.
 *
 * The writer's alone. An identity is a number of 32 or 64 bits (struct rowid); what is kept for it
 * are 56 bits of payload, from which the row can be found again (seek.c). Must not know tables.
 * Tests: tests/unit/test_rowmap.c.
 */
#ifndef MR_LOOKUP_ROWMAP_H
#define MR_LOOKUP_ROWMAP_H

#include "millrace/lookup.h"

enum { PAYLOAD_BITS = 56 };

struct rowid {
    uint64_t key; /* mixed: any of its bits are as good as others */
    bool wide;    /* 64 bits of it, else 32 */
};

struct rowmap;
struct rowmap *mr_rowmap_new(uint64_t seed);
void mr_rowmap_free(struct rowmap *map);
size_t mr_rowmap_bytes(const struct rowmap *map);
size_t mr_rowmap_count(const struct rowmap *map);

/* `scratch` is overwritten. Whole numbers from 0 to 2^32 - 1 are told apart for certain, others by
 * 64 bits of a seeded hash. */
struct rowid mr_rowmap_id(const struct rowmap *map, const struct mr_value *ids, size_t n,
                          struct mr_buf *scratch);
/* Asks for the memory that a put of this identity needs; in two steps. */
void mr_rowmap_prefetch(const struct rowmap *map, struct rowid id);
void mr_rowmap_prefetch_chunk(const struct rowmap *map, struct rowid id);

/* Does not look whether it is there. */
void mr_rowmap_put(struct rowmap *map, struct rowid id, uint64_t payload);
/* How many there are of it: 0, 1, or 2 for several. *payload: of the only one. */
int mr_rowmap_find(const struct rowmap *map, struct rowid id, uint64_t *payload);
/* One that is there. */
void mr_rowmap_remove(struct rowmap *map, struct rowid id);

#endif
