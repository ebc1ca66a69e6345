/*
 * wait.h - a test waits for a state: it looks again each millisecond, until its deadline.
 *
 * After cmocka.h. Whoever includes it says how long: DEADLINE_MS.
 */
#ifndef MR_TESTS_WAIT_H
#define MR_TESTS_WAIT_H

#include "base/clock.h"

#define WAIT(condition)                                                                            \
    do {                                                                                           \
        int64_t until_ = mr_clock_mono_ms() + DEADLINE_MS;                                         \
        while (!(condition)) {                                                                     \
            assert_true(mr_clock_mono_ms() < until_);                                              \
            mr_clock_sleep_ms(1); /* poll */                                                       \
        }                                                                                          \
    } while (0)

#endif
