/*
 * feed.h - private to core/postgres: the kinds of feed behind mr_postgres_feed_open, and what they
 * share.
 *
 * feed.c chooses a kind with every load, by a survey of the server (survey.c), and hands the calls
 * on to it. A kind (logical.c, changelog.c, reload in feed.c) is made for one load and what follows
 * it, and closed before the next. One thread.
 */
#ifndef MR_POSTGRES_FEED_H
#define MR_POSTGRES_FEED_H

#include "postgres/pg.h"
#include "postgres/postgres.h"

/* --- survey.c: what the server allows for a lookup --- */
struct mr_pg_survey {
    /* Empty: it can be had. Otherwise all that is missing, and who gets it how. */
    char no_logical[1024], no_changelog[1024];
    /* Of the logical feed: how rows that are deleted are told. */
    bool whole;       /* the replica identity covers key and columns of the lookup: no identities */
    const char **ids; /* else its columns, n_ids of them */
    size_t n_ids;
    char *text; /* owns the names */
    /* For init: a plain or partitioned table; it has a replica identity; there is a publication of
     * that name, a table of the change-log's name, and the right to delete from that. */
    bool is_table, identified, published, logged, may_trim;
};
/* Over a connection of its own kind (reader); NULL where nothing is to be asked: a query, or
 * `reload`. False: the server cannot be asked, or there is no such table, or no right to read it
 * (MR_STOP). */
MR_MUSTCHECK bool mr_pg_survey_make(struct mr_pg *pg,
                                    const struct mr_postgres_feed_options *options,
                                    struct mr_pg_survey *out, struct mr_error *err);
void mr_pg_survey_free(struct mr_pg_survey *survey);
/* The best kind that options and server allow, and why not a better one. False: none that the
 * options accept (MR_STOP). */
MR_MUSTCHECK bool mr_pg_survey_choose(const struct mr_pg_survey *survey,
                                      const struct mr_postgres_feed_options *options,
                                      enum mr_feed_kind *kind, struct mr_buf *why,
                                      struct mr_error *err);

/* An array as Postgres reads it, of both lists: '{"a","b"}'. */
void mr_pg_put_array(struct mr_buf *out, const char *const *first, size_t n_first,
                     const char *const *second, size_t n_second);
/* SQL: the type under a domain, domains of domains included. */
#define MR_PG_BASE_TYPE(type)                                                                      \
    "(WITH RECURSIVE d (oid, base) AS (SELECT e.oid, e.typbasetype "                               \
    "FROM pg_catalog.pg_type e WHERE e.oid = " type                                                \
    " UNION ALL SELECT e.oid, e.typbasetype FROM d "                                               \
    "JOIN pg_catalog.pg_type e ON e.oid = d.base WHERE d.base <> 0) "                              \
    "SELECT d.oid FROM d WHERE d.base = 0)"

/* --- the change-log's names: names.c --- */
/* The name of the log without its schema, from which those of its function (<log>_write), triggers
 * (millrace_<log>_insert, ...) and channel (millrace_<log>) are made. */
enum { MR_PG_LOG_NAME_MAX = 40 };
MR_MUSTCHECK bool mr_pg_log_name(const char *changelog, char name[MR_PG_LOG_NAME_MAX + 1],
                                 struct mr_error *err);

/* The schema that is written in front of it; false: none. */
enum { MR_PG_IDENT_SIZE = 64 };
bool mr_pg_schema_name(const char *table, char name[MR_PG_IDENT_SIZE]);

/* --- snapshot.c: a table read whole --- */
struct mr_pg_snapshot_options {
    const struct mr_postgres_lookup_options *lookup;
    const char *snapshot;       /* to read as of, exported by another session; NULL: as of now */
    const struct mr_pg *beside; /* that session: the same server is read; NULL: any of the DSN's */
    const char *const *ids;     /* columns by which rows will be told besides, see lookup.h */
    size_t n_ids;
};
/* What was read: for the changes that come later. */
struct mr_pg_shape {
    struct mr_lookup_schema *schema; /* keys and columns */
    const char **names;              /* keys, columns, ids: n_columns + n_ids of them */
    uint32_t *oids;                  /* their base types */
    size_t n_columns, n_ids;
    char *seen; /* pg_current_snapshot() of the read; NULL from a standby */
};
/* `shape` may be NULL. */
MR_MUSTCHECK bool mr_pg_snapshot_read(const struct mr_pg_snapshot_options *options,
                                      struct mr_table **table, struct mr_pg_shape **shape,
                                      struct mr_error *err);
void mr_pg_shape_free(struct mr_pg_shape *shape);

/* --- the kinds: logical.c, changelog.c --- */
/* No I/O. Borrow options and survey for their life. `load` of theirs does not choose. */
struct mr_feed *mr_pg_logical_new(const struct mr_postgres_feed_options *options,
                                  const struct mr_pg_survey *survey);
/*
 * Is this logical feed waiting for its slot, or has it one whose snapshot nobody has read? Then the
 * next load is to be its own, without a new survey: closing it would give the slot up. (A slot
 * waits for every write transaction that is open; meanwhile load reads plainly, and state.why says
 * so.)
 */
bool mr_pg_logical_pending(const struct mr_feed *feed);
struct mr_feed *mr_pg_changelog_new(const struct mr_postgres_feed_options *options);

#endif
