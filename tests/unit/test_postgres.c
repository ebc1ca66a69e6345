/*
 * test_postgres.c - the postgres room against a real server, under tests/support/services
 * (MILLRACE_PG). Each test works in a schema of its own, which the search path of its sessions
 * begins with. `side` is a plain connection that looks, and meddles, from outside.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "postgres/pg.h"
#include "postgres/postgres.h"
#include "base/clock.h"
#include "base/log.h"

#include <libpq-fe.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static PGconn *side;
static const char *dsn;

/* --- from outside --- */

/* Runs SQL; the first value of the answer, until the next call. */
static const char *ask(const char *format, ...) MR_PRINTF(1, 2);
static const char *ask(const char *format, ...)
{
    static char answer[4096];
    char sql[8192];
    va_list ap;
    va_start(ap, format);
    vsnprintf(sql, sizeof sql, format, ap);
    va_end(ap);
    PGresult *res = PQexec(side, sql);
    ExecStatusType status = PQresultStatus(res);
    if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK)
        fail_msg("%s: %s", sql, PQresultErrorMessage(res));
    snprintf(answer, sizeof answer, "%s", PQntuples(res) ? PQgetvalue(res, 0, 0) : "");
    PQclear(res);
    return answer;
}

/* Waits until the answer is `wanted`. */
static void await(const char *wanted, const char *sql)
{
    int64_t deadline = mr_clock_mono_ms() + 20000;
    while (strcmp(ask("%s", sql), wanted) != 0) {
        if (mr_clock_mono_ms() > deadline)
            fail_msg("still not %s: %s", wanted, sql);
        usleep(10000);
    }
}

static void fresh(const char *schema)
{
    char options[128];
    snprintf(options, sizeof options, "-c search_path=%s", schema);
    setenv("PGOPTIONS", options, 1);
    ask("DROP SCHEMA IF EXISTS %s CASCADE; CREATE SCHEMA %s; SET search_path = %s", schema, schema,
        schema);
    struct mr_error err;
    if (!mr_postgres_init(dsn, "millrace_dead", false, NULL, &err))
        fail_msg("%s", err.msg);
}

static int setup(void **state)
{
    (void)state;
    dsn = getenv("MILLRACE_PG");
    if (!dsn) {
        fprintf(stderr,
                "MILLRACE_PG is not set: run this under tests/support/services --postgres\n");
        return -1;
    }
    unsetenv("PGOPTIONS");
    mr_log_init(MR_ERROR, MR_LOG_TEXT);
    side = PQconnectdb(dsn);
    if (PQstatus(side) != CONNECTION_OK)
        fprintf(stderr, "%s", PQerrorMessage(side));
    PQclear(PQexec(side, "SET client_min_messages = error"));
    return PQstatus(side) == CONNECTION_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    PQfinish(side);
    return 0;
}

/* --- a store, and what is done with it --- */

static struct mr_store *store_of(const char *owner, const char *table)
{
    struct mr_store *store;
    struct mr_error err;
    char application[64];
    snprintf(application, sizeof application, "millrace/g/%s/0", owner);
    struct mr_postgres_store_options options = {.dsn = dsn,
                                                .table = table,
                                                .dead_table = "millrace_dead",
                                                .group = "g",
                                                .owner = owner,
                                                .instance = owner,
                                                .application_name = application,
                                                .mode = "at_least_once"};
    if (!mr_postgres_store_open(&options, &store, &err))
        fail_msg("%s", err.msg);
    return store;
}

static struct mr_store *connected(const char *owner, const char *table)
{
    struct mr_store *store = store_of(owner, table);
    struct mr_error err;
    if (!store->ops->connect(store, &err))
        fail_msg("%s", err.msg);
    return store;
}

static const struct mr_partition place = {"topic_in", 3};

static struct mr_claim claimed(struct mr_store *store)
{
    struct mr_claim claim;
    struct mr_error err;
    if (!store->ops->claim(store, &place, &claim, &err))
        fail_msg("%s", err.msg);
    return claim;
}

static bool begin(struct mr_store *store, const struct mr_claim *claim, int64_t next_offset,
                  struct mr_error *err)
{
    struct mr_advance step = {.at = place,
                              .epoch = claim->epoch,
                              .unit = claim->unit,
                              .new_unit = claim->unit + 1,
                              .next_offset = next_offset};
    return store->ops->begin(store, &step, 1, err);
}

static void begun(struct mr_store *store, const struct mr_claim *claim, int64_t next_offset)
{
    struct mr_error err;
    if (!begin(store, claim, next_offset, &err))
        fail_msg("%s", err.msg);
}

static uint16_t column_of(const struct mr_row_schema *schema, const char *name)
{
    for (size_t i = 0; i < schema->n; i++)
        if (strcmp(schema->columns[i].name, name) == 0)
            return (uint16_t)i;
    fail_msg("no column %s", name);
    return 0;
}

/* One row of one column. */
static bool copy_value(struct mr_store *store, const char *name, struct mr_value value,
                       struct mr_error *err)
{
    const struct mr_row_schema *schema = store->ops->schema(store);
    struct mr_column_set set = {.n = 1, .columns = {column_of(schema, name)}};
    struct mr_buf rows = {0};
    mr_buf_put_be16(&rows, 1);
    bool ok = schema->encode(&schema->columns[set.columns[0]], &value, &rows, err);
    struct mr_row_run run = {.set = &set, .rows = {rows.ptr, rows.len}, .n = 1};
    ok = ok && store->ops->copy(store, &run, 1, err);
    mr_buf_fini(&rows);
    return ok;
}

static bool copy_int(struct mr_store *store, const char *name, int64_t i, struct mr_error *err)
{
    return copy_value(store, name, (struct mr_value){.type = MR_INT, .i = i}, err);
}

static void end_session(const char *owner)
{
    ask("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
        "WHERE application_name = 'millrace/g/%s/0'",
        owner);
}

/* --- init --- */

static void *run_init(void *arg)
{
    struct mr_error *err = arg;
    err->code = 0;
    if (mr_postgres_init(dsn, "millrace_dead", false, NULL, err))
        err->code = -1;
    return NULL;
}

