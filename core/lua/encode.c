/*
 * encode.c - Lua values to JSON, in one pass over the value.
 *
 * Inside the gate. Owns nothing: bytes go into the build, names of an object lie on the Lua stack
 * while they are sorted. Must not know outputs or rows (template.c). Reads tables raw: a metatable
 * never runs the script's code here. Tests: tests/spec/json_spec.lua, tests/unit/test_json.c.
 */
#include "lua/encode.h"

#include "base/text.h"
#include "lua/host.h"
#include "lua/json.h"
#include "lua/layout.h"
#include "lua/placeholder.h"

#include <lauxlib.h>
#include <lua.h>
#include <stdlib.h>

/* Where the value stands, for the error text: a chain on the C stack. */
struct path {
    const struct path *up;
    const char *name; /* NULL: index */
    lua_Integer index;
};

struct encoder {
    lua_State *L;
    struct mr_build *build;
    const char *what;
    struct mr_error *err;
    int depth;
};

static void put_path(struct mr_buf *out, const struct path *path)
{
    if (!path)
        return;
    put_path(out, path->up);
    if (!path->name)
        mr_buf_printf(out, "[%lld]", (long long)path->index);
    else
        mr_buf_printf(out, ".%.100s", path->name);
}

static bool refuse(struct encoder *enc, const struct path *path, const char *class_,
                   const char *sentence)
{
    struct mr_buf where;
    mr_buf_init(&where);
    put_path(&where, path);
    const char *text = mr_buf_cstr(&where);
    mr_error_reject(enc->err, class_, "%s%s%.200s %s", enc->what, path ? ": " : "",
                    text + (*text == '.'), sentence);
    mr_buf_fini(&where);
    return false;
}

static bool put_value(struct encoder *enc, int index, const struct path *path);

static bool put_string(struct encoder *enc, int index, const struct path *path)
{
    size_t len;
    const char *text = lua_tolstring(enc->L, index, &len);
    if (!mr_text_utf8_valid(text, len))
        return refuse(enc, path, "utf8", "is a string that is not UTF-8");
    mr_text_json_string(&enc->build->bytes, text, len);
    return true;
}

static bool put_number(struct encoder *enc, int index, const struct path *path)
{
    if (lua_isinteger(enc->L, index))
        mr_text_int(&enc->build->bytes, lua_tointeger(enc->L, index));
    else if (!mr_text_float(&enc->build->bytes, lua_tonumber(enc->L, index)))
        return refuse(enc, path, "schema", "is not a finite number, which JSON cannot carry");
    return true;
}

static bool put_placeholder(struct encoder *enc, const struct mr_placeholder *p,
                            const struct path *path)
{
    struct mr_build *build = enc->build;
    if (!p->is_fmt) {
        mr_build_column(build, MR_SEG_JSON, p->column);
        return true;
    }
    mr_buf_put_char(&build->bytes, '"');
    for (uint32_t i = 0; i < p->n_pieces; i++) {
        const struct mr_piece *piece = &p->pieces[i];
        if (piece->column >= 0) {
            mr_build_column(build, MR_SEG_JSON_INSIDE, (uint16_t)piece->column);
            continue;
        }
        if (!mr_text_utf8_valid(p->text + piece->from, piece->len))
            return refuse(enc, path, "utf8", "is a fmt whose text is not UTF-8");
        mr_text_json_escape(&build->bytes, p->text + piece->from, piece->len);
    }
    mr_buf_put_char(&build->bytes, '"');
    return true;
}

static bool put_array(struct encoder *enc, int index, const struct path *path)
{
    lua_State *L = enc->L;
    lua_Integer n = (lua_Integer)lua_rawlen(L, index), count = 0;
    lua_pushnil(L);
    while (lua_next(L, index)) {
        lua_pop(L, 1);
        lua_Integer i = lua_isinteger(L, -1) ? lua_tointeger(L, -1) : 0;
        if (i < 1) {
            lua_pop(L, 1);
            return refuse(enc, path, "schema",
                          "is a list with a name in it: a JSON array has items only");
        }
        if (i > n)
            n = i; /* the border that rawlen found has items behind it */
        count++;
    }
    if (count != n)
        return refuse(enc, path, "schema", "is a list with a hole (nil): put null there");
    mr_buf_put_char(&enc->build->bytes, '[');
    for (lua_Integer i = 1; i <= n; i++) {
        struct path here = {.up = path, .index = i};
        if (i > 1)
            mr_buf_put_char(&enc->build->bytes, ',');
        lua_rawgeti(L, index, i);
        bool done = put_value(enc, lua_gettop(L), &here);
        lua_pop(L, 1);
        if (!done)
            return false;
    }
    mr_buf_put_char(&enc->build->bytes, ']');
    return true;
}

