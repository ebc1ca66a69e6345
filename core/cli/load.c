/*
 * load.c - loads the configuration for a command, with what the other rooms know about its values.
 *
 * Main thread, before threads start. The Lua room may not include the Kafka, Postgres and admin
 * rooms: it gets their checks from here as function pointers. Must not know options. Tests:
 * tests/spec/cli_spec.lua.
 */
#include "cli/cli.h"

#include "admin/admin.h"
#include "base/log.h"
#include "kafka/kafka.h"
#include "lua/config.h"
#include "postgres/postgres.h"

#include <stdlib.h>
#include <string.h>

static bool check_property(const char *name, const char *value, bool secret, bool for_sink,
                           struct mr_error *err)
{
    struct mr_kafka_property property = {name, value, secret};
    return mr_kafka_property_check(&property, for_sink, err);
}

static bool check_properties(const char *const *names, const char *const *values,
                             const bool *secrets, size_t n, bool for_sink, struct mr_error *err)
{
    struct mr_kafka_property *properties = mr_calloc(n, sizeof *properties);
    for (size_t i = 0; i < n; i++)
        properties[i] = (struct mr_kafka_property){names[i], values[i], secrets[i]};
    bool fine = mr_kafka_properties_check(properties, n, for_sink, err);
    free(properties);
    return fine;
}

const struct mr_config_checks *mr_cli_checks(void)
{
    static struct mr_config_checks checks = {
        .kafka_property = check_property,
        .kafka_properties = check_properties,
        .dsn = mr_postgres_dsn_check,
        .relation = mr_postgres_table_check,
        .listen = mr_admin_check_listen,
    };
    if (!checks.kafka_names) /* the first time is before threads start */
        checks.kafka_names = mr_kafka_property_names(&checks.n_kafka_names);
    return &checks;
}

bool mr_cli_load_quietly(const struct mr_cli_args *args, struct mr_node **out,
                         struct mr_buf *errors)
{
    return mr_config_load(args->config, args->sets, args->n_sets, mr_cli_checks(), out, errors);
}

void mr_cli_set_up_log(const struct mr_node *config)
{
    enum mr_level level = MR_INFO;
    const char *format = mr_node_text(config, "log.format");
    bool known = mr_log_level_parse(mr_node_text(config, "log.level"), &level);
    mr_assert(known && format);
    mr_log_init(level, strcmp(format, "text") == 0   ? MR_LOG_TEXT
                       : strcmp(format, "json") == 0 ? MR_LOG_JSON
                                                     : MR_LOG_AUTO);
}

bool mr_cli_load(const struct mr_cli_args *args, struct mr_node **out)
{
    struct mr_buf errors;
    mr_buf_init(&errors);
    bool done = mr_cli_load_quietly(args, out, &errors);
    if (done)
        mr_cli_set_up_log(*out);
    fputs(mr_buf_cstr(&errors), stderr);
    mr_buf_fini(&errors);
    return done;
}

const struct mr_node *mr_cli_pipeline(const struct mr_cli_args *args, const struct mr_node *config,
                                      const char *command, const char *with)
{
    const struct mr_node *pipelines = mr_node_at(config, "pipelines"), *only = NULL;
    struct mr_buf names = {0};
    size_t n = 0;
    for (const struct mr_node *c = pipelines->children; c; c = c->next) {
        if (args->word && strcmp(c->name, args->word) == 0) {
            mr_buf_fini(&names);
            return c;
        }
        mr_buf_printf(&names, "%s%s", names.len ? ", " : "", c->name);
        if (!with || mr_node_at(c, with)) {
            only = c;
            n++;
        }
    }
    if (!args->word && n != 1) {
        only = pipelines->n_children == 1 ? pipelines->children : NULL;
        if (!only)
            fprintf(stderr, "millrace %s: which pipeline? There are: %s\n", command,
                    mr_buf_cstr(&names));
    } else if (args->word) {
        only = NULL;
        fprintf(stderr, "millrace %s: there is no pipeline \"%s\"; there are: %s\n", command,
                args->word, mr_buf_cstr(&names));
    }
    mr_buf_fini(&names);
    return only;
}
