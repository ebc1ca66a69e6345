/*
 * audit_read.c - a topic read once from begin to end, as it stands now, read_committed.
 *
 * The caller's thread, with a consumer of its own that lives for one call. It joins no group and
 * commits nothing: the group's name is only lent, since librdkafka wants one and a principal may
 * have no right to another. The end of each partition is asked for first, so that a topic that
 * grows meanwhile has an end too. Memory: what librdkafka reads ahead (16 MiB). Must not look into
 * messages. Tests: tests/integration/audit_spec.lua.
 */
#include "kafka/visit.h"

#include "base/clock.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { ASK_MS = 10000, SILENCE_MS = 30000, POLL_MS = 200 };

struct part {
    int64_t low, high, next; /* next: to be read; the end is reached when it is high */
    bool done;
};

struct reader {
    const struct mr_kafka_read_options *options;
    struct mr_kafka_visit visit;
    struct part *parts;
    int32_t n_parts;
    int32_t n_open; /* not yet at their end */
    rd_kafka_topic_partition_list_t *list;
};

static bool fail(struct reader *reader, rd_kafka_resp_err_t code, const char *what,
                 struct mr_error *err)
{
    const char *topic = reader->options->topic;
    /* What the error callback knows is the cause (a login that was refused, brokers away). */
    if (mr_kafka_contact_take(&reader->visit.contact, err))
        return false;
    return mr_kafka_contact_fail(&reader->visit.contact, code, what, topic, NULL, err);
}

static bool open_consumer(struct reader *reader, struct mr_error *err)
{
    const struct mr_kafka_read_options *options = reader->options;
    static const struct mr_kafka_setting defaults[] = {
        {"client.id", "millrace-audit"},
        {"queued.max.messages.kbytes", "16384"},
        {"fetch.message.max.bytes", "2097152"},
    };
    const struct mr_kafka_setting fixed[] = {
        {"group.id", options->group},          {"enable.auto.commit", "false"},
        {"auto.offset.reset", "error"},        {"enable.auto.offset.store", "false"},
        {"enable.partition.eof", "true"},      {"isolation.level", "read_committed"},
        {"allow.auto.create.topics", "false"},
    };
    if (!mr_kafka_visit_open(&reader->visit, RD_KAFKA_CONSUMER, MR_KAFKA_SOURCE,
                             options->properties, options->n_properties, defaults,
                             sizeof defaults / sizeof *defaults, fixed,
                             sizeof fixed / sizeof *fixed, err))
        return false;
    rd_kafka_poll_set_consumer(reader->visit.rk);
    return true;
}

/* How many partitions the topic has. */
static bool find_partitions(struct reader *reader, struct mr_error *err)
{
    const struct rd_kafka_metadata *metadata = NULL;
    rd_kafka_topic_t *topic = rd_kafka_topic_new(reader->visit.rk, reader->options->topic, NULL);
    if (!topic)
        return fail(reader, rd_kafka_last_error(), "reading a topic", err);
    rd_kafka_resp_err_t code = rd_kafka_metadata(reader->visit.rk, 0, topic, &metadata, ASK_MS);
    if (!code)
        code = metadata->topics[0].err;
    if (!code) {
        reader->n_parts = metadata->topics[0].partition_cnt;
        mr_kafka_contact_made(&reader->visit.contact);
    } else {
        rd_kafka_consumer_poll(reader->visit.rk, 0); /* for the error callback */
    }
    if (metadata)
        rd_kafka_metadata_destroy(metadata);
    rd_kafka_topic_destroy(topic);
    return !code || fail(reader, code, "asking for the partitions of a topic", err);
}

/* First offsets and ends. Under read_committed the end lies before the first open transaction. */
static bool find_ends(struct reader *reader, struct mr_error *err)
{
    const char *topic = reader->options->topic;
    reader->parts = mr_calloc((size_t)reader->n_parts, sizeof *reader->parts);
    for (int32_t i = 0; i < reader->n_parts; i++) {
        struct part *part = &reader->parts[i];
        rd_kafka_resp_err_t code = rd_kafka_query_watermark_offsets(
            reader->visit.rk, topic, i, &part->low, &part->high, ASK_MS);
        if (code)
            return fail(reader, code, "asking for the first and last offset", err);
        part->next = part->low;
    }
    return true;
}

