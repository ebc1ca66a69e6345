/*
 * compact.c - a new base from a table that has changed, in the place of the old.
 *
 * The writer's thread. What changes leaves bytes behind in the base, and versions take more than
 * the rows in them. When both have grown to a part of the base, all keys are written one behind the
 * other into a new one; readers keep the old table until they unpin. Hashes and identities stay
 * what they are. Must not know what changed. Tests: tests/unit/test_lookup_live.c.
 */
#include "lookup/live.h"

#include <stdlib.h>

enum { SHARE = 4, SPARE = 1 << 20, NEAR = 8, WORTH = 16 };

/* Near to max_bytes it is done for less. */
static bool is_due(const struct mr_table *table)
{
    size_t bytes = mr_table_bytes(table), gain = table->live_bytes + table->dead_bytes;
    return gain > table->postings.cap / SHARE + SPARE ||
           (bytes > table->max_bytes - table->max_bytes / NEAR && gain > bytes / WORTH);
}

static struct mr_table *new_table(const struct mr_table *old, size_t n_keys)
{
    struct mr_table *table = mr_calloc(1, sizeof *table);
    table->schema = mr_lookup_schema_copy(old->schema);
    table->n_row_cells = old->n_row_cells;
    table->distinct = old->distinct;
    table->seed = old->seed;
    table->max_bytes = old->max_bytes;
    table->n_ids = old->n_ids;
    table->used_slots = n_keys;
    atomic_store_explicit(&table->index, mr_index_new(mr_index_slots(n_keys)),
                          memory_order_relaxed);
    mr_pages_grow(&table->postings, old->postings.len - old->dead_bytes + old->live_bytes + 1);
    table->postings.len = 1;
    return table;
}

static void move_key(struct mr_table *table, const struct mr_table *old,
                     struct version_maker *maker, uint64_t slot)
{
    const uint8_t *first = slot_first(old, slot), *key = posting_key(first);
    size_t key_len = (size_t)(cells_skip(key, old->schema->n_keys) - key);
    size_t offset = table->postings.len;
    if (slot & SLOT_LIVE) {
        mr_version_flatten(maker, slot, &table->postings);
    } else {
        size_t size = (size_t)(posting_read(first, key_len).end - first);
        memcpy(mr_pages_reserve(&table->postings, size), first, size);
        table->postings.len += size;
    }
    mr_index_enter(table_index(table), mr_table_hash(table->seed, key, key_len), offset);
}

void mr_lookup_compact(struct mr_lookup *lookup)
{
    struct mr_table *old = lookup->current;
    struct mr_table_stats stats = lookup->stats;
    const struct index *index = table_index(old);
    if (!is_due(old))
        return;
    struct mr_table *table = new_table(old, (size_t)stats.keys);
    for (size_t at = 0; at < index->n_slots; at++) {
        uint64_t slot = slot_load(index, at);
        if (slot && slot != SLOT_DEAD)
            move_key(table, old, &lookup->maker, slot);
    }
    mr_pages_trim(&table->postings);
    table->rowmap = old->rowmap;
    old->rowmap = NULL;
    stats.bytes = mr_table_bytes(table);
    table->stats = stats;
    struct grave *grave = mr_calloc(1, sizeof *grave);
    grave->table = old;
    mr_lookup_bury(lookup, grave, table, &stats);
}
