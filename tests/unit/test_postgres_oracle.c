/*
 * test_postgres_oracle.c - after any churn a lookup equals SELECT, both ways.
 *
 * Seeded random changes from several connections (inserts, updates, keys that move, deletes,
 * truncates, DDL, doubled rows, savepoints, rollbacks, small and large transactions) while a feed
 * follows and its connections are killed. At quiet points the table in memory is written out and
 * compared with what SELECT says; a difference that stays is a failure.
 *
 * MILLRACE_ORACLE_SEED=n   the same choices again (the server's speed still decides what meets
 * what) MILLRACE_ORACLE_ROUNDS=n quiet points a test, default 6; a longer run: 2000
 * MILLRACE_ORACLE_TRACE=1  every statement on stderr
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "support/follower.h"
#include "support/side.h"
#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>

enum { CONNECTIONS = 4, RESTAURANTS = 12, CITIES = 3, QUIET_MS = 20000, STEPS = 60 };

struct scene {
    const char *name; /* of the schema and of the lookup */
    enum mr_postgres_refresh refresh;
    const char *identity; /* REPLICA IDENTITY ... */
    bool composite, distinct, ddl;
};

struct oracle {
    const struct scene *scene;
    struct mr_postgres_feed_options options;
    struct follower *follower;
    PGconn *conns[CONNECTIONS];
    bool open[CONNECTIONS]; /* in a transaction */
    uint64_t rng;
    unsigned steps, kills, crashes, refused, strict;
    bool renamed, dropped; /* DDL: how the columns stand */
    int retyped;
};

static uint64_t seed;
static unsigned rounds;
static bool tracing;
static struct follower *running; /* what a test that failed has left */

/* --- chance --- */

static uint64_t any(struct oracle *o)
{
    uint64_t z = o->rng += 0x9e3779b97f4a7c15U; /* splitmix64 */
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9U;
    z = (z ^ z >> 27) * 0x94d049bb133111ebU;
    return z ^ z >> 31;
}

static unsigned below(struct oracle *o, unsigned n)
{
    return (unsigned)(any(o) % n);
}

static bool one_in(struct oracle *o, unsigned n)
{
    return below(o, n) == 0;
}

/* --- the writers --- */

static void reconnect(struct oracle *o, size_t c)
{
    PQfinish(o->conns[c]);
    o->conns[c] = PQconnectdb(dsn);
    char sql[256];
    snprintf(sql, sizeof sql,
             "SET application_name = oracle; SET client_min_messages = error; "
             "SET lock_timeout = '2s'; SET search_path = %s; SELECT setseed(0.%u)",
             o->scene->name, below(o, 100000));
    PGresult *res = PQexec(o->conns[c], sql);
    if (PQresultStatus(res) != PGRES_TUPLES_OK)
        fail_msg("%s", PQerrorMessage(o->conns[c]));
    PQclear(res);
    o->open[c] = false;
}

/* Runs SQL on a connection. What the server refuses (a lock that is held too long by a read of the
 * table) ends the transaction, as it would end an application's. */
MR_PRINTF(3, 4) static bool say(struct oracle *o, size_t c, const char *format, ...)
{
    char sql[2048];
    va_list ap;
    va_start(ap, format);
    vsnprintf(sql, sizeof sql, format, ap);
    va_end(ap);
    if (tracing)
        fprintf(stderr, "%d: %s;\n", (int)c, sql);
    PGresult *res = PQexec(o->conns[c], sql);
    ExecStatusType status = PQresultStatus(res);
    bool ok = status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK;
    const char *state = PQresultErrorField(res, PG_DIAG_SQLSTATE);
    if (!ok && (!state || (strcmp(state, "55P03") != 0 && strcmp(state, "40P01") != 0)))
        fail_msg("seed %llu: %s: %s", (unsigned long long)seed, sql, PQresultErrorMessage(res));
    PQclear(res);
    if (!ok) {
        o->refused++;
        PQclear(PQexec(o->conns[c], "ROLLBACK"));
        o->open[c] = false;
    }
    return ok;
}

static void end(struct oracle *o, size_t c)
{
    if (o->open[c])
        say(o, c, one_in(o, 4) ? "ROLLBACK" : "COMMIT");
    o->open[c] = false;
}

static void end_all(struct oracle *o)
{
    for (size_t c = 0; c < CONNECTIONS; c++)
        end(o, c);
}

