/*
 * keys.c - Lua values to canonical lookup keys.
 *
 * Inside the gate, on the worker's thread. Owns nothing. The form of a key is the lookup's business
 * (mr_lookup_key); here is only what a script may write for one. Tests: tests/spec/key_spec.lua.
 */
#include "lua/keys.h"

#include "base/text.h"
#include "lua/json.h"

#include <lauxlib.h>
#include <lua.h>
#include <stdlib.h>

enum { KEY_COLUMNS_MAX = 32 };

struct reader {
    lua_State *L;
    const struct mr_lookup_schema *schema;
    struct mr_keys *keys;
    struct mr_error *err;
};

static bool read_scalar(struct reader *reader, int index, const char *column,
                        struct mr_value *value)
{
    lua_State *L = reader->L;
    switch (lua_type(L, index)) {
    case LUA_TSTRING:
        value->type = MR_TEXT;
        value->bytes.ptr = lua_tolstring(L, index, &value->bytes.len);
        return true;
    case LUA_TNUMBER:
        if (lua_isinteger(L, index)) {
            value->type = MR_INT;
            value->i = lua_tointeger(L, index);
        } else {
            value->type = MR_FLOAT;
            value->f = lua_tonumber(L, index);
        }
        return true;
    case LUA_TBOOLEAN:
        value->type = MR_BOOL;
        value->b = lua_toboolean(L, index);
        return true;
    default:
        return mr_error_reject(reader->err, "schema",
                               "key: the value for column %s is a %s; it can be a string, a number "
                               "or a boolean",
                               column, luaL_typename(L, index));
    }
}

static bool is_null(lua_State *L, int index)
{
    return lua_isnil(L, index) || (lua_islightuserdata(L, index) && !lua_touserdata(L, index));
}

/* Canonical form of the values behind what is there. False without an error: over the maximum is
 * one. */
static bool add_key(struct reader *reader, const struct mr_value *values)
{
    struct mr_keys *keys = reader->keys;
    if (keys->n == MR_KEYS_MAX)
        return mr_error_reject(reader->err, "schema", "key: more than %d keys for one message",
                               MR_KEYS_MAX);
    size_t from = keys->bytes.len;
    if (!mr_lookup_key(reader->schema, values, &keys->bytes, reader->err))
        return mr_error_context(reader->err, "key");
    /* ptr is set when all are there: the buf still moves */
    keys->list[keys->n++] = (struct mr_bytes){NULL, keys->bytes.len - from};
    return true;
}

/* A name in the composite that is no key column. */
static bool refuse_name(struct reader *reader, int index)
{
    lua_State *L = reader->L;
    const char *names[KEY_COLUMNS_MAX];
    for (size_t i = 0; i < reader->schema->n_keys; i++)
        names[i] = reader->schema->columns[i].name;
    lua_pushnil(L);
    while (lua_next(L, index)) {
        lua_pop(L, 1);
        const char *name = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
        bool known = false;
        for (size_t i = 0; name && i < reader->schema->n_keys; i++)
            known = known || strcmp(name, names[i]) == 0;
        if (!known) {
            const char *near = name ? mr_text_nearest(name, names, reader->schema->n_keys) : NULL;
            bool done = mr_error_reject(
                reader->err, "schema", "key: '%s' is not a key column of the lookup '%s'%s%s%s",
                name ? name : luaL_typename(L, -1), reader->schema->name,
                near ? " (did you mean '" : "", near ? near : "", near ? "'?)" : "");
            lua_pop(L, 1);
            return done;
        }
    }
    return true;
}

