/*
 * schema.c - Millrace's own tables: the SQL that makes them, `init`, and finding them again.
 *
 * One thread a call; owns nothing. This file is the one place where their columns are written down;
 * what is not used yet (job_bundle) is there so that later features need no migration. What `init`
 * runs also brings the tables of an earlier version up to this one, and never touches what a later
 * version has made. Must not touch any other table. Tests: tests/unit/test_postgres.c.
 */
#include "postgres/schema.h"
#include "postgres/postgres.h"

#include <stdio.h>
#include <stdlib.h>

/* One init at a time, since CREATE ... IF NOT EXISTS races with itself. */
#define INIT_LOCK "pg_catalog.hashtextextended(''millrace init'', 0)"

static const char tables_sql[] =
    "-- Millrace's own tables. Rows of other applications are never touched.\n"
    "CREATE TABLE IF NOT EXISTS millrace_meta (\n"
    "    only_row       boolean PRIMARY KEY DEFAULT true CHECK (only_row),\n"
    "    ledger_id      uuid NOT NULL,\n"
    "    schema_version integer NOT NULL\n"
    ");\n"
    "INSERT INTO millrace_meta (ledger_id, schema_version)\n"
    "    VALUES (pg_catalog.gen_random_uuid(), %d) ON CONFLICT DO NOTHING;\n"
    "\n"
    "-- One row a consumer group and partition: how far it is decided, and who may decide next.\n"
    "-- Updated with every unit: the free space keeps those updates within their page.\n"
    "CREATE TABLE IF NOT EXISTS millrace_ledger (\n"
    "    grp            text NOT NULL,\n"
    "    topic          text NOT NULL,\n"
    "    part           integer NOT NULL,\n"
    "    epoch          bigint NOT NULL,            -- random, new at each claim: the fence\n"
    "    owner          text NOT NULL,\n"
    "    mode           text NOT NULL,              -- of delivery, when the last unit was "
    "decided\n"
    "    unit           bigint NOT NULL DEFAULT 0,  -- decided units with messages for Kafka\n"
    "    next_offset    bigint NOT NULL DEFAULT -1, -- of the source; -1: not started\n"
    "    trying         bigint,                     -- the message that was begun with last,\n"
    "    attempts       integer NOT NULL DEFAULT 0, -- by so many owners that were not heard of "
    "again,\n"
    "    begun          boolean NOT NULL DEFAULT false, -- and by the present one\n"
    "    job_keys       bytea,                      -- a fan-out in progress\n"
    "    job_cursor     bytea,\n"
    "    job_trigger_ms bigint,\n"
    "    job_bundle     text,\n"
    "    PRIMARY KEY (grp, topic, part)\n"
    ") WITH (fillfactor = 10);\n"
    "\n"
    "-- The final bytes of a decided unit's messages, until Kafka has them for certain.\n"
    "CREATE TABLE IF NOT EXISTS millrace_redo (\n"
    "    grp            text NOT NULL,\n"
    "    topic          text NOT NULL,\n"
    "    part           integer NOT NULL,\n"
    "    unit           bigint NOT NULL,\n"
    "    codec          text NOT NULL,              -- what the payload is\n"
    "    n              integer NOT NULL,           -- messages\n"
    "    crc32c         bigint NOT NULL,            -- of the payload\n"
    "    payload        bytea NOT NULL,\n"
    "    PRIMARY KEY (grp, topic, part, unit)\n"
    ");\n"
    "-- It is compressed already. Asked for once only: it locks the table.\n"
    "DO 'BEGIN IF (SELECT attstorage FROM pg_catalog.pg_attribute WHERE attname = ''payload'' AND "
    "attrelid = ''millrace_redo''::pg_catalog.regclass) <> ''e'' THEN\n"
    "    ALTER TABLE millrace_ledger ADD COLUMN IF NOT EXISTS begun boolean NOT NULL DEFAULT "
    "false;\n"
    "    ALTER TABLE millrace_redo ALTER COLUMN payload SET STORAGE EXTERNAL;\n"
    "END IF; END';\n"
    "UPDATE millrace_meta SET schema_version = %d WHERE schema_version < %d;\n";