/* A name of an object; the value stands at `slot` of the Lua stack, the name below it. */
struct name {
    struct mr_layout_name name;
    int slot;
};

static int compare_names(const void *a, const void *b)
{
    const struct mr_layout_name *x = &((const struct name *)a)->name;
    const struct mr_layout_name *y = &((const struct name *)b)->name;
    int order = memcmp(x->text, y->text, x->len < y->len ? x->len : y->len);
    return order ? order : (x->len > y->len) - (x->len < y->len);
}

/* Names that are too many to be remembered, or not all UTF-8. The list lies in a userdata. */
static bool put_sorted(struct encoder *enc, int top, size_t n, const struct path *path)
{
    lua_State *L = enc->L;
    struct mr_buf *out = &enc->build->bytes;
    struct name *names = lua_newuserdatauv(L, n * sizeof *names, 0);
    for (size_t i = 0; i < n; i++) {
        names[i].slot = top + 2 * (int)(i + 1);
        names[i].name.text = lua_tolstring(L, names[i].slot - 1, &names[i].name.len);
    }
    qsort(names, n, sizeof *names, compare_names);
    for (size_t i = 0; i < n; i++) {
        struct path here = {.up = path, .name = names[i].name.text};
        mr_buf_put_char(out, i ? ',' : '{');
        if (!put_string(enc, names[i].slot - 1, &here))
            return false;
        mr_buf_put_char(out, ':');
        if (!put_value(enc, names[i].slot, &here))
            return false;
    }
    mr_buf_put_char(out, '}');
    return true;
}

/* The names of one layout: their order and their text in JSON are known. */
static bool put_laid_out(struct encoder *enc, struct mr_layout *layout, int top,
                         const struct path *path)
{
    struct mr_buf *out = &enc->build->bytes;
    bool done = true;
    layout->used++; /* tables within this one may have a layout too */
    for (size_t i = 0, from = 0; done && i < layout->n; i++) {
        size_t end = layout->json_end[i];
        uint8_t which = layout->order[i];
        struct path here = {.up = path, .name = layout->names[which].text};
        mr_buf_put(out, layout->json.ptr + from, end - from);
        from = end;
        done = put_value(enc, top + 2 * (which + 1), &here);
    }
    layout->used--;
    mr_buf_put_char(out, '}');
    return done;
}

/* Names and values go onto the Lua stack, in the order in which the table has them. */
static bool put_object(struct encoder *enc, int index, const struct path *path)
{
    lua_State *L = enc->L;
    struct mr_layout_name names[MR_LAYOUT_NAMES];
    size_t n = 0;
    int top = lua_gettop(L);
    lua_pushnil(L);
    while (lua_next(L, index)) {
        if (lua_type(L, -2) != LUA_TSTRING) {
            lua_settop(L, top);
            return refuse(enc, path, "schema",
                          "is a table with a key that is not a string: JSON names are strings");
        }
        if (n < MR_LAYOUT_NAMES)
            names[n].text = lua_tolstring(L, -2, &names[n].len);
        n++;
        if (n > MR_LAYOUT_NAMES && !lua_checkstack(L, 8)) {
            lua_settop(L, top);
            return refuse(enc, path, "schema", "has too many names");
        }
        lua_pushvalue(L, -2);
    }
    if (!n) {
        mr_buf_put_text(&enc->build->bytes, "{}");
        return true;
    }
    struct mr_layout *layout =
        enc->build->layouts ? mr_layout_of(enc->build->layouts, names, n) : NULL;
    bool done = layout ? put_laid_out(enc, layout, top, path) : put_sorted(enc, top, n, path);
    lua_settop(L, top);
    return done;
}

static bool put_table(struct encoder *enc, int index, const struct path *path)
{
    if (enc->depth >= MR_JSON_DEPTH_MAX)
        return refuse(enc, path, "schema", "is nested too deep, or contains itself");
    if (!lua_checkstack(enc->L, 2 * MR_LAYOUT_NAMES + 16))
        return refuse(enc, path, "schema", "has too many names");
    enc->depth++;
    bool done = mr_json_is_array(enc->L, index) ? put_array(enc, index, path)
                                                : put_object(enc, index, path);
    enc->depth--;
    return done;
}

