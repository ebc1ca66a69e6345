/*
 * offsets.c - positions: what the group has committed, where to start, and commits.
 *
 * Runs in the worker's thread. Owns nothing. An answer that did not come is an error, never
 * "absent": the difference is the difference between asking again and starting over. A commit goes
 * out only as the member of the assignment in force. Tests: tests/unit/test_kafka_source.c.
 */
#include "kafka/consumer.h"

#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>

enum { COMMIT_TIMEOUT_MS = 10000 };

static struct mr_kafka_consumer *consumer_of(struct mr_source *source)
{
    return (struct mr_kafka_consumer *)source;
}

rd_kafka_resp_err_t mr_kafka_offsets_fetch(rd_kafka_t *rk, const struct mr_partition *at,
                                           int timeout_ms, struct mr_committed *out)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    const rd_kafka_topic_partition_t *answer =
        rd_kafka_topic_partition_list_add(list, at->topic, at->partition);
    rd_kafka_resp_err_t code = rd_kafka_committed(rk, list, timeout_ms);
    if (!code)
        code = answer->err;
    *out = (struct mr_committed){0};
    if (!code) {
        out->present = answer->offset >= 0;
        out->offset = out->present ? answer->offset : -1;
        /* Not terminated by librdkafka. */
        size_t len = answer->metadata ? answer->metadata_size : 0;
        if (len >= sizeof out->metadata)
            len = sizeof out->metadata - 1;
        if (len)
            memcpy(out->metadata, answer->metadata, len);
    }
    rd_kafka_topic_partition_list_destroy(list);
    return code;
}

bool mr_kafka_offsets_committed(struct mr_source *source, const struct mr_partition *at,
                                int timeout_ms, struct mr_committed *out, struct mr_error *err)
{
    struct mr_kafka_consumer *consumer = consumer_of(source);
    rd_kafka_resp_err_t code = mr_kafka_offsets_fetch(consumer->rk, at, timeout_ms, out);
    if (!code) {
        mr_kafka_contact_made(&consumer->contact);
        return true;
    }
    char what[320];
    snprintf(what, sizeof what, "committed offset of %s/%d in group %s", at->topic, at->partition,
             consumer->group);
    mr_kafka_contact_fail(&consumer->contact, code, what, at->topic, NULL, err);
    if (err && err->action == MR_RECOVER)
        err->action = MR_RETRY; /* nothing was changed: ask again */
    return false;
}

bool mr_kafka_offsets_watermarks(struct mr_source *source, const struct mr_partition *at,
                                 int timeout_ms, int64_t *low, int64_t *high, struct mr_error *err)
{
    struct mr_kafka_consumer *consumer = consumer_of(source);
    rd_kafka_resp_err_t code = rd_kafka_query_watermark_offsets(
        consumer->rk, at->topic, at->partition, low, high, timeout_ms);
    if (!code) {
        mr_kafka_contact_made(&consumer->contact);
        return true;
    }
    char what[320];
    snprintf(what, sizeof what, "first and last offset of %s/%d", at->topic, at->partition);
    return mr_kafka_contact_fail(&consumer->contact, code, what, at->topic, NULL, err);
}

rd_kafka_topic_partition_list_t *mr_kafka_offsets_list(const struct mr_mark *marks, size_t n,
                                                       bool with_metadata)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)n);
    for (size_t i = 0; i < n; i++) {
        rd_kafka_topic_partition_t *one =
            rd_kafka_topic_partition_list_add(list, marks[i].at.topic, marks[i].at.partition);
        one->offset = marks[i].next_offset;
        if (!with_metadata || !marks[i].metadata[0])
            continue;
        /* The list frees it with free(3), as it frees what it allocated itself. */
        one->metadata = mr_strdup(marks[i].metadata);
        one->metadata_size = strlen(marks[i].metadata);
    }
    return list;
}

static bool moved_on(const struct mr_kafka_consumer *consumer, const char *what,
                     struct mr_error *err)
{
    return mr_kafka_contact_fail(&consumer->contact, RD_KAFKA_RESP_ERR__ASSIGNMENT_LOST, what, NULL,
                                 "the partitions were taken away meanwhile", err);
}

