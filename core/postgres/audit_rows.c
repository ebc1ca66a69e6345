/*
 * audit_rows.c - the comparison of an audit, in SQL: messages read as values of the columns' types,
 * both sides counted by key, what does not fit listed.
 *
 * One thread; runs on the session of audit.c. Counted instead of joined: a key that is there three
 * times in one sink and twice in the other is one doubled output, not six pairs. All of it is two
 * sorts or hashes, which Postgres spills to its disk. Tests: tests/integration/audit_spec.lua.
 */
#include "postgres/audit.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* A message is found by one number: partition and offset. */
#define PLACE_BITS 44
/* Kafka's timestamp and the row's time differ: both sides are read so far beyond the range, and
 * what has no part within it is left out afterwards. */
enum { MARGIN_MS = 3600000 };

static bool by_kafka_time(const struct mr_postgres_audit *audit)
{
    return audit->time_column && audit->time_field < 0;
}

/* --- messages as values --- */

/* A cast that gives null where the text is no value of the type. Only a function can catch that. */
static bool make_casts(struct mr_postgres_audit *audit, struct mr_error *err)
{
    struct mr_buf sql = {0};
    bool ok = true;
    for (size_t i = 0; ok && i < audit->n; i++) {
        const struct mr_pg_audit_column *column = &audit->columns[i];
        if (column->is_text || column->is_bytes)
            continue;
        mr_buf_reset(&sql);
        mr_buf_printf(&sql,
                      "CREATE FUNCTION pg_temp.millrace_cast_%zu(text) RETURNS %s LANGUAGE plpgsql "
                      "STRICT AS $f$ BEGIN RETURN $1::%s; EXCEPTION WHEN data_exception THEN "
                      "RETURN NULL; END $f$",
                      i, column->type, column->type);
        ok = mr_pg_audit_run(audit, mr_buf_cstr(&sql), PGRES_COMMAND_OK, NULL,
                             "making a temporary function", err);
    }
    mr_buf_fini(&sql);
    return ok;
}

static void put_cast(struct mr_buf *sql, const struct mr_pg_audit_column *column, size_t i)
{
    if (column->is_bytes)
        mr_buf_printf(sql, "pg_catalog.convert_to(f%zu, 'UTF8')", i);
    else if (column->is_text)
        mr_buf_printf(sql, "f%zu::%s", i, column->type);
    else
        mr_buf_printf(sql, "pg_temp.millrace_cast_%zu(f%zu)", i, i);
}

/* millrace_audit_messages (place, ts, why, c0, c1, ...) out of the texts that came by COPY. */
static bool read_messages(struct mr_postgres_audit *audit, struct mr_error *err)
{
    struct mr_buf sql = {0}, why = {0};
    mr_buf_printf(&sql,
                  "CREATE TEMPORARY TABLE millrace_audit_messages AS SELECT place, ts, CASE ");
    mr_buf_put_text(&sql, "WHEN why IS NOT NULL THEN why ");
    for (size_t i = 0; i < audit->n; i++) {
        const struct mr_pg_audit_column *column = &audit->columns[i];
        mr_buf_reset(&why);
        mr_buf_printf(&why, "%s is not of type %s, as column %s is: ", column->name, column->shown,
                      column->column);
        mr_buf_printf(&sql, "WHEN f%zu IS NOT NULL AND c%zu IS NULL THEN ", i, i);
        mr_pg_put_literal(&sql, mr_buf_cstr(&why));
        mr_buf_printf(&sql, " || pg_catalog.left(f%zu, 60) ", i);
    }
    mr_buf_put_text(&sql, "END AS why");
    for (size_t i = 0; i < audit->n; i++)
        mr_buf_printf(&sql, ", c%zu", i);
    mr_buf_printf(&sql, " FROM (SELECT (part << %d) + off AS place, ts, why", PLACE_BITS);
    for (size_t i = 0; i < audit->n; i++) {
        mr_buf_printf(&sql, ", f%zu, ", i);
        put_cast(&sql, &audit->columns[i], i);
        mr_buf_printf(&sql, " AS c%zu", i);
    }
    /* OFFSET 0: each cast is made once. */
    mr_buf_put_text(&sql,
                    " FROM millrace_audit_stage OFFSET 0) s; DROP TABLE millrace_audit_stage; "
                    "ANALYZE millrace_audit_messages");
    bool ok = mr_pg_audit_run(audit, mr_buf_cstr(&sql), PGRES_COMMAND_OK, NULL,
                              "reading the messages as values of the columns", err);
    mr_buf_fini(&why);
    mr_buf_fini(&sql);
    return ok;
}

/* --- within the range --- */

