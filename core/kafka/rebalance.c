/*
 * rebalance.c - what the consumer group says: partitions given, partitions taken.
 *
 * Runs in the worker's thread, inside the source's poll. The callback only remembers and answers
 * librdkafka at once (an empty list or none); claiming, which talks to Postgres, is the worker's
 * and starts the reading later. Owns the list of assigned partitions and the proof of membership.
 * Must not know positions. Tests: tests/unit/test_kafka_source.c.
 */
#include "kafka/consumer.h"

#include "base/log.h"

#include <stdlib.h>

/* The same member in the same generation has the same serialized form: that is all we need to know
 * of it. */
static bool same_member(const rd_kafka_consumer_group_metadata_t *a,
                        const rd_kafka_consumer_group_metadata_t *b)
{
    void *bytes_a = NULL, *bytes_b = NULL;
    size_t size_a = 0, size_b = 0;
    rd_kafka_error_t *error_a = rd_kafka_consumer_group_metadata_write(a, &bytes_a, &size_a);
    rd_kafka_error_t *error_b = rd_kafka_consumer_group_metadata_write(b, &bytes_b, &size_b);
    bool same = !error_a && !error_b && size_a == size_b && memcmp(bytes_a, bytes_b, size_a) == 0;
    if (error_a)
        rd_kafka_error_destroy(error_a);
    if (error_b)
        rd_kafka_error_destroy(error_b);
    if (bytes_a)
        rd_kafka_mem_free(NULL, bytes_a);
    if (bytes_b)
        rd_kafka_mem_free(NULL, bytes_b);
    return same;
}

void mr_kafka_rebalance_forget(struct mr_kafka_consumer *consumer)
{
    /* One that is left over makes rd_kafka_consumer_close hang. */
    if (consumer->member)
        rd_kafka_consumer_group_metadata_destroy(consumer->member);
    consumer->member = NULL;
    consumer->last_topic = NULL;
}

/* A member without a name, or of no generation, is one that the broker has forgotten: it would
 * accept its commits without asking whose the partition is. */
static void capture_member(struct mr_kafka_consumer *consumer)
{
    mr_kafka_rebalance_forget(consumer);
    rd_kafka_consumer_group_metadata_t *now = rd_kafka_consumer_group_metadata(consumer->rk);
    char *name = rd_kafka_memberid(consumer->rk);
    char instance[256];
    mr_kafka_conf_get(rd_kafka_conf(consumer->rk), "group.instance.id", instance, sizeof instance);
    rd_kafka_consumer_group_metadata_t *lost = rd_kafka_consumer_group_metadata_new_with_genid(
        consumer->group, -1, name ? name : "", instance[0] ? instance : NULL);
    if (now && name && name[0] && !same_member(now, lost)) {
        consumer->member = now;
        now = NULL;
    }
    if (now)
        rd_kafka_consumer_group_metadata_destroy(now);
    rd_kafka_consumer_group_metadata_destroy(lost);
    if (name)
        rd_kafka_mem_free(consumer->rk, name);
}

bool mr_kafka_rebalance_is_member(struct mr_kafka_consumer *consumer)
{
    if (!consumer->member)
        return false;
    rd_kafka_consumer_group_metadata_t *now = rd_kafka_consumer_group_metadata(consumer->rk);
    bool same = now && same_member(now, consumer->member);
    if (now)
        rd_kafka_consumer_group_metadata_destroy(now);
    return same;
}

const struct mr_member *mr_kafka_rebalance_member(struct mr_source *source)
{
    struct mr_kafka_consumer *consumer = (struct mr_kafka_consumer *)source;
    return mr_kafka_rebalance_is_member(consumer) ? (const struct mr_member *)consumer->member
                                                  : NULL;
}

static void take_list(struct mr_kafka_consumer *consumer,
                      const rd_kafka_topic_partition_list_t *partitions)
{
    size_t n = (size_t)partitions->cnt;
    if (n > consumer->cap_assigned) {
        consumer->assigned = mr_realloc(consumer->assigned, n * sizeof *consumer->assigned);
        consumer->cap_assigned = n;
    }
    for (size_t i = 0; i < n; i++)
        consumer->assigned[i] = (struct mr_partition){
            mr_kafka_intern(consumer, partitions->elems[i].topic),
            partitions->elems[i].partition,
        };
    consumer->n_assigned = n;
}

static void assigned(struct mr_kafka_consumer *consumer,
                     const rd_kafka_topic_partition_list_t *partitions)
{
    capture_member(consumer);
    take_list(consumer, partitions);
    /* librdkafka leaves the revocation out when it had given an empty list before. */
    consumer->tell_revoked |= consumer->owned;
    consumer->tell_assigned = true;
    rd_kafka_topic_partition_list_t *none = rd_kafka_topic_partition_list_new(0);
    mr_kafka_assign(consumer->rk, none);
    rd_kafka_topic_partition_list_destroy(none);
}

static void revoked(struct mr_kafka_consumer *consumer)
{
    if (rd_kafka_assignment_lost(consumer->rk))
        mr_log(MR_WARN,
               "the consumer group %s no longer counts this worker as a member (it was "
               "not heard of for too long): joining again",
               consumer->group);
    mr_kafka_rebalance_forget(consumer);
    consumer->n_assigned = 0;
    consumer->tell_assigned = false;
    consumer->tell_revoked |= consumer->owned;
    mr_kafka_assign(consumer->rk, NULL);
}

void mr_kafka_rebalance(rd_kafka_t *rk, rd_kafka_resp_err_t code,
                        rd_kafka_topic_partition_list_t *partitions, void *opaque)
{
    struct mr_kafka_consumer *consumer = opaque;
    if (code == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS)
        assigned(consumer, partitions);
    else
        revoked(consumer);
    /* The poll around us returns now, so that the worker hears of it before another record. */
    rd_kafka_yield(rk);
}

enum mr_event mr_kafka_rebalance_take(struct mr_kafka_consumer *consumer)
{
    if (consumer->tell_revoked) {
        consumer->tell_revoked = consumer->owned = false;
        return MR_EVENT_REVOKED;
    }
    if (consumer->tell_assigned) {
        consumer->tell_assigned = false;
        consumer->owned = true;
        mr_kafka_contact_made(&consumer->contact);
        return MR_EVENT_ASSIGNED;
    }
    return MR_EVENT_NONE;
}
