/*
 * pattern.c - see pattern.h: a backtracking matcher that counts its steps.
 *
 * Runs inside the gate; owns nothing: captures lie on the C stack, what gsub builds in a
 * luaL_Buffer. Steps are handed to mr_host_work in portions. Must not know scripts. Held against
 * Lua's own functions by tests/spec/pattern_spec.lua; time: tests/spec/limits_spec.lua.
 */
#include "lua/pattern.h"

#include "lua/host.h"

#include <ctype.h>
#include <lauxlib.h>
#include <lua.h>
#include <stdbool.h>
#include <string.h>

enum {
    CAPTURES_MAX = 32,
    DEPTH_MAX = 200, /* nested calls of match */
    PORTION = 1000,  /* steps at once to mr_host_work */
    OPEN = -1,       /* the length of a capture that is not closed yet, */
    POSITION = -2    /* and of one that is a position */
};

struct matcher {
    lua_State *L;
    const char *text, *text_end;
    const char *pattern_end;
    int depth;
    uint32_t steps;
    int n_captures;
    struct {
        const char *from;
        ptrdiff_t len;
    } captures[CAPTURES_MAX];
};

static const char *match(struct matcher *m, const char *s, const char *p);

static void step(struct matcher *m)
{
    if (++m->steps >= PORTION) {
        m->steps = 0;
        mr_host_work(m->L, PORTION);
    }
}

/* --- classes --- */

/* Behind the single-character class that begins at p. */
static const char *class_end(struct matcher *m, const char *p)
{
    if (p == m->pattern_end)
        luaL_error(m->L, "malformed pattern (ends with '%%')");
    char first = *p++;
    if (first == '%') {
        if (p == m->pattern_end)
            luaL_error(m->L, "malformed pattern (ends with '%%')");
        return p + 1;
    }
    if (first != '[')
        return p;
    if (p < m->pattern_end && *p == '^')
        p++;
    do { /* a ']' that comes first stands for itself */
        if (p == m->pattern_end)
            luaL_error(m->L, "malformed pattern (missing ']')");
        if (*p++ == '%' && p < m->pattern_end)
            p++;
    } while (p == m->pattern_end || *p != ']');
    return p + 1;
}

static bool in_class(int c, int name)
{
    bool is;
    switch (tolower(name)) {
    case 'a':
        is = isalpha(c);
        break;
    case 'c':
        is = iscntrl(c);
        break;
    case 'd':
        is = isdigit(c);
        break;
    case 'g':
        is = isgraph(c);
        break;
    case 'l':
        is = islower(c);
        break;
    case 'p':
        is = ispunct(c);
        break;
    case 's':
        is = isspace(c);
        break;
    case 'u':
        is = isupper(c);
        break;
    case 'w':
        is = isalnum(c);
        break;
    case 'x':
        is = isxdigit(c);
        break;
    case 'z': /* of old, before a pattern could hold a NUL */
        is = c == 0;
        break;
    default:
        return name == c; /* no letter: the character itself */
    }
    return isupper(name) ? !is : is;
}

/* p: at '[', last: at its ']'. */
static bool in_set(int c, const char *p, const char *last)
{
    bool positive = true;
    if (p[1] == '^') {
        positive = false;
        p++;
    }
    while (++p < last) {
        if (*p == '%') {
            p++;
            if (in_class(c, (unsigned char)*p))
                return positive;
        } else if (p[1] == '-' && p + 2 < last) {
            if ((unsigned char)p[0] <= c && c <= (unsigned char)p[2])
                return positive;
            p += 2;
        } else if ((unsigned char)*p == c) {
            return positive;
        }
    }
    return !positive;
}

static bool single(struct matcher *m, const char *s, const char *p, const char *end)
{
    step(m);
    if (s >= m->text_end)
        return false;
    int c = (unsigned char)*s;
    switch (*p) {
    case '.':
        return true;
    case '%':
        return in_class(c, (unsigned char)p[1]);
    case '[':
        return in_set(c, p, end - 1);
    default:
        return (unsigned char)*p == c;
    }
}

/* --- items --- */

