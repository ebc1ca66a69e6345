/*
 * survey.c - what the server allows for a lookup today: which feeds, and what is missing for the
 * others.
 *
 * One thread; works on a connection that it is given, in one read-only transaction, and changes
 * nothing. What is missing is found and told by the queries themselves: a row each, in words that
 * say who gets it how. Must not know how a feed works. Tests: tests/unit/test_postgres_init.c.
 */
#include "postgres/feed.h"
#include "postgres/values.h"

#include <stdio.h>
#include <stdlib.h>

void mr_pg_put_array(struct mr_buf *out, const char *const *first, size_t n_first,
                     const char *const *second, size_t n_second)
{
    mr_buf_put_char(out, '{');
    for (size_t i = 0; i < n_first + n_second; i++) {
        mr_buf_put_text(out, i ? ",\"" : "\"");
        for (const char *c = i < n_first ? first[i] : second[i - n_first]; *c; c++) {
            if (*c == '"' || *c == '\\')
                mr_buf_put_char(out, '\\');
            mr_buf_put_char(out, *c);
        }
        mr_buf_put_char(out, '"');
    }
    mr_buf_put_char(out, '}');
}

/* --- the queries --- */

/* The table and the log by the user's search path; after it everything is found in pg_catalog, and
 * names print with their schema. */
static const char resolve_sql[] =
    "SELECT pg_catalog.to_regclass($1)::oid, pg_catalog.to_regclass($2)::oid, c.relkind, "
    "c.oid::regclass, pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true) "
    "FROM (SELECT) AS one "
    "LEFT JOIN pg_catalog.pg_class c ON c.oid = pg_catalog.to_regclass($1)";

/* $1 the table, $2 keys and columns ('{}': all). Of a table that has no partitions `parts` is the
 * table. `ident`: the columns of each part's replica identity, as far as it stands on an index. */
#define FACTS                                                                                      \
    "WITH t AS (SELECT c.*, c.oid::regclass::text AS name FROM pg_class c "                        \
    "WHERE c.oid = $1::oid), "                                                                     \
    "w AS (SELECT a.* FROM pg_attribute a WHERE a.attrelid = $1::oid AND a.attnum > 0 "            \
    "AND NOT a.attisdropped AND ($2::text[] = '{}' OR a.attname = ANY ($2::text[]))), "            \
    "parts AS (SELECT $1::oid AS oid UNION "                                                       \
    "SELECT relid::oid FROM pg_partition_tree($1::oid::regclass)), "                               \
    "ident AS (SELECT c.oid, c.relkind, c.relreplident, c.oid::regclass::text AS name, ("          \
    "SELECT array_agg(a.attname::text ORDER BY a.attname) FROM pg_index i "                        \
    "CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, n) "                \
    "JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum "                           \
    "WHERE i.indrelid = c.oid AND k.n <= i.indnkeyatts AND i.indisvalid AND i.indimmediate "       \
    "AND CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident "         \
    "ELSE false END) AS cols FROM parts JOIN pg_class c USING (oid)) "

/* What no feed of changes can be had for: more reaches it, or less, than SELECT sees. */
#define NOT_FOLLOWED                                                                               \
    "SELECT 10, format('%s is %s: only a table can be followed', name, CASE relkind "              \
    "WHEN 'v' THEN 'a view' WHEN 'm' THEN 'a materialized view' WHEN 'f' THEN 'a foreign table' "  \
    "ELSE 'no table' END) FROM t WHERE relkind NOT IN ('r', 'p') "                                 \
    "UNION ALL SELECT 11, format('row security hides rows of %s from role %I: its owner runs "     \
    "ALTER TABLE %s NO FORCE ROW LEVEL SECURITY, or a superuser ALTER ROLE %I BYPASSRLS', name, "  \
    "current_user, name, current_user) FROM t WHERE row_security_active(oid) "                     \
    "UNION ALL SELECT 12, format('%s has child tables by inheritance, whose changes come under "   \
    "their own names', name) FROM t WHERE relkind = 'r' "                                          \
    "AND EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = t.oid) "                            \
    "UNION ALL SELECT 13, format('partition %s is a foreign table', parts.oid::regclass) "         \
    "FROM parts JOIN pg_class c USING (oid) WHERE c.relkind = 'f' AND c.oid <> $1::oid "

