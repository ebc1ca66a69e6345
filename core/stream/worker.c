/*
 * worker.c - the loop of one worker thread: poll, run the pipeline, commit, serve the group.
 *
 * Owns source, sink, store, script, the open unit and the state of its partitions. Must not know
 * which adapters those are. After a serious error there is one way back: everything undecided is
 * forgotten, and each partition is claimed again (recover_all, claim_due). The switch over verdicts
 * stands in take_record and nowhere else. Tests: tests/unit/test_stream.c, tests/integration.
 */
#include "stream/worker.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"
#include "stream/pipeline.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum {
    IDLE_POLL_MS = 100,        /* how long a stop or a due duty may wait */
    ADVANCE_AFTER_MS = 1000,   /* dropped messages move the ledger's position at least this often */
    ADVANCE_AFTER_N = 1000000, /* or after so many of them */
    MARK_AFTER_MS = 5000,      /* Kafka's visible offset follows drops this often */
    PULSE_MS = 5000,           /* an idle worker feels its services' pulse this often, */
    PULSE_AWAY_MS = 1000,      /* and this often while the source is away */
    PIN_RECORDS = 1000,        /* dropped in a row on one table of the lookup */
    BACKOFF_MAX_MS = 10000,
    CALM_MS = 60000,   /* after which a failure counts as the first again */
    STEP_NS = 20000000 /* of a wait that a stop can end */
};

struct mr_worker {
    struct mr_worker_options options;
    atomic_bool *stop;
    struct mr_thread thread;
    pthread_mutex_t lock;
    struct mr_worker_status status;

    struct mr_source *source;
    struct mr_sink *sink;
    struct mr_store *store;
    struct mr_script *script;
    const struct mr_row_schema *script_rows; /* what the script was opened with */
    struct mr_lookup_schema *script_columns;
    struct mr_delivery delivery;
    struct mr_pipeline pipeline;
    struct mr_unit unit;
    struct mr_part *parts;
    size_t n_parts;

    bool claims_due; /* some partition is not claimed */
    int64_t claim_at_ms;
    unsigned failures;    /* since something was decided, for the back-off */
    int64_t failed_at_ms; /* the latest of them */
    unsigned pinned;      /* records since the lookup's table was pinned without a unit */
    int64_t advance_at_ms, mark_at_ms; /* 0: nothing to do */
    int64_t pulse_at_ms;
    bool source_away; /* it said so, and nothing has come since */
    int exit_code;
    bool done;
    struct mr_log_gate reject_gate;
    struct mr_log_trouble trouble; /* from the first failure until a unit is decided */
    struct mr_metric *messages, *dead, *recoveries, *stale;
};

/* --- status and errors ------------------------------------------------------------------------ */

static void set_status(struct mr_worker *worker, bool well, const char *problem)
{
    pthread_mutex_lock(&worker->lock);
    worker->status.well = well;
    worker->status.partitions = worker->n_parts;
    snprintf(worker->status.problem, sizeof worker->status.problem, "%s", problem ? problem : "");
    pthread_mutex_unlock(&worker->lock);
}

/* In its group, with its first partitions claimed: it has begun. Stays so. */
static void set_joined(struct mr_worker *worker)
{
    pthread_mutex_lock(&worker->lock);
    worker->status.joined = true;
    pthread_mutex_unlock(&worker->lock);
}

static bool stopping(const struct mr_worker *worker)
{
    return worker->done || atomic_load_explicit(worker->stop, memory_order_relaxed);
}

static void halt(struct mr_worker *worker, const struct mr_error *err)
{
    mr_log(MR_ERROR, "halted: %s", err->msg);
    set_status(worker, false, err->msg);
    worker->exit_code = err->code ? err->code : MR_EXIT_BUG;
    worker->done = true;
}

/* Grows until something is decided: a claim that works, before a unit that never does, proves
 * nothing. */
static int next_backoff_ms(struct mr_worker *worker)
{
    int64_t now_ms = mr_clock_mono_ms();
    if (now_ms - worker->failed_at_ms >= CALM_MS)
        worker->failures = 0;
    worker->failed_at_ms = now_ms;
    return mr_clock_backoff_ms(worker->failures++, BACKOFF_MAX_MS);
}

