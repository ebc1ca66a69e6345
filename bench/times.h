/*
 * times.h - many durations, and what is said of them: p50, p99, max.
 */
#ifndef BENCH_TIMES_H
#define BENCH_TIMES_H

#include <stddef.h>

struct times {
    double *seconds;
    size_t n, size;
};
void times_add(struct times *times, double seconds);
/* Prints "name": {"p50": ..., "p99": ..., "max": ..., "n": ...}, in milliseconds; puts them in
 * order and frees them. */
void times_print(struct times *times, const char *name, const char *end);

#endif
