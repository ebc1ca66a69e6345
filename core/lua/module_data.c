/*
 * module_data.c - what a spec says about tables and rows, brought into the core's form, and rows
 * back to Lua.
 *
 * For millrace.so only; the thread of the spec. Owns nothing (the arena is the script object's).
 * Rows are encoded in a form of their own, text behind a length, so that a spec can read them: how
 * Postgres wants a value is the business of core/postgres and its tests. Tests: all specs.
 */
#include "lua/module.h"

#include "base/text.h"
#include "lua/json.h"

#include <lauxlib.h>
#include <lua.h>
#include <stdlib.h>

enum { COLUMNS_MAX = 64 }; /* of a key, and of the columns after it */

/* --- the lookup --- */

static enum mr_type type_of(lua_State *L, const char *name, const char *column)
{
    for (int type = MR_BOOL; type <= MR_JSON; type++)
        if (strcmp(mr_type_name((enum mr_type)type), name) == 0)
            return (enum mr_type)type;
    luaL_error(L, "column %s: '%s' is not a type of mr_value", column, name);
    return MR_NULL;
}

static int compare_columns(const void *a, const void *b)
{
    const struct mr_lookup_column *x = a, *y = b;
    return strcmp(x->name, y->name);
}

/* { name = type }, which is put in order by name, or { { name, type }, ... } in that order. */
static struct mr_lookup_column *read_columns(lua_State *L, int table, struct mr_arena *arena,
                                             size_t *n)
{
    struct mr_lookup_column *columns = mr_arena_alloc(arena, COLUMNS_MAX * sizeof *columns);
    bool ordered = lua_rawlen(L, table) > 0;
    *n = 0;
    lua_pushnil(L);
    while (lua_next(L, table)) {
        luaL_argcheck(L, *n < COLUMNS_MAX, 1, "too many columns");
        int top = lua_gettop(L);
        if (ordered) {
            lua_rawgeti(L, table, (lua_Integer)*n + 1);
            luaL_checktype(L, -1, LUA_TTABLE);
            lua_rawgeti(L, -1, 1);
            lua_rawgeti(L, -2, 2);
        } else {
            lua_pushvalue(L, -2);
            lua_pushvalue(L, -2);
        }
        const char *name = luaL_checkstring(L, -2), *type = luaL_checkstring(L, -1);
        columns[(*n)++] = (struct mr_lookup_column){.name = mr_arena_strdup(arena, name),
                                                    .type = type_of(L, type, name),
                                                    .type_name = mr_arena_strdup(arena, type)};
        lua_settop(L, top - 1);
    }
    if (!ordered)
        qsort(columns, *n, sizeof *columns, compare_columns);
    return columns;
}

void mr_module_lookup(lua_State *L, int options, struct mr_arena *arena,
                      struct mr_lookup_schema *out)
{
    size_t n_keys, n_columns;
    lua_getfield(L, options, "keys");
    luaL_checktype(L, -1, LUA_TTABLE);
    struct mr_lookup_column *keys = read_columns(L, lua_gettop(L), arena, &n_keys);
    lua_getfield(L, options, "columns");
    luaL_checktype(L, -1, LUA_TTABLE);
    struct mr_lookup_column *columns = read_columns(L, lua_gettop(L), arena, &n_columns);
    lua_pop(L, 2);
    struct mr_lookup_column *all = mr_arena_alloc(arena, (n_keys + n_columns) * sizeof *all);
    memcpy(all, keys, n_keys * sizeof *all);
    memcpy(all + n_keys, columns, n_columns * sizeof *all);
    *out = (struct mr_lookup_schema){
        .name = "lookup", .columns = all, .n_keys = n_keys, .n_columns = n_keys + n_columns};
}

static bool is_null(lua_State *L, int index)
{
    return lua_isnil(L, index) || (lua_islightuserdata(L, index) && !lua_touserdata(L, index));
}

