/*
 * log.c - log lines: format, escape, write.
 *
 * Any thread after mr_log_init. Owns the process-wide level and format, the status line, and each
 * thread's name. Must not know who logs what. Tests: tests/unit/test_base.c.
 */
#include "base/log.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/text.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

static const char *const level_names[] = {"debug", "info", "warn", "error"};
static atomic_int min_level = MR_INFO;
static bool as_json;
static bool thinned = true;
static void (*hook_line)(const char *, void *);
static void *hook_arg;
static _Thread_local char thread_name[64];
static pthread_mutex_t screen =
    PTHREAD_MUTEX_INITIALIZER; /* guards status and the order of writes */
static char status[256];
static const char clear_line[] = "\r\033[K";

void mr_log_set_level(enum mr_level level)
{
    atomic_store_explicit(&min_level, (int)level, memory_order_relaxed);
}

void mr_log_init(enum mr_level level, enum mr_log_format format)
{
    mr_log_set_level(level);
    as_json = format == MR_LOG_JSON || (format == MR_LOG_AUTO && !isatty(STDERR_FILENO));
}

bool mr_log_level_parse(const char *name, enum mr_level *level)
{
    for (size_t i = 0; i < sizeof level_names / sizeof *level_names; i++)
        if (strcasecmp(name, level_names[i]) == 0) {
            *level = (enum mr_level)i;
            return true;
        }
    return false;
}

bool mr_log_enabled(enum mr_level level)
{
    return (int)level >= atomic_load_explicit(&min_level, memory_order_relaxed);
}

void mr_log_thread_name(const char *name)
{
    snprintf(thread_name, sizeof thread_name, "%s", name ? name : "");
}

void mr_log_hook(void (*line)(const char *text, void *arg), void *arg)
{
    hook_line = line;
    hook_arg = arg;
}

static void put_time(struct mr_buf *line)
{
    int64_t now_ms = mr_clock_wall_ms();
    time_t seconds = (time_t)(now_ms / 1000);
    struct tm tm;
    gmtime_r(&seconds, &tm);
    char text[32];
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
    mr_buf_printf(line, "%s.%03dZ", text, (int)(now_ms % 1000));
}

/* Text lines keep newlines as such, indented, since config errors carry a caret below the line. */
static void put_plain(struct mr_buf *line, const char *msg)
{
    for (const char *p = msg; *p; p++) {
        unsigned char c = (unsigned char)*p;
        if (c == '\n')
            mr_buf_put_text(line, "\n    ");
        else if (c < 0x20 && c != '\t')
            mr_buf_printf(line, "\\x%02x", c);
        else
            mr_buf_put_char(line, (char)c);
    }
}

/* Nobody is left to tell when this fails. */
static void put_stderr(const struct mr_buf *bytes)
{
    ssize_t written = write(STDERR_FILENO, bytes->ptr, bytes->len);
    (void)written;
}

/* Takes the status line away, writes `line`, and puts the status line back, in one write. */
static void write_above_status(const struct mr_buf *line)
{
    pthread_mutex_lock(&screen);
    if (!status[0]) {
        put_stderr(line);
    } else {
        struct mr_buf all;
        mr_buf_init(&all);
        mr_buf_put_text(&all, clear_line);
        mr_buf_put(&all, line->ptr, line->len);
        mr_buf_put_text(&all, status);
        put_stderr(&all);
        mr_buf_fini(&all);
    }
    pthread_mutex_unlock(&screen);
}

void mr_log_status(const char *text)
{
    if (mr_log_status_width() == 0)
        return;
    pthread_mutex_lock(&screen);
    struct mr_buf all;
    mr_buf_init(&all);
    if (text || status[0]) {
        mr_buf_put_text(&all, clear_line);
        snprintf(status, sizeof status, "%s", text ? text : "");
        mr_buf_put_text(&all, status);
        put_stderr(&all);
    }
    mr_buf_fini(&all);
    pthread_mutex_unlock(&screen);
}

