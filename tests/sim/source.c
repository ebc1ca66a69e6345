/*
 * source.c - the contract of the source (include/millrace/source.h) over the simulated broker.
 *
 * One of each worker. Keeps what a client library would know: its member id, the generation of its
 * assignment, its positions. Each record is a copy that release frees, so that the sanitizers see a
 * use after it.
 */
#include "sim.h"

#include <inttypes.h>
#include <stdlib.h>

const char sim_topic[] = "in";

struct source {
    struct mr_source base;
    struct sim_worker *worker;
    int member, generation;
    bool owned, told_lost, away;
    size_t n_assigned;
    struct mr_partition assigned[SIM_PARTS];
    int64_t at[SIM_PARTS]; /* -1: not read */
    bool told_end[SIM_PARTS];
    struct sim_proof proof;
};

static struct source *source_of(struct mr_source *base)
{
    return (struct source *)base;
}

static bool away(struct mr_error *err, const char *what)
{
    return mr_error_set(err, MR_RETRY, MR_EXIT_UNREACHABLE, "%s: no answer from Kafka", what);
}

static void forget(struct source *source)
{
    source->owned = false;
    source->n_assigned = 0;
    for (int p = 0; p < SIM_PARTS; p++)
        source->at[p] = -1;
}

/* What the group has to say, if anything. */
static enum mr_event hear_group(struct source *source)
{
    struct sim_member *member = sim_member_find(source->member);
    if (!member) {
        source->member = source->worker->member = 0;
        if (source->owned) {
            forget(source);
            return MR_EVENT_REVOKED;
        }
        source->member = source->worker->member = sim_group_join(source->worker);
        source->generation = -1;
    } else if (sim.group.preparing && !member->joined) {
        if (source->owned) {
            forget(source);
            return MR_EVENT_REVOKED;
        }
        sim_group_rejoin(member);
    }
    member = sim_member_find(source->member);
    if (!member || sim.group.preparing || source->generation == sim.group.generation)
        return MR_EVENT_NONE;
    source->generation = sim.group.generation;
    forget(source);
    source->owned = true;
    source->proof = (struct sim_proof){source->member, source->generation};
    for (int p = 0; p < sim.n_parts; p++)
        if (member->parts & 1u << p)
            source->assigned[source->n_assigned++] = (struct mr_partition){sim_topic, p};
    return MR_EVENT_ASSIGNED;
}

static void fill_record(struct mr_record *rec, int partition, int64_t offset)
{
    const struct sim_message *message = &sim.messages[sim.input[partition][offset].id];
    size_t len = strlen(message->text);
    char *copy = mr_alloc(len + 1);
    memcpy(copy, message->text, len + 1);
    *rec = (struct mr_record){.topic = sim_topic,
                              .partition = partition,
                              .offset = offset,
                              .timestamp_ms = message->arrives_us / 1000,
                              .value = {copy, len},
                              .handle = copy};
}

static enum mr_event next_record(struct source *source, struct mr_record *rec)
{
    int first = sim_below(sim.n_parts);
    for (int i = 0; i < sim.n_parts; i++) {
        int p = (first + i) % sim.n_parts;
        int64_t at = source->at[p], high = sim_input_high(p);
        if (at < 0)
            continue;
        while (at < high && sim.input[p][at].id < 0)
            at++;
        if (at < high) {
            fill_record(rec, p, at);
            source->at[p] = at + 1;
            source->told_end[p] = false;
            return MR_EVENT_RECORD;
        }
        source->at[p] = at;
        if (!source->told_end[p]) {
            source->told_end[p] = true;
            *rec = (struct mr_record){.topic = sim_topic, .partition = p, .offset = at};
            return MR_EVENT_POSITION;
        }
    }
    return MR_EVENT_NONE;
}

static enum mr_event source_poll(struct mr_source *base, int timeout_ms, struct mr_record *rec,
                                 struct mr_error *err)
{
    struct source *source = source_of(base);
    struct sim_worker *worker = source->worker;
    /* A worker without work may be slow to look: fewer steps of a schedule for nothing. */
    int64_t until = sim.now_us + timeout_ms * (timeout_ms >= 100 ? sim_between(1, 10) : 1) * MS;
    enum mr_event event = MR_EVENT_NONE;
    if (sim_before(worker, "poll") == SIM_DEAD)
        goto dead;
    for (;;) {
        if (sim_broker_down()) {
            if (!source->away && sim_percent(50)) {
                source->away = true;
                away(err, "poll");
                return MR_EVENT_ERROR;
            }
        } else {
            source->away = false;
            event = hear_group(source);
            if (event == MR_EVENT_NONE && source->owned)
                event = next_record(source, rec);
        }
        if (event != MR_EVENT_NONE || sim.now_us >= until)
            break;
        worker->polling = true;
        bool alive = sim_sleep_until(worker, until);
        worker->polling = false;
        if (!alive)
            goto dead;
    }
    if (event == MR_EVENT_RECORD)
        sim_trace(worker, "poll: %d@%" PRId64 " \"%s\"", rec->partition, rec->offset,
                  rec->value.ptr);
    else if (event != MR_EVENT_NONE)
        sim_trace(worker, "poll: %s",
                  event == MR_EVENT_ASSIGNED  ? "assigned"
                  : event == MR_EVENT_REVOKED ? "revoked"
                                              : "end");
    return event;
dead:
    sim_dead(err);
    return MR_EVENT_ERROR;
}

