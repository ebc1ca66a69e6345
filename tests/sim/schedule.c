/*
 * schedule.c - one schedule from its seed: who lives, who goes on, when it is over.
 *
 * One thread. Whoever is due goes on, chosen by chance; when nobody is, time jumps to the next who
 * will be, or to the next event of the world. First come the faults, for a while; then the world is
 * well, and everything must come to rest, with the right outcome, within a bounded time. Must not
 * know the protocol.
 */
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    SETTLE_US = 400 * SECOND, /* without faults, within which all must be done */
    POINTS_MAX = 300000
};

/* --- the life of a worker --- */

static bool make_source(void *arg, int index, struct mr_source **out, struct mr_error *err)
{
    (void)index;
    (void)err;
    *out = sim_source(arg);
    return true;
}
static bool make_sink(void *arg, int index, struct mr_sink **out, struct mr_error *err)
{
    (void)index;
    (void)err;
    *out = sim_sink(arg);
    return true;
}
static bool make_store(void *arg, int index, struct mr_store **out, struct mr_error *err)
{
    (void)index;
    (void)err;
    *out = sim_store(arg);
    return true;
}
static bool make_script(void *arg, int index, const struct mr_edition *edition,
                        const struct mr_lookup_schema *lookup, const struct mr_row_schema *rows,
                        struct mr_script **out, struct mr_error *err)
{
    (void)index;
    (void)edition;
    (void)err;
    *out = sim_script(arg, lookup, rows != NULL);
    return true;
}

static void worker_start(int slot)
{
    if (sim.n_workers == SIM_LIVES) {
        sim_fail(SIM_UNREST, "%d processes were not enough", SIM_LIVES);
        return;
    }
    struct sim_worker *worker = mr_calloc(1, sizeof *worker);
    const struct sim_mix *mix = sim.mix;
    worker->slot = slot;
    worker->life = sim.n_workers;
    worker->wake_us = sim.now_us;
    worker->swapped = sim_percent(50);
    worker->exactly_once = sim_below(mix->exactly + mix->at_least) < mix->exactly;
    for (int i = sim.n_workers - 1; i >= 0; i--)
        if (sim.workers[i]->exactly_once != worker->exactly_once) {
            sim_counts.switches++;
            break;
        }
    sim.had_at_least_once |= !worker->exactly_once && mix->sink;
    snprintf(worker->name, sizeof worker->name, "app.p.g.i%d.0", slot);
    const struct mr_worker_options options = {
        .pipeline = "p",
        .factory = {worker, make_source, mix->sink ? make_sink : NULL,
                    mix->store ? make_store : NULL, make_script},
        .lookup = sim.lookup,
        .delivery = {.pipeline = "p",
                     .group = "g",
                     .exactly_once = worker->exactly_once,
                     .dead_topic = !sim.dead_to_topic ? -1
                                   : worker->swapped  ? 0
                                                      : 1,
                     .flush_timeout_ms = 25000,
                     .claim_timeout_ms = 1000,
                     .decide_within_ms = 5000},
        .settings.linger_ms = 20,
        .settings.unit_outputs = sim.unit_outputs,
        .settings.unit_bytes = 1 << 16,
        .settings.max_message_bytes = 100,
    };
    worker->engine = mr_worker_new(&options, &worker->stop);
    sim_stage_enter(worker);
    worker->running = true;
    sim.workers[sim.n_workers++] = worker;
    sim.slots[slot].worker = worker;
    sim_trace(worker, "starts, %s", worker->exactly_once ? "exactly_once" : "at_least_once");
}

static void worker_ended(struct sim_worker *worker)
{
    worker->running = false;
    int code = mr_worker_free(worker->engine);
    worker->engine = NULL;
    sim_stage_leave(worker);
    if (!worker->crashed && code)
        sim_fail(SIM_HALT, "worker %s.%d halted: %s", worker->name, worker->life, worker->halted);
    if (!worker->crashed && worker->session)
        sim_fail(SIM_STATE, "worker %s.%d left its connection open", worker->name, worker->life);
    sim_trace(worker, "has ended");
    sim_restart_later(worker, 8 * SECOND);
}

/* --- the loop --- */

static void tick(void)
{
    sim.next_event_us = SIM_NEVER;
    sim_broker_tick();
    sim_group_tick();
    sim_pg_tick();
    for (int s = 0; s < SIM_SLOTS; s++) {
        struct sim_slot *slot = &sim.slots[s];
        if (slot->worker || slot->start_us == SIM_NEVER || sim.stopping)
            continue;
        if (slot->start_us <= sim.now_us)
            worker_start(s);
        else
            sim_event_at(slot->start_us);
    }
    if (sim.swap_us <= sim.now_us) {
        sim_lookup_swap(sim.lookup, sim_below(SIM_TABLES));
        sim_counts.swaps++;
        sim.swap_us = sim.faults ? sim.now_us + sim_between(MS, 20 * SECOND) : SIM_NEVER;
    }
    sim_event_at(sim.swap_us);
}

