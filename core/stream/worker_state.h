/*
 * worker_state.h - a worker from the inside, shared by the files that make it up: worker.c (the
 * loop, and one message), worker_duties.c (what is due besides), worker_open.c (its parts),
 * worker_reload.c (a new script for the old one), worker_state.c (errors, partitions, recovery).
 *
 * Private to the engine. Everything here belongs to the worker's thread, but for `status` and
 * `offer`, which have a lock, and `stop`.
 */
#ifndef MR_STREAM_WORKER_STATE_H
#define MR_STREAM_WORKER_STATE_H

#include "base/log.h"
#include "base/thread.h"
#include "stream/pipeline.h"
#include "stream/tally.h"
#include "stream/worker.h"

#include <pthread.h>

/* What the thread that reloads and the worker's tell each other. Holds a reference each. */
struct mr_offer {
    struct mr_edition *offered, *accepted; /* accepted: not yet noticed by the worker */
    struct mr_worker_settings offered_settings, accepted_settings;
    unsigned serial, accepted_serial;
    enum mr_vote vote;
    struct mr_error err; /* of a vote that says no */
    bool settled;
};

/* A script beside the one in use, opened or not yet (NULL). */
struct mr_beside {
    bool there;
    unsigned serial; /* of the offer */
    struct mr_edition *edition;
    struct mr_script *script;
    struct mr_lookup_schema *columns; /* with which it was opened; the script borrows them */
    struct mr_worker_settings settings;
};

struct mr_worker {
    struct mr_worker_options options;
    atomic_bool *stop;
    struct mr_thread thread;
    pthread_mutex_t lock;
    struct mr_worker_status status;
    struct mr_offer offer;
    atomic_bool offer_changed;

    struct mr_source *source;
    struct mr_sink *sink;
    struct mr_store *store;
    struct mr_script *script;
    struct mr_edition *edition;              /* from which it was opened */
    struct mr_beside tried, coming;          /* offered, and decided: used from the next unit on */
    const struct mr_row_schema *script_rows; /* what the script was opened with */
    struct mr_lookup_schema *script_columns;
    struct mr_delivery delivery;
    struct mr_pipeline pipeline;
    struct mr_unit unit;
    struct mr_part *parts;
    size_t n_parts;

    bool left_job;   /* a fan-out was half sent when the partitions went; it may come back to us */
    bool claims_due; /* some partition is not claimed */
    int64_t claim_at_ms;
    size_t claim_next;    /* whose turn it is */
    unsigned failures;    /* since something was decided, for the back-off */
    int64_t failed_at_ms; /* the latest of them */
    unsigned pinned;      /* records since the lookup's table was pinned without a unit */
    int64_t advance_at_ms, mark_at_ms, tidy_at_ms; /* 0: nothing to do */
    struct mr_watch watch;
    int64_t pulse_at_ms;
    bool awaits_lookup; /* its first load; not a failure */
    bool paused;        /* the lookup is stale: no messages are taken */
    bool source_away;   /* it said so, and nothing has come since */
    int exit_code;
    bool done;
    struct mr_log_gate reject_gate;
    int64_t tick_at_ms;
    struct mr_log_gate tick_gate;
    struct mr_log_trouble trouble; /* from the first failure until a unit is decided */
    struct mr_tally tally;
    struct mr_recent_tap tap; /* of options.recent */
};

/* --- worker_state.c --- */
void mr_worker_set_status(struct mr_worker *worker, bool well, const char *problem);
/* In its group, with its first partitions claimed: it has begun. Stays so. */
void mr_worker_set_joined(struct mr_worker *worker);
bool mr_worker_stopping(const struct mr_worker *worker);
void mr_worker_halt(struct mr_worker *worker, const struct mr_error *err);
/* Grows until something is decided: a claim that works, before a unit that never does, proves
 * nothing. */
int mr_worker_backoff_ms(struct mr_worker *worker);
/* Sleeps up to the back-off of the failure at hand, in short steps so that a stop is seen. */
void mr_worker_wait_backoff(struct mr_worker *worker);
struct mr_part *mr_worker_find_part(struct mr_worker *worker, const struct mr_record *rec);
void mr_worker_drop_parts(struct mr_worker *worker);
/* Some fan-out is half sent, or may be: after an error, or a rebalance, nobody knows until the
 * partitions are claimed again. */
bool mr_worker_has_job(const struct mr_worker *worker);
void mr_worker_reset_unit(struct mr_worker *worker);
/* Reads on at the positions of what is claimed, unless paused; nothing else is fetched meanwhile.
 */
bool mr_worker_start_source(struct mr_worker *worker, struct mr_error *err);
/* After a serious error: forget what is undecided, stop fetching, claim again after the back-off.
 */
void mr_worker_recover(struct mr_worker *worker, const struct mr_error *cause);

/* --- worker_open.c --- */
/* (Re)opens the script when the shape of what it is checked against has changed. */
bool mr_worker_open_script(struct mr_worker *worker, struct mr_error *err);
/* Until the services are there. False: told to stop, or a person is needed. */
bool mr_worker_open_all(struct mr_worker *worker);
void mr_worker_close_all(struct mr_worker *worker);

/* --- worker_tick.c --- */
/* The script's `tick`, about once a second between messages; what it does wrong is logged. */
void mr_worker_tick_if_due(struct mr_worker *worker);

/* --- worker_reload.c --- */
/* Opens what is offered, votes, takes note of the decision. Also between chunks of a fan-out. */
void mr_worker_heed_offer(struct mr_worker *worker);
/* Between messages: what is decided takes the place of the script in use, unless a fan-out is half
 * sent. */
void mr_worker_swap_if_due(struct mr_worker *worker);
/* The tables have another shape than the scripts beside were opened with: they are opened again
 * when they are needed. */
void mr_worker_close_beside(struct mr_worker *worker);
/* At the end. */
void mr_worker_forget_offers(struct mr_worker *worker);

/* --- worker_duties.c --- */
int64_t mr_worker_now_ms(struct mr_worker *worker);
/* Commits the open unit. False: nothing of it is kept here, the partitions are being claimed again.
 */
bool mr_worker_commit_unit(struct mr_worker *worker);
/* Claims what is not claimed yet, one by one, so that a stuck partition does not hold up the
 * others. */
void mr_worker_claim_due(struct mr_worker *worker);
void mr_worker_commit_if_due(struct mr_worker *worker, bool queue_empty);
/* Positions of what was only dropped: into the ledger each second, to Kafka each five. */
void mr_worker_advance_if_due(struct mr_worker *worker, bool now);
void mr_worker_source_is_back(struct mr_worker *worker);
/* Without traffic nobody would notice that a service is away, or back: a look at each, now and
 * then. */
void mr_worker_feel_pulse(struct mr_worker *worker);
/* on_stale = "pause": stops taking messages when the lookup is stale, goes on when it is not. */
void mr_worker_heed_staleness(struct mr_worker *worker);
/* A message that kills the process is found by what it leaves behind: notes that the one at
 * `offset` is about to be worked on. False: the partitions are being claimed again. */
bool mr_worker_note_attempt(struct mr_worker *worker, struct mr_part *part, int64_t offset);
/* Of partitions that go to another owner: whatever was begun did no harm. */
void mr_worker_forget_attempts(struct mr_worker *worker);
void mr_worker_passed(struct mr_worker *worker, struct mr_part *part, int64_t position);

#endif
