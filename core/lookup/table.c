/*
 * table.c - finding a key's slot; a table's life.
 *
 * Any thread reads. A table owns its schema, index, base, versions and identities. XXH3 is seeded
 * at random for each table, so that nobody can choose keys that collide. Must not know how it was
 * built, or who changes it. Tests: tests/unit/test_lookup.c.
 */
#include "lookup/table.h"

#include "lookup/rowmap.h"
#include "lookup/version.h"

#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

uint64_t mr_table_hash(uint64_t seed, const void *key, size_t len)
{
    return XXH3_64bits_withSeed(key, len, seed);
}

uint64_t mr_table_payload(uint64_t key_hash, const uint8_t *row, size_t len)
{
    uint64_t hash = XXH3_64bits_withSeed(len ? (const void *)row : "", len, key_hash);
    hash >>= 64 - PAYLOAD_ROW_BITS;
    return key_hash >> (64 - PAYLOAD_KEY_BITS) << PAYLOAD_ROW_BITS | (hash ? hash : 1);
}

/* --- the index --- */

static size_t index_len(size_t n_slots)
{
    return sizeof(struct index) + n_slots * sizeof(uint64_t);
}

struct index *mr_index_new(size_t n_slots)
{
    struct mr_pages pages = {0};
    mr_pages_grow(&pages, index_len(n_slots));
    struct index *index = (struct index *)(void *)pages.ptr;
    index->n_slots = n_slots;
    return index;
}

size_t mr_index_bytes(const struct index *index)
{
    return index ? mr_pages_size(index_len(index->n_slots)) : 0;
}

void mr_index_free(struct index *index)
{
    if (!index)
        return;
    struct mr_pages pages = {.ptr = (uint8_t *)index, .cap = mr_index_bytes(index)};
    mr_pages_free(&pages);
}

size_t mr_index_slots(size_t n_keys)
{
    return n_keys + n_keys / 4 + 1; /* four keys in five slots */
}

size_t mr_index_enter(struct index *index, uint64_t hash, uint64_t place)
{
    size_t at = slot_home(index, hash);
    for (uint64_t slot; (slot = slot_load(index, at)) && slot != SLOT_DEAD;)
        at = slot_next(index, at);
    slot_store(index, at, slot_tag(hash) | place);
    return at;
}

/* --- finding --- */

/* Cells delimit themselves: bytes that agree over the whole of `key` are the same cells. */
static bool base_key_equals(const struct mr_table *table, size_t offset, struct mr_bytes key)
{
    const uint8_t *end = table->postings.ptr + table->postings.len;
    const uint8_t *at = posting_key(table->postings.ptr + offset);
    return (size_t)(end - at) >= key.len && memcmp(at, key.ptr, key.len) == 0;
}

static bool live_key_equals(const struct mr_table *table, const struct version *version,
                            struct mr_bytes key)
{
    const uint8_t *at = posting_key(version->runs[0]);
    return (size_t)(cells_skip(at, table->schema->n_keys) - at) == key.len &&
           memcmp(at, key.ptr, key.len) == 0;
}

uint64_t mr_table_look(const struct mr_table *table, const struct index *index, uint64_t hash,
                       struct mr_bytes key, size_t *at)
{
    uint64_t tag = slot_tag(hash), slot;
    for (*at = slot_home(index, hash); (slot = slot_load(index, *at));
         *at = slot_next(index, *at)) {
        if ((slot & ~(SLOT_LIVE | SLOT_PLACE)) != tag || slot == SLOT_DEAD)
            continue;
        const struct version *version = slot_version(slot);
        if (version ? live_key_equals(table, version, key)
                    : base_key_equals(table, (size_t)(slot & SLOT_PLACE), key))
            return slot;
    }
    return 0;
}

/* --- life --- */

const struct mr_lookup_schema *mr_table_schema(const struct mr_table *table)
{
    return table->schema;
}

struct mr_table_stats mr_table_stats(const struct mr_table *table)
{
    return table->stats;
}

size_t mr_table_bytes(const struct mr_table *table)
{
    return sizeof *table + mr_index_bytes(table_index(table)) + table->postings.cap +
           table->live_bytes + mr_rowmap_bytes(table->rowmap);
}

void mr_table_free(struct mr_table *table)
{
    if (!table)
        return;
    struct index *index = table_index(table);
    for (size_t at = 0; table->live_bytes && at < index->n_slots; at++)
        if (slot_load(index, at) & SLOT_LIVE)
            mr_version_free(table, slot_version(slot_load(index, at)));
    mr_index_free(index);
    mr_pages_free(&table->postings);
    mr_rowmap_free(table->rowmap);
    mr_lookup_schema_free(table->schema);
    free(table);
}
