/*
 * settings.h - parts of the configuration in the form in which the rooms want them.
 *
 * Arrays are allocated (free them), strings are borrowed from the tree. Any thread.
 */
#ifndef MR_CLI_SETTINGS_H
#define MR_CLI_SETTINGS_H

#include "base/tree.h"
#include "kafka/kafka.h"
#include "postgres/postgres.h"

struct mr_names {
    const char **items; /* NULL if there are none */
    size_t n;
};

/* The strings of a list; none for NULL. */
struct mr_names mr_settings_names(const struct mr_node *list);

/* The topics to which a pipeline's script may send, each once: sinks.kafka.topic, then
 * allowed_topics; frames have their index. None without a Kafka sink. */
struct mr_names mr_settings_topics(const struct mr_node *pipeline);

/* The properties of a table; *n 0 and NULL for NULL. */
struct mr_kafka_property *mr_settings_properties(const struct mr_node *table, size_t *n);

/* The properties with which a pipeline writes: those of its Kafka sink, else of its source. */
const struct mr_node *mr_settings_writer(const struct mr_node *pipeline);

/* The store of a pipeline, for a look at it beside the daemon (mr_postgres_check). Borrows from the
 * tree and from `columns`: those of sinks.postgres.columns. */
struct mr_postgres_store_options mr_settings_store(const struct mr_node *pipeline,
                                                   const struct mr_names *columns);

/* A lookup, as its feed, init and check want it. Its options borrow from here and from the tree. */
struct mr_settings_lookup {
    struct mr_postgres_feed_options options;
    struct mr_names keys, columns;
    char *publication;
};
void mr_settings_lookup_init(struct mr_settings_lookup *lookup, const struct mr_node *node);
void mr_settings_lookup_fini(struct mr_settings_lookup *lookup);
/* The name of an earlier lookup that has the same change-log in the same database; NULL: none. */
const char *mr_settings_same_changelog(const struct mr_node *lookups, const struct mr_node *node);

#endif
