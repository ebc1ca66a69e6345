/*
 * test_postgres_unit.c - units against a real server: claim, fence, doubt, refused rows, dead
 * letters.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "support/side.h"

#include "base/clock.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

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

/* One partition that was lost takes the whole unit with it. */
static void a_unit_over_partitions_is_all_or_nothing(void **state)
{
    (void)state;
    fresh("t_partitions");
    struct mr_store *a = connected("a", NULL), *b = connected("b", NULL);
    struct mr_error err;
    struct mr_advance steps[3];
    for (int32_t i = 0; i < 3; i++) {
        struct mr_partition at = {"topic_in", i};
        struct mr_claim claim;
        assert_true(a->ops->claim(a, &at, 0, &claim, &err));
        steps[i] = (struct mr_advance){
            .at = at, .epoch = claim.epoch, .unit = 0, .new_unit = 1, .next_offset = 10 + i};
    }
    assert_true(a->ops->begin(a, steps, 3, &err));
    assert_int_equal(a->ops->commit(a, &err), MR_DECIDED);
    assert_string_equal(ask("SELECT string_agg(concat(unit, '/', next_offset), ' ' ORDER BY part) "
                            "FROM millrace_ledger"),
                        "1/10 1/11 1/12");
    struct mr_claim taken;
    assert_true(b->ops->claim(b, &steps[1].at, 0, &taken, &err));
    for (int i = 0; i < 3; i++) {
        steps[i].unit = steps[i].new_unit; /* only drops: the unit stays */
        steps[i].next_offset += 100;
    }
    assert_false(a->ops->begin(a, steps, 3, &err));
    assert_int_equal(err.action, MR_RECOVER);
    assert_non_null(strstr(err.msg, "topic_in/1"));
    a->ops->rollback(a);
    steps[1].epoch = taken.epoch;
    assert_true(b->ops->begin(b, &steps[1], 1, &err));
    assert_int_equal(b->ops->commit(b, &err), MR_DECIDED);
    assert_string_equal(ask("SELECT string_agg(concat(unit, '/', next_offset), ' ' ORDER BY part) "
                            "FROM millrace_ledger"),
                        "1/10 1/111 1/12");
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
    c->ok = c->store->ops->claim(c->store, &place, 0, &c->claim, &c->err);
    return NULL;
}

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
    atomic_bool done;
};

static void *run_commit(void *arg)
{
    struct committing *c = arg;
    c->decision = c->store->ops->commit(c->store, &c->err);
    atomic_store(&c->done, true);
    return NULL;
}

/* Commits a unit in a thread, and cancels its wait for a replica. False: it did not wait. */
static bool cancel_wait(struct committing *c, const struct mr_claim *claim)
{
    pthread_t thread;
    bool waited = false;
    begun(c->store, claim, 5);
    atomic_store(&c->done, false);
    pthread_create(&thread, NULL, run_commit, c);
    while (!waited && !atomic_load(&c->done))
        waited = strcmp(ask("SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE "
                            "wait_event = 'SyncRep' AND application_name = 'millrace/g/a/0'"),
                        "1") == 0;
    pthread_join(thread, NULL);
    return waited;
}

/* Also after a failure: no later commit of this server would ever end. */
static int no_replica(void **state)
{
    (void)state;
    ask("ALTER SYSTEM RESET synchronous_standby_names");
    ask("SELECT pg_reload_conf()");
    await("", "SHOW synchronous_standby_names");
    return 0;
}

/* Postgres then says COMMIT, with the warning that the replica may not have it. */
static void a_cancelled_wait_for_a_replica_is_in_doubt(void **state)
{
    (void)state;
    fresh("t_replica");
    struct committing c = {.store = connected("a", NULL)};
    struct mr_claim claim = claimed(c.store);
    ask("ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
    ask("SELECT pg_reload_conf()");
    /* The setting counts once the server's checkpointer has seen it. */
    int64_t deadline = mr_clock_mono_ms() + 20000;
    while (!cancel_wait(&c, &claim)) {
        assert_int_equal(c.decision, MR_DECIDED);
        assert_true(mr_clock_mono_ms() < deadline);
        claim.unit++;
    }
    no_replica(state);
    assert_int_equal(c.decision, MR_IN_DOUBT);
    assert_non_null(strstr(c.err.msg, "warning"));
    c.store->ops->reset(c.store);
    assert_int_equal(claimed(c.store).unit, claim.unit + 1); /* it was committed */
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_unit_moves_the_ledger_with_its_rows),
        cmocka_unit_test(who_was_claimed_from_cannot_begin),
        cmocka_unit_test(a_unit_over_partitions_is_all_or_nothing),
        cmocka_unit_test(a_claim_waits_for_the_unit_in_flight),
        cmocka_unit_test(a_claim_ends_a_session_that_keeps_the_ledger),
        cmocka_unit_test(a_lost_connection_leaves_commit_in_doubt),
        cmocka_unit_test(a_lost_connection_elsewhere_is_retried),
        cmocka_unit_test_teardown(a_cancelled_wait_for_a_replica_is_in_doubt, no_replica),
        cmocka_unit_test(a_deferred_constraint_is_a_definite_rollback),
        cmocka_unit_test(commit_of_a_failed_transaction_is_never_decided),
        cmocka_unit_test(rows_that_postgres_refuses_are_the_messages_fault),
        cmocka_unit_test(runs_of_several_column_sets),
        cmocka_unit_test(dead_letters_keep_every_byte),
        cmocka_unit_test(a_thousand_big_dead_letters_in_one_unit),
    };
    return cmocka_run_group_tests(tests, side_setup, side_teardown);
}
