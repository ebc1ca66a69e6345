/*
 * pattern.h - string.find, match, gmatch and gsub, with a bound on the work.
 *
 * The language is that of Lua's own patterns, as its manual describes it (section 6.4.1). Lua's
 * matcher is one C function that no hook interrupts: a pattern such as "(.-)(.-)(.-)x" over a long
 * text would hold the worker up for hours. This one counts its steps (host.h, mr_host_work), so
 * that limits.time ends it. Inside the gate.
 */
#ifndef MR_LUA_PATTERN_H
#define MR_LUA_PATTERN_H

struct lua_State;

/* Puts the four functions into the table at `string_index`. */
void mr_pattern_open(struct lua_State *L, int string_index);

#endif
