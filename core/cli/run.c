/*
 * run.c - `millrace run`: the daemon.
 *
 * Main thread. Must not know how messages flow: daemon.c is the life of the process, wire.c puts
 * the rooms together. Tests: tests/integration.
 */
#include "cli/cli.h"
#include "cli/daemon.h"
#include "kafka/kafka.h"

static bool abandoned;

bool mr_cli_abandoned(void)
{
    return abandoned || mr_kafka_left_behind();
}

int mr_cli_run(const struct mr_cli_args *args)
{
    struct mr_node *config = NULL;
    mr_daemon_keep_signals();
    if (!mr_cli_load(args, &config))
        return MR_EXIT_CONFIG;
    int code = mr_daemon_run(args, config, &abandoned);
    if (!abandoned)
        mr_node_free(config);
    return code;
}