/* $3 the publication. */
static const char logical_sql[] = FACTS
    ", p AS (SELECT b.*, to_jsonb(b) AS j FROM pg_publication b WHERE b.pubname = $3), "
    "v AS (SELECT to_jsonb(x) AS j FROM pg_publication_tables x JOIN t ON x.tablename = t.relname "
    "JOIN pg_namespace n ON n.oid = t.relnamespace AND n.nspname = x.schemaname "
    "WHERE x.pubname = $3), "
    "f AS (SELECT ident.* FROM ident JOIN t USING (oid) WHERE ident.relreplident <> 'f' "
    "AND ident.cols IS NULL) "
    "SELECT text FROM ("
    "SELECT 1 AS n, format('the server has version %s, the logical feed needs 14', "
    "current_setting('server_version')) AS text "
    "WHERE current_setting('server_version_num')::int < 140000 "
    "UNION ALL SELECT 2, 'the server is a standby: let `dsn` name the primary' "
    "WHERE pg_is_in_recovery() "
    "UNION ALL SELECT 3, format('wal_level is %s: a superuser runs ALTER SYSTEM SET wal_level = "
    "logical and restarts the server', current_setting('wal_level')) "
    "WHERE current_setting('wal_level') <> 'logical' "
    "UNION ALL SELECT 4, format('%s is 0: a superuser runs ALTER SYSTEM SET %s = 10 and restarts "
    "the server', name, name) FROM pg_settings "
    "WHERE name IN ('max_wal_senders', 'max_replication_slots') AND setting = '0' "
    "UNION ALL SELECT 5, format('role %I may not replicate: a superuser runs ALTER ROLE %I "
    "REPLICATION', r.rolname, r.rolname) FROM pg_roles r "
    "WHERE r.rolname IN (session_user, current_user) AND NOT r.rolsuper AND NOT r.rolreplication "
    "AND NOT EXISTS (SELECT FROM pg_roles g WHERE g.rolname = 'rds_replication' "
    "AND pg_has_role(r.oid, g.oid, 'MEMBER')) "
    "UNION ALL " NOT_FOLLOWED
    "UNION ALL SELECT 20, format('%s is not logged (UNLOGGED or TEMPORARY): its owner runs ALTER "
    "TABLE %s SET LOGGED', name, name) FROM t WHERE relpersistence <> 'p' "
    "UNION ALL SELECT 21, format('column %I is generated, which is not replicated: leave it out "
    "of `columns`', attname) FROM w WHERE attgenerated <> '' "
    "UNION ALL SELECT 22, format(CASE relreplident WHEN 'n' THEN '%s has REPLICA IDENTITY NOTHING' "
    "WHEN 'i' THEN '%s has lost the index of its replica identity' ELSE '%s has no primary key, so "
    "no replica identity' END || ': its owner runs ALTER TABLE %s ADD PRIMARY KEY (...) or ALTER "
    "TABLE %s REPLICA IDENTITY FULL; ' || CASE WHEN EXISTS (SELECT FROM v) THEN 'it is published "
    "already, so that UPDATE and DELETE on it fail for everybody' ELSE 'publish it only then: "
    "before, UPDATE and DELETE on it would fail for everybody' END, name, name, name) "
    "FROM f WHERE relkind IN ('r', 'p') "
    "UNION ALL SELECT 23, format('partition %s has another replica identity than %s: its owner "
    "gives it the same by ALTER TABLE %s REPLICA IDENTITY ...', i.name, r.name, i.name) "
    "FROM ident r JOIN ident i ON i.oid <> r.oid AND i.relkind = 'r' WHERE r.oid = $1::oid "
    "AND NOT EXISTS (SELECT FROM f) AND ((i.relreplident = 'f') <> (r.relreplident = 'f') "
    "OR i.cols IS DISTINCT FROM r.cols) "
    "UNION ALL SELECT 30, format('there is no publication %I: run `millrace init`, or let the "
    "owner of the table run CREATE PUBLICATION %I FOR TABLE %s%s', $3, $3, name, "
    "CASE relkind WHEN 'p' THEN ' WITH (publish_via_partition_root)' ELSE '' END) "
    "FROM t WHERE relkind IN ('r', 'p') AND NOT EXISTS (SELECT FROM p) "
    "UNION ALL SELECT 31, format('publication %I publishes the partitions of %s: its owner runs "
    "ALTER PUBLICATION %I SET (publish_via_partition_root)', $3, name, $3) "
    "FROM p JOIN t ON relkind = 'p' WHERE j ->> 'pubviaroot' <> 'true' "
    "UNION ALL SELECT 32, format('publication %I does not cover %s: its owner runs ALTER "
    "PUBLICATION %I ADD TABLE %s', $3, name, $3, name) FROM p JOIN t ON relkind = 'r' "
    "OR relkind = 'p' AND j ->> 'pubviaroot' = 'true' WHERE NOT EXISTS (SELECT FROM v) "
    "UNION ALL SELECT 33, format('publication %I leaves changes out: its owner runs ALTER "
    "PUBLICATION %I SET (publish = ''insert, update, delete, truncate'')', $3, $3) "
    "FROM p WHERE NOT (pubinsert AND pubupdate AND pubdelete AND pubtruncate) "
    "UNION ALL SELECT 34, format('publication %I has a row filter: its owner publishes %s whole', "
    "$3, name) FROM v CROSS JOIN t WHERE j ->> 'rowfilter' IS NOT NULL "
    "UNION ALL SELECT 35, format('publication %I leaves out the column %I: its owner publishes %s "
    "without a list of columns', $3, attname, name) FROM v CROSS JOIN t CROSS JOIN w "
    "WHERE j ? 'attnames' AND NOT j -> 'attnames' ? attname::text"
    ") AS s (n, text) ORDER BY n, text";

