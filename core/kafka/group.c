/*
 * group.c - a group's committed offsets from outside the group, for `millrace repair`: reading
 * them, and writing them while nobody is in it.
 *
 * The caller's thread, with a consumer of its own that lives for one call and never joins. That the
 * group is empty is the broker's to judge: it refuses a commit without a generation as soon as
 * there is a member. Must not know what the metadata means. Tests:
 * tests/unit/test_kafka_transactions.c.
 */
#include "kafka/visit.h"

#include "base/clock.h"

#include <inttypes.h>
#include <stdio.h>

static bool open_outsider(struct mr_kafka_visit *outsider,
                          const struct mr_kafka_property *properties, size_t n, const char *group,
                          struct mr_error *err)
{
    static const struct mr_kafka_setting defaults[] = {{"client.id", "millrace"}};
    const struct mr_kafka_setting fixed[] = {
        {"allow.auto.create.topics", "false"},
        {"group.id", group},
        {"enable.auto.commit", "false"},
        /* Offsets that a transaction may still change are not told. */
        {"isolation.level", "read_committed"},
    };
    return mr_kafka_visit_open(outsider, RD_KAFKA_CONSUMER, MR_KAFKA_ASK, properties, n, defaults,
                               1, fixed, sizeof fixed / sizeof *fixed, err);
}

/* A person waits for the answer: what a worker would try again ends here. */
static bool failed(struct mr_kafka_visit *outsider, rd_kafka_resp_err_t code, const char *what,
                   const char *topic, struct mr_error *err)
{
    rd_kafka_poll(outsider->rk, 0); /* a login that was refused is told here */
    if (outsider->contact.pending && mr_kafka_contact_take(&outsider->contact, err))
        return false;
    return mr_kafka_contact_fail(&outsider->contact, code, what, topic, NULL, err);
}

static bool fetch(struct mr_kafka_visit *outsider, const char *group, const struct mr_partition *at,
                  int timeout_ms, struct mr_committed *out, struct mr_error *err)
{
    rd_kafka_resp_err_t code = mr_kafka_offsets_fetch(outsider->rk, at, timeout_ms, out);
    if (!code)
        return true;
    char what[640];
    snprintf(what, sizeof what, "committed offset of %s/%" PRId32 " in group %s", at->topic,
             at->partition, group);
    return failed(outsider, code, what, at->topic, err);
}

bool mr_kafka_group_offsets(const struct mr_kafka_property *properties, size_t n_properties,
                            const char *group, const struct mr_partition *at, int timeout_ms,
                            struct mr_committed *committed, int64_t *low, int64_t *high,
                            struct mr_error *err)
{
    struct mr_kafka_visit outsider = {0};
    bool ok = open_outsider(&outsider, properties, n_properties, group, err) &&
              fetch(&outsider, group, at, timeout_ms, committed, err);
    if (ok) {
        rd_kafka_resp_err_t code = rd_kafka_query_watermark_offsets(
            outsider.rk, at->topic, at->partition, low, high, timeout_ms);
        char what[640];
        snprintf(what, sizeof what, "first and last offset of %s/%" PRId32, at->topic,
                 at->partition);
        ok = !code || failed(&outsider, code, what, at->topic, err);
    }
    mr_kafka_visit_close(&outsider);
    return ok;
}

static bool write_offsets(struct mr_kafka_visit *outsider, const char *group,
                          const struct mr_mark *marks, size_t n, int timeout_ms,
                          struct mr_error *err)
{
    rd_kafka_topic_partition_list_t *list = mr_kafka_offsets_list(marks, n, true);
    rd_kafka_resp_err_t code = mr_kafka_offsets_send(outsider->rk, list, timeout_ms);
    rd_kafka_topic_partition_list_destroy(list);
    switch (code) {
    case RD_KAFKA_RESP_ERR_NO_ERROR:
        return true;
    case RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID:
    case RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION:
    case RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS:
    case RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID:
        return mr_error_set(err, MR_STOP, MR_EXIT_TRY_AGAIN,
                            "group %s still has members: stop its processes first (one that was "
                            "killed counts until its session has timed out, 10 s)",
                            group);
    default: {
        char what[640];
        snprintf(what, sizeof what, "writing offsets of group %s", group);
        return failed(outsider, code, what, NULL, err);
    }
    }
}

bool mr_kafka_group_set_offsets(const struct mr_kafka_property *properties, size_t n_properties,
                                const char *group, const struct mr_mark *marks, size_t n,
                                int timeout_ms, struct mr_error *err)
{
    struct mr_kafka_visit outsider = {0};
    bool ok = open_outsider(&outsider, properties, n_properties, group, err) &&
              (!n || write_offsets(&outsider, group, marks, n, timeout_ms, err));
    for (size_t i = 0; ok && i < n; i++) {
        struct mr_committed found;
        ok = fetch(&outsider, group, &marks[i].at, timeout_ms, &found, err);
        if (ok && (found.offset != marks[i].next_offset ||
                   strcmp(found.metadata, marks[i].metadata) != 0))
            ok = mr_error_set(err, MR_STOP, MR_EXIT_DATA,
                              "the offset of %s/%" PRId32 " in group %s reads back as %" PRId64
                              " \"%s\": somebody else is changing it",
                              marks[i].at.topic, marks[i].at.partition, group, found.offset,
                              found.metadata);
    }
    mr_kafka_visit_close(&outsider);
    return ok;
}
