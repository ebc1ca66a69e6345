/*
 * settings.c - lists and properties of the configuration as arrays.
 *
 * Any thread; gives arrays that borrow from the tree. Must not know which option is meant. Tests:
 * tests/spec/cli_spec.lua, through the commands.
 */
#include "cli/settings.h"

#include <stdio.h>
#include <stdlib.h>

/* What `refresh` is when it is no interval: FEEDS in core/lua/config_types.lua. */
enum { REFRESH_AUTO = 0, REFRESH_LOGICAL = -1, REFRESH_CHANGELOG = -2, AUTO_INTERVAL_MS = 60000 };

struct mr_names mr_settings_names(const struct mr_node *list)
{
    struct mr_names names = {0};
    if (!list || !list->n_children)
        return names;
    names.items = mr_calloc(list->n_children, sizeof *names.items);
    for (const struct mr_node *c = list->children; c; c = c->next)
        names.items[names.n++] = c->text;
    return names;
}

static void add_once(struct mr_names *names, const char *name)
{
    for (size_t i = 0; i < names->n; i++)
        if (strcmp(names->items[i], name) == 0)
            return;
    names->items[names->n++] = name;
}

struct mr_names mr_settings_topics(const struct mr_node *pipeline)
{
    struct mr_names names = {0};
    const char *topic = mr_node_text(pipeline, "sinks.kafka.topic");
    const struct mr_node *allowed = mr_node_at(pipeline, "sinks.kafka.allowed_topics");
    if (!topic)
        return names;
    names.items = mr_calloc(1 + (allowed ? allowed->n_children : 0), sizeof *names.items);
    add_once(&names, topic);
    for (const struct mr_node *c = allowed ? allowed->children : NULL; c; c = c->next)
        add_once(&names, c->text);
    return names;
}

struct mr_kafka_property *mr_settings_properties(const struct mr_node *table, size_t *n)
{
    *n = 0;
    if (!table || !table->n_children)
        return NULL;
    struct mr_kafka_property *properties = mr_calloc(table->n_children, sizeof *properties);
    for (const struct mr_node *c = table->children; c; c = c->next)
        properties[(*n)++] = (struct mr_kafka_property){c->name, c->text, c->secret};
    return properties;
}

const struct mr_node *mr_settings_writer(const struct mr_node *pipeline)
{
    const struct mr_node *sink = mr_node_at(pipeline, "sinks.kafka.kafka");
    return sink ? sink : mr_node_at(pipeline, "source.kafka");
}

struct mr_postgres_store_options mr_settings_store(const struct mr_node *pipeline,
                                                   const struct mr_names *columns)
{
    return (struct mr_postgres_store_options){
        .dsn = mr_node_text(pipeline, "sinks.postgres.dsn"),
        .table = mr_node_text(pipeline, "sinks.postgres.table"),
        .columns = columns->items,
        .n_columns = columns->n,
        .dead_table = mr_node_text(pipeline, "dead_letters.table"),
        .group = mr_node_text(pipeline, "source.group"),
        .owner = "millrace.check",
        .application_name = "millrace/check",
        .mode = mr_node_text(pipeline, "delivery"),
    };
}

static enum mr_postgres_refresh refresh_of(int64_t refresh)
{
    switch (refresh) {
    case REFRESH_AUTO:
        return MR_POSTGRES_REFRESH_AUTO;
    case REFRESH_LOGICAL:
        return MR_POSTGRES_REFRESH_LOGICAL;
    case REFRESH_CHANGELOG:
        return MR_POSTGRES_REFRESH_CHANGELOG;
    default:
        return MR_POSTGRES_REFRESH_RELOAD;
    }
}

void mr_settings_lookup_init(struct mr_settings_lookup *lookup, const struct mr_node *node)
{
    int64_t refresh = mr_node_int(node, "refresh", REFRESH_AUTO);
    const char *publication = mr_node_text(node, "publication");
    struct mr_buf name = {0};
    mr_buf_printf(&name, "millrace_%s", node->name);
    *lookup = (struct mr_settings_lookup){
        .keys = mr_settings_names(mr_node_at(node, "key")),
        .columns = mr_settings_names(mr_node_at(node, "columns")),
        .publication = mr_strdup(publication ? publication : mr_buf_cstr(&name)),
    };
    lookup->options = (struct mr_postgres_feed_options){
        .lookup =
            {
                .name = node->name,
                .dsn = mr_node_text(node, "dsn"),
                .table = mr_node_text(node, "table"),
                .query = mr_node_text(node, "query"),
                .keys = lookup->keys.items,
                .n_keys = lookup->keys.n,
                .columns = lookup->columns.items,
                .n_columns = lookup->columns.n,
                .distinct = mr_node_bool(node, "distinct", true),
                .max_bytes = (size_t)mr_node_int(node, "max_bytes", 0),
            },
        .refresh = refresh_of(refresh),
        .interval_ms = refresh > 0 ? refresh : AUTO_INTERVAL_MS,
        .publication = lookup->publication,
        .changelog = mr_node_text(node, "changelog"),
    };
    mr_buf_fini(&name);
}

void mr_settings_lookup_fini(struct mr_settings_lookup *lookup)
{
    free(lookup->keys.items);
    free(lookup->columns.items);
    free(lookup->publication);
}

const char *mr_settings_same_changelog(const struct mr_node *lookups, const struct mr_node *node)
{
    const char *changelog = mr_node_text(node, "changelog"), *dsn = mr_node_text(node, "dsn");
    for (const struct mr_node *c = lookups->children; changelog && c != node; c = c->next) {
        const char *other = mr_node_text(c, "changelog");
        if (other && strcmp(other, changelog) == 0 && strcmp(mr_node_text(c, "dsn"), dsn) == 0)
            return c->name;
    }
    return NULL;
}
