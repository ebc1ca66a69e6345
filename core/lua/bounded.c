/*
 * bounded.c - library functions that could run for ever without an instruction, kept within bounds.
 *
 * Hooks fire between instructions of Lua code, never inside a C function. Runs inside the gate.
 * Owns nothing. What needs memory in proportion to its time is bounded by the allocator already
 * (host.c); here is the rest: a rep of nothing, table functions on long tables or on a length that
 * a metamethod made up, utf8 functions on long texts, long texts compared or read as numbers again
 * and again within one call (an instruction at a time: host.c). Patterns: pattern.c. Must not know
 * scripts. Tests: tests/spec/limits_spec.lua.
 */
#include "lua/sandbox.h"

#include "lua/host.h"
#include "lua/pattern.h"

#include <lauxlib.h>
#include <lua.h>

enum {
    TABLE_MAX = 10 * 1000 * 1000,
    TEXT_LONG = 4096,
    TEXTS_MAX = 512 * 1024 * 1024 /* bytes of all arguments of one call */
};

static void count_bytes(lua_State *L, size_t len)
{
    mr_host_work(L, len / 4 > TABLE_MAX ? TABLE_MAX : (uint32_t)(len / 4));
}

/* Each argument may be the same long text, from which a number is read each time. The function has
 * no upvalues: it is called as if it were this one, at no cost. */
static int l_by_arguments(lua_State *L)
{
    size_t sum = 0;
    for (int i = lua_gettop(L); i; i--)
        if (lua_type(L, i) == LUA_TSTRING)
            sum += lua_rawlen(L, i);
    if (sum > TEXTS_MAX)
        return luaL_error(L, "texts of more than %d bytes in one call", TEXTS_MAX);
    if (sum > TEXT_LONG)
        count_bytes(L, sum);
    return lua_tocfunction(L, lua_upvalueindex(1))(L);
}

/* string.rep of the empty string would count to n. */
static int l_rep(lua_State *L)
{
    size_t len, sep_len;
    luaL_checklstring(L, 1, &len);
    luaL_checkinteger(L, 2);
    luaL_optlstring(L, 3, "", &sep_len);
    if (len == 0 && sep_len == 0) {
        lua_pushliteral(L, "");
        return 1;
    }
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, lua_gettop(L) - 1, 1);
    return 1;
}

/* insert, remove, sort, concat, unpack: the length may come from __len. */
static int l_by_length(lua_State *L)
{
    if (lua_istable(L, 1) && luaL_getmetafield(L, 1, "__len") != LUA_TNIL) {
        lua_pop(L, 1);
        lua_Integer n = luaL_len(L, 1);
        if (n > TABLE_MAX)
            return luaL_error(L, "the table says that it has %I items; at most %d are worked on", n,
                              TABLE_MAX);
        mr_host_work(L, (uint32_t)(n > 0 ? n : 0));
    } else if (lua_istable(L, 1) && lua_gettop(L) != 2) { /* two arguments: appends, or joins */
        size_t n = lua_rawlen(L, 1);
        mr_host_work(L, n > TABLE_MAX ? TABLE_MAX : (uint32_t)n);
    }
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
    return lua_gettop(L);
}

/* The range may be given, and __index may answer for items that are not there. */
static void count_range(lua_State *L, int index)
{
    if (lua_isnoneornil(L, index + 1))
        return;
    lua_Integer from = luaL_optinteger(L, index, 1), to = luaL_checkinteger(L, index + 1);
    if (to < from)
        return;
    if ((lua_Unsigned)to - (lua_Unsigned)from >= TABLE_MAX)
        luaL_error(L, "too many results: more than %d items", TABLE_MAX);
    mr_host_work(L, (uint32_t)(to - from));
}

static int l_concat(lua_State *L)
{
    count_range(L, 3);
    return l_by_length(L);
}

static int l_unpack(lua_State *L)
{
    count_range(L, 2);
    return l_by_length(L);
}

static int l_move(lua_State *L)
{
    lua_Integer from = luaL_checkinteger(L, 2), to = luaL_checkinteger(L, 3);
    if (to >= from) {
        if ((lua_Unsigned)to - (lua_Unsigned)from >= TABLE_MAX)
            return luaL_error(L, "table.move of more than %d items", TABLE_MAX);
        mr_host_work(L, (uint32_t)(to - from));
    }
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, lua_gettop(L) - 1, 1);
    return 1;
}

/* utf8.len and the like look at each byte, and make nothing. */
static int l_by_text(lua_State *L)
{
    size_t len = lua_type(L, 1) == LUA_TSTRING ? lua_rawlen(L, 1) : 0;
    if (len > TEXT_LONG)
        count_bytes(L, len);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
    return lua_gettop(L);
}

/* Like the one that table.sort has, with a look at the clock. */
static int l_less(lua_State *L)
{
    if (lua_type(L, 1) == LUA_TSTRING && lua_type(L, 2) == LUA_TSTRING) {
        size_t a = lua_rawlen(L, 1), b = lua_rawlen(L, 2);
        count_bytes(L, a < b ? a : b);
    }
    lua_pushboolean(L, lua_compare(L, 1, 2, LUA_OPLT));
    return 1;
}

/* Or may have: what __index answers is not looked at. */
static bool has_long_text(lua_State *L, int table)
{
    bool found = lua_getmetatable(L, table);
    if (found)
        lua_pop(L, 1);
    for (lua_Unsigned i = 1, n = lua_rawlen(L, table); i <= n && !found; i++) {
        found =
            lua_rawgeti(L, table, (lua_Integer)i) == LUA_TSTRING && lua_rawlen(L, -1) > TEXT_LONG;
        lua_pop(L, 1);
    }
    return found;
}

static int l_sort(lua_State *L)
{
    if (lua_istable(L, 1) && lua_isnoneornil(L, 2) && has_long_text(L, 1)) {
        lua_settop(L, 1);
        lua_pushcfunction(L, l_less);
    }
    return l_by_length(L);
}

static void wrap(lua_State *L, int lib, const char *name, lua_CFunction bounded)
{
    lua_getfield(L, lib, name);
    mr_assert(lua_isfunction(L, -1));
    lua_pushcclosure(L, bounded, 1);
    lua_setfield(L, lib, name);
}

void mr_sandbox_bound_string(lua_State *L, int string_index)
{
    mr_pattern_open(L, string_index);
    wrap(L, string_index, "rep", l_rep);
    static const char *const by_arguments[] = {"char", "format", "pack"};
    for (size_t i = 0; i < sizeof by_arguments / sizeof *by_arguments; i++)
        wrap(L, string_index, by_arguments[i], l_by_arguments);
}

void mr_sandbox_bound_math(lua_State *L, int math_index)
{
    wrap(L, math_index, "max", l_by_arguments);
    wrap(L, math_index, "min", l_by_arguments);
}

void mr_sandbox_bound_table(lua_State *L, int table_index)
{
    static const char *const by_length[] = {"insert", "remove"};
    for (size_t i = 0; i < sizeof by_length / sizeof *by_length; i++)
        wrap(L, table_index, by_length[i], l_by_length);
    wrap(L, table_index, "sort", l_sort);
    wrap(L, table_index, "concat", l_concat);
    wrap(L, table_index, "unpack", l_unpack);
    wrap(L, table_index, "move", l_move);
}

void mr_sandbox_bound_utf8(lua_State *L, int utf8_index)
{
    wrap(L, utf8_index, "len", l_by_text);
    wrap(L, utf8_index, "offset", l_by_text);
    wrap(L, utf8_index, "codepoint", l_by_text);
    wrap(L, utf8_index, "char", l_by_arguments);
}
