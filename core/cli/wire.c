/*
 * wire.c - hands the adapters to the engine, as the configuration says.
 *
 * Made by one thread; the open_* functions are called in the worker threads and only read. Owns
 * option arrays that borrow from the configuration. Must not decide anything that the option table
 * could. Tests: tests/integration.
 */
#include "cli/wire.h"

#include "base/log.h"
#include "base/progress.h"
#include "cli/settings.h"
#include "kafka/kafka.h"
#include "postgres/postgres.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    FLUSH_TIMEOUT_MS = 25000,
    CLAIM_TIMEOUT_MS = 1000,
    LOOK_TIMEOUT_MS = 5000,
    DECIDE_WITHIN_MS = 5000,
    ORPHAN_TIMEOUT_MS = 20000,
    RECENT_BYTES = 16 << 20 /* of messages that are kept for a rehearsal, a pipeline */
};

struct lookup_wire {
    const struct mr_node *node;
    struct mr_settings_lookup settings;
    struct mr_progress progress;
    bool loading, loaded;
    struct mr_app_lookup lookup;
};

struct pipeline_wire {
    const struct mr_node *node;
    struct mr_edition *edition; /* in force */
    const char *name, *group, *instance;
    struct mr_kafka_property *source_properties, *sink_properties;
    size_t n_source_properties, n_sink_properties;
    struct mr_names topics, sink_topics, row_columns;
    size_t n_out_topics; /* of sink_topics: those of the script; then the dead letters' */
    int dead_topic;
    const char *dead_table;
    struct mr_lookup *lookup;
    struct mr_recent *recent;
    bool exactly_once, static_member;
    const atomic_bool *stop;
};

struct mr_wiring {
    struct mr_app *app;
    struct lookup_wire *lookups;
    struct pipeline_wire *pipelines;
    size_t n_lookups, n_pipelines;
    pthread_mutex_t lock; /* of the configuration and the editions in force */
    struct mr_shared_config *config;
};

/* --- what the workers open ---------------------------------------------------------------------
 */

static void identity(const struct pipeline_wire *wire, int index, char separator, char text[256])
{
    if (separator == '/')
        snprintf(text, 256, "millrace/%s/%s/%d", wire->group, wire->instance, index);
    else
        snprintf(text, 256, "millrace.%s.%s.%s.%d", wire->name, wire->group, wire->instance, index);
}

static bool open_source(void *arg, int index, struct mr_source **out, struct mr_error *err)
{
    const struct pipeline_wire *wire = arg;
    char client_id[256];
    identity(wire, index, '.', client_id);
    struct mr_kafka_source_options options = {
        .properties = wire->source_properties,
        .n_properties = wire->n_source_properties,
        .topics = wire->topics.items,
        .n_topics = wire->topics.n,
        .group = wire->group,
        .client_id = client_id,
        .group_instance_id = wire->static_member ? client_id : NULL,
    };
    return mr_kafka_source_open(&options, out, err);
}

static const char *brokers_of(const struct mr_node *kafka)
{
    const struct mr_node *servers = mr_node_child(kafka, "bootstrap.servers");
    return servers ? servers->text : NULL;
}

/* Then there is nothing to ask. */
static bool same_brokers(const struct mr_node *node)
{
    const char *source = brokers_of(mr_node_at(node, "source.kafka"));
    const char *sink = brokers_of(mr_settings_writer(node));
    return source && sink && strcmp(source, sink) == 0;
}

static bool open_sink(void *arg, int index, struct mr_sink **out, struct mr_error *err)
{
    const struct pipeline_wire *wire = arg;
    char client_id[256];
    identity(wire, index, '.', client_id);
    /* A topic that is missing is better told before the first message than with it. */
    if (!mr_kafka_check(wire->sink_properties, wire->n_sink_properties, wire->sink_topics.items,
                        wire->sink_topics.n, LOOK_TIMEOUT_MS, err))
        return false;
    if (wire->exactly_once && !same_brokers(wire->node) &&
        !mr_kafka_same_cluster(wire->source_properties, wire->n_source_properties,
                               wire->sink_properties, wire->n_sink_properties, LOOK_TIMEOUT_MS,
                               err))
        return false;
    struct mr_kafka_sink_options options = {
        .properties = wire->sink_properties,
        .n_properties = wire->n_sink_properties,
        .topics = wire->sink_topics.items,
        .n_topics = wire->sink_topics.n,
        .client_id = client_id,
        .transactional_id = client_id,
        /* Without a ledger nobody knows whose transaction a dead process left open. */
        .transaction_timeout_ms =
            mr_node_at(wire->node, "sinks.postgres.dsn") ? 0 : ORPHAN_TIMEOUT_MS,
    };
    return mr_kafka_sink_open(&options, out, err);
}

