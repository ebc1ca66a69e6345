/*
 * placeholder.c - col, col.<name> and fmt.
 *
 * Inside the gate, on the host's thread. Owns nothing: placeholders live in the Lua state, one for
 * each column, made once, so that reading col.x costs a table look-up. Must not know templates or
 * the stamper. Tests: tests/spec/placeholder_spec.lua.
 */
#include "lua/placeholder.h"

#include "base/text.h"
#include "lua/sandbox.h"
#include "lua/slots.h"

#include <lauxlib.h>
#include <lua.h>
#include <string.h>

static const char col_key = 'c'; /* its address is the key in the registry */

/* What metamethods need: the schema and whether `col` may be used now. */
struct columns {
    const struct mr_lookup_schema *schema;
    bool has_lookup;
    const bool *live;
};

static int find_column(const struct mr_lookup_schema *schema, const char *name, size_t len)
{
    /* The row's own copy first: the key columns stand in front. */
    for (size_t i = schema->n_columns; i-- > 0;)
        if (strlen(schema->columns[i].name) == len &&
            memcmp(schema->columns[i].name, name, len) == 0)
            return (int)i;
    return -1;
}

static int no_such_column(lua_State *L, const struct mr_lookup_schema *schema, const char *name)
{
    enum { MAX = 256 };
    const char *names[MAX];
    size_t n = 0;
    for (size_t i = 0; i < schema->n_columns && n < MAX; i++)
        names[n++] = schema->columns[i].name;
    const char *near = mr_text_nearest(name, names, n);
    if (near)
        return luaL_error(L, "the lookup '%s' has no column '%s' (did you mean '%s'?)",
                          schema->name, name, near);
    return luaL_error(L, "the lookup '%s' has no column '%s'", schema->name, name);
}

static int push_column(lua_State *L, uint16_t column, const char *name)
{
    size_t len = strlen(name) + 1;
    struct mr_placeholder *p = lua_newuserdatauv(L, sizeof *p + len, 0);
    *p = (struct mr_placeholder){.column = column};
    p->text = memcpy((char *)(p + 1), name, len);
    lua_rawgeti(L, LUA_REGISTRYINDEX, MR_SLOT_PLACEHOLDER_META);
    lua_setmetatable(L, -2);
    return 1;
}

static int l_col_index(lua_State *L)
{
    const struct columns *columns = lua_touserdata(L, 1);
    if (!*columns->live)
        return luaL_error(L, "col is used outside of project: it lives for that call only");
    if (lua_type(L, 2) != LUA_TSTRING)
        return luaL_error(L, "col has columns by name, not %s keys", luaL_typename(L, 2));
    lua_pushvalue(L, 2);
    if (lua_rawget(L, lua_upvalueindex(1)) == LUA_TNIL)
        return no_such_column(L, columns->schema, lua_tostring(L, 2));
    return 1;
}

static int l_col_refuse(lua_State *L)
{
    return luaL_error(L, "col only gives placeholders, by name: col.<column>");
}

/* --- misuse --- */

static int l_misuse(lua_State *L)
{
    const struct mr_placeholder *p = mr_placeholder_at(L, 1);
    if (!p)
        p = mr_placeholder_at(L, 2);
    const char *verb = lua_tostring(L, lua_upvalueindex(1));
    if (p && !p->is_fmt)
        return luaL_error(L,
                          "col.%s is a placeholder, filled in for each row after the script has "
                          "run: it cannot be %s. For text write fmt \"... {%s} ...\"; to work with "
                          "the values of each row write `each(msg, row, ctx)` in place of project",
                          p->text, verb, p->text);
    return luaL_error(L,
                      "a fmt is filled in for each row after the script has run: it cannot be %s. "
                      "Put the whole text into one fmt \"... {column} ...\"",
                      verb);
}

static const struct {
    const char *event, *verb;
} misuses[] = {
    {"__concat", "concatenated"},  {"__add", "added to"},   {"__sub", "subtracted from"},
    {"__mul", "multiplied"},       {"__div", "divided"},    {"__mod", "divided"},
    {"__pow", "raised"},           {"__unm", "negated"},    {"__idiv", "divided"},
    {"__band", "combined"},        {"__bor", "combined"},   {"__bxor", "combined"},
    {"__shl", "shifted"},          {"__shr", "shifted"},    {"__bnot", "inverted"},
    {"__eq", "compared"},          {"__lt", "compared"},    {"__le", "compared"},
    {"__len", "measured"},         {"__call", "called"},    {"__index", "indexed"},
    {"__newindex", "assigned to"}, {"__pairs", "iterated"}, {"__tostring", "made a string"},
};

static void make_meta(lua_State *L)
{
    lua_createtable(L, 0, 28);
    for (size_t i = 0; i < sizeof misuses / sizeof *misuses; i++) {
        lua_pushstring(L, misuses[i].verb);
        lua_pushcclosure(L, l_misuse, 1);
        lua_setfield(L, -2, misuses[i].event);
    }
    lua_pushliteral(L, "placeholder");
    lua_setfield(L, -2, "__name");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_rawseti(L, LUA_REGISTRYINDEX, MR_SLOT_PLACEHOLDER_META);
}

/* --- fmt --- */

