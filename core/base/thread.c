/*
 * thread.c - start, and join with a deadline.
 *
 * Owns the pthread and its condition. (pthread_clockjoin_np would do, but ThreadSanitizer does not
 * see it.) Tests: tests/unit/test_base.c.
 */
#include "base/thread.h"

#include "base/error.h"

#include <signal.h>
#include <time.h>

static void *enter(void *arg)
{
    struct mr_thread *thread = arg;
    thread->run(thread->arg);
    pthread_mutex_lock(&thread->lock);
    thread->ended = true;
    pthread_cond_broadcast(&thread->ended_cond);
    pthread_mutex_unlock(&thread->lock);
    return NULL;
}

void mr_thread_start(struct mr_thread *thread, void (*run)(void *arg), void *arg)
{
    pthread_condattr_t attr;
    *thread = (struct mr_thread){.run = run, .arg = arg};
    pthread_mutex_init(&thread->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&thread->ended_cond, &attr);
    pthread_condattr_destroy(&attr);
    /* Signals are for the thread that drives the process. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    mr_assert(pthread_create(&thread->id, NULL, enter, thread) == 0);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

bool mr_thread_join(struct mr_thread *thread, int64_t deadline_mono_ms)
{
    struct timespec at = {.tv_sec = deadline_mono_ms / 1000,
                          .tv_nsec = deadline_mono_ms % 1000 * 1000000};
    int failed = 0;
    pthread_mutex_lock(&thread->lock);
    while (!thread->ended && !failed)
        failed = pthread_cond_timedwait(&thread->ended_cond, &thread->lock, &at);
    bool ended = thread->ended;
    pthread_mutex_unlock(&thread->lock);
    if (!ended)
        return false;
    pthread_join(thread->id, NULL);
    pthread_cond_destroy(&thread->ended_cond);
    pthread_mutex_destroy(&thread->lock);
    return true;
}
