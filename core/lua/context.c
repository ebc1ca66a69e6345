/*
 * context.c - ctx, its headers, log and counters.
 *
 * Inside the gate, on the worker's thread. Owns nothing. One small userdata a message: reading a
 * field is one table look-up and a switch. Headers are asked of the source only when the script
 * does. Must not know what the script is for. Tests: tests/spec/context_spec.lua.
 */
#include "lua/context.h"

#include "base/metrics.h"
#include "base/text.h"
#include "lua/json.h"
#include "lua/slots.h"

#include <lauxlib.h>
#include <lua.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

static const char headers_meta_key = 'h';

enum field {
    F_NOW = 1,
    F_NOW_MS,
    F_TOPIC,
    F_PARTITION,
    F_OFFSET,
    F_KEY,
    F_VALUE,
    F_TIMESTAMP_MS,
    F_HEADERS,
    F_ATTEMPT,
    F_BUNDLE,
    F_VARS, /* these three are values of the state: upvalues of l_ctx_index */
    F_LOG,
    F_COUNT
};
static const char *const field_names[] = {
    "now",          "now_ms",  "topic",   "partition", "offset", "key", "value",
    "timestamp_ms", "headers", "attempt", "bundle",    "vars",   "log", "count",
};
enum { N_FIELDS = sizeof field_names / sizeof *field_names, UP_IDS = 1, UP_VARS, UP_LOG, UP_COUNT };

static void push_bytes(lua_State *L, struct mr_bytes bytes)
{
    if (bytes.ptr)
        lua_pushlstring(L, bytes.ptr, bytes.len);
    else
        lua_pushlightuserdata(L, NULL);
}

static struct mr_view *view_of(lua_State *L, struct mr_view *const *handle)
{
    if (!*handle)
        luaL_error(L, "ctx is used after its message was done: it lives for one message only");
    return *handle;
}

/* --- headers --- */

static struct mr_view *headers_view(lua_State *L)
{
    lua_getiuservalue(L, 1, 1);
    struct mr_view *view = view_of(L, lua_touserdata(L, -1));
    lua_pop(L, 1);
    if (!view->headers_read && view->source)
        view->source->ops->headers(view->source, view->rec);
    view->headers_read = true;
    return view;
}

/* headers.name: the last of that name; headers[i]: the pair { name, value }. */
static int l_headers_index(lua_State *L)
{
    const struct mr_record *rec = headers_view(L)->rec;
    if (lua_isinteger(L, 2)) {
        lua_Integer i = lua_tointeger(L, 2);
        if (i < 1 || (lua_Unsigned)i > rec->n_headers)
            return 0;
        lua_createtable(L, 2, 0);
        push_bytes(L, rec->headers[i - 1].name);
        lua_rawseti(L, -2, 1);
        push_bytes(L, rec->headers[i - 1].value);
        lua_rawseti(L, -2, 2);
        return 1;
    }
    size_t len;
    const char *name = luaL_checklstring(L, 2, &len);
    for (size_t i = rec->n_headers; i-- > 0;)
        if (rec->headers[i].name.len == len && memcmp(rec->headers[i].name.ptr, name, len) == 0) {
            push_bytes(L, rec->headers[i].value);
            return 1;
        }
    return 0;
}

static int l_headers_len(lua_State *L)
{
    lua_settop(L, 1);
    lua_pushinteger(L, (lua_Integer)headers_view(L)->rec->n_headers);
    return 1;
}

static int l_read_only(lua_State *L)
{
    return luaL_error(L, "ctx is read-only");
}

/* --- log and count --- */

enum { LOG_MAX = 8192 }; /* bytes of a line; the rest is cut off */

static int l_log(lua_State *L)
{
    struct mr_view *view = lua_touserdata(L, lua_upvalueindex(1));
    enum mr_level level = (enum mr_level)lua_tointeger(L, lua_upvalueindex(2));
    int n = lua_gettop(L);
    if (view->quiet)
        return 0;
    luaL_Buffer line;
    luaL_buffinit(L, &line);
    for (int i = 1; i <= n; i++) {
        luaL_tolstring(L, i, NULL);
        luaL_addvalue(&line);
        if (i < n)
            luaL_addchar(&line, ' ');
    }
    luaL_pushresult(&line);
    const char *whole = lua_tostring(L, -1);
    char *text = mr_strndup(whole, strnlen(whole, LOG_MAX)); /* nothing raises while it is there */
    mr_text_clean(text);
    const struct mr_record *rec = view->rec;
    if (rec)
        mr_log_every(&view->gate, level, "script: %s (%s/%" PRId32 "@%" PRId64 ")", text,
                     rec->topic, rec->partition, rec->offset);
    else
        mr_log_every(&view->gate, level, "script: %s", text);
    free(text);
    return 0;
}

