/*
 * stamp.h - one output of a template, filled in for one row: a message frame, a row for COPY, or
 * both.
 *
 * Work per row is a copy: constants are copied in runs, each column of the lookup is read once and
 * brought to text once, whatever it is used for. Any thread; keeps nothing between calls.
 */
#ifndef MR_STREAM_STAMP_H
#define MR_STREAM_STAMP_H

#include "millrace/lookup.h"
#include "millrace/message.h"
#include "millrace/template.h"

/*
 * Appends the frame (message.h) to `frames` if the output has a message, and one tuple of COPY
 * BINARY (row.h) to `rows` if it has a row. `columns`: of the lookup that `row` comes from; both
 * NULL without a lookup, and then the template has no placeholders. `row_schema`: NULL without a
 * feedback table, and then no output has a row. False, both bufs as before: what a place cannot
 * take (NaN in JSON, a NULL for a NOT NULL column: MR_REJECT `schema`), or a message of 4 GB
 * (MR_REJECT `too_large`).
 */
MR_MUSTCHECK bool mr_stamp_row(const struct mr_template *template, const struct mr_output *output,
                               const struct mr_lookup_schema *columns,
                               const struct mr_row_schema *row_schema, const struct mr_row_ref *row,
                               int64_t timestamp_ms, struct mr_buf *frames, struct mr_buf *rows,
                               struct mr_error *err);

#endif
