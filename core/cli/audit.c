/*
 * audit.c - `millrace audit`: are the messages of a pipeline's topic and the rows of its table the
 * same outputs?
 *
 * Main thread. Reads the topic (core/kafka/audit_read.c), takes the fields out of each message
 * (core/lua/json.h) and hands them to Postgres, which compares (core/postgres/audit_rows.c). So
 * neither side is held here, however many there are. Writes nothing but temporary tables. Tests:
 * tests/spec/cli_spec.lua, with services tests/integration/audit_spec.lua.
 */
#include "cli/cli.h"

#include "base/log.h"
#include "base/progress.h"
#include "base/text.h"
#include "cli/report.h"
#include "cli/settings.h"
#include "kafka/kafka.h"
#include "lua/json.h"
#include "postgres/postgres.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Messages sent so long before the range begins are not read: clocks differ, and Kafka's timestamps
 * are those of the producer. */
enum { SKEW_MS = 3600000, EXAMPLES = 20 };

struct audit {
    const struct mr_node *node; /* of the pipeline */
    struct mr_postgres_audit_field *fields;
    struct mr_bytes *values;
    size_t n_fields;
    int time_field;
    struct mr_postgres_audit *session;
    struct mr_json *json;
    struct mr_buf *texts; /* one a field: what was picked out of the message in hand */
    struct mr_progress progress;
    struct mr_kafka_read_extent extent;
    int64_t n_read, bytes;
    struct mr_postgres_audit_result result;
};

/* --- what is compared --- */

static void add_fields(struct audit *audit, const struct mr_node *pairs, bool is_key)
{
    for (const struct mr_node *c = pairs ? pairs->children : NULL; c; c = c->next)
        audit->fields[audit->n_fields++] =
            (struct mr_postgres_audit_field){.name = c->name, .column = c->text, .is_key = is_key};
}

/* The time is compared as well, unless it is Kafka's. */
static void add_time(struct audit *audit, const struct mr_node *node)
{
    const char *column = mr_node_text(node, "time");
    const char *field = mr_node_text(node, "time_field");
    audit->time_field = -1;
    if (!column || (field && strcmp(field, "@timestamp") == 0))
        return;
    audit->time_field = (int)audit->n_fields;
    audit->fields[audit->n_fields++] =
        (struct mr_postgres_audit_field){.name = field ? field : column, .column = column};
}

static void list_fields(struct audit *audit)
{
    const struct mr_node *node = mr_node_at(audit->node, "audit");
    const struct mr_node *key = mr_node_at(node, "key"), *compare = mr_node_at(node, "compare");
    size_t n = key->n_children + (compare ? compare->n_children : 0) + 1;
    audit->fields = mr_calloc(n, sizeof *audit->fields);
    add_fields(audit, key, true);
    add_fields(audit, compare, false);
    add_time(audit, node);
    audit->values = mr_calloc(audit->n_fields, sizeof *audit->values);
    audit->texts = mr_calloc(audit->n_fields, sizeof *audit->texts);
}

/* --- messages --- */

static void begin(void *arg, const struct mr_kafka_read_extent *extent)
{
    struct audit *audit = arg;
    char label[64];
    audit->extent = *extent;
    snprintf(label, sizeof label, "reading %s", mr_node_text(audit->node, "sinks.kafka.topic"));
    mr_progress_begin(&audit->progress, label, extent->n_offsets);
}

/* Postgres takes no text with a zero byte in it, or that is not UTF-8. */
static bool is_text(struct mr_bytes text)
{
    return !text.len || (!memchr(text.ptr, 0, text.len) && mr_text_utf8_valid(text.ptr, text.len));
}

/* Fills values. False: *err says why they cannot be read. */
static bool pick(struct audit *audit, const struct mr_record *rec, struct mr_error *err)
{
    if (!rec->value.ptr)
        return mr_error_reject(err, "decode", "the message has no value");
    if (!mr_json_parse(audit->json, rec->value, err))
        return false;
    for (size_t i = 0; i < audit->n_fields; i++) {
        const char *name = audit->fields[i].name;
        struct mr_buf *text = &audit->texts[i];
        mr_buf_reset(text);
        if (strcmp(name, "@key") == 0)
            audit->values[i] = rec->key;
        else if (mr_json_pick(audit->json, name, text))
            audit->values[i] = (struct mr_bytes){mr_buf_cstr(text), text->len};
        else
            audit->values[i] = (struct mr_bytes){NULL, 0};
        if (!is_text(audit->values[i]))
            return mr_error_reject(err, "utf8", "%s is not UTF-8, or has a zero byte in it", name);
    }
    return true;
}

