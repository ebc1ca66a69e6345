/*
 * stage.c - workers as coroutines on stacks of their own, virtual time, and what is said about a
 * schedule.
 *
 * One thread. Owns the stacks, which are used again. The engine's clock, sleep and chance are ours
 * (core/base/clock.h). Must not know who runs when: schedule.c does.
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

enum { START_YEAR = 1700000000 };

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

void sim_stage_resume(struct sim_worker *worker)
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

void sim_stage_enter(struct sim_worker *worker)
{
    worker->stack = stack_take();
    getcontext(&worker->context);
    worker->context.uc_stack.ss_sp = worker->stack;
    worker->context.uc_stack.ss_size = STACK_BYTES;
    worker->context.uc_link = NULL;
    makecontext(&worker->context, worker_main, 0);
}

void sim_stage_leave(struct sim_worker *worker)
{
    stack_give(worker->stack);
    worker->stack = NULL;
}

void sim_stage_yield(struct sim_worker *worker)
{
    switch_to_main(worker, false);
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
