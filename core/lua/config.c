/*
 * config.c - loads a configuration: the file, the Lua modules that check it, the tree.
 *
 * One thread; owns the Lua state for one load. config.lua itself runs in the sandbox; the modules
 * that run and check it are our own and get the whole of Lua's base library and `sys`
 * (config_sys.c). Must not know options: they are in options.lua. Tests: tests/unit/test_config.c,
 * tests/spec/config_spec.lua.
 */
#include "lua/config.h"

#include "lua/config_sys.h"
#include "lua/embedded.h"
#include "lua/host.h"
#include "lua/sandbox.h"

#include <errno.h>
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A configuration is small: who needs more than this has an endless loop in it. */
static const struct mr_host_limits limits = {.memory_bytes = (size_t)256 << 20, .time_ms = 2000};

struct job {
    const char *path;
    const char *const *sets;
    size_t n_sets;
    const struct mr_config_checks *checks;
    struct mr_buf source;  /* the file */
    struct mr_node **root; /* wanted, or NULL */
    struct mr_buf *text;   /* wanted: the configuration as text, or the page; or NULL */
    enum mr_config_format format;
    struct mr_buf *errors;
    bool done;
};

/* --- the modules --- */

static const struct mr_embedded *find_module(const char *name)
{
    for (size_t i = 0; i < mr_embedded_count; i++)
        if (strcmp(mr_embedded_modules[i].name, name) == 0)
            return &mr_embedded_modules[i];
    return NULL;
}

/* need(name): the module, run once. Upvalues: the modules that are loaded, their globals, sys. */
static int l_need(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1);
    if (lua_getfield(L, lua_upvalueindex(1), name) != LUA_TNIL)
        return 1;
    const struct mr_embedded *module = find_module(name);
    if (!module)
        return luaL_error(L, "no module %s", name);
    lua_pushfstring(L, "=%s.lua", name);
    if (luaL_loadbufferx(L, module->text, module->len, lua_tostring(L, -1), "t") != LUA_OK)
        return lua_error(L);
    lua_pushvalue(L, lua_upvalueindex(2));
    lua_setupvalue(L, -2, 1); /* _ENV */
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_pushvalue(L, lua_upvalueindex(2));
    lua_pushvalue(L, lua_upvalueindex(3));
    lua_pushcclosure(L, l_need, 3);
    lua_pushvalue(L, lua_upvalueindex(3));
    lua_call(L, 2, 1);
    lua_pushvalue(L, -1);
    lua_setfield(L, lua_upvalueindex(1), name);
    return 1;
}

void mr_config_open_module(lua_State *L, const struct mr_config_checks *checks, const char *name)
{
    mr_sandbox_open(L);
    lua_newtable(L);
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    int loaded = lua_gettop(L);
    lua_newtable(L); /* the globals of our modules: all of base, and these libraries */
    lua_getfield(L, loaded, LUA_GNAME);
    lua_pushnil(L);
    while (lua_next(L, -2)) {
        lua_pushvalue(L, -2);
        lua_insert(L, -2);
        lua_rawset(L, -5);
    }
    lua_pop(L, 1);
    static const char *const libraries[] = {LUA_STRLIBNAME, LUA_TABLIBNAME, LUA_MATHLIBNAME};
    for (size_t i = 0; i < sizeof libraries / sizeof *libraries; i++) {
        lua_getfield(L, loaded, libraries[i]);
        lua_setfield(L, -2, libraries[i]);
    }
    lua_remove(L, loaded);
    mr_config_push_sys(L, checks);
    lua_pushcclosure(L, l_need, 3);
    lua_pushstring(L, name);
    lua_call(L, 1, 1);
}

/* --- from Lua's nodes (config_nodes.lua) to the tree --- */

static enum mr_node_kind kind_of(lua_State *L, int index)
{
    static const char *const names[] = {"table", "list", "string", "int", "float", "bool", NULL};
    static const enum mr_node_kind kinds[] = {MR_NODE_TABLE, MR_NODE_LIST,  MR_NODE_STRING,
                                              MR_NODE_INT,   MR_NODE_FLOAT, MR_NODE_BOOL};
    lua_getfield(L, index, "kind");
    int found = luaL_checkoption(L, -1, NULL, names);
    lua_pop(L, 1);
    return kinds[found];
}

static bool flag_of(lua_State *L, int index, const char *name)
{
    lua_getfield(L, index, name);
    bool set = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return set;
}

static void fill_node(lua_State *L, int index, struct mr_node *node);

