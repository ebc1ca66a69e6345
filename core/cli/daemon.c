/*
 * daemon.c - the main thread of `millrace run`: signals, readiness, the end.
 *
 * Owns the wiring and the admin server. Must not know how messages flow. What it leaves behind after a drain that
 * takes too long are threads that may be ended at any moment without harm: nothing is acknowledged before it is durable.
 * Tests: tests/integration/manners_spec.lua.
 */
#include "cli/daemon.h"

#include "admin/admin.h"
#include "base/clock.h"
#include "base/log.h"
#include "cli/wire.h"

#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum { LOOK_MS = 100 };

struct daemon {
    struct mr_wiring *wiring;
    struct mr_app *app;
    struct mr_admin *admin;
    int signals; /* signalfd */
    bool ready;
    int exit_code;
};

static bool health(void *arg, struct mr_buf *out)
{
    struct daemon *daemon = arg;
    return mr_app_health(daemon->app, out);
}

/* Gauges that are computed when somebody looks. */
static void before_metrics(void *arg)
{
    struct mr_buf unused = {0};
    health(arg, &unused);
    mr_buf_fini(&unused);
}

static bool start_admin(struct daemon *daemon, const struct mr_node *config)
{
    struct mr_error err;
    const char *listen = mr_node_text(config, "admin.listen");
    if (!listen || !*listen || strcmp(listen, "off") == 0)
        return true;
    struct mr_admin_options options = {
        .listen = listen, .ready = health, .before_metrics = before_metrics, .arg = daemon};
    if (mr_admin_start(&options, &daemon->admin, &err))
        return true;
    mr_log(MR_ERROR, "%s", err.msg);
    daemon->exit_code = err.code;
    return false;
}

static int open_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* The signal that arrived within the time, or 0. */
static int next_signal(const struct daemon *daemon, int timeout_ms)
{
    struct pollfd fd = {.fd = daemon->signals, .events = POLLIN};
    struct signalfd_siginfo info;
    if (poll(&fd, 1, timeout_ms) <= 0 || read(daemon->signals, &info, sizeof info) != sizeof info)
        return 0;
    return (int)info.ssi_signo;
}

static void announce(struct daemon *daemon)
{
    struct mr_buf text = {0};
    mr_app_describe(daemon->app, &text);
    mr_log(MR_INFO, "ready: %s", mr_buf_cstr(&text));
    mr_buf_fini(&text);
    daemon->ready = true;
}

/* Until somebody or something ends it. */
static void watch(struct daemon *daemon)
{
    for (;;) {
        int code = 0;
        enum mr_app_state state = mr_app_state(daemon->app, &code);
        if (state == MR_APP_ENDED)
            return;
        if (state == MR_APP_READY && !daemon->ready)
            announce(daemon);
        switch (next_signal(daemon, LOOK_MS)) {
        case SIGTERM:
        case SIGINT:
            mr_log(MR_INFO, "stopping: finishing what is open");
            return;
        case SIGHUP:
            mr_log(MR_WARN, "SIGHUP: reload comes with a later release; nothing was changed, "
                            "restart to load new configuration or scripts");
            break;
        default:
            break;
        }
    }
}

/* False: time is over, or a second signal came; threads are still running. */
static bool drain(struct daemon *daemon)
{
    int64_t deadline = mr_clock_mono_ms() + mr_wiring_drain_timeout_ms(daemon->wiring);
    int code = 0;
    mr_app_request_stop(daemon->app);
    for (;;) {
        if (mr_app_ended(daemon->app))
            break;
        int signo = next_signal(daemon, 10);
        if (signo == SIGTERM || signo == SIGINT) {
            mr_log(MR_WARN, "stopping at once; what was not decided is undone and will be done again");
            return false;
        }
        if (mr_clock_mono_ms() >= deadline) {
            mr_log(MR_WARN, "drain_timeout is over; what was not decided is undone and will be "
                            "done again");
            return false;
        }
    }
    mr_admin_stop(daemon->admin); /* before what it asks is gone */
    daemon->admin = NULL;
    mr_assert(mr_app_join(daemon->app, deadline + 1000, &code));
    if (!daemon->exit_code)
        daemon->exit_code = code;
    return true;
}

int mr_daemon_run(const struct mr_node *config, bool *abandoned)
{
    struct daemon daemon = {.signals = open_signals()};
    mr_log(MR_INFO, "millrace %s starting", MR_VERSION);
    daemon.wiring = mr_wiring_new(config);
    daemon.app = mr_wiring_app(daemon.wiring);
    if (start_admin(&daemon, config)) {
        mr_app_start(daemon.app);
        watch(&daemon);
    }
    *abandoned = !drain(&daemon);
    if (!*abandoned) {
        mr_wiring_free(daemon.wiring);
        mr_log(MR_INFO, "stopped");
    }
    close(daemon.signals);
    return daemon.exit_code;
}
