/*
 * ask.c - questions to a cluster before anything runs: is it there, may we log in, do the topics
 * exist; and the creation of topics.
 *
 * The caller's thread, with a client of its own that lives for one call. Must not change anything
 * but the topics it is told to create. Tests: tests/unit/test_kafka_source.c; against a broker with
 * SASL: tests/integration.
 */
#include "kafka/visit.h"

#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>

enum { SLICE_MS = 200 };

/* A producer, as the lightest client there is: it sends nothing but requests for metadata. */
static bool open_asker(struct mr_kafka_visit *asker, const struct mr_kafka_property *properties,
                       size_t n, struct mr_error *err)
{
    static const struct mr_kafka_setting defaults[] = {{"client.id", "millrace"}};
    static const struct mr_kafka_setting fixed[] = {{"allow.auto.create.topics", "false"}};
    return mr_kafka_visit_open(asker, RD_KAFKA_PRODUCER, MR_KAFKA_ASK, properties, n, defaults, 1,
                               fixed, 1, err);
}

/* Asks in slices, so that a login that was refused ends the waiting. All topics that we may see. */
static bool fetch_metadata(struct mr_kafka_visit *asker, int timeout_ms,
                           const struct rd_kafka_metadata **out, struct mr_error *err)
{
    int64_t deadline = mr_clock_mono_ms() + timeout_ms;
    for (;;) {
        int64_t left = deadline - mr_clock_mono_ms();
        int slice = left < SLICE_MS ? (left > 1 ? (int)left : 1) : SLICE_MS;
        rd_kafka_resp_err_t code = rd_kafka_metadata(asker->rk, 1, NULL, out, slice);
        if (!code) {
            mr_kafka_contact_made(&asker->contact);
            return true;
        }
        rd_kafka_poll(asker->rk, 0);
        bool away = !asker->contact.pending ||
                    asker->contact.pending == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN;
        if (!away && mr_kafka_contact_take(&asker->contact, err))
            return false;
        if (left > 0)
            continue;
        return mr_kafka_contact_fail(
            &asker->contact, RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN, NULL, NULL,
            asker->contact.last[0] ? asker->contact.last : rd_kafka_err2str(code), err);
    }
}

static const struct rd_kafka_metadata_topic *find(const struct rd_kafka_metadata *metadata,
                                                  const char *topic)
{
    for (int i = 0; i < metadata->topic_cnt; i++)
        if (strcmp(metadata->topics[i].topic, topic) == 0)
            return &metadata->topics[i];
    return NULL;
}

static bool look_for(const struct mr_kafka_visit *asker, const struct rd_kafka_metadata *metadata,
                     const char *const *topics, size_t n, struct mr_error *err)
{
    struct mr_buf missing;
    mr_buf_init(&missing);
    bool ok = true;
    size_t n_missing = 0;
    for (size_t i = 0; ok && i < n; i++) {
        if (topics[i][0] == '^')
            continue;
        const struct rd_kafka_metadata_topic *topic = find(metadata, topics[i]);
        if (topic && topic->err == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED)
            ok = mr_kafka_contact_fail(&asker->contact, topic->err, NULL, topics[i], NULL, err);
        else if (!topic || topic->partition_cnt == 0)
            mr_buf_printf(&missing, "%s%s", n_missing++ ? ", " : "", topics[i]);
    }
    if (ok && n_missing)
        ok =
            mr_error_set(err, MR_RETRY, MR_EXIT_CONFIG,
                         "topic%s %s do%s not exist at %s; create %s, or run `millrace init "
                         "--create-topics`",
                         n_missing > 1 ? "s" : "", mr_buf_cstr(&missing), n_missing > 1 ? "" : "es",
                         asker->contact.brokers, n_missing > 1 ? "them" : "it");
    mr_buf_fini(&missing);
    return ok;
}

static char *cluster_of(const struct mr_kafka_property *properties, size_t n, int timeout_ms,
                        struct mr_error *err)
{
    struct mr_kafka_visit asker = {0};
    const struct rd_kafka_metadata *metadata = NULL;
    char *id = NULL;
    if (open_asker(&asker, properties, n, err) &&
        fetch_metadata(&asker, timeout_ms, &metadata, err)) {
        char *told = rd_kafka_clusterid(asker.rk, timeout_ms);
        id = mr_strdup(told ? told : "");
        if (told)
            rd_kafka_mem_free(asker.rk, told);
        rd_kafka_metadata_destroy(metadata);
    }
    mr_kafka_visit_close(&asker);
    return id;
}

bool mr_kafka_same_cluster(const struct mr_kafka_property *source, size_t n_source,
                           const struct mr_kafka_property *sink, size_t n_sink, int timeout_ms,
                           struct mr_error *err)
{
    char *one = cluster_of(source, n_source, timeout_ms, err);
    char *other = one ? cluster_of(sink, n_sink, timeout_ms, err) : NULL;
    bool ok = one && other;
    if (ok && *one && *other && strcmp(one, other) != 0) /* "": it did not say */
        ok = mr_error_set(err, MR_STOP, MR_EXIT_CONFIG,
                          "the source is in the Kafka cluster \"%s\", the sink in \"%s\": "
                          "delivery = \"exactly_once\" writes messages and offsets in one "
                          "transaction, which one cluster must hold; use \"at_least_once\" here",
                          one, other);
    free(one);
    free(other);
    return ok;
}

