/*
 * each.c - the rows of a chunk through the script's `each`: one protected call for all of them.
 *
 * Inside the gate, on the worker's thread. Owns nothing: the row's table lives in the Lua state, is
 * filled anew for each row and handed to the script again and again. What the script returns goes
 * the way of any record (script.c) and is stamped at once by whoever gave the rows. Must not know
 * units or chunks. Tests: tests/spec/each_spec.lua, tests/unit/test_script.c.
 */
#include "lua/script_state.h"

#include "base/text.h"

#include <lauxlib.h>
#include <lua.h>
#include <stdio.h>

enum { ROW_SLOT = 3, NULL_SLOT = 5 }; /* on the stack, see mr_script_job_each */

static const char row_key = 'w', names_key = 'n', row_meta_key = 't';

/* --- the row's table --- */

/* Reading a name that the row does not have. What the script itself set to nil is no mistake. */
static int l_row_index(lua_State *L)
{
    const struct mr_lookup_schema *schema = lua_touserdata(L, lua_upvalueindex(1));
    if (lua_type(L, 2) != LUA_TSTRING)
        return luaL_error(L, "row has columns by name, not %s keys", luaL_typename(L, 2));
    const char *name = lua_tostring(L, 2);
    enum { MAX = 256 };
    const char *names[MAX];
    size_t n = 0;
    for (size_t i = 0; i < schema->n_columns; i++) {
        if (strcmp(schema->columns[i].name, name) == 0)
            return 0;
        if (n < MAX)
            names[n++] = schema->columns[i].name;
    }
    const char *near = mr_text_nearest(name, names, n);
    if (near)
        return luaL_error(L, "the lookup '%s' has no column '%s' (did you mean '%s'?)",
                          schema->name, name, near);
    return luaL_error(L, "the lookup '%s' has no column '%s'", schema->name, name);
}

static int l_row_newindex(lua_State *L)
{
    return luaL_error(L,
                      "row is used again for the next row: put '%s' into a table of your own, "
                      "the record",
                      luaL_tolstring(L, 2, NULL));
}

void mr_script_open_row(lua_State *L, const struct mr_lookup_schema *schema)
{
    if (!schema)
        return;
    lua_createtable(L, 0, (int)schema->n_columns);
    lua_createtable(L, 0, 3);
    lua_pushlightuserdata(L, (void *)(uintptr_t)schema);
    lua_pushcclosure(L, l_row_index, 1);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, l_row_newindex);
    lua_setfield(L, -2, "__newindex");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &row_meta_key);
    lua_setmetatable(L, -2);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &row_key);
    lua_createtable(L, (int)schema->n_columns, 0);
    for (size_t i = 0; i < schema->n_columns; i++) {
        lua_pushstring(L, schema->columns[i].name);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    lua_rawsetp(L, LUA_REGISTRYINDEX, &names_key);
}

bool mr_script_is_row(lua_State *L, int index)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, &row_key);
    bool is = lua_rawequal(L, -1, index);
    lua_pop(L, 1);
    return is;
}

/* --- values --- */

/* As text: digits of a numeric, times in ISO 8601. Infinite ones are words, as Postgres has it. */
static void push_text(lua_State *L, const struct mr_value *value)
{
    char space[64];
    bool is_date = value->type == MR_DATE;
    if (value->i == (is_date ? INT32_MAX : INT64_MAX)) {
        lua_pushliteral(L, "infinity");
    } else if (value->i == (is_date ? INT32_MIN : INT64_MIN)) {
        lua_pushliteral(L, "-infinity");
    } else {
        /* A buf over the stack: nothing to free when pushing raises. 48 bytes are reserved. */
        struct mr_buf text = {space, 0, sizeof space};
        struct mr_error err;
        mr_assert(mr_value_text(&text, value, &err) && text.ptr == space);
        lua_pushlstring(L, text.ptr, text.len);
    }
}

