/*
 * claim.c - the one recovery routine: what was decided, what reached Kafka, where to go on.
 *
 * One worker thread. Used at start, at assign and after every serious error. Never runs Lua, reads
 * the lookup or looks at the clock. The order is essential (INVARIANTS.md): the ledger row is
 * fenced before Kafka is read, or an earlier owner could commit in both between the two steps.
 * Read mr_delivery_claim at the end first. Tests: tests/unit/test_stream.c, tests/sim, tests/fault.
 */
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "stream/delivery.h"
#include "stream/halt.h"
#include "stream/mark.h"
#include "stream/redo.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    CAREFUL_FROM = 3,       /* attempts, from which on messages go one by one, */
    CAREFUL_RECORDS = 20000 /* for as many as a unit may have had */
};

/* One partition's claim. */
struct claiming {
    struct mr_delivery *delivery;
    struct mr_part *part;
    struct mr_claim ledger;        /* what the store held */
    struct mr_committed committed; /* what Kafka shows */
    enum mr_mark_kind kind;
    struct mr_mark_text mark;
    struct mr_buf mark_job; /* what mark.job borrows */
    int64_t low, high;      /* of the topic */
    bool borrowed;  /* the sink is transactional only to finish what exactly_once left behind */
    bool confirmed; /* Kafka shows part->unit at part->position */
};

static bool was_exactly_once(const struct claiming *c)
{
    return strcmp(c->ledger.mode, MR_MODE_EXACTLY_ONCE) == 0;
}

/* a: no transaction of ours is open or in doubt. */
static bool fence_ourselves(struct claiming *c, struct mr_error *err)
{
    struct mr_delivery *delivery = c->delivery;
    if (!delivery->sink || delivery->fenced)
        return true;
    if (!delivery->sink->ops->fence(delivery->sink, mr_delivery_transactional(delivery), NULL, err))
        return false;
    delivery->fenced = true;
    mr_fault_point("fenced", "claim");
    return true;
}

/* b: nobody before us can decide anything from here on. */
static bool take_ledger(struct claiming *c, struct mr_error *err)
{
    struct mr_delivery *delivery = c->delivery;
    struct mr_part *part = c->part;
    if (!delivery->store)
        return true;
    if (!delivery->store->ops->claim(delivery->store, &part->at, part->epoch, &c->ledger, err))
        return false;
    part->epoch = c->ledger.epoch;
    part->unit = c->ledger.unit;
    part->position = c->ledger.next_offset;
    part->trying = c->ledger.trying;
    part->attempts = c->ledger.attempts;
    mr_part_set_job(part, c->ledger.has_job ? &c->ledger.job : NULL);
    if (c->ledger.owner[0]) {
        /* Kept until the claim is through: the ledger names us from now on. */
        free(part->owner_before);
        part->owner_before = mr_strdup(c->ledger.owner);
        part->owner_gone = c->ledger.owner_gone;
    }
    mr_fault_point("claimed", "claim");
    /* The mode was changed: what the other one left is finished its way first. */
    if (delivery->sink && !delivery->options.exactly_once && was_exactly_once(c)) {
        c->borrowed = true;
        delivery->fenced = false; /* until it is given back */
        return delivery->sink->ops->fence(delivery->sink, true, NULL, err);
    }
    return true;
}

/*
 * A transaction that the owner before left open keeps the offset from being stable, if it had come
 * that far, and in any case keeps what comes after it in the output topics from readers. One that
 * is gone will not end it; one that is there may be about to, and is left alone unless it blocks us
 * a second time.
 */
