/*
 * clock.c - time and randomness from the kernel.
 *
 * Any thread; owns nothing. Must not know what the time is used for. Tests: tests/unit/test_base.c.
 */
#include "base/clock.h"

#include "base/error.h"

#include <sys/random.h>
#include <time.h>

static int64_t read_us(clockid_t id)
{
    struct timespec ts;
    clock_gettime(id, &ts);
    return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

int64_t mr_clock_mono_ms(void)
{
    return read_us(CLOCK_MONOTONIC) / 1000;
}

int64_t mr_clock_mono_us(void)
{
    return read_us(CLOCK_MONOTONIC);
}

int64_t mr_clock_wall_ms(void)
{
    return read_us(CLOCK_REALTIME) / 1000;
}

int64_t mr_clock_random63(void)
{
    uint64_t value = 0;
    while (!value) {
        mr_assert(getrandom(&value, sizeof value, 0) == (ssize_t)sizeof value);
        value &= INT64_MAX;
    }
    return (int64_t)value;
}

int mr_clock_backoff_ms(unsigned attempt, int max_ms)
{
    int64_t ms = 100;
    while (attempt-- && ms < max_ms)
        ms *= 2;
    if (ms > max_ms)
        ms = max_ms;
    return (int)(ms / 2 + mr_clock_random63() % (ms / 2 + 1));
}