static const char *column(const struct oracle *o)
{
    return o->renamed ? "points" : "score";
}

/* Few clients and scores, so that many rows are doubled; some keys are NULL, some texts are uuids,
 * some notes are so long that they are kept out of line. */
static void insert(struct oracle *o, size_t c, unsigned n)
{
    say(o, c,
        "INSERT INTO subs (restaurant, city, client, %s, note) "
        "SELECT CASE WHEN random() < 0.02 THEN NULL WHEN random() < 0.1 THEN "
        "'00000000-0000-4000-8000-00000000000' || (random() * 9)::int "
        "ELSE 'r' || floor(random() * %d)::int END, floor(random() * %d)::int, "
        "CASE WHEN random() < 0.5 THEN 'c' || (random() * 30)::int ELSE gen_random_uuid()::text "
        "END, "
        "CASE WHEN random() < 0.1 THEN NULL ELSE (random() * 3)::int END, "
        "CASE WHEN random() < 0.03 THEN (SELECT string_agg(md5(random()::text), '') "
        "FROM generate_series(1, 100 + i %% 3)) WHEN random() < 0.5 THEN 'n' || (random() * "
        "3)::int END "
        "FROM generate_series(1, %u) i",
        column(o), RESTAURANTS, CITIES, n);
}

/* Rows of this connection's own (no two wait for each other), about one in `share` of them. */
static const char *mine(struct oracle *o, size_t c, unsigned share)
{
    static char where[128];
    snprintf(where, sizeof where, "WHERE id %% %d = %d AND random() < 1.0 / %u", CONNECTIONS,
             (int)c, share ? share : 1 + below(o, 100));
    return where;
}

static void change(struct oracle *o, size_t c)
{
    switch (below(o, 12)) {
    case 0:
    case 1:
    case 2:
        insert(o, c, 1 + below(o, 4));
        break;
    case 3: /* equal rows, under identities of their own */
        say(o, c,
            "INSERT INTO subs (restaurant, city, client, %s, note) "
            "SELECT restaurant, city, client, %s, note FROM subs %s LIMIT 5",
            column(o), column(o), mine(o, c, 20));
        break;
    case 4:
        say(o, c, "UPDATE subs SET client = 'c' || (random() * 30)::int %s", mine(o, c, 0));
        break;
    case 5: /* leaves a note that is out of line as it is */
        say(o, c, "UPDATE subs SET %s = (random() * 3)::int %s", column(o), mine(o, c, 0));
        break;
    case 6:
        say(o, c,
            "UPDATE subs SET restaurant = CASE WHEN random() < 0.05 THEN NULL ELSE 'r' || "
            "floor(random() * %d)::int END, city = floor(random() * %d)::int %s",
            RESTAURANTS, CITIES, mine(o, c, 0));
        break;
    case 7:
        say(o, c, "UPDATE subs SET id = nextval('subs_id_seq'), uid = gen_random_uuid() %s",
            mine(o, c, 30));
        break;
    case 8: /* nothing of the lookup's changes */
        say(o, c, "UPDATE subs SET other = other + 1 %s", mine(o, c, 10));
        break;
    case 9:
    case 10:
        say(o, c, "DELETE FROM subs %s", mine(o, c, 0));
        break;
    default: /* there and gone again within one transaction */
        say(o, c,
            "WITH new AS (INSERT INTO subs (restaurant, city, client) VALUES ('r1', 1, 'gone') "
            "RETURNING id) SELECT count(*) FROM new");
        say(o, c, "DELETE FROM subs WHERE client = 'gone' AND id %% %d = %d", CONNECTIONS, (int)c);
    }
}

static void transaction(struct oracle *o, size_t c)
{
    if (!o->open[c]) {
        if (one_in(o, 3)) { /* a transaction of its own */
            change(o, c);
            return;
        }
        o->open[c] = say(o, c, "BEGIN");
    }
    if (one_in(o, 5) && say(o, c, "SAVEPOINT s")) {
        change(o, c);
        if (o->open[c])
            say(o, c, one_in(o, 2) ? "ROLLBACK TO s" : "RELEASE s");
    }
    if (o->open[c])
        change(o, c);
    if (one_in(o, 4))
        end(o, c);
}

/* --- what takes the whole table --- */

