/*
 * edition.c - editions of a pipeline's script, made from a configuration.
 *
 * Any thread. Owns the sources of the script and a reference to the configuration. Must not know
 * when one edition takes the place of another (reload.c). Tests: tests/integration/reload_spec.lua.
 */
#include "cli/edition.h"

#include "cli/settings.h"
#include "lua/bundle.h"
#include "lua/script.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct mr_shared_config {
    atomic_int refs;
    const struct mr_node *tree;
    bool borrowed;
};

struct edition {
    struct mr_edition base; /* first */
    struct mr_shared_config *config;
    const struct mr_node *node;
    struct mr_names topics;
    struct mr_bundle *bundle; /* NULL: it did not load */
    struct mr_error err;      /* why */
};

struct mr_shared_config *mr_shared_config_new(const struct mr_node *tree, bool borrowed)
{
    struct mr_shared_config *config = mr_calloc(1, sizeof *config);
    atomic_init(&config->refs, 1);
    config->tree = tree;
    config->borrowed = borrowed;
    return config;
}

struct mr_shared_config *mr_shared_config_acquire(struct mr_shared_config *config)
{
    atomic_fetch_add_explicit(&config->refs, 1, memory_order_relaxed);
    return config;
}

void mr_shared_config_release(struct mr_shared_config *config)
{
    if (!config || atomic_fetch_sub_explicit(&config->refs, 1, memory_order_acq_rel) > 1)
        return;
    if (!config->borrowed)
        mr_node_free((struct mr_node *)(uintptr_t)config->tree); /* it was given to us */
    free(config);
}

const struct mr_node *mr_shared_config_tree(const struct mr_shared_config *config)
{
    return config->tree;
}

static const struct edition *edition_of(const struct mr_edition *base)
{
    return (const struct edition *)base;
}

static void free_edition(struct mr_edition *base)
{
    struct edition *edition = (struct edition *)base;
    mr_bundle_release(edition->bundle);
    mr_shared_config_release(edition->config);
    free(edition->topics.items);
    free(edition);
}

static struct mr_script_options options_of(const struct edition *edition)
{
    const struct mr_node *node = edition->node;
    return (struct mr_script_options){
        .path = mr_node_text(node, "script"),
        .bundle = edition->bundle,
        .has_lookup = mr_node_text(node, "lookup") != NULL,
        .has_message = mr_node_at(node, "sinks.kafka.topic"),
        .topics = edition->topics.items,
        .n_topics = edition->topics.n,
        .vars = mr_node_at(node, "vars"),
        .time_limit_ms = mr_node_int(node, "limits.time", 1000),
        .memory_limit_bytes = (size_t)mr_node_int(node, "limits.memory", 64 << 20),
        .output_limit_bytes = (size_t)mr_node_int(node, "limits.output", 16 << 20),
        .pipeline = node->name,
        .bundle_header = mr_node_bool(node, "sinks.kafka.bundle_header", true),
    };
}

/* Without schemas. The bundle is made here, so that the files are known when it fails, too. */
static bool load_bundle(struct edition *edition, struct mr_buf *files, struct mr_error *err)
{
    struct mr_script_options options = options_of(edition);
    struct mr_bundle *bundle = mr_bundle_new(options.path);
    struct mr_script *script = NULL;
    options.bundle = bundle;
    options.quiet = true; /* this state only looks: `init` counts and logs in those that work */
    bool ok = mr_script_open(&options, &script, err);
    const char *file;
    for (size_t i = 0; files && (file = mr_bundle_file(bundle, i)); i++)
        mr_buf_printf(files, "%s\n", file);
    if (ok) {
        script->ops->close(script);
        edition->bundle = bundle;
    } else {
        mr_bundle_release(bundle);
    }
    return ok;
}

bool mr_edition_new(struct mr_shared_config *config, const struct mr_node *pipeline,
                    struct mr_edition **out, struct mr_buf *files, struct mr_error *err)
{
    struct edition *edition = mr_calloc(1, sizeof *edition);
    *edition = (struct edition){
        .config = mr_shared_config_acquire(config),
        .node = pipeline,
        .topics = mr_settings_topics(pipeline),
    };
    atomic_init(&edition->base.refs, 1);
    edition->base.free = free_edition;
    edition->base.bundle = "";
    bool ok = load_bundle(edition, files, &edition->err);
    if (ok)
        edition->base.bundle = mr_bundle_hash(edition->bundle);
    else
        *err = edition->err;
    *out = &edition->base;
    return ok;
}

const struct mr_node *mr_edition_node(const struct mr_edition *edition)
{
    return edition_of(edition)->node;
}

/* Read by the worker beside the script (mr_edition_settings), or by nobody who runs. */
static bool is_beside_script(const char *path)
{
    static const char *const names[] = {"linger",        "max_message", "unit.outputs",
                                        "drain_timeout", "unit.bytes",  "audit"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        size_t len = strlen(names[i]);
        if (strncmp(path, names[i], len) == 0 && (!path[len] || path[len] == '.'))
            return true;
    }
    return false;
}

static void note_difference(void *arg, const char *path, bool reloadable)
{
    bool *differs = arg;
    (void)reloadable;
    *differs = *differs || !is_beside_script(path);
}

bool mr_edition_equal(const struct mr_edition *a, const struct mr_edition *b)
{
    bool differs = !edition_of(a)->bundle || !edition_of(b)->bundle || strcmp(a->bundle, b->bundle);
    mr_node_compare(edition_of(a)->node, edition_of(b)->node, note_difference, &differs);
    return !differs;
}

static bool open_edition(const struct mr_edition *base, bool quietly,
                         const struct mr_lookup_schema *lookup, const struct mr_row_schema *rows,
                         struct mr_script **out, struct mr_error *err)
{
    const struct edition *edition = edition_of(base);
    if (!edition->bundle) {
        *err = edition->err;
        return false;
    }
    struct mr_script_options options = options_of(edition);
    options.lookup = lookup;
    options.rows = rows;
    options.quiet = quietly;
    options.bundle_header = options.bundle_header && !quietly;
    return mr_script_open(&options, out, err);
}

bool mr_edition_open(const struct mr_edition *base, const struct mr_lookup_schema *lookup,
                     const struct mr_row_schema *rows, struct mr_script **out, struct mr_error *err)
{
    return open_edition(base, false, lookup, rows, out, err);
}

bool mr_edition_open_quietly(const struct mr_edition *base, const struct mr_lookup_schema *lookup,
                             const struct mr_row_schema *rows, struct mr_script **out,
                             struct mr_error *err)
{
    return open_edition(base, true, lookup, rows, out, err);
}

struct mr_worker_settings mr_edition_settings(const struct mr_node *pipeline)
{
    return (struct mr_worker_settings){
        .script_limit_ms = mr_node_int(pipeline, "limits.time", 1000),
        .linger_ms = mr_node_int(pipeline, "linger", 100),
        .unit_outputs = (uint32_t)mr_node_int(pipeline, "unit.outputs", 20000),
        .unit_bytes = (size_t)mr_node_int(pipeline, "unit.bytes", 7 << 20),
        .max_message_bytes = (size_t)mr_node_int(pipeline, "max_message", 1 << 20),
    };
}
