/*
 * times.c - many durations, and what is said of them: p50, p99, max.
 */
#include "times.h"
#include "tool.h"

#include <stdio.h>
#include <stdlib.h>

void times_add(struct times *times, double seconds)
{
    if (times->n == times->size) {
        times->size = times->size ? 2 * times->size : 1024;
        times->seconds = realloc(times->seconds, times->size * sizeof *times->seconds);
        if (!times->seconds)
            die("memory", "there is none left");
    }
    times->seconds[times->n++] = seconds;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The nearest rank. */
static double rank_ms(const struct times *times, unsigned percent)
{
    size_t rank = (times->n * percent + 99) / 100;
    return times->n ? times->seconds[rank ? rank - 1 : 0] * 1e3 : 0;
}

void times_print(struct times *times, const char *name, const char *end)
{
    if (times->n)
        qsort(times->seconds, times->n, sizeof *times->seconds, by_size);
    printf("\"%s\": {\"p50\": %.3f, \"p99\": %.3f, \"max\": %.3f, \"n\": %zu}%s", name,
           rank_ms(times, 50), rank_ms(times, 99), rank_ms(times, 100), times->n, end);
    free(times->seconds);
    *times = (struct times){0};
}