static bool end_owner_before(struct claiming *c, struct mr_error *err)
{
    struct mr_delivery *delivery = c->delivery;
    const char *owner = c->part->owner_before;
    if (!delivery->sink || !owner || strcmp(owner, delivery->ended_owner) == 0 ||
        !(delivery->options.exactly_once || c->borrowed))
        return true;
    mr_log(MR_INFO, "ending the transaction that \"%s\" may have left open", owner);
    if (!delivery->sink->ops->fence(delivery->sink, true, owner, err)) {
        if (err->code != MR_EXIT_CONFIG)
            return false;
        /* No right to that name: what is in Kafka is only read when it is stable, so this may
         * take longer, but goes on. */
        mr_log(MR_WARN, "%s; Kafka ends that transaction by itself, when its time is over",
               err->msg);
    }
    snprintf(delivery->ended_owner, sizeof delivery->ended_owner, "%s", owner);
    return true;
}

/* c: what Kafka shows, definitely. */
static bool read_kafka(struct claiming *c, struct mr_error *err)
{
    struct mr_source *source = c->delivery->source;
    const struct mr_partition *at = &c->part->at;
    int timeout_ms = c->delivery->options.claim_timeout_ms;
    if (c->part->owner_gone && !end_owner_before(c, err))
        return false;
    if (!source->ops->committed(source, at, timeout_ms, &c->committed, err) &&
        !(err->action == MR_RETRY && c->part->blocked++ && end_owner_before(c, err) &&
          source->ops->committed(source, at, timeout_ms, &c->committed, err)))
        return false;
    if (!source->ops->watermarks(source, at, timeout_ms, &c->low, &c->high, err))
        return false;
    mr_fault_point("read", "claim");
    return true;
}

/* --- d: finish what was in flight --- */

/* Where a group that has never been here begins. */
static void first_offset(struct claiming *c)
{
    struct mr_part *part = c->part;
    enum mr_start_at start = c->delivery->options.start;
    char name[256];
    mr_halt_name(c->delivery, part, name);
    if (c->committed.present) {
        part->position = c->committed.offset;
        mr_log(MR_INFO, "%s: going on at the group's committed offset %" PRId64, name,
               part->position);
    } else {
        part->position = start == MR_START_EARLIEST ? c->low : c->high;
        mr_log(MR_INFO, "%s: a new group starts at the %s message, offset %" PRId64, name,
               start == MR_START_EARLIEST ? "earliest" : "latest", part->position);
    }
}

/* The ledger has nothing yet: its first position is written before anything is read. */
static bool adopt(struct claiming *c, struct mr_error *err)
{
    struct mr_store *store = c->delivery->store;
    struct mr_part *part = c->part;
    /* A pipeline that had no database yet brings its place along, in the middle of a fan-out too.
     */
    bool brought = c->kind == MR_MARK_FOREIGN && c->mark.no_ledger;
    if (!brought && (c->kind == MR_MARK_FOREIGN || c->kind == MR_MARK_OURS))
        return mr_halt_other_ledger(c->delivery, part, c->kind == MR_MARK_OURS, err);
    first_offset(c);
    part->unit = brought ? c->mark.unit : 0;
    mr_part_set_job(part, brought && c->mark.has_job ? &c->mark.job : NULL);
    struct mr_advance step = {.at = part->at,
                              .epoch = part->epoch,
                              .unit = c->ledger.unit,
                              .new_unit = part->unit,
                              .next_offset = part->position,
                              .job = part->has_job ? &c->mark.job : NULL};
    if (!store->ops->begin(store, &step, 1, err) || store->ops->commit(store, err) != MR_DECIDED) {
        store->ops->rollback(store);
        char name[256];
        return mr_error_context(err, "%s: writing the first position",
                                mr_halt_name(c->delivery, part, name));
    }
    mr_fault_point("adopted", "claim");
    return true;
}

