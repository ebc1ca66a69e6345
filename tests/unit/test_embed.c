/*
 * test_embed.c - a program that embeds Millrace, and sees nothing of it but include/millrace.h.
 *
 * Needs a Kafka and a Postgres, so tests/integration/embed_spec.lua runs it: MILLRACE_TEST_CONFIG
 * names a config.lua with one pipeline, "promo", MILLRACE_TEST_OUTPUTS the outputs that what is on
 * its topic makes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <millrace.h>

#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { DEADLINE_S = 40, POLL_MS = 20 };

static const char *config_path, *outputs_wanted;
static atomic_int lines;

static void keep_line(const char *text, void *arg)
{
    (void)arg;
    lines++;
    fprintf(stderr, "%s\n", text);
}

static struct mr_millrace *open_well(const char *const *sets, size_t n)
{
    char text[4096] = "";
    struct mr_millrace *m = mr_millrace_open(config_path, sets, n, text, sizeof text);
    if (!m)
        fail_msg("%s", text);
    return m;
}

/* The whole text, for the caller to free. */
static char *metrics_of(struct mr_millrace *m)
{
    size_t len = mr_millrace_metrics(m, NULL, 0);
    char *text = malloc(len + 1024); /* it may have grown meanwhile */
    assert_non_null(text);
    mr_millrace_metrics(m, text, len + 1024);
    return text;
}

static double metric(struct mr_millrace *m, const char *line_start)
{
    char *text = metrics_of(m);
    const char *at = strstr(text, line_start);
    double value = at ? strtod(at + strlen(line_start), NULL) : -1;
    free(text);
    return value;
}

static void the_version_is_that_of_the_library(void **state)
{
    (void)state;
    int major, minor;
    assert_int_equal(sscanf(mr_millrace_version(), "%d.%d", &major, &minor), 2);
}

static void a_config_that_is_not_there_is_explained(void **state)
{
    (void)state;
    char text[256] = "";
    assert_null(mr_millrace_open("/no/such/config.lua", NULL, 0, text, sizeof text));
    assert_non_null(strstr(text, "/no/such/config.lua"));
    /* Cut, but always a string; and nobody has to listen. */
    char little[8];
    memset(little, 'x', sizeof little);
    assert_null(mr_millrace_open("/no/such/config.lua", NULL, 0, little, sizeof little));
    assert_int_equal(strlen(little), sizeof little - 1);
    assert_memory_equal(little, text, sizeof little - 1);
    assert_null(mr_millrace_open("/no/such/config.lua", NULL, 0, NULL, 0));
}

static void all_errors_come_at_once(void **state)
{
    (void)state;
    const char *sets[] = {"pipelines.promo.workers=0", "log.levle=info"};
    char text[4096] = "";
    assert_null(mr_millrace_open(config_path, sets, 2, text, sizeof text));
    assert_non_null(strstr(text, "workers"));
    assert_non_null(strstr(text, "levle"));
    assert_non_null(strstr(text, "level"));
}

static void one_that_never_started_can_be_closed(void **state)
{
    (void)state;
    mr_millrace_close(open_well(NULL, 0));
    mr_millrace_close(NULL);
}

static void a_taken_admin_port_keeps_it_from_starting(void **state)
{
    (void)state;
    const char *sets[] = {"admin.listen=192.0.2.1:9469"}; /* nobody has that address */
    struct mr_millrace *m = open_well(sets, 1);
    char text[1024] = "";
    assert_int_equal(mr_millrace_start(m, text, sizeof text), 78);
    assert_non_null(strstr(text, "admin.listen"));
    mr_millrace_close(m);
}

