/*
 * exec.c - statements and pipelines over a non-blocking libpq, each wait with a bound.
 *
 * One thread; owns nothing but what struct mr_pg owns. A wait that runs out, or is called off,
 * leaves the connection out of step: it is marked lost, and only a new one helps. Must not know
 * what the statements mean. Tests: tests/unit/test_postgres.c.
 */
#include "postgres/pg.h"
#include "base/clock.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>

enum { TICK_MS = 200 };

void mr_pg_arg_text(struct mr_pg_args *args, const char *text)
{
    mr_assert(args->n < MR_PG_PARAMS_MAX);
    args->values[args->n] = text;
    args->lengths[args->n] = 0;
    args->formats[args->n++] = 0;
}

void mr_pg_arg_int(struct mr_pg_args *args, int64_t value)
{
    mr_assert(args->n < MR_PG_PARAMS_MAX);
    snprintf(args->digits[args->n], sizeof args->digits[0], "%" PRId64, value);
    mr_pg_arg_text(args, args->digits[args->n]);
}

void mr_pg_arg_bytes(struct mr_pg_args *args, struct mr_bytes bytes)
{
    mr_assert(args->n < MR_PG_PARAMS_MAX && bytes.len <= INT32_MAX);
    args->values[args->n] = bytes.ptr;
    args->lengths[args->n] = (int)bytes.len;
    args->formats[args->n++] = 1;
}

static bool lose(struct mr_pg *pg, const char *why)
{
    pg->lost = true;
    pg->lost_why = why;
    return false;
}

/* One step of waiting. `deadline` 0: none. */
static bool wait_socket(struct mr_pg *pg, short events, int64_t deadline)
{
    if (pg->interruptible && pg->cancel && atomic_load(pg->cancel))
        return lose(pg, "it was called off");
    int timeout_ms = TICK_MS;
    if (deadline) {
        int64_t left = deadline - mr_clock_mono_ms();
        if (left <= 0)
            return lose(pg, "the server did not answer in time");
        if (left < timeout_ms)
            timeout_ms = (int)left;
    }
    struct pollfd fd = {.fd = PQsocket(pg->conn), .events = events};
    if (poll(&fd, 1, timeout_ms) < 0 && errno != EINTR)
        return lose(pg, "its socket cannot be polled");
    return true;
}

static int64_t deadline_of(int timeout_ms)
{
    return timeout_ms ? mr_clock_mono_ms() + timeout_ms : 0;
}

bool mr_pg_flush(struct mr_pg *pg)
{
    int64_t deadline = deadline_of(MR_PG_REPLY_MS);
    for (;;) {
        int left = PQflush(pg->conn);
        if (left < 0)
            return false;
        if (!left)
            return true;
        if (!wait_socket(pg, POLLIN | POLLOUT, deadline))
            return false;
        /* The server may be blocked writing to us: read, or neither side goes on. */
        if (!PQconsumeInput(pg->conn))
            return false;
    }
}

bool mr_pg_wait_readable(struct mr_pg *pg, int timeout_ms)
{
    int64_t deadline = deadline_of(timeout_ms);
    struct pollfd fd = {.fd = PQsocket(pg->conn), .events = POLLIN};
    while (poll(&fd, 1, 0) == 0)
        if (!wait_socket(pg, POLLIN, deadline))
            return false;
    return true;
}

PGresult *mr_pg_next(struct mr_pg *pg, int timeout_ms)
{
    int64_t deadline = deadline_of(timeout_ms);
    if (pg->lost || !mr_pg_flush(pg))
        return NULL;
    while (PQisBusy(pg->conn)) {
        if (!wait_socket(pg, POLLIN, deadline))
            return NULL;
        if (!PQconsumeInput(pg->conn))
            break; /* PQgetResult then says why */
    }
    return PQgetResult(pg->conn);
}

PGresult *mr_pg_query(struct mr_pg *pg, const char *sql, const struct mr_pg_args *args)
{
    if (!mr_pg_alive(pg))
        return NULL;
    int sent = args ? PQsendQueryParams(pg->conn, sql, args->n, NULL, args->values, args->lengths,
                                        args->formats, args->binary)
                    : PQsendQuery(pg->conn, sql);
    if (!sent)
        return NULL;
    PGresult *last = NULL, *res;
    while ((res = mr_pg_next(pg, MR_PG_REPLY_MS))) {
        PQclear(last);
        last = res;
        ExecStatusType status = PQresultStatus(res);
        if (status == PGRES_COPY_IN || status == PGRES_COPY_OUT || status == PGRES_COPY_BOTH)
            break;
        if (PQstatus(pg->conn) != CONNECTION_OK)
            break;
    }
    if (pg->lost) {
        PQclear(last);
        last = NULL;
    }
    return last;
}

bool mr_pg_pipe_begin(struct mr_pg *pg)
{
    return mr_pg_alive(pg) && PQenterPipelineMode(pg->conn);
}

/* What cannot be sent shows as a missing answer in mr_pg_pipe_run. */
void mr_pg_pipe_add(struct mr_pg *pg, const char *sql, const struct mr_pg_args *args)
{
    static const struct mr_pg_args none;
    if (!args)
        args = &none;
    if (!PQsendQueryParams(pg->conn, sql, args->n, NULL, args->values, args->lengths, args->formats,
                           0))
        lose(pg, "a statement could not be sent");
}

void mr_pg_pipe_prepare(struct mr_pg *pg, const char *name, const char *sql)
{
    if (!PQsendPrepare(pg->conn, name, sql, 0, NULL))
        lose(pg, "a statement could not be sent");
}

void mr_pg_pipe_describe(struct mr_pg *pg, const char *name)
{
    if (!PQsendDescribePrepared(pg->conn, name))
        lose(pg, "a statement could not be sent");
}

void mr_pg_pipe_call(struct mr_pg *pg, const char *name, const struct mr_pg_args *args)
{
    if (!PQsendQueryPrepared(pg->conn, name, args->n, args->values, args->lengths, args->formats,
                             0))
        lose(pg, "a statement could not be sent");
}

bool mr_pg_pipe_run(struct mr_pg *pg, PGresult **results, size_t n)
{
    for (size_t i = 0; i < n; i++)
        results[i] = NULL;
    if (pg->lost || !PQpipelineSync(pg->conn))
        return false;
    for (size_t i = 0; i < n; i++) {
        results[i] = mr_pg_next(pg, MR_PG_REPLY_MS);
        if (!results[i] || PQstatus(pg->conn) != CONNECTION_OK)
            return false;
        PQclear(mr_pg_next(pg, MR_PG_REPLY_MS)); /* the NULL between two statements */
    }
    PGresult *sync = mr_pg_next(pg, MR_PG_REPLY_MS);
    bool ok = PQresultStatus(sync) == PGRES_PIPELINE_SYNC && PQexitPipelineMode(pg->conn);
    PQclear(sync);
    return ok || lose(pg, "its answers are out of step");
}

void mr_pg_clear(PGresult **results, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        PQclear(results[i]);
        results[i] = NULL;
    }
}
