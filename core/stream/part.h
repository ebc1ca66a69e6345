/*
 * part.h - one partition as its worker sees it: where it stands in the input, the ledger and Kafka.
 *
 *     marked_offset  <=  decided  <=  position
 *     (Kafka shows)      (ledger)     (read, in the open unit or dropped)
 *
 * Belongs to one worker thread. Becomes meaningful by claim (claim.c); only delivery.c moves `unit`
 * and `decided`, and only after Postgres has said COMMIT.
 */
#ifndef MR_STREAM_PART_H
#define MR_STREAM_PART_H

#include "millrace/store.h"

struct mr_part {
    struct mr_partition at;
    bool claimed;
    int64_t epoch;         /* our fencing token */
    int64_t unit;          /* last decided unit */
    int64_t decided;       /* next_offset in the ledger */
    int64_t position;      /* next offset to take */
    int64_t marked_offset; /* offset that Kafka shows */
    uint64_t dropped;      /* messages passed since `decided` moved */
    bool has_redo;         /* the ledger still keeps the redo of a unit that Kafka has */
    /* The message at `trying` was begun `attempts` times by owners that were not heard of again. */
    int64_t trying; /* -1: none */
    int attempts;
    bool tried;              /* noted in the ledger since the last decision */
    bool try_due;            /* the next message is the first since the claim: it is noted */
    uint64_t careful;        /* so many messages go one by one, each noted */
    int64_t recompute_until; /* mutant redo_recomputed only */
    int blocked;             /* times its offset was not stable, since the last claim */
    bool owner_gone;         /* and it is known to be dead */
    char *owner_before;      /* whose transaction may still be open; NULL: nobody's but ours */
    /* Fan-out in progress, as the ledger has it. Owns the bytes. */
    bool has_job;
    bool had_job; /* since it was assigned: while it is not claimed it may be in progress still */
    struct mr_buf job_keys, job_cursor;
    int64_t job_trigger_ms;
};

/* The order in which ledger rows are taken, the same for everybody: none waits in a circle. */
static inline int mr_partition_compare(const struct mr_partition *a, const struct mr_partition *b)
{
    int order = strcmp(a->topic, b->topic);
    return order ? order : (a->partition > b->partition) - (a->partition < b->partition);
}

void mr_part_set_job(struct mr_part *part, const struct mr_job_state *job); /* copies; NULL: none */
struct mr_job_state mr_part_job(const struct mr_part *part);                /* borrows */
void mr_part_fini(struct mr_part *part);

#endif
