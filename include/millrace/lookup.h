/*
 * lookup.h - a table held in memory: key -> posting, a sorted run of packed rows (core/lookup).
 *
 * Shapes. A cell is a tagged, self-delimiting encoding of one value (mr_cell_put / mr_cell_read);
 * cells compare with mr_cell_compare: by type tag, then canonical bytes (integers, floats and times
 * in their own order); the same in every process and version, since the ledger keeps keys and
 * cursors as cells. A key is its key columns' cells in order. A row is its columns' cells in order.
 * A posting holds the rows of one key, sorted by the first column's cell (the row key), then by the
 * rest; equal rows stand once, with a count. A text that is a uuid in canonical lower-case form is
 * held in 16 bytes and comes out as the same text.
 *
 * Threads. A lookup is the named place that holds the current table. It has one writer (the feed's
 * thread), which swaps tables and changes the current one; any thread pins and unpins. A reader
 * pins for a whole unit. Each span that it opens meanwhile shows the table as of some publish,
 * whole (no part of a transaction, also over several keys), and stays as it was opened until the
 * unpin.
 */
#ifndef MILLRACE_LOOKUP_H
#define MILLRACE_LOOKUP_H

#include "millrace/value.h"

struct mr_lookup_column {
    const char *name;
    enum mr_type type;     /* of non-null values */
    const char *type_name; /* as Postgres prints it */
};

/* Columns: the key columns first, in the order of `key`, then the configured columns. A column that
 * is both stands in both places. */
struct mr_lookup_schema {
    const char *name; /* of the lookup */
    const struct mr_lookup_column *columns;
    size_t n_keys;    /* columns[0 .. n_keys) are the key */
    size_t n_columns; /* all of them; columns[n_keys ..) are in each row */
};

/* A copy of its own, the same shape (names, types, keys; NULL equals only NULL), and its end. */
struct mr_lookup_schema *mr_lookup_schema_copy(const struct mr_lookup_schema *schema);
bool mr_lookup_schema_equal(const struct mr_lookup_schema *a, const struct mr_lookup_schema *b);
void mr_lookup_schema_free(struct mr_lookup_schema *schema);

/* --- cells --- */
void mr_cell_put(struct mr_buf *out, const struct mr_value *value);
/* Reads the cell at `at`; returns where the next begins. The value borrows the cell's bytes. A text
 * that is a canonical uuid comes back as MR_UUID, which prints as the same text: callers need not
 * tell them apart. */
const uint8_t *mr_cell_read(const uint8_t *at, struct mr_value *value);
const uint8_t *mr_cell_skip(const uint8_t *at);
int mr_cell_compare(const uint8_t *a, const uint8_t *b);
/* How many cells `cells` is made of; 0 if it is not whole, well-formed cells. The other functions
 * check nothing: ask this first about bytes from outside (the ledger). */
size_t mr_cells_count(struct mr_bytes cells);

/*
 * A key as a script gave it, appended to `out` in the form of the key columns. A string for a uuid
 * column is parsed (any case), for a numeric, timestamptz or date column likewise (times as
 * mr_value_json writes them); whole floats for an integer column and integers for a float or
 * numeric column are converted. Anything else for a text column (an integer, a bool) stays what it
 * is and matches nothing, as null does anywhere. `values`: schema->n_keys of them. False, MR_REJECT
 * `schema`, nothing appended: a kind that the column can never equal (a string for an integer
 * column, a float with a fraction, a malformed uuid).
 */
MR_MUSTCHECK bool mr_lookup_key(const struct mr_lookup_schema *schema,
                                const struct mr_value *values, struct mr_buf *out,
                                struct mr_error *err);

/* --- building: one thread, then immutable --- */
struct mr_table_builder;
struct mr_table;
/* Copies the schema. max_bytes 0: no bound; else it holds for the memory while building, a little
 * more than the table will take. With `distinct` false equal rows are kept apart (their count is
 * what a reader sees). */
struct mr_table_builder *mr_table_builder_new(const struct mr_lookup_schema *schema, bool distinct,
                                              size_t max_bytes);
/* One row: all schema->n_columns values. A NULL in a key column: the row can never be found and is
 * counted, not kept. In the key, numerics lose trailing zeros and -0.0 its sign, so that equal keys
 * have equal cells. False: max_bytes would be exceeded (MR_STOP), before it is; the builder is good
 * for free only. */
MR_MUSTCHECK bool mr_table_builder_add(struct mr_table_builder *builder,
                                       const struct mr_value *values, struct mr_error *err);
/* Takes the builder, also when it fails (max_bytes); gives the table. */
MR_MUSTCHECK bool mr_table_builder_finish(struct mr_table_builder *builder, struct mr_table **out,
                                          struct mr_error *err);
void mr_table_builder_free(struct mr_table_builder *builder); /* abandon */
/*
 * Before the first row: rows will also be told by n identities, values that no two rows of the
 * Postgres table share (its primary key, or the columns of its replica identity), since a feed is
 * told no more than those of a row that was deleted. The table keeps them: about 11 bytes a row for
 * a single integer of 32 bits, about 16 otherwise. Rows then come by mr_table_builder_add_id.
 */
void mr_table_builder_identify(struct mr_table_builder *builder, size_t n);
/* `ids`: as many as identified. A row with a NULL key is counted, not kept, and its identity is
 * remembered, so that a later take_id finds it. */