static const char *most(struct matcher *m, const char *s, const char *p, const char *end)
{
    ptrdiff_t n = 0;
    while (single(m, s + n, p, end))
        n++;
    for (; n >= 0; n--) {
        const char *found = match(m, s + n, end + 1);
        if (found)
            return found;
    }
    return NULL;
}

static const char *fewest(struct matcher *m, const char *s, const char *p, const char *end)
{
    for (;; s++) {
        const char *found = match(m, s, end + 1);
        if (found)
            return found;
        if (!single(m, s, p, end))
            return NULL;
    }
}

/* %bxy */
static const char *balance(struct matcher *m, const char *s, const char *p)
{
    if (p >= m->pattern_end - 1)
        luaL_error(m->L, "malformed pattern (missing arguments to '%%b')");
    if (s >= m->text_end || *s != p[0])
        return NULL;
    int open = 1;
    for (s++; s < m->text_end; s++) {
        step(m);
        if (*s == p[1]) {
            if (--open == 0)
                return s + 1;
        } else if (*s == p[0]) {
            open++;
        }
    }
    return NULL;
}

static const char *open_capture(struct matcher *m, const char *s, const char *p, ptrdiff_t what)
{
    if (m->n_captures >= CAPTURES_MAX)
        luaL_error(m->L, "too many captures");
    m->captures[m->n_captures].from = s;
    m->captures[m->n_captures].len = what;
    m->n_captures++;
    const char *found = match(m, s, p);
    if (!found)
        m->n_captures--;
    return found;
}

static const char *close_capture(struct matcher *m, const char *s, const char *p)
{
    int i = m->n_captures;
    while (i-- > 0)
        if (m->captures[i].len == OPEN)
            break;
    if (i < 0)
        luaL_error(m->L, "invalid pattern capture");
    m->captures[i].len = s - m->captures[i].from;
    const char *found = match(m, s, p);
    if (!found)
        m->captures[i].len = OPEN;
    return found;
}

/* %1 to %9: the text of a capture again. */
static const char *again(struct matcher *m, const char *s, int digit)
{
    int i = digit - '1';
    if (i < 0 || i >= m->n_captures || m->captures[i].len == OPEN)
        luaL_error(m->L, "invalid capture index %%%d", i + 1);
    size_t len = m->captures[i].len < 0 ? SIZE_MAX : (size_t)m->captures[i].len;
    step(m);
    if ((size_t)(m->text_end - s) < len || memcmp(m->captures[i].from, s, len) != 0)
        return NULL;
    return s + len;
}

/* %f[set] */
static const char *frontier(struct matcher *m, const char *s, const char *p)
{
    if (p == m->pattern_end || *p != '[')
        luaL_error(m->L, "missing '[' after '%%f' in pattern");
    const char *end = class_end(m, p);
    int before = s == m->text ? '\0' : (unsigned char)s[-1];
    int here = s == m->text_end ? '\0' : (unsigned char)*s;
    step(m);
    return !in_set(before, p, end - 1) && in_set(here, p, end - 1) ? end : NULL;
}

/* One item at p that can be matched without going on: NULL in *next, it did not match; else where
 * the text goes on, and *p behind the item. False: it is none of these, or the last thing. */
static const char *match_items(struct matcher *m, const char *s, const char *p)
{
    while (p < m->pattern_end) {
        step(m);
        if (*p == '(')
            return p + 1 < m->pattern_end && p[1] == ')' ? open_capture(m, s, p + 2, POSITION)
                                                         : open_capture(m, s, p + 1, OPEN);
        if (*p == ')')
            return close_capture(m, s, p + 1);
        if (*p == '$' && p + 1 == m->pattern_end)
            return s == m->text_end ? s : NULL;
        if (*p == '%' && p + 1 < m->pattern_end && (p[1] == 'b' || p[1] == 'f')) {
            if (p[1] == 'b') {
                s = balance(m, s, p + 2);
                p += 4;
            } else {
                p = frontier(m, s, p + 2);
                s = p ? s : NULL;
            }
            if (!s)
                return NULL;
            continue;
        }
        if (*p == '%' && p + 1 < m->pattern_end && isdigit((unsigned char)p[1])) {
            s = again(m, s, (unsigned char)p[1]);
            if (!s)
                return NULL;
            p += 2;
            continue;
        }
        const char *end = class_end(m, p);
        char suffix = end < m->pattern_end ? *end : '\0';
        if (suffix == '*')
            return most(m, s, p, end);
        if (suffix == '-')
            return fewest(m, s, p, end);
        bool one = single(m, s, p, end);
        if (suffix == '+')
            return one ? most(m, s + 1, p, end) : NULL;
        if (suffix == '?') {
            const char *found = one ? match(m, s + 1, end + 1) : NULL;
            if (found)
                return found;
            p = end + 1;
            continue;
        }
        if (!one)
            return NULL;
        s++;
        p = end;
    }
    return s;
}

