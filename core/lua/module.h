/*
 * module.h - private to millrace.so: the tables that a spec describes in Lua, as the core wants
 * them.
 *
 * Everything runs in the Lua of the spec, which may raise: memory belongs to the userdata of the
 * script.
 */
#ifndef MR_LUA_MODULE_H
#define MR_LUA_MODULE_H

#include "base/arena.h"
#include "base/tree.h"
#include "millrace/lookup.h"
#include "millrace/row.h"

struct lua_State;

/* From keys = { name = type }, columns = { name = type }. */
void mr_module_lookup(struct lua_State *L, int options, struct mr_arena *arena,
                      struct mr_lookup_schema *out);
/* From table = { "name type[ not null][ default][ generated]", ... }. */
void mr_module_row_schema(struct lua_State *L, int table, struct mr_arena *arena,
                          struct mr_row_schema *out);
/* One row of the lookup, by name; the values borrow from the Lua table. */
void mr_module_read_row(struct lua_State *L, int row, const struct mr_lookup_schema *schema,
                        struct mr_value *values);
/* Pushes a row as stamped: a table of column names and text forms (null for NULL). */
void mr_module_push_row(struct lua_State *L, const struct mr_row_schema *schema,
                        const struct mr_column_set *set, struct mr_bytes row);
/* vars = { ... }; the caller frees it. */
void mr_module_read_vars(struct lua_State *L, int vars, struct mr_node *parent);

#endif