/* ctx.log(text) is ctx.log.info(text); the first argument is the table itself. */
static int l_log_call(lua_State *L)
{
    lua_remove(L, 1);
    return l_log(L);
}

enum { COUNTERS_KEPT = 200 }; /* as many as the registry of metrics keeps apart */

/* The metric of the name at stack index 1; found once, then kept in the table of upvalue 2. */
static struct mr_metric *counter(lua_State *L, const struct mr_view *view)
{
    lua_pushvalue(L, 1);
    lua_rawget(L, lua_upvalueindex(2));
    struct mr_metric *metric = lua_touserdata(L, -1);
    lua_pop(L, 1);
    if (metric)
        return metric;
    struct mr_buf labels; /* nothing raises while it is there */
    mr_buf_init(&labels);
    mr_metrics_label(&labels, "pipeline", view->pipeline);
    mr_metrics_label(&labels, "name", lua_tostring(L, 1));
    metric = mr_metrics_get(MR_COUNTER, "millrace_script_count_total",
                            "What the script counts by ctx.count(name).", mr_buf_cstr(&labels));
    mr_buf_fini(&labels);
    lua_Integer kept = lua_tointeger(L, lua_upvalueindex(3));
    if (kept < COUNTERS_KEPT) {
        lua_pushinteger(L, kept + 1);
        lua_replace(L, lua_upvalueindex(3));
        lua_pushvalue(L, 1);
        lua_pushlightuserdata(L, metric);
        lua_rawset(L, lua_upvalueindex(2));
    }
    return metric;
}

static int l_count(lua_State *L)
{
    const struct mr_view *view = lua_touserdata(L, lua_upvalueindex(1));
    if (lua_type(L, 1) != LUA_TSTRING)
        return luaL_error(L, "ctx.count takes a name (and a number): ctx.count(\"late\", 2)");
    lua_Number n = luaL_optnumber(L, 2, 1);
    luaL_argcheck(L, n >= 0 && n < HUGE_VAL, 2, "a counter only goes up, by a finite number");
    /* One name that is not UTF-8 would make the whole page of metrics unreadable. */
    size_t len;
    const char *name = lua_tolstring(L, 1, &len);
    if (!mr_text_utf8_valid(name, len))
        return luaL_error(L, "ctx.count: the name is not UTF-8");
    if (!view->quiet)
        mr_metric_add(counter(L, view), n);
    return 0;
}

static void make_log(lua_State *L, struct mr_view *view)
{
    static const char *const names[] = {"debug", "info", "warn", "error"};
    lua_createtable(L, 0, 4);
    for (int level = MR_DEBUG; level <= MR_ERROR; level++) {
        lua_pushlightuserdata(L, view);
        lua_pushinteger(L, level);
        lua_pushcclosure(L, l_log, 2);
        lua_setfield(L, -2, names[level]);
    }
    lua_createtable(L, 0, 1);
    lua_pushlightuserdata(L, view);
    lua_pushinteger(L, MR_INFO);
    lua_pushcclosure(L, l_log_call, 2);
    lua_setfield(L, -2, "__call");
    lua_setmetatable(L, -2);
}

/* --- ctx --- */

static int unknown_field(lua_State *L)
{
    if (lua_type(L, 2) != LUA_TSTRING)
        return luaL_error(L, "ctx has fields by name, not %s keys", luaL_typename(L, 2));
    const char *name = lua_tostring(L, 2);
    const char *near = mr_text_nearest(name, field_names, N_FIELDS);
    if (near)
        return luaL_error(L, "ctx has no field '%s' (did you mean '%s'?)", name, near);
    return luaL_error(L, "ctx has no field '%s'", name);
}

static int64_t floor_seconds(int64_t ms)
{
    return ms >= 0 ? ms / 1000 : -((999 - ms) / 1000);
}

static void push_headers(lua_State *L)
{
    lua_newuserdatauv(L, 0, 1);
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, 1);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &headers_meta_key);
    lua_setmetatable(L, -2);
}

/* Without a message, in init and tick. */
static bool is_of_message(lua_Integer field)
{
    return (field >= F_TOPIC && field <= F_ATTEMPT);
}

