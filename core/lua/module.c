/*
 * module.c - millrace.so: the core as a Lua module, for specs and golden tests.
 *
 *   local millrace = require "millrace"
 *   local s = millrace.script { path = "scripts/promo.lua", keys = { restaurant_id = "text" },
 *                               columns = { client_id = "text" }, table = { "client_id text not
 * null", ... } } local got = s:process { value = '{"a":1}', now = 1700000000, rows = { {
 * restaurant_id = "r", client_id = "c" } } }
 *
 * `got`: verdict, reason, class, error, messages ({ key, value, headers, topic }), rows (column ->
 * text). The script has a state of its own, as in the daemon; lookup, pipeline and stamper are the
 * real ones. Thread of the spec. Leaves Lua's symbols to whoever loads it. Must not know Kafka or
 * Postgres. Tests: all specs.
 */
#include "lua/module.h"

#include "lua/script.h"
#include "stream/trial.h"

#include <lauxlib.h>
#include <lua.h>
#include <stdlib.h>

#define OBJECT "millrace.script"

struct object {
    struct mr_script *script;
    struct mr_arena arena; /* of the options */
    struct mr_lookup_schema lookup;
    struct mr_row_schema rows;
    struct mr_node *vars;
    bool has_lookup;

    /* of one process call; C memory that outlives a raise */
    struct mr_record rec;
    struct mr_header headers[64];
    struct mr_table_builder *builder;
    struct mr_lookup *place; /* of the rows of the call; NULL: `map` */
    struct mr_trial *trial;
    lua_State *L; /* where the outputs go, as the tables `messages` and `rows` */
    int messages, rows_at;
};

/* --- what the script reads --- */

static struct mr_bytes bytes_at(lua_State *L, int index)
{
    struct mr_bytes bytes = {NULL, 0};
    if (lua_type(L, index) == LUA_TSTRING)
        bytes.ptr = lua_tolstring(L, index, &bytes.len);
    return bytes;
}

/* headers = { { name, value }, ... }; the strings are held by the argument. */
static void read_headers(lua_State *L, struct object *object)
{
    if (lua_getfield(L, 2, "headers") != LUA_TTABLE) {
        lua_pop(L, 1);
        return;
    }
    size_t n = lua_rawlen(L, -1);
    luaL_argcheck(L, n <= 64, 2, "at most 64 headers");
    for (size_t i = 0; i < n; i++) {
        lua_rawgeti(L, -1, (lua_Integer)i + 1);
        lua_rawgeti(L, -1, 1);
        lua_rawgeti(L, -2, 2);
        object->headers[i] = (struct mr_header){.name = bytes_at(L, -2), .value = bytes_at(L, -1)};
        lua_pop(L, 3);
    }
    object->rec.headers = object->headers;
    object->rec.n_headers = n;
    lua_pop(L, 1);
}

/* A number as an integer: now = 1.5 means 1500 ms. */
static int64_t millis(lua_State *L, int table, const char *name, double otherwise)
{
    lua_getfield(L, table, name);
    double seconds = luaL_optnumber(L, -1, otherwise);
    lua_pop(L, 1);
    return (int64_t)(seconds * 1000 + (seconds < 0 ? -0.5 : 0.5));
}

static int64_t integer(lua_State *L, int table, const char *name, int64_t otherwise)
{
    lua_getfield(L, table, name);
    int64_t value = luaL_optinteger(L, -1, otherwise);
    lua_pop(L, 1);
    return value;
}

/* value: a string, or nil / null for a tombstone. The strings stay on the stack's tables. */
static void read_record(lua_State *L, struct object *object)
{
    object->rec = (struct mr_record){
        .topic = "topic_in",
        .partition = (int32_t)integer(L, 2, "partition", 0),
        .offset = integer(L, 2, "offset", 0),
        .timestamp_ms = integer(L, 2, "timestamp_ms", -1),
    };
    lua_getfield(L, 2, "value");
    object->rec.value = bytes_at(L, -1);
    lua_getfield(L, 2, "key");
    object->rec.key = bytes_at(L, -1);
    lua_pop(L, 2);
    read_headers(L, object);
}

