/*
 * version.c - the next version of a key, from the runs it had and what changes.
 *
 * The writer's thread. Runs are shared by the versions of a key one after the other; a version that
 * leaves one out drops it. Blocks are malloc's, the large ones pages of their own, so that they go
 * back to the kernel. Must not know pins or publishing. Tests: tests/unit/test_lookup_live.c.
 */
#include "lookup/version.h"

#include <malloc.h>
#include <stdlib.h>

enum {
    LARGE_BLOCK = 256 << 10,
    SMALL_RUN = 16,    /* rows: not worth keeping apart */
    CHANGES_MIN = 64,  /* rows of changes that a key may have, whatever its size */
    CHANGES_SHARE = 8, /* or this part of its rows */
};

/* --- blocks --- */

static size_t block_bytes(void *ptr, size_t size)
{
    return size >= LARGE_BLOCK ? mr_pages_size(size) : malloc_usable_size(ptr) + sizeof(size_t);
}

static void *block_alloc(size_t size)
{
    struct mr_pages pages = {0};
    if (size < LARGE_BLOCK)
        return mr_alloc(size);
    mr_pages_grow(&pages, size);
    return pages.ptr;
}

static void block_free(void *ptr, size_t size)
{
    struct mr_pages pages = {.ptr = ptr, .cap = mr_pages_size(size)};
    if (size < LARGE_BLOCK)
        free(ptr);
    else
        mr_pages_free(&pages);
}

void mr_blocks_add(struct blocks *blocks, void *ptr, size_t size)
{
    if (blocks->n == blocks->cap) {
        blocks->cap = blocks->cap ? 2 * blocks->cap : 8;
        blocks->list = mr_realloc(blocks->list, blocks->cap * sizeof *blocks->list);
    }
    blocks->list[blocks->n++] = (struct block){ptr, size};
    blocks->bytes += block_bytes(ptr, size);
}

void mr_blocks_free(struct blocks *blocks)
{
    for (size_t i = 0; i < blocks->n; i++)
        block_free(blocks->list[i].ptr, blocks->list[i].size);
    free(blocks->list);
    *blocks = (struct blocks){0};
}

static size_t version_size(size_t n_runs)
{
    return sizeof(struct version) + n_runs * sizeof(const uint8_t *);
}

static size_t key_len_of(const struct mr_table *table, const uint8_t *run)
{
    const uint8_t *key = posting_key(run);
    return (size_t)(cells_skip(key, table->schema->n_keys) - key);
}

static size_t run_size(const uint8_t *run, size_t key_len)
{
    return (size_t)(posting_read(run, key_len).end - run);
}

static void *unconst(const void *ptr)
{
    return (void *)(uintptr_t)ptr;
}

void mr_version_free(const struct mr_table *table, const struct version *version)
{
    if (!version)
        return;
    if (version->own_first)
        block_free(unconst(version->runs[0]),
                   run_size(version->runs[0], key_len_of(table, version->runs[0])));
    for (uint32_t i = 1; i < version->n_runs; i++)
        block_free(unconst(version->runs[i]), run_size(version->runs[i], 0));
    block_free(unconst(version), version_size(version->n_runs));
}

void mr_version_maker_undo(struct version_maker *maker)
{
    mr_blocks_free(&maker->made);
    free(maker->dropped.list);
    maker->dropped = (struct blocks){0};
    maker->died = 0;
}

void mr_version_maker_fini(struct version_maker *maker)
{
    mr_version_maker_undo(maker);
    free(maker->heap.walks);
    free(maker->runs);
    free(maker->have);
    mr_pages_free(&maker->news);
    mr_pages_free(&maker->out);
}

/* --- are the rows that go there? --- */

