/*
 * progress.c - progress bars and progress lines.
 *
 * The thread that does the work. Owns nothing but the claim on the status line, of which there is
 * one in the process. Must not know what the work is. Tests: tests/unit/test_progress.c (on a
 * pseudo-terminal).
 */
#include "base/progress.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

enum { BAR_PERIOD_MS = 100, LINE_PERIOD_MS = 5000, BAR_COLUMNS_MAX = 30, BAR_COLUMNS_MIN = 8 };

static atomic_flag bar_is_taken = ATOMIC_FLAG_INIT;

/* 1,234,567 */
static void format_count(int64_t n, char *text, size_t size)
{
    char digits[24];
    int len = snprintf(digits, sizeof digits, "%lld", (long long)n);
    size_t at = 0;
    for (int i = 0; i < len && at + 2 < size; i++) {
        if (i && (len - i) % 3 == 0)
            text[at++] = ',';
        text[at++] = digits[i];
    }
    text[at] = '\0';
}

/* 42 s, 3 min 20 s, 2 h 5 min */
static void format_duration(int64_t ms, char *text, size_t size)
{
    long long s = (ms + 999) / 1000;
    if (s < 60)
        snprintf(text, size, "%lld s", s);
    else if (s < 3600)
        snprintf(text, size, "%lld min %lld s", s / 60, s % 60);
    else
        snprintf(text, size, "%lld h %lld min", s / 3600, s % 3600 / 60);
}

/* An estimate that was too low counts as nearly done: never more than 99 % before the end. */
static int percent(const struct mr_progress *progress)
{
    if (progress->rows >= progress->total_rows)
        return 99;
    return (int)((double)progress->rows * 100 / (double)progress->total_rows);
}

static void format_facts(const struct mr_progress *progress, int64_t elapsed_ms, char *text,
                         size_t size)
{
    char rows[32], rate[32], left[48] = "";
    double seconds = (double)(elapsed_ms > 0 ? elapsed_ms : 1) / 1000;
    double per_second = (double)progress->rows / seconds;
    format_count(progress->rows, rows, sizeof rows);
    format_count((int64_t)per_second, rate, sizeof rate);
    /* In the first second the rate says nothing yet. */
    if (progress->total_rows > progress->rows && per_second >= 1 && elapsed_ms >= 1000) {
        double ms = (double)(progress->total_rows - progress->rows) / per_second * 1000;
        char time[32];
        if (ms < 360000000) { /* more than 100 hours is no news but a bad estimate */
            format_duration((int64_t)ms, time, sizeof time);
            snprintf(left, sizeof left, ", %s left", time);
        }
    }
    snprintf(text, size, "%s rows, %.1f MB, %s rows/s%s", rows, (double)progress->size_bytes / 1e6,
             rate, left);
}

void mr_progress_format(const struct mr_progress *progress, int64_t elapsed_ms, bool bar,
                        char *text, int width)
{
    char facts[160], share[8] = "", drawn[BAR_COLUMNS_MAX + 1];
    format_facts(progress, elapsed_ms, facts, sizeof facts);
    if (progress->total_rows > 0)
        snprintf(share, sizeof share, "%d%% ", percent(progress));
    size_t size = (size_t)width + 1;
    /* "label [####    ] 42% facts": the bar takes what the rest leaves, or nothing. */
    int spare = width - (int)(strlen(progress->label) + strlen(share) + strlen(facts)) - 4;
    if (!bar || !share[0] || spare < BAR_COLUMNS_MIN) {
        snprintf(text, size, "%s%s%s%s", progress->label, bar ? " " : ": ", share, facts);
        return;
    }
    int columns = spare < BAR_COLUMNS_MAX ? spare : BAR_COLUMNS_MAX;
    int filled = columns * percent(progress) / 100;
    for (int i = 0; i < columns; i++)
        drawn[i] = i < filled ? '#' : ' ';
    drawn[columns] = '\0';
    snprintf(text, size, "%s [%s] %s%s", progress->label, drawn, share, facts);
}

static void show(const struct mr_progress *progress, int64_t now_ms)
{
    char text[512];
    int width = progress->is_bar ? mr_log_status_width() : (int)sizeof text - 1;
    if (width <= 0)
        return;
    mr_progress_format(progress, now_ms - progress->begun_ms, progress->is_bar, text, width);
    if (progress->is_bar)
        mr_log_status(text);
    else
        mr_log(MR_INFO, "%s", text);
}

void mr_progress_begin(struct mr_progress *progress, const char *label, int64_t total_rows)
{
    *progress = (struct mr_progress){.total_rows = total_rows, .begun_ms = mr_clock_mono_ms()};
    snprintf(progress->label, sizeof progress->label, "%s", label);
    progress->is_bar = mr_log_enabled(MR_INFO) && mr_log_status_width() > 0 &&
                       !atomic_flag_test_and_set(&bar_is_taken);
    progress->next_ms = progress->begun_ms + (progress->is_bar ? BAR_PERIOD_MS : LINE_PERIOD_MS);
}

void mr_progress_update(struct mr_progress *progress, int64_t rows, int64_t size_bytes)
{
    progress->rows = rows;
    progress->size_bytes = size_bytes;
    int64_t now_ms = mr_clock_mono_ms();
    if (now_ms < progress->next_ms)
        return;
    progress->next_ms = now_ms + (progress->is_bar ? BAR_PERIOD_MS : LINE_PERIOD_MS);
    show(progress, now_ms);
}

void mr_progress_end(struct mr_progress *progress)
{
    if (!progress->is_bar)
        return;
    mr_log_status(NULL);
    progress->is_bar = false;
    atomic_flag_clear(&bar_is_taken);
}
