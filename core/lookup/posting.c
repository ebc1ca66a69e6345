/*
 * posting.c - writing a posting, row by row.
 *
 * One owner, no thread safety. The head has a fixed width, chosen before the rows are known, and is
 * filled in when they are. Must not know where the rows come from. Tests: tests/unit/test_lookup.c.
 */
#include "lookup/posting.h"

/* A varint of a width that was fixed before its value was known. */
static void varint_write_padded(uint8_t *at, uint64_t value, unsigned width)
{
    for (unsigned i = 0; i + 1 < width; i++, value >>= 7)
        at[i] = (uint8_t)(value | 0x80);
    mr_assert(value < 0x80);
    at[width - 1] = (uint8_t)value;
}

static unsigned varint_width(uint64_t value)
{
    unsigned width = 1;
    while (value >>= 7)
        width++;
    return width;
}

struct posting_writer mr_posting_open(struct mr_pages *out, uint64_t n, size_t size,
                                      const uint8_t *key, size_t key_len)
{
    struct posting_writer writer = {.out = out,
                                    .head = out->len,
                                    .n_width = varint_width(n << 1 | 1),
                                    .size_width = varint_width(size),
                                    .fixed = true};
    size_t head_len = writer.n_width + writer.size_width;
    uint8_t *at = mr_pages_reserve(out, head_len + key_len + size);
    if (key_len)
        memcpy(at + head_len, key, key_len);
    out->len += head_len + key_len;
    writer.rows = out->len;
    return writer;
}

struct posting_writer mr_posting_open_changes(struct mr_pages *out, uint64_t n, size_t size)
{
    struct posting_writer writer =
        mr_posting_open(out, n, size + n * (1 + (size_t)VARINT_MAX), NULL, 0);
    writer.marked = true;
    return writer;
}

void mr_posting_write(struct posting_writer *writer, const uint8_t *row, size_t len, int64_t copies)
{
    struct mr_pages *out = writer->out;
    uint8_t *at = mr_pages_reserve(out, len + 1 + VARINT_MAX), *from = at;
    if (writer->marked || copies != 1 || !len) { /* without columns: nothing but its count */
        *at++ = copies < 0 ? CELL_LESS : CELL_COPIES;
        at = varint_write(at, (uint64_t)(copies < 0 ? -copies : copies));
    }
    size_t mark = (size_t)(at - from);
    if (len)
        memcpy(at, row, len);
    if (!writer->n)
        writer->stride = mark + len;
    writer->fixed = writer->fixed && len && mark == (writer->marked ? MARK_LEN : 0) &&
                    mark + len == writer->stride;
    writer->n++;
    out->len += mark + len;
}

void mr_posting_close(struct posting_writer *writer)
{
    uint8_t *head = writer->out->ptr + writer->head;
    size_t size = writer->fixed ? writer->stride : writer->out->len - writer->rows;
    varint_write_padded(head, writer->n << 1 | writer->fixed, writer->n_width);
    varint_write_padded(head + writer->n_width, size, writer->size_width);
}
