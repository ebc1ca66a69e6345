/*
 * module_run.c - one message of a spec through the real pipeline, and what came of it as a Lua
 * table.
 *
 * For millrace.so and `millrace test`; the thread of the spec. Owns nothing: record, unit and table
 * belong to the object (module.h), so that a raise loses nothing. The way of the message is
 * stream/pipeline.c itself, by a trial (stream/trial.h). Must not know scripts from inside. Tests:
 * all specs.
 */
#include "lua/module.h"

#include <lauxlib.h>
#include <lua.h>

/* --- what the script reads --- */

static struct mr_bytes bytes_at(lua_State *L, int index)
{
    struct mr_bytes bytes = {NULL, 0};
    if (lua_type(L, index) == LUA_TSTRING)
        bytes.ptr = lua_tolstring(L, index, &bytes.len);
    return bytes;
}

/* headers = { { name, value }, ... }; the strings are held by the argument. */
static void read_headers(lua_State *L, struct mr_module_object *object)
{
    if (lua_getfield(L, 2, "headers") != LUA_TTABLE) {
        lua_pop(L, 1);
        return;
    }
    size_t n = lua_rawlen(L, -1);
    luaL_argcheck(L, n <= MR_MODULE_HEADERS, 2, "at most 64 headers");
    for (size_t i = 0; i < n; i++) {
        lua_rawgeti(L, -1, (lua_Integer)i + 1);
        luaL_argcheck(L, lua_istable(L, -1), 2, "a header is { name, value }");
        lua_rawgeti(L, -1, 1);
        lua_rawgeti(L, -2, 2);
        object->headers[i] = (struct mr_header){.name = bytes_at(L, -2), .value = bytes_at(L, -1)};
        lua_pop(L, 3);
    }
    object->rec.headers = object->headers;
    object->rec.n_headers = n;
    lua_pop(L, 1);
}

/* now = 1.5 means 1500 ms. */
static int64_t read_now(lua_State *L)
{
    lua_getfield(L, 2, "now");
    double seconds = luaL_optnumber(L, -1, 0);
    lua_pop(L, 1);
    return (int64_t)(seconds * 1000 + (seconds < 0 ? -0.5 : 0.5));
}

static int64_t integer(lua_State *L, const char *name, int64_t otherwise)
{
    lua_getfield(L, 2, name);
    int64_t value = luaL_optinteger(L, -1, otherwise);
    lua_pop(L, 1);
    return value;
}

/* value: a string, or nil / null for a tombstone. The strings stay in the argument's table. */
static void read_record(lua_State *L, struct mr_module_object *object)
{
    lua_getfield(L, 2, "topic");
    const char *topic = luaL_optstring(L, -1, "topic_in");
    lua_pop(L, 1);
    object->rec = (struct mr_record){
        .topic = topic,
        .partition = (int32_t)integer(L, "partition", 0),
        .offset = integer(L, "offset", 0),
        .timestamp_ms = integer(L, "timestamp_ms", -1),
    };
    lua_getfield(L, 2, "value");
    object->rec.value = bytes_at(L, -1);
    lua_getfield(L, 2, "key");
    object->rec.key = bytes_at(L, -1);
    lua_pop(L, 2);
    read_headers(L, object);
    mr_trial_set_attempt(object->trial, (int)integer(L, "attempt", 0));
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
        at = mr_frame_header(at, &name, &value);
        lua_createtable(L, 2, 0);
        push_bytes(L, name);
        lua_rawseti(L, -2, 1);
        push_bytes(L, value);
        lua_rawseti(L, -2, 2);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
}

static void push_message(lua_State *L, const struct mr_module_object *object,
                         const struct mr_trial_output *output)
{
    lua_createtable(L, 0, 5);
    push_bytes(L, output->key);
    lua_setfield(L, -2, "key");
    push_bytes(L, output->value);
    lua_setfield(L, -2, "value");
    push_headers(L, output->headers.ptr, output->frame.n_headers);
    lua_setfield(L, -2, "headers");
    mr_assert(output->frame.topic < object->options.n_topics);
    lua_pushstring(L, object->options.topics[output->frame.topic]);
    lua_setfield(L, -2, "topic");
    lua_pushinteger(L, output->frame.timestamp_ms);
    lua_setfield(L, -2, "timestamp_ms");
}

/* Onto result.messages and .rows. What raises here is out of memory only. */
static void take_output(void *arg, const struct mr_trial_output *output)
{
    struct mr_module_object *object = arg;
    lua_State *L = object->L;
    if (output->has_message) {
        push_message(L, object, output);
        lua_rawseti(L, object->messages_at, (lua_Integer)lua_rawlen(L, object->messages_at) + 1);
    }
    if (output->has_row) {
        mr_module_push_row(L, object->options.rows, output->set, output->row);
        lua_rawseti(L, object->rows_at, (lua_Integer)lua_rawlen(L, object->rows_at) + 1);
    }
}

void mr_module_begin(struct mr_module_object *object)
{
    struct mr_trial_options options = {
        .script = object->script,
        .lookup = object->lookup,
        .columns = object->options.lookup,
        .rows = object->options.rows,
        .chunk_outputs = object->chunk_outputs,
        .chunk_bytes = object->chunk_bytes,
        .max_message_bytes = object->max_message_bytes,
        .output = take_output,
        .arg = object,
    };
    mr_trial_free(object->trial);
    object->trial = mr_trial_new(&options);
}

/* s:tick { now = }: true, or nil, the error text and its class. */
int mr_module_tick(lua_State *L, struct mr_module_object *object)
{
    struct mr_error err;
    luaL_checktype(L, 2, LUA_TTABLE);
    struct mr_context ctx = {.now_ms = read_now(L)};
    if (object->script->ops->tick(object->script, &ctx, &err)) {
        lua_pushboolean(L, 1);
        return 1;
    }
    lua_pushnil(L);
    lua_pushstring(L, err.msg);
    lua_pushstring(L, err.class_);
    return 3;
}

int mr_module_process(lua_State *L, struct mr_module_object *object)
{
    struct mr_error err;
    struct mr_trial_result trial;
    luaL_checktype(L, 2, LUA_TTABLE);
    int64_t now_ms = read_now(L);
    read_record(L, object);
    if (object->lookup && lua_getfield(L, 2, "rows") != LUA_TNIL)
        mr_module_fill(L, lua_gettop(L), object);
    lua_settop(L, 2);
    lua_createtable(L, 0, 6);
    int result = lua_gettop(L);
    object->L = L;
    object->messages_at = result + 1;
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
