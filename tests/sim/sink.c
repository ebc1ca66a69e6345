/*
 * sink.c - the contract of the sink (include/millrace/sink.h) over the simulated broker.
 *
 * One of each worker; plain or transactional, as the last fence said. Keeps what a client library
 * would: its producer's epoch, whether a transaction is open, whether it has doubts about its past
 * (then begin makes a new producer first, rule R6 of the design). Frames are borrowed until flush
 * or abort and read as late as allowed, so that the sanitizers see what was let go too early.
 */
#include "sim.h"

#include "base/fault.h"

#include <stdio.h>
#include <stdlib.h>

enum { LATE_US = 20 * SECOND };

struct sink {
    struct mr_sink base;
    struct sim_worker *worker;
    struct sim_txn *txn;
    int epoch; /* of our producer; 0: there is none */
    bool transactional, in_txn, broken, doubt;
    bool early, early_ok; /* the offsets were sent beside the messages, and how that ended */
    struct mr_error early_err;
    struct mr_bytes *frames;
    size_t n_frames, cap_frames;
};

static struct sink *sink_of(struct mr_sink *base)
{
    return (struct sink *)base;
}

static bool away(struct mr_error *err, const char *what)
{
    return mr_error_set(err, MR_RETRY, MR_EXIT_UNREACHABLE, "%s: no answer from Kafka", what);
}

/* Such a producer is good for nothing any more, and knows it. */
static bool fenced(struct sink *sink, const char *what, struct mr_error *err)
{
    sink->doubt = true;
    sim_counts.fenced++;
    return mr_error_set(err, MR_RECOVER, MR_EXIT_TRY_AGAIN, "%s: this producer is fenced", what);
}

/* False: the request did not get there; the connection is a new one from now on. */
static bool ask(struct sink *sink, const char *what, struct mr_error *err)
{
    enum sim_fate fate = sim_before(sink->worker, what);
    if (fate == SIM_DEAD)
        return sim_dead(err);
    if (fate == SIM_GO && !sim_broker_down())
        return true;
    sink->doubt = true;
    return away(err, what);
}

static bool answered(struct sink *sink, const char *what, struct mr_error *err)
{
    enum sim_fate fate = sim_after(sink->worker, what);
    sink->doubt |= fate == SIM_LOST;
    return fate == SIM_DEAD ? sim_dead(err) : fate == SIM_GO || away(err, what);
}

static void forget(struct sink *sink, bool transactional)
{
    sink->n_frames = 0;
    sink->in_txn = sink->broken = sink->doubt = sink->early = false;
    sink->transactional = transactional;
    sink->epoch = 0;
}

static bool sink_fence(struct mr_sink *base, bool transactional, const char *owner,
                       struct mr_error *err)
{
    struct sink *sink = sink_of(base);
    if (!transactional) { /* nobody is asked */
        if (sim_before(sink->worker, "fence") == SIM_DEAD)
            return sim_dead(err);
        forget(sink, false);
        return true;
    }
    if (!ask(sink, "fence", err))
        return false;
    sim_trace(sink->worker, "fence %s", owner ? owner : "");
    if (owner) {
        sim_txn_fence(sim_txn_of(owner));
        sink->doubt |= strcmp(owner, sink->worker->name) == 0;
        return answered(sink, "fence", err);
    }
    forget(sink, true);
    int epoch = sim_txn_fence(sink->txn);
    if (!answered(sink, "fence", err))
        return false;
    sink->epoch = epoch;
    return true;
}

static bool sink_begin(struct mr_sink *base, struct mr_error *err)
{
    struct sink *sink = sink_of(base);
    mr_assert(sink->worker->crashed || (sink->transactional && !sink->in_txn));
    if (!ask(sink, "begin messages", err))
        return false;
    if (!sink->epoch || (sink->doubt && !mr_fault_mutant("keep_producer"))) {
        sink->epoch = sim_txn_fence(sink->txn);
        sim_trace(sink->worker, "a new producer, epoch %d", sink->epoch);
    }
    sink->doubt = sink->broken = sink->early = false;
    sink->in_txn = true;
    return true;
}

/* --- messages --- */

/* A frame as a message: of the output topic, or a dead letter. */
struct sent {
    bool dead;
    struct sim_output output; /* output.id also of a dead letter */
    struct mr_bytes class_;
};

