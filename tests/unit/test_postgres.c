/*
 * test_postgres.c - the postgres room against a real server: init, check, connecting, the feedback
 * table.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "support/side.h"
#include "base/clock.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

/* --- init --- */

static void *run_init(void *arg)
{
    struct mr_error *err = arg;
    err->code = 0;
    int64_t deadline = mr_clock_mono_ms() + 20000;
    bool ok;
    do /* the others may hold the lock for longer than it is waited for */
        ok = mr_postgres_init(dsn, "millrace_dead", false, NULL, err);
    while (!ok && err->action == MR_RETRY && mr_clock_mono_ms() < deadline);
    if (ok)
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
        assert_string_equal(ask("SELECT count(*) FROM pg_tables WHERE schemaname = 't_init'"), "5");
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
    assert_null(strstr(err.msg, "millrace init"));
    /* Nor does init lower what a later program has made. */
    assert_false(mr_postgres_init(dsn, "millrace_dead", false, NULL, &err));
    assert_string_equal(ask("SELECT schema_version FROM millrace_meta"), "77");
    store->ops->close(store);
}

/* The tables as version 1 made them, with a group in the middle of a fan-out. */
static void init_brings_version_1_up(void **state)
{
    (void)state;
    fresh("t_upgrade");
    ask("DROP TABLE millrace_meta, millrace_ledger, millrace_redo, millrace_dead");
    ask("CREATE TABLE millrace_meta (only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row), "
        "ledger_id uuid NOT NULL, schema_version integer NOT NULL)");
    ask("CREATE TABLE millrace_ledger (grp text NOT NULL, topic text NOT NULL, part integer NOT "
        "NULL, epoch bigint NOT NULL, owner text NOT NULL, mode text NOT NULL, unit bigint NOT "
        "NULL DEFAULT 0, next_offset bigint NOT NULL DEFAULT -1, trying bigint, attempts integer "
        "NOT NULL DEFAULT 0, job_keys bytea, job_cursor bytea, job_trigger_ms bigint, job_bundle "
        "text, PRIMARY KEY (grp, topic, part)) WITH (fillfactor = 10)");
    ask("CREATE TABLE millrace_dead (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "
        "at timestamptz NOT NULL DEFAULT now(), grp text NOT NULL, topic text NOT NULL, part "
        "integer NOT NULL, src_offset bigint NOT NULL, src_timestamp_ms bigint, class text NOT "
        "NULL, error text NOT NULL, bundle text, key bytea, value bytea, headers bytea[], "
        "job_keys bytea, job_cursor bytea, job_trigger_ms bigint)");
    ask("INSERT INTO millrace_meta (ledger_id, schema_version) VALUES "
        "('01234567-89ab-cdef-0123-456789abcdef', 1)");
    ask("INSERT INTO millrace_ledger VALUES ('g', 'topic_in', 3, 5, 'old', 'at_least_once', 12, "
        "99, NULL, 0, 'k', 'c', 77, NULL)");
    struct mr_store *store = store_of("a", NULL);
    struct mr_error err;
    assert_false(store->ops->connect(store, &err));
    assert_int_equal(err.action, MR_STOP);
    assert_int_equal(err.code, MR_EXIT_CONFIG);
    assert_non_null(strstr(err.msg, "version 1"));
    assert_non_null(strstr(err.msg, "run `millrace init`"));
    for (int twice = 0; twice < 2; twice++) {
        assert_true(mr_postgres_init(dsn, "millrace_dead", false, NULL, &err));
        assert_string_equal(ask("SELECT concat(ledger_id, ' ', schema_version) FROM millrace_meta"),
                            "01234567-89ab-cdef-0123-456789abcdef 2");
    }
    assert_string_equal(ask("SELECT attstorage FROM pg_attribute WHERE attname = 'payload' AND "
                            "attrelid = 'millrace_redo'::regclass"),
                        "e");
    assert_true(store->ops->connect(store, &err));
    struct mr_claim claim = claimed(store);
    assert_false(claim.inserted);
    assert_int_equal(claim.unit, 12);
    assert_int_equal(claim.next_offset, 99);
    assert_true(claim.has_job);
    assert_string_equal(claim.owner, "old");
    /* A table that is missing in spite of the version. */
    ask("DROP TABLE millrace_redo");
    store->ops->reset(store);
    assert_false(store->ops->connect(store, &err));
    assert_non_null(strstr(err.msg, "millrace_redo"));
    assert_non_null(strstr(err.msg, "run `millrace init`"));
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
    ask("RESET lock_timeout");
    assert_int_equal(a->ops->commit(a, &err), MR_DECIDED);
    ask("DROP TABLE rows");
    assert_false(begin(a, &claim, 2, &err));
    a->ops->reset(a);
    assert_false(a->ops->connect(a, &err));
    assert_int_equal(err.action, MR_STOP);
    assert_non_null(strstr(err.msg, "\"rows\" does not exist"));
    a->ops->close(a);
}

