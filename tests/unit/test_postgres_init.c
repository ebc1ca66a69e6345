/*
 * test_postgres_init.c - what the server allows for a lookup, what init makes of it, and what the
 * triggers of a change-log write. On a real server.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "support/side.h"
#include "postgres/feed.h"

#include <stdio.h>
#include <stdlib.h>

static struct mr_postgres_feed_options options_of(const char *table, const char *changelog)
{
    static const char *const keys[] = {"restaurant"}, *const columns[] = {"client"};
    return (struct mr_postgres_feed_options){.lookup = {.name = "l",
                                                        .dsn = dsn,
                                                        .table = table,
                                                        .keys = keys,
                                                        .n_keys = 1,
                                                        .columns = columns,
                                                        .n_columns = 1,
                                                        .distinct = true},
                                             .interval_ms = 60000,
                                             .publication = "millrace_test",
                                             .changelog = changelog};
}

static void start(const char *schema)
{
    ask("DROP PUBLICATION IF EXISTS millrace_test");
    fresh(schema);
}

static struct mr_pg_survey survey(const struct mr_postgres_feed_options *options)
{
    struct mr_pg pg = {0};
    struct mr_pg_survey out;
    struct mr_error err = {0};
    mr_pg_init(&pg, dsn, "millrace/lookup/l", true);
    if (!mr_pg_connect(&pg, &err) || !mr_pg_survey_make(&pg, options, &out, &err))
        fail_msg("%s", err.msg);
    mr_pg_fini(&pg);
    return out;
}

static void expect_survey(const struct mr_postgres_feed_options *options, const char *logical,
                          const char *changelog)
{
    struct mr_pg_survey now = survey(options);
    if (*logical ? !strstr(now.no_logical, logical) : *now.no_logical)
        fail_msg("logical: %s\nexpected: %s", now.no_logical, logical);
    if (*changelog ? !strstr(now.no_changelog, changelog) : *now.no_changelog)
        fail_msg("changelog: %s\nexpected: %s", now.no_changelog, changelog);
    mr_pg_survey_free(&now);
}

static const char *triggers(void)
{
    return ask("SELECT count(*) FROM pg_trigger g JOIN pg_class c ON c.oid = g.tgrelid "
               "WHERE c.relnamespace = current_schema()::regnamespace");
}

/* The report, until the next call. */
static const char *init(const struct mr_postgres_feed_options *options)
{
    static char text[8192];
    struct mr_buf report = {0};
    struct mr_error err = {0};
    if (!mr_postgres_feed_init(options, false, NULL, &report, &err))
        fail_msg("%s\n%s", err.msg, mr_buf_cstr(&report));
    snprintf(text, sizeof text, "%s", mr_buf_cstr(&report));
    mr_buf_fini(&report);
    return text;
}

static void expect_text(const char *text, const char *wanted)
{
    if (!strstr(text, wanted))
        fail_msg("expected: %s\ngot: %s", wanted, text);
}

static const char subs[] = "CREATE TABLE subs (id serial PRIMARY KEY, restaurant text, client "
                           "text, other int DEFAULT 0)";

/* --- the survey --- */

static void a_published_table_with_a_key_can_be_followed(void **state)
{
    (void)state;
    start("t_survey");
    ask("%s", subs);
    struct mr_postgres_feed_options options = options_of("subs", NULL);
    expect_survey(&options, "there is no publication millrace_test", "no `changelog` is named");
    ask("CREATE PUBLICATION millrace_test FOR TABLE subs");
    struct mr_pg_survey now = survey(&options);
    assert_string_equal(now.no_logical, "");
    assert_false(now.whole);
    assert_int_equal(now.n_ids, 1);
    assert_string_equal(now.ids[0], "id");
    mr_pg_survey_free(&now);
    ask("ALTER TABLE subs REPLICA IDENTITY FULL");
    now = survey(&options);
    assert_string_equal(now.no_logical, "");
    assert_true(now.whole);
    assert_int_equal(now.n_ids, 0);
    mr_pg_survey_free(&now);
    /* An identity that covers what the lookup reads needs no identities either. */
    ask("ALTER TABLE subs ALTER restaurant SET NOT NULL, ALTER client SET NOT NULL, "
        "ADD UNIQUE (restaurant, client, id)");
    ask("ALTER TABLE subs REPLICA IDENTITY USING INDEX subs_restaurant_client_id_key");
    now = survey(&options);
    assert_string_equal(now.no_logical, "");
    assert_true(now.whole);
    mr_pg_survey_free(&now);
}

