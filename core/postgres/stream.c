/*
 * stream.c - the replication connection: a temporary slot, its snapshot, and what comes after.
 *
 * One thread; owns the connection, and with it the slot. Only simple queries go over it. Must not
 * know what the messages mean. Tests: tests/unit/test_postgres_logical.c.
 */
#include "postgres/stream.h"
#include "base/clock.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

enum { TICK_MS = 200, EPOCH_2000_S = 946684800 };

struct mr_pg_stream {
    const struct mr_postgres_feed_options *options;
    struct mr_pg pg;
    bool waits;
    char slot[40], snapshot[64];
    uint64_t start;
    char *message; /* libpq's, the last one given out */
};

static const char making[] = "making a replication slot for the lookup";
static const char following[] = "following the changes of the lookup";

struct mr_pg_stream *mr_pg_stream_new(const struct mr_postgres_feed_options *options)
{
    struct mr_pg_stream *s = mr_calloc(1, sizeof *s);
    struct mr_buf name = {0};
    s->options = options;
    mr_buf_printf(&name, "millrace/lookup/%s", options->lookup.name);
    mr_pg_init(&s->pg, options->lookup.dsn, mr_buf_cstr(&name), false);
    s->pg.replication = true;
    s->pg.cancel = options->lookup.cancel;
    s->pg.interruptible = true;
    mr_buf_fini(&name);
    return s;
}

void mr_pg_stream_free(struct mr_pg_stream *stream)
{
    if (!stream)
        return;
    PQfreemem(stream->message);
    mr_pg_fini(&stream->pg);
    free(stream);
}

bool mr_pg_stream_waits(const struct mr_pg_stream *stream)
{
    return stream->waits;
}

const char *mr_pg_stream_snapshot(const struct mr_pg_stream *stream)
{
    return stream->snapshot;
}

int mr_pg_stream_pid(const struct mr_pg_stream *stream)
{
    return stream->pg.last_pid;
}

static bool lost(struct mr_pg_stream *s, const char *doing, struct mr_error *err)
{
    return mr_pg_expect(&s->pg, NULL, PGRES_COMMAND_OK, MR_PG_READ, doing, err);
}

/* --- the slot --- */

bool mr_pg_stream_open(struct mr_pg_stream *s, const struct mr_pg *beside, struct mr_error *err)
{
    char sql[160];
    s->pg.beside = beside;
    bool ok = mr_pg_connect(&s->pg, err);
    s->pg.beside = NULL; /* it may be connected elsewhere later */
    if (!ok)
        return false;
    snprintf(s->slot, sizeof s->slot, "millrace_%llx", (unsigned long long)mr_clock_random63());
    snprintf(sql, sizeof sql, "CREATE_REPLICATION_SLOT \"%s\" TEMPORARY LOGICAL pgoutput %s",
             s->slot,
             PQserverVersion(s->pg.conn) >= 150000 ? "(SNAPSHOT 'export')" : "EXPORT_SNAPSHOT");
    s->waits = PQsendQuery(s->pg.conn, sql) && mr_pg_flush(&s->pg);
    return s->waits || lost(s, making, err);
}

static bool slot_made(struct mr_pg_stream *s, struct mr_error *err)
{
    PGresult *res = mr_pg_next(&s->pg, MR_PG_REPLY_MS), *rest;
    while (res && (rest = mr_pg_next(&s->pg, MR_PG_REPLY_MS)))
        PQclear(rest);
    bool ok = mr_pg_expect(&s->pg, res, PGRES_TUPLES_OK, MR_PG_READ, making, err);
    if (ok && (PQntuples(res) != 1 || PQnfields(res) < 3 ||
               !mr_pgo_lsn_parse(PQgetvalue(res, 0, 1), &s->start)))
        ok = mr_error_set(err, MR_RETRY, MR_EXIT_UNREACHABLE, "%s: the answer is not understood",
                          making);
    if (ok)
        snprintf(s->snapshot, sizeof s->snapshot, "%s", PQgetvalue(res, 0, 2));
    PQclear(res);
    s->waits = false;
    return ok;
}

bool mr_pg_stream_wait(struct mr_pg_stream *s, int timeout_ms, struct mr_error *err)
{
    int64_t deadline = mr_clock_mono_ms() + timeout_ms;
    while (s->waits) {
        if (!PQconsumeInput(s->pg.conn) || !PQisBusy(s->pg.conn))
            return slot_made(s, err);
        int64_t left = deadline - mr_clock_mono_ms();
        if (left <= 0)
            break;
        if (!mr_pg_stream_poll(s, -1, left < TICK_MS ? (int)left : TICK_MS))
            return mr_error_set(err, MR_RETRY, MR_EXIT_TRY_AGAIN, "%s was called off", making);
    }
    return true;
}

