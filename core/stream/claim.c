/*
 * claim.c - the one recovery routine: what was decided, what reached Kafka, where to go on.
 *
 * One worker thread. Used at start, at assign and after every serious error. Never runs Lua, reads
 * the lookup or looks at the clock. The order is essential (INVARIANTS.md): the ledger row is
 * fenced before Kafka is read, or an earlier owner could commit in both between the two steps.
 * Tests: tests/unit/test_stream.c, tests/integration.
 */
#include "base/log.h"
#include "stream/delivery.h"
#include "stream/mark.h"

#include <inttypes.h>
#include <stdio.h>

/* "topic_in/3 of group millrace-promo", for sentences. */
static const char *name_of(const struct mr_delivery *delivery, const struct mr_part *part,
                           char text[256])
{
    snprintf(text, 256, "%s/%" PRId32 " of group %s", part->at.topic, part->at.partition,
             delivery->options.group);
    return text;
}

static bool halt(struct mr_error *err, const char *name, const char *what, const char *cure)
{
    return mr_error_set(err, MR_STOP, MR_EXIT_DATA, "%s: %s. Nothing was delivered since. %s", name,
                        what, cure);
}

/* Where a group that has never been here begins. */
static void first_offset(struct mr_delivery *delivery, const struct mr_part *part, int64_t low,
                         int64_t high, const struct mr_committed *committed, int64_t *offset)
{
    char name[256];
    if (committed->present) {
        *offset = committed->offset;
        mr_log(MR_INFO, "%s: going on at the group's committed offset %" PRId64,
               name_of(delivery, part, name), *offset);
    } else {
        *offset = delivery->options.start == MR_START_EARLIEST ? low : high;
        mr_log(MR_INFO, "%s: a new group starts at the %s message, offset %" PRId64,
               name_of(delivery, part, name),
               delivery->options.start == MR_START_EARLIEST ? "earliest" : "latest", *offset);
    }
}

/* The ledger has nothing yet: its first position is written before anything is read. */
static bool adopt(struct mr_delivery *delivery, struct mr_part *part, int64_t low, int64_t high,
                  const struct mr_committed *committed, enum mr_mark_kind kind,
                  struct mr_error *err)
{
    char name[256];
    name_of(delivery, part, name);
    if (kind == MR_MARK_FOREIGN || kind == MR_MARK_OURS)
        return halt(err, name,
                    "the group's offset was committed together with a ledger row that this "
                    "database does not have (another database, or a restored backup)",
                    "Point sinks.postgres.dsn at the database that this group was used with, or "
                    "give source.group a new name");
    first_offset(delivery, part, low, high, committed, &part->position);
    struct mr_store *store = delivery->store;
    struct mr_advance step = {.at = part->at, .epoch = part->epoch, .next_offset = part->position};
    if (store) {
        if (!store->ops->begin(store, &step, 1, err)) {
            store->ops->rollback(store);
            return false;
        }
        if (store->ops->commit(store, err) != MR_DECIDED) {
            store->ops->rollback(store);
            return mr_error_context(err, "%s: writing the first position", name);
        }
    }
    part->unit = 0;
    return true;
}

/* The ledger knows this partition: does Kafka agree, give or take the last unit's offset? */
static bool compare(struct mr_delivery *delivery, struct mr_part *part, int64_t kafka_unit,
                    enum mr_mark_kind kind, struct mr_error *err)
{
    char name[256], what[300];
    name_of(delivery, part, name);
    const char *use_ledger =
        "To go on where the ledger stands, delete the group's offsets for this topic "
        "(kafka-consumer-groups --delete-offsets)";
    switch (kind) {
    case MR_MARK_FOREIGN:
        return halt(err, name, "the group's offset belongs to another database's ledger",
                    "Point sinks.postgres.dsn at the database that this group was used with, or "
                    "give source.group a new name");
    case MR_MARK_PLAIN:
        snprintf(what, sizeof what,
                 "the group's offset was changed by another program; the ledger stands at %" PRId64,
                 part->position);
        return halt(err, name, what, use_ledger);
    case MR_MARK_OURS:
        if (kafka_unit > part->unit) {
            snprintf(what, sizeof what,
                     "Kafka has unit %" PRId64 " but the ledger only %" PRId64
                     ": Postgres lost committed rows (a restored backup or a fail-over)",
                     kafka_unit, part->unit);
            return halt(err, name, what,
                        "Compare the feedback table with the topic before anything else; then "
                        "delete the group's offsets for this topic "
                        "(kafka-consumer-groups --delete-offsets) to send what is missing again");
        }
        if (kafka_unit < part->unit - 1) {
            snprintf(what, sizeof what,
                     "the ledger has unit %" PRId64 " but Kafka's offset says %" PRId64
                     ": the offsets were reset from outside",
                     part->unit, kafka_unit);
            return halt(err, name, what, use_ledger);
        }
        break;
    case MR_MARK_ABSENT:
        break;
    }
    return true;
}

