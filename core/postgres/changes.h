/*
 * changes.h - private to core/postgres: the changes of one table, applied to a lookup.
 *
 * What logical.c receives goes in message by message; what comes out is a changed lookup. One
 * thread, no I/O.
 */
#ifndef MR_POSTGRES_CHANGES_H
#define MR_POSTGRES_CHANGES_H

#include "postgres/feed.h"

struct mr_pg_changes_options {
    const struct mr_postgres_lookup_options *lookup;
    const struct mr_pg_shape *shape; /* of the load */
    const uint32_t *declared;        /* types of its columns and ids, domains not resolved */
    uint32_t oid;                    /* of the table */
    const char *schema, *name;
};

/* Borrows what the options name, for its life. Without ids in the shape rows are told by all their
 * columns. */
struct mr_pg_changes *mr_pg_changes_new(const struct mr_pg_changes_options *options);
void mr_pg_changes_free(struct mr_pg_changes *changes);

/* One message of pgoutput. Changes are collected in the lookup when their transaction is whole, and
 * shown by publish. Anything but MR_FEED_FOLLOWS: what was not shown is forgotten, and there is
 * nothing left but to close. */
enum mr_feed_event mr_pg_changes_apply(struct mr_pg_changes *changes, struct mr_lookup *lookup,
                                       const uint8_t *bytes, size_t len, struct mr_error *err);
/* Shows the whole transactions that have been collected. */
enum mr_feed_event mr_pg_changes_publish(struct mr_pg_changes *changes, struct mr_lookup *lookup,
                                         struct mr_error *err);

struct mr_pg_changes_state {
    bool in_transaction;
    bool unshown;      /* a whole transaction is collected and not shown */
    uint64_t lsn;      /* everything that was committed up to here is shown */
    int64_t shown_us;  /* when the last change that is shown was committed, by the server */
    int64_t changes;   /* rows put and taken */
    int64_t truncates; /* of the table, shown */
};
struct mr_pg_changes_state mr_pg_changes_state(const struct mr_pg_changes *changes);

#endif