/* Columns of the identity: name, base type, is it text, as printed, is it one of ours. No row: it
 * is full, or there is none. */
static const char identity_sql[] = FACTS
    "SELECT a.attname, y.oid, y.typtype = 'e' OR y.typsend::oid::regproc::text IN "
    "('textsend', 'varcharsend', 'bpcharsend', 'namesend', 'citextsend') "
    "OR y.typsend::oid::regproc::text LIKE '%.citextsend', format_type(a.atttypid, a.atttypmod), "
    "EXISTS (SELECT FROM w WHERE w.attname = a.attname), "
    "NOT EXISTS (SELECT FROM w WHERE w.attname <> ALL (ident.cols)) "
    "FROM ident JOIN pg_attribute a ON a.attrelid = ident.oid AND a.attname = ANY (ident.cols) "
    "JOIN pg_type y ON y.oid = " MR_PG_BASE_TYPE(
        "a.atttypid") " WHERE ident.oid = $1::oid ORDER BY a.attnum";

/* $3 the log (null: not there), $4 as it was written, $5 its name without the schema. */
static const char changelog_sql[] = FACTS
    "SELECT text FROM ("
    "SELECT 2 AS n, 'the server is a standby: let `dsn` name the primary' AS text "
    "WHERE pg_is_in_recovery() "
    "UNION ALL SELECT 3, format('the server has version %s, the change-log feed needs 13', "
    "current_setting('server_version')) WHERE current_setting('server_version_num')::int < 130000 "
    "UNION ALL " NOT_FOLLOWED
    "UNION ALL SELECT 14, format('%s is filled by a subscription, whose writes run no statement "
    "triggers', parts.oid::regclass) FROM parts WHERE EXISTS (SELECT FROM pg_subscription_rel s "
    "WHERE s.srrelid = parts.oid) "
    "UNION ALL SELECT 20, format('there is no change-log %s: let the owner of %s run `millrace "
    "init`', $4::text, name) FROM t WHERE relkind IN ('r', 'p') AND $3::oid IS NULL "
    "UNION ALL SELECT 21, format('role %I may not read the change-log: its owner runs GRANT "
    "SELECT, DELETE ON %s TO %I', current_user, $3::oid::regclass, current_user) "
    "FROM pg_class WHERE oid = $3::oid AND NOT has_table_privilege(oid, 'SELECT') "
    "UNION ALL SELECT 22, format('the change-log %s lacks column %I of type %s: let the owner of "
    "%s run `millrace init`, which puts it right', $3::oid::regclass, o.name, "
    "format_type(o.typ, NULL), t.name) FROM t CROSS JOIN ("
    "SELECT w.attname, " MR_PG_BASE_TYPE(
        "w.atttypid") " FROM w UNION ALL VALUES "
                      "('millrace_seq', 20::oid), ('millrace_xid', 5069), ('millrace_at', 1184), "
                      "('millrace_op', 18)"
                      ") AS o (name, typ) WHERE $3::oid IS NOT NULL AND NOT EXISTS (SELECT FROM "
                      "pg_attribute a "
                      "WHERE a.attrelid = $3::oid AND a.attnum > 0 AND a.attname = o.name AND "
                      "a.atttypid = o.typ) "
                      "UNION ALL SELECT 23, format('triggers are missing or disabled on %s: let "
                      "its owner run "
                      "`millrace init`', string_agg(DISTINCT parts.oid::regclass::text, ', ')) "
                      "FROM parts "
                      "CROSS JOIN (VALUES ('insert'), ('update'), ('delete'), ('truncate')) AS o "
                      "(op) "
                      "JOIN pg_class l ON l.oid = $3::oid WHERE NOT EXISTS (SELECT FROM pg_trigger "
                      "g "
                      "JOIN pg_proc f ON f.oid = g.tgfoid AND f.pronamespace = l.relnamespace "
                      "AND f.proname = $5 || '_write' WHERE g.tgrelid = parts.oid "
                      "AND g.tgname = 'millrace_' || $5 || '_' || o.op AND g.tgenabled IN ('O', "
                      "'A')) "
                      "HAVING count(*) > 0"
                      ") AS s (n, text) ORDER BY n, text";