/* Sleeps up to the back-off of the failure at hand, in short steps so that a stop is seen. */
static void wait_backoff(struct mr_worker *worker)
{
    int64_t until = mr_clock_mono_ms() + next_backoff_ms(worker);
    while (!stopping(worker) && mr_clock_mono_ms() < until)
        nanosleep(&(struct timespec){.tv_nsec = STEP_NS}, NULL);
}

/* --- labels ------------------------------------------------------------------------------------
 */

static struct mr_metric *labelled(struct mr_worker *worker, const char *name, const char *help,
                                  const char *label, const char *value)
{
    struct mr_buf labels = {0};
    mr_metrics_label(&labels, "pipeline", worker->options.pipeline);
    if (label)
        mr_metrics_label(&labels, label, value);
    struct mr_metric *metric = mr_metrics_get(MR_COUNTER, name, help, mr_buf_cstr(&labels));
    mr_buf_fini(&labels);
    return metric;
}

static void count_drop(struct mr_worker *worker, const char *reason)
{
    mr_metric_add(labelled(worker, "millrace_dropped_total", "Messages dropped, by reason.",
                           "reason", reason ? reason : "filter"),
                  1);
}

static struct mr_metric *dead_metric(struct mr_worker *worker, const char *class_)
{
    return labelled(worker, "millrace_dead_letters_total",
                    "Messages that became dead letters, by class.", "class", class_);
}

static void count_dead(struct mr_worker *worker, const char *class_)
{
    mr_metric_add(dead_metric(worker, class_), 1);
}

/* At 0 from the start: a counter that appears with its first increment hides it from rate(). */
static void show_classes(struct mr_worker *worker)
{
    static const char *const classes[] = {"decode",    "utf8",           "schema",
                                          "script",    "script_timeout", "script_memory",
                                          "too_large", "rejected"};
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++)
        dead_metric(worker, classes[i]);
}

/* --- partitions --------------------------------------------------------------------------------
 */

static struct mr_part *find_part(struct mr_worker *worker, const struct mr_record *rec)
{
    for (size_t i = 0; i < worker->n_parts; i++)
        if (worker->parts[i].at.topic == rec->topic &&
            worker->parts[i].at.partition == rec->partition)
            return &worker->parts[i];
    return NULL;
}

static void drop_parts(struct mr_worker *worker)
{
    for (size_t i = 0; i < worker->n_parts; i++)
        mr_part_fini(&worker->parts[i]);
    free(worker->parts);
    worker->parts = NULL;
    worker->n_parts = 0;
    worker->claims_due = false;
}

static void reset_unit(struct mr_worker *worker)
{
    mr_unit_reset(&worker->unit, worker->source);
    mr_pipeline_unpin(&worker->pipeline);
}

/* Reads on at the positions of what is claimed; nothing else is fetched meanwhile. */
static bool start_source(struct mr_worker *worker, struct mr_error *err)
{
    struct mr_mark *marks = mr_calloc(worker->n_parts + 1, sizeof *marks);
    size_t n = 0;
    for (size_t i = 0; i < worker->n_parts; i++)
        if (worker->parts[i].claimed)
            marks[n++] = (struct mr_mark){.at = worker->parts[i].at,
                                          .next_offset = worker->parts[i].position};
    bool ok = worker->source->ops->start(worker->source, marks, n, err);
    free(marks);
    return ok;
}

static void on_assigned(struct mr_worker *worker)
{
    size_t n;
    const struct mr_partition *list = worker->source->ops->assignment(worker->source, &n);
    reset_unit(worker);
    drop_parts(worker);
    worker->parts = mr_calloc(n, sizeof *worker->parts);
    worker->n_parts = n;
    for (size_t i = 0; i < n; i++)
        worker->parts[i].at = list[i];
    worker->claims_due = n > 0;
    worker->claim_at_ms = 0;
    worker->source_away = false;
    set_status(worker, n == 0, n ? "claiming its partitions" : NULL);
    if (!n)
        set_joined(worker);
    mr_log(MR_INFO, "assigned %zu partition%s", n, n == 1 ? "" : "s");
}

