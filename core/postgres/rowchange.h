/*
 * rowchange.h - private to core/postgres: one change of a row, told to a lookup or to a table in
 * the making.
 */
#ifndef MR_POSTGRES_ROWCHANGE_H
#define MR_POSTGRES_ROWCHANGE_H

#include "postgres/changes.h"
#include "postgres/pgoutput.h"

struct mr_pg_rows;
struct mr_pg_rows *mr_pg_rows_new(const struct mr_pg_changes_options *options); /* borrows */
void mr_pg_rows_free(struct mr_pg_rows *rows);

/* A message R: which column stands where from now on. */
enum mr_feed_event mr_pg_rows_relation(struct mr_pg_rows *rows,
                                       const struct mr_pgo_message *message, struct mr_error *err);
/* A message I, U or D of our table. With `builder` the rows of I go there, and nothing else can be
 * told. *n: how many rows were put or taken. */
enum mr_feed_event mr_pg_rows_change(struct mr_pg_rows *rows, const struct mr_pgo_message *message,
                                     struct mr_lookup *lookup, struct mr_table_builder *builder,
                                     size_t *n, struct mr_error *err);
/* What a refusal of the lookup's means: a table that is not what it was taken for is read again. */
enum mr_feed_event mr_pg_rows_event(const struct mr_pg_changes_options *options,
                                    struct mr_error *err);

#endif
