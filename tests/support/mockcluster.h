/*
 * mockcluster.h - a Kafka for one test program: librdkafka's mock cluster on loopback, and the few
 * lines that every test of the Kafka room needs around it: properties, frames, waiting with a
 * deadline.
 *
 * Header only; one thread. The cluster stops with mock_down. It knows no transactions (the design's
 * list of limits: docs), so nothing here claims exactness.
 */
#ifndef MR_TESTS_MOCKCLUSTER_H
#define MR_TESTS_MOCKCLUSTER_H

#include "base/clock.h"
#include "kafka/kafka.h"

#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>
#include <stdio.h>
#include <stdlib.h>

#define MOCK __attribute__((unused)) static inline

/* Kafka's request types, for rd_kafka_mock_push_request_errors. */
enum { API_PRODUCE = 0, API_OFFSET_COMMIT = 8, API_OFFSET_FETCH = 9, API_HEARTBEAT = 12 };

struct mock {
    rd_kafka_t *host;
    rd_kafka_mock_cluster_t *cluster;
    struct mr_kafka_property properties[4];
    size_t n_properties;
};

MOCK bool mock_up_with(struct mock *mock, int brokers)
{
    char why[256];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_set(conf, "log_level", "3", why, sizeof why);
    *mock = (struct mock){.host = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof why)};
    if (!mock->host)
        return false;
    mock->cluster = rd_kafka_mock_cluster_new(mock->host, brokers);
    if (!mock->cluster)
        return false;
    mock->properties[0] = (struct mr_kafka_property){
        "bootstrap.servers", rd_kafka_mock_cluster_bootstraps(mock->cluster), false};
    mock->properties[1] = (struct mr_kafka_property){"reconnect.backoff.max.ms", "200", false};
    mock->n_properties = 2;
    return true;
}

MOCK bool mock_up(struct mock *mock)
{
    return mock_up_with(mock, 1);
}

MOCK void mock_down(struct mock *mock)
{
    rd_kafka_mock_cluster_destroy(mock->cluster);
    rd_kafka_destroy(mock->host);
}

MOCK void mock_topic(struct mock *mock, const char *name, int partitions)
{
    if (rd_kafka_mock_topic_create(mock->cluster, name, partitions, 1))
        abort();
}

/* One frame at the end of `frames`. NULL texts are Kafka nulls; `headers`: name, value pairs, ended
 * by NULL. */
MOCK void put_frame(struct mr_buf *frames, const char *key, const char *value,
                    const char *const *headers, int64_t timestamp_ms)
{
    struct mr_buf packed;
    mr_buf_init(&packed);
    struct mr_frame frame = {
        .key_len = key ? (uint32_t)strlen(key) : MR_ABSENT,
        .value_len = value ? (uint32_t)strlen(value) : MR_ABSENT,
        .timestamp_ms = timestamp_ms,
    };
    for (; headers && headers[0]; headers += 2, frame.n_headers++) {
        uint32_t lens[2] = {(uint32_t)strlen(headers[0]),
                            headers[1] ? (uint32_t)strlen(headers[1]) : MR_ABSENT};
        mr_buf_put(&packed, lens, sizeof lens);
        mr_buf_put(&packed, headers[0], lens[0]);
        mr_buf_put(&packed, headers[1], headers[1] ? lens[1] : 0);
    }
    frame.headers_len = (uint32_t)packed.len;
    mr_buf_put(frames, &frame, sizeof frame);
    mr_buf_put(frames, key, key ? frame.key_len : 0);
    mr_buf_put(frames, packed.ptr, packed.len);
    mr_buf_put(frames, value, value ? frame.value_len : 0);
    mr_buf_fini(&packed);
}

MOCK struct mr_bytes bytes_of(const struct mr_buf *frames)
{
    return (struct mr_bytes){frames->ptr, frames->len};
}

/* A unit of `n` small messages "<prefix><i>", sent and acknowledged. */
MOCK bool send_numbered(struct mr_sink *sink, const char *prefix, int n, struct mr_error *err)
{
    struct mr_buf frames;
    mr_buf_init(&frames);
    for (int i = 0; i < n; i++) {
        char text[64];
        snprintf(text, sizeof text, "%s%d", prefix, i);
        put_frame(&frames, text, text, NULL, mr_clock_wall_ms());
    }
    size_t bad = 0;
    bool ok = sink->ops->produce(sink, bytes_of(&frames), err) &&
              sink->ops->flush(sink, 20000, &bad, err);
    if (!ok)
        sink->ops->abort(sink);
    mr_buf_fini(&frames);
    return ok;
}

#endif
