/*
 * daemon.h - the life of a running process: start, ready, signals, drain, end. The main thread.
 */
#ifndef MR_CLI_DAEMON_H
#define MR_CLI_DAEMON_H

#include "cli/cli.h"

/*
 * From here on a signal that mr_daemon_run serves waits for it: without, a reload or a stop that
 * comes while the configuration is still being read would kill. Call it first, before any other
 * thread exists.
 */
void mr_daemon_keep_signals(void);

/*
 * After mr_daemon_keep_signals. Runs until SIGTERM or SIGINT (drains, 0), a second one (at once),
 * or a halt. The exit code. SIGHUP reloads what `args` name. *abandoned: threads are left that did
 * not end in time; the process must end by _exit, which harms nothing.
 */
int mr_daemon_run(const struct mr_cli_args *args, const struct mr_node *config, bool *abandoned);

#endif
