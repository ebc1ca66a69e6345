/*
 * repair.c - `millrace repair`: sets where a halted partition goes on, in Kafka and in the ledger,
 * so that the two agree again.
 *
 * Main thread. The one place outside a claim that writes both. The order: the ledger row is locked,
 * so that no process can claim it; Kafka's offset is written, which the broker refuses while the
 * group has members; then the ledger is committed. Whoever dies in between leaves a halt that the
 * same command resolves. Which of the two is right is for the caller to say: the halt's sentence
 * (core/stream/halt.c) names the command. Tests: tests/spec/cli_spec.lua, with services
 * tests/integration/repair_spec.lua.
 */
#include "cli/cli.h"

#include "cli/settings.h"
#include "kafka/kafka.h"
#include "postgres/postgres.h"
#include "stream/mark.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { ASK_MS = 10000 };
enum take { TAKE_LEDGER, TAKE_KAFKA, TAKE_EARLIEST };

struct repair {
    const struct mr_cli_args *args;
    const char *group, *dsn; /* dsn NULL: Kafka alone */
    enum take take;
    struct mr_kafka_property *properties;
    size_t n_properties;
};

/* One partition: what there is, and what is to be. */
struct place {
    struct mr_partition at;
    struct mr_postgres_repair *row; /* NULL: no database */
    struct mr_postgres_repair_state ledger;
    struct mr_committed committed;
    enum mr_mark_kind kind;
    struct mr_mark_text mark;
    struct mr_buf mark_job;
    int64_t low, high;
    int64_t unit, next_offset;
};

/* --- one partition --- */

static bool look(const struct repair *repair, struct place *place, struct mr_error *err)
{
    if (repair->dsn && !mr_postgres_repair_open(repair->dsn, repair->group, &place->at, &place->row,
                                                &place->ledger, err))
        return false;
    if (place->ledger.owner_connected && !repair->args->print)
        return mr_error_set(err, MR_RETRY, MR_EXIT_TRY_AGAIN,
                            "\"%s\" is running: stop all processes of group %s first",
                            place->ledger.owner, repair->group);
    if (!mr_kafka_group_offsets(repair->properties, repair->n_properties, repair->group, &place->at,
                                ASK_MS, &place->committed, &place->low, &place->high, err))
        return false;
    place->kind =
        mr_mark_read(&place->committed, repair->dsn ? place->ledger.ledger_id : MR_NO_LEDGER,
                     &place->mark, &place->mark_job);
    return true;
}

static bool refuse(const char *what, struct mr_error *err)
{
    return mr_error_set(err, MR_STOP, MR_EXIT_DATA, "%s", what);
}

/* Fills unit and next_offset. */
static bool decide(const struct repair *repair, struct place *place, struct mr_error *err)
{
    bool ours = place->kind == MR_MARK_OURS;
    place->unit = repair->dsn ? place->ledger.unit : ours ? place->mark.unit : 0;
    switch (repair->take) {
    case TAKE_LEDGER:
        place->next_offset = place->ledger.next_offset;
        if (!repair->dsn)
            return refuse("there is no ledger: the pipeline has no Postgres sink; take kafka or "
                          "earliest",
                          err);
        return place->next_offset >= 0 ||
               refuse("the ledger has no position; take kafka or earliest", err);
    case TAKE_KAFKA:
        place->next_offset = place->committed.offset;
        /* Not ours: a number of its own, so that to die between Kafka and the ledger is seen. */
        if (ours)
            place->unit = place->mark.unit;
        else if (repair->dsn)
            place->unit = place->ledger.unit + 1;
        return place->committed.present ||
               refuse("the group has no committed offset in Kafka; take ledger or earliest", err);
    case TAKE_EARLIEST:
        break;
    }
    place->next_offset = place->low;
    return true;
}

