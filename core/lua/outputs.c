/*
 * outputs.c - what becomes of a record: shape, row, and the template of an output.
 *
 * Inside the gate, on the worker's thread. Owns nothing. shape and row each get the record as the
 * function that made it left it: a copy, unless it is certain (reads.h) that nobody could tell the
 * difference. Must not know when it is called (script.c, each.c). Tests:
 * tests/spec/template_spec.lua, tests/spec/each_spec.lua.
 */
#include "lua/script_state.h"

#include <lauxlib.h>
#include <lua.h>

/* A copy of one level: what the script changes in it does not change the record. The record itself
 * where nobody could tell the difference (`kept`), and it has no metatable. */
static void push_record(lua_State *L, int record, bool kept)
{
    if (lua_getmetatable(L, record)) {
        lua_pop(L, 1);
        kept = false;
    }
    if (kept) {
        lua_pushvalue(L, record);
        return;
    }
    lua_createtable(L, (int)lua_rawlen(L, record), 16);
    lua_pushnil(L);
    while (lua_next(L, record)) {
        lua_pushvalue(L, -2);
        lua_insert(L, -2);
        lua_rawset(L, -4);
    }
    if (!mr_script_is_row(L, record) && lua_getmetatable(L, record))
        lua_setmetatable(L, -2);
}

/* Leaves the results of shape(record) or row(record), or the record itself if there is none.
 * `alone`: nobody would see it if the function changed the record, or saw it changed. */
static void push_result(lua_State *L, struct mr_script_state *state, enum mr_function function,
                        int record, bool alone, int results)
{
    if (!state->has[function]) {
        lua_pushvalue(L, record);
        for (int i = 1; i < results; i++)
            lua_pushnil(L);
        return;
    }
    mr_script_push_function(L, function);
    push_record(L, record, alone || state->leaves[function] == MR_LEAVES_ALL);
    mr_context_push(L, &state->view);
    lua_call(L, 2, results);
}

const char *mr_script_maker(const struct mr_script_state *state)
{
    return mr_script_function_names[state->has[MR_FN_EACH]      ? MR_FN_EACH
                                    : state->options.has_lookup ? MR_FN_PROJECT
                                                                : MR_FN_MAP];
}

/* `alone`: nobody but us holds the record. What shape leaves as it is, row then may change. */
static bool one_output(lua_State *L, struct mr_script_state *state, int record, bool alone)
{
    struct mr_templates *templates = &state->templates;
    struct mr_output output = {0};
    size_t headers_from = mr_build_n_headers(&templates->build);
    size_t fields_from = mr_build_n_fields(&templates->build);
    int top = lua_gettop(L);
    alone = alone && state->leaves[MR_FN_SHAPE] != MR_LEAVES_NOT;
    if (!lua_istable(L, record))
        return mr_error_reject(state->err, "script",
                               "%s: a record is a table, got a %s in the list of records",
                               mr_script_maker(state), luaL_typename(L, record));
    if (state->options.has_message) {
        push_result(L, state, MR_FN_SHAPE, record, alone, 4);
        if (!mr_template_message(L, top + 1, templates, &output, state->err))
            return false;
        lua_settop(L, top);
    }
    if (templates->rows) {
        push_result(L, state, MR_FN_ROW, record, alone, 1);
        if (!mr_template_row(L, top + 1, templates, &output, state->err))
            return false;
        lua_settop(L, top);
    }
    mr_build_output(&templates->build, output, headers_from, fields_from);
    return true;
}

bool mr_script_outputs(lua_State *L, struct mr_script_state *state, int result)
{
    if (!mr_json_is_array(L, result))
        return one_output(L, state, result, state->makes);
    lua_Integer n = (lua_Integer)lua_rawlen(L, result);
    for (lua_Integer i = 1; i <= n; i++) {
        lua_rawgeti(L, result, i);
        bool done = one_output(L, state, lua_gettop(L), false);
        lua_pop(L, 1);
        if (!done)
            return false;
    }
    return true;
}
