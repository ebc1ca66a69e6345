/*
 * broker.c - the simulated brokers: input, output, committed offsets, transactions.
 *
 * One thread. A transaction belongs to a transactional id; its messages and offsets wait there
 * until it ends. init_transactions aborts it and raises the epoch, after which nothing of an
 * earlier producer counts. An EndTxn may be on its way for long: it ends whatever transaction of
 * that epoch is open when it arrives (rule R6 of the design). Must not know units.
 */
#include "sim.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { TXN_TIMEOUT_US = 60 * SECOND };

bool sim_broker_down(void)
{
    return sim.now_us < sim.broker_down_us;
}

void sim_outputs_add(struct sim_outputs *to, const struct sim_output *output)
{
    if (to->n == to->cap) {
        to->cap = to->cap ? to->cap * 2 : 32;
        to->items = mr_realloc(to->items, to->cap * sizeof *to->items);
    }
    to->items[to->n++] = *output;
}

void sim_outputs_move(struct sim_outputs *to, struct sim_outputs *from)
{
    for (size_t i = 0; i < from->n; i++)
        sim_outputs_add(to, &from->items[i]);
    from->n = 0;
}

void sim_letters_add(struct sim_letters *to, int id, struct mr_bytes class_)
{
    if (to->n == to->cap) {
        to->cap = to->cap ? to->cap * 2 : 8;
        to->items = mr_realloc(to->items, to->cap * sizeof *to->items);
    }
    to->items[to->n].id = id;
    snprintf(to->items[to->n++].class_, sizeof to->items->class_, "%.*s", (int)class_.len,
             class_.ptr);
}

void sim_letters_move(struct sim_letters *to, struct sim_letters *from)
{
    for (size_t i = 0; i < from->n; i++)
        sim_letters_add(to, from->items[i].id, mr_bytes_of(from->items[i].class_));
    from->n = 0;
}

int64_t sim_input_high(int partition)
{
    int64_t n = 0;
    while (n < sim.n_input[partition] && sim.input[partition][n].arrives_us <= sim.now_us)
        n++;
    return n;
}

/* --- offsets --- */

static int64_t mark_unit(const char *metadata)
{
    long long unit;
    return sscanf(metadata, "mr1;l=%*8[0-9a-f];u=%lld", &unit) == 1 ? unit : -1;
}

void sim_offset_set(struct sim_offset *offset, int64_t next_offset, const char *metadata)
{
    free(offset->metadata);
    *offset = (struct sim_offset){.present = true,
                                  .offset = next_offset,
                                  .unit = mark_unit(metadata),
                                  .metadata = mr_strdup(metadata)};
}

static void offset_clear(struct sim_offset *offset)
{
    free(offset->metadata);
    *offset = (struct sim_offset){0};
}

void sim_offset_apply(int partition, int64_t next_offset, const char *metadata)
{
    struct sim_offset *offset = &sim.offsets[partition];
    int64_t before = offset->present ? offset->offset : 0;
    sim_offset_set(offset, next_offset, metadata);
    sim_trace(NULL, "offset of %d is %" PRId64 " \"%s\"", partition, next_offset, metadata);
    sim_counts.marks++;
    if (next_offset < before)
        sim_fail(SIM_STATE,
                 "the group's offset of partition %d went back from %" PRId64 " to %" PRId64,
                 partition, before, next_offset);
    sim_check_offsets(partition);
}

bool sim_offset_unstable(int partition)
{
    for (int i = 0; i < SIM_SLOTS; i++)
        if (sim.txns[i].open && sim.txns[i].pending[partition].present)
            return true;
    return false;
}

/* --- transactions --- */

struct sim_txn *sim_txn_of(const char *name)
{
    struct sim_txn *txn = sim.txns;
    while (txn->name[0] && strcmp(txn->name, name) != 0)
        txn++;
    mr_assert(txn < sim.txns + SIM_SLOTS);
    snprintf(txn->name, sizeof txn->name, "%s", name);
    return txn;
}

void sim_txn_end(struct sim_txn *txn, bool commit)
{
    if (!txn->open)
        return;
    txn->open = false;
    sim_trace(NULL, "transaction of %s %s: %zu messages", txn->name,
              commit ? "committed" : "aborted", txn->messages.n);
    if (commit) {
        sim_outputs_move(&sim.visible, &txn->messages);
        sim_letters_move(&sim.dead_topic, &txn->letters);
    }
    txn->messages.n = txn->letters.n = 0;
    for (int p = 0; p < SIM_PARTS; p++)
        if (txn->pending[p].present) {
            struct sim_offset pending = txn->pending[p];
            txn->pending[p] = (struct sim_offset){0};
            if (commit)
                sim_offset_apply(p, pending.offset, pending.metadata);
            free(pending.metadata);
        }
}

int sim_txn_fence(struct sim_txn *txn)
{
    sim_txn_end(txn, false);
    return ++txn->epoch;
}

void sim_txn_end_later(struct sim_txn *txn, int64_t at_us)
{
    size_t n = sizeof sim.ghosts / sizeof *sim.ghosts;
    for (size_t i = 0; i < n; i++)
        if (!sim.ghosts[i].txn) {
            sim.ghosts[i] = (struct sim_ghost){at_us, txn, txn->epoch};
            sim_event_at(at_us);
            return;
        }
}

void sim_broker_tick(void)
{
    for (size_t i = 0; i < sizeof sim.ghosts / sizeof *sim.ghosts; i++) {
        struct sim_ghost *ghost = &sim.ghosts[i];
        if (!ghost->txn)
            continue;
        if (ghost->at_us > sim.now_us) {
            sim_event_at(ghost->at_us);
            continue;
        }
        sim_trace(NULL, "a late EndTxn of %s arrives", ghost->txn->name);
        if (ghost->epoch == ghost->txn->epoch && ghost->txn->open) {
            sim_counts.ghosts++;
            sim_txn_end(ghost->txn, true);
        }
        ghost->txn = NULL;
    }
    for (int i = 0; i < SIM_SLOTS; i++) {
        struct sim_txn *txn = &sim.txns[i];
        if (!txn->open)
            continue;
        if (txn->since_us + TXN_TIMEOUT_US <= sim.now_us) {
            sim_counts.txn_timeouts++;
            sim_txn_fence(txn);
        } else {
            sim_event_at(txn->since_us + TXN_TIMEOUT_US);
        }
    }
    for (int p = 0; p < sim.n_parts; p++) {
        int64_t high = sim_input_high(p);
        if (high < sim.n_input[p])
            sim_event_at(sim.input[p][high].arrives_us);
    }
}

void sim_broker_free(void)
{
    for (int p = 0; p < SIM_PARTS; p++) {
        offset_clear(&sim.offsets[p]);
        free(sim.input[p]);
    }
    for (int i = 0; i < SIM_SLOTS; i++) {
        for (int p = 0; p < SIM_PARTS; p++)
            offset_clear(&sim.txns[i].pending[p]);
        free(sim.txns[i].messages.items);
        free(sim.txns[i].letters.items);
    }
    free(sim.visible.items);
    free(sim.dead_topic.items);
}
