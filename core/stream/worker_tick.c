/*
 * worker_tick.c - the script's `tick`: about once a second, in the worker's loop, between messages.
 *
 * The worker's thread; owns nothing. A tick that fails is logged and counted, and never ends the
 * worker. While one message is fanned out over many units no tick comes. Must not know what a tick
 * does. Tests: tests/integration/script_spec.lua.
 */
#include "stream/worker_state.h"

#include "base/clock.h"

enum { TICK_MS = 1000 };

void mr_worker_tick_if_due(struct mr_worker *worker)
{
    struct mr_script *script = worker->script;
    int64_t mono_ms = mr_clock_mono_ms();
    if (!script || !script->ops->tick || mono_ms < worker->tick_at_ms || mr_worker_stopping(worker))
        return;
    worker->tick_at_ms = mono_ms + TICK_MS;
    struct mr_context ctx = {.now_ms = mr_worker_now_ms(worker)};
    struct mr_error err;
    mr_watch_enter(&worker->watch, MR_PHASE_BUILD);
    if (script->ops->tick(script, &ctx, &err))
        return;
    mr_metric_add(worker->tally.tick_errors, 1);
    mr_log_every(&worker->tick_gate, MR_WARN, "tick: %s", err.msg);
}