/* headers is {{name, value}, ...}; key, value and headers hold the original bytes. */
static const char dead_sql[] =
    "\n"
    "-- Messages that could not be processed, untouched, and why.\n"
    "-- headers: {{name, value}, ...}; convert_from(value, 'UTF8') shows a value as text.\n"
    "CREATE TABLE IF NOT EXISTS %s (\n"
    "    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,\n"
    "    at               timestamptz NOT NULL DEFAULT pg_catalog.now(),\n"
    "    grp              text NOT NULL,\n"
    "    topic            text NOT NULL,\n"
    "    part             integer NOT NULL,\n"
    "    src_offset       bigint NOT NULL,\n"
    "    src_timestamp_ms bigint,\n"
    "    class            text NOT NULL,\n"
    "    error            text NOT NULL,\n"
    "    bundle           text,\n"
    "    key              bytea,\n"
    "    value            bytea,\n"
    "    headers          bytea[],\n"
    "    job_keys         bytea,\n"
    "    job_cursor       bytea,\n"
    "    job_trigger_ms   bigint\n"
    ");\n";

static bool put_sql(struct mr_buf *sql, const char *dead_table, struct mr_error *err)
{
    mr_buf_printf(sql, tables_sql, MR_PG_SCHEMA_VERSION, MR_PG_SCHEMA_VERSION,
                  MR_PG_SCHEMA_VERSION);
    if (!dead_table)
        return true;
    struct mr_buf name = {0};
    bool ok = mr_pg_put_table(&name, dead_table, err);
    if (ok)
        mr_buf_printf(sql, dead_sql, mr_buf_cstr(&name));
    mr_buf_fini(&name);
    return ok;
}

static bool run_sql(struct mr_pg *pg, const char *sql, struct mr_error *err)
{
    PGresult *res = mr_pg_query(pg, sql, NULL);
    bool ok =
        mr_pg_expect(pg, res, PGRES_COMMAND_OK, MR_PG_OURS, "creating Millrace's tables", err);
    PQclear(res);
    return ok;
}

bool mr_postgres_init(const char *dsn, const char *dead_table, bool print_only,
                      struct mr_buf *sql_out, struct mr_error *err)
{
    struct mr_pg pg = {0};
    struct mr_pg_home home = {0};
    struct mr_buf ddl = {0}, sql = {0};
    bool ok = false;
    if (!put_sql(&ddl, dead_table, err))
        goto out;
    if (sql_out)
        mr_buf_put(sql_out, ddl.ptr, ddl.len);
    ok = print_only;
    if (print_only)
        goto out;
    mr_pg_init(&pg, dsn, "millrace/init", false);
    if (!mr_pg_connect(&pg, err))
        goto out;
    /* One simple query is one transaction: everything or nothing. */
    mr_buf_put_text(&sql,
                    "BEGIN;\n"
                    "DO 'BEGIN PERFORM pg_catalog.pg_advisory_xact_lock(" INIT_LOCK "); END';\n");
    mr_buf_put(&sql, ddl.ptr, ddl.len);
    mr_buf_put_text(&sql, "COMMIT;\n");
    ok = run_sql(&pg, mr_buf_cstr(&sql), err) && mr_pg_home_find(&pg, dead_table, &home, err);
out:
    mr_pg_home_fini(&home);
    mr_pg_fini(&pg);
    mr_buf_fini(&sql);
    mr_buf_fini(&ddl);
    return ok;
}

void mr_pg_home_fini(struct mr_pg_home *home)
{
    mr_buf_fini(&home->ledger);
    mr_buf_fini(&home->redo);
    mr_buf_fini(&home->dead);
    *home = (struct mr_pg_home){0};
}

static bool absent(struct mr_pg *pg, const char *what, struct mr_error *err)
{
    return mr_error_set(err, MR_STOP, MR_EXIT_CONFIG,
                        "%s is not in the search path of database \"%s\" as seen by \"%s\": run "
                        "`millrace init`, which creates what Millrace needs",
                        what, PQdb(pg->conn), PQuser(pg->conn));
}

/* Columns: name of the table with its schema, or null. One row a table asked for. `home->redo`
 * stays empty when it is not there: the version has the better sentence. */
