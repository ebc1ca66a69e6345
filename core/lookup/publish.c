/*
 * publish.c - shows all that was collected, at once.
 *
 * The writer's thread. First everything is made that can fail: the rows of identities are found,
 * changes of equal rows are summed, and for each key that changes the next version is made. Then
 * slots are stored, under an odd sequence, so that a reader of several keys takes all of it or
 * nothing; what they led to before waits for its readers. Must not know where changes come from.
 * Tests: tests/unit/test_lookup_live.c.
 */
#include "lookup/live.h"

#include <stdlib.h>

/* A slot to be stored. */
struct show {
    uint64_t hash, before, after; /* before 0: a new key */
    size_t at;                    /* of `before`, in the index as it is */
};

struct publication {
    struct mr_lookup *lookup;
    struct mr_table *table;
    struct index *index, *grown; /* grown: NULL, or the one that takes its place */
    struct show *shows;
    size_t n, cap;
    struct net *nets;
    size_t cap_nets;
    size_t new_keys, gone_keys;
    int64_t rows;
};

/* --- what changes, key by key --- */

static bool resolve_seeks(struct mr_lookup *lookup, struct mr_error *err)
{
    struct changes *changes = &lookup->changes;
    changes->n_seeks = mr_seek_rows(lookup->current, changes->seeks, changes->n_seeks);
    for (size_t i = 0; i < changes->n_seeks; i++) {
        const struct row *row = mr_seek_result(&changes->seeks[i]);
        if (!row)
            return mr_lookup_lost(lookup, "a change names a row that cannot be told", err);
        mr_changes_add(changes, row, -changes->seeks[i].times);
    }
    return true;
}

static int compare_keys(const struct row *a, const struct row *b)
{
    if (a->hash != b->hash)
        return a->hash < b->hash ? -1 : 1;
    int order = memcmp(a->key, b->key, a->key_len < b->key_len ? a->key_len : b->key_len);
    return order ? order : (a->key_len > b->key_len) - (a->key_len < b->key_len);
}

static int compare_changes(const void *a, const void *b, void *n_cells)
{
    const struct change *x = a, *y = b;
    int order = compare_keys(&x->row, &y->row);
    if (order)
        return order;
    if (x->prefix != y->prefix)
        return x->prefix < y->prefix ? -1 : 1;
    return cells_compare(x->row.cells, y->row.cells, *(const size_t *)n_cells);
}

static void sort_changes(struct changes *changes, size_t n_cells)
{
    for (size_t i = 0; i < changes->n; i++)
        changes->list[i].prefix = cell_prefix(changes->list[i].row.cells, n_cells);
    if (changes->n)
        qsort_r(changes->list, changes->n, sizeof *changes->list, compare_changes, &n_cells);
}

/* Changes [from, to) are of one key; returns how many rows of it change. */
static size_t net_rows(struct publication *pub, const struct change *list, size_t from, size_t to)
{
    size_t n = 0;
    if (pub->cap_nets < to - from) {
        pub->cap_nets = to - from;
        pub->nets = mr_realloc(pub->nets, pub->cap_nets * sizeof *pub->nets);
    }
    while (from < to) {
        struct net *net = &pub->nets[n];
        const struct row *row = &list[from].row;
        *net = (struct net){row->cells, row->len, list[from].copies};
        for (from++; from < to &&
                     cells_compare(row->cells, list[from].row.cells, pub->table->n_row_cells) == 0;
             from++)
            net->copies += list[from].copies;
        n += net->copies != 0;
    }
    return n;
}

static bool prepare_key(struct publication *pub, const struct row *row, size_t n_nets,
                        struct mr_error *err)
{
    struct mr_bytes key = {(const char *)row->key, row->key_len};
    struct show show = {.hash = row->hash};
    uint64_t place;
    int64_t rows;
    show.before = mr_table_look(pub->table, pub->index, row->hash, key, &show.at);
    enum version_made made =
        mr_version_make(&pub->lookup->maker, show.before, key, pub->nets, n_nets, &place, &rows);
    if (made == VERSION_TOO_BIG)
        return mr_lookup_too_big(pub->lookup, err);
    if (made == VERSION_NOT_THERE)
        return mr_lookup_lost(pub->lookup, "a row was deleted that is not there", err);
    show.after = place == SLOT_DEAD ? SLOT_DEAD : slot_tag(row->hash) | place;
    pub->new_keys += !show.before;
    pub->gone_keys += place == SLOT_DEAD;
    pub->rows += rows;
    if (pub->n == pub->cap) {
        pub->cap = pub->cap ? 2 * pub->cap : 16;
        pub->shows = mr_realloc(pub->shows, pub->cap * sizeof *pub->shows);
    }
    pub->shows[pub->n++] = show;
    return true;
}

static bool prepare_keys(struct publication *pub, struct mr_error *err)
{
    const struct changes *changes = &pub->lookup->changes;
    for (size_t from = 0, to; from < changes->n; from = to) {
        const struct row *row = &changes->list[from].row;
        for (to = from + 1; to < changes->n && compare_keys(row, &changes->list[to].row) == 0; to++)
            ;
        size_t n_nets = net_rows(pub, changes->list, from, to);
        if (n_nets && !prepare_key(pub, row, n_nets, err))
            return false;
    }
    return true;
}

/* --- the index --- */

static uint64_t slot_hash(const struct mr_table *table, uint64_t slot)
{
    const uint8_t *key = posting_key(slot_first(table, slot));
    return mr_table_hash(table->seed, key, (size_t)(cells_skip(key, table->schema->n_keys) - key));
}