static void add_children(lua_State *L, int index, struct mr_node *node)
{
    luaL_checkstack(L, 8, "configuration nested too deeply");
    lua_getfield(L, index, "children");
    int children = lua_gettop(L);
    lua_Integer n = luaL_len(L, children);
    for (lua_Integer i = 1; i <= n; i++) {
        lua_rawgeti(L, children, i);
        int child = lua_gettop(L);
        lua_getfield(L, child, "name");
        struct mr_node *made = mr_node_add(node, lua_tostring(L, -1), kind_of(L, child));
        lua_pop(L, 1);
        fill_node(L, child, made);
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
}

static void fill_node(lua_State *L, int index, struct mr_node *node)
{
    node->secret = flag_of(L, index, "secret");
    node->is_default = flag_of(L, index, "default");
    node->reloadable = flag_of(L, index, "reloadable");
    lua_getfield(L, index, "value");
    switch (node->kind) {
    case MR_NODE_STRING:
        node->text = mr_strdup(luaL_checkstring(L, -1));
        break;
    case MR_NODE_INT:
        node->i = luaL_checkinteger(L, -1);
        break;
    case MR_NODE_FLOAT:
        node->f = luaL_checknumber(L, -1);
        break;
    case MR_NODE_BOOL:
        node->i = lua_toboolean(L, -1);
        break;
    case MR_NODE_TABLE:
    case MR_NODE_LIST:
        break;
    }
    lua_pop(L, 1);
    if (node->kind == MR_NODE_TABLE || node->kind == MR_NODE_LIST)
        add_children(L, index, node);
}

/* --- the jobs behind the gate --- */

static void append_text(lua_State *L, struct mr_buf *buf)
{
    size_t len;
    const char *text = luaL_checklstring(L, -1, &len);
    mr_buf_put(buf, text, len);
}

static void push_sets(lua_State *L, const struct job *job)
{
    lua_createtable(L, (int)job->n_sets, 0);
    for (size_t i = 0; i < job->n_sets; i++) {
        lua_pushstring(L, job->sets[i]);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
}

static int load_job(lua_State *L)
{
    struct job *job = lua_touserdata(L, 1);
    mr_config_open_module(L, job->checks, "config");
    int config = lua_gettop(L);
    lua_getfield(L, config, "load");
    lua_pushstring(L, job->path);
    lua_pushlstring(L, job->source.ptr ? job->source.ptr : "", job->source.len);
    push_sets(L, job);
    lua_call(L, 3, 2); /* root or nil, errors */
    append_text(L, job->errors);
    lua_pop(L, 1);
    if (lua_isnil(L, -1))
        return 0;
    int root = lua_gettop(L);
    if (job->root)
        fill_node(L, root, *job->root);
    if (job->text) {
        lua_getfield(L, config, "show");
        lua_pushvalue(L, root);
        lua_pushstring(L, job->format == MR_CONFIG_JSON ? "json" : "lua");
        lua_call(L, 2, 1);
        append_text(L, job->text);
    }
    job->done = true;
    return 0;
}

static int docs_job(lua_State *L)
{
    struct job *job = lua_touserdata(L, 1);
    mr_config_open_module(L, NULL, "config");
    lua_getfield(L, -1, "docs");
    lua_call(L, 0, 1);
    append_text(L, job->text);
    return 0;
}

static bool read_file(const char *path, struct mr_buf *out)
{
    bool done = false;
    FILE *file = fopen(path, "re");
    if (!file)
        return false;
    for (;;) {
        enum { STEP = 16 * 1024, FILE_MAX_BYTES = 16 * 1024 * 1024 };
        if (out->len > FILE_MAX_BYTES) { /* such as a device */
            errno = EFBIG;
            goto out;
        }
        size_t got = fread(mr_buf_reserve(out, STEP), 1, STEP, file);
        mr_buf_commit(out, got);
        if (got < STEP)
            break;
    }
    done = !ferror(file);
out:
    fclose(file);
    return done;
}

static bool run(struct job *job)
{
    struct mr_host *host = NULL;
    struct mr_error err = {0};
    bool done = false;
    errno = 0;
    if (!read_file(job->path, &job->source)) {
        mr_buf_printf(job->errors,
                      "%s:1:1: error: config: cannot be read: %s; name a file with -c\n", job->path,
                      strerror(errno));
        goto out;
    }
    if (!mr_host_new(&limits, &host, &err) || !mr_host_call(host, load_job, job, &err)) {
        if (strcmp(err.class_, "script_timeout") == 0)
            mr_buf_printf(
                job->errors,
                "%s:1:1: error: Lua: it ran for more than %d s; is there a loop without end?\n",
                job->path, (int)(limits.time_ms / 1000));
        else
            mr_buf_printf(job->errors, "%s:1:1: error: Lua: %s\n", job->path, err.msg);
        goto out;
    }
    done = job->done;
out:
    mr_host_free(host);
    mr_buf_fini(&job->source);
    return done;
}

bool mr_config_load(const char *path, const char *const *sets, size_t n_sets,
                    const struct mr_config_checks *checks, struct mr_node **out,
                    struct mr_buf *errors)
{
    struct mr_node *root = mr_node_new_root();
    struct job job = {.path = path,
                      .sets = sets,
                      .n_sets = n_sets,
                      .checks = checks,
                      .root = &root,
                      .errors = errors};
    bool done = run(&job);
    if (!done) {
        mr_node_free(root);
        root = NULL;
    }
    *out = root;
    return done;
}

bool mr_config_show(const char *path, const char *const *sets, size_t n_sets,
                    const struct mr_config_checks *checks, enum mr_config_format format,
                    struct mr_buf *text, struct mr_buf *errors)
{
    struct job job = {.path = path,
                      .sets = sets,
                      .n_sets = n_sets,
                      .checks = checks,
                      .text = text,
                      .format = format,
                      .errors = errors};
    return run(&job);
}

bool mr_config_docs(struct mr_buf *text, struct mr_error *err)
{
    struct mr_host *host = NULL;
    struct job job = {.text = text};
    bool done = mr_host_new(&limits, &host, err) && mr_host_call(host, docs_job, &job, err);
    mr_host_free(host);
    return done;
}
