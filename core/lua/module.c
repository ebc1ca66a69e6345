/*
 * module.c - millrace.so: the core as a Lua module, for specs and golden tests.
 *
 *   local millrace = require "millrace"
 *   local s = millrace.script { path = "scripts/promo.lua", keys = { restaurant_id = "text" },
 *                               columns = { client_id = "text" },
 *                               table = { "client_id text not null", ... } }
 *   local got = s:process { value = '{"a":1}', now = 1700000000,
 *                           rows = { { restaurant_id = "r", client_id = "c" } } }
 *
 * `table` may be a name: then any column is there. `got`: verdict, reason, class, error, n_keys,
 * messages ({ key, value, headers, topic }), rows (column -> text). The script has a state of its
 * own, as in the daemon; pipeline, lookup and stamper are the real ones (module_run.c). Thread of
 * the spec. Leaves Lua's symbols to whoever loads it. Must not know Kafka or Postgres. Tests: all
 * specs.
 */
#include "lua/module.h"

#include "base/text.h"

#include <lauxlib.h>
#include <lua.h>
#include <stdlib.h>

#define OBJECT "millrace.script"

static struct mr_module_object *check_object(lua_State *L)
{
    struct mr_module_object *object = luaL_checkudata(L, 1, OBJECT);
    luaL_argcheck(L, object->script, 1, "the script is closed");
    return object;
}

static int l_tick(lua_State *L)
{
    return mr_module_tick(L, check_object(L));
}

static int l_process(lua_State *L)
{
    struct mr_module_object *object = check_object(L);
    luaL_argcheck(L, object->lookup || !object->options.has_lookup, 1,
                  "the columns of the lookup are not known: give keys and columns");
    return mr_module_process(L, object);
}

/* object:fill(rows): they stay until the next fill, or until a message brings its own. */
static int l_fill(lua_State *L)
{
    struct mr_module_object *object = check_object(L);
    luaL_argcheck(L, object->lookup, 1, "the pipeline has no lookup");
    mr_module_fill(L, 2, object);
    return 0;
}

static int l_close(lua_State *L)
{
    struct mr_module_object *object = luaL_checkudata(L, 1, OBJECT);
    mr_trial_free(object->trial);
    object->trial = NULL;
    mr_table_builder_free(object->builder);
    object->builder = NULL;
    if (object->script)
        object->script->ops->close(object->script);
    object->script = NULL;
    mr_anyrow_free(object->any);
    object->any = NULL;
    mr_lookup_free(object->lookup);
    object->lookup = NULL;
    mr_node_free(object->vars);
    object->vars = NULL;
    mr_arena_fini(&object->arena);
    return 0;
}

static int l_bundle(lua_State *L)
{
    struct mr_module_object *object = check_object(L);
    lua_pushstring(L, object->script->ops->bundle(object->script));
    return 1;
}

static int fail(lua_State *L, const struct mr_error *err)
{
    lua_pushnil(L);
    lua_pushstring(L, err->msg);
    lua_pushinteger(L, err->code);
    return 3;
}

/* object:reload([path[, now]]): a fresh state beside the running one takes its place. Else nil, the
 * error and the exit code, and the old one goes on. */
static int l_reload(lua_State *L)
{
    struct mr_module_object *object = check_object(L);
    struct mr_script_options options = object->options;
    struct mr_script *script;
    struct mr_error err;
    options.path = mr_arena_strdup(&object->arena, luaL_optstring(L, 2, options.path));
    options.now_ms = (int64_t)(luaL_optnumber(L, 3, 0) * 1000);
    if (!mr_script_open(&options, &script, &err))
        return fail(L, &err);
    object->script->ops->close(object->script);
    object->options = options;
    object->script = script;
    mr_module_begin(object);
    lua_pushboolean(L, true);
    return 1;
}

/* --- the options --- */

static int64_t millis(lua_State *L, const char *name, double otherwise)
{
    lua_getfield(L, 1, name);
    double seconds = luaL_optnumber(L, -1, otherwise);
    lua_pop(L, 1);
    return (int64_t)(seconds * 1000 + 0.5);
}

static int64_t integer(lua_State *L, const char *name, int64_t otherwise)
{
    lua_getfield(L, 1, name);
    int64_t value = luaL_optinteger(L, -1, otherwise);
    lua_pop(L, 1);
    return value;
}

