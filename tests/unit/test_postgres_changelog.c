/*
 * test_postgres_changelog.c - the change-log feed, step by step, and which feed is chosen. On a
 * real server, which is restarted with other settings.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "support/side.h"
#include "base/clock.h"
#include "postgres/changelog.h"

#include <stdio.h>
#include <stdlib.h>

enum { STEP_MS = 20, SEEN_MS = 20000 };

static struct mr_postgres_feed_options options;
static struct mr_feed *feed;
static struct mr_lookup *lookup;
static struct mr_span *span;

static void start(const char *schema, enum mr_postgres_refresh refresh, const char *changelog)
{
    static const char *const keys[] = {"restaurant"}, *const columns[] = {"client"};
    ask("DROP PUBLICATION IF EXISTS millrace_test");
    fresh(schema);
    ask("CREATE TABLE subs (id serial PRIMARY KEY, restaurant text, client text, other int DEFAULT "
        "0)");
    ask("INSERT INTO subs (restaurant, client) SELECT 'r' || i %% 5, 'c' || i FROM "
        "generate_series(1, 50) i");
    options = (struct mr_postgres_feed_options){.lookup = {.name = "l",
                                                           .dsn = dsn,
                                                           .table = "subs",
                                                           .keys = keys,
                                                           .n_keys = 1,
                                                           .columns = columns,
                                                           .n_columns = 1},
                                                .refresh = refresh,
                                                .interval_ms = 3600000,
                                                .publication = "millrace_test",
                                                .changelog = changelog,
                                                .look_ms = 200};
}

static void init(void)
{
    struct mr_buf report = {0};
    struct mr_error err = {0};
    if (!mr_postgres_feed_init(&options, false, NULL, &report, &err))
        fail_msg("%s\n%s", err.msg, mr_buf_cstr(&report));
    mr_buf_fini(&report);
}

static void open_feed(void)
{
    struct mr_error err = {0};
    lookup = mr_lookup_new("l");
    span = mr_span_new();
    if (!mr_postgres_feed_open(&options, &feed, &err))
        fail_msg("%s", err.msg);
}

static void close_feed(void)
{
    feed->ops->close(feed);
    mr_lookup_free(lookup);
    mr_span_free(span);
}

/* A logical slot that was late costs a load more. */
static void load(void)
{
    int64_t deadline = mr_clock_mono_ms() + SEEN_MS;
    do {
        struct mr_table *table = NULL;
        struct mr_error err = {0};
        if (!feed->ops->load(feed, &table, &err))
            fail_msg("%s", err.msg);
        mr_lookup_swap(lookup, table);
        while (strstr(feed->ops->state(feed).why, "slot waits") &&
               feed->ops->follow(feed, lookup, STEP_MS, &err) == MR_FEED_FOLLOWS)
            assert_true(mr_clock_mono_ms() < deadline);
    } while (strstr(feed->ops->state(feed).why, "slot waits"));
}

static void refuse_load(enum mr_action action, const char *says)
{
    struct mr_table *table = NULL;
    struct mr_error err = {0};
    assert_false(feed->ops->load(feed, &table, &err));
    if (!strstr(err.msg, says))
        fail_msg("expected: %s\ngot: %s", says, err.msg);
    assert_int_equal(err.action, action);
}

static void expect_kind(enum mr_feed_kind kind, const char *why)
{
    struct mr_feed_state state = feed->ops->state(feed);
    if (state.kind != kind || !strstr(state.why, why))
        fail_msg("%s: %s", mr_feed_kind_name(state.kind), state.why);
}

/* Follows until it says something else. */
static void expect_event(enum mr_feed_event wanted, const char *says)
{
    struct mr_error err = {0};
    enum mr_feed_event event = MR_FEED_FOLLOWS;
    int64_t deadline = mr_clock_mono_ms() + SEEN_MS;
    while (event == MR_FEED_FOLLOWS && mr_clock_mono_ms() < deadline)
        event = feed->ops->follow(feed, lookup, STEP_MS, &err);
    if (event != wanted || !strstr(err.msg, says))
        fail_msg("event %d: %s\nexpected %d: %s", event, err.msg, wanted, says);
}

