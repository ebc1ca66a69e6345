/*
 * embed.c - include/millrace.h: an instance on a thread of its own, ordered about by function
 * calls.
 *
 * Threads as the header says. Owns configuration, instance and its thread. Must not know more of
 * the rooms than cli does. Tests: tests/unit/test_embed.c, run by tests/integration/embed_spec.lua.
 */
#include "millrace.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/thread.h"
#include "cli/cli.h"
#include "cli/instance.h"
#include "cli/reload.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

struct mr_millrace {
    struct mr_node *config;
    struct mr_instance *instance;
    struct mr_thread thread;
    atomic_bool stop, failed; /* failed: the drain did not end in time; stays to be joined */
    atomic_uint reloads;      /* asked for */
    unsigned reloads_told;
    bool started, joined, stop_told;
    int exit_code;
};

static atomic_flag open_already = ATOMIC_FLAG_INIT; /* log and metrics belong to the process */

static void put_text(char *text, size_t size_bytes, const char *from)
{
    if (size_bytes)
        snprintf(text, size_bytes, "%s", from);
}

static void nap(int ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L}, NULL);
}

/* Monotonic; a negative time-out is as good as no limit: ten years. */
static int64_t deadline_of(int timeout_ms)
{
    return mr_clock_mono_ms() + (timeout_ms < 0 ? INT64_C(10) * 365 * 86400 * 1000 : timeout_ms);
}

const char *mr_millrace_version(void)
{
    return MR_VERSION;
}

void mr_millrace_log(void (*line)(const char *text, void *arg), void *arg)
{
    mr_log_hook(line, arg);
}

struct mr_millrace *mr_millrace_open(const char *config_path, const char *const *sets,
                                     size_t n_sets, char *text, size_t size_bytes)
{
    struct mr_cli_args args = {.config = config_path, .sets = sets, .n_sets = n_sets};
    struct mr_node *config = NULL;
    struct mr_buf errors = {0};
    if (atomic_flag_test_and_set(&open_already)) {
        put_text(text, size_bytes, "an instance is open already; one process holds one at a time");
        return NULL;
    }
    bool ok = mr_cli_load_quietly(&args, &config, &errors);
    put_text(text, size_bytes, mr_buf_cstr(&errors));
    mr_buf_fini(&errors);
    if (!ok) {
        atomic_flag_clear(&open_already);
        return NULL;
    }
    mr_cli_set_up_log(config);
    struct mr_millrace *m = mr_calloc(1, sizeof *m);
    m->config = config;
    m->instance = mr_instance_new(&args, config);
    return m;
}

/* An order to stop is given once; a second one would mean "at once". */
static enum mr_order next_order(void *arg, int timeout_ms)
{
    struct mr_millrace *m = arg;
    int64_t until = mr_clock_mono_ms() + timeout_ms;
    do {
        if (!m->stop_told && atomic_load(&m->stop)) {
            m->stop_told = true;
            return MR_ORDER_STOP;
        }
        if (m->reloads_told != atomic_load(&m->reloads)) {
            m->reloads_told++;
            return MR_ORDER_RELOAD;
        }
        nap(timeout_ms < 10 ? timeout_ms : 10);
    } while (mr_clock_mono_ms() < until);
    return MR_ORDER_NONE;
}

static void run(void *arg)
{
    struct mr_millrace *m = arg;
    if (!mr_instance_run(m->instance, next_order, m, &m->exit_code)) {
        m->exit_code = MR_EXIT_TRY_AGAIN;
        atomic_store(&m->failed, true);
    }
}

int mr_millrace_start(struct mr_millrace *m, char *text, size_t size_bytes)
{
    struct mr_error err = {0};
    put_text(text, size_bytes, "");
    mr_assert(!m->started);
    if (!mr_instance_start(m->instance, &err)) {
        put_text(text, size_bytes, err.msg);
        return err.code;
    }
    m->started = true;
    mr_thread_start(&m->thread, run, m);
    return 0;
}

enum mr_millrace_state mr_millrace_wait(struct mr_millrace *m, int timeout_ms)
{
    int64_t deadline = deadline_of(timeout_ms);
    for (;;) {
        switch (mr_instance_state(m->instance)) {
        case MR_APP_READY:
            return MR_MILLRACE_READY;
        case MR_APP_ENDED:
            return MR_MILLRACE_ENDED;
        case MR_APP_STARTING:
            break;
        }
        if (atomic_load(&m->failed))
            return MR_MILLRACE_ENDED;
        if (mr_clock_mono_ms() >= deadline)
            return MR_MILLRACE_STARTING;
        nap(10);
    }
}

bool mr_millrace_ready(struct mr_millrace *m, char *text, size_t size_bytes)
{
    struct mr_buf out = {0};
    bool well = mr_instance_health(m->instance, &out);
    put_text(text, size_bytes, mr_buf_cstr(&out));
    mr_buf_fini(&out);
    return well;
}

int mr_millrace_reload(struct mr_millrace *m, int timeout_ms, char *text, size_t size_bytes)
{
    int64_t deadline = deadline_of(timeout_ms);
    unsigned ours = atomic_fetch_add(&m->reloads, 1) + 1;
    put_text(text, size_bytes, "");
    for (;;) {
        enum mr_reload_result result;
        struct mr_buf line = {0};
        unsigned answered = mr_reload_last(mr_instance_reload(m->instance), &result, &line);
        bool done = (int)(answered - ours) >= 0;
        if (done)
            put_text(text, size_bytes, mr_buf_cstr(&line));
        mr_buf_fini(&line);
        if (done)
            return result == MR_RELOAD_APPLIED || result == MR_RELOAD_UNCHANGED ? 0
                                                                                : MR_EXIT_CONFIG;
        if (mr_clock_mono_ms() >= deadline || atomic_load(&m->stop) || atomic_load(&m->failed) ||
            mr_instance_state(m->instance) == MR_APP_ENDED)
            return -1;
        nap(2);
    }
}

void mr_millrace_stop(struct mr_millrace *m)
{
    atomic_store(&m->stop, true);
}

int mr_millrace_join(struct mr_millrace *m, int timeout_ms)
{
    if (!m->joined && m->started)
        m->joined = mr_thread_join(&m->thread, deadline_of(timeout_ms));
    return m->joined || !m->started ? m->exit_code : -1;
}

size_t mr_millrace_metrics(struct mr_millrace *m, char *text, size_t size_bytes)
{
    struct mr_buf out = {0};
    mr_instance_health(m->instance, &out); /* gauges that are computed when somebody looks */
    mr_buf_reset(&out);
    mr_metrics_write(&out);
    size_t len = out.len;
    put_text(text, size_bytes, mr_buf_cstr(&out));
    mr_buf_fini(&out);
    return len;
}

void mr_millrace_close(struct mr_millrace *m)
{
    if (!m)
        return;
    mr_assert(!m->started || m->joined);
    /* After a drain that was cut off, threads still use what is below: it stays. */
    if (!atomic_load(&m->failed)) {
        mr_instance_free(m->instance);
        mr_node_free(m->config);
    }
    atomic_flag_clear(&open_already);
    free(m);
}
