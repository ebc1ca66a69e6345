/*
 * template.c - what shape returned as segments.
 *
 * Inside the gate, on the worker's thread. Owns the build and the interned column sets. What is the
 * same for all rows of a message is encoded here, once; placeholders become segments that stamp.c
 * fills in. The row: template_row.c. Must not know when it is called (script.c). Tests:
 * tests/spec/template_spec.lua.
 */
#include "lua/template.h"

#include "base/text.h"
#include "lua/encode.h"
#include "lua/json.h"
#include "lua/placeholder.h"
#include "lua/slots.h"

#include <lauxlib.h>
#include <lua.h>
#include <stdlib.h>

void mr_template_fini(struct mr_templates *templates)
{
    mr_layouts_fini(&templates->layouts);
    mr_build_fini(&templates->build);
    mr_build_fini(&templates->scratch);
    while (templates->sets) {
        struct mr_set_node *next = templates->sets->next;
        free(templates->sets);
        templates->sets = next;
    }
}

void mr_template_open(lua_State *L, struct mr_templates *templates)
{
    mr_layouts_fini(
        &templates->layouts); /* of the state before, which may have left in the middle */
    templates->build.layouts = templates->scratch.layouts = &templates->layouts;
    size_t n = templates->rows ? templates->rows->n : 0;
    lua_createtable(L, (int)n, 0);
    for (size_t i = 0; i < n; i++) {
        lua_pushstring(L, templates->rows->columns[i].name);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    lua_rawseti(L, LUA_REGISTRYINDEX, MR_SLOT_COLUMNS);
}

static bool is_null(lua_State *L, int index)
{
    return lua_islightuserdata(L, index) && !lua_touserdata(L, index);
}

static bool bare_run(lua_State *L, int index, struct mr_build *build, const char *what,
                     struct mr_seg_run *run, struct mr_error *err)
{
    if (is_null(L, index)) {
        *run = mr_build_absent();
        return true;
    }
    mr_build_begin(build);
    if (!mr_encode_bare(L, index, build, what, err))
        return false;
    *run = mr_build_end(build);
    return true;
}

static bool value_run(lua_State *L, int index, struct mr_build *build, struct mr_seg_run *run,
                      struct mr_error *err)
{
    switch (lua_type(L, index)) {
    case LUA_TTABLE:
        mr_build_begin(build);
        if (!mr_encode_json(L, index, build, "the message", err))
            return false;
        *run = mr_build_end(build);
        return true;
    case LUA_TSTRING:
    case LUA_TUSERDATA:
    case LUA_TLIGHTUSERDATA:
        return bare_run(L, index, build, "shape: the value", run, err);
    case LUA_TNIL:
        return mr_error_reject(err, "script",
                               "shape returned no value; for a tombstone return null");
    default:
        return mr_error_reject(err, "script",
                               "shape: the value is a %s; it can be a table (written as JSON), a "
                               "string, a placeholder, a fmt or null",
                               luaL_typename(L, index));
    }
}

static bool add_header(lua_State *L, int name, int value, struct mr_build *build,
                       struct mr_error *err)
{
    struct mr_template_header header;
    if (is_null(L, name) || lua_isnil(L, name))
        return mr_error_reject(err, "script", "shape: a header has no name");
    if (!bare_run(L, name, build, "shape: the name of a header", &header.name, err) ||
        !bare_run(L, value, build, "shape: the value of a header", &header.value, err))
        return false;
    mr_build_header(build, &header);
    return true;
}

/* { { name, value }, ... } */
static bool header_list(lua_State *L, int headers, struct mr_build *build, struct mr_error *err)
{
    lua_Integer n = (lua_Integer)lua_rawlen(L, headers);
    int top = lua_gettop(L);
    for (lua_Integer i = 1; i <= n; i++) {
        lua_rawgeti(L, headers, i);
        if (!lua_istable(L, -1)) {
            mr_error_reject(err, "script", "shape: header %d is a %s; expected { name, value }",
                            (int)i, luaL_typename(L, -1));
            lua_settop(L, top);
            return false;
        }
        lua_rawgeti(L, -1, 1);
        lua_rawgeti(L, -2, 2);
        bool done = add_header(L, lua_gettop(L) - 1, lua_gettop(L), build, err);
        lua_settop(L, top);
        if (!done)
            return false;
    }
    return true;
}

static int compare_texts(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* { name = value }, sorted by name, so that output is reproducible. */
static bool header_table(lua_State *L, int headers, struct mr_build *build, struct mr_error *err)
{
    enum { MAX = 256 };
    const char *names[MAX];
    size_t n = 0;
    lua_pushnil(L);
    while (lua_next(L, headers)) {
        lua_pop(L, 1);
        if (lua_type(L, -1) != LUA_TSTRING || n == MAX) {
            bool few = n < MAX;
            lua_pop(L, 1);
            return few ? mr_error_reject(err, "script",
                                         "shape: the name of a header is not a "
                                         "string")
                       : mr_error_reject(err, "script", "shape: more than %d headers", MAX);
        }
        names[n++] = lua_tostring(L, -1);
    }
    qsort(names, n, sizeof *names, compare_texts);
    int top = lua_gettop(L);
    for (size_t i = 0; i < n; i++) {
        lua_pushstring(L, names[i]);
        lua_pushvalue(L, -1);
        lua_rawget(L, headers);
        bool done = add_header(L, top + 1, top + 2, build, err);
        lua_settop(L, top);
        if (!done)
            return false;
    }
    return true;
}

static bool put_headers(lua_State *L, int headers, struct mr_build *build, struct mr_error *err)
{
    if (lua_isnil(L, headers))
        return true;
    if (!lua_istable(L, headers))
        return mr_error_reject(err, "script",
                               "shape: the headers are a %s; expected { name = value } or "
                               "{ { name, value }, ... }",
                               luaL_typename(L, headers));
    return mr_json_is_array(L, headers) ? header_list(L, headers, build, err)
                                        : header_table(L, headers, build, err);
}

static void put_bundle_header(struct mr_build *build, const char *bundle)
{
    struct mr_template_header header;
    mr_build_begin(build);
    mr_buf_put_text(&build->bytes, "millrace-bundle");
    header.name = mr_build_end(build);
    mr_build_begin(build);
    mr_buf_put_text(&build->bytes, bundle);
    header.value = mr_build_end(build);
    mr_build_header(build, &header);
}

/* The fourth result of shape: nil, or the name of a topic that the configuration allows. */
static bool topic_index(lua_State *L, int topic, const struct mr_templates *templates,
                        uint16_t *index, struct mr_error *err)
{
    *index = 0;
    if (lua_isnil(L, topic))
        return true;
    if (mr_placeholder_at(L, topic))
        return mr_error_reject(err, "script",
                               "shape: the topic is a placeholder; it is chosen before rows are "
                               "filled in: for a topic of each row write `each`");
    if (lua_type(L, topic) != LUA_TSTRING)
        return mr_error_reject(err, "script", "shape: the topic is a %s; it is a string, or nil",
                               luaL_typename(L, topic));
    const char *name = lua_tostring(L, topic);
    for (size_t i = 0; i < templates->n_topics; i++)
        if (strcmp(templates->topics[i], name) == 0) {
            *index = (uint16_t)i;
            return true;
        }
    const char *near = mr_text_nearest(name, templates->topics, templates->n_topics);
    return mr_error_reject(err, "script",
                           "shape: the topic \"%.250s\" is not allowed%s%s%s: the configuration "
                           "names the topics of a pipeline in sinks.kafka.allowed_topics",
                           name, near ? " (did you mean \"" : "", near ? near : "",
                           near ? "\"?)" : "");
}

bool mr_template_message(lua_State *L, int results, struct mr_templates *templates,
                         struct mr_output *output, struct mr_error *err)
{
    int value = results, key = results + 1, headers = results + 2;
    struct mr_build *build = &templates->build;
    output->has_message = true;
    if (!topic_index(L, results + 3, templates, &output->topic, err))
        return false;
    if (!value_run(L, value, build, &output->value, err))
        return false;
    output->key = mr_build_absent();
    if (!lua_isnil(L, key) && !bare_run(L, key, build, "shape: the key", &output->key, err))
        return false;
    if (!put_headers(L, headers, build, err))
        return false;
    if (templates->bundle)
        put_bundle_header(build, templates->bundle);
    return true;
}
