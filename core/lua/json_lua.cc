/*
 * json_lua.cc - what was parsed as Lua values.
 *
 * One thread, inside the gate. Owns nothing: the names that are kept stand in the state.
 * mr_json_push can be left by a longjmp: on its way stand only simdjson's views, which have nothing
 * to destroy (asserted below). Must not know messages or scripts. Tests: tests/unit/test_json.c,
 * tests/spec/json_spec.lua.
 */
#include "lua/json_parser.h"
#include "lua/slots.h"

#include <lua.hpp>

#include <type_traits>

namespace dom = simdjson::dom;

static_assert(std::is_trivially_destructible_v<dom::element> &&
                  std::is_trivially_destructible_v<dom::array> &&
                  std::is_trivially_destructible_v<dom::object>,
              "a longjmp passes these");

enum { NAMES = 128 };

/*
 * Messages repeat their names: the Lua strings of those seen lately are kept, so that a name costs
 * a comparison instead of a hash over all of it. It lives in the state, in a userdata beside the
 * table that holds the strings.
 */
struct name_cache {
    struct {
        const char *text; /* inside the Lua string names[i + 1] */
        size_t len;
    } slots[NAMES];
};

/* What the functions below need: where array metatable and names stand on the stack. */
struct pusher {
    lua_State *L;
    struct mr_error *err;
    struct name_cache *cache;
    int meta, names;
};

/* Pushes two values: the names and the array metatable. */
static void open_pusher(struct pusher *p)
{
    lua_State *L = p->L;
    if (lua_rawgeti(L, LUA_REGISTRYINDEX, MR_SLOT_NAMES) != LUA_TUSERDATA) {
        lua_pop(L, 1);
        void *cache = lua_newuserdatauv(L, sizeof *p->cache, 1);
        memset(cache, 0, sizeof *p->cache);
        lua_createtable(L, NAMES, 0);
        lua_setiuservalue(L, -2, 1);
        lua_pushvalue(L, -1);
        lua_rawseti(L, LUA_REGISTRYINDEX, MR_SLOT_NAMES);
    }
    p->cache = static_cast<struct name_cache *>(lua_touserdata(L, -1));
    lua_getiuservalue(L, -1, 1);
    lua_remove(L, -2);
    p->names = lua_gettop(L);
    mr_json_push_array_meta(L);
    p->meta = p->names + 1;
}

static void push_name(const struct pusher *p, std::string_view name)
{
    size_t len = name.size();
    if (len == 0 || len > 64) {
        lua_pushlstring(p->L, name.data(), len);
        return;
    }
    size_t i =
        (len * 31 + size_t{7} * (unsigned char)name[len / 2] + (unsigned char)name[len - 1]) %
        NAMES;
    auto &slot = p->cache->slots[i];
    if (slot.text && slot.len == len && memcmp(slot.text, name.data(), len) == 0) {
        lua_rawgeti(p->L, p->names, (lua_Integer)i + 1);
        return;
    }
    slot.text = NULL;
    lua_pushlstring(p->L, name.data(), len);
    lua_pushvalue(p->L, -1);
    lua_rawseti(p->L, p->names, (lua_Integer)i + 1);
    slot.text = lua_tostring(p->L, -1);
    slot.len = len;
}

static bool push_value(const struct pusher *p, dom::element value, int depth);

static bool push_array(const struct pusher *p, dom::array array, int depth)
{
    lua_State *L = p->L;
    size_t size = array.size();
    lua_createtable(L, size < 1 << 20 ? (int)size : 1 << 20, 0);
    lua_Integer i = 0;
    for (dom::element item : array) {
        if (!push_value(p, item, depth)) {
            lua_pop(L, 1);
            return false;
        }
        lua_rawseti(L, -2, ++i);
    }
    lua_pushvalue(L, p->meta);
    lua_setmetatable(L, -2);
    return true;
}