static void on_revoked(struct mr_worker *worker)
{
    mr_log(MR_INFO, "partitions revoked; %zu undecided messages go to their next owner",
           worker->unit.n_segments);
    reset_unit(worker);
    drop_parts(worker);
    if (!worker->source_away) /* else: taken away because of it */
        set_status(worker, true, NULL);
}

/* After a serious error: forget what is undecided, stop fetching, claim again after the back-off.
 */
static void recover_all(struct mr_worker *worker, const struct mr_error *cause)
{
    struct mr_error err;
    if (cause->action == MR_STOP) {
        halt(worker, cause);
        return;
    }
    reset_unit(worker);
    if (worker->sink)
        worker->sink->ops->abort(worker->sink);
    if (worker->store)
        worker->store->ops->reset(worker->store);
    for (size_t i = 0; i < worker->n_parts; i++)
        worker->parts[i].claimed = false;
    if (worker->n_parts && !worker->source->ops->start(worker->source, NULL, 0, &err))
        mr_log(MR_WARN, "pausing the source: %s", err.msg);
    int backoff_ms = next_backoff_ms(worker);
    worker->claims_due = worker->n_parts > 0;
    worker->claim_at_ms = mr_clock_mono_ms() + backoff_ms;
    mr_metric_add(worker->recoveries, 1);
    set_status(worker, false, cause->msg);
    mr_log_trouble(&worker->trouble, MR_WARN, "%s; trying again", cause->msg);
}

/* --- opening -----------------------------------------------------------------------------------
 */

static void free_columns(struct mr_worker *worker)
{
    mr_lookup_schema_free(worker->script_columns);
    worker->script_columns = NULL;
}

/* (Re)opens the script when the shape of what it is checked against has changed. */
static bool open_script(struct mr_worker *worker, struct mr_error *err)
{
    const struct mr_row_schema *rows =
        worker->store ? worker->store->ops->schema(worker->store) : NULL;
    const struct mr_table *table = NULL;
    bool ok = true;
    if (worker->options.lookup) {
        table = mr_lookup_acquire(worker->options.lookup);
        if (!table)
            return mr_error_set(err, MR_RETRY, MR_EXIT_UNREACHABLE,
                                "waiting for the lookup's first load");
    }
    if (!worker->script || rows != worker->script_rows ||
        (table && !mr_lookup_schema_equal(worker->script_columns, mr_table_schema(table)))) {
        if (worker->script)
            worker->script->ops->close(worker->script);
        worker->script = NULL;
        free_columns(worker);
        worker->script_columns = table ? mr_lookup_schema_copy(mr_table_schema(table)) : NULL;
        worker->script_rows = rows;
        ok = worker->options.factory.script(worker->options.factory.arg, worker->options.index,
                                            worker->script_columns, rows, &worker->script, err);
        worker->pipeline.script = worker->script;
        worker->pipeline.rows = rows;
    }
    if (table)
        mr_lookup_release(worker->options.lookup, table);
    return ok;
}

static bool open_parts(struct mr_worker *worker, struct mr_error *err)
{
    const struct mr_worker_factory *factory = &worker->options.factory;
    int index = worker->options.index;
    if (factory->store && !worker->store &&
        !factory->store(factory->arg, index, &worker->store, err))
        return false;
    if (worker->store && !worker->store->ops->connect(worker->store, err))
        return false;
    if (!open_script(worker, err))
        return false;
    if (factory->sink && !worker->sink && !factory->sink(factory->arg, index, &worker->sink, err))
        return false;
    if (!worker->source && !factory->source(factory->arg, index, &worker->source, err))
        return false;
    worker->pipeline.source = worker->source;
    worker->delivery.source = worker->source;
    worker->delivery.sink = worker->sink;
    worker->delivery.store = worker->store;
    return true;
}

