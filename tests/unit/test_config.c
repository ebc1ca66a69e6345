/*
 * test_config.c - core/lua/config.h: from a file to the tree, as C sees it. What is said of errors
 * is tested through the program (tests/spec/config_spec.lua); here are the kinds of nodes, units,
 * marks and the checks that other rooms lend.
 */
#include "lua/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* after its prerequisites */
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char dir[] = "/tmp/millrace-config.XXXXXX";
static char config_path[64], script_path[64];

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fputs(text, file) >= 0, 1);
    assert_int_equal(fclose(file), 0);
}

static int setup(void **state)
{
    (void)state;
    if (!mkdtemp(dir))
        return -1;
    snprintf(config_path, sizeof config_path, "%s/config.lua", dir);
    snprintf(script_path, sizeof script_path, "%s/s.lua", dir);
    write_file(script_path, "return {}\n");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    unlink(config_path);
    unlink(script_path);
    return rmdir(dir);
}

static struct mr_node *load(const char *text, const char *const *sets, size_t n_sets,
                            const struct mr_config_checks *checks, struct mr_buf *errors)
{
    struct mr_node *root = NULL;
    write_file(config_path, text);
    mr_buf_reset(errors);
    bool done = mr_config_load(config_path, sets, n_sets, checks, &root, errors);
    assert_int_equal(done, root != NULL);
    assert_int_equal(done, errors->len == 0);
    return root;
}

static const char least[] =
    "return { pipelines = { p = {\n"
    "  source = { topics = 'in', group = 'g', kafka = { ['bootstrap.servers'] = 'h:1',\n"
    "    ['fetch.min.bytes'] = 7, ['sasl.password'] = 'sesame42' } },\n"
    "  script = 's.lua', linger = '20ms', drain_timeout = '1m', max_message = '2KB',\n"
    "  vars = { a = { 1, 2.5, true, 'x' }, b = {} },\n"
    "  lookup = 'l', sinks = { postgres = { dsn = 'postgresql://u:sesame42@h/d',\n"
    "    table = 't' } } } },\n"
    "  lookups = { l = { dsn = 'host=h', table = 't', key = { 'a', 'b' },\n"
    "    refresh = 'reload 90s', max_bytes = '1GB' } } }\n";

static void units_are_milliseconds_and_bytes(void **state)
{
    (void)state;
    struct mr_buf errors = {0};
    struct mr_node *root = load(least, NULL, 0, NULL, &errors);
    assert_non_null(root);
    const struct mr_node *p = mr_node_at(root, "pipelines.p");
    assert_int_equal(mr_node_int(p, "linger", -1), 20);
    assert_int_equal(mr_node_int(p, "drain_timeout", -1), 60000);
    assert_int_equal(mr_node_int(p, "max_message", -1), 2048);
    assert_int_equal(mr_node_int(p, "limits.time", -1), 1000);
    assert_int_equal(mr_node_int(p, "limits.memory", -1), 64 << 20);
    assert_int_equal(mr_node_int(root, "lookups.l.refresh", -1), 90000);
    assert_int_equal(mr_node_int(root, "lookups.l.max_bytes", -1), 1 << 30);
    assert_true(mr_node_bool(root, "lookups.l.distinct", false));
    mr_node_free(root);
    mr_buf_fini(&errors);
}

