/*
 * instance.h - one running Millrace, whoever drives it: the daemon with signals (daemon.c) or
 * another program (core/embed.c).
 *
 * new, start, run, free belong to one thread; run may be another thread than the rest. state and
 * health: any thread, between new and free.
 */
#ifndef MR_CLI_INSTANCE_H
#define MR_CLI_INSTANCE_H

#include "base/tree.h"
#include "cli/cli.h"
#include "cli/reload.h"
#include "stream/app.h"

struct mr_instance;

enum mr_order {
    MR_ORDER_NONE,
    MR_ORDER_STOP,
    MR_ORDER_RELOAD,
    MR_ORDER_LOOK, /* reload, and say nothing if nothing has changed */
    MR_ORDER_ACCEPT
};

/* Borrows the configuration until free. `args`: where it came from, and where a reload looks;
 * copied. */
struct mr_instance *mr_instance_new(const struct mr_cli_args *args, const struct mr_node *config);

/* Binds the admin port, starts the threads, which take no signals. False: nothing runs, *err says
 * why. */
MR_MUSTCHECK bool mr_instance_start(struct mr_instance *instance, struct mr_error *err);

/*
 * Watches until an order to stop or a halt, then drains. `next` waits up to timeout_ms for an
 * order. False: a second order to stop came, or drain_timeout is over: threads are still running,
 * nothing may be freed, and the process may end at any moment without harm.
 */
MR_MUSTCHECK bool mr_instance_run(struct mr_instance *instance,
                                  enum mr_order (*next)(void *arg, int timeout_ms), void *arg,
                                  int *exit_code);

/* Its reloads: mr_reload_last and mr_reload_files are for any thread. */
struct mr_reload *mr_instance_reload(struct mr_instance *instance);

enum mr_app_state mr_instance_state(struct mr_instance *instance);
/* One line a check; whether all are well. */
bool mr_instance_health(struct mr_instance *instance, struct mr_buf *out);

/* One that was never started, or whose run has returned true. */
void mr_instance_free(struct mr_instance *instance);

#endif