static void init_again_and_at_once_is_harmless(void **state)
{
    (void)state;
    for (int round = 0; round < 4; round++) {
        enum { N = 8 };
        pthread_t threads[N];
        struct mr_error errors[N];
        ask("DROP SCHEMA IF EXISTS t_init CASCADE; CREATE SCHEMA t_init; SET search_path = t_init; "
            "CREATE TABLE mine (i int); INSERT INTO mine VALUES (1)");
        setenv("PGOPTIONS", "-c search_path=t_init", 1);
        for (int i = 0; i < N; i++)
            pthread_create(&threads[i], NULL, run_init, &errors[i]);
        for (int i = 0; i < N; i++)
            pthread_join(threads[i], NULL);
        for (int i = 0; i < N; i++)
            if (errors[i].code != -1)
                fail_msg("%s", errors[i].msg);
        assert_string_equal(ask("SELECT count(*) FROM millrace_meta"), "1");
        assert_string_equal(ask("SELECT count(*) FROM pg_tables WHERE schemaname = 't_init'"), "4");
    }
    char id[64];
    snprintf(id, sizeof id, "%s", ask("SELECT ledger_id FROM millrace_meta"));
    struct mr_error err;
    assert_true(mr_postgres_init(dsn, "millrace_dead", false, NULL, &err));
    assert_string_equal(ask("SELECT ledger_id FROM millrace_meta"), id);
    assert_string_equal(ask("SELECT i FROM mine"), "1");
}

static void init_prints_what_it_would_do(void **state)
{
    (void)state;
    struct mr_buf sql = {0};
    struct mr_error err;
    assert_true(mr_postgres_init("host=nowhere.invalid", "app.dead", true, &sql, &err));
    assert_non_null(strstr(mr_buf_cstr(&sql), "CREATE TABLE IF NOT EXISTS \"app\".\"dead\""));
    mr_buf_reset(&sql);
    assert_true(mr_postgres_init(dsn, NULL, true, &sql, &err));
    ask("DROP SCHEMA IF EXISTS t_print CASCADE; CREATE SCHEMA t_print; SET search_path = t_print");
    PGresult *res = PQexec(side, mr_buf_cstr(&sql));
    assert_int_equal(PQresultStatus(res), PGRES_COMMAND_OK);
    PQclear(res);
    assert_string_equal(ask("SELECT count(*) FROM millrace_ledger"), "0");
    mr_buf_fini(&sql);
}

static void without_init_the_sentence_says_what_to_run(void **state)
{
    (void)state;
    fresh("t_missing");
    ask("DROP TABLE millrace_dead");
    struct mr_store *store = store_of("a", NULL);
    struct mr_error err;
    assert_false(store->ops->connect(store, &err));
    assert_int_equal(err.action, MR_STOP);
    assert_non_null(strstr(err.msg, "millrace init"));
    assert_non_null(strstr(err.msg, "millrace_dead"));
    ask("DROP TABLE millrace_meta");
    assert_false(store->ops->connect(store, &err));
    assert_non_null(strstr(err.msg, "millrace_meta"));
    assert_int_equal(err.code, MR_EXIT_CONFIG);
    store->ops->close(store);
}

static void tables_of_another_version_are_refused(void **state)
{
    (void)state;
    fresh("t_version");
    ask("UPDATE millrace_meta SET schema_version = 77");
    struct mr_store *store = store_of("a", NULL);
    struct mr_error err;
    assert_false(store->ops->connect(store, &err));
    assert_int_equal(err.action, MR_STOP);
    assert_non_null(strstr(err.msg, "version 77"));
    store->ops->close(store);
}

/* --- the ledger --- */

static void a_unit_moves_the_ledger_with_its_rows(void **state)
{
    (void)state;
    fresh("t_unit");
    ask("CREATE TABLE rows (id serial primary key, i int)");
    struct mr_store *store = connected("a", "rows");
    struct mr_error err;
    char id[16];
    snprintf(id, sizeof id, "%s", ask("SELECT left(ledger_id::text, 8) FROM millrace_meta"));
    assert_string_equal(store->ops->ledger_id(store), id);
    struct mr_claim claim = claimed(store);
    assert_true(claim.inserted);
    assert_int_equal(claim.unit, 0);
    assert_int_equal(claim.next_offset, -1);
    assert_true(claim.epoch > 0);
    assert_false(claim.has_job);
    assert_string_equal(claim.mode, "at_least_once");
    struct mr_job_state job = {.keys = {"k\0ey", 4}, .cursor = {"\xff\x00", 2}, .trigger_ms = 77};
    struct mr_advance step = {.at = place,
                              .epoch = claim.epoch,
                              .unit = 0,
                              .new_unit = 1,
                              .next_offset = 42,
                              .job = &job};
    assert_true(store->ops->begin(store, &step, 1, &err));
    assert_true(copy_int(store, "i", 5, &err));
    assert_string_equal(ask("SELECT count(*) FROM rows"), "0");
    assert_true(store->ops->check(store, &err));
    assert_int_equal(store->ops->commit(store, &err), MR_DECIDED);
    assert_string_equal(ask("SELECT string_agg(i::text, ' ') FROM rows"), "5");
    struct mr_claim again = claimed(store);
    assert_false(again.inserted);
    assert_int_equal(again.unit, 1);
    assert_int_equal(again.next_offset, 42);
    assert_true(again.epoch != claim.epoch);
    assert_true(again.has_job);
    assert_int_equal(again.job.keys.len, 4);
    assert_memory_equal(again.job.keys.ptr, "k\0ey", 4);
    assert_int_equal(again.job.cursor.len, 2);
    assert_memory_equal(again.job.cursor.ptr, "\xff\x00", 2);
    assert_int_equal(again.job.trigger_ms, 77);
    /* Rolled back: nothing of it is there. */
    begun(store, &again, 43);
    assert_true(copy_int(store, "i", 6, &err));
    store->ops->rollback(store);
    assert_string_equal(ask("SELECT count(*) FROM rows"), "1");
    assert_string_equal(ask("SELECT next_offset FROM millrace_ledger"), "42");
    /* A job that is over leaves nothing behind. */
    begun(store, &again, 43);
    assert_int_equal(store->ops->commit(store, &err), MR_DECIDED);
    assert_false(claimed(store).has_job);
    store->ops->close(store);
}

static void who_was_claimed_from_cannot_begin(void **state)
{
    (void)state;
    fresh("t_fence");
    struct mr_store *a = connected("a", NULL), *b = connected("b", NULL);
    struct mr_error err;
    struct mr_claim of_a = claimed(a), of_b = claimed(b);
    assert_false(begin(a, &of_a, 1, &err));
    assert_int_equal(err.action, MR_RECOVER);
    assert_non_null(strstr(err.msg, "topic_in/3"));
    a->ops->rollback(a);
    begun(b, &of_b, 1);
    assert_int_equal(b->ops->commit(b, &err), MR_DECIDED);
    /* Nor with the right epoch and another unit. */
    assert_false(begin(b, &of_b, 2, &err));
    assert_int_equal(err.action, MR_RECOVER);
    a->ops->close(a);
    b->ops->close(b);
}

struct claiming {
    struct mr_store *store;
    struct mr_claim claim;
    struct mr_error err;
    bool ok;
};