struct missing {
    const char *sql, *logical, *changelog;
};

/* Each on a table, publication and change-log that were well before; "" is well still. */
static const struct missing missings[] = {
    {"SELECT 1", "", ""},
    {"ALTER TABLE subs DROP CONSTRAINT subs_pkey", "it is published already, so that UPDATE", ""},
    {"ALTER TABLE subs DROP CONSTRAINT subs_pkey; DROP PUBLICATION millrace_test",
     "publish it only then", ""},
    {"ALTER TABLE subs REPLICA IDENTITY NOTHING", "REPLICA IDENTITY NOTHING", ""},
    {"ALTER TABLE subs DROP CONSTRAINT subs_pkey; ALTER TABLE subs ADD PRIMARY KEY (id) "
     "DEFERRABLE",
     "no primary key", ""},
    {"ALTER TABLE subs ADD at inet NOT NULL DEFAULT '::1', DROP CONSTRAINT subs_pkey, ADD "
     "PRIMARY KEY (at, id)",
     "column \"at\" of the replica identity has type inet", ""},
    {"ALTER TABLE subs SET UNLOGGED", "UNLOGGED", ""}, /* must leave the publication first */
    {"ALTER PUBLICATION millrace_test SET (publish = 'insert, update, delete')",
     "leaves changes out", ""},
    {"ALTER PUBLICATION millrace_test DROP TABLE subs", "does not cover", ""},
    {"ALTER PUBLICATION millrace_test SET TABLE subs WHERE (id > 5)", "row filter", ""},
    {"ALTER PUBLICATION millrace_test SET TABLE subs (id, client)", "column restaurant", ""},
    {"ALTER PUBLICATION millrace_test SET TABLE subs (id, client, restaurant)", "", ""},
    {"DROP PUBLICATION millrace_test; CREATE PUBLICATION millrace_test FOR ALL TABLES", "", ""},
    {"CREATE TABLE heirs () INHERITS (subs)", "child tables", "child tables"},
    {"ALTER TABLE subs ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; GRANT SELECT ON subs, "
     "log TO t_nobody; SET LOCAL role = t_nobody",
     "row security", "row security"},
    {"ALTER TABLE subs DROP client, ADD client text GENERATED ALWAYS AS (restaurant || 'x') STORED",
     "column client is generated", ""},
    {"ALTER TABLE subs DISABLE TRIGGER millrace_log_update", "", "missing or disabled on"},
    {"ALTER TABLE subs ENABLE REPLICA TRIGGER millrace_log_update", "", "missing or disabled on"},
    {"ALTER TABLE subs ENABLE TRIGGER millrace_log_update", "", ""},
    {"DROP TRIGGER millrace_log_truncate ON subs", "", "missing or disabled on"},
    {"ALTER TABLE log DROP client", "", "lacks column client of type text"},
    {"ALTER TABLE subs ALTER client TYPE int USING 1", "", "lacks column client of type integer"},
    {"ALTER TABLE subs ALTER client TYPE varchar(10)", "", "lacks column client"},
    {"DROP TABLE log", "", "no change-log log"},
    {"GRANT SELECT ON subs TO t_nobody; SET LOCAL role = t_nobody", "may not replicate",
     "may not read the change-log"},
    {"GRANT SELECT (restaurant, client) ON subs TO t_nobody; GRANT SELECT ON log TO t_nobody; "
     "SET LOCAL role = t_nobody",
     "may not replicate", ""},
};

