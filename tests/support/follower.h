/*
 * follower.h - a lookup that a feed keeps, in a thread of its own, for tests and measurements.
 *
 * Drives a feed as core/stream/refresh.c does, but without its judgement: whatever was read is
 * swapped in at once, an error of any kind is tried again after a moment. So what is seen is the
 * feed's doing alone. Started and stopped by one thread; the other functions may be called by any.
 */
#ifndef MR_TESTS_FOLLOWER_H
#define MR_TESTS_FOLLOWER_H

#include "postgres/postgres.h"

struct follower_status {
    unsigned loads, failures; /* loads that succeeded; calls of load or follow that did not */
    int64_t load_ms;          /* how long the last load took */
    struct mr_feed_state state;
    char problem[1024]; /* why the table was read again, or why that failed, the last time */
};

struct follower;
/* Copies nothing: the options live longer. `cancel` of the lookup's options is set here. */
struct follower *follower_start(const struct mr_postgres_feed_options *options);
void follower_stop(struct follower *follower);
struct mr_lookup *follower_lookup(struct follower *follower);
struct follower_status follower_status(struct follower *follower);
/* Waits for a load, if there was none. False: not within that time. */
bool follower_loaded(struct follower *follower, int timeout_ms);
/* As consistency = "strict" does: when it returns true, what was committed before the call can be
 * seen. False: not within that time. */
bool follower_strict(struct follower *follower, int timeout_ms);
/* Reads the whole table again, as if the feed had asked for it. */
void follower_reload(struct follower *follower);

#endif
