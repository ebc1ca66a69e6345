/*
 * sandbox.c - the closed set of globals, by an allow list.
 *
 * Runs inside the gate, on the thread of the host. Owns nothing: what it makes lives in the Lua
 * state. Must not know scripts or configurations. What is not on a list here does not exist for the
 * user's code. Tests: tests/spec/sandbox_spec.lua.
 */
#include "lua/sandbox.h"

#include "base/text.h"
#include "lua/host.h"

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <string.h>

static const char *const base_names[] = {
    "assert",   "error",    "getmetatable", "ipairs",   "next",   "pairs",
    "pcall",    "rawequal", "rawget",       "rawlen",   "rawset", "select",
    "tostring", "tonumber", "type",         "_VERSION", NULL,
};
static const char *const string_names[] = {
    "byte", "char",     "find", "format",  "gmatch", "gsub",   "len",   "lower", "match",
    "pack", "packsize", "rep",  "reverse", "sub",    "unpack", "upper", NULL,
};
static const char *const os_names[] = {"time", "date", NULL};

/* Names that people try, and what to do instead. */
static const struct {
    const char *name, *cure;
} cures[] = {
    {"print", "use ctx.log(text)"},
    {"io", "a script or configuration reads and writes no files"},
    {"debug", "it is left out on purpose"},
    {"package", "use require for a module that lies beside the script"},
    {"coroutine", "it is left out on purpose: a call does its work and returns"},
    {"load", "it is left out on purpose: only files are run"},
    {"loadstring", "it is left out on purpose: only files are run"},
    {"dofile", "use require for a module that lies beside the script"},
    {"loadfile", "use require for a module that lies beside the script"},
    {"collectgarbage", "memory is managed by the host (limits.memory)"},
    {"_G", "globals are closed: use local"},
    {"unpack", "it is table.unpack"},
    {"cjson", "local cjson = require \"cjson\""},
};

static const char *cure_of(const char *name)
{
    for (size_t i = 0; i < sizeof cures / sizeof *cures; i++)
        if (strcmp(cures[i].name, name) == 0)
            return cures[i].cure;
    return NULL;
}

/* The nearest key of the table at `index`, or NULL. It stays valid: it is a key. */
static const char *nearest_key(lua_State *L, int index, const char *name)
{
    enum { MAX = 128 };
    const char *names[MAX];
    size_t n = 0;
    lua_pushnil(L);
    while (lua_next(L, index)) {
        lua_pop(L, 1);
        if (lua_type(L, -1) == LUA_TSTRING && n < MAX)
            names[n++] = lua_tostring(L, -1);
    }
    return mr_text_nearest(name, names, n);
}

static int l_undefined(lua_State *L)
{
    if (lua_type(L, 2) != LUA_TSTRING)
        return luaL_error(L, "globals have names, not %s keys", luaL_typename(L, 2));
    const char *name = lua_tostring(L, 2);
    const char *cure = cure_of(name);
    if (cure)
        return luaL_error(L, "'%s' is not there: %s", name, cure);
    const char *near = nearest_key(L, 1, name);
    if (near)
        return luaL_error(L, "undefined name '%s' (did you mean '%s'?)", name, near);
    return luaL_error(L, "undefined name '%s'", name);
}

static int l_undefined_os(lua_State *L)
{
    const char *name = luaL_tolstring(L, 2, NULL);
    if (strcmp(name, "getenv") == 0)
        return luaL_error(L,
                          "os.getenv is not there: write env(\"NAME\") in the configuration, and "
                          "hand it to scripts in `vars`");
    return luaL_error(L, "os.%s is not there: of os there are only os.time and os.date", name);
}

static int l_assign(lua_State *L)
{
    if (lua_type(L, 2) != LUA_TSTRING)
        return luaL_error(L, "globals have names, not %s keys", luaL_typename(L, 2));
    const char *name = lua_tostring(L, 2);
    return luaL_error(L, "assignment to the global '%s': use 'local %s'", name, name);
}

/* setmetatable without finalizers: they would run at any time, also outside the limits. */
static int l_setmetatable(lua_State *L)
{
    if (lua_istable(L, 2)) {
        lua_pushliteral(L, "__gc");
        if (lua_rawget(L, 2) != LUA_TNIL)
            return luaL_error(L, "__gc is not there: a script has no finalizers");
        lua_pop(L, 1);
    }
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, lua_gettop(L) - 1, 1);
    return 1;
}

/* The user's message handler. Lua runs it with hooks off if a hook raised: then it must not run. */
static int l_xpcall_handler(lua_State *L)
{
    lua_settop(L, 1);
    if (mr_host_expired(mr_host_of(L)))
        return 1;
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, 1, 1);
    return 1;
}

static int l_xpcall(lua_State *L)
{
    luaL_checktype(L, 2, LUA_TFUNCTION);
    lua_pushvalue(L, 2);
    lua_pushcclosure(L, l_xpcall_handler, 1);
    lua_replace(L, 2);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
    return lua_gettop(L);
}

