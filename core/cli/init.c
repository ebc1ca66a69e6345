/*
 * init.c - `millrace init`: creates Millrace's tables for each Postgres sink, what the feeds of the
 * lookups need, and topics if asked to.
 *
 * Main thread. Idempotent; of what is not Millrace's own only a lookup's table is touched, and only
 * if a `changelog` is named. With --print nothing is connected to and the SQL is the output. Tests:
 * tests/spec/cli_spec.lua, with services tests/integration/manners_spec.lua.
 */
#include "cli/cli.h"

#include "cli/settings.h"
#include "postgres/postgres.h"

#include <stdlib.h>
#include <string.h>

enum { TIMEOUT_MS = 30000 };

/* --- pipelines --- */

static int fail(const char *pipeline, const char *what, const struct mr_error *err)
{
    fprintf(stderr, "millrace init: pipelines.%s.%s: %s\n", pipeline, what, err->msg);
    return err->code;
}

static bool same_text(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

/* Has an earlier pipeline the same database and dead-letter table? */
static bool is_repeated(const struct mr_node *pipelines, const struct mr_node *node)
{
    const char *dsn = mr_node_text(node, "sinks.postgres.dsn");
    const char *dead = mr_node_text(node, "dead_letters.table");
    for (const struct mr_node *c = pipelines->children; c != node; c = c->next)
        if (same_text(mr_node_text(c, "sinks.postgres.dsn"), dsn) &&
            same_text(mr_node_text(c, "dead_letters.table"), dead))
            return true;
    return false;
}

static int init_tables(const struct mr_cli_args *args, const struct mr_node *node)
{
    struct mr_error err;
    struct mr_buf sql;
    mr_buf_init(&sql);
    int code = MR_EXIT_OK;
    const char *dead = mr_node_text(node, "dead_letters.table");
    if (!mr_postgres_init(mr_node_text(node, "sinks.postgres.dsn"), dead, args->print, &sql,
                          &err)) {
        code = fail(node->name, "sinks.postgres", &err);
    } else if (args->print) {
        printf("-- for pipelines.%s.sinks.postgres\n%s", node->name, mr_buf_cstr(&sql));
        if (sql.len && sql.ptr[sql.len - 1] != '\n')
            putchar('\n');
    } else {
        fprintf(stderr, "pipelines.%s.sinks.postgres: tables of Millrace are there\n", node->name);
    }
    mr_buf_fini(&sql);
    return code;
}

static int create(const struct mr_cli_args *args, const char *pipeline, const char *what,
                  const struct mr_node *properties, const char *const *topics, size_t n_topics)
{
    struct mr_error err;
    size_t n;
    int code = MR_EXIT_OK;
    struct mr_kafka_property *list = mr_settings_properties(properties, &n);
    int partitions = args->partitions ? args->partitions : -1;
    if (!mr_kafka_create_topics(list, n, topics, n_topics, partitions, args->replication,
                                TIMEOUT_MS, &err))
        code = fail(pipeline, what, &err);
    for (size_t i = 0; !code && i < n_topics; i++)
        fprintf(stderr, "pipelines.%s.%s: topic %s is there\n", pipeline, what, topics[i]);
    free(list);
    return code;
}

static int init_topics(const struct mr_cli_args *args, const struct mr_node *node)
{
    struct mr_names read = mr_settings_names(mr_node_at(node, "source.topics"));
    struct mr_names out = mr_settings_topics(node);
    const char *dead = mr_node_text(node, "dead_letters.topic");
    int code =
        create(args, node->name, "source", mr_node_at(node, "source.kafka"), read.items, read.n);
    if (!code && out.n)
        code = create(args, node->name, "sinks.kafka", mr_node_at(node, "sinks.kafka.kafka"),
                      out.items, out.n);
    if (!code && dead)
        code = create(args, node->name, "dead_letters", mr_settings_writer(node), &dead, 1);
    free(read.items);
    free(out.items);
    return code;
}

/* --- lookups --- */

/* Each line of the report, with the lookup in front. */
static void report_lines(const char *lookup, struct mr_buf *report)
{
    for (const char *at = mr_buf_cstr(report); *at;) {
        size_t len = strcspn(at, "\n");
        fprintf(stderr, "lookups.%s: %.*s\n", lookup, (int)len, at);
        at += len + (at[len] == '\n');
    }
}

static int init_lookup(const struct mr_cli_args *args, const struct mr_node *lookups,
                       const struct mr_node *node)
{
    struct mr_error err;
    struct mr_buf sql, report;
    struct mr_settings_lookup lookup;
    const char *other = mr_settings_same_changelog(lookups, node);
    mr_buf_init(&sql);
    mr_buf_init(&report);
    mr_settings_lookup_init(&lookup, node);
    bool ok = other ? mr_error_set(&err, MR_STOP, MR_EXIT_CONFIG,
                                   "lookups.%s has the same `changelog`: give each its own", other)
                    : mr_postgres_feed_init(&lookup.options, args->print, &sql, &report, &err);
    if (ok && args->print)
        printf("-- for lookups.%s\n%s", node->name, mr_buf_cstr(&sql));
    report_lines(node->name, &report);
    if (!ok)
        fprintf(stderr, "millrace init: lookups.%s: %s\n", node->name, err.msg);
    mr_settings_lookup_fini(&lookup);
    mr_buf_fini(&report);
    mr_buf_fini(&sql);
    return ok ? MR_EXIT_OK : err.code;
}

int mr_cli_init(const struct mr_cli_args *args)
{
    struct mr_node *config = NULL;
    if (!mr_cli_load(args, &config))
        return MR_EXIT_CONFIG;
    int code = MR_EXIT_OK;
    const struct mr_node *pipelines = mr_node_at(config, "pipelines");
    /* One that cannot be reached does not keep the others from being made. */
    for (const struct mr_node *c = pipelines->children; c; c = c->next) {
        int one = MR_EXIT_OK;
        if (!mr_node_at(c, "sinks.postgres"))
            fprintf(stderr, "pipelines.%s: no Postgres sink, no tables needed\n", c->name);
        else if (!is_repeated(pipelines, c))
            one = init_tables(args, c);
        if (!one && args->create_topics && !args->print)
            one = init_topics(args, c);
        if (one)
            code = one;
    }
    const struct mr_node *lookups = mr_node_at(config, "lookups");
    for (const struct mr_node *c = lookups->children; c; c = c->next) {
        int one = init_lookup(args, lookups, c);
        if (one)
            code = one;
    }
    mr_node_free(config);
    return code;
}
