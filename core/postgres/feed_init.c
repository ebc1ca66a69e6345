/*
 * feed_init.c - `millrace init` for a lookup: the publication, and the change-log with its function
 * and triggers; and what `millrace check --connect` says of its feeds.
 *
 * One thread a call; owns its connection for the length of the call. The SQL finds out by itself
 * what is there, so that what is printed and what is run are the same text. Must not touch server
 * settings, nor put a trigger on a table unless a change-log is named. Tests:
 * tests/unit/test_postgres_init.c, tests/integration/lookup_init_spec.lua.
 */
#include "postgres/feed.h"

#include <stdio.h>

/* --- the SQL --- */

/* What both blocks begin with. %s: the table, as SQL in a literal. */
#define BLOCK_BEGIN                                                                                \
    "    path text := pg_catalog.current_setting('search_path');\n"                                \
    "BEGIN\n"                                                                                      \
    "    PERFORM pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended("                    \
    "'millrace init', 0));\n"                                                                      \
    "    -- Whoever waits for a lock on a busy table makes others wait behind him.\n"              \
    "    IF pg_catalog.current_setting('lock_timeout') = '0' THEN\n"                               \
    "        PERFORM pg_catalog.set_config('lock_timeout', '5s', true);\n"                         \
    "    END IF;\n"

static const char publication_comment[] =
    "-- The logical feed reads this publication. It is made only if the table has a replica\n"
    "-- identity: a published table without one refuses every UPDATE and DELETE, also the\n"
    "-- application's own. The server must have wal_level = logical, and the role that Millrace\n"
    "-- connects as must have REPLICATION; neither is changed here:\n"
    "--   ALTER SYSTEM SET wal_level = logical;  -- then restart the server\n"
    "--   ALTER ROLE ... REPLICATION;\n";

static const char publication_sql[] =
    "DO $millrace$\n"
    "DECLARE\n"
    "    source pg_catalog.regclass := %s;\n"
    "    name text := %s;\n"
    "    bare text;\n" BLOCK_BEGIN
    "    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);\n"
    "    -- The table, or a partition, whose rows nothing tells apart.\n"
    "    SELECT c.oid::regclass INTO bare\n"
    "    FROM pg_class c\n"
    "    WHERE (c.oid = source OR c.oid IN (SELECT relid FROM pg_partition_tree(source)))\n"
    "        AND c.relreplident <> 'f'\n"
    "        AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisvalid\n"
    "            AND i.indimmediate AND CASE c.relreplident WHEN 'd' THEN i.indisprimary\n"
    "                WHEN 'i' THEN i.indisreplident ELSE false END)\n"
    "    LIMIT 1;\n"
    "    IF NOT EXISTS (SELECT FROM pg_class WHERE oid = source AND relkind IN ('r', 'p')) THEN\n"
    "        RAISE WARNING '%% is no table: it is not published', source;\n"
    "    ELSIF bare IS NOT NULL THEN\n"
    "        RAISE WARNING '%% has no replica identity: it is not published', bare\n"
    "            USING HINT = 'ALTER TABLE ... ADD PRIMARY KEY, or REPLICA IDENTITY FULL';\n"
    "    ELSIF NOT EXISTS (SELECT FROM pg_publication WHERE pubname = name) THEN\n"
    "        EXECUTE format('CREATE PUBLICATION %%I FOR TABLE %%s', name, source)\n"
    "            || CASE WHEN (SELECT relkind FROM pg_class WHERE oid = source) = 'p'\n"
    "                THEN ' WITH (publish_via_partition_root = true)' ELSE '' END;\n"
    "    END IF;\n"
    "    PERFORM set_config('search_path', path, true);\n"
    "END $millrace$;\n";

static const char changelog_comment[] =
    "-- The change-log feed: triggers write what changes in the table into a log of its own, and\n"
    "-- Millrace reads that and trims it. A statement whose changes cannot be written to the log\n"
    "-- fails, lest a change be lost. They fire always, also under session_replication_role =\n"
    "-- replica. After ALTER TABLE on the key or columns of the lookup, and for a new partition,\n"
    "-- run this again: until then Millrace reads the whole table instead.\n"
    "-- Run it as the owner of the table. A role of Millrace's that is another one needs, besides\n"
    "-- SELECT on the table:\n"
    "--   GRANT SELECT, DELETE ON <the log> TO ...;\n";

