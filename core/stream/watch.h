/*
 * watch.h - which phase a worker is in, and since when: so that one that is stuck is named, and
 * the process given up when it stays so (Kafka's own max.poll.interval cannot be trusted with it).
 *
 * A worker's thread enters phases; one watchdog thread of the process reads them. Each phase is
 * bounded by time-outs of its own: the budgets are beyond those, for what no time-out covers.
 */
#ifndef MR_STREAM_WATCH_H
#define MR_STREAM_WATCH_H

#include "base/metrics.h"
#include "base/thread.h"

#include <stdatomic.h>
#include <stddef.h>

enum mr_phase {
    MR_PHASE_OPEN,    /* connecting, opening the script */
    MR_PHASE_POLL,    /* waiting for messages, serving the group */
    MR_PHASE_LOOKUP,  /* waiting for the lookup to catch up */
    MR_PHASE_BUILD,   /* Lua, join, stamp */
    MR_PHASE_PRODUCE, /* handing messages to the producer, beginning its transaction */
    MR_PHASE_STORE,   /* rows, redo, ledger into the database's transaction */
    MR_PHASE_FLUSH,   /* until Kafka has acknowledged each message */
    MR_PHASE_OFFSETS, /* offsets into Kafka's transaction */
    MR_PHASE_DECIDE,  /* the database's COMMIT */
    MR_PHASE_COMMIT,  /* Kafka's commit */
    MR_PHASE_CLAIM,   /* recovery of a partition */
    MR_PHASE_ENDED,
    MR_PHASES
};

struct mr_budget {
    int warn_ms, give_up_ms; /* give_up_ms 0: never */
};

/* Embedded in a worker. */
struct mr_watch {
    atomic_int phase;
    atomic_llong since_ms; /* monotonic */
    /* The worker's own: where its time goes. */
    int64_t since_us, spent_us[MR_PHASES]; /* not in the metrics yet */
    struct mr_metric *seconds[MR_PHASES];  /* NULLs: not counted */
};

/* Counts the time of each phase for `pipeline`. */
void mr_watch_init(struct mr_watch *watch, const char *pipeline);

const char *mr_phase_name(enum mr_phase phase);
void mr_phase_budgets(struct mr_budget out[MR_PHASES]); /* the ordinary ones */

/* The worker's thread. `watch` may be NULL. */
void mr_watch_enter(struct mr_watch *watch, enum mr_phase phase);

struct mr_watchdog;

/* Looks at the `n` watches four times a second. One that is beyond its budget is named in the log,
 * once; beyond give_up_ms `give_up` is called (NULL: the process ends by _exit, 75). The watches
 * live until stop. `names` are copied. */
struct mr_watchdog *mr_watchdog_start(struct mr_watch *const *watches, const char *const *names,
                                      size_t n, const struct mr_budget *budgets,
                                      void (*give_up)(void *arg), void *arg);
/* From now on; any thread, before stop. */
void mr_watchdog_set_budget(struct mr_watchdog *dog, enum mr_phase phase, struct mr_budget budget);
void mr_watchdog_stop(struct mr_watchdog *dog);

#endif