static void show_ledger(const struct repair *repair, const struct place *place)
{
    const struct mr_postgres_repair_state *ledger = &place->ledger;
    bool moves = ledger->next_offset != place->next_offset;
    if (ledger->next_offset < 0)
        printf("  ledger: no position");
    else
        printf("  ledger: offset %" PRId64 ", unit %" PRId64, ledger->next_offset, ledger->unit);
    printf(" -> offset %" PRId64 ", unit %" PRId64 "\n", place->next_offset, place->unit);
    if (ledger->has_job && moves)
        printf("          the fan-out in progress ends: who has not got its message gets none\n");
    if (repair->take == TAKE_KAFKA && place->mark.has_job)
        printf("          the fan-out in progress goes on after what Kafka has of it\n");
    else if (place->kind == MR_MARK_OURS && place->unit > ledger->unit && !moves)
        printf("          what units %" PRId64 " to %" PRId64
               " sent of the fan-out in progress is sent again: its place is too long for Kafka\n",
               ledger->unit + 1, place->unit);
    if (ledger->has_redo && !(place->kind == MR_MARK_OURS && place->mark.unit == ledger->unit))
        printf("          the messages of unit %" PRId64
               " that were kept to be sent again are forgotten: `millrace audit` tells whether "
               "Kafka has them\n",
               ledger->unit);
}

static void show(const struct repair *repair, const struct place *place)
{
    printf("%s/%" PRId32 " of group %s, offsets %" PRId64 " to %" PRId64 "\n", place->at.topic,
           place->at.partition, repair->group, place->low, place->high);
    if (repair->dsn)
        show_ledger(repair, place);
    if (!place->committed.present)
        printf("  Kafka:  no offset");
    else
        printf("  Kafka:  offset %" PRId64, place->committed.offset);
    switch (place->kind) {
    case MR_MARK_OURS:
        if (repair->dsn)
            printf(", unit %" PRId64, place->mark.unit);
        break;
    case MR_MARK_FOREIGN:
        printf(", of another ledger");
        break;
    case MR_MARK_PLAIN:
        printf(", set from outside");
        break;
    case MR_MARK_ABSENT:
        break;
    }
    printf(" -> offset %" PRId64, place->next_offset);
    if (repair->dsn)
        printf(", unit %" PRId64, place->unit);
    putchar('\n');
}

/* Kafka between the lock and the commit. */
static bool carry_out(const struct repair *repair, struct place *place, struct mr_error *err)
{
    struct mr_mark *mark = mr_calloc(1, sizeof *mark);
    *mark = (struct mr_mark){.at = place->at, .next_offset = place->next_offset};
    /* What Kafka knows of a fan-out in progress goes on with its offset. */
    const struct mr_job_state *job = place->mark.has_job &&
                                             place->next_offset == place->committed.offset &&
                                             (repair->take == TAKE_KAFKA || !repair->dsn)
                                         ? &place->mark.job
                                         : NULL;
    const char *id = repair->dsn ? place->ledger.ledger_id : MR_NO_LEDGER;
    bool ok = mr_mark_format(mark->metadata, id, place->unit, 0, job) ||
              (repair->dsn && mr_mark_format(mark->metadata, id, place->unit, 0, NULL));
    mr_assert(ok);
    ok = (!place->row ||
          mr_postgres_repair_set(place->row, place->unit, place->next_offset, job, err)) &&
         mr_kafka_group_set_offsets(repair->properties, repair->n_properties, repair->group, mark,
                                    1, ASK_MS, err) &&
         (!place->row || mr_postgres_repair_commit(place->row, err));
    free(mark);
    return ok;
}

