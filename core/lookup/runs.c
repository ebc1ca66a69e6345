/*
 * runs.c - sorting the rows of a partition into runs, and merging its runs into the table.
 *
 * One thread, the builder's. A row is sorted by its key's place and the first bytes of its first
 * cell, by radix; only rows that agree in those are compared. Equal rows become one with a count.
 * Merging reads all runs once and gives their pages back behind itself. Must not know hashing or
 * limits. Tests: tests/unit/test_lookup.c.
 */
#include "lookup/builder.h"
#include "lookup/walk.h"

#include <stdlib.h>

enum { PREFIX_BYTES = 4, FORGET_STEP = 64 << 10, FORGET_PAGE = 4 << 10, FORGET_FROM = 1 << 20 };

/* A row of the tail. */
struct element {
    uint64_t prefix; /* of the first cell, ordered as the cell */
    uint32_t key;
    uint32_t at; /* its cells, from the beginning of the tail */
};

void mr_sort_space_free(struct sort_space *space)
{
    mr_pages_free(&space->elements);
    mr_pages_free(&space->other);
    mr_pages_free(&space->out);
}

static size_t list_tail(const struct partition *part, size_t n_row_cells, struct sort_space *space)
{
    const uint8_t *tail = part->rows.ptr + part->tail, *end = part->rows.ptr + part->rows.len;
    space->elements.len = 0;
    for (const uint8_t *at = tail; at < end; at = cells_skip(at, n_row_cells)) {
        uint64_t key;
        at = varint_read(at, &key);
        struct element element = {cell_prefix(at, n_row_cells), (uint32_t)key,
                                  (uint32_t)(at - tail)};
        memcpy(mr_pages_reserve(&space->elements, sizeof element), &element, sizeof element);
        space->elements.len += sizeof element;
    }
    return space->elements.len / sizeof(struct element);
}

static unsigned digit_of(const struct element *element, unsigned digit)
{
    return digit < 8 ? (unsigned)(element->prefix >> 8 * digit) & 255
                     : element->key >> 8 * (digit - 8) & 255;
}

/*
 * Which bytes are worth a pass: those that differ at all, of the prefix the leading ones only. Bits
 * of the prefix that get no pass are cleared, so that equal elements are what is left to compare.
 */
static unsigned choose_digits(struct element *elements, size_t n, uint8_t digits[12])
{
    uint64_t prefix_bits = 0, mask = 0;
    uint32_t key_bits = 0;
    unsigned count = 0, chosen = 0;
    for (size_t i = 1; i < n; i++) {
        prefix_bits |= elements[i].prefix ^ elements[0].prefix;
        key_bits |= elements[i].key ^ elements[0].key;
    }
    for (unsigned digit = 8; digit-- > 0 && chosen < PREFIX_BYTES;)
        if (prefix_bits >> 8 * digit & 255) {
            mask |= 255ULL << 8 * digit;
            chosen++;
        }
    for (unsigned digit = 0; digit < 8; digit++)
        if (mask >> 8 * digit & 255)
            digits[count++] = (uint8_t)digit;
    for (unsigned digit = 0; digit < 4; digit++)
        if (key_bits >> 8 * digit & 255)
            digits[count++] = (uint8_t)(8 + digit);
    for (size_t i = 0; i < n; i++)
        elements[i].prefix &= mask;
    return count;
}

/* Least significant digit first; each pass keeps the order of the one before. */
static struct element *radix_sort(struct element *from, struct element *to, size_t n,
                                  const uint8_t *digits, unsigned n_digits)
{
    for (unsigned pass = 0; pass < n_digits; pass++) {
        size_t places[256] = {0};
        for (size_t i = 0; i < n; i++)
            places[digit_of(&from[i], digits[pass])]++;
        size_t sum = 0;
        for (unsigned value = 0; value < 256; value++) {
            size_t count = places[value];
            places[value] = sum;
            sum += count;
        }
        for (size_t i = 0; i < n; i++)
            to[places[digit_of(&from[i], digits[pass])]++] = from[i];
        struct element *sorted = to;
        to = from;
        from = sorted;
    }
    return from;
}