/* Whatever was committed before is shown when it returns. */
static void catch_up(void)
{
    struct mr_error err = {0};
    int64_t deadline = mr_clock_mono_ms() + SEEN_MS;
    assert_true(feed->ops->mark(feed, &err));
    do {
        if (feed->ops->follow(feed, lookup, STEP_MS, &err) != MR_FEED_FOLLOWS)
            fail_msg("%s", err.msg);
        assert_true(mr_clock_mono_ms() < deadline);
    } while (!feed->ops->reached(feed));
}

/* The clients of a key, as the lookup has them. */
static const char *clients(const struct mr_table *table, const char *restaurant, size_t *n)
{
    static struct mr_buf text;
    struct mr_buf cells = {0};
    struct mr_error err;
    struct mr_row_ref row;
    struct mr_value key = {.type = MR_TEXT, .bytes = mr_bytes_of(restaurant)}, client;
    mr_buf_reset(&text);
    assert_true(mr_lookup_key(mr_table_schema(table), &key, &cells, &err));
    struct mr_bytes one = {cells.ptr, cells.len};
    if (mr_span_open(span, table, &one, 1, (struct mr_bytes){NULL, 0}))
        while (mr_span_next(span, &row))
            for (uint32_t i = 0; i < row.copies; i++, ++*n) {
                mr_cell_read(row.cells, &client);
                mr_buf_put_text(&text, text.len ? "," : "");
                assert_true(mr_value_text(&text, &client, &err));
            }
    mr_buf_fini(&cells);
    return mr_buf_cstr(&text);
}

/* The table equals SELECT, both ways. */
static void expect_equal(void)
{
    struct mr_pin pin = {0};
    size_t n = 0;
    PGresult *res = PQexec(side, "SELECT restaurant, string_agg(client, ',' ORDER BY client "
                                 "COLLATE \"C\") FROM subs WHERE restaurant IS NOT NULL GROUP BY "
                                 "restaurant");
    assert_int_equal(PQresultStatus(res), PGRES_TUPLES_OK);
    assert_true(mr_lookup_pin(lookup, &pin));
    for (int i = 0; i < PQntuples(res); i++)
        assert_string_equal(clients(pin.table, PQgetvalue(res, i, 0), &n), PQgetvalue(res, i, 1));
    mr_lookup_unpin(lookup, &pin);
    struct mr_table_stats stats = mr_lookup_stats(lookup);
    assert_int_equal(stats.rows, n);
    assert_int_equal(stats.keys, PQntuples(res));
    PQclear(res);
}

static void expect_client(const char *restaurant, const char *wanted)
{
    struct mr_pin pin = {0};
    size_t n = 0;
    assert_true(mr_lookup_pin(lookup, &pin));
    const char *got = clients(pin.table, restaurant, &n);
    mr_lookup_unpin(lookup, &pin);
    assert_string_equal(got, wanted);
}

/* Another session, with a transaction of its own. */
static PGconn *session(const char *sql)
{
    PGconn *conn = PQconnectdb(dsn);
    PGresult *res = PQexec(conn, sql);
    if (PQresultStatus(res) != PGRES_COMMAND_OK)
        fail_msg("%s: %s", sql, PQerrorMessage(conn));
    PQclear(res);
    return conn;
}

static void end(PGconn *conn, const char *sql)
{
    PGresult *res = PQexec(conn, sql);
    assert_int_equal(PQresultStatus(res), PGRES_COMMAND_OK);
    PQclear(res);
    PQfinish(conn);
}

static void follow_log(const char *schema)
{
    start(schema, MR_POSTGRES_REFRESH_CHANGELOG, "log");
    init();
    open_feed();
    load();
    expect_kind(MR_FEED_CHANGELOG, "`refresh` says so");
    expect_equal();
}

/* --- what is followed --- */

