/*
 * follower.c - see follower.h.
 */
#include "support/follower.h"
#include "base/clock.h"
#include "base/thread.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { FOLLOW_MS = 20, AGAIN_MS = 50, STOP_MS = 20000 };

struct follower {
    struct mr_postgres_feed_options options; /* with our cancel flag */
    struct mr_feed *feed;
    struct mr_lookup *lookup;
    struct mr_thread thread;
    atomic_bool stop, reload;
    pthread_mutex_t lock; /* guards what is below */
    pthread_cond_t news;
    struct follower_status status;
    uint64_t asked, answered; /* strict: the number of the last question, and of the last answer */
};

static void note(struct follower *f, const struct mr_error *err, bool failed)
{
    pthread_mutex_lock(&f->lock);
    f->status.failures += failed;
    snprintf(f->status.problem, sizeof f->status.problem, "%s", err->msg);
    pthread_mutex_unlock(&f->lock);
}

static uint64_t question(struct follower *f)
{
    pthread_mutex_lock(&f->lock);
    uint64_t asked = f->asked;
    pthread_mutex_unlock(&f->lock);
    return asked;
}

static void answer(struct follower *f, uint64_t number, bool loaded, int64_t load_ms)
{
    struct mr_feed_state state = f->feed->ops->state(f->feed);
    pthread_mutex_lock(&f->lock);
    f->status.loads += loaded;
    if (loaded)
        f->status.load_ms = load_ms;
    f->status.state = state;
    if (number > f->answered)
        f->answered = number;
    pthread_cond_broadcast(&f->news);
    pthread_mutex_unlock(&f->lock);
}

static bool load(struct follower *f)
{
    struct mr_table *table = NULL;
    struct mr_error err = {0};
    uint64_t number = question(f); /* what was committed before is in what is read now */
    int64_t since = mr_clock_mono_ms();
    bool ok = f->feed->ops->load(f->feed, &table, &err);
    if (ok) {
        mr_lookup_swap(f->lookup, table);
        answer(f, number, true, mr_clock_mono_ms() - since);
    } else if (!atomic_load(&f->stop)) {
        note(f, &err, true);
        mr_clock_sleep_ms(AGAIN_MS);
    }
    return ok;
}

static void follow(struct follower *f)
{
    uint64_t marked = 0; /* the question whose position was noted; 0: none */
    enum mr_feed_event event = MR_FEED_FOLLOWS;
    while (event == MR_FEED_FOLLOWS && !atomic_load(&f->stop) &&
           !atomic_exchange(&f->reload, false)) {
        struct mr_error err = {0};
        uint64_t number = question(f);
        if (!marked && number > f->answered && f->feed->ops->mark(f->feed, &err))
            marked = number;
        event = f->feed->ops->follow(f->feed, f->lookup, FOLLOW_MS, &err);
        bool reached = event == MR_FEED_FOLLOWS && marked && f->feed->ops->reached(f->feed);
        answer(f, reached ? marked : 0, false, 0);
        if (reached)
            marked = 0;
        if (event != MR_FEED_FOLLOWS && !atomic_load(&f->stop))
            note(f, &err, event == MR_FEED_FAILED);
    }
    if (event == MR_FEED_FAILED)
        mr_clock_sleep_ms(AGAIN_MS);
}

static void run(void *arg)
{
    struct follower *f = arg;
    while (!atomic_load(&f->stop))
        if (load(f))
            follow(f);
}

struct follower *follower_start(const struct mr_postgres_feed_options *options)
{
    struct follower *f = mr_calloc(1, sizeof *f);
    struct mr_error err = {0};
    f->options = *options;
    f->options.lookup.cancel = &f->stop;
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->news, NULL);
    f->lookup = mr_lookup_new(options->lookup.name);
    if (!mr_postgres_feed_open(&f->options, &f->feed, &err)) {
        fprintf(stderr, "the feed cannot be opened: %s\n", err.msg);
        abort();
    }
    mr_thread_start(&f->thread, run, f);
    return f;
}

void follower_stop(struct follower *f)
{
    atomic_store(&f->stop, true);
    if (!mr_thread_join(&f->thread, mr_clock_mono_ms() + STOP_MS)) {
        fprintf(stderr, "the feed does not heed its cancel flag\n");
        abort();
    }
    f->feed->ops->close(f->feed);
    mr_lookup_free(f->lookup);
    pthread_cond_destroy(&f->news);
    pthread_mutex_destroy(&f->lock);
    free(f);
}

struct mr_lookup *follower_lookup(struct follower *f)
{
    return f->lookup;
}

struct follower_status follower_status(struct follower *f)
{
    pthread_mutex_lock(&f->lock);
    struct follower_status status = f->status;
    pthread_mutex_unlock(&f->lock);
    return status;
}

static struct timespec in_ms(int timeout_ms)
{
    struct timespec at;
    clock_gettime(CLOCK_REALTIME, &at);
    int64_t ns = at.tv_nsec + (int64_t)timeout_ms % 1000 * 1000000;
    at.tv_sec += timeout_ms / 1000 + (time_t)(ns / 1000000000);
    at.tv_nsec = (long)(ns % 1000000000);
    return at;
}

bool follower_loaded(struct follower *f, int timeout_ms)
{
    struct timespec until = in_ms(timeout_ms);
    pthread_mutex_lock(&f->lock);
    while (!f->status.loads && !pthread_cond_timedwait(&f->news, &f->lock, &until)) {
    }
    bool loaded = f->status.loads > 0;
    pthread_mutex_unlock(&f->lock);
    return loaded;
}

bool follower_strict(struct follower *f, int timeout_ms)
{
    struct timespec until = in_ms(timeout_ms);
    pthread_mutex_lock(&f->lock);
    uint64_t number = ++f->asked;
    while (f->answered < number && !pthread_cond_timedwait(&f->news, &f->lock, &until)) {
    }
    bool reached = f->answered >= number;
    pthread_mutex_unlock(&f->lock);
    return reached;
}

void follower_reload(struct follower *f)
{
    atomic_store(&f->reload, true);
}