bool mr_kafka_check(const struct mr_kafka_property *properties, size_t n_properties,
                    const char *const *topics, size_t n_topics, int timeout_ms,
                    struct mr_error *err)
{
    struct mr_kafka_visit asker = {0};
    const struct rd_kafka_metadata *metadata = NULL;
    bool ok = open_asker(&asker, properties, n_properties, err) &&
              fetch_metadata(&asker, timeout_ms, &metadata, err) &&
              look_for(&asker, metadata, topics, n_topics, err);
    if (metadata)
        rd_kafka_metadata_destroy(metadata);
    mr_kafka_visit_close(&asker);
    return ok;
}

bool mr_kafka_partitions(const struct mr_kafka_property *properties, size_t n_properties,
                         const char *topic, int timeout_ms, int32_t *n, struct mr_error *err)
{
    struct mr_kafka_visit asker = {0};
    const struct rd_kafka_metadata *metadata = NULL;
    bool ok = open_asker(&asker, properties, n_properties, err) &&
              fetch_metadata(&asker, timeout_ms, &metadata, err) &&
              look_for(&asker, metadata, &topic, 1, err);
    if (ok)
        *n = find(metadata, topic)->partition_cnt;
    if (metadata)
        rd_kafka_metadata_destroy(metadata);
    mr_kafka_visit_close(&asker);
    return ok;
}

static bool created(const struct mr_kafka_visit *asker, rd_kafka_event_t *event,
                    struct mr_error *err)
{
    if (rd_kafka_event_error(event))
        return mr_kafka_contact_fail(&asker->contact, rd_kafka_event_error(event),
                                     "creation of topics", NULL, rd_kafka_event_error_string(event),
                                     err);
    size_t n = 0;
    const rd_kafka_topic_result_t **results =
        rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event), &n);
    for (size_t i = 0; i < n; i++) {
        rd_kafka_resp_err_t code = rd_kafka_topic_result_error(results[i]);
        if (!code || code == RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS)
            continue;
        const char *name = rd_kafka_topic_result_name(results[i]);
        const char *why = rd_kafka_topic_result_error_string(results[i]);
        if (code == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED ||
            code == RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED)
            return mr_kafka_contact_fail(&asker->contact, code, NULL, name, why, err);
        return mr_error_set(err, MR_STOP, MR_EXIT_CONFIG, "topic %s could not be created at %s: %s",
                            name, asker->contact.brokers, why ? why : rd_kafka_err2str(code));
    }
    return true;
}

static bool create(struct mr_kafka_visit *asker, rd_kafka_NewTopic_t **topics, size_t n,
                   int timeout_ms, struct mr_error *err)
{
    char why[256];
    bool ok = false;
    rd_kafka_queue_t *queue = rd_kafka_queue_new(asker->rk);
    rd_kafka_AdminOptions_t *options =
        rd_kafka_AdminOptions_new(asker->rk, RD_KAFKA_ADMIN_OP_CREATETOPICS);
    if (rd_kafka_AdminOptions_set_request_timeout(options, timeout_ms, why, sizeof why)) {
        mr_error_set(err, MR_STOP, MR_EXIT_USAGE, "creation of topics: %s", why);
        goto out;
    }
    rd_kafka_CreateTopics(asker->rk, topics, n, options, queue);
    /* librdkafka answers by itself when the time is over. */
    rd_kafka_event_t *event = NULL;
    while (!event || rd_kafka_event_type(event) != RD_KAFKA_EVENT_CREATETOPICS_RESULT) {
        if (event)
            rd_kafka_event_destroy(event);
        event = rd_kafka_queue_poll(queue, SLICE_MS);
    }
    ok = created(asker, event, err);
    rd_kafka_event_destroy(event);
out:
    rd_kafka_AdminOptions_destroy(options);
    rd_kafka_queue_destroy(queue);
    return ok;
}

bool mr_kafka_create_topics(const struct mr_kafka_property *properties, size_t n_properties,
                            const char *const *names, size_t n, int partitions, int replication,
                            int timeout_ms, struct mr_error *err)
{
    struct mr_kafka_visit asker = {0};
    const struct rd_kafka_metadata *metadata = NULL;
    rd_kafka_NewTopic_t **topics = mr_calloc(n + 1, sizeof(rd_kafka_NewTopic_t *));
    size_t n_new = 0;
    char why[256];
    bool ok = open_asker(&asker, properties, n_properties, err) &&
              fetch_metadata(&asker, timeout_ms, &metadata, err);
    for (size_t i = 0; ok && i < n; i++) {
        if (names[i][0] == '^' || find(metadata, names[i]))
            continue;
        topics[n_new] = rd_kafka_NewTopic_new(names[i], partitions,
                                              replication > 0 ? replication : -1, why, sizeof why);
        if (!topics[n_new])
            ok = mr_error_set(err, MR_STOP, MR_EXIT_CONFIG, "topic %s cannot be created: %s",
                              names[i], why);
        else
            n_new++;
    }
    ok = ok && (!n_new || create(&asker, topics, n_new, timeout_ms, err));
    rd_kafka_NewTopic_destroy_array(topics, n_new);
    free(topics);
    if (metadata)
        rd_kafka_metadata_destroy(metadata);
    mr_kafka_visit_close(&asker);
    return ok;
}
