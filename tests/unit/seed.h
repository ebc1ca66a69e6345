/*
 * seed.h - random input that can be had again: every property test prints its seed, and
 * MILLRACE_SEED sets it. One thread each. And whether a sanitizer is in: then there is less of it.
 */
#ifndef MR_TESTS_SEED_H
#define MR_TESTS_SEED_H

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* Under a sanitizer everything takes longer, and memory counts for more. */
#ifdef __has_feature /* clang's way to say it */
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define __SANITIZE_ADDRESS__ 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif

struct seed {
    uint64_t state;
};

static inline uint64_t seed_next(struct seed *seed)
{
    uint64_t z = seed->state += 0x9e3779b97f4a7c15ULL;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
    return z ^ z >> 31;
}

static inline uint64_t seed_below(struct seed *seed, uint64_t bound)
{
    return seed_next(seed) % bound;
}

static inline struct seed seed_start(const char *test)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    const char *given = getenv("MILLRACE_SEED");
    uint64_t state = given ? strtoull(given, NULL, 10) : (uint64_t)now.tv_nsec;
    fprintf(stderr, "%s: MILLRACE_SEED=%" PRIu64 "\n", test, state);
    return (struct seed){state};
}

#endif