/* What init wants to know besides. */
static const char facts_sql[] = FACTS
    "SELECT relkind IN ('r', 'p'), EXISTS (SELECT FROM pg_publication WHERE pubname = $3), "
    "relreplident = 'f' OR EXISTS (SELECT FROM ident WHERE ident.oid = t.oid AND cols IS NOT NULL),"
    " relreplident = 'f', has_table_privilege($4::oid, 'DELETE'), "
    "has_table_privilege(oid, 'SELECT') OR NOT EXISTS (SELECT FROM w "
    "WHERE NOT has_column_privilege(t.oid, w.attnum, 'SELECT')), name, $4::oid::regclass FROM t";

/* --- asking --- */

struct asker {
    struct mr_pg *pg;
    const struct mr_postgres_feed_options *options;
    struct mr_pg_survey *out;
    struct mr_buf table, log, names; /* as SQL, and the array of keys and columns */
    char oid[16], log_oid[16];       /* of the table and the log; "": there is none */
};

static const char doing[] = "looking at what the server allows";

static PGresult *ask(struct asker *a, const char *sql, struct mr_pg_args *args,
                     struct mr_error *err)
{
    PGresult *res = mr_pg_query(a->pg, sql, args);
    if (mr_pg_expect(a->pg, res, PGRES_TUPLES_OK, MR_PG_READ, doing, err))
        return res;
    PQclear(res);
    return NULL;
}

static struct mr_pg_args args_of(struct asker *a)
{
    struct mr_pg_args args = {0};
    mr_pg_arg_text(&args, a->oid);
    mr_pg_arg_text(&args, mr_buf_cstr(&a->names));
    return args;
}

static void append(char *text, size_t size, const char *sentence)
{
    size_t len = strlen(text);
    snprintf(text + len, size - len, "%s%s", len ? "; " : "", sentence);
}

/* All that is missing, as one sentence. */
static bool ask_missing(struct asker *a, const char *sql, struct mr_pg_args *args, char *text,
                        size_t size, struct mr_error *err)
{
    PGresult *res = ask(a, sql, args, err);
    for (int i = 0; res && i < PQntuples(res); i++)
        append(text, size, PQgetvalue(res, i, 0));
    PQclear(res);
    return res != NULL;
}