static bool send_redo(struct claiming *c, const struct mr_redo *redo, struct mr_error *err)
{
    struct mr_delivery *delivery = c->delivery;
    struct mr_sink *sink = delivery->sink;
    struct mr_part *part = c->part;
    size_t bad;
    mr_delivery_reserve(delivery, 1);
    if (!mr_redo_unpack(sink, redo, &delivery->redo_frames, err))
        return mr_halt_no_redo(delivery, part, err->msg, err);
    struct mr_bytes frames = {delivery->redo_frames.ptr, delivery->redo_frames.len};
    struct mr_job_state job = mr_part_job(part);
    if (!mr_delivery_put_mark(delivery, 0, &part->at, part->position, part->unit, 0,
                              part->has_job ? &job : NULL, err))
        return false;
    if (!sink->ops->begin(sink, err))
        return false;
    bool ok = !frames.len || sink->ops->produce(sink, frames, err);
    if (ok)
        sink->ops->begin_offsets(sink, delivery->source, delivery->marks, 1);
    mr_fault_point("produced", "redo");
    ok = ok && sink->ops->flush(sink, delivery->options.flush_timeout_ms, &bad, err);
    mr_fault_point("flushed", "redo");
    ok = ok && sink->ops->offsets(sink, delivery->source, delivery->marks, 1, err);
    mr_fault_point("offsets", "redo");
    if (!ok) {
        sink->ops->abort(sink);
        return err->action == MR_REJECT ? mr_halt_no_redo(delivery, part, err->msg, err) : false;
    }
    if (!sink->ops->commit(sink, err)) {
        delivery->fenced = false;
        return false;
    }
    mr_fault_point("committed", "redo");
    return true;
}

/* The last decided unit has not reached Kafka: its stored bytes go out, with their offset. */
static bool redo(struct claiming *c, struct mr_error *err)
{
    struct mr_delivery *delivery = c->delivery;
    struct mr_part *part = c->part;
    struct mr_redo stored;
    bool found;
    char name[256];
    if (mr_fault_mutant("no_redo") || mr_fault_mutant("kafka_first"))
        return true;
    if (mr_fault_mutant("redo_recomputed")) {
        part->recompute_until = part->position + part->has_job;
        part->position = c->committed.offset;
        mr_part_set_job(part, NULL);
        c->confirmed = true;
        return true;
    }
    if (!delivery->store->ops->redo(delivery->store, &part->at, part->unit, &stored, &found, err))
        return false;
    if (!found && was_exactly_once(c))
        return mr_halt_no_redo(delivery, part, "millrace_redo does not have them", err);
    if (!found)
        return true; /* acknowledged before it was decided: only the offset is missing */
    if (!delivery->sink && !stored.n)
        return true; /* a unit of rows alone */
    if (!delivery->sink)
        return mr_halt_no_redo(delivery, part,
                               "there is no Kafka sink in the configuration any more", err);
    mr_halt_name(delivery, part, name);
    if (!send_redo(c, &stored, err)) {
        if (err->action == MR_REJECT)
            err->action = MR_STOP;
        return mr_error_context(err, "redo of unit %" PRId64 " of %s", part->unit, name);
    }
    mr_log(MR_INFO, "redo: unit %" PRId64 " of %s, %" PRIu32 " messages sent from the ledger",
           part->unit, name, stored.n);
    mr_metric_add(delivery->counters.redos, 1);
    c->confirmed = true;
    return true;
}

/* The position must still exist in the topic. */
static bool check_input(const struct claiming *c, struct mr_error *err)
{
    if (c->part->position >= c->low && c->part->position <= c->high)
        return true;
    return mr_halt_input_gone(c->delivery, c->part, c->low, c->high, err);
}

