/*
 * conn.c - connecting, and what every session of Millrace is like.
 *
 * One struct mr_pg belongs to one thread; it owns the PGconn. Connecting is done in steps, so that
 * it is bounded and can be called off, and so that the SQLSTATE of a refusal is seen (libpq shows
 * it only in verbose messages). Must not know what the session is used for. Tests:
 * tests/unit/test_postgres.c.
 */
#include "postgres/pg.h"
#include "base/clock.h"
#include "base/log.h"

#include <poll.h>
#include <stdlib.h>

enum { TICK_MS = 200, OLDEST_SERVER = 120000 };

void mr_pg_init(struct mr_pg *pg, const char *dsn, const char *application_name, bool reader)
{
    *pg = (struct mr_pg){
        .dsn = mr_strdup(dsn), .application_name = mr_strdup(application_name), .reader = reader};
}

void mr_pg_fini(struct mr_pg *pg)
{
    mr_pg_disconnect(pg);
    free(pg->dsn);
    free(pg->application_name);
    *pg = (struct mr_pg){0};
}

void mr_pg_disconnect(struct mr_pg *pg)
{
    PQfinish(pg->conn);
    pg->conn = NULL;
    pg->lost = false;
    pg->lost_why = NULL;
}

bool mr_pg_alive(const struct mr_pg *pg)
{
    return pg->conn && !pg->lost && PQstatus(pg->conn) == CONNECTION_OK;
}

/* A warning can change what an answer means (see ledger.c, commit); everything that comes is
 * logged. */
static void on_notice(void *arg, const PGresult *res)
{
    struct mr_pg *pg = arg;
    const char *severity = PQresultErrorField(res, PG_DIAG_SEVERITY_NONLOCALIZED);
    bool warning = severity && strcmp(severity, "WARNING") == 0;
    if (warning)
        pg->warned = true;
    char text[512];
    mr_pg_one_line(text, sizeof text, PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY));
    mr_log(warning ? MR_WARN : MR_DEBUG, "Postgres says: %s", text);
}

static bool called_off(const struct mr_pg *pg)
{
    return pg->interruptible && pg->cancel && atomic_load(pg->cancel);
}

static bool shake_hands(struct mr_pg *pg, const struct mr_pg_params *params, struct mr_error *err)
{
    int64_t deadline = mr_clock_mono_ms() + (int64_t)params->hosts * params->timeout_ms;
    PostgresPollingStatusType state = PGRES_POLLING_WRITING;
    while (state != PGRES_POLLING_OK) {
        if (state == PGRES_POLLING_FAILED)
            return mr_pg_connect_error(pg, params->verify_added, err);
        if (called_off(pg))
            return mr_error_set(err, MR_RETRY, MR_EXIT_TRY_AGAIN, "connecting was called off");
        if (mr_clock_mono_ms() >= deadline)
            return mr_error_set(err, MR_RETRY, MR_EXIT_UNREACHABLE,
                                "Postgres at %s did not answer within %d s", PQhost(pg->conn),
                                params->hosts * params->timeout_ms / 1000);
        struct pollfd fd = {.fd = PQsocket(pg->conn),
                            .events = state == PGRES_POLLING_READING ? POLLIN : POLLOUT};
        if (poll(&fd, 1, TICK_MS) > 0)
            state = PQconnectPoll(pg->conn);
    }
    return true;
}

/*
 * search_path, TimeZone and DateStyle stay the user's: triggers and defaults of the user's tables
 * depend on them. Our own names are written with their schema instead, and every value travels in
 * binary.
 */
static const char session_settings[] =
    "SELECT pg_catalog.set_config(s.name, s.value, false) FROM (VALUES "
    "('lock_timeout', '5s'), ('statement_timeout', $1), "
    "('idle_in_transaction_session_timeout', '30s'), "
    "('synchronous_commit', CASE pg_catalog.current_setting('synchronous_commit') "
    "WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END), "
    "('default_transaction_isolation', 'read committed'), "
    "('client_min_messages', 'warning'), ('extra_float_digits', '1'), "
    "('tcp_keepalives_idle', '10'), ('tcp_keepalives_interval', '5'), "
    "('tcp_keepalives_count', '3'), ('tcp_user_timeout', '20000')) AS s (name, value)";