static bool refuse_type(struct encoder *enc, int index, const struct path *path)
{
    char sentence[96];
    snprintf(sentence, sizeof sentence, "is a %s: JSON cannot carry it",
             luaL_typename(enc->L, index));
    return refuse(enc, path, "schema", sentence);
}

static bool put_value(struct encoder *enc, int index, const struct path *path)
{
    lua_State *L = enc->L;
    if (!mr_build_check(enc->build, enc->err))
        return false;
    switch (lua_type(L, index)) {
    case LUA_TSTRING:
        return put_string(enc, index, path);
    case LUA_TNUMBER:
        return put_number(enc, index, path);
    case LUA_TBOOLEAN:
        mr_buf_put_text(&enc->build->bytes, lua_toboolean(L, index) ? "true" : "false");
        return true;
    case LUA_TTABLE:
        return put_table(enc, index, path);
    case LUA_TLIGHTUSERDATA:
        if (lua_touserdata(L, index))
            return refuse_type(enc, index, path);
        mr_buf_put(&enc->build->bytes, "null", 4);
        return true;
    case LUA_TUSERDATA: {
        const struct mr_placeholder *p = mr_placeholder_at(L, index);
        return p ? put_placeholder(enc, p, path) : refuse_type(enc, index, path);
    }
    default:
        return refuse_type(enc, index, path);
    }
}

bool mr_encode_json(lua_State *L, int index, struct mr_build *build, const char *what,
                    struct mr_error *err)
{
    struct encoder enc = {.L = L, .build = build, .what = what, .err = err};
    if (!put_value(&enc, lua_absindex(L, index), NULL))
        return false;
    return mr_build_check(build, err);
}

bool mr_encode_bare(lua_State *L, int index, struct mr_build *build, const char *what,
                    struct mr_error *err)
{
    struct encoder enc = {.L = L, .build = build, .what = what, .err = err};
    const struct mr_placeholder *p;
    size_t len;
    const char *text;
    switch (lua_type(L, index)) {
    case LUA_TSTRING:
        text = lua_tolstring(L, index, &len);
        mr_buf_put(&build->bytes, text, len);
        return mr_build_check(build, err);
    case LUA_TNUMBER:
        return put_number(&enc, index, NULL);
    case LUA_TBOOLEAN:
        mr_buf_put_text(&build->bytes, lua_toboolean(L, index) ? "true" : "false");
        return true;
    case LUA_TUSERDATA:
        p = mr_placeholder_at(L, index);
        if (!p)
            break;
        if (!p->is_fmt)
            mr_build_column(build, MR_SEG_TEXT, p->column);
        for (uint32_t i = 0; p->is_fmt && i < p->n_pieces; i++) {
            if (p->pieces[i].column >= 0)
                mr_build_column(build, MR_SEG_TEXT, (uint16_t)p->pieces[i].column);
            else
                mr_buf_put(&build->bytes, p->text + p->pieces[i].from, p->pieces[i].len);
        }
        return mr_build_check(build, err);
    default:
        break;
    }
    return mr_error_reject(err, "script",
                           "%s is a %s; it can be a string, a number, a placeholder or a fmt", what,
                           luaL_typename(L, index));
}

/* One that is too deep ends the search: a table that contains itself twice has 2^depth ways. */
enum search { NOTHING, FOUND, TOO_DEEP };

static enum search search(lua_State *L, int index, int depth)
{
    if (mr_placeholder_at(L, index))
        return FOUND;
    if (!lua_istable(L, index))
        return NOTHING;
    if (depth >= MR_JSON_DEPTH_MAX || !lua_checkstack(L, 8))
        return TOO_DEEP;
    enum search found = NOTHING;
    lua_pushnil(L);
    while (found == NOTHING && lua_next(L, index)) {
        mr_host_work(L, 4);
        found = search(L, lua_gettop(L), depth + 1);
        lua_pop(L, found == NOTHING ? 1 : 2);
    }
    return found;
}

bool mr_encode_has_placeholder(lua_State *L, int index)
{
    return search(L, lua_absindex(L, index), 0) == FOUND;
}
