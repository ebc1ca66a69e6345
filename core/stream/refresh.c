/*
 * refresh.c - the life of a lookup's table: load, follow, load again.
 *
 * One thread a lookup; owns the feed, and a table until it is swapped in. Read mr_refresh_run's
 * loop first. Must not know Postgres. Tests: tests/unit/test_refresh.c.
 */
#include "stream/refresh.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/thread.h"
#include "stream/refresh_metrics.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    BACKOFF_MAX_MS = 10000,
    STEP_MS = 50,         /* of a wait that a stop can end */
    FOLLOW_MS = 100,      /* of one call of the feed */
    FOLLOW_STRICT_MS = 5, /* the same where workers ask and wait */
    HELD_MS = 30000,      /* until a re-read that was held back is tried again */
    CALM_MS = 10000       /* of following, after which a failure counts as the first again */
};

struct mr_refresh {
    struct mr_refresh_options options;
    struct mr_lookup *lookup;
    struct mr_fresh *fresh;
    atomic_bool *stop;
    struct mr_feed *feed;
    struct mr_thread thread;
    struct mr_refresh_metrics metrics;
    struct mr_log_trouble trouble;
    unsigned failures;         /* and reads soon after a read; for the back-off */
    int64_t followed_ms;       /* since when the table is followed */
    uint64_t marked, answered; /* the question that was put to the feed, 0: none; the last such */
    char why[512];             /* the feed's choice, as it was logged last */
    enum mr_feed_kind kind;
    atomic_bool accept;
    pthread_mutex_t lock; /* of the status */
    struct mr_refresh_status status;
};

static bool stopping(const struct mr_refresh *refresh)
{
    return atomic_load_explicit(refresh->stop, memory_order_relaxed);
}

/* Until the time is over, or a stop. */
static void back_off(struct mr_refresh *refresh, unsigned attempt)
{
    int64_t until = mr_clock_mono_ms() + mr_clock_backoff_ms(attempt, BACKOFF_MAX_MS);
    for (int64_t left; !stopping(refresh) && (left = until - mr_clock_mono_ms()) > 0;)
        mr_clock_sleep_ms(left < STEP_MS ? (int)left : STEP_MS);
}

/* The same, or until somebody's consent to what is held back. */
static void wait_for_consent(struct mr_refresh *refresh)
{
    int64_t until = mr_clock_mono_ms() + HELD_MS;
    while (!stopping(refresh) && !atomic_load(&refresh->accept) && mr_clock_mono_ms() < until)
        mr_clock_sleep_ms(STEP_MS);
}

static void set_problem(struct mr_refresh *refresh, bool held, const char *problem)
{
    pthread_mutex_lock(&refresh->lock);
    refresh->status.held = held;
    snprintf(refresh->status.problem, sizeof refresh->status.problem, "%s", problem);
    pthread_mutex_unlock(&refresh->lock);
}

/* False: the lookup cannot be loaded at all, a person is needed. */
static bool failed(struct mr_refresh *refresh, const struct mr_error *err)
{
    bool fatal = err->action == MR_STOP && !refresh->status.loaded;
    mr_metric_add(refresh->metrics.failures, 1);
    set_problem(refresh, false, err->msg);
    mr_log_trouble(&refresh->trouble, fatal ? MR_ERROR : MR_WARN, "lookup %s: %s%s",
                   refresh->options.name, err->msg,
                   fatal                    ? ""
                   : refresh->status.loaded ? "; the rows there are stay in use, trying again"
                                            : "; trying again");
    if (fatal) {
        pthread_mutex_lock(&refresh->lock);
        refresh->status.exit_code = err->code;
        pthread_mutex_unlock(&refresh->lock);
        return false;
    }
    back_off(refresh, refresh->failures++);
    return true;
}

/* --- what a load brought ------------------------------------------------------------------------
 */

/* A table that was emptied by mistake, or half restored, would silence a campaign without a word.
 */
