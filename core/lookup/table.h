/*
 * table.h - the inside of a table, for this room: an index of slots over one region of postings,
 * and beside it what has changed since they were built.
 *
 * Readers follow slots: index and slots are loaded and stored whole, and whatever they lead to is
 * immutable and stays until the last reader that may see it has unpinned. One writer stores them.
 * Tests: tests/unit/test_lookup.c, tests/unit/test_lookup_live.c.
 */
#ifndef MR_LOOKUP_TABLE_H
#define MR_LOOKUP_TABLE_H

#include "lookup/posting.h"

#include <stdatomic.h>

/*
 * A slot: 16 bits of the hash | live | 47 bits of place. 0: empty. Not live: an offset in the base,
 * where a posting begins; 0 is never one. Live: a struct version; SLOT_DEAD: the key is gone.
 */
enum { SLOT_PLACE_BITS = 47 };
#define SLOT_LIVE  (1ULL << SLOT_PLACE_BITS)
#define SLOT_PLACE (SLOT_LIVE - 1)
#define SLOT_DEAD  SLOT_LIVE

/* One allocation of pages. */
struct index {
    size_t n_slots;
    _Atomic uint64_t slots[];
};

/*
 * What a key has become: runs of the form of a posting, the first with the key, those behind it of
 * changes, without. The rows are the sums over all runs; those of sum 0 are gone. Never changes.
 */
struct version {
    uint64_t rows; /* equal ones each for itself; not 0 */
    uint32_t n_runs;
    bool own_first; /* the first run is not in the base */
    const uint8_t *runs[];
};

struct rowmap;

struct mr_table {
    struct mr_lookup_schema *schema; /* owned */
    size_t n_row_cells;
    bool distinct;
    uint64_t seed;
    _Atomic(struct index *) index;
    struct mr_pages postings; /* the base; the first byte is not used */
    atomic_uint sequence;     /* odd while the writer stores slots */
    /* The writer's. */
    struct mr_table_stats stats; /* as built */
    size_t max_bytes;
    size_t used_slots;     /* not empty */
    size_t live_bytes;     /* of all versions and their runs */
    size_t dead_bytes;     /* of postings in the base that no slot leads to any more */
    struct rowmap *rowmap; /* NULL: rows are not told by identities */
    size_t n_ids;
};

uint64_t mr_table_hash(uint64_t seed, const void *key, size_t len);
/*
 * What is kept for an identity: 20 bits of the key's hash above 36 bits of one of the row, never 0.
 * 0 stands for a row with a NULL in its key, which is not kept.
 */
enum { PAYLOAD_ROW_BITS = 36, PAYLOAD_KEY_BITS = 20 };
uint64_t mr_table_payload(uint64_t key_hash, const uint8_t *row, size_t len);
/* Of the table alone: index, base, versions, identities. */
size_t mr_table_bytes(const struct mr_table *table);

static inline struct index *table_index(const struct mr_table *table)
{
    return atomic_load_explicit(&((struct mr_table *)(uintptr_t)table)->index,
                                memory_order_acquire);
}
static inline uint64_t slot_load(const struct index *index, size_t at)
{
    return atomic_load_explicit(&((struct index *)(uintptr_t)index)->slots[at],
                                memory_order_acquire);
}
static inline void slot_store(struct index *index, size_t at, uint64_t slot)
{
    atomic_store_explicit(&index->slots[at], slot, memory_order_release);
}

/* The high bits choose, so that the keys of one partition of the builder are neighbours here. */
static inline size_t slot_home(const struct index *index, uint64_t hash)
{
    return (size_t)((unsigned __int128)hash * index->n_slots >> 64);
}
static inline size_t slot_next(const struct index *index, size_t at)
{
    return at + 1 == index->n_slots ? 0 : at + 1;
}
static inline uint64_t slot_tag(uint64_t hash)
{
    return hash << (SLOT_PLACE_BITS + 1);
}
static inline const struct version *slot_version(uint64_t slot)
{
    return slot & SLOT_LIVE ? (const struct version *)(uintptr_t)(slot & SLOT_PLACE) : NULL;
}
/* The run that has the key; not of an empty or dead slot. */
static inline const uint8_t *slot_first(const struct mr_table *table, uint64_t slot)
{
    const struct version *version = slot_version(slot);
    return version ? version->runs[0] : table->postings.ptr + (slot & SLOT_PLACE);
}

/* All slots empty. */
struct index *mr_index_new(size_t n_slots);
void mr_index_free(struct index *index);
size_t mr_index_bytes(const struct index *index);
/* How many for so many keys: at least one stays empty, which ends the search for an unknown key. */
size_t mr_index_slots(size_t n_keys);
/* Enters a key that is not there yet; room has been made. `place`: see above. Returns where. */
size_t mr_index_enter(struct index *index, uint64_t hash, uint64_t place);

/* The slot of a key, and where it is; 0: unknown. */
uint64_t mr_table_look(const struct mr_table *table, const struct index *index, uint64_t hash,
                       struct mr_bytes key, size_t *at);

#endif
