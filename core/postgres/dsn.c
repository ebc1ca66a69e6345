/*
 * dsn.c - the DSN: is it one, and what is added to it (time-outs, keepalives, verified
 * certificates).
 *
 * No I/O besides libpq's own reading of service files. Owns nothing. What the user wrote wins over
 * what is added, except for the session's name, encoding and (for stores) the demand for a server
 * that takes writes. Must not let a password into a message. Tests:
 * tests/unit/test_postgres_rows.c.
 */
#include "postgres/pg.h"
#include "base/text.h"
#include "postgres/postgres.h"

#include <stdio.h>
#include <stdlib.h>

/* The libpq setting that is nearest to what `why` says is none. */
static void put_nearest(struct mr_buf *out, const char *why)
{
    enum { MAX = 96 };
    const char *at = strstr(why, "invalid connection option \"");
    at = at ? at : strstr(why, "invalid URI query parameter: \"");
    if (!at)
        return;
    char name[40];
    at = strchr(at, '"') + 1;
    snprintf(name, sizeof name, "%.*s", (int)strcspn(at, "\""), at);
    const char *names[MAX];
    size_t n = 0;
    PQconninfoOption *all = PQconndefaults();
    for (const PQconninfoOption *one = all; one && one->keyword && n < MAX; one++)
        names[n++] = one->keyword;
    const char *near = mr_text_nearest(name, names, n);
    if (near)
        mr_buf_printf(out, "; did you mean %s?", near);
    PQconninfoFree(all);
}

/* libpq quotes what it did not understand, and that may be the password or the whole URI. */
static bool refuse(const char *dsn, const char *why, struct mr_error *err)
{
    bool secret = strcasestr(dsn, "pass") || strchr(dsn, '@') || strchr(dsn, '\'');
    char text[256];
    mr_pg_one_line(text, sizeof text, why ? why : "out of memory");
    const char *first = strchr(text, '"'), *last = strrchr(text, '"');
    struct mr_buf said = {0};
    if (secret && first)
        mr_buf_printf(&said, "%.*s\"***%s", (int)(first - text), text, last > first ? last : "\"");
    else
        mr_buf_put_text(&said, text);
    put_nearest(&said, text);
    mr_error_set(err, MR_STOP, MR_EXIT_CONFIG,
                 "the dsn is not a libpq connection string (host=... dbname=... or "
                 "postgresql://host/db): %s",
                 mr_buf_cstr(&said));
    mr_buf_fini(&said);
    return false;
}

bool mr_postgres_dsn_check(const char *dsn, struct mr_error *err)
{
    char *why = NULL;
    PQconninfoOption *given = PQconninfoParse(dsn, &why);
    bool ok = given || refuse(dsn, why, err);
    PQconninfoFree(given);
    PQfreemem(why);
    return ok;
}

static const char *option(const PQconninfoOption *options, const char *keyword)
{
    for (; options && options->keyword; options++)
        if (strcmp(options->keyword, keyword) == 0)
            return options->val && *options->val ? options->val : NULL;
    return NULL;
}

static void put(struct mr_pg_params *params, const char *keyword, const char *value)
{
    mr_assert(params->n + 1 < sizeof params->keywords / sizeof *params->keywords);
    params->keywords[params->n] = keyword;
    params->values[params->n++] = mr_strdup(value);
}

static bool is_local(const char *host, size_t len)
{
    if (!len || *host == '/' || *host == '@')
        return true;
    /* 127.anything in numbers, not 127.0.0.1.example.org */
    if (len > 4 && memcmp(host, "127.", 4) == 0)
        return strspn(host, "0123456789.") >= len;
    return (len == 9 && memcmp(host, "localhost", 9) == 0) ||
           (len == 3 && memcmp(host, "::1", 3) == 0);
}

