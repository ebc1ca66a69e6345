/*
 * clock.h - monotonic time for time-outs, wall time for log lines, and where a cross-checked "now"
 * is needed (ctx.now) the store's clock: see include/millrace/store.h. Any thread.
 */
#ifndef MR_BASE_CLOCK_H
#define MR_BASE_CLOCK_H

#include <stdint.h>

int64_t mr_clock_mono_ms(void);
int64_t mr_clock_mono_us(void);
int64_t mr_clock_wall_ms(void);

/* Sleeps. */
void mr_clock_sleep_ms(int ms);

/* For the simulator: from now on time, sleep and chance are these; NULLs for the kernel's again.
 * Before any other thread runs. */
void mr_clock_hook(int64_t (*now_us)(void), void (*sleep_ms)(int ms), int64_t (*random63)(void));

/* Back-off: doubles from 100 ms to `max_ms` with jitter (half to whole). `attempt` starts at 0. */
int mr_clock_backoff_ms(unsigned attempt, int max_ms);

/* A random 63-bit number from the kernel, never 0. */
int64_t mr_clock_random63(void);

#endif