static struct sent read_frame(const struct sink *sink, const char *at)
{
    struct mr_frame frame;
    struct mr_bytes key, headers, value;
    mr_frame_read(at, &frame, &key, &headers, &value);
    struct sent sent = {.dead = (frame.topic == 1) != sink->worker->swapped};
    if (!sent.dead) {
        if (!sim_parse_output(value, &sent.output) || sent.output.trigger_ms != frame.timestamp_ms)
            sim_fail(SIM_OUTCOME, "a message that nobody made: \"%.*s\"", (int)value.len,
                     value.ptr);
        return sent;
    }
    char text[64];
    snprintf(text, sizeof text, "%.*s", (int)value.len, value.ptr);
    if (sscanf(text, "%*c %d", &sent.output.id) != 1)
        sim_fail(SIM_OUTCOME, "a dead letter that nobody sent: \"%s\"", text);
    for (uint16_t i = 0; i < frame.n_headers; i++) {
        uint32_t lens[2];
        memcpy(lens, headers.ptr, sizeof lens);
        headers.ptr += sizeof lens;
        if (lens[0] == 14 && memcmp(headers.ptr, "millrace-class", 14) == 0)
            sent.class_ = (struct mr_bytes){headers.ptr + lens[0], lens[1]};
        headers.ptr += lens[0] + (lens[1] == MR_ABSENT ? 0 : lens[1]);
    }
    return sent;
}

static bool is_refused(const struct sent *sent)
{
    const struct sim_message *message = &sim.messages[sent->output.id];
    return !sent->dead && message->kind == SIM_UNSENDABLE &&
           (message->victim < 0 || message->victim == sent->output.client);
}

static void deliver(struct sink *sink, const struct sent *sent)
{
    struct sim_outputs *messages = sink->transactional ? &sink->txn->messages : &sim.visible;
    struct sim_letters *letters = sink->transactional ? &sink->txn->letters : &sim.dead_topic;
    if (sent->dead)
        sim_letters_add(letters, sent->output.id, sent->class_);
    else
        sim_outputs_add(messages, &sent->output);
    sim_counts.outputs++;
}

static void open_txn(struct sink *sink)
{
    if (sink->txn->open)
        return;
    sink->txn->open = true;
    sink->txn->since_us = sim.now_us;
    sim_event_at(0);
}

/* Sends the first `n` frames; stops before one that is refused and gives its index, or n. */
static size_t send(struct sink *sink, size_t n)
{
    if (sink->transactional && n)
        open_txn(sink);
    for (size_t i = 0; i < n; i++) {
        struct sent sent = read_frame(sink, sink->frames[i].ptr);
        if (is_refused(&sent))
            return i;
        deliver(sink, &sent);
    }
    return n;
}

/* Of what is queued, so much had left the process already. */
static void send_some(struct sink *sink)
{
    if (!sink->transactional && sink->n_frames && !sim_broker_down())
        send(sink, (size_t)sim_below((int)sink->n_frames + 1));
    sink->n_frames = 0;
}

static bool sink_produce(struct mr_sink *base, struct mr_bytes frames, struct mr_error *err)
{
    struct sink *sink = sink_of(base);
    if (sim_before(sink->worker, "produce") == SIM_DEAD)
        return sim_dead(err);
    mr_assert(!sink->transactional || sink->in_txn);
    for (const char *at = frames.ptr; at < frames.ptr + frames.len;) {
        struct mr_frame frame;
        memcpy(&frame, at, sizeof frame);
        if (sink->n_frames == sink->cap_frames) {
            sink->cap_frames = sink->cap_frames ? sink->cap_frames * 2 : 64;
            sink->frames = mr_realloc(sink->frames, sink->cap_frames * sizeof *sink->frames);
        }
        size_t size = mr_frame_size(&frame);
        sink->frames[sink->n_frames++] = (struct mr_bytes){at, size};
        at += size;
    }
    return true;
}

static bool sink_flush(struct mr_sink *base, int timeout_ms, size_t *bad, struct mr_error *err)
{
    struct sink *sink = sink_of(base);
    (void)timeout_ms;
    *bad = SIZE_MAX;
    if (!ask(sink, "flush", err)) {
        sink->broken = true;
        send_some(sink);
        return false;
    }
    if (sink->transactional && sink->epoch != sink->txn->epoch) {
        sink->broken = true;
        return fenced(sink, "flush", err);
    }
    size_t n = sink->n_frames, sent = send(sink, n);
    sim_trace(sink->worker, "flush: %zu of %zu", sent, n);
    sink->n_frames = 0;
    if (sent < n) {
        sink->broken = true;
        sim_counts.refusals++;
        *bad = sim_percent(70) ? sent : SIZE_MAX;
        return mr_error_reject(err, "too_large", "a message is refused");
    }
    if (answered(sink, "flush", err))
        return true;
    sink->broken = true;
    return false;
}

/* --- the end of a transaction --- */

