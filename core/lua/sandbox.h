/*
 * sandbox.h - what Lua code of a user can reach: shared by config.lua and scripts.
 *
 * All functions run inside the gate (host.h) and may raise. The globals are closed: an undefined
 * name raises, with the nearest known one; assigning to one raises. There is no io, no os but time
 * and date, no package, debug, load or coroutine, no bytecode and no __gc. Own globals are added
 * from C by mr_sandbox_global.
 *
 * Coroutines are left out: a value that suspends outlives the message that it was made for, and
 * each one would carry its own hook. Nothing in a script or a configuration has anything to wait
 * for.
 */
#ifndef MR_LUA_SANDBOX_H
#define MR_LUA_SANDBOX_H

#include <stddef.h>

struct lua_State;

/* Once a state. */
void mr_sandbox_open(struct lua_State *L);

/* Pops a value and makes it the global `name`. */
void mr_sandbox_global(struct lua_State *L, const char *name);

/* Compiles a text chunk and pushes the function; raises with file:line if it does not compile.
 * `path` is how errors name it. */
void mr_sandbox_load(struct lua_State *L, const char *text, size_t len, const char *path);

/* Pushes the module lua-cjson; raises a sentence if it is not installed. */
void mr_sandbox_cjson(struct lua_State *L);

/* The functions whose work no hook can interrupt, bounded; called by mr_sandbox_open, on the tables
 * `string`, `math`, `table` and `utf8` (bounded.c). */
void mr_sandbox_bound_string(struct lua_State *L, int string_index);
void mr_sandbox_bound_math(struct lua_State *L, int math_index);
void mr_sandbox_bound_table(struct lua_State *L, int table_index);
void mr_sandbox_bound_utf8(struct lua_State *L, int utf8_index);

#endif
