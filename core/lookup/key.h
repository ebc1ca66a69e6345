/*
 * key.h - key cells in canonical form, for this room: what a key column's value becomes when a row
 * is added. Pure; any thread. Tests: tests/unit/test_lookup.c.
 */
#ifndef MR_LOOKUP_KEY_H
#define MR_LOOKUP_KEY_H

#include "millrace/lookup.h"

/* Like mr_cell_put, but values that Postgres calls equal get equal cells: 12.50 and 12.5, -0.0 and
 * 0.0. */
void mr_key_put(struct mr_buf *out, const struct mr_value *value);

#endif
