/*
 * describe.c - what the feedback table looks like: names, base types, what may be null, what may be
 * written.
 *
 * One thread a call; gives a struct mr_pg_table. Domains are resolved to their base type, since
 * COPY carries that one's form. Reads the catalogue only. Must not know how values are encoded.
 * Tests: tests/unit/test_postgres.c.
 */
#include "postgres/schema.h"
#include "postgres/postgres.h"
#include "postgres/values.h"
#include "base/text.h"

#include <stdio.h>
#include <stdlib.h>

const char mr_pg_fingerprint_sql[] =
    "SELECT pg_catalog.hashtextextended(pg_catalog.string_agg(pg_catalog.concat_ws(' ', attnum, "
    "atttypid, atttypmod, attnotnull, atthasdef, attidentity = 'a', attgenerated, attname), ',' "
    "ORDER BY attnum), 0) FROM pg_catalog.pg_attribute "
    "WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped";

static const char table_sql[] =
    "SELECT c.oid, pg_catalog.format('%I.%I', n.nspname, c.relname), c.relkind, "
    "pg_catalog.row_security_active(c.oid), "
    "c.relkind IN ('r', 'p') AND pg_catalog.has_table_privilege(c.oid, 'INSERT') "
    "FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
    "WHERE c.oid = pg_catalog.to_regclass($1)";

/* is_text: the types whose binary form is their text; citext is known by its receive function. */
static const char columns_sql[] =
    "WITH RECURSIVE t AS ("
    "SELECT a.attnum, a.attname, a.atttypid AS typ, a.atttypmod AS mod, a.attnotnull AS not_null, "
    "a.atthasdef OR a.attidentity <> '' AS has_default, "
    "a.attgenerated <> '' OR a.attidentity = 'a' AS generated, "
    "pg_catalog.format_type(a.atttypid, a.atttypmod) AS type_name, 0 AS depth "
    "FROM pg_catalog.pg_attribute a WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped "
    "UNION ALL "
    "SELECT t.attnum, t.attname, y.typbasetype, "
    "CASE WHEN t.mod >= 0 THEN t.mod ELSE y.typtypmod END, t.not_null OR y.typnotnull, "
    "t.has_default OR y.typdefault IS NOT NULL, t.generated, t.type_name, t.depth + 1 "
    "FROM t JOIN pg_catalog.pg_type y ON y.oid = t.typ WHERE y.typtype = 'd') "
    "SELECT t.attname, y.oid, t.mod, t.not_null, t.has_default, t.generated, "
    "y.typtype = 'e' OR y.typreceive::oid::regproc::text IN "
    "('textrecv', 'varcharrecv', 'bpcharrecv', 'namerecv', 'json_recv', 'citextrecv') "
    "OR y.typreceive::oid::regproc::text LIKE '%.citextrecv', "
    "CASE WHEN t.depth = 0 THEN t.type_name ELSE "
    "pg_catalog.concat(t.type_name, ' (', pg_catalog.format_type(y.oid, t.mod), ')') END "
    "FROM t JOIN pg_catalog.pg_type y ON y.oid = t.typ AND y.typtype <> 'd' ORDER BY t.attnum";

static bool truth(const PGresult *res, int row, int field)
{
    return *PQgetvalue(res, row, field) == 't';
}

static bool wanted(const char *name, const char *const *columns, size_t n_columns)
{
    for (size_t i = 0; i < n_columns; i++)
        if (strcmp(name, columns[i]) == 0)
            return true;
    return !n_columns;
}

/* A table that cannot be written by COPY is refused now, not at the first row. */
static bool check_table(const PGresult *res, const char *table, struct mr_error *err)
{
    if (!PQntuples(res))
        return mr_error_set(err, MR_STOP, MR_EXIT_CONFIG,
                            "table \"%s\" does not exist in this database, or its schema is not in "
                            "the search path (names are taken exactly as written)",
                            table);
    char kind = *PQgetvalue(res, 0, 2);
    if (!strchr("rpvf", kind))
        return mr_error_set(err, MR_STOP, MR_EXIT_CONFIG,
                            "\"%s\" is not a table that rows can be written to", table);
    if (truth(res, 0, 3))
        return mr_error_set(err, MR_STOP, MR_EXIT_CONFIG,
                            "table \"%s\" has row-level security, under which Postgres allows no "
                            "COPY: use a role that it does not apply to",
                            table);
    return true;
}