static void changes_are_followed(void **state)
{
    (void)state;
    follow_log("t_follow");
    ask("INSERT INTO subs (restaurant, client) VALUES ('r1', 'new'), ('r9', 'new'), (NULL, 'x')");
    catch_up();
    expect_equal();
    ask("UPDATE subs SET restaurant = 'r8' WHERE restaurant = 'r2'");
    ask("UPDATE subs SET client = client || 'x' WHERE restaurant = 'r3'");
    ask("UPDATE subs SET restaurant = 'was null' WHERE restaurant IS NULL");
    ask("DELETE FROM subs WHERE restaurant = 'r4'");
    catch_up();
    expect_equal();
    /* Of two equal rows one goes. */
    ask("INSERT INTO subs (restaurant, client) VALUES ('r9', 'new')");
    ask("DELETE FROM subs WHERE id = (SELECT max(id) FROM subs)");
    catch_up();
    expect_equal();
    expect_client("r9", "new");
    struct mr_feed_state now = feed->ops->state(feed);
    assert_true(now.lag_ms >= 0 && now.lag_ms < SEEN_MS);
    assert_true(now.changes >= 40);
    close_feed();
}

static void a_notify_is_heard_and_a_poll_comes_without_one(void **state)
{
    (void)state;
    follow_log("t_notify");
    struct mr_error err = {0};
    ask("INSERT INTO subs (restaurant, client) VALUES ('r7', 'a')");
    while (!feed->ops->state(feed).changes)
        assert_int_equal(feed->ops->follow(feed, lookup, SEEN_MS, &err), MR_FEED_FOLLOWS);
    expect_client("r7", "a");
    /* As behind a pooler that keeps notices to itself. */
    ask("INSERT INTO log (millrace_op, restaurant, client) VALUES ('I', 'r6', 'silent')");
    while (feed->ops->state(feed).changes < 2)
        assert_int_equal(feed->ops->follow(feed, lookup, SEEN_MS, &err), MR_FEED_FOLLOWS);
    expect_client("r6", "silent");
    close_feed();
}

/* Sequence numbers and transaction ids in one order, commits in another. */
static void an_open_transaction_holds_nobody_up_and_loses_nothing(void **state)
{
    (void)state;
    follow_log("t_open");
    PGconn *first = session("BEGIN; INSERT INTO subs (restaurant, client) VALUES ('r6', 'first')");
    PGconn *second =
        session("BEGIN; SAVEPOINT a; INSERT INTO subs (restaurant, client) VALUES ('r6', 'undone');"
                "ROLLBACK TO a; SAVEPOINT b; INSERT INTO subs (restaurant, client) VALUES ('r6', "
                "'second'); RELEASE b; SAVEPOINT c; DELETE FROM subs WHERE client = 'c1'");
    PGconn *never = session("BEGIN; DELETE FROM subs WHERE client = 'c2'");
    ask("INSERT INTO subs (restaurant, client) VALUES ('r6', 'third')");
    catch_up();
    expect_client("r6", "third");
    expect_equal();
    ask("UPDATE subs SET client = 'fourth' WHERE client = 'third'");
    catch_up();
    expect_client("r6", "fourth");
    end(second, "COMMIT");
    catch_up();
    expect_client("r6", "fourth,second");
    expect_equal();
    end(never, "ROLLBACK");
    end(first, "COMMIT");
    catch_up();
    expect_client("r6", "first,fourth,second");
    expect_equal();
    catch_up(); /* and nothing comes twice */
    expect_equal();
    close_feed();
}

/* Began before the load, commits after it. */
static void a_load_and_what_comes_after_it_meet_without_a_gap(void **state)
{
    (void)state;
    start("t_meet", MR_POSTGRES_REFRESH_CHANGELOG, "log");
    init();
    open_feed();
    PGconn *before =
        session("BEGIN; INSERT INTO subs (restaurant, client) VALUES ('r6', 'before')");
    ask("INSERT INTO subs (restaurant, client) VALUES ('r6', 'read')");
    load();
    expect_client("r6", "read");
    end(before, "COMMIT");
    catch_up();
    expect_client("r6", "before,read");
    expect_equal();
    close_feed();
}

/* A trigger of the user's that changes the same table within the statement: what the inner
 * statement takes away stands in the log before the outer one has put it. */
static void statements_within_statements_are_netted(void **state)
{
    (void)state;
    follow_log("t_nested");
    ask("CREATE FUNCTION again() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "UPDATE subs SET client = 'inner' WHERE id = NEW.id AND client = 'outer'; RETURN NULL; "
        "END $$; CREATE TRIGGER again AFTER INSERT OR UPDATE ON subs FOR EACH ROW EXECUTE FUNCTION "
        "again()");
    ask("INSERT INTO subs (restaurant, client) VALUES ('r6', 'outer')");
    ask("UPDATE subs SET client = 'outer' WHERE client = 'c1'");
    catch_up();
    expect_client("r6", "inner");
    expect_equal();
    close_feed();
}