static uint64_t find_row(const struct posting *run, const uint8_t *row, size_t n_cells, bool *found)
{
    uint64_t low = 0, high = run->n, mark = run->marked ? MARK_LEN : 0;
    *found = false;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        int order = cells_compare(run->rows + middle * run->stride + mark, row, n_cells);
        if (order == 0) {
            *found = true;
            return middle;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static int64_t fixed_copies(const struct posting *run, const uint8_t *row, size_t n_cells)
{
    bool found;
    const uint8_t *at = run->rows + find_row(run, row, n_cells, &found) * run->stride;
    if (!found)
        return 0;
    return !run->marked ? 1 : *at == CELL_LESS ? -(int64_t)at[1] : (int64_t)at[1];
}

/* How often the run has each row that goes; one walk over the run where rows differ in size. */
static void count_rows(const struct posting *run, const struct net *nets, size_t n_nets,
                       size_t n_cells, int64_t *have)
{
    if (run->stride) {
        for (size_t i = 0; i < n_nets; i++)
            if (nets[i].copies < 0)
                have[i] += fixed_copies(run, nets[i].row, n_cells);
        return;
    }
    struct walk walk = walk_of(run, 0);
    bool more = walk_step(&walk, n_cells);
    for (size_t i = 0; i < n_nets && more; i++) {
        int order = -1;
        while (more && (order = cells_compare(walk.at, nets[i].row, n_cells)) < 0)
            more = walk_step(&walk, n_cells);
        if (more && order == 0)
            have[i] += walk.copies;
    }
}

int64_t mr_run_copies(const struct posting *run, const uint8_t *row, size_t n_cells)
{
    struct net net = {.row = row, .copies = -1};
    int64_t have = 0;
    count_rows(run, &net, 1, n_cells, &have);
    return have;
}

static bool rows_are_there(struct version_maker *maker, size_t n_runs, const struct net *nets,
                           size_t n_nets)
{
    bool any = false;
    for (size_t i = 0; i < n_nets && !any; i++)
        any = nets[i].copies < 0;
    if (!any)
        return true;
    if (maker->cap_have < n_nets) {
        maker->cap_have = n_nets;
        maker->have = mr_realloc(maker->have, n_nets * sizeof *maker->have);
    }
    memset(maker->have, 0, n_nets * sizeof *maker->have);
    for (size_t i = 0; i < n_runs; i++)
        count_rows(&maker->runs[i], nets, n_nets, maker->table->n_row_cells, maker->have);
    for (size_t i = 0; i < n_nets; i++)
        if (nets[i].copies < 0 && maker->have[i] + nets[i].copies < 0)
            return false;
    return true;
}

/* --- merging --- */

static void push_walk(struct version_maker *maker, const struct posting *run)
{
    struct walks *heap = &maker->heap;
    struct walk walk = walk_of(run, 0);
    if (heap->n == maker->heap_cap) {
        maker->heap_cap = maker->heap_cap ? 2 * maker->heap_cap : 8;
        heap->walks = mr_realloc(heap->walks, maker->heap_cap * sizeof *heap->walks);
    }
    if (walk_step(&walk, heap->n_cells))
        heap->walks[heap->n++] = walk;
}

/* Rows that several runs have become one, with the sum; those of sum 0 are left out. */
static uint64_t merge_into(struct version_maker *maker, const struct posting *runs, size_t n_runs,
                           struct posting_writer *writer)
{
    struct walks *heap = &maker->heap;
    uint64_t rows = 0;
    heap->n = 0;
    heap->n_cells = maker->table->n_row_cells;
    for (size_t i = 0; i < n_runs; i++)
        push_walk(maker, &runs[i]);
    mr_walks_order(heap);
    while (heap->n) {
        const uint8_t *row = heap->walks[0].at;
        size_t len = (size_t)(heap->walks[0].next - row);
        int64_t copies = heap->walks[0].copies;
        for (walks_step(heap); heap->n && cells_compare(row, heap->walks[0].at, heap->n_cells) == 0;
             walks_step(heap))
            copies += heap->walks[0].copies;
        if (copies)
            mr_posting_write(writer, row, len, copies);
        rows += (uint64_t)copies;
    }
    mr_posting_close(writer);
    return rows;
}

/* `key`: of a posting; ptr NULL: a run of changes. */
static uint64_t merge(struct version_maker *maker, const struct posting *runs, size_t n_runs,
                      struct mr_bytes key, struct mr_pages *out)
{
    uint64_t n = 0;
    size_t size = 0;
    for (size_t i = 0; i < n_runs; i++) {
        n += runs[i].n;
        size += (size_t)(runs[i].end - runs[i].rows);
    }
    struct posting_writer writer =
        key.ptr ? mr_posting_open(out, n, size + 2 * n, (const uint8_t *)key.ptr, key.len)
                : mr_posting_open_changes(out, n, size);
    return merge_into(maker, runs, n_runs, &writer);
}

static void load_runs(struct version_maker *maker, uint64_t slot, size_t key_len, size_t *n_runs)
{
    const struct version *version = slot_version(slot);
    size_t n = !slot ? 0 : version ? version->n_runs : 1;
    if (maker->cap_runs < n + 1) { /* one more: what changes */
        maker->cap_runs = n + 8;
        maker->runs = mr_realloc(maker->runs, maker->cap_runs * sizeof *maker->runs);
    }
    for (size_t i = 0; i < n; i++)
        maker->runs[i] = i == 0 ? posting_read(slot_first(maker->table, slot), key_len)
                                : changes_read(version->runs[i]);
    *n_runs = n;
}

uint64_t mr_version_flatten(struct version_maker *maker, uint64_t slot, struct mr_pages *out)
{
    size_t n_runs, key_len = key_len_of(maker->table, slot_first(maker->table, slot));
    load_runs(maker, slot, key_len, &n_runs);
    struct mr_bytes key = {(const char *)maker->runs[0].key, key_len};
    return merge(maker, maker->runs, n_runs, key, out);
}

/* --- the next version --- */

static uint64_t rows_of(const struct version_maker *maker, uint64_t slot)
{
    const struct version *version = slot_version(slot);
    if (!slot || version)
        return version ? version->rows : 0;
    const struct posting *base = &maker->runs[0];
    if (base->stride)
        return base->n;
    struct walk walk = walk_of(base, 0);
    uint64_t rows = 0;
    while (walk_step(&walk, maker->table->n_row_cells))
        rows += (uint64_t)walk.copies;
    return rows;
}

static struct posting write_news(struct version_maker *maker, const struct net *nets, size_t n_nets)
{
    size_t size = 0;
    for (size_t i = 0; i < n_nets; i++)
        size += nets[i].len;
    maker->news.len = 0;
    struct posting_writer writer = mr_posting_open_changes(&maker->news, n_nets, size);
    for (size_t i = 0; i < n_nets; i++)
        mr_posting_write(&writer, nets[i].row, nets[i].len, nets[i].copies);
    mr_posting_close(&writer);
    return changes_read(maker->news.ptr);
}

/* How many of the runs, the first included, stay as they are; 0: all become one posting. */
static size_t runs_that_stay(const struct posting *runs, size_t n_runs, uint64_t n_news)
{
    uint64_t changes = n_news, merged = n_news;
    if (!n_runs)
        return 0;
    for (size_t i = 1; i < n_runs; i++)
        changes += runs[i].n;
    uint64_t limit = runs[0].n / CHANGES_SHARE;
    if (changes > (limit < CHANGES_MIN ? CHANGES_MIN : limit))
        return 0;
    while (n_runs > 1 && (runs[n_runs - 1].n <= 2 * merged ||
                          (runs[n_runs - 1].n <= SMALL_RUN && merged <= SMALL_RUN)))
        merged += runs[--n_runs].n;
    return n_runs;
}

static bool make_block(struct version_maker *maker, size_t size, void **out)
{
    *out = NULL;
    if (size + 2 * sizeof(size_t) > maker->room)
        return false;
    *out = block_alloc(size);
    size_t bytes = block_bytes(*out, size);
    maker->room -= bytes < maker->room ? bytes : maker->room;
    mr_blocks_add(&maker->made, *out, size);
    return true;
}

/* What the key had, and does not have any more: its version, and the runs from `stay` on. */
static void drop(struct version_maker *maker, uint64_t slot, size_t key_len, size_t stay)
{
    const struct version *version = slot_version(slot);
    if (!slot)
        return;
    if (!stay && (!version || !version->own_first))
        maker->died += run_size(slot_first(maker->table, slot), key_len);
    if (!version)
        return;
    for (size_t i = stay; i < version->n_runs; i++)
        if (i || version->own_first)
            mr_blocks_add(&maker->dropped, unconst(version->runs[i]),
                          run_size(version->runs[i], i ? 0 : key_len));
    mr_blocks_add(&maker->dropped, unconst(version), version_size(version->n_runs));
}

static bool place_version(struct version_maker *maker, uint64_t slot, size_t stay,
                          const uint8_t *last, uint64_t rows, uint64_t *place)
{
    const struct version *old = slot_version(slot);
    struct version *version;
    size_t n_runs = stay + (last ? 1 : 0);
    bool own_first = !stay || (old && old->own_first);
    if (n_runs == 1 && !own_first) { /* as it was built */
        *place = (uint64_t)(slot_first(maker->table, slot) - maker->table->postings.ptr);
        return true;
    }
    void *block;
    if (!make_block(maker, version_size(n_runs), &block))
        return false;
    version = block;
    version->rows = rows;
    version->n_runs = (uint32_t)n_runs;
    version->own_first = own_first;
    for (size_t i = 0; i < stay; i++)
        version->runs[i] = i ? old->runs[i] : slot_first(maker->table, slot);
    if (last)
        version->runs[stay] = last;
    mr_assert(((uintptr_t)version & ~(uintptr_t)SLOT_PLACE) == 0);
    *place = SLOT_LIVE | (uintptr_t)version;
    return true;
}

enum version_made mr_version_make(struct version_maker *maker, uint64_t slot, struct mr_bytes key,
                                  const struct net *nets, size_t n_nets, uint64_t *place,
                                  int64_t *rows)
{
    size_t n_runs;
    load_runs(maker, slot, key.len, &n_runs);
    if (!rows_are_there(maker, n_runs, nets, n_nets))
        return VERSION_NOT_THERE;
    *rows = 0;
    for (size_t i = 0; i < n_nets; i++)
        *rows += nets[i].copies;
    uint64_t sum = rows_of(maker, slot) + (uint64_t)*rows;
    if (!sum) {
        *place = SLOT_DEAD;
        drop(maker, slot, key.len, 0);
        return VERSION_MADE;
    }
    maker->runs[n_runs++] = write_news(maker, nets, n_nets);
    size_t stay = runs_that_stay(maker->runs, n_runs - 1, n_nets);
    struct mr_bytes no_key = {0};
    void *last = NULL;
    maker->out.len = 0;
    merge(maker, maker->runs + stay, n_runs - stay, stay ? no_key : key, &maker->out);
    bool any = !stay || changes_read(maker->out.ptr).n;
    if (any) {
        if (!make_block(maker, maker->out.len, &last))
            return VERSION_TOO_BIG;
        memcpy(last, maker->out.ptr, maker->out.len);
    }
    if (!place_version(maker, slot, stay, last, sum, place))
        return VERSION_TOO_BIG;
    drop(maker, slot, key.len, stay);
    return VERSION_MADE;
}