/* Until the services are there. False: told to stop, or a person is needed. */
static bool open_all(struct mr_worker *worker)
{
    struct mr_error err;
    while (!stopping(worker)) {
        if (open_parts(worker, &err)) {
            worker->failures = 0;
            worker->trouble = (struct mr_log_trouble){0};
            return true;
        }
        if (err.action == MR_STOP) {
            halt(worker, &err);
            return false;
        }
        set_status(worker, false, err.msg);
        bool waiting_for_lookup =
            worker->options.lookup && strncmp(err.msg, "waiting for the lookup", 22) == 0;
        if (waiting_for_lookup) { /* not a failure: a long load is followed at once */
            mr_log(MR_DEBUG, "%s", err.msg);
            worker->failures = 0;
        } else {
            mr_log_trouble(&worker->trouble, MR_WARN, "%s; trying again", err.msg);
        }
        wait_backoff(worker);
    }
    return false;
}

/* --- duties ------------------------------------------------------------------------------------
 */

static int64_t now_ms(struct mr_worker *worker)
{
    return worker->store ? worker->store->ops->now_ms(worker->store) : mr_clock_wall_ms();
}

/* What was too slow for a time-out as a whole may go through in parts: a unit that failed halves
 * the next, one that was decided doubles it again. */
static void size_unit(struct mr_worker *worker, uint64_t n_outputs, bool decided)
{
    uint32_t *limit = &worker->pipeline.unit_outputs, most = worker->options.unit_outputs;
    if (decided)
        *limit = *limit < most / 2 ? *limit * 2 : most;
    else if (n_outputs / 2 < *limit)
        *limit = n_outputs < 2 ? 1 : (uint32_t)(n_outputs / 2);
}

/* Commits the open unit. False: nothing of it is kept here, the partitions are being claimed again.
 */
static bool commit_unit(struct mr_worker *worker)
{
    struct mr_error err;
    uint64_t n_outputs = worker->unit.n_outputs;
    bool ok = mr_delivery_commit(&worker->delivery, &worker->unit, &err);
    for (size_t i = 0; ok && i < worker->unit.n_segments; i++)
        if (worker->unit.segments[i].dead)
            count_dead(worker, worker->unit.segments[i].class_);
    reset_unit(worker);
    size_unit(worker, n_outputs, ok);
    if (!ok) {
        recover_all(worker, &err);
    } else {
        worker->failures = 0;
        worker->trouble = (struct mr_log_trouble){0};
    }
    return ok;
}

/* Claims what is not claimed yet, one by one, so that a stuck partition does not hold up the
 * others. */
static void claim_due(struct mr_worker *worker)
{
    struct mr_error err;
    size_t claimed = 0, failed = 0;
    if (!worker->claims_due || mr_clock_mono_ms() < worker->claim_at_ms)
        return;
    /* The open unit borrows from the script, which may be opened anew below. */
    if (!mr_unit_empty(&worker->unit) && !commit_unit(worker))
        return;
    if ((worker->store && !worker->store->ops->connect(worker->store, &err)) ||
        !open_script(worker, &err)) {
        recover_all(worker, &err);
        return;
    }
    for (size_t i = 0; i < worker->n_parts && !stopping(worker); i++) {
        struct mr_part *part = &worker->parts[i];
        if (part->claimed)
            continue;
        if (mr_delivery_claim(&worker->delivery, part, &err)) {
            claimed++;
            mr_log(MR_INFO, "claimed %s/%" PRId32 " at offset %" PRId64 ", unit %" PRId64,
                   part->at.topic, part->at.partition, part->position, part->unit);
            continue;
        }
        failed++;
        mr_error_context(&err, "claiming %s/%" PRId32, part->at.topic, part->at.partition);
        if (err.action == MR_STOP) {
            halt(worker, &err);
            return;
        }
        if (worker->store)
            worker->store->ops->rollback(worker->store);
        mr_log_trouble(&worker->trouble, MR_WARN, "%s; trying again", err.msg);
        if (worker->store && !worker->store->ops->connect(worker->store, &err)) {
            recover_all(worker, &err);
            return;
        }
    }
    worker->claims_due = failed > 0;
    if (failed) {
        worker->claim_at_ms = mr_clock_mono_ms() + next_backoff_ms(worker);
        set_status(worker, false, err.msg);
    } else {
        set_status(worker, true, NULL);
        set_joined(worker);
    }
    if (claimed && !start_source(worker, &err))
        recover_all(worker, &err);
}