static void *run_claim(void *arg)
{
    struct claiming *c = arg;
    c->ok = c->store->ops->claim(c->store, &place, &c->claim, &c->err);
    return NULL;
}

static const char b_waits_for_a_lock[] =
    "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'millrace/g/b/0' AND "
    "wait_event_type = 'Lock'";

static void a_claim_waits_for_the_unit_in_flight(void **state)
{
    (void)state;
    fresh("t_wait");
    struct claiming c = {.store = connected("b", NULL)};
    struct mr_store *a = connected("a", NULL);
    struct mr_error err;
    struct mr_claim of_a = claimed(a);
    begun(a, &of_a, 9);
    pthread_t thread;
    pthread_create(&thread, NULL, run_claim, &c);
    await("1", b_waits_for_a_lock);
    assert_int_equal(a->ops->commit(a, &err), MR_DECIDED);
    pthread_join(thread, NULL);
    assert_true(c.ok);
    assert_int_equal(c.claim.unit, 1);
    assert_int_equal(c.claim.next_offset, 9);
    a->ops->close(a);
    c.store->ops->close(c.store);
}

static void a_claim_ends_a_session_that_keeps_the_ledger(void **state)
{
    (void)state;
    fresh("t_zombie");
    struct mr_store *a = connected("a", NULL), *b = connected("b", NULL);
    struct mr_error err;
    struct mr_claim of_a = claimed(a);
    begun(a, &of_a, 9);
    struct mr_claim of_b = claimed(b); /* after lock_timeout */
    assert_int_equal(of_b.unit, 0);
    assert_int_equal(a->ops->commit(a, &err), MR_IN_DOUBT);
    assert_int_equal(err.action, MR_RECOVER);
    assert_string_equal(ask("SELECT unit FROM millrace_ledger"), "0");
    a->ops->close(a);
    b->ops->close(b);
}

static void a_lost_connection_leaves_commit_in_doubt(void **state)
{
    (void)state;
    fresh("t_doubt");
    struct mr_store *a = connected("a", NULL);
    struct mr_error err;
    struct mr_claim claim = claimed(a);
    begun(a, &claim, 5);
    end_session("a");
    assert_int_equal(a->ops->commit(a, &err), MR_IN_DOUBT);
    assert_int_equal(err.action, MR_RECOVER);
    a->ops->rollback(a); /* harmless */
    a->ops->reset(a);
    claim = claimed(a); /* connects again */
    assert_int_equal(claim.unit, 0);
    begun(a, &claim, 5);
    assert_int_equal(a->ops->commit(a, &err), MR_DECIDED);
    a->ops->close(a);
}

static void a_lost_connection_elsewhere_is_retried(void **state)
{
    (void)state;
    fresh("t_lost");
    ask("CREATE TABLE rows (i int)");
    struct mr_store *a = connected("a", "rows");
    struct mr_error err;
    struct mr_claim claim = claimed(a);
    end_session("a");
    assert_false(begin(a, &claim, 5, &err));
    assert_int_equal(err.action, MR_RETRY);
    a->ops->reset(a);
    assert_false(begin(a, &claim, 5, &err)); /* a new connection means claim */
    claim = claimed(a);
    begun(a, &claim, 5);
    end_session("a");
    assert_false(copy_int(a, "i", 1, &err));
    assert_int_equal(err.action, MR_RETRY);
    a->ops->rollback(a);
    a->ops->reset(a);
    assert_int_equal(claimed(a).unit, 0);
    a->ops->close(a);
}

struct committing {
    struct mr_store *store;
    struct mr_error err;
    enum mr_decision decision;
};

static void *run_commit(void *arg)
{
    struct committing *c = arg;
    c->decision = c->store->ops->commit(c->store, &c->err);
    return NULL;
}

/* Postgres then says COMMIT, with the warning that the replica may not have it. */
static void a_cancelled_wait_for_a_replica_is_in_doubt(void **state)
{
    (void)state;
    fresh("t_replica");
    struct committing c = {.store = connected("a", NULL)};
    struct mr_claim claim = claimed(c.store);
    begun(c.store, &claim, 5);
    ask("ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
    ask("SELECT pg_reload_conf()");
    await("nobody", "SHOW synchronous_standby_names");
    pthread_t thread;
    pthread_create(&thread, NULL, run_commit, &c);
    await("1", "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND "
               "application_name = 'millrace/g/a/0'");
    ask("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND "
        "application_name = 'millrace/g/a/0'");
    pthread_join(thread, NULL);
    ask("ALTER SYSTEM RESET synchronous_standby_names");
    ask("SELECT pg_reload_conf()");
    await("", "SHOW synchronous_standby_names");
    assert_int_equal(c.decision, MR_IN_DOUBT);
    assert_non_null(strstr(c.err.msg, "warning"));
    c.store->ops->reset(c.store);
    assert_int_equal(claimed(c.store).unit, 1);
    c.store->ops->close(c.store);
}

/* --- data --- */

static void a_deferred_constraint_is_a_definite_rollback(void **state)
{
    (void)state;
    fresh("t_deferred");
    ask("CREATE TABLE rows (i int UNIQUE DEFERRABLE INITIALLY DEFERRED)");
    struct mr_store *a = connected("a", "rows");
    struct mr_error err;
    struct mr_claim claim = claimed(a);
    begun(a, &claim, 5);
    assert_true(copy_int(a, "i", 1, &err));
    assert_true(copy_int(a, "i", 1, &err));
    assert_false(a->ops->check(a, &err));
    assert_int_equal(err.action, MR_REJECT);
    assert_string_equal(err.class_, "rejected");
    assert_non_null(strstr(err.msg, "Key (i)=(1) already exists"));
    a->ops->rollback(a);
    begun(a, &claim, 5);
    assert_true(copy_int(a, "i", 1, &err));
    assert_true(copy_int(a, "i", 1, &err));
    assert_int_equal(a->ops->commit(a, &err), MR_ROLLED_BACK);
    assert_int_equal(err.action, MR_REJECT);
    begun(a, &claim, 5); /* the same connection, the same claim */
    assert_true(copy_int(a, "i", 1, &err));
    assert_int_equal(a->ops->commit(a, &err), MR_DECIDED);
    a->ops->close(a);
}

static void commit_of_a_failed_transaction_is_never_decided(void **state)
{
    (void)state;
    fresh("t_failed");
    ask("CREATE TABLE rows (i int CHECK (i > 0))");
    struct mr_store *a = connected("a", "rows");
    struct mr_error err;
    struct mr_claim claim = claimed(a);
    begun(a, &claim, 5);
    assert_false(copy_int(a, "i", -1, &err));
    assert_int_equal(a->ops->commit(a, &err), MR_IN_DOUBT); /* its tag is ROLLBACK */
    assert_int_equal(claimed(a).unit, 0);
    a->ops->close(a);
}

static void rows_that_postgres_refuses_are_the_messages_fault(void **state)
{
    (void)state;
    fresh("t_refused");
    ask("CREATE DOMAIN short AS varchar(3)");
    ask("CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "IF new.t = 'raise' THEN RAISE EXCEPTION 'not on a Sunday'; END IF; "
        "IF new.t = 'serial' THEN RAISE EXCEPTION 'again' USING ERRCODE = '40001'; END IF; "
        "RETURN new; END $$");
    ask("CREATE TYPE mood AS ENUM ('sad', 'ok')");
    ask("CREATE TABLE rows (i int CHECK (i > 0), u int UNIQUE, s short, t text, m mood, "
        "n numeric(4, 1))");
    ask("CREATE TRIGGER no BEFORE INSERT ON rows FOR EACH ROW EXECUTE FUNCTION no()");
    ask("INSERT INTO rows (u) VALUES (7)");
    static const struct {
        const char *column, *text, *class_, *says;
    } cases[] = {{"i", "-1", "rejected", "rows_i_check"},
                 {"u", "7", "rejected", "Key (u)=(7) already exists"},
                 {"t", "raise", "rejected", "not on a Sunday"},
                 {"m", "happy", "rejected", "happy"},
                 {"n", "12345", "rejected", "numeric field overflow"}};
    struct mr_store *a = connected("a", "rows");
    struct mr_claim claim = claimed(a);
    struct mr_error err;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct mr_value value = {.type = MR_TEXT, .bytes = mr_bytes_of(cases[i].text)};
        bool is_int = *cases[i].column == 'i' || *cases[i].column == 'u';
        if (is_int)
            value = (struct mr_value){.type = MR_INT, .i = strtoll(cases[i].text, NULL, 10)};
        begun(a, &claim, 5);
        assert_false(copy_value(a, cases[i].column, value, &err));
        assert_int_equal(err.action, MR_REJECT);
        assert_string_equal(err.class_, cases[i].class_);
        if (!strstr(err.msg, cases[i].says) || !strstr(err.msg, "rows"))
            fail_msg("%s", err.msg);
        a->ops->rollback(a);
    }
    struct mr_value again = {.type = MR_TEXT, .bytes = mr_bytes_of("serial")};
    begun(a, &claim, 5);
    assert_false(copy_value(a, "t", again, &err));
    assert_int_equal(err.action, MR_RETRY);
    a->ops->rollback(a);
    assert_string_equal(ask("SELECT count(*) FROM rows"), "1");
    a->ops->close(a);
}

