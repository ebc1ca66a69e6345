/*
 * testing.c - what millrace.testing is built on: configuration, JSON, metrics and log lines for a
 * spec, and the module itself (testing.lua, part of the binary).
 *
 * In millrace.so and in `millrace test`; the thread of the spec. Owns the log lines that were
 * caught and the JSON decoder, as userdata of the spec's Lua. Must not know how specs are run
 * (test.c). Tests: tests/spec/testing_spec.lua.
 */
#include "lua/module.h"

#include "base/log.h"
#include "base/metrics.h"
#include "lua/config.h"
#include "lua/embedded.h"
#include "lua/library.h"

#include <lauxlib.h>
#include <lua.h>
#include <stdlib.h>

/* --- the configuration --- */

static void push_value(lua_State *L, const struct mr_node *node)
{
    switch (node->kind) {
    case MR_NODE_STRING:
        lua_pushstring(L, node->secret ? "***" : node->text);
        return;
    case MR_NODE_INT:
        lua_pushinteger(L, node->i);
        return;
    case MR_NODE_FLOAT:
        lua_pushnumber(L, node->f);
        return;
    case MR_NODE_BOOL:
        lua_pushboolean(L, node->i != 0);
        return;
    case MR_NODE_LIST:
    case MR_NODE_TABLE:
        break;
    }
    lua_Integer i = 0;
    luaL_checkstack(L, 4, "the configuration is too deep");
    lua_newtable(L);
    for (const struct mr_node *c = node->children; c; c = c->next) {
        push_value(L, c);
        if (c->name)
            lua_setfield(L, -2, c->name);
        else
            lua_rawseti(L, -2, ++i);
    }
}

/* Memory that outlives a raise. */
struct loading {
    struct mr_node *root;
    struct mr_buf errors;
    const char **sets;
};

static int l_loading_gc(lua_State *L)
{
    struct loading *loading = lua_touserdata(L, 1);
    mr_node_free(loading->root);
    mr_buf_fini(&loading->errors);
    free(loading->sets);
    *loading = (struct loading){0};
    return 0;
}

/* millrace.config(path[, sets]): the configuration in force as a table; else nil and what is wrong.
 */
static int l_config(lua_State *L)
{
    const char *path = luaL_checkstring(L, 1);
    lua_settop(L, 2);
    size_t n = lua_istable(L, 2) ? lua_rawlen(L, 2) : 0;
    luaL_checkstack(L, (int)n + 8, "too many settings");
    struct loading *loading = lua_newuserdatauv(L, sizeof *loading, 0);
    *loading = (struct loading){0};
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, l_loading_gc);
    lua_setfield(L, -2, "__gc");
    lua_setmetatable(L, 3);
    loading->sets = mr_calloc(n + 1, sizeof *loading->sets);
    for (size_t i = 0; i < n; i++) { /* the strings stay on the stack */
        lua_rawgeti(L, 2, (lua_Integer)i + 1);
        loading->sets[i] = luaL_checkstring(L, -1);
    }
    if (mr_config_load(path, loading->sets, n, NULL, &loading->root, &loading->errors)) {
        push_value(L, loading->root);
        return 1;
    }
    lua_pushnil(L);
    lua_pushstring(L, mr_buf_cstr(&loading->errors));
    return 2;
}

/* millrace.setenv(name, value), nil: unset. For what a configuration reads by env(). */
static int l_setenv(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1), *value = luaL_optstring(L, 2, NULL);
    int failed = value ? setenv(name, value, 1) : unsetenv(name);
    luaL_argcheck(L, !failed, 1, "not a name of an environment variable");
    return 0;
}

/* --- what the script logs and counts --- */

static struct mr_buf lines; /* caught, one JSON object a line; of the one thread that runs specs */

static void catch_line(const char *text, void *arg)
{
    (void)arg;
    mr_buf_put_text(&lines, text);
    mr_buf_put_char(&lines, '\n');
}

/* millrace.catch_log(): from now on log lines are kept for take_log, all of them. */
static int l_catch_log(lua_State *L)
{
    (void)L;
    mr_log_init(MR_DEBUG, MR_LOG_JSON);
    mr_log_thin(false);
    mr_log_hook(catch_line, NULL);
    return 0;
}

static int l_take_log(lua_State *L)
{
    lua_pushlstring(L, lines.ptr ? lines.ptr : "", lines.len);
    mr_buf_reset(&lines);
    return 1;
}

/* millrace.metrics(): all of them, as /metrics shows them. */
static int l_metrics(lua_State *L)
{
    struct mr_buf text;
    mr_buf_init(&text);
    mr_metrics_write(&text);
    lua_pushlstring(L, text.ptr ? text.ptr : "", text.len);
    mr_buf_fini(&text);
    return 1;
}

/* --- what scripts have too: null, array, json, time --- */

static int l_library_gc(lua_State *L)
{
    struct mr_library *library = lua_touserdata(L, 1);
    mr_json_free(library->json);
    library->json = NULL;
    mr_build_fini(&library->build);
    return 0;
}

/* Into the table at the top. The functions are made as globals: for that time the table is it. */
static void add_library(lua_State *L)
{
    static const char anchor = 'l';
    int module = lua_gettop(L);
    struct mr_library *library = lua_newuserdatauv(L, sizeof *library, 0);
    *library = (struct mr_library){0};
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, l_library_gc);
    lua_setfield(L, -2, "__gc");
    lua_setmetatable(L, -2);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &anchor);
    library->json = mr_json_new();
    lua_pushglobaltable(L);
    lua_pushvalue(L, module);
    lua_rawseti(L, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
    mr_library_open(L, library);
    lua_rawseti(L, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
    lua_settop(L, module);
}

void mr_module_add_testing(lua_State *L)
{
    static const luaL_Reg functions[] = {{"config", l_config},       {"setenv", l_setenv},
                                         {"catch_log", l_catch_log}, {"take_log", l_take_log},
                                         {"metrics", l_metrics},     {NULL, NULL}};
    luaL_setfuncs(L, functions, 0);
    add_library(L);
}

void mr_module_load_embedded(lua_State *L, const char *name)
{
    const struct mr_embedded *module = NULL;
    for (size_t i = 0; i < mr_embedded_count; i++)
        if (strcmp(mr_embedded_modules[i].name, name) == 0)
            module = &mr_embedded_modules[i];
    mr_assert(module);
    lua_pushfstring(L, "=%s.lua", name);
    if (luaL_loadbufferx(L, module->text, module->len, lua_tostring(L, -1), "t") != LUA_OK)
        lua_error(L);
    lua_remove(L, -2);
}

__attribute__((visibility("default"))) int luaopen_millrace_testing(lua_State *L)
{
    luaL_requiref(L, "millrace", luaopen_millrace, 0);
    mr_module_load_embedded(L, "testing_data");
    lua_pushvalue(L, -2);
    lua_call(L, 1, 1);
    mr_module_load_embedded(L, "testing");
    lua_insert(L, -3);
    lua_call(L, 2, 1);
    return 1;
}