/* With a time to begin at, what was sent before it need not be read. */
static bool skip_before(struct reader *reader, struct mr_error *err)
{
    if (reader->options->since_ms < 0)
        return true;
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(reader->n_parts);
    for (int32_t i = 0; i < reader->n_parts; i++)
        rd_kafka_topic_partition_list_add(list, reader->options->topic, i)->offset =
            reader->options->since_ms;
    rd_kafka_resp_err_t code = rd_kafka_offsets_for_times(reader->visit.rk, list, ASK_MS);
    for (int32_t i = 0; !code && i < list->cnt; i++) {
        struct part *part = &reader->parts[list->elems[i].partition];
        int64_t offset = list->elems[i].offset;
        code = list->elems[i].err;
        if (offset == RD_KAFKA_OFFSET_END) /* all of it is older */
            part->next = part->high;
        else if (offset > part->next)
            part->next = offset;
    }
    rd_kafka_topic_partition_list_destroy(list);
    return !code || fail(reader, code, "asking for offsets by time", err);
}

static bool start(struct reader *reader, struct mr_kafka_read_extent *extent, struct mr_error *err)
{
    if (!find_partitions(reader, err) || !find_ends(reader, err) || !skip_before(reader, err))
        return false;
    reader->list = rd_kafka_topic_partition_list_new(reader->n_parts);
    for (int32_t i = 0; i < reader->n_parts; i++) {
        struct part *part = &reader->parts[i];
        extent->n_deleted += part->low;
        if (part->next < part->high) {
            extent->n_offsets += part->high - part->next;
            rd_kafka_topic_partition_list_add(reader->list, reader->options->topic, i)->offset =
                part->next;
            reader->n_open++;
        } else {
            part->done = true;
        }
    }
    rd_kafka_resp_err_t code = rd_kafka_assign(reader->visit.rk, reader->list);
    return !code || fail(reader, code, "start reading", err);
}

/* Nothing more is fetched of it. */
static void finish(struct reader *reader, int32_t i)
{
    if (reader->parts[i].done)
        return;
    reader->parts[i].done = true;
    reader->n_open--;
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, reader->options->topic, i);
    rd_kafka_pause_partitions(reader->visit.rk, list);
    rd_kafka_topic_partition_list_destroy(list);
}

static bool take(struct reader *reader, const rd_kafka_message_t *msg, struct mr_error *err)
{
    if (msg->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
        finish(reader, msg->partition);
        return true;
    }
    if (msg->err == RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET)
        return mr_error_set(err, MR_RETRY, MR_EXIT_TRY_AGAIN,
                            "%s/%" PRId32 ": messages were deleted by retention while they were "
                            "read: try again",
                            reader->options->topic, msg->partition);
    if (msg->err)
        return fail(reader, msg->err, reader->options->topic, err);
    struct part *part = &reader->parts[msg->partition];
    if (part->done)
        return true;
    struct mr_record rec = {
        .topic = reader->options->topic,
        .partition = msg->partition,
        .offset = msg->offset,
        .timestamp_ms = rd_kafka_message_timestamp(msg, NULL),
        .key = {msg->key, msg->key_len},
        .value = {msg->payload, msg->len},
    };
    if (msg->offset < part->high && !reader->options->take(reader->options->arg, &rec, err))
        return false;
    if (msg->offset + 1 >= part->high)
        finish(reader, msg->partition);
    return true;
}

static bool read_all(struct reader *reader, struct mr_error *err)
{
    int64_t heard_ms = mr_clock_mono_ms();
    while (reader->n_open) {
        rd_kafka_message_t *msg = rd_kafka_consumer_poll(reader->visit.rk, POLL_MS);
        if (msg) {
            bool ok = take(reader, msg, err);
            rd_kafka_message_destroy(msg);
            if (!ok)
                return false;
            heard_ms = mr_clock_mono_ms();
        } else if (mr_clock_mono_ms() - heard_ms > SILENCE_MS) {
            return fail(reader, RD_KAFKA_RESP_ERR__TIMED_OUT, "reading a topic", err);
        }
    }
    return true;
}

bool mr_kafka_read_topic(const struct mr_kafka_read_options *options, struct mr_error *err)
{
    struct reader reader = {.options = options};
    struct mr_kafka_read_extent found = {0};
    bool ok = open_consumer(&reader, err) && start(&reader, &found, err);
    if (ok && options->begin)
        options->begin(options->arg, &found);
    ok = ok && read_all(&reader, err);
    if (reader.list)
        rd_kafka_topic_partition_list_destroy(reader.list);
    mr_kafka_visit_close(&reader.visit);
    free(reader.parts);
    return ok;
}
