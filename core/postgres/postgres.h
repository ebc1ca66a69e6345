/*
 * postgres.h - the room's front: the store of a unit, the read of a lookup, init and check.
 *
 * All strings of the options are copied. A DSN is a libpq connection string or URI; what it does
 * not say comes from libpq's environment, ~/.pgpass and service files. For a host that is not this
 * machine sslmode=verify-full is asked for unless DSN or environment say otherwise. Tables are
 * written `table` or `schema.table`, exactly as they are stored (nothing is folded to lower case);
 * a part with a dot in it stands in double quotes. No error message ever contains a password.
 */
#ifndef MR_POSTGRES_POSTGRES_H
#define MR_POSTGRES_POSTGRES_H

#include "millrace/feed.h"
#include "millrace/row.h"
#include "millrace/store.h"

#include <stdatomic.h>

/* --- the store of one worker: store.h's contract --- */
struct mr_postgres_store_options {
    const char *dsn;
    const char *table;          /* NULL: no feedback rows */
    const char *const *columns; /* those that may be written; n_columns 0: all */
    size_t n_columns;
    const char *dead_table; /* NULL: dead letters go elsewhere */
    const char *group;      /* consumer group: grp of the ledger */
    const char *owner; /* <app>.<pipeline>.<group>.<instance>.<worker>; unique, locked for life */
    const char *instance;         /* for sentences; NULL: owner is named instead */
    const char *application_name; /* millrace/<group>/<instance>/<worker> */
    const char *mode;             /* "at_least_once" or "exactly_once" */
    const atomic_bool *cancel;    /* ends waits of connect and claim early; may be NULL */
};
/* No I/O: `connect` does it. */
MR_MUSTCHECK bool mr_postgres_store_open(const struct mr_postgres_store_options *options,
                                         struct mr_store **out, struct mr_error *err);

/* --- a lookup: one binary COPY into a table builder --- */
struct mr_postgres_lookup_options {
    const char *name; /* of the lookup */
    const char *dsn;
    const char *table; /* this, or */
    const char *query; /* a SELECT */
    const char *const *keys;
    size_t n_keys;
    const char *const *columns; /* n_columns 0: all that are not keys */
    size_t n_columns;
    bool distinct;
    size_t max_bytes; /* 0: no bound */
    /* From the calling thread, about ten times a second and once at the end; estimated 0: unknown.
     */
    void (*progress)(void *arg, uint64_t rows, uint64_t estimated_rows, uint64_t bytes);
    void *progress_arg;
    const atomic_bool *cancel; /* ends the load with MR_RETRY; may be NULL */
};
MR_MUSTCHECK bool mr_postgres_lookup_load(const struct mr_postgres_lookup_options *options,
                                          struct mr_table **out, struct mr_error *err);
/* Describes only. Give it back with mr_postgres_lookup_schema_free. */
MR_MUSTCHECK bool mr_postgres_lookup_schema(const struct mr_postgres_lookup_options *options,
                                            struct mr_lookup_schema **out, struct mr_error *err);
void mr_postgres_lookup_schema_free(struct mr_lookup_schema *schema);

/* --- a lookup's feed: feed.h's contract --- */
enum mr_postgres_refresh {
    MR_POSTGRES_REFRESH_AUTO, /* logical, else changelog, else reload; looked at with every load */
    MR_POSTGRES_REFRESH_LOGICAL,
    MR_POSTGRES_REFRESH_CHANGELOG,
    MR_POSTGRES_REFRESH_RELOAD
};
/* Borrowed for the feed's life. */
struct mr_postgres_feed_options {
    struct mr_postgres_lookup_options lookup;
    enum mr_postgres_refresh refresh;
    int64_t interval_ms;     /* of reload, also when auto has come down to it */
    const char *publication; /* of the logical feed */
    const char *changelog;   /* the table that the triggers write; NULL: there is none */
    int64_t look_ms;         /* how often auto looks for a better kind; 0: once a minute */
};
/* No I/O: `load` does it. */
MR_MUSTCHECK bool mr_postgres_feed_open(const struct mr_postgres_feed_options *options,
                                        struct mr_feed **out, struct mr_error *err);

