/*
 * delivery.h - how a unit reaches both sinks: the commit protocol and the routine that recovers it.
 *
 * Sees source, sink and store through their contracts only, so the same object file runs over Kafka
 * and Postgres and over in-memory logs. One worker thread. The numbered invariants:
 * docs/INVARIANTS.md. Postgres decides, Kafka follows.
 *
 * exactly_once:
 *     begin, produce, offsets with unit number: not waiting     sink->begin, produce, begin_offsets
 *     BEGIN, compare-and-swap of each partition's ledger row,
 *       with the redo: the final bytes of the messages          store->begin
 *     COPY rows, dead letters, constraints                      store->copy, bury, check
 *     wait for every acknowledgement                            sink->flush
 *     are the offsets in Kafka's transaction?                   sink->offsets
 *     COMMIT                                                    store->commit      <- the decision
 *     Kafka's commit                                            sink->commit
 * What was lost between the last two is sent again from the redo, by the claim.
 *
 * at_least_once: the store is asked first, the messages go out only when Postgres has taken every
 * row, then Kafka's offset follows:
 *     BEGIN, compare-and-swap; COPY, dead letters, constraints  store->begin, copy, bury, check
 *     produce, and wait for every acknowledgement               sink->produce, flush
 *     COMMIT                                                    store->commit      <- the decision
 *     offset with unit number                                   source->commit
 *
 * Without a store Kafka's own transaction decides; without a sink the ledger alone.
 */
#ifndef MR_STREAM_DELIVERY_H
#define MR_STREAM_DELIVERY_H

#include "base/metrics.h"
#include "millrace/sink.h"
#include "millrace/source.h"
#include "millrace/store.h"
#include "stream/unit.h"
#include "stream/watch.h"

/* What the ledger records: whose recovery a partition needs. */
#define MR_MODE_EXACTLY_ONCE  "exactly_once"  /* the last unit has a redo */
#define MR_MODE_AT_LEAST_ONCE "at_least_once" /* its messages were acknowledged before COMMIT */
#define MR_MODE_ROWS_ONLY     "rows_only"     /* it had none */

enum mr_start_at { MR_START_EARLIEST, MR_START_LATEST };

struct mr_delivery_options {
    const char *pipeline, *group; /* for sentences */
    bool exactly_once;
    enum mr_start_at start;
    int dead_topic; /* index of the sink topic for dead letters; -1: the store's table */
    int flush_timeout_ms, claim_timeout_ms;
    int decide_within_ms; /* exactly_once: a unit that is older at its decision is built again; 0:
                             no bound */
};

struct mr_delivery_counters {
    struct mr_metric *units, *decided_at, *outputs, *rows, *claims, *marks_again, *redos;
};

struct mr_delivery {
    struct mr_source *source;
    struct mr_sink *sink;   /* NULL: rows only */
    struct mr_store *store; /* NULL: messages only; positions live in Kafka alone */
    struct mr_delivery_options options;
    struct mr_delivery_counters counters;
    struct mr_watch *watch; /* may be NULL */
    struct mr_buf labels;   /* of the counters by class */
    bool smallest;          /* units cannot be made smaller: one that is slow is not begun anew */
    bool fenced;            /* our own transactions are settled: none is open or in doubt */
    char ended_owner[256];  /* whose transaction we have ended since, lest it be done for each
                               partition */
    bool probed;            /* the broker keeps offsets that come with a transaction */
    /* Scratch, kept between units. One element a partition of the range: */
    struct mr_part **parts;
    struct mr_advance *steps;
    struct mr_mark *marks;
    struct mr_job_state *jobs;
    struct mr_redo *redos;
    struct mr_buf *redo_bytes;
    /* And others. */
    struct mr_row_run *runs;
    struct mr_dead_letter *letters;
    struct mr_job_state *letter_jobs;
    struct mr_bytes *slices;
    size_t cap_steps, cap_runs, cap_letters, cap_slices;
    struct mr_buf dead_frames, redo_frames;
};

void mr_delivery_init(struct mr_delivery *delivery, const char *pipeline,
                      const struct mr_delivery_options *options);
void mr_delivery_fini(struct mr_delivery *delivery);

/* Do messages and offsets go out in transactions? */
static inline bool mr_delivery_transactional(const struct mr_delivery *delivery)
{
    return delivery->options.exactly_once && delivery->sink;
}

/* Of the marks. */
const char *mr_delivery_ledger_id(const struct mr_delivery *delivery);

/*
 * Delivers the whole unit, in one transaction or, where Postgres refuses data, in as many as it
 * takes; what is at fault is dead-lettered. On true all of it is decided and the partitions have
 * moved. On false: what was decided is decided, the rest did not happen or is in doubt; *err says
 * what to do (RETRY, RECOVER: claim everything again; STOP). The caller resets the unit in both
 * cases.
 */
MR_MUSTCHECK bool mr_delivery_commit(struct mr_delivery *delivery, struct mr_unit *unit,
                                     struct mr_error *err);

/* After a serious error, before the claims: nothing of ours stays open. */
void mr_delivery_abandon(struct mr_delivery *delivery);

/* --- marks.c --- */

/* Moves the ledger's positions of partitions that only dropped messages, and forgets redos that are
 * not needed any more. */
MR_MUSTCHECK bool mr_delivery_advance(struct mr_delivery *delivery, struct mr_part *parts, size_t n,
                                      struct mr_error *err);

/* Brings Kafka's visible offsets to where the ledger stands. */
MR_MUSTCHECK bool mr_delivery_mark(struct mr_delivery *delivery, struct mr_part *parts, size_t n,
                                   struct mr_error *err);

/* The first `n` of delivery->marks, as members of the group; in a transaction of their own where
 * there are transactions. */
MR_MUSTCHECK bool mr_delivery_send_marks(struct mr_delivery *delivery, size_t n,
                                         struct mr_error *err);

/* delivery->marks[i]. False, MR_REJECT: what has to travel with the offset is too long. */
MR_MUSTCHECK bool mr_delivery_put_mark(struct mr_delivery *delivery, size_t i,
                                       const struct mr_partition *at, int64_t next_offset,
                                       int64_t unit, int64_t probe, const struct mr_job_state *job,
                                       struct mr_error *err);

void mr_delivery_reserve(struct mr_delivery *delivery, size_t n_parts);

/* --- claim.c --- */

/*
 * The one recovery routine, for one partition: fences earlier owners, finds out what reached Kafka,
 * finishes it, and decides where to go on (part->position). Used at assign, at start and after
 * every serious error.
 */
MR_MUSTCHECK bool mr_delivery_claim(struct mr_delivery *delivery, struct mr_part *part,
                                    struct mr_error *err);

#endif
