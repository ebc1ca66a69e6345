/*
 * test_kafka_conf.c - librdkafka's properties: which are known, whose they are, what a refusal
 * says. No broker.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/log.h"
#include "kafka/client.h"

#include <stdio.h>

static bool check(const char *name, const char *value, bool for_sink, struct mr_error *err)
{
    return mr_kafka_property_check(&(struct mr_kafka_property){name, value, false}, for_sink, err);
}

static void names_are_sorted_and_settable(void **state)
{
    (void)state;
    size_t n = 0;
    const char *const *names = mr_kafka_property_names(&n);
    assert_true(n > 120);
    bool linger = false;
    for (size_t i = 0; i < n; i++) {
        if (i)
            assert_true(strcmp(names[i - 1], names[i]) < 0);
        assert_null(strstr(names[i], "_cb"));
        assert_string_not_equal(names[i], "opaque");
        linger |= strcmp(names[i], "linger.ms") == 0;
    }
    assert_true(linger);
}

static void an_unknown_name_suggests_the_nearest(void **state)
{
    (void)state;
    struct mr_error err;
    assert_false(check("bootstrap.server", "a:1", false, &err));
    assert_non_null(strstr(err.msg, "\"bootstrap.server\""));
    assert_non_null(strstr(err.msg, "did you mean \"bootstrap.servers\"?"));
    assert_int_equal(err.action, MR_STOP);
    assert_int_equal(err.code, MR_EXIT_CONFIG);
    assert_false(check("rebalance_cb", "x", false, &err));
}

static void a_value_out_of_range_is_refused(void **state)
{
    (void)state;
    struct mr_error err;
    assert_false(check("fetch.min.bytes", "0", false, &err));
    assert_non_null(strstr(err.msg, "fetch.min.bytes"));
    assert_false(check("compression.type", "lz5", true, &err));
    assert_non_null(strstr(err.msg, "lz5"));
    assert_true(check("compression.type", "lz4", true, &err));
    assert_true(check("fetch.min.bytes", "1", false, &err));
}

static void a_secret_value_is_never_quoted(void **state)
{
    (void)state;
    struct mr_error err;
    struct mr_kafka_property property = {"compression.type", "hunter2", true};
    assert_false(mr_kafka_property_check(&property, true, &err));
    assert_null(strstr(err.msg, "hunter2"));
    assert_non_null(strstr(err.msg, "compression.type"));
}

static void what_the_guarantee_owns_is_refused_with_the_reason(void **state)
{
    (void)state;
    static const struct {
        const char *name, *value, *reason;
        bool for_sink;
    } cases[] = {
        {"enable.auto.commit", "false", "with each unit", false},
        {"enable.auto.offset.store", "true", "kept by Millrace", false},
        {"auto.offset.reset", "earliest", "source.start", false},
        {"isolation.level", "read_uncommitted", "aborted", false},
        {"partition.assignment.strategy", "cooperative-sticky", "range", false},
        {"group.id", "g", "source.group", false},
        {"group.instance.id", "i", "member", false},
        {"enable.partition.eof", "false", "control records", false},
        {"allow.auto.create.topics", "true", "--create-topics", false},
        {"enable.idempotence", "false", "double", true},
        {"acks", "1", "in-sync", true},
        {"request.required.acks", "1", "in-sync", true},
        {"transactional.id", "t", "worker", true},
        {"message.timeout.ms", "1000", "unit", true},
        {"delivery.timeout.ms", "1000", "unit", true},
        {"retries", "0", "idempotence", true},
        {"allow.auto.create.topics", "true", "--create-topics", true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct mr_error err;
        assert_false(check(cases[i].name, cases[i].value, cases[i].for_sink, &err));
        assert_non_null(strstr(err.msg, cases[i].name));
        assert_non_null(strstr(err.msg, cases[i].reason));
        assert_int_equal(err.code, MR_EXIT_CONFIG);
    }
}

static void one_table_may_serve_source_and_sink(void **state)
{
    (void)state;
    struct mr_error err = {0};
    const struct mr_kafka_property table[] = {
        {"bootstrap.servers", "localhost:1", false},
        {"fetch.min.bytes", "1", false},
        {"compression.type", "lz4", false},
        {"security.protocol", "plaintext", false},
    };
    assert_true(mr_kafka_properties_check(table, 4, false, &err));
    assert_true(mr_kafka_properties_check(table, 4, true, &err));
}

static void brokers_must_be_named(void **state)
{
    (void)state;
    struct mr_error err;
    assert_false(mr_kafka_properties_check(NULL, 0, false, &err));
    assert_non_null(strstr(err.msg, "bootstrap.servers"));
    const struct mr_kafka_property alias[] = {{"metadata.broker.list", "localhost:1", false}};
    assert_true(mr_kafka_properties_check(alias, 1, false, &err));
}

static void plain_passwords_need_tls(void **state)
{
    (void)state;
    struct mr_error err;
    struct mr_kafka_property table[] = {
        {"bootstrap.servers", "localhost:1", false}, {"security.protocol", "SASL_PLAINTEXT", false},
        {"sasl.mechanism", "plain", false},          {"sasl.username", "anna", false},
        {"sasl.password", "hunter2", true},
    };
    assert_false(mr_kafka_properties_check(table, 5, false, &err));
    assert_non_null(strstr(err.msg, "TLS"));
    assert_null(strstr(err.msg, "hunter2"));
    table[1].value = "sasl_ssl";
    assert_true(mr_kafka_properties_check(table, 5, false, &err));
    table[1].value = "sasl_plaintext";
    table[2].value = "SCRAM-SHA-512";
    assert_true(mr_kafka_properties_check(table, 5, true, &err));
}

static void credentials_that_nobody_would_use_are_refused(void **state)
{
    (void)state;
    struct mr_error err;
    const struct mr_kafka_property table[] = {
        {"bootstrap.servers", "localhost:1", false},
        {"sasl.username", "anna", false},
        {"sasl.password", "hunter2", true},
    };
    assert_false(mr_kafka_properties_check(table, 3, true, &err));
    assert_non_null(strstr(err.msg, "security.protocol"));
    assert_null(strstr(err.msg, "hunter2"));
}

static void the_users_value_wins_over_a_default_but_not_over_the_guarantee(void **state)
{
    (void)state;
    struct mr_error err;
    rd_kafka_conf_t *conf = NULL;
    const struct mr_kafka_property users[] = {{"bootstrap.servers", "localhost:1", false},
                                              {"queue.buffering.max.ms", "77", false}};
    const struct mr_kafka_setting defaults[] = {{"linger.ms", "5"}, {"batch.size", "4000"}};
    const struct mr_kafka_setting fixed[] = {{"acks", "all"}};
    assert_true(mr_kafka_conf_build(MR_KAFKA_SINK, users, 2, defaults, 2, fixed, 1, &conf, &err));
    char value[32];
    mr_kafka_conf_get(conf, "linger.ms", value, sizeof value);
    assert_string_equal(value, "77");
    mr_kafka_conf_get(conf, "batch.size", value, sizeof value);
    assert_string_equal(value, "4000");
    mr_kafka_conf_get(conf, "acks", value, sizeof value);
    assert_string_equal(value, "-1");
    rd_kafka_conf_destroy(conf);
}

static int warnings;

static void count_warnings(const char *line, void *arg)
{
    (void)arg;
    warnings += strstr(line, "not verified") != NULL;
}

static void unverified_certificates_are_logged_once_at_start(void **state)
{
    (void)state;
    struct mr_error err;
    const struct mr_kafka_property users[] = {
        {"bootstrap.servers", "localhost:1", false},
        {"security.protocol", "ssl", false},
        {"enable.ssl.certificate.verification", "false", false},
    };
    mr_log_hook(count_warnings, NULL);
    for (int i = 0; i < 2; i++) {
        rd_kafka_conf_t *conf = NULL;
        assert_true(mr_kafka_conf_build(MR_KAFKA_SINK, users, 3, NULL, 0, NULL, 0, &conf, &err));
        rd_kafka_conf_destroy(conf);
    }
    mr_log_hook(NULL, NULL);
    assert_int_equal(warnings, 1);
}

static void a_sink_that_librdkafka_would_refuse_fails_at_open(void **state)
{
    (void)state;
    struct mr_error err;
    struct mr_sink *sink = NULL;
    const struct mr_kafka_property users[] = {
        {"bootstrap.servers", "localhost:1", false},
        {"security.protocol", "ssl", false},
        {"ssl.ca.location", "/nonexistent/ca.crt", false},
    };
    const char *const topics[] = {"out"};
    struct mr_kafka_sink_options options = {
        .properties = users, .n_properties = 3, .topics = topics, .n_topics = 1};
    assert_false(mr_kafka_sink_open(&options, &sink, &err));
    assert_null(sink);
    assert_int_equal(err.action, MR_STOP);
    assert_int_equal(err.code, MR_EXIT_CONFIG);
    assert_non_null(strstr(err.msg, "/nonexistent/ca.crt"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_sorted_and_settable),
        cmocka_unit_test(an_unknown_name_suggests_the_nearest),
        cmocka_unit_test(a_value_out_of_range_is_refused),
        cmocka_unit_test(a_secret_value_is_never_quoted),
        cmocka_unit_test(what_the_guarantee_owns_is_refused_with_the_reason),
        cmocka_unit_test(one_table_may_serve_source_and_sink),
        cmocka_unit_test(brokers_must_be_named),
        cmocka_unit_test(plain_passwords_need_tls),
        cmocka_unit_test(credentials_that_nobody_would_use_are_refused),
        cmocka_unit_test(the_users_value_wins_over_a_default_but_not_over_the_guarantee),
        cmocka_unit_test(unverified_certificates_are_logged_once_at_start),
        cmocka_unit_test(a_sink_that_librdkafka_would_refuse_fails_at_open),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
