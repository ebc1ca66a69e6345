/*
 * check.c - what must hold: at any moment, and when everything has come to rest.
 *
 * At rest both sinks are compared with the input, message by message: each subscriber that was in
 * every version of the lookup once, nobody twice, one trigger time a message, dead letters once. In
 * at_least_once the rows are exact, and each row's message is there at least once. One thread; only
 * reads.
 */
#include "sim.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { DEVICES = 2 };

/* What became of one source message. */
struct result {
    unsigned char sent[SIM_CLIENTS][DEVICES], rows[SIM_CLIENTS][DEVICES];
    int n_sent, n_rows, dead;
    bool two_triggers; /* among the rows, or, if they are to be exact, the messages */
    int64_t trigger_ms;
    char class_[16];
};

static struct result results[SIM_MESSAGES];

void sim_check_offsets(int partition)
{
    const struct sim_ledger *ledger = &sim.ledger[partition];
    const struct sim_offset *offset = &sim.offsets[partition];
    if (!sim.mix->store || !offset->present || offset->unit < 0)
        return;
    int64_t behind = ledger->unit - offset->unit;
    if (!ledger->there || behind < 0 || behind > 1)
        sim_fail(SIM_STATE,
                 "partition %d: the ledger has unit %" PRId64 ", Kafka's mark unit %" PRId64,
                 partition, ledger->unit, offset->unit);
    else if (offset->offset > ledger->next_offset)
        sim_fail(SIM_STATE,
                 "partition %d: Kafka's offset %" PRId64 " is ahead of the ledger's %" PRId64,
                 partition, offset->offset, ledger->next_offset);
}

/* The first offset behind all records; control records may follow. */
static int64_t end_of(int partition)
{
    int64_t end = sim.n_input[partition];
    while (end > 0 && sim.input[partition][end - 1].id < 0)
        end--;
    return end;
}

static bool is_done(int partition)
{
    const struct sim_offset *offset = &sim.offsets[partition];
    const struct sim_ledger *ledger = &sim.ledger[partition];
    int64_t end = end_of(partition);
    if (sim.mix->store)
        return ledger->there && ledger->next_offset >= end && !ledger->job.present &&
               (!offset->present || offset->unit < 0 || offset->unit == ledger->unit);
    return offset->present ? offset->offset >= end && !strstr(offset->metadata, ";k=") : !end;
}

bool sim_settled(void)
{
    for (int p = 0; p < sim.n_parts; p++)
        if (sim_input_high(p) < sim.n_input[p] || sim_offset_unstable(p) || !is_done(p))
            return false;
    return true;
}

static void note_trigger(struct result *result, int64_t trigger_ms)
{
    result->two_triggers |= result->trigger_ms && result->trigger_ms != trigger_ms;
    result->trigger_ms = trigger_ms;
}

static bool exact_messages(void)
{
    return sim.mix->sink && !sim.had_at_least_once;
}

static void collect(void)
{
    memset(results, 0, (size_t)sim.n_messages * sizeof *results);
    for (size_t i = 0; i < sim.visible.n; i++) {
        const struct sim_output *output = &sim.visible.items[i];
        struct result *result = &results[output->id];
        unsigned char *n = &result->sent[output->client][output->device];
        *n = (unsigned char)(*n + (*n < 255));
        result->n_sent++;
        if (exact_messages())
            note_trigger(result, output->trigger_ms);
    }
    for (size_t i = 0; i < sim.rows.n; i++) {
        const struct sim_output *output = &sim.rows.items[i];
        struct result *result = &results[output->id];
        unsigned char *n = &result->rows[output->client][output->device];
        *n = (unsigned char)(*n + (*n < 255));
        result->n_rows++;
        note_trigger(result, output->trigger_ms);
    }
    const struct sim_letters *letters[] = {&sim.dead_table, &sim.dead_topic};
    for (int l = 0; l < 2; l++)
        for (size_t i = 0; i < letters[l]->n; i++) {
            struct result *result = &results[letters[l]->items[i].id];
            result->dead++;
            memcpy(result->class_, letters[l]->items[i].class_, sizeof result->class_);
        }
}

static void blame(int id, const char *what)
{
    static const char *const kinds[SIM_KINDS] = {[SIM_PLAIN] = "plain",
                                                 [SIM_DROP] = "dropped",
                                                 [SIM_BAD] = "bad",
                                                 [SIM_ENDS] = "ending",
                                                 [SIM_POISON] = "poison",
                                                 [SIM_POISON_LATE] = "poison at the check",
                                                 [SIM_POISON_LAST] = "poison at COMMIT",
                                                 [SIM_UNSENDABLE] = "unsendable",
                                                 [SIM_KILLER] = "killer"};
    const struct sim_message *message = &sim.messages[id];
    const struct result *result = &results[id];
    sim_fail(SIM_OUTCOME,
             "message %d (\"%s\", %s, %d@%" PRId64 "): %s; %d messages, %d rows, %d dead letters "
             "(%s)",
             id, message->text, kinds[message->kind], message->partition, message->offset, what,
             result->n_sent, result->n_rows, result->dead, result->class_);
}

