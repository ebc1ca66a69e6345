/*
 * test_watch.c - the watchdog: a phase beyond its budget is named once, and given up in the end.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/log.h"
#include "stream/watch.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

enum { DEADLINE_MS = 20000 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char lines[8192];
static atomic_int given_up;

static void keep_line(const char *text, void *arg)
{
    (void)arg;
    pthread_mutex_lock(&lock);
    size_t len = strlen(lines);
    snprintf(lines + len, sizeof lines - len, "%s\n", text);
    pthread_mutex_unlock(&lock);
}

static int count(const char *text)
{
    int n = 0;
    pthread_mutex_lock(&lock);
    for (const char *at = lines; (at = strstr(at, text)); at++)
        n++;
    pthread_mutex_unlock(&lock);
    return n;
}

static void give_up(void *arg)
{
    (void)arg;
    atomic_fetch_add(&given_up, 1);
}

static void what_is_stuck_is_named_and_given_up(void **state)
{
    (void)state;
    struct mr_watch busy = {0}, stuck = {0};
    struct mr_watch *const watches[] = {&busy, &stuck};
    const char *const names[] = {"promo/0", "promo/1"};
    struct mr_budget budgets[MR_PHASES];
    int64_t deadline = mr_clock_mono_ms() + DEADLINE_MS;
    mr_log_hook(keep_line, NULL);
    mr_phase_budgets(budgets);
    budgets[MR_PHASE_DECIDE] = (struct mr_budget){300, 1500};
    budgets[MR_PHASE_POLL] = (struct mr_budget){1000, 60000};
    mr_watch_enter(&stuck, MR_PHASE_DECIDE);
    struct mr_watchdog *dog = mr_watchdog_start(watches, names, 2, budgets, give_up, NULL);
    int64_t entered = mr_clock_mono_ms(), gap = 0;
    while (!atomic_load(&given_up)) {
        int64_t now = mr_clock_mono_ms();
        assert_true(now < deadline);
        gap = now - entered > gap ? now - entered : gap;
        entered = now;
        mr_watch_enter(&busy, MR_PHASE_POLL);
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL); /* poll */
    }
    mr_watchdog_stop(dog);
    gap = mr_clock_mono_ms() - entered > gap ? mr_clock_mono_ms() - entered : gap;
    mr_log_hook(NULL, NULL);
    assert_int_equal(count("worker promo/1 is stuck waiting for Postgres to COMMIT"), 1);
    assert_true(count("this process gives up") >= 1);
    if (gap < 900) /* else the machine stood still, and it was stuck indeed */
        assert_int_equal(count("promo/0"), 0);
}

/* Every phase has a name and a budget that is longer than its warning. */
static void the_table_is_complete(void **state)
{
    (void)state;
    struct mr_budget budgets[MR_PHASES];
    mr_phase_budgets(budgets);
    for (int i = 0; i < MR_PHASES; i++) {
        assert_non_null(mr_phase_name((enum mr_phase)i));
        assert_true(budgets[i].warn_ms > 0);
        assert_true(!budgets[i].give_up_ms || budgets[i].give_up_ms > budgets[i].warn_ms);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_stuck_is_named_and_given_up),
        cmocka_unit_test(the_table_is_complete),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