#define FILLED                                                                                     \
    "INSERT INTO subs SELECT 'r' || i %% 7, 'abc', left(md5(i::text), i %% 30), 'b ', 'c  ', "     \
    "'n', 'ok', '{ \"a\": 1 }', '[1, 2.50]', md5(i::text)::uuid, i, -i, i * 1000000000000, "       \
    "i %% 2 = 0, i / 3.0::float4, i / 7.0::float8, i / 9.0, i / 11.0, now() + i * interval "       \
    "'1.23456 h', now() - i * interval '1 h', '2000-01-01'::date - i FROM "                        \
    "generate_series(%d, %d) i"

/* What the log tells of a row is what the read told of it: else nothing could be taken. */
static void every_type_goes_through_the_log_unchanged(void **state)
{
    (void)state;
    start("t_types", MR_POSTGRES_REFRESH_CHANGELOG, "log");
    ask("DROP TABLE subs; CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE DOMAIN shortish AS "
        "varchar(4) NOT NULL; CREATE DOMAIN shorter AS shortish CHECK (value <> 'never')");
    ask("CREATE TABLE subs (restaurant text, client shorter, v varchar(30), b bpchar(7), bb bpchar,"
        " n name, m mood, j json, jb jsonb, u uuid, i2 int2, i4 int4, i8 int8, bo bool, f4 float4, "
        "f8 float8, nu numeric, nm numeric(12, 4), tz timestamptz(3), ts timestamp, da date)");
    ask(FILLED, 1, 100);
    ask("INSERT INTO subs (restaurant, client) VALUES ('r1', 'nul')");
    options.lookup.n_columns = 0;
    init();
    open_feed();
    load();
    assert_int_equal(mr_lookup_stats(lookup).rows, 101);
    ask(FILLED, 101, 200);
    catch_up();
    assert_int_equal(mr_lookup_stats(lookup).rows, 201);
    ask("DELETE FROM subs WHERE i2 IS NULL OR i2 <= 150");
    ask("UPDATE subs SET nu = nu * 1.0, bo = NOT bo");
    catch_up();
    assert_int_equal(mr_lookup_stats(lookup).rows, 50);
    ask("DELETE FROM subs");
    catch_up();
    assert_int_equal(mr_lookup_stats(lookup).rows, 0);
    assert_int_equal(mr_lookup_stats(lookup).keys, 0);
    close_feed();
}

/* --- what is read again --- */

static void what_cannot_be_told_row_by_row_is_read_again(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"TRUNCATE subs", "truncated"},
        {"ALTER TABLE subs ALTER client TYPE text USING upper(client)", "rewritten"},
        {"ALTER TABLE subs ALTER client TYPE text USING upper(client); UPDATE subs SET client = "
         "client || 'y'",
         "rewritten"},
        {"ALTER TABLE subs DROP client; ALTER TABLE subs ADD client text DEFAULT 'd'", "columns"},
        {"ALTER TABLE subs DISABLE TRIGGER USER; DELETE FROM subs WHERE client = 'd'; ALTER TABLE "
         "subs ENABLE TRIGGER USER",
         "triggers of the change-log have changed"},
        {"ALTER TABLE subs DISABLE TRIGGER USER; INSERT INTO subs (client) VALUES ('e'); ALTER "
         "TABLE subs ENABLE ALWAYS TRIGGER millrace_log_insert, ENABLE ALWAYS TRIGGER "
         "millrace_log_update, ENABLE ALWAYS TRIGGER millrace_log_delete, ENABLE ALWAYS TRIGGER "
         "millrace_log_truncate",
         "triggers of the change-log have changed"},
        {"CREATE TABLE other (id int, restaurant text, client text, other int); DROP TABLE subs; "
         "ALTER TABLE other RENAME "
         "TO subs",
         "columns"}};
    follow_log("t_again");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ask("INSERT INTO subs (restaurant, client) VALUES ('r1', 'more')");
        catch_up();
        expect_equal();
        ask("%s", cases[i][0]);
        expect_event(MR_FEED_READ, cases[i][1]);
        if (strstr(cases[i][0], "RENAME"))
            init();
        load();
        expect_equal();
        catch_up();
    }
    close_feed();
}

