/*
 * encode.h - a Lua value as JSON bytes, with placeholders as segments between them.
 *
 * Names of an object stand sorted bytewise; integers as int64, floats shortest-exact; null is the
 * light userdata NULL. What JSON cannot carry is refused with a sentence that names the path: NaN,
 * functions, names that are not strings, holes in a list (class schema), strings that are not UTF-8
 * (class utf8). Inside the gate; raises for memory only.
 */
#ifndef MR_LUA_ENCODE_H
#define MR_LUA_ENCODE_H

#include "lua/build.h"

struct lua_State;

/* Appends to build->bytes; columns become MR_SEG_JSON and MR_SEG_JSON_INSIDE. `what` begins the
 * path in an error ("the message"). False: *err is MR_REJECT; the stack is as it was. */
MR_MUSTCHECK bool mr_encode_json(struct lua_State *L, int index, struct mr_build *build,
                                 const char *what, struct mr_error *err);

/* A string, number, boolean, placeholder or fmt as bare bytes (MR_SEG_TEXT). */
MR_MUSTCHECK bool mr_encode_bare(struct lua_State *L, int index, struct mr_build *build,
                                 const char *what, struct mr_error *err);

/* Whether a value contains a placeholder anywhere (tables are searched; not those that are nested
 * too deep, which the encoder refuses). Counts as work of the host. */
bool mr_encode_has_placeholder(struct lua_State *L, int index);

#endif
