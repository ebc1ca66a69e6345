/*
 * daemon.c - the main thread of `millrace run`: an instance, ordered about by signals.
 *
 * Owns the signalfd. Must not know what an instance does. Tests:
 * tests/integration/manners_spec.lua.
 */
#include "cli/daemon.h"

#include "base/log.h"
#include "cli/instance.h"

#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

static int open_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static enum mr_order next_order(void *arg, int timeout_ms)
{
    const int *signals = arg;
    struct pollfd fd = {.fd = *signals, .events = POLLIN};
    struct signalfd_siginfo info;
    if (poll(&fd, 1, timeout_ms) <= 0 || read(*signals, &info, sizeof info) != sizeof info)
        return MR_ORDER_NONE;
    switch (info.ssi_signo) {
    case SIGHUP:
        return MR_ORDER_RELOAD;
    case SIGUSR1:
        return MR_ORDER_ACCEPT;
    default:
        return MR_ORDER_STOP;
    }
}

int mr_daemon_run(const struct mr_cli_args *args, const struct mr_node *config, bool *abandoned)
{
    struct mr_error err;
    int signals = open_signals(), code = MR_EXIT_OK;
    *abandoned = false;
    mr_log(MR_INFO, "millrace %s starting", MR_VERSION);
    struct mr_instance *instance = mr_instance_new(args, config);
    if (mr_instance_start(instance, &err)) {
        *abandoned = !mr_instance_run(instance, next_order, &signals, &code);
    } else {
        mr_log(MR_ERROR, "%s", err.msg);
        code = err.code;
    }
    if (!*abandoned)
        mr_instance_free(instance);
    close(signals);
    return code;
}
