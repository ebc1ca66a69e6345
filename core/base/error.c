/*
 * error.c - error values, allocation that does not fail, assertions.
 *
 * Any thread; owns nothing. Must not know logging: an assertion writes to stderr itself, since the
 * logger may be what is broken. Tests: tests/unit/test_base.c.
 */
#include "base/error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool mr_error_set(struct mr_error *err, enum mr_action action, int code, const char *format, ...)
{
    if (!err)
        return false;
    va_list ap;
    va_start(ap, format);
    err->action = action;
    err->code = code;
    err->class_[0] = '\0';
    vsnprintf(err->msg, sizeof err->msg, format, ap);
    va_end(ap);
    return false;
}

bool mr_error_reject(struct mr_error *err, const char *class_, const char *format, ...)
{
    if (!err)
        return false;
    va_list ap;
    va_start(ap, format);
    err->action = MR_REJECT;
    err->code = MR_EXIT_DATA;
    snprintf(err->class_, sizeof err->class_, "%s", class_);
    vsnprintf(err->msg, sizeof err->msg, format, ap);
    va_end(ap);
    return false;
}

bool mr_error_context(struct mr_error *err, const char *format, ...)
{
    if (!err)
        return false;
    char front[sizeof err->msg];
    va_list ap;
    va_start(ap, format);
    vsnprintf(front, sizeof front - 2, format, ap);
    va_end(ap);
    memcpy(front + strlen(front), ": ", sizeof ": ");
    /* A message too long for its place loses its end, never its beginning. */
    size_t front_len = strlen(front), kept = sizeof err->msg - 1 - front_len;
    size_t old_len = strnlen(err->msg, kept);
    memmove(err->msg + front_len, err->msg, old_len);
    err->msg[front_len + old_len] = '\0';
    memcpy(err->msg, front, front_len);
    return false;
}

static MR_NORETURN void out_of_memory(size_t size_bytes)
{
    fprintf(stderr, "millrace: out of memory asking for %zu bytes\n", size_bytes);
    abort();
}

void *mr_alloc(size_t size_bytes)
{
    void *ptr = malloc(size_bytes ? size_bytes : 1);
    if (!ptr)
        out_of_memory(size_bytes);
    return ptr;
}

void *mr_calloc(size_t n, size_t size_bytes)
{
    void *ptr = calloc(n ? n : 1, size_bytes ? size_bytes : 1);
    if (!ptr)
        out_of_memory(n * size_bytes);
    return ptr;
}

void *mr_realloc(void *ptr, size_t size_bytes)
{
    void *grown = realloc(ptr, size_bytes ? size_bytes : 1);
    if (!grown)
        out_of_memory(size_bytes);
    return grown;
}

char *mr_strdup(const char *text)
{
    return mr_strndup(text, strlen(text));
}

char *mr_strndup(const char *text, size_t len)
{
    char *copy = mr_alloc(len + 1);
    memcpy(copy, text, len);
    copy[len] = '\0';
    return copy;
}

void mr_assert_failed(const char *what, const char *file, int line)
{
    fprintf(stderr, "millrace: broken invariant: %s at %s:%d (this is a bug)\n", what, file, line);
    abort();
}
