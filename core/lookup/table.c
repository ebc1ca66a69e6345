/*
 * table.c - finding a key's posting; a table's life.
 *
 * Any thread reads; a table never changes once built. Owns its schema, slots and postings. XXH3 is
 * seeded at random for each table, so that nobody can choose keys that collide. Must not know how
 * it was built. Tests: tests/unit/test_lookup.c.
 */
#include "lookup/table.h"

#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

uint64_t mr_table_hash(uint64_t seed, const void *key, size_t len)
{
    return XXH3_64bits_withSeed(key, len, seed);
}

void mr_table_enter(struct mr_table *table, uint64_t hash, size_t offset)
{
    uint64_t *slots = (uint64_t *)(void *)table->slots.ptr;
    size_t at = table_home(table, hash);
    while (slots[at])
        if (++at == table->n_slots)
            at = 0;
    slots[at] = table_tag(hash) | offset;
}

static void read_posting(const struct mr_table *table, const uint8_t *at, size_t key_len,
                         struct mr_posting *out)
{
    uint64_t n, size;
    at = varint_read(varint_read(at, &n), &size);
    (void)table;
    out->key = at;
    out->rows = at + key_len;
    out->n = n >> 1;
    out->stride = n & 1 ? (uint32_t)size : 0;
    out->end = out->rows + (n & 1 ? out->n * size : size);
}

/* Cells delimit themselves: bytes that agree over the whole of `key` are the same cells. */
static bool key_equals(const struct mr_table *table, size_t offset, struct mr_bytes key)
{
    const uint8_t *end = table->postings.ptr + table->postings.len;
    const uint8_t *at = table->postings.ptr + offset;
    uint64_t skip;
    at = varint_read(varint_read(at, &skip), &skip);
    return (size_t)(end - at) >= key.len && memcmp(at, key.ptr, key.len) == 0;
}

bool mr_table_find(const struct mr_table *table, struct mr_bytes key, struct mr_posting *out)
{
    if (!table->n_slots)
        return false;
    const uint64_t *slots = (const uint64_t *)(const void *)table->slots.ptr;
    uint64_t hash = mr_table_hash(table->seed, key.ptr, key.len), tag = table_tag(hash);
    for (size_t at = table_home(table, hash); slots[at];
         at = at + 1 == table->n_slots ? 0 : at + 1) {
        if ((slots[at] & ~SLOT_OFFSET_MASK) != tag)
            continue;
        size_t offset = (size_t)(slots[at] & SLOT_OFFSET_MASK);
        if (!key_equals(table, offset, key))
            continue;
        read_posting(table, table->postings.ptr + offset, key.len, out);
        return true;
    }
    return false;
}

const struct mr_lookup_schema *mr_table_schema(const struct mr_table *table)
{
    return table->schema;
}

struct mr_table_stats mr_table_stats(const struct mr_table *table)
{
    return table->stats;
}

void mr_table_free(struct mr_table *table)
{
    if (!table)
        return;
    mr_pages_free(&table->slots);
    mr_pages_free(&table->postings);
    mr_lookup_schema_free(table->schema);
    free(table);
}