static int64_t scaled(int64_t ms, int64_t per_s, bool up)
{
    if (per_s >= 1000)
        return ms * (per_s / 1000);
    return (ms + (up ? 1000 / per_s - 1 : 0)) / (1000 / per_s);
}

/* `what` is a value of the time column's type. */
static void put_bounds(const struct mr_postgres_audit *audit, const char *what, int64_t margin_ms,
                       struct mr_buf *sql)
{
    int64_t since = audit->since_ms < 0 ? -1 : audit->since_ms - margin_ms;
    int64_t until = audit->until_ms + margin_ms;
    mr_buf_printf(sql, "(%s IS NULL OR (", what);
    if (since >= 0 && audit->time_is_number)
        mr_buf_printf(sql, "%s >= %" PRId64 " AND ", what, scaled(since, audit->time_per_s, true));
    else if (since >= 0)
        mr_buf_printf(sql, "%s >= pg_catalog.to_timestamp(%" PRId64 " / 1000.0) AND ", what, since);
    if (audit->time_is_number)
        mr_buf_printf(sql, "%s <= %" PRId64 "))", what, scaled(until, audit->time_per_s, false));
    else
        mr_buf_printf(sql, "%s <= pg_catalog.to_timestamp(%" PRId64 " / 1000.0)))", what, until);
}

static void put_row_range(const struct mr_postgres_audit *audit, int64_t margin_ms,
                          struct mr_buf *sql)
{
    struct mr_buf column = {0};
    if (!audit->time_column) {
        mr_buf_put_text(sql, "true");
        return;
    }
    mr_buf_put_text(&column, "r.");
    mr_pg_put_ident(&column, audit->time_column);
    put_bounds(audit, mr_buf_cstr(&column), margin_ms, sql);
    mr_buf_fini(&column);
}

static void put_kafka_range(const struct mr_postgres_audit *audit, int64_t margin_ms,
                            struct mr_buf *sql)
{
    if (!audit->time_column)
        mr_buf_put_text(sql, "true");
    else
        mr_buf_printf(sql, "ts >= %" PRId64 " AND ts <= %" PRId64,
                      audit->since_ms < 0 ? -1 : audit->since_ms - margin_ms,
                      audit->until_ms + margin_ms);
}

static void put_message_range(const struct mr_postgres_audit *audit, int64_t margin_ms,
                              struct mr_buf *sql)
{
    char column[32];
    if (!audit->time_column || by_kafka_time(audit)) {
        put_kafka_range(audit, margin_ms, sql);
        return;
    }
    snprintf(column, sizeof column, "c%d", audit->time_field);
    put_bounds(audit, column, margin_ms, sql);
}

/* --- the comparison --- */

enum { KEYS_ONLY = 1, NO_COMMA = 2 };

/* The format for each column, # being its number, each after a comma. */
static void put_list(const struct mr_postgres_audit *audit, const char *format, int how,
                     struct mr_buf *sql)
{
    bool comma = !(how & NO_COMMA);
    for (size_t i = 0; i < audit->n; i++) {
        if (how & KEYS_ONLY && !audit->columns[i].is_key)
            continue;
        mr_buf_put_text(sql, comma ? ", " : "");
        comma = true;
        for (const char *at = format; *at; at++)
            if (*at == '#')
                mr_buf_printf(sql, "%zu", i);
            else
                mr_buf_put_char(sql, *at);
    }
}

static void put_items(const struct mr_postgres_audit *audit, struct mr_buf *sql)
{
    int64_t margin_ms = by_kafka_time(audit) ? MARGIN_MS : 0;
    mr_buf_put_text(sql, "items AS (SELECT 1 AS m, 0 AS r, place, (");
    put_message_range(audit, 0, sql);
    mr_buf_put_text(sql, ") AS inside");
    put_list(audit, "c#", 0, sql);
    mr_buf_put_text(sql, " FROM millrace_audit_messages WHERE why IS NULL AND ");
    put_message_range(audit, margin_ms, sql);
    mr_buf_put_text(sql, " UNION ALL SELECT 0, 1, NULL, (");
    put_row_range(audit, 0, sql);
    mr_buf_put_char(sql, ')');
    for (size_t i = 0; i < audit->n; i++) {
        mr_buf_put_text(sql, ", r.");
        mr_pg_put_ident(sql, audit->columns[i].column);
        mr_buf_printf(sql, "::%s", audit->columns[i].type);
    }
    mr_buf_printf(sql, " FROM %.*s r WHERE ", (int)audit->table.len, audit->table.ptr);
    put_row_range(audit, margin_ms, sql);
    mr_buf_put_char(sql, ')');
}

/*
 * millrace_audit_found: one row for each key at fault (kind, m, r, place, why, k0..., and for the
 * others a0... of the message, b0... of the row), and one of kind `total`.
 */
