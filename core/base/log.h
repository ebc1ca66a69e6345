/*
 * log.h - one line an event, on stderr: text on a terminal, JSON lines otherwise.
 *
 * Control characters are escaped, so that input cannot forge lines. Set up once by main before
 * threads start; then any thread. A line is one write(2). Repeated floods are the caller's
 * business: use mr_log_every for what can happen once a message,
 * mr_log_trouble for what each attempt meets again.
 */
#ifndef MR_BASE_LOG_H
#define MR_BASE_LOG_H

#include "base/error.h"

#include <stdint.h>

enum mr_level { MR_DEBUG, MR_INFO, MR_WARN, MR_ERROR };
enum mr_log_format { MR_LOG_AUTO, MR_LOG_TEXT, MR_LOG_JSON };

void mr_log_init(enum mr_level level, enum mr_log_format format);
/* From now on; any thread. */
void mr_log_set_level(enum mr_level level);
bool mr_log_level_parse(const char *name, enum mr_level *level); /* debug info warn error */
bool mr_log_enabled(enum mr_level level);

/* The name that stands in each line of this thread, such as "promo/0"; copied. NULL: none. */
void mr_log_thread_name(const char *name);

void mr_log(enum mr_level level, const char *format, ...) MR_PRINTF(2, 3);

/*
 * A gate for lines that may come once a message: lets 10 through at once, then one each second, and
 * the next line that passes says how many were left out. One gate a call site and thread, zeroed.
 */
struct mr_log_gate {
    int64_t next_ms;
    unsigned burst;
    uint64_t suppressed;
};
void mr_log_every(struct mr_log_gate *gate, enum mr_level level, const char *format, ...)
    MR_PRINTF(3, 4);

/* false: every line passes, for specs. Before threads start. */
void mr_log_thin(bool thin);

/*
 * A gate for trouble that each new attempt meets again: a line when it is new or reads differently,
 * then one each 30 s that says how many were left out. The attempts between are logged as debug.
 * One a thread; zero it when the trouble is over.
 */
struct mr_log_trouble {
    int64_t next_ms;
    uint64_t suppressed;
    char last[400];
};
void mr_log_trouble(struct mr_log_trouble *trouble, enum mr_level level, const char *format, ...)
    MR_PRINTF(3, 4);

/*
 * The status line: one line that stands below the log on a terminal, such as a progress bar. Log
 * lines of any thread appear above it. `text` is copied, without a newline; NULL takes it away.
 * Nothing happens where lines cannot be redrawn (mr_log_status_width is 0).
 */
void mr_log_status(const char *text);

/* Columns that a status line may fill; 0 where there can be none: not a terminal, TERM=dumb, JSON
 * lines. */
int mr_log_status_width(void);

/* Called with each finished line in place of stderr (tests); NULL restores stderr. */
void mr_log_hook(void (*line)(const char *text, void *arg), void *arg);

#endif
