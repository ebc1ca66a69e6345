/*
 * sqlstate.c - what Postgres said, turned into what to do: the one place that knows the SQLSTATE
 * classes.
 *
 * Pure but for reading the connection; any thread; owns nothing. A data error is the message's
 * fault only where the user's rows are written. Must not let a password or a line end through.
 * Tests: tests/unit/test_postgres.c.
 */
#include "postgres/pg.h"

#include <stdio.h>

const char *mr_pg_sqlstate(const PGresult *res)
{
    const char *state = res ? PQresultErrorField(res, PG_DIAG_SQLSTATE) : NULL;
    return state ? state : "";
}

bool mr_pg_is(const PGresult *res, const char *sqlstate)
{
    return strcmp(mr_pg_sqlstate(res), sqlstate) == 0;
}

void mr_pg_one_line(char *out, size_t size, const char *text)
{
    size_t len = 0;
    for (; text && *text && len + 1 < size; text++) {
        bool space = (unsigned char)*text <= ' ' || *text == 0x7f;
        if (!space)
            out[len++] = *text;
        else if (len && out[len - 1] != ' ')
            out[len++] = ' ';
    }
    while (len && out[len - 1] == ' ')
        len--;
    out[len] = '\0';
}

static bool class_is(const char *state, const char *class_)
{
    return strncmp(state, class_, 2) == 0;
}

static bool one_of(const char *state, const char *const *states)
{
    for (; *states; states++)
        if (strcmp(state, *states) == 0)
            return true;
    return false;
}

/* The row was refused: type, range, constraint, check option of a view, a trigger's RAISE, size of
 * a row. */
static bool is_data_error(const char *state)
{
    return class_is(state, "22") || class_is(state, "23") || class_is(state, "44") ||
           class_is(state, "P0") || class_is(state, "54");
}

/* Passes by itself, or with a new connection. */
static bool is_passing(const char *state)
{
    static const char *const passing[] = {
        "55P03", "55006", "55000", /* lock not available, object in use, not in the needed state */
        "XX000",                   /* internal error: what comes again stays visible in the log */
        NULL};
    static const char *const classes[] = {"08", "25", "26", "34", "40", "53", "57", "58"};
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++)
        if (class_is(state, classes[i]))
            return true;
    return one_of(state, passing);
}

/* The table is not what it was when it was described: look again (store.c stops at the second
 * time). */
static bool is_other_table(const char *state)
{
    static const char *const states[] = {"42P01", "42703", "42804", NULL};
    return one_of(state, states);
}

static bool is_principal_error(const char *state)
{
    return class_is(state, "28") || strcmp(state, "3D000") == 0;
}

static void classify(const struct mr_pg *pg, const char *state, enum mr_pg_what what,
                     struct mr_error *err)
{
    if (what == MR_PG_DATA && is_data_error(state)) {
        bool utf8 = strcmp(state, "22021") == 0 || strcmp(state, "22P05") == 0;
        err->action = MR_REJECT;
        err->code = MR_EXIT_DATA;
        snprintf(err->class_, sizeof err->class_, "%s", utf8 ? "utf8" : "rejected");
    } else if (is_principal_error(state)) {
        err->action = pg->connected_once ? MR_RETRY : MR_STOP;
        err->code = MR_EXIT_CONFIG;
    } else if (!*state || is_passing(state) || (what == MR_PG_DATA && is_other_table(state))) {
        err->action = MR_RETRY;
        err->code = MR_EXIT_UNREACHABLE;
    } else {
        err->action = MR_STOP;
        err->code = MR_EXIT_CONFIG;
    }
}

static void append_field(char *text, size_t size, const PGresult *res, int field,
                         const char *before, const char *after)
{
    char part[512];
    mr_pg_one_line(part, sizeof part, PQresultErrorField(res, field));
    size_t len = strlen(text);
    if (*part && len < size)
        snprintf(text + len, size - len, "%s%s%s", before, part, after);
}