/* The ledger knows this partition: does Kafka agree, give or take the last unit? */
static bool compare(struct claiming *c, struct mr_error *err)
{
    struct mr_delivery *delivery = c->delivery;
    struct mr_part *part = c->part;
    struct mr_redo stored;
    bool found;
    switch (c->kind) {
    case MR_MARK_FOREIGN:
        /* Brought along and adopted, and not marked since. */
        if (c->mark.no_ledger && c->mark.unit == part->unit &&
            c->committed.offset == part->position)
            return true;
        return mr_halt_other_ledger(delivery, part, false, err);
    case MR_MARK_PLAIN:
        /* Adopted, and not marked since: nothing was decided yet. */
        if (part->unit == 0 && c->committed.offset == part->position)
            return true;
        return mr_halt_moved(delivery, part, c->committed.offset, err);
    case MR_MARK_ABSENT:
        if (!delivery->store->ops->redo(delivery->store, &part->at, part->unit, &stored, &found,
                                        err))
            return false;
        /* A topic that is deleted takes the group's offsets along. */
        return !found || (check_input(c, err) && mr_halt_moved(delivery, part, -1, err));
    case MR_MARK_OURS:
        break;
    }
    if (c->mark.unit > part->unit && !mr_fault_mutant("kafka_first"))
        return mr_halt_lost_commits(delivery, part, c->mark.unit, err);
    if (c->mark.unit < part->unit - 1 && !mr_fault_mutant("commit_without_offsets"))
        return mr_halt_moved(delivery, part, c->committed.offset, err);
    c->confirmed = c->mark.unit == part->unit;
    /* Marked is never ahead of decided: the ledger lost what moved it, or the offset was moved. */
    if (c->confirmed && c->committed.offset > part->position && !mr_fault_mutant("no_cas"))
        return mr_halt_moved(delivery, part, c->committed.offset, err);
    return c->confirmed || redo(c, err);
}

static bool finish_before(struct claiming *c, struct mr_error *err)
{
    struct mr_delivery *delivery = c->delivery;
    struct mr_part *part = c->part;
    c->kind = mr_mark_read(&c->committed, mr_delivery_ledger_id(delivery), &c->mark, &c->mark_job);
    if (!delivery->store) {
        if (c->kind == MR_MARK_FOREIGN)
            return mr_halt_other_ledger(delivery, part, false, err);
        part->unit = c->mark.unit;
        mr_part_set_job(part, c->kind == MR_MARK_OURS && c->mark.has_job ? &c->mark.job : NULL);
        first_offset(c);
        /* Nothing could differ; but where a new group starts must be there after a crash. */
        c->confirmed = c->committed.present;
        return true;
    }
    return part->position < 0 ? adopt(c, err) : compare(c, err);
}

/* --- e: go on --- */

static bool same_offset(const struct mr_committed *a, const struct mr_committed *b)
{
    return a->present == b->present &&
           (!a->present || (a->offset == b->offset && strcmp(a->metadata, b->metadata) == 0));
}

/* Does the broker keep an offset that comes with a transaction? Asked once, on a partition that is
 * ours, with what is true anyway. One that throws it away shows what it showed before. */
static bool read_back(struct claiming *c, int64_t probe, const struct mr_committed *before,
                      struct mr_error *err)
{
    struct mr_delivery *delivery = c->delivery;
    struct mr_source *source = delivery->source;
    struct mr_mark_text mark;
    if (!source->ops->committed(source, &c->part->at, delivery->options.claim_timeout_ms,
                                &c->committed, err))
        return false;
    if (mr_mark_read(&c->committed, mr_delivery_ledger_id(delivery), &mark, &c->mark_job) !=
            MR_MARK_OURS ||
        mark.probe != probe) {
        if (same_offset(&c->committed, before))
            return mr_halt_no_transactions(delivery, err);
        return mr_error_set(err, MR_RECOVER, MR_EXIT_TRY_AGAIN,
                            "another member of the group has committed an offset meanwhile");
    }
    delivery->probed = true;
    return true;
}

