/*
 * template.c - what shape returned as segments, what row returned as fields.
 *
 * Inside the gate, on the worker's thread. Owns the build and the interned column sets. What is the
 * same for all rows of a message is encoded here, once; placeholders become segments and fields
 * that stamp.c fills in. Must not know when it is called (script.c). Tests:
 * tests/spec/template_spec.lua.
 */
#include "lua/template.h"

#include "base/text.h"
#include "lua/encode.h"
#include "lua/json.h"
#include "lua/placeholder.h"

#include <lauxlib.h>
#include <lua.h>
#include <stdlib.h>

struct mr_set_node {
    struct mr_set_node *next;
    struct mr_column_set set;
};

static const char columns_key = 'r'; /* registry: list of the row columns' names */

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
    lua_rawsetp(L, LUA_REGISTRYINDEX, &columns_key);
}

static bool is_null(lua_State *L, int index)
{
    return lua_islightuserdata(L, index) && !lua_touserdata(L, index);
}

/* --- the message --- */

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

/* --- the row --- */

static const struct mr_column_set *intern(struct mr_templates *templates,
                                          const struct mr_column_set *set)
{
    for (struct mr_set_node *node = templates->sets; node; node = node->next)
        if (mr_column_set_equal(&node->set, set))
            return &node->set;
    struct mr_set_node *node = mr_calloc(1, sizeof *node);
    node->set = *set;
    node->next = templates->sets;
    templates->sets = node;
    return &node->set;
}

/* A fmt, or JSON with placeholders in it: text that is filled in for each row. */
static bool text_field(lua_State *L, int index, const struct mr_row_column *column, bool as_json,
                       struct mr_build *build, struct mr_template_field *field,
                       struct mr_error *err)
{
    if (!column->is_text)
        return mr_error_reject(err, "schema",
                               "row.%s: %s is text made for each row, but the column is %s; only a "
                               "column of a text type can take it",
                               column->name, as_json ? "a table with placeholders" : "a fmt",
                               column->type_name);
    field->kind = MR_FIELD_TEXT;
    mr_build_begin(build);
    bool done = as_json ? mr_encode_json(L, index, build, column->name, err)
                        : mr_encode_bare(L, index, build, column->name, err);
    if (!done)
        return mr_error_context(err, "row");
    field->text = mr_build_end(build);
    return true;
}

/* False: the type can be no field. */
static bool read_value(lua_State *L, int index, struct mr_templates *templates,
                       const struct mr_row_column *column, struct mr_value *value,
                       struct mr_error *err)
{
    switch (lua_type(L, index)) {
    case LUA_TSTRING:
        value->type = MR_TEXT;
        value->bytes.ptr = lua_tolstring(L, index, &value->bytes.len);
        if (!mr_text_utf8_valid(value->bytes.ptr, value->bytes.len))
            return mr_error_reject(err, "utf8", "row.%s: is a string that is not UTF-8",
                                   column->name);
        return true;
    case LUA_TNUMBER:
        value->type = lua_isinteger(L, index) ? MR_INT : MR_FLOAT;
        if (value->type == MR_INT)
            value->i = lua_tointeger(L, index);
        else
            value->f = lua_tonumber(L, index);
        return true;
    case LUA_TBOOLEAN:
        value->type = MR_BOOL;
        value->b = lua_toboolean(L, index);
        return true;
    case LUA_TTABLE:
        value->type = MR_JSON;
        mr_build_reset(&templates->scratch);
        if (!mr_encode_json(L, index, &templates->scratch, column->name, err))
            return mr_error_context(err, "row");
        value->bytes.ptr = templates->scratch.bytes.ptr;
        value->bytes.len = templates->scratch.bytes.len;
        return true;
    default:
        if (!is_null(L, index))
            return mr_error_reject(err, "schema", "row.%s: is a %s, which no column can take",
                                   column->name, luaL_typename(L, index));
        value->type = MR_NULL;
        return true;
    }
}

static bool put_field(lua_State *L, int index, struct mr_templates *templates, uint16_t i,
                      struct mr_error *err)
{
    struct mr_build *build = &templates->build;
    const struct mr_row_column *column = &templates->rows->columns[i];
    struct mr_template_field field = {.kind = MR_FIELD_CONST, .row_column = i};
    const struct mr_placeholder *p = mr_placeholder_at(L, index);
    bool is_table = lua_istable(L, index);
    if (column->generated)
        return mr_error_reject(err, "schema",
                               "row.%s: the column is generated by Postgres and cannot be written",
                               column->name);
    if (p && !p->is_fmt) {
        field.kind = MR_FIELD_COLUMN;
        field.lookup_column = p->column;
    } else if (p || (is_table && mr_encode_has_placeholder(L, index))) {
        if (!text_field(L, index, column, !p, build, &field, err))
            return false;
    } else {
        struct mr_value value;
        if (!read_value(L, index, templates, column, &value, err))
            return false;
        size_t from = build->bytes.len;
        if (!templates->rows->encode(column, &value, &build->bytes, err))
            return mr_error_context(err, "row");
        field.from = (uint32_t)from;
        field.len = (uint32_t)(build->bytes.len - from);
    }
    mr_build_field(build, &field);
    return mr_build_check(build, err);
}