/* Copies the named fields of the table at `from` to the table at `to`. */
static void copy_fields(lua_State *L, int from, int to, const char *const *names)
{
    for (; *names; names++) {
        lua_getfield(L, from, *names);
        mr_assert(!lua_isnil(L, -1));
        lua_setfield(L, to, *names);
    }
}

static void open_base(lua_State *L, int env)
{
    luaL_requiref(L, LUA_GNAME, luaopen_base, 0);
    int base = lua_gettop(L);
    copy_fields(L, base, env, base_names);
    lua_getfield(L, base, "setmetatable");
    lua_pushcclosure(L, l_setmetatable, 1);
    lua_setfield(L, env, "setmetatable");
    lua_getfield(L, base, "xpcall");
    lua_pushcclosure(L, l_xpcall, 1);
    lua_setfield(L, env, "xpcall");
}

static void open_libraries(lua_State *L, int env)
{
    luaL_requiref(L, LUA_STRLIBNAME, luaopen_string, 0);
    lua_newtable(L);
    copy_fields(L, lua_gettop(L) - 1, lua_gettop(L), string_names);
    mr_sandbox_bound_string(L, lua_gettop(L));
    /* ("x"):rep(3) goes through the metatable of strings */
    lua_pushliteral(L, "");
    lua_getmetatable(L, -1);
    lua_pushvalue(L, -3);
    lua_setfield(L, -2, "__index");
    lua_pushliteral(L, "string");
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 2);
    lua_setfield(L, env, LUA_STRLIBNAME);

    luaL_requiref(L, LUA_TABLIBNAME, luaopen_table, 0);
    mr_sandbox_bound_table(L, lua_gettop(L));
    lua_setfield(L, env, LUA_TABLIBNAME);
    luaL_requiref(L, LUA_MATHLIBNAME, luaopen_math, 0);
    mr_sandbox_bound_math(L, lua_gettop(L));
    lua_setfield(L, env, LUA_MATHLIBNAME);
    luaL_requiref(L, LUA_UTF8LIBNAME, luaopen_utf8, 0);
    mr_sandbox_bound_utf8(L, lua_gettop(L));
    lua_setfield(L, env, LUA_UTF8LIBNAME);

    luaL_requiref(L, LUA_OSLIBNAME, luaopen_os, 0);
    lua_newtable(L);
    copy_fields(L, lua_gettop(L) - 1, lua_gettop(L), os_names);
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, l_undefined_os);
    lua_setfield(L, -2, "__index");
    lua_setmetatable(L, -2);
    lua_setfield(L, env, LUA_OSLIBNAME);
}

void mr_sandbox_open(lua_State *L)
{
    int top = lua_gettop(L);
    luaL_checkstack(L, 20, NULL);
    lua_newtable(L);
    int env = top + 1;
    open_base(L, env);
    open_libraries(L, env);

    lua_createtable(L, 0, 3);
    lua_pushcfunction(L, l_undefined);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, l_assign);
    lua_setfield(L, -2, "__newindex");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_setmetatable(L, env);

    /* The table that chunks get as _ENV; what the libraries put into the old one is out of reach.
     */
    lua_pushvalue(L, env);
    lua_rawseti(L, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
    lua_settop(L, top);
}

void mr_sandbox_global(lua_State *L, const char *name)
{
    lua_pushglobaltable(L);
    lua_pushstring(L, name);
    lua_pushvalue(L, -3);
    lua_rawset(L, -3);
    lua_pop(L, 2);
}

void mr_sandbox_load(lua_State *L, const char *text, size_t len, const char *path)
{
    lua_pushfstring(L, "@%s", path);
    if (luaL_loadbufferx(L, text, len, lua_tostring(L, -1), "t") != LUA_OK)
        lua_error(L);
    lua_remove(L, -2);
}

void mr_sandbox_cjson(lua_State *L)
{
    /* The real `require`, for this one name, from the system's directories only. The library wants
     * to put it among the globals: it gets a table of its own for that. */
    lua_pushboolean(L, 1);
    lua_setfield(L, LUA_REGISTRYINDEX, "LUA_NOENV");
    lua_pushglobaltable(L);
    lua_newtable(L);
    lua_pushvalue(L, -1);
    lua_rawseti(L, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
    luaL_requiref(L, LUA_LOADLIBNAME, luaopen_package, 0);
    lua_pushvalue(L, -3);
    lua_rawseti(L, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
    /* globals, own, package */
    lua_getfield(L, -1, "cpath");
    luaL_gsub(L, lua_tostring(L, -1), "./?.so", "");
    lua_setfield(L, -3, "cpath");
    lua_pushliteral(L, "");
    lua_setfield(L, -3, "path");
    lua_getfield(L, -3, "require");
    lua_pushliteral(L, "cjson");
    lua_call(L, 1, 1);
    lua_insert(L, -5);
    lua_pop(L, 4);
}
