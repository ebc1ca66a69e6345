/*
 * test_postgres_logical.c - the logical feed on a real server: every kind of change, and what it
 * cannot follow.
 *
 * One thread: the feed is driven step by step. After each scene the table that was followed equals
 * one that is read anew, both ways. Randomly: test_postgres_oracle.c; how fast:
 * test_postgres_freshness.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "support/side.h"
#include "base/clock.h"
#include "base/thread.h"

#include <stdio.h>
#include <stdlib.h>

enum { LONG_MS = 20000 };

struct scene {
    struct mr_postgres_feed_options options;
    struct mr_feed *feed;
    struct mr_lookup *lookup;
    unsigned loads;
    enum mr_feed_event event; /* the last one */
    struct mr_error err;
    atomic_bool cancel;
};

static const char *const keys[] = {"restaurant"};

/* --- driving the feed --- */

/* The publication is named after the schema. `columns`: how many, then them; 0: all. */
static void scene_open(struct scene *s, const char *schema, size_t n_columns,
                       const char *const *columns)
{
    *s = (struct scene){.lookup = mr_lookup_new("l")};
    s->options = (struct mr_postgres_feed_options){.lookup = {.name = "l",
                                                              .dsn = dsn,
                                                              .table = "subs",
                                                              .keys = keys,
                                                              .n_keys = 1,
                                                              .columns = columns,
                                                              .n_columns = n_columns,
                                                              .distinct = true,
                                                              .cancel = &s->cancel},
                                                   .refresh = MR_POSTGRES_REFRESH_LOGICAL,
                                                   .interval_ms = 60000,
                                                   .publication = schema};
    if (!mr_postgres_feed_open(&s->options, &s->feed, &s->err))
        fail_msg("%s", s->err.msg);
}

static bool load(struct scene *s)
{
    struct mr_table *table = NULL;
    if (!s->feed->ops->load(s->feed, &table, &s->err))
        return false;
    mr_lookup_swap(s->lookup, table);
    s->loads++;
    return true;
}

static void read_once(struct scene *s)
{
    if (!load(s))
        fail_msg("%s", s->err.msg);
}

static enum mr_feed_event follow(struct scene *s)
{
    return s->event = s->feed->ops->follow(s->feed, s->lookup, 50, &s->err);
}

/* Loads, and is followed. A slot that was late costs a load more, which is not counted. */
static void loaded(struct scene *s)
{
    int64_t deadline = mr_clock_mono_ms() + LONG_MS;
    read_once(s);
    while (strstr(s->feed->ops->state(s->feed).why, "slot waits")) {
        while (follow(s) == MR_FEED_FOLLOWS)
            assert_true(mr_clock_mono_ms() < deadline);
        assert_int_equal(s->event, MR_FEED_READ);
        read_once(s);
        s->loads--;
    }
}

/* Until the feed asks for something else than to be called again. */
static void follow_until(struct scene *s, enum mr_feed_event wanted, const char *says)
{
    int64_t deadline = mr_clock_mono_ms() + LONG_MS;
    while (follow(s) == MR_FEED_FOLLOWS)
        if (mr_clock_mono_ms() > deadline)
            fail_msg("still following; wanted: %s", says);
    if (s->event != wanted || !strstr(s->err.msg, says))
        fail_msg("event %d, wanted %d, \"%s\": %s", (int)s->event, (int)wanted, says, s->err.msg);
}

/* What was committed before is shown; reads again when asked to. */
static void catch_up(struct scene *s)
{
    int64_t deadline = mr_clock_mono_ms() + LONG_MS;
    bool marked = false;
    while (!marked || !s->feed->ops->reached(s->feed)) {
        if (mr_clock_mono_ms() > deadline)
            fail_msg("the position is not reached: %s", s->err.msg);
        if (!marked)
            marked = s->feed->ops->mark(s->feed, &s->err);
        if (follow(s) != MR_FEED_FOLLOWS) {
            loaded(s);
            marked = false;
        }
    }
}

static struct mr_table_stats stats(struct scene *s)
{
    return mr_lookup_stats(s->lookup);
}

/* --- the comparison --- */

static void dump(const struct mr_table *table, const char *restaurant, struct mr_buf *out)
{
    struct mr_span *span = mr_span_new();
    struct mr_value value = {.type = MR_TEXT, .bytes = mr_bytes_of(restaurant)};
    struct mr_buf key = {0};
    struct mr_error err;
    struct mr_row_ref row;
    const struct mr_lookup_schema *schema = mr_table_schema(table);
    assert_true(mr_lookup_key(schema, &value, &key, &err));
    struct mr_bytes one = {key.ptr, key.len};
    mr_buf_reset(out);
    if (mr_span_open(span, table, &one, 1, (struct mr_bytes){NULL, 0}))
        while (mr_span_next(span, &row)) {
            const uint8_t *end = row.cells;
            for (size_t i = schema->n_keys; i < schema->n_columns; i++)
                end = mr_cell_skip(end);
            mr_buf_put(out, row.cells, (size_t)(end - row.cells));
        }
    mr_buf_fini(&key);
    mr_span_free(span);
}

