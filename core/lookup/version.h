/*
 * version.h - making the next version of a key, for this room: the runs it had, and what changes.
 *
 * New changes become a small run behind the others; small runs are merged into larger ones, and all
 * of them into a new posting when they have grown to a part of it, so that a change costs little
 * however many rows its key has. The writer's thread; nothing here is seen by readers until a slot
 * leads to it. Must not know pins or publishing. Tests: tests/unit/test_lookup_live.c.
 */
#ifndef MR_LOOKUP_VERSION_H
#define MR_LOOKUP_VERSION_H

#include "lookup/table.h"
#include "lookup/walk.h"

/* What becomes of a row of the key: so many more, or less. */
struct net {
    const uint8_t *row;
    size_t len;
    int64_t copies; /* not 0 */
};

/* Memory of versions and runs. */
struct block {
    void *ptr;
    size_t size;
};
struct blocks {
    struct block *list;
    size_t n, cap, bytes;
};
void mr_blocks_add(struct blocks *blocks, void *ptr, size_t size);
/* Frees what is in the list, and the list. */
void mr_blocks_free(struct blocks *blocks);

struct version_maker {
    const struct mr_table *table;
    size_t room;                 /* bytes that may still be made */
    struct blocks made, dropped; /* by the versions made so far; dropped: what no slot needs then */
    size_t died;                 /* bytes of the base that nothing leads to then */
    /* Used again for each key. */
    struct walks heap;
    size_t heap_cap;
    struct posting *runs;
    size_t cap_runs;
    int64_t *have;
    size_t cap_have;
    struct mr_pages news, out;
};

enum version_made { VERSION_MADE, VERSION_NOT_THERE, VERSION_TOO_BIG };
/*
 * `slot`: of the key as it is, 0 if there is none. `nets`: sorted as rows are, each row once, at
 * least one. *place: for the key's slot. *rows: how many more there are. VERSION_NOT_THERE: a row
 * would go that is not there.
 */
enum version_made mr_version_make(struct version_maker *maker, uint64_t slot, struct mr_bytes key,
                                  const struct net *nets, size_t n_nets, uint64_t *place,
                                  int64_t *rows);
/* Frees what is made and forgets what is dropped; or keeps and hands out: the owner takes both
 * lists. */
void mr_version_maker_undo(struct version_maker *maker);
void mr_version_maker_fini(struct version_maker *maker);

/* How often a run has a row: below 0, if it takes it away. */
int64_t mr_run_copies(const struct posting *run, const uint8_t *row, size_t n_cells);

/* All rows of a key merged, written behind `out`. Returns how many, equal ones each for itself. */
uint64_t mr_version_flatten(struct version_maker *maker, uint64_t slot, struct mr_pages *out);

/* Of a table that nobody reads any more. */
void mr_version_free(const struct mr_table *table, const struct version *version);

#endif
