/*
 * conf.c - librdkafka's properties: which there are, which are the user's to set, and the
 * rd_kafka_conf_t made of them.
 *
 * Any thread; the table of names is read once from librdkafka itself, so that it never goes stale.
 * Owns nothing but that table. Must not know where the properties were written (core/cli, core/lua)
 * nor what the clients do with them. The settings that the delivery guarantee rests on are refused
 * here, each with its reason. Tests: tests/unit/test_kafka_conf.c.
 */
#include "kafka/client.h"

#include "base/log.h"
#include "base/text.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <unistd.h>

enum { FOR_SOURCE = 1, FOR_SINK = 2, FOR_BOTH = 3, MAX_PROPERTIES = 512 };

/* What the guarantee owns. `role`: where the refusal holds. */
static const struct {
    const char *name;
    int role;
    const char *why;
} owned[] = {
    {"group.id", FOR_SOURCE, "the consumer group is named by source.group"},
    {"group.instance.id", FOR_SOURCE,
     "each worker is a member of its own; one id for several would make them throw each other out"},
    {"group.protocol.type", FOR_SOURCE, "workers join as ordinary consumers"},
    {"partition.assignment.strategy", FOR_SOURCE,
     "it stays `range`: cooperative-sticky loops and hangs in this librdkafka, and all members of "
     "a "
     "group must agree"},
    {"enable.auto.commit", FOR_SOURCE, "offsets are committed with each unit, never by a timer"},
    {"auto.commit.enable", FOR_SOURCE, "offsets are committed with each unit, never by a timer"},
    {"auto.commit.interval.ms", FOR_SOURCE,
     "offsets are committed with each unit, never by a timer"},
    {"enable.auto.offset.store", FOR_SOURCE, "the position is kept by Millrace, with each unit"},
    {"offset.store.method", FOR_SOURCE, "the position is kept by Millrace, with each unit"},
    {"offset.store.path", FOR_SOURCE, "the position is kept by Millrace, with each unit"},
    {"offset.store.sync.interval.ms", FOR_SOURCE,
     "the position is kept by Millrace, with each unit"},
    {"auto.offset.reset", FOR_SOURCE,
     "a lost position halts instead of skipping messages; where a new group begins is "
     "source.start"},
    {"isolation.level", FOR_SOURCE,
     "messages of aborted transactions must not be taken for real ones"},
    {"enable.partition.eof", FOR_SOURCE,
     "Millrace needs it to know the position past control records"},
    {"enable.idempotence", FOR_SINK, "without it a retry inside librdkafka could double messages"},
    {"enable.gapless.guarantee", FOR_SINK,
     "units are repeated as a whole; it would only add fatal errors"},
    {"acks", FOR_SINK, "a message counts as sent when all in-sync replicas have it"},
    {"request.required.acks", FOR_SINK,
     "a message counts as sent when all in-sync replicas have it"},
    {"transactional.id", FOR_SINK, "it is made of instance, pipeline, group and worker"},
    {"transaction.timeout.ms", FOR_SINK, "the length of a unit is Millrace's"},
    {"message.timeout.ms", FOR_SINK, "it must stay below the time a unit may take"},
    {"delivery.timeout.ms", FOR_SINK, "it must stay below the time a unit may take"},
    {"retries", FOR_SINK, "idempotence needs retries without a limit"},
    {"message.send.max.retries", FOR_SINK, "idempotence needs retries without a limit"},
    {"queuing.strategy", FOR_SINK, "idempotence needs first in, first out"},
    {"delivery.report.only.error", FOR_SINK, "every acknowledgement is counted"},
    {"allow.auto.create.topics", FOR_BOTH,
     "topics are never created by accident; `millrace init --create-topics` creates them"},
    {"enabled_events", FOR_BOTH, "it is for programs, not for a configuration"},
    {"log.queue", FOR_BOTH, "librdkafka's lines go to Millrace's log"},
    {"internal.termination.signal", FOR_BOTH, "signals are Millrace's"},
    {"builtin.features", FOR_BOTH, "it says what librdkafka was built with and sets nothing"},
};