static void columns_that_the_log_lacks_stop_it_until_init_has_put_it_right(void **state)
{
    (void)state;
    follow_log("t_lacks");
    ask("ALTER TABLE subs ALTER client TYPE int USING length(client)");
    expect_event(MR_FEED_READ, "columns");
    /* A person is needed, but the table that there is serves meanwhile. */
    refuse_load(MR_RETRY, "lacks column client of type integer");
    ask("INSERT INTO subs (restaurant, client) VALUES ('r1', 7)");
    init();
    load();
    ask("INSERT INTO subs (restaurant, client) VALUES ('r6', 8)");
    catch_up();
    expect_client("r6", "8");
    /* Made anew under a feed that follows. */
    ask("ALTER TABLE log DROP client");
    init();
    expect_event(MR_FEED_READ, "");
    load();
    catch_up();
    expect_client("r6", "8");
    close_feed();
}

static void a_partition_that_comes_or_goes_is_read(void **state)
{
    (void)state;
    start("t_partition", MR_POSTGRES_REFRESH_CHANGELOG, "log");
    ask("DROP TABLE subs; CREATE TABLE subs (id int, restaurant text, client text) PARTITION BY "
        "RANGE (id); CREATE TABLE low PARTITION OF subs FOR VALUES FROM (0) TO (100)");
    init();
    open_feed();
    load();
    ask("INSERT INTO low VALUES (1, 'r6', 'a'); INSERT INTO subs VALUES (2, 'r6', 'b')");
    catch_up();
    expect_equal();
    expect_client("r6", "a,b");
    ask("CREATE TABLE high (LIKE subs); INSERT INTO high VALUES (101, 'r6', 'c'); ALTER TABLE subs "
        "ATTACH PARTITION high FOR VALUES FROM (100) TO (200)");
    expect_event(MR_FEED_READ, "partitions");
    refuse_load(MR_RETRY, "missing or disabled on t_partition.high");
    init();
    load();
    expect_client("r6", "a,b,c");
    ask("DROP TABLE low");
    expect_event(MR_FEED_READ, "partitions");
    load();
    expect_equal();
    close_feed();
}

static void a_lost_connection_is_never_resumed(void **state)
{
    (void)state;
    follow_log("t_lost");
    ask("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = "
        "'millrace/lookup/l'");
    expect_event(MR_FEED_FAILED, "");
    struct mr_error err = {0};
    assert_false(feed->ops->mark(feed, &err));
    ask("DELETE FROM subs WHERE restaurant = 'r1'");
    load();
    catch_up();
    expect_equal();
    close_feed();
}

/* --- trimming --- */

struct trimmer {
    struct mr_pg pg;
    struct mr_pg_trim trim;
    struct mr_pg_log log;
    struct mr_pg_shape shape;
};

static void trimmer_open(struct trimmer *t)
{
    static uint32_t oids[] = {25, 25};
    static const char *names[] = {"restaurant", "client"};
    struct mr_error err = {0};
    *t = (struct trimmer){.shape = {.names = names, .oids = oids, .n_columns = 2}};
    mr_pg_init(&t->pg, dsn, "millrace/lookup/l", true);
    if (!mr_pg_connect(&t->pg, &err) || !mr_pg_log_open(&t->log, &t->pg, &options, &err) ||
        !mr_pg_log_columns(&t->log, &t->pg, &t->shape, &err))
        fail_msg("%s", err.msg);
}

static void trimmer_close(struct trimmer *t)
{
    mr_pg_log_fini(&t->log);
    mr_pg_fini(&t->pg);
}

static void trim(struct trimmer *t, const char *seen)
{
    mr_pg_trim_step(&t->trim, &t->pg, mr_buf_cstr(&t->log.name), "l", seen);
}

/* As if the last marks had been set so long ago. */
static void age(struct trimmer *t, int64_t ms)
{
    for (size_t i = 0; i < MR_PG_LOG_MARKS; i++)
        t->trim.marks[i].at_ms -= ms;
}