/* The table that was followed and one that is read now have the same rows. */
static void is_equal(struct scene *s)
{
    struct mr_table *anew = NULL;
    struct mr_pin pin = {0};
    struct mr_buf followed = {0}, read = {0};
    if (!mr_postgres_lookup_load(&s->options.lookup, &anew, &s->err))
        fail_msg("%s", s->err.msg);
    struct mr_table_stats wanted = mr_table_stats(anew), have = stats(s);
    if (wanted.rows != have.rows || wanted.keys != have.keys || wanted.null_keys != have.null_keys)
        fail_msg("followed: %d rows, %d keys, %d without; read: %d, %d, %d", (int)have.rows,
                 (int)have.keys, (int)have.null_keys, (int)wanted.rows, (int)wanted.keys,
                 (int)wanted.null_keys);
    assert_true(mr_lookup_pin(s->lookup, &pin));
    PGresult *res = PQexec(side, "SELECT DISTINCT restaurant FROM subs WHERE restaurant NOTNULL");
    for (int i = 0; i < PQntuples(res); i++) {
        dump(pin.table, PQgetvalue(res, i, 0), &followed);
        dump(anew, PQgetvalue(res, i, 0), &read);
        if (followed.len != read.len || memcmp(followed.ptr, read.ptr, read.len) != 0)
            fail_msg("the rows of %s differ", PQgetvalue(res, i, 0));
    }
    PQclear(res);
    mr_lookup_unpin(s->lookup, &pin);
    mr_buf_fini(&followed);
    mr_buf_fini(&read);
    mr_table_free(anew);
}

static void changed(struct scene *s, const char *sql)
{
    ask("%s", sql);
    catch_up(s);
    is_equal(s);
}

/* Followed by `wanted` loads in all; nothing of it stays on the server. */
static void scene_close(struct scene *s, unsigned wanted)
{
    assert_int_equal(s->loads, wanted);
    s->feed->ops->close(s->feed);
    mr_lookup_free(s->lookup);
    await("0", "SELECT count(*) FROM pg_replication_slots");
}

static void make_table(const char *schema, const char *definition)
{
    fresh(schema);
    ask("DROP PUBLICATION IF EXISTS %s", schema);
    ask("CREATE TABLE subs (%s)", definition);
    ask("CREATE PUBLICATION %s FOR TABLE subs WITH (publish_via_partition_root)", schema);
    ask("INSERT INTO subs (restaurant, client) SELECT 'r' || i %% 10, 'c' || i FROM "
        "generate_series(1, 1000) i");
}

static const char subs_table[] =
    "id serial PRIMARY KEY, restaurant text, client text NOT NULL, vip bool, note text, other int";
static const char *const subs_columns[] = {"client", "vip", "note"};

/* --- changes --- */