/* The log as it ought to be: `wanted` as "name type", `names` quoted, `types` for the trigger. Base
 * types without a length: what the table holds always fits. */
#define WANTED_SQL                                                                                 \
    "    SELECT array_agg(format('%%I %%s', a.attname, format_type(b.typ, -1)) "                   \
    "ORDER BY a.attname),\n"                                                                       \
    "        string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum),\n"                        \
    "        string_agg(format('(%%L, %%s::pg_catalog.oid)', a.attname, a.atttypid), ', '),\n"     \
    "        string_agg(format('(pg_catalog.array_agg(u.%%I))[1]', a.attname), ', ' "              \
    "ORDER BY a.attnum),\n"                                                                        \
    "        string_agg(format('u.%%I', a.attname), ', ' ORDER BY a.attnum), count(*)\n"           \
    "    INTO wanted, names, types, firsts, images, n\n"                                           \
    "    FROM pg_attribute a\n"                                                                    \
    "    CROSS JOIN LATERAL (SELECT " MR_PG_BASE_TYPE(                                             \
        "a.atttypid") " AS typ) b\n"                                                               \
                      "    WHERE a.attrelid = source AND a.attnum > 0 AND NOT a.attisdropped\n"    \
                      "        AND (columns = '{}' OR a.attname = ANY (columns));\n"               \
                      "    IF n < (SELECT count(DISTINCT c) FROM unnest(columns) c) THEN\n"        \
                      "        RAISE EXCEPTION '%% lacks a column of %%', source, columns;\n"      \
                      "    END IF;\n"

#define LOG_SQL                                                                                    \
    "    IF log IS NULL THEN\n"                                                                    \
    "        EXECUTE format('CREATE TABLE %%I.%%I (millrace_seq bigserial PRIMARY KEY, '\n"        \
    "            'millrace_xid xid8 NOT NULL DEFAULT pg_catalog.pg_current_xact_id(), '\n"         \
    "            'millrace_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(), '\n"      \
    "            'millrace_op \"char\" NOT NULL, %%s) WITH (autovacuum_vacuum_scale_factor = '\n"  \
    "            '0.01, autovacuum_vacuum_threshold = 20000)', home, name,\n"                      \
    "            array_to_string(wanted, ', '));\n"                                                \
    "        log := format('%%I.%%I', home, name);\n"                                              \
    "        EXECUTE format('CREATE INDEX ON %%s (millrace_xid)', log);\n"                         \
    "        EXECUTE format('COMMENT ON TABLE %%s IS %%L', log,\n"                                 \
    "            format('Millrace: what changed in %%s, written by triggers', source));\n"         \
    "        anew := true;\n"                                                                      \
    "    ELSIF NOT EXISTS (SELECT FROM pg_attribute\n"                                             \
    "        WHERE attrelid = log AND attname = 'millrace_xid') THEN\n"                            \
    "        RAISE EXCEPTION '%% is a table, but no change-log: choose another name', log;\n"      \
    "    ELSIF EXISTS (SELECT FROM pg_trigger g\n"                                                 \
    "        WHERE g.tgfoid = to_regproc(format('%%I.%%I', home, name || '_write'))\n"             \
    "            AND g.tgrelid <> source\n"                                                        \
    "            AND g.tgrelid NOT IN (SELECT relid FROM pg_partition_tree(source))) THEN\n"       \
    "        RAISE EXCEPTION '%% is the change-log of another table: choose another name', log;\n" \
    "    ELSE\n"                                                                                   \
    "        SELECT array_agg(format('%%I %%s', attname, format_type(atttypid, atttypmod))\n"      \
    "                ORDER BY attname),\n"                                                         \
    "            string_agg(format('DROP COLUMN %%I', attname), ', ')\n"                           \
    "        INTO there, drops\n"                                                                  \
    "        FROM pg_attribute\n"                                                                  \
    "        WHERE attrelid = log AND attnum > 0 AND NOT attisdropped AND attname NOT IN\n"        \
    "            ('millrace_seq', 'millrace_xid', 'millrace_at', 'millrace_op');\n"                \
    "        IF there IS DISTINCT FROM wanted THEN\n"                                              \
    "            EXECUTE format('LOCK TABLE %%s IN SHARE ROW EXCLUSIVE MODE', source);\n"          \
    "            EXECUTE format('TRUNCATE %%s', log);\n"                                           \
    "            EXECUTE format('ALTER TABLE %%s %%s', log, concat_ws(', ', drops,\n"              \
    "                'ADD COLUMN ' || array_to_string(wanted, ', ADD COLUMN ')));\n"               \
    "            anew := true;\n"                                                                  \
    "        END IF;\n"                                                                            \
    "    END IF;\n"

