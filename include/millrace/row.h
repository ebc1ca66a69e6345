/*
 * row.h - rows for the feedback table: its columns, and their form in COPY BINARY.
 *
 * The store describes the table once (name, type, nullability) and lends an encoder; the script
 * room encodes what is the same for all rows of a message once, the stamper copies it and encodes
 * only column placeholders. A row in a buf is the whole tuple: uint16 field count, then fields
 * (int32 length or -1, bytes). Rows of different column sets cannot share a COPY: each row belongs
 * to a column set.
 */
#ifndef MILLRACE_ROW_H
#define MILLRACE_ROW_H

#include "millrace/value.h"

enum { MR_ROW_COLUMNS_MAX = 128 };

struct mr_row_column {
    const char *name;
    const char *type_name; /* as Postgres prints it: "integer", "character varying(20)" */
    uint32_t oid;          /* of the base type, domains resolved */
    int32_t typmod;
    bool not_null, has_default;
    bool is_text;   /* COPY form is the bare text: text, varchar, bpchar, name, enum, json, ... */
    bool generated; /* cannot be written */
};

struct mr_row_schema {
    const char *table; /* as configured */
    const struct mr_row_column *columns;
    size_t n;
    /*
     * Appends length and bytes of `value` as a field of `column`. Null is -1 (a null for a NOT NULL
     * column is refused here, with a sentence that names the column). What does not fit (range,
     * kind, malformed text for a uuid) is MR_REJECT `schema`, naming column, expected type and what
     * came. Pure.
     */
    bool (*encode)(const struct mr_row_column *column, const struct mr_value *value,
                   struct mr_buf *out, struct mr_error *err);
    /* Appends a field that encode made (without its length; not a NULL) as JSON, for people to
     * read. NULL: this schema cannot. */
    bool (*show)(const struct mr_row_column *column, struct mr_bytes field, struct mr_buf *out);
    /* NULL: the columns are those of a table. Else the table is not known: any name is a column,
     * which this adds behind the others; false: there are MR_ROW_COLUMNS_MAX already. */
    bool (*add)(const struct mr_row_schema *schema, const char *name);
};

/* Which columns a row carries, in ascending order. */
struct mr_column_set {
    uint16_t n;
    uint16_t columns[MR_ROW_COLUMNS_MAX]; /* indexes into the schema */
};

static inline bool mr_column_set_equal(const struct mr_column_set *a, const struct mr_column_set *b)
{
    return a->n == b->n && memcmp(a->columns, b->columns, a->n * sizeof *a->columns) == 0;
}

#endif
