/*
 * fuzz_json.c - JSON of a message: decoded into Lua, encoded, decoded again.
 *
 * What is refused has a class and a sentence in UTF-8. What is accepted survives the way there and
 * back: the same values, and a text that is its own encoding. A look at some members finds what the
 * table has, and takes what becomes a table, no more.
 */
#include "fuzz.h"

#include "base/text.h"
#include "lua/encode.h"
#include "lua/host.h"
#include "lua/json.h"
#include "lua/placeholder.h"
#include "lua/sandbox.h"

#include <lauxlib.h>
#include <lua.h>

struct state {
    struct mr_host *host;
    struct mr_json *json;
    struct mr_build build;
    struct mr_json_looks looks;
    struct mr_bytes text; /* of one job */
};

static int job_open(lua_State *L)
{
    static const bool live = true;
    mr_sandbox_open(L);
    mr_placeholder_open(L, NULL, false, &live);
    return 0;
}

static bool same(lua_State *L, int a, int b);

static bool same_table(lua_State *L, int a, int b)
{
    size_t n_a = 0, n_b = 0;
    if (mr_json_is_array(L, a) != mr_json_is_array(L, b))
        return false;
    for (lua_pushnil(L); lua_next(L, b); lua_pop(L, 1))
        n_b++;
    for (lua_pushnil(L); lua_next(L, a); lua_pop(L, 1)) {
        lua_pushvalue(L, -2);
        lua_rawget(L, b);
        bool equal = same(L, lua_gettop(L) - 1, lua_gettop(L));
        lua_pop(L, 1);
        if (!equal)
            return false;
        n_a++;
    }
    return n_a == n_b;
}

/* Equal down to the kind of number and the sign of zero. */
static bool same(lua_State *L, int a, int b)
{
    FUZZ_CHECK(lua_checkstack(L, 8), "the stack of Lua is full");
    if (lua_type(L, a) != lua_type(L, b) || lua_isinteger(L, a) != lua_isinteger(L, b))
        return false;
    if (lua_istable(L, a))
        return same_table(L, a, b);
    if (lua_type(L, a) == LUA_TNUMBER && !lua_isinteger(L, a)) {
        lua_Number x = lua_tonumber(L, a), y = lua_tonumber(L, b);
        return memcmp(&x, &y, sizeof x) == 0;
    }
    return lua_rawequal(L, a, b);
}

/* Parses and pushes; false if refused. */
static bool decode(lua_State *L, struct state *s, struct mr_bytes text)
{
    struct mr_error err = {0};
    int top = lua_gettop(L);
    bool done = mr_json_parse(s->json, text, &err) && mr_json_push(s->json, L, &err);
    FUZZ_CHECK(lua_gettop(L) == top + done, "%d on the stack", lua_gettop(L));
    if (done)
        return true;
    fuzz_check_reject(&err, " decode utf8 ");
    FUZZ_CHECK(mr_text_utf8_valid(err.msg, strlen(err.msg)), "the sentence is not UTF-8");
    return false;
}

static void encode(lua_State *L, int index, struct mr_build *build)
{
    struct mr_error err = {0};
    mr_build_reset(build);
    mr_build_begin(build);
    FUZZ_CHECK(mr_encode_json(L, index, build, "value", &err), "%s", err.msg);
    mr_build_end(build);
}

/* At index 1 stands what became of the text that was parsed last; nothing: it was refused. */
static void compare_looks(lua_State *L, struct state *s)
{
    bool is_object = lua_istable(L, 1) && !mr_json_is_array(L, 1);
    FUZZ_CHECK(mr_json_find(s->json, &s->looks) == is_object, "found in a value of type %s",
               luaL_typename(L, 1));
    for (size_t i = 0; is_object && i < s->looks.n; i++) {
        const struct mr_json_look *look = &s->looks.list[i];
        lua_pushstring(L, look->name);
        lua_rawget(L, 1);
        if (lua_istable(L, -1)) {
            FUZZ_CHECK(look->found &&
                           look->kind == (mr_json_is_array(L, -1) ? MR_JSON_ARRAY : MR_JSON_OBJECT),
                       "'%s' is no table", look->name);
        } else {
            mr_json_push_look(L, look);
            FUZZ_CHECK(same(L, lua_gettop(L) - 1, lua_gettop(L)), "another '%s'", look->name);
        }
        lua_settop(L, 1);
    }
}

static int job_round_trip(lua_State *L)
{
    struct state *s = lua_touserdata(L, 1);
    struct mr_buf first = {0};
    struct mr_error err = {0};
    lua_settop(L, 0);
    bool decoded = decode(L, s, s->text);
    if (decoded || mr_json_parse(s->json, s->text, &err))
        compare_looks(L, s);
    if (!decoded)
        return 0;
    encode(L, 1, &s->build);
    mr_buf_put(&first, s->build.bytes.ptr, s->build.bytes.len);
    struct mr_bytes text = {first.ptr, first.len};
    FUZZ_CHECK(decode(L, s, text), "its encoding is refused: %.*s", (int)text.len, text.ptr);
    FUZZ_CHECK(same(L, 1, 2), "another value: %.*s", (int)text.len, text.ptr);
    encode(L, 2, &s->build);
    FUZZ_CHECK(first.len == s->build.bytes.len &&
                   memcmp(first.ptr, s->build.bytes.ptr, first.len) == 0,
               "another text: %.*s", (int)text.len, text.ptr);
    mr_buf_fini(&first);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct state s;
    struct mr_error err = {0};
    if (!s.host) {
        struct mr_host_limits limits = {.memory_bytes = 256 << 20};
        FUZZ_CHECK(mr_host_new(&limits, &s.host, &err), "%s", err.msg);
        FUZZ_CHECK(mr_host_call(s.host, job_open, NULL, &err), "%s", err.msg);
        s.json = mr_json_new();
        static const char *const names[] = {"a", "b", "", "id"};
        for (; s.looks.n < sizeof names / sizeof *names; s.looks.n++)
            s.looks.list[s.looks.n] = (struct mr_json_look){.name = names[s.looks.n],
                                                            .name_len = strlen(names[s.looks.n])};
    }
    s.text = (struct mr_bytes){(const char *)data, size};
    FUZZ_CHECK(mr_host_call(s.host, job_round_trip, &s, &err), "%s", err.msg);
    return 0;
}