bool mr_pg_expect(struct mr_pg *pg, const PGresult *res, ExecStatusType expected,
                  enum mr_pg_what what, const char *doing, struct mr_error *err)
{
    if (res && PQresultStatus(res) == expected)
        return true;
    const char *state = mr_pg_sqlstate(res);
    char text[900] = "";
    if (*state) {
        append_field(text, sizeof text, res, PG_DIAG_MESSAGE_PRIMARY, "", "");
        append_field(text, sizeof text, res, PG_DIAG_MESSAGE_DETAIL, "; ", "");
        append_field(text, sizeof text, res, PG_DIAG_MESSAGE_HINT, "; hint: ", "");
        append_field(text, sizeof text, res, PG_DIAG_CONTEXT, " (", ")");
        mr_error_set(err, MR_RETRY, 0, "%s: Postgres says: %s [%s]", doing, text, state);
    } else if (pg->lost || !pg->conn || PQstatus(pg->conn) != CONNECTION_OK) {
        mr_pg_one_line(text, sizeof text, pg->conn ? PQerrorMessage(pg->conn) : "");
        mr_error_set(err, MR_RETRY, 0, "%s: the connection to Postgres is lost: %s", doing,
                     pg->lost_why ? pg->lost_why
                     : *text      ? text
                                  : "it is closed");
    } else {
        mr_pg_one_line(text, sizeof text,
                       res ? PQresultErrorMessage(res) : PQerrorMessage(pg->conn));
        mr_error_set(err, MR_RETRY, 0, "%s: %s", doing,
                     *text ? text
                     : res ? PQresStatus(PQresultStatus(res))
                           : "no answer");
    }
    if (err)
        classify(pg, state, what, err);
    return false;
}

/* "FATAL:  28P01: password authentication failed": the last one that is there. */
static void find_sqlstate(const char *message, char state[6])
{
    state[0] = '\0';
    for (const char *at = message; (at = strstr(at, ":  ")); at++) {
        size_t len = strspn(at + 3, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ");
        if (len == 5 && at[8] == ':')
            snprintf(state, 6, "%s", at + 3);
    }
}

/* A server that is just going down, not one that cannot be trusted. */
static bool is_broken_off(const char *text)
{
    return strstr(text, "SSL SYSCALL") || strstr(text, "closed unexpectedly");
}

/* A setting that no server can cure. A host name without an address is none of these: the name
 * server may be what is away ("Name or service not known"). */
static bool is_misnamed(const char *text)
{
    return !strstr(text, "could not translate host name") &&
           (strstr(text, "invalid ") || strstr(text, "service file") ||
            strstr(text, "definition of service"));
}

bool mr_pg_connect_error(struct mr_pg *pg, bool verify_added, struct mr_error *err)
{
    const char *message = PQerrorMessage(pg->conn);
    char state[6], text[700];
    find_sqlstate(message, state);
    /* Verbose messages end in "LOCATION:  file.c:123": of no use to an operator. */
    const char *location = strstr(message, "\nLOCATION:");
    mr_pg_one_line(text, sizeof text, message);
    if (location) {
        char cut[700];
        snprintf(cut, sizeof cut, "%.*s", (int)(location - message), message);
        mr_pg_one_line(text, sizeof text, cut);
    }
    bool certificate = (strstr(text, "certificate") || strstr(text, "SSL")) && !is_broken_off(text);
    const char *cure =
        verify_added && certificate
            ? "; Millrace asks for sslmode=verify-full when the host is not this machine: name the "
              "CA with sslrootcert=, or write another sslmode into the dsn"
            : "";
    const char *user = PQuser(pg->conn), *db = PQdb(pg->conn);
    mr_error_set(err, MR_RETRY, MR_EXIT_UNREACHABLE,
                 "cannot connect to Postgres as \"%s\" to database \"%s\": %s%s", user ? user : "",
                 db ? db : "", text, cure);
    if (!err)
        return false;
    if (*state)
        classify(pg, state, MR_PG_OURS, err);
    else if (certificate || is_misnamed(text))
        /* libpq refused before any server could: settings, certificates. */
        err->action = pg->connected_once ? MR_RETRY : MR_STOP, err->code = MR_EXIT_CONFIG;
    return false;
}
