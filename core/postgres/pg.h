/*
 * pg.h - private to core/postgres: one connection, bounded waits, results turned into errors,
 * names.
 *
 * A struct mr_pg belongs to one thread. Nothing here waits without a bound: a server that has gone
 * silent counts as lost. libpq is used non-blocking; pipelines are one round trip.
 */
#ifndef MR_POSTGRES_PG_H
#define MR_POSTGRES_PG_H

#include "base/buf.h"
#include "base/error.h"

#include <libpq-fe.h>
#include <stdatomic.h>

enum {
    MR_PG_REPLY_MS = 60000, /* longer than any server-side time-out: then the connection is lost */
    MR_PG_CONNECT_MS = 10000, /* for each host of the DSN */
    MR_PG_FOREVER_MS = 0,     /* as a time-out: only TCP's keepalives and `cancel` bound the wait */
    MR_PG_PARAMS_MAX = 16
};

struct mr_pg {
    PGconn *conn; /* NULL: not connected */
    char *dsn, *application_name;
    bool reader;      /* a lookup: may be a standby, sessions are read-only */
    bool replication; /* speaks the replication protocol: simple queries only, no parameters */
    const struct mr_pg *beside; /* connect to the server that this one is connected to; or NULL */
    bool connected_once;        /* an authentication error is now something that may pass */
    bool warned;                /* a WARNING came since this was cleared */
    const atomic_bool *cancel;  /* may be NULL */
    bool interruptible;         /* `cancel` counts now */
    bool lost;                  /* time-out or cancel: the connection is no longer in step */
    const char *lost_why;
    int last_pid; /* server process of the last connection */
};

void mr_pg_init(struct mr_pg *pg, const char *dsn, const char *application_name, bool reader);
void mr_pg_fini(struct mr_pg *pg);

/* --- dsn.c --- */
/* Key words and values for PQconnectStartParams, NULL-terminated; free with mr_pg_params_free. */
struct mr_pg_params {
    const char *keywords[24];
    char *values[24];
    size_t n;
    int hosts;         /* how many the DSN names, at least 1 */
    int timeout_ms;    /* for each */
    bool verify_added; /* sslmode=verify-full is ours */
};
MR_MUSTCHECK bool mr_pg_params_make(const struct mr_pg *pg, struct mr_pg_params *params,
                                    struct mr_error *err);
void mr_pg_params_free(struct mr_pg_params *params);

/* --- conn.c --- */
/* Connects and sets the session up; whoever was connected before is disconnected. */
MR_MUSTCHECK bool mr_pg_connect(struct mr_pg *pg, struct mr_error *err);
void mr_pg_disconnect(struct mr_pg *pg);
bool mr_pg_alive(const struct mr_pg *pg);

/* --- exec.c --- */
struct mr_pg_args {
    int n;
    const char *values[MR_PG_PARAMS_MAX];
    int lengths[MR_PG_PARAMS_MAX], formats[MR_PG_PARAMS_MAX];
    char digits[MR_PG_PARAMS_MAX][24];
    bool binary; /* the answer, in mr_pg_query */
};
void mr_pg_arg_text(struct mr_pg_args *args, const char *text); /* borrows; NULL is null */
void mr_pg_arg_int(struct mr_pg_args *args, int64_t value);
void mr_pg_arg_bytes(struct mr_pg_args *args, struct mr_bytes bytes); /* borrows, binary */

/* One statement, its (last) result; NULL when the connection is lost. args may be NULL. */
PGresult *mr_pg_query(struct mr_pg *pg, const char *sql, const struct mr_pg_args *args);
/* A pipeline: begin, add statements (by text or by prepared name), run. `results`: one for each,
 * all to be cleared by the caller, NULL where the connection was lost. A failure is in the first
 * that failed. */
MR_MUSTCHECK bool mr_pg_pipe_begin(struct mr_pg *pg);
void mr_pg_pipe_add(struct mr_pg *pg, const char *sql, const struct mr_pg_args *args);
void mr_pg_pipe_prepare(struct mr_pg *pg, const char *name, const char *sql);
void mr_pg_pipe_describe(struct mr_pg *pg, const char *name);
void mr_pg_pipe_call(struct mr_pg *pg, const char *name, const struct mr_pg_args *args);
/* True when everything was answered (well or not). */
bool mr_pg_pipe_run(struct mr_pg *pg, PGresult **results, size_t n);
void mr_pg_clear(PGresult **results, size_t n);

/* PQgetResult with a bound. NULL: no more, or lost (pg->lost). */
PGresult *mr_pg_next(struct mr_pg *pg, int timeout_ms);
/* Sends everything that is queued, reading what comes meanwhile. */
MR_MUSTCHECK bool mr_pg_flush(struct mr_pg *pg);
/* Waits until the socket can be read. */
MR_MUSTCHECK bool mr_pg_wait_readable(struct mr_pg *pg, int timeout_ms);

/* --- sqlstate.c --- */
enum mr_pg_what {
    MR_PG_OURS, /* Millrace's own tables and sessions: no message is ever at fault */
    MR_PG_DATA, /* the user's rows: data errors are the message's fault */
    MR_PG_READ  /* a lookup */
};
/* Is it `expected`? Otherwise *err says why, `doing` first ("writing to \"t\""). */
MR_MUSTCHECK bool mr_pg_expect(struct mr_pg *pg, const PGresult *res, ExecStatusType expected,
                               enum mr_pg_what what, const char *doing, struct mr_error *err);
/* SQLSTATE of a result, "" if it has none. */
const char *mr_pg_sqlstate(const PGresult *res);
bool mr_pg_is(const PGresult *res, const char *sqlstate);
/* An error of a connection that did not come up. `verify_added`: see mr_pg_params. */
bool mr_pg_connect_error(struct mr_pg *pg, bool verify_added, struct mr_error *err);
/* Copies text with control characters and line ends made spaces, trimmed. */
void mr_pg_one_line(char *out, size_t size, const char *text);

/* --- names.c --- */
void mr_pg_put_ident(struct mr_buf *sql, const char *name);
void mr_pg_put_literal(struct mr_buf *sql, const char *text);
/* `table` or `schema.table` as quoted SQL. */
MR_MUSTCHECK bool mr_pg_put_table(struct mr_buf *sql, const char *table, struct mr_error *err);

#endif