static void truncate(struct oracle *o, size_t c)
{
    end_all(o);
    o->open[c] = say(o, c, "BEGIN");
    if (one_in(o, 2))
        insert(o, c, 3);
    if (o->open[c])
        say(o, c, "TRUNCATE subs");
    if (o->open[c] && one_in(o, 2))
        insert(o, c, 1 + below(o, 200));
    end(o, c);
    insert(o, c, 100);
}

/* A statement that changes the table's columns, or one of another's. The last statement is one that
 * writes: what the columns are is told with the next change only. */
static void define(struct oracle *o, size_t c)
{
    static const char *const types[] = {"int", "bigint", "text", "numeric"};
    end_all(o);
    o->open[c] = say(o, c, "BEGIN");
    if (!o->open[c])
        return;
    unsigned what = below(o, o->scene->ddl ? 6 : 2);
    bool ok = true, renamed = o->renamed, dropped = o->dropped;
    if (what <= 1) {
        ok = say(o, c,
                 dropped ? "ALTER TABLE subs ADD COLUMN spare int DEFAULT 1"
                         : "ALTER TABLE subs DROP COLUMN spare");
        dropped = !dropped;
    } else if (what == 2) {
        ok = say(o, c,
                 renamed ? "ALTER TABLE subs RENAME COLUMN points TO score"
                         : "ALTER TABLE subs RENAME COLUMN score TO points");
        renamed = !renamed;
    } else if (what <= 4) {
        o->retyped = (o->retyped + 1) % 4;
        ok = say(o, c, "ALTER TABLE subs ALTER COLUMN %s TYPE %s USING %s::%s", column(o),
                 types[o->retyped], column(o), types[o->retyped]);
    } else {
        ok = say(o, c, "ALTER TABLE subs DROP COLUMN note; ALTER TABLE subs ADD COLUMN note text");
    }
    if (ok &&
        say(o, c,
            "UPDATE subs SET other = other + 1, client = client || '' WHERE id = (SELECT min(id) "
            "FROM subs)") &&
        say(o, c, "COMMIT")) {
        o->renamed = renamed;
        o->dropped = dropped;
    }
    o->open[c] = false;
}

/* --- what happens to the feed --- */

static void kill_feed(struct oracle *o)
{
    ask("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE pid <> "
        "pg_backend_pid() AND application_name <> 'oracle' AND backend_type IN ('client backend', "
        "'walsender') AND random() < 0.7");
    o->kills++;
}

static void crash_server(struct oracle *o)
{
    if (system("tests/support/postgres crash >&2"))
        fail_msg("the server does not come back");
    PQreset(side);
    ask("SET client_min_messages = error; SET search_path = %s", o->scene->name);
    for (size_t c = 0; c < CONNECTIONS; c++)
        reconnect(o, c);
    o->crashes++;
}

static void churn(struct oracle *o)
{
    unsigned steps = 1 + below(o, STEPS);
    o->steps += steps;
    for (unsigned i = 0; i < steps; i++) {
        size_t c = below(o, CONNECTIONS);
        unsigned what = below(o, 200);
        if (what == 0)
            truncate(o, c);
        else if (what <= 3)
            define(o, c);
        else if (what <= 6)
            kill_feed(o);
        else if (what == 7)
            insert(o, c, 500 + below(o, 1000));
        else
            transaction(o, c);
    }
    end_all(o);
}

/* --- what SELECT says, and what the table says: lines, sorted --- */

struct lines {
    char **at;
    size_t n, room;
};

static void lines_add(struct lines *lines, const char *line)
{
    if (lines->n == lines->room) {
        lines->room = lines->room * 2 + 64;
        lines->at = mr_realloc(lines->at, lines->room * sizeof *lines->at);
    }
    lines->at[lines->n++] = mr_strdup(line);
}

static void lines_clear(struct lines *lines)
{
    for (size_t i = 0; i < lines->n; i++)
        free(lines->at[i]);
    free(lines->at);
    *lines = (struct lines){0};
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void put_value(struct mr_buf *line, const struct mr_value *value)
{
    struct mr_error err;
    if (value->type == MR_NULL)
        mr_buf_put_char(line, '~');
    else
        assert_true(mr_value_text(line, value, &err));
    mr_buf_put_char(line, '|');
}

static void put_cells(struct mr_buf *line, const uint8_t *at, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct mr_value value;
        at = mr_cell_read(at, &value);
        put_value(line, &value);
    }
}