/* In a transaction of `pg`'s that is rolled back: the survey's BEGIN is only a warning there. */
static void each_thing_that_is_missing_is_named(void **state)
{
    (void)state;
    start("t_missing");
    ask("DO $$ BEGIN CREATE ROLE t_nobody; EXCEPTION WHEN duplicate_object THEN NULL; END $$");
    ask("GRANT USAGE ON SCHEMA t_missing TO t_nobody");
    struct mr_postgres_feed_options options = options_of("subs", "log");
    for (size_t i = 0; i < sizeof missings / sizeof *missings; i++) {
        const struct missing *m = &missings[i];
        struct mr_pg_survey now;
        struct mr_error err = {0};
        ask("DROP TABLE IF EXISTS subs, log CASCADE; DROP PUBLICATION IF EXISTS millrace_test");
        ask("%s", subs);
        if (strstr(m->sql, "UNLOGGED"))
            ask("ALTER TABLE subs SET UNLOGGED");
        init(&options);
        struct mr_pg pg = {0};
        mr_pg_init(&pg, dsn, "millrace/lookup/l", true);
        assert_true(mr_pg_connect(&pg, &err));
        if (!strstr(m->sql, "LOCAL"))
            ask("%s", m->sql);
        else {
            const char *role = strstr(m->sql, "SET LOCAL");
            ask("%.*s", (int)(role - m->sql), m->sql);
            PQclear(PQexec(pg.conn, "SET role = t_nobody"));
        }
        if (!mr_pg_survey_make(&pg, &options, &now, &err))
            fail_msg("%s: %s", m->sql, err.msg);
        if (*m->logical ? !strstr(now.no_logical, m->logical) : *now.no_logical)
            fail_msg("%s\nlogical: %s", m->sql, now.no_logical);
        if (*m->changelog ? !strstr(now.no_changelog, m->changelog) : *now.no_changelog)
            fail_msg("%s\nchangelog: %s", m->sql, now.no_changelog);
        mr_pg_survey_free(&now);
        mr_pg_fini(&pg);
    }
}

static void what_is_no_table_is_read_at_an_interval(void **state)
{
    (void)state;
    start("t_view");
    ask("%s", subs);
    ask("CREATE VIEW v AS SELECT * FROM subs");
    struct mr_postgres_feed_options options = options_of("v", "log");
    expect_survey(&options, "is a view", "is a view");
    expect_text(init(&options), "feed: reload");
    options.lookup.table = NULL;
    options.lookup.query = "SELECT restaurant, client FROM subs";
    expect_survey(&options, "is a `query`", "is a `query`");
    expect_text(init(&options), "feed: reload");
    assert_string_equal(triggers(), "0");
    assert_string_equal(ask("SELECT count(*) FROM pg_publication"), "0");
    struct mr_error err = {0};
    struct mr_buf report = {0};
    options.refresh = MR_POSTGRES_REFRESH_LOGICAL;
    assert_false(mr_postgres_feed_check(&options, &report, &err));
    assert_int_equal(err.action, MR_STOP);
    expect_text(err.msg, "refresh = \"logical\" is not possible: the lookup is a `query`");
    mr_buf_fini(&report);
}

static void a_table_that_is_not_there_or_not_readable_is_an_error(void **state)
{
    (void)state;
    start("t_absent");
    ask("DO $$ BEGIN CREATE ROLE t_nobody; EXCEPTION WHEN duplicate_object THEN NULL; END $$");
    ask("GRANT USAGE ON SCHEMA t_absent TO t_nobody");
    struct mr_error err = {0};
    struct mr_buf report = {0};
    struct mr_postgres_feed_options options = options_of("subs", NULL);
    assert_false(mr_postgres_feed_check(&options, &report, &err));
    assert_int_equal(err.action, MR_STOP);
    expect_text(err.msg, "there is no table subs in database");
    ask("%s", subs);
    setenv("PGOPTIONS", "-c search_path=t_absent -c role=t_nobody", 1);
    assert_false(mr_postgres_feed_check(&options, &report, &err));
    assert_int_equal(err.action, MR_STOP);
    expect_text(err.msg, "GRANT SELECT ON t_absent.subs");
    mr_buf_fini(&report);
}

/* --- init --- */

