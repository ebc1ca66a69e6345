/*
 * check.c - `millrace check`: configuration, scripts, and with --connect what Kafka and Postgres
 * say.
 *
 * Main thread. Changes nothing anywhere. Everything is looked at, whatever was found before: a
 * script whose columns cannot be asked for is checked without them. Tests: tests/spec/cli_spec.lua,
 * with services tests/integration/manners_spec.lua.
 */
#include "cli/cli.h"

#include "base/clock.h"
#include "base/log.h"
#include "cli/findings.h"
#include "cli/record.h"
#include "cli/settings.h"
#include "lua/bundle.h"
#include "lua/lint.h"
#include "lua/script.h"
#include "postgres/postgres.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TIMEOUT_MS = 5000, PATH_MAX_LEN = 256 };

struct check {
    const struct mr_node *config;
    bool connect;
    struct mr_findings findings;
    struct mr_lookup_schema **schemas; /* one a lookup, in order; NULL if not known */
};

static const char *path_of(char path[PATH_MAX_LEN], const char *group, const char *name,
                           const char *rest)
{
    snprintf(path, PATH_MAX_LEN, "%s.%s%s%s", group, name, *rest ? "." : "", rest);
    return path;
}

/* Each line of the report is a finding. */
static void report_lines(struct check *check, const char *path, struct mr_buf *report)
{
    const char *text = mr_buf_cstr(report);
    while (*text) {
        size_t len = strcspn(text, "\n");
        char *line = mr_strndup(text, len);
        mr_findings_ok(&check->findings, path, line);
        free(line);
        text += len + (text[len] == '\n');
    }
}

/* --- lookups --- */

static void describe_columns(const struct mr_lookup_schema *schema, struct mr_buf *text)
{
    for (size_t i = 0; i < schema->n_columns; i++)
        mr_buf_printf(text, "%s%s %s",
                      i == 0                ? "key "
                      : i == schema->n_keys ? "; columns "
                                            : ", ",
                      schema->columns[i].name, schema->columns[i].type_name);
}

/* Which feed the server allows today, and what a better one lacks. */
static void check_feed(struct check *check, const char *path, const struct mr_node *node,
                       const struct mr_postgres_feed_options *options)
{
    struct mr_error err;
    struct mr_buf report;
    mr_buf_init(&report);
    const char *other = mr_settings_same_changelog(mr_node_at(check->config, "lookups"), node);
    bool ok = other ? mr_error_set(&err, MR_STOP, MR_EXIT_CONFIG,
                                   "lookups.%s has the same `changelog`: give each its own", other)
                    : mr_postgres_feed_check(options, &report, &err);
    report_lines(check, path, &report);
    if (!ok)
        mr_findings_error(&check->findings, path, &err);
    mr_buf_fini(&report);
}

static void check_lookup(struct check *check, const struct mr_node *node,
                         struct mr_lookup_schema **schema)
{
    char path[PATH_MAX_LEN];
    struct mr_error err;
    struct mr_buf text;
    struct mr_settings_lookup lookup;
    mr_buf_init(&text);
    mr_settings_lookup_init(&lookup, node);
    path_of(path, "lookups", node->name, "");
    if (mr_postgres_lookup_schema(&lookup.options.lookup, schema, &err)) {
        describe_columns(*schema, &text);
        mr_findings_ok(&check->findings, path, mr_buf_cstr(&text));
        check_feed(check, path, node, &lookup.options);
    } else {
        mr_findings_error(&check->findings, path, &err);
    }
    mr_settings_lookup_fini(&lookup);
    mr_buf_fini(&text);
}

static const struct mr_lookup_schema *schema_of(const struct check *check, const char *name)
{
    const struct mr_node *lookups = mr_node_at(check->config, "lookups");
    size_t i = 0;
    for (const struct mr_node *c = lookups->children; c; c = c->next, i++)
        if (strcmp(c->name, name) == 0)
            return check->schemas[i];
    return NULL;
}

