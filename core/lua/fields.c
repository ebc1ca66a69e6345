/*
 * fields.c - the check that stands before a script's functions.
 *
 * Inside the gate, on the worker's thread. Owns the compiled list; the names stand in the registry
 * of the state as Lua strings, so that a check hashes nothing. Must not know what the fields are
 * for. Tests: tests/spec/fields_spec.lua.
 */
#include "lua/fields.h"

#include "base/text.h"

#include <inttypes.h>
#include <lauxlib.h>
#include <lua.h>
#include <stdio.h>
#include <stdlib.h>

enum type { ANY, STRING, INTEGER, NUMBER, BOOLEAN, TABLE, ARRAY };
static const char *const type_names[] = {
    "any", "string", "integer", "number", "boolean", "table", "array",
};
enum { N_TYPES = sizeof type_names / sizeof *type_names };

static const char names_key = 'n';

static int compare(const void *a, const void *b)
{
    const struct mr_field *x = a, *y = b;
    return strcmp(x->name, y->name);
}

static void parse_type(lua_State *L, const char *where, const char *name, const char *text,
                       struct mr_field *field)
{
    size_t len = strlen(text);
    field->optional = len > 0 && text[len - 1] == '?';
    len -= field->optional;
    for (int i = 0; i < N_TYPES; i++)
        if (strlen(type_names[i]) == len && memcmp(type_names[i], text, len) == 0) {
            field->type = (unsigned char)i;
            return;
        }
    const char *bare = lua_pushlstring(L, text, len);
    const char *near = mr_text_nearest(bare, type_names, N_TYPES);
    luaL_error(L,
               "%sfields.%s: '%s' is not a type%s%s%s; the types are string, integer, number, "
               "boolean, table, array and any, each with '?' if it may be missing",
               where, name, bare, near ? " (did you mean '" : "", near ? near : "",
               near ? "'?)" : "");
}

static void add_field(lua_State *L, struct mr_fields *fields, const char *where)
{
    if (lua_type(L, -2) != LUA_TSTRING)
        luaL_error(L, "%sfields: names are strings, not %s keys", where, luaL_typename(L, -2));
    const char *name = lua_tostring(L, -2);
    if (lua_type(L, -1) != LUA_TSTRING)
        luaL_error(L, "%sfields.%s: expected the name of a type, such as \"string\", got a %s",
                   where, name, luaL_typename(L, -1));
    struct mr_field field = {0};
    parse_type(L, where, name, lua_tostring(L, -1), &field);
    field.name = mr_strdup(name);
    fields->list = mr_realloc(fields->list, (fields->n + 1) * sizeof *fields->list);
    fields->list[fields->n++] = field;
}