/* Room for the new keys: seven slots of eight may be taken. */
static bool grow_index(struct publication *pub, struct mr_error *err)
{
    const struct mr_table *table = pub->table;
    struct version_maker *maker = &pub->lookup->maker;
    const struct index *old = pub->index;
    if (8 * (table->used_slots + pub->new_keys) <= 7 * old->n_slots)
        return true;
    size_t n_slots = (pub->lookup->stats.keys + pub->new_keys) / 2 * 3 + 8;
    if (n_slots * sizeof(uint64_t) > maker->room)
        return mr_lookup_too_big(pub->lookup, err);
    pub->grown = mr_index_new(n_slots);
    for (size_t at = 0; at < old->n_slots; at++) {
        uint64_t slot = slot_load(old, at);
        if (slot && slot != SLOT_DEAD)
            mr_index_enter(pub->grown, slot_hash(table, slot), slot & (SLOT_LIVE | SLOT_PLACE));
    }
    return true;
}

static size_t place_of(const struct publication *pub, const struct show *show)
{
    if (!pub->grown)
        return show->at;
    size_t at = slot_home(pub->grown, show->hash);
    while (slot_load(pub->grown, at) != show->before)
        at = slot_next(pub->grown, at);
    return at;
}

static size_t free_slot(const struct index *index, uint64_t hash)
{
    size_t at = slot_home(index, hash);
    for (uint64_t slot; (slot = slot_load(index, at)) && slot != SLOT_DEAD;)
        at = slot_next(index, at);
    return at;
}

static void store_slots(struct publication *pub)
{
    struct mr_table *table = pub->table;
    struct index *index = pub->grown ? pub->grown : pub->index;
    unsigned sequence = atomic_load_explicit(&table->sequence, memory_order_relaxed);
    if (pub->grown)
        table->used_slots = (size_t)pub->lookup->stats.keys;
    atomic_store_explicit(&table->sequence, sequence + 1, memory_order_relaxed);
    for (size_t i = 0; i < pub->n; i++) {
        const struct show *show = &pub->shows[i];
        size_t at = show->before ? place_of(pub, show) : free_slot(index, show->hash);
        table->used_slots += !slot_load(index, at);
        slot_store(index, at, show->after);
    }
    atomic_store_explicit(&table->index, index, memory_order_release);
    atomic_store_explicit(&table->sequence, sequence + 2, memory_order_release);
}

/* --- showing --- */

static void move_identities(struct mr_table *table, const struct changes *changes)
{
    for (size_t i = 0; i < changes->n_touched; i++) {
        const struct touched *touched = &changes->touched[i];
        if (!touched->changed)
            continue;
        if (touched->had)
            mr_rowmap_remove(table->rowmap, touched->id);
        if (touched->has)
            mr_rowmap_put(table->rowmap, touched->id, touched->payload);
    }
}

static void show(struct publication *pub)
{
    struct mr_lookup *lookup = pub->lookup;
    struct mr_table *table = pub->table;
    struct version_maker *maker = &lookup->maker;
    struct grave *grave = mr_calloc(1, sizeof *grave);
    struct mr_table_stats stats = lookup->stats;
    store_slots(pub);
    move_identities(table, &lookup->changes);
    table->live_bytes += maker->made.bytes - maker->dropped.bytes;
    table->dead_bytes += maker->died;
    stats.rows += (uint64_t)pub->rows;
    stats.keys += pub->new_keys - pub->gone_keys;
    stats.null_keys += (uint64_t)lookup->changes.null_keys;
    stats.bytes = mr_table_bytes(table);
    grave->blocks = maker->dropped;
    grave->index = pub->grown ? pub->index : NULL;
    free(maker->made.list);
    maker->made = maker->dropped = (struct blocks){0};
    maker->died = 0;
    mr_lookup_bury(lookup, grave, NULL, &stats);
}

/*
 * What versions may take. Where rows only go there is no limit: a full table must be able to
 * shrink, and is put into a new one soon (compact.c).
 */
static size_t room(const struct publication *pub)
{
    const struct changes *changes = &pub->lookup->changes;
    size_t bytes = mr_table_bytes(pub->table) + changes->n_touched * sizeof(struct rowid);
    int64_t rows = 0;
    for (size_t i = 0; i < changes->n; i++)
        rows += changes->list[i].copies;
    if (rows <= 0)
        return SIZE_MAX;
    return pub->table->max_bytes > bytes ? pub->table->max_bytes - bytes : 0;
}

static bool prepare(struct publication *pub, struct mr_error *err)
{
    struct mr_lookup *lookup = pub->lookup;
    struct changes *changes = &lookup->changes;
    if (changes->null_keys < 0 && lookup->stats.null_keys < (uint64_t)-changes->null_keys)
        return mr_lookup_lost(lookup, "a row was deleted that is not there", err);
    if (!resolve_seeks(lookup, err))
        return false;
    lookup->maker.table = pub->table;
    lookup->maker.room = room(pub);
    sort_changes(changes, pub->table->n_row_cells);
    return prepare_keys(pub, err) && grow_index(pub, err);
}

bool mr_lookup_publish(struct mr_lookup *lookup, struct mr_error *err)
{
    const struct changes *changes = &lookup->changes;
    struct publication pub = {.lookup = lookup, .table = lookup->current};
    mr_assert(pub.table);
    if (!changes->n && !changes->n_seeks && !changes->n_touched && !changes->null_keys)
        return true;
    pub.index = table_index(pub.table);
    bool ok = prepare(&pub, err);
    if (ok)
        show(&pub);
    else
        mr_version_maker_undo(&lookup->maker);
    mr_lookup_discard(lookup);
    free(pub.shows);
    free(pub.nets);
    if (ok)
        mr_lookup_compact(lookup);
    return ok;
}