/* Rows are netted: an UPDATE that leaves key and columns alone writes nothing. The image is the
 * row as it prints, under settings that print every bit. */
#define FUNCTION_SQL                                                                               \
    "    EXECUTE format('CREATE OR REPLACE FUNCTION %%I.%%I() RETURNS trigger LANGUAGE plpgsql "   \
    "'\n"                                                                                          \
    "        'SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET \"TimeZone\" = ''UTC'' "  \
    "'\n"                                                                                          \
    "        'SET \"DateStyle\" = ''ISO'' SET extra_float_digits = 1 AS %%L', home,\n"             \
    "        name || '_write', format($body$\n"                                                    \
    "BEGIN\n"                                                                                      \
    "    IF TG_OP = 'TRUNCATE' OR (SELECT count(*) FROM pg_attribute a WHERE a.attrelid = "        \
    "TG_RELID\n"                                                                                   \
    "        AND NOT a.attisdropped AND (a.attname, a.atttypid) IN (%%1$s)) <> %%2$s THEN\n"       \
    "        -- Not row by row: the table must be read again.\n"                                   \
    "        INSERT INTO %%3$s (millrace_op) VALUES (CASE TG_OP WHEN 'TRUNCATE' THEN 'T' "         \
    "ELSE 'R' END);\n"                                                                             \
    "    ELSIF TG_OP = 'INSERT' THEN\n"                                                            \
    "        INSERT INTO %%3$s (millrace_op, %%4$s) SELECT 'I', %%4$s FROM millrace_new;\n"        \
    "    ELSIF TG_OP = 'DELETE' THEN\n"                                                            \
    "        INSERT INTO %%3$s (millrace_op, %%4$s) SELECT 'D', %%4$s FROM millrace_old;\n"        \
    "    ELSE\n"                                                                                   \
    "        INSERT INTO %%3$s (millrace_op, %%4$s)\n"                                             \
    "        SELECT CASE WHEN g.millrace_n < 0 THEN 'D' ELSE 'I' END, %%4$s\n"                     \
    "        FROM (SELECT pg_catalog.sum(u.millrace_n), %%5$s\n"                                   \
    "            FROM (SELECT -1 AS millrace_n, %%4$s FROM millrace_old\n"                         \
    "                UNION ALL SELECT 1, %%4$s FROM millrace_new) AS u\n"                          \
    "            GROUP BY ROW(%%6$s)::text COLLATE \"C\"\n"                                        \
    "            HAVING pg_catalog.sum(u.millrace_n) <> 0) AS g (millrace_n, %%4$s)\n"             \
    "        CROSS JOIN pg_catalog.generate_series(1, pg_catalog.abs(g.millrace_n)) AS s "         \
    "(millrace_i);\n"                                                                              \
    "    END IF;\n"                                                                                \
    "    IF FOUND THEN\n"                                                                          \
    "        PERFORM pg_catalog.pg_notify(%%7$L, '');\n"                                           \
    "    END IF;\n"                                                                                \
    "    RETURN NULL;\n"                                                                           \
    "END $body$, types, n, log, names, firsts, images, 'millrace_' || name));\n"                   \
    "    EXECUTE format('REVOKE ALL ON FUNCTION %%I.%%I() FROM PUBLIC', home, name || "            \
    "'_write');\n"