static int l_ctx_index(lua_State *L)
{
    const struct mr_view *view = view_of(L, lua_touserdata(L, 1));
    lua_pushvalue(L, 2);
    lua_rawget(L, lua_upvalueindex(UP_IDS));
    lua_Integer field = lua_tointeger(L, -1);
    if (!view->rec && is_of_message(field))
        return luaL_error(L, "ctx.%s is not there: init and tick have no message",
                          lua_tostring(L, 2));
    switch (field) {
    case F_NOW:
        lua_pushinteger(L, floor_seconds(view->ctx->now_ms));
        return 1;
    case F_NOW_MS:
        lua_pushinteger(L, view->ctx->now_ms);
        return 1;
    case F_TOPIC:
        lua_pushstring(L, view->rec->topic);
        return 1;
    case F_PARTITION:
        lua_pushinteger(L, view->rec->partition);
        return 1;
    case F_OFFSET:
        lua_pushinteger(L, view->rec->offset);
        return 1;
    case F_KEY:
        push_bytes(L, view->rec->key);
        return 1;
    case F_VALUE:
        push_bytes(L, view->rec->value);
        return 1;
    case F_TIMESTAMP_MS:
        if (view->rec->timestamp_ms < 0)
            return 0;
        lua_pushinteger(L, view->rec->timestamp_ms);
        return 1;
    case F_HEADERS:
        push_headers(L);
        return 1;
    case F_ATTEMPT:
        lua_pushinteger(L, view->ctx->attempt);
        return 1;
    case F_BUNDLE:
        lua_pushstring(L, view->bundle);
        return 1;
    case F_VARS:
        lua_pushvalue(L, lua_upvalueindex(UP_VARS));
        return 1;
    case F_LOG:
        lua_pushvalue(L, lua_upvalueindex(UP_LOG));
        return 1;
    case F_COUNT:
        lua_pushvalue(L, lua_upvalueindex(UP_COUNT));
        return 1;
    default:
        return unknown_field(L);
    }
}

/* The configuration's `vars` as a Lua value. */
static void push_node(lua_State *L, const struct mr_node *node)
{
    luaL_checkstack(L, 8, NULL);
    switch (node->kind) {
    case MR_NODE_STRING:
        lua_pushstring(L, node->text);
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
    case MR_NODE_TABLE:
    case MR_NODE_LIST:
        break;
    }
    lua_newtable(L);
    lua_Integer i = 0;
    for (const struct mr_node *child = node->children; child; child = child->next) {
        push_node(L, child);
        if (node->kind == MR_NODE_LIST)
            lua_rawseti(L, -2, ++i);
        else
            lua_setfield(L, -2, child->name);
    }
    if (node->kind == MR_NODE_LIST) {
        mr_json_push_array_meta(L);
        lua_setmetatable(L, -2);
    }
}

static void close_meta(lua_State *L, const char *name)
{
    lua_pushcfunction(L, l_read_only);
    lua_setfield(L, -2, "__newindex");
    lua_pushstring(L, name);
    lua_setfield(L, -2, "__name");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
}

void mr_context_open(lua_State *L, struct mr_view *view, const struct mr_node *vars)
{
    lua_createtable(L, 0, 6);
    lua_pushcfunction(L, l_headers_index);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, l_headers_len);
    lua_setfield(L, -2, "__len");
    close_meta(L, "ctx.headers");
    lua_rawsetp(L, LUA_REGISTRYINDEX, &headers_meta_key);

    lua_createtable(L, 0, 6);
    lua_createtable(L, 0, N_FIELDS);
    for (int i = 0; i < N_FIELDS; i++) {
        lua_pushinteger(L, i + 1);
        lua_setfield(L, -2, field_names[i]);
    }
    if (vars)
        push_node(L, vars);
    else
        lua_newtable(L);
    make_log(L, view);
    lua_pushlightuserdata(L, view);
    lua_newtable(L);
    lua_pushinteger(L, 0);
    lua_pushcclosure(L, l_count, 3);
    lua_pushcclosure(L, l_ctx_index, 4);
    lua_setfield(L, -2, "__index");
    close_meta(L, "ctx");
    lua_rawseti(L, LUA_REGISTRYINDEX, MR_SLOT_CTX_META);
}

void mr_context_push(lua_State *L, struct mr_view *view)
{
    if (view->handle) {
        lua_rawgeti(L, LUA_REGISTRYINDEX, MR_SLOT_CTX);
        return;
    }
    struct mr_view **handle = lua_newuserdatauv(L, sizeof *handle, 0);
    *handle = view;
    lua_rawgeti(L, LUA_REGISTRYINDEX, MR_SLOT_CTX_META);
    lua_setmetatable(L, -2);
    lua_pushvalue(L, -1); /* kept, so that the handle stays where it is until mr_context_end */
    lua_rawseti(L, LUA_REGISTRYINDEX, MR_SLOT_CTX);
    view->handle = handle;
}

void mr_context_end(struct mr_view *view)
{
    if (view->handle)
        *view->handle = NULL;
    view->handle = NULL;
    view->rec = NULL;
    view->headers_read = false;
}
