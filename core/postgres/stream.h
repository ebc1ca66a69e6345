/*
 * stream.h - private to core/postgres: a replication connection, its slot, and the messages that
 * come.
 *
 * One thread. The slot is temporary: it goes away with the connection.
 */
#ifndef MR_POSTGRES_STREAM_H
#define MR_POSTGRES_STREAM_H

#include "postgres/feed.h"
#include "postgres/pgoutput.h"

struct mr_pg_stream;

/* No I/O. */
struct mr_pg_stream *mr_pg_stream_new(const struct mr_postgres_feed_options *options);
void mr_pg_stream_free(struct mr_pg_stream *stream); /* with the slot; NULL: nothing */

/* Connects beside `beside` and asks for a slot. */
MR_MUSTCHECK bool mr_pg_stream_open(struct mr_pg_stream *stream, const struct mr_pg *beside,
                                    struct mr_error *err);
/* Has the slot been asked for, and is not there? */
bool mr_pg_stream_waits(const struct mr_pg_stream *stream);
/* Waits for the slot, at most that long. True: no error; `waits` says whether it is there. */
MR_MUSTCHECK bool mr_pg_stream_wait(struct mr_pg_stream *stream, int timeout_ms,
                                    struct mr_error *err);
/* The snapshot that the slot begins after; to be read before `start`. */
const char *mr_pg_stream_snapshot(const struct mr_pg_stream *stream);
int mr_pg_stream_pid(const struct mr_pg_stream *stream);
MR_MUSTCHECK bool mr_pg_stream_start(struct mr_pg_stream *stream, struct mr_error *err);

enum mr_pg_stream_got { MR_PG_GOT, MR_PG_DRY, MR_PG_ENDED };
/* The next message, without waiting; it borrows until the next call. */
enum mr_pg_stream_got mr_pg_stream_next(struct mr_pg_stream *stream, struct mr_pgo_envelope *out,
                                        struct mr_error *err);
/* Tells the server that everything up to lsn is done. `reply`: it is to say at once where it is. */
MR_MUSTCHECK bool mr_pg_stream_status(struct mr_pg_stream *stream, uint64_t lsn, bool reply,
                                      struct mr_error *err);
/* Waits until there is something to read here or on `other` (-1: none), at most that long. False
 * when called off. */
bool mr_pg_stream_poll(struct mr_pg_stream *stream, int other, int timeout_ms);

#endif