static bool resolve(struct asker *a, struct mr_error *err)
{
    const char *table = a->options->lookup.table;
    struct mr_pg_args args = {0};
    if (!mr_pg_put_table(&a->table, table, err) ||
        (a->options->changelog && !mr_pg_put_table(&a->log, a->options->changelog, err)))
        return false;
    mr_pg_arg_text(&args, mr_buf_cstr(&a->table));
    mr_pg_arg_text(&args, a->options->changelog ? mr_buf_cstr(&a->log) : NULL);
    PGresult *res = ask(a, resolve_sql, &args, err);
    if (!res)
        return false;
    snprintf(a->oid, sizeof a->oid, "%s", PQgetvalue(res, 0, 0));
    snprintf(a->log_oid, sizeof a->log_oid, "%s", PQgetvalue(res, 0, 1));
    PQclear(res);
    return *a->oid ||
           mr_error_set(err, MR_STOP, MR_EXIT_CONFIG,
                        "there is no table %s in database \"%s\", as \"%s\" sees it: name it with "
                        "its schema, or create it",
                        table, PQdb(a->pg->conn), PQuser(a->pg->conn));
}

static bool is_true(const PGresult *res, int field)
{
    return *PQgetvalue(res, 0, field) == 't';
}

static bool ask_facts(struct asker *a, struct mr_error *err)
{
    struct mr_pg_survey *out = a->out;
    struct mr_pg_args args = args_of(a);
    mr_pg_arg_text(&args, a->options->publication);
    mr_pg_arg_text(&args, *a->log_oid ? a->log_oid : NULL);
    PGresult *res = ask(a, facts_sql, &args, err);
    if (!res)
        return false;
    out->is_table = is_true(res, 0);
    out->published = is_true(res, 1);
    out->identified = is_true(res, 2);
    out->whole = is_true(res, 3);
    out->may_trim = is_true(res, 4);
    out->logged = *a->log_oid != '\0';
    bool ok = is_true(res, 5) ||
              mr_error_set(err, MR_STOP, MR_EXIT_CONFIG,
                           "role \"%s\" may not read %s: its owner runs GRANT SELECT ON %s TO %s",
                           PQuser(a->pg->conn), PQgetvalue(res, 0, 6), PQgetvalue(res, 0, 6),
                           PQuser(a->pg->conn));
    PQclear(res);
    return ok;
}

/* Names of the columns that tell a row which was deleted, unless its key and columns do. */
static bool ask_identity(struct asker *a, struct mr_error *err)
{
    struct mr_pg_survey *out = a->out;
    struct mr_pg_args args = args_of(a);
    PGresult *res = ask(a, identity_sql, &args, err);
    if (!res)
        return false;
    size_t n = (size_t)PQntuples(res), text_len = 0;
    out->whole = out->whole || (n && is_true(res, 5));
    if (out->whole)
        n = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t oid = (uint32_t)strtoul(PQgetvalue(res, (int)i, 1), NULL, 10);
        text_len += strlen(PQgetvalue(res, (int)i, 0)) + 1;
        if (mr_pg_decoded_type(oid, *PQgetvalue(res, (int)i, 2) == 't') != MR_NULL)
            continue;
        char sentence[256];
        snprintf(sentence, sizeof sentence,
                 "column \"%.64s\" of the replica identity has type %.64s, which a lookup cannot "
                 "carry: its owner runs ALTER TABLE ... REPLICA IDENTITY FULL",
                 PQgetvalue(res, (int)i, 0), PQgetvalue(res, (int)i, 3));
        append(out->no_logical, sizeof out->no_logical, sentence);
    }
    out->ids = n ? mr_calloc(n, sizeof *out->ids) : NULL;
    char *at = out->text = n ? mr_alloc(text_len) : NULL;
    for (; out->n_ids < n; out->n_ids++) {
        const char *name = PQgetvalue(res, (int)out->n_ids, 0);
        out->ids[out->n_ids] = at;
        memcpy(at, name, strlen(name) + 1);
        at += strlen(name) + 1;
    }
    PQclear(res);
    return true;
}

static bool ask_changelog(struct asker *a, struct mr_error *err)
{
    struct mr_pg_survey *out = a->out;
    char name[MR_PG_LOG_NAME_MAX + 1];
    struct mr_error refused;
    if (!a->options->changelog) {
        append(out->no_changelog, sizeof out->no_changelog,
               "no `changelog` is named in the configuration");
        return true;
    }
    if (!mr_pg_log_name(a->options->changelog, name, &refused)) {
        append(out->no_changelog, sizeof out->no_changelog, refused.msg);
        return true;
    }
    struct mr_pg_args args = args_of(a);
    mr_pg_arg_text(&args, *a->log_oid ? a->log_oid : NULL);
    mr_pg_arg_text(&args, a->options->changelog);
    mr_pg_arg_text(&args, name);
    return ask_missing(a, changelog_sql, &args, out->no_changelog, sizeof out->no_changelog, err);
}