/* On the table and on each partition: a statement fires the triggers of the one that it names. */
#define TRIGGERS_SQL                                                                               \
    "    FOR part, op, refs IN\n"                                                                  \
    "        SELECT c.oid::regclass, o.op, o.refs\n"                                               \
    "        FROM pg_class c CROSS JOIN (VALUES ('insert', 'REFERENCING NEW TABLE AS "             \
    "millrace_new'),\n"                                                                            \
    "            ('update', 'REFERENCING OLD TABLE AS millrace_old NEW TABLE AS millrace_new'),\n" \
    "            ('delete', 'REFERENCING OLD TABLE AS millrace_old'), ('truncate', '')) "          \
    "AS o (op, refs)\n"                                                                            \
    "        WHERE (c.oid = source OR c.oid IN (SELECT relid FROM pg_partition_tree(source)))\n"   \
    "            AND NOT EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = c.oid\n"               \
    "                AND g.tgname = 'millrace_' || name || '_' || o.op AND g.tgenabled = 'A')\n"   \
    "    LOOP\n"                                                                                   \
    "        trigger_name := 'millrace_' || name || '_' || op;\n"                                  \
    "        IF EXISTS (SELECT FROM pg_trigger WHERE tgrelid = part AND tgname = trigger_name) "   \
    "THEN\n"                                                                                       \
    "            EXECUTE format('DROP TRIGGER %%I ON %%s', trigger_name, part);\n"                 \
    "        END IF;\n"                                                                            \
    "        EXECUTE format('CREATE TRIGGER %%I AFTER %%s ON %%s %%s FOR EACH STATEMENT '\n"       \
    "            'EXECUTE FUNCTION %%I.%%I()', trigger_name, op, part, refs, home, name || "       \
    "'_write');\n"                                                                                 \
    "        EXECUTE format('ALTER TABLE %%s ENABLE ALWAYS TRIGGER %%I', part, trigger_name);\n"   \
    "        anew := true;\n"                                                                      \
    "    END LOOP;\n"                                                                              \
    "    -- Whoever follows the log has missed something: read the table again.\n"                 \
    "    IF anew THEN\n"                                                                           \
    "        EXECUTE format('INSERT INTO %%s (millrace_op) VALUES (''R'')', log);\n"               \
    "    END IF;\n"

static const char changelog_sql[] =
    "DO $millrace$\n"
    "DECLARE\n"
    "    source pg_catalog.regclass := %s;\n"
    "    columns text[] := %s;  -- key and columns of the lookup; empty: all\n"
    "    name text := %s;\n"
    "    log pg_catalog.regclass := pg_catalog.to_regclass(%s);\n"
    "    home text := %s;\n"
    "    wanted text[]; there text[];\n"
    "    names text; types text; firsts text; images text; drops text; n bigint;\n"
    "    part pg_catalog.regclass; op text; refs text; trigger_name text;\n"
    "    anew boolean := false;\n" BLOCK_BEGIN
    "    home := COALESCE((SELECT s.nspname FROM pg_catalog.pg_class c\n"
    "        JOIN pg_catalog.pg_namespace s ON s.oid = c.relnamespace WHERE c.oid = log),\n"
    "        home, pg_catalog.current_schema());\n"
    "    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);\n"
    /* */ WANTED_SQL LOG_SQL FUNCTION_SQL TRIGGERS_SQL
    "    PERFORM set_config('search_path', path, true);\n"
    "END $millrace$;\n";

static bool wants_publication(const struct mr_postgres_feed_options *o)
{
    return !o->lookup.query &&
           (o->refresh == MR_POSTGRES_REFRESH_AUTO || o->refresh == MR_POSTGRES_REFRESH_LOGICAL);
}

static bool wants_changelog(const struct mr_postgres_feed_options *o)
{
    return !o->lookup.query && o->changelog &&
           (o->refresh == MR_POSTGRES_REFRESH_AUTO || o->refresh == MR_POSTGRES_REFRESH_CHANGELOG);
}

/* A name as SQL, in a literal. */
static bool put_table_literal(struct mr_buf *out, const char *table, struct mr_error *err)
{
    struct mr_buf name = {0};
    bool ok = mr_pg_put_table(&name, table, err);
    mr_pg_put_literal(out, mr_buf_cstr(&name));
    mr_buf_fini(&name);
    return ok;
}

/* The literals stand inside the block's quotes. */
static bool fits_in_quotes(const struct mr_buf *sql, const char *what, struct mr_error *err)
{
    return !memmem(sql->ptr, sql->len, "$millrace$", 10) ||
           mr_error_set(err, MR_STOP, MR_EXIT_CONFIG, "%s may not contain $millrace$", what);
}