static void commit_if_due(struct mr_worker *worker, bool queue_empty)
{
    if (mr_unit_empty(&worker->unit)) {
        /* Messages that are only dropped make no unit: they may not hold on to an old table either.
         */
        if (queue_empty || ++worker->pinned >= PIN_RECORDS) {
            mr_pipeline_unpin(&worker->pipeline);
            worker->pinned = 0;
        }
        return;
    }
    int64_t age_ms = mr_clock_mono_ms() - worker->unit.opened_ms;
    if (queue_empty || age_ms >= worker->options.linger_ms ||
        mr_pipeline_unit_full(&worker->pipeline, &worker->unit))
        commit_unit(worker);
}

/* Positions of what was only dropped: into the ledger each second, to Kafka each five. */
static void advance_if_due(struct mr_worker *worker, bool now)
{
    struct mr_error err;
    int64_t mono_ms = mr_clock_mono_ms();
    if (!mr_unit_empty(&worker->unit))
        return;
    if (worker->advance_at_ms && (now || mono_ms >= worker->advance_at_ms)) {
        worker->advance_at_ms = 0;
        if (!mr_delivery_advance(&worker->delivery, worker->parts, worker->n_parts, &err)) {
            recover_all(worker, &err);
            return;
        }
        if (!worker->mark_at_ms)
            worker->mark_at_ms = mono_ms + MARK_AFTER_MS;
    }
    if (worker->mark_at_ms && (now || mono_ms >= worker->mark_at_ms)) {
        worker->mark_at_ms = 0;
        if (!mr_delivery_mark(&worker->delivery, worker->parts, worker->n_parts, &err))
            recover_all(worker, &err);
    }
}

static void source_is_back(struct mr_worker *worker)
{
    if (!worker->source_away)
        return;
    worker->source_away = false;
    if (!worker->claims_due)
        set_status(worker, true, NULL);
}

/* Without traffic nobody would notice that a service is away, or back: a look at each, now and
 * then. */
static void feel_pulse(struct mr_worker *worker)
{
    struct mr_error err;
    int64_t mono_ms = mr_clock_mono_ms(), low, high;
    if (mono_ms < worker->pulse_at_ms || worker->claims_due || !worker->n_parts ||
        !mr_unit_empty(&worker->unit))
        return;
    worker->pulse_at_ms = mono_ms + (worker->source_away ? PULSE_AWAY_MS : PULSE_MS);
    if (worker->store) {
        bool ok = worker->store->ops->begin(worker->store, NULL, 0, &err);
        worker->store->ops->rollback(worker->store);
        if (!ok) {
            recover_all(worker, &err);
            return;
        }
    }
    if (worker->source_away && worker->source->ops->watermarks(worker->source, &worker->parts[0].at,
                                                               PULSE_AWAY_MS, &low, &high, &err)) {
        mr_log(MR_INFO, "the source is back");
        source_is_back(worker);
    }
}

static void passed(struct mr_worker *worker, struct mr_part *part, int64_t position)
{
    part->position = position;
    part->dropped++;
    mr_part_set_job(part, NULL);
    if (!worker->advance_at_ms)
        worker->advance_at_ms = mr_clock_mono_ms() + ADVANCE_AFTER_MS;
    if (part->dropped >= ADVANCE_AFTER_N)
        worker->advance_at_ms = 1;
}

/* --- one message -------------------------------------------------------------------------------
 */

/* Pins the lookup for a new unit; a table of another shape than the script knows is as good as
 * none. */
static bool pin(struct mr_worker *worker, struct mr_error *err)
{
    bool pinned = worker->pipeline.table != NULL || !worker->options.lookup;
    if (!mr_pipeline_pin(&worker->pipeline))
        return mr_error_set(err, MR_RETRY, MR_EXIT_UNREACHABLE, "the lookup is not loaded");
    if (!pinned &&
        !mr_lookup_schema_equal(worker->script_columns, mr_table_schema(worker->pipeline.table)))
        return mr_error_set(err, MR_RETRY, MR_EXIT_UNREACHABLE,
                            "the lookup's columns have changed, the script is opened again");
    return true;
}

