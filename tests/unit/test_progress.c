/*
 * test_progress.c - progress bars as a terminal shows them, and progress lines where there is none.
 *
 * The bar is tested on a pseudo-terminal whose output goes through a small model of a screen, so
 * that what is asserted is what a person would see.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/progress.h"

#include <fcntl.h>
#include <pthread.h>
#include <pty.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { COLUMNS = 100 };

/* A terminal in place of stderr. Lines that scrolled by are kept; `line` is where the cursor
 * stands. */
struct terminal {
    int master, saved_stderr;
    pthread_t reader;
    struct mr_buf bytes; /* all that was written; read after close */
    struct mr_buf lines; /* finished lines, each with '\n' */
    char line[COLUMNS + 1];
    size_t column;
    int redraws;
};

static void *read_master(void *arg)
{
    struct terminal *term = arg;
    for (;;) {
        ssize_t n = read(term->master, mr_buf_reserve(&term->bytes, 4096), 4096);
        if (n <= 0)
            return NULL; /* EIO: the last writer has closed */
        mr_buf_commit(&term->bytes, (size_t)n);
    }
}

static void terminal_open(struct terminal *term)
{
    memset(term, 0, sizeof *term);
    struct winsize size = {.ws_row = 24, .ws_col = COLUMNS + 1};
    int slave;
    assert_int_equal(openpty(&term->master, &slave, NULL, NULL, &size), 0);
    term->saved_stderr = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    assert_true(dup2(slave, STDERR_FILENO) >= 0);
    close(slave);
    setenv("TERM", "xterm", 1);
    mr_log_init(MR_INFO, MR_LOG_AUTO);
    assert_int_equal(pthread_create(&term->reader, NULL, read_master, term), 0);
}

/* Plays what was written on the screen's model. */
static void play(struct terminal *term)
{
    mr_buf_cstr(&term->bytes);
    for (const char *p = term->bytes.ptr; *p; p++) {
        if (strncmp(p, "\033[K", 3) == 0) {
            memset(term->line + term->column, 0, sizeof term->line - term->column);
            term->redraws++;
            p += 2;
        } else if (*p == '\r') {
            term->column = 0;
        } else if (*p == '\n') {
            mr_buf_printf(&term->lines, "%s\n", term->line);
            memset(term->line, 0, sizeof term->line);
        } else if (term->column < COLUMNS) {
            term->line[term->column++] = *p;
        }
    }
    mr_buf_cstr(&term->lines);
}

static void terminal_close(struct terminal *term)
{
    dup2(term->saved_stderr, STDERR_FILENO);
    close(term->saved_stderr);
    pthread_join(term->reader, NULL);
    close(term->master);
    mr_log_init(MR_INFO, MR_LOG_AUTO);
    play(term);
}

static void terminal_fini(struct terminal *term)
{
    mr_buf_fini(&term->bytes);
    mr_buf_fini(&term->lines);
}

/* Shows now, whatever the clock says: the period is not what these tests wait for. */
static void show(struct mr_progress *progress, int64_t rows, int64_t size_bytes)
{
    progress->next_ms = 0;
    mr_progress_update(progress, rows, size_bytes);
}

static void the_text_tells_share_rate_and_time_left(void **state)
{
    (void)state;
    struct mr_progress progress = {
        .label = "lookup", .total_rows = 4000000, .rows = 1000000, .size_bytes = 48500000};
    char text[256];
    mr_progress_format(&progress, 2000, true, text, 100);
    assert_string_equal(text, "lookup [#######                       ] 25% 1,000,000 rows, "
                              "48.5 MB, 500,000 rows/s, 6 s left");
    mr_progress_format(&progress, 2000, false, text, 100);
    assert_string_equal(text, "lookup: 25% 1,000,000 rows, 48.5 MB, 500,000 rows/s, 6 s left");
    mr_progress_format(&progress, 400000, true, text, 70); /* no room for a bar */
    assert_string_equal(text, "lookup 25% 1,000,000 rows, 48.5 MB, 2,500 rows/s, 20 min 0 s left");
    mr_progress_format(&progress, 2000, true, text, 10);
    assert_string_equal(text, "lookup 25%");
}

static void unknown_and_wrong_totals_promise_nothing(void **state)
{
    (void)state;
    char text[256];
    struct mr_progress progress = {.label = "lookup", .rows = 999, .size_bytes = 0};
    mr_progress_format(&progress, 2000, true, text, 100);
    assert_string_equal(text, "lookup 999 rows, 0.0 MB, 499 rows/s");
    progress.total_rows = 500; /* the table has grown since it was estimated */
    mr_progress_format(&progress, 2000, false, text, 100);
    assert_string_equal(text, "lookup: 99% 999 rows, 0.0 MB, 499 rows/s");
    progress = (struct mr_progress){.label = "lookup", .total_rows = 5};
    mr_progress_format(&progress, 0, false, text, 100);
    assert_string_equal(text, "lookup: 0% 0 rows, 0.0 MB, 0 rows/s");
}

static void a_terminal_shows_one_bar_that_goes_away(void **state)
{
    (void)state;
    struct terminal term;
    terminal_open(&term);
    struct mr_progress progress;
    mr_progress_begin(&progress, "lookup", 1000);
    bool was_bar = progress.is_bar;
    for (int i = 0; i <= 10; i++)
        show(&progress, i * 100, i * 1000);
    terminal_close(&term);
    assert_true(was_bar);
    assert_int_equal(term.redraws, 11);
    assert_int_equal(strncmp(term.line, "lookup [####", 12), 0);
    assert_non_null(strstr(term.line, "] 99% 1,000 rows"));
    assert_string_equal(term.lines.ptr, "");
    terminal_fini(&term);

    terminal_open(&term);
    show(&progress, 500, 0);
    mr_progress_end(&progress);
    terminal_close(&term);
    assert_string_equal(term.line, "");
    assert_string_equal(term.lines.ptr, "");
    terminal_fini(&term);
}