static const struct mr_partition *source_assignment(struct mr_source *base, size_t *n)
{
    *n = source_of(base)->n_assigned;
    return source_of(base)->assigned;
}

/* A request to the broker: false if it did not get there. */
static bool ask(struct source *source, const char *what, struct mr_error *err)
{
    enum sim_fate fate = sim_before(source->worker, what);
    if (fate == SIM_DEAD)
        return sim_dead(err);
    return fate == SIM_GO && !sim_broker_down() ? true : away(err, what);
}

static bool answered(struct source *source, const char *what, struct mr_error *err)
{
    enum sim_fate fate = sim_after(source->worker, what);
    return fate == SIM_DEAD ? sim_dead(err) : fate == SIM_GO || away(err, what);
}

static bool source_committed(struct mr_source *base, const struct mr_partition *at, int timeout_ms,
                             struct mr_committed *out, struct mr_error *err)
{
    struct source *source = source_of(base);
    int64_t until = sim.now_us + timeout_ms * MS;
    if (!ask(source, "committed", err))
        return false;
    while (sim_offset_unstable(at->partition)) {
        sim_counts.unstable++;
        if (sim.now_us >= until)
            return mr_error_set(err, MR_RETRY, MR_EXIT_TRY_AGAIN,
                                "committed: a transaction is pending on partition %d",
                                at->partition);
        if (!sim_sleep_until(source->worker, sim.now_us + 200 * MS))
            return sim_dead(err);
        if (sim_broker_down())
            return away(err, "committed");
    }
    const struct sim_offset *offset = &sim.offsets[at->partition];
    out->present = offset->present;
    out->offset = offset->offset;
    out->metadata[0] = '\0';
    if (offset->present)
        strncat(out->metadata, offset->metadata, MR_METADATA_MAX);
    sim_trace(source->worker, "committed of %d: %" PRId64 " \"%s\"", at->partition,
              offset->present ? offset->offset : -1, out->metadata);
    return answered(source, "committed", err);
}

static bool source_watermarks(struct mr_source *base, const struct mr_partition *at, int timeout_ms,
                              int64_t *low, int64_t *high, struct mr_error *err)
{
    struct source *source = source_of(base);
    (void)timeout_ms;
    if (!ask(source, "watermarks", err))
        return false;
    *low = 0;
    *high = sim_input_high(at->partition);
    return answered(source, "watermarks", err);
}

static bool source_start(struct mr_source *base, const struct mr_mark *marks, size_t n,
                         struct mr_error *err)
{
    struct source *source = source_of(base);
    if (sim_before(source->worker, "start") == SIM_DEAD)
        return sim_dead(err);
    for (int p = 0; p < SIM_PARTS; p++) {
        source->at[p] = -1;
        source->told_end[p] = false;
    }
    for (size_t i = 0; i < n; i++)
        source->at[marks[i].at.partition] = marks[i].next_offset;
    return true;
}

static bool is_member(const struct sim_proof *proof)
{
    return sim_member_find(proof->member) && proof->generation == sim.group.generation;
}

/* The library may have heard that the group has moved on, or not yet. */
static const struct mr_member *source_member(struct mr_source *base)
{
    struct source *source = source_of(base);
    if (!source->owned || source->worker->crashed ||
        (!is_member(&source->proof) && sim_percent(50)))
        return NULL;
    return (const struct mr_member *)&source->proof;
}

static bool source_commit(struct mr_source *base, const struct mr_mark *marks, size_t n,
                          struct mr_error *err)
{
    struct source *source = source_of(base);
    if (!ask(source, "offset commit", err))
        return false;
    if (!source->owned || !is_member(&source->proof)) {
        sim_counts.fenced++;
        return mr_error_set(err, MR_RECOVER, MR_EXIT_TRY_AGAIN,
                            "offset commit: the group has moved on");
    }
    for (size_t i = 0; i < n; i++)
        sim_offset_apply(marks[i].at.partition, marks[i].next_offset, marks[i].metadata);
    return answered(source, "offset commit", err);
}

static void source_headers(struct mr_source *base, struct mr_record *rec)
{
    (void)base;
    (void)rec;
}

static void source_release(struct mr_source *base, struct mr_record *rec)
{
    (void)base;
    free(rec->handle);
    rec->handle = NULL;
}

static void source_close(struct mr_source *base)
{
    struct source *source = source_of(base);
    enum sim_fate fate = sim_before(source->worker, "leave");
    if (fate == SIM_GO && !sim_broker_down() && !sim.static_members)
        sim_group_leave(source->member);
    else if (fate != SIM_DEAD)
        sim_group_silent(source->member);
    source->worker->member = 0;
    free(source);
}

struct mr_source *sim_source(struct sim_worker *worker)
{
    static const struct mr_source_ops ops = {.poll = source_poll,
                                             .assignment = source_assignment,
                                             .committed = source_committed,
                                             .watermarks = source_watermarks,
                                             .start = source_start,
                                             .commit = source_commit,
                                             .member = source_member,
                                             .headers = source_headers,
                                             .release = source_release,
                                             .close = source_close};
    struct source *source = mr_calloc(1, sizeof *source);
    source->base.ops = &ops;
    source->worker = worker;
    source->generation = -1;
    forget(source);
    return &source->base;
}
