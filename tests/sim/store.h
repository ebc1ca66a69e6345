/*
 * store.h - the simulated store from the inside: store.c and store_claim.c.
 */
#ifndef MR_TESTS_SIM_STORE_H
#define MR_TESTS_SIM_STORE_H

#include "sim.h"

enum { SIM_LOCK_US = 5 * SECOND };

struct sim_store {
    struct mr_store base;
    struct sim_worker *worker;
    char *lent; /* what the last call returned */
    int64_t unsure_epoch;
    int unsure_partition;
};

static inline struct sim_store *sim_store_of(struct mr_store *base)
{
    return (struct sim_store *)base;
}

bool sim_store_away(struct mr_error *err, const char *what);
/* A statement reaches the server; NULL: it does not. */
struct sim_session *sim_store_ask(struct sim_store *store, const char *what, struct mr_error *err);
/* Its answer reaches us. */
bool sim_store_answered(struct sim_store *store, const char *what, struct mr_error *err);

bool sim_store_claim(struct mr_store *base, const struct mr_partition *at, int64_t epoch_before,
                     struct mr_claim *out, struct mr_error *err);
bool sim_store_redo(struct mr_store *base, const struct mr_partition *at, int64_t unit,
                    struct mr_redo *out, bool *found, struct mr_error *err);
bool sim_store_attempt(struct mr_store *base, const struct mr_partition *at, int64_t epoch,
                       int64_t offset, struct mr_error *err);

#endif