static bool open_store(void *arg, int index, struct mr_store **out, struct mr_error *err)
{
    const struct pipeline_wire *wire = arg;
    char owner[256], application[256];
    identity(wire, index, '.', owner);
    identity(wire, index, '/', application);
    struct mr_postgres_store_options options = {
        .dsn = mr_node_text(wire->node, "sinks.postgres.dsn"),
        .table = mr_node_text(wire->node, "sinks.postgres.table"),
        .columns = wire->row_columns.items,
        .n_columns = wire->row_columns.n,
        .dead_table = wire->dead_table,
        .group = wire->group,
        .owner = owner,
        .instance = wire->instance,
        .application_name = application,
        .mode = !wire->exactly_once   ? MR_MODE_AT_LEAST_ONCE
                : wire->sink_topics.n ? MR_MODE_EXACTLY_ONCE
                                      : MR_MODE_ROWS_ONLY,
        .cancel = wire->stop,
    };
    return mr_postgres_store_open(&options, out, err);
}

static bool open_script(void *arg, int index, const struct mr_edition *edition,
                        const struct mr_lookup_schema *lookup, const struct mr_row_schema *rows,
                        struct mr_script **out, struct mr_error *err)
{
    (void)arg;
    (void)index;
    return mr_edition_open(edition, lookup, rows, out, err);
}

/* --- lookups -----------------------------------------------------------------------------------
 */

static void show_progress(void *arg, uint64_t rows, uint64_t estimated_rows, uint64_t bytes)
{
    struct lookup_wire *wire = arg;
    if (!wire->loading || wire->loaded) /* reloads are quiet */
        return;
    wire->progress.total_rows = (int64_t)estimated_rows;
    mr_progress_update(&wire->progress, (int64_t)rows, (int64_t)bytes);
}

static void on_loading(void *arg, bool begins, bool loaded)
{
    struct lookup_wire *wire = arg;
    char label[64];
    if (wire->loaded)
        return;
    if (begins) {
        snprintf(label, sizeof label, "loading lookup %s", wire->node->name);
        mr_progress_begin(&wire->progress, label, 0);
    } else {
        mr_progress_end(&wire->progress);
    }
    wire->loading = begins;
    wire->loaded = loaded;
}

static bool open_feed(void *arg, const atomic_bool *stop, struct mr_feed **out,
                      struct mr_error *err)
{
    struct lookup_wire *wire = arg;
    struct mr_postgres_lookup_options *options = &wire->settings.options.lookup;
    options->cancel = stop;
    options->progress = show_progress;
    options->progress_arg = wire;
    return mr_postgres_feed_open(&wire->settings.options, out, err);
}

static void wire_lookup(struct mr_wiring *wiring, struct lookup_wire *wire,
                        const struct mr_node *node)
{
    const char *on_stale = mr_node_text(node, "on_stale");
    const char *consistency = mr_node_text(node, "consistency");
    wire->node = node;
    mr_settings_lookup_init(&wire->settings, node);
    struct mr_refresh_options refresh = {
        .name = node->name,
        .interval_ms = wire->settings.options.interval_ms,
        .open = open_feed,
        .loading = on_loading,
        .arg = wire,
        .fresh =
            {
                .max_staleness_ms = mr_node_int(node, "max_staleness", 30000),
                .pause = on_stale && strcmp(on_stale, "pause") == 0,
                .strict = consistency && strcmp(consistency, "strict") == 0,
            },
    };
    wire->lookup = mr_app_add_lookup(wiring->app, &refresh);
}

static struct mr_app_lookup find_lookup(const struct mr_wiring *wiring, const char *name)
{
    for (size_t i = 0; name && i < wiring->n_lookups; i++)
        if (strcmp(wiring->lookups[i].node->name, name) == 0)
            return wiring->lookups[i].lookup;
    return (struct mr_app_lookup){NULL, NULL};
}

/* --- pipelines ---------------------------------------------------------------------------------
 */