static bool ask_all(struct asker *a, struct mr_error *err)
{
    const struct mr_postgres_lookup_options *o = &a->options->lookup;
    mr_pg_put_array(&a->names, o->keys, o->n_columns ? o->n_keys : 0, o->columns, o->n_columns);
    if (!resolve(a, err))
        return false;
    struct mr_pg_args args = args_of(a);
    mr_pg_arg_text(&args, a->options->publication);
    return ask_facts(a, err) &&
           ask_missing(a, logical_sql, &args, a->out->no_logical, sizeof a->out->no_logical, err) &&
           ask_identity(a, err) && ask_changelog(a, err);
}

static bool execute(struct mr_pg *pg, const char *sql, struct mr_error *err)
{
    PGresult *res = mr_pg_query(pg, sql, NULL);
    bool ok = mr_pg_expect(pg, res, PGRES_COMMAND_OK, MR_PG_READ, doing, err);
    PQclear(res);
    return ok;
}

bool mr_pg_survey_make(struct mr_pg *pg, const struct mr_postgres_feed_options *options,
                       struct mr_pg_survey *out, struct mr_error *err)
{
    static const char query[] = "the lookup is a `query`: only a `table` can be followed";
    struct asker a = {.pg = pg, .options = options, .out = out};
    *out = (struct mr_pg_survey){0};
    if (options->lookup.query) {
        append(out->no_logical, sizeof out->no_logical, query);
        append(out->no_changelog, sizeof out->no_changelog, query);
        return true;
    }
    if (!pg)
        return true;
    bool ok = execute(pg, "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY", err) &&
              ask_all(&a, err) && execute(pg, "COMMIT", err);
    if (!ok) {
        if (mr_pg_alive(pg))
            PQclear(mr_pg_query(pg, "ROLLBACK", NULL));
        mr_pg_survey_free(out);
    }
    mr_buf_fini(&a.table);
    mr_buf_fini(&a.log);
    mr_buf_fini(&a.names);
    return ok;
}

void mr_pg_survey_free(struct mr_pg_survey *survey)
{
    free(survey->ids);
    free(survey->text);
    *survey = (struct mr_pg_survey){0};
}

bool mr_pg_survey_choose(const struct mr_pg_survey *survey,
                         const struct mr_postgres_feed_options *options, enum mr_feed_kind *kind,
                         struct mr_buf *why, struct mr_error *err)
{
    const char *missing = "";
    mr_buf_reset(why);
    switch (options->refresh) {
    case MR_POSTGRES_REFRESH_RELOAD:
        *kind = MR_FEED_RELOAD;
        mr_buf_put_text(why, "`refresh` says so");
        break;
    case MR_POSTGRES_REFRESH_LOGICAL:
        *kind = MR_FEED_LOGICAL;
        missing = survey->no_logical;
        mr_buf_put_text(why, "`refresh` says so");
        break;
    case MR_POSTGRES_REFRESH_CHANGELOG:
        *kind = MR_FEED_CHANGELOG;
        missing = survey->no_changelog;
        mr_buf_put_text(why, "`refresh` says so");
        break;
    case MR_POSTGRES_REFRESH_AUTO:
        *kind = !*survey->no_logical     ? MR_FEED_LOGICAL
                : !*survey->no_changelog ? MR_FEED_CHANGELOG
                                         : MR_FEED_RELOAD;
        if (*kind == MR_FEED_LOGICAL)
            mr_buf_put_text(why, "the server allows the best there is");
        else
            mr_buf_printf(why, "no logical feed: %s", survey->no_logical);
        if (*kind == MR_FEED_RELOAD)
            mr_buf_printf(why, "; no change-log feed: %s", survey->no_changelog);
        break;
    }
    return !*missing ||
           mr_error_set(err, MR_STOP, MR_EXIT_CONFIG, "refresh = \"%s\" is not possible: %s",
                        mr_feed_kind_name(*kind), missing);
}