static void every_change(struct scene *s)
{
    changed(s, "INSERT INTO subs (restaurant, client) VALUES ('r1', 'new'), ('r99', 'new')");
    changed(s, "UPDATE subs SET vip = true WHERE id % 7 = 0");
    changed(s, "UPDATE subs SET restaurant = 'r' || id % 13 WHERE id % 5 = 0");
    changed(s, "UPDATE subs SET id = id + 100000 WHERE id % 11 = 0");
    changed(s, "UPDATE subs SET id = id + 100000, restaurant = 'r3', client = client || 'x' "
               "WHERE id % 17 = 0");
    int64_t before = s->feed->ops->state(s->feed).changes;
    changed(s, "UPDATE subs SET other = 1");
    assert_int_equal(s->feed->ops->state(s->feed).changes, before);
    changed(s, "DELETE FROM subs WHERE id % 3 = 0");
    /* Equal rows, of which one goes. */
    changed(s, "INSERT INTO subs (restaurant, client) SELECT 'twice', 'c' FROM generate_series(1, "
               "3)");
    changed(s, "DELETE FROM subs WHERE id = (SELECT min(id) FROM subs WHERE restaurant = 'twice')");
    changed(s, "UPDATE subs SET client = 'd' WHERE id = (SELECT min(id) FROM subs WHERE restaurant "
               "= 'twice')");
    /* Keys that are null come and go. */
    changed(s, "INSERT INTO subs (restaurant, client, note) SELECT NULL, 'n' || i, 'short' FROM "
               "generate_series(1, 10) i");
    changed(s, "UPDATE subs SET restaurant = 'r5' WHERE client = 'n1'");
    changed(s, "UPDATE subs SET vip = false WHERE client IN ('n1', 'n2')");
    changed(s, "UPDATE subs SET restaurant = NULL WHERE restaurant = 'r6'");
    changed(s, "DELETE FROM subs WHERE client IN ('n1', 'n2', 'n3')");
    /* What was undone is not seen. */
    changed(s, "BEGIN; DELETE FROM subs; ROLLBACK");
    changed(s, "BEGIN; DELETE FROM subs WHERE restaurant = 'r1'; SAVEPOINT a; INSERT INTO subs "
               "(restaurant, client) VALUES ('r1', 'gone'); ROLLBACK TO a; INSERT INTO subs "
               "(restaurant, client) VALUES ('r1', 'stays'); SAVEPOINT b; UPDATE subs SET client = "
               "'moved' WHERE client = 'stays'; RELEASE b; COMMIT");
    changed(s, "BEGIN; INSERT INTO subs (restaurant, client) VALUES ('r1', 'brief'); UPDATE subs "
               "SET restaurant = 'r2' WHERE client = 'brief'; DELETE FROM subs WHERE client = "
               "'brief'; COMMIT");
    /* Values that are kept out of line. */
    changed(s, "INSERT INTO subs (restaurant, client, note) SELECT 'long', 'l' || i, (SELECT "
               "string_agg(md5((i * j)::text), '') FROM generate_series(1, 300) j) FROM "
               "generate_series(1, 20) i");
    changed(s, "UPDATE subs SET vip = true WHERE restaurant = 'long'");
    changed(s, "UPDATE subs SET restaurant = 'longer' WHERE client IN ('l1', 'l2')");
    changed(s, "UPDATE subs SET id = id + 1000000 WHERE client IN ('l2', 'l3')");
    changed(s, "UPDATE subs SET note = note || '!' WHERE client IN ('l3', 'l4')");
    changed(s, "DELETE FROM subs WHERE client IN ('l1', 'l4')");
    /* The whole table. */
    changed(s, "BEGIN; INSERT INTO subs (restaurant, client) VALUES ('r1', 'before'); TRUNCATE "
               "subs; INSERT INTO subs (restaurant, client) VALUES ('r1', 'after'); COMMIT");
    changed(s, "UPDATE subs SET client = 'later'");
    changed(s, "TRUNCATE subs");
    assert_int_equal(stats(s).rows, 0);
    changed(s, "INSERT INTO subs (restaurant, client) VALUES ('r1', 'again')");
}

static void follow_identity(const char *schema, const char *identity)
{
    struct scene s;
    make_table(schema, subs_table);
    ask("ALTER TABLE subs ALTER note SET STORAGE EXTERNAL");
    ask("ALTER TABLE subs ADD uid uuid NOT NULL DEFAULT gen_random_uuid() UNIQUE");
    ask("ALTER TABLE subs REPLICA IDENTITY %s", identity);
    scene_open(&s, schema, 3, subs_columns);
    loaded(&s);
    assert_int_equal(s.feed->ops->state(s.feed).kind, MR_FEED_LOGICAL);
    every_change(&s);
    scene_close(&s, 1);
}

static void changes_told_by_the_primary_key(void **state)
{
    (void)state;
    follow_identity("lg_default", "DEFAULT");
}

static void changes_told_by_whole_rows(void **state)
{
    (void)state;
    follow_identity("lg_full", "FULL");
}

static void changes_told_by_another_index(void **state)
{
    (void)state;
    follow_identity("lg_index", "USING INDEX subs_uid_key");
}

/* The identity has all columns of the lookup: rows are told by them, and by nothing else. */
static void an_identity_that_is_the_whole_row(void **state)
{
    (void)state;
    static const char *const columns[] = {"client"};
    struct scene s;
    make_table("lg_pair", "restaurant text, client text, other int, PRIMARY KEY (restaurant, "
                          "client)");
    scene_open(&s, "lg_pair", 1, columns);
    loaded(&s);
    changed(&s, "INSERT INTO subs VALUES ('r1', 'new'), ('r99', 'new')");
    changed(&s, "UPDATE subs SET other = 7");
    changed(&s, "UPDATE subs SET restaurant = 'r1' WHERE restaurant = 'r2'");
    changed(&s, "UPDATE subs SET client = client || 'x' WHERE restaurant = 'r3'");
    changed(&s, "DELETE FROM subs WHERE restaurant IN ('r1', 'r4')");
    scene_close(&s, 1);
}

