/*
 * progress.h - how far a long piece of work is: a bar on a terminal, one log line each 5 s
 * elsewhere.
 *
 * The bar is the log's status line (log.h): lines that other threads log appear above it. One piece
 * of work shows its bar at a time; what begins meanwhile writes log lines. One owner, one thread;
 * embedded, valid from begin to end. The outcome is for the caller to log: this only shows what is
 * under way.
 */
#ifndef MR_BASE_PROGRESS_H
#define MR_BASE_PROGRESS_H

#include "base/error.h"

#include <stdint.h>

struct mr_progress {
    char label[64];
    int64_t total_rows;        /* estimate; 0: unknown */
    int64_t rows, size_bytes;  /* so far */
    int64_t begun_ms, next_ms; /* monotonic: when it began, when to show it next */
    bool is_bar;
};

/* `label` says what is done ("loading lookup subscribers"), copied. total_rows is an estimate, 0 if
 * unknown. */
void mr_progress_begin(struct mr_progress *progress, const char *label, int64_t total_rows);

/* Rows and bytes since the beginning. Cheap enough for each row: reads a clock, shows at most 10
 * times a second. */
void mr_progress_update(struct mr_progress *progress, int64_t rows, int64_t size_bytes);

/* Takes the bar away. */
void mr_progress_end(struct mr_progress *progress);

/* What would be shown `elapsed_ms` after the beginning, in at most `width` columns; for the bar
 * itself, and tests. `bar` is false for a log line. text holds at least width + 1 bytes. */
void mr_progress_format(const struct mr_progress *progress, int64_t elapsed_ms, bool bar,
                        char *text, int width);

#endif