/* Each message would become a dead letter, and none is at fault. */
static void a_table_that_no_longer_takes_the_rows_halts(void **state)
{
    (void)state;
    static const struct {
        const char *change, *undo, *says;
    } cases[] = {
        {"RENAME i TO k", "RENAME k TO i", "column \"i\" is gone"},
        {"ALTER i TYPE text", "ALTER i TYPE int USING i::int", "is of type text now"},
        {"ADD must int NOT NULL", "DROP must", "column \"must\" must be filled now"},
        {"ALTER i TYPE bigint", "ALTER i TYPE int", NULL},
        {"DROP spare", "ADD spare text", NULL},
        {"ADD may int", "DROP may", NULL},
    };
    fresh("t_misfit");
    ask("CREATE TABLE rows (i int, spare text)");
    struct mr_store *a = connected("a", "rows");
    struct mr_error err;
    struct mr_claim claim = claimed(a);
    begun(a, &claim, 1);
    assert_true(copy_int(a, "i", 3, &err));
    a->ops->rollback(a);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char sql[100];
        snprintf(sql, sizeof sql, "ALTER TABLE rows %s", cases[i].change);
        ask(sql);
        a->ops->reset(a);
        assert_int_equal(a->ops->connect(a, &err), cases[i].says == NULL);
        if (cases[i].says) {
            assert_int_equal(err.action, MR_STOP);
            assert_int_equal(err.code, MR_EXIT_CONFIG);
            assert_non_null(strstr(err.msg, cases[i].says));
        }
        snprintf(sql, sizeof sql, "ALTER TABLE rows %s", cases[i].undo);
        ask(sql);
        a->ops->reset(a);
        assert_true(a->ops->connect(a, &err));
    }
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
    int64_t begun_ms = mr_clock_mono_ms();
    struct mr_store *a = connected("a", NULL);
    int64_t connecting_ms = mr_clock_mono_ms() - begun_ms; /* it is late by a part of that */
    int64_t server =
        strtoll(ask("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint"), NULL, 10);
    int64_t ours = a->ops->now_ms(a);
    assert_true(ours >= server - 50 - connecting_ms && ours <= server + 2000);
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
    /* "Name or service not known": it may be the name server that is away. */
    options.dsn = "host=nowhere.invalid dbname=x";
    assert_true(mr_postgres_store_open(&options, &store, &err));
    assert_false(store->ops->connect(store, &err));
    assert_int_equal(err.action, MR_RETRY);
    store->ops->close(store);
    free(password);
}

static void check_names_every_right_that_is_missing(void **state)
{
    (void)state;
    fresh("t_check");
    ask("CREATE TABLE rows (i int, j int, s serial)");
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
    assert_int_equal(schema->n, 3);
    assert_non_null(strstr(mr_buf_cstr(&report), "rows go to t_check.rows, 3 columns"));
    mr_postgres_row_schema_free(schema);
    setenv("PGOPTIONS", "-c search_path=t_check -c role=t_limited", 1);
    assert_false(mr_postgres_check(&options, &report, NULL, &err));
    assert_non_null(strstr(err.msg, "INSERT on t_check.millrace_ledger, UPDATE on "
                                    "t_check.millrace_ledger, SELECT on t_check.millrace_redo, "
                                    "INSERT on t_check.millrace_redo, DELETE on "
                                    "t_check.millrace_redo, INSERT on t_check.millrace_dead, "
                                    "INSERT (j) on t_check.rows, INSERT (s) on t_check.rows, "
                                    "USAGE on sequence rows_s_seq"));
    mr_buf_fini(&report);
}

