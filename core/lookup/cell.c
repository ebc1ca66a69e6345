/*
 * cell.c - one value as tagged, self-delimiting, canonical bytes: what rows and keys are made of.
 *
 * Pure; any thread; owns nothing. Equal values have equal bytes, and the order of the bytes is the
 * same in every process: the cursor of a fan-out depends on it. Must not know tables or columns.
 * Tests: tests/unit/test_value.c.
 */
#include "lookup/cell.h"

#include "base/text.h"

#include <math.h>

/* clang-format off */
const uint8_t mr_cell_sizes[64] = {
    [CELL_INT_MIN] = 8, 7, 6, 5, 4, 3, 2, 1, 0, 1, 2, 3, 4, 5, 6, 7, 8,
    [CELL_FLOAT] = 8, [CELL_NUMERIC] = CELL_VARLEN, [CELL_UUID] = 16, [CELL_TEXT] = CELL_VARLEN,
    [CELL_TIMESTAMP] = 8, [CELL_DATE] = 4, [CELL_JSON] = CELL_VARLEN,
};
/* clang-format on */

static void put_big_endian(uint8_t *at, uint64_t v, unsigned width)
{
    for (unsigned i = width; i-- > 0; v >>= 8)
        at[i] = (uint8_t)v;
}

static uint64_t read_big_endian(const uint8_t *at, unsigned width)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < width; i++)
        v = v << 8 | at[i];
    return v;
}

static uint64_t all_ones(unsigned width)
{
    return width == 8 ? UINT64_MAX : (1ULL << (8 * width)) - 1;
}

static void put_int(struct mr_buf *out, int64_t i)
{
    uint8_t cell[9] = {CELL_INT_ZERO};
    uint64_t size = i < 0 ? 0 - (uint64_t)i : (uint64_t)i;
    unsigned width = size ? (unsigned)(71 - __builtin_clzll(size)) / 8 : 0;
    if (width) {
        cell[0] = (uint8_t)(i < 0 ? CELL_INT_ZERO - width : CELL_INT_ZERO + width);
        put_big_endian(cell + 1, i < 0 ? all_ones(width) - size : size, width);
    }
    mr_buf_put(out, cell, width + 1);
}

static int64_t read_int(const uint8_t *at)
{
    if (*at >= CELL_INT_ZERO)
        return (int64_t)read_big_endian(at + 1, *at - (unsigned)CELL_INT_ZERO);
    unsigned width = (unsigned)CELL_INT_ZERO - *at;
    return (int64_t)(0 - (all_ones(width) - read_big_endian(at + 1, width)));
}

/* Flipped so that unsigned bytes order as the numbers do; every NaN is the same NaN. */
static uint64_t float_order(double f)
{
    uint64_t bits = 0x7ff8000000000000ULL;
    if (!isnan(f))
        memcpy(&bits, &f, sizeof bits);
    return bits >> 63 ? ~bits : bits | 1ULL << 63;
}

