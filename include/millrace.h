/*
 * millrace.h - run Millrace inside another program: the same core, configuration and scripts as
 * `millrace run`.
 *
 *     struct mr_millrace *m = mr_millrace_open("config.lua", NULL, 0, text, sizeof text);
 *     if (!m || mr_millrace_start(m, text, sizeof text) != 0) { puts(text); ... }
 *     if (mr_millrace_wait(m, 30000) == MR_MILLRACE_READY) ...
 *     mr_millrace_stop(m);
 *     int code = mr_millrace_join(m, -1);
 *     mr_millrace_close(m);
 *
 * Ownership: strings that are given in are copied; what is returned says who owns it. Threads: one
 * thread drives an instance (open, start, join, close); stop, reload, wait, ready and metrics may
 * be called from any other between start and close. Signals: none is handled, and Millrace's
 * threads take none; SIGPIPE should be ignored by the program. One instance may be open at a time
 * in a process: log and metrics belong to the process. Exit codes are those of the command: 0, 65
 * data, 69 unreachable, 70 a bug, 75 try again, 78 configuration.
 */
#ifndef MILLRACE_H
#define MILLRACE_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

struct mr_millrace;

/* "0.1.0"; lives as long as the program. Any thread. */
const char *mr_millrace_version(void);

/*
 * Sends log lines to `line`, one each without its newline, in place of stderr; it is called from
 * any of Millrace's threads and must not call Millrace. NULL: stderr again. Only while nothing is
 * started.
 */
void mr_millrace_log(void (*line)(const char *text, void *arg), void *arg);

/*
 * Reads and checks a configuration; connects to nothing. `config_path` as for `millrace -c`; `sets`
 * are n_sets overrides as for --set ("pipelines.promo.workers=4"), NULL with 0. NULL on failure:
 * every error stands in `text`, as `millrace check` prints them (code 78). `text` is always
 * NUL-terminated, cut to size_bytes; NULL with 0.
 */
struct mr_millrace *mr_millrace_open(const char *config_path, const char *const *sets,
                                     size_t n_sets, char *text, size_t size_bytes);

/*
 * Starts the threads: lookups load, workers join their groups, the admin port answers. Returns at
 * once; services that are away are tried again until stop. 0, or an exit code with a sentence in
 * `text` (such as a taken admin port); nothing runs then. Once only.
 */
int mr_millrace_start(struct mr_millrace *m, char *text, size_t size_bytes);

enum mr_millrace_state {
    MR_MILLRACE_STARTING, /* not every lookup is loaded, or not every worker has joined its group */
    MR_MILLRACE_READY, /* has been ready once; what is amiss since then, mr_millrace_ready tells */
    MR_MILLRACE_ENDED  /* stopped, or halted by an error; mr_millrace_join has the code */
};

/* Waits until the state is not STARTING, for at most timeout_ms (0: only looks; -1: no limit), and
 * returns it. */
enum mr_millrace_state mr_millrace_wait(struct mr_millrace *m, int timeout_ms);

/*
 * Whether all is well now, as /readyz?verbose tells: the checks, one line each, in `text` (see
 * mr_millrace_metrics about its size). Waits for no service.
 */
bool mr_millrace_ready(struct mr_millrace *m, char *text, size_t size_bytes);

/*
 * Reads configuration and scripts anew and takes them into use without a stop, as SIGHUP does for
 * the command; waits for at most timeout_ms (-1: no limit). 0: they are in force, or nothing has
 * changed. 78: nothing was changed; why stands in `text`, as in the log. -1: it is not done yet, or
 * the instance is ending.
 */
int mr_millrace_reload(struct mr_millrace *m, int timeout_ms, char *text, size_t size_bytes);

/* Asks it to drain: finish what is open, leave the groups. Returns at once; asking twice is once.
 */
void mr_millrace_stop(struct mr_millrace *m);

/*
 * Waits until every thread has ended, for at most timeout_ms (-1: no limit). The exit code, or -1:
 * still running. Does not ask it to stop. What `drain_timeout` of the configuration cuts off is
 * undone and done again by the next start, so a program that cannot wait may simply exit.
 */
int mr_millrace_join(struct mr_millrace *m, int timeout_ms);

/*
 * The counters and gauges of /metrics (docs/METRICS.md), but for process_*, in Prometheus's text
 * format. Like snprintf: writes at most size_bytes with the NUL, returns the length of the whole
 * text without it; NULL with 0 only asks.
 */
size_t mr_millrace_metrics(struct mr_millrace *m, char *text, size_t size_bytes);

/* Frees an instance that was never started or has been joined; any other is a bug and aborts. NULL
 * is nothing. */
void mr_millrace_close(struct mr_millrace *m);

#ifdef __cplusplus
}
#endif

#endif