static bool put_publication(struct mr_buf *sql, const struct mr_postgres_feed_options *o,
                            struct mr_error *err)
{
    struct mr_buf table = {0}, name = {0};
    bool ok = put_table_literal(&table, o->lookup.table, err);
    mr_pg_put_literal(&name, o->publication);
    ok =
        ok && fits_in_quotes(&table, "`table`", err) && fits_in_quotes(&name, "`publication`", err);
    if (ok)
        mr_buf_printf(sql, publication_sql, mr_buf_cstr(&table), mr_buf_cstr(&name));
    mr_buf_fini(&table);
    mr_buf_fini(&name);
    return ok;
}

static bool put_changelog(struct mr_buf *sql, const struct mr_postgres_feed_options *o,
                          struct mr_error *err)
{
    const struct mr_postgres_lookup_options *l = &o->lookup;
    struct mr_buf table = {0}, log = {0}, names = {0}, columns = {0}, name = {0}, home = {0};
    char bare[MR_PG_LOG_NAME_MAX + 1], schema[MR_PG_IDENT_SIZE];
    bool ok = put_table_literal(&table, l->table, err) && mr_pg_log_name(o->changelog, bare, err) &&
              put_table_literal(&log, o->changelog, err);
    if (!ok)
        goto out;
    mr_pg_put_array(&names, l->keys, l->n_columns ? l->n_keys : 0, l->columns, l->n_columns);
    mr_pg_put_literal(&columns, mr_buf_cstr(&names));
    mr_pg_put_literal(&name, bare);
    if (mr_pg_schema_name(o->changelog, schema))
        mr_pg_put_literal(&home, schema);
    else
        mr_buf_put_text(&home, "NULL");
    ok = fits_in_quotes(&table, "`table`", err) && fits_in_quotes(&log, "`changelog`", err) &&
         fits_in_quotes(&columns, "a column's name", err);
    if (ok)
        mr_buf_printf(sql, changelog_sql, mr_buf_cstr(&table), mr_buf_cstr(&columns),
                      mr_buf_cstr(&name), mr_buf_cstr(&log), mr_buf_cstr(&home));
out:
    mr_buf_fini(&table);
    mr_buf_fini(&log);
    mr_buf_fini(&names);
    mr_buf_fini(&columns);
    mr_buf_fini(&name);
    mr_buf_fini(&home);
    return ok;
}

static bool put_all(struct mr_buf *sql, const struct mr_postgres_feed_options *o,
                    struct mr_error *err)
{
    if (!wants_publication(o) && !wants_changelog(o))
        mr_buf_put_text(sql, "-- The table is read again at an interval, which needs nothing but "
                             "SELECT.\n");
    if (wants_publication(o)) {
        mr_buf_put_text(sql, publication_comment);
        if (!put_publication(sql, o, err))
            return false;
    }
    if (wants_changelog(o)) {
        mr_buf_put_text(sql, changelog_comment);
        if (!put_changelog(sql, o, err))
            return false;
    }
    return true;
}

/* --- for init --- */

static bool connect_as(struct mr_pg *pg, const struct mr_postgres_feed_options *o,
                       const char *application_name, bool reader, struct mr_error *err)
{
    mr_pg_fini(pg);
    mr_pg_init(pg, o->lookup.dsn, application_name, reader);
    pg->cancel = o->lookup.cancel;
    pg->interruptible = true;
    return mr_pg_connect(pg, err);
}

/* What is refused is told, and no error: there may be a feed without it. False: connection lost. */
static bool run(struct mr_pg *pg, const struct mr_buf *sql, const char *what, struct mr_buf *report,
                struct mr_error *err)
{
    char doing[128];
    struct mr_buf text = {0};
    snprintf(doing, sizeof doing, "making the %s", what);
    mr_buf_put(&text, sql->ptr, sql->len);
    PGresult *res = mr_pg_query(pg, mr_buf_cstr(&text), NULL);
    bool ok = mr_pg_expect(pg, res, PGRES_COMMAND_OK, MR_PG_OURS, doing, err);
    if (!ok && mr_pg_alive(pg)) {
        mr_buf_printf(report, "%s; `millrace init --print` shows the SQL for somebody who may\n",
                      err->msg);
        ok = true;
    }
    PQclear(res);
    mr_buf_fini(&text);
    return ok;
}

