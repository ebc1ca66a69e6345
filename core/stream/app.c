/*
 * app.c - threads of the running program, started, watched and ended.
 *
 * Driven by one thread; mr_app_health by any. Owns workers, refreshers and lookups. Must not know
 * adapters, signals or configuration. Tests: tests/unit/test_stream.c, tests/integration.
 */
#include "stream/app.h"

#include "base/clock.h"
#include "base/log.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    SCRIPT_CALLS = 4, /* into a script for one message */
    OFFER_MS =
        30000, /* for the workers to come by and look at a reload: none is stuck for longer */
    SETTLE_MS = 2000, /* for them to take it into use, before it is said who is late */
    STEP_MS = 1
};

struct lookup_slot {
    struct mr_refresh_options options;
    char *name;
    struct mr_lookup *lookup;
    struct mr_fresh *fresh;
    struct mr_refresh *refresh;
};

struct worker_slot {
    struct mr_worker_options options;
    struct mr_worker *worker;
};

struct mr_app {
    atomic_bool stop;
    struct lookup_slot *lookups;
    struct worker_slot *workers;
    size_t n_lookups, n_workers, n_pipelines;
    struct mr_watchdog *watchdog;
    bool started;
    pthread_mutex_t lock; /* health against join */
};

struct mr_app *mr_app_new(void)
{
    struct mr_app *app = mr_calloc(1, sizeof *app);
    pthread_mutex_init(&app->lock, NULL);
    return app;
}

struct mr_app_lookup mr_app_add_lookup(struct mr_app *app, const struct mr_refresh_options *options)
{
    app->lookups = mr_realloc(app->lookups, (app->n_lookups + 1) * sizeof *app->lookups);
    struct lookup_slot *slot = &app->lookups[app->n_lookups++];
    *slot = (struct lookup_slot){.options = *options};
    slot->name = mr_strdup(options->name);
    slot->options.name = slot->name;
    slot->lookup = mr_lookup_new(slot->name);
    slot->fresh = mr_fresh_new(&options->fresh);
    return (struct mr_app_lookup){slot->lookup, slot->fresh};
}

void mr_app_add_pipeline(struct mr_app *app, const struct mr_worker_options *options, int n_workers)
{
    size_t n = app->n_workers + (size_t)n_workers;
    app->workers = mr_realloc(app->workers, n * sizeof *app->workers);
    for (int i = 0; i < n_workers; i++) {
        struct worker_slot *slot = &app->workers[app->n_workers++];
        *slot = (struct worker_slot){.options = *options};
        slot->options.index = i;
    }
    app->n_pipelines++;
}

/* What the longest of all scripts may take for a message. */
static struct mr_budget build_budget(const struct mr_app *app)
{
    struct mr_budget budgets[MR_PHASES];
    mr_phase_budgets(budgets);
    struct mr_budget build = budgets[MR_PHASE_BUILD];
    for (size_t i = 0; i < app->n_workers; i++) {
        const struct mr_worker_settings *settings = &app->workers[i].options.settings;
        int64_t calls_ms =
            settings->script_limit_ms * (SCRIPT_CALLS + settings->unit_outputs / MR_EACH_ROWS);
        build.warn_ms = calls_ms > build.warn_ms ? (int)calls_ms : build.warn_ms;
        build.give_up_ms = calls_ms * 2 > build.give_up_ms ? (int)calls_ms * 2 : build.give_up_ms;
    }
    return build;
}

static void watch_workers(struct mr_app *app)
{
    struct mr_watch **watches = mr_calloc(app->n_workers, sizeof *watches);
    char(*names)[96] = mr_calloc(app->n_workers, sizeof *names);
    const char **list = mr_calloc(app->n_workers, sizeof *list);
    struct mr_budget budgets[MR_PHASES];
    mr_phase_budgets(budgets);
    budgets[MR_PHASE_BUILD] = build_budget(app);
    for (size_t i = 0; i < app->n_workers; i++) {
        const struct worker_slot *slot = &app->workers[i];
        snprintf(names[i], sizeof names[i], "%s/%d", slot->options.pipeline, slot->options.index);
        list[i] = names[i];
        watches[i] = mr_worker_watch(slot->worker);
    }
    app->watchdog = mr_watchdog_start(watches, list, app->n_workers, budgets, NULL, NULL);
    free(watches);
    free(names);
    free(list);
}

void mr_app_start(struct mr_app *app)
{
    pthread_mutex_lock(&app->lock);
    for (size_t i = 0; i < app->n_lookups; i++)
        app->lookups[i].refresh = mr_refresh_start(&app->lookups[i].options, app->lookups[i].lookup,
                                                   app->lookups[i].fresh, &app->stop);
    for (size_t i = 0; i < app->n_workers; i++)
        app->workers[i].worker = mr_worker_start(&app->workers[i].options, &app->stop);
    watch_workers(app);
    app->started = true;
    pthread_mutex_unlock(&app->lock);
}

