/*
 * cell.h - the inside of a cell, for this room: tags, lengths, inline skip and compare.
 *
 * The form is stored in the ledger (frozen keys, cursors) and orders postings in every process: it
 * must not change without a new version of the ledger. Pure; any thread; no bounds are checked here
 * (mr_cells_count does that for bytes that come from outside). Tests: tests/unit/test_value.c.
 */
#ifndef MR_LOOKUP_CELL_H
#define MR_LOOKUP_CELL_H

#include "millrace/lookup.h"

/*
 * One byte of tag, then the payload. The tag of an integer carries its sign and width, so that tag
 * and big-endian payload order numerically; zero has no payload. Text-like payloads have a varint
 * length.
 */
enum {
    CELL_COPIES = 0x00, /* in a posting only: a varint count, then the row that stands so often */
    CELL_NULL = 0x01,
    CELL_FALSE = 0x02,
    CELL_TRUE = 0x03,
    CELL_LESS = 0x04,    /* likewise, in a run of changes: the row stands so often less */
    CELL_INT_MIN = 0x0c, /* 8 bytes, negative ... 0x13: 1 byte, negative */
    CELL_INT_ZERO = 0x14,
    CELL_INT_MAX = 0x1c, /* 0x15: 1 byte, positive ... 8 bytes */
    CELL_FLOAT = 0x20,
    CELL_NUMERIC = 0x21,
    CELL_UUID = 0x22,
    CELL_TEXT = 0x23,
    CELL_TIMESTAMP = 0x24,
    CELL_DATE = 0x25,
    CELL_JSON = 0x26,
    CELL_VARLEN = 0xff /* as a size: a varint length follows the tag */
};

enum { VARINT_MAX = 10 };

/* Payload size by tag; CELL_VARLEN for the text-like. */
extern const uint8_t mr_cell_sizes[64];

static inline const uint8_t *varint_read(const uint8_t *at, uint64_t *value)
{
    uint64_t v = *at & 0x7f;
    for (unsigned shift = 7; *at++ & 0x80; shift += 7)
        v |= (uint64_t)(*at & 0x7f) << shift;
    *value = v;
    return at;
}

static inline uint8_t *varint_write(uint8_t *at, uint64_t value)
{
    while (value >= 0x80) {
        *at++ = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    *at++ = (uint8_t)value;
    return at;
}

static inline const uint8_t *cell_skip(const uint8_t *at)
{
    uint8_t size = mr_cell_sizes[*at & 63];
    at++;
    if (__builtin_expect(size != CELL_VARLEN, 1))
        return at + size;
    uint64_t len;
    at = varint_read(at, &len);
    return at + len;
}

static inline const uint8_t *cells_skip(const uint8_t *at, size_t n)
{
    while (n--)
        at = cell_skip(at);
    return at;
}

/* Compares and steps over both. */
static inline int cell_compare_step(const uint8_t **a, const uint8_t **b)
{
    const uint8_t *x = *a, *y = *b;
    if (*x != *y)
        return *x < *y ? -1 : 1;
    uint8_t size = mr_cell_sizes[*x & 63];
    x++, y++;
    if (size != CELL_VARLEN) {
        *a = x + size;
        *b = y + size;
        return memcmp(x, y, size);
    }
    uint64_t len_x, len_y;
    x = varint_read(x, &len_x);
    y = varint_read(y, &len_y);
    *a = x + len_x;
    *b = y + len_y;
    int order = memcmp(x, y, len_x < len_y ? len_x : len_y);
    return order ? order : (len_x > len_y) - (len_x < len_y);
}

static inline int cells_compare(const uint8_t *a, const uint8_t *b, size_t n)
{
    int order = 0;
    while (n-- && !order)
        order = cell_compare_step(&a, &b);
    return order;
}

/* Tag and first bytes, as a number: what is smaller here is smaller as a cell. 0 for a row
 * without cells. */
static inline uint64_t cell_prefix(const uint8_t *cell, size_t n_cells)
{
    if (!n_cells)
        return 0;
    uint8_t bytes[8] = {*cell};
    uint64_t size = mr_cell_sizes[*cell & 63];
    const uint8_t *from = cell + 1;
    if (size == CELL_VARLEN)
        from = varint_read(from, &size);
    memcpy(bytes + 1, from, size < 7 ? size : 7);
    uint64_t prefix;
    memcpy(&prefix, bytes, sizeof prefix);
    return __builtin_bswap64(prefix);
}

#endif