/* Everything that init might have made or touched, without the schema's name. */
static const char *catalog(const char *schema)
{
    static char text[65536];
    char sql[4096];
    snprintf(
        sql, sizeof sql,
        "SELECT replace(concat_ws(E'\\n', "
        "(SELECT string_agg(concat_ws(' ', c.relname, a.attname, format_type(a.atttypid, "
        "a.atttypmod), a.attnotnull, pg_get_expr(d.adbin, d.adrelid), c.relreplident), E'\\n' "
        "ORDER BY c.relname, a.attnum) FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid "
        "LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum "
        "WHERE c.relnamespace = '%s'::regnamespace AND a.attnum > 0 AND NOT a.attisdropped "
        "AND c.relkind IN ('r', 'i', 'p', 'S')), "
        "(SELECT string_agg(concat_ws(' ', pg_get_triggerdef(g.oid), g.tgenabled), E'\\n' "
        "ORDER BY g.tgname) FROM pg_trigger g JOIN pg_class c ON c.oid = g.tgrelid "
        "WHERE c.relnamespace = '%s'::regnamespace AND NOT g.tgisinternal), "
        "(SELECT string_agg(concat_ws(' ', pg_get_functiondef(p.oid), p.proacl::text), E'\\n') "
        "FROM pg_proc p WHERE p.pronamespace = '%s'::regnamespace), "
        "(SELECT string_agg(to_jsonb(p)::text, E'\\n') FROM pg_publication_tables p)), '%s', '')",
        schema, schema, schema, schema);
    PGresult *res = PQexec(side, sql);
    if (PQresultStatus(res) != PGRES_TUPLES_OK)
        fail_msg("%s", PQresultErrorMessage(res));
    snprintf(text, sizeof text, "%s", PQgetvalue(res, 0, 0));
    PQclear(res);
    return text;
}

static void init_makes_what_is_missing_once(void **state)
{
    (void)state;
    start("t_init");
    ask("%s", subs);
    struct mr_postgres_feed_options options = options_of("subs", "log");
    const char *report = init(&options);
    expect_text(report, "publication millrace_test made");
    expect_text(report, "change-log log made");
    expect_text(report, "feed: logical");
    expect_survey(&options, "", "");
    char *first = strdup(catalog("t_init"));
    ask("INSERT INTO subs (restaurant, client) VALUES ('r', 'c')");
    char *rows = strdup(ask("SELECT string_agg(l::text, ',' ORDER BY millrace_seq) FROM log l"));
    report = init(&options);
    expect_text(report, "publication millrace_test was there");
    expect_text(report, "change-log log was there");
    assert_string_equal(catalog("t_init"), first);
    assert_string_equal(ask("SELECT string_agg(l::text, ',' ORDER BY millrace_seq) FROM log l"),
                        rows);
    free(first);
    free(rows);
}

static void what_is_printed_makes_the_same(void **state)
{
    (void)state;
    struct mr_postgres_feed_options options = options_of("subs", "log");
    struct mr_error err = {0};
    start("t_printed");
    ask("%s", subs);
    init(&options);
    char *made = strdup(catalog("t_printed"));
    start("t_printed");
    ask("%s", subs);
    struct mr_buf sql = {0}, report = {0};
    options.lookup.dsn = "host=/nowhere";
    assert_true(mr_postgres_feed_init(&options, true, &sql, &report, &err));
    expect_text(mr_buf_cstr(&sql), "refuses every UPDATE and DELETE");
    PGresult *res = PQexec(side, mr_buf_cstr(&sql));
    if (PQresultStatus(res) != PGRES_COMMAND_OK)
        fail_msg("%s\n%s", PQresultErrorMessage(res), mr_buf_cstr(&sql));
    PQclear(res);
    assert_string_equal(catalog("t_printed"), made);
    assert_string_equal(ask("SHOW search_path"), "t_printed");
    mr_buf_fini(&sql);
    mr_buf_fini(&report);
    free(made);
}