/* The columns that were asked for by name are there. */
static bool check_names(const PGresult *res, const char *table, const char *const *columns,
                        size_t n_columns, struct mr_error *err)
{
    size_t n = (size_t)PQntuples(res);
    const char **names = mr_calloc(n, sizeof *names);
    bool ok = true;
    for (size_t i = 0; i < n; i++)
        names[i] = PQgetvalue(res, (int)i, 0);
    for (size_t i = 0; ok && i < n_columns; i++) {
        for (size_t k = 0; k <= n; k++)
            if (k == n)
                ok = false;
            else if (strcmp(columns[i], names[k]) == 0)
                break;
        const char *near = ok ? NULL : mr_text_nearest(columns[i], names, n);
        if (!ok)
            mr_error_set(err, MR_STOP, MR_EXIT_CONFIG, "table \"%s\" has no column \"%s\"%s%s%s",
                         table, columns[i], near ? "; is \"" : "", near ? near : "",
                         near ? "\" meant?" : "");
    }
    free(names);
    return ok;
}

/* Each column that will be written can be, and no row must do without one. */
static bool check_columns(const struct mr_pg_table *t, size_t n_columns, struct mr_error *err)
{
    for (size_t i = 0; i < t->schema.n; i++) {
        const struct mr_row_column *column = &t->columns[i];
        if (n_columns && column->generated)
            return mr_error_set(err, MR_STOP, MR_EXIT_CONFIG,
                                "column \"%s\" of table \"%s\" is generated by Postgres and cannot "
                                "be written: take it out of the list of columns",
                                column->name, t->schema.table);
        bool needed = column->not_null && !column->has_default && !column->generated;
        if ((n_columns || needed) && !mr_pg_type_supported(column->oid, column->is_text))
            return mr_error_set(err, MR_STOP, MR_EXIT_CONFIG,
                                "column \"%s\" of table \"%s\" has type %s, which Millrace cannot "
                                "write%s; it writes %s",
                                column->name, t->schema.table, column->type_name,
                                needed ? ", and it is NOT NULL without a default" : "",
                                mr_pg_types_supported);
    }
    return true;
}

/* All texts in one allocation, so that a description is freed as simply as it is compared. */
static void fill(struct mr_pg_table *t, const char *table, const PGresult *res,
                 const char *const *columns, size_t n_columns)
{
    size_t size = strlen(table) + 1;
    for (int i = 0; i < PQntuples(res); i++)
        size += (size_t)PQgetlength(res, i, 0) + (size_t)PQgetlength(res, i, 7) + 2;
    char *at = t->text = mr_alloc(size);
    t->schema.table = at;
    at = stpcpy(at, table) + 1;
    for (int i = 0; i < PQntuples(res); i++) {
        if (!wanted(PQgetvalue(res, i, 0), columns, n_columns))
            continue;
        struct mr_row_column *column = &t->columns[t->schema.n++];
        column->name = at;
        at = stpcpy(at, PQgetvalue(res, i, 0)) + 1;
        column->type_name = at;
        at = stpcpy(at, PQgetvalue(res, i, 7)) + 1;
        column->oid = (uint32_t)strtoul(PQgetvalue(res, i, 1), NULL, 10);
        column->typmod = (int32_t)strtol(PQgetvalue(res, i, 2), NULL, 10);
        column->not_null = truth(res, i, 3);
        column->has_default = truth(res, i, 4);
        column->generated = truth(res, i, 5);
        column->is_text = truth(res, i, 6);
    }
}

