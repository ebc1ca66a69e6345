/*
 * watch.c - the watchdog: see watch.h.
 *
 * One thread for all workers of the process. Owns copies of their names. Must not touch a worker:
 * one that is stuck may hold any lock. Death is always allowed (INVARIANTS.md), so giving up is
 * safe, and a supervisor starts the process anew. Tests: tests/unit/test_watch.c.
 */
#include "stream/watch.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"

#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { LOOK_MS = 250, FLUSH_US = 10000 };

/* Warn beyond what its own time-outs allow in ordinary trouble; give up beyond all of them. */
static const struct phase {
    const char *name, *label;
    struct mr_budget budget;
} phases[MR_PHASES] = {
    [MR_PHASE_OPEN] = {"opening its services", "open", {60000, 0}},
    [MR_PHASE_POLL] = {"polling the group", "poll", {10000, 60000}},
    [MR_PHASE_LOOKUP] = {"waiting for the lookup to catch up", "lookup", {20000, 120000}},
    [MR_PHASE_BUILD] = {"building a unit (Lua, join)", "build", {20000, 300000}},
    [MR_PHASE_PRODUCE] = {"producing", "produce", {30000, 120000}},
    [MR_PHASE_STORE] = {"writing to Postgres", "store", {30000, 180000}},
    [MR_PHASE_FLUSH] = {"waiting for Kafka's acknowledgements", "flush", {30000, 120000}},
    [MR_PHASE_OFFSETS] = {"sending offsets to Kafka's transaction", "offsets", {20000, 120000}},
    [MR_PHASE_DECIDE] = {"waiting for Postgres to COMMIT", "decide", {20000, 180000}},
    [MR_PHASE_COMMIT] = {"committing Kafka's transaction", "commit", {20000, 120000}},
    [MR_PHASE_CLAIM] = {"claiming a partition", "claim", {60000, 300000}},
    [MR_PHASE_ENDED] = {"ending", "end", {60000, 0}},
};

const char *mr_phase_name(enum mr_phase phase)
{
    return phases[phase].name;
}

void mr_phase_budgets(struct mr_budget out[MR_PHASES])
{
    for (int i = 0; i < MR_PHASES; i++)
        out[i] = phases[i].budget;
}

void mr_watch_init(struct mr_watch *watch, const char *pipeline)
{
    for (int i = 0; i < MR_PHASES; i++) {
        struct mr_buf labels = {0};
        mr_metrics_label(&labels, "pipeline", pipeline);
        mr_metrics_label(&labels, "phase", phases[i].label);
        watch->seconds[i] = mr_metrics_get(MR_COUNTER, "millrace_phase_seconds_total",
                                           "Where the workers' time went.", mr_buf_cstr(&labels));
        mr_buf_fini(&labels);
    }
}

void mr_watch_enter(struct mr_watch *watch, enum mr_phase phase)
{
    if (!watch)
        return;
    int64_t now_us = mr_clock_mono_us();
    int before = atomic_load_explicit(&watch->phase, memory_order_relaxed);
    if (watch->since_us)
        watch->spent_us[before] += now_us - watch->since_us;
    /* The metric is shared by the workers: not with every message. */
    if (watch->spent_us[before] >= FLUSH_US && watch->seconds[before]) {
        mr_metric_add(watch->seconds[before], (double)watch->spent_us[before] / 1e6);
        watch->spent_us[before] = 0;
    }
    watch->since_us = now_us;
    /* The time first: a reader between the two sees the old phase, fresh. */
    atomic_store_explicit(&watch->since_ms, now_us / 1000, memory_order_relaxed);
    atomic_store_explicit(&watch->phase, (int)phase, memory_order_release);
}

struct watched {
    struct mr_watch *watch;
    char *name;
    long long warned_since; /* since_ms of the stay that was named */
};

struct mr_watchdog {
    struct mr_thread thread;
    struct watched *items;
    size_t n;
    struct mr_budget budgets[MR_PHASES];
    void (*give_up)(void *arg);
    void *arg;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool stop;
};

static void exit_now(void *arg)
{
    (void)arg;
    _exit(MR_EXIT_TRY_AGAIN);
}

static void look(struct mr_watchdog *dog, struct watched *item)
{
    int phase = atomic_load_explicit(&item->watch->phase, memory_order_acquire);
    long long since = atomic_load_explicit(&item->watch->since_ms, memory_order_relaxed);
    long long ms = since ? mr_clock_mono_ms() - since : 0;
    const struct mr_budget *budget = &dog->budgets[phase];
    if (ms >= budget->warn_ms && item->warned_since != since) {
        item->warned_since = since;
        mr_log(MR_WARN, "worker %s is stuck %s: %lld s, expected at most %d s", item->name,
               phases[phase].name, ms / 1000, budget->warn_ms / 1000);
    }
    if (!budget->give_up_ms || ms < budget->give_up_ms)
        return;
    mr_log(MR_ERROR,
           "worker %s has been stuck %s for %lld s: this process gives up, so that its partitions "
           "can be taken over; nothing that was decided is lost",
           item->name, phases[phase].name, ms / 1000);
    dog->give_up(dog->arg);
}

static void run(void *arg)
{
    struct mr_watchdog *dog = arg;
    mr_log_thread_name("watchdog");
    pthread_mutex_lock(&dog->lock);
    while (!dog->stop) {
        int64_t at_ms = mr_clock_mono_ms() + LOOK_MS;
        struct timespec at = {.tv_sec = at_ms / 1000, .tv_nsec = at_ms % 1000 * 1000000};
        for (size_t i = 0; i < dog->n; i++)
            look(dog, &dog->items[i]);
        pthread_cond_timedwait(&dog->wake, &dog->lock, &at);
    }
    pthread_mutex_unlock(&dog->lock);
}

struct mr_watchdog *mr_watchdog_start(struct mr_watch *const *watches, const char *const *names,
                                      size_t n, const struct mr_budget *budgets,
                                      void (*give_up)(void *arg), void *arg)
{
    struct mr_watchdog *dog = mr_calloc(1, sizeof *dog);
    pthread_condattr_t attr;
    dog->items = mr_calloc(n, sizeof *dog->items);
    dog->n = n;
    for (size_t i = 0; i < n; i++)
        dog->items[i] = (struct watched){.watch = watches[i], .name = mr_strdup(names[i])};
    for (int i = 0; i < MR_PHASES; i++)
        dog->budgets[i] = budgets[i];
    dog->give_up = give_up ? give_up : exit_now;
    dog->arg = arg;
    pthread_mutex_init(&dog->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&dog->wake, &attr);
    pthread_condattr_destroy(&attr);
    mr_thread_start(&dog->thread, run, dog);
    return dog;
}

void mr_watchdog_set_budget(struct mr_watchdog *dog, enum mr_phase phase, struct mr_budget budget)
{
    pthread_mutex_lock(&dog->lock);
    dog->budgets[phase] = budget;
    pthread_mutex_unlock(&dog->lock);
}

void mr_watchdog_stop(struct mr_watchdog *dog)
{
    pthread_mutex_lock(&dog->lock);
    dog->stop = true;
    pthread_cond_signal(&dog->wake);
    pthread_mutex_unlock(&dog->lock);
    while (!mr_thread_join(&dog->thread, mr_clock_mono_ms() + LOOK_MS * 4))
        continue;
    pthread_cond_destroy(&dog->wake);
    pthread_mutex_destroy(&dog->lock);
    for (size_t i = 0; i < dog->n; i++)
        free(dog->items[i].name);
    free(dog->items);
    free(dog);
}
