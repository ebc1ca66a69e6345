/*
 * lookup.h - a table held in memory: key -> posting, a sorted run of packed rows (core/lookup).
 *
 * Shapes. A cell is a tagged, self-delimiting encoding of one value (mr_cell_put / mr_cell_read); cells compare
 * with mr_cell_compare: by type tag, then canonical bytes; the same in every process. A key is its key columns'
 * cells in order. A row is its columns' cells in order. A posting holds the rows of one key, sorted by the
 * first column's cell (the row key), then by the rest; equal rows stand once, with a count.
 * A text that is a uuid in canonical lower-case form is held in 16 bytes and comes out as the same text.
 *
 * Threads. A table is immutable once built. A lookup is the named place that holds the current table: one
 * writer swaps, any thread acquires and releases. A reader keeps what it acquired for a whole unit.
 */
#ifndef MILLRACE_LOOKUP_H
#define MILLRACE_LOOKUP_H

#include "millrace/value.h"

struct mr_lookup_column {
    const char *name;
    enum mr_type type;     /* of non-null values */
    const char *type_name; /* as Postgres prints it */
};

/* Columns: the key columns first, in the order of `key`, then the configured columns. A column that is both
 * stands in both places. */
struct mr_lookup_schema {
    const char *name; /* of the lookup */
    const struct mr_lookup_column *columns;
    size_t n_keys;    /* columns[0 .. n_keys) are the key */
    size_t n_columns; /* all of them; columns[n_keys ..) are in each row */
};

/* --- cells --- */
void mr_cell_put(struct mr_buf *out, const struct mr_value *value);
/* Reads the cell at `at`; returns where the next begins. Text that was held as a uuid comes back as
 * MR_UUID with *is_text... see mr_value: type MR_UUID prints as that text, so callers need not care. */
const uint8_t *mr_cell_read(const uint8_t *at, struct mr_value *value);
const uint8_t *mr_cell_skip(const uint8_t *at);
int mr_cell_compare(const uint8_t *a, const uint8_t *b);

/*
 * A key as a script gave it, brought to the form of the key columns: a string for a uuid column is parsed
 * (any case), an integer for a text column stays what it is and matches nothing. `values`: schema->n_keys of
 * them. False, MR_REJECT `schema`: a kind that the column can never equal (a table, a float with a fraction
 * for an integer column, malformed uuid).
 */
MR_MUSTCHECK bool mr_lookup_key(const struct mr_lookup_schema *schema, const struct mr_value *values,
                                struct mr_buf *out, struct mr_error *err);

/* --- building: one thread, then immutable --- */
struct mr_table_builder;
struct mr_table;
/* Copies the schema. max_bytes 0: no bound. With `distinct` false equal rows are kept apart (their count is
 * what a reader sees). */
struct mr_table_builder *mr_table_builder_new(const struct mr_lookup_schema *schema, bool distinct,
                                              size_t max_bytes);
/* One row: all schema->n_columns values. A NULL in a key column: the row can never be found and is
 * counted, not kept. False: max_bytes would be exceeded (MR_STOP), before it is. */
MR_MUSTCHECK bool mr_table_builder_add(struct mr_table_builder *builder,
                                       const struct mr_value *values, struct mr_error *err);
/* Takes the builder; gives the table. */
MR_MUSTCHECK bool mr_table_builder_finish(struct mr_table_builder *builder, struct mr_table **out,
                                          struct mr_error *err);
void mr_table_builder_free(struct mr_table_builder *builder); /* abandon */

/* --- reading --- */
struct mr_table_stats {
    uint64_t rows_read;  /* as they came */
    uint64_t rows, keys; /* distinct rows and keys held */
    uint64_t null_keys;  /* rows left out for a NULL in the key */
    uint64_t bytes;      /* all memory of the table */
};
const struct mr_lookup_schema *mr_table_schema(const struct mr_table *table);
struct mr_table_stats mr_table_stats(const struct mr_table *table);

struct mr_posting {
    const uint8_t *key;        /* its cells */
    const uint8_t *rows, *end; /* packed rows */
    uint32_t n;                /* rows in it (distinct ones) */
};
/* False if the key is unknown. */
bool mr_table_find(const struct mr_table *table, struct mr_bytes key, struct mr_posting *out);

/*
 * A span: the rows of one message, in row-key order, over one or several keys, each distinct row once (when
 * the table is distinct), after the cursor. `keys`: n canonical keys, borrowed while the span is used.
 */
struct mr_span;
struct mr_row_ref {
    const uint8_t *key;   /* cells of the key columns */
    const uint8_t *cells; /* cells of the other columns */
    uint32_t copies;      /* 1, or how many equal rows stand here when the table is not distinct */
};
struct mr_span *mr_span_new(void);
void mr_span_free(struct mr_span *span);
/* Returns the number of keys that are known. `cursor`: the row key (one cell) after which to begin; ptr
 * NULL: from the start. */
size_t mr_span_open(struct mr_span *span, const struct mr_table *table, const struct mr_bytes *keys,
                    size_t n, struct mr_bytes cursor);
bool mr_span_next(struct mr_span *span, struct mr_row_ref *row);

/* --- the named place --- */
struct mr_lookup;
struct mr_lookup *mr_lookup_new(const char *name);
void mr_lookup_free(struct mr_lookup *lookup); /* no reader may hold it */
/* Takes the table; the old one is freed when its last reader has released it. */
void mr_lookup_swap(struct mr_lookup *lookup, struct mr_table *table);
/* NULL before the first swap. */
const struct mr_table *mr_lookup_acquire(struct mr_lookup *lookup);
void mr_lookup_release(struct mr_lookup *lookup, const struct mr_table *table);
void mr_table_free(struct mr_table *table); /* only one that was never swapped in */

#endif