static void what_everybody_has_seen_is_trimmed(void **state)
{
    (void)state;
    follow_log("t_trim");
    struct trimmer t;
    trimmer_open(&t);
    PGconn *open = session("BEGIN; INSERT INTO subs (restaurant, client) VALUES ('r6', 'open')");
    char *early = strdup(ask("SELECT pg_current_snapshot()"));
    ask("INSERT INTO subs (restaurant, client) VALUES ('r6', 'later')");
    trim(&t, early); /* nothing is old enough */
    assert_string_equal(ask("SELECT count(*) FROM log"), "2");
    end(open, "COMMIT");
    char *late = strdup(ask("SELECT pg_current_snapshot()"));
    /* Of what was not over when the old snapshot was taken nothing goes. */
    age(&t, MR_PG_LOG_KEEP_MS);
    trim(&t, late);
    assert_string_equal(
        ask("SELECT string_agg(millrace_op::text || coalesce(client, ''), ',' ORDER BY "
            "millrace_seq) FROM log"),
        "Iopen,Ilater");
    age(&t, MR_PG_LOG_KEEP_MS - 60000);
    trim(&t, late);
    assert_string_equal(ask("SELECT count(*) FROM log"), "2");
    age(&t, MR_PG_LOG_KEEP_MS);
    trim(&t, late);
    assert_string_equal(ask("SELECT count(*) FROM log"), "0");
    free(early);
    free(late);
    trimmer_close(&t);
    close_feed();
}

/* Under `auto`, while another kind is in use, the triggers write all the same. */
static void a_log_that_is_not_read_is_trimmed(void **state)
{
    (void)state;
    start("t_unused", MR_POSTGRES_REFRESH_AUTO, "log");
    init();
    struct trimmer t = {0};
    ask("INSERT INTO subs (restaurant, client) VALUES ('r6', 'a')");
    mr_pg_trim_unused(&t.trim, &t.pg, &options);
    assert_string_equal(ask("SELECT count(*) FROM log"), "2");
    age(&t, MR_PG_LOG_KEEP_MS);
    ask("INSERT INTO subs (restaurant, client) VALUES ('r6', 'b')");
    mr_pg_trim_unused(&t.trim, &t.pg, &options);
    assert_string_equal(ask("SELECT count(*) FROM log"), "3"); /* not its time */
    t.trim.next_ms = 0;
    mr_pg_trim_unused(&t.trim, &t.pg, &options);
    assert_string_equal(ask("SELECT string_agg(client, ',') FROM log"), "b");
    assert_null(t.pg.conn);
    ask("DROP TABLE log CASCADE");
    t.trim.next_ms = 0;
    mr_pg_trim_unused(&t.trim, &t.pg, &options);
    trimmer_close(&t);
}

static void without_the_right_to_trim_it_goes_on(void **state)
{
    (void)state;
    start("t_grow", MR_POSTGRES_REFRESH_CHANGELOG, "log");
    init();
    ask("DO $$ BEGIN CREATE ROLE t_nobody; EXCEPTION WHEN duplicate_object THEN NULL; END $$");
    ask("GRANT USAGE ON SCHEMA t_grow TO t_nobody; GRANT SELECT ON subs, log TO t_nobody");
    setenv("PGOPTIONS", "-c search_path=t_grow -c role=t_nobody", 1);
    struct trimmer t;
    trimmer_open(&t);
    char *seen = strdup(ask("SELECT pg_current_snapshot()"));
    trim(&t, seen);
    age(&t, MR_PG_LOG_KEEP_MS);
    trim(&t, seen);
    assert_true(t.trim.may_not);
    struct mr_pg_look look;
    struct mr_error err = {0};
    lookup = mr_lookup_new("l");
    if (!mr_pg_log_look(&t.log, &t.pg, seen, lookup, &look, &err))
        fail_msg("%s", err.msg);
    assert_null(look.differs);
    mr_pg_look_fini(&look);
    /* Whoever has not looked for long cannot tell what is missing. */
    t.log.looked_us -= (MR_PG_LOG_GAP_MS + 1000) * INT64_C(1000);
    assert_true(mr_pg_log_look(&t.log, &t.pg, seen, lookup, &look, &err));
    assert_non_null(strstr(look.differs, "may be trimmed"));
    mr_pg_look_fini(&look);
    mr_lookup_free(lookup);
    free(seen);
    trimmer_close(&t);
}