/* One turn: somebody goes on, or time does. False: nobody ever will. */
static bool turn(void)
{
    struct sim_worker *due[SIM_LIVES];
    int n_due = 0;
    int64_t next = SIM_NEVER;
    if (sim.next_event_us <= sim.now_us)
        tick();
    for (int i = 0; i < sim.n_workers; i++) {
        struct sim_worker *worker = sim.workers[i];
        if (!worker->running)
            continue;
        if (worker->wake_us <= sim.now_us)
            due[n_due++] = worker;
        else if (worker->wake_us < next)
            next = worker->wake_us;
    }
    if (n_due) {
        struct sim_worker *worker = due[n_due == 1 ? 0 : sim_below(n_due)];
        sim_stage_resume(worker);
        if (worker->ended)
            worker_ended(worker);
        return true;
    }
    if (sim.next_event_us < next)
        next = sim.next_event_us;
    if (next == SIM_NEVER)
        return false;
    sim.now_us = next;
    return true;
}

static bool any_running(void)
{
    for (int i = 0; i < sim.n_workers; i++)
        if (sim.workers[i]->running)
            return true;
    return false;
}

static void run_with_faults(void)
{
    sim.faults = true;
    while (!sim.failed && sim.now_us < sim.faults_until_us && sim.points < POINTS_MAX &&
           (sim.faults_left > 0 || !sim_settled()))
        if (!turn())
            break;
    sim.faults = false;
    sim.pg_down_us = sim.broker_down_us = 0;
    sim_trace(NULL, "no more faults");
}

static void run_until_settled(void)
{
    int64_t deadline = sim.now_us + SETTLE_US;
    while (!sim.failed && !sim_settled()) {
        if (sim.now_us > deadline || sim.points > POINTS_MAX || !turn())
            sim_fail(SIM_UNREST, "does not come to rest within %.0f s and %d steps",
                     (double)(sim.now_us - deadline + SETTLE_US) / SECOND, (int)sim.points);
    }
    /* Idle for a while: whatever is due then. */
    deadline = sim.now_us + (sim_percent(30) ? 8 * SECOND : 0);
    while (!sim.failed && sim.now_us < deadline && turn())
        ;
}

static void run_until_stopped(void)
{
    int64_t deadline = sim.now_us + SETTLE_US;
    sim.stopping = true;
    for (int i = 0; i < sim.n_workers; i++)
        atomic_store(&sim.workers[i]->stop, true);
    while (!sim.failed && any_running())
        if (!turn() || sim.now_us > deadline)
            sim_fail(SIM_UNREST, "a worker does not stop");
}

/* A fresh process finds nothing to do. */
static void run_once_more(void)
{
    sim.stopping = false;
    sim.slots[0].worker = NULL;
    for (int s = 0; s < SIM_SLOTS; s++)
        sim.slots[s].start_us = s ? SIM_NEVER : sim.now_us;
    sim_event_at(sim.now_us);
    int64_t deadline = sim.now_us + 90 * SECOND; /* the dead have been forgotten by then */
    while (!sim.failed && sim.now_us < deadline && turn())
        ;
    run_until_stopped();
}

static void unwind(void)
{
    for (int i = 0; i < sim.n_workers; i++)
        if (sim.workers[i]->running)
            sim_crash(sim.workers[i], "the schedule is over");
    sim.stopping = true;
    while (any_running() && turn())
        ;
}

static void begin(const struct sim_mix *mix, uint64_t seed)
{
    sim = (struct sim){.seed = seed, .random = seed, .mix = mix};
    for (int i = 0; i < 3; i++)
        sim_draw();
    sim.n_parts = (int)sim_between(1, SIM_PARTS);
    sim.may_kill = sim_percent(80);
    sim.unit_outputs = sim_percent(70) ? SIM_UNIT : (uint32_t)sim_between(1, 30);
    sim.static_members = sim_percent(30);
    sim.dead_to_topic = mix->sink && (!mix->store || sim_percent(25));
    sim_faults_draw();
    sim.swap_us = sim_percent(50) ? sim_between(0, 20 * SECOND) : SIM_NEVER;
    sim.lookup = sim_lookup_new(sim_below(SIM_TABLES));
    sim_input_make();
    int n_slots = (int)sim_between(mix->lax_group ? 2 : 1, SIM_SLOTS);
    for (int s = 0; s < SIM_SLOTS; s++)
        sim.slots[s].start_us = s >= n_slots      ? SIM_NEVER
                                : sim_percent(70) ? sim_between(0, 500 * MS)
                                                  : sim_between(0, 30 * SECOND);
}

static void end(void)
{
    sim_counts.steps += sim.points;
    for (int i = 0; i < sim.n_workers; i++)
        free(sim.workers[i]);
    sim.n_workers = 0;
    sim_broker_free();
    sim_pg_free();
    mr_lookup_free(sim.lookup);
}

bool sim_run(const struct sim_mix *mix, uint64_t seed)
{
    begin(mix, seed);
    run_with_faults();
    run_until_settled();
    run_until_stopped();
    if (!sim.failed)
        sim_check_end();
    if (!sim.failed && sim_percent(20)) {
        run_once_more();
        if (!sim.failed)
            sim_check_end();
        if (!sim.failed)
            sim_check_tidy();
    }
    unwind();
    sim_counts.schedules++;
    end();
    return !sim.failed;
}
