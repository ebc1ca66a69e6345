/*
 * daemon.h - the life of a running process: start, ready, signals, drain, end. The main thread.
 */
#ifndef MR_CLI_DAEMON_H
#define MR_CLI_DAEMON_H

#include "cli/cli.h"

/*
 * Blocks the signals it serves, so call it before any other thread exists. Runs until SIGTERM or
 * SIGINT (drains, 0), a second one (at once), or a halt. The exit code. SIGHUP reloads what `args`
 * name. *abandoned: threads are left that did not end in time; the process must end by _exit, which
 * harms nothing.
 */
int mr_daemon_run(const struct mr_cli_args *args, const struct mr_node *config, bool *abandoned);

#endif