static int repair_one(const struct repair *repair, const char *topic, int32_t partition)
{
    struct mr_error err = {0};
    struct place *place = mr_calloc(1, sizeof *place);
    place->at = (struct mr_partition){topic, partition};
    bool ok = look(repair, place, &err) && decide(repair, place, &err);
    if (ok) {
        show(repair, place);
        ok = repair->args->print || carry_out(repair, place, &err);
    }
    mr_postgres_repair_close(place->row);
    mr_buf_fini(&place->mark_job);
    free(place);
    if (!ok)
        fprintf(stderr, "millrace repair: %s/%" PRId32 ": %s\n", topic, partition, err.msg);
    return ok ? MR_EXIT_OK : err.code;
}

/* --- which --- */

static int usage(const char *text)
{
    fprintf(stderr, "millrace repair: %s (millrace help repair)\n", text);
    return MR_EXIT_USAGE;
}

static int read_take(const char *text, enum take *take)
{
    static const char *const words[] = {"ledger", "kafka", "earliest"};
    for (int i = 0; text && i < 3; i++)
        if (strcmp(text, words[i]) == 0) {
            *take = (enum take)i;
            return MR_EXIT_OK;
        }
    return usage("--take: expected ledger, kafka or earliest: which of the places is right?");
}

static int check_usage(const struct mr_cli_args *args, const struct mr_names *topics)
{
    if (args->all == (args->partition >= 0))
        return usage("which partitions? Expected --partition N, or --all");
    for (size_t i = 0; args->topic && i < topics->n; i++)
        if (strcmp(args->topic, topics->items[i]) == 0)
            return MR_EXIT_OK;
    if (args->topic)
        return usage("--topic: the pipeline reads no such topic");
    if (!args->all && topics->n > 1)
        return usage("which topic? The pipeline reads several: expected --topic T");
    return MR_EXIT_OK;
}

/* One that fails does not keep the others from being repaired. */
static int repair_topic(const struct repair *repair, const char *topic)
{
    struct mr_error err = {0};
    int32_t n = 0;
    int code = MR_EXIT_OK;
    if (!mr_kafka_partitions(repair->properties, repair->n_properties, topic, ASK_MS, &n, &err)) {
        fprintf(stderr, "millrace repair: %s\n", err.msg);
        return err.code;
    }
    if (!repair->args->all && repair->args->partition >= n) {
        fprintf(stderr, "millrace repair: topic %s has the partitions 0 to %" PRId32 "\n", topic,
                n - 1);
        return MR_EXIT_USAGE;
    }
    for (int32_t i = 0; i < n; i++) {
        int one = repair->args->all || i == repair->args->partition ? repair_one(repair, topic, i)
                                                                    : MR_EXIT_OK;
        code = one ? one : code;
    }
    return code;
}

static int repair_pipeline(const struct mr_cli_args *args, const struct mr_node *node)
{
    struct repair repair = {
        .args = args,
        .group = mr_node_text(node, "source.group"),
        .dsn = mr_node_text(node, "sinks.postgres.dsn"),
    };
    struct mr_names topics = mr_settings_names(mr_node_at(node, "source.topics"));
    int code = read_take(args->take, &repair.take);
    if (!code)
        code = check_usage(args, &topics);
    if (!code) {
        repair.properties =
            mr_settings_properties(mr_node_at(node, "source.kafka"), &repair.n_properties);
        for (size_t i = 0; i < topics.n; i++)
            if (!args->topic || strcmp(args->topic, topics.items[i]) == 0) {
                int one = repair_topic(&repair, topics.items[i]);
                code = one ? one : code;
            }
        free(repair.properties);
        if (!code)
            fputs(args->print ? "nothing was changed (--print)\n" : "done: start it again\n",
                  stderr);
    }
    free(topics.items);
    return code;
}

int mr_cli_repair(const struct mr_cli_args *args)
{
    struct mr_node *config = NULL;
    if (!mr_cli_load(args, &config))
        return MR_EXIT_CONFIG;
    const struct mr_node *node = mr_cli_pipeline(args, config, "repair", NULL);
    int code = node ? repair_pipeline(args, node) : MR_EXIT_USAGE;
    mr_node_free(config);
    return code;
}
