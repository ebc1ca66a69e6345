/*
 * json.cc - simdjson's DOM to Lua values: the only C++ of the tree.
 *
 * One thread. Owns the parser and a padded copy of the text. mr_json_push can be left by a longjmp:
 * on its way stand only simdjson's views, which have nothing to destroy (asserted below). The
 * on-demand parser serves the error path alone: it knows where it stopped, which the DOM does not.
 * Must not know messages or scripts. Tests: tests/unit/test_json.c, tests/spec/json_spec.lua.
 */
extern "C" {
#include "lua/json.h"

#include "base/text.h"
}

#include <lua.hpp>
#include <simdjson.h>

#include <new>
#include <type_traits>

namespace dom = simdjson::dom;
namespace ondemand = simdjson::ondemand;

static_assert(std::is_trivially_destructible_v<dom::element> &&
                  std::is_trivially_destructible_v<dom::array> &&
                  std::is_trivially_destructible_v<dom::object>,
              "a longjmp passes these");

struct mr_json {
    dom::parser parser;
    ondemand::parser picker;
    dom::element root;
    struct mr_buf text; /* with SIMDJSON_PADDING behind */
};

static const char array_meta_key = 'a'; /* its address is the key in the registry */

struct mr_json *mr_json_new(void)
{
    struct mr_json *json = new (std::nothrow) mr_json;
    mr_assert(json);
    mr_buf_init(&json->text);
    /* One level more than we allow: simdjson does not count an empty container. */
    simdjson::error_code failed = json->parser.allocate(4096, MR_JSON_DEPTH_MAX + 1);
    mr_assert(!failed);
    return json;
}

void mr_json_free(struct mr_json *json)
{
    if (!json)
        return;
    mr_buf_fini(&json->text);
    delete json;
}

/* --- what is wrong, and where --- */

/* Walks a value to the first error. */
template <typename V> static simdjson::error_code walk(V value, int depth) noexcept
{
    if (depth > MR_JSON_DEPTH_MAX)
        return simdjson::DEPTH_ERROR;
    ondemand::json_type type;
    SIMDJSON_TRY(value.type().get(type));
    switch (type) {
    case ondemand::json_type::array: {
        ondemand::array array;
        SIMDJSON_TRY(value.get_array().get(array));
        for (auto item : array) {
            ondemand::value inner;
            SIMDJSON_TRY(item.get(inner));
            SIMDJSON_TRY(walk(inner, depth + 1));
        }
        return simdjson::SUCCESS;
    }
    case ondemand::json_type::object: {
        ondemand::object object;
        SIMDJSON_TRY(value.get_object().get(object));
        for (auto item : object) {
            ondemand::field field;
            SIMDJSON_TRY(std::move(item).get(field));
            std::string_view name;
            SIMDJSON_TRY(field.unescaped_key().get(name));
            ondemand::value inner = field.value();
            SIMDJSON_TRY(walk(inner, depth + 1));
        }
        return simdjson::SUCCESS;
    }
    case ondemand::json_type::string: {
        std::string_view text;
        return value.get_string().get(text);
    }
    case ondemand::json_type::number: {
        ondemand::number number;
        return value.get_number().get(number);
    }
    case ondemand::json_type::boolean: {
        bool b;
        return value.get_bool().get(b);
    }
    case ondemand::json_type::null: {
        bool null;
        SIMDJSON_TRY(value.is_null().get(null));
        return null ? simdjson::SUCCESS : simdjson::N_ATOM_ERROR;
    }
    }
    return simdjson::TAPE_ERROR;
}

/* The byte at which the text stops being JSON, or SIZE_MAX. */
static size_t broken_at(const struct mr_json *json) noexcept
{
    ondemand::parser parser;
    ondemand::document doc;
    const char *text = json->text.ptr;
    size_t len = json->text.len;
    if (parser.iterate(simdjson::padded_string_view(text, len, len + simdjson::SIMDJSON_PADDING))
            .get(doc))
        return SIZE_MAX;
    /* If the walk comes through, it stands before what is too much. */
    ondemand::value value;
    if (doc.get_value().get(value) == simdjson::SUCCESS)
        (void)walk(value, 1);
    const char *at;
    if (doc.current_location().get(at) || at < text || at > text + len)
        return SIZE_MAX;
    return (size_t)(at - text);
}