static void every_type_is_followed(void **state)
{
    (void)state;
    struct scene s;
    fresh("lg_types");
    ask("DROP PUBLICATION IF EXISTS lg_types; CREATE TYPE mood AS ENUM ('sad', 'ok'); "
        "CREATE DOMAIN shortish AS varchar(4); CREATE DOMAIN deeper AS shortish CHECK (true)");
    ask("CREATE TABLE subs (restaurant text, id int PRIMARY KEY, v varchar(30), b bpchar(7), n "
        "name, m mood, d deeper, j json, jb jsonb, u uuid, i2 int2, i8 int8, bo bool, f4 float4, "
        "f8 float8, nu numeric, nm numeric(12, 4), tz timestamptz, ts timestamp, da date)");
    ask("CREATE PUBLICATION lg_types FOR TABLE subs");
    scene_open(&s, "lg_types", 0, NULL);
    loaded(&s);
    changed(&s, "INSERT INTO subs SELECT 'r' || i % 5, i, left(md5(i::text), i % 20), "
                "left(md5(i::text), i % 8), md5(i::text), (ARRAY['sad', 'ok'])[1 + i % 2]::mood, "
                "left(md5(i::text), i % 4), json_build_object('k', i), jsonb_build_object('k', i * "
                "0.5, 'n', null), gen_random_uuid(), i, i::int8 << 40, i % 2 = 0, 0.1 * i, 1e300 / "
                "i, i / 7.0, i / 3.0, now() + i * interval '1 hour', now()::timestamp, now()::date "
                "+ i FROM generate_series(1, 200) i");
    changed(&s, "INSERT INTO subs (restaurant, id) VALUES ('nulls', 201)");
    changed(&s, "INSERT INTO subs (restaurant, id, f4, f8, nu, tz, ts, da) VALUES ('special', 202, "
                "'nan', '-infinity', 'nan', 'infinity', '-infinity', 'infinity')");
    changed(&s, "UPDATE subs SET m = 'ok', d = 'abcd', nu = nu * 10, tz = tz - interval '1 year', "
                "jb = '[]' WHERE id % 3 = 0");
    changed(&s, "UPDATE subs SET id = id + 1000, f4 = f4 / 3, nm = nm + 0.5 WHERE id % 3 = 1");
    changed(&s, "DELETE FROM subs WHERE id % 4 = 0");
    scene_close(&s, 1);
}

static void other_tables_of_the_publication(void **state)
{
    (void)state;
    struct scene s;
    make_table("lg_several", subs_table);
    ask("CREATE TABLE others (id int PRIMARY KEY, t text); CREATE TABLE \"subs \" (id int)");
    ask("ALTER PUBLICATION lg_several ADD TABLE others, \"subs \"");
    scene_open(&s, "lg_several", 3, subs_columns);
    loaded(&s);
    ask("INSERT INTO others SELECT i, 't' FROM generate_series(1, 5000) i");
    changed(&s, "BEGIN; DELETE FROM others WHERE id < 100; DELETE FROM subs WHERE id < 100; UPDATE "
                "others SET t = 'u'; TRUNCATE others; INSERT INTO \"subs \" VALUES (1); COMMIT");
    assert_int_equal(stats(&s).rows, 901);
    scene_close(&s, 1);
}

static void a_partitioned_table(void **state)
{
    (void)state;
    struct scene s;
    fresh("lg_parts");
    ask("DROP PUBLICATION IF EXISTS lg_parts; CREATE TABLE subs (id serial, restaurant text, "
        "client text, region int, PRIMARY KEY (id, region)) PARTITION BY LIST (region); "
        "CREATE TABLE subs_1 PARTITION OF subs FOR VALUES IN (1); "
        "CREATE TABLE subs_2 (client text, dropped int, region int NOT NULL, restaurant text, id "
        "int NOT NULL); ALTER TABLE subs_2 DROP dropped; "
        "ALTER TABLE subs ATTACH PARTITION subs_2 FOR VALUES IN (2); "
        "CREATE PUBLICATION lg_parts FOR TABLE subs WITH (publish_via_partition_root); "
        "INSERT INTO subs (restaurant, client, region) SELECT 'r' || i %% 10, 'c' || i, 1 + i %% 2 "
        "FROM generate_series(1, 1000) i");
    static const char *const columns[] = {"client"};
    scene_open(&s, "lg_parts", 1, columns);
    loaded(&s);
    changed(&s, "INSERT INTO subs (restaurant, client, region) VALUES ('r1', 'a', 1), ('r1', 'b', "
                "2)");
    changed(&s, "UPDATE subs SET region = 3 - region WHERE id % 3 = 0");
    changed(&s, "DELETE FROM subs WHERE id % 5 = 0");
    changed(&s, "TRUNCATE subs");
    changed(&s, "INSERT INTO subs (restaurant, client, region) VALUES ('r1', 'a', 1), ('r1', 'b', "
                "2)");
    assert_int_equal(s.loads, 1);
    changed(&s, "TRUNCATE subs_2"); /* of which the stream says nothing */
    assert_int_equal(s.loads, 2);
    changed(&s, "ALTER TABLE subs DETACH PARTITION subs_1");
    scene_close(&s, 3);
}

/* --- what cannot be followed --- */

