/*
 * buf.c - growable bytes: the slow paths.
 *
 * One owner, no thread safety. Owns the allocation behind `ptr`. Must not know what the bytes mean.
 * Tests: tests/unit/test_base.c.
 */
#include "base/buf.h"

#include <stdio.h>
#include <stdlib.h>

void mr_buf_init(struct mr_buf *buf)
{
    *buf = (struct mr_buf){0};
}

void mr_buf_fini(struct mr_buf *buf)
{
    free(buf->ptr);
    *buf = (struct mr_buf){0};
}

void mr_buf_grow(struct mr_buf *buf, size_t extra)
{
    size_t need = buf->len + extra;
    size_t cap = buf->cap ? buf->cap : 256;
    while (cap < need)
        cap += cap / 2 + 64;
    buf->ptr = mr_realloc(buf->ptr, cap);
    buf->cap = cap;
}

void mr_buf_printf(struct mr_buf *buf, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    int n = vsnprintf(NULL, 0, format, ap);
    va_end(ap);
    mr_assert(n >= 0);
    char *at = mr_buf_reserve(buf, (size_t)n + 1);
    va_start(ap, format);
    vsnprintf(at, (size_t)n + 1, format, ap);
    va_end(ap);
    mr_buf_commit(buf, (size_t)n);
}

const char *mr_buf_cstr(struct mr_buf *buf)
{
    *mr_buf_reserve(buf, 1) = '\0';
    return buf->ptr;
}
