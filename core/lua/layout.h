/*
 * layout.h - what is known of tables that have the same names in the same order: where each name
 * goes in JSON, and which column of the feedback table it is.
 *
 * A script makes the same record again and again. The names of one, in the order in which lua_next
 * gives them, are looked up here; what was worked out for them once (sorted order, escaped text,
 * columns) is then only followed. Names are compared by pointer first and by content always: what
 * is kept here is a copy, and may be of another Lua state. Owned by one script; no Lua in it.
 */
#ifndef MR_LUA_LAYOUT_H
#define MR_LUA_LAYOUT_H

#include "base/buf.h"
#include "millrace/row.h"

enum { MR_LAYOUT_NAMES = 32, MR_LAYOUTS = 32 };

struct mr_layout_name {
    const char *text;
    size_t len;
};

struct mr_layout {
    size_t n;
    unsigned used; /* by a table that is being encoded: stays where it is */
    struct mr_layout_name names[MR_LAYOUT_NAMES]; /* text: alive while a table has these names */
    struct mr_buf copy;                           /* their bytes, one behind the other */
    uint8_t order[MR_LAYOUT_NAMES];               /* sorted bytewise */
    struct mr_buf json;                           /* {"a": then ,"b": and so on, in that order */
    uint32_t json_end[MR_LAYOUT_NAMES];
    /* As a row: */
    size_t row_asked;               /* of how many columns; 0: not yet */
    bool row_fits;                  /* every name is a column, and none is missing */
    uint8_t slots[MR_LAYOUT_NAMES]; /* for each column of `set`, which name */
    const struct mr_column_set *set;
};

/* Zeroed at first. */
struct mr_layouts {
    struct mr_layout *entries[MR_LAYOUTS];
};

void mr_layouts_fini(struct mr_layouts *layouts);

/* Of these names, learnt if they are new. NULL: too many, or not all UTF-8, or no place for them
 * just now. Good until the next call, or as long as it is `used`. */
struct mr_layout *mr_layout_of(struct mr_layouts *layouts, const struct mr_layout_name *names,
                               size_t n);

/* Whether a table of this layout is a row of `rows`: true, and the columns other than `set` are
 * filled in; the caller interns the set. */
bool mr_layout_is_row(struct mr_layout *layout, const struct mr_row_schema *rows,
                      struct mr_column_set *set);

#endif
