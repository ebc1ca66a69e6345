/*
 * thread.h - a thread that can be waited for until a deadline.
 *
 * Started and joined by one owner; takes no signals. Nothing is freed or joined when the deadline
 * passes first: the thread is still running then, and its owner decides.
 */
#ifndef MR_BASE_THREAD_H
#define MR_BASE_THREAD_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct mr_thread {
    pthread_t id;
    pthread_mutex_t lock;
    pthread_cond_t ended_cond;
    bool ended;
    void (*run)(void *arg);
    void *arg;
};

void mr_thread_start(struct mr_thread *thread, void (*run)(void *arg), void *arg);
/* Deadline in monotonic milliseconds. False: still running. */
bool mr_thread_join(struct mr_thread *thread, int64_t deadline_mono_ms);

#endif
