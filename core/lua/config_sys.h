/*
 * config_sys.h - what the configuration's Lua modules may ask of the system (config_sys.c).
 *
 * Private to core/lua. Inside the gate, one thread.
 */
#ifndef MR_LUA_CONFIG_SYS_H
#define MR_LUA_CONFIG_SYS_H

#include "lua/config.h"

struct lua_State;

/* Pushes the table `sys`. `checks` is borrowed as long as the state lives. */
void mr_config_push_sys(struct lua_State *L, const struct mr_config_checks *checks);

/* config.c: opens the sandbox, and pushes one of our own modules (embedded.h), run with all of
 * Lua's base library. `checks` may be NULL for modules that need none. */
void mr_config_open_module(struct lua_State *L, const struct mr_config_checks *checks,
                           const char *name);

#endif
