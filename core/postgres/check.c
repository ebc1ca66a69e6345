/*
 * check.c - `millrace check --connect`: would a store of these options work?
 *
 * One thread a call; owns its connection for the length of the call; changes nothing. Everything
 * that is missing is named at once. Must not take the lock of the instance: a check runs beside the
 * daemon. Tests: tests/unit/test_postgres.c.
 */
#include "postgres/schema.h"
#include "postgres/postgres.h"

#include <stdio.h>

/* Rights on our tables, and on the columns that will be written. One row a right that is missing.
 */
static const char rights_sql[] =
    "SELECT pg_catalog.format('%s on %s', r.privilege, r.name) FROM ("
    "SELECT v.privilege, v.name, pg_catalog.has_table_privilege(v.name, v.privilege) AS held "
    "FROM (VALUES ('SELECT', $1), ('INSERT', $1), ('UPDATE', $1), "
    "('SELECT', $6), ('INSERT', $6), ('DELETE', $6), ('INSERT', $2)) AS v (privilege, name) "
    "WHERE v.name IS NOT NULL "
    "UNION ALL "
    "SELECT 'INSERT (' || c.name || ')', $3, pg_catalog.has_column_privilege($3, c.name, 'INSERT') "
    "FROM pg_catalog.unnest($4::text[]) AS c (name) WHERE $3 IS NOT NULL "
    "AND NOT pg_catalog.has_table_privilege($3, 'INSERT') "
    /* A serial column's default needs its sequence; an identity column's does not. */
    "UNION ALL "
    "SELECT 'USAGE', 'sequence ' || d.objid::pg_catalog.regclass::text, "
    /* CASE: the planner may ask before it joins, and what is no sequence raises. */
    "CASE WHEN c.relkind = 'S' THEN pg_catalog.has_sequence_privilege(d.objid, 'USAGE') END "
    "FROM pg_catalog.pg_depend d "
    "JOIN pg_catalog.pg_class c ON c.oid = d.objid AND c.relkind = 'S' "
    "WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.deptype = 'a' "
    "AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass "
    "AND d.refobjid = $5::oid) r WHERE NOT r.held";

static void put_array(struct mr_buf *out, const struct mr_pg_table *table)
{
    mr_buf_put_char(out, '{');
    for (size_t i = 0; table && i < table->schema.n; i++) {
        if (table->columns[i].generated)
            continue;
        if (out->len > 1)
            mr_buf_put_char(out, ',');
        mr_buf_put_char(out, '"');
        for (const char *c = table->columns[i].name; *c; c++) {
            if (*c == '"' || *c == '\\')
                mr_buf_put_char(out, '\\');
            mr_buf_put_char(out, *c);
        }
        mr_buf_put_char(out, '"');
    }
    mr_buf_put_char(out, '}');
}

static bool check_rights(struct mr_pg *pg, struct mr_pg_home *home, struct mr_pg_table *table,
                         struct mr_error *err)
{
    struct mr_buf columns = {0}, missing = {0};
    struct mr_pg_args args = {0};
    put_array(&columns, table);
    mr_pg_arg_text(&args, mr_buf_cstr(&home->ledger));
    mr_pg_arg_text(&args, home->dead.len ? mr_buf_cstr(&home->dead) : NULL);
    mr_pg_arg_text(&args, table ? mr_buf_cstr(&table->sql_name) : NULL);
    mr_pg_arg_text(&args, mr_buf_cstr(&columns));
    mr_pg_arg_int(&args, table ? table->oid : 0);
    mr_pg_arg_text(&args, mr_buf_cstr(&home->redo));
    PGresult *res = mr_pg_query(pg, rights_sql, &args);
    bool ok = mr_pg_expect(pg, res, PGRES_TUPLES_OK, MR_PG_OURS, "looking at the rights", err);
    for (int i = 0; ok && i < PQntuples(res); i++)
        mr_buf_printf(&missing, "%s%s", i ? ", " : "", PQgetvalue(res, i, 0));
    if (ok && missing.len)
        ok = mr_error_set(err, MR_STOP, MR_EXIT_CONFIG, "role \"%s\" lacks these rights: %s",
                          PQuser(pg->conn), mr_buf_cstr(&missing));
    PQclear(res);
    mr_buf_fini(&missing);
    mr_buf_fini(&columns);
    return ok;
}

static void put_report(struct mr_buf *report, struct mr_pg *pg, const struct mr_pg_home *home,
                       const struct mr_pg_table *table)
{
    int version = PQserverVersion(pg->conn);
    const char *host = PQhost(pg->conn);
    mr_buf_printf(report, "PostgreSQL %d.%d at %s answers: database \"%s\", role \"%s\"\n",
                  version / 10000, version % 10000, host && *host ? host : "the local socket",
                  PQdb(pg->conn), PQuser(pg->conn));
    mr_buf_printf(report, "Millrace's tables are there: %.*s, version %d, ledger %s\n",
                  (int)home->ledger.len, home->ledger.ptr, MR_PG_SCHEMA_VERSION, home->ledger_id);
    if (home->dead.len)
        mr_buf_printf(report, "dead letters go to %.*s\n", (int)home->dead.len, home->dead.ptr);
    if (table)
        mr_buf_printf(report, "rows go to %.*s, %zu columns\n", (int)table->sql_name.len,
                      table->sql_name.ptr, table->schema.n);
}

bool mr_postgres_check(const struct mr_postgres_store_options *options, struct mr_buf *report,
                       const struct mr_row_schema **schema, struct mr_error *err)
{
    struct mr_pg pg = {0};
    struct mr_pg_home home = {0};
    struct mr_pg_table *table = NULL;
    mr_pg_init(&pg, options->dsn, "millrace/check", false);
    pg.cancel = options->cancel;
    pg.interruptible = true;
    bool ok = mr_pg_connect(&pg, err) && mr_pg_home_find(&pg, options->dead_table, &home, err) &&
              (!options->table || mr_pg_describe(&pg, options->table, options->columns,
                                                 options->n_columns, &table, err)) &&
              check_rights(&pg, &home, table, err);
    if (ok && report)
        put_report(report, &pg, &home, table);
    if (schema)
        *schema = NULL;
    if (ok && schema && table) {
        *schema = &table->schema;
        table = NULL;
    }
    mr_pg_table_free(table);
    mr_pg_home_fini(&home);
    mr_pg_fini(&pg);
    return ok;
}

/* The schema is the first member of what owns it. */
void mr_postgres_row_schema_free(const struct mr_row_schema *schema)
{
    mr_pg_table_free((struct mr_pg_table *)(uintptr_t)schema);
}