/* --- the choice --- */

static void restart(const char *wal_level)
{
    ask("ALTER SYSTEM SET wal_level = %s", wal_level);
    /* Not gently: the server would wait for a walsender whose feed this thread does not serve. */
    if (system("tests/support/postgres crash >&2"))
        fail_msg("the server does not come back");
    PQreset(side);
    ask("SET client_min_messages = error");
    assert_string_equal(ask("SHOW wal_level"), wal_level);
}

static void auto_takes_the_best_and_goes_up_and_down(void **state)
{
    (void)state;
    start("t_auto", MR_POSTGRES_REFRESH_AUTO, NULL);
    open_feed();
    load();
    expect_kind(MR_FEED_RELOAD, "no logical feed: there is no publication millrace_test");
    expect_kind(MR_FEED_RELOAD, "no change-log feed: no `changelog` is named");
    struct mr_error err = {0};
    assert_false(feed->ops->mark(feed, &err));
    assert_int_equal(feed->ops->follow(feed, lookup, 500, &err), MR_FEED_FOLLOWS);
    options.changelog = "log";
    options.refresh = MR_POSTGRES_REFRESH_CHANGELOG; /* init makes no publication */
    init();
    options.refresh = MR_POSTGRES_REFRESH_AUTO;
    expect_event(MR_FEED_READ, "the server now allows the changelog feed");
    load();
    expect_kind(MR_FEED_CHANGELOG, "no logical feed: there is no publication");
    ask("CREATE PUBLICATION millrace_test FOR TABLE subs");
    expect_event(MR_FEED_READ, "the server now allows the logical feed");
    load();
    expect_kind(MR_FEED_LOGICAL, "");
    ask("INSERT INTO subs (restaurant, client) VALUES ('r6', 'logical')");
    catch_up();
    expect_equal();
    restart("replica");
    ask("SET search_path = t_auto");
    expect_event(MR_FEED_FAILED, "");
    load();
    expect_kind(MR_FEED_CHANGELOG, "no logical feed: wal_level is replica");
    ask("INSERT INTO subs (restaurant, client) VALUES ('r6', 'changelog')");
    catch_up();
    expect_equal();
    ask("DROP TABLE log CASCADE");
    expect_event(MR_FEED_READ, "");
    load();
    expect_kind(MR_FEED_RELOAD, "no change-log feed: there is no change-log log");
    expect_equal();
    close_feed();
    restart("logical");
}

/* The survey cannot see everything: all slots are taken. */
static void a_better_kind_that_fails_makes_room_and_is_tried_again(void **state)
{
    (void)state;
    start("t_room", MR_POSTGRES_REFRESH_AUTO, NULL);
    init();
    ask("SELECT count(pg_create_physical_replication_slot('t_room_' || i)) FROM generate_series(1, "
        "current_setting('max_replication_slots')::int) i");
    open_feed();
    load();
    expect_kind(MR_FEED_RELOAD, "all replication slots are in use");
    expect_equal();
    ask("SELECT count(pg_drop_replication_slot(slot_name)) FROM pg_replication_slots");
    expect_event(MR_FEED_READ, "the server now allows the logical feed");
    load();
    expect_kind(MR_FEED_LOGICAL, "");
    expect_equal();
    close_feed();
}

/* After a lost connection the old slot may be in the way for a moment: that is no reason to be
 * minutes behind. */
static void a_better_kind_that_worked_is_tried_again_before_it_makes_room(void **state)
{
    static const char *const kinds[] = {"", "all replication slots are in use"};
    (void)state;
    for (int lasting = 0; lasting < 2; lasting++) {
        struct mr_error err;
        struct mr_table *table = NULL;
        start(lasting ? "t_lasting" : "t_hiccup", MR_POSTGRES_REFRESH_AUTO, NULL);
        init();
        open_feed();
        load();
        expect_kind(MR_FEED_LOGICAL, "");
        ask("SELECT count(pg_create_physical_replication_slot('t_room_' || i)) FROM "
            "generate_series(1, current_setting('max_replication_slots')::int - 1) i");
        ask("SELECT count(pg_terminate_backend(active_pid)) FROM pg_replication_slots WHERE "
            "active_pid IS NOT NULL");
        expect_event(MR_FEED_FAILED, "");
        await("0", "SELECT count(*) FROM pg_replication_slots WHERE temporary"); /* it frees one */
        ask("SELECT count(pg_create_physical_replication_slot('t_room_0'))");
        assert_false(feed->ops->load(feed, &table, &err));
        assert_int_equal(err.action, MR_RETRY);
        assert_false(feed->ops->load(feed, &table, &err));
        if (!lasting)
            ask("SELECT pg_drop_replication_slot('t_room_0')");
        load();
        expect_kind(lasting ? MR_FEED_RELOAD : MR_FEED_LOGICAL, kinds[lasting]);
        expect_equal();
        ask("SELECT count(pg_drop_replication_slot(slot_name)) FROM pg_replication_slots WHERE "
            "slot_name LIKE 't_room%%'");
        close_feed();
    }
}

