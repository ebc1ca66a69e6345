/*
 * lookup.c - the named place that holds the current table: one writer swaps, readers pin.
 *
 * Any thread. A reader acquires once a unit, so a mutex costs nothing that shows; it closes the gap
 * between reading the pointer and counting the reader. Owns the current table, as one of its
 * holders; whoever is the last holder frees it. Must not know what a table is made of. Tests:
 * tests/unit/test_lookup.c.
 */
#include "lookup/table.h"

#include <pthread.h>
#include <stdlib.h>

struct mr_lookup {
    char *name;
    pthread_mutex_t mutex; /* guards `current` */
    struct mr_table *current;
};

static void let_go(struct mr_table *table)
{
    if (table && atomic_fetch_sub_explicit(&table->holders, 1, memory_order_acq_rel) == 1)
        mr_table_free(table);
}

struct mr_lookup *mr_lookup_new(const char *name)
{
    struct mr_lookup *lookup = mr_calloc(1, sizeof *lookup);
    lookup->name = mr_strdup(name);
    pthread_mutex_init(&lookup->mutex, NULL);
    return lookup;
}

void mr_lookup_free(struct mr_lookup *lookup)
{
    if (!lookup)
        return;
    let_go(lookup->current);
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
    atomic_fetch_add_explicit(&table->holders, 1, memory_order_relaxed);
    pthread_mutex_lock(&lookup->mutex);
    struct mr_table *old = lookup->current;
    lookup->current = table;
    pthread_mutex_unlock(&lookup->mutex);
    let_go(old); /* outside: giving back gigabytes takes a while */
}

const struct mr_table *mr_lookup_acquire(struct mr_lookup *lookup)
{
    pthread_mutex_lock(&lookup->mutex);
    struct mr_table *table = lookup->current;
    if (table)
        atomic_fetch_add_explicit(&table->holders, 1, memory_order_relaxed);
    pthread_mutex_unlock(&lookup->mutex);
    return table;
}

void mr_lookup_release(struct mr_lookup *lookup, const struct mr_table *table)
{
    (void)lookup;
    let_go((struct mr_table *)table); /* const to readers; the count is ours */
}
