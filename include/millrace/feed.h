/*
 * feed.h - what keeps a lookup's table equal to a table of Postgres (core/postgres implements it,
 * core/stream/refresh.c drives it, tests fake it).
 *
 * A feed reads the whole table once (load) and then follows what changes (follow), until it says
 * that the whole table must be read again: because changes were lost (a connection, a slot, a
 * fail-over), because a change cannot be told row by row (TRUNCATE under a change-log, a column of
 * another type), because an interval is over (reload), or because the server now allows a better
 * kind. The table in use serves meanwhile, as stale; the new one is built beside it.
 *
 * Threads. All functions are called by one thread, the lookup's. Every wait ends soon after the
 * `cancel` flag that the feed was opened with is set. Times are monotonic milliseconds of this
 * process (mr_clock_mono_ms).
 */
#ifndef MILLRACE_FEED_H
#define MILLRACE_FEED_H

#include "millrace/lookup.h"

enum mr_feed_kind {
    MR_FEED_RELOAD,    /* the whole table is read again at an interval */
    MR_FEED_CHANGELOG, /* a trigger writes what changes into a table, which is polled */
    MR_FEED_LOGICAL,   /* logical replication, pgoutput */
    MR_FEED_KINDS
};

/* What a feed is doing, since the last load. */
struct mr_feed_state {
    enum mr_feed_kind kind;
    char why[512]; /* why this kind and not a better one: a sentence, for the log */
    /* The table was equal to the server's at this moment, or later; never goes back. */
    int64_t as_of_ms;
    int64_t changes; /* rows put and taken, since the feed was opened */
    /* How long after its COMMIT the last change was shown, by the server's clock; -1: none yet. */
    int64_t lag_ms;
};

enum mr_feed_event {
    MR_FEED_FOLLOWS, /* up to date as far as is known; call follow again */
    MR_FEED_READ,    /* the table must be read again: call load; the error says why, a sentence */
    MR_FEED_FAILED   /* the feed is broken: call load after a back-off; the error says why */
};

struct mr_feed;
struct mr_feed_ops {
    /*
     * Connects if need be, chooses the kind that the server allows today, reads the whole table.
     * From this moment on changes are kept for `follow`. On true *out is the caller's; `state`
     * tells the kind and as_of_ms. MR_STOP: a person is needed (configuration, rights).
     */
    bool (*load)(struct mr_feed *feed, struct mr_table **out, struct mr_error *err);
    /*
     * Waits at most timeout_ms for changes to the table that the last load gave, which `lookup`
     * holds by now, and shows them there (mr_lookup_publish), whole transactions only.
     */
    enum mr_feed_event (*follow)(struct mr_feed *feed, struct mr_lookup *lookup, int timeout_ms,
                                 struct mr_error *err);
    /*
     * For consistency = "strict": notes the position that the server has reached now. What was
     * committed before the call is shown once `reached` says so, after some calls of follow. False:
     * the server did not answer, or the kind cannot tell (reload): the table is to be taken as
     * stale.
     */
    bool (*mark)(struct mr_feed *feed, struct mr_error *err);
    bool (*reached)(struct mr_feed *feed);
    struct mr_feed_state (*state)(struct mr_feed *feed);
    void (*close)(struct mr_feed *feed);
};

struct mr_feed {
    const struct mr_feed_ops *ops;
};

/* "reload", "changelog", "logical" */
static inline const char *mr_feed_kind_name(enum mr_feed_kind kind)
{
    static const char *const names[MR_FEED_KINDS] = {"reload", "changelog", "logical"};
    return names[kind];
}

#endif