static bool take(void *arg, const struct mr_record *rec, struct mr_error *err)
{
    struct audit *audit = arg;
    struct mr_error why;
    bool read = pick(audit, rec, &why);
    audit->n_read++;
    audit->bytes += (int64_t)(rec->value.len + rec->key.len);
    mr_progress_update(&audit->progress, audit->n_read, audit->bytes);
    return mr_postgres_audit_put(audit->session, rec, audit->values, read ? NULL : why.msg, err);
}

static bool read_messages(struct audit *audit, struct mr_error *err)
{
    size_t n;
    struct mr_kafka_property *properties =
        mr_settings_properties(mr_settings_writer(audit->node), &n);
    int64_t since_ms, until_ms;
    mr_postgres_audit_range(audit->session, &since_ms, &until_ms);
    struct mr_kafka_read_options options = {
        .properties = properties,
        .n_properties = n,
        .topic = mr_node_text(audit->node, "sinks.kafka.topic"),
        .group = mr_node_text(audit->node, "source.group"),
        .since_ms = since_ms > SKEW_MS ? since_ms - SKEW_MS : -1,
        .arg = audit,
        .begin = begin,
        .take = take,
    };
    bool ok = mr_kafka_read_topic(&options, err);
    mr_progress_end(&audit->progress);
    free(properties);
    return ok;
}

/* --- the command --- */

static bool open_session(struct audit *audit, const struct mr_cli_args *args, struct mr_error *err)
{
    const struct mr_node *node = mr_node_at(audit->node, "audit");
    const char *unit = mr_node_text(node, "time_unit");
    struct mr_postgres_audit_options options = {
        .dsn = mr_node_text(audit->node, "sinks.postgres.dsn"),
        .table = mr_node_text(audit->node, "sinks.postgres.table"),
        .fields = audit->fields,
        .n_fields = audit->n_fields,
        .time_column = mr_node_text(node, "time"),
        .time_field = audit->time_field,
        .time_per_s = strcmp(unit, "us") == 0   ? 1000000
                      : strcmp(unit, "ms") == 0 ? 1000
                                                : 1,
        .since = args->since,
        .until = args->until,
    };
    return mr_postgres_audit_open(&options, &audit->session, err);
}

static int report(struct audit *audit, bool json, struct mr_error *err)
{
    struct mr_report out = {
        .json = json,
        .pipeline = audit->node->name,
        .topic = mr_node_text(audit->node, "sinks.kafka.topic"),
        .table = mr_node_text(audit->node, "sinks.postgres.table"),
        .fields = audit->fields,
        .n_fields = audit->n_fields,
        .n_deleted = audit->extent.n_deleted,
        .examples_max = EXAMPLES,
    };
    mr_postgres_audit_range(audit->session, &out.since_ms, &out.until_ms);
    mr_report_begin(&out, &audit->result);
    if (!mr_postgres_audit_examples(audit->session, EXAMPLES, mr_report_example, &out, err)) {
        mr_report_end(&out, false);
        return err->code;
    }
    mr_report_end(&out, true);
    return mr_report_equal(&audit->result) ? MR_EXIT_OK : MR_EXIT_TESTS_FAILED;
}

static int compare(const struct mr_node *node, const struct mr_cli_args *args)
{
    struct audit audit = {.node = node, .json = mr_json_new()};
    struct mr_error err = {0};
    list_fields(&audit);
    int code;
    if (open_session(&audit, args, &err) && read_messages(&audit, &err) &&
        mr_postgres_audit_compare(audit.session, &audit.result, &err))
        code = report(&audit, args->json, &err);
    else
        code = err.code;
    if (err.msg[0] && code > MR_EXIT_TESTS_FAILED)
        fprintf(stderr, "millrace audit: pipelines.%s: %s\n", node->name, err.msg);
    mr_postgres_audit_close(audit.session);
    mr_json_free(audit.json);
    for (size_t i = 0; i < audit.n_fields; i++)
        mr_buf_fini(&audit.texts[i]);
    free(audit.texts);
    free(audit.values);
    free(audit.fields);
    return code;
}

int mr_cli_audit(const struct mr_cli_args *args)
{
    struct mr_node *config = NULL;
    if (!mr_cli_load(args, &config))
        return MR_EXIT_CONFIG;
    int code = MR_EXIT_USAGE;
    const struct mr_node *node = mr_cli_pipeline(args, config, "audit", "audit");
    if (node && !mr_node_at(node, "audit")) {
        fprintf(stderr,
                "millrace audit: pipelines.%s has no `audit`: say in %s what tells one output from "
                "another, as audit = { key = { \"client_id\" }, time = \"created\" } "
                "(docs/CONFIG.md)\n",
                node->name, args->config);
        code = MR_EXIT_CONFIG;
    } else if (node) {
        code = compare(node, args);
    }
    mr_node_free(config);
    return code;
}
