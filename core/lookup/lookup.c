/*
 * lookup.c - the named place that holds the current table: one writer, readers that pin.
 *
 * Any thread. A reader pins once a unit, so a mutex costs nothing that shows. Owns the current
 * table, and what was replaced: it waits, marked with the epoch in which it went out of sight,
 * until no reader pinned before that epoch is left. Whoever unpins as the last frees it. Must not
 * know what a table is made of. Tests: tests/unit/test_lookup.c.
 */
#include "lookup/table.h"

#include <pthread.h>
#include <stdlib.h>

/* What was replaced, and waits for the readers that may still see it. */
struct grave {
    struct grave *next;
    uint64_t epoch; /* pins from this one on do not see it */
    struct mr_table *table;
};

struct mr_lookup {
    char *name;
    pthread_mutex_t mutex; /* guards all below */
    struct mr_table *current;
    uint64_t epoch;
    struct mr_pin *oldest, *newest; /* in the order of their epochs */
    struct grave *graves, **last_grave;
};

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
    while (*end && (!lookup->oldest || lookup->oldest->epoch >= (*end)->epoch))
        end = &(*end)->next;
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
        free(grave);
        grave = next;
    }
}

void mr_lookup_free(struct mr_lookup *lookup)
{
    if (!lookup)
        return;
    mr_assert(!lookup->oldest);
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

void mr_lookup_swap(struct mr_lookup *lookup, struct mr_table *table)
{
    struct grave *grave = mr_calloc(1, sizeof *grave);
    pthread_mutex_lock(&lookup->mutex);
    grave->table = lookup->current;
    grave->epoch = ++lookup->epoch;
    lookup->current = table;
    *lookup->last_grave = grave;
    lookup->last_grave = &grave->next;
    struct grave *freed = take_free_graves(lookup);
    pthread_mutex_unlock(&lookup->mutex);
    free_graves(freed);
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
    struct mr_table_stats stats = {0};
    pthread_mutex_lock(&lookup->mutex);
    if (lookup->current)
        stats = mr_table_stats(lookup->current);
    pthread_mutex_unlock(&lookup->mutex);
    return stats;
}