static bool held_back(struct mr_refresh *refresh, const struct mr_table *table)
{
    uint64_t is = mr_table_stats(table).rows, was = mr_lookup_stats(refresh->lookup).rows;
    if (!refresh->status.loaded || !was || (is && is >= was - was / 2))
        return false;
    if (atomic_exchange(&refresh->accept, false)) {
        mr_log(MR_INFO,
               "lookup %s: read again with %" PRIu64 " rows where %" PRIu64
               " were; taken, as was said",
               refresh->options.name, is, was);
        return false;
    }
    char text[512];
    snprintf(text, sizeof text,
             "read again with %" PRIu64 " rows where %" PRIu64
             " were: held back, the old rows stay "
             "in use. If they are to go: kill -USR1 %d (or start again); if not, mend the table",
             is, was, (int)getpid());
    mr_log_trouble(&refresh->trouble, MR_ERROR, "lookup %s: %s", refresh->options.name, text);
    mr_metric_add(refresh->metrics.held, 1);
    set_problem(refresh, true, text);
    return true;
}

static void tell_kind(struct mr_refresh *refresh, const struct mr_feed_state *state)
{
    const char *name = mr_feed_kind_name(state->kind);
    if (refresh->status.loaded && state->kind == refresh->kind &&
        strcmp(refresh->why, state->why) == 0)
        return;
    mr_log(MR_INFO, "lookup %s: followed by %s%s%s", refresh->options.name, name,
           state->why[0] ? ": " : "", state->why);
    refresh->kind = state->kind;
    snprintf(refresh->why, sizeof refresh->why, "%s", state->why);
    mr_refresh_metrics_kind(&refresh->metrics, state->kind);
}

static void note_state(struct mr_refresh *refresh)
{
    struct mr_feed_state state = refresh->feed->ops->state(refresh->feed);
    mr_refresh_metrics_table(&refresh->metrics, mr_lookup_stats(refresh->lookup), &state);
    mr_fresh_set(refresh->fresh, state.as_of_ms,
                 state.kind == MR_FEED_RELOAD ? refresh->options.interval_ms : 0);
}

static void publish(struct mr_refresh *refresh, struct mr_table *table, int64_t took_ms)
{
    struct mr_feed_state state = refresh->feed->ops->state(refresh->feed);
    struct mr_table_stats stats = mr_table_stats(table);
    bool quiet = refresh->status.loaded && state.kind == MR_FEED_RELOAD;
    mr_metric_set(refresh->metrics.load_seconds, (double)took_ms / 1000);
    mr_metric_add(refresh->metrics.loads, 1);
    tell_kind(refresh, &state);
    mr_lookup_swap(refresh->lookup, table);
    note_state(refresh);
    if (state.kind == MR_FEED_RELOAD)
        refresh->failures = 0;
    refresh->followed_ms = mr_clock_mono_ms();
    refresh->marked = refresh->answered = 0; /* whoever still waits is asked for anew */
    refresh->trouble = (struct mr_log_trouble){0};
    atomic_store(&refresh->accept, false);
    set_problem(refresh, false, "");
    mr_log(quiet ? MR_DEBUG : MR_INFO,
           "lookup %s: loaded %" PRIu64 " rows under %" PRIu64 " keys, %.1f MB, in %.2f s%s",
           refresh->options.name, stats.rows, stats.keys, (double)stats.bytes / 1e6,
           (double)took_ms / 1000,
           stats.null_keys ? "; rows with a NULL key can never match and are left out" : "");
    pthread_mutex_lock(&refresh->lock);
    refresh->status.loaded = true;
    pthread_mutex_unlock(&refresh->lock);
}

static bool load(struct mr_refresh *refresh, struct mr_table **table, struct mr_error *err)
{
    const struct mr_refresh_options *options = &refresh->options;
    if (options->loading)
        options->loading(options->arg, true, false);
    bool ok = refresh->feed->ops->load(refresh->feed, table, err);
    mr_memory_give_back(); /* what the load took besides */
    if (options->loading)
        options->loading(options->arg, false, ok);
    return ok;
}

/* --- following ----------------------------------------------------------------------------------
 */

/* Workers that wait (consistency = "strict"): one question to the server answers all that were
 * asked before it. */
static void answer_workers(struct mr_refresh *refresh)
{
    struct mr_feed *feed = refresh->feed;
    struct mr_error err;
    if (refresh->marked && feed->ops->reached(feed)) {
        mr_fresh_answer(refresh->fresh, refresh->marked);
        refresh->marked = 0;
    }
    uint64_t asked = mr_fresh_asked(refresh->fresh);
    if (refresh->marked || asked == refresh->answered)
        return;
    if (!feed->ops->mark(feed, &err)) {
        mr_log_trouble(&refresh->trouble, MR_WARN, "lookup %s: %s", refresh->options.name, err.msg);
        return;
    }
    refresh->marked = refresh->answered = asked;
}