static bool push_value(lua_State *L, struct mr_script_state *state, const struct mr_value *value)
{
    char uuid[40];
    switch (value->type) {
    case MR_NULL:
        lua_pushvalue(L, NULL_SLOT);
        return true;
    case MR_BOOL:
        lua_pushboolean(L, value->b);
        return true;
    case MR_INT:
        lua_pushinteger(L, value->i);
        return true;
    case MR_FLOAT:
        lua_pushnumber(L, value->f);
        return true;
    case MR_UUID:
        mr_text_uuid_format(value->uuid, uuid);
        lua_pushlstring(L, uuid, 36);
        return true;
    case MR_NUMERIC:
    case MR_TEXT:
        lua_pushlstring(L, value->bytes.ptr, value->bytes.len);
        return true;
    case MR_TIMESTAMP:
    case MR_DATE:
        push_text(L, value);
        return true;
    case MR_JSON:
        return mr_json_parse(state->json, value->bytes, state->err) &&
               mr_json_push(state->json, L, state->err);
    }
    mr_assert_failed("a value of no type", __FILE__, __LINE__);
}

/* The row's cells into the table at `row`; the columns' names stand from `names` on. */
static bool fill(lua_State *L, struct mr_script_state *state, int row, int names,
                 const struct mr_row_ref *ref)
{
    const struct mr_lookup_schema *schema = state->options.lookup;
    const uint8_t *at = ref->key;
    struct mr_value value;
    for (size_t i = 0; i < schema->n_columns; i++) {
        if (i == schema->n_keys)
            at = ref->cells;
        at = mr_cell_read(at, &value);
        lua_pushvalue(L, names + (int)i);
        if (!push_value(L, state, &value)) {
            snprintf(state->err->class_, sizeof state->err->class_, "schema");
            return mr_error_context(state->err, "column %s of lookup %s", schema->columns[i].name,
                                    schema->name);
        }
        lua_rawset(L, row);
    }
    return true;
}

/* --- the call --- */

/* What `each` returned is on top. */
static bool take_result(lua_State *L, struct mr_script_state *state)
{
    int result = lua_gettop(L);
    if (lua_isnil(L, result))
        return true;
    if (!lua_istable(L, result))
        return mr_error_reject(state->err, "script",
                               "each returned a %s; expected the record (a table), a list of "
                               "records, or nil to skip the row",
                               luaL_typename(L, result));
    mr_build_reset(&state->templates.build);
    return mr_script_outputs(L, state, result) &&
           state->rows->put(state->rows, mr_build_finish(&state->templates.build), state->err);
}

/* The stack: 1 each, 2 message, 3 row, 4 ctx, 5 null, then the columns' names. */
int mr_script_job_each(lua_State *L)
{
    struct mr_script_state *state = lua_touserdata(L, 1);
    struct mr_rows *rows = state->rows;
    struct mr_row_ref ref;
    int n = (int)state->options.lookup->n_columns;
    lua_settop(L, 0);
    luaL_checkstack(L, n + 40, "the lookup has too many columns");
    mr_script_push_function(L, MR_FN_EACH);
    mr_script_push_message(L);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &row_key);
    mr_context_push(L, &state->view);
    lua_pushlightuserdata(L, NULL);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &names_key);
    int names = NULL_SLOT + 1;
    for (int i = 1; i <= n; i++)
        lua_rawgeti(L, names, i);
    lua_remove(L, names);
    int top = lua_gettop(L);
    bool done = true;
    for (uint64_t i = 1; done && rows->next(rows, &ref, state->err); i++) {
        done = fill(L, state, ROW_SLOT, names, &ref);
        if (!done)
            break;
        for (int part = 1; part <= 4; part++)
            lua_pushvalue(L, part);
        lua_call(L, 3, 1);
        done = take_result(L, state);
        lua_settop(L, top);
        if (i % MR_EACH_ROWS == 0 && i <= rows->budget_rows)
            mr_host_renew(state->host);
    }
    if (!done || rows->failed)
        state->verdict = state->err->action == MR_REJECT ? MR_VERDICT_REJECT : MR_VERDICT_STOP;
    return 0;
}
