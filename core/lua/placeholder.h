/*
 * placeholder.h - what stands for a column until the stamper fills it in: col.<name>, and fmt "text
 * {column}".
 *
 * Both are full userdata of one type, immutable, valid as long as the state. Using one as if it
 * were a value (concatenation, arithmetic, comparison, ...) raises a sentence that names the cure.
 * All inside the gate.
 */
#ifndef MR_LUA_PLACEHOLDER_H
#define MR_LUA_PLACEHOLDER_H

#include "millrace/lookup.h"

struct lua_State;

/* A literal piece (column < 0: text[from .. from + len)) or a column of the lookup schema. */
struct mr_piece {
    int32_t column;
    uint32_t from, len;
};

struct mr_placeholder {
    bool is_fmt; /* false: one column, as a value of its type */
    uint16_t column;
    uint32_t n_pieces; /* fmt */
    const struct mr_piece *pieces;
    const char *text; /* literals; for a column its name, NUL-terminated */
};

/*
 * Once a state: the global `fmt`, and `col`. `schema` NULL: no lookup, or (`has_lookup`) its
 * columns are not known yet, then any name is accepted. `live` is read when the script reaches into
 * `col`.
 */
void mr_placeholder_open(struct lua_State *L, const struct mr_lookup_schema *schema,
                         bool has_lookup, const bool *live);
/* Pushes `col`. */
void mr_placeholder_push_col(struct lua_State *L);
/* NULL if the value at `index` is not a placeholder. */
const struct mr_placeholder *mr_placeholder_at(struct lua_State *L, int index);

#endif