/* Kafka shows what the ledger says. */
static bool confirm(struct claiming *c, struct mr_error *err)
{
    struct mr_delivery *delivery = c->delivery;
    struct mr_part *part = c->part;
    bool probe = mr_delivery_transactional(delivery) && !delivery->probed;
    if (c->confirmed && !probe)
        return true;
    int64_t number = probe ? mr_clock_random63() : 0;
    struct mr_job_state job = mr_part_job(part);
    struct mr_committed before = c->committed;
    mr_delivery_reserve(delivery, 1);
    if (!mr_delivery_put_mark(delivery, 0, &part->at, part->position, part->unit, number,
                              part->has_job ? &job : NULL, err) ||
        !mr_delivery_send_marks(delivery, 1, err))
        return mr_error_context(err, "bringing the offset of unit %" PRId64 " to Kafka",
                                part->unit);
    if (!c->confirmed)
        mr_metric_add(delivery->counters.marks_again, 1);
    c->committed.present = true;
    c->committed.offset = part->position;
    return !probe || read_back(c, number, &before, err);
}

static void go_on(struct claiming *c)
{
    struct mr_part *part = c->part;
    part->decided = part->position;
    part->marked_offset =
        c->confirmed && c->committed.present ? c->committed.offset : part->position;
    part->dropped = 0;
    part->has_redo = c->delivery->store && was_exactly_once(c);
    part->try_due = c->delivery->store != NULL;
    part->careful = part->attempts >= CAREFUL_FROM ? CAREFUL_RECORDS : 0;
    free(part->owner_before);
    part->owner_before = NULL;
    part->owner_gone = false;
    part->blocked = 0;
    part->claimed = true;
    mr_metric_add(c->delivery->counters.claims, 1);
}

static bool claim(struct claiming *c, struct mr_error *err)
{
    if (!fence_ourselves(c, err))
        return false;
    bool ok = mr_fault_mutant("read_before_fence") ? read_kafka(c, err) && take_ledger(c, err)
                                                   : take_ledger(c, err) && read_kafka(c, err);
    ok = ok && finish_before(c, err) && check_input(c, err);
    if (c->borrowed) { /* given back whatever came of it: other partitions go on meanwhile */
        struct mr_sink *sink = c->delivery->sink;
        c->delivery->fenced = sink->ops->fence(sink, false, NULL, ok ? err : NULL);
        ok = ok && c->delivery->fenced;
    }
    return ok && confirm(c, err);
}

/* What looks like somebody's meddling may be another process's work, if we were paused between
 * taking the ledger and reading Kafka: before a person is called the fence is proved to be ours. */
static void doubt_halt(struct claiming *c, struct mr_error *err)
{
    struct mr_store *store = c->delivery->store;
    struct mr_source *source = c->delivery->source;
    struct mr_error lost;
    if (err->action == MR_STOP && !store && !source->ops->member(source))
        err->action = MR_RECOVER;
    if (err->action != MR_STOP || !store || !c->ledger.epoch)
        return;
    struct mr_advance same = {.at = c->part->at,
                              .epoch = c->ledger.epoch,
                              .unit = c->ledger.unit,
                              .new_unit = c->ledger.unit,
                              .next_offset = c->ledger.next_offset};
    if (!store->ops->begin(store, &same, 1, &lost) && lost.action != MR_STOP)
        *err = lost;
    store->ops->rollback(store);
}

bool mr_delivery_claim(struct mr_delivery *delivery, struct mr_part *part, struct mr_error *err)
{
    struct claiming c = {
        .delivery = delivery, .part = part, .ledger = {.next_offset = -1, .trying = -1}};
    part->claimed = false;
    mr_watch_enter(delivery->watch, MR_PHASE_CLAIM);
    bool ok = claim(&c, err);
    if (ok)
        go_on(&c);
    else
        doubt_halt(&c, err);
    /* A commit of ours that failed: other partitions go on meanwhile, and begin anew. */
    if (!ok && delivery->sink && !delivery->fenced)
        delivery->sink->ops->abort(delivery->sink);
    mr_buf_fini(&c.mark_job);
    mr_buf_fini(&delivery->redo_frames); /* as large as a unit: not for keeps */
    return ok;
}