/* Their values are secret whether or not the configuration says so. */
static const char *const secrets[] = {
    "sasl.password",         "ssl.key.password",        "ssl.key.pem",
    "ssl.keystore.password", "sasl.oauthbearer.config", "sasl.oauthbearer.client.secret",
};

static struct {
    const char *names[MAX_PROPERTIES];
    int roles[MAX_PROPERTIES];
    size_t n;
} table;
static pthread_once_t table_once = PTHREAD_ONCE_INIT;

static size_t find(const char *name)
{
    for (size_t i = 0; i < table.n; i++)
        if (strcmp(table.names[i], name) == 0)
            return i;
    return table.n;
}

/* One row of librdkafka's table: "name | C/P | range | default | importance | description". */
static void take_row(char *row)
{
    char *rest = NULL;
    char *name = strtok_r(row, " |", &rest);
    char *role = strtok_r(NULL, " |", &rest);
    if (!name || !role || !rest || strlen(role) != 1 || !strchr("CP*", role[0]) ||
        strstr(rest, "see dedicated API"))
        return;
    int roles = role[0] == 'C' ? FOR_SOURCE : role[0] == 'P' ? FOR_SINK : FOR_BOTH;
    size_t i = find(name);
    if (i == table.n) {
        mr_assert(table.n < MAX_PROPERTIES);
        table.names[table.n++] = mr_strdup(name);
        table.roles[i] = 0;
    }
    table.roles[i] |= roles; /* global and topic tables share some names */
}

static void sort_table(void)
{
    for (size_t i = 1; i < table.n; i++)
        for (size_t j = i; j && strcmp(table.names[j - 1], table.names[j]) > 0; j--) {
            const char *name = table.names[j];
            int roles = table.roles[j];
            table.names[j] = table.names[j - 1];
            table.roles[j] = table.roles[j - 1];
            table.names[j - 1] = name;
            table.roles[j - 1] = roles;
        }
}

static void read_table(void)
{
    char *text = NULL, *rest = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&text, &size);
    mr_assert(stream);
    rd_kafka_conf_properties_show(stream);
    mr_assert(fclose(stream) == 0);
    for (char *row = strtok_r(text, "\n", &rest); row; row = strtok_r(NULL, "\n", &rest))
        take_row(row);
    free(text);
    sort_table();
}

const char *const *mr_kafka_property_names(size_t *n)
{
    pthread_once(&table_once, read_table);
    *n = table.n;
    return table.names;
}

static bool is_secret(const struct mr_kafka_property *property)
{
    for (size_t i = 0; i < sizeof secrets / sizeof *secrets; i++)
        if (strcmp(secrets[i], property->name) == 0)
            return true;
    return property->secret;
}

static bool unknown(const char *name, struct mr_error *err)
{
    const char *near = mr_text_nearest(name, table.names, table.n);
    mr_error_set(err, MR_STOP, MR_EXIT_CONFIG,
                 "librdkafka has no property \"%s\" that a configuration can set", name);
    size_t len = strlen(err->msg);
    if (near)
        snprintf(err->msg + len, sizeof err->msg - len, "; did you mean \"%s\"?", near);
    return false;
}

/* librdkafka's own text quotes the value: for a secret only the fact is told. */
static bool set(rd_kafka_conf_t *conf, const struct mr_kafka_property *property,
                struct mr_error *err)
{
    char why[512];
    if (rd_kafka_conf_set(conf, property->name, property->value, why, sizeof why) ==
        RD_KAFKA_CONF_OK)
        return true;
    if (is_secret(property))
        return mr_error_set(err, MR_STOP, MR_EXIT_CONFIG,
                            "librdkafka does not accept the value of \"%s\"", property->name);
    return mr_error_set(err, MR_STOP, MR_EXIT_CONFIG,
                        "librdkafka does not accept \"%s\" = \"%s\": %s", property->name,
                        property->value, why);
}