static void lists_properties_and_variables_keep_their_form(void **state)
{
    (void)state;
    struct mr_buf errors = {0};
    struct mr_node *root = load(least, NULL, 0, NULL, &errors);
    assert_non_null(root);
    const struct mr_node *topics = mr_node_at(root, "pipelines.p.source.topics");
    assert_int_equal(topics->kind, MR_NODE_LIST);
    assert_int_equal(topics->n_children, 1);
    assert_null(topics->children->name);
    assert_string_equal(topics->children->text, "in");
    assert_int_equal(mr_node_at(root, "lookups.l.key")->n_children, 2);
    assert_null(mr_node_at(root, "lookups.l.columns"));

    const struct mr_node *kafka = mr_node_at(root, "pipelines.p.source.kafka");
    const struct mr_node *bytes = mr_node_child(kafka, "fetch.min.bytes");
    assert_int_equal(bytes->kind, MR_NODE_STRING);
    assert_string_equal(bytes->text, "7");

    const struct mr_node *vars = mr_node_at(root, "pipelines.p.vars");
    const struct mr_node *item = mr_node_child(vars, "a")->children;
    assert_int_equal(item->kind, MR_NODE_INT);
    assert_int_equal(item->i, 1);
    assert_int_equal(item->next->kind, MR_NODE_FLOAT);
    assert_true(item->next->f == 2.5);
    assert_int_equal(item->next->next->kind, MR_NODE_BOOL);
    assert_string_equal(item->next->next->next->text, "x");
    assert_int_equal(mr_node_child(vars, "b")->kind, MR_NODE_TABLE);
    mr_node_free(root);
    mr_buf_fini(&errors);
}

static void defaults_and_secrets_are_marked(void **state)
{
    (void)state;
    struct mr_buf errors = {0};
    struct mr_node *root = load(least, NULL, 0, NULL, &errors);
    assert_non_null(root);
    assert_true(mr_node_at(root, "pipelines.p.workers")->is_default);
    assert_true(mr_node_at(root, "pipelines.p.dead_letters.table")->is_default);
    assert_false(mr_node_at(root, "pipelines.p.linger")->is_default);
    const struct mr_node *kafka = mr_node_at(root, "pipelines.p.source.kafka");
    assert_true(mr_node_child(kafka, "sasl.password")->secret);
    assert_string_equal(mr_node_child(kafka, "sasl.password")->text, "sesame42");
    assert_false(mr_node_child(kafka, "bootstrap.servers")->secret);
    /* A connection string that holds a password is a secret; the program gets it whole. */
    assert_true(mr_node_at(root, "pipelines.p.sinks.postgres.dsn")->secret);
    assert_string_equal(mr_node_text(root, "pipelines.p.sinks.postgres.dsn"),
                        "postgresql://u:sesame42@h/d");
    assert_false(mr_node_at(root, "lookups.l.dsn")->secret);
    mr_node_free(root);
    mr_buf_fini(&errors);
}

static void scripts_have_absolute_paths(void **state)
{
    (void)state;
    struct mr_buf errors = {0};
    struct mr_node *root = load(least, NULL, 0, NULL, &errors);
    assert_non_null(root);
    char *full = realpath(script_path, NULL);
    assert_string_equal(mr_node_text(root, "pipelines.p.script"), full);
    free(full);
    mr_node_free(root);
    mr_buf_fini(&errors);
}

static void sets_change_the_tree(void **state)
{
    (void)state;
    struct mr_buf errors = {0};
    const char *const sets[] = {"pipelines.p.workers=7", "lookups.l.refresh=auto",
                                "pipelines.p.source.kafka[\"fetch.min.bytes\"]=9"};
    struct mr_node *root = load(least, sets, 3, NULL, &errors);
    assert_non_null(root);
    assert_int_equal(mr_node_int(root, "pipelines.p.workers", -1), 7);
    assert_int_equal(mr_node_int(root, "lookups.l.refresh", -1), 0);
    const struct mr_node *kafka = mr_node_at(root, "pipelines.p.source.kafka");
    assert_string_equal(mr_node_child(kafka, "fetch.min.bytes")->text, "9");
    mr_node_free(root);
    mr_buf_fini(&errors);
}

/* --- what other rooms are asked --- */

static bool refuse_property(const char *name, const char *value, bool secret, bool for_sink,
                            struct mr_error *err)
{
    if (strcmp(name, "fetch.min.bytes") != 0)
        return true;
    return mr_error_set(err, MR_STOP, MR_EXIT_CONFIG, "refused: %s secret %d sink %d", value,
                        secret, for_sink);
}