static struct mr_value text_value(const char *text)
{
    return (struct mr_value){.type = MR_TEXT, .bytes = {text, strlen(text)}};
}

static void read_key(const struct mr_table *table, struct mr_span *span, const char *restaurant,
                     int64_t city, struct lines *lines)
{
    const struct mr_lookup_schema *schema = mr_table_schema(table);
    struct mr_value key[2] = {text_value(restaurant), {.type = MR_INT, .i = city}};
    struct mr_buf cells = {0}, line = {0};
    struct mr_error err;
    assert_true(mr_lookup_key(schema, key, &cells, &err));
    struct mr_bytes one = {cells.ptr, cells.len};
    struct mr_row_ref row;
    if (mr_span_open(span, table, &one, 1, (struct mr_bytes){NULL, 0}))
        while (mr_span_next(span, &row)) {
            mr_buf_reset(&line);
            put_cells(&line, row.key, schema->n_keys);
            put_cells(&line, row.cells, schema->n_columns - schema->n_keys);
            for (uint32_t i = 0; i < row.copies; i++)
                lines_add(lines, mr_buf_cstr(&line));
        }
    mr_buf_fini(&cells);
    mr_buf_fini(&line);
}

/* All keys there can be: what is not among them is seen by the counts. */
static void read_table(const struct oracle *o, const struct mr_table *table, struct lines *lines)
{
    struct mr_span *span = mr_span_new();
    for (int r = 0; r < RESTAURANTS + 10; r++) {
        char restaurant[64];
        if (r < RESTAURANTS)
            snprintf(restaurant, sizeof restaurant, "r%d", r);
        else
            snprintf(restaurant, sizeof restaurant, "00000000-0000-4000-8000-00000000000%d",
                     r - RESTAURANTS);
        for (int city = 0; city < (o->scene->composite ? CITIES : 1); city++)
            read_key(table, span, restaurant, city, lines);
    }
    mr_span_free(span);
    qsort(lines->at, lines->n, sizeof *lines->at, by_text);
}

static void read_select(const struct oracle *o, struct lines *lines, uint64_t *rows, uint64_t *keys)
{
    char sql[1024];
    const char *key = o->scene->composite ? "restaurant, city" : "restaurant";
    snprintf(sql, sizeof sql,
             "SELECT %s concat_ws('|', %s, client, coalesce(%s::text, '~'), coalesce(note, '~'), "
             "'') FROM subs WHERE restaurant IS NOT NULL",
             o->scene->distinct ? "DISTINCT" : "", key, column(o));
    PGresult *res = PQexec(side, sql);
    if (PQresultStatus(res) != PGRES_TUPLES_OK)
        fail_msg("%s", PQresultErrorMessage(res));
    for (int i = 0; i < PQntuples(res); i++)
        lines_add(lines, PQgetvalue(res, i, 0));
    PQclear(res);
    qsort(lines->at, lines->n, sizeof *lines->at, by_text);
    *rows = strtoull(ask("SELECT count(*) FROM subs WHERE restaurant IS NOT NULL"), NULL, 10);
    *keys = strtoull(ask("SELECT count(*) FROM (SELECT DISTINCT %s FROM subs WHERE restaurant IS "
                         "NOT NULL) k",
                         key),
                     NULL, 10);
}

/* The first line that only one of them has. */
static bool differ(const struct lines *table, const struct lines *select, struct mr_buf *why)
{
    size_t t = 0, s = 0;
    while (t < table->n && s < select->n && strcmp(table->at[t], select->at[s]) == 0)
        t++, s++;
    if (t == table->n && s == select->n)
        return false;
    bool only_table = s == select->n || (t < table->n && strcmp(table->at[t], select->at[s]) < 0);
    mr_buf_printf(why, "%zu lines in the table, %zu by SELECT; only %s has: %.200s", table->n,
                  select->n, only_table ? "the table" : "SELECT",
                  only_table ? table->at[t] : select->at[s]);
    return true;
}