/* Where the match ends that begins at s; NULL: there is none. */
static const char *match(struct matcher *m, const char *s, const char *p)
{
    if (m->depth++ == DEPTH_MAX)
        luaL_error(m->L, "pattern too complex");
    const char *found = match_items(m, s, p);
    m->depth--;
    return found;
}

/* --- captures --- */

/* Capture i; the whole match, from s to e, stands for the first of none. */
static void push_capture(struct matcher *m, int i, const char *s, const char *e)
{
    if (i >= m->n_captures) {
        if (i != 0)
            luaL_error(m->L, "invalid capture index %%%d", i + 1);
        lua_pushlstring(m->L, s, (size_t)(e - s));
        return;
    }
    if (m->captures[i].len == OPEN)
        luaL_error(m->L, "unfinished capture");
    if (m->captures[i].len == POSITION)
        lua_pushinteger(m->L, m->captures[i].from - m->text + 1);
    else
        lua_pushlstring(m->L, m->captures[i].from, (size_t)m->captures[i].len);
}

static int push_captures(struct matcher *m, const char *s, const char *e, bool whole)
{
    int n = m->n_captures == 0 && whole ? 1 : m->n_captures;
    luaL_checkstack(m->L, n, "too many captures");
    for (int i = 0; i < n; i++)
        push_capture(m, i, s, e);
    return n;
}

static void prepare(struct matcher *m, lua_State *L, const char *text, size_t len,
                    const char *pattern, size_t pattern_len)
{
    *m = (struct matcher){
        .L = L, .text = text, .text_end = text + len, .pattern_end = pattern + pattern_len};
}

static const char *try_at(struct matcher *m, const char *s, const char *p)
{
    m->n_captures = 0;
    m->depth = 0;
    return match(m, s, p);
}

/* --- find, match --- */