static void a_kind_that_is_named_and_not_possible_needs_a_person(void **state)
{
    (void)state;
    start("t_fixed", MR_POSTGRES_REFRESH_LOGICAL, "log");
    open_feed();
    refuse_load(MR_STOP, "refresh = \"logical\" is not possible: there is no publication");
    options.refresh = MR_POSTGRES_REFRESH_CHANGELOG;
    refuse_load(MR_STOP, "refresh = \"changelog\" is not possible: there is no change-log log");
    init();
    load();
    ask("DROP TRIGGER millrace_log_insert ON subs");
    expect_event(MR_FEED_READ, "triggers");
    refuse_load(MR_RETRY, "missing or disabled on t_fixed.subs");
    close_feed();
}

static void a_reload_comes_when_its_interval_is_over(void **state)
{
    (void)state;
    start("t_reload", MR_POSTGRES_REFRESH_RELOAD, NULL);
    options.interval_ms = 1000;
    atomic_bool cancel = false;
    options.lookup.cancel = &cancel;
    open_feed();
    int64_t began_ms = mr_clock_mono_ms();
    load();
    expect_kind(MR_FEED_RELOAD, "`refresh` says so");
    expect_event(MR_FEED_READ, "the interval of 1 s is over");
    assert_true(mr_clock_mono_ms() - began_ms >= 1000);
    ask("DELETE FROM subs WHERE restaurant = 'r1'");
    load();
    expect_equal();
    assert_true(feed->ops->state(feed).as_of_ms >= began_ms + 1000);
    options.interval_ms = 3600000;
    atomic_store(&cancel, true);
    struct mr_error err;
    began_ms = mr_clock_mono_ms();
    assert_int_equal(feed->ops->follow(feed, lookup, SEEN_MS, &err), MR_FEED_FOLLOWS);
    assert_true(mr_clock_mono_ms() - began_ms < SEEN_MS / 2);
    close_feed();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(changes_are_followed),
        cmocka_unit_test(a_notify_is_heard_and_a_poll_comes_without_one),
        cmocka_unit_test(an_open_transaction_holds_nobody_up_and_loses_nothing),
        cmocka_unit_test(a_load_and_what_comes_after_it_meet_without_a_gap),
        cmocka_unit_test(statements_within_statements_are_netted),
        cmocka_unit_test(every_type_goes_through_the_log_unchanged),
        cmocka_unit_test(what_cannot_be_told_row_by_row_is_read_again),
        cmocka_unit_test(columns_that_the_log_lacks_stop_it_until_init_has_put_it_right),
        cmocka_unit_test(a_partition_that_comes_or_goes_is_read),
        cmocka_unit_test(a_lost_connection_is_never_resumed),
        cmocka_unit_test(what_everybody_has_seen_is_trimmed),
        cmocka_unit_test(a_log_that_is_not_read_is_trimmed),
        cmocka_unit_test(without_the_right_to_trim_it_goes_on),
        cmocka_unit_test(auto_takes_the_best_and_goes_up_and_down),
        cmocka_unit_test(a_better_kind_that_fails_makes_room_and_is_tried_again),
        cmocka_unit_test(a_better_kind_that_worked_is_tried_again_before_it_makes_room),
        cmocka_unit_test(a_kind_that_is_named_and_not_possible_needs_a_person),
        cmocka_unit_test(a_reload_comes_when_its_interval_is_over),
    };
    return cmocka_run_group_tests(tests, side_setup, side_teardown);
}
