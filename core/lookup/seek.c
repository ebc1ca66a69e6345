/*
 * seek.c - from the payload of an identity to its row.
 *
 * The writer's thread. The payload has the first bits of the key's hash, which lead to a few slots
 * beside each other, and a hash of the row, which is looked for in the postings of those keys. All
 * seeks of a publish go together, so that a posting is read once for all that is sought in it. Must
 * not know what is done with the rows. Tests: tests/unit/test_lookup_live.c.
 */
#include "lookup/live.h"

#include <stdlib.h>

enum { FILTER_BITS = 12, FEW = 4 };
enum { ROW_SHIFT = PAYLOAD_ROW_BITS - FILTER_BITS };
#define ROW_MASK ((1ULL << PAYLOAD_ROW_BITS) - 1)

/* Seeks that share the bits of the key, sorted. */
struct group {
    const struct mr_table *table;
    struct seek *seeks;
    size_t n;
    uint64_t filter[(1 << FILTER_BITS) / 64]; /* of the hashes sought, when they are many */
};

static int compare_seeks(const void *a, const void *b)
{
    const struct seek *x = a, *y = b;
    return (x->payload > y->payload) - (x->payload < y->payload);
}

static struct seek *find_seek(struct group *group, uint64_t payload)
{
    size_t low = 0, high = group->n;
    uint64_t bit = (payload & ROW_MASK) >> ROW_SHIFT;
    if (group->n > FEW && !(group->filter[bit / 64] >> bit % 64 & 1))
        return NULL;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (group->seeks[middle].payload < payload)
            low = middle + 1;
        else
            high = middle;
    }
    return low < group->n && group->seeks[low].payload == payload ? &group->seeks[low] : NULL;
}

static bool same_row(const struct mr_table *table, const struct row *a, const struct row *b)
{
    return a->key_len == b->key_len && memcmp(a->key, b->key, a->key_len) == 0 &&
           cells_compare(a->cells, b->cells, table->n_row_cells) == 0;
}

static void note_row(const struct mr_table *table, struct seek *seek, const struct row *row,
                     int64_t copies)
{
    unsigned i = 0;
    while (i < seek->n_found && !same_row(table, &seek->found[i], row))
        i++;
    if (i == 2)
        return; /* a third: mr_seek_result sees to it */
    if (i == seek->n_found) {
        seek->found[i] = *row;
        seek->copies[i] = 0;
        seek->n_found++;
    }
    seek->copies[i] += copies;
}

static void seek_in_run(struct group *group, const struct posting *run, const struct row *key)
{
    struct walk walk = walk_of(run, 0);
    struct row row = *key;
    while (walk_step(&walk, group->table->n_row_cells)) {
        row.cells = walk.at;
        row.len = (size_t)(walk.next - walk.at);
        struct seek *seek = find_seek(group, mr_table_payload(row.hash, row.cells, row.len));
        if (seek)
            note_row(group->table, seek, &row, walk.copies);
    }
}

static void seek_in_slot(struct group *group, uint64_t slot)
{
    const struct mr_table *table = group->table;
    const uint8_t *first = slot_first(table, slot);
    const struct version *version = slot_version(slot);
    struct row row = {.key = posting_key(first)};
    row.key_len = (size_t)(cells_skip(row.key, table->schema->n_keys) - row.key);
    row.hash = mr_table_hash(table->seed, row.key, row.key_len);
    if (row.hash >> (64 - PAYLOAD_KEY_BITS) != group->seeks->payload >> PAYLOAD_ROW_BITS)
        return;
    struct posting run = posting_read(first, row.key_len);
    seek_in_run(group, &run, &row);
    for (uint32_t i = 1; version && i < version->n_runs; i++) {
        run = changes_read(version->runs[i]);
        seek_in_run(group, &run, &row);
    }
}

/* From where the first key with these bits would be, to the first empty slot behind the last. */
static void seek_group(struct group *group)
{
    const struct index *index = table_index(group->table);
    uint64_t bits = group->seeks->payload >> PAYLOAD_ROW_BITS;
    size_t from = slot_home(index, bits << (64 - PAYLOAD_KEY_BITS));
    size_t last =
        slot_home(index, bits << (64 - PAYLOAD_KEY_BITS) | UINT64_MAX >> PAYLOAD_KEY_BITS);
    size_t at = from;
    memset(group->filter, 0, sizeof group->filter);
    for (size_t i = 0; group->n > FEW && i < group->n; i++) {
        uint64_t bit = (group->seeks[i].payload & ROW_MASK) >> ROW_SHIFT;
        group->filter[bit / 64] |= 1ULL << bit % 64;
    }
    for (size_t seen = 0; seen < index->n_slots; seen++, at = slot_next(index, at)) {
        uint64_t slot = slot_load(index, at);
        if (!slot && seen >= last - from)
            break;
        if (slot && slot != SLOT_DEAD)
            seek_in_slot(group, slot);
    }
}

/* Doubled rows: several identities, one payload. */
static size_t join_equal(struct seek *seeks, size_t n)
{
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        if (kept && seeks[kept - 1].payload == seeks[i].payload)
            seeks[kept - 1].times += seeks[i].times;
        else
            seeks[kept++] = seeks[i];
    }
    return kept;
}

size_t mr_seek_rows(const struct mr_table *table, struct seek *seeks, size_t n)
{
    struct group group = {.table = table};
    if (!n)
        return 0;
    qsort(seeks, n, sizeof *seeks, compare_seeks);
    n = join_equal(seeks, n);
    for (size_t from = 0, to; from < n; from = to) {
        for (to = from + 1; to < n && seeks[to].payload >> PAYLOAD_ROW_BITS ==
                                          seeks[from].payload >> PAYLOAD_ROW_BITS;
             to++)
            ;
        group.seeks = seeks + from;
        group.n = to - from;
        seek_group(&group);
    }
    return n;
}

const struct row *mr_seek_result(const struct seek *seek)
{
    bool first = seek->n_found > 0 && seek->copies[0] > 0;
    bool second = seek->n_found > 1 && seek->copies[1] > 0;
    if (first == second)
        return NULL;
    return &seek->found[second];
}

bool mr_seek_has(const struct mr_table *table, const struct row *row)
{
    struct mr_bytes key = {(const char *)row->key, row->key_len};
    size_t at, n_cells = table->n_row_cells;
    uint64_t slot = mr_table_look(table, table_index(table), row->hash, key, &at);
    if (!slot)
        return false;
    const struct version *version = slot_version(slot);
    struct posting run = posting_read(slot_first(table, slot), row->key_len);
    int64_t copies = mr_run_copies(&run, row->cells, n_cells);
    for (uint32_t i = 1; version && i < version->n_runs; i++) {
        run = changes_read(version->runs[i]);
        copies += mr_run_copies(&run, row->cells, n_cells);
    }
    return copies > 0;
}