/* The script's topics first, as it numbers them; a dead letter may go to one of those. */
static void wire_topics(struct pipeline_wire *wire)
{
    const char *dead = mr_node_text(wire->node, "dead_letters.topic");
    wire->sink_topics = mr_settings_topics(wire->node);
    wire->n_out_topics = wire->sink_topics.n;
    wire->dead_topic = -1;
    for (size_t i = 0; dead && i < wire->n_out_topics; i++)
        if (strcmp(wire->sink_topics.items[i], dead) == 0)
            wire->dead_topic = (int)i;
    if (dead && wire->dead_topic < 0) {
        wire->dead_topic = (int)wire->n_out_topics;
        wire->sink_topics.items = mr_realloc(
            wire->sink_topics.items, (wire->n_out_topics + 1) * sizeof *wire->sink_topics.items);
        wire->sink_topics.items[wire->sink_topics.n++] = dead;
    }
    wire->dead_table = dead ? NULL : mr_node_text(wire->node, "dead_letters.table");
}

static void wire_pipeline(struct mr_wiring *wiring, struct pipeline_wire *wire,
                          const struct mr_node *config, const struct mr_node *node)
{
    const char *start = mr_node_text(node, "source.start");
    *wire = (struct pipeline_wire){
        .node = node,
        .name = node->name,
        .group = mr_node_text(node, "source.group"),
        .instance = mr_node_text(config, "instance"),
        .topics = mr_settings_names(mr_node_at(node, "source.topics")),
        .row_columns = mr_settings_names(mr_node_at(node, "sinks.postgres.columns")),
        .exactly_once = strcmp(mr_node_text(node, "delivery"), "exactly_once") == 0,
        .static_member = mr_node_bool(node, "source.static_membership", false),
        .stop = mr_app_stop_flag(wiring->app),
    };
    wire_topics(wire);
    wire->source_properties =
        mr_settings_properties(mr_node_at(node, "source.kafka"), &wire->n_source_properties);
    wire->sink_properties =
        mr_settings_properties(mr_settings_writer(node), &wire->n_sink_properties);
    struct mr_app_lookup lookup = find_lookup(wiring, mr_node_text(node, "lookup"));
    wire->lookup = lookup.lookup;
    wire->recent = mr_recent_new((size_t)mr_node_int(config, "reload.rehearse", 0), RECENT_BYTES);
    struct mr_error err; /* told by the worker that opens it */
    if (!mr_edition_new(wiring->config, node, &wire->edition, NULL, &err))
        mr_log(MR_DEBUG, "%s: %s", wire->name, err.msg);
    struct mr_worker_options options = {
        .pipeline = wire->name,
        .factory =
            {
                .arg = wire,
                .source = open_source,
                .sink = wire->sink_topics.n ? open_sink : NULL,
                .store = mr_node_at(node, "sinks.postgres.dsn") ? open_store : NULL,
                .script = open_script,
            },
        .lookup = lookup.lookup,
        .fresh = lookup.fresh,
        .delivery =
            {
                .pipeline = wire->name,
                .group = wire->group,
                .exactly_once = wire->exactly_once,
                .start =
                    start && strcmp(start, "latest") == 0 ? MR_START_LATEST : MR_START_EARLIEST,
                .dead_topic = wire->dead_topic,
                .flush_timeout_ms = FLUSH_TIMEOUT_MS,
                .claim_timeout_ms = CLAIM_TIMEOUT_MS,
                .decide_within_ms = DECIDE_WITHIN_MS,
            },
        .edition = wire->edition,
        .recent = wire->recent,
        .settings = mr_edition_settings(node),
    };
    mr_app_add_pipeline(wiring->app, &options, (int)mr_node_int(node, "workers", 1));
}

struct mr_wiring *mr_wiring_new(const struct mr_node *config)
{
    struct mr_wiring *wiring = mr_calloc(1, sizeof *wiring);
    const struct mr_node *lookups = mr_node_at(config, "lookups");
    const struct mr_node *pipelines = mr_node_at(config, "pipelines");
    wiring->app = mr_app_new();
    pthread_mutex_init(&wiring->lock, NULL);
    wiring->config = mr_shared_config_new(config, true);
    wiring->lookups = mr_calloc(lookups ? lookups->n_children : 0, sizeof *wiring->lookups);
    wiring->pipelines = mr_calloc(pipelines->n_children, sizeof *wiring->pipelines);
    for (const struct mr_node *c = lookups ? lookups->children : NULL; c; c = c->next)
        wire_lookup(wiring, &wiring->lookups[wiring->n_lookups++], c);
    for (const struct mr_node *c = pipelines->children; c; c = c->next)
        wire_pipeline(wiring, &wiring->pipelines[wiring->n_pipelines++], config, c);
    return wiring;
}

