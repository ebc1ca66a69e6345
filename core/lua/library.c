/*
 * library.c - null, array{}, json.encode/decode, time.parse/format.
 *
 * Inside the gate, on the host's thread. Owns nothing: the decoder and the buf are the script's.
 * Must not know messages. Tests: tests/spec/library_spec.lua.
 */
#include "lua/library.h"

#include "lua/encode.h"
#include "lua/placeholder.h"
#include "lua/sandbox.h"

#include <lauxlib.h>
#include <lua.h>
#include <math.h>
#include <stdio.h>
#include <time.h>

static int l_array(lua_State *L)
{
    if (lua_isnoneornil(L, 1))
        lua_newtable(L);
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    mr_json_push_array_meta(L);
    lua_setmetatable(L, 1);
    return 1;
}

static int l_encode(lua_State *L)
{
    struct mr_library *library = lua_touserdata(L, lua_upvalueindex(1));
    struct mr_error err;
    luaL_checkany(L, 1);
    if (mr_encode_has_placeholder(L, 1))
        return luaL_error(L, "json.encode: a placeholder has no value yet; "
                             "put the table itself into the record");
    mr_build_reset(&library->build);
    if (!mr_encode_json(L, 1, &library->build, "json.encode", &err))
        return luaL_error(L, "%s", err.msg);
    lua_pushlstring(L, library->build.bytes.ptr, library->build.bytes.len);
    return 1;
}

static int l_decode(lua_State *L)
{
    struct mr_library *library = lua_touserdata(L, lua_upvalueindex(1));
    struct mr_error err;
    struct mr_bytes text;
    text.ptr = luaL_checklstring(L, 1, &text.len);
    if (!mr_json_parse(library->json, text, &err) || !mr_json_push(library->json, L, &err))
        return luaL_error(L, "json.decode: %s", err.msg);
    return 1;
}

/* --- time --- */

static bool digits(const char **at, int n, int *out)
{
    *out = 0;
    for (int i = 0; i < n; i++, (*at)++) {
        if (**at < '0' || **at > '9')
            return false;
        *out = *out * 10 + (**at - '0');
    }
    return true;
}

/* [.digits], rounded to what a double holds. */
static bool fraction(const char **at, double *out)
{
    *out = 0;
    if (**at != '.')
        return true;
    double scale = 0.1;
    const char *first = ++*at;
    for (; **at >= '0' && **at <= '9'; (*at)++, scale /= 10)
        *out += (**at - '0') * scale;
    return *at > first;
}

/* Z, +hh:mm, -hhmm, or nothing (UTC). */
static bool offset(const char **at, int *seconds)
{
    *seconds = 0;
    if (**at == 'Z' || **at == 'z') {
        (*at)++;
        return true;
    }
    if (**at != '+' && **at != '-')
        return true;
    int sign = *(*at)++ == '-' ? -1 : 1, hours, minutes = 0;
    if (!digits(at, 2, &hours))
        return false;
    if (**at == ':')
        (*at)++;
    if (**at && !digits(at, 2, &minutes))
        return false;
    *seconds = sign * (hours * 3600 + minutes * 60);
    return hours <= 15 && minutes < 60;
}

static bool parse_time(const char *at, int64_t *seconds, double *part)
{
    struct tm tm = {0};
    int year, month, shift = 0;
    *part = 0;
    if (!digits(&at, 4, &year) || *at++ != '-' || !digits(&at, 2, &month) || *at++ != '-' ||
        !digits(&at, 2, &tm.tm_mday))
        return false;
    if (*at == 'T' || *at == 't' || *at == ' ') {
        at++;
        if (!digits(&at, 2, &tm.tm_hour) || *at++ != ':' || !digits(&at, 2, &tm.tm_min))
            return false;
        if (*at == ':' && (at++, !digits(&at, 2, &tm.tm_sec)))
            return false;
        if (!fraction(&at, part) || !offset(&at, &shift))
            return false;
    }
    tm.tm_year = year - 1900;
    tm.tm_mon = month - 1;
    if (*at || tm.tm_sec > 60)
        return false;
    struct tm checked = tm;
    checked.tm_sec = 0; /* 60 is a leap second: it counts on */
    time_t t = timegm(&checked);
    if (checked.tm_mday != tm.tm_mday || checked.tm_mon != tm.tm_mon ||
        checked.tm_hour != tm.tm_hour || checked.tm_min != tm.tm_min)
        return false;
    *seconds = t + tm.tm_sec - shift;
    return true;
}

static int l_time_parse(lua_State *L)
{
    int64_t seconds;
    double part;
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    if (strlen(text) != len || !parse_time(text, &seconds, &part)) {
        luaL_pushfail(L);
        lua_pushfstring(L, "'%s' is not a time such as 2026-11-22T17:31:18Z", text);
        return 2;
    }
    if (part > 0)
        lua_pushnumber(L, (double)seconds + part);
    else
        lua_pushinteger(L, seconds);
    return 1;
}

static int l_time_format(lua_State *L)
{
    double given = luaL_checknumber(L, 1);
    const char *format = luaL_optstring(L, 2, NULL);
    double whole = floor(given);
    luaL_argcheck(L, whole > -6e10 && whole < 2.5e11, 1, "not within the years 0 to 9999");
    time_t seconds = (time_t)whole;
    int ms = (int)((given - whole) * 1000 + 0.5);
    if (ms == 1000) {
        ms = 0;
        seconds++;
    }
    struct tm tm;
    char text[256];
    gmtime_r(&seconds, &tm);
    luaL_argcheck(L, tm.tm_year >= -1900 && tm.tm_year <= 8099, 1,
                  "not within the years 0 to 9999");
    if (!strftime(text, sizeof text, format ? format : "%Y-%m-%dT%H:%M:%S", &tm) &&
        !(format && !*format))
        return luaL_error(L, "time.format: the result is empty or longer than %d bytes",
                          (int)sizeof text - 1);
    if (format)
        lua_pushstring(L, *format ? text : "");
    else if (ms)
        lua_pushfstring(L, "%s.%c%c%cZ", text, '0' + ms / 100, '0' + ms / 10 % 10, '0' + ms % 10);
    else
        lua_pushfstring(L, "%sZ", text);
    return 1;
}

void mr_library_open(lua_State *L, struct mr_library *library)
{
    static const luaL_Reg json[] = {{"encode", l_encode}, {"decode", l_decode}, {NULL, NULL}};
    static const luaL_Reg times[] = {
        {"parse", l_time_parse}, {"format", l_time_format}, {NULL, NULL}};
    lua_pushlightuserdata(L, NULL);
    mr_sandbox_global(L, "null");
    lua_pushcfunction(L, l_array);
    mr_sandbox_global(L, "array");
    luaL_newlibtable(L, json);
    lua_pushlightuserdata(L, library);
    luaL_setfuncs(L, json, 1);
    lua_pushlightuserdata(L, NULL);
    lua_setfield(L, -2, "null");
    mr_sandbox_global(L, "json");
    luaL_newlib(L, times);
    mr_sandbox_global(L, "time");
}
