/*
 * log.c - the log that triggers write: one look at it.
 *
 * One thread, over a connection that changelog.c owns. A look is one round trip and one snapshot:
 * facts about server and catalog (do the triggers still catch everything?), then the rows by a
 * binary COPY. Nothing in their bytes is trusted. Must not know when to look. Tests:
 * tests/unit/test_postgres_changelog.c.
 */
#include "postgres/changelog.h"
#include "postgres/values.h"

#include <stdlib.h>

static const char doing[] = "reading the change-log";

/* What each of the facts means when it differs. */
static const char *const differences[MR_PG_LOG_FACTS] = {
    "the server was started anew, or another has taken over",
    "the columns of the table or of the change-log have changed",
    "the table was truncated or rewritten, or its partitions have changed",
    "the triggers of the change-log have changed: what was written without them is unknown"};

/*
 * 1, 2 the table and the log as SQL in literals, 3 the array of the lookup's columns, 4 the log's
 * name, as patterns of the triggers. An ALTER TABLE that rewrites values gives the table another
 * file, one that disables a trigger and enables it again another version of its row.
 */
static const char facts_sql[] =
    "PREPARE millrace_facts AS "
    "WITH t AS (SELECT pg_catalog.to_regclass(%1$s)::oid AS source, "
    "pg_catalog.to_regclass(%2$s)::oid AS log), "
    "parts AS (SELECT source AS oid FROM t UNION SELECT p.relid::oid FROM t, "
    "pg_catalog.pg_partition_tree(t.source::pg_catalog.regclass) p) "
    "SELECT pg_catalog.pg_current_snapshot(), "
    "(extract(epoch FROM pg_catalog.clock_timestamp()) * 1000000)::int8 - 946684800000000, "
    "pg_catalog.pg_postmaster_start_time()::text || pg_catalog.\"left\"("
    "pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 8), "
    "(SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', a.attrelid, a.attnum, a.attname, "
    "a.atttypid), ',' ORDER BY a.attrelid, a.attnum) FROM t "
    "JOIN pg_catalog.pg_attribute a ON a.attrelid IN (t.source, t.log) AND a.attnum > 0 "
    "AND NOT a.attisdropped WHERE a.attrelid = t.log OR %3$s::text[] = '{}' "
    "OR a.attname = ANY (%3$s::text[])), "
    "(SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', c.oid, c.relfilenode), ',' "
    "ORDER BY c.oid) FROM parts JOIN pg_catalog.pg_class c USING (oid)), "
    "(SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', g.oid, g.xmin, g.tgenabled, "
    "pg_catalog.md5(f.prosrc)), ',' ORDER BY g.oid) FROM parts "
    "JOIN pg_catalog.pg_trigger g ON g.tgrelid = parts.oid "
    "JOIN pg_catalog.pg_proc f ON f.oid = g.tgfoid "
    "WHERE g.tgname IN ('millrace_' || %4$s || '_insert', 'millrace_' || %4$s || '_update', "
    "'millrace_' || %4$s || '_delete', 'millrace_' || %4$s || '_truncate'))";

static bool execute(struct mr_pg *pg, const char *sql, struct mr_error *err)
{
    PGresult *res = mr_pg_query(pg, sql, NULL);
    bool ok = mr_pg_expect(pg, res, PGRES_COMMAND_OK, MR_PG_READ, doing, err);
    PQclear(res);
    return ok;
}

/* --- open --- */