/*
 * For `millrace init`: makes what the best feed that the options name needs: the publication, and,
 * if `changelog` is named, its table, function and triggers. Idempotent. `sql_out` and print_only
 * as in mr_postgres_init (with comments that explain the traps); `report`: one sentence a line,
 * what was made, what was there, and what somebody else must do (wal_level, a replica identity, a
 * role's REPLICATION), which is no error as long as there is a feed that works.
 */
MR_MUSTCHECK bool mr_postgres_feed_init(const struct mr_postgres_feed_options *options,
                                        bool print_only, struct mr_buf *sql_out,
                                        struct mr_buf *report, struct mr_error *err);
/* For `millrace check --connect`: which feed the server allows today, and for each better one what
 * is missing; one sentence a line. False: none that the options accept. */
MR_MUSTCHECK bool mr_postgres_feed_check(const struct mr_postgres_feed_options *options,
                                         struct mr_buf *report, struct mr_error *err);

/* --- commands --- */
/* Is it a connection string? No I/O. */
MR_MUSTCHECK bool mr_postgres_dsn_check(const char *dsn, struct mr_error *err);
/* Is it `table` or `schema.table`? No I/O. */
MR_MUSTCHECK bool mr_postgres_table_check(const char *table, struct mr_error *err);

/*
 * Creates what Millrace needs in the first schema of the search path: millrace_meta,
 * millrace_ledger, millrace_redo and, unless NULL, `dead_table`; brings those of an earlier version
 * up to this one. Idempotent, also when several do it at once; never touches another table.
 * `sql_out` (may be NULL) receives the SQL; with print_only that is all, and nothing is connected
 * to.
 */
MR_MUSTCHECK bool mr_postgres_init(const char *dsn, const char *dead_table, bool print_only,
                                   struct mr_buf *sql_out, struct mr_error *err);

/*
 * For check --connect: server reached, Millrace's tables there, the feedback table can be written,
 * rights held. One sentence a line in `report` for what is well; the error names everything that is
 * not. With `schema` (may be NULL) the feedback table's description is given:
 * mr_postgres_row_schema_free.
 */
MR_MUSTCHECK bool mr_postgres_check(const struct mr_postgres_store_options *options,
                                    struct mr_buf *report, const struct mr_row_schema **schema,
                                    struct mr_error *err);
void mr_postgres_row_schema_free(const struct mr_row_schema *schema);

/* --- both sinks compared, for `millrace audit` (audit.c) --- */

/* How one part of a message and a column belong together. */
struct mr_postgres_audit_field {
    const char *name; /* of the field, for sentences */
    const char *column;
    bool is_key; /* of what tells one output from another; the others must be equal */
};

struct mr_postgres_audit_options {
    const char *dsn, *table;
    const struct mr_postgres_audit_field *fields;
    size_t n_fields;
    const char *time_column;   /* NULL: none, everything is compared */
    int time_field;            /* its index in fields; -1: the message's Kafka timestamp */
    int time_per_s;            /* of a column of numbers: 1, 1000 or 1000000 */
    const char *since, *until; /* as Postgres reads times, or "90m" before now; NULL: none, and a
                                  few seconds before now */
};

struct mr_postgres_audit;

/* Connects, looks at the columns, makes temporary tables. A time that cannot be read is
 * MR_EXIT_USAGE. */
MR_MUSTCHECK bool mr_postgres_audit_open(const struct mr_postgres_audit_options *options,
                                         struct mr_postgres_audit **out, struct mr_error *err);
/* Unix milliseconds by the database's clock; -1: none. */
void mr_postgres_audit_range(const struct mr_postgres_audit *audit, int64_t *since_ms,
                             int64_t *until_ms);
/* Adds a message. values: one a field, ptr NULL for null; why: NULL, or why they could not be read.
 */