static double float_unorder(uint64_t bits)
{
    bits = bits >> 63 ? bits & ~(1ULL << 63) : ~bits;
    double f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static void put_fixed(struct mr_buf *out, uint8_t tag, uint64_t v, unsigned width)
{
    uint8_t cell[9] = {tag};
    put_big_endian(cell + 1, v, width);
    mr_buf_put(out, cell, width + 1);
}

static void put_varlen(struct mr_buf *out, uint8_t tag, struct mr_bytes bytes)
{
    uint8_t *at = (uint8_t *)mr_buf_reserve(out, 1 + VARINT_MAX + bytes.len);
    uint8_t *from = at;
    *at++ = tag;
    at = varint_write(at, bytes.len);
    if (bytes.len)
        memcpy(at, bytes.ptr, bytes.len);
    mr_buf_commit(out, (size_t)(at - from) + bytes.len);
}

static void put_uuid(struct mr_buf *out, const uint8_t uuid[16])
{
    char *at = mr_buf_reserve(out, 17);
    *at = CELL_UUID;
    memcpy(at + 1, uuid, 16);
    mr_buf_commit(out, 17);
}

void mr_cell_put(struct mr_buf *out, const struct mr_value *value)
{
    uint8_t uuid[16];
    switch (value->type) {
    case MR_NULL:
        mr_buf_put_char(out, CELL_NULL);
        return;
    case MR_BOOL:
        mr_buf_put_char(out, value->b ? CELL_TRUE : CELL_FALSE);
        return;
    case MR_INT:
        put_int(out, value->i);
        return;
    case MR_FLOAT:
        put_fixed(out, CELL_FLOAT, float_order(value->f), 8);
        return;
    case MR_NUMERIC:
        put_varlen(out, CELL_NUMERIC, value->bytes);
        return;
    case MR_TEXT:
        if (mr_text_uuid_parse(value->bytes.ptr, value->bytes.len, uuid))
            put_uuid(out, uuid);
        else
            put_varlen(out, CELL_TEXT, value->bytes);
        return;
    case MR_UUID:
        put_uuid(out, value->uuid);
        return;
    case MR_TIMESTAMP:
        put_fixed(out, CELL_TIMESTAMP, (uint64_t)value->i ^ 1ULL << 63, 8);
        return;
    case MR_DATE:
        put_fixed(out, CELL_DATE, (uint64_t)value->i ^ 1ULL << 31, 4);
        return;
    case MR_JSON:
        put_varlen(out, CELL_JSON, value->bytes);
        return;
    }
    mr_assert(!"a value of no type");
}

const uint8_t *mr_cell_read(const uint8_t *at, struct mr_value *value)
{
    static const uint8_t varlen_types[64] = {
        [CELL_NUMERIC] = MR_NUMERIC, [CELL_TEXT] = MR_TEXT, [CELL_JSON] = MR_JSON};
    uint64_t len;
    switch (*at) {
    case CELL_NULL:
        value->type = MR_NULL;
        return at + 1;
    case CELL_FALSE:
    case CELL_TRUE:
        value->type = MR_BOOL;
        value->b = *at == CELL_TRUE;
        return at + 1;
    case CELL_FLOAT:
        value->type = MR_FLOAT;
        value->f = float_unorder(read_big_endian(at + 1, 8));
        return at + 9;
    case CELL_UUID:
        value->type = MR_UUID;
        memcpy(value->uuid, at + 1, 16);
        return at + 17;
    case CELL_NUMERIC:
    case CELL_TEXT:
    case CELL_JSON:
        value->type = (enum mr_type)varlen_types[*at];
        at = varint_read(at + 1, &len);
        value->bytes = (struct mr_bytes){(const char *)at, len};
        return at + len;
    case CELL_TIMESTAMP:
        value->type = MR_TIMESTAMP;
        value->i = (int64_t)(read_big_endian(at + 1, 8) ^ 1ULL << 63);
        return at + 9;
    case CELL_DATE:
        value->type = MR_DATE;
        value->i = (int32_t)(uint32_t)(read_big_endian(at + 1, 4) ^ 1ULL << 31);
        return at + 5;
    default:
        mr_assert(*at >= CELL_INT_MIN && *at <= CELL_INT_MAX);
        value->type = MR_INT;
        value->i = read_int(at);
        return cell_skip(at);
    }
}

const uint8_t *mr_cell_skip(const uint8_t *at)
{
    return cell_skip(at);
}

int mr_cell_compare(const uint8_t *a, const uint8_t *b)
{
    return cell_compare_step(&a, &b);
}

static bool tag_exists(uint8_t tag)
{
    return (tag >= CELL_NULL && tag <= CELL_TRUE) || (tag >= CELL_INT_MIN && tag <= CELL_INT_MAX) ||
           (tag >= CELL_FLOAT && tag <= CELL_JSON);
}

size_t mr_cells_count(struct mr_bytes cells)
{
    const uint8_t *at = (const uint8_t *)cells.ptr, *end = at + cells.len;
    size_t n = 0;
    for (; at < end; n++) {
        if (!tag_exists(*at))
            return 0;
        uint64_t len = mr_cell_sizes[*at++];
        if (len == CELL_VARLEN) {
            len = 0;
            for (unsigned shift = 0;; shift += 7, at++) {
                if (at == end || shift > 56)
                    return 0;
                len |= (uint64_t)(*at & 0x7f) << shift;
                if (!(*at & 0x80))
                    break;
            }
            at++;
        }
        if (len > (uint64_t)(end - at))
            return 0;
        at += len;
    }
    return n;
}
