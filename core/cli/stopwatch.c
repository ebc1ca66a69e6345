/*
 * stopwatch.c - each call goes on to the real script, between two looks at the clock.
 *
 * One thread, the script's. Owns nothing. A look takes about 25 ns, of calls that take
 * microseconds; with `each` there are three looks a row. Tests: tests/spec/bench_command_spec.lua.
 */
#include "cli/stopwatch.h"

#include <time.h>

static int64_t read_ns(clockid_t clock)
{
    struct timespec at;
    clock_gettime(clock, &at);
    return (int64_t)at.tv_sec * INT64_C(1000000000) + at.tv_nsec;
}

int64_t mr_stopwatch_now_ns(void)
{
    return read_ns(CLOCK_MONOTONIC);
}

int64_t mr_stopwatch_cpu_ns(void)
{
    return read_ns(CLOCK_THREAD_CPUTIME_ID);
}

static struct mr_stopwatch *watch_of(const struct mr_script *script)
{
    return (struct mr_stopwatch *)(uintptr_t)script;
}

static enum mr_verdict counted(struct mr_stopwatch *watch, int64_t began_ns,
                               enum mr_verdict verdict)
{
    watch->script_ns += mr_stopwatch_now_ns() - began_ns;
    return verdict;
}

static enum mr_verdict timed_accept(struct mr_script *script, struct mr_record *rec,
                                    struct mr_source *source, const struct mr_context *ctx,
                                    const char **reason, struct mr_error *err)
{
    struct mr_stopwatch *watch = watch_of(script);
    int64_t began = mr_stopwatch_now_ns();
    return counted(watch, began,
                   watch->real->ops->accept(watch->real, rec, source, ctx, reason, err));
}

static enum mr_verdict timed_key(struct mr_script *script, const struct mr_context *ctx,
                                 const struct mr_bytes **keys, size_t *n, const char **reason,
                                 struct mr_error *err)
{
    struct mr_stopwatch *watch = watch_of(script);
    int64_t began = mr_stopwatch_now_ns();
    return counted(watch, began, watch->real->ops->key(watch->real, ctx, keys, n, reason, err));
}

static enum mr_verdict timed_project(struct mr_script *script, const struct mr_context *ctx,
                                     const struct mr_template **out, const char **reason,
                                     struct mr_error *err)
{
    struct mr_stopwatch *watch = watch_of(script);
    int64_t began = mr_stopwatch_now_ns();
    return counted(watch, began, watch->real->ops->project(watch->real, ctx, out, reason, err));
}

/* The rows of `each`: fetching and stamping them is not the script's time. */
struct timed_rows {
    struct mr_rows rows; /* first: what the script sees */
    struct mr_rows *real;
    int64_t ns;
};

static bool timed_next(struct mr_rows *rows, struct mr_row_ref *row, struct mr_error *err)
{
    struct timed_rows *timed = (struct timed_rows *)rows;
    bool ok = timed->real->next(timed->real, row, err);
    rows->failed = timed->real->failed;
    return ok;
}

static bool timed_put(struct mr_rows *rows, const struct mr_template *template,
                      struct mr_error *err)
{
    struct timed_rows *timed = (struct timed_rows *)rows;
    int64_t began = mr_stopwatch_now_ns();
    bool ok = timed->real->put(timed->real, template, err);
    timed->ns += mr_stopwatch_now_ns() - began;
    rows->failed = timed->real->failed;
    return ok;
}

static enum mr_verdict timed_each(struct mr_script *script, const struct mr_context *ctx,
                                  struct mr_rows *rows, struct mr_error *err)
{
    struct mr_stopwatch *watch = watch_of(script);
    struct timed_rows timed = {.rows = *rows, .real = rows};
    timed.rows.next = timed_next;
    timed.rows.put = timed_put;
    int64_t began = mr_stopwatch_now_ns();
    enum mr_verdict verdict = watch->real->ops->each(watch->real, ctx, &timed.rows, err);
    watch->script_ns += mr_stopwatch_now_ns() - began - timed.ns;
    watch->stamp_ns += timed.ns;
    return verdict;
}

static void pass_finish(struct mr_script *script)
{
    struct mr_stopwatch *watch = watch_of(script);
    int64_t began = mr_stopwatch_now_ns();
    watch->real->ops->finish(watch->real);
    counted(watch, began, MR_VERDICT_EMIT);
}

static bool pass_uses_lookup(const struct mr_script *script)
{
    const struct mr_script *real = watch_of(script)->real;
    return real->ops->uses_lookup(real);
}

static bool pass_by_row(const struct mr_script *script)
{
    const struct mr_script *real = watch_of(script)->real;
    return real->ops->by_row && real->ops->by_row(real);
}

static const char *pass_bundle(const struct mr_script *script)
{
    const struct mr_script *real = watch_of(script)->real;
    return real->ops->bundle(real);
}

static void keep(struct mr_script *script)
{
    (void)script; /* its owner closes it */
}

static const struct mr_script_ops ops = {.accept = timed_accept,
                                         .key = timed_key,
                                         .project = timed_project,
                                         .each = timed_each,
                                         .finish = pass_finish,
                                         .uses_lookup = pass_uses_lookup,
                                         .by_row = pass_by_row,
                                         .bundle = pass_bundle,
                                         .close = keep};

void mr_stopwatch_init(struct mr_stopwatch *watch, struct mr_script *real)
{
    *watch = (struct mr_stopwatch){.script = {&ops}, .real = real};
}
