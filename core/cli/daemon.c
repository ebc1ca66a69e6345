/*
 * daemon.c - the main thread of `millrace run`: an instance, ordered about by signals and, with
 * --watch, by files that change.
 *
 * Owns the signalfd. Must not know what an instance does. Tests:
 * tests/integration/manners_spec.lua, reload_spec.lua.
 */
#include "cli/daemon.h"

#include "base/log.h"
#include "cli/file_watch.h"
#include "cli/instance.h"

#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

static const sigset_t *served(void)
{
    static sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGUSR1);
    return &set;
}

void mr_daemon_keep_signals(void)
{
    pthread_sigmask(SIG_BLOCK, served(), NULL);
}

struct daemon {
    int signals;
    struct mr_instance *instance;
    struct mr_file_watch *watch; /* NULL: without --watch */
    bool listed;
    unsigned seen; /* reloads whose files are watched */
};

static enum mr_order order_of(int signo)
{
    switch (signo) {
    case SIGHUP:
        return MR_ORDER_RELOAD;
    case SIGUSR1:
        return MR_ORDER_ACCEPT;
    default:
        return MR_ORDER_STOP;
    }
}

/* Which files there are may change with each reload. */
static void watch_files(struct daemon *daemon)
{
    struct mr_reload *reload = mr_instance_reload(daemon->instance);
    struct mr_buf files = {0};
    unsigned n = mr_reload_last(reload, NULL, NULL);
    if (daemon->listed && n == daemon->seen)
        return;
    mr_reload_files(reload, &files);
    mr_file_watch_add(daemon->watch, mr_buf_cstr(&files));
    mr_buf_fini(&files);
    daemon->listed = true;
    daemon->seen = n;
}

static enum mr_order next_order(void *arg, int timeout_ms)
{
    struct daemon *daemon = arg;
    struct pollfd fds[2] = {{.fd = daemon->signals, .events = POLLIN},
                            {.fd = -1, .events = POLLIN}};
    struct signalfd_siginfo info;
    if (daemon->watch) {
        watch_files(daemon);
        if (mr_file_watch_due(daemon->watch, &timeout_ms))
            return MR_ORDER_LOOK;
        fds[1].fd = mr_file_watch_fd(daemon->watch);
    }
    if (poll(fds, 2, timeout_ms) > 0 && fds[0].revents &&
        read(daemon->signals, &info, sizeof info) == sizeof info)
        return order_of((int)info.ssi_signo);
    return MR_ORDER_NONE;
}

int mr_daemon_run(const struct mr_cli_args *args, const struct mr_node *config, bool *abandoned)
{
    struct mr_error err;
    struct daemon daemon = {.signals = signalfd(-1, served(), SFD_CLOEXEC | SFD_NONBLOCK)};
    int code = MR_EXIT_OK;
    *abandoned = false;
    mr_log(MR_INFO, "millrace %s starting", MR_VERSION);
    daemon.instance = mr_instance_new(args, config);
    if ((!args->watch || mr_file_watch_new(&daemon.watch, &err)) &&
        mr_instance_start(daemon.instance, &err)) {
        *abandoned = !mr_instance_run(daemon.instance, next_order, &daemon, &code);
    } else {
        mr_log(MR_ERROR, "%s", err.msg);
        code = err.code;
    }
    if (!*abandoned)
        mr_instance_free(daemon.instance);
    mr_file_watch_free(daemon.watch);
    close(daemon.signals);
    return code;
}
