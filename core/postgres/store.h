/*
 * store.h - private to core/postgres: the store of one worker, shared by store.c, claim.c, ledger.c
 * and copy.c.
 *
 * One thread. `home`, `table` and the prepared statements belong to the connection in force;
 * descriptions that were given out live until close, since a script may still point into them.
 */
#ifndef MR_POSTGRES_STORE_H
#define MR_POSTGRES_STORE_H

#include "postgres/schema.h"
#include "millrace/store.h"

struct mr_pg_store {
    struct mr_store base;
    struct mr_pg pg;
    char *table, *dead_table, *group, *owner, *instance, *mode;
    char **columns;
    size_t n_columns;
    bool ready; /* connected, locked, described, prepared */
    struct mr_pg_home home;
    struct mr_pg_table *described; /* the current one first, then those before it */
    bool
        other_table; /* a unit failed since the table was not as described: the second time halts */
    int64_t server_ms, at_mono_ms; /* the server's clock when it was last asked; 0: never */
    struct mr_buf job;             /* what mr_claim.job borrows */
    struct mr_buf chunk;           /* COPY and array parameters */
    PGresult *redo;                /* what mr_redo borrows */
    /* The last claim, should its answer be lost: where, and with which epoch. See claim.c. */
    struct {
        char *topic; /* NULL: none */
        int32_t partition;
        int64_t epoch;
    } unsure;
};

static inline struct mr_pg_store *mr_pg_store_of(struct mr_store *store)
{
    return (struct mr_pg_store *)store;
}

/* True if connected and set up; connects when it is not. */
MR_MUSTCHECK bool mr_pg_store_ready(struct mr_pg_store *s, struct mr_error *err);
void mr_pg_store_clock(struct mr_pg_store *s, const char *server_ms);
extern const char mr_pg_clock_sql[];

/* Names of prepared statements. */
#define MR_PG_ADVANCE     "mr_advance"
#define MR_PG_FORGET      "mr_forget"
#define MR_PG_KEEP        "mr_keep"
#define MR_PG_TRY         "mr_try"
#define MR_PG_FINGERPRINT "mr_fingerprint"
#define MR_PG_BURY        "mr_bury"

/* claim.c */
bool mr_pg_store_claim(struct mr_store *store, const struct mr_partition *at, int64_t epoch_before,
                       struct mr_claim *out, struct mr_error *err);
bool mr_pg_store_redo(struct mr_store *store, const struct mr_partition *at, int64_t unit,
                      struct mr_redo *out, bool *found, struct mr_error *err);
void mr_pg_store_drop_redo(struct mr_pg_store *s);
bool mr_pg_store_attempt(struct mr_store *store, const struct mr_partition *at, int64_t epoch,
                         int64_t offset, struct mr_error *err);
/* ledger.c */
extern const char mr_pg_begin_sql[];
/* Three parameters: keys, cursor, trigger_ms; nulls for no job. */
void mr_pg_arg_job(struct mr_pg_args *args, const struct mr_job_state *job);
bool mr_pg_store_begin(struct mr_store *store, const struct mr_advance *steps, size_t n,
                       struct mr_error *err);
bool mr_pg_store_check(struct mr_store *store, struct mr_error *err);
enum mr_decision mr_pg_store_commit(struct mr_store *store, struct mr_error *err);
void mr_pg_store_rollback(struct mr_store *store);
/* copy.c */
bool mr_pg_store_copy(struct mr_store *store, const struct mr_row_run *runs, size_t n,
                      struct mr_error *err);
bool mr_pg_store_bury(struct mr_store *store, const struct mr_dead_letter *letters, size_t n,
                      struct mr_error *err);

#endif