static void nothing_is_put_on_a_table_that_was_not_asked_for(void **state)
{
    (void)state;
    start("t_modest");
    /* Without an identity it is not published: the application's own DELETE would fail. */
    ask("CREATE TABLE subs (restaurant text, client text)");
    struct mr_postgres_feed_options options = options_of("subs", NULL);
    char *before = strdup(catalog("t_modest"));
    const char *report = init(&options);
    expect_text(report, "no primary key, so no replica identity");
    expect_text(report, "feed: reload");
    assert_string_equal(catalog("t_modest"), before);
    /* Nor by the printed SQL. */
    struct mr_buf sql = {0};
    struct mr_error err = {0};
    assert_true(mr_postgres_feed_init(&options, true, &sql, NULL, &err));
    PQclear(PQexec(side, mr_buf_cstr(&sql)));
    assert_string_equal(catalog("t_modest"), before);
    ask("INSERT INTO subs VALUES ('r', 'c'); DELETE FROM subs");
    mr_buf_fini(&sql);
    /* Nor what `refresh` does not use. */
    ask("ALTER TABLE subs ADD id serial PRIMARY KEY");
    free(before);
    before = strdup(catalog("t_modest"));
    options.changelog = "log";
    options.refresh = MR_POSTGRES_REFRESH_RELOAD;
    init(&options);
    assert_string_equal(catalog("t_modest"), before);
    options.refresh = MR_POSTGRES_REFRESH_CHANGELOG;
    init(&options);
    assert_string_equal(ask("SELECT count(*) FROM pg_publication"), "0");
    assert_string_equal(triggers(), "4");
    free(before);
}

static void without_the_rights_init_says_what_somebody_else_must_do(void **state)
{
    (void)state;
    start("t_rights");
    ask("%s", subs);
    ask("DO $$ BEGIN CREATE ROLE t_nobody; EXCEPTION WHEN duplicate_object THEN NULL; END $$");
    ask("GRANT USAGE, CREATE ON SCHEMA t_rights TO t_nobody; GRANT SELECT ON subs TO t_nobody");
    struct mr_postgres_feed_options options = options_of("subs", "log");
    setenv("PGOPTIONS", "-c search_path=t_rights -c role=t_nobody", 1);
    const char *report = init(&options);
    expect_text(report, "making the publication: Postgres says: permission denied");
    expect_text(report, "making the change-log: Postgres says: ");
    expect_text(report, "`millrace init --print` shows the SQL");
    expect_text(report, "ALTER ROLE t_nobody REPLICATION");
    expect_text(report, "feed: reload");
    struct mr_error err = {0};
    struct mr_buf text = {0};
    options.refresh = MR_POSTGRES_REFRESH_CHANGELOG;
    assert_false(mr_postgres_feed_init(&options, false, NULL, &text, &err));
    expect_text(err.msg, "refresh = \"changelog\" is not possible: there is no change-log log");
    mr_buf_fini(&text);
    /* Made by the owner, granted to the role: it works; without DELETE it grows. */
    setenv("PGOPTIONS", "-c search_path=t_rights", 1);
    init(&options);
    ask("GRANT SELECT ON log TO t_nobody");
    setenv("PGOPTIONS", "-c search_path=t_rights -c role=t_nobody", 1);
    text = (struct mr_buf){0};
    assert_true(mr_postgres_feed_check(&options, &text, &err));
    expect_text(mr_buf_cstr(&text), "but the right to DELETE from it");
    mr_buf_fini(&text);
    /* The role that writes the table needs no right to the log. */
    ask("GRANT INSERT ON subs TO t_nobody; GRANT USAGE ON SEQUENCE subs_id_seq TO t_nobody; "
        "REVOKE ALL ON log FROM t_nobody; SET role = t_nobody");
    ask("INSERT INTO subs (restaurant, client) VALUES ('r', 'c')");
    ask("RESET role");
    assert_string_equal(ask("SELECT count(*) FROM log WHERE client = 'c'"), "1");
}

static void a_log_is_never_taken_from_another_table(void **state)
{
    (void)state;
    start("t_taken");
    ask("%s; CREATE TABLE others (restaurant text, client text); CREATE TABLE mine (client text)",
        subs);
    struct mr_postgres_feed_options options = options_of("subs", "log"),
                                    other = options_of("others", "log");
    init(&options);
    expect_text(init(&other), "t_taken.log is the change-log of another table");
    other.changelog = "mine";
    expect_text(init(&other), "t_taken.mine is a table, but no change-log");
    expect_survey(&options, "", "");
}

/* --- what the triggers write --- */

