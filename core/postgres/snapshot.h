/*
 * snapshot.h - private to core/postgres: what shape.c and snapshot.c share.
 */
#ifndef MR_POSTGRES_SNAPSHOT_H
#define MR_POSTGRES_SNAPSHOT_H

#include "postgres/feed.h"

/* Describes what the lookup reads, in the transaction that reads it; its SELECT goes to `select`.
 * `seen` is left NULL. */
MR_MUSTCHECK bool mr_pg_shape_describe(struct mr_pg *pg,
                                       const struct mr_pg_snapshot_options *options,
                                       struct mr_buf *select, struct mr_pg_shape **out,
                                       struct mr_error *err);

#endif