/* Looks for a name in the row that is no column: true if there is one, *err says so. */
static bool find_unknown(lua_State *L, int row, const struct mr_row_schema *rows,
                         struct mr_error *err)
{
    const char *names[MR_ROW_COLUMNS_MAX];
    size_t n = rows->n;
    for (size_t i = 0; i < n; i++)
        names[i] = rows->columns[i].name;
    lua_pushnil(L);
    while (lua_next(L, row)) {
        lua_pop(L, 1);
        const char *name = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
        bool known = false;
        for (size_t i = 0; name && i < n; i++)
            known = known || strcmp(name, names[i]) == 0;
        if (known)
            continue;
        const char *near = name ? mr_text_nearest(name, names, n) : NULL;
        if (name)
            mr_error_reject(err, "schema", "row: the table %s has no column '%s'%s%s%s",
                            rows->table, name, near ? " (did you mean '" : "", near ? near : "",
                            near ? "'?)" : "");
        else
            mr_error_reject(err, "schema", "row: a row has columns by name; this one has a %s key",
                            luaL_typename(L, -1));
        lua_pop(L, 1);
        return true;
    }
    return false;
}

static size_t count_keys(lua_State *L, int table)
{
    size_t n = 0;
    lua_pushnil(L);
    for (; lua_next(L, table); n++)
        lua_pop(L, 1);
    return n;
}

/* Of a table that is not known: each name is a column, found here the first time. The list of names
 * is on top of the stack. */
static void learn_columns(lua_State *L, int row, const struct mr_row_schema *rows)
{
    int names = lua_gettop(L);
    lua_pushnil(L);
    while (lua_next(L, row)) {
        lua_pop(L, 1);
        const char *name = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
        bool known = !name;
        for (size_t i = 0; !known && i < rows->n; i++)
            known = strcmp(name, rows->columns[i].name) == 0;
        if (!known && rows->add(rows, name)) {
            lua_pushvalue(L, -1);
            lua_rawseti(L, names, (lua_Integer)rows->n);
        }
    }
}

/* A table of names that were seen before, in one pass: its values come onto the stack, and which
 * column each is stands in the layout. False: look at it column by column (nothing was done). */
static bool find_layout(lua_State *L, int row, struct mr_templates *templates,
                        struct mr_layout **out)
{
    struct mr_layout_name names[MR_LAYOUT_NAMES];
    size_t n = 0;
    lua_pushnil(L);
    while (lua_next(L, row)) {
        if (n == MR_LAYOUT_NAMES || lua_type(L, -2) != LUA_TSTRING)
            return false;
        names[n].text = lua_tolstring(L, -2, &names[n].len);
        n++;
        lua_pushvalue(L, -2);
    }
    struct mr_layout *layout = mr_layout_of(&templates->layouts, names, n);
    if (layout && !layout->row_asked) {
        struct mr_column_set set;
        layout->row_asked = true;
        layout->row_fits = mr_layout_is_row(layout, templates->rows, &set);
        if (layout->row_fits)
            layout->set = intern(templates, &set);
    }
    *out = layout;
    return layout && layout->row_fits;
}

static bool put_laid_out(lua_State *L, int top, struct mr_layout *layout,
                         struct mr_templates *templates, struct mr_output *output,
                         struct mr_error *err)
{
    const struct mr_column_set *set = layout->set;
    bool done = true;
    layout->used++; /* a column may hold a table, which has a layout too */
    for (uint16_t i = 0; done && i < set->n; i++)
        done = put_field(L, top + 2 * (layout->slots[i] + 1), templates, set->columns[i], err);
    layout->used--;
    output->has_row = true;
    output->set = set;
    return done;
}

bool mr_template_row(lua_State *L, int row, struct mr_templates *templates,
                     struct mr_output *output, struct mr_error *err)
{
    const struct mr_row_schema *rows = templates->rows;
    struct mr_column_set set;
    int top = lua_gettop(L);
    if (!lua_istable(L, row))
        return mr_error_reject(
            err, "script", "row returned %s; expected a table of columns by name",
            lua_isnoneornil(L, row)       ? "nothing"
            : lua_islightuserdata(L, row) ? "null"
                                          : lua_pushfstring(L, "a %s", luaL_typename(L, row)));
    struct mr_layout *layout;
    luaL_checkstack(L, 2 * MR_LAYOUT_NAMES + 8, NULL);
    bool known = find_layout(L, row, templates, &layout);
    if (known) {
        bool laid = put_laid_out(L, top, layout, templates, output, err);
        lua_settop(L, top);
        return laid;
    }
    lua_settop(L, top);
    set.n = 0;
    mr_assert(rows->n <= MR_ROW_COLUMNS_MAX);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &columns_key);
    if (rows->add)
        learn_columns(L, row, rows);
    bool done = true;
    for (uint16_t i = 0; done && i < rows->n; i++) {
        const struct mr_row_column *column = &rows->columns[i];
        lua_rawgeti(L, top + 1, i + 1);
        if (lua_rawget(L, row) != LUA_TNIL) {
            done = put_field(L, top + 2, templates, i, err);
            set.columns[set.n++] = i;
        } else if (column->not_null && !column->has_default && !column->generated) {
            done = mr_error_reject(err, "schema",
                                   "row.%s is missing: the column is NOT NULL and has no default",
                                   column->name);
        }
        lua_settop(L, top + 1);
    }
    lua_settop(L, top);
    /* A misspelt name is said rather than the column that is missing because of it. */
    if ((!done || count_keys(L, row) != set.n) && find_unknown(L, row, rows, err))
        return false;
    if (!done)
        return false;
    output->has_row = true;
    output->set = intern(templates, &set);
    return true;
}
