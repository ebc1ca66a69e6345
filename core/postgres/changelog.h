/*
 * changelog.h - private to core/postgres: the log that triggers write, over one connection.
 *
 * changelog.c decides when to look; what a look is, is log.c's; what is deleted when, trim.c's. One
 * thread.
 */
#ifndef MR_POSTGRES_CHANGELOG_H
#define MR_POSTGRES_CHANGELOG_H

#include "postgres/feed.h"

enum {
    /* Rows stay in the log for this long at least. Whoever has not looked for half of that must
     * read the table again; a load may take up nearly all of it. */
    MR_PG_LOG_KEEP_MS = 30 * 60000,
    MR_PG_LOG_GAP_MS = MR_PG_LOG_KEEP_MS / 2,
    MR_PG_LOG_LOAD_MS = MR_PG_LOG_KEEP_MS - 60000,
    MR_PG_LOG_MARKS = 8,
    MR_PG_LOG_FACTS = 4
};

/* --- trim.c --- */
struct mr_pg_trim {
    struct { /* what was settled when; a ring */
        int64_t at_ms;
        uint64_t xmin;
    } marks[MR_PG_LOG_MARKS];
    unsigned n_marks;
    bool trimming, may_not;
    int64_t next_ms; /* of mr_pg_trim_unused */
};
/* Now and then deletes some of what everybody has seen. `log` as SQL; `seen`: a snapshot of just
 * now; `lookup`: its name, for the log line. */
void mr_pg_trim_step(struct mr_pg_trim *trim, struct mr_pg *pg, const char *log, const char *lookup,
                     const char *seen);
/* The same for a log that is written while another kind of feed is in use, over a connection that
 * is made when it is time, and closed. */
void mr_pg_trim_unused(struct mr_pg_trim *trim, struct mr_pg *pg,
                       const struct mr_postgres_feed_options *options);

/* --- log.c --- */
struct mr_pg_log {
    const struct mr_postgres_feed_options *options;
    struct mr_buf name;           /* as SQL */
    struct mr_buf columns;        /* of the shape, as SQL */
    char *facts[MR_PG_LOG_FACTS]; /* of server and catalog, when the load began */
    int64_t looked_us;            /* the server's clock at the last look, or before the load */
    bool looked;                  /* there was a look since the load */
    const uint32_t *oids;         /* the shape's */
    size_t n;
    struct mr_value *values;
    struct mr_buf *scratch; /* one a column */
};

/* Listens, and notes what the catalog says. */
MR_MUSTCHECK bool mr_pg_log_open(struct mr_pg_log *log, struct mr_pg *pg,
                                 const struct mr_postgres_feed_options *options,
                                 struct mr_error *err);
/* Are the log's columns those that were read? Borrows the shape. */
MR_MUSTCHECK bool mr_pg_log_columns(struct mr_pg_log *log, struct mr_pg *pg,
                                    const struct mr_pg_shape *shape, struct mr_error *err);
void mr_pg_log_fini(struct mr_pg_log *log);

struct mr_pg_look {
    const char *differs; /* not NULL: why the table must be read again; nothing was collected */
    char *snapshot;
    int64_t now_us, last_us; /* the server's clock; when the newest row was written */
    uint64_t rows;           /* put and taken */
};
/* Collects in the lookup what is seen now and was not seen by the snapshot `seen`. */
MR_MUSTCHECK bool mr_pg_log_look(struct mr_pg_log *log, struct mr_pg *pg, const char *seen,
                                 struct mr_lookup *lookup, struct mr_pg_look *look,
                                 struct mr_error *err);
void mr_pg_look_fini(struct mr_pg_look *look);

#endif