/* The first byte that is not UTF-8. Valid up to `good`, and no character is longer than 4 bytes. */
static size_t bad_utf8_at(const char *text, size_t len)
{
    size_t at = 0;
    while (at < len) {
        if ((unsigned char)text[at] < 0x80) {
            at++;
            continue;
        }
        size_t n = 2;
        while (n <= 4 && at + n <= len && !mr_text_utf8_valid(text + at, n))
            n++;
        if (n > 4 || at + n > len)
            return at;
        at += n;
    }
    return len;
}

static bool hex4(const char *p, unsigned *out)
{
    *out = 0;
    for (int i = 0; i < 4; i++) {
        char c = p[i];
        unsigned digit = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
                         : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a' + 10)
                         : c >= 'A' && c <= 'F' ? (unsigned)(c - 'A' + 10)
                                                : 16u;
        if (digit > 15)
            return false;
        *out = *out << 4 | digit;
    }
    return true;
}

enum class fault { none, escape, surrogate, control };

/* What is wrong with the escape at `at`; *len is its length if nothing is. The text has padding
 * behind it. */
static fault check_escape(const char *at, size_t *len)
{
    unsigned unit, low;
    *len = 2;
    if (at[1] != 'u')
        return at[1] && strchr("\"\\/bfnrt", at[1]) ? fault::none : fault::escape;
    if (!hex4(at + 2, &unit))
        return fault::escape;
    *len = 6;
    if (unit < 0xd800 || unit > 0xdfff)
        return fault::none;
    *len = 12;
    bool paired = unit < 0xdc00 && at[6] == '\\' && at[7] == 'u' && hex4(at + 8, &low) &&
                  low >= 0xdc00 && low <= 0xdfff;
    return paired ? fault::none : fault::surrogate;
}

/* The first thing inside a string that JSON forbids, and where. simdjson says only that there is
 * one. */
static fault string_fault(const char *text, size_t len, size_t *where)
{
    bool in_string = false;
    for (size_t at = 0, step; at < len; at += step) {
        fault found = fault::none;
        step = 1;
        if (text[at] == '"')
            in_string = !in_string;
        else if (in_string && text[at] == '\\')
            found = check_escape(text + at, &step);
        else if (in_string && (unsigned char)text[at] < 0x20)
            found = fault::control;
        *where = at;
        if (found != fault::none)
            return found;
    }
    return fault::none;
}

/* A few bytes of the text from `at`, fit for an error message. */
static const char *excerpt(const struct mr_json *json, size_t at, char out[64])
{
    size_t n = json->text.len - at;
    bool cut = n > 24;
    const char *dots = cut ? "..." : "";
    n = cut ? 24 : n;
    while (cut && n > 0 && ((unsigned char)json->text.ptr[at + n] & 0xc0) == 0x80)
        n--; /* not inside a character */
    char clean[32] = "";
    for (size_t i = 0; i < n; i++) {
        char c = json->text.ptr[at + i];
        clean[i] = (unsigned char)c < 0x20 || c == 0x7f ? ' ' : c;
    }
    if (!mr_text_utf8_valid(clean, n))
        for (size_t i = 0; i < n; i++)
            if ((unsigned char)clean[i] >= 0x80)
                clean[i] = '?';
    snprintf(out, 64, "%.*s%s", (int)n, clean, dots);
    return out;
}

static const char *what_is_wrong(simdjson::error_code code)
{
    switch (code) {
    case simdjson::NUMBER_ERROR:
        return "a number that is malformed or too large";
    case simdjson::STRING_ERROR:
        return "a malformed escape in a string";
    case simdjson::UNESCAPED_CHARS:
        return "a control character in a string that must be escaped";
    case simdjson::UNCLOSED_STRING:
        return "a string that is not closed";
    case simdjson::T_ATOM_ERROR:
    case simdjson::F_ATOM_ERROR:
    case simdjson::N_ATOM_ERROR:
        return "a word that is not true, false or null";
    default:
        return "a comma, colon, bracket, name or value is missing or too many";
    }
}

