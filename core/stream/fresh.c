/*
 * fresh.c - how fresh a lookup's table is: a moment, and questions with their answers.
 *
 * Any thread; the moment is atomic, questions have a lock. Must not know feeds or workers. Tests:
 * tests/unit/test_refresh.c.
 */
#include "stream/fresh.h"

#include "base/clock.h"
#include "base/error.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

enum { STEP_MS = 100 }; /* of a wait that a stop can end */

struct mr_fresh {
    struct mr_fresh_options options;
    atomic_llong as_of_ms; /* -1: not set yet */
    atomic_llong grace_ms;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t answered;
    uint64_t asked, shown;
};

struct mr_fresh *mr_fresh_new(const struct mr_fresh_options *options)
{
    struct mr_fresh *fresh = mr_calloc(1, sizeof *fresh);
    pthread_condattr_t monotonic;
    fresh->options = *options;
    atomic_init(&fresh->as_of_ms, -1);
    pthread_mutex_init(&fresh->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&fresh->answered, &monotonic);
    pthread_condattr_destroy(&monotonic);
    return fresh;
}

void mr_fresh_free(struct mr_fresh *fresh)
{
    if (!fresh)
        return;
    pthread_cond_destroy(&fresh->answered);
    pthread_mutex_destroy(&fresh->lock);
    free(fresh);
}

const struct mr_fresh_options *mr_fresh_options(const struct mr_fresh *fresh)
{
    return &fresh->options;
}

void mr_fresh_set(struct mr_fresh *fresh, int64_t as_of_ms, int64_t grace_ms)
{
    atomic_store(&fresh->grace_ms, grace_ms);
    atomic_store(&fresh->as_of_ms, as_of_ms);
}

uint64_t mr_fresh_asked(struct mr_fresh *fresh)
{
    pthread_mutex_lock(&fresh->lock);
    uint64_t asked = fresh->asked;
    pthread_mutex_unlock(&fresh->lock);
    return asked;
}

void mr_fresh_answer(struct mr_fresh *fresh, uint64_t question)
{
    pthread_mutex_lock(&fresh->lock);
    if (question > fresh->shown)
        fresh->shown = question;
    pthread_cond_broadcast(&fresh->answered);
    pthread_mutex_unlock(&fresh->lock);
}

int64_t mr_fresh_staleness_ms(const struct mr_fresh *fresh)
{
    int64_t as_of_ms = atomic_load(&fresh->as_of_ms);
    return as_of_ms < 0 ? -1 : mr_clock_mono_ms() - as_of_ms;
}

bool mr_fresh_stale(const struct mr_fresh *fresh)
{
    int64_t staleness_ms = mr_fresh_staleness_ms(fresh);
    return staleness_ms < 0 ||
           staleness_ms > fresh->options.max_staleness_ms + atomic_load(&fresh->grace_ms);
}

bool mr_fresh_pauses(const struct mr_fresh *fresh)
{
    return fresh->options.pause && mr_fresh_stale(fresh);
}

bool mr_fresh_await(struct mr_fresh *fresh, const atomic_bool *stop, int timeout_ms)
{
    if (!fresh->options.strict)
        return true;
    int64_t deadline_ms = mr_clock_mono_ms() + timeout_ms;
    pthread_mutex_lock(&fresh->lock);
    uint64_t question = ++fresh->asked;
    for (int64_t now_ms; fresh->shown < question && !atomic_load(stop) &&
                         (now_ms = mr_clock_mono_ms()) < deadline_ms;) {
        int64_t until_ms = now_ms + STEP_MS < deadline_ms ? now_ms + STEP_MS : deadline_ms;
        struct timespec until = {.tv_sec = until_ms / 1000, .tv_nsec = until_ms % 1000 * 1000000};
        pthread_cond_timedwait(&fresh->answered, &fresh->lock, &until);
    }
    bool shown = fresh->shown >= question;
    pthread_mutex_unlock(&fresh->lock);
    return shown;
}