/* From 14 on the server can notice while it works that its client is gone. */
static const char session_settings_14[] =
    "SELECT pg_catalog.set_config('client_connection_check_interval', '5s', false)";

/* A session that streams changes waits as long as it must: for the transactions that are open when
 * its slot is made, and, with a snapshot exported, for those who read it. */
static const char session_settings_replication[] =
    "SET lock_timeout = 0; SET statement_timeout = 0; "
    "SET idle_in_transaction_session_timeout = 0; SET client_min_messages = warning; "
    "SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; "
    "SET tcp_keepalives_count = 3";

static bool set_replication_session(struct mr_pg *pg, struct mr_error *err)
{
    PGresult *res = mr_pg_query(pg, session_settings_replication, NULL);
    bool ok = mr_pg_expect(pg, res, PGRES_COMMAND_OK, MR_PG_OURS,
                           "setting up the replication session", err);
    PQclear(res);
    return ok;
}

static bool set_session(struct mr_pg *pg, struct mr_error *err)
{
    static const char doing[] = "setting up the Postgres session";
    if (pg->replication)
        return set_replication_session(pg, err);
    struct mr_pg_args args = {0};
    mr_pg_arg_text(&args, pg->reader ? "0" : "20s");
    bool ok = false;
    PGresult *res = mr_pg_query(pg, session_settings, &args);
    if (!mr_pg_expect(pg, res, PGRES_TUPLES_OK, MR_PG_OURS, doing, err))
        goto out;
    if (PQserverVersion(pg->conn) >= 140000) {
        /* Not every platform of the server can do it; then TCP's own time-outs must do. */
        PGresult *extra = mr_pg_query(pg, session_settings_14, NULL);
        PQclear(extra);
    }
    ok = mr_pg_alive(pg) ||
         mr_error_set(err, MR_RETRY, MR_EXIT_UNREACHABLE, "%s: connection lost", doing);
out:
    PQclear(res);
    return ok;
}

bool mr_pg_connect(struct mr_pg *pg, struct mr_error *err)
{
    mr_pg_disconnect(pg);
    struct mr_pg_params params = {0};
    bool ok = false;
    if (!mr_pg_params_make(pg, &params, err))
        goto out;
    pg->conn = PQconnectStartParams(params.keywords, (const char *const *)params.values, 1);
    if (!pg->conn) {
        mr_error_set(err, MR_RETRY, MR_EXIT_UNREACHABLE, "libpq has no memory for a connection");
        goto out;
    }
    PQsetErrorVerbosity(pg->conn, PQERRORS_VERBOSE);
    PQsetNoticeReceiver(pg->conn, on_notice, pg);
    if (PQstatus(pg->conn) == CONNECTION_BAD) {
        mr_pg_connect_error(pg, params.verify_added, err);
        goto out;
    }
    if (!shake_hands(pg, &params, err))
        goto out;
    PQsetErrorVerbosity(pg->conn, PQERRORS_DEFAULT);
    PQsetnonblocking(pg->conn, 1);
    pg->last_pid = PQbackendPID(pg->conn);
    if (PQserverVersion(pg->conn) < OLDEST_SERVER) {
        mr_error_set(err, MR_STOP, MR_EXIT_CONFIG,
                     "the Postgres server is version %d; Millrace needs 12 or later",
                     PQserverVersion(pg->conn) / 10000);
        goto out;
    }
    ok = set_session(pg, err);
    pg->connected_once = pg->connected_once || ok;
out:
    mr_pg_params_free(&params);
    if (!ok)
        mr_pg_disconnect(pg);
    return ok;
}