/* In at_least_once the messages were acknowledged before COMMIT: only the offset can be missing. */
static bool mark_again(struct mr_delivery *delivery, struct mr_part *part, struct mr_error *err)
{
    struct mr_mark mark = {.at = part->at, .next_offset = part->position};
    mr_mark_format(mark.metadata, delivery->store->ops->ledger_id(delivery->store), part->unit);
    if (!delivery->source->ops->commit(delivery->source, &mark, 1, err))
        return mr_error_context(err, "bringing the offset of unit %" PRId64 " to Kafka",
                                part->unit);
    mr_metric_add(delivery->counters.marks_again, 1);
    return true;
}

/* The position must still exist in the topic. */
static bool check_input(struct mr_delivery *delivery, const struct mr_part *part, int64_t low,
                        int64_t high, struct mr_error *err)
{
    char name[256], what[300], cure[700];
    name_of(delivery, part, name);
    if (part->position >= low && part->position <= high)
        return true;
    if (part->position < low)
        snprintf(what, sizeof what,
                 "messages %" PRId64 " to %" PRId64
                 " were deleted by retention before they were read",
                 part->position, low - 1);
    else
        snprintf(what, sizeof what,
                 "the group stands at %" PRId64 " but the topic ends at %" PRId64
                 ": it was deleted and made again",
                 part->position, high);
    if (!delivery->store)
        return halt(err, name, what,
                    "To accept that, set the group's offset with kafka-consumer-groups "
                    "--reset-offsets while Millrace is stopped");
    if (part->position > high)
        return halt(err, name, what,
                    "To begin anew: delete from millrace_ledger where topic is this topic, and "
                    "delete the group's offsets (kafka-consumer-groups --delete-offsets)");
    /* A fan-out that was in progress belonged to a message that is gone. */
    snprintf(cure, sizeof cure,
             "To accept the loss, start again after this in psql: update millrace_ledger set "
             "next_offset = %" PRId64 ", job_keys = null, job_cursor = null, job_trigger_ms = null "
             "where grp = '%s' and topic = '%s' and part = %" PRId32,
             low, delivery->options.group, part->at.topic, part->at.partition);
    return halt(err, name, what, cure);
}

bool mr_delivery_claim(struct mr_delivery *delivery, struct mr_part *part, struct mr_error *err)
{
    struct mr_store *store = delivery->store;
    struct mr_source *source = delivery->source;
    int timeout_ms = delivery->options.claim_timeout_ms;
    struct mr_claim claim = {.next_offset = -1};
    struct mr_committed committed = {0};
    int64_t low = 0, high = 0, kafka_unit = 0;

    part->claimed = false;
    /* Fence first: nobody before us can decide anything from here on. */
    if (store && !store->ops->claim(store, &part->at, part->epoch, &claim, err))
        return false;
    if (store && claim.mode[0] && strcmp(claim.mode, MR_MODE_AT_LEAST_ONCE) != 0)
        return mr_error_set(err, MR_STOP, MR_EXIT_CONFIG,
                            "the ledger was last used with delivery = \"%s\", which this version "
                            "cannot recover: use the version that wrote it",
                            claim.mode);
    part->epoch = claim.epoch;
    part->unit = claim.unit;
    part->position = claim.next_offset;
    mr_part_set_job(part, claim.has_job ? &claim.job : NULL);

    if (!source->ops->committed(source, &part->at, timeout_ms, &committed, err) ||
        !source->ops->watermarks(source, &part->at, timeout_ms, &low, &high, err))
        return false;
    const char *ledger_id = store ? store->ops->ledger_id(store) : "00000000";
    enum mr_mark_kind kind = mr_mark_read(&committed, ledger_id, &kafka_unit);

    if (!store) {
        part->unit = kafka_unit;
        first_offset(delivery, part, low, high, &committed, &part->position);
    } else if (part->position < 0) {
        if (!adopt(delivery, part, low, high, &committed, kind, err))
            return false;
        kind = MR_MARK_ABSENT;
        kafka_unit = 0;
    } else if (!compare(delivery, part, kafka_unit, kind, err)) {
        return false;
    }
    if (!check_input(delivery, part, low, high, err))
        return false;
    if (store && (kind != MR_MARK_OURS || kafka_unit != part->unit) &&
        !mark_again(delivery, part, err))
        return false;
    part->decided = part->position;
    part->marked_offset =
        committed.present && kafka_unit == part->unit ? committed.offset : part->position;
    part->dropped = 0;
    part->claimed = true;
    mr_metric_add(delivery->counters.claims, 1);
    return true;
}
