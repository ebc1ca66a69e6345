/*
 * buf.h - a growable run of bytes: what is being built (JSON, COPY rows, message frames, SQL).
 *
 * `ptr` moves when it grows: keep offsets, not pointers. mr_buf_reserve + mr_buf_commit is the way
 * for hot paths. One owner, no thread safety. Embedded: mr_buf_init / mr_buf_fini; a zeroed struct
 * is valid.
 */
#ifndef MR_BASE_BUF_H
#define MR_BASE_BUF_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct mr_buf {
    char *ptr;
    size_t len; /* bytes in use */
    size_t cap; /* bytes allocated */
};

/* Bytes that somebody else owns. ptr == NULL means "null", which differs from empty. */
struct mr_bytes {
    const char *ptr;
    size_t len;
};

static inline struct mr_bytes mr_bytes_of(const char *text)
{
    return (struct mr_bytes){text, text ? strlen(text) : 0};
}

void mr_buf_init(struct mr_buf *buf);
void mr_buf_fini(struct mr_buf *buf);
void mr_buf_grow(struct mr_buf *buf, size_t extra); /* slow path of reserve */

/* Room for `extra` more bytes; returns where to write. Follow with mr_buf_commit. */
static inline char *mr_buf_reserve(struct mr_buf *buf, size_t extra)
{
    if (__builtin_expect(buf->cap - buf->len < extra, 0))
        mr_buf_grow(buf, extra);
    return buf->ptr + buf->len;
}

static inline void mr_buf_commit(struct mr_buf *buf, size_t written)
{
    buf->len += written;
}

static inline void mr_buf_reset(struct mr_buf *buf)
{
    buf->len = 0;
}

static inline void mr_buf_put(struct mr_buf *buf, const void *bytes, size_t len)
{
    if (!len)
        return;
    memcpy(mr_buf_reserve(buf, len), bytes, len);
    buf->len += len;
}

static inline void mr_buf_put_char(struct mr_buf *buf, char c)
{
    *mr_buf_reserve(buf, 1) = c;
    buf->len++;
}

static inline void mr_buf_put_text(struct mr_buf *buf, const char *text)
{
    mr_buf_put(buf, text, strlen(text));
}

/* Big-endian integers, as Postgres's wire format wants them. */
static inline void mr_buf_put_be16(struct mr_buf *buf, uint16_t v)
{
    v = __builtin_bswap16(v);
    mr_buf_put(buf, &v, sizeof v);
}
static inline void mr_buf_put_be32(struct mr_buf *buf, uint32_t v)
{
    v = __builtin_bswap32(v);
    mr_buf_put(buf, &v, sizeof v);
}
static inline void mr_buf_put_be64(struct mr_buf *buf, uint64_t v)
{
    v = __builtin_bswap64(v);
    mr_buf_put(buf, &v, sizeof v);
}

void mr_buf_printf(struct mr_buf *buf, const char *format, ...) MR_PRINTF(2, 3);

/* The content as a C string: puts a NUL behind it that `len` does not count. */
const char *mr_buf_cstr(struct mr_buf *buf);

#endif
