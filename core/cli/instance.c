/*
 * instance.c - start, watch, drain: the life of a running Millrace.
 *
 * Owns the wiring, the reloads and the admin server. Must not know signals or how messages flow.
 * What a drain that takes too long leaves behind are threads that may be ended at any moment:
 * nothing is acknowledged before it is durable. Tests: tests/integration/manners_spec.lua,
 * embed_spec.lua.
 */
#include "cli/instance.h"

#include "admin/admin.h"
#include "base/clock.h"
#include "base/log.h"
#include "cli/rehearsal.h"
#include "cli/reload.h"
#include "cli/wire.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

enum { LOOK_MS = 100, DRAIN_LOOK_MS = 10 };

struct mr_instance {
    const struct mr_node *config; /* that of the start */
    struct mr_wiring *wiring;
    struct mr_reload *reload;
    struct mr_admin *admin;
    pthread_mutex_t lock; /* of what follows */
    struct mr_app *app;   /* NULL when it has ended */
    enum mr_app_state state;
    bool started;
};

struct mr_instance *mr_instance_new(const struct mr_cli_args *args, const struct mr_node *config)
{
    struct mr_instance *instance = mr_calloc(1, sizeof *instance);
    instance->config = config;
    instance->wiring = mr_wiring_new(config);
    instance->app = mr_wiring_app(instance->wiring);
    struct mr_rehearsal rehearsal = {.run = mr_rehearsal_judge, .arg = instance->wiring};
    instance->reload = mr_reload_new(args, instance->wiring, &rehearsal);
    pthread_mutex_init(&instance->lock, NULL);
    return instance;
}

bool mr_instance_health(struct mr_instance *instance, struct mr_buf *out)
{
    bool well = false;
    pthread_mutex_lock(&instance->lock);
    if (instance->app)
        well = mr_app_health(instance->app, out);
    else
        mr_buf_put_text(out, "[-]millrace has ended\n");
    pthread_mutex_unlock(&instance->lock);
    return well;
}

static bool answer_ready(void *arg, struct mr_buf *out)
{
    return mr_instance_health(arg, out);
}

/* Some gauges are computed when somebody looks. */
static void before_metrics(void *arg)
{
    struct mr_buf unused = {0};
    mr_instance_health(arg, &unused);
    mr_buf_fini(&unused);
}

static const char *answer_rehearse(void *arg, const struct mr_admin_query *query,
                                   const atomic_bool *stop, struct mr_buf *out)
{
    struct mr_instance *instance = arg;
    return mr_rehearsal_answer(instance->wiring, mr_reload_args(instance->reload),
                               *query->pipeline ? query->pipeline : NULL, query->json, stop, out);
}

static bool start_admin(struct mr_instance *instance, struct mr_error *err)
{
    const char *listen = mr_node_text(instance->config, "admin.listen");
    if (!listen || !*listen || strcmp(listen, "off") == 0)
        return true;
    struct mr_admin_options options = {
        .listen = listen,
        .ready = answer_ready,
        .before_metrics = before_metrics,
        .rehearse = answer_rehearse,
        .arg = instance,
    };
    return mr_admin_start(&options, &instance->admin, err);
}

bool mr_instance_start(struct mr_instance *instance, struct mr_error *err)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool ok = start_admin(instance, err);
    if (ok) {
        mr_app_start(instance->app);
        instance->started = true;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return ok;
}

struct mr_reload *mr_instance_reload(struct mr_instance *instance)
{
    return instance->reload;
}

enum mr_app_state mr_instance_state(struct mr_instance *instance)
{
    pthread_mutex_lock(&instance->lock);
    enum mr_app_state state = instance->state;
    pthread_mutex_unlock(&instance->lock);
    return state;
}

static void set_state(struct mr_instance *instance, enum mr_app_state state)
{
    pthread_mutex_lock(&instance->lock);
    instance->state = state;
    pthread_mutex_unlock(&instance->lock);
}

static void announce(struct mr_instance *instance)
{
    struct mr_buf text = {0};
    mr_app_describe(instance->app, &text);
    mr_log(MR_INFO, "ready: %s", mr_buf_cstr(&text));
    mr_buf_fini(&text);
    set_state(instance, MR_APP_READY);
}

/* Until somebody or something ends it: what has ended it by itself, or 0. */
static int watch(struct mr_instance *instance, enum mr_order (*next)(void *arg, int timeout_ms),
                 void *arg)
{
    bool ready = false;
    for (;;) {
        int code = 0;
        enum mr_app_state state = mr_app_state(instance->app, &code);
        if (state == MR_APP_ENDED)
            return code;
        if (state == MR_APP_READY && !ready) {
            announce(instance);
            ready = true;
        }
        mr_reload_serve(instance->reload);
        enum mr_order order = next(arg, LOOK_MS);
        switch (order) {
        case MR_ORDER_STOP:
            mr_log(MR_INFO, "stopping: finishing what is open");
            return MR_EXIT_OK;
        case MR_ORDER_RELOAD:
        case MR_ORDER_LOOK:
            mr_reload_ask(instance->reload, order == MR_ORDER_LOOK);
            break;
        case MR_ORDER_ACCEPT:
            if (mr_app_accept(instance->app))
                mr_log(MR_INFO, "what was held back will be taken with the next read");
            else
                mr_log(MR_WARN, "no lookup holds a read back; nothing was changed");
            break;
        case MR_ORDER_NONE:
            break;
        }
    }
}

/* False: time is over, or a second order came. */
static bool drain(struct mr_instance *instance, enum mr_order (*next)(void *arg, int timeout_ms),
                  void *arg)
{
    int64_t deadline = mr_clock_mono_ms() + mr_wiring_drain_timeout_ms(instance->wiring);
    mr_app_request_stop(instance->app);
    while (!mr_app_ended(instance->app) || !mr_reload_serve(instance->reload) ||
           !mr_admin_quiet(instance->admin)) {
        if (next(arg, DRAIN_LOOK_MS) == MR_ORDER_STOP) {
            mr_log(MR_WARN, "stopping at once: what was not decided is undone and will be done "
                            "again");
            return false;
        }
        if (mr_clock_mono_ms() >= deadline) {
            mr_log(MR_WARN, "drain_timeout is over: what was not decided is undone and will be "
                            "done again");
            return false;
        }
    }
    return true;
}

static int join(struct mr_instance *instance)
{
    int code = 0;
    mr_admin_stop(instance->admin);
    instance->admin = NULL;
    pthread_mutex_lock(&instance->lock);
    struct mr_app *app = instance->app;
    instance->app = NULL;
    pthread_mutex_unlock(&instance->lock);
    mr_assert(mr_app_join(app, INT64_MAX, &code)); /* every thread has said its last already */
    return code;
}

bool mr_instance_run(struct mr_instance *instance, enum mr_order (*next)(void *arg, int timeout_ms),
                     void *arg, int *exit_code)
{
    *exit_code = watch(instance, next, arg);
    if (!drain(instance, next, arg)) /* a halt stays one, even if the others are stuck */
        return false;
    *exit_code = join(instance);
    set_state(instance, MR_APP_ENDED);
    mr_log(MR_INFO, "stopped");
    return true;
}

void mr_instance_free(struct mr_instance *instance)
{
    int code;
    if (instance->app) {
        mr_assert(!instance->started);
        mr_assert(mr_app_join(instance->app, mr_clock_mono_ms(), &code));
    }
    mr_reload_free(instance->reload);
    mr_wiring_free(instance->wiring);
    pthread_mutex_destroy(&instance->lock);
    free(instance);
}