static bool flag(lua_State *L, const char *name, bool otherwise)
{
    bool value = lua_getfield(L, 1, name) == LUA_TNIL ? otherwise : lua_toboolean(L, -1);
    lua_pop(L, 1);
    return value;
}

static const char *text(lua_State *L, struct mr_arena *arena, const char *name,
                        const char *otherwise)
{
    lua_getfield(L, 1, name);
    const char *copy = mr_arena_strdup(arena, luaL_optstring(L, -1, otherwise));
    lua_pop(L, 1);
    return copy;
}

/* topics = { "topic_out", ... } */
static void read_topics(lua_State *L, struct mr_arena *arena, struct mr_script_options *options)
{
    static const char *const topics[] = {"topic_out"};
    options->topics = topics;
    options->n_topics = 1;
    if (lua_getfield(L, 1, "topics") == LUA_TTABLE && lua_rawlen(L, -1) > 0) {
        size_t n = lua_rawlen(L, -1);
        const char **names = mr_arena_alloc(arena, n * sizeof *names);
        for (size_t i = 0; i < n; i++) {
            lua_rawgeti(L, -1, (lua_Integer)i + 1);
            names[i] = mr_arena_strdup(arena, luaL_checkstring(L, -1));
            lua_pop(L, 1);
        }
        options->topics = names;
        options->n_topics = n;
    }
    lua_pop(L, 1);
}

static void read_options(lua_State *L, struct mr_module_object *object)
{
    struct mr_script_options *options = &object->options;
    lua_getfield(L, 1, "path");
    luaL_checkstring(L, -1);
    *options = (struct mr_script_options){
        .path = text(L, &object->arena, "path", ""),
        .has_message = flag(L, "message", true),
        .time_limit_ms = millis(L, "time_limit", 1),
        .memory_limit_bytes = (size_t)integer(L, "memory_limit", 64 << 20),
        .output_limit_bytes = (size_t)integer(L, "output_limit", 16 << 20),
        .pipeline = text(L, &object->arena, "pipeline", "spec"),
        .bundle_header = flag(L, "bundle_header", false),
        .now_ms = millis(L, "now", 0),
    };
    read_topics(L, &object->arena, options);
    bool joined = lua_getfield(L, 1, "keys") == LUA_TTABLE;
    options->has_lookup = joined || flag(L, "has_lookup", false);
    object->distinct = flag(L, "distinct", true);
    object->chunk_outputs = (uint32_t)integer(L, "unit_outputs", 0);
    object->chunk_bytes = (size_t)integer(L, "unit_bytes", 0);
    object->max_message_bytes = (size_t)integer(L, "max_message", 8 << 20);
    if (joined) {
        mr_module_lookup(L, 1, &object->arena, &object->columns);
        options->lookup = &object->columns;
        object->lookup = mr_lookup_new("lookup");
        lua_pushnil(L);
        mr_module_fill(L, lua_gettop(L), object);
    }
    if (lua_getfield(L, 1, "table") == LUA_TTABLE) {
        mr_module_row_schema(L, lua_gettop(L), &object->arena, &object->rows);
        options->rows = &object->rows;
    } else if (lua_isstring(L, -1)) {
        object->any = mr_anyrow_new(lua_tostring(L, -1));
        options->rows = mr_anyrow_schema(object->any);
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
    struct mr_error err;
    luaL_checktype(L, 1, LUA_TTABLE);
    struct mr_module_object *object = lua_newuserdatauv(L, sizeof *object, 0);
    *object = (struct mr_module_object){0};
    mr_arena_init(&object->arena);
    luaL_setmetatable(L, OBJECT);
    int at = lua_gettop(L);
    read_options(L, object);
    if (!mr_script_open(&object->options, &object->script, &err))
        return fail(L, &err);
    mr_module_begin(object);
    lua_settop(L, at);
    return 1;
}

__attribute__((visibility("default"))) int luaopen_millrace(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {"process", l_process}, {"tick", l_tick},   {"fill", l_fill}, {"reload", l_reload},
        {"bundle", l_bundle},   {"close", l_close}, {NULL, NULL}};
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
    mr_module_add_testing(L);
    return 1;
}