static int32_t fmt_column(lua_State *L, const struct columns *columns, const char *name, size_t len)
{
    if (len == 0)
        luaL_error(L, "fmt: '{}' names no column; for a brace write '{{'");
    if (!columns->schema)
        return 0;
    int column = find_column(columns->schema, name, len);
    if (column < 0)
        no_such_column(L, columns->schema, lua_pushlstring(L, name, len));
    return column;
}

/* Reads the piece at `at`; returns where the next one begins. Literals end before a brace. */
static const char *next_piece(lua_State *L, const struct columns *columns, const char *at,
                              const char *end, struct mr_piece *piece, const char **literal)
{
    *piece = (struct mr_piece){.column = -1};
    *literal = at;
    if (at[0] != '{' && at[0] != '}') {
        const char *stop = at;
        while (stop < end && *stop != '{' && *stop != '}')
            stop++;
        piece->len = (uint32_t)(stop - at);
        return stop;
    }
    if (at + 1 < end && at[1] == at[0]) {
        piece->len = 1;
        return at + 2;
    }
    const char *close = at[0] == '{' ? memchr(at, '}', (size_t)(end - at)) : NULL;
    if (!close)
        luaL_error(L, "fmt: a single '%c' in \"%s\"; for a brace write '%c%c'", at[0],
                   lua_tostring(L, 1), at[0], at[0]);
    piece->column = fmt_column(L, columns, at + 1, (size_t)(close - at) - 1);
    return close + 1;
}

static int l_fmt(lua_State *L)
{
    const struct columns *columns = lua_touserdata(L, lua_upvalueindex(1));
    if (lua_type(L, 1) != LUA_TSTRING)
        return luaL_error(L, "fmt takes a text: fmt \"... {column} ...\", not a %s",
                          mr_placeholder_at(L, 1) ? "placeholder" : luaL_typename(L, 1));
    if (!columns->has_lookup)
        return luaL_error(L, "fmt fills in columns, and this pipeline has no lookup");
    size_t len;
    const char *text = lua_tolstring(L, 1, &len), *end = text + len, *literal;
    struct mr_piece piece;
    size_t n = 0;
    for (const char *at = text; at < end; n++)
        at = next_piece(L, columns, at, end, &piece, &literal);
    if (n > UINT16_MAX || len > INT32_MAX)
        return luaL_error(L, "fmt: the text is too long");

    struct mr_placeholder *p = lua_newuserdatauv(L, sizeof *p + n * sizeof piece + len, 0);
    struct mr_piece *pieces = (struct mr_piece *)(p + 1);
    char *bytes = (char *)(pieces + n);
    *p = (struct mr_placeholder){
        .is_fmt = true, .n_pieces = (uint32_t)n, .pieces = pieces, .text = bytes};
    size_t used = 0, i = 0;
    for (const char *at = text; at < end; i++) {
        at = next_piece(L, columns, at, end, &piece, &literal);
        piece.from = (uint32_t)used;
        if (piece.len)
            memcpy(bytes + used, literal, piece.len);
        used += piece.len;
        pieces[i] = piece;
    }
    lua_rawgeti(L, LUA_REGISTRYINDEX, MR_SLOT_PLACEHOLDER_META);
    lua_setmetatable(L, -2);
    return 1;
}

/* --- opening --- */

static void make_col(lua_State *L, const struct columns *shape)
{
    struct columns *columns = lua_newuserdatauv(L, sizeof *columns, 0);
    *columns = *shape;
    lua_createtable(L, 0, 4);
    size_t n = shape->schema ? shape->schema->n_columns : 0;
    lua_createtable(L, 0, (int)n);
    for (size_t i = 0; i < n; i++) {
        push_column(L, (uint16_t)i, shape->schema->columns[i].name);
        lua_setfield(L, -2, shape->schema->columns[i].name);
    }
    lua_pushcclosure(L, l_col_index, 1);
    lua_setfield(L, -2, "__index");
    static const char *const refused[] = {"__newindex", "__len", "__call", "__pairs"};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        lua_pushcfunction(L, l_col_refuse);
        lua_setfield(L, -2, refused[i]);
    }
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_setmetatable(L, -2);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &col_key);
}

void mr_placeholder_open(lua_State *L, const struct mr_lookup_schema *schema, bool has_lookup,
                         const bool *live)
{
    struct columns columns = {.schema = schema, .has_lookup = has_lookup, .live = live};
    make_meta(L);
    make_col(L, &columns);
    mr_placeholder_push_col(
        L); /* its memory holds the columns, and it lives as long as the state */
    lua_pushcclosure(L, l_fmt, 1);
    mr_sandbox_global(L, "fmt");
}

void mr_placeholder_push_col(lua_State *L)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, &col_key);
}

const struct mr_placeholder *mr_placeholder_at(lua_State *L, int index)
{
    if (lua_type(L, index) != LUA_TUSERDATA)
        return NULL;
    const struct mr_placeholder *p = lua_touserdata(L, index);
    if (!lua_getmetatable(L, index))
        return NULL;
    lua_rawgeti(L, LUA_REGISTRYINDEX, MR_SLOT_PLACEHOLDER_META);
    bool is = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
    return is ? p : NULL;
}