static bool refuse_together(const char *const *names, const char *const *values,
                            const bool *secrets, size_t n, bool for_sink, struct mr_error *err)
{
    (void)for_sink;
    for (size_t i = 0; i < n; i++)
        if (secrets[i])
            return mr_error_set(err, MR_STOP, MR_EXIT_CONFIG, "\"%s\" is %s", names[i], values[i]);
    return true;
}

static bool refuse_text(const char *text, struct mr_error *err)
{
    return mr_error_set(err, MR_STOP, MR_EXIT_CONFIG, "refused: %s", text);
}

static void the_rooms_are_asked(void **state)
{
    (void)state;
    static const char *const names[] = {"bootstrap.servers", "fetch.min.bytes", "sasl.password"};
    struct mr_config_checks checks = {.kafka_names = names,
                                      .n_kafka_names = 3,
                                      .kafka_property = refuse_property,
                                      .dsn = refuse_text,
                                      .relation = refuse_text,
                                      .listen = refuse_text};
    struct mr_buf errors = {0};
    assert_null(load(least, NULL, 0, &checks, &errors));
    const char *text = mr_buf_cstr(&errors);
    assert_non_null(strstr(text,
                           "config.lua:3:27: error: pipelines.p.source.kafka[\"fetch.min.bytes\"]: "
                           "refused: 7 secret 0 sink 0\n"));
    assert_non_null(strstr(text, "error: admin.listen: refused: 127.0.0.1:9469\n"));
    assert_non_null(strstr(text, "error: lookups.l.dsn: refused: host=h\n"));
    assert_non_null(strstr(text, "error: lookups.l.table: refused: t\n"));
    assert_non_null(strstr(text, "error: pipelines.p.sinks.postgres.dsn: the text cannot be read"));
    assert_null(strstr(text, "sesame42"));
    mr_buf_fini(&errors);
}

static void properties_are_looked_at_together_when_each_is_fine(void **state)
{
    (void)state;
    struct mr_config_checks checks = {.kafka_properties = refuse_together};
    struct mr_buf errors = {0};
    assert_null(load(least, NULL, 0, &checks, &errors));
    const char *text = mr_buf_cstr(&errors);
    assert_non_null(strstr(text,
                           "config.lua:3:31: error: pipelines.p.source.kafka[\"sasl.password\"]: "
                           "\"sasl.password\" is ***\n"));
    assert_null(strstr(text, "sesame42"));
    checks.kafka_property = refuse_property;
    assert_null(load(least, NULL, 0, &checks, &errors));
    assert_null(strstr(mr_buf_cstr(&errors), "is ***"));
    mr_buf_fini(&errors);
}

static void names_are_not_checked_without_names(void **state)
{
    (void)state;
    struct mr_buf errors = {0};
    const char *const sets[] = {"pipelines.p.source.kafka[\"what.is.this\"]=1"};
    struct mr_node *root = load(least, sets, 1, NULL, &errors);
    assert_non_null(root);
    mr_node_free(root);
    mr_buf_fini(&errors);
}

static void a_failed_load_leaves_nothing(void **state)
{
    (void)state;
    struct mr_buf errors = {0};
    assert_null(load("return {", NULL, 0, NULL, &errors));
    assert_null(load("return 5", NULL, 0, NULL, &errors));
    assert_null(load("", NULL, 0, NULL, &errors));
    assert_null(load("while true do end", NULL, 0, NULL, &errors));
    mr_buf_fini(&errors);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(units_are_milliseconds_and_bytes),
        cmocka_unit_test(lists_properties_and_variables_keep_their_form),
        cmocka_unit_test(defaults_and_secrets_are_marked),
        cmocka_unit_test(scripts_have_absolute_paths),
        cmocka_unit_test(sets_change_the_tree),
        cmocka_unit_test(the_rooms_are_asked),
        cmocka_unit_test(properties_are_looked_at_together_when_each_is_fine),
        cmocka_unit_test(names_are_not_checked_without_names),
        cmocka_unit_test(a_failed_load_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
