/*
 * template.h - what a script made of one message: the outputs, with column placeholders, that C
 * stamps out once per row (core/stream/stamp.c). Built by core/lua/template.c; valid until the
 * script's `finish`.
 *
 * A template is a list of segments. BYTES copies a run of `mr_template.bytes`; the others fill in a
 * column of the row at hand: as a JSON value, inside a JSON string (escaped, no quotes), or as bare
 * text.
 */
#ifndef MILLRACE_TEMPLATE_H
#define MILLRACE_TEMPLATE_H

#include "millrace/row.h"

enum mr_seg_kind {
    MR_SEG_BYTES,       /* from, len */
    MR_SEG_JSON,        /* column as a JSON value */
    MR_SEG_JSON_INSIDE, /* column as text, escaped, inside a JSON string */
    MR_SEG_TEXT         /* column as bare text */
};

struct mr_seg {
    uint8_t kind;
    uint16_t column; /* index into mr_lookup_schema.columns: keys first */
    uint32_t from, len;
};

/* A run of segs: [first, first + n) of mr_template.segs. `absent`: null (tombstone value, no key).
 */
struct mr_seg_run {
    uint32_t first, n;
    bool absent;
};

struct mr_template_header {
    struct mr_seg_run name, value;
};

/*
 * A field of the row. CONST: `bytes` holds the whole field, length included. COLUMN: the lookup
 * column's value, encoded for the row column. TEXT: a `fmt` for a text column.
 */
enum mr_field_kind { MR_FIELD_CONST, MR_FIELD_COLUMN, MR_FIELD_TEXT };
struct mr_template_field {
    uint8_t kind;
    uint16_t row_column;    /* index into mr_row_schema.columns */
    uint16_t lookup_column; /* COLUMN */
    uint32_t from, len;     /* CONST */
    struct mr_seg_run text; /* TEXT */
};

/* One output of the message: a Kafka message and a row, each optional. */
struct mr_output {
    bool has_message, has_row;
    uint16_t topic;
    struct mr_seg_run value, key;
    const struct mr_template_header *headers;
    size_t n_headers;
    const struct mr_template_field *fields; /* in the order of set->columns */
    const struct mr_column_set *set;
};

struct mr_template {
    const char *bytes;
    const struct mr_seg *segs;
    const struct mr_output *outputs;
    size_t n_outputs;
};

#endif