/* A literal of the replication grammar, which knows no backslashes, around a list of identifiers.
 */
static void put_publication(struct mr_buf *sql, const char *name)
{
    struct mr_buf ident = {0};
    mr_pg_put_ident(&ident, name);
    mr_buf_put_char(sql, '\'');
    for (const char *at = mr_buf_cstr(&ident); *at; at++) {
        if (*at == '\'')
            mr_buf_put_char(sql, '\'');
        mr_buf_put_char(sql, *at);
    }
    mr_buf_put_char(sql, '\'');
    mr_buf_fini(&ident);
}

bool mr_pg_stream_start(struct mr_pg_stream *s, struct mr_error *err)
{
    struct mr_buf sql = {0};
    mr_buf_printf(&sql,
                  "START_REPLICATION SLOT \"%s\" LOGICAL %X/%X (proto_version '1', "
                  "publication_names ",
                  s->slot, (unsigned)(s->start >> 32), (unsigned)s->start);
    put_publication(&sql, s->options->publication);
    mr_buf_put_text(&sql, ", binary 'true')");
    PGresult *res = mr_pg_query(&s->pg, mr_buf_cstr(&sql), NULL);
    bool ok = mr_pg_expect(&s->pg, res, PGRES_COPY_BOTH, MR_PG_READ, following, err);
    PQclear(res);
    mr_buf_fini(&sql);
    return ok;
}

/* --- what comes --- */

/* The server has ended the stream, or the connection is lost: its words, if there are any. */
static enum mr_pg_stream_got ended(struct mr_pg_stream *s, struct mr_error *err)
{
    PGresult *res = mr_pg_next(&s->pg, MR_PG_REPLY_MS);
    ExecStatusType status = PQresultStatus(res);
    if (status == PGRES_COPY_BOTH || status == PGRES_COPY_IN || status == PGRES_COMMAND_OK) {
        PQclear(res);
        res = NULL;
        s->pg.lost = true;
        s->pg.lost_why = "the server has ended the stream";
    }
    (void)!mr_pg_expect(&s->pg, res, PGRES_COPY_BOTH, MR_PG_READ, following, err);
    PQclear(res);
    return MR_PG_ENDED;
}

enum mr_pg_stream_got mr_pg_stream_next(struct mr_pg_stream *s, struct mr_pgo_envelope *out,
                                        struct mr_error *err)
{
    PQfreemem(s->message);
    s->message = NULL;
    int len = PQgetCopyData(s->pg.conn, &s->message, 1);
    if (len == 0) {
        if (!PQconsumeInput(s->pg.conn))
            return ended(s, err);
        len = PQgetCopyData(s->pg.conn, &s->message, 1);
    }
    if (len == 0)
        return MR_PG_DRY;
    if (len < 0)
        return ended(s, err);
    return mr_pgo_open((const uint8_t *)s->message, (size_t)len, out, err) ? MR_PG_GOT
                                                                           : MR_PG_ENDED;
}

bool mr_pg_stream_status(struct mr_pg_stream *s, uint64_t lsn, bool reply, struct mr_error *err)
{
    uint8_t bytes[MR_PGO_STATUS_LEN];
    mr_pgo_status(bytes, lsn, (mr_clock_wall_ms() - (int64_t)EPOCH_2000_S * 1000) * 1000, reply);
    bool ok =
        PQputCopyData(s->pg.conn, (const char *)bytes, sizeof bytes) == 1 && mr_pg_flush(&s->pg);
    return ok || lost(s, following, err);
}

bool mr_pg_stream_poll(struct mr_pg_stream *s, int other, int timeout_ms)
{
    int64_t deadline = mr_clock_mono_ms() + timeout_ms;
    struct pollfd fds[2] = {{.fd = PQsocket(s->pg.conn), .events = POLLIN},
                            {.fd = other, .events = POLLIN}};
    for (;;) {
        if (s->pg.cancel && atomic_load(s->pg.cancel))
            return false;
        int64_t left = deadline - mr_clock_mono_ms();
        if (left < 0)
            left = 0;
        int n = poll(fds, 2, left < TICK_MS ? (int)left : TICK_MS);
        if (n > 0 || left <= TICK_MS || (n < 0 && errno != EINTR))
            return true;
    }
}