static void put_comparison(const struct mr_postgres_audit *audit, struct mr_buf *sql)
{
    mr_buf_put_text(sql, "CREATE TEMPORARY TABLE millrace_audit_found AS WITH ");
    put_items(audit, sql);
    mr_buf_put_text(sql, ", equals AS (SELECT pg_catalog.sum(m) AS m, pg_catalog.sum(r) AS r, "
                         "pg_catalog.min(place) AS place, pg_catalog.max(place) AS last, "
                         "pg_catalog.bool_or(inside) AS inside");
    put_list(audit, "c#", 0, sql);
    mr_buf_put_text(sql, " FROM items GROUP BY ");
    put_list(audit, "c#", NO_COMMA, sql);
    /* Of a key with several values on both sides, the first that the other side lacks. */
    mr_buf_put_text(sql, "), keys AS MATERIALIZED (SELECT pg_catalog.sum(m) AS m, "
                         "pg_catalog.sum(r) AS r, pg_catalog.min(place) AS place, "
                         "pg_catalog.max(last) AS last, pg_catalog.bool_or(m <> r) AS differs");
    for (size_t i = 0; i < audit->n; i++)
        if (audit->columns[i].is_key)
            mr_buf_printf(sql, ", c%zu::text AS a%zu, c%zu::text AS b%zu", i, i, i, i);
        else
            mr_buf_printf(sql,
                          ", pg_catalog.min(c%zu::text) FILTER (WHERE m > r) AS a%zu"
                          ", pg_catalog.min(c%zu::text) FILTER (WHERE r > m) AS b%zu",
                          i, i, i, i);
    mr_buf_put_text(sql, " FROM equals GROUP BY ");
    put_list(audit, "c#", KEYS_ONLY | NO_COMMA, sql);
    mr_buf_put_text(sql, " HAVING pg_catalog.bool_or(inside)) "
                         "SELECT CASE WHEN m = 0 THEN 'missing' WHEN r = 0 THEN 'extra' "
                         "WHEN m <> r THEN 'doubled' ELSE 'differing' END AS kind, m::bigint, "
                         "r::bigint, CASE WHEN m > r THEN last ELSE place END AS place, "
                         "NULL::text AS why");
    put_list(audit, "a#, b#", 0, sql);
    mr_buf_put_text(sql, " FROM keys WHERE differs UNION ALL SELECT 'total', "
                         "coalesce(pg_catalog.sum(m), 0)::bigint, "
                         "coalesce(pg_catalog.sum(r), 0)::bigint, "
                         "pg_catalog.count(*) FILTER (WHERE m > 1 AND NOT differs), NULL");
    put_list(audit, "NULL, NULL", 0, sql);
    mr_buf_put_text(sql, " FROM keys UNION ALL SELECT 'unreadable', 1, 0, place, why");
    put_list(audit, "NULL, NULL", 0, sql);
    /* One whose time can be read counts by it, the others by Kafka's. */
    mr_buf_put_text(sql, " FROM millrace_audit_messages WHERE why IS NOT NULL AND CASE WHEN ");
    if (audit->time_column && !by_kafka_time(audit)) {
        mr_buf_printf(sql, "c%d IS NOT NULL THEN ", audit->time_field);
        put_message_range(audit, 0, sql);
    } else {
        mr_buf_put_text(sql, "false THEN false");
    }
    mr_buf_put_text(sql, " ELSE ");
    put_kafka_range(audit, 0, sql);
    mr_buf_put_text(sql, " END");
}

static bool compare(struct mr_postgres_audit *audit, struct mr_error *err)
{
    struct mr_buf sql = {0}, doing = {0};
    put_comparison(audit, &sql);
    mr_buf_printf(&doing, "comparing with the rows of %s", mr_buf_cstr(&audit->table));
    bool ok =
        mr_pg_audit_run(audit, mr_buf_cstr(&sql), PGRES_COMMAND_OK, NULL, mr_buf_cstr(&doing), err);
    mr_buf_fini(&doing);
    mr_buf_fini(&sql);
    return ok;
}

static int64_t number(const PGresult *res, int field)
{
    return strtoll(PQgetvalue(res, 0, field), NULL, 10);
}