static void columns_that_are_altered(void **state)
{
    (void)state;
    struct scene s;
    make_table("lg_ddl", subs_table);
    scene_open(&s, "lg_ddl", 3, subs_columns);
    loaded(&s);
    /* What the lookup does not read may come and go. */
    changed(&s, "ALTER TABLE subs ADD more int; UPDATE subs SET vip = true WHERE id = 1");
    changed(&s, "BEGIN; INSERT INTO subs (restaurant, client) VALUES ('r1', 'x'); ALTER TABLE subs "
                "DROP more; ALTER TABLE subs DROP other; INSERT INTO subs (restaurant, client) "
                "VALUES ('r1', 'y'); COMMIT");
    assert_int_equal(s.loads, 1);
    ask("ALTER TABLE subs ALTER vip TYPE text; UPDATE subs SET vip = 'maybe' WHERE id = 1");
    follow_until(&s, MR_FEED_READ, "vip");
    loaded(&s);
    catch_up(&s);
    is_equal(&s);
    /* The same type, other values, and nobody writes. */
    changed(&s, "ALTER TABLE subs ALTER vip TYPE text USING vip || '!'");
    assert_int_equal(s.loads, 3);
    changed(&s, "ALTER TABLE subs DROP note; ALTER TABLE subs ADD note text DEFAULT 'x'");
    assert_int_equal(s.loads, 4);
    changed(&s, "ALTER TABLE subs RENAME vip TO v; ALTER TABLE subs RENAME note TO vip; ALTER "
                "TABLE subs RENAME v TO note");
    assert_int_equal(s.loads, 5);
    changed(&s, "ALTER TABLE subs REPLICA IDENTITY FULL; DELETE FROM subs WHERE id < 50");
    assert_int_equal(s.loads, 6);
    changed(&s, "ALTER TABLE subs RENAME TO subs_old; CREATE TABLE subs (LIKE subs_old INCLUDING "
                "ALL); INSERT INTO subs SELECT * FROM subs_old WHERE id % 2 = 0; ALTER PUBLICATION "
                "lg_ddl SET TABLE subs; DELETE FROM subs WHERE id % 4 = 0");
    assert_int_equal(s.loads, 7);
    ask("ALTER TABLE subs DROP client; UPDATE subs SET vip = 'z'");
    follow_until(&s, MR_FEED_READ, "subs");
    assert_false(load(&s));
    assert_non_null(strstr(s.err.msg, "client"));
    scene_close(&s, 7);
}

static void a_lookup_of_all_columns_gets_new_ones(void **state)
{
    (void)state;
    struct scene s;
    make_table("lg_all", "id serial PRIMARY KEY, restaurant text, client text");
    scene_open(&s, "lg_all", 0, NULL);
    loaded(&s);
    changed(&s, "ALTER TABLE subs ADD vip bool; UPDATE subs SET vip = true WHERE id < 10");
    assert_int_equal(s.loads, 2);
    struct mr_pin pin = {0};
    assert_true(mr_lookup_pin(s.lookup, &pin));
    assert_int_equal(mr_table_schema(pin.table)->n_columns, 4);
    mr_lookup_unpin(s.lookup, &pin);
    scene_close(&s, 2);
}

static void a_publication_that_loses_the_table(void **state)
{
    (void)state;
    struct scene s;
    make_table("lg_lost", subs_table);
    scene_open(&s, "lg_lost", 3, subs_columns);
    loaded(&s);
    ask("ALTER PUBLICATION lg_lost DROP TABLE subs");
    ask("DELETE FROM subs WHERE id < 10"); /* of which the stream says nothing */
    follow_until(&s, MR_FEED_READ, "published");
    assert_false(load(&s));
    ask("ALTER PUBLICATION lg_lost ADD TABLE subs");
    loaded(&s);
    catch_up(&s);
    is_equal(&s);
    ask("DROP PUBLICATION lg_lost; DELETE FROM subs WHERE id < 20");
    while (follow(&s) == MR_FEED_FOLLOWS) {
    }
    assert_true(s.event == MR_FEED_READ || strstr(s.err.msg, "publication \"lg_lost\""));
    assert_false(load(&s));
    assert_int_equal(s.err.action, MR_RETRY); /* it worked before: somebody will put it right */
    scene_close(&s, 2);
}

static void slots_that_are_all_in_use(void **state)
{
    (void)state;
    struct scene s;
    make_table("lg_slots", subs_table);
    ask("SELECT count(pg_create_physical_replication_slot('lg_' || i)) FROM generate_series(1, "
        "current_setting('max_replication_slots')::int) i");
    scene_open(&s, "lg_slots", 3, subs_columns);
    assert_false(load(&s));
    ask("SELECT count(pg_drop_replication_slot(slot_name)) FROM pg_replication_slots WHERE "
        "slot_name LIKE 'lg\\_%%'");
    assert_non_null(strstr(s.err.msg, "all replication slots are in use"));
    loaded(&s);
    changed(&s, "DELETE FROM subs WHERE id < 10");
    scene_close(&s, 1);
}

/* --- what happens to the feed --- */

