/*
 * glance.c - the fields of a message, and those that filter reads, without its table.
 *
 * Inside the gate, on the worker's thread. Owns the names; the table for the filter stands in the
 * registry and is filled anew for each message: a filter that only reads it cannot keep it. What is
 * itself a table could be kept or changed, so a message that has one there is made whole first.
 * Must not know when it is called (script.c). Tests: tests/spec/glance_spec.lua.
 */
#include "lua/glance.h"

#include <lauxlib.h>
#include <lua.h>

/* The place of the name among the looks; MR_JSON_LOOKS if there is no room for it. */
static size_t place_of(struct mr_json_looks *looks, const char *name)
{
    size_t i = 0;
    while (i < looks->n && strcmp(looks->list[i].name, name) != 0)
        i++;
    if (i == looks->n && i < MR_JSON_LOOKS)
        looks->list[looks->n++] = (struct mr_json_look){.name = name, .name_len = strlen(name)};
    return i;
}

static void open_filter(lua_State *L, struct mr_glance *glance)
{
    size_t n = glance->reads.n;
    for (size_t i = 0; i < n; i++) {
        glance->at[i] = place_of(&glance->looks, glance->reads.names[i]);
        if (glance->at[i] == MR_JSON_LOOKS)
            return;
    }
    lua_createtable(L, (int)n, 0);
    for (size_t i = 0; i < n; i++) {
        lua_pushstring(L, glance->reads.names[i]);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    glance->names = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_createtable(L, 0, (int)n);
    glance->view = luaL_ref(L, LUA_REGISTRYINDEX);
    glance->of_filter = true;
}

void mr_glance_open(lua_State *L, struct mr_glance *glance, const struct mr_fields *fields)
{
    mr_glance_fini(glance);
    for (size_t i = 0; i < fields->n; i++)
        if (place_of(&glance->looks, fields->list[i].name) == MR_JSON_LOOKS)
            return;
    glance->of_fields = fields->n > 0;
    if (lua_isfunction(L, -1) && mr_reads_only(L, &glance->reads))
        open_filter(L, glance);
}

void mr_glance_fini(struct mr_glance *glance)
{
    mr_reads_fini(&glance->reads);
    *glance = (struct mr_glance){0};
}

bool mr_glance_fits(struct mr_glance *glance, const struct mr_fields *fields,
                    const struct mr_json *json)
{
    return (glance->of_fields || glance->of_filter) && mr_json_find(json, &glance->looks) &&
           mr_fields_fit(fields, &glance->looks);
}

bool mr_glance_push(lua_State *L, const struct mr_glance *glance)
{
    if (!glance->of_filter)
        return false;
    for (size_t i = 0; i < glance->reads.n; i++) {
        const struct mr_json_look *look = &glance->looks.list[glance->at[i]];
        if (look->found && (look->kind == MR_JSON_OBJECT || look->kind == MR_JSON_ARRAY))
            return false;
    }
    lua_rawgeti(L, LUA_REGISTRYINDEX, glance->view);
    lua_rawgeti(L, LUA_REGISTRYINDEX, glance->names);
    for (size_t i = 0; i < glance->reads.n; i++) {
        lua_rawgeti(L, -1, (lua_Integer)i + 1);
        mr_json_push_look(L, &glance->looks.list[glance->at[i]]);
        lua_rawset(L, -4);
    }
    lua_settop(L, -2);
    return true;
}