bool mr_kafka_property_check(const struct mr_kafka_property *property, bool for_sink,
                             struct mr_error *err)
{
    struct mr_error ignored;
    err = err ? err : &ignored;
    size_t n;
    mr_kafka_property_names(&n);
    if (find(property->name) == n)
        return unknown(property->name, err);
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
        if ((owned[i].role & (for_sink ? FOR_SINK : FOR_SOURCE)) &&
            strcmp(owned[i].name, property->name) == 0)
            return mr_error_set(err, MR_STOP, MR_EXIT_CONFIG, "\"%s\" is not yours to set: %s",
                                property->name, owned[i].why);
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    bool ok = set(conf, property, err);
    rd_kafka_conf_destroy(conf);
    return ok;
}

void mr_kafka_conf_get(const rd_kafka_conf_t *conf, const char *name, char *value, size_t size)
{
    size_t full = size;
    if (rd_kafka_conf_get(conf, name, value, &full) != RD_KAFKA_CONF_OK)
        value[0] = '\0';
    value[size - 1] = '\0';
}

static bool security_makes_sense(const rd_kafka_conf_t *conf, bool mechanism_given,
                                 struct mr_error *err)
{
    char protocol[64], mechanism[64], user[64];
    mr_kafka_conf_get(conf, "security.protocol", protocol, sizeof protocol);
    mr_kafka_conf_get(conf, "sasl.mechanisms", mechanism, sizeof mechanism);
    mr_kafka_conf_get(conf, "sasl.username", user, sizeof user);
    bool sasl = strncasecmp(protocol, "sasl_", 5) == 0;
    if (!sasl && (user[0] || mechanism_given))
        return mr_error_set(err, MR_STOP, MR_EXIT_CONFIG,
                            "\"security.protocol\" is %s, so the sasl.* credentials would not be "
                            "used: set it to \"sasl_ssl\"",
                            protocol);
    if (strcasecmp(protocol, "sasl_plaintext") == 0 && strcasecmp(mechanism, "PLAIN") == 0)
        return mr_error_set(err, MR_STOP, MR_EXIT_CONFIG,
                            "SASL PLAIN without TLS would send the password readable over the "
                            "network: set \"security.protocol\" to \"sasl_ssl\", or use "
                            "SCRAM-SHA-512");
    return true;
}

/* Sets those of the user's properties that are for this role. */
static bool apply(rd_kafka_conf_t *conf, enum mr_kafka_role role,
                  const struct mr_kafka_property *properties, size_t n, struct mr_error *err)
{
    bool mechanism_given = false;
    for (size_t i = 0; i < n; i++) {
        const struct mr_kafka_property *property = &properties[i];
        size_t at = find(property->name);
        if (at == table.n)
            return unknown(property->name, err);
        bool ours = role == MR_KAFKA_ASK    ? table.roles[at] == FOR_BOTH
                    : role == MR_KAFKA_SINK ? (table.roles[at] & FOR_SINK) != 0
                                            : (table.roles[at] & FOR_SOURCE) != 0;
        if (!ours)
            continue;
        if (role != MR_KAFKA_ASK && !mr_kafka_property_check(property, role == MR_KAFKA_SINK, err))
            return false;
        if (!set(conf, property, err))
            return false;
        mechanism_given |= strncmp(property->name, "sasl.mechanism", 14) == 0;
    }
    return security_makes_sense(conf, mechanism_given, err);
}

/* librdkafka names the file only in a line of its log. "probe" is its word for looking in the usual
 * places. */
static bool files_readable(const rd_kafka_conf_t *conf, struct mr_error *err)
{
    static const char *const names[] = {"ssl.ca.location", "ssl.certificate.location",
                                        "ssl.key.location", "ssl.keystore.location",
                                        "ssl.crl.location"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[1024];
        mr_kafka_conf_get(conf, names[i], path, sizeof path);
        if (path[0] && strcmp(path, "probe") != 0 && access(path, R_OK) != 0)
            return mr_error_set(err, MR_STOP, MR_EXIT_CONFIG, "\"%s\" = \"%s\": %s", names[i], path,
                                strerror(errno));
    }
    return true;
}