static void read_value(lua_State *L, int index, const struct mr_lookup_column *column,
                       struct mr_value *value)
{
    value->type = column->type;
    switch (column->type) {
    case MR_BOOL:
        value->b = lua_toboolean(L, index);
        return;
    case MR_INT:
    case MR_TIMESTAMP:
    case MR_DATE:
        value->i = luaL_checkinteger(L, index);
        return;
    case MR_FLOAT:
        value->f = luaL_checknumber(L, index);
        return;
    case MR_UUID: {
        size_t len;
        const char *text = luaL_checklstring(L, index, &len);
        if (!mr_text_uuid_parse_any(text, len, value->uuid))
            luaL_error(L, "column %s: '%s' is not a uuid", column->name, text);
        return;
    }
    default:
        value->bytes.ptr = luaL_checklstring(L, index, &value->bytes.len);
    }
}

/* The row at `row`, by name; the values borrow from the Lua table. */
static void read_row(lua_State *L, int row, const struct mr_lookup_schema *schema,
                     struct mr_value *values)
{
    for (size_t i = 0; i < schema->n_columns; i++) {
        lua_getfield(L, row, schema->columns[i].name);
        if (is_null(L, -1))
            values[i].type = MR_NULL;
        else
            read_value(L, lua_gettop(L), &schema->columns[i], &values[i]);
        lua_pop(L, 1); /* a string is still held by the row */
    }
}

void mr_module_fill(lua_State *L, int rows, struct mr_module_object *object)
{
    struct mr_error err;
    struct mr_table *table;
    struct mr_value values[2 * COLUMNS_MAX];
    mr_table_builder_free(object->builder); /* what a raise has left behind */
    object->builder = mr_table_builder_new(&object->columns, object->distinct, 0);
    size_t n = lua_istable(L, rows) ? lua_rawlen(L, rows) : 0;
    for (size_t i = 0; i < n; i++) {
        lua_rawgeti(L, rows, (lua_Integer)i + 1);
        luaL_checktype(L, -1, LUA_TTABLE);
        read_row(L, lua_gettop(L), &object->columns, values);
        if (!mr_table_builder_add(object->builder, values, &err))
            luaL_error(L, "%s", err.msg);
        lua_pop(L, 1);
    }
    struct mr_table_builder *builder = object->builder;
    object->builder = NULL;
    if (!mr_table_builder_finish(builder, &table, &err))
        luaL_error(L, "%s", err.msg);
    mr_lookup_swap(object->lookup, table);
}

/* --- the feedback table --- */

static bool takes(const struct mr_row_column *column, enum mr_type type)
{
    if (column->is_text || type == MR_NULL)
        return true;
    if (strcmp(column->type_name, "integer") == 0 || strcmp(column->type_name, "bigint") == 0)
        return type == MR_INT;
    if (strcmp(column->type_name, "boolean") == 0)
        return type == MR_BOOL;
    return true;
}

/* Text behind a length: see the head of this file. */
static bool encode(const struct mr_row_column *column, const struct mr_value *value,
                   struct mr_buf *out, struct mr_error *err)
{
    if (!takes(column, value->type))
        return mr_error_reject(err, "schema", "column %s is %s and cannot take a value of type %s",
                               column->name, column->type_name, mr_type_name(value->type));
    if (value->type == MR_NULL) {
        if (column->not_null)
            return mr_error_reject(err, "schema", "column %s is NOT NULL", column->name);
        mr_buf_put_be32(out, UINT32_MAX);
        return true;
    }
    size_t at = out->len;
    mr_buf_put_be32(out, 0);
    if (!mr_value_text(out, value, err))
        return false;
    uint32_t len = __builtin_bswap32((uint32_t)(out->len - at - 4));
    memcpy(out->ptr + at, &len, sizeof len);
    return true;
}

/* "name type[ not null][ default][ generated]" */
static void parse_column(lua_State *L, const char *text, struct mr_arena *arena,
                         struct mr_row_column *out)
{
    char *name = mr_arena_strdup(arena, text), *type = strchr(name, ' ');
    if (!type) {
        luaL_error(L, "table: '%s' is not a column; write \"name type\"", text);
        return;
    }
    *type++ = '\0';
    *out = (struct mr_row_column){.name = name, .type_name = type, .typmod = -1};
    static const char *const flags[] = {" not null", " default", " generated"};
    bool *const set[] = {&out->not_null, &out->has_default, &out->generated};
    char *end = type + strlen(type);
    for (size_t i = 0; i < 3; i++) {
        char *at = strstr(type, flags[i]);
        *set[i] = at != NULL;
        if (at && at < end)
            end = at;
    }
    *end = '\0';
    out->is_text = strcmp(type, "text") == 0 || strcmp(type, "json") == 0 ||
                   strncmp(type, "character varying", 17) == 0;
}

