/*
 * watch.h - private to core/postgres: what the stream of changes does not tell of a table.
 *
 * An ordinary connection beside the replication connection. Asked about once a second, it tells
 * where the server's log stands, and what could change without a word in the stream: the table's
 * file (a rewrite, a partition emptied or attached), its columns, its replica identity, whether it
 * is still published. One thread.
 */
#ifndef MR_POSTGRES_WATCH_H
#define MR_POSTGRES_WATCH_H

#include "postgres/feed.h"

struct mr_pg_watch;

/* Connects and looks for the first time. What is seen later is compared with that. */
MR_MUSTCHECK bool mr_pg_watch_open(const struct mr_postgres_feed_options *options,
                                   const struct mr_pg_survey *survey, struct mr_pg_watch **out,
                                   struct mr_error *err);
void mr_pg_watch_close(struct mr_pg_watch *watch); /* NULL: nothing */

const struct mr_pg *mr_pg_watch_pg(const struct mr_pg_watch *watch); /* to connect beside */
uint32_t mr_pg_watch_oid(const struct mr_pg_watch *watch);
const char *mr_pg_watch_schema(const struct mr_pg_watch *watch);
const char *mr_pg_watch_name(const struct mr_pg_watch *watch);

/* After a read: the types of the shape's columns and ids as declared (free them). False with
 * MR_RETRY: the table was altered since the first look. */
MR_MUSTCHECK bool mr_pg_watch_declared(struct mr_pg_watch *watch, const struct mr_pg_shape *shape,
                                       uint32_t **declared, struct mr_error *err);

/* --- from time to time, without waiting --- */
struct mr_pg_seen {
    int64_t asked_ms; /* the look began no earlier */
    uint64_t lsn;     /* what it saw was committed up to here */
    bool altered;     /* the table's definition, its identity or the publication */
    bool refiled;     /* it has another file: rewritten, or emptied */
    bool unwritten;   /* the log is not written out up to there yet */
};
/* Asks, unless an answer is outstanding; reads the answer if it has come. True: *seen is new. What
 * goes wrong is tried again with a new connection: then nothing is seen for a while. */
bool mr_pg_watch_look(struct mr_pg_watch *watch, struct mr_pg_seen *seen);
/* The socket to poll while an answer is outstanding; -1: none. */
int mr_pg_watch_socket(const struct mr_pg_watch *watch);
/* The file of the last look is the right one. */
void mr_pg_watch_adopt(struct mr_pg_watch *watch);

/* --- with waiting, shortly --- */
/* A look, with its answer. The log will soon be written out up to there. */
MR_MUSTCHECK bool mr_pg_watch_look_now(struct mr_pg_watch *watch, struct mr_pg_seen *seen,
                                       struct mr_error *err);
/* Has the server write out what lies below its position: the stream tells only what is written. */
void mr_pg_watch_nudge(struct mr_pg_watch *watch);
/* Ends the server's process `pid`, one of ours that does not listen. */
void mr_pg_watch_end(struct mr_pg_watch *watch, int pid);
/* Who holds a new slot up, as a clause in brackets; "" if nobody is seen. */
void mr_pg_watch_blocker(struct mr_pg_watch *watch, char *text, size_t size);

#endif