static bool prepare(struct mr_pg_log *log, struct mr_pg *pg, struct mr_error *err)
{
    const struct mr_postgres_feed_options *o = log->options;
    const struct mr_postgres_lookup_options *l = &o->lookup;
    struct mr_buf table = {0}, source = {0}, logged = {0}, names = {0}, columns = {0}, bare = {0};
    struct mr_buf sql = {0};
    char name[MR_PG_LOG_NAME_MAX + 1];
    bool ok = mr_pg_put_table(&table, l->table, err) &&
              mr_pg_put_table(&log->name, o->changelog, err) &&
              mr_pg_log_name(o->changelog, name, err);
    if (!ok)
        goto out;
    mr_pg_put_literal(&source, mr_buf_cstr(&table));
    mr_pg_put_literal(&logged, mr_buf_cstr(&log->name));
    mr_pg_put_array(&names, l->keys, l->n_columns ? l->n_keys : 0, l->columns, l->n_columns);
    mr_pg_put_literal(&columns, mr_buf_cstr(&names));
    mr_pg_put_literal(&bare, name);
    mr_buf_printf(&sql, facts_sql, mr_buf_cstr(&source), mr_buf_cstr(&logged),
                  mr_buf_cstr(&columns), mr_buf_cstr(&bare));
    /* The session may rest for as long as a load takes. */
    ok = (PQserverVersion(pg->conn) < 140000 || execute(pg, "SET idle_session_timeout = 0", err)) &&
         execute(pg, mr_buf_cstr(&sql), err);
    mr_buf_reset(&sql);
    mr_buf_reset(&bare);
    mr_buf_printf(&bare, "millrace_%s", name);
    mr_buf_put_text(&sql, "LISTEN ");
    mr_pg_put_ident(&sql, mr_buf_cstr(&bare));
    ok = ok && execute(pg, mr_buf_cstr(&sql), err);
out:
    mr_buf_fini(&table);
    mr_buf_fini(&source);
    mr_buf_fini(&logged);
    mr_buf_fini(&names);
    mr_buf_fini(&columns);
    mr_buf_fini(&bare);
    mr_buf_fini(&sql);
    return ok;
}

bool mr_pg_log_open(struct mr_pg_log *log, struct mr_pg *pg,
                    const struct mr_postgres_feed_options *options, struct mr_error *err)
{
    mr_pg_log_fini(log);
    log->options = options;
    if (!prepare(log, pg, err))
        return false;
    PGresult *res = mr_pg_query(pg, "EXECUTE millrace_facts", NULL);
    bool ok = mr_pg_expect(pg, res, PGRES_TUPLES_OK, MR_PG_READ, doing, err);
    if (ok)
        log->looked_us = strtoll(PQgetvalue(res, 0, 1), NULL, 10);
    for (int i = 0; ok && i < MR_PG_LOG_FACTS; i++)
        log->facts[i] = mr_strdup(PQgetvalue(res, 0, i + 2));
    PQclear(res);
    return ok;
}

void mr_pg_log_fini(struct mr_pg_log *log)
{
    for (size_t i = 0; i < MR_PG_LOG_FACTS; i++)
        free(log->facts[i]);
    for (size_t i = 0; log->scratch && i < log->n; i++)
        mr_buf_fini(&log->scratch[i]);
    free(log->scratch);
    free(log->values);
    mr_buf_fini(&log->name);
    mr_buf_fini(&log->columns);
    *log = (struct mr_pg_log){0};
}

static bool compare_types(const struct mr_pg_shape *shape, const PGresult *described,
                          struct mr_error *err)
{
    for (size_t i = 0; i < shape->n_columns; i++)
        if (PQftype(described, (int)i) != shape->oids[i])
            return mr_error_set(err, MR_RETRY, MR_EXIT_CONFIG,
                                "column \"%s\" has another type in the change-log than in the "
                                "table: run `millrace init`",
                                shape->names[i]);
    return true;
}

bool mr_pg_log_columns(struct mr_pg_log *log, struct mr_pg *pg, const struct mr_pg_shape *shape,
                       struct mr_error *err)
{
    PGresult *results[2] = {NULL};
    struct mr_buf sql = {0};
    for (size_t i = 0; i < shape->n_columns; i++) {
        mr_buf_put_text(&log->columns, i ? ", " : "");
        mr_pg_put_ident(&log->columns, shape->names[i]);
    }
    mr_buf_printf(&sql, "SELECT %s FROM %s", mr_buf_cstr(&log->columns), mr_buf_cstr(&log->name));
    if (mr_pg_pipe_begin(pg)) {
        mr_pg_pipe_prepare(pg, "", mr_buf_cstr(&sql));
        mr_pg_pipe_describe(pg, "");
        (void)mr_pg_pipe_run(pg, results, 2); /* what went wrong is in the results */
    }
    bool ok = mr_pg_expect(pg, results[0], PGRES_COMMAND_OK, MR_PG_READ, doing, err) &&
              mr_pg_expect(pg, results[1], PGRES_COMMAND_OK, MR_PG_READ, doing, err) &&
              compare_types(shape, results[1], err);
    mr_pg_clear(results, 2);
    mr_buf_fini(&sql);
    log->oids = shape->oids;
    log->n = shape->n_columns;
    log->values = mr_calloc(log->n, sizeof *log->values);
    log->scratch = mr_calloc(log->n, sizeof *log->scratch);
    return ok;
}