void mr_module_row_schema(lua_State *L, int table, struct mr_arena *arena,
                          struct mr_row_schema *out)
{
    size_t n = lua_rawlen(L, table);
    luaL_argcheck(L, n <= MR_ROW_COLUMNS_MAX, 1, "too many columns in table");
    struct mr_row_column *columns = mr_arena_alloc(arena, (n + 1) * sizeof *columns);
    for (size_t i = 0; i < n; i++) {
        lua_rawgeti(L, table, (lua_Integer)i + 1);
        parse_column(L, luaL_checkstring(L, -1), arena, &columns[i]);
        lua_pop(L, 1);
    }
    *out =
        (struct mr_row_schema){.table = "feedback", .columns = columns, .n = n, .encode = encode};
}

/* As JSON, which keeps the type. */
static void push_shown(lua_State *L, const struct mr_row_schema *schema,
                       const struct mr_row_column *column, struct mr_bytes field)
{
    struct mr_buf text;
    mr_buf_init(&text);
    bool shown = schema->show(column, field, &text);
    mr_assert(shown);
    lua_pushlstring(L, text.ptr, text.len);
    mr_buf_fini(&text);
}

void mr_module_push_row(lua_State *L, const struct mr_row_schema *schema,
                        const struct mr_column_set *set, struct mr_bytes row)
{
    const char *at = NULL;
    lua_createtable(L, 0, set->n);
    for (uint16_t i = 0; i < set->n; i++) {
        struct mr_bytes field = mr_trial_field(row, &at);
        if (!field.ptr)
            lua_pushlightuserdata(L, NULL);
        else if (schema->show)
            push_shown(L, schema, &schema->columns[set->columns[i]], field);
        else
            lua_pushlstring(L, field.ptr, field.len);
        lua_setfield(L, -2, schema->columns[set->columns[i]].name);
    }
}

/* --- vars --- */

static void read_node(lua_State *L, int index, struct mr_node *parent, const char *name)
{
    struct mr_node *node;
    switch (lua_type(L, index)) {
    case LUA_TSTRING:
        node = mr_node_add(parent, name, MR_NODE_STRING);
        node->text = mr_strdup(lua_tostring(L, index));
        return;
    case LUA_TNUMBER:
        node = mr_node_add(parent, name, lua_isinteger(L, index) ? MR_NODE_INT : MR_NODE_FLOAT);
        if (lua_isinteger(L, index))
            node->i = lua_tointeger(L, index);
        else
            node->f = lua_tonumber(L, index);
        return;
    case LUA_TBOOLEAN:
        node = mr_node_add(parent, name, MR_NODE_BOOL);
        node->i = lua_toboolean(L, index);
        return;
    case LUA_TTABLE:
        node = mr_node_add(parent, name, lua_rawlen(L, index) > 0 ? MR_NODE_LIST : MR_NODE_TABLE);
        mr_module_read_vars(L, index, node);
        return;
    default:
        luaL_error(L, "vars: a %s is no configuration", luaL_typename(L, index));
    }
}

void mr_module_read_vars(lua_State *L, int vars, struct mr_node *parent)
{
    for (size_t i = 1; parent->kind == MR_NODE_LIST && i <= lua_rawlen(L, vars); i++) {
        lua_rawgeti(L, vars, (lua_Integer)i);
        read_node(L, lua_gettop(L), parent, NULL);
        lua_pop(L, 1);
    }
    lua_pushnil(L);
    while (parent->kind != MR_NODE_LIST && lua_next(L, vars)) {
        read_node(L, lua_gettop(L), parent, lua_tostring(L, -2));
        lua_pop(L, 1);
    }
    if (parent->kind == MR_NODE_LIST)
        lua_pop(L, 1);
}
