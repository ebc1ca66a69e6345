/*
 * rowsfile.h - the rows of a lookup from a file, for `millrace try --rows`.
 *
 * Main thread. What the caller is given is a lookup as the daemon has it, with one table in it.
 */
#ifndef MR_CLI_ROWSFILE_H
#define MR_CLI_ROWSFILE_H

#include "base/tree.h"
#include "millrace/lookup.h"

/*
 * Reads `path` as the table of the lookup `node` of the configuration: its key columns, and its
 * `columns` (all of the file if it names none). Types are those of the header ("price:numeric"), or
 * guessed from all values. `said`: a sentence about the columns, what was guessed and what was left
 * out. *out: mr_lookup_free. *schema: mr_lookup_schema_free. False: MR_STOP, exit code 65.
 */
MR_MUSTCHECK bool mr_rowsfile_read(const char *path, const struct mr_node *node,
                                   struct mr_lookup **out, struct mr_lookup_schema **schema,
                                   struct mr_buf *said, struct mr_error *err);

/* The columns that such a file must have: "restaurant_id (key), client_id". */
void mr_rowsfile_columns(const struct mr_node *node, struct mr_buf *out);

/* Text as a value of that type, as a script may give it for a key column. Borrows from `scratch`.
 * False: MR_REJECT. */
MR_MUSTCHECK bool mr_rowsfile_value(enum mr_type type, struct mr_bytes text, struct mr_buf *scratch,
                                    struct mr_value *value, struct mr_error *err);

#endif