bool mr_kafka_properties_check(const struct mr_kafka_property *properties, size_t n, bool for_sink,
                               struct mr_error *err)
{
    struct mr_error ignored;
    err = err ? err : &ignored;
    size_t n_names;
    mr_kafka_property_names(&n_names);
    for (size_t i = 0; i < n; i++)
        if (!mr_kafka_property_check(&properties[i], for_sink, err))
            return false;
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    bool ok = apply(conf, for_sink ? MR_KAFKA_SINK : MR_KAFKA_SOURCE, properties, n, err);
    ok = ok && files_readable(conf, err);
    char brokers[8];
    mr_kafka_conf_get(conf, "bootstrap.servers", brokers, sizeof brokers);
    if (ok && !brokers[0])
        ok = mr_error_set(err, MR_STOP, MR_EXIT_CONFIG,
                          "\"bootstrap.servers\" is missing: name the brokers, as \"host:9092\"");
    rd_kafka_conf_destroy(conf);
    return ok;
}

/* Said once a process: workers and reconnections would only repeat it. */
static void log_unverified(const rd_kafka_conf_t *conf)
{
    static atomic_bool said;
    char protocol[64], verify[16], names[16];
    mr_kafka_conf_get(conf, "security.protocol", protocol, sizeof protocol);
    mr_kafka_conf_get(conf, "enable.ssl.certificate.verification", verify, sizeof verify);
    mr_kafka_conf_get(conf, "ssl.endpoint.identification.algorithm", names, sizeof names);
    bool tls = strcasecmp(protocol, "ssl") == 0 || strcasecmp(protocol, "sasl_ssl") == 0;
    bool unverified = strcmp(verify, "false") == 0, any_name = strcmp(names, "none") == 0;
    if (!tls || (!unverified && !any_name) || atomic_exchange(&said, true))
        return;
    mr_log(MR_WARN,
           "Kafka: the brokers' %s not verified (%s): whoever is in between can read and change "
           "everything",
           unverified ? "certificates are" : "host names are",
           unverified ? "enable.ssl.certificate.verification=false"
                      : "ssl.endpoint.identification.algorithm=none");
}

bool mr_kafka_conf_build(enum mr_kafka_role role, const struct mr_kafka_property *properties,
                         size_t n, const struct mr_kafka_setting *defaults, size_t n_defaults,
                         const struct mr_kafka_setting *fixed, size_t n_fixed,
                         rd_kafka_conf_t **out, struct mr_error *err)
{
    static const struct mr_kafka_setting always[] = {
        {"log.thread.name", "false"},
        {"socket.nagle.disable", "true"},
        {"socket.keepalive.enable", "true"},
        {"socket.connection.setup.timeout.ms", "10000"},
        {"reconnect.backoff.max.ms", "2000"},
        /* A topic that was missing is found this soon after it was created. */
        {"topic.metadata.refresh.interval.ms", "10000"},
    };
    size_t n_names;
    mr_kafka_property_names(&n_names);
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    bool ok = true;
    for (size_t i = 0; ok && i < sizeof always / sizeof *always; i++)
        ok = set(conf, &(struct mr_kafka_property){always[i].name, always[i].value, false}, err);
    for (size_t i = 0; ok && i < n_defaults; i++)
        ok =
            set(conf, &(struct mr_kafka_property){defaults[i].name, defaults[i].value, false}, err);
    ok = ok && apply(conf, role, properties, n, err);
    for (size_t i = 0; ok && i < n_fixed; i++)
        ok = set(conf, &(struct mr_kafka_property){fixed[i].name, fixed[i].value, false}, err);
    if (!ok) {
        rd_kafka_conf_destroy(conf);
        return false;
    }
    log_unverified(conf);
    rd_kafka_conf_set_log_cb(conf, mr_kafka_log);
    *out = conf;
    return true;
}
