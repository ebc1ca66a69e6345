/*
 * test_postgres_claim.c - what a claim finds, against a real server: redo, attempts, the owner
 * before; lost answers; repair of the ledger.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "support/side.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct mr_claim claimed_after(struct mr_store *store, int64_t epoch_before)
{
    struct mr_claim claim;
    struct mr_error err;
    if (!store->ops->claim(store, &place, epoch_before, &claim, &err))
        fail_msg("%s", err.msg);
    return claim;
}

static void decided(struct mr_store *store)
{
    struct mr_error err;
    if (store->ops->commit(store, &err) != MR_DECIDED)
        fail_msg("%s", err.msg);
}

static void attempted(struct mr_store *store, const struct mr_claim *claim, int64_t offset)
{
    struct mr_error err;
    if (!store->ops->attempt(store, &place, claim->epoch, offset, &err))
        fail_msg("%s", err.msg);
}

/* --- redo --- */

static const char units_kept[] =
    "SELECT coalesce(string_agg(concat(part, ':', unit), ' ' ORDER BY part, unit), 'none') "
    "FROM millrace_redo";

static struct mr_redo redo_of(const void *bytes, size_t len)
{
    return (struct mr_redo){.codec = "raw1", .n = 3, .crc32c = 0xfedcba98, .payload = {bytes, len}};
}

static bool begin_redo(struct mr_store *store, struct mr_claim *claim, const struct mr_redo *redo,
                       bool sends, struct mr_error *err)
{
    struct mr_advance step = {.at = place,
                              .epoch = claim->epoch,
                              .unit = claim->unit,
                              .new_unit = claim->unit + sends,
                              .next_offset = 100 + claim->unit,
                              .redo = redo};
    return store->ops->begin(store, &step, 1, err);
}

static void unit_with(struct mr_store *store, struct mr_claim *claim, const struct mr_redo *redo,
                      bool sends)
{
    struct mr_error err;
    if (!begin_redo(store, claim, redo, sends, &err))
        fail_msg("%s", err.msg);
    decided(store);
    claim->unit += sends;
}