static bool make(struct mr_pg *pg, const struct mr_postgres_feed_options *o,
                 const struct mr_pg_survey *before, struct mr_buf *report, struct mr_error *err)
{
    struct mr_buf sql = {0};
    bool ok = true;
    if (wants_publication(o) && before->is_table && before->identified && !before->published)
        ok = put_publication(&sql, o, err) && run(pg, &sql, "publication", report, err);
    mr_buf_reset(&sql);
    if (ok && wants_changelog(o) && before->is_table)
        ok = put_changelog(&sql, o, err) && run(pg, &sql, "change-log", report, err);
    mr_buf_fini(&sql);
    return ok;
}

/* One line for each feed that the options allow: it can be had, or what is missing. */
static void put_feeds(struct mr_buf *report, const struct mr_postgres_feed_options *o,
                      const struct mr_pg_survey *now)
{
    if (wants_publication(o))
        mr_buf_printf(report, "logical feed: %s\n",
                      *now->no_logical ? now->no_logical : "all that it needs is there");
    if (o->refresh != MR_POSTGRES_REFRESH_CHANGELOG && !wants_changelog(o))
        return;
    mr_buf_printf(report, "change-log feed: %s%s\n",
                  *now->no_changelog ? now->no_changelog : "all that it needs is there",
                  *now->no_changelog || now->may_trim
                      ? ""
                      : ", but the right to DELETE from it: it will grow, until its owner grants "
                        "that");
}

bool mr_postgres_feed_init(const struct mr_postgres_feed_options *options, bool print_only,
                           struct mr_buf *sql_out, struct mr_buf *report, struct mr_error *err)
{
    struct mr_pg pg = {0};
    struct mr_pg_survey before = {0}, after = {0};
    struct mr_buf sql = {0}, why = {0};
    enum mr_feed_kind kind;
    bool ok = put_all(&sql, options, err);
    if (ok && sql_out)
        mr_buf_put(sql_out, sql.ptr, sql.len);
    if (!ok || print_only)
        goto out;
    /* Where nothing can be written (a standby) a lookup can be read all the same. */
    ok = (connect_as(&pg, options, "millrace/init", false, err) ||
          connect_as(&pg, options, "millrace/init", true, err)) &&
         mr_pg_survey_make(&pg, options, &before, err) &&
         make(&pg, options, &before, report, err) && mr_pg_survey_make(&pg, options, &after, err);
    if (!ok)
        goto out;
    if (wants_publication(options) && after.published)
        mr_buf_printf(report, "publication %s %s\n", options->publication,
                      before.published ? "was there" : "made");
    if (wants_changelog(options) && after.logged)
        mr_buf_printf(report, "change-log %s %s\n", options->changelog,
                      before.logged ? "was there" : "made");
    put_feeds(report, options, &after);
    ok = mr_pg_survey_choose(&after, options, &kind, &why, err);
    if (ok)
        mr_buf_printf(report, "feed: %s\n", mr_feed_kind_name(kind));
out:
    mr_pg_survey_free(&before);
    mr_pg_survey_free(&after);
    mr_pg_fini(&pg);
    mr_buf_fini(&sql);
    mr_buf_fini(&why);
    return ok;
}

/* --- for check --- */

bool mr_postgres_feed_check(const struct mr_postgres_feed_options *options, struct mr_buf *report,
                            struct mr_error *err)
{
    struct mr_pg pg = {0};
    struct mr_pg_survey now = {0};
    struct mr_buf why = {0};
    enum mr_feed_kind kind;
    bool ok = connect_as(&pg, options, "millrace/check", true, err) &&
              mr_pg_survey_make(&pg, options, &now, err);
    if (!ok)
        goto out;
    ok = mr_pg_survey_choose(&now, options, &kind, &why, err);
    if (ok)
        mr_buf_printf(report, "feed: %s\n", mr_feed_kind_name(kind));
    if (ok && kind != MR_FEED_LOGICAL)
        put_feeds(report, options, &now);
out:
    mr_pg_survey_free(&now);
    mr_pg_fini(&pg);
    mr_buf_fini(&why);
    return ok;
}
