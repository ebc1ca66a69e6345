/*
 * refresh.h - keeps a lookup's table equal to Postgres's: loads it through a feed (feed.h), follows
 * what changes, and loads it again, beside the one in use, when the feed asks for it.
 *
 * One thread a lookup. The first load is tried until it succeeds; a later one that fails leaves the
 * old table in use, says so, and tries again after a back-off. One that comes back empty, or with
 * less than half of the rows, is held back until a person confirms it (mr_refresh_accept).
 */
#ifndef MR_STREAM_REFRESH_H
#define MR_STREAM_REFRESH_H

#include "millrace/feed.h"
#include "stream/fresh.h"

struct mr_refresh_options {
    const char *name;    /* of the lookup; borrowed */
    int64_t interval_ms; /* of a feed that reloads: older than that is in its nature */
    /* Makes the feed; no I/O. Called in the refresh thread, as `loading` (may be NULL): before and
     * after each load, and how it ended, for those who show progress. `stop` is what the feed's
     * waits heed. */
    bool (*open)(void *arg, const atomic_bool *stop, struct mr_feed **out, struct mr_error *err);
    void (*loading)(void *arg, bool begins, bool loaded);
    void *arg;
    struct mr_fresh_options fresh;
};

struct mr_refresh_status {
    bool loaded, ended;
    int exit_code;        /* with ended: 0 after a stop */
    bool held;            /* a re-read waits for mr_refresh_accept */
    bool stale, pauses;   /* past max_staleness; workers take no messages then */
    int64_t staleness_ms; /* -1: not loaded */
    char problem[1024];   /* why the table is not followed; empty if it is */
};

struct mr_refresh;

/* `fresh`: from mr_fresh_new(&options->fresh); both outlive the refresh. */
struct mr_refresh *mr_refresh_start(const struct mr_refresh_options *options,
                                    struct mr_lookup *lookup, struct mr_fresh *fresh,
                                    atomic_bool *stop);
/* Any thread. */
struct mr_refresh_status mr_refresh_status(struct mr_refresh *refresh);
/* The re-read that is held back, or the next one like it, is to be taken. Any thread. False: none
 * is held back. */
bool mr_refresh_accept(struct mr_refresh *refresh);
/* After *stop is set: waits until the deadline (monotonic), frees. False: still running, nothing is
 * freed. */
bool mr_refresh_join(struct mr_refresh *refresh, int64_t deadline_mono_ms);

#endif