static bool put_offsets(struct sink *sink, struct mr_source *source, const struct mr_mark *marks,
                        size_t n, struct mr_error *err)
{
    const struct sim_proof *proof = (const void *)source->ops->member(source);
    if (sink->worker->crashed)
        return sim_dead(err);
    if (!proof) {
        sink->broken = true;
        return mr_error_set(err, MR_RECOVER, MR_EXIT_TRY_AGAIN, "offsets: not a member any more");
    }
    struct sim_proof copy = *proof;
    mr_assert(sink->in_txn);
    bool asked = ask(sink, "offsets", err);
    const struct sim_session *session = sink->worker->session;
    bool lax = sim.mix->lax_group && session && session->in_transaction;
    if (!asked || sink->epoch != sink->txn->epoch) {
        sink->broken = true;
        return asked ? fenced(sink, "offsets", err) : false;
    }
    if (!lax && (!sim_member_find(copy.member) || copy.generation != sim.group.generation)) {
        sink->broken = true;
        sim_counts.fenced++;
        return mr_error_set(err, MR_RECOVER, MR_EXIT_TRY_AGAIN, "offsets: the group has moved on");
    }
    open_txn(sink);
    for (size_t i = 0; i < n; i++)
        sim_offset_set(&sink->txn->pending[marks[i].at.partition], marks[i].next_offset,
                       marks[i].metadata);
    if (answered(sink, "offsets", err))
        return true;
    sink->broken = true;
    return false;
}

/* They reach the broker before the messages do, or only when they are waited for. */
static void sink_begin_offsets(struct mr_sink *base, struct mr_source *source,
                               const struct mr_mark *marks, size_t n)
{
    struct sink *sink = sink_of(base);
    sink->early = sim_percent(60);
    if (sink->early)
        sink->early_ok = put_offsets(sink, source, marks, n, &sink->early_err);
}

static bool sink_offsets(struct mr_sink *base, struct mr_source *source,
                         const struct mr_mark *marks, size_t n, struct mr_error *err)
{
    struct sink *sink = sink_of(base);
    mr_assert(sink->worker->crashed || !sink->n_frames);
    if (sink->worker->crashed)
        return sim_dead(err);
    if (!sink->early)
        return put_offsets(sink, source, marks, n, err);
    sink->early = false;
    if (!sink->early_ok)
        *err = sink->early_err;
    return sink->early_ok;
}

static bool sink_commit(struct mr_sink *base, struct mr_error *err)
{
    struct sink *sink = sink_of(base);
    mr_assert(sink->worker->crashed || (sink->in_txn && !sink->n_frames));
    bool was_broken = sink->broken;
    sink->in_txn = false;
    if (!ask(sink, "commit messages", err)) {
        if (sim_percent(50) && !was_broken && sink->epoch == sink->txn->epoch) {
            sim_counts.delayed_ends++;
            sim_txn_end_later(sink->txn, sim.now_us + sim_between(0, LATE_US));
        }
        return false;
    }
    if (was_broken || sink->epoch != sink->txn->epoch) {
        return fenced(sink, "commit messages", err);
    }
    sim_txn_end(sink->txn, true);
    /* Sent twice: the other one is still on its way, and the producer knows it. */
    if (sim.faults && sim_percent(3)) {
        sink->doubt = true;
        sim_txn_end_later(sink->txn, sim.now_us + sim_between(0, LATE_US));
    }
    return answered(sink, "commit messages", err);
}

static void sink_abort(struct mr_sink *base)
{
    struct sink *sink = sink_of(base);
    send_some(sink);
    if (!sink->in_txn)
        return;
    sink->in_txn = false;
    if (sim_before(sink->worker, "abort messages") != SIM_GO || sim_broker_down())
        sink->doubt = true;
    else if (sink->epoch == sink->txn->epoch)
        sim_txn_end(sink->txn, false);
}

static uint16_t sink_topic(struct mr_sink *base, const char *name)
{
    return (strcmp(name, "dead") == 0) != sink_of(base)->worker->swapped;
}

static const char *sink_topic_name(struct mr_sink *base, uint16_t index)
{
    if (index > 1)
        return NULL;
    return (index == 1) != sink_of(base)->worker->swapped ? "dead" : "out";
}

static void sink_close(struct mr_sink *base)
{
    struct sink *sink = sink_of(base);
    send_some(sink);
    free(sink->frames);
    free(sink);
}

struct mr_sink *sim_sink(struct sim_worker *worker)
{
    static const struct mr_sink_ops ops = {.fence = sink_fence,
                                           .begin = sink_begin,
                                           .produce = sink_produce,
                                           .flush = sink_flush,
                                           .begin_offsets = sink_begin_offsets,
                                           .offsets = sink_offsets,
                                           .commit = sink_commit,
                                           .abort = sink_abort,
                                           .topic = sink_topic,
                                           .topic_name = sink_topic_name,
                                           .close = sink_close};
    struct sink *sink = mr_calloc(1, sizeof *sink);
    sink->base.ops = &ops;
    sink->worker = worker;
    sink->txn = sim_txn_of(worker->name);
    return &sink->base;
}
