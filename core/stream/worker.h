/*
 * worker.h - one thread with its own source, sink, store and script: the unit of scale-out. A
 * second process is more of the same.
 *
 * The worker opens its parts through a factory, so that it never sees an adapter. All of them live
 * and die in its thread. Other threads read `status` (under its lock) and set `stop`.
 */
#ifndef MR_STREAM_WORKER_H
#define MR_STREAM_WORKER_H

#include "millrace/script.h"
#include "millrace/sink.h"
#include "millrace/source.h"
#include "millrace/store.h"
#include "stream/delivery.h"
#include "stream/edition.h"
#include "stream/fresh.h"
#include "stream/recent.h"

#include <stdatomic.h>

/* Opens the parts of worker `index`. A NULL function: the pipeline has no such part. */
struct mr_worker_factory {
    void *arg;
    bool (*source)(void *arg, int index, struct mr_source **out, struct mr_error *err);
    bool (*sink)(void *arg, int index, struct mr_sink **out, struct mr_error *err);
    bool (*store)(void *arg, int index, struct mr_store **out, struct mr_error *err);
    /* `edition` is that of the options, or one that a reload has brought; lives longer than the
     * script. */
    bool (*script)(void *arg, int index, const struct mr_edition *edition,
                   const struct mr_lookup_schema *lookup, const struct mr_row_schema *rows,
                   struct mr_script **out, struct mr_error *err);
};

struct mr_worker_options {
    const char *pipeline;
    int index;
    struct mr_worker_factory factory;
    struct mr_lookup *lookup; /* NULL: `map` */
    struct mr_fresh *fresh;   /* of the lookup; NULL: never stale */
    struct mr_delivery_options delivery;
    struct mr_edition *edition; /* NULL: the factory needs none */
    struct mr_recent *recent;   /* where messages are kept for a rehearsal; NULL: nowhere */
    struct mr_worker_settings settings;
};

struct mr_worker_status {
    bool joined; /* it is in its group; the partitions it got first, if any, are claimed */
    bool well;   /* nothing is being waited for */
    bool ended;
    int exit_code;
    char problem[1024]; /* what it waits for or died of */
    size_t partitions;
};

struct mr_worker;

/* Starts the thread. The options are copied; strings and lookup are borrowed until join. */
struct mr_worker *mr_worker_start(const struct mr_worker_options *options, atomic_bool *stop);
/* The same without a thread of its own: run does the work in the caller's, until the stop; free
 * gives the exit code. For the simulator. */
struct mr_worker *mr_worker_new(const struct mr_worker_options *options, atomic_bool *stop);
void mr_worker_run(struct mr_worker *worker);
int mr_worker_free(struct mr_worker *worker);
/* What its thread is at; lives as long as the worker. */
struct mr_watch *mr_worker_watch(struct mr_worker *worker);
struct mr_worker_status mr_worker_status(struct mr_worker *worker);

/*
 * A reload, driven by one other thread: every worker is offered the new edition and opens a script
 * from it beside its own, in its own thread, when it comes by; once all have said yes, all are told
 * to take it, else to drop it. A worker takes it into use between two units, and not before a
 * fan-out that it has begun is done. Nothing of this waits.
 */
enum mr_vote { MR_VOTE_PENDING, MR_VOTE_YES, MR_VOTE_NO };
/* The edition it has got already is agreed to without opening anything: for new settings alone. */
void mr_worker_offer(struct mr_worker *worker, struct mr_edition *edition,
                     const struct mr_worker_settings *settings);
enum mr_vote mr_worker_vote(struct mr_worker *worker, struct mr_error *err); /* NO: *err says why */
void mr_worker_decide(struct mr_worker *worker, bool take);
bool mr_worker_settled(struct mr_worker *worker); /* what it was told to take is in use */

/* Waits for the thread until the deadline (monotonic), frees the worker; its exit code. False:
 * still running. */
bool mr_worker_join(struct mr_worker *worker, int64_t deadline_mono_ms, int *exit_code);

#endif