static void a_feed_that_is_ended_in_the_middle(void **state)
{
    (void)state;
    struct scene s;
    make_table("lg_killed", subs_table);
    scene_open(&s, "lg_killed", 3, subs_columns);
    loaded(&s);
    catch_up(&s);
    ask("INSERT INTO subs (restaurant, client) SELECT 'big', i FROM generate_series(1, 300000) i");
    int64_t deadline = mr_clock_mono_ms() + LONG_MS;
    /* It may have got all of it by then; nothing but all or nothing is seen. */
    ask("SELECT count(pg_terminate_backend(active_pid)) FROM pg_replication_slots");
    do {
        if (follow(&s) == MR_FEED_FOLLOWS)
            assert_true(stats(&s).rows == 1000 || stats(&s).rows == 301000);
    } while (s.event == MR_FEED_FOLLOWS && mr_clock_mono_ms() < deadline);
    assert_int_equal(s.event, MR_FEED_FAILED);
    assert_non_null(strstr(s.err.msg, "terminat"));
    assert_true(stats(&s).rows == 1000 || stats(&s).rows == 301000);
    assert_false(s.feed->ops->mark(s.feed, &s.err));
    assert_false(s.feed->ops->reached(s.feed));
    loaded(&s);
    catch_up(&s);
    is_equal(&s);
    scene_close(&s, 2);
}

static void a_large_transaction_is_all_or_nothing(void **state)
{
    (void)state;
    struct scene s;
    make_table("lg_large", subs_table);
    scene_open(&s, "lg_large", 3, subs_columns);
    loaded(&s);
    catch_up(&s);
    ask("BEGIN; DELETE FROM subs; INSERT INTO subs (restaurant, client) SELECT 'r' || i %% 1000, i "
        "FROM generate_series(1, 200000) i; UPDATE subs SET vip = true WHERE client LIKE '%%7'; "
        "COMMIT");
    int64_t begun_ms = mr_clock_mono_ms();
    while (stats(&s).rows == 1000) {
        assert_int_equal(follow(&s), MR_FEED_FOLLOWS);
        assert_true(mr_clock_mono_ms() - begun_ms < LONG_MS);
    }
    print_message("%d rows put and taken in one transaction: shown after %d ms\n",
                  (int)s.feed->ops->state(s.feed).changes, (int)(mr_clock_mono_ms() - begun_ms));
    assert_int_equal(stats(&s).rows, 200000);
    catch_up(&s);
    is_equal(&s);
    scene_close(&s, 1);
}

static void many_small_transactions_are_shown_together(void **state)
{
    (void)state;
    struct scene s;
    make_table("lg_many", subs_table);
    scene_open(&s, "lg_many", 3, subs_columns);
    loaded(&s);
    ask("CREATE PROCEDURE churn() LANGUAGE plpgsql AS 'BEGIN FOR i IN 1..20000 LOOP UPDATE subs "
        "SET client = i WHERE id = 1 + i %% 1000; COMMIT; END LOOP; END'");
    ask("SET synchronous_commit = off");
    ask("CALL churn()");
    ask("RESET synchronous_commit");
    int64_t begun_ms = mr_clock_mono_ms();
    catch_up(&s);
    print_message("20000 transactions: shown %d ms after the last, lag then %d ms\n",
                  (int)(mr_clock_mono_ms() - begun_ms), (int)s.feed->ops->state(s.feed).lag_ms);
    is_equal(&s);
    scene_close(&s, 1);
}

static void a_slot_waits_for_open_transactions_and_nobody_else_does(void **state)
{
    (void)state;
    struct scene s;
    make_table("lg_waits", subs_table);
    PGconn *other = PQconnectdb(dsn);
    PQclear(PQexec(other, "BEGIN; INSERT INTO subs (restaurant, client) VALUES ('r1', 'late')"));
    scene_open(&s, "lg_waits", 3, subs_columns);
    s.options.interval_ms = 200;
    int64_t begun_ms = mr_clock_mono_ms();
    read_once(&s);
    assert_in_range(mr_clock_mono_ms() - begun_ms, 0, LONG_MS);
    assert_int_equal(stats(&s).rows, 1000);
    assert_non_null(strstr(s.feed->ops->state(s.feed).why, "slot waits"));
    assert_non_null(strstr(s.feed->ops->state(s.feed).why, " open (the oldest is of process "));
    /* Its table is as old as one that is read at an interval, and no staler than that. */
    assert_int_equal(s.feed->ops->state(s.feed).kind, MR_FEED_RELOAD);
    assert_false(s.feed->ops->mark(s.feed, &s.err));
    /* Meanwhile it is read again at the interval. */
    ask("DELETE FROM subs WHERE id = 1");
    follow_until(&s, MR_FEED_READ, "read again");
    read_once(&s);
    assert_int_equal(stats(&s).rows, 999);
    PQclear(PQexec(other, "COMMIT"));
    PQfinish(other);
    /* On a busy machine the next interval may end before the slot is there. */
    int64_t deadline_ms = mr_clock_mono_ms() + LONG_MS;
    unsigned loads = 2;
    for (bool slot = false; !slot; loads++) {
        while (follow(&s) == MR_FEED_FOLLOWS)
            assert_true(mr_clock_mono_ms() < deadline_ms);
        assert_int_equal(s.event, MR_FEED_READ);
        slot = strstr(s.err.msg, "can be followed now") != NULL;
        assert_true(slot || strstr(s.err.msg, "read again"));
        read_once(&s);
    }
    assert_int_equal(stats(&s).rows, 1000);
    assert_null(strstr(s.feed->ops->state(s.feed).why, "slot waits"));
    assert_int_equal(s.feed->ops->state(s.feed).kind, MR_FEED_LOGICAL);
    changed(&s, "DELETE FROM subs WHERE id = 2");
    scene_close(&s, loads);
}

