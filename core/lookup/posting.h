/*
 * posting.h - the form of a posting, and writing one, for this room.
 *
 * | varint n << 1 | fixed | varint size | key cells | rows |: `size` is that of each row when they
 * are fixed, else of all rows together. In a posting that is not fixed, a row may have CELL_COPIES
 * and a varint in front: it came so often. The rows stand in their order, each once. A run of
 * changes has the same form without the key, and each row has CELL_COPIES or CELL_LESS and a varint
 * in front, also where they are fixed. Pure. Tests: tests/unit/test_lookup.c.
 */
#ifndef MR_LOOKUP_POSTING_H
#define MR_LOOKUP_POSTING_H

#include "lookup/cell.h"
#include "lookup/pages.h"

struct posting {
    const uint8_t *key;        /* its cells; of a run of changes: nothing */
    const uint8_t *rows, *end; /* packed rows: read them through a walk */
    uint64_t n;                /* rows in it (distinct ones) */
    uint32_t stride;           /* bytes of each row, with its mark; 0 if they differ */
    bool marked;               /* a run of changes */
};

enum { MARK_LEN = 2 }; /* in front of each row of a fixed run of changes */

static inline struct posting posting_read(const uint8_t *at, size_t key_len)
{
    struct posting posting;
    uint64_t n, size;
    at = varint_read(varint_read(at, &n), &size);
    posting.key = at;
    posting.rows = at + key_len;
    posting.n = n >> 1;
    posting.stride = n & 1 ? (uint32_t)size : 0;
    posting.end = posting.rows + (n & 1 ? posting.n * size : size);
    posting.marked = false;
    return posting;
}

static inline struct posting changes_read(const uint8_t *at)
{
    struct posting posting = posting_read(at, 0);
    posting.marked = true;
    return posting;
}

static inline const uint8_t *posting_key(const uint8_t *at)
{
    uint64_t skip;
    return varint_read(varint_read(at, &skip), &skip);
}

/* Rows being written behind a head that is filled in at the end. */
struct posting_writer {
    struct mr_pages *out;
    size_t head, rows; /* offsets in `out` */
    unsigned n_width, size_width;
    uint64_t n, stride;
    bool fixed, marked;
};

/* Room for at most n rows of `size` bytes in all; `key` stands between head and rows. */
struct posting_writer mr_posting_open(struct mr_pages *out, uint64_t n, size_t size,
                                      const uint8_t *key, size_t key_len);
/* The same for a run of changes; `size` without the marks. */
struct posting_writer mr_posting_open_changes(struct mr_pages *out, uint64_t n, size_t size);
/* The next row. copies is not 0; below it, in a run of changes: it went so often. */
void mr_posting_write(struct posting_writer *writer, const uint8_t *row, size_t len,
                      int64_t copies);
void mr_posting_close(struct posting_writer *writer);

#endif