/* What was written since the last call, sorted. */
static void expect_log(const char *wanted)
{
    const char *got =
        ask("WITH d AS (DELETE FROM log RETURNING *) SELECT coalesce(string_agg(concat_ws(' ', "
            "millrace_op, restaurant, client), ', ' ORDER BY millrace_op, restaurant, client), '') "
            "FROM d");
    assert_string_equal(got, wanted);
}

static void statements_are_logged_as_rows_that_go_and_come(void **state)
{
    (void)state;
    start("t_rows");
    ask("%s", subs);
    struct mr_postgres_feed_options options = options_of("subs", "log");
    init(&options);
    expect_log("R");
    ask("INSERT INTO subs (restaurant, client) VALUES ('r1', 'a'), ('r1', 'b'), ('r2', NULL)");
    expect_log("I r1 a, I r1 b, I r2");
    ask("UPDATE subs SET other = other + 1");
    expect_log("");
    ask("UPDATE subs SET client = CASE client WHEN 'a' THEN 'b' ELSE 'a' END WHERE restaurant = "
        "'r1'"); /* they change places: nothing has changed */
    expect_log("");
    ask("UPDATE subs SET client = 'c' WHERE client = 'a'");
    expect_log("D r1 a, I r1 c");
    ask("UPDATE subs SET client = '' WHERE client IS NULL");
    expect_log("D r2, I r2 ");
    ask("INSERT INTO subs (id, restaurant, client) VALUES (1, 'r9', 'x') ON CONFLICT (id) DO "
        "UPDATE SET client = 'x'");
    expect_log("D r1 b, I r1 x");
    ask("BEGIN; SAVEPOINT s; DELETE FROM subs; ROLLBACK TO s; DELETE FROM subs WHERE client = 'c'; "
        "COMMIT");
    expect_log("D r1 c");
    ask("DELETE FROM subs WHERE false");
    expect_log("");
    ask("SET session_replication_role = replica; DELETE FROM subs WHERE client = 'x'; "
        "SET session_replication_role = DEFAULT");
    expect_log("D r1 x");
    ask("TRUNCATE subs");
    expect_log("T");
}

/* Equal for SQL, but not what a lookup would show: 1.0 and 1.00. */
static void what_prints_differently_is_a_change(void **state)
{
    (void)state;
    start("t_print");
    ask("CREATE TABLE subs (id int PRIMARY KEY, restaurant numeric, client json, f float8)");
    struct mr_postgres_feed_options options = options_of("subs", "log");
    /* A column may be key and column. */
    options.lookup.columns = (const char *const[]){"client", "f", "restaurant"};
    options.lookup.n_columns = 3;
    init(&options);
    ask("INSERT INTO subs VALUES (1, 1.0, '{\"a\": 1}', 0.1); DELETE FROM log");
    ask("SET extra_float_digits = -10; UPDATE subs SET f = 0.1 + 1e-16, id = 1; "
        "RESET extra_float_digits");
    assert_string_equal(ask("SELECT string_agg(millrace_op::text, '' ORDER BY millrace_op) FROM "
                            "log WHERE f = 0.1::float8 + 1e-16::float8 OR f = 0.1"),
                        "DI");
    ask("DELETE FROM log; UPDATE subs SET restaurant = 1.00");
    assert_string_equal(ask("SELECT string_agg(millrace_op::text || restaurant, ' ' ORDER BY "
                            "millrace_op) FROM log"),
                        "D1.0 I1.00");
    ask("DELETE FROM log; UPDATE subs SET client = '{\"a\":1}'");
    assert_string_equal(ask("SELECT count(*) FROM log"), "2");
    ask("DELETE FROM log; UPDATE subs SET client = client, f = f, restaurant = restaurant");
    assert_string_equal(ask("SELECT count(*) FROM log"), "0");
}