/* --- Kafka --- */

static void check_topics(struct check *check, const char *path, const struct mr_node *properties,
                         const char *const *topics, size_t n_topics)
{
    struct mr_error err;
    size_t n;
    struct mr_kafka_property *list = mr_settings_properties(properties, &n);
    if (!mr_kafka_check(list, n, topics, n_topics, TIMEOUT_MS, &err)) {
        mr_findings_error(&check->findings, path, &err);
        goto out;
    }
    struct mr_buf text;
    mr_buf_init(&text);
    mr_buf_put_text(&text, "reached; there is");
    for (size_t i = 0; i < n_topics; i++)
        mr_buf_printf(&text, "%s %s", i ? "," : "", topics[i]);
    mr_findings_ok(&check->findings, path, mr_buf_cstr(&text));
    mr_buf_fini(&text);
out:
    free(list);
}

static void check_kafka(struct check *check, const struct mr_node *node)
{
    char path[PATH_MAX_LEN];
    struct mr_names topics = mr_settings_names(mr_node_at(node, "source.topics"));
    check_topics(check, path_of(path, "pipelines", node->name, "source"),
                 mr_node_at(node, "source.kafka"), topics.items, topics.n);
    free(topics.items);
    topics = mr_settings_topics(node);
    if (topics.n)
        check_topics(check, path_of(path, "pipelines", node->name, "sinks.kafka"),
                     mr_node_at(node, "sinks.kafka.kafka"), topics.items, topics.n);
    free(topics.items);
    const char *topic = mr_node_text(node, "dead_letters.topic");
    if (topic)
        check_topics(check, path_of(path, "pipelines", node->name, "dead_letters"),
                     mr_settings_writer(node), &topic, 1);
}

/* --- Postgres --- */

static void check_postgres(struct check *check, const struct mr_node *node,
                           const struct mr_row_schema **rows)
{
    char path[PATH_MAX_LEN];
    struct mr_error err;
    struct mr_names columns = mr_settings_names(mr_node_at(node, "sinks.postgres.columns"));
    struct mr_buf report;
    mr_buf_init(&report);
    struct mr_postgres_store_options options = mr_settings_store(node, &columns);
    path_of(path, "pipelines", node->name, "sinks.postgres");
    bool fine = mr_postgres_check(&options, &report, rows, &err);
    report_lines(check, path, &report);
    if (!fine)
        mr_findings_error(&check->findings, path, &err);
    mr_buf_fini(&report);
    free(columns.items);
}

/* --- scripts --- */

struct lint {
    struct mr_findings *findings;
    const char *path;
};

static void on_lint(void *arg, const struct mr_lint_finding *found)
{
    const struct lint *lint = arg;
    struct mr_finding finding = {.code = found->code,
                                 .where = lint->path,
                                 .file = found->file,
                                 .line = found->line,
                                 .column = found->column,
                                 .length = found->length,
                                 .message = found->message,
                                 .hint = found->hint,
                                 .text = found->text};
    mr_findings_at(lint->findings, &finding);
}

/* The files that were read, as far as the script came. */
static void lint_script(struct check *check, const char *path, const struct mr_bundle *bundle,
                        const struct mr_lookup_schema *schema)
{
    struct lint lint = {&check->findings, path};
    struct mr_error err;
    const char *file;
    for (size_t i = 0; (file = mr_bundle_file(bundle, i)); i++)
        if (access(file, R_OK) == 0 && !mr_lint_run(&file, 1, schema, on_lint, &lint, &err))
            mr_findings_error(&check->findings, path, &err);
}

/* With --connect, when both tables are known. */
static void check_record(struct check *check, const char *path, struct mr_script *script,
                         const struct mr_lookup_schema *lookup, const struct mr_row_schema *rows)
{
    int64_t now_ms = mr_clock_wall_ms();
    struct mr_buf sample = {0};
    if (rows && mr_script_sample(script, now_ms / 1000, 1, &sample))
        mr_record_check(&check->findings, path, script, (struct mr_bytes){sample.ptr, sample.len},
                        now_ms, lookup, rows);
    mr_buf_fini(&sample);
}

