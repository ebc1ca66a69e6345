/*
 * side.c - see side.h.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "support/side.h"
#include "base/clock.h"
#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

PGconn *side;
const char *dsn;
const char b_waits_for_a_lock[] =
    "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'millrace/g/b/0' AND "
    "wait_event_type = 'Lock'";

/* --- from outside --- */

const char *ask(const char *format, ...)
{
    static char answer[4096];
    char sql[8192];
    va_list ap;
    va_start(ap, format);
    vsnprintf(sql, sizeof sql, format, ap);
    va_end(ap);
    PGresult *res = PQexec(side, sql);
    ExecStatusType status = PQresultStatus(res);
    if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK)
        fail_msg("%s: %s", sql, PQresultErrorMessage(res));
    snprintf(answer, sizeof answer, "%s", PQntuples(res) ? PQgetvalue(res, 0, 0) : "");
    PQclear(res);
    return answer;
}

void await(const char *wanted, const char *sql)
{
    int64_t deadline = mr_clock_mono_ms() + 20000;
    while (strcmp(ask("%s", sql), wanted) != 0) {
        if (mr_clock_mono_ms() > deadline)
            fail_msg("still not %s: %s", wanted, sql);
        usleep(10000); /* poll */
    }
}

void fresh(const char *schema)
{
    /* What a test that failed has left open must not fail the next one. */
    ask("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
        "WHERE application_name LIKE 'millrace/%%'");
    await("0", "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'millrace/%'");
    char options[128];
    snprintf(options, sizeof options, "-c search_path=%s", schema);
    setenv("PGOPTIONS", options, 1);
    ask("DROP SCHEMA IF EXISTS %s CASCADE; CREATE SCHEMA %s; SET search_path = %s", schema, schema,
        schema);
    struct mr_error err;
    if (!mr_postgres_init(dsn, "millrace_dead", false, NULL, &err))
        fail_msg("%s", err.msg);
}

int side_setup(void **state)
{
    (void)state;
    dsn = getenv("MILLRACE_PG");
    if (!dsn) {
        fprintf(stderr,
                "MILLRACE_PG is not set: run this under tests/support/services --postgres\n");
        return -1;
    }
    unsetenv("PGOPTIONS");
    mr_log_init(MR_ERROR, MR_LOG_TEXT);
    side = PQconnectdb(dsn);
    if (PQstatus(side) != CONNECTION_OK)
        fprintf(stderr, "%s", PQerrorMessage(side));
    PQclear(PQexec(side, "SET client_min_messages = error"));
    return PQstatus(side) == CONNECTION_OK ? 0 : -1;
}

int side_teardown(void **state)
{
    (void)state;
    PQfinish(side);
    return 0;
}

/* --- a store, and what is done with it --- */

struct mr_store *store_of(const char *owner, const char *table)
{
    struct mr_store *store;
    struct mr_error err;
    char application[64];
    snprintf(application, sizeof application, "millrace/g/%s/0", owner);
    struct mr_postgres_store_options options = {.dsn = dsn,
                                                .table = table,
                                                .dead_table = "millrace_dead",
                                                .group = "g",
                                                .owner = owner,
                                                .instance = owner,
                                                .application_name = application,
                                                .mode = "at_least_once"};
    if (!mr_postgres_store_open(&options, &store, &err))
        fail_msg("%s", err.msg);
    return store;
}

struct mr_store *connected(const char *owner, const char *table)
{
    struct mr_store *store = store_of(owner, table);
    struct mr_error err;
    if (!store->ops->connect(store, &err))
        fail_msg("%s", err.msg);
    return store;
}

const struct mr_partition place = {"topic_in", 3};

struct mr_claim claimed(struct mr_store *store)
{
    struct mr_claim claim;
    struct mr_error err;
    if (!store->ops->claim(store, &place, 0, &claim, &err))
        fail_msg("%s", err.msg);
    return claim;
}

bool begin(struct mr_store *store, const struct mr_claim *claim, int64_t next_offset,
           struct mr_error *err)
{
    struct mr_advance step = {.at = place,
                              .epoch = claim->epoch,
                              .unit = claim->unit,
                              .new_unit = claim->unit + 1,
                              .next_offset = next_offset};
    return store->ops->begin(store, &step, 1, err);
}

void begun(struct mr_store *store, const struct mr_claim *claim, int64_t next_offset)
{
    struct mr_error err;
    if (!begin(store, claim, next_offset, &err))
        fail_msg("%s", err.msg);
}

static uint16_t column_of(const struct mr_row_schema *schema, const char *name)
{
    for (size_t i = 0; i < schema->n; i++)
        if (strcmp(schema->columns[i].name, name) == 0)
            return (uint16_t)i;
    fail_msg("no column %s", name);
    return 0;
}

bool copy_value(struct mr_store *store, const char *name, struct mr_value value,
                struct mr_error *err)
{
    const struct mr_row_schema *schema = store->ops->schema(store);
    struct mr_column_set set = {.n = 1, .columns = {column_of(schema, name)}};
    struct mr_buf rows = {0};
    mr_buf_put_be16(&rows, 1);
    bool ok = schema->encode(&schema->columns[set.columns[0]], &value, &rows, err);
    struct mr_row_run run = {.set = &set, .rows = {rows.ptr, rows.len}, .n = 1};
    ok = ok && store->ops->copy(store, &run, 1, err);
    mr_buf_fini(&rows);
    return ok;
}

bool copy_int(struct mr_store *store, const char *name, int64_t i, struct mr_error *err)
{
    return copy_value(store, name, (struct mr_value){.type = MR_INT, .i = i}, err);
}

void end_session(const char *owner)
{
    ask("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
        "WHERE application_name = 'millrace/g/%s/0'",
        owner);
}