static void runs_of_several_column_sets(void **state)
{
    (void)state;
    fresh("t_sets");
    ask("CREATE TABLE rows (a int, b text DEFAULT 'default', c int)");
    struct mr_store *store = connected("a", "rows");
    struct mr_claim claim = claimed(store);
    struct mr_error err;
    struct mr_column_set ab = {.n = 2, .columns = {0, 1}}, a = {.n = 1, .columns = {0}},
                         ab_again = ab;
    struct mr_buf rows[4] = {{0}};
    struct mr_row_run runs[4];
    const struct mr_column_set *sets[4] = {&ab, &a, &ab_again, &a};
    for (uint32_t i = 0; i < 4; i++) {
        for (uint32_t k = 0; k < 2; k++) {
            mr_buf_put_be16(&rows[i], sets[i]->n);
            mr_buf_put_be32(&rows[i], 4);
            mr_buf_put_be32(&rows[i], i * 2 + k);
            if (sets[i]->n == 2)
                mr_buf_put_be32(&rows[i], UINT32_MAX);
        }
        runs[i] = (struct mr_row_run){sets[i], {rows[i].ptr, rows[i].len}, 2};
    }
    begun(store, &claim, 1);
    assert_true(store->ops->copy(store, runs, 4, &err));
    assert_int_equal(store->ops->commit(store, &err), MR_DECIDED);
    assert_string_equal(
        ask("SELECT string_agg(concat(a, coalesce(b, '-')), ' ' ORDER BY a) FROM rows"),
        "0- 1- 2default 3default 4- 5- 6default 7default");
    for (int i = 0; i < 4; i++)
        mr_buf_fini(&rows[i]);
    store->ops->close(store);
}

static void dead_letters_keep_every_byte(void **state)
{
    (void)state;
    fresh("t_dead");
    struct mr_store *store = connected("a", NULL);
    struct mr_claim claim = claimed(store);
    struct mr_error err;
    char all[256];
    for (int i = 0; i < 256; i++)
        all[i] = (char)i;
    const struct mr_header headers[] = {
        {{"trace", 5}, {all, sizeof all}}, {{"\xff", 1}, {NULL, 0}}, {{"", 0}, {"", 0}}};
    const struct mr_dead_letter letters[] = {{.rec = {.topic = "topic_in",
                                                      .partition = 3,
                                                      .offset = 12,
                                                      .timestamp_ms = 1659203516000,
                                                      .key = {NULL, 0},
                                                      .value = {all, sizeof all},
                                                      .headers = headers,
                                                      .n_headers = 3},
                                              .class_ = "decode",
                                              .error = "broken \xc3\x28 text",
                                              .bundle = "abc"},
                                             {.rec = {.topic = "topic_in",
                                                      .partition = 3,
                                                      .offset = 13,
                                                      .timestamp_ms = -1,
                                                      .key = {"", 0},
                                                      .value = {NULL, 0}},
                                              .class_ = "script",
                                              .error = "promo.lua:3: \xe2\x82\xac",
                                              .bundle = NULL}};
    begun(store, &claim, 14);
    assert_true(store->ops->bury(store, letters, 2, &err));
    assert_int_equal(store->ops->commit(store, &err), MR_DECIDED);
    assert_string_equal(
        ask("SELECT string_agg(concat_ws(',', grp, topic, part, src_offset, src_timestamp_ms, "
            "class, "
            "error, bundle, key IS NULL, value IS NULL, headers IS NULL), ';' ORDER BY id) "
            "FROM millrace_dead"),
        "g,topic_in,3,12,1659203516000,decode,broken ?( text,abc,t,f,f;"
        "g,topic_in,3,13,script,promo.lua:3: \xe2\x82\xac,f,t,t");
    assert_string_equal(
        ask("SELECT value = h.all AND headers[1][1] = 'trace' AND headers[1][2] = h.all AND "
            "headers[2][1] = '\\xff' AND headers[2][2] IS NULL AND headers[3][1] = '' AND "
            "headers[3][2] = '' FROM millrace_dead, (SELECT decode(string_agg(lpad(to_hex(i), 2, "
            "'0'), '' ORDER BY i), 'hex') AS all FROM generate_series(0, 255) i) h "
            "WHERE src_offset = 12"),
        "t");
    store->ops->close(store);
}

