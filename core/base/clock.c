/*
 * clock.c - time and randomness from the kernel.
 *
 * Any thread; owns nothing. Must not know what the time is used for. Tests: tests/unit/test_base.c.
 */
#include "base/clock.h"

#include "base/error.h"

#include <sys/random.h>
#include <time.h>

static int64_t (*hooked_now_us)(void);
static void (*hooked_sleep_ms)(int ms);
static int64_t (*hooked_random63)(void);

void mr_clock_hook(int64_t (*now_us)(void), void (*sleep_ms)(int ms), int64_t (*random63)(void))
{
    hooked_now_us = now_us;
    hooked_sleep_ms = sleep_ms;
    hooked_random63 = random63;
}

static int64_t read_us(clockid_t id)
{
    struct timespec ts;
    if (__builtin_expect(hooked_now_us != NULL, 0))
        return hooked_now_us();
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

void mr_clock_sleep_ms(int ms)
{
    if (hooked_sleep_ms)
        hooked_sleep_ms(ms);
    else
        nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L}, NULL);
}

int64_t mr_clock_random63(void)
{
    uint64_t value = 0;
    if (hooked_random63)
        return hooked_random63();
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