/*
 * librdkafka up to 2.15 asserts in the middle of an assignment when a partition that it is told to
 * stop is told so again before it has done it (its issue 5573): assign, which stops what runs, and
 * another assign, or a revocation, close behind. So each is waited for. The stop and its answer
 * pass through the queue of librdkafka's main thread, in order; so do these two questions.
 */
rd_kafka_resp_err_t mr_kafka_assign(rd_kafka_t *rk, const rd_kafka_topic_partition_list_t *list)
{
    rd_kafka_resp_err_t code = rd_kafka_assign(rk, list);
    for (int i = 0; i < 2; i++) {
        rd_kafka_topic_partition_list_t *now = NULL;
        if (!rd_kafka_assignment(rk, &now))
            rd_kafka_topic_partition_list_destroy(now);
    }
    return code;
}

bool mr_kafka_offsets_start(struct mr_source *source, const struct mr_mark *marks, size_t n,
                            struct mr_error *err)
{
    struct mr_kafka_consumer *consumer = consumer_of(source);
    if (!consumer->owned || consumer->tell_revoked)
        return moved_on(consumer, "start reading", err);
    consumer->last_topic = NULL;
    rd_kafka_topic_partition_list_t *list = mr_kafka_offsets_list(marks, n, false);
    rd_kafka_resp_err_t code = mr_kafka_assign(consumer->rk, list);
    rd_kafka_topic_partition_list_destroy(list);
    if (code)
        return mr_kafka_contact_fail(&consumer->contact, code, "start reading", NULL, NULL, err);
    return true;
}

rd_kafka_resp_err_t
mr_kafka_offsets_send(rd_kafka_t *rk, const rd_kafka_topic_partition_list_t *list, int timeout_ms)
{
    /* One queue a commit: a late answer finds nobody. */
    rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
    rd_kafka_resp_err_t code = rd_kafka_commit_queue(rk, list, queue, NULL, NULL);
    int64_t deadline = mr_clock_mono_ms() + timeout_ms;
    bool waiting = !code;
    while (waiting) {
        int64_t left = deadline - mr_clock_mono_ms();
        rd_kafka_event_t *event = rd_kafka_queue_poll(queue, left > 0 ? (int)left : 0);
        if (event && rd_kafka_event_type(event) == RD_KAFKA_EVENT_OFFSET_COMMIT) {
            waiting = false;
            code = rd_kafka_event_error(event);
            const rd_kafka_topic_partition_list_t *answer =
                rd_kafka_event_topic_partition_list(event);
            for (int i = 0; !code && answer && i < answer->cnt; i++)
                code = answer->elems[i].err;
        }
        if (event) {
            rd_kafka_event_destroy(event);
        } else if (left <= 0) {
            waiting = false;
            code = RD_KAFKA_RESP_ERR__TIMED_OUT;
        }
    }
    rd_kafka_queue_destroy(queue);
    return code;
}

bool mr_kafka_offsets_commit(struct mr_source *source, const struct mr_mark *marks, size_t n,
                             struct mr_error *err)
{
    struct mr_kafka_consumer *consumer = consumer_of(source);
    if (!n)
        return true;
    if (!mr_kafka_rebalance_is_member(consumer))
        return moved_on(consumer, "commit of offsets", err);
    rd_kafka_topic_partition_list_t *list = mr_kafka_offsets_list(marks, n, true);
    rd_kafka_resp_err_t code = mr_kafka_offsets_send(consumer->rk, list, COMMIT_TIMEOUT_MS);
    rd_kafka_topic_partition_list_destroy(list);
    if (!code) {
        mr_kafka_contact_made(&consumer->contact);
        return true;
    }
    char what[320];
    snprintf(what, sizeof what, "commit of offsets in group %s", consumer->group);
    return mr_kafka_contact_fail(&consumer->contact, code, what, NULL, NULL, err);
}