int mr_log_status_width(void)
{
    const char *term = getenv("TERM");
    if (as_json || hook_line || !term || !*term || strcmp(term, "dumb") == 0)
        return 0;
    struct winsize size;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0) /* fails on what is not a terminal */
        return 0;
    int columns = size.ws_col ? size.ws_col : 80;
    int most = (int)sizeof status - 1;
    return columns - 1 < most ? columns - 1
                              : most; /* the last column would wrap on some terminals */
}

static void emit(enum mr_level level, const char *msg)
{
    struct mr_buf line;
    mr_buf_init(&line);
    if (as_json) {
        mr_buf_put_text(&line, "{\"time\":\"");
        put_time(&line);
        mr_buf_printf(&line, "\",\"level\":\"%s\",", level_names[level]);
        if (thread_name[0]) {
            mr_buf_put_text(&line, "\"worker\":");
            mr_text_json_string(&line, thread_name, strlen(thread_name));
            mr_buf_put_char(&line, ',');
        }
        mr_buf_put_text(&line, "\"message\":");
        mr_text_json_string(&line, msg, strlen(msg));
        mr_buf_put_char(&line, '}');
    } else {
        put_time(&line);
        mr_buf_printf(&line, " %-5s ", level_names[level]);
        if (thread_name[0])
            mr_buf_printf(&line, "[%s] ", thread_name);
        put_plain(&line, msg);
    }
    if (hook_line) {
        hook_line(mr_buf_cstr(&line), hook_arg);
    } else {
        mr_buf_put_char(&line, '\n');
        write_above_status(&line);
    }
    mr_buf_fini(&line);
}

void mr_log(enum mr_level level, const char *format, ...)
{
    if (!mr_log_enabled(level))
        return;
    struct mr_buf msg;
    mr_buf_init(&msg);
    va_list ap, again;
    va_start(ap, format);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, format, ap);
    va_end(ap);
    if (n >= 0)
        vsnprintf(mr_buf_reserve(&msg, (size_t)n + 1), (size_t)n + 1, format, again);
    va_end(again);
    emit(level, n >= 0 ? msg.ptr : format);
    mr_buf_fini(&msg);
}

void mr_log_thin(bool thin)
{
    thinned = thin;
}

void mr_log_every(struct mr_log_gate *gate, enum mr_level level, const char *format, ...)
{
    enum { BURST = 10, PERIOD_MS = 1000 };
    if (!mr_log_enabled(level))
        return;
    int64_t now_ms = mr_clock_mono_ms();
    if (thinned && gate->burst >= BURST && now_ms < gate->next_ms) {
        gate->suppressed++;
        return;
    }
    if (now_ms >= gate->next_ms + INT64_C(10) * PERIOD_MS)
        gate->burst = 0;
    gate->burst++;
    gate->next_ms = now_ms + PERIOD_MS;
    char msg[1200];
    va_list ap;
    va_start(ap, format);
    int n = vsnprintf(msg, sizeof msg, format, ap);
    va_end(ap);
    if (gate->suppressed && n >= 0 && (size_t)n < sizeof msg)
        snprintf(msg + n, sizeof msg - (size_t)n, " (and %llu like it were not logged)",
                 (unsigned long long)gate->suppressed);
    gate->suppressed = 0;
    emit(level, msg);
}

void mr_log_trouble(struct mr_log_trouble *trouble, enum mr_level level, const char *format, ...)
{
    enum { PERIOD_MS = 30000 };
    char msg[1200];
    va_list ap;
    va_start(ap, format);
    int n = vsnprintf(msg, sizeof msg, format, ap);
    va_end(ap);
    int64_t now_ms = mr_clock_mono_ms();
    if (now_ms < trouble->next_ms && strncmp(trouble->last, msg, sizeof trouble->last - 1) == 0) {
        trouble->suppressed++;
        mr_log(MR_DEBUG, "%s", msg);
        return;
    }
    snprintf(trouble->last, sizeof trouble->last, "%.*s", (int)sizeof trouble->last - 1, msg);
    if (trouble->suppressed && n >= 0 && (size_t)n < sizeof msg)
        snprintf(msg + n, sizeof msg - (size_t)n, " (%llu attempts since the line before)",
                 (unsigned long long)trouble->suppressed + 1);
    trouble->next_ms = now_ms + PERIOD_MS;
    trouble->suppressed = 0;
    mr_log(level, "%s", msg);
}