static bool explain(const struct mr_json *json, simdjson::error_code code, struct mr_error *err)
{
    char piece[64];
    const char *text = json->text.ptr;
    size_t len = json->text.len;
    if (code == simdjson::EMPTY)
        return mr_error_reject(err, "decode", "the value is %s: expected JSON",
                               len ? "blank" : "empty");
    if (code == simdjson::UTF8_ERROR) {
        size_t bad = bad_utf8_at(text, len);
        return mr_error_reject(err, "utf8", "the value is not UTF-8: byte 0x%02x at position %zu",
                               bad < len ? (unsigned)(unsigned char)text[bad] : 0u, bad);
    }
    if (code == simdjson::CAPACITY || code == simdjson::MEMALLOC)
        return mr_error_reject(err, "decode", "the value of %zu bytes is too large to parse", len);
    size_t at;
    if (code == simdjson::STRING_ERROR || code == simdjson::UNESCAPED_CHARS) {
        fault found = string_fault(text, len, &at);
        if (found == fault::surrogate)
            return mr_error_reject(err, "utf8",
                                   "a surrogate without its other half at position %zu: %s", at,
                                   excerpt(json, at, piece));
        if (found != fault::none)
            return mr_error_reject(err, "decode", "not JSON: %s, at position %zu: %s",
                                   what_is_wrong(code), at, excerpt(json, at, piece));
    }
    if (code == simdjson::DEPTH_ERROR)
        return mr_error_reject(err, "decode", "the value is nested more than %d levels deep",
                               MR_JSON_DEPTH_MAX);
    if (len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
        return mr_error_reject(err, "decode", "not JSON: it begins with a byte order mark");
    at = code == simdjson::UNCLOSED_STRING ? SIZE_MAX : broken_at(json);
    if (at == SIZE_MAX)
        return mr_error_reject(err, "decode", "not JSON: %s, in: %s", what_is_wrong(code),
                               excerpt(json, 0, piece));
    if (at == len)
        return mr_error_reject(err, "decode", "not JSON: %s, at the end (position %zu)",
                               what_is_wrong(code), at);
    return mr_error_reject(err, "decode", "not JSON: %s, at position %zu: %s", what_is_wrong(code),
                           at, excerpt(json, at, piece));
}

bool mr_json_parse(struct mr_json *json, struct mr_bytes text, struct mr_error *err)
{
    mr_buf_reset(&json->text);
    mr_buf_reserve(&json->text, text.len + simdjson::SIMDJSON_PADDING);
    mr_buf_put(&json->text, text.ptr, text.len);
    memset(json->text.ptr + text.len, 0, simdjson::SIMDJSON_PADDING);
    simdjson::error_code code =
        json->parser.parse(json->text.ptr, json->text.len, false).get(json->root);
    return code == simdjson::SUCCESS || explain(json, code, err);
}

/* --- to text --- */

/* Goes down the path; the value may be of any type. */
static simdjson::error_code find(ondemand::value value, std::string_view path,
                                 struct mr_buf *out) noexcept
{
    for (;;) {
        size_t dot = path.find('.');
        ondemand::object object;
        SIMDJSON_TRY(value.get_object().get(object));
        SIMDJSON_TRY(object.find_field_unordered(path.substr(0, dot)).get(value));
        if (dot == std::string_view::npos)
            break;
        path.remove_prefix(dot + 1);
    }
    ondemand::json_type type;
    SIMDJSON_TRY(value.type().get(type));
    std::string_view text;
    if (type == ondemand::json_type::null)
        return simdjson::NO_SUCH_FIELD;
    bool is_string = type == ondemand::json_type::string;
    SIMDJSON_TRY((is_string ? value.get_string() : simdjson::to_json_string(value)).get(text));
    while (!is_string && !text.empty() && strchr(" \t\r\n", text.back()))
        text.remove_suffix(1); /* simdjson's token goes up to the next one */
    mr_buf_put(out, text.data(), text.size());
    return simdjson::SUCCESS;
}

bool mr_json_pick(struct mr_json *json, const char *path, struct mr_buf *out)
{
    size_t len = json->text.len;
    simdjson::padded_string_view text(json->text.ptr, len, len + simdjson::SIMDJSON_PADDING);
    ondemand::document doc;
    ondemand::value root;
    return json->picker.iterate(text).get(doc) == simdjson::SUCCESS &&
           doc.get_value().get(root) == simdjson::SUCCESS &&
           find(root, path, out) == simdjson::SUCCESS;
}

using member_fn = void (*)(void *arg, struct mr_bytes name, enum mr_json_kind kind,
                           struct mr_bytes text);

static enum mr_json_kind kind_of(ondemand::json_type type, std::string_view text) noexcept
{
    switch (type) {
    case ondemand::json_type::null:
        return MR_JSON_NULL;
    case ondemand::json_type::boolean:
        return MR_JSON_BOOL;
    case ondemand::json_type::string:
        return MR_JSON_STRING;
    case ondemand::json_type::object:
        return MR_JSON_OBJECT;
    case ondemand::json_type::array:
        return MR_JSON_ARRAY;
    default:
        return text.find_first_of(".eE") == text.npos ? MR_JSON_INT : MR_JSON_NUMBER;
    }
}

static simdjson::error_code tell(ondemand::value value, std::string_view name, member_fn member,
                                 void *arg) noexcept
{
    ondemand::json_type type;
    std::string_view text;
    SIMDJSON_TRY(value.type().get(type));
    bool is_string = type == ondemand::json_type::string;
    SIMDJSON_TRY((is_string ? value.get_string() : simdjson::to_json_string(value)).get(text));
    while (!is_string && !text.empty() && strchr(" \t\r\n", text.back()))
        text.remove_suffix(1); /* simdjson's token goes up to the next one */
    member(arg, {name.data(), name.size()}, kind_of(type, text), {text.data(), text.size()});
    return simdjson::SUCCESS;
}

static simdjson::error_code each(ondemand::document &document, member_fn member, void *arg) noexcept
{
    ondemand::json_type type;
    SIMDJSON_TRY(document.type().get(type));
    if (type == ondemand::json_type::array) {
        ondemand::array array;
        SIMDJSON_TRY(document.get_array().get(array));
        for (auto item : array) {
            ondemand::value value;
            SIMDJSON_TRY(item.get(value));
            SIMDJSON_TRY(tell(value, {}, member, arg));
        }
        return simdjson::SUCCESS;
    }
    ondemand::object object;
    SIMDJSON_TRY(document.get_object().get(object));
    for (auto item : object) {
        ondemand::field field;
        std::string_view name;
        SIMDJSON_TRY(std::move(item).get(field));
        SIMDJSON_TRY(field.unescaped_key().get(name));
        ondemand::value value = field.value();
        SIMDJSON_TRY(tell(value, name, member, arg));
    }
    return simdjson::SUCCESS;
}

bool mr_json_each(struct mr_json *json, member_fn member, void *arg)
{
    ondemand::document document;
    if (json->picker
            .iterate(json->text.ptr, json->text.len, json->text.len + simdjson::SIMDJSON_PADDING)
            .get(document))
        return false;
    return !each(document, member, arg);
}

/* --- to Lua --- */

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

static const char name_cache_key = 'n';

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
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &name_cache_key) != LUA_TUSERDATA) {
        lua_pop(L, 1);
        void *cache = lua_newuserdatauv(L, sizeof *p->cache, 1);
        memset(cache, 0, sizeof *p->cache);
        lua_createtable(L, NAMES, 0);
        lua_setiuservalue(L, -2, 1);
        lua_pushvalue(L, -1);
        lua_rawsetp(L, LUA_REGISTRYINDEX, &name_cache_key);
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

void mr_json_push_array_meta(lua_State *L)
{
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &array_meta_key) == LUA_TTABLE)
        return;
    lua_pop(L, 1);
    lua_createtable(L, 0, 2);
    lua_pushliteral(L, "array");
    lua_setfield(L, -2, "__name");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &array_meta_key);
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