static bool equal(const struct oracle *o, struct mr_buf *why)
{
    struct lines table = {0}, select = {0};
    uint64_t rows = 0, keys = 0;
    struct mr_pin pin = {0};
    bool ok = false;
    mr_buf_reset(why);
    read_select(o, &select, &rows, &keys);
    if (!mr_lookup_pin(follower_lookup(o->follower), &pin)) {
        mr_buf_put_text(why, "nothing was loaded yet");
        goto out;
    }
    read_table(o, pin.table, &table);
    mr_lookup_unpin(follower_lookup(o->follower), &pin);
    struct mr_table_stats stats = mr_lookup_stats(follower_lookup(o->follower));
    ok = !differ(&table, &select, why);
    if (ok && (stats.rows != rows || stats.keys != keys)) {
        ok = false;
        mr_buf_printf(why, "the table counts %llu rows of %llu keys, SELECT %llu of %llu",
                      (unsigned long long)stats.rows, (unsigned long long)stats.keys,
                      (unsigned long long)rows, (unsigned long long)keys);
    }
out:
    lines_clear(&table);
    lines_clear(&select);
    return ok;
}

static void compare(struct oracle *o, unsigned round)
{
    struct mr_buf why = {0};
    /* Strict: no second look. The other half of the time, as it comes. */
    bool strict = one_in(o, 2);
    int64_t deadline = mr_clock_mono_ms() + QUIET_MS;
    bool reached = strict && follower_strict(o->follower, QUIET_MS);
    bool same = equal(o, &why);
    while (!same && !reached && mr_clock_mono_ms() < deadline) {
        mr_clock_sleep_ms(10); /* poll */
        same = equal(o, &why);
    }
    o->strict += reached;
    if (!same || (strict && !reached)) {
        struct follower_status status = follower_status(o->follower);
        fail_msg("MILLRACE_ORACLE_SEED=%llu, round %u: %s%s\nfeed: %s, %u loads, %u failures, the "
                 "last: %s",
                 (unsigned long long)seed, round,
                 reached  ? "a position was reached that was not: "
                 : strict ? "a position was not reached: "
                          : "not equal: ",
                 mr_buf_cstr(&why), mr_feed_kind_name(status.state.kind), status.loads,
                 status.failures, status.problem);
    }
    mr_buf_fini(&why);
}

/* --- one run --- */

static void prepare(struct oracle *o)
{
    static const char *keys[] = {"restaurant", "city"}, *columns[] = {"client", "score", "note"};
    static char publication[64];
    const struct scene *scene = o->scene;
    fresh(scene->name);
    snprintf(publication, sizeof publication, "%s", scene->name);
    ask("DROP PUBLICATION IF EXISTS %s", publication);
    ask("CREATE TABLE subs (id serial PRIMARY KEY, uid uuid NOT NULL UNIQUE DEFAULT "
        "gen_random_uuid(), restaurant text, city int NOT NULL DEFAULT 0, client text NOT NULL, "
        "score int, note text, spare int, other int NOT NULL DEFAULT 0)");
    ask("ALTER TABLE subs ALTER COLUMN note SET STORAGE EXTERNAL");
    ask("ALTER TABLE subs REPLICA IDENTITY %s", scene->identity);
    o->options = (struct mr_postgres_feed_options){
        .lookup = {.name = scene->name,
                   .dsn = dsn,
                   .table = "subs",
                   .keys = keys,
                   .n_keys = scene->composite ? 2 : 1,
                   .columns = columns,
                   .n_columns = 3,
                   .distinct = scene->distinct},
        .refresh = scene->refresh,
        .interval_ms = 200,
        .publication = publication,
        .changelog = scene->refresh == MR_POSTGRES_REFRESH_CHANGELOG ? "subs_changes" : NULL};
    struct mr_buf sql = {0}, report = {0};
    struct mr_error err;
    if (!mr_postgres_feed_init(&o->options, false, &sql, &report, &err))
        fail_msg("%s", err.msg);
    mr_buf_fini(&sql);
    mr_buf_fini(&report);
}

static void stop_running(void)
{
    if (running)
        follower_stop(running);
    running = NULL;
}

