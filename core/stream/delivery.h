/*
 * delivery.h - how a unit reaches both sinks: the commit protocol and the routine that recovers it.
 *
 * Sees source, sink and store through their contracts only, so the same object file runs over Kafka
 * and Postgres and over in-memory logs. One worker thread. The numbered invariants:
 * docs/INVARIANTS.md.
 *
 * at_least_once, the mode there is: the store is asked first, the messages go out only when
 * Postgres has taken every row, the decision is Postgres's COMMIT, then Kafka's offset follows:
 *
 *     BEGIN, compare-and-swap of each partition's ledger row    store->begin
 *     COPY rows, dead letters, constraints                      store->copy, bury, check
 *     produce, and wait for every acknowledgement               sink->produce, flush
 *     COMMIT                                                    store->commit      <- the decision
 *     offset with unit number                                   source->commit
 */
#ifndef MR_STREAM_DELIVERY_H
#define MR_STREAM_DELIVERY_H

#include "base/metrics.h"
#include "millrace/sink.h"
#include "millrace/source.h"
#include "millrace/store.h"
#include "stream/unit.h"

#define MR_MODE_AT_LEAST_ONCE "at_least_once"

enum mr_start_at { MR_START_EARLIEST, MR_START_LATEST };

struct mr_delivery_options {
    const char *group; /* for sentences */
    enum mr_start_at start;
    int dead_topic; /* index of the sink topic for dead letters; -1: the store's table */
    int flush_timeout_ms, claim_timeout_ms;
};

struct mr_delivery_counters {
    struct mr_metric *units, *decided_at, *outputs, *rows, *claims, *marks_again;
};

struct mr_delivery {
    struct mr_source *source;
    struct mr_sink *sink;   /* NULL: rows only */
    struct mr_store *store; /* NULL: messages only; positions live in Kafka alone */
    struct mr_delivery_options options;
    struct mr_delivery_counters counters;
    struct mr_buf labels; /* of the counters by class */
    /* Scratch, kept between units. */
    struct mr_advance *steps;
    struct mr_mark *marks;
    struct mr_row_run *runs;
    struct mr_dead_letter *letters;
    struct mr_job_state *jobs;
    size_t cap_steps, cap_runs, cap_letters;
    struct mr_buf dead_frames;
};

void mr_delivery_init(struct mr_delivery *delivery, const char *pipeline,
                      const struct mr_delivery_options *options);
void mr_delivery_fini(struct mr_delivery *delivery);

/*
 * Delivers the whole unit, in one transaction or, where Postgres refuses data, in as many as it
 * takes; what is at fault is dead-lettered. On true all of it is decided and the partitions have
 * moved. On false: what was decided is decided, the rest did not happen or is in doubt; *err says
 * what to do (RETRY, RECOVER: claim everything again; STOP). The caller resets the unit in both
 * cases.
 */
MR_MUSTCHECK bool mr_delivery_commit(struct mr_delivery *delivery, struct mr_unit *unit,
                                     struct mr_error *err);

/* Moves the ledger's positions of partitions that only dropped messages. */
MR_MUSTCHECK bool mr_delivery_advance(struct mr_delivery *delivery, struct mr_part *parts, size_t n,
                                      struct mr_error *err);

/* Brings Kafka's visible offsets to where the ledger stands. */
MR_MUSTCHECK bool mr_delivery_mark(struct mr_delivery *delivery, struct mr_part *parts, size_t n,
                                   struct mr_error *err);

/*
 * The one recovery routine, for one partition: fences earlier owners, finds out what reached Kafka,
 * finishes it, and decides where to go on (part->position). Used at assign, at start and after
 * every serious error.
 */
MR_MUSTCHECK bool mr_delivery_claim(struct mr_delivery *delivery, struct mr_part *part,
                                    struct mr_error *err);

#endif