bool mr_postgres_audit_compare(struct mr_postgres_audit *audit,
                               struct mr_postgres_audit_result *out, struct mr_error *err)
{
    static const char sql[] =
        "SELECT pg_catalog.sum(m) FILTER (WHERE kind = 'total'), "
        "pg_catalog.sum(r) FILTER (WHERE kind = 'total'), "
        "coalesce(pg_catalog.sum(r) FILTER (WHERE kind = 'missing'), 0), "
        "coalesce(pg_catalog.sum(m) FILTER (WHERE kind = 'extra'), 0), "
        "pg_catalog.count(*) FILTER (WHERE kind = 'differing'), "
        "coalesce(pg_catalog.sum(pg_catalog.abs(m - r)) FILTER (WHERE kind = 'doubled'), 0), "
        "pg_catalog.count(*) FILTER (WHERE kind = 'unreadable'), "
        "pg_catalog.sum(place) FILTER (WHERE kind = 'total') FROM millrace_audit_found";
    PGresult *res = NULL;
    if (!mr_pg_audit_end_copy(audit, err) || !make_casts(audit, err) ||
        !read_messages(audit, err) || !compare(audit, err) ||
        !mr_pg_audit_run(audit, sql, PGRES_TUPLES_OK, &res, "counting what was found", err))
        return false;
    *out = (struct mr_postgres_audit_result){
        .messages = number(res, 0),
        .rows = number(res, 1),
        .missing = number(res, 2),
        .extra = number(res, 3),
        .differing = number(res, 4),
        .doubled = number(res, 5),
        .unreadable = number(res, 6),
        .repeated = number(res, 7),
    };
    PQclear(res);
    return true;
}

/* --- examples --- */

enum { FIELDS_BEFORE = 5 };

static void show(struct mr_postgres_audit *audit, const PGresult *res, int row,
                 struct mr_postgres_audit_example *example)
{
    const char **of_message = (const char **)(uintptr_t)example->of_message;
    const char **of_row = (const char **)(uintptr_t)example->of_row;
    example->kind = PQgetvalue(res, row, 0);
    example->messages = strtoll(PQgetvalue(res, row, 1), NULL, 10);
    example->rows = strtoll(PQgetvalue(res, row, 2), NULL, 10);
    example->partition = example->offset = -1;
    if (!PQgetisnull(res, row, 3)) {
        int64_t place = strtoll(PQgetvalue(res, row, 3), NULL, 10);
        example->partition = place >> PLACE_BITS;
        example->offset = place & ((INT64_C(1) << PLACE_BITS) - 1);
    }
    example->why = PQgetisnull(res, row, 4) ? NULL : PQgetvalue(res, row, 4);
    for (size_t i = 0; i < audit->n; i++) {
        int a = FIELDS_BEFORE + 2 * (int)i, b = a + 1;
        of_message[i] = PQgetisnull(res, row, a) ? NULL : PQgetvalue(res, row, a);
        of_row[i] = PQgetisnull(res, row, b) ? NULL : PQgetvalue(res, row, b);
        example->differs[i] =
            *PQgetvalue(res, row, FIELDS_BEFORE + 2 * (int)audit->n + (int)i) == 't';
    }
}

bool mr_postgres_audit_examples(struct mr_postgres_audit *audit, int limit,
                                void (*each)(void *arg,
                                             const struct mr_postgres_audit_example *example),
                                void *arg, struct mr_error *err)
{
    struct mr_buf sql = {0};
    PGresult *res = NULL;
    /* By key, as the eye expects it; the kinds in the order of the summary. */
    mr_buf_put_text(&sql, "SELECT kind, m, r, place, why");
    put_list(audit, "a#, b#", 0, &sql);
    /* Of equal values the texts may differ: 1 and 1.0. */
    for (size_t i = 0; i < audit->n; i++)
        mr_buf_printf(&sql, ", a%zu::%s IS DISTINCT FROM b%zu::%s", i, audit->columns[i].type, i,
                      audit->columns[i].type);
    mr_buf_put_text(&sql, " FROM (SELECT *, pg_catalog.row_number() OVER (PARTITION BY kind ORDER "
                          "BY ");
    put_list(audit, "a#", KEYS_ONLY | NO_COMMA, &sql);
    mr_buf_printf(&sql,
                  ", place) AS nr FROM millrace_audit_found WHERE kind <> 'total') f WHERE nr <= "
                  "%d ORDER BY pg_catalog.array_position(ARRAY['missing', 'extra', 'differing', "
                  "'doubled', 'unreadable'], kind), nr",
                  limit);
    bool ok =
        mr_pg_audit_run(audit, mr_buf_cstr(&sql), PGRES_TUPLES_OK, &res, "listing examples", err);
    struct mr_postgres_audit_example example = {
        .of_message = mr_calloc(audit->n, sizeof(char *)),
        .of_row = mr_calloc(audit->n, sizeof(char *)),
        .differs = mr_calloc(audit->n, sizeof(bool)),
    };
    for (int row = 0; ok && row < PQntuples(res); row++) {
        show(audit, res, row, &example);
        each(arg, &example);
    }
    free((void *)(uintptr_t)example.of_message);
    free((void *)(uintptr_t)example.of_row);
    free(example.differs);
    PQclear(res);
    mr_buf_fini(&sql);
    return ok;
}
