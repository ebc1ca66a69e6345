/*
 * store.h - the contract of the database side of a unit: ledger, rows and dead letters in one
 * transaction (core/postgres/ledger.c and rows.c; in-memory in tests). The protocol:
 * docs/INVARIANTS.md.
 *
 * One store belongs to one worker thread and is one connection. A new connection always means
 * claim, since nobody knows what became of the old one: every error of an open transaction is
 * followed by `rollback`, and an error with action RECOVER or RETRY by `reset` and claim. Errors:
 * MR_REJECT is a data error (SQLSTATE class 22 or 23): some row of this unit is at fault; MR_RETRY:
 * away, busy, full; MR_STOP: schema or rights.
 */
#ifndef MILLRACE_STORE_H
#define MILLRACE_STORE_H

#include "millrace/record.h"
#include "millrace/row.h"
#include "millrace/source.h"

struct mr_store {
    const struct mr_store_ops *ops;
};

/* The state of a fan-out in progress; lives in the ledger between its chunks. Empty bytes: no job.
 */
struct mr_job_state {
    struct mr_bytes keys;   /* canonical keys (lookup.h), frozen by the first chunk */
    struct mr_bytes cursor; /* last row key considered */
    int64_t trigger_ms;     /* frozen ctx.now_ms */
};

/* The final bytes of a unit's messages of one partition, kept until Kafka has them for certain
 * (redo.h). */
struct mr_redo {
    struct mr_bytes payload;
    const char *codec; /* what the payload is; static */
    uint32_t n;        /* messages */
    uint32_t crc32c;   /* of the payload */
};

/* What the ledger held when it was claimed. */
struct mr_claim {
    bool inserted; /* no row was there: a new group or partition */
    int64_t epoch; /* ours from now on, random */
    int64_t unit;
    int64_t next_offset; /* -1 until the first start is decided */
    char mode[24];       /* that of the last decided unit: whose recovery comes first */
    char owner[256];     /* whoever else claimed it before us: its transactional id; "" if nobody */
    bool owner_gone;     /* that one is not connected any more: what it left open it will not end */
    int64_t trying; /* offset at which an owner before began to build and was not heard of again;
                       -1: none */
    int attempts;   /* how many in a row did so at the same offset */
    bool has_job;
    struct mr_job_state job; /* borrows until the next call */
};

/* One partition's step: the compare-and-swap that fences. */
struct mr_advance {
    struct mr_partition at;
    int64_t epoch, unit; /* what must stand there */
    int64_t new_unit;    /* unit + 1, or unit when nothing goes to Kafka */
    int64_t next_offset;
    const struct mr_job_state *job; /* NULL: none after this */
    const struct mr_redo *redo;     /* NULL: none. Those of earlier units are deleted either way */
};

struct mr_dead_letter {
    struct mr_record rec; /* borrowed; headers filled */
    const char *class_;
    const char *error;
    const char *bundle;
    const struct mr_job_state
        *job; /* of a chunk: where its fan-out stood; NULL: at its beginning */
};

/* A run of rows with the same column set. */
struct mr_row_run {
    const struct mr_column_set *set;
    struct mr_bytes rows;
    size_t n;
};

enum mr_decision {
    MR_DECIDED,     /* COMMIT is durable */
    MR_ROLLED_BACK, /* nothing happened; *err says why (MR_REJECT for a deferred constraint) */
    MR_IN_DOUBT     /* the reply was lost: claim settles it */
};

struct mr_store_ops {
    /* Connects if there is no connection, checks Millrace's tables, describes the feedback table.
     */
    bool (*connect)(struct mr_store *store, struct mr_error *err);
    /* Fences: after it, no earlier owner's transaction can commit. In its own transaction. Inserts
     * the ledger row if there is none. A `trying` that was left by `epoch_before`, our own claim
     * before this one (0: none), does not count as an attempt: we have not died of it. */
    bool (*claim)(struct mr_store *store, const struct mr_partition *at, int64_t epoch_before,
                  struct mr_claim *out, struct mr_error *err);
    /* The redo of that unit; *found false: there is none. Borrows until the next call. */
    bool (*redo)(struct mr_store *store, const struct mr_partition *at, int64_t unit,
                 struct mr_redo *out, bool *found, struct mr_error *err);
    /* Notes that the message at `offset` is about to be worked on (-1: is not), in its own
     * transaction, which need not survive a crash of the server. Losing the fence is RECOVER. */
    bool (*attempt)(struct mr_store *store, const struct mr_partition *at, int64_t epoch,
                    int64_t offset, struct mr_error *err);
    /* BEGIN and the compare-and-swap of each partition, sorted by the caller. A lost one (somebody
     * else claimed) is RECOVER. */
    bool (*begin)(struct mr_store *store, const struct mr_advance *steps, size_t n,
                  struct mr_error *err);
    bool (*copy)(struct mr_store *store, const struct mr_row_run *runs, size_t n,
                 struct mr_error *err);
    bool (*bury)(struct mr_store *store, const struct mr_dead_letter *letters, size_t n,
                 struct mr_error *err);
    /* SET CONSTRAINTS ALL IMMEDIATE: the last moment at which data can be refused. */
    bool (*check)(struct mr_store *store, struct mr_error *err);
    enum mr_decision (*commit)(struct mr_store *store, struct mr_error *err);
    void (*rollback)(struct mr_store *store);
    /* Drops the connection; the next call connects again. */
    void (*reset)(struct mr_store *store);
    /* Unix milliseconds by the database's clock: at last contact, plus monotonic time since. */
    int64_t (*now_ms)(struct mr_store *store);
    /* First 8 hex digits of millrace_meta.ledger_id, for the offsets' metadata. After connect. */
    const char *(*ledger_id)(struct mr_store *store);
    /* NULL if the pipeline has no feedback table. After connect; the same pointer for as long as
     * the table is described the same, so a new pointer after a reconnect means: open the script
     * again. */
    const struct mr_row_schema *(*schema)(struct mr_store *store);
    void (*close)(struct mr_store *store);
};

#endif
