/*
 * reads.h - what a function does with its first argument, as far as its instructions show it.
 *
 * `function(msg, ctx) return msg.ends > ctx.now end` reads the field `ends` of its first argument
 * and does nothing else with it: it cannot tell a table that has that field alone from the whole
 * one. Inside the gate; raises nothing.
 */
#ifndef MR_LUA_READS_H
#define MR_LUA_READS_H

#include "base/error.h"

#include <stddef.h>

struct lua_State;

enum { MR_READS_MAX = 16 };

/* Names of fields, each once. */
struct mr_reads {
    char *names[MR_READS_MAX];
    size_t n;
};

/* True if the Lua function on top of the stack reads fields of its first argument by constant
 * names, and does nothing else with it: does not pass it on, keep, compare, change or walk it. In
 * doubt false; then there are no names. */
bool mr_reads_only(struct lua_State *L, struct mr_reads *reads);
void mr_reads_fini(struct mr_reads *reads);

/* True if the Lua function on top of the stack cannot change the table that is its first argument,
 * nor keep it: it reads fields of it only, or does nothing but read, make tables and return them,
 * or its argument. Only of a table without a metatable. In doubt false. */
bool mr_reads_unchanged(struct lua_State *L);

/* True if the first result of the Lua function on top of the stack is a table that it makes each
 * time, and that nobody else holds. In doubt false. */
bool mr_reads_makes(struct lua_State *L);

#endif
