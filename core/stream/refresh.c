/*
 * refresh.c - the reload feed: read the whole table, swap, wait, again.
 *
 * One thread a lookup; owns the table until it is swapped in. Must not know Postgres. Tests:
 * tests/unit/test_stream.c.
 */
#include "stream/refresh.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/thread.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { BACKOFF_MAX_MS = 10000, STEP_MS = 50 };

struct mr_refresh {
    struct mr_refresh_options options;
    struct mr_lookup *lookup;
    atomic_bool *stop;
    struct mr_thread thread;
    pthread_mutex_t lock;
    struct mr_refresh_status status;
    int64_t loaded_at_ms;
    struct mr_metric *rows, *keys, *bytes, *loads, *failures, *load_seconds, *age_seconds;
};

static bool stopping(const struct mr_refresh *refresh)
{
    return atomic_load_explicit(refresh->stop, memory_order_relaxed);
}

static void sleep_ms(struct mr_refresh *refresh, int64_t ms)
{
    int64_t until = mr_clock_mono_ms() + ms;
    for (int64_t left; !stopping(refresh) && (left = until - mr_clock_mono_ms()) > 0;)
        nanosleep(&(struct timespec){.tv_nsec = (left < STEP_MS ? left : STEP_MS) * 1000000}, NULL);
}

static void publish(struct mr_refresh *refresh, struct mr_table *table, int64_t took_ms)
{
    struct mr_table_stats stats = mr_table_stats(table);
    mr_metric_set(refresh->rows, (double)stats.rows);
    mr_metric_set(refresh->keys, (double)stats.keys);
    mr_metric_set(refresh->bytes, (double)stats.bytes);
    mr_metric_set(refresh->load_seconds, (double)took_ms / 1000);
    mr_metric_add(refresh->loads, 1);
    bool first = !refresh->status.loaded;
    mr_lookup_swap(refresh->lookup, table);
    pthread_mutex_lock(&refresh->lock);
    refresh->status.loaded = true;
    refresh->status.problem[0] = '\0';
    refresh->loaded_at_ms = mr_clock_mono_ms();
    pthread_mutex_unlock(&refresh->lock);
    mr_log(first ? MR_INFO : MR_DEBUG,
           "lookup %s: loaded %" PRIu64 " rows under %" PRIu64 " keys, %.1f MB, in %.2f s%s",
           refresh->options.name, stats.rows, stats.keys, (double)stats.bytes / 1e6,
           (double)took_ms / 1000,
           stats.null_keys ? "; rows with a NULL key can never match and are left out" : "");
}

static void run(void *arg)
{
    struct mr_refresh *refresh = arg;
    unsigned failures = 0;
    struct mr_log_trouble trouble = {0};
    mr_log_thread_name(refresh->options.name);
    while (!stopping(refresh)) {
        struct mr_error err;
        struct mr_table *table = NULL;
        int64_t began_ms = mr_clock_mono_ms();
        if (refresh->options.load(refresh->options.arg, refresh->stop, &table, &err)) {
            publish(refresh, table, mr_clock_mono_ms() - began_ms);
            failures = 0;
            trouble = (struct mr_log_trouble){0};
            sleep_ms(refresh, refresh->options.interval_ms);
            continue;
        }
        if (stopping(refresh))
            break;
        mr_metric_add(refresh->failures, 1);
        pthread_mutex_lock(&refresh->lock);
        bool fatal = err.action == MR_STOP && !refresh->status.loaded;
        snprintf(refresh->status.problem, sizeof refresh->status.problem, "%.*s",
                 (int)sizeof refresh->status.problem - 1, err.msg);
        refresh->status.exit_code = fatal ? err.code : 0;
        pthread_mutex_unlock(&refresh->lock);
        mr_log_trouble(&trouble, fatal ? MR_ERROR : MR_WARN, "lookup %s: %s%s",
                       refresh->options.name, err.msg,
                       fatal                    ? ""
                       : refresh->status.loaded ? "; the old rows stay in use, trying again"
                                                : "; trying again");
        if (fatal)
            break;
        sleep_ms(refresh, mr_clock_backoff_ms(failures++, BACKOFF_MAX_MS));
    }
    pthread_mutex_lock(&refresh->lock);
    refresh->status.ended = true;
    pthread_mutex_unlock(&refresh->lock);
}

static struct mr_metric *metric(const char *lookup, enum mr_metric_kind kind, const char *name,
                                const char *help)
{
    struct mr_buf labels = {0};
    mr_metrics_label(&labels, "lookup", lookup);
    struct mr_metric *found = mr_metrics_get(kind, name, help, mr_buf_cstr(&labels));
    mr_buf_fini(&labels);
    return found;
}

struct mr_refresh *mr_refresh_start(const struct mr_refresh_options *options,
                                    struct mr_lookup *lookup, atomic_bool *stop)
{
    struct mr_refresh *refresh = mr_calloc(1, sizeof *refresh);
    const char *name = options->name;
    refresh->options = *options;
    refresh->lookup = lookup;
    refresh->stop = stop;
    pthread_mutex_init(&refresh->lock, NULL);
    refresh->rows = metric(name, MR_GAUGE, "millrace_lookup_rows",
                           "Rows held; equal rows count once unless distinct = false.");
    refresh->keys = metric(name, MR_GAUGE, "millrace_lookup_keys", "Distinct keys held.");
    refresh->bytes = metric(name, MR_GAUGE, "millrace_lookup_bytes", "Memory of the table.");
    refresh->loads = metric(name, MR_COUNTER, "millrace_lookup_loads_total", "Loads finished.");
    refresh->failures =
        metric(name, MR_COUNTER, "millrace_lookup_load_failures_total", "Loads that failed.");
    refresh->load_seconds =
        metric(name, MR_GAUGE, "millrace_lookup_load_seconds", "How long the last load took.");
    refresh->age_seconds =
        metric(name, MR_GAUGE, "millrace_lookup_age_seconds", "Time since the last load.");
    mr_thread_start(&refresh->thread, run, refresh);
    return refresh;
}

struct mr_refresh_status mr_refresh_status(struct mr_refresh *refresh)
{
    pthread_mutex_lock(&refresh->lock);
    struct mr_refresh_status status = refresh->status;
    status.age_ms = status.loaded ? mr_clock_mono_ms() - refresh->loaded_at_ms : -1;
    pthread_mutex_unlock(&refresh->lock);
    if (status.loaded)
        mr_metric_set(refresh->age_seconds, (double)status.age_ms / 1000);
    return status;
}

bool mr_refresh_join(struct mr_refresh *refresh, int64_t deadline_mono_ms)
{
    if (!mr_thread_join(&refresh->thread, deadline_mono_ms))
        return false;
    pthread_mutex_destroy(&refresh->lock);
    free(refresh);
    return true;
}
