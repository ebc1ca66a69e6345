/*
 * lookup.c - the named place that holds the current table: one writer, readers that pin.
 *
 * Any thread. A reader pins once a unit, so a mutex costs nothing that shows. Owns the current
 * table, and what was replaced: it waits, marked with the epoch in which it went out of sight,
 * until no reader pinned before that epoch is left. Whoever unpins as the last frees it. Must not
 * know what a table is made of. Tests: tests/unit/test_lookup.c, tests/unit/test_lookup_live.c.
 */
#include "lookup/live.h"

#include <stdlib.h>

struct mr_lookup *mr_lookup_new(const char *name)
{
    struct mr_lookup *lookup = mr_calloc(1, sizeof *lookup);
    lookup->name = mr_strdup(name);
    lookup->last_grave = &lookup->graves;
    pthread_mutex_init(&lookup->mutex, NULL);
    return lookup;
}

/* Takes the graves that no pin holds open; the mutex is held. */
static struct grave *take_free_graves(struct mr_lookup *lookup)
{
    struct grave *first = lookup->graves, **end = &first;
    for (; *end && (!lookup->oldest || lookup->oldest->epoch >= (*end)->epoch); end = &(*end)->next)
        lookup->waiting -= (*end)->bytes;
    lookup->graves = *end;
    if (!lookup->graves)
        lookup->last_grave = &lookup->graves;
    *end = NULL;
    return first;
}

/* Outside the mutex: giving back gigabytes takes a while. */
static void free_graves(struct grave *grave)
{
    while (grave) {
        struct grave *next = grave->next;
        mr_table_free(grave->table);
        mr_index_free(grave->index);
        mr_blocks_free(&grave->blocks);
        free(grave);
        grave = next;
    }
}

void mr_lookup_free(struct mr_lookup *lookup)
{
    if (!lookup)
        return;
    mr_assert(!lookup->oldest);
    mr_changes_fini(&lookup->changes);
    mr_version_maker_fini(&lookup->maker);
    free_graves(lookup->graves);
    mr_table_free(lookup->current);
    pthread_mutex_destroy(&lookup->mutex);
    free(lookup->name);
    free(lookup);
}

const char *mr_lookup_name(const struct mr_lookup *lookup)
{
    return lookup->name;
}

void mr_lookup_bury(struct mr_lookup *lookup, struct grave *grave, struct mr_table *table,
                    const struct mr_table_stats *stats)
{
    grave->next = NULL;
    grave->bytes = grave->blocks.bytes + mr_index_bytes(grave->index) +
                   (grave->table ? mr_table_bytes(grave->table) : 0);
    pthread_mutex_lock(&lookup->mutex);
    grave->epoch = ++lookup->epoch;
    lookup->waiting += grave->bytes;
    lookup->stats = *stats;
    if (table)
        lookup->current = table;
    *lookup->last_grave = grave;
    lookup->last_grave = &grave->next;
    struct grave *freed = take_free_graves(lookup);
    pthread_mutex_unlock(&lookup->mutex);
    free_graves(freed);
}

void mr_lookup_swap(struct mr_lookup *lookup, struct mr_table *table)
{
    struct grave *grave = mr_calloc(1, sizeof *grave);
    struct mr_table_stats stats = mr_table_stats(table);
    mr_lookup_discard(lookup);
    grave->table = lookup->current;
    mr_lookup_bury(lookup, grave, table, &stats);
}

bool mr_lookup_pin(struct mr_lookup *lookup, struct mr_pin *pin)
{
    mr_assert(!pin->table);
    pthread_mutex_lock(&lookup->mutex);
    pin->table = lookup->current;
    if (pin->table) {
        pin->epoch = lookup->epoch;
        pin->next = NULL;
        pin->prev = lookup->newest;
        *(lookup->newest ? &lookup->newest->next : &lookup->oldest) = pin;
        lookup->newest = pin;
    }
    pthread_mutex_unlock(&lookup->mutex);
    return pin->table != NULL;
}

void mr_lookup_unpin(struct mr_lookup *lookup, struct mr_pin *pin)
{
    if (!pin->table)
        return;
    pthread_mutex_lock(&lookup->mutex);
    *(pin->prev ? &pin->prev->next : &lookup->oldest) = pin->next;
    *(pin->next ? &pin->next->prev : &lookup->newest) = pin->prev;
    struct grave *freed = take_free_graves(lookup);
    pthread_mutex_unlock(&lookup->mutex);
    *pin = (struct mr_pin){0};
    free_graves(freed);
}

struct mr_table_stats mr_lookup_stats(struct mr_lookup *lookup)
{
    pthread_mutex_lock(&lookup->mutex);
    struct mr_table_stats stats = lookup->stats;
    stats.bytes += lookup->waiting;
    pthread_mutex_unlock(&lookup->mutex);
    return stats;
}