static void columns_that_have_changed_ask_for_a_read_and_break_nothing(void **state)
{
    (void)state;
    start("t_altered");
    ask("%s; ALTER TABLE subs ALTER client TYPE varchar(3)", subs);
    struct mr_postgres_feed_options options = options_of("subs", "log");
    init(&options);
    expect_log("R");
    ask("INSERT INTO subs (restaurant, client) VALUES ('r', 'abc')");
    ask("ALTER TABLE subs ALTER client TYPE varchar(10)"); /* longer values are no other type */
    ask("UPDATE subs SET client = 'abcdefgh'");
    expect_log("D r abc, I r abc, I r abcdefgh");
    ask("ALTER TABLE subs RENAME client TO customer");
    ask("INSERT INTO subs (restaurant, customer) VALUES ('r', 'd')");
    ask("UPDATE subs SET customer = 'e'");
    ask("DELETE FROM subs WHERE customer = 'e'");
    expect_log("R, R, R");
    ask("ALTER TABLE subs RENAME customer TO client; ALTER TABLE subs ALTER client TYPE text");
    ask("INSERT INTO subs (restaurant, client) VALUES ('r', 'd')");
    expect_log("R");
    expect_survey(&options, "", "lacks column client of type text");
    init(&options);
    expect_survey(&options, "", "");
    expect_log("R");
    ask("INSERT INTO subs (restaurant, client) VALUES ('r', 'd')");
    expect_log("I r d");
}

static void partitions_are_logged_however_they_are_written(void **state)
{
    (void)state;
    start("t_parts");
    ask("CREATE TABLE subs (id int, restaurant text, client text, PRIMARY KEY (id)) PARTITION BY "
        "RANGE (id); CREATE TABLE low PARTITION OF subs FOR VALUES FROM (0) TO (100); "
        "CREATE TABLE high (client text, gone int, restaurant text, id int NOT NULL); "
        "ALTER TABLE high DROP gone; "
        "ALTER TABLE subs ATTACH PARTITION high FOR VALUES FROM (100) TO (200)");
    struct mr_postgres_feed_options options = options_of("subs", "log");
    expect_text(init(&options), "feed: logical");
    expect_survey(&options, "", "");
    expect_log("R");
    ask("INSERT INTO subs VALUES (1, 'r', 'a'), (101, 'r', 'b')");
    expect_log("I r a, I r b");
    ask("INSERT INTO high (id, restaurant, client) VALUES (102, 'r', 'c')");
    expect_log("I r c");
    ask("UPDATE subs SET id = id + 150, client = 'A' WHERE id = 1"); /* to the other partition */
    expect_log("D r a, I r A");
    ask("DELETE FROM high WHERE client = 'b'");
    expect_log("D r b");
    ask("ALTER TABLE low REPLICA IDENTITY FULL");
    expect_survey(&options, "partition t_parts.low has another replica identity", "");
    ask("ALTER TABLE low REPLICA IDENTITY DEFAULT");
    ask("ALTER PUBLICATION millrace_test SET (publish_via_partition_root = false)");
    expect_survey(&options, "publishes the partitions", "");
    ask("ALTER PUBLICATION millrace_test SET (publish_via_partition_root = true)");
    ask("CREATE TABLE top PARTITION OF subs FOR VALUES FROM (200) TO (300)");
    expect_survey(&options, "", "missing or disabled on t_parts.top");
    init(&options);
    expect_survey(&options, "", "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_published_table_with_a_key_can_be_followed),
        cmocka_unit_test(each_thing_that_is_missing_is_named),
        cmocka_unit_test(what_is_no_table_is_read_at_an_interval),
        cmocka_unit_test(a_table_that_is_not_there_or_not_readable_is_an_error),
        cmocka_unit_test(init_makes_what_is_missing_once),
        cmocka_unit_test(what_is_printed_makes_the_same),
        cmocka_unit_test(nothing_is_put_on_a_table_that_was_not_asked_for),
        cmocka_unit_test(without_the_rights_init_says_what_somebody_else_must_do),
        cmocka_unit_test(a_log_is_never_taken_from_another_table),
        cmocka_unit_test(statements_are_logged_as_rows_that_go_and_come),
        cmocka_unit_test(what_prints_differently_is_a_change),
        cmocka_unit_test(columns_that_have_changed_ask_for_a_read_and_break_nothing),
        cmocka_unit_test(partitions_are_logged_however_they_are_written),
    };
    return cmocka_run_group_tests(tests, side_setup, side_teardown);
}
