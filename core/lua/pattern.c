/*
 * pattern.c - see pattern.h: find, match, gmatch and gsub over the matcher of pattern_match.h.
 *
 * Runs inside the gate; owns nothing: patterns and captures lie on the C stack, what gsub builds in
 * a luaL_Buffer. Must not know scripts. Held against Lua's own functions by
 * tests/spec/pattern_spec.lua; time: tests/spec/limits_spec.lua.
 */
#include "lua/pattern.h"

#include "lua/host.h"
#include "lua/pattern_match.h"

#include <lauxlib.h>
#include <lua.h>
#include <string.h>

/* --- captures --- */

/* Capture i; the whole match, from s to e, stands for the first of none. */
static void push_capture(const struct mr_match *m, int i, const char *s, const char *e)
{
    const struct mr_capture whole = {s, e - s};
    if (i >= m->n_captures && i != 0)
        luaL_error(m->L, "invalid capture index %%%d", i + 1);
    const struct mr_capture *capture = m->n_captures ? &m->captures[i] : &whole;
    if (capture->len == MR_CAPTURE_OPEN)
        luaL_error(m->L, "unfinished capture");
    else if (capture->len == MR_CAPTURE_POSITION)
        lua_pushinteger(m->L, capture->from - m->text + 1);
    else
        lua_pushlstring(m->L, capture->from, (size_t)capture->len);
}

/* How many were pushed. `whole`: without captures the match itself. */
static int push_captures(const struct mr_match *m, const char *s, const char *e, bool whole)
{
    int n = m->n_captures || !whole ? m->n_captures : 1;
    luaL_checkstack(m->L, n, "too many captures");
    for (int i = 0; i < n; i++)
        push_capture(m, i, s, e);
    return n;
}

/* --- find, match --- */

/* Where a search begins, counted from 0; negative numbers count from the end. */
static size_t start_of(lua_Integer init, size_t len)
{
    lua_Integer size = (lua_Integer)len;
    if (init < 0)
        return init < -size ? 0 : (size_t)(size + init);
    return init ? (size_t)init - 1 : 0;
}

/* Plain search, in portions: the work of one is bounded by text times pattern. */
static int find_plain(lua_State *L, const char *text, size_t len, size_t init, const char *pattern,
                      size_t pattern_len)
{
    const char *at = text + init, *end = text + len;
    if (pattern_len == 0) {
        lua_pushinteger(L, (lua_Integer)init + 1);
        lua_pushinteger(L, (lua_Integer)init);
        return 2;
    }
    while ((size_t)(end - at) >= pattern_len) {
        const char *first = memchr(at, *pattern, (size_t)(end - at) - pattern_len + 1);
        if (!first)
            break;
        mr_host_work(L, (uint32_t)(pattern_len / 64 + (size_t)(first - at) / 64 + 1));
        if (memcmp(first, pattern, pattern_len) == 0) {
            lua_pushinteger(L, first - text + 1);
            lua_pushinteger(L, first - text + (lua_Integer)pattern_len);
            return 2;
        }
        at = first + 1;
    }
    luaL_pushfail(L);
    return 1;
}

static bool has_specials(const char *pattern, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (pattern[i] && strchr("^$*+?.([%-", pattern[i]))
            return true;
    return false;
}

static int find_or_match(lua_State *L, bool find)
{
    size_t len, pattern_len;
    const char *text = luaL_checklstring(L, 1, &len), *p = luaL_checklstring(L, 2, &pattern_len);
    size_t init = start_of(luaL_optinteger(L, 3, 1), len);
    if (init > len) {
        luaL_pushfail(L);
        return 1;
    }
    if (find && (lua_toboolean(L, 4) || !has_specials(p, pattern_len)))
        return find_plain(L, text, len, init, p, pattern_len);
    bool anchor = pattern_len && *p == '^';
    struct mr_pattern pattern;
    struct mr_match m;
    mr_pattern_compile(L, &pattern, p + anchor, pattern_len - anchor);
    mr_match_begin(&m, L, &pattern, text, len);
    const char *s = text + init, *e = mr_match_at(&m, s);
    while (!e && !anchor && s < text + len)
        e = mr_match_at(&m, ++s);
    if (!e) {
        luaL_pushfail(L);
        return 1;
    }
    if (find) {
        lua_pushinteger(L, s - text + 1);
        lua_pushinteger(L, e - text);
    }
    return (find ? 2 : 0) + push_captures(&m, s, e, !find);
}

static int l_find(lua_State *L)
{
    return find_or_match(L, true);
}

static int l_match(lua_State *L)
{
    return find_or_match(L, false);
}

/* --- gmatch --- */

/* Upvalues: text, the struct mr_pattern, where the next match may begin, where the last one ended
 * (-1: there was none). */