enum mr_app_state mr_app_state(struct mr_app *app, int *exit_code)
{
    bool ready = true;
    *exit_code = 0;
    for (size_t i = 0; i < app->n_lookups; i++) {
        struct mr_refresh_status status = mr_refresh_status(app->lookups[i].refresh);
        ready = ready && status.loaded;
        if (status.ended) {
            *exit_code = status.exit_code;
            return MR_APP_ENDED;
        }
    }
    for (size_t i = 0; i < app->n_workers; i++) {
        struct mr_worker_status status = mr_worker_status(app->workers[i].worker);
        ready = ready && status.joined;
        if (status.ended) {
            *exit_code = status.exit_code;
            return MR_APP_ENDED;
        }
    }
    return ready ? MR_APP_READY : MR_APP_STARTING;
}

static void put_check(struct mr_buf *out, bool ok, const char *kind, const char *name, int index,
                      const char *problem)
{
    mr_buf_printf(out, "[%c]%s %s", ok ? '+' : '-', kind, name);
    if (index >= 0)
        mr_buf_printf(out, "/%d", index);
    mr_buf_printf(out, " %s\n", ok ? "ok" : problem);
}

/* A table that serves although it is stale, or although a read is held back, is well, but said. */
static void put_lookup(struct mr_buf *out, const char *name, const struct mr_refresh_status *status)
{
    char text[1280];
    int64_t seconds = status->staleness_ms / 1000;
    if (!status->loaded) {
        put_check(out, false, "lookup", name, -1, status->problem[0] ? status->problem : "loading");
        return;
    }
    if (!status->stale && !status->problem[0]) {
        put_check(out, true, "lookup", name, -1, NULL);
        return;
    }
    snprintf(text, sizeof text, "%s%" PRId64 " s old%s%s", status->pauses ? "paused, " : "ok, but ",
             seconds, status->problem[0] ? ": " : "", status->problem);
    mr_buf_printf(out, "[%c]lookup %s %s\n", status->pauses ? '-' : '+', name, text);
}

bool mr_app_accept(struct mr_app *app)
{
    bool any = false;
    pthread_mutex_lock(&app->lock);
    for (size_t i = 0; app->started && i < app->n_lookups; i++)
        any = mr_refresh_accept(app->lookups[i].refresh) || any;
    pthread_mutex_unlock(&app->lock);
    return any;
}

bool mr_app_health(struct mr_app *app, struct mr_buf *out)
{
    bool all = true;
    pthread_mutex_lock(&app->lock);
    for (size_t i = 0; app->started && i < app->n_lookups; i++) {
        struct mr_refresh_status status = mr_refresh_status(app->lookups[i].refresh);
        bool ok = status.loaded && !status.pauses;
        put_lookup(out, app->lookups[i].name, &status);
        all = all && ok;
    }
    for (size_t i = 0; app->started && i < app->n_workers; i++) {
        struct mr_worker_status status = mr_worker_status(app->workers[i].worker);
        bool ok = status.joined && status.well;
        put_check(out, ok, "worker", app->workers[i].options.pipeline, (int)i,
                  status.problem[0] ? status.problem : "joining its group");
        all = all && ok;
    }
    all = all && app->started;
    pthread_mutex_unlock(&app->lock);
    return all;
}

static void put_count(struct mr_buf *out, size_t n, const char *noun)
{
    mr_buf_printf(out, "%s%zu %s%s", out->len ? ", " : "", n, noun, n == 1 ? "" : "s");
}

void mr_app_describe(struct mr_app *app, struct mr_buf *out)
{
    put_count(out, app->n_pipelines, "pipeline");
    put_count(out, app->n_workers, "worker");
    put_count(out, app->n_lookups, "lookup");
}

static const struct mr_app_change *change_of(const struct worker_slot *slot,
                                             const struct mr_app_change *changes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(changes[i].pipeline, slot->options.pipeline) == 0)
            return &changes[i];
    return NULL;
}

static enum mr_vote vote_of(const struct worker_slot *slot, struct mr_error *err)
{
    enum mr_vote vote = mr_worker_vote(slot->worker, err);
    if (vote == MR_VOTE_PENDING && mr_worker_status(slot->worker).ended) {
        mr_error_set(err, MR_RETRY, MR_EXIT_TRY_AGAIN, "it has ended");
        vote = MR_VOTE_NO;
    }
    if (vote == MR_VOTE_NO)
        mr_error_context(err, "worker %s/%d", slot->options.pipeline, slot->options.index);
    return vote;
}

