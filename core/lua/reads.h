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

/* What the Lua function on top of the stack does to the table that is its first argument. Only of a
 * table without a metatable. In doubt the first. */
enum mr_leaves {
    MR_LEAVES_NOT, /* may change or keep it */
    MR_LEAVES_IT,  /* does neither itself; but it may run what else holds that table */
    MR_LEAVES_ALL  /* nor does anything that it runs: it reads, makes tables, returns them or it */
};
enum mr_leaves mr_reads_leaves(struct lua_State *L);

/* True if the first result of the Lua function on top of the stack is a table that it makes each
 * time, that nobody else holds, and that is not to be found in itself. In doubt false. */
bool mr_reads_makes(struct lua_State *L);

#endif