/* --- rows --- */

struct cursor {
    const uint8_t *at, *end;
};

static bool malformed(struct mr_error *err)
{
    return mr_error_set(err, MR_RECOVER, MR_EXIT_UNREACHABLE,
                        "a row of the change-log is not of the form that was described");
}

/* The bytes of the next field; *bytes NULL: null. */
static bool next_field(struct cursor *cur, const uint8_t **bytes, size_t *len)
{
    uint32_t be;
    if (cur->end - cur->at < 4)
        return false;
    memcpy(&be, cur->at, sizeof be);
    cur->at += 4;
    *len = __builtin_bswap32(be);
    *bytes = NULL;
    if (*len == UINT32_MAX)
        return true;
    if ((size_t)(cur->end - cur->at) < *len)
        return false;
    *bytes = cur->at;
    cur->at += *len;
    return true;
}

static bool read_values(struct mr_pg_log *log, struct cursor *cur)
{
    for (size_t i = 0; i < log->n; i++) {
        const uint8_t *bytes;
        size_t len;
        if (!next_field(cur, &bytes, &len))
            return false;
        log->values[i].type = MR_NULL;
        if (bytes && !mr_pg_decode(log->oids[i], bytes, len, &log->scratch[i], &log->values[i]))
            return false;
    }
    return true;
}

/* One tuple: what was done, when, the row. */
static bool apply(struct mr_pg_log *log, struct cursor *cur, struct mr_lookup *lookup,
                  struct mr_pg_look *look, struct mr_error *err)
{
    const uint8_t *op, *at;
    size_t op_len, at_len;
    uint64_t be;
    if (!next_field(cur, &op, &op_len) || !op || op_len != 1 || !next_field(cur, &at, &at_len) ||
        !at || at_len != sizeof be || !read_values(log, cur))
        return malformed(err);
    memcpy(&be, at, sizeof be);
    int64_t at_us = (int64_t)__builtin_bswap64(be);
    look->last_us = !look->rows || at_us > look->last_us ? at_us : look->last_us;
    look->rows++;
    if (*op == 'I')
        return mr_lookup_put(lookup, log->values, NULL, err);
    if (*op == 'D')
        return mr_lookup_take(lookup, log->values, err);
    return mr_error_set(err, MR_RECOVER, MR_EXIT_UNREACHABLE,
                        *op == 'T' ? "the table was truncated"
                                   : "what changed could not be logged row by row: the table's "
                                     "columns, or the change-log, were changed");
}

/* One message of the COPY; the first begins with the header. */
static bool apply_message(struct mr_pg_log *log, const char *bytes, size_t len, bool first,
                          struct mr_lookup *lookup, struct mr_pg_look *look, struct mr_error *err)
{
    enum { HEADER_LEN = 19 };
    struct cursor cur = {(const uint8_t *)bytes, (const uint8_t *)bytes + len};
    if (first && (len < HEADER_LEN || memcmp(bytes, "PGCOPY\n\377\r\n", 11) != 0))
        return malformed(err);
    cur.at += first ? HEADER_LEN : 0;
    while (cur.at < cur.end) {
        if (cur.end - cur.at < 2)
            return malformed(err);
        size_t n = (size_t)cur.at[0] << 8 | cur.at[1];
        cur.at += 2;
        if (n == 0xffff)
            continue;
        if (n != log->n + 2)
            return malformed(err);
        if (!apply(log, &cur, lookup, look, err))
            return false;
    }
    return true;
}