static void a_thousand_big_dead_letters_in_one_unit(void **state)
{
    (void)state;
    fresh("t_dead_many");
    enum { N = 1000, SIZE = 50000 };
    struct mr_store *store = connected("a", NULL);
    struct mr_claim claim = claimed(store);
    struct mr_error err;
    char *value = mr_alloc(SIZE);
    memset(value, 'v', SIZE);
    struct mr_dead_letter *letters = mr_calloc(N, sizeof *letters);
    for (int i = 0; i < N; i++)
        letters[i] =
            (struct mr_dead_letter){.rec = {.topic = "t", .offset = i, .value = {value, SIZE}},
                                    .class_ = "c",
                                    .error = "e"};
    begun(store, &claim, 1);
    assert_true(store->ops->bury(store, letters, N, &err));
    assert_int_equal(store->ops->commit(store, &err), MR_DECIDED);
    assert_string_equal(ask("SELECT sum(length(value)) FROM millrace_dead"), "50000000");
    free(letters);
    free(value);
    store->ops->close(store);
}

/* --- the feedback table --- */

static void an_altered_table_is_described_again(void **state)
{
    (void)state;
    fresh("t_altered");
    ask("CREATE TABLE rows (i bigint)");
    struct mr_store *a = connected("a", "rows");
    struct mr_error err;
    struct mr_claim claim = claimed(a);
    const struct mr_row_schema *before = a->ops->schema(a);
    a->ops->reset(a);
    claim = claimed(a);
    assert_ptr_equal(a->ops->schema(a), before);
    /* The same eight bytes would be taken for a float. */
    ask("ALTER TABLE rows ALTER i TYPE float8");
    assert_false(begin(a, &claim, 1, &err));
    assert_int_equal(err.action, MR_RETRY);
    assert_non_null(strstr(err.msg, "altered"));
    a->ops->rollback(a);
    a->ops->reset(a);
    claim = claimed(a);
    assert_ptr_not_equal(a->ops->schema(a), before);
    assert_string_equal(before->columns[0].type_name, "bigint"); /* who still points there may */
    begun(a, &claim, 1);
    assert_true(copy_int(a, "i", 3, &err));
    /* From here to the end of the unit nobody can alter it. */
    ask("SET lock_timeout = '100ms'");
    PGresult *res = PQexec(side, "ALTER TABLE rows ALTER i TYPE text");
    assert_string_equal(PQresultErrorField(res, PG_DIAG_SQLSTATE), "55P03");
    PQclear(res);
    assert_int_equal(a->ops->commit(a, &err), MR_DECIDED);
    ask("DROP TABLE rows");
    assert_false(begin(a, &claim, 2, &err));
    a->ops->reset(a);
    assert_false(a->ops->connect(a, &err));
    assert_int_equal(err.action, MR_STOP);
    assert_non_null(strstr(err.msg, "\"rows\" does not exist"));
    a->ops->close(a);
}

/* A trigger that looks for a column in vain: describing again does not help, so the second time
 * halts. */