struct mr_app *mr_wiring_app(struct mr_wiring *wiring)
{
    return wiring->app;
}

int64_t mr_wiring_drain_timeout_ms(struct mr_wiring *wiring)
{
    int64_t longest_ms = 0;
    pthread_mutex_lock(&wiring->lock);
    const struct mr_node *tree = mr_shared_config_tree(wiring->config);
    for (const struct mr_node *c = mr_node_at(tree, "pipelines")->children; c; c = c->next) {
        int64_t drain_ms = mr_node_int(c, "drain_timeout", 10000);
        longest_ms = drain_ms > longest_ms ? drain_ms : longest_ms;
    }
    pthread_mutex_unlock(&wiring->lock);
    return longest_ms;
}

static struct pipeline_wire *find_pipeline(struct mr_wiring *wiring, const char *name)
{
    for (size_t i = 0; i < wiring->n_pipelines; i++)
        if (strcmp(wiring->pipelines[i].name, name) == 0)
            return &wiring->pipelines[i];
    return NULL;
}

struct mr_shared_config *mr_wiring_config(struct mr_wiring *wiring)
{
    pthread_mutex_lock(&wiring->lock);
    struct mr_shared_config *config = mr_shared_config_acquire(wiring->config);
    pthread_mutex_unlock(&wiring->lock);
    return config;
}

struct mr_edition *mr_wiring_edition(struct mr_wiring *wiring, const char *pipeline)
{
    pthread_mutex_lock(&wiring->lock);
    struct pipeline_wire *wire = find_pipeline(wiring, pipeline);
    struct mr_edition *edition = wire ? mr_edition_acquire(wire->edition) : NULL;
    pthread_mutex_unlock(&wiring->lock);
    return edition;
}

struct mr_lookup *mr_wiring_lookup(struct mr_wiring *wiring, const char *pipeline)
{
    struct pipeline_wire *wire = find_pipeline(wiring, pipeline);
    return wire ? wire->lookup : NULL;
}

struct mr_recent *mr_wiring_recent(struct mr_wiring *wiring, const char *pipeline)
{
    struct pipeline_wire *wire = find_pipeline(wiring, pipeline);
    return wire ? wire->recent : NULL;
}

void mr_wiring_adopt(struct mr_wiring *wiring, struct mr_shared_config *config,
                     struct mr_edition *const *editions, size_t n)
{
    pthread_mutex_lock(&wiring->lock);
    struct mr_shared_config *before = wiring->config;
    wiring->config = mr_shared_config_acquire(config);
    for (size_t i = 0; i < n; i++) {
        struct pipeline_wire *wire = find_pipeline(wiring, mr_edition_node(editions[i])->name);
        struct mr_edition *old = wire->edition;
        wire->edition = mr_edition_acquire(editions[i]);
        mr_edition_release(old);
    }
    pthread_mutex_unlock(&wiring->lock);
    mr_shared_config_release(before);
    size_t kept = (size_t)mr_node_int(mr_shared_config_tree(config), "reload.rehearse", 0);
    for (size_t i = 0; i < wiring->n_pipelines; i++)
        mr_recent_resize(wiring->pipelines[i].recent, kept);
}

void mr_wiring_free(struct mr_wiring *wiring)
{
    for (size_t i = 0; i < wiring->n_lookups; i++)
        mr_settings_lookup_fini(&wiring->lookups[i].settings);
    for (size_t i = 0; i < wiring->n_pipelines; i++) {
        struct pipeline_wire *wire = &wiring->pipelines[i];
        mr_recent_free(wire->recent);
        free(wire->source_properties);
        free(wire->sink_properties);
        free(wire->topics.items);
        free(wire->sink_topics.items);
        free(wire->row_columns.items);
        mr_edition_release(wire->edition);
    }
    mr_shared_config_release(wiring->config);
    pthread_mutex_destroy(&wiring->lock);
    free(wiring->lookups);
    free(wiring->pipelines);
    free(wiring);
}