/* Until all have said yes, or one has not. */
static bool collect_votes(struct mr_app *app, const struct mr_app_change *changes, size_t n,
                          struct mr_error *err)
{
    int64_t deadline_ms = mr_clock_mono_ms() + OFFER_MS;
    for (size_t i = 0; i < app->n_workers; i++) {
        const struct worker_slot *slot = &app->workers[i];
        enum mr_vote vote = MR_VOTE_YES;
        while (change_of(slot, changes, n) && (vote = vote_of(slot, err)) == MR_VOTE_PENDING) {
            if (atomic_load(&app->stop))
                return mr_error_set(err, MR_RETRY, MR_EXIT_TRY_AGAIN, "the program is stopping");
            if (mr_clock_mono_ms() >= deadline_ms)
                return mr_error_set(err, MR_RETRY, MR_EXIT_TRY_AGAIN,
                                    "worker %s/%d was busy for %d s; reload again",
                                    slot->options.pipeline, slot->options.index, OFFER_MS / 1000);
            mr_clock_sleep_ms(STEP_MS);
        }
        if (vote == MR_VOTE_NO)
            return false;
    }
    return true;
}

static size_t count_late(const struct mr_app *app)
{
    size_t n = 0;
    for (size_t i = 0; i < app->n_workers; i++)
        n += !mr_worker_settled(app->workers[i].worker);
    return n;
}

bool mr_app_reload(struct mr_app *app, const struct mr_app_change *changes, size_t n,
                   size_t *n_late, struct mr_error *err)
{
    *n_late = 0;
    for (size_t i = 0; i < app->n_workers; i++) {
        const struct mr_app_change *change = change_of(&app->workers[i], changes, n);
        if (change)
            mr_worker_offer(app->workers[i].worker, change->edition, &change->settings);
    }
    bool take = collect_votes(app, changes, n, err);
    for (size_t i = 0; i < app->n_workers; i++) {
        struct worker_slot *slot = &app->workers[i];
        const struct mr_app_change *change = change_of(slot, changes, n);
        if (!change)
            continue;
        mr_worker_decide(slot->worker, take);
        if (take)
            slot->options.settings = change->settings;
    }
    if (!take)
        return false;
    if (app->watchdog)
        mr_watchdog_set_budget(app->watchdog, MR_PHASE_BUILD, build_budget(app));
    int64_t deadline_ms = mr_clock_mono_ms() + SETTLE_MS;
    while ((*n_late = count_late(app)) > 0 && !atomic_load(&app->stop) &&
           mr_clock_mono_ms() < deadline_ms)
        mr_clock_sleep_ms(STEP_MS);
    return true;
}

void mr_app_request_stop(struct mr_app *app)
{
    atomic_store(&app->stop, true);
}

const atomic_bool *mr_app_stop_flag(const struct mr_app *app)
{
    return &app->stop;
}

bool mr_app_ended(struct mr_app *app)
{
    bool all = true;
    for (size_t i = 0; app->started && i < app->n_workers; i++)
        all = all && mr_worker_status(app->workers[i].worker).ended;
    for (size_t i = 0; app->started && i < app->n_lookups; i++)
        all = all && mr_refresh_status(app->lookups[i].refresh).ended;
    return all;
}

bool mr_app_join(struct mr_app *app, int64_t deadline_mono_ms, int *exit_code)
{
    bool all = true;
    *exit_code = 0;
    pthread_mutex_lock(&app->lock);
    if (app->watchdog) /* from here on the deadline watches */
        mr_watchdog_stop(app->watchdog);
    app->watchdog = NULL;
    for (size_t i = 0; app->started && i < app->n_workers; i++) {
        int code = 0;
        if (!mr_worker_join(app->workers[i].worker, deadline_mono_ms, &code)) {
            mr_log(MR_ERROR, "worker %s/%d is still busy", app->workers[i].options.pipeline,
                   app->workers[i].options.index);
            all = false;
        }
        if (code && !*exit_code)
            *exit_code = code;
    }
    for (size_t i = 0; app->started && i < app->n_lookups; i++) {
        struct mr_refresh_status status = mr_refresh_status(app->lookups[i].refresh);
        if (status.ended && !*exit_code)
            *exit_code = status.exit_code;
        if (!mr_refresh_join(app->lookups[i].refresh, deadline_mono_ms))
            all = false;
    }
    app->started = false;
    pthread_mutex_unlock(&app->lock);
    if (!all)
        return false;
    for (size_t i = 0; i < app->n_lookups; i++) {
        mr_lookup_free(app->lookups[i].lookup);
        mr_fresh_free(app->lookups[i].fresh);
        free(app->lookups[i].name);
    }
    pthread_mutex_destroy(&app->lock);
    free(app->lookups);
    free(app->workers);
    free(app);
    return true;
}