/* Runs the pipeline over a record, chunk by chunk where its fan-out is larger than a unit. */
static void take_record(struct mr_worker *worker, struct mr_part *part, struct mr_record *rec)
{
    struct mr_error err;
    struct mr_pass pass = {.more = true};
    bool owned = false; /* by a segment */
    while (pass.more) {
        if (!pin(worker, &err)) {
            recover_all(worker, &err);
            break;
        }
        enum mr_verdict verdict = mr_pipeline_run(&worker->pipeline, part, rec, now_ms(worker),
                                                  &worker->unit, &pass, &err);
        switch (verdict) {
        case MR_VERDICT_EMIT:
        case MR_VERDICT_REJECT:
            if (verdict == MR_VERDICT_REJECT)
                mr_log_every(&worker->reject_gate, MR_WARN,
                             "dead letter %s/%" PRId32 "@%" PRId64 " (%s): %s", rec->topic,
                             rec->partition, rec->offset, err.class_, err.msg);
            part->position = pass.segment->next_offset;
            pass.segment->owns_record = owned = !pass.more;
            if (!pass.more)
                mr_part_set_job(part, NULL); /* the ledger's follows with the unit */
            /* A chunk that was refused has settled the whole message as a dead letter. After a
             * stop the ledger knows where the next process goes on. */
            if (pass.more && (!commit_unit(worker) || !part->has_job || stopping(worker)))
                pass.more = false;
            break;
        case MR_VERDICT_DROP:
            count_drop(worker, pass.reason);
            passed(worker, part, rec->offset + 1);
            break;
        case MR_VERDICT_HOLD:
        case MR_VERDICT_RETRY:
        case MR_VERDICT_STOP:
            recover_all(worker, &err);
            break;
        }
    }
    if (!owned)
        worker->source->ops->release(worker->source, rec);
}

static void on_record(struct mr_worker *worker, struct mr_record *rec)
{
    struct mr_part *part = find_part(worker, rec);
    if (!part || !part->claimed || rec->offset < part->position) {
        /* Rule R2: not ours (any more), or seen already. */
        mr_metric_add(worker->stale, 1);
        worker->source->ops->release(worker->source, rec);
        return;
    }
    if (part->has_job && rec->offset > part->position) {
        mr_log(MR_WARN,
               "%s/%" PRId32 "@%" PRId64 " was in the middle of its fan-out and is gone "
               "from the topic; what was not sent yet stays unsent",
               rec->topic, rec->partition, part->position);
        mr_part_set_job(part, NULL);
    }
    mr_metric_add(worker->messages, 1);
    take_record(worker, part, rec);
}

static void on_error(struct mr_worker *worker, const struct mr_error *err)
{
    if (err->action == MR_RECOVER) {
        /* The consumer itself is lost: a new one joins the group. */
        recover_all(worker, err);
        drop_parts(worker);
        mr_unit_fini(&worker->unit, worker->source);
        worker->source->ops->close(worker->source);
        worker->source = NULL;
        open_all(worker);
        return;
    }
    if (err->action == MR_STOP) {
        halt(worker, err);
        return;
    }
    mr_log(MR_WARN, "%s", err->msg);
    worker->source_away = true;
    set_status(worker, false, err->msg);
}