static void build_table(lua_State *L, struct object *object)
{
    struct mr_error err;
    struct mr_value values[128];
    object->builder = mr_table_builder_new(&object->lookup, true, 0);
    lua_getfield(L, 2, "rows");
    size_t n = lua_istable(L, -1) ? lua_rawlen(L, -1) : 0;
    for (size_t i = 0; i < n; i++) {
        lua_rawgeti(L, -1, (lua_Integer)i + 1);
        luaL_checktype(L, -1, LUA_TTABLE);
        mr_module_read_row(L, lua_gettop(L), &object->lookup, values);
        if (!mr_table_builder_add(object->builder, values, &err))
            luaL_error(L, "%s", err.msg);
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    struct mr_table_builder *builder = object->builder;
    struct mr_table *table;
    object->builder = NULL;
    if (!mr_table_builder_finish(builder, &table, &err))
        luaL_error(L, "%s", err.msg);
    mr_lookup_swap(object->place, table);
}

/* --- what came of it --- */

static const char *const verdict_names[] = {
    [MR_VERDICT_EMIT] = "emit",     [MR_VERDICT_DROP] = "drop",   [MR_VERDICT_HOLD] = "hold",
    [MR_VERDICT_REJECT] = "reject", [MR_VERDICT_RETRY] = "retry", [MR_VERDICT_STOP] = "stop",
};

static void push_bytes(lua_State *L, struct mr_bytes bytes)
{
    if (bytes.ptr)
        lua_pushlstring(L, bytes.ptr, bytes.len);
    else
        lua_pushlightuserdata(L, NULL);
}

static void push_headers(lua_State *L, const char *at, unsigned n)
{
    lua_createtable(L, (int)n, 0);
    for (unsigned i = 0; i < n; i++) {
        struct mr_bytes name, value;
        mr_trial_header(&at, &name, &value);
        lua_createtable(L, 2, 0);
        push_bytes(L, name);
        lua_rawseti(L, -2, 1);
        push_bytes(L, value);
        lua_rawseti(L, -2, 2);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
}

static void push_message(lua_State *L, const struct mr_trial_output *output)
{
    lua_createtable(L, 0, 5);
    push_bytes(L, output->key);
    lua_setfield(L, -2, "key");
    push_bytes(L, output->value);
    lua_setfield(L, -2, "value");
    push_headers(L, output->headers.ptr, output->frame.n_headers);
    lua_setfield(L, -2, "headers");
    lua_pushinteger(L, output->frame.topic);
    lua_setfield(L, -2, "topic");
    lua_pushinteger(L, output->frame.timestamp_ms);
    lua_setfield(L, -2, "timestamp_ms");
}

/* Onto result.messages and .rows. What raises here is out of memory only. */
static void take_output(void *arg, const struct mr_trial_output *output)
{
    struct object *object = arg;
    lua_State *L = object->L;
    if (output->has_message) {
        push_message(L, output);
        lua_rawseti(L, object->messages, (lua_Integer)lua_rawlen(L, object->messages) + 1);
    }
    if (output->has_row) {
        mr_module_push_row(L, &object->rows, output->set, output->row);
        lua_rawseti(L, object->rows_at, (lua_Integer)lua_rawlen(L, object->rows_at) + 1);
    }
}

static struct object *check_object(lua_State *L)
{
    struct object *object = luaL_checkudata(L, 1, OBJECT);
    luaL_argcheck(L, object->script, 1, "the script is closed");
    return object;
}

static int l_process(lua_State *L)
{
    struct object *object = check_object(L);
    luaL_checktype(L, 2, LUA_TTABLE);
    struct mr_error err;
    struct mr_trial_result trial;
    int64_t now_ms = millis(L, 2, "now", 0);
    mr_table_builder_free(object->builder); /* what a raise has left behind */
    object->builder = NULL;
    read_record(L, object);
    mr_trial_set_attempt(object->trial, (int)integer(L, 2, "attempt", 0));
    if (object->has_lookup)
        build_table(L, object);
    lua_createtable(L, 0, 6);
    int result = lua_gettop(L);
    object->L = L;
    object->messages = result + 1;
    object->rows_at = result + 2;
    lua_newtable(L);
    lua_newtable(L);
    enum mr_verdict verdict = mr_trial_run(object->trial, &object->rec, now_ms, &trial, &err);
    lua_setfield(L, result, "rows");
    lua_setfield(L, result, "messages");
    lua_pushinteger(L, (lua_Integer)trial.n_keys);
    lua_setfield(L, result, "n_keys");
    lua_pushstring(L, verdict_names[verdict]);
    lua_setfield(L, result, "verdict");
    if (verdict == MR_VERDICT_DROP) {
        lua_pushstring(L, trial.reason);
        lua_setfield(L, result, "reason");
    } else if (verdict != MR_VERDICT_EMIT) {
        lua_pushstring(L, err.class_);
        lua_setfield(L, result, "class");
        lua_pushstring(L, err.msg);
        lua_setfield(L, result, "error");
    }
    return 1;
}

/* --- the object --- */

static int l_close(lua_State *L)
{
    struct object *object = luaL_checkudata(L, 1, OBJECT);
    mr_trial_free(object->trial);
    object->trial = NULL;
    if (object->script)
        object->script->ops->close(object->script);
    object->script = NULL;
    mr_table_builder_free(object->builder);
    object->builder = NULL;
    mr_lookup_free(object->place);
    object->place = NULL;
    mr_node_free(object->vars);
    object->vars = NULL;
    mr_arena_fini(&object->arena);
    return 0;
}

static int l_bundle(lua_State *L)
{
    struct object *object = check_object(L);
    lua_pushstring(L, object->script->ops->bundle(object->script));
    return 1;
}

static bool flag(lua_State *L, int table, const char *name, bool otherwise)
{
    bool value = lua_getfield(L, table, name) == LUA_TNIL ? otherwise : lua_toboolean(L, -1);
    lua_pop(L, 1);
    return value;
}

static void read_options(lua_State *L, struct object *object, struct mr_script_options *options)
{
    static const char *const topics[] = {"topic_out"};
    lua_getfield(L, 1, "path");
    *options = (struct mr_script_options){
        .path = mr_arena_strdup(&object->arena, luaL_checkstring(L, -1)),
        .has_message = flag(L, 1, "message", true),
        .topics = topics,
        .n_topics = 1,
        .time_limit_ms = millis(L, 1, "time_limit", 1),
        .memory_limit_bytes = (size_t)integer(L, 1, "memory_limit", 64 << 20),
        .output_limit_bytes = (size_t)integer(L, 1, "output_limit", 16 << 20),
        .pipeline = "spec",
        .bundle_header = flag(L, 1, "bundle_header", false),
    };
    object->has_lookup = lua_getfield(L, 1, "keys") == LUA_TTABLE;
    options->has_lookup = object->has_lookup || flag(L, 1, "has_lookup", false);
    if (object->has_lookup) {
        mr_module_lookup(L, 1, &object->arena, &object->lookup);
        options->lookup = &object->lookup;
    }
    if (lua_getfield(L, 1, "table") == LUA_TTABLE) {
        mr_module_row_schema(L, lua_gettop(L), &object->arena, &object->rows);
        options->rows = &object->rows;
    }
    if (lua_getfield(L, 1, "vars") == LUA_TTABLE) {
        object->vars = mr_node_new_root();
        mr_module_read_vars(L, lua_gettop(L), object->vars);
        options->vars = object->vars;
    }
}

/* millrace.script{...}: the object, or nil, the error text and the exit code. */
static int l_script(lua_State *L)
{
    struct mr_script_options options;
    struct mr_error err;
    luaL_checktype(L, 1, LUA_TTABLE);
    struct object *object = lua_newuserdatauv(L, sizeof *object, 0);
    *object = (struct object){0};
    mr_arena_init(&object->arena);
    luaL_setmetatable(L, OBJECT);
    int at = lua_gettop(L);
    read_options(L, object, &options);
    if (!mr_script_open(&options, &object->script, &err)) {
        lua_pushnil(L);
        lua_pushstring(L, err.msg);
        lua_pushinteger(L, err.code);
        return 3;
    }
    struct mr_trial_options trial = {
        .script = object->script,
        .columns = options.lookup,
        .rows = options.rows,
        .output = take_output,
        .arg = object,
    };
    if (object->has_lookup)
        object->place = trial.lookup = mr_lookup_new("lookup");
    object->trial = mr_trial_new(&trial);
    lua_settop(L, at);
    return 1;
}

__attribute__((visibility("default"))) int luaopen_millrace(lua_State *L);

int luaopen_millrace(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {"process", l_process}, {"bundle", l_bundle}, {"close", l_close}, {NULL, NULL}};
    static const luaL_Reg functions[] = {{"script", l_script}, {NULL, NULL}};
    luaL_newmetatable(L, OBJECT);
    luaL_newlib(L, methods);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, l_close);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
    luaL_newlib(L, functions);
    lua_pushliteral(L, MR_VERSION);
    lua_setfield(L, -2, "version");
    lua_pushlightuserdata(L, NULL);
    lua_setfield(L, -2, "null");
    return 1;
}
