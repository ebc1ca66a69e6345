/*
 * test.c - a Lua state for specs: all of Lua's library, busted from the system, our modules.
 *
 * One thread. Owns the state; the run itself is test_run.lua, part of the binary. Must not know the
 * command line (core/cli/test.c) or what specs are about. Tests: tests/spec/test_command_spec.lua.
 */
#include "lua/test.h"

#include "lua/host.h"
#include "lua/module.h"

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

struct run {
    int argc;
    char *const *argv;
    int code;
    bool broken; /* the text is in *err */
    struct mr_error *err;
};

/* The command line as Lua's own interpreter gives it, and what require finds without a file. */
static void set_up(lua_State *L, const struct run *run)
{
    lua_createtable(L, run->argc, 1);
    lua_pushliteral(L, "millrace test");
    lua_rawseti(L, -2, 0);
    for (int i = 0; i < run->argc; i++) {
        lua_pushstring(L, run->argv[i]);
        lua_rawseti(L, -2, i + 1);
    }
    lua_setglobal(L, "arg");
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
    lua_pushcfunction(L, luaopen_millrace);
    lua_setfield(L, -2, "millrace");
    lua_pushcfunction(L, luaopen_millrace_testing);
    lua_setfield(L, -2, "millrace.testing");
    lua_pop(L, 1);
}

static int job_run(lua_State *L)
{
    struct run *run = lua_touserdata(L, 1);
    luaL_openlibs(L);
    set_up(L, run);
    mr_module_load_embedded(L, "test_run");
    lua_call(L, 0, 2);
    run->code = (int)lua_tointeger(L, -2);
    if (lua_isstring(L, -1))
        run->broken = !mr_error_set(run->err, MR_STOP, run->code, "%s", lua_tostring(L, -1));
    return 0;
}

bool mr_lua_test(int argc, char *const *argv, int *code, struct mr_error *err)
{
    struct mr_host_limits limits = {0};
    struct mr_host *host = NULL;
    struct run run = {.argc = argc, .argv = argv, .err = err};
    bool done = mr_host_new(&limits, &host, err);
    if (done && !mr_host_call(host, job_run, &run, err)) {
        err->action = MR_STOP;
        err->code = MR_EXIT_BUG;
        done = false;
    }
    mr_host_free(host);
    *code = run.code;
    return done && !run.broken;
}
