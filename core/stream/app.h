/*
 * app.h - the running program: lookups that refresh, pipelines with their workers, readiness and
 * the end.
 *
 * Made and driven by one thread (core/cli/run.c, core/embed.c); mr_app_health may be called from
 * another (admin). The app starts threads and ends them; what they talk to comes through factories.
 */
#ifndef MR_STREAM_APP_H
#define MR_STREAM_APP_H

#include "stream/refresh.h"
#include "stream/worker.h"

struct mr_app;

struct mr_app *mr_app_new(void);

/* What readers pin, and how fresh it is. */
struct mr_app_lookup {
    struct mr_lookup *lookup;
    struct mr_fresh *fresh;
};
/* Adds a lookup; starts loading with mr_app_start. The name is copied. */
struct mr_app_lookup mr_app_add_lookup(struct mr_app *app,
                                       const struct mr_refresh_options *options);
/* Adds `n_workers` workers; options->index is set here. options->lookup and fresh: from
 * mr_app_add_lookup. */
void mr_app_add_pipeline(struct mr_app *app, const struct mr_worker_options *options,
                         int n_workers);

void mr_app_start(struct mr_app *app);

enum mr_app_state { MR_APP_STARTING, MR_APP_READY, MR_APP_ENDED };
/*
 * READY once every worker has joined its group and claimed what it got there, and every lookup is
 * loaded (and stays so: what happens later is health). ENDED: a worker or a lookup has halted,
 * *exit_code says with what.
 */
enum mr_app_state mr_app_state(struct mr_app *app, int *exit_code);
/* One line a check, "[+]name ok" or "[-]name problem"; whether all are well now. Any thread. */
bool mr_app_health(struct mr_app *app, struct mr_buf *out);
/* "1 pipeline, 2 workers, 1 lookup" */
void mr_app_describe(struct mr_app *app, struct mr_buf *out);

/* Lets lookups take a read that is held back since rows are missing; false: none is. Any thread. */
bool mr_app_accept(struct mr_app *app);

/* What a reload brings for one pipeline. */
struct mr_app_change {
    const char *pipeline;
    struct mr_edition *edition; /* the one that it has: the script stays as it is */
    struct mr_worker_settings settings;
};
/*
 * Offers each worker of these pipelines what is new, and lets all take it into use, each between
 * two of its units, once every one of them has opened its script; otherwise none takes anything,
 * and *err names the worker and why (MR_RETRY: it was too busy, or the program is stopping).
 * *n_late: workers that finish a fan-out with the old script first. Waits for the workers, which go
 * on with their work; a stop ends it at once. One thread at a time, and never beside mr_app_join.
 */
MR_MUSTCHECK bool mr_app_reload(struct mr_app *app, const struct mr_app_change *changes, size_t n,
                                size_t *n_late, struct mr_error *err);
void mr_app_request_stop(struct mr_app *app);
/* Set by mr_app_request_stop; for adapters whose waits should end early. Lives as long as the app.
 */
const atomic_bool *mr_app_stop_flag(const struct mr_app *app);
/* True when every thread has come to its end, so that join will not wait. */
bool mr_app_ended(struct mr_app *app);
/* Waits for all threads, until the deadline (monotonic ms), and frees the app. The first non-zero
 * exit code of a part. False: something is stuck, nothing is freed; the process may be ended at any
 * moment without harm. */
bool mr_app_join(struct mr_app *app, int64_t deadline_mono_ms, int *exit_code);

#endif