/* What the documentation asks an operator to grant is enough for everything a store does. */
static void the_documented_rights_are_enough(void **state)
{
    (void)state;
    fresh("t_rights");
    ask("CREATE TABLE rows (id serial, i int)");
    ask("DO $$ BEGIN CREATE ROLE t_least; EXCEPTION WHEN duplicate_object THEN NULL; END $$");
    ask("GRANT USAGE ON SCHEMA t_rights TO t_least; GRANT SELECT ON millrace_meta TO t_least; "
        "GRANT SELECT, INSERT, UPDATE ON millrace_ledger TO t_least; "
        "GRANT SELECT, INSERT, DELETE ON millrace_redo TO t_least; "
        "GRANT INSERT ON millrace_dead, rows TO t_least; GRANT USAGE ON rows_id_seq TO t_least");
    setenv("PGOPTIONS", "-c search_path=t_rights -c role=t_least", 1);
    struct mr_postgres_store_options options = {.dsn = dsn,
                                                .table = "rows",
                                                .dead_table = "millrace_dead",
                                                .group = "g",
                                                .owner = "o",
                                                .application_name = "millrace/g/o/0",
                                                .mode = "at_least_once"};
    struct mr_error err;
    if (!mr_postgres_check(&options, NULL, NULL, &err))
        fail_msg("%s", err.msg);
    struct mr_store *store = connected("a", "rows");
    struct mr_claim claim = claimed(store);
    const struct mr_dead_letter letter = {
        .rec = {.topic = "t", .value = {"v", 1}}, .class_ = "c", .error = "e"};
    begun(store, &claim, 1);
    assert_true(copy_int(store, "i", 7, &err));
    assert_true(store->ops->bury(store, &letter, 1, &err));
    assert_true(store->ops->check(store, &err));
    assert_int_equal(store->ops->commit(store, &err), MR_DECIDED);
    assert_string_equal(ask("SELECT i FROM rows"), "7");
    /* A right that is taken away later is for a person to give back. */
    ask("REVOKE INSERT ON rows FROM t_least");
    claim = claimed(store);
    assert_false(begin(store, &claim, 2, &err));
    assert_int_equal(err.action, MR_STOP);
    assert_non_null(strstr(err.msg, "permission denied"));
    store->ops->close(store);
}

/* The server of the tests has no certificate: what is not this machine by name is not talked to. */
static void another_host_must_show_a_certificate(void **state)
{
    (void)state;
    if (!getenv("MILLRACE_PG_TCP"))
        skip();
    char other[256];
    snprintf(other, sizeof other,
             "host=db.example.org hostaddr=127.0.0.1 port=%s dbname=promo "
             "user=millrace",
             ask("SHOW port"));
    struct mr_error err;
    assert_false(mr_postgres_init(other, NULL, false, NULL, &err));
    assert_int_equal(err.action, MR_STOP);
    assert_int_equal(err.code, MR_EXIT_CONFIG);
    assert_non_null(strstr(err.msg, "sslmode=verify-full"));
    assert_non_null(strstr(err.msg, "sslrootcert="));
    fresh("t_host");
    strcat(other, " sslmode=disable");
    if (!mr_postgres_init(other, NULL, false, NULL, &err))
        fail_msg("%s", err.msg);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(init_again_and_at_once_is_harmless),
        cmocka_unit_test(init_prints_what_it_would_do),
        cmocka_unit_test(without_init_the_sentence_says_what_to_run),
        cmocka_unit_test(tables_of_another_version_are_refused),
        cmocka_unit_test(init_brings_version_1_up),
        cmocka_unit_test(an_altered_table_is_described_again),
        cmocka_unit_test(a_table_that_no_longer_takes_the_rows_halts),
        cmocka_unit_test(a_trigger_that_finds_no_column_halts),
        cmocka_unit_test(the_description_resolves_domains),
        cmocka_unit_test(tables_that_cannot_be_written_are_refused_at_connect),
        cmocka_unit_test(a_name_that_is_taken),
        cmocka_unit_test(the_clock_is_the_servers),
        cmocka_unit_test(a_refused_login_names_the_principal_and_no_password),
        cmocka_unit_test(check_names_every_right_that_is_missing),
        cmocka_unit_test(the_documented_rights_are_enough),
        cmocka_unit_test(another_host_must_show_a_certificate),
    };
    return cmocka_run_group_tests(tests, side_setup, side_teardown);
}