void mr_fields_compile(lua_State *L, int index, struct mr_fields *fields, const char *where)
{
    index = lua_absindex(L, index);
    mr_fields_fini(fields);
    lua_pushnil(L);
    while (lua_next(L, index)) {
        add_field(L, fields, where);
        lua_settop(L, lua_gettop(L) - 1);
    }
    if (fields->n)
        qsort(fields->list, fields->n, sizeof *fields->list, compare);
    lua_createtable(L, (int)fields->n, 0);
    for (size_t i = 0; i < fields->n; i++) {
        lua_pushstring(L, fields->list[i].name);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    lua_rawsetp(L, LUA_REGISTRYINDEX, &names_key);
}

void mr_fields_fini(struct mr_fields *fields)
{
    for (size_t i = 0; i < fields->n; i++)
        free(fields->list[i].name);
    free(fields->list);
    *fields = (struct mr_fields){0};
}

static const char *type_of(lua_State *L, int index)
{
    switch (lua_type(L, index)) {
    case LUA_TNUMBER:
        return lua_isinteger(L, index) ? "integer" : "float";
    case LUA_TTABLE:
        return mr_json_is_array(L, index) ? "array" : "table";
    case LUA_TLIGHTUSERDATA:
        return "null";
    case LUA_TNIL:
        return "nothing";
    default:
        return luaL_typename(L, index);
    }
}

static bool matches(lua_State *L, int index, enum type type)
{
    switch (type) {
    case STRING:
        return lua_type(L, index) == LUA_TSTRING;
    case INTEGER:
        return lua_isinteger(L, index);
    case NUMBER:
        return lua_type(L, index) == LUA_TNUMBER;
    case BOOLEAN:
        return lua_isboolean(L, index);
    case TABLE:
        return lua_istable(L, index);
    case ARRAY:
        return lua_istable(L, index) && mr_json_is_array(L, index);
    case ANY:
        break;
    }
    return true;
}

bool mr_fields_check(lua_State *L, int index, const struct mr_fields *fields, struct mr_error *err)
{
    index = lua_absindex(L, index);
    if (!lua_istable(L, index) || mr_json_is_array(L, index))
        return mr_error_reject(err, "schema",
                               "the message is %s %s; the script's fields ask for "
                               "an object",
                               lua_istable(L, index) ? "an" : "a", type_of(L, index));
    int top = lua_gettop(L);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &names_key);
    bool done = true;
    for (size_t i = 0; done && i < fields->n; i++) {
        const struct mr_field *field = &fields->list[i];
        lua_rawgeti(L, top + 1, (lua_Integer)i + 1);
        int type = lua_rawget(L, index);
        bool absent = type == LUA_TNIL || type == LUA_TLIGHTUSERDATA;
        if (absent ? !field->optional : !matches(L, -1, (enum type)field->type))
            done = mr_error_reject(err, "schema", "field %s: expected %s, got %s", field->name,
                                   type_names[field->type], type_of(L, -1));
        lua_settop(L, top + 1);
    }
    lua_settop(L, top);
    return done;
}

bool mr_fields_fit(const struct mr_fields *fields, const struct mr_json_looks *looks)
{
    static const unsigned accepted[N_TYPES] = {
        [ANY] = ~0u,
        [STRING] = 1u << MR_JSON_STRING,
        [INTEGER] = 1u << MR_JSON_INT,
        [NUMBER] = 1u << MR_JSON_INT | 1u << MR_JSON_NUMBER,
        [BOOLEAN] = 1u << MR_JSON_BOOL,
        [TABLE] = 1u << MR_JSON_OBJECT | 1u << MR_JSON_ARRAY,
        [ARRAY] = 1u << MR_JSON_ARRAY,
    };
    for (size_t i = 0; i < fields->n; i++) {
        const struct mr_field *field = &fields->list[i];
        const struct mr_json_look *look = &looks->list[i];
        bool absent = !look->found || look->kind == MR_JSON_NULL;
        if (absent ? !field->optional : !(accepted[field->type] >> look->kind & 1))
            return false;
    }
    return true;
}

void mr_fields_sample(const struct mr_fields *fields, int64_t now_s, unsigned number,
                      struct mr_buf *out)
{
    char text[256];
    mr_buf_put_char(out, '{');
    for (size_t i = 0; i < fields->n; i++) {
        const struct mr_field *field = &fields->list[i];
        if (i)
            mr_buf_put_char(out, ',');
        mr_text_json_string(out, field->name, strlen(field->name));
        mr_buf_put_char(out, ':');
        switch ((enum type)field->type) {
        case STRING:
            snprintf(text, sizeof text, "%.200s %u", field->name, number);
            mr_text_json_string(out, text, strlen(text));
            break;
        case INTEGER:
        case NUMBER:
            mr_buf_printf(out, "%" PRId64, now_s);
            break;
        case BOOLEAN:
            mr_buf_put_text(out, "true");
            break;
        case TABLE:
            mr_buf_put_text(out, "{}");
            break;
        case ARRAY:
            mr_buf_put_text(out, "[]");
            break;
        case ANY:
            mr_buf_put_text(out, "1");
            break;
        }
    }
    mr_buf_put_char(out, '}');
}