/* { a = , b = }. A null in it can equal nothing: no key. */
static bool read_composite(struct reader *reader, int index)
{
    lua_State *L = reader->L;
    const struct mr_lookup_schema *schema = reader->schema;
    struct mr_value values[KEY_COLUMNS_MAX];
    bool done = true, null = false;
    int top = lua_gettop(L);
    if (!refuse_name(reader, index))
        return false;
    luaL_checkstack(L, KEY_COLUMNS_MAX + 4, NULL);
    for (size_t i = 0; done && i < schema->n_keys; i++) {
        lua_pushstring(L, schema->columns[i].name);
        if (lua_rawget(L, index) == LUA_TNIL)
            done = mr_error_reject(reader->err, "schema", "key: column %s is missing",
                                   schema->columns[i].name);
        else if (is_null(L, -1))
            null = true;
        else
            done = read_scalar(reader, lua_gettop(L), schema->columns[i].name, &values[i]);
    }
    if (done && !null)
        done = add_key(reader, values);
    lua_settop(L, top);
    return done;
}

static bool read_one(struct reader *reader, int index)
{
    lua_State *L = reader->L;
    const struct mr_lookup_schema *schema = reader->schema;
    struct mr_value value;
    if (is_null(L, index))
        return true;
    if (lua_istable(L, index) && mr_json_is_array(L, index))
        return mr_error_reject(reader->err, "schema", "key: a list within the list of keys");
    if (lua_istable(L, index))
        return read_composite(reader, index);
    if (schema->n_keys > 1)
        return mr_error_reject(reader->err, "schema",
                               "key: the lookup '%s' has %zu key columns: return { %s = ..., %s = "
                               "... }, not a %s",
                               schema->name, schema->n_keys, schema->columns[0].name,
                               schema->columns[1].name, luaL_typename(L, index));
    return read_scalar(reader, index, schema->columns[0].name, &value) && add_key(reader, &value);
}

static int compare(const void *a, const void *b)
{
    const struct mr_bytes *x = *(const struct mr_bytes *const *)a;
    const struct mr_bytes *y = *(const struct mr_bytes *const *)b;
    size_t n = x->len < y->len ? x->len : y->len;
    int order = memcmp(x->ptr, y->ptr, n);
    if (order == 0)
        order = (x->len > y->len) - (x->len < y->len);
    return order ? order : (x > y) - (x < y);
}

/* Sets the pointers; keeps the first of equal keys, in the script's order. */
static void settle(struct mr_keys *keys)
{
    const char *at = keys->bytes.ptr;
    struct mr_bytes *sorted[MR_KEYS_MAX];
    for (size_t i = 0; i < keys->n; i++) {
        keys->list[i].ptr = at;
        at += keys->list[i].len;
        sorted[i] = &keys->list[i];
    }
    if (keys->n < 2)
        return;
    qsort(sorted, keys->n, sizeof *sorted, compare);
    const struct mr_bytes *kept = sorted[0];
    for (size_t i = 1; i < keys->n; i++) {
        if (kept->len == sorted[i]->len && memcmp(kept->ptr, sorted[i]->ptr, kept->len) == 0)
            sorted[i]->ptr = NULL; /* an equal one stands before it */
        else
            kept = sorted[i];
    }
    size_t n = 0;
    for (size_t i = 0; i < keys->n; i++)
        if (keys->list[i].ptr)
            keys->list[n++] = keys->list[i];
    keys->n = n;
}

bool mr_keys_read(lua_State *L, int index, const struct mr_lookup_schema *schema,
                  struct mr_keys *keys, struct mr_error *err)
{
    struct reader reader = {.L = L, .schema = schema, .keys = keys, .err = err};
    mr_assert(schema->n_keys <= KEY_COLUMNS_MAX);
    index = lua_absindex(L, index);
    mr_buf_reset(&keys->bytes);
    keys->n = 0;
    bool done = true;
    if (lua_istable(L, index) && mr_json_is_array(L, index)) {
        lua_Integer n = (lua_Integer)lua_rawlen(L, index);
        for (lua_Integer i = 1; done && i <= n; i++) {
            lua_rawgeti(L, index, i);
            done = read_one(&reader, lua_gettop(L));
            lua_pop(L, 1);
        }
    } else {
        done = read_one(&reader, index);
    }
    settle(keys);
    return done;
}
