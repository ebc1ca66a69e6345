/*
 * faults.c - deaths, sleeps, lost requests and replies, restarts: what may happen at any call.
 *
 * One thread. Each call of a contract passes here before and after its effect. Must not know the
 * protocol.
 */
#include "sim.h"

#include <stdio.h>

/* --- deaths and sleeps --- */

void sim_restart_later(struct sim_worker *worker, int64_t within_us)
{
    struct sim_slot *slot = &sim.slots[worker->slot];
    if (slot->worker != worker)
        return;
    slot->worker = NULL;
    slot->start_us = sim.now_us + sim_between(50 * MS, within_us);
    sim_event_at(slot->start_us);
}

void sim_suspect(struct sim_worker *worker)
{
    for (int p = 0; p < sim.n_parts; p++) {
        int64_t offset = worker->noted[p] - 1;
        worker->noted[p] = 0;
        if (offset >= 0 && offset >= sim.ledger[p].next_offset)
            sim.messages[sim.input[p][offset].id].deaths++;
    }
}

void sim_crash(struct sim_worker *worker, const char *why)
{
    if (worker->crashed)
        return;
    sim_suspect(worker);
    sim_trace(worker, "DIES: %s", why);
    sim_counts.crashes++;
    worker->crashed = true;
    atomic_store(&worker->stop, true);
    worker->wake_us = sim.now_us;
    worker->frozen = false;
    sim_group_silent(worker->member);
    struct sim_session *session = worker->session;
    worker->session = NULL;
    if (session && session->alive) {
        bool sent = session->in_transaction && strcmp(why, "before commit") == 0 && sim_percent(50);
        if (sent)
            session->commit_us = sim.now_us + sim_between(0, 2 * SECOND);
        /* Its host tells the server at once, or died with it. */
        sim_session_orphan(session, sent              ? session->commit_us + SECOND
                                    : sim_percent(70) ? sim.now_us
                                                      : sim.now_us + 40 * SECOND);
        sim_event_at(session->commit_us);
    }
    sim_restart_later(worker, 15 * SECOND);
}

bool sim_sleep_until(struct sim_worker *worker, int64_t us)
{
    if (worker->crashed)
        return false;
    worker->wake_us = us;
    sim_stage_yield(worker);
    return !worker->crashed;
}

/* Stopped as by SIGSTOP: nobody hears of it meanwhile. Perhaps it is thought dead. */
static void freeze(struct sim_worker *worker)
{
    bool long_ = sim_percent(60);
    int64_t until =
        sim.now_us + (long_ ? sim_between(10 * SECOND, 80 * SECOND) : sim_between(MS, 10 * SECOND));
    sim_counts.zombies++;
    sim_trace(worker, "SLEEPS for %.3f s", (double)(until - sim.now_us) / SECOND);
    if (long_ && sim_percent(40)) {
        sim_restart_later(worker, 12 * SECOND);
        worker->doomed = 1 + sim_below(30);
    }
    worker->frozen = true;
    sim_group_silent(worker->member);
    sim_sleep_until(worker, until);
    worker->frozen = false;
    if (worker->crashed)
        return;
    sim_group_heard(worker->member);
    sim_trace(worker, "wakes");
}

/* --- faults --- */

enum fault {
    CRASH,
    CRASH_OTHER,
    ZOMBIE,
    LOSE, /* the likeliest: three numbers */
    LOSE_2,
    LOSE_3,
    RESTART_PG,
    RESTART_BROKER,
    KILL_SESSION,
    STOP,
    SWAP,
    N_FAULTS
};

static void crash_other(struct sim_worker *worker)
{
    struct sim_worker *other = sim.slots[sim_below(SIM_SLOTS)].worker;
    if (other && other != worker && !other->frozen)
        sim_crash(other, "from outside");
}

static void stop_gracefully(struct sim_worker *worker)
{
    sim_trace(worker, "is told to stop");
    sim_counts.stops++;
    atomic_store(&worker->stop, true);
}

static enum sim_fate inject(struct sim_worker *worker, const char *op, bool before)
{
    enum fault fault = (enum fault)sim_below(N_FAULTS);
    char why[64];
    if (!(sim.fault_kinds & 1u << fault))
        return SIM_GO;
    sim.faults_left--;
    snprintf(why, sizeof why, "%s %s", before ? "before" : "after", op);
    switch (fault) {
    case CRASH:
        sim_crash(worker, why);
        return SIM_DEAD;
    case CRASH_OTHER:
        crash_other(worker);
        break;
    case ZOMBIE:
        sim_trace(worker, "%s:", why);
        freeze(worker);
        break;
    case LOSE:
    case LOSE_2:
    case LOSE_3:
        sim_trace(worker, "LOSES the %s of %s", before ? "request" : "reply", op);
        *(before ? &sim_counts.lost_requests : &sim_counts.lost_replies) += 1;
        return SIM_LOST;
    case RESTART_PG:
        sim.pg_down_us = sim.now_us + sim_between(0, 5 * SECOND);
        sim_trace(NULL, "Postgres restarts");
        sim_pg_restart();
        break;
    case RESTART_BROKER:
        sim.broker_down_us = sim.now_us + sim_between(0, 8 * SECOND);
        sim_counts.broker_restarts++;
        sim_trace(NULL, "the broker restarts");
        break;
    case KILL_SESSION:
        if (worker->session)
            sim_session_kill(worker->session);
        break;
    case STOP:
        stop_gracefully(worker);
        break;
    case SWAP:
        sim.swap_us = sim.now_us;
        sim_event_at(sim.now_us);
        break;
    case N_FAULTS:
        break;
    }
    return SIM_GO;
}

static enum sim_fate point(struct sim_worker *worker, const char *op, bool before)
{
    enum sim_fate fate = SIM_GO;
    if (worker->crashed)
        return SIM_DEAD;
    sim.points++;
    sim.now_us += 1 + sim_below(2000);
    if (worker->doomed && !worker->frozen && --worker->doomed == 0)
        sim_crash(worker, "a successor of its name is there");
    else if (sim.faults && sim.faults_left > 0 && sim_below(10000) < sim.fault_rate)
        fate = inject(worker, op, before);
    if (!worker->crashed && sim_below(10000) < sim.switch_rate) {
        worker->wake_us = sim.now_us;
        sim_stage_yield(worker);
    }
    return worker->crashed ? SIM_DEAD : fate;
}

enum sim_fate sim_before(struct sim_worker *worker, const char *op)
{
    return point(worker, op, true);
}

enum sim_fate sim_after(struct sim_worker *worker, const char *op)
{
    return point(worker, op, false);
}

void sim_faults_draw(void)
{
    static const int rates[] = {20, 60, 150, 400}, switches[] = {300, 1500, 5000};
    sim.fault_rate = rates[sim_below(4)];
    sim.switch_rate = switches[sim_below(3)];
    sim.faults_left = (int)sim_between(1, 14);
    sim.fault_kinds = sim_percent(50) ? ~0u : (unsigned)sim_draw();
    sim.faults_until_us = sim_between(2 * SECOND, 120 * SECOND);
    if (sim.mix->lax_group && sim_percent(70)) { /* what it is about are sleepers */
        sim.fault_kinds = 1u << ZOMBIE;
        sim.fault_rate = 400;
    }
}
