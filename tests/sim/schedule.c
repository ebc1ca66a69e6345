/*
 * schedule.c - one schedule from its seed: workers as coroutines, virtual time, faults.
 *
 * One thread. Whoever is due goes on, chosen by chance; when nobody is, time jumps to the next who
 * will be, or to the next event of the world. First come the faults, for a while; then the world is
 * well, and everything must come to rest, with the right outcome, within a bounded time. A worker
 * that dies unwinds at once: each of its calls fails and changes nothing. Must not know the
 * protocol.
 */
#include "sim.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
enum { STACK_BYTES = 1 << 20 };
#else
enum { STACK_BYTES = 256 << 10 };
#endif

enum {
    SETTLE_US = 400 * SECOND, /* without faults, within which all must be done */
    POINTS_MAX = 300000,
    START_YEAR = 1700000000
};

struct sim sim;
struct sim_counts sim_counts;
bool sim_verbose, sim_outcome_only;

/* --- coroutines --- */

static ucontext_t main_context;
static void *free_stacks[SIM_LIVES];
static int n_free_stacks;

static void *stack_take(void)
{
    return n_free_stacks ? free_stacks[--n_free_stacks] : mr_alloc(STACK_BYTES);
}

static void stack_give(void *stack)
{
    if (n_free_stacks < SIM_LIVES)
        free_stacks[n_free_stacks++] = stack;
    else
        free(stack);
}

#ifdef __SANITIZE_ADDRESS__
static void *main_fake;
static const void *main_bottom;
static size_t main_size;
#endif

static void switch_to_main(struct sim_worker *worker, bool for_ever)
{
    (void)for_ever;
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(for_ever ? NULL : &worker->fake_stack, main_bottom, main_size);
#endif
    swapcontext(&worker->context, &main_context);
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(worker->fake_stack, &main_bottom, &main_size);
#endif
}

static void switch_to(struct sim_worker *worker)
{
    sim.current = worker;
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(&main_fake, worker->stack, STACK_BYTES);
#endif
    swapcontext(&main_context, &worker->context);
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(main_fake, NULL, NULL);
#endif
    sim.current = NULL;
}

static void worker_main(void)
{
    struct sim_worker *worker = sim.current;
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(NULL, &main_bottom, &main_size);
#endif
    mr_worker_run(worker->engine);
    worker->ended = true;
    switch_to_main(worker, true);
}

/* --- time --- */

static int64_t virtual_us(void)
{
    return START_YEAR * (int64_t)SECOND + sim.now_us;
}

static int64_t virtual_random63(void)
{
    return (int64_t)(sim_draw() >> 1) | 1;
}

static void virtual_sleep(int ms)
{
    if (sim.current)
        sim_sleep_until(sim.current, sim.now_us + ms * (int64_t)MS);
}

static void on_log(const char *text, void *arg)
{
    (void)arg;
    if (sim.current)
        snprintf(sim.current->halted, sizeof sim.current->halted, "%s", text);
    if (sim_verbose)
        sim_trace(sim.current, "log: %s", text);
}

void sim_setup(void)
{
    mr_clock_hook(virtual_us, virtual_sleep, virtual_random63);
    mr_log_init(sim_verbose ? MR_DEBUG : MR_ERROR, MR_LOG_TEXT);
    mr_log_hook(on_log, NULL);
}

void sim_event_at(int64_t us)
{
    if (us < sim.next_event_us)
        sim.next_event_us = us;
}

void sim_trace(const struct sim_worker *worker, const char *format, ...)
{
    va_list args;
    if (!sim_verbose)
        return;
    char who[32] = "";
    if (worker)
        snprintf(who, sizeof who, "i%d.%d%s", worker->slot, worker->life,
                 worker->crashed ? " dead" : "");
    printf("%10.3f  %-10s", (double)sim.now_us / SECOND, who);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf("\n");
}

void sim_fail(enum sim_wrong wrong, const char *format, ...)
{
    va_list args;
    if (sim.failed || (wrong == SIM_STATE && sim_outcome_only))
        return;
    sim.failed = true;
    sim.wrong = wrong;
    va_start(args, format);
    vsnprintf(sim.failure, sizeof sim.failure, format, args);
    va_end(args);
    sim_trace(NULL, "FAILED: %s", sim.failure);
}

bool sim_dead(struct mr_error *err)
{
    return mr_error_set(err, MR_STOP, MR_EXIT_BUG, "this worker is dead");
}

/* --- deaths and sleeps --- */

static void restart_later(struct sim_worker *worker, int64_t within_us)
{
    struct sim_slot *slot = &sim.slots[worker->slot];
    if (slot->worker != worker)
        return;
    slot->worker = NULL;
    slot->start_us = sim.now_us + sim_between(50 * MS, within_us);
    sim_event_at(slot->start_us);
}

void sim_crash(struct sim_worker *worker, const char *why)
{
    if (worker->crashed)
        return;
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
    restart_later(worker, 15 * SECOND);
}

static void yield(struct sim_worker *worker)
{
    switch_to_main(worker, false);
}

bool sim_sleep_until(struct sim_worker *worker, int64_t us)
{
    if (worker->crashed)
        return false;
    worker->wake_us = us;
    yield(worker);
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
        restart_later(worker, 12 * SECOND);
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
        yield(worker);
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
static bool make_script(void *arg, int index, const struct mr_lookup_schema *lookup,
                        const struct mr_row_schema *rows, struct mr_script **out,
                        struct mr_error *err)
{
    (void)index;
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
        .linger_ms = 20,
        .unit_outputs = SIM_UNIT,
        .unit_bytes = 1 << 16,
        .max_message_bytes = 100,
    };
    worker->engine = mr_worker_new(&options, &worker->stop);
    worker->stack = stack_take();
    getcontext(&worker->context);
    worker->context.uc_stack.ss_sp = worker->stack;
    worker->context.uc_stack.ss_size = STACK_BYTES;
    worker->context.uc_link = NULL;
    makecontext(&worker->context, worker_main, 0);
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
    stack_give(worker->stack);
    worker->stack = NULL;
    if (!worker->crashed && code)
        sim_fail(SIM_HALT, "worker %s.%d halted: %s", worker->name, worker->life, worker->halted);
    if (!worker->crashed && worker->session)
        sim_fail(SIM_STATE, "worker %s.%d left its connection open", worker->name, worker->life);
    sim_trace(worker, "has ended");
    restart_later(worker, 8 * SECOND);
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
        switch_to(worker);
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
    sim.static_members = sim_percent(30);
    sim.dead_to_topic = mix->sink && (!mix->store || sim_percent(25));
    static const int rates[] = {20, 60, 150, 400}, switches[] = {300, 1500, 5000};
    sim.fault_rate = rates[sim_below(4)];
    sim.switch_rate = switches[sim_below(3)];
    sim.faults_left = (int)sim_between(1, 14);
    sim.fault_kinds = sim_percent(50) ? ~0u : (unsigned)sim_draw();
    if (mix->lax_group && sim_percent(70)) { /* what it is about are sleepers */
        sim.fault_kinds = 1u << ZOMBIE;
        sim.fault_rate = 400;
    }
    sim.faults_until_us = sim_between(2 * SECOND, 120 * SECOND);
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
