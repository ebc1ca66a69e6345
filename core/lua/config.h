/*
 * config.h - from config.lua to a checked tree (base/tree.h), or to everything that is wrong with
 * it.
 *
 * The work is done by Lua modules that are part of the binary (config.lua and its neighbours), in a
 * state of their own behind the gate (host.h). The option table is options.lua; docs/CONFIG.md is
 * made from it.
 *
 * In the tree: durations are milliseconds, sizes bytes, script paths absolute, environment and
 * secrets are resolved. `key`, `columns` and `topics` are always lists. Properties of librdkafka
 * are strings under their own names. `lookups.*.refresh` is the interval of the re-read in
 * milliseconds. With a Postgres sink and no topic `dead_letters.table` is filled in. Absent: what
 * was not written and has no default, and `sinks.kafka` or `sinks.postgres` when left out.
 *
 * One thread. Tests: tests/unit/test_config.c, tests/spec/config_spec.lua.
 */
#ifndef MR_LUA_CONFIG_H
#define MR_LUA_CONFIG_H

#include "base/buf.h"
#include "base/tree.h"

/*
 * What only other rooms know; each may be NULL (then it is not checked). Borrowed for the call. The
 * functions return false and fill *err with a sentence if the value is wrong.
 */
struct mr_config_checks {
    const char *const *kafka_names; /* librdkafka's own property names */
    size_t n_kafka_names;
    bool (*kafka_property)(const char *name, const char *value, bool secret, bool for_sink,
                           struct mr_error *err);
    /* All of one table together; each of them is fine. */
    bool (*kafka_properties)(const char *const *names, const char *const *values,
                             const bool *secrets, size_t n, bool for_sink, struct mr_error *err);
    bool (*dsn)(const char *dsn, struct mr_error *err);
    bool (*relation)(const char *table, struct mr_error *err); /* "table" or "schema.table" */
    bool (*listen)(const char *listen, struct mr_error *err);  /* "address:port" */
};

/*
 * Reads the file, applies `sets` ("path=value", in order), checks. False: *errors holds one or more
 * lines for people, each error `file:line:col: error: path: sentence`, the line, a caret; the
 * process should end with MR_EXIT_CONFIG. `checks` may be NULL. *out: mr_node_free.
 */
MR_MUSTCHECK bool mr_config_load(const char *path, const char *const *sets, size_t n_sets,
                                 const struct mr_config_checks *checks, struct mr_node **out,
                                 struct mr_buf *errors);

enum mr_config_format { MR_CONFIG_LUA, MR_CONFIG_JSON };

/* The same, and appends the configuration in force to *text: defaults filled in, secrets as ***. */
MR_MUSTCHECK bool mr_config_show(const char *path, const char *const *sets, size_t n_sets,
                                 const struct mr_config_checks *checks,
                                 enum mr_config_format format, struct mr_buf *text,
                                 struct mr_buf *errors);

/* Appends docs/CONFIG.md. */
MR_MUSTCHECK bool mr_config_docs(struct mr_buf *text, struct mr_error *err);

#endif
