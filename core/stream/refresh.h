/*
 * refresh.h - keeps a lookup fresh: loads it, again and again, beside the one in use, and swaps.
 *
 * One thread a lookup. The first load is tried until it succeeds; a later one that fails leaves the
 * old table in use, says so, and tries again after a back-off. How a table is read is the loader's
 * business (core/postgres).
 */
#ifndef MR_STREAM_REFRESH_H
#define MR_STREAM_REFRESH_H

#include "millrace/lookup.h"

#include <stdatomic.h>

struct mr_refresh_options {
    const char *name; /* of the lookup; borrowed */
    int64_t interval_ms;
    /* Reads a whole table. Called in the refresh thread; returns soon after *stop is set. */
    bool (*load)(void *arg, const atomic_bool *stop, struct mr_table **out, struct mr_error *err);
    void *arg;
};

struct mr_refresh_status {
    bool loaded, ended;
    int exit_code;      /* with ended: 0 after a stop */
    int64_t age_ms;     /* of the table in use */
    char problem[1024]; /* why the last load failed; empty if it did not */
};

struct mr_refresh;

struct mr_refresh *mr_refresh_start(const struct mr_refresh_options *options,
                                    struct mr_lookup *lookup, atomic_bool *stop);
struct mr_refresh_status mr_refresh_status(struct mr_refresh *refresh);
/* After *stop is set: waits until the deadline (monotonic), frees. False: still running, nothing is
 * freed. */
bool mr_refresh_join(struct mr_refresh *refresh, int64_t deadline_mono_ms);

#endif