static void a_trigger_that_finds_no_column_halts(void **state)
{
    (void)state;
    fresh("t_trigger");
    ask("CREATE TABLE rows (i int)");
    ask("CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "PERFORM gone FROM rows; RETURN new; END $$");
    ask("CREATE TRIGGER no BEFORE INSERT ON rows FOR EACH ROW EXECUTE FUNCTION no()");
    struct mr_store *a = connected("a", "rows");
    struct mr_error err;
    struct mr_claim claim = claimed(a);
    begun(a, &claim, 1);
    assert_false(copy_int(a, "i", 3, &err));
    assert_int_equal(err.action, MR_RETRY);
    a->ops->reset(a);
    claim = claimed(a);
    begun(a, &claim, 1);
    assert_false(copy_int(a, "i", 3, &err));
    assert_int_equal(err.action, MR_STOP);
    assert_non_null(strstr(err.msg, "gone"));
    a->ops->close(a);
}

static void the_description_resolves_domains(void **state)
{
    (void)state;
    fresh("t_domains");
    ask("CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE DOMAIN d1 AS varchar(20) NOT NULL; "
        "CREATE DOMAIN d2 AS d1 DEFAULT 'x'; "
        "CREATE TABLE rows (a int NOT NULL, b d2, c mood, d int GENERATED ALWAYS AS (1) STORED, "
        "e int GENERATED ALWAYS AS IDENTITY, f int GENERATED BY DEFAULT AS IDENTITY, g point, "
        "h serial, i jsonb, gone int); ALTER TABLE rows DROP gone");
    struct mr_store *a = connected("a", "rows");
    const struct mr_row_schema *schema = a->ops->schema(a);
    char got[1024] = "";
    for (size_t i = 0; i < schema->n; i++) {
        const struct mr_row_column *c = &schema->columns[i];
        snprintf(got + strlen(got), sizeof got - strlen(got), "%s|%s|%d%s%s%s%s\n", c->name,
                 c->type_name, c->typmod, c->not_null ? " not_null" : "",
                 c->has_default ? " default" : "", c->is_text ? " text" : "",
                 c->generated ? " generated" : "");
    }
    assert_string_equal(got, "a|integer|-1 not_null\n"
                             "b|d2 (character varying(20))|24 not_null default text\n"
                             "c|mood|-1 text\n"
                             "d|integer|-1 default generated\n"
                             "e|integer|-1 not_null default generated\n"
                             "f|integer|-1 not_null default\n"
                             "g|point|-1\n"
                             "h|integer|-1 not_null default\n"
                             "i|jsonb|-1\n");
    a->ops->close(a);
}

static void refuse_table(const char *table, const char *const *columns, size_t n, const char *says)
{
    struct mr_postgres_store_options options = {.dsn = dsn,
                                                .table = table,
                                                .columns = columns,
                                                .n_columns = n,
                                                .group = "g",
                                                .owner = "refused",
                                                .application_name = "millrace/g/refused/0",
                                                .mode = "at_least_once"};
    struct mr_store *store;
    struct mr_error err = {0};
    assert_true(mr_postgres_store_open(&options, &store, &err));
    assert_false(store->ops->connect(store, &err));
    assert_int_equal(err.action, MR_STOP);
    assert_int_equal(err.code, MR_EXIT_CONFIG);
    if (!strstr(err.msg, says))
        fail_msg("%s", err.msg);
    store->ops->close(store);
}

static void tables_that_cannot_be_written_are_refused_at_connect(void **state)
{
    (void)state;
    fresh("t_unwritable");
    ask("CREATE TABLE a (client_id text, p point, g int GENERATED ALWAYS AS (1) STORED)");
    ask("CREATE TABLE b (p point NOT NULL)");
    ask("CREATE MATERIALIZED VIEW m AS SELECT 1");
    refuse_table("a", (const char *const[]){"client_idd"}, 1,
                 "has no column \"client_idd\"; is \"client_id\" meant?");
    refuse_table("a", (const char *const[]){"p"}, 1, "type point, which Millrace cannot write");
    refuse_table("a", (const char *const[]){"g"}, 1, "generated by Postgres");
    refuse_table("b", NULL, 0, "NOT NULL without a default");
    refuse_table("m", NULL, 0, "not a table that rows can be written to");
    refuse_table("A", NULL, 0, "exactly as written");
    refuse_table("nowhere.a", NULL, 0, "does not exist");
}

/* --- the instance's name --- */

static void *close_later(void *arg)
{
    await("1", b_waits_for_a_lock);
    struct mr_store *store = arg;
    store->ops->close(store);
    return NULL;
}

static void a_name_that_is_taken(void **state)
{
    (void)state;
    fresh("t_name");
    struct mr_store *first = connected("b", NULL), *second = store_of("b", NULL);
    struct mr_error err;
    assert_false(second->ops->connect(second, &err));
    assert_int_equal(err.action, MR_STOP);
    assert_non_null(strstr(err.msg, "another process with instance name \"b\" is running"));
    /* One that goes is waited for. */
    pthread_t thread;
    pthread_create(&thread, NULL, close_later, first);
    if (!second->ops->connect(second, &err))
        fail_msg("%s", err.msg);
    pthread_join(thread, NULL);
    second->ops->close(second);
}

static void the_clock_is_the_servers(void **state)
{
    (void)state;
    fresh("t_clock");
    struct mr_store *a = connected("a", NULL);
    int64_t server =
        strtoll(ask("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint"), NULL, 10);
    int64_t ours = a->ops->now_ms(a);
    assert_true(ours >= server - 50 && ours <= server + 2000);
    a->ops->close(a);
}

/* --- away, refused --- */

static void a_refused_login_names_the_principal_and_no_password(void **state)
{
    (void)state;
    const char *tcp = getenv("MILLRACE_PG_TCP");
    if (!tcp)
        skip();
    char *password = mr_strdup(getenv("PGPASSWORD") ? getenv("PGPASSWORD") : "");
    setenv("PGPASSWORD", "wrong-secret", 1);
    struct mr_postgres_store_options options = {.dsn = tcp,
                                                .group = "g",
                                                .owner = "o",
                                                .application_name = "millrace/g/o/0",
                                                .mode = "at_least_once"};
    struct mr_store *store;
    struct mr_error err;
    assert_true(mr_postgres_store_open(&options, &store, &err));
    assert_false(store->ops->connect(store, &err));
    setenv("PGPASSWORD", password, 1);
    assert_int_equal(err.code, MR_EXIT_CONFIG);
    assert_int_equal(err.action, MR_STOP);
    assert_non_null(strstr(err.msg, "\"millrace\""));
    assert_null(strstr(err.msg, "wrong-secret"));
    assert_null(strstr(err.msg, "LOCATION"));
    store->ops->close(store);
    options.dsn = "host=127.0.0.1 port=1 dbname=x password=geheim";
    assert_true(mr_postgres_store_open(&options, &store, &err));
    assert_false(store->ops->connect(store, &err));
    assert_int_equal(err.action, MR_RETRY);
    assert_int_equal(err.code, MR_EXIT_UNREACHABLE);
    assert_null(strstr(err.msg, "geheim"));
    store->ops->close(store);
    free(password);
}

static void check_names_every_right_that_is_missing(void **state)
{
    (void)state;
    fresh("t_check");
    ask("CREATE TABLE rows (i int, j int)");
    ask("DO $$ BEGIN CREATE ROLE t_limited; EXCEPTION WHEN duplicate_object THEN NULL; END $$");
    ask("GRANT USAGE ON SCHEMA t_check TO t_limited; GRANT SELECT ON millrace_meta, "
        "millrace_ledger "
        "TO t_limited; GRANT INSERT (i) ON rows TO t_limited");
    struct mr_postgres_store_options options = {.dsn = dsn,
                                                .table = "rows",
                                                .dead_table = "millrace_dead",
                                                .group = "g",
                                                .owner = "o",
                                                .application_name = "millrace/g/o/0",
                                                .mode = "at_least_once"};
    struct mr_error err;
    struct mr_buf report = {0};
    const struct mr_row_schema *schema;
    assert_true(mr_postgres_check(&options, &report, &schema, &err));
    assert_int_equal(schema->n, 2);
    assert_non_null(strstr(mr_buf_cstr(&report), "rows go to t_check.rows, 2 columns"));
    mr_postgres_row_schema_free(schema);
    setenv("PGOPTIONS", "-c search_path=t_check -c role=t_limited", 1);
    assert_false(mr_postgres_check(&options, &report, NULL, &err));
    assert_non_null(strstr(err.msg, "INSERT on t_check.millrace_ledger, UPDATE on "
                                    "t_check.millrace_ledger, INSERT on t_check.millrace_dead, "
                                    "INSERT (j) on t_check.rows"));
    mr_buf_fini(&report);
}

/* --- the lookup, and all types both ways --- */

static struct mr_postgres_lookup_options lookup_of(const char *table, const char *key)
{
    static const char *keys[1];
    keys[0] = key;
    return (struct mr_postgres_lookup_options){
        .name = "l", .dsn = dsn, .table = table, .keys = keys, .n_keys = 1, .distinct = true};
}

static const char types_table[] =
    "(id int, t text, v varchar(30), b bpchar(7), n name, m mood, d shortish, j json, jb jsonb, "
    "u uuid, i2 int2, i4 int4, i8 int8, bo bool, f4 float4, f8 float8, nu numeric, nm numeric(12, "
    "4), "
    "tz timestamptz, ts timestamp, da date)";

/* Rows 1 to 8: extremes and nulls; then random ones. */
static void fill_types(void)
{
    ask("INSERT INTO source VALUES "
        "(1, '', '', '', '', 'sad', '', '{}', '{}', '00000000-0000-0000-0000-000000000000', "
        "-32768, "
        "-2147483648, -9223372036854775808, false, '-infinity', '-infinity', '-infinity', 0, "
        "'-infinity', '-infinity', '-infinity'), "
        "(2, 'x', 'x', 'x', 'x', 'ok', 'x', '[ 1 ]', '[1, 2.50]', "
        "'ffffffff-ffff-ffff-ffff-ffffffffffff', 32767, 2147483647, 9223372036854775807, true, "
        "'infinity', 'infinity', 'infinity', -99999999.9999, 'infinity', 'infinity', 'infinity'), "
        "(3, E'\\n\\t\"\\\\', '\xc3\xbc', '\xe2\x82\xac', 'n', 'ok', 'y', '\"\\u0000\"', 'null', "
        "null, "
        "0, 0, 0, null, 'nan', 'nan', 'nan', null, '4714-11-24 00:00:00+00 BC', "
        "'4714-11-24 00:00:00 BC', '4714-11-24 BC'), "
        "(4, null, null, null, null, null, null, null, null, null, null, null, null, null, null, "
        "null, "
        "null, null, null, null, null), "
        "(5, '123E4567-E89B-12D3-A456-426614174000', '123e4567-e89b', 'a  ', 'b', 'sad', 'z', "
        "'1e400', '1e400', gen_random_uuid(), 1, 1, 1, true, 1.17549435e-38, "
        "2.2250738585072014e-308, "
        "0.000000000000000000000000000001, 0.0001, '294276-12-31 23:59:59.999999+00', "
        "'294276-12-31 23:59:59.999999', '5874897-12-31'), "
        "(6, repeat('long ', 20000), 'v', 'b', 'n', 'ok', 'q', '{\"a\": [true]}', '{\"b\": {\"c\": "
        "1}}', "
        "gen_random_uuid(), 2, 2, 2, false, 3.4028235e38, 1.7976931348623157e308, "
        "repeat('9', 5000)::numeric, 1, '2000-01-01 00:00:00+00', '2000-01-01', '2000-01-01'), "
        "(7, 'y', 'y', 'y', 'y', 'ok', 'y', '1', '1', gen_random_uuid(), 3, 3, 3, true, 1e-45, "
        "5e-324, "
        "('0.' || repeat('0', 3000) || '7000')::numeric, 2, '1999-12-31 23:59:59.999999+00', "
        "'1999-12-31 23:59:59.999999', '0001-01-01'), "
        "(8, 'z', 'z', 'z', 'z', 'sad', 'z', '2', '2', gen_random_uuid(), 4, 4, 4, true, 0.1, 0.1, "
        "10000000000000000000, 1.5, '1969-12-31 23:59:59.9+00', '0001-01-01 00:00:00', "
        "'2000-02-29')");
    ask("SELECT setseed(0.42)");
    ask("INSERT INTO source SELECT i, md5(random()::text), left(md5(random()::text), 1 + i %% 20), "
        "left(md5(random()::text), i %% 8), md5(i::text), (ARRAY['sad', 'ok'])[1 + i %% 2]::mood, "
        "left(md5(random()::text), i %% 4), json_build_object('k', random()), "
        "jsonb_build_object('k', i * random(), 'n', null), gen_random_uuid(), "
        "((random() - 0.5) * 60000)::int2, ((random() - 0.5) * 4e9)::int4, "
        "((random() - 0.5) * 1e18)::int8, random() < 0.5, ((random() - 0.5) * 10 ^ (i %% 60 - "
        "30))::float4, "
        "(random() - 0.5) * 10 ^ (i %% 600 - 300), "
        "((random() - 0.5) * 10 ^ (i %% 40 - 20))::numeric::numeric * (10::numeric ^ (i %% 7)), "
        "((random() - 0.5) * 1e7)::numeric(12, 4), "
        "'2000-01-01 00:00+00'::timestamptz + (random() - 0.5) * 6000 * interval '1 year', "
        "'2000-01-01'::timestamp + (random() - 0.5) * 6000 * interval '1 year', "
        "'2000-01-01'::date + ((random() - 0.5) * 2000000)::int FROM generate_series(9, 3000) i");
}

/* The value of the lookup column `i` (cells in order: keys, then the others). */
static void read_cells(const struct mr_row_ref *row, struct mr_value *values, size_t n)
{
    const uint8_t *at = mr_cell_read(row->key, &values[0]);
    at = row->cells;
    for (size_t i = 1; i < n; i++)
        at = mr_cell_read(at, &values[i]);
}

static void every_type_comes_through_unchanged(void **state)
{
    (void)state;
    fresh("t_types");
    ask("CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE DOMAIN shortish AS varchar(4) CHECK "
        "(true)");
    ask("CREATE TABLE source %s", types_table);
    ask("CREATE TABLE target %s", types_table);
    fill_types();
    struct mr_postgres_lookup_options options = lookup_of("source", "id");
    struct mr_table *table = NULL;
    struct mr_error err;
    if (!mr_postgres_lookup_load(&options, &table, &err))
        fail_msg("%s", err.msg);
    const struct mr_lookup_schema *from = mr_table_schema(table);
    assert_int_equal(from->n_columns, 21);
    assert_int_equal(mr_table_stats(table).rows, 3000);

    struct mr_store *store = connected("a", "target");
    struct mr_claim claim = claimed(store);
    const struct mr_row_schema *to = store->ops->schema(store);
    assert_int_equal(to->n, 21);
    struct mr_column_set set = {.n = 21};
    for (uint16_t i = 0; i < 21; i++)
        set.columns[i] = i;
    struct mr_buf rows = {0}, key = {0};
    struct mr_span *span = mr_span_new();
    size_t n = 0;
    for (int64_t id = 1; id <= 3000; id++) {
        struct mr_value wanted = {.type = MR_INT, .i = id}, values[21];
        struct mr_row_ref row;
        mr_buf_reset(&key);
        assert_true(mr_lookup_key(from, &wanted, &key, &err));
        struct mr_bytes one = {key.ptr, key.len};
        assert_int_equal(mr_span_open(span, table, &one, 1, (struct mr_bytes){NULL, 0}), 1);
        assert_true(mr_span_next(span, &row));
        read_cells(&row, values, 21);
        mr_buf_put_be16(&rows, 21);
        for (size_t i = 0; i < 21; i++)
            if (!to->encode(&to->columns[i], &values[i], &rows, &err))
                fail_msg("row %d: %s", (int)id, err.msg);
        n++;
    }
    begun(store, &claim, 1);
    struct mr_row_run run = {&set, {rows.ptr, rows.len}, n};
    if (!store->ops->copy(store, &run, 1, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(store->ops->commit(store, &err), MR_DECIDED);
    assert_string_equal(ask("SELECT count(*) FROM target"), "3000");
    for (size_t i = 0; i < 21; i++) {
        char first[64];
        const char *name = to->columns[i].name;
        snprintf(first, sizeof first, "%s",
                 ask("SELECT min(id) FROM source s JOIN target t USING (id) "
                     "WHERE s.%s::text IS DISTINCT FROM t.%s::text",
                     name, name));
        if (*first)
            fail_msg("%s: %s <- %s", name,
                     ask("SELECT left(%s::text, 200) FROM target WHERE id = %s", name, first),
                     "differs");
    }
    mr_span_free(span);
    mr_table_free(table);
    mr_buf_fini(&rows);
    mr_buf_fini(&key);
    store->ops->close(store);
}

static void a_query_is_described_and_read(void **state)
{
    (void)state;
    fresh("t_query");
    ask("CREATE TABLE subs AS SELECT 'r' || i %% 10 AS restaurant, i AS client, i %% 2 = 0 AS vip, "
        "point(1, 2) AS at FROM generate_series(1, 1000) i");
    ask("INSERT INTO subs VALUES (NULL, 1, true, NULL), ('r1', 1, false, NULL), ('r1', 1, false, "
        "NULL)");
    struct mr_postgres_lookup_options options = lookup_of(NULL, "restaurant");
    options.query = "select restaurant, client, vip from subs -- and a comment ; \n;  ";
    struct mr_lookup_schema *schema = NULL;
    struct mr_error err;
    if (!mr_postgres_lookup_schema(&options, &schema, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(schema->n_columns, 3);
    assert_string_equal(schema->columns[1].name, "client");
    assert_int_equal(schema->columns[1].type, MR_INT);
    assert_string_equal(schema->columns[1].type_name, "integer");
    mr_postgres_lookup_schema_free(schema);
    struct mr_table *table = NULL;
    assert_true(mr_postgres_lookup_load(&options, &table, &err));
    struct mr_table_stats stats = mr_table_stats(table);
    assert_int_equal(stats.rows_read, 1003);
    assert_int_equal(stats.null_keys, 1);
    assert_int_equal(stats.keys, 10);
    assert_int_equal(stats.rows, 1000);
    mr_table_free(table);
}

static void refuse_lookup(const struct mr_postgres_lookup_options *options, const char *says)
{
    struct mr_table *table = NULL;
    struct mr_error err = {0};
    assert_false(mr_postgres_lookup_load(options, &table, &err));
    if (!strstr(err.msg, says) || !strstr(err.msg, "lookup \"l\""))
        fail_msg("%s", err.msg);
    assert_int_equal(err.action, MR_STOP);
}

static void lookups_that_cannot_be_read(void **state)
{
    (void)state;
    fresh("t_unreadable");
    ask("CREATE TABLE subs (restaurant text, client int, at point)");
    struct mr_postgres_lookup_options options = lookup_of("subs", "restaurant");
    refuse_lookup(&options, "column \"at\" has type point");
    options.columns = (const char *const[]){"clientt"};
    options.n_columns = 1;
    refuse_lookup(&options, "clientt");
    options.table = "nosuch";
    refuse_lookup(&options, "nosuch");
    options.table = NULL;
    options.query = "delete from subs returning *";
    refuse_lookup(&options, "syntax error");
}

static void an_empty_table_and_wide_ones(void **state)
{
    (void)state;
    fresh("t_empty");
    ask("CREATE TABLE subs (restaurant text, client int)");
    struct mr_postgres_lookup_options options = lookup_of("subs", "restaurant");
    struct mr_table *table = NULL;
    struct mr_error err;
    assert_true(mr_postgres_lookup_load(&options, &table, &err));
    assert_int_equal(mr_table_stats(table).rows, 0);
    mr_table_free(table);
}

struct seen {
    uint64_t calls, rows, estimated;
    atomic_bool cancel;
    bool cancel_at_once;
};

static void on_progress(void *arg, uint64_t rows, uint64_t estimated, uint64_t bytes)
{
    struct seen *seen = arg;
    (void)bytes;
    seen->calls++;
    seen->rows = rows;
    seen->estimated = estimated;
    if (seen->cancel_at_once)
        atomic_store(&seen->cancel, true);
}

static void progress_is_told_and_a_load_can_be_called_off(void **state)
{
    (void)state;
    fresh("t_progress");
    ask("CREATE TABLE subs AS SELECT i AS restaurant, i AS client FROM generate_series(1, 200000) "
        "i");
    ask("ANALYZE subs");
    struct seen seen = {0};
    struct mr_postgres_lookup_options options = lookup_of("subs", "restaurant");
    options.progress = on_progress;
    options.progress_arg = &seen;
    options.cancel = &seen.cancel;
    struct mr_table *table = NULL;
    struct mr_error err;
    assert_true(mr_postgres_lookup_load(&options, &table, &err));
    mr_table_free(table);
    assert_true(seen.calls >= 1);
    assert_int_equal(seen.rows, 200000);
    assert_true(seen.estimated > 100000 && seen.estimated < 400000);
    seen.cancel_at_once = true;
    assert_false(mr_postgres_lookup_load(&options, &table, &err));
    assert_int_equal(err.action, MR_RETRY);
    assert_non_null(strstr(err.msg, "called off"));
    assert_true(seen.rows < 200000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(init_again_and_at_once_is_harmless),
        cmocka_unit_test(init_prints_what_it_would_do),
        cmocka_unit_test(without_init_the_sentence_says_what_to_run),
        cmocka_unit_test(tables_of_another_version_are_refused),
        cmocka_unit_test(a_unit_moves_the_ledger_with_its_rows),
        cmocka_unit_test(who_was_claimed_from_cannot_begin),
        cmocka_unit_test(a_claim_waits_for_the_unit_in_flight),
        cmocka_unit_test(a_claim_ends_a_session_that_keeps_the_ledger),
        cmocka_unit_test(a_lost_connection_leaves_commit_in_doubt),
        cmocka_unit_test(a_lost_connection_elsewhere_is_retried),
        cmocka_unit_test(a_cancelled_wait_for_a_replica_is_in_doubt),
        cmocka_unit_test(a_deferred_constraint_is_a_definite_rollback),
        cmocka_unit_test(commit_of_a_failed_transaction_is_never_decided),
        cmocka_unit_test(rows_that_postgres_refuses_are_the_messages_fault),
        cmocka_unit_test(runs_of_several_column_sets),
        cmocka_unit_test(dead_letters_keep_every_byte),
        cmocka_unit_test(a_thousand_big_dead_letters_in_one_unit),
        cmocka_unit_test(an_altered_table_is_described_again),
        cmocka_unit_test(a_trigger_that_finds_no_column_halts),
        cmocka_unit_test(the_description_resolves_domains),
        cmocka_unit_test(tables_that_cannot_be_written_are_refused_at_connect),
        cmocka_unit_test(a_name_that_is_taken),
        cmocka_unit_test(the_clock_is_the_servers),
        cmocka_unit_test(a_refused_login_names_the_principal_and_no_password),
        cmocka_unit_test(check_names_every_right_that_is_missing),
        cmocka_unit_test(every_type_comes_through_unchanged),
        cmocka_unit_test(a_query_is_described_and_read),
        cmocka_unit_test(lookups_that_cannot_be_read),
        cmocka_unit_test(an_empty_table_and_wide_ones),
        cmocka_unit_test(progress_is_told_and_a_load_can_be_called_off),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