static bool find_tables(struct mr_pg *pg, const char *dead_table, struct mr_pg_home *home,
                        struct mr_buf *meta, struct mr_error *err)
{
    static const char sql[] =
        "SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) FROM "
        "(VALUES (1, 'millrace_meta'), (2, 'millrace_ledger'), (3, 'millrace_redo'), "
        "(4, $1::text)) AS w (i, name) "
        "LEFT JOIN pg_catalog.pg_class c ON c.oid = pg_catalog.to_regclass(w.name) "
        "LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace ORDER BY w.i";
    static const char doing[] = "looking for Millrace's tables";
    struct mr_buf dead = {0};
    struct mr_pg_args args = {0};
    PGresult *res = NULL;
    bool ok = false;
    if (dead_table && !mr_pg_put_table(&dead, dead_table, err))
        goto out;
    mr_pg_arg_text(&args, dead_table ? mr_buf_cstr(&dead) : NULL);
    res = mr_pg_query(pg, sql, &args);
    if (!mr_pg_expect(pg, res, PGRES_TUPLES_OK, MR_PG_OURS, doing, err))
        goto out;
    if (PQgetisnull(res, 0, 0))
        absent(pg, "Millrace's table millrace_meta", err);
    else if (PQgetisnull(res, 1, 0))
        absent(pg, "Millrace's table millrace_ledger", err);
    else if (dead_table && PQgetisnull(res, 3, 0)) {
        absent(pg, "the table of dead letters", err);
        mr_error_context(err, "dead_letters.table = \"%s\"", dead_table);
    } else {
        ok = true;
        mr_buf_put_text(meta, PQgetvalue(res, 0, 0));
        mr_buf_put_text(&home->ledger, PQgetvalue(res, 1, 0));
        mr_buf_put_text(&home->redo, PQgetvalue(res, 2, 0)); /* "" for null */
        if (dead_table)
            mr_buf_put_text(&home->dead, PQgetvalue(res, 3, 0));
    }
out:
    PQclear(res);
    mr_buf_fini(&dead);
    return ok;
}

static bool check_version(int version, struct mr_error *err)
{
    if (version < MR_PG_SCHEMA_VERSION)
        return mr_error_set(err, MR_STOP, MR_EXIT_CONFIG,
                            "Millrace's tables have schema version %d, this program needs version "
                            "%d: run `millrace init`, which adds what is missing and keeps what "
                            "is there",
                            version, MR_PG_SCHEMA_VERSION);
    if (version > MR_PG_SCHEMA_VERSION)
        return mr_error_set(err, MR_STOP, MR_EXIT_CONFIG,
                            "Millrace's tables have schema version %d, this program knows version "
                            "%d: use the program that fits them",
                            version, MR_PG_SCHEMA_VERSION);
    return true;
}

bool mr_pg_home_find(struct mr_pg *pg, const char *dead_table, struct mr_pg_home *home,
                     struct mr_error *err)
{
    struct mr_buf meta = {0}, sql = {0};
    PGresult *res = NULL;
    bool ok = false;
    mr_pg_home_fini(home);
    if (!find_tables(pg, dead_table, home, &meta, err))
        goto out;
    mr_buf_printf(&sql, "SELECT pg_catalog.left(ledger_id::text, 8), schema_version FROM %s",
                  mr_buf_cstr(&meta));
    res = mr_pg_query(pg, mr_buf_cstr(&sql), NULL);
    if (!mr_pg_expect(pg, res, PGRES_TUPLES_OK, MR_PG_OURS, "reading millrace_meta", err))
        goto out;
    if (PQntuples(res) != 1) {
        absent(pg, "the row of Millrace's table millrace_meta", err);
        goto out;
    }
    if (!check_version(atoi(PQgetvalue(res, 0, 1)), err))
        goto out;
    if (!home->redo.len) {
        absent(pg, "Millrace's table millrace_redo", err);
        goto out;
    }
    snprintf(home->ledger_id, sizeof home->ledger_id, "%s", PQgetvalue(res, 0, 0));
    ok = true;
out:
    PQclear(res);
    mr_buf_fini(&sql);
    mr_buf_fini(&meta);
    return ok;
}