static void a_second_piece_of_work_writes_lines(void **state)
{
    (void)state;
    struct terminal term;
    terminal_open(&term);
    struct mr_progress first, second;
    mr_progress_begin(&first, "first", 1000);
    mr_progress_begin(&second, "second", 0);
    show(&first, 10, 0);
    show(&second, 20, 0);
    mr_progress_end(&second);
    bool still_bar = first.is_bar;
    mr_progress_end(&first);
    struct mr_progress third;
    mr_progress_begin(&third, "third", 0); /* the bar is free again */
    bool third_is_bar = third.is_bar;
    mr_progress_end(&third);
    terminal_close(&term);
    assert_true(still_bar);
    assert_true(third_is_bar);
    assert_non_null(strstr(term.lines.ptr, " info  second: 20 rows"));
    assert_null(strstr(term.lines.ptr, "first"));
    terminal_fini(&term);
}

enum { THREADS = 4, LINES = 200 };

static void *log_lines(void *arg)
{
    for (int i = 0; i < LINES; i++)
        mr_log(MR_INFO, "thread %d line %d end", *(int *)arg, i);
    return NULL;
}

static void log_lines_of_other_threads_stay_whole(void **state)
{
    (void)state;
    struct terminal term;
    terminal_open(&term);
    struct mr_progress progress;
    mr_progress_begin(&progress, "lookup", 100000);
    pthread_t threads[THREADS];
    int numbers[THREADS];
    for (int i = 0; i < THREADS; i++) {
        numbers[i] = i;
        pthread_create(&threads[i], NULL, log_lines, &numbers[i]);
    }
    for (int i = 0; i < 1000; i++)
        show(&progress, i * 100, i);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    mr_log(MR_WARN, "last words");
    terminal_close(&term);
    assert_non_null(strstr(term.line, "% 99,900 rows")); /* redrawn below the last line */

    size_t n = 0;
    for (char *line = term.lines.ptr, *end; (end = strchr(line, '\n')); line = end + 1, n++) {
        *end = '\0';
        int thread, number;
        char rest[8];
        if (n == THREADS * LINES)
            assert_non_null(strstr(line, "Z warn  last words"));
        else if (sscanf(line, "%*s info thread %d line %d %3s", &thread, &number, rest) != 3 ||
                 strcmp(rest, "end") != 0)
            fail_msg("not a whole log line: %s", line);
        assert_null(strstr(line, "rows/s"));
    }
    assert_int_equal(n, THREADS * LINES + 1);
    terminal_fini(&term);

    terminal_open(&term);
    mr_progress_end(&progress);
    terminal_close(&term);
    terminal_fini(&term);
}

struct kept {
    char last[512];
    int n;
};

static void keep_line(const char *text, void *arg)
{
    struct kept *kept = arg;
    snprintf(kept->last, sizeof kept->last, "%s", text);
    kept->n++;
}

static void without_a_terminal_a_line_each_5_seconds(void **state)
{
    (void)state;
    struct kept kept = {.n = 0};
    mr_log_hook(keep_line, &kept);
    struct mr_progress progress;
    mr_progress_begin(&progress, "loading lookup subscribers", 100);
    assert_false(progress.is_bar);
    assert_int_equal(progress.next_ms - progress.begun_ms, 5000);
    for (int i = 0; i < 100; i++)
        mr_progress_update(&progress, i, i);
    assert_int_equal(kept.n, 0);
    progress.begun_ms -= 5000; /* as if 5 s had passed */
    progress.next_ms -= 5000;
    mr_progress_update(&progress, 50, 2000000);
    mr_progress_update(&progress, 51, 2000000);
    mr_progress_end(&progress);
    mr_log_hook(NULL, NULL);
    assert_int_equal(kept.n, 1);
    assert_non_null(strstr(kept.last, "loading lookup subscribers: 50% 50 rows, 2.0 MB"));
    assert_null(strchr(kept.last, '\r'));
}

static void no_bar_on_a_dumb_terminal_or_for_json_or_quiet_logs(void **state)
{
    (void)state;
    struct terminal term;
    terminal_open(&term);
    int width = mr_log_status_width();
    setenv("TERM", "dumb", 1);
    int dumb = mr_log_status_width();
    setenv("TERM", "xterm", 1);
    mr_log_init(MR_INFO, MR_LOG_JSON);
    int json = mr_log_status_width();
    mr_log_init(MR_WARN, MR_LOG_AUTO);
    struct mr_progress progress;
    mr_progress_begin(&progress, "lookup", 100);
    show(&progress, 1, 1);
    mr_progress_end(&progress);
    terminal_close(&term);
    assert_int_equal(width, COLUMNS);
    assert_int_equal(dumb, 0);
    assert_int_equal(json, 0);
    assert_int_equal(term.bytes.len, 0);
    terminal_fini(&term);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_text_tells_share_rate_and_time_left),
        cmocka_unit_test(unknown_and_wrong_totals_promise_nothing),
        cmocka_unit_test(a_terminal_shows_one_bar_that_goes_away),
        cmocka_unit_test(a_second_piece_of_work_writes_lines),
        cmocka_unit_test(log_lines_of_other_threads_stay_whole),
        cmocka_unit_test(without_a_terminal_a_line_each_5_seconds),
        cmocka_unit_test(no_bar_on_a_dumb_terminal_or_for_json_or_quiet_logs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
