/*
 * recent.h - the last source messages of a pipeline, kept for the rehearsal of a reload.
 *
 * One a pipeline. Its workers note what they take; the thread that rehearses takes a look. Bounded
 * twice: so many messages, and so many bytes; a message that is larger than a quarter of those is
 * not kept. What that costs a worker is bounded too: beyond the first `max` messages it keeps at
 * most 100 a second, and it never waits (when somebody looks at that moment, the message is not
 * kept). So at high rates it is a sample, spread over the last seconds.
 */
#ifndef MR_STREAM_RECENT_H
#define MR_STREAM_RECENT_H

#include "millrace/row.h"
#include "millrace/source.h"

#include <stdatomic.h>

/* A message with everything in it: one block of memory, counted. */
struct mr_sample {
    atomic_int refs;
    size_t bytes;
    struct mr_record rec; /* headers are there */
    int64_t now_ms;       /* when it was taken */
};
void mr_sample_release(struct mr_sample *sample); /* NULL is nothing */

struct mr_recent;

struct mr_recent *mr_recent_new(size_t max, size_t max_bytes);
void mr_recent_free(struct mr_recent *recent); /* NULL is nothing */
/* Any thread. Keeps the newest of what there is; 0: from now on nothing. */
void mr_recent_resize(struct mr_recent *recent, size_t max);

/* A worker's own: how many it may keep now. Zeroed at first. */
struct mr_recent_tap {
    bool open;
    int64_t at_ms, credit;
};
/* The worker's thread. Reads the headers of the record if it is kept. */
void mr_recent_note(struct mr_recent *recent, struct mr_recent_tap *tap, struct mr_source *source,
                    struct mr_record *rec, int64_t now_ms);

/* Gives up to `max` of the newest, in the order in which they came. Any thread. The list is to be
 * freed, each sample released. */
struct mr_sample **mr_recent_take(struct mr_recent *recent, size_t max, size_t *n);

/* The feedback table as a worker knows it (NULL: none); copied. Any thread. */
void mr_recent_set_rows(struct mr_recent *recent, const struct mr_row_schema *rows);
/* A copy for the caller, NULL if there is none: mr_recent_rows_free. */
struct mr_row_schema *mr_recent_rows(struct mr_recent *recent);
void mr_recent_rows_free(struct mr_row_schema *rows);

#endif