static void assert_redo(struct mr_store *store, int64_t unit, const void *bytes, size_t len)
{
    struct mr_redo redo;
    struct mr_error err;
    bool found;
    if (!store->ops->redo(store, &place, unit, &redo, &found, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(found, bytes != NULL);
    if (!bytes)
        return;
    assert_string_equal(redo.codec, "raw1");
    assert_int_equal(redo.n, 3);
    assert_int_equal(redo.crc32c, 0xfedcba98);
    assert_int_equal(redo.payload.len, len);
    assert_memory_equal(redo.payload.ptr, bytes, len);
}

static void redo_comes_and_goes_with_its_unit(void **state)
{
    (void)state;
    fresh("t_redo");
    struct mr_store *store = connected("a", NULL);
    struct mr_claim claim = claimed(store);
    struct mr_error err;
    struct mr_redo one = redo_of("on\0e", 4), two = redo_of("\xff\x00", 2), empty = redo_of("", 0);
    assert_redo(store, 1, NULL, 0);
    unit_with(store, &claim, &one, true);
    assert_redo(store, 1, "on\0e", 4);
    assert_redo(store, 0, NULL, 0);
    /* Rolled back: the one before is still there. */
    assert_true(begin_redo(store, &claim, &two, true, &err));
    store->ops->rollback(store);
    assert_redo(store, 1, "on\0e", 4);
    assert_redo(store, 2, NULL, 0);
    unit_with(store, &claim, &two, true);
    assert_string_equal(ask("%s", units_kept), "3:2");
    assert_redo(store, 2, "\xff\x00", 2);
    unit_with(store, &claim, &empty, true);
    assert_redo(store, 3, "", 0);
    /* A position alone, which is only moved when the last unit has arrived. */
    unit_with(store, &claim, NULL, false);
    assert_string_equal(ask("%s", units_kept), "none");
    /* Units without redo, after some with. */
    unit_with(store, &claim, &one, true);
    unit_with(store, &claim, NULL, true);
    assert_string_equal(ask("%s", units_kept), "none");
    /* A new owner finds it. */
    unit_with(store, &claim, &one, true);
    struct mr_store *b = connected("b", NULL);
    struct mr_claim of_b = claimed(b);
    assert_redo(b, of_b.unit, "on\0e", 4);
    b->ops->reset(b);
    struct mr_redo none;
    bool found;
    assert_false(b->ops->redo(b, &place, of_b.unit, &none, &found, &err));
    assert_int_equal(err.action, MR_RETRY);
    b->ops->close(b);
    store->ops->close(store);
}

static char *noise(size_t len, uint64_t seed)
{
    char *bytes = mr_alloc(len);
    for (size_t i = 0; i < len; i++) {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        bytes[i] = (char)seed;
    }
    return bytes;
}

/* More than any buffer between here and there takes, for several partitions in one round trip. */
static void redo_of_many_mebibytes(void **state)
{
    (void)state;
    fresh("t_redo_big");
    enum { N = 3, SIZE = 10 * 1024 * 1024 };
    struct mr_store *store = connected("a", NULL);
    struct mr_error err;
    struct mr_advance steps[N];
    struct mr_redo redo[N];
    char *bytes[N];
    for (int32_t i = 0; i < N; i++) {
        struct mr_partition at = {"topic_in", i};
        struct mr_claim claim;
        assert_true(store->ops->claim(store, &at, 0, &claim, &err));
        bytes[i] = noise(SIZE, (uint64_t)i + 1);
        redo[i] = redo_of(bytes[i], SIZE);
        steps[i] = (struct mr_advance){
            .at = at, .epoch = claim.epoch, .new_unit = 1, .next_offset = 7, .redo = &redo[i]};
    }
    for (int round = 0; round < 2; round++) {
        if (!store->ops->begin(store, steps, N, &err))
            fail_msg("%s", err.msg);
        decided(store);
        for (int32_t i = 0; i < N; i++) {
            bool found;
            struct mr_redo out;
            assert_true(
                store->ops->redo(store, &steps[i].at, steps[i].new_unit, &out, &found, &err));
            assert_true(found);
            assert_int_equal(out.payload.len, SIZE);
            assert_memory_equal(out.payload.ptr, bytes[i], SIZE);
            steps[i].unit++;
            steps[i].new_unit++;
        }
    }
    assert_string_equal(ask("%s", units_kept), "0:2 1:2 2:2");
    for (int i = 0; i < N; i++)
        free(bytes[i]);
    /* What is compressed already is not compressed again. */
    char *zeros = mr_calloc(1, 100000);
    struct mr_redo flat = redo_of(zeros, 100000);
    steps[0].redo = &flat;
    assert_true(store->ops->begin(store, steps, 1, &err));
    decided(store);
    assert_string_equal(
        ask("SELECT pg_column_size(payload) FROM millrace_redo WHERE part = 0 AND unit = 3"),
        "100000");
    free(zeros);
    store->ops->close(store);
}

static void a_lost_swap_keeps_no_redo(void **state)
{
    (void)state;
    fresh("t_redo_lost");
    struct mr_store *a = connected("a", NULL), *b = connected("b", NULL);
    struct mr_error err;
    struct mr_redo mine = redo_of("mine", 4), theirs = redo_of("theirs", 6);
    struct mr_claim of_a = claimed(a);
    unit_with(a, &of_a, &mine, true);
    struct mr_claim of_b = claimed(b);
    assert_false(begin_redo(a, &of_a, &mine, true, &err));
    assert_int_equal(err.action, MR_RECOVER);
    a->ops->rollback(a);
    assert_string_equal(ask("%s", units_kept), "3:1");
    /* Also where the new owner has got there first: the same key would be refused. */
    unit_with(b, &of_b, &theirs, true);
    assert_false(begin_redo(a, &of_a, &mine, true, &err));
    assert_int_equal(err.action, MR_RECOVER);
    a->ops->rollback(a);
    assert_redo(a, 2, "theirs", 6);
    assert_string_equal(ask("%s", units_kept), "3:2");
    a->ops->close(a);
    b->ops->close(b);
}

/* --- attempts --- */

static void assert_trying(const struct mr_claim *claim, int64_t trying, int attempts)
{
    assert_int_equal(claim->trying, trying);
    if (trying >= 0)
        assert_int_equal(claim->attempts, attempts);
}

static void a_claim_counts_who_died_at_the_same_message(void **state)
{
    (void)state;
    fresh("t_attempts");
    struct mr_store *a = connected("a", NULL);
    struct mr_claim claim = claimed(a);
    assert_true(claim.inserted);
    assert_trying(&claim, -1, 0);
    assert_string_equal(claim.owner, "");
    /* Nobody tried anything. */
    claim = claimed(a);
    assert_trying(&claim, -1, 0);
    assert_string_equal(claim.owner, ""); /* nobody else */
    /* Each that tried and was not heard of again counts. */
    for (int deaths = 1; deaths <= 3; deaths++) {
        attempted(a, &claim, 40);
        assert_string_equal(ask("SELECT trying FROM millrace_ledger"), "40");
        claim = claimed(a);
        assert_trying(&claim, 40, deaths);
    }
    /* Who claims and begins with nothing has not died of it. */
    claim = claimed(a);
    assert_trying(&claim, 40, 3);
    /* Another message begins at nothing. */
    attempted(a, &claim, 41);
    claim = claimed(a);
    assert_trying(&claim, 41, 1);
    /* We are alive: what we tried has not killed us. */
    attempted(a, &claim, 41);
    claim = claimed_after(a, claim.epoch);
    assert_trying(&claim, -1, 0);
    assert_int_equal(claim.attempts, 0);
    assert_string_equal(ask("SELECT concat(trying IS NULL, attempts) FROM millrace_ledger"), "t0");
    attempted(a, &claim, 41);
    claim = claimed(a);
    assert_trying(&claim, 41, 1);
    /* The claim before was ours, but somebody else has been here since. */
    struct mr_store *b = connected("b", NULL);
    struct mr_claim of_b = claimed(b);
    assert_string_equal(of_b.owner, "a");
    assert_trying(&of_b, 41, 1); /* nothing was begun since */
    attempted(b, &of_b, 41);
    claim = claimed_after(a, claim.epoch);
    assert_string_equal(claim.owner, "b");
    assert_trying(&claim, 41, 2);
    /* A decided unit settles it, */
    attempted(a, &claim, 41);
    begun(a, &claim, 42);
    decided(a);
    claim = claimed(a);
    assert_trying(&claim, -1, 0);
    /* and so does who gives the message up. */
    attempted(a, &claim, 42);
    attempted(a, &claim, -1);
    claim = claimed(a);
    assert_trying(&claim, -1, 0);
    a->ops->close(a);
    b->ops->close(b);
}

/* 0 is no epoch of anybody. */
static void no_claim_before_is_no_sign_of_life(void **state)
{
    (void)state;
    fresh("t_attempts_zero");
    struct mr_store *a = connected("a", NULL);
    struct mr_claim claim = claimed(a);
    attempted(a, &claim, 7);
    ask("UPDATE millrace_ledger SET epoch = 0");
    claim = claimed(a);
    assert_trying(&claim, 7, 1);
    a->ops->close(a);
}

static void an_attempt_is_fenced(void **state)
{
    (void)state;
    fresh("t_attempt_fence");
    struct mr_store *a = connected("a", NULL), *b = connected("b", NULL);
    struct mr_error err;
    struct mr_claim of_a = claimed(a), of_b = claimed(b);
    attempted(b, &of_b, 5);
    assert_false(a->ops->attempt(a, &place, of_a.epoch, 9, &err));
    assert_int_equal(err.action, MR_RECOVER);
    assert_non_null(strstr(err.msg, "topic_in/3"));
    assert_string_equal(ask("SELECT trying FROM millrace_ledger"), "5");
    /* It leaves no transaction open. */
    of_a = claimed(a);
    attempted(a, &of_a, 9);
    end_session("a");
    assert_false(a->ops->attempt(a, &place, of_a.epoch, 9, &err));
    assert_int_equal(err.action, MR_RETRY);
    a->ops->reset(a);
    assert_false(a->ops->attempt(a, &place, of_a.epoch, 9, &err));
    assert_int_equal(err.action, MR_RETRY);
    a->ops->close(a);
    b->ops->close(b);
}

/* The settings on which the protocol depends, as a transaction of a unit sees them; an attempt's
 * asynchronous commit stays its own. */
static void what_a_session_is_set_to(void **state)
{
    (void)state;
    fresh("t_session");
    ask("CREATE TABLE rows (i int, name text, value text)");
    ask("CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "INSERT INTO seen SELECT s.name, current_setting(s.name) FROM pg_settings s; "
        "RETURN new; END $$");
    ask("CREATE TABLE seen (name text, value text)");
    ask("CREATE TRIGGER look BEFORE INSERT ON rows FOR EACH ROW EXECUTE FUNCTION look()");
    ask("ALTER ROLE CURRENT_USER SET synchronous_commit = off");
    struct mr_store *a = connected("a", "rows");
    ask("ALTER ROLE CURRENT_USER RESET synchronous_commit");
    struct mr_claim claim = claimed(a);
    struct mr_error err;
    attempted(a, &claim, 5);
    begun(a, &claim, 6);
    assert_true(copy_int(a, "i", 1, &err));
    decided(a);
    assert_string_equal(
        ask("SELECT string_agg(concat(name, '=', value), ' ' ORDER BY name) FROM seen WHERE name "
            "IN ('synchronous_commit', 'lock_timeout', 'statement_timeout', "
            "'idle_in_transaction_session_timeout', 'application_name', "
            "'default_transaction_isolation')"),
        "application_name=millrace/g/a/0 default_transaction_isolation=read committed "
        "idle_in_transaction_session_timeout=30s lock_timeout=5s statement_timeout=20s "
        "synchronous_commit=on");
    a->ops->close(a);
}

/* --- lost answers --- */

struct working {
    struct mr_store *store;
    struct mr_claim claim;
    struct mr_error err;
    bool commits; /* a unit; otherwise it claims */
    bool ok;
    enum mr_decision decision;
    atomic_bool done;
};

static void *work(void *arg)
{
    struct working *w = arg;
    struct mr_store *store = w->store;
    if (w->commits)
        w->decision = store->ops->commit(store, &w->err);
    else
        w->ok = store->ops->claim(store, &place, 0, &w->claim, &w->err);
    atomic_store(&w->done, true);
    return NULL;
}

static void await_nobody(const char *names)
{
    ask("ALTER SYSTEM SET synchronous_standby_names = %s", names);
    ask("SELECT pg_reload_conf()");
}

static int no_replica(void **state)
{
    (void)state;
    await_nobody("DEFAULT");
    await("", "SHOW synchronous_standby_names");
    return 0;
}

/* Ends its server process once it has committed and waits for the replica. False: it did not wait.
 */
static bool lose_the_answer(struct working *w)
{
    pthread_t thread;
    bool waited = false;
    atomic_store(&w->done, false);
    pthread_create(&thread, NULL, work, w);
    while (!waited && !atomic_load(&w->done))
        waited = strcmp(ask("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE "
                            "wait_event = 'SyncRep' AND application_name = 'millrace/g/a/0'"),
                        "1") == 0;
    pthread_join(thread, NULL);
    return waited;
}

static void a_commit_whose_answer_is_lost_is_found_by_the_claim(void **state)
{
    fresh("t_lost_commit");
    struct working w = {.store = connected("a", NULL), .commits = true};
    struct mr_claim claim = claimed(w.store), other;
    struct mr_store *b = connected("b", NULL);
    const struct mr_partition another = {"topic_in", 4};
    struct mr_error err;
    assert_true(b->ops->claim(b, &another, 0, &other, &err));
    await_nobody("'nobody'");
    /* The setting counts once the server's checkpointer has seen it. */
    for (begun(w.store, &claim, 5); !lose_the_answer(&w); begun(w.store, &claim, 5)) {
        assert_int_equal(w.decision, MR_DECIDED);
        claim.unit++;
    }
    /* An attempt waits for no replica, nor for a disk. */
    assert_true(b->ops->attempt(b, &another, other.epoch, 7, &err));
    no_replica(state);
    b->ops->close(b);
    assert_int_equal(w.decision, MR_IN_DOUBT);
    assert_int_equal(w.err.action, MR_RECOVER);
    w.store->ops->reset(w.store);
    assert_int_equal(claimed(w.store).unit, claim.unit + 1);
    w.store->ops->close(w.store);
}

/* It has counted the attempt, and whoever asks again is not dead. */
static void a_claim_whose_answer_is_lost_counts_once(void **state)
{
    fresh("t_lost_claim");
    struct working w = {.store = connected("a", NULL)};
    struct mr_claim claim = claimed(w.store);
    attempted(w.store, &claim, 40);
    await_nobody("'nobody'");
    while (!lose_the_answer(&w))
        assert_true(w.ok);
    no_replica(state);
    assert_false(w.ok);
    assert_int_equal(w.err.action, MR_RETRY);
    int counted = atoi(ask("SELECT attempts FROM millrace_ledger"));
    assert_true(counted > 0);
    w.store->ops->reset(w.store);
    claim = claimed(w.store);
    assert_trying(&claim, 40, counted);
    /* The next one is another. */
    struct mr_claim next = claimed(w.store);
    assert_int_not_equal(next.epoch, claim.epoch);
    assert_trying(&next, 40, counted);
    w.store->ops->close(w.store);
}

/* A deferred trigger that asks to be tried again fails at COMMIT, for certain. */
static void a_serialization_failure_at_commit_is_a_definite_rollback(void **state)
{
    (void)state;
    fresh("t_serial");
    ask("CREATE TABLE rows (i int)");
    ask("CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "IF new.i = 40 THEN RAISE EXCEPTION 'again' USING ERRCODE = '40001'; END IF; "
        "RAISE EXCEPTION 'never' USING ERRCODE = '58030'; END $$");
    ask("CREATE CONSTRAINT TRIGGER no AFTER INSERT ON rows INITIALLY DEFERRED FOR EACH ROW "
        "EXECUTE FUNCTION no()");
    struct mr_store *a = connected("a", "rows");
    struct mr_error err;
    struct mr_claim claim = claimed(a);
    begun(a, &claim, 5);
    assert_true(copy_int(a, "i", 40, &err));
    assert_int_equal(a->ops->commit(a, &err), MR_ROLLED_BACK);
    assert_int_equal(err.action, MR_RETRY);
    /* Any other class says nothing for certain. */
    begun(a, &claim, 5);
    assert_true(copy_int(a, "i", 58, &err));
    assert_int_equal(a->ops->commit(a, &err), MR_IN_DOUBT);
    assert_int_equal(err.action, MR_RECOVER);
    a->ops->close(a);
}

/* --- what a unit writes besides --- */

static void a_dead_letter_of_a_fan_out_says_where_it_stood(void **state)
{
    (void)state;
    fresh("t_dead_job");
    struct mr_store *store = connected("a", NULL);
    struct mr_claim claim = claimed(store);
    struct mr_error err;
    const struct mr_job_state job = {.keys = {"k\0y", 3}, .cursor = {"\xff", 1}, .trigger_ms = 77},
                              first = {.keys = {"k", 1}, .cursor = {NULL, 0}, .trigger_ms = 78};
    struct mr_dead_letter letters[3] = {{.job = &job}, {.job = &first}, {.job = NULL}};
    for (int i = 0; i < 3; i++) {
        letters[i].rec = (struct mr_record){.topic = "t", .offset = i, .value = {"v", 1}};
        letters[i].class_ = "rejected";
        letters[i].error = "e";
    }
    begun(store, &claim, 1);
    assert_true(store->ops->bury(store, letters, 3, &err));
    decided(store);
    assert_string_equal(ask("SELECT string_agg(concat_ws(',', src_offset, "
                            "coalesce(encode(job_keys, 'hex'), 'null'), "
                            "coalesce(encode(job_cursor, 'hex'), 'null'), "
                            "coalesce(job_trigger_ms::text, 'null')), ' ' ORDER BY id) "
                            "FROM millrace_dead"),
                        "0,6b0079,ff,77 1,6b,,78 2,null,null,null");
    store->ops->close(store);
}

static void the_ledger_says_how_the_last_unit_was_delivered(void **state)
{
    (void)state;
    fresh("t_mode");
    struct mr_postgres_store_options options = {.dsn = dsn,
                                                .group = "g",
                                                .owner = "a",
                                                .application_name = "millrace/g/a/0",
                                                .mode = "exactly_once"};
    struct mr_store *before = connected("b", NULL), *store;
    struct mr_error err;
    struct mr_claim claim = claimed(before);
    begun(before, &claim, 1);
    decided(before);
    before->ops->close(before);
    assert_true(mr_postgres_store_open(&options, &store, &err));
    assert_true(store->ops->connect(store, &err));
    claim = claimed(store);
    assert_string_equal(claim.mode, "at_least_once"); /* whose recovery comes first */
    begun(store, &claim, 2);
    decided(store);
    assert_string_equal(claimed(store).mode, "exactly_once");
    store->ops->close(store);
}

/* --- repair --- */

static struct mr_postgres_repair *opened(struct mr_postgres_repair_state *state)
{
    struct mr_postgres_repair *repair;
    struct mr_error err;
    if (!mr_postgres_repair_open(dsn, "g", &place, &repair, state, &err))
        fail_msg("%s", err.msg);
    return repair;
}

static void a_repair_moves_the_ledger(void **state)
{
    (void)state;
    fresh("t_repair");
    struct mr_store *a = connected("a", NULL);
    struct mr_error err;
    struct mr_claim claim = claimed(a);
    struct mr_redo redo = redo_of("bytes", 5);
    const struct mr_job_state job = {.keys = {"k", 1}, .cursor = {"c", 1}, .trigger_ms = 1};
    struct mr_advance step = {.at = place,
                              .epoch = claim.epoch,
                              .new_unit = 1,
                              .next_offset = 50,
                              .job = &job,
                              .redo = &redo};
    assert_true(a->ops->begin(a, &step, 1, &err));
    /* A unit in flight holds the row. */
    struct mr_postgres_repair *repair;
    struct mr_postgres_repair_state found;
    assert_false(mr_postgres_repair_open(dsn, "g", &place, &repair, &found, &err));
    assert_int_equal(err.action, MR_RETRY);
    assert_non_null(strstr(err.msg, "topic_in/3 of group g"));
    assert_non_null(strstr(err.msg, "in use"));
    decided(a);
    repair = opened(&found);
    assert_true(found.present && found.has_redo && found.has_job && found.owner_connected);
    assert_int_equal(found.unit, 1);
    assert_int_equal(found.next_offset, 50);
    assert_string_equal(found.mode, "at_least_once");
    assert_string_equal(found.owner, "a");
    assert_string_equal(found.ledger_id, a->ops->ledger_id(a));
    /* Not committed: not changed. */
    assert_true(mr_postgres_repair_set(repair, 9, 60, NULL, &err));
    mr_postgres_repair_close(repair);
    assert_string_equal(ask("SELECT concat(unit, '/', next_offset) FROM millrace_ledger"), "1/50");
    assert_string_equal(ask("%s", units_kept), "3:1");
    a->ops->reset(a);
    await("0", "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'millrace/g/a/0'");
    repair = opened(&found);
    assert_false(found.owner_connected);
    /* A fan-out in progress goes on where its message stays the next one. */
    assert_true(mr_postgres_repair_set(repair, 8, 50, NULL, &err));
    assert_true(mr_postgres_repair_commit(repair, &err));
    mr_postgres_repair_close(repair);
    repair = opened(&found);
    assert_int_equal(found.unit, 8);
    assert_true(found.has_job && !found.has_redo);
    assert_true(mr_postgres_repair_set(repair, 9, 60, NULL, &err));
    assert_true(mr_postgres_repair_commit(repair, &err));
    mr_postgres_repair_close(repair);
    assert_string_equal(ask("%s", units_kept), "none");
    /* It fences, and the next owner goes on from there. */
    assert_true(a->ops->connect(a, &err));
    claim.unit = 9;
    assert_false(begin(a, &claim, 61, &err));
    assert_int_equal(err.action, MR_RECOVER);
    a->ops->rollback(a);
    claim = claimed(a);
    assert_int_equal(claim.unit, 9);
    assert_int_equal(claim.next_offset, 60);
    assert_false(claim.has_job);
    /* What Kafka knows of a fan-out comes with its offset. */
    a->ops->reset(a);
    const struct mr_job_state known = {{"keys", 4}, {"cursor", 6}, 1700000000123};
    assert_true(mr_postgres_repair_open(dsn, "g", &place, &repair, &found, &err));
    assert_true(mr_postgres_repair_set(repair, 11, 60, &known, &err));
    assert_true(mr_postgres_repair_commit(repair, &err));
    mr_postgres_repair_close(repair);
    claim = claimed(a);
    assert_int_equal(claim.unit, 11);
    assert_true(claim.has_job);
    assert_memory_equal(claim.job.cursor.ptr, "cursor", 6);
    assert_int_equal(claim.job.trigger_ms, 1700000000123);
    a->ops->close(a);
}

/* What the owner before left open in Kafka is ended under its name, also after a repair. */
static void a_repair_leaves_the_owners_name(void **state)
{
    (void)state;
    fresh("t_repair_owner");
    struct mr_store *a = connected("a", NULL), *b = connected("b", NULL);
    struct mr_error err;
    struct mr_postgres_repair_state found;
    claimed(a);
    struct mr_postgres_repair *repair = opened(&found);
    assert_true(mr_postgres_repair_set(repair, 1, 2, NULL, &err));
    assert_true(mr_postgres_repair_commit(repair, &err));
    mr_postgres_repair_close(repair);
    struct mr_claim claim = claimed(b);
    assert_string_equal(claim.owner, "a");
    assert_false(claim.owner_gone);
    claimed(a);
    a->ops->close(a);
    await("0", "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'millrace/g/a/0'");
    claim = claimed(b);
    assert_string_equal(claim.owner, "a");
    assert_true(claim.owner_gone);
    b->ops->close(b);
}

static void a_repair_makes_a_row_that_is_not_there(void **state)
{
    (void)state;
    fresh("t_repair_new");
    struct mr_error err;
    struct mr_postgres_repair_state found;
    struct mr_postgres_repair *repair = opened(&found);
    assert_false(found.present || found.has_redo || found.has_job || found.owner_connected);
    assert_int_equal(found.unit, 0);
    assert_int_equal(found.next_offset, -1);
    mr_postgres_repair_close(repair);
    assert_string_equal(ask("SELECT count(*) FROM millrace_ledger"), "0");
    repair = opened(&found);
    /* Who comes second does not get it either. */
    struct mr_postgres_repair *second;
    assert_false(mr_postgres_repair_open(dsn, "g", &place, &second, &found, &err));
    assert_int_equal(err.action, MR_RETRY);
    assert_true(mr_postgres_repair_set(repair, 4, 8, NULL, &err));
    assert_true(mr_postgres_repair_commit(repair, &err));
    mr_postgres_repair_close(repair);
    struct mr_store *a = connected("a", NULL);
    struct mr_claim claim = claimed(a);
    assert_false(claim.inserted);
    assert_int_equal(claim.unit, 4);
    assert_int_equal(claim.next_offset, 8);
    assert_string_equal(claim.owner, "");
    a->ops->close(a);
    mr_postgres_repair_close(NULL);
}

/* A claim ends sessions of Millrace that hold the row (after lock_timeout); not this one. */
static void a_claim_waits_for_a_repair(void **state)
{
    (void)state;
    fresh("t_repair_wait");
    struct working w = {.store = connected("b", NULL)};
    struct mr_error err;
    struct mr_postgres_repair_state found;
    claimed(w.store);
    struct mr_postgres_repair *repair = opened(&found);
    pthread_t thread;
    pthread_create(&thread, NULL, work, &w);
    await("1", b_waits_for_a_lock);
    char second_try[512];
    snprintf(second_try, sizeof second_try,
             "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'millrace/g/b/0' AND "
             "wait_event_type = 'Lock' AND xact_start > '%s'",
             ask("SELECT xact_start FROM pg_stat_activity WHERE application_name = "
                 "'millrace/g/b/0'"));
    await("1", second_try);
    assert_true(mr_postgres_repair_set(repair, 2, 20, NULL, &err));
    assert_true(mr_postgres_repair_commit(repair, &err));
    mr_postgres_repair_close(repair);
    pthread_join(thread, NULL);
    assert_true(w.ok);
    assert_int_equal(w.claim.unit, 2);
    w.store->ops->close(w.store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(redo_comes_and_goes_with_its_unit),
        cmocka_unit_test(redo_of_many_mebibytes),
        cmocka_unit_test(a_lost_swap_keeps_no_redo),
        cmocka_unit_test(a_claim_counts_who_died_at_the_same_message),
        cmocka_unit_test(no_claim_before_is_no_sign_of_life),
        cmocka_unit_test(an_attempt_is_fenced),
        cmocka_unit_test(what_a_session_is_set_to),
        cmocka_unit_test_teardown(a_commit_whose_answer_is_lost_is_found_by_the_claim, no_replica),
        cmocka_unit_test_teardown(a_claim_whose_answer_is_lost_counts_once, no_replica),
        cmocka_unit_test(a_serialization_failure_at_commit_is_a_definite_rollback),
        cmocka_unit_test(a_dead_letter_of_a_fan_out_says_where_it_stood),
        cmocka_unit_test(the_ledger_says_how_the_last_unit_was_delivered),
        cmocka_unit_test(a_repair_moves_the_ledger),
        cmocka_unit_test(a_repair_leaves_the_owners_name),
        cmocka_unit_test(a_repair_makes_a_row_that_is_not_there),
        cmocka_unit_test(a_claim_waits_for_a_repair),
    };
    return cmocka_run_group_tests(tests, side_setup, side_teardown);
}