static void run(const struct scene *scene)
{
    static struct mr_postgres_feed_options options; /* outlives a test that fails */
    stop_running();
    struct oracle o = {.scene = scene, .rng = seed};
    for (const char *at = scene->name; *at; at++) /* each scene its own choices */
        o.rng = o.rng * 31 + (unsigned char)*at;
    int64_t since = mr_clock_mono_ms();
    prepare(&o);
    options = o.options;
    for (size_t c = 0; c < CONNECTIONS; c++)
        reconnect(&o, c);
    insert(&o, 0, 200);
    o.follower = running = follower_start(&options);
    if (!follower_loaded(o.follower, QUIET_MS))
        fail_msg("nothing was loaded: %s", follower_status(o.follower).problem);
    for (unsigned round = 1; round <= rounds; round++) {
        churn(&o);
        if (round % 50 == 3)
            crash_server(&o);
        /* A lookup of a column that is not there has nothing to equal. A read may be in the way. */
        int64_t deadline_ms = mr_clock_mono_ms() + QUIET_MS;
        while (o.renamed && mr_clock_mono_ms() < deadline_ms)
            o.renamed = !say(&o, 0, "ALTER TABLE subs RENAME COLUMN points TO score");
        assert_false(o.renamed);
        compare(&o, round);
    }
    struct follower_status status = follower_status(o.follower);
    print_message("%s: %u quiet points (%u strict), %u steps (%u refused), %u kills, %u crashes; "
                  "%s feed: %u loads, %u failures, %lld changes; %.1f s\n",
                  scene->name, rounds, o.strict, o.steps, o.refused, o.kills, o.crashes,
                  mr_feed_kind_name(status.state.kind), status.loads, status.failures,
                  (long long)status.state.changes, (double)(mr_clock_mono_ms() - since) / 1000);
    stop_running();
    for (size_t c = 0; c < CONNECTIONS; c++)
        PQfinish(o.conns[c]);
    assert_string_equal(ask("SELECT count(*) FROM pg_replication_slots WHERE NOT temporary"), "0");
}

static void a_logical_feed_told_by_a_primary_key(void **state)
{
    (void)state;
    run(&(struct scene){.name = "oracle_key",
                        .refresh = MR_POSTGRES_REFRESH_LOGICAL,
                        .identity = "DEFAULT",
                        .distinct = true,
                        .ddl = true});
}

static void a_logical_feed_told_by_whole_rows(void **state)
{
    (void)state;
    run(&(struct scene){.name = "oracle_full",
                        .refresh = MR_POSTGRES_REFRESH_LOGICAL,
                        .identity = "FULL",
                        .composite = true,
                        .ddl = true});
}

static void a_logical_feed_told_by_another_index(void **state)
{
    (void)state;
    run(&(struct scene){.name = "oracle_index",
                        .refresh = MR_POSTGRES_REFRESH_LOGICAL,
                        .identity = "USING INDEX subs_uid_key",
                        .composite = true,
                        .distinct = true,
                        .ddl = true});
}

static void a_changelog_feed(void **state)
{
    (void)state;
    run(&(struct scene){.name = "oracle_log",
                        .refresh = MR_POSTGRES_REFRESH_CHANGELOG,
                        .identity = "DEFAULT",
                        .composite = true,
                        .distinct = true});
}

static void a_changelog_feed_with_equal_rows_kept_apart(void **state)
{
    (void)state;
    run(&(struct scene){
        .name = "oracle_copies", .refresh = MR_POSTGRES_REFRESH_CHANGELOG, .identity = "DEFAULT"});
}

static void a_reload_feed(void **state)
{
    (void)state;
    run(&(struct scene){.name = "oracle_reload",
                        .refresh = MR_POSTGRES_REFRESH_RELOAD,
                        .identity = "DEFAULT",
                        .composite = true,
                        .distinct = true,
                        .ddl = true});
}

static uint64_t number(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text && *text ? strtoull(text, NULL, 10) : otherwise;
}

int main(void)
{
    seed = number("MILLRACE_ORACLE_SEED", (uint64_t)mr_clock_random63() % 1000000);
    rounds = (unsigned)number("MILLRACE_ORACLE_ROUNDS", 6);
    tracing = number("MILLRACE_ORACLE_TRACE", 0) != 0;
    print_message("MILLRACE_ORACLE_SEED=%llu\n", (unsigned long long)seed);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_logical_feed_told_by_a_primary_key),
        cmocka_unit_test(a_logical_feed_told_by_whole_rows),
        cmocka_unit_test(a_logical_feed_told_by_another_index),
        cmocka_unit_test(a_changelog_feed),
        cmocka_unit_test(a_changelog_feed_with_equal_rows_kept_apart),
        cmocka_unit_test(a_reload_feed),
    };
    return cmocka_run_group_tests(tests, side_setup, side_teardown);
}