MR_MUSTCHECK bool mr_postgres_audit_put(struct mr_postgres_audit *audit,
                                        const struct mr_record *rec, const struct mr_bytes *values,
                                        const char *why, struct mr_error *err);

struct mr_postgres_audit_result {
    int64_t messages, rows; /* within the range */
    int64_t missing;        /* rows without a message */
    int64_t extra;          /* messages without a row */
    int64_t differing;      /* pairs that are not equal */
    int64_t doubled;        /* copies that one sink has more of than the other */
    int64_t unreadable;     /* messages; they are compared with nothing */
    int64_t repeated;       /* outputs that stand in both sinks more than once, equally often */
};
/* After the last put, once. */
MR_MUSTCHECK bool mr_postgres_audit_compare(struct mr_postgres_audit *audit,
                                            struct mr_postgres_audit_result *out,
                                            struct mr_error *err);

struct mr_postgres_audit_example {
    const char *kind; /* "missing" "extra" "differing" "doubled" "unreadable" */
    int64_t messages, rows;
    int64_t partition, offset; /* of the first such message; -1: none */
    const char *why;           /* unreadable */
    /* One a field, NULL for null; of fields that are no key only where message and row differ. */
    const char *const *of_message, *const *of_row;
    bool *differs; /* one a field */
};
/* At most `limit` of each kind. */
MR_MUSTCHECK bool
mr_postgres_audit_examples(struct mr_postgres_audit *audit, int limit,
                           void (*each)(void *arg, const struct mr_postgres_audit_example *example),
                           void *arg, struct mr_error *err);
void mr_postgres_audit_close(struct mr_postgres_audit *audit);

/*
 * For `millrace repair`: one transaction that holds a partition's ledger row, so that no daemon can
 * claim it, while the caller looks at Kafka and changes the group's offset: open, set, commit,
 * close. Not committed is not changed; after ten minutes without a call Postgres gives the row up.
 */
struct mr_postgres_repair;
struct mr_postgres_repair_state {
    bool present; /* false: the ledger has no such row; `set` makes it */
    int64_t unit, next_offset;
    char mode[24], owner[256]; /* as in struct mr_claim */
    bool owner_connected;      /* the process of that name is running */
    bool has_job;              /* a fan-out stands between two chunks */
    bool has_redo;             /* the final bytes of `unit` are kept */
    char ledger_id[9];         /* as in mr_store_ops.ledger_id */
};
/* A row that is in use is refused with MR_RETRY. */
MR_MUSTCHECK bool mr_postgres_repair_open(const char *dsn, const char *group,
                                          const struct mr_partition *at,
                                          struct mr_postgres_repair **out,
                                          struct mr_postgres_repair_state *state,
                                          struct mr_error *err);
/* Fences too, forgets the redo. `job`: the fan-out in progress at the new position; NULL: the one
 * that is there goes on if the position stays, and ends if it moves. */
MR_MUSTCHECK bool mr_postgres_repair_set(struct mr_postgres_repair *repair, int64_t unit,
                                         int64_t next_offset, const struct mr_job_state *job,
                                         struct mr_error *err);
MR_MUSTCHECK bool mr_postgres_repair_commit(struct mr_postgres_repair *repair,
                                            struct mr_error *err);
/* Rolls back what was not committed. NULL is allowed. */
void mr_postgres_repair_close(struct mr_postgres_repair *repair);

/*
 * mr_row_schema.encode, for schemas that are made without a database (`millrace try`, tests): the
 * column's oid, typmod, not_null, is_text and generated decide.
 */
MR_MUSTCHECK bool mr_postgres_encode(const struct mr_row_column *column,
                                     const struct mr_value *value, struct mr_buf *out,
                                     struct mr_error *err);
/* mr_row_schema.show: what encode made, as JSON. */
bool mr_postgres_show(const struct mr_row_column *column, struct mr_bytes field,
                      struct mr_buf *out);

#endif