struct tail_rows {
    const uint8_t *tail;
    size_t n_cells;
};

static int compare_rows(const void *a, const void *b, void *arg)
{
    const struct element *x = a, *y = b;
    const struct tail_rows *rows = arg;
    return cells_compare(rows->tail + x->at, rows->tail + y->at, rows->n_cells);
}

static bool same_place(const struct element *a, const struct element *b)
{
    return a->key == b->key && a->prefix == b->prefix;
}

static struct element *sort_elements(struct sort_space *space, size_t n, struct tail_rows *rows)
{
    uint8_t digits[12];
    mr_pages_grow(&space->other, n * sizeof(struct element));
    struct element *elements = (struct element *)(void *)space->elements.ptr;
    unsigned n_digits = choose_digits(elements, n, digits);
    struct element *sorted =
        radix_sort(elements, (struct element *)(void *)space->other.ptr, n, digits, n_digits);
    for (size_t from = 0, to; from < n; from = to) {
        for (to = from + 1; to < n && same_place(&sorted[from], &sorted[to]); to++)
            ;
        if (to - from > 1)
            qsort_r(sorted + from, to - from, sizeof *sorted, compare_rows, rows);
    }
    return sorted;
}

/* Elements [from, to) have the same key: one group of the run. */
static void write_group(struct mr_pages *out, const struct element *sorted, size_t from, size_t to,
                        const struct tail_rows *rows)
{
    size_t size = 0;
    for (size_t i = from; i < to; i++) {
        const uint8_t *row = rows->tail + sorted[i].at;
        size += (size_t)(cells_skip(row, rows->n_cells) - row) + 2; /* 2: a doubled row's count */
    }
    uint8_t *at = mr_pages_reserve(out, VARINT_MAX);
    out->len += (size_t)(varint_write(at, sorted[from].key) - at);
    struct posting_writer writer = mr_posting_open(out, to - from, size, NULL, 0);
    for (size_t next; from < to; from = next) {
        const uint8_t *row = rows->tail + sorted[from].at;
        for (next = from + 1; next < to && same_place(&sorted[from], &sorted[next]) &&
                              cells_compare(row, rows->tail + sorted[next].at, rows->n_cells) == 0;
             next++)
            ;
        mr_posting_write(&writer, row, (size_t)(cells_skip(row, rows->n_cells) - row),
                         (int64_t)(next - from));
    }
    mr_posting_close(&writer);
}

void mr_partition_sort(struct partition *part, size_t n_row_cells, struct sort_space *space)
{
    if (part->rows.len == part->tail)
        return;
    struct tail_rows rows = {part->rows.ptr + part->tail, n_row_cells};
    size_t n = list_tail(part, n_row_cells, space);
    const struct element *sorted = sort_elements(space, n, &rows);
    space->out.len = 0;
    for (size_t from = 0, to; from < n; from = to) {
        for (to = from + 1; to < n && sorted[to].key == sorted[from].key; to++)
            ;
        write_group(&space->out, sorted, from, to, &rows);
    }
    if (part->n_runs == part->cap_runs) {
        part->cap_runs = part->cap_runs ? 2 * part->cap_runs : 4;
        part->runs = mr_realloc(part->runs, part->cap_runs * sizeof *part->runs);
    }
    part->runs[part->n_runs++] = part->tail;
    part->rows.len = part->tail;
    memcpy(mr_pages_reserve(&part->rows, space->out.len), space->out.ptr, space->out.len);
    part->rows.len += space->out.len;
    part->tail = part->rows.len;
}

/* A run being read: standing on a group, or at its end. */
struct run {
    const uint8_t *at, *end; /* `at`: behind the group */
    uint64_t key, n;         /* UINT64_MAX: at the end */
    const uint8_t *rows;
    uint32_t stride;
    size_t forgotten; /* offset up to which pages were given back */
};