bool mr_pg_describe(struct mr_pg *pg, const char *table, const char *const *columns,
                    size_t n_columns, struct mr_pg_table **out, struct mr_error *err)
{
    static const char doing[] = "describing the feedback table";
    struct mr_pg_table *t = mr_calloc(1, sizeof *t);
    struct mr_buf name = {0};
    struct mr_pg_args by_name = {0}, by_oid = {0};
    PGresult *head = NULL, *print = NULL, *res = NULL;
    bool ok = false;
    if (!mr_pg_put_table(&name, table, err))
        goto out;
    mr_pg_arg_text(&by_name, mr_buf_cstr(&name));
    head = mr_pg_query(pg, table_sql, &by_name);
    if (!mr_pg_expect(pg, head, PGRES_TUPLES_OK, MR_PG_OURS, doing, err) ||
        !check_table(head, table, err))
        goto out;
    t->oid = (uint32_t)strtoul(PQgetvalue(head, 0, 0), NULL, 10);
    mr_buf_put_text(&t->sql_name, PQgetvalue(head, 0, 1));
    t->can_lock = truth(head, 0, 4);
    /* The fingerprint first: a change between the two shows as a wrong fingerprint later. */
    mr_pg_arg_int(&by_oid, t->oid);
    print = mr_pg_query(pg, mr_pg_fingerprint_sql, &by_oid);
    if (!mr_pg_expect(pg, print, PGRES_TUPLES_OK, MR_PG_OURS, doing, err))
        goto out;
    t->fingerprint = strtoll(PQgetvalue(print, 0, 0), NULL, 10);
    res = mr_pg_query(pg, columns_sql, &by_oid);
    if (!mr_pg_expect(pg, res, PGRES_TUPLES_OK, MR_PG_OURS, doing, err))
        goto out;
    if (!check_names(res, table, columns, n_columns, err))
        goto out;
    t->columns = mr_calloc((size_t)PQntuples(res), sizeof *t->columns);
    fill(t, table, res, columns, n_columns);
    if (t->schema.n > MR_ROW_COLUMNS_MAX) {
        mr_error_set(err, MR_STOP, MR_EXIT_CONFIG,
                     "table \"%s\" has %zu columns, more than %d: list those that the script "
                     "writes in sinks.postgres.columns",
                     table, t->schema.n, MR_ROW_COLUMNS_MAX);
        goto out;
    }
    t->schema.columns = t->columns;
    t->schema.encode = mr_postgres_encode;
    t->schema.show = mr_postgres_show;
    ok = check_columns(t, n_columns, err);
out:
    PQclear(res);
    PQclear(print);
    PQclear(head);
    mr_buf_fini(&name);
    if (ok)
        *out = t;
    else
        mr_pg_table_free(t);
    return ok;
}

bool mr_pg_table_equal(const struct mr_pg_table *a, const struct mr_pg_table *b)
{
    if (a->oid != b->oid || a->schema.n != b->schema.n)
        return false;
    for (size_t i = 0; i < a->schema.n; i++) {
        const struct mr_row_column *x = &a->columns[i], *y = &b->columns[i];
        if (strcmp(x->name, y->name) != 0 || strcmp(x->type_name, y->type_name) != 0 ||
            x->oid != y->oid || x->typmod != y->typmod || x->not_null != y->not_null ||
            x->has_default != y->has_default || x->is_text != y->is_text ||
            x->generated != y->generated)
            return false;
    }
    return true;
}

/* Numbers go into any column of numbers, text into any of text; all else only into its own type. */
static uint32_t kind_of(const struct mr_row_column *column)
{
    enum { INT8 = 20, INT2 = 21, INT4 = 23, TEXT = 25, FLOAT4 = 700, FLOAT8 = 701, NUMERIC = 1700 };
    switch (column->oid) {
    case INT2:
    case INT4:
    case INT8:
    case FLOAT4:
    case FLOAT8:
        return NUMERIC;
    default:
        return column->is_text ? TEXT : column->oid;
    }
}

static bool misfit(const char *table, const char *column, const char *what, struct mr_error *err)
{
    return mr_error_set(err, MR_STOP, MR_EXIT_CONFIG,
                        "table \"%s\" was altered: column \"%s\" %s. No message is at fault, so "
                        "none was made a dead letter of: undo it, or change the script, and start "
                        "again",
                        table, column, what);
}

bool mr_pg_table_fits(const struct mr_pg_table *old, struct mr_pg_table *altered,
                      struct mr_error *err)
{
    const char *table = altered->schema.table;
    bool any = false;
    for (size_t i = 0; i < old->schema.n; i++) {
        const struct mr_row_column *was = &old->columns[i];
        size_t k = 0;
        if (!old->written[i])
            continue;
        any = true;
        while (k < altered->schema.n && strcmp(altered->columns[k].name, was->name) != 0)
            k++;
        if (k == altered->schema.n)
            return misfit(table, was->name, "is gone", err);
        if (kind_of(&altered->columns[k]) != kind_of(was)) {
            char what[300];
            snprintf(what, sizeof what, "is of type %s now, no longer %s",
                     altered->columns[k].type_name, was->type_name);
            return misfit(table, was->name, what, err);
        }
        altered->written[k] = true;
    }
    for (size_t k = 0; any && k < altered->schema.n; k++) {
        const struct mr_row_column *now = &altered->columns[k];
        if (!altered->written[k] && now->not_null && !now->has_default && !now->generated)
            return misfit(table, now->name, "must be filled now, and no row has it", err);
    }
    return true;
}

void mr_pg_table_free(struct mr_pg_table *table)
{
    if (!table)
        return;
    mr_buf_fini(&table->sql_name);
    free(table->columns);
    free(table->text);
    free(table);
}