/* Everything is read, also when it is no longer wanted: the connection stays in step. */
static bool read_rows(struct mr_pg_log *log, struct mr_pg *pg, struct mr_lookup *lookup,
                      struct mr_pg_look *look, struct mr_error *err)
{
    bool ok = true, first = true;
    for (;;) {
        char *bytes = NULL;
        int len = PQgetCopyData(pg->conn, &bytes, 1);
        if (len < 0)
            return ok;
        if (len > 0) {
            ok = ok && !look->differs &&
                 apply_message(log, bytes, (size_t)len, first, lookup, look, err);
            ok = ok || look->differs;
            first = false;
            PQfreemem(bytes);
        } else if (!mr_pg_wait_readable(pg, MR_PG_REPLY_MS) || !PQconsumeInput(pg->conn)) {
            return mr_pg_expect(pg, NULL, PGRES_COMMAND_OK, MR_PG_READ, doing, err);
        }
    }
}

/* --- a look --- */

static void compare_facts(const struct mr_pg_log *log, const PGresult *res, struct mr_pg_look *look)
{
    int64_t gap_ms = log->looked ? MR_PG_LOG_GAP_MS : MR_PG_LOG_LOAD_MS;
    look->snapshot = mr_strdup(PQgetvalue(res, 0, 0));
    look->now_us = strtoll(PQgetvalue(res, 0, 1), NULL, 10);
    /* What others have trimmed meanwhile looks like nothing. */
    if (look->now_us - log->looked_us > gap_ms * 1000)
        look->differs = "the change-log was not read for so long that a part of it may be trimmed";
    for (int i = MR_PG_LOG_FACTS - 1; i >= 0; i--)
        if (strcmp(PQgetvalue(res, 0, i + 2), log->facts[i]) != 0)
            look->differs = differences[i];
}

static bool send(struct mr_pg_log *log, struct mr_pg *pg, const char *seen, struct mr_error *err)
{
    struct mr_buf sql = {0}, snapshot = {0};
    mr_pg_put_literal(&snapshot, seen);
    mr_buf_put_text(&snapshot, "::pg_catalog.pg_snapshot");
    const char *s = mr_buf_cstr(&snapshot);
    mr_buf_printf(&sql,
                  "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; EXECUTE millrace_facts; "
                  "COPY (SELECT millrace_op, millrace_at, %s FROM %s WHERE millrace_xid >= "
                  "pg_catalog.pg_snapshot_xmin(%s) AND NOT pg_catalog.pg_visible_in_snapshot("
                  "millrace_xid, %s) ORDER BY millrace_seq) TO STDOUT (FORMAT binary); COMMIT",
                  mr_buf_cstr(&log->columns), mr_buf_cstr(&log->name), s, s);
    bool ok = PQsendQuery(pg->conn, mr_buf_cstr(&sql)) ||
              mr_pg_expect(pg, NULL, PGRES_COMMAND_OK, MR_PG_READ, doing, err);
    mr_buf_fini(&sql);
    mr_buf_fini(&snapshot);
    return ok;
}

bool mr_pg_log_look(struct mr_pg_log *log, struct mr_pg *pg, const char *seen,
                    struct mr_lookup *lookup, struct mr_pg_look *look, struct mr_error *err)
{
    *look = (struct mr_pg_look){0};
    bool ok = send(log, pg, seen, err), committed = false;
    if (!ok)
        return false;
    for (PGresult *res; (res = mr_pg_next(pg, MR_PG_REPLY_MS)); PQclear(res)) {
        ExecStatusType status = PQresultStatus(res);
        if (status == PGRES_TUPLES_OK)
            compare_facts(log, res, look);
        else if (status == PGRES_COPY_OUT)
            ok = ok && read_rows(log, pg, lookup, look, err);
        else if (status == PGRES_COMMAND_OK)
            committed = strcmp(PQcmdStatus(res), "COMMIT") == 0;
        else if (ok)
            ok = mr_pg_expect(pg, res, PGRES_COMMAND_OK, MR_PG_READ, doing, err);
        if (PQstatus(pg->conn) != CONNECTION_OK) {
            PQclear(res);
            break;
        }
    }
    if (ok && !(committed && look->snapshot && mr_pg_alive(pg)))
        ok = mr_pg_expect(pg, NULL, PGRES_COMMAND_OK, MR_PG_READ, doing, err);
    if (ok) {
        log->looked_us = look->now_us;
        log->looked = true;
    }
    return ok;
}

void mr_pg_look_fini(struct mr_pg_look *look)
{
    free(look->snapshot);
    *look = (struct mr_pg_look){0};
}
