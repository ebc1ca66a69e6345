/*
 * fuzz.h - what fuzz targets share: reading choices from the input, and checks that stay on.
 *
 * A target is one function that gets bytes and must not crash, leak, hang or break a check. What
 * it chooses (types, columns) it takes from the first bytes; an input that ends early gives zeros.
 * Targets keep no state from one input to the next that another input could see, so that a finding
 * can be replayed alone.
 */
#ifndef MR_TESTS_FUZZ_H
#define MR_TESTS_FUZZ_H

#include "base/buf.h"

#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FUZZ_CHECK(cond, ...)                                                                      \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #cond);                             \
            fprintf(stderr, __VA_ARGS__);                                                          \
            fputc('\n', stderr);                                                                   \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

struct fuzz_input {
    const uint8_t *at, *end;
};

static inline uint64_t fuzz_number(struct fuzz_input *in, unsigned bytes)
{
    uint64_t n = 0;
    for (; bytes && in->at < in->end; bytes--)
        n = n << 8 | *in->at++;
    return n;
}

static inline uint8_t fuzz_byte(struct fuzz_input *in)
{
    return (uint8_t)fuzz_number(in, 1);
}

/* At most `max` bytes; never NULL. */
static inline struct mr_bytes fuzz_bytes(struct fuzz_input *in, size_t max)
{
    size_t left = (size_t)(in->end - in->at), len = left < max ? left : max;
    const uint8_t *at = in->at;
    in->at += len;
    return (struct mr_bytes){at ? (const char *)at : "", len};
}

static inline struct mr_bytes fuzz_rest(struct fuzz_input *in)
{
    return fuzz_bytes(in, SIZE_MAX);
}

/* A refusal is for the message alone, has a class that is documented, and says something. */
static inline void fuzz_check_reject(const struct mr_error *err, const char *classes)
{
    char wanted[24];
    snprintf(wanted, sizeof wanted, " %s ", err->class_);
    FUZZ_CHECK(err->action == MR_REJECT, "action %d: %s", (int)err->action, err->msg);
    FUZZ_CHECK(err->class_[0] && strstr(classes, wanted), "class \"%s\": %s", err->class_,
               err->msg);
    FUZZ_CHECK(err->msg[0], "a refusal without a sentence");
}

#endif
