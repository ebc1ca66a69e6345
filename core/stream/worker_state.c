/*
 * worker_state.c - a worker's status, its partitions, and the one way back after a serious error.
 *
 * The worker's thread. Everything undecided is forgotten, and each partition is claimed again
 * (mr_worker_recover, then mr_worker_claim_due). Must not know which adapters it talks to. Tests:
 * tests/unit/test_stream.c.
 */
#include "stream/worker_state.h"

#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    BACKOFF_MAX_MS = 10000,
    CALM_MS = 60000, /* after which a failure counts as the first again */
    STEP_MS = 20     /* of a wait that a stop can end */
};

void mr_worker_set_status(struct mr_worker *worker, bool well, const char *problem)
{
    if (well && worker->paused) {
        well = false;
        problem = "paused: the lookup is stale (on_stale = \"pause\")";
    }
    pthread_mutex_lock(&worker->lock);
    worker->status.well = well;
    worker->status.partitions = worker->n_parts;
    snprintf(worker->status.problem, sizeof worker->status.problem, "%s", problem ? problem : "");
    pthread_mutex_unlock(&worker->lock);
}

void mr_worker_set_joined(struct mr_worker *worker)
{
    pthread_mutex_lock(&worker->lock);
    worker->status.joined = true;
    pthread_mutex_unlock(&worker->lock);
}

bool mr_worker_stopping(const struct mr_worker *worker)
{
    return worker->done || atomic_load_explicit(worker->stop, memory_order_relaxed);
}

void mr_worker_halt(struct mr_worker *worker, const struct mr_error *err)
{
    mr_log(MR_ERROR, "halted: %s", err->msg);
    mr_worker_set_status(worker, false, err->msg);
    worker->exit_code = err->code ? err->code : MR_EXIT_BUG;
    worker->done = true;
}

int mr_worker_backoff_ms(struct mr_worker *worker)
{
    int64_t now_ms = mr_clock_mono_ms();
    if (now_ms - worker->failed_at_ms >= CALM_MS)
        worker->failures = 0;
    worker->failed_at_ms = now_ms;
    return mr_clock_backoff_ms(worker->failures++, BACKOFF_MAX_MS);
}

void mr_worker_wait_backoff(struct mr_worker *worker)
{
    int64_t until = mr_clock_mono_ms() + mr_worker_backoff_ms(worker);
    while (!mr_worker_stopping(worker) && mr_clock_mono_ms() < until)
        mr_clock_sleep_ms(STEP_MS);
}

struct mr_part *mr_worker_find_part(struct mr_worker *worker, const struct mr_record *rec)
{
    for (size_t i = 0; i < worker->n_parts; i++)
        if (worker->parts[i].at.topic == rec->topic &&
            worker->parts[i].at.partition == rec->partition)
            return &worker->parts[i];
    return NULL;
}

bool mr_worker_has_job(const struct mr_worker *worker)
{
    for (size_t i = 0; i < worker->n_parts; i++) {
        const struct mr_part *part = &worker->parts[i];
        if (part->has_job || (part->had_job && !part->claimed))
            return true;
    }
    return worker->left_job;
}

void mr_worker_drop_parts(struct mr_worker *worker)
{
    worker->left_job = mr_worker_has_job(worker);
    for (size_t i = 0; i < worker->n_parts; i++)
        mr_part_fini(&worker->parts[i]);
    free(worker->parts);
    worker->parts = NULL;
    worker->n_parts = 0;
    worker->claims_due = false;
}

void mr_worker_reset_unit(struct mr_worker *worker)
{
    mr_unit_reset(&worker->unit, worker->source);
    mr_pipeline_unpin(&worker->pipeline);
}

bool mr_worker_start_source(struct mr_worker *worker, struct mr_error *err)
{
    struct mr_mark *marks = mr_calloc(worker->n_parts + 1, sizeof *marks);
    size_t n = 0;
    for (size_t i = 0; !worker->paused && i < worker->n_parts; i++)
        if (worker->parts[i].claimed)
            marks[n++] = (struct mr_mark){.at = worker->parts[i].at,
                                          .next_offset = worker->parts[i].position};
    bool ok = worker->source->ops->start(worker->source, marks, n, err);
    free(marks);
    return ok;
}

void mr_worker_recover(struct mr_worker *worker, const struct mr_error *cause)
{
    struct mr_error err;
    if (cause->action == MR_STOP) {
        mr_worker_halt(worker, cause);
        return;
    }
    mr_worker_reset_unit(worker);
    mr_delivery_abandon(&worker->delivery);
    for (size_t i = 0; i < worker->n_parts; i++)
        worker->parts[i].claimed = false;
    if (worker->n_parts && !worker->source->ops->start(worker->source, NULL, 0, &err))
        mr_log(MR_WARN, "pausing the source: %s", err.msg);
    int backoff_ms = mr_worker_backoff_ms(worker);
    worker->claims_due = worker->n_parts > 0;
    worker->claim_at_ms = mr_clock_mono_ms() + backoff_ms;
    mr_metric_add(worker->tally.recoveries, 1);
    mr_worker_set_status(worker, false, cause->msg);
    mr_log_trouble(&worker->trouble, MR_WARN, "%s; trying again", cause->msg);
}