static void a_pipeline_runs_and_drains(void **state)
{
    (void)state;
    const char *sets[] = {"pipelines.promo.workers=2", "admin.listen=127.0.0.1:0"};
    char text[4096] = "";
    struct mr_millrace *m = open_well(sets, 2);
    if (mr_millrace_start(m, text, sizeof text) != 0)
        fail_msg("%s", text);
    assert_int_equal(mr_millrace_join(m, 0), -1);
    assert_int_equal(mr_millrace_wait(m, DEADLINE_S * 1000), MR_MILLRACE_READY);

    double wanted = strtod(outputs_wanted, NULL), seen = 0;
    time_t deadline = time(NULL) + DEADLINE_S;
    while ((seen = metric(m, "\nmillrace_outputs_total{pipeline=\"promo\"} ")) < wanted) {
        if (time(NULL) > deadline)
            fail_msg("%g outputs of %g within %d s", seen, wanted, DEADLINE_S);
        assert_int_equal(mr_millrace_wait(m, 0), MR_MILLRACE_READY);
        nanosleep(&(struct timespec){.tv_nsec = POLL_MS * 1000000L}, NULL); /* poll */
    }
    /* Two workers that begin together may share their partitions out once more. */
    while (!mr_millrace_ready(m, text, sizeof text)) {
        if (time(NULL) > deadline)
            fail_msg("not ready within %d s: %s", DEADLINE_S, text);
        nanosleep(&(struct timespec){.tv_nsec = POLL_MS * 1000000L}, NULL); /* poll */
    }
    assert_non_null(strstr(text, "[+]"));
    char little[16];
    size_t len = mr_millrace_metrics(m, little, sizeof little);
    assert_true(len > sizeof little);
    assert_int_equal(strlen(little), sizeof little - 1);

    assert_int_equal(mr_millrace_reload(m, DEADLINE_S * 1000, text, sizeof text), 0);
    assert_non_null(strstr(text, "nothing has changed"));

    mr_millrace_stop(m);
    mr_millrace_stop(m);
    assert_int_equal(mr_millrace_join(m, DEADLINE_S * 1000), 0);
    assert_int_equal(mr_millrace_reload(m, 0, text, sizeof text), -1);
    assert_int_equal(mr_millrace_wait(m, 0), MR_MILLRACE_ENDED);
    assert_int_equal(mr_millrace_join(m, 0), 0);
    mr_millrace_close(m);
    assert_true(lines > 0); /* the log came to us */
}

static void another_one_may_follow_that_never_gets_ready(void **state)
{
    (void)state;
    /* Nobody listens on port 9 here: it stays STARTING until it is stopped. */
    const char *sets[] = {"lookups.subscribers.dsn=host=127.0.0.1 port=9 dbname=none",
                          "admin.listen=127.0.0.1:0"};
    char text[4096] = "";
    struct mr_millrace *m = open_well(sets, 2);
    if (mr_millrace_start(m, text, sizeof text) != 0)
        fail_msg("%s", text);
    assert_int_equal(mr_millrace_wait(m, 200), MR_MILLRACE_STARTING);
    assert_false(mr_millrace_ready(m, text, sizeof text));
    assert_non_null(strstr(text, "[-]"));
    mr_millrace_stop(m);
    assert_int_equal(mr_millrace_join(m, -1), 0);
    mr_millrace_close(m);
}

int main(void)
{
    config_path = getenv("MILLRACE_TEST_CONFIG");
    outputs_wanted = getenv("MILLRACE_TEST_OUTPUTS");
    if (!config_path || !outputs_wanted) {
        fputs("test_embed: run it by tests/integration/embed_spec.lua\n", stderr);
        return 64;
    }
    mr_millrace_log(keep_line, NULL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_version_is_that_of_the_library),
        cmocka_unit_test(a_config_that_is_not_there_is_explained),
        cmocka_unit_test(all_errors_come_at_once),
        cmocka_unit_test(one_that_never_started_can_be_closed),
        cmocka_unit_test(a_taken_admin_port_keeps_it_from_starting),
        cmocka_unit_test(a_pipeline_runs_and_drains),
        cmocka_unit_test(another_one_may_follow_that_never_gets_ready),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