MR_MUSTCHECK bool mr_table_builder_add_id(struct mr_table_builder *builder,
                                          const struct mr_value *values, const struct mr_value *ids,
                                          struct mr_error *err);

/* --- reading --- */
struct mr_table_stats {
    uint64_t rows_read;  /* as they came while building */
    uint64_t rows, keys; /* rows held, equal ones each for itself, as SELECT counts them; keys */
    uint64_t null_keys;  /* rows left out for a NULL in the key */
    uint64_t bytes;      /* all memory of the table, what waits for its last reader included */
};
const struct mr_lookup_schema *mr_table_schema(const struct mr_table *table);
/* As it was built; what became of it since: mr_lookup_stats. */
struct mr_table_stats mr_table_stats(const struct mr_table *table);

/*
 * A span: the rows of one message, in row-key order, over one or several keys, each distinct row
 * once (when the table is distinct), after the cursor. A row reached by two keys shows the one that
 * comes first in `keys`. Rows are told apart by the columns after the key. A span belongs to one
 * thread and can be opened again and again; table and cursor are borrowed while it is read, `keys`
 * only by mr_span_open.
 */
struct mr_span;
struct mr_row_ref {
    const uint8_t *key;   /* cells of the key columns */
    const uint8_t *cells; /* cells of the other columns */
    uint32_t copies;      /* 1, or how many equal rows stand here when the table is not distinct */
    bool new_row_key; /* the first cell differs from the row before: a chunk may be cut in front */
};
struct mr_span *mr_span_new(void);
void mr_span_free(struct mr_span *span);
/* Returns the number of keys that are known (also when no row of theirs is after the cursor).
 * `cursor`: the row key (one cell) after which to begin; ptr NULL: from the start. */
size_t mr_span_open(struct mr_span *span, const struct mr_table *table, const struct mr_bytes *keys,
                    size_t n, struct mr_bytes cursor);
bool mr_span_next(struct mr_span *span, struct mr_row_ref *row);

/* --- the named place --- */
struct mr_lookup;
struct mr_lookup *mr_lookup_new(const char *name);
void mr_lookup_free(struct mr_lookup *lookup); /* no reader may hold it */
const char *mr_lookup_name(const struct mr_lookup *lookup);
/* Writer. Takes the table; the old one is freed when its last reader has unpinned. Changes that
 * were not published are forgotten. */
void mr_lookup_swap(struct mr_lookup *lookup, struct mr_table *table);
void mr_table_free(struct mr_table *table); /* only one that was never swapped in */

/* A reader's hold on a table; lives with the reader, zeroed at first. */
struct mr_pin {
    const struct mr_table *table; /* NULL: nothing is pinned */
    uint64_t epoch;
    struct mr_pin *next, *prev; /* the lookup's */
};
/* False before the first swap. What is pinned already is an error of the caller's. */
bool mr_lookup_pin(struct mr_lookup *lookup, struct mr_pin *pin);
void mr_lookup_unpin(struct mr_lookup *lookup, struct mr_pin *pin); /* nothing pinned: nothing */

/* --- changing the current table: the writer --- */
/*
 * Changes are collected, seen by nobody, until publish shows all of them at once. `values`: all
 * schema->n_columns; `ids`: as many as the builder was told, NULL if none. Everything is copied.
 *
 * take_id of an identity that is not there, or that is there twice, fails with MR_RECOVER at the
 * latest at publish: the table is not what the feed takes it for, and must be read again.
 */
MR_MUSTCHECK bool mr_lookup_put(struct mr_lookup *lookup, const struct mr_value *values,
                                const struct mr_value *ids, struct mr_error *err);
/* A row told by all its columns; of equal rows one. */
MR_MUSTCHECK bool mr_lookup_take(struct mr_lookup *lookup, const struct mr_value *values,
                                 struct mr_error *err);
MR_MUSTCHECK bool mr_lookup_take_id(struct mr_lookup *lookup, const struct mr_value *ids,
                                    struct mr_error *err);
/* Is this the row of an identity as it stands, unpublished changes included? It costs little also
 * where a key has millions of rows, which the next one reads. */
MR_MUSTCHECK bool mr_lookup_same_id(struct mr_lookup *lookup, const struct mr_value *values,
                                    const struct mr_value *ids, bool *same, struct mr_error *err);
/* The row of an identity as it stands, unpublished changes included, for an update that leaves out
 * what has not changed: fills schema->n_columns values, which borrow until publish, discard or
 * swap. A row whose key was NULL is not kept: *kept false, and values untouched. */
MR_MUSTCHECK bool mr_lookup_find_id(struct mr_lookup *lookup, const struct mr_value *ids,
                                    struct mr_value *values, bool *kept, struct mr_error *err);
/* Forgets what was not published. */
void mr_lookup_discard(struct mr_lookup *lookup);
/*
 * Shows all changes since the last publish, at once. May put the table into a new one of its own
 * accord, when what changed has grown to a good part of it. False: MR_RECOVER, see above; MR_STOP,
 * max_bytes would be exceeded: nothing of it is shown, the changes are forgotten. Changes that
 * bring no more rows than they take are never refused for max_bytes.
 */
MR_MUSTCHECK bool mr_lookup_publish(struct mr_lookup *lookup, struct mr_error *err);
/* Of the current table, as of the last publish; any thread. All zero before the first swap. */
struct mr_table_stats mr_lookup_stats(struct mr_lookup *lookup);

#endif