/* Until the table must be read again. */
static bool follow(struct mr_refresh *refresh)
{
    struct mr_error err;
    int timeout_ms = refresh->options.fresh.strict ? FOLLOW_STRICT_MS : FOLLOW_MS;
    while (!stopping(refresh)) {
        if (refresh->options.fresh.strict)
            answer_workers(refresh);
        enum mr_feed_event event =
            refresh->feed->ops->follow(refresh->feed, refresh->lookup, timeout_ms, &err);
        note_state(refresh);
        switch (event) {
        case MR_FEED_FOLLOWS:
            if (mr_clock_mono_ms() - refresh->followed_ms >= CALM_MS)
                refresh->failures = 0;
            break;
        case MR_FEED_READ:
            mr_log(refresh->kind == MR_FEED_RELOAD ? MR_DEBUG : MR_INFO,
                   "lookup %s: reading the table again: %s", refresh->options.name, err.msg);
            /* At once; a table that cannot be followed for long is read ever more seldom. */
            if (refresh->kind != MR_FEED_RELOAD && refresh->failures++)
                back_off(refresh, refresh->failures - 2);
            return true;
        case MR_FEED_FAILED:
            return stopping(refresh) || failed(refresh, &err);
        }
    }
    return true;
}

static void run(void *arg)
{
    struct mr_refresh *refresh = arg;
    struct mr_error err;
    mr_log_thread_name(refresh->options.name);
    bool going = refresh->options.open(refresh->options.arg, refresh->stop, &refresh->feed, &err) ||
                 failed(refresh, &err);
    while (going && refresh->feed && !stopping(refresh)) {
        struct mr_table *table = NULL;
        int64_t began_ms = mr_clock_mono_ms();
        if (!load(refresh, &table, &err)) {
            going = stopping(refresh) || failed(refresh, &err);
        } else if (held_back(refresh, table)) {
            mr_table_free(table);
            wait_for_consent(refresh);
        } else {
            publish(refresh, table, mr_clock_mono_ms() - began_ms);
            going = follow(refresh);
        }
    }
    if (refresh->feed)
        refresh->feed->ops->close(refresh->feed);
    pthread_mutex_lock(&refresh->lock);
    refresh->status.ended = true;
    pthread_mutex_unlock(&refresh->lock);
}

/* --- for others ---------------------------------------------------------------------------------
 */

struct mr_refresh *mr_refresh_start(const struct mr_refresh_options *options,
                                    struct mr_lookup *lookup, struct mr_fresh *fresh,
                                    atomic_bool *stop)
{
    struct mr_refresh *refresh = mr_calloc(1, sizeof *refresh);
    refresh->options = *options;
    refresh->lookup = lookup;
    refresh->fresh = fresh;
    refresh->stop = stop;
    pthread_mutex_init(&refresh->lock, NULL);
    mr_refresh_metrics_init(&refresh->metrics, options->name);
    mr_thread_start(&refresh->thread, run, refresh);
    return refresh;
}

struct mr_refresh_status mr_refresh_status(struct mr_refresh *refresh)
{
    pthread_mutex_lock(&refresh->lock);
    struct mr_refresh_status status = refresh->status;
    pthread_mutex_unlock(&refresh->lock);
    status.staleness_ms = status.loaded ? mr_fresh_staleness_ms(refresh->fresh) : -1;
    status.stale = status.loaded && mr_fresh_stale(refresh->fresh);
    status.pauses = status.loaded && mr_fresh_pauses(refresh->fresh);
    if (status.loaded) {
        mr_metric_set(refresh->metrics.staleness_seconds, (double)status.staleness_ms / 1000);
        mr_metric_set(refresh->metrics.stale, status.stale);
    }
    return status;
}

bool mr_refresh_accept(struct mr_refresh *refresh)
{
    bool held = mr_refresh_status(refresh).held;
    if (held)
        atomic_store(&refresh->accept, true);
    return held;
}

bool mr_refresh_join(struct mr_refresh *refresh, int64_t deadline_mono_ms)
{
    if (!mr_thread_join(&refresh->thread, deadline_mono_ms))
        return false;
    pthread_mutex_destroy(&refresh->lock);
    free(refresh);
    return true;
}
