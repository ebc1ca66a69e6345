/*
 * anyrow.h - the rows of a table that nobody has described: any name is a column, any value fits.
 *
 * For `millrace try` and for specs, which have no database: a row is then what the script made of
 * it. Fields have a form of their own (a cell, lookup.h), which keeps the type, so that they can be
 * shown as JSON. One thread; columns are only ever added.
 */
#ifndef MR_STREAM_ANYROW_H
#define MR_STREAM_ANYROW_H

#include "millrace/row.h"

struct mr_anyrow;

/* `table` is copied. */
struct mr_anyrow *mr_anyrow_new(const char *table);
/* For the script; lives as long as the anyrow, columns appear in it. */
const struct mr_row_schema *mr_anyrow_schema(const struct mr_anyrow *any);
/* From now on there are the columns that were added until now, and no others. */
void mr_anyrow_close(struct mr_anyrow *any);
void mr_anyrow_free(struct mr_anyrow *any); /* after the script was closed */

#endif