static size_t start_of(lua_Integer init, size_t len)
{
    if (init > 0)
        return (size_t)init - 1;
    if (init == 0 || init < -(lua_Integer)len)
        return 0;
    return len - (size_t)-init;
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
    struct matcher m;
    bool anchor = pattern_len && *p == '^';
    prepare(&m, L, text, len, p, pattern_len);
    p += anchor;
    const char *s = text + init;
    do {
        const char *e = try_at(&m, s, p);
        if (!e)
            continue;
        if (!find)
            return push_captures(&m, s, e, true);
        lua_pushinteger(L, s - text + 1);
        lua_pushinteger(L, e - text);
        return push_captures(&m, s, e, false) + 2;
    } while (s++ < m.text_end && !anchor);
    luaL_pushfail(L);
    return 1;
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

/* Upvalues: text, pattern, where the next match may begin, where the last one ended (0: nowhere).
 */
static int l_next_match(lua_State *L)
{
    size_t len, pattern_len;
    const char *text = lua_tolstring(L, lua_upvalueindex(1), &len);
    const char *pattern = lua_tolstring(L, lua_upvalueindex(2), &pattern_len);
    size_t from = (size_t)lua_tointeger(L, lua_upvalueindex(3));
    size_t last = (size_t)lua_tointeger(L, lua_upvalueindex(4));
    struct matcher m;
    prepare(&m, L, text, len, pattern, pattern_len);
    for (; from <= len; from++) {
        const char *e = try_at(&m, text + from, pattern);
        size_t end = e ? (size_t)(e - text) : 0;
        if (!e || end + 1 == last) /* an empty match right behind the last one is none */
            continue;
        lua_pushinteger(L, (lua_Integer)end);
        lua_replace(L, lua_upvalueindex(3));
        lua_pushinteger(L, (lua_Integer)end + 1);
        lua_replace(L, lua_upvalueindex(4));
        return push_captures(&m, text + from, e, true);
    }
    lua_pushinteger(L, (lua_Integer)len + 1);
    lua_replace(L, lua_upvalueindex(3));
    return 0;
}

static int l_gmatch(lua_State *L)
{
    size_t len;
    luaL_checklstring(L, 1, &len);
    luaL_checkstring(L, 2);
    size_t init = start_of(luaL_optinteger(L, 3, 1), len);
    lua_settop(L, 2);
    lua_pushinteger(L, (lua_Integer)(init > len ? len + 1 : init));
    lua_pushinteger(L, 0);
    lua_pushcclosure(L, l_next_match, 4);
    return 1;
}

/* --- gsub --- */

static void add_template(struct matcher *m, luaL_Buffer *out, const char *s, const char *e)
{
    lua_State *L = m->L;
    size_t len;
    const char *text = lua_tolstring(L, 3, &len), *end = text + len;
    while (text < end) {
        const char *percent = memchr(text, '%', (size_t)(end - text));
        luaL_addlstring(out, text, (size_t)((percent ? percent : end) - text));
        if (!percent)
            return;
        char c = percent + 1 < end ? percent[1] : '\0';
        if (c == '%') {
            luaL_addchar(out, '%');
        } else if (c == '0') {
            luaL_addlstring(out, s, (size_t)(e - s));
        } else if (isdigit((unsigned char)c)) {
            push_capture(m, c - '1', s, e);
            luaL_tolstring(L, -1, NULL);
            lua_remove(L, -2);
            luaL_addvalue(out);
        } else {
            luaL_error(L, "invalid use of '%%' in replacement string");
        }
        text = percent + 2;
    }
}

/* What takes the place of the match from s to e. */
static void add_replacement(struct matcher *m, luaL_Buffer *out, const char *s, const char *e)
{
    lua_State *L = m->L;
    switch (lua_type(L, 3)) {
    case LUA_TFUNCTION:
        lua_pushvalue(L, 3);
        lua_call(L, push_captures(m, s, e, true), 1);
        break;
    case LUA_TTABLE:
        push_capture(m, 0, s, e);
        lua_gettable(L, 3);
        break;
    default:
        add_template(m, out, s, e);
        return;
    }
    if (!lua_toboolean(L, -1)) {
        lua_pop(L, 1);
        luaL_addlstring(out, s, (size_t)(e - s));
    } else if (!lua_isstring(L, -1)) {
        luaL_error(L, "invalid replacement value (a %s)", luaL_typename(L, -1));
    } else {
        luaL_addvalue(out);
    }
}

static int l_gsub(lua_State *L)
{
    size_t len, pattern_len;
    const char *s = luaL_checklstring(L, 1, &len), *p = luaL_checklstring(L, 2, &pattern_len);
    const char *last = NULL; /* where the match before ended */
    int type = lua_type(L, 3);
    lua_Integer max = luaL_optinteger(L, 4, (lua_Integer)len + 1), n = 0;
    bool anchor = pattern_len && *p == '^';
    luaL_argexpected(L,
                     type == LUA_TNUMBER || type == LUA_TSTRING || type == LUA_TFUNCTION ||
                         type == LUA_TTABLE,
                     3, "string/function/table");
    struct matcher m;
    luaL_Buffer out;
    prepare(&m, L, s, len, p, pattern_len);
    p += anchor;
    luaL_buffinit(L, &out);
    while (n < max) {
        const char *e = try_at(&m, s, p);
        if (e && e != last) {
            n++;
            add_replacement(&m, &out, s, e);
            s = last = e;
        } else if (s < m.text_end) {
            luaL_addchar(&out, *s++);
        } else {
            break;
        }
        if (anchor)
            break;
    }
    luaL_addlstring(&out, s, (size_t)(m.text_end - s));
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