static void next_group(struct run *run)
{
    if (run->at == run->end) {
        run->key = UINT64_MAX;
        return;
    }
    uint64_t size;
    run->rows = varint_read(varint_read(varint_read(run->at, &run->key), &run->n), &size);
    run->stride = run->n & 1 ? (uint32_t)size : 0;
    run->n >>= 1;
    run->at = run->rows + (run->stride ? run->n * size : size);
}

static void forget_behind(struct partition *part, struct run *run, const uint8_t *at)
{
    size_t offset = (size_t)(at - part->rows.ptr);
    if (offset - run->forgotten < FORGET_STEP)
        return;
    mr_pages_forget(&part->rows, run->forgotten, offset);
    run->forgotten =
        offset & ~(size_t)(FORGET_PAGE - 1); /* the rest of its page comes with the next step */
}

/* The posting of one key, of which `n_sources` runs have rows. */
static void merge_key(struct partition *part, struct mr_table *table, const uint8_t *key,
                      size_t key_len, struct run **sources, size_t n_sources, struct walks *heap)
{
    bool forget = part->rows.len >= FORGET_FROM;
    uint64_t n = 0;
    size_t size = 0;
    heap->n = 0;
    for (size_t i = 0; i < n_sources; i++) {
        struct run *run = sources[i];
        n += run->n;
        size += (size_t)(run->at - run->rows) + (n_sources > 1 ? 2 * run->n : 0);
        struct posting rows = {.rows = run->rows, .n = run->n, .stride = run->stride};
        struct walk walk = walk_of(&rows, i);
        walk_step(&walk, heap->n_cells);
        heap->walks[heap->n++] = walk;
    }
    struct posting_writer writer = mr_posting_open(&table->postings, n, size, key, key_len);
    mr_walks_order(heap);
    while (heap->n) {
        const struct walk *first = &heap->walks[0];
        const uint8_t *row = first->at;
        size_t len = (size_t)(first->next - row);
        int64_t copies = first->copies;
        size_t source = first->order;
        for (walks_step(heap); heap->n && cells_compare(row, heap->walks[0].at, heap->n_cells) == 0;
             walks_step(heap))
            copies += heap->walks[0].copies;
        table->stats.rows += (uint64_t)copies;
        mr_posting_write(&writer, row, len, copies);
        if (forget)
            forget_behind(part, sources[source], row);
    }
    mr_posting_close(&writer);
}

void mr_partition_merge(struct partition *part, struct mr_table *table, size_t n_key_cells)
{
    size_t n_runs = part->n_runs;
    struct run *runs = mr_calloc(n_runs, sizeof *runs);
    struct run **sources = mr_calloc(n_runs, sizeof *sources);
    struct walks heap = {mr_calloc(n_runs, sizeof *heap.walks), 0, table->n_row_cells};
    for (size_t i = 0; i < n_runs; i++) {
        runs[i].at = part->rows.ptr + part->runs[i];
        runs[i].end = part->rows.ptr + (i + 1 < n_runs ? part->runs[i + 1] : part->rows.len);
        runs[i].forgotten = part->runs[i];
        next_group(&runs[i]);
    }
    for (;;) {
        uint64_t next = UINT64_MAX;
        size_t n_sources = 0;
        for (size_t i = 0; i < n_runs; i++)
            next = runs[i].key < next ? runs[i].key : next;
        if (next == UINT64_MAX)
            break;
        for (size_t i = 0; i < n_runs; i++)
            if (runs[i].key == next)
                sources[n_sources++] = &runs[i];
        const uint8_t *key = part->keys.ptr + next;
        size_t key_len = (size_t)(cells_skip(key, n_key_cells) - key);
        mr_index_enter(table_index(table), mr_table_hash(table->seed, key, key_len),
                       table->postings.len);
        merge_key(part, table, key, key_len, sources, n_sources, &heap);
        for (size_t i = 0; i < n_sources; i++)
            next_group(sources[i]);
    }
    free(heap.walks);
    free(sources);
    free(runs);
    mr_partition_free(part);
}
