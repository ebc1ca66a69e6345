/*
 * halt.c - see halt.h.
 *
 * Any thread; pure. Must not decide anything: claim.c does. Tests: tests/unit/test_stream.c,
 * tests/integration/repair_spec.lua, which runs the commands.
 */
#include "stream/halt.h"

#include <inttypes.h>
#include <stdio.h>

const char *mr_halt_name(const struct mr_delivery *delivery, const struct mr_part *part,
                         char text[256])
{
    snprintf(text, 256, "%s/%" PRId32 " of group %s", part->at.topic, part->at.partition,
             delivery->options.group);
    return text;
}

static const char *command(const struct mr_delivery *delivery, const struct mr_part *part,
                           enum mr_take take, char text[512])
{
    static const char *const words[] = {"ledger", "kafka", "earliest"};
    snprintf(text, 512, "millrace repair %s --topic %s --partition %" PRId32 " --take %s",
             delivery->options.pipeline, part->at.topic, part->at.partition, words[take]);
    return text;
}

static bool halt(const struct mr_delivery *delivery, const struct mr_part *part, const char *what,
                 const char *cure, struct mr_error *err)
{
    char name[256];
    return mr_error_set(
        err, MR_STOP, MR_EXIT_DATA,
        "%s: %s. Nothing was delivered since. Stop all processes of the group, then: "
        "%s",
        mr_halt_name(delivery, part, name), what, cure);
}

bool mr_halt_other_ledger(const struct mr_delivery *delivery, const struct mr_part *part, bool ours,
                          struct mr_error *err)
{
    char cure[900], run[512];
    if (!delivery->store) {
        snprintf(
            cure, sizeof cure,
            "put sinks.postgres back, or, to go on without it from the group's offset, run: %s",
            command(delivery, part, MR_TAKE_KAFKA, run));
        return halt(delivery, part,
                    "the group's offset belongs to a Postgres ledger, and there is no Postgres "
                    "sink in the configuration",
                    cure, err);
    }
    snprintf(cure, sizeof cure,
             "point sinks.postgres.dsn at the database that this group was used with, or, to go on "
             "here from the group's offset, run: %s",
             command(delivery, part, MR_TAKE_KAFKA, run));
    return halt(delivery, part,
                ours ? "the group's offset was committed together with a ledger row that this "
                       "database does not have any more: Postgres lost committed data (a restored "
                       "backup)"
                     : "the group's offset belongs to another database's ledger",
                cure, err);
}

bool mr_halt_moved(const struct mr_delivery *delivery, const struct mr_part *part,
                   int64_t kafka_offset, struct mr_error *err)
{
    char what[300], cure[1100], ledger[512], kafka[512];
    if (kafka_offset < 0)
        snprintf(what, sizeof what,
                 "the group's offset was deleted while the messages of unit %" PRId64
                 " were on their way; the ledger stands at %" PRId64,
                 part->unit, part->position);
    else
        snprintf(what, sizeof what,
                 "the group's offset was set to %" PRId64
                 " from outside; the ledger stands at %" PRId64,
                 kafka_offset, part->position);
    command(delivery, part, MR_TAKE_LEDGER, ledger);
    if (kafka_offset < 0)
        snprintf(cure, sizeof cure, "to go on where the ledger stands, run: %s", ledger);
    else
        snprintf(cure, sizeof cure,
                 "to go on where the ledger stands, run: %s ; to obey the new offset, run: %s",
                 ledger, command(delivery, part, MR_TAKE_KAFKA, kafka));
    return halt(delivery, part, what, cure, err);
}

bool mr_halt_lost_commits(const struct mr_delivery *delivery, const struct mr_part *part,
                          int64_t kafka_unit, struct mr_error *err)
{
    char what[300], cure[700], run[512];
    snprintf(what, sizeof what,
             "Kafka has unit %" PRId64 " but the ledger only %" PRId64
             ": Postgres lost committed rows (a restored backup or a fail-over)",
             kafka_unit, part->unit);
    snprintf(cure, sizeof cure,
             "to go on after what Kafka has, sending nothing twice, run: %s ; the rows that are "
             "missing are named by: millrace audit %s",
             command(delivery, part, MR_TAKE_KAFKA, run), delivery->options.pipeline);
    return halt(delivery, part, what, cure, err);
}

bool mr_halt_no_redo(const struct mr_delivery *delivery, const struct mr_part *part,
                     const char *why, struct mr_error *err)
{
    char what[600], cure[700], run[512];
    snprintf(what, sizeof what,
             "unit %" PRId64 " is decided, but its messages cannot be sent to Kafka: %s",
             part->unit, why);
    snprintf(
        cure, sizeof cure,
        "mend that, or, to go on without them, run: %s ; what is missing is named by: millrace "
        "audit %s",
        command(delivery, part, MR_TAKE_LEDGER, run), delivery->options.pipeline);
    return halt(delivery, part, what, cure, err);
}

bool mr_halt_input_gone(const struct mr_delivery *delivery, const struct mr_part *part, int64_t low,
                        int64_t high, struct mr_error *err)
{
    char what[300], cure[700], run[512];
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
    snprintf(cure, sizeof cure, "to go on at the first message that is there, run: %s",
             command(delivery, part, MR_TAKE_EARLIEST, run));
    return halt(delivery, part, what, cure, err);
}

bool mr_halt_no_transactions(const struct mr_delivery *delivery, struct mr_error *err)
{
    return mr_error_set(err, MR_STOP, MR_EXIT_CONFIG,
                        "the Kafka broker of group %s accepts offsets that are sent with a "
                        "transaction and throws them away (librdkafka's mock cluster does that): "
                        "delivery = \"exactly_once\" is not possible with it; use Apache Kafka, or "
                        "delivery = \"at_least_once\"",
                        delivery->options.group);
}