static int l_next_match(lua_State *L)
{
    size_t len;
    const char *text = lua_tolstring(L, lua_upvalueindex(1), &len), *end = text + len;
    const char *s = text + lua_tointeger(L, lua_upvalueindex(3)), *e = NULL;
    lua_Integer last = lua_tointeger(L, lua_upvalueindex(4));
    struct mr_match m;
    mr_match_begin(&m, L, lua_touserdata(L, lua_upvalueindex(2)), text, len);
    while (s <= end) {
        e = mr_match_at(&m, s);
        if (e && e - text != last) /* an empty match right behind the last one is none */
            break;
        s++;
    }
    bool found = s <= end;
    lua_pushinteger(L, found ? e - text : (lua_Integer)len + 1);
    lua_pushvalue(L, -1);
    lua_replace(L, lua_upvalueindex(3));
    lua_replace(L, lua_upvalueindex(4));
    return found ? push_captures(&m, s, e, true) : 0;
}

static int l_gmatch(lua_State *L)
{
    size_t len, pattern_len;
    luaL_checklstring(L, 1, &len);
    const char *p = luaL_checklstring(L, 2, &pattern_len);
    size_t init = start_of(luaL_optinteger(L, 3, 1), len);
    lua_settop(L, 2);
    lua_pushvalue(L, 1);
    struct mr_pattern *pattern = lua_newuserdatauv(L, sizeof *pattern, 1);
    if (mr_pattern_compile(L, pattern, p, pattern_len))
        lua_setiuservalue(L, -2, 1);
    lua_pushinteger(L, (lua_Integer)(init > len ? len + 1 : init));
    lua_pushinteger(L, -1);
    lua_pushcclosure(L, l_next_match, 4);
    return 1;
}

/* --- gsub --- */

/* The text of argument 3, in which %0 is the match, %1 the first capture, %% a percent sign. */
static void add_text(const struct mr_match *m, luaL_Buffer *out, const char *s, const char *e)
{
    size_t len, done = 0;
    const char *text = lua_tolstring(m->L, 3, &len);
    for (size_t i = 0; i < len; i++) {
        if (text[i] != '%')
            continue;
        luaL_addlstring(out, text + done, i - done);
        char c = ++i < len ? text[i] : '\0';
        done = i + 1;
        if (c == '%')
            done = i; /* goes out with what follows */
        else if (c == '0')
            luaL_addlstring(out, s, (size_t)(e - s));
        else if (c >= '1' && c <= '9') {
            push_capture(m, c - '1', s, e);
            luaL_addvalue(out);
        } else {
            luaL_error(m->L, "invalid use of '%%' in replacement string");
        }
    }
    if (done < len)
        luaL_addlstring(out, text + done, len - done);
}

/* What takes the place of the match from s to e. */
static void add_replacement(const struct mr_match *m, luaL_Buffer *out, const char *s,
                            const char *e)
{
    lua_State *L = m->L;
    int type = lua_type(L, 3);
    if (type == LUA_TFUNCTION) {
        lua_pushvalue(L, 3);
        lua_call(L, push_captures(m, s, e, true), 1);
    } else if (type == LUA_TTABLE) {
        push_capture(m, 0, s, e);
        lua_gettable(L, 3);
    } else {
        add_text(m, out, s, e);
        return;
    }
    if (lua_isstring(L, -1)) {
        luaL_addvalue(out);
    } else if (lua_toboolean(L, -1)) {
        luaL_error(L, "invalid replacement value (a %s)", luaL_typename(L, -1));
    } else { /* nil, false: it stays */
        lua_pop(L, 1);
        luaL_addlstring(out, s, (size_t)(e - s));
    }
}

static int l_gsub(lua_State *L)
{
    size_t len, pattern_len;
    const char *text = luaL_checklstring(L, 1, &len), *end = text + len;
    const char *p = luaL_checklstring(L, 2, &pattern_len);
    int type = lua_type(L, 3);
    luaL_argexpected(L,
                     type == LUA_TNUMBER || type == LUA_TSTRING || type == LUA_TFUNCTION ||
                         type == LUA_TTABLE,
                     3, "string/function/table");
    lua_Integer max = luaL_optinteger(L, 4, (lua_Integer)len + 1), n = 0;
    bool anchor = pattern_len && *p == '^';
    struct mr_pattern pattern;
    struct mr_match m;
    luaL_Buffer out;
    lua_settop(L, 4);
    mr_pattern_compile(L, &pattern, p + anchor, pattern_len - anchor);
    mr_match_begin(&m, L, &pattern, text, len);
    luaL_buffinit(L, &out);
    const char *copied = text, *last = NULL; /* where the match before ended */
    for (const char *s = text; n < max && s <= end;) {
        const char *e = mr_match_at(&m, s);
        if (e && e != last) {
            luaL_addlstring(&out, copied, (size_t)(s - copied));
            add_replacement(&m, &out, s, e);
            n++;
            s = copied = last = e;
        } else {
            s++;
        }
        if (anchor)
            break;
    }
    luaL_addlstring(&out, copied, (size_t)(end - copied));
    luaL_pushresult(&out);
    lua_pushinteger(L, n);
    return 2;
}

void mr_pattern_open(lua_State *L, int string_index)
{
    static const luaL_Reg functions[] = {
        {"find", l_find}, {"match", l_match}, {"gmatch", l_gmatch}, {"gsub", l_gsub}, {NULL, NULL}};
    lua_pushvalue(L, string_index);
    luaL_setfuncs(L, functions, 0);
    lua_pop(L, 1);
}
