/*
 * side.h - what the tests of the postgres room share: a look from outside, and a store to work on.
 *
 * Each test works in a schema of its own (fresh), which the search path of its sessions begins
 * with. `side` is a plain connection that looks, and meddles, from outside. What fails ends the
 * test. One thread, but `await` and `ask` may be used by one other while the first waits.
 */
#ifndef MR_TESTS_SIDE_H
#define MR_TESTS_SIDE_H

#include "postgres/postgres.h"

#include <libpq-fe.h>

extern PGconn *side;
extern const char *dsn; /* MILLRACE_PG */
extern const struct mr_partition place;
extern const char b_waits_for_a_lock[]; /* SQL: "1" when the session of the owner "b" does */

int side_setup(void **state);
int side_teardown(void **state);

/* Runs SQL; the first value of the answer, until the next call. */
const char *ask(const char *format, ...) MR_PRINTF(1, 2);
/* Waits until the answer is `wanted`. */
void await(const char *wanted, const char *sql);
/* An empty schema with Millrace's tables. */
void fresh(const char *schema);

struct mr_store *store_of(const char *owner, const char *table);
struct mr_store *connected(const char *owner, const char *table);
struct mr_claim claimed(struct mr_store *store);
bool begin(struct mr_store *store, const struct mr_claim *claim, int64_t next_offset,
           struct mr_error *err);
void begun(struct mr_store *store, const struct mr_claim *claim, int64_t next_offset);
/* One row of one column. */
bool copy_value(struct mr_store *store, const char *name, struct mr_value value,
                struct mr_error *err);
bool copy_int(struct mr_store *store, const char *name, int64_t i, struct mr_error *err);
/* Ends the server's session of this owner. */
void end_session(const char *owner);

#endif