static void check_script(struct check *check, const struct mr_node *node,
                         const struct mr_row_schema *rows)
{
    char path[PATH_MAX_LEN];
    struct mr_error err;
    struct mr_script *script = NULL;
    const char *lookup = mr_node_text(node, "lookup");
    struct mr_names topics = mr_settings_topics(node);
    struct mr_script_options options = {
        .path = mr_node_text(node, "script"),
        .has_lookup = lookup != NULL,
        .lookup = lookup ? schema_of(check, lookup) : NULL,
        .rows = rows,
        .has_message = topics.n > 0,
        .topics = topics.items,
        .n_topics = topics.n,
        .vars = mr_node_at(node, "vars"),
        .time_limit_ms = mr_node_int(node, "limits.time", 0),
        .memory_limit_bytes = (size_t)mr_node_int(node, "limits.memory", 0),
        .output_limit_bytes = (size_t)mr_node_int(node, "limits.output", 0),
        .pipeline = node->name,
        .bundle_header = mr_node_bool(node, "sinks.kafka.bundle_header", true),
        .quiet = true,
    };
    path_of(path, "pipelines", node->name, "script");
    options.bundle = mr_bundle_new(options.path);
    size_t errors = check->findings.n_errors;
    bool opened = mr_script_open(&options, &script, &err);
    if (opened) {
        check_record(check, path, script, options.lookup, rows);
        script->ops->close(script);
    } else {
        mr_findings_error(&check->findings, path, &err);
    }
    lint_script(check, path, options.bundle, options.lookup);
    if (check->findings.n_errors == errors)
        mr_findings_ok(&check->findings, path, options.path);
    mr_bundle_release(options.bundle);
    free(topics.items);
}

static void check_pipeline(struct check *check, const struct mr_node *node)
{
    const struct mr_row_schema *rows = NULL;
    if (check->connect) {
        check_kafka(check, node);
        if (mr_node_at(node, "sinks.postgres"))
            check_postgres(check, node, &rows);
    }
    check_script(check, node, rows);
    mr_postgres_row_schema_free(rows);
}

static void check_all(struct check *check)
{
    const struct mr_node *lookups = mr_node_at(check->config, "lookups");
    const struct mr_node *pipelines = mr_node_at(check->config, "pipelines");
    check->schemas = mr_calloc(lookups->n_children, sizeof(struct mr_lookup_schema *));
    size_t i = 0;
    for (const struct mr_node *c = lookups->children; c; c = c->next, i++)
        if (check->connect)
            check_lookup(check, c, &check->schemas[i]);
    for (const struct mr_node *c = pipelines->children; c; c = c->next)
        check_pipeline(check, c);
    for (i = 0; i < lookups->n_children; i++)
        mr_postgres_lookup_schema_free(check->schemas[i]);
    free(check->schemas);
}

int mr_cli_check(const struct mr_cli_args *args)
{
    struct mr_node *config = NULL;
    struct mr_buf errors;
    struct check check = {.connect = args->connect};
    mr_buf_init(&errors);
    mr_findings_init(&check.findings, args->json);
    if (mr_cli_load_quietly(args, &config, &errors)) {
        mr_findings_ok(&check.findings, args->config, "read");
        check.config = config;
        /* What the clients would log on the way is said by the findings. */
        if (strcmp(mr_node_text(config, "log.level"), "debug") != 0)
            mr_log_init(MR_ERROR, MR_LOG_AUTO);
        check_all(&check);
    } else {
        mr_findings_config(&check.findings, mr_buf_cstr(&errors));
    }
    int code = mr_findings_end(&check.findings, args->config);
    mr_findings_fini(&check.findings);
    mr_buf_fini(&errors);
    mr_node_free(config);
    return code;
}