static bool push_object(const struct pusher *p, dom::object object, int depth)
{
    lua_State *L = p->L;
    size_t size = object.size();
    lua_createtable(L, 0, size < 1 << 16 ? (int)size : 1 << 16);
    for (dom::key_value_pair field : object) {
        push_name(p, field.key);
        if (!push_value(p, field.value, depth)) {
            lua_pop(L, 2);
            return false;
        }
        lua_rawset(L, -3);
    }
    return true;
}

static bool push_value(const struct pusher *p, dom::element value, int depth)
{
    lua_State *L = p->L;
    switch (value.type()) {
    case dom::element_type::STRING: {
        std::string_view text = value.get_string().value_unsafe();
        lua_pushlstring(L, text.data(), text.size());
        return true;
    }
    case dom::element_type::INT64:
        lua_pushinteger(L, value.get_int64().value_unsafe());
        return true;
    case dom::element_type::DOUBLE:
        lua_pushnumber(L, value.get_double().value_unsafe());
        return true;
    case dom::element_type::BOOL:
        lua_pushboolean(L, value.get_bool().value_unsafe());
        return true;
    case dom::element_type::NULL_VALUE:
        lua_pushlightuserdata(L, NULL);
        return true;
    case dom::element_type::UINT64:
        return mr_error_reject(
            p->err, "decode", "the integer %llu is too large: integers end at %lld",
            (unsigned long long)value.get_uint64().value_unsafe(), (long long)INT64_MAX);
    case dom::element_type::ARRAY:
    case dom::element_type::OBJECT:
        break;
    }
    if (depth >= MR_JSON_DEPTH_MAX)
        return mr_error_reject(p->err, "decode", "the value is nested more than %d levels deep",
                               MR_JSON_DEPTH_MAX);
    luaL_checkstack(L, 6, NULL);
    if (value.type() == dom::element_type::ARRAY)
        return push_array(p, value.get_array().value_unsafe(), depth + 1);
    return push_object(p, value.get_object().value_unsafe(), depth + 1);
}

bool mr_json_push(struct mr_json *json, lua_State *L, struct mr_error *err)
{
    struct pusher p = {L, err, NULL, 0, 0};
    luaL_checkstack(L, 8, NULL);
    open_pusher(&p);
    bool done = push_value(&p, json->root, 0);
    if (done)
        lua_replace(L, p.names);
    lua_settop(L, done ? p.names : p.names - 1);
    return done;
}

void mr_json_push_look(lua_State *L, const struct mr_json_look *look)
{
    if (!look->found) {
        lua_pushnil(L);
        return;
    }
    switch (look->kind) {
    case MR_JSON_NULL:
        lua_pushlightuserdata(L, NULL);
        return;
    case MR_JSON_BOOL:
        lua_pushboolean(L, look->is_true);
        return;
    case MR_JSON_INT:
        lua_pushinteger(L, look->i);
        return;
    case MR_JSON_NUMBER:
        lua_pushnumber(L, look->f);
        return;
    case MR_JSON_STRING:
        lua_pushlstring(L, look->text.ptr, look->text.len);
        return;
    case MR_JSON_OBJECT:
    case MR_JSON_ARRAY:
        break;
    }
    mr_assert(!"a look that found no scalar is pushed");
}

void mr_json_push_array_meta(lua_State *L)
{
    if (lua_rawgeti(L, LUA_REGISTRYINDEX, MR_SLOT_ARRAY_META) == LUA_TTABLE)
        return;
    lua_pop(L, 1);
    lua_createtable(L, 0, 2);
    lua_pushliteral(L, "array");
    lua_setfield(L, -2, "__name");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_pushvalue(L, -1);
    lua_rawseti(L, LUA_REGISTRYINDEX, MR_SLOT_ARRAY_META);
}

bool mr_json_is_array(lua_State *L, int index)
{
    index = lua_absindex(L, index);
    bool is = false;
    if (lua_getmetatable(L, index)) {
        mr_json_push_array_meta(L);
        is = lua_rawequal(L, -1, -2);
        lua_pop(L, 2);
    }
    if (!is) {
        is = lua_rawgeti(L, index, 1) != LUA_TNIL;
        lua_pop(L, 1);
    }
    return is;
}