/* Is every host of this comma-separated list on this machine? NULL is the Unix socket. */
static bool all_local(const char *hosts, int *n)
{
    bool local = true;
    int count = 0;
    for (const char *at = hosts; at; count++) {
        size_t len = strcspn(at, ",");
        local = local && is_local(at, len);
        at = at[len] ? at + len + 1 : NULL;
    }
    if (count > *n)
        *n = count;
    return local;
}

/* What libpq would use, service file and environment included: an unknown target_session_attrs
 * makes it give up after it has gathered the options and before it connects. */
static PQconninfoOption *effective_options(const char *dsn)
{
    const char *keywords[] = {"dbname", "target_session_attrs", NULL};
    const char *values[] = {dsn, "none-of-them", NULL};
    PGconn *probe = PQconnectStartParams(keywords, values, 1);
    PQconninfoOption *options = probe ? PQconninfo(probe) : NULL;
    PQfinish(probe);
    return options;
}

static void add_security(const PQconninfoOption *given, const PQconninfoOption *effective,
                         struct mr_pg_params *params)
{
    bool local = all_local(option(effective, "host"), &params->hosts);
    local = all_local(option(effective, "hostaddr"), &params->hosts) && local;
    const char *mode = option(effective, "sslmode"), *environment = getenv("PGSSLMODE");
    bool said = option(given, "sslmode") || (environment && *environment) ||
                (mode && strcmp(mode, "prefer") != 0); /* "prefer" is libpq's own default */
    if (local || said)
        return;
    put(params, "sslmode", "verify-full");
    params->verify_added = true;
}

static void add_time_outs(const PQconninfoOption *effective, struct mr_pg_params *params)
{
    static const struct {
        const char *keyword, *value;
    } defaults[] = {{"keepalives_idle", "10"},
                    {"keepalives_interval", "5"},
                    {"keepalives_count", "3"},
                    {"tcp_user_timeout", "20000"}};
    for (size_t i = 0; i < sizeof defaults / sizeof *defaults; i++)
        if (!option(effective, defaults[i].keyword))
            put(params, defaults[i].keyword, defaults[i].value);
    const char *seconds = option(effective, "connect_timeout");
    long wanted = seconds ? strtol(seconds, NULL, 10) : 0;
    params->timeout_ms = wanted > 0 && wanted < 3600 ? (int)wanted * 1000 : MR_PG_CONNECT_MS;
}

/* Of the hosts that the DSN names, the one that `conn` is connected to. */
static void add_place(const PGconn *conn, struct mr_pg_params *params)
{
    const char *host = PQhost(conn), *address = PQhostaddr(conn), *port = PQport(conn);
    bool socket = host && *host == '/';
    if (host && *host)
        put(params, "host", host);
    if (address && *address && !socket)
        put(params, "hostaddr", address);
    if (port && *port)
        put(params, "port", port);
}

bool mr_pg_params_make(const struct mr_pg *pg, struct mr_pg_params *params, struct mr_error *err)
{
    *params = (struct mr_pg_params){.hosts = 1};
    char *why = NULL;
    PQconninfoOption *effective = NULL;
    PQconninfoOption *given = PQconninfoParse(pg->dsn, &why);
    bool ok = given || refuse(pg->dsn, why, err);
    if (!ok)
        goto out;
    effective = effective_options(pg->dsn);
    put(params, "dbname", pg->dsn);
    put(params, "application_name", pg->application_name);
    put(params, "client_encoding", "UTF8");
    if (!pg->reader && !option(given, "target_session_attrs"))
        put(params, "target_session_attrs", "read-write");
    if (pg->replication)
        put(params, "replication", "database");
    if (pg->beside)
        add_place(pg->beside->conn, params);
    add_security(given, effective, params);
    add_time_outs(effective, params);
out:
    PQconninfoFree(effective);
    PQconninfoFree(given);
    PQfreemem(why);
    return ok;
}

void mr_pg_params_free(struct mr_pg_params *params)
{
    for (size_t i = 0; i < params->n; i++)
        free(params->values[i]);
    *params = (struct mr_pg_params){0};
}