static void cancel_soon(void *arg)
{
    mr_clock_sleep_ms(300);
    atomic_store((atomic_bool *)arg, true);
}

static void a_feed_can_be_called_off(void **state)
{
    (void)state;
    struct scene s;
    struct mr_thread thread;
    make_table("lg_off", subs_table);
    PGconn *other = PQconnectdb(dsn);
    PQclear(PQexec(other, "BEGIN; INSERT INTO subs (restaurant, client) VALUES ('r1', 'late')"));
    scene_open(&s, "lg_off", 3, subs_columns);
    int64_t begun_ms = mr_clock_mono_ms();
    mr_thread_start(&thread, cancel_soon, &s.cancel);
    assert_false(load(&s)); /* while it waits for its slot */
    assert_in_range(mr_clock_mono_ms() - begun_ms, 200, LONG_MS / 2);
    assert_true(mr_thread_join(&thread, mr_clock_mono_ms() + LONG_MS));
    assert_non_null(strstr(s.err.msg, "called off"));
    /* The process that waits for the slot does not stay behind. */
    await("0", "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender'");
    PQfinish(other);
    atomic_store(&s.cancel, false);
    loaded(&s);
    catch_up(&s);
    begun_ms = mr_clock_mono_ms();
    mr_thread_start(&thread, cancel_soon, &s.cancel);
    while (!atomic_load(&s.cancel))
        s.feed->ops->follow(s.feed, s.lookup, LONG_MS, &s.err);
    assert_in_range(mr_clock_mono_ms() - begun_ms, 200, LONG_MS / 2);
    assert_true(mr_thread_join(&thread, mr_clock_mono_ms() + LONG_MS));
    scene_close(&s, 1);
}

static void sleep_long(void *arg, uint64_t rows, uint64_t estimated, uint64_t bytes)
{
    (void)rows, (void)estimated, (void)bytes;
    if (!(*(int *)arg)++)
        mr_clock_sleep_ms(3000); /* the load is slow: longer than those */
}

static void a_snapshot_outlives_the_time_outs_of_the_server(void **state)
{
    (void)state;
    struct scene s;
    int calls = 0;
    make_table("lg_slow", subs_table);
    ask("ALTER ROLE millrace SET idle_in_transaction_session_timeout = '2s'; ALTER ROLE "
        "millrace "
        "SET statement_timeout = '2s'; ALTER ROLE millrace SET idle_session_timeout = '2s'");
    scene_open(&s, "lg_slow", 3, subs_columns);
    s.options.lookup.progress = sleep_long;
    s.options.lookup.progress_arg = &calls;
    bool ok = load(&s);
    ask("ALTER ROLE millrace RESET ALL");
    if (!ok)
        fail_msg("%s", s.err.msg);
    assert_true(calls > 0);
    changed(&s, "DELETE FROM subs WHERE id = 1");
    scene_close(&s, 1);
}

/* All connections go to the server that has the slot. */
static void a_dsn_of_several_hosts_and_one_with_a_password(void **state)
{
    (void)state;
    struct scene s;
    char several[512];
    const char *host = strstr(dsn, "host=") + 5, *port = strstr(dsn, "port=") + 5;
    make_table("lg_hosts", subs_table);
    snprintf(several, sizeof several, "host=/nowhere,%.*s port=1,%d user=millrace dbname=promo",
             (int)strcspn(host, "&"), host, atoi(port));
    scene_open(&s, "lg_hosts", 3, subs_columns);
    s.options.lookup.dsn = several;
    loaded(&s);
    changed(&s, "DELETE FROM subs WHERE id = 1");
    scene_close(&s, 1);
    scene_open(&s, "lg_hosts", 3, subs_columns);
    s.options.lookup.dsn = getenv("MILLRACE_PG_TCP");
    assert_non_null(s.options.lookup.dsn);
    loaded(&s);
    changed(&s, "DELETE FROM subs WHERE id = 2");
    scene_close(&s, 1);
}

static void restart_server(void *arg)
{
    *(int *)arg = system("tests/support/postgres restart");
}

