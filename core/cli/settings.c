/*
 * settings.c - lists and properties of the configuration as arrays.
 *
 * Any thread; gives arrays that borrow from the tree. Must not know which option is meant. Tests:
 * tests/spec/cli_spec.lua, through the commands.
 */
#include "cli/settings.h"

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