/* One look at the source. True if something came. */
static bool poll_source(struct mr_worker *worker)
{
    struct mr_record rec;
    struct mr_error err;
    int timeout_ms = mr_unit_empty(&worker->unit) ? IDLE_POLL_MS : 0;
    if (worker->claims_due) {
        int64_t due_ms = worker->claim_at_ms - mr_clock_mono_ms();
        timeout_ms = due_ms < 0 ? 0 : due_ms < IDLE_POLL_MS ? (int)due_ms : IDLE_POLL_MS;
    }
    switch (worker->source->ops->poll(worker->source, timeout_ms, &rec, &err)) {
    case MR_EVENT_NONE:
        return false;
    case MR_EVENT_RECORD:
        source_is_back(worker);
        on_record(worker, &rec);
        return true;
    case MR_EVENT_ASSIGNED:
        on_assigned(worker);
        return true;
    case MR_EVENT_REVOKED:
        on_revoked(worker);
        return true;
    case MR_EVENT_POSITION: {
        source_is_back(worker);
        struct mr_part *part = find_part(worker, &rec);
        if (part && part->claimed && !part->has_job && rec.offset > part->position)
            passed(worker, part, rec.offset);
        return false;
    }
    case MR_EVENT_ERROR:
        on_error(worker, &err);
        return false;
    }
    return false;
}

static void drain(struct mr_worker *worker)
{
    if (!worker->done && !mr_unit_empty(&worker->unit))
        commit_unit(worker);
    if (!worker->done)
        advance_if_due(worker, true);
}

static void close_all(struct mr_worker *worker)
{
    if (worker->source)
        reset_unit(worker);
    drop_parts(worker);
    if (worker->source) {
        mr_unit_fini(&worker->unit, worker->source);
        worker->source->ops->close(worker->source);
    }
    if (worker->sink)
        worker->sink->ops->close(worker->sink);
    if (worker->script)
        worker->script->ops->close(worker->script);
    if (worker->store)
        worker->store->ops->close(worker->store);
    free_columns(worker);
    mr_span_free(worker->pipeline.span);
    mr_delivery_fini(&worker->delivery);
}

static void run(void *arg)
{
    struct mr_worker *worker = arg;
    char name[96];
    snprintf(name, sizeof name, "%s/%d", worker->options.pipeline, worker->options.index);
    mr_log_thread_name(name);
    if (open_all(worker))
        while (!stopping(worker)) {
            bool busy = poll_source(worker);
            commit_if_due(worker, !busy);
            advance_if_due(worker, false);
            claim_due(worker);
            feel_pulse(worker);
        }
    if (worker->source)
        drain(worker);
    close_all(worker);
    pthread_mutex_lock(&worker->lock);
    worker->status.ended = true;
    worker->status.exit_code = worker->exit_code;
    pthread_mutex_unlock(&worker->lock);
}

struct mr_worker *mr_worker_start(const struct mr_worker_options *options, atomic_bool *stop)
{
    struct mr_worker *worker = mr_calloc(1, sizeof *worker);
    worker->options = *options;
    worker->stop = stop;
    pthread_mutex_init(&worker->lock, NULL);
    snprintf(worker->status.problem, sizeof worker->status.problem, "starting");
    mr_delivery_init(&worker->delivery, options->pipeline, &options->delivery);
    mr_unit_init(&worker->unit);
    worker->pipeline = (struct mr_pipeline){
        .name = options->pipeline,
        .lookup = options->lookup,
        .span = mr_span_new(),
        .unit_outputs = options->unit_outputs,
        .unit_bytes = options->unit_bytes,
        .max_message_bytes = options->max_message_bytes,
    };
    show_classes(worker);
    worker->messages =
        labelled(worker, "millrace_messages_total", "Messages taken from the source.", NULL, NULL);
    worker->recoveries =
        labelled(worker, "millrace_recoveries_total",
                 "Times a worker forgot what was undecided and claimed again.", NULL, NULL);
    worker->stale =
        labelled(worker, "millrace_stale_records_total",
                 "Records that came after their partition was taken away, or twice.", NULL, NULL);
    mr_thread_start(&worker->thread, run, worker);
    return worker;
}

struct mr_worker_status mr_worker_status(struct mr_worker *worker)
{
    pthread_mutex_lock(&worker->lock);
    struct mr_worker_status status = worker->status;
    pthread_mutex_unlock(&worker->lock);
    return status;
}

bool mr_worker_join(struct mr_worker *worker, int64_t deadline_mono_ms, int *exit_code)
{
    if (!mr_thread_join(&worker->thread, deadline_mono_ms))
        return false;
    *exit_code = worker->exit_code;
    pthread_mutex_destroy(&worker->lock);
    free(worker);
    return true;
}