/* A server that goes down waits for its streams to confirm: it must not wait long. */
static void a_server_that_is_restarted(void **state)
{
    (void)state;
    struct scene s;
    struct mr_thread thread;
    int status = -1;
    make_table("lg_restart", subs_table);
    scene_open(&s, "lg_restart", 3, subs_columns);
    loaded(&s);
    catch_up(&s);
    ask("CHECKPOINT"); /* what others have left to write is not what is measured */
    ask("DELETE FROM subs WHERE id = 1");
    int64_t begun_ms = mr_clock_mono_ms();
    mr_thread_start(&thread, restart_server, &status);
    while (follow(&s) == MR_FEED_FOLLOWS)
        assert_true(mr_clock_mono_ms() - begun_ms < LONG_MS);
    assert_int_equal(s.event, MR_FEED_FAILED);
    assert_true(mr_clock_mono_ms() - begun_ms < LONG_MS - 1000); /* then it would be killed */
    assert_int_equal(stats(&s).rows, 999);
    assert_true(mr_thread_join(&thread, mr_clock_mono_ms() + 4 * LONG_MS));
    assert_int_equal(status, 0);
    PQreset(side);
    ask("SET search_path = lg_restart");
    loaded(&s);
    catch_up(&s);
    is_equal(&s);
    scene_close(&s, 2);
}

/* A position is reached though the last of the log is not written out, and commits that do not wait
 * for that are seen all the same. */
static void a_mark_is_reached_while_the_log_stands(void **state)
{
    (void)state;
    struct scene s;
    make_table("lg_mark", subs_table);
    scene_open(&s, "lg_mark", 3, subs_columns);
    loaded(&s);
    PGconn *other = PQconnectdb(dsn);
    ask("SET synchronous_commit = off");
    for (int i = 0; i < 20; i++) {
        PQclear(PQexec(other, "BEGIN; INSERT INTO subs (restaurant, client) SELECT 'r1', 'open' "
                              "FROM generate_series(1, 10)"));
        int64_t begun_ms = mr_clock_mono_ms();
        changed(&s, "DELETE FROM subs WHERE id = (SELECT min(id) FROM subs)");
        assert_in_range(mr_clock_mono_ms() - begun_ms, 0, 12000); /* the log moves each 15 s */
        PQclear(PQexec(other, "ROLLBACK"));
    }
    ask("RESET synchronous_commit");
    PQfinish(other);
    /* How long a strict unit waits. */
    int64_t begun_us = mr_clock_mono_us();
    for (int i = 0; i < 200; i++)
        catch_up(&s);
    print_message("a position is reached: %.2f ms, mean of 200\n",
                  (double)(mr_clock_mono_us() - begun_us) / 200000);
    scene_close(&s, 1);
}

static void a_table_that_rests_is_known_to_be_fresh(void **state)
{
    (void)state;
    struct scene s;
    make_table("lg_rests", subs_table);
    scene_open(&s, "lg_rests", 3, subs_columns);
    loaded(&s);
    int64_t worst = 0, until = mr_clock_mono_ms() + 4000, before = 0, last = 0, gap = 0;
    catch_up(&s);
    for (int64_t now; (now = mr_clock_mono_ms()) < until;) {
        gap = last && now - last > gap ? now - last : gap; /* in which nobody could look */
        last = now;
        assert_int_equal(follow(&s), MR_FEED_FOLLOWS);
        int64_t as_of = s.feed->ops->state(s.feed).as_of_ms;
        assert_true(as_of >= before && as_of <= mr_clock_mono_ms());
        before = as_of;
        worst = now - as_of > worst ? now - as_of : worst;
    }
    assert_in_range(worst, 0, 3000 + gap);
    assert_int_equal(s.feed->ops->state(s.feed).lag_ms, -1);
    changed(&s, "DELETE FROM subs WHERE id = 1");
    assert_in_range(s.feed->ops->state(s.feed).lag_ms, 0, LONG_MS);
    scene_close(&s, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(changes_told_by_the_primary_key),
        cmocka_unit_test(changes_told_by_whole_rows),
        cmocka_unit_test(changes_told_by_another_index),
        cmocka_unit_test(an_identity_that_is_the_whole_row),
        cmocka_unit_test(every_type_is_followed),
        cmocka_unit_test(other_tables_of_the_publication),
        cmocka_unit_test(a_partitioned_table),
        cmocka_unit_test(columns_that_are_altered),
        cmocka_unit_test(a_lookup_of_all_columns_gets_new_ones),
        cmocka_unit_test(a_publication_that_loses_the_table),
        cmocka_unit_test(slots_that_are_all_in_use),
        cmocka_unit_test(a_feed_that_is_ended_in_the_middle),
        cmocka_unit_test(a_large_transaction_is_all_or_nothing),
        cmocka_unit_test(many_small_transactions_are_shown_together),
        cmocka_unit_test(a_slot_waits_for_open_transactions_and_nobody_else_does),
        cmocka_unit_test(a_feed_can_be_called_off),
        cmocka_unit_test(a_mark_is_reached_while_the_log_stands),
        cmocka_unit_test(a_table_that_rests_is_known_to_be_fresh),
        cmocka_unit_test(a_snapshot_outlives_the_time_outs_of_the_server),
        cmocka_unit_test(a_dsn_of_several_hosts_and_one_with_a_password),
        cmocka_unit_test(a_server_that_is_restarted),
    };
    return cmocka_run_group_tests(tests, side_setup, side_teardown);
}