/* Whoever it was in each table got it. */
static bool is_complete(const struct sim_message *message, const struct result *result)
{
    for (int c = 0; c < sim_clients_of(message->key); c++)
        for (int d = 0; d < sim_devices_of(message->key, c); d++)
            if (sim_client_stays(message->key, c) &&
                ((sim.mix->store && !result->rows[c][d]) || (sim.mix->sink && !result->sent[c][d])))
                return false;
    return true;
}

static const char *compare_sinks(const struct result *result)
{
    for (int c = 0; c < SIM_CLIENTS; c++)
        for (int d = 0; d < DEVICES; d++) {
            int sent = result->sent[c][d], rows = result->rows[c][d];
            if (rows > 1)
                return "a row is there twice";
            if (exact_messages() && sent > 1)
                return "a message is there twice";
            if (sim.mix->store && sim.mix->sink && rows && !sent)
                return "a row without its message";
            if (sim.mix->store && exact_messages() && sent && !rows)
                return "a message without its row";
        }
    return result->two_triggers ? "two trigger times" : NULL;
}

/* So many processes were lost over it that it may be taken for what kills them. */
static bool is_suspect(const struct sim_message *message, const struct result *result)
{
    enum { CRASH_LOOP_AT = 6 };
    return message->deaths >= CRASH_LOOP_AT && strcmp(result->class_, "crash_loop") == 0;
}

static bool has_subscribers(const struct sim_message *message)
{
    return sim_clients_of(message->key) > 0;
}

/* How many dead letters there must be: from *least to *most. */
static void expect_dead(const struct sim_message *message, int *least, int *most)
{
    bool refused = message->kind == SIM_UNSENDABLE || message->kind == SIM_POISON ||
                   message->kind == SIM_POISON_LATE || message->kind == SIM_POISON_LAST;
    *least = *most = message->kind == SIM_BAD || message->kind == SIM_KILLER;
    if (refused && has_subscribers(message)) {
        *most = 1;
        *least = message->victim < 0 || sim_client_stays(message->key, message->victim);
    }
    if (*most && sim.dead_to_topic && sim.had_at_least_once)
        *most = 255;
}

static void check_message(int id)
{
    const struct sim_message *message = &sim.messages[id];
    const struct result *result = &results[id];
    int least, most;
    const char *wrong = compare_sinks(result);
    expect_dead(message, &least, &most);
    if (is_suspect(message, result))
        most = most ? most : 1;
    if (wrong)
        blame(id, wrong);
    else if (result->dead < least || result->dead > most)
        blame(id, "not the dead letters there should be");
    else if ((message->kind == SIM_DROP || message->kind == SIM_BAD ||
              message->kind == SIM_KILLER || !has_subscribers(message)) &&
             result->n_rows + result->n_sent)
        blame(id, "outputs of a message that has none");
    else if (!result->dead && message->kind != SIM_DROP && message->kind != SIM_ENDS &&
             !is_complete(message, result))
        blame(id, "a subscriber is missing");
    else if (message->kind == SIM_KILLER && strcmp(result->class_, "crash_loop") != 0)
        blame(id, "not of class crash_loop");
    if (message->kind == SIM_KILLER && result->dead)
        sim_counts.crash_loops++;
    sim_counts.dead += (uint64_t)result->dead;
}

void sim_check_end(void)
{
    collect();
    for (int id = 0; id < sim.n_messages; id++)
        check_message(id);
    for (int p = 0; p < sim.n_parts; p++) {
        const struct sim_ledger *ledger = &sim.ledger[p];
        const struct sim_offset *offset = &sim.offsets[p];
        sim_check_offsets(p);
        if (!is_done(p))
            sim_fail(SIM_STATE, "partition %d is not at its end", p);
        else if (ledger->n_redos > 1 || (ledger->n_redos && ledger->redos[0].unit != ledger->unit))
            sim_fail(SIM_STATE, "partition %d: %zu redos are left", p, ledger->n_redos);
        else if (sim.mix->store && offset->present && offset->unit >= 0 &&
                 offset->unit != ledger->unit)
            sim_fail(SIM_STATE,
                     "partition %d: Kafka's mark is unit %" PRId64 ", the ledger's %" PRId64, p,
                     offset->unit, ledger->unit);
    }
}

void sim_check_tidy(void)
{
    for (int p = 0; p < sim.n_parts; p++) {
        const struct sim_ledger *ledger = &sim.ledger[p];
        const struct sim_offset *offset = &sim.offsets[p];
        if (sim.mix->store && ledger->n_redos)
            sim_fail(SIM_STATE, "partition %d: a redo was left behind", p);
        else if (sim.mix->store && offset->offset != ledger->next_offset)
            sim_fail(SIM_STATE,
                     "partition %d: Kafka's offset is %" PRId64 ", the ledger's %" PRId64, p,
                     offset->offset, ledger->next_offset);
        else if (sim_offset_unstable(p))
            sim_fail(SIM_STATE, "partition %d: a transaction was left open", p);
    }
}
