/*
 * live.h - the inside of a lookup, for this room: who pins, what waits, and what the writer has
 * collected.
 *
 * lookup.c keeps the place, changes.c collects, seek.c finds the rows of identities, publish.c
 * shows, compact.c makes a new base. Tests: tests/unit/test_lookup_live.c.
 */
#ifndef MR_LOOKUP_LIVE_H
#define MR_LOOKUP_LIVE_H

#include "lookup/rowmap.h"
#include "lookup/table.h"
#include "lookup/version.h"

#include "base/arena.h"

#include <pthread.h>

/* A row of the table or one that is collected. Its cells stay where they are until publish. */
struct row {
    uint64_t hash; /* of the key */
    const uint8_t *key, *cells;
    size_t key_len, len;
};

struct change {
    struct row row;
    uint64_t prefix; /* of its first cell: settles most comparisons */
    int64_t copies;
};

/* A row that must go, of which no more is known than its payload. */
struct seek {
    uint64_t payload;
    int64_t times;
    unsigned n_found; /* different rows, of which two are kept */
    struct row found[2];
    int64_t copies[2];
};

/* An identity that was asked for or changed since the last publish. */
struct touched {
    struct rowid id;
    bool had, has;    /* in the table's map; now */
    bool changed;     /* not only asked for */
    uint64_t payload; /* as it is now */
    struct row row;   /* key NULL: only the payload is known */
    size_t slot;      /* in touched_slots */
};

struct changes {
    struct mr_arena arena;
    struct change *list;
    size_t n, cap;
    struct seek *seeks;
    size_t n_seeks, cap_seeks;
    struct touched *touched;
    size_t n_touched, cap_touched;
    uint32_t *touched_slots; /* by identity: place in `touched` + 1, or 0 */
    size_t n_slots;
    int64_t null_keys; /* how many more */
    size_t bytes;      /* of all this, about */
    struct mr_buf scratch;
};

/* What was replaced, and waits for the readers that may still see it. */
struct grave {
    struct grave *next;
    uint64_t epoch; /* pins from this one on do not see it */
    size_t bytes;
    struct mr_table *table; /* one of these, or more */
    struct index *index;
    struct blocks blocks;
};

struct mr_lookup {
    char *name;
    pthread_mutex_t mutex; /* guards what follows, up to the writer's */
    struct mr_table *current;
    struct mr_table_stats stats; /* bytes: without what waits */
    uint64_t epoch;
    struct mr_pin *oldest, *newest; /* in the order of their epochs */
    struct grave *graves, **last_grave;
    size_t waiting; /* bytes in graves */
    /* The writer's. */
    struct changes changes;
    struct version_maker maker;
};

/* --- lookup.c --- */
/* From now on no new pin sees what is in the grave, which it takes; new stats are shown with it.
 * `table`: NULL, or the one that is current from now on. */
void mr_lookup_bury(struct mr_lookup *lookup, struct grave *grave, struct mr_table *table,
                    const struct mr_table_stats *stats);

/* --- changes.c --- */
void mr_changes_fini(struct changes *changes);
struct change *mr_changes_add(struct changes *changes, const struct row *row, int64_t copies);
/* False, MR_STOP: max_bytes. */
bool mr_lookup_too_big(const struct mr_lookup *lookup, struct mr_error *err);

/* --- seek.c --- */
/* Finds the rows of all seeks. Those of one payload become one; returns how many are left. */
size_t mr_seek_rows(const struct mr_table *table, struct seek *seeks, size_t n);
/* The only one of the rows found that is still there; NULL: none, or several. */
const struct row *mr_seek_result(const struct seek *seek);
/* Is the row in the table? */
bool mr_seek_has(const struct mr_table *table, const struct row *row);
/* False, MR_RECOVER. */
bool mr_lookup_lost(const struct mr_lookup *lookup, const char *what, struct mr_error *err);

/* --- compact.c --- */
/* Puts the current table into a new one, when what changed has grown to a part of it. */
void mr_lookup_compact(struct mr_lookup *lookup);

#endif
