/*
 * tuples.h - private to core/postgres: what a binary COPY sends, as rows of a lookup table.
 *
 * One owner, no thread safety, no I/O: bytes come from snapshot.c, rows go to a builder.
 */
#ifndef MR_POSTGRES_TUPLES_H
#define MR_POSTGRES_TUPLES_H

#include "millrace/lookup.h"

struct mr_pg_tuples;

/* n columns of these base types (values.h), behind them n_ids by which rows are told besides: the
 * builder has been told of them. Borrows oids and builder. */
struct mr_pg_tuples *mr_pg_tuples_new(const uint32_t *oids, size_t n, size_t n_ids,
                                      struct mr_table_builder *builder);
void mr_pg_tuples_free(struct mr_pg_tuples *tuples);

/* One message of the COPY: whole tuples, behind the header in the first. False: MR_RETRY, not of
 * the form that was described; or what the builder refused. */
MR_MUSTCHECK bool mr_pg_tuples_put(struct mr_pg_tuples *tuples, const char *bytes, size_t len,
                                   struct mr_error *err);
/* False: the end has not come. */
MR_MUSTCHECK bool mr_pg_tuples_end(const struct mr_pg_tuples *tuples, struct mr_error *err);

uint64_t mr_pg_tuples_rows(const struct mr_pg_tuples *tuples);

#endif
