/*
 * script_load.c - from a file to a checked set of functions in a fresh Lua state.
 *
 * At start, and again after a state has been discarded. Owns nothing. What it refuses, it refuses
 * with file, line and a sentence: an unknown name, a function that comes later, one that this
 * pipeline cannot call. Must not know messages (script.c). Tests: tests/spec/script_spec.lua.
 */
#include "lua/script_state.h"

#include "base/text.h"
#include "lua/placeholder.h"
#include "lua/reads.h"
#include "lua/sandbox.h"
#include "lua/slots.h"

#include <ctype.h>
#include <lauxlib.h>
#include <lua.h>

const char *const mr_script_function_names[MR_FN_N] = {
    "filter", "key", "project", "each", "map", "shape", "row", "init", "tick",
};

static const char *const known_names[] = {
    "fields", "filter", "key", "project", "each", "map", "shape", "row", "init", "tick",
};

/* Part of the script contract, but not of this release. */
static const struct {
    const char *name, *when;
} later[] = {
    {"hold_until", "it comes with the calendar; until then let filter drop what is too early"},
    {"business_id", "it comes with the calendar"},
};

void mr_script_push_function(lua_State *L, enum mr_function function)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, MR_SLOT_FUNCTIONS + (lua_Integer)function);
}

/* The line on which `name` is given a value, for entries that carry none themselves; 0 if not
 * found. */
static int line_of(const char *text, const char *name)
{
    size_t len = strlen(name);
    int line = 1;
    for (const char *p = text; p && *p; p++) {
        if (*p == '\n')
            line++;
        if (strncmp(p, name, len) != 0 || isalnum((unsigned char)p[len]) || p[len] == '_')
            continue;
        if (p > text && (isalnum((unsigned char)p[-1]) || p[-1] == '_'))
            continue;
        const char *after = p + len;
        after += strspn(after, " \t\"']");
        if ((*after == '=' && after[1] != '=') || *after == '(')
            return line;
    }
    return 0;
}

/* "path:line: " of the entry whose value is on top of the stack; pushes it. */
static const char *push_where(lua_State *L, const struct mr_bundle *bundle, const char *name)
{
    int line = 0;
    if (lua_isfunction(L, -1) && !lua_iscfunction(L, -1)) {
        lua_Debug ar;
        lua_pushvalue(L, -1);
        lua_getinfo(L, ">S", &ar);
        line = ar.linedefined;
    } else if (mr_bundle_text(bundle)) {
        line = line_of(mr_bundle_text(bundle), name);
    }
    if (line)
        return lua_pushfstring(L, "%s:%d: ", mr_bundle_path(bundle), line);
    return lua_pushfstring(L, "%s: ", mr_bundle_path(bundle));
}

static void raise_plain(lua_State *L)
{
    lua_error(L);
    __builtin_unreachable();
}

static void check_name(lua_State *L, const struct mr_script_state *state, const char *name)
{
    for (size_t i = 0; i < sizeof known_names / sizeof *known_names; i++)
        if (strcmp(known_names[i], name) == 0)
            return;
    const char *where = push_where(L, state->bundle, name);
    for (size_t i = 0; i < sizeof later / sizeof *later; i++)
        if (strcmp(later[i].name, name) == 0) {
            lua_pushfstring(L, "%s'%s' is not there yet: %s", where, name, later[i].when);
            raise_plain(L);
        }
    const char *near = mr_text_nearest(name, known_names, sizeof known_names / sizeof *known_names);
    if (near)
        lua_pushfstring(L, "%s'%s' is not part of a script (did you mean '%s'?)", where, name,
                        near);
    else
        lua_pushfstring(L,
                        "%s'%s' is not part of a script, which has fields, filter, key, project, "
                        "each, map, shape, row, init and tick; make a helper local",
                        where, name);
    raise_plain(L);
}

static void check_type(lua_State *L, const struct mr_script_state *state, const char *name)
{
    bool is_fields = strcmp(name, "fields") == 0;
    if (lua_type(L, -1) == (is_fields ? LUA_TTABLE : LUA_TFUNCTION))
        return;
    const char *type = luaL_typename(L, -1);
    lua_pushfstring(L, "%s'%s' must be a %s, got a %s", push_where(L, state->bundle, name), name,
                    is_fields ? "table of field names and types" : "function", type);
    raise_plain(L);
}

/* With a lookup: key, and one of project and each. */
static void check_joined(lua_State *L, const struct mr_script_state *state)
{
    const char *path = mr_bundle_path(state->bundle);
    if (state->has[MR_FN_MAP])
        luaL_error(L,
                   "%s: the pipeline '%s' has a lookup: write key and project (or each), not map",
                   path, state->options.pipeline);
    if (!state->has[MR_FN_KEY])
        luaL_error(L, "%s: the function 'key' is missing: a pipeline with a lookup needs it", path);
    if (state->has[MR_FN_PROJECT] && state->has[MR_FN_EACH])
        luaL_error(L,
                   "%s: there is 'project' and 'each': a script has one of them (project once per "
                   "message, with placeholders; each once per row, with values)",
                   path);
    if (!state->has[MR_FN_PROJECT] && !state->has[MR_FN_EACH])
        luaL_error(L,
                   "%s: the function 'project' is missing: a pipeline with a lookup needs it (or "
                   "'each', to see the values of each row)",
                   path);
}

/* Which functions this pipeline needs and which it could never call. */
static void check_fit(lua_State *L, const struct mr_script_state *state)
{
    const char *path = mr_bundle_path(state->bundle);
    if (state->options.has_lookup) {
        check_joined(L, state);
        return;
    }
    for (int i = MR_FN_KEY; i <= MR_FN_EACH; i++)
        if (state->has[i])
            luaL_error(L, "%s: '%s' needs a lookup, and the pipeline '%s' has none: write map",
                       path, mr_script_function_names[i], state->options.pipeline);
    if (!state->has[MR_FN_MAP])
        luaL_error(L, "%s: the function 'map' is missing: a pipeline without a lookup needs it",
                   path);
}

/* What a function, on top, does with the record: where a copy of it is needed, and where not. */
static void look_at(lua_State *L, struct mr_script_state *state, int function)
{
    if (function == MR_FN_PROJECT || function == MR_FN_EACH || function == MR_FN_MAP)
        state->makes = mr_reads_makes(L);
    else if (function == MR_FN_SHAPE || function == MR_FN_ROW)
        state->leaves[function] = mr_reads_leaves(L);
}

/* The table that the script returned is on top. */
static void take_table(lua_State *L, struct mr_script_state *state)
{
    const char *path = mr_bundle_path(state->bundle);
    if (!lua_istable(L, -1))
        luaL_error(L, "%s: the script must end with 'return' and a table of its functions, got %s",
                   path, lua_isnil(L, -1) ? "nothing" : luaL_typename(L, -1));
    int table = lua_gettop(L);
    lua_pushnil(L);
    while (lua_next(L, table)) {
        if (lua_type(L, -2) != LUA_TSTRING)
            luaL_error(L,
                       "%s: the script returned a table with %s keys; expected functions by name",
                       path, luaL_typename(L, -2));
        check_name(L, state, lua_tostring(L, -2));
        check_type(L, state, lua_tostring(L, -2));
        lua_pop(L, 1);
    }
    state->makes = false;
    state->leaves[MR_FN_SHAPE] = state->leaves[MR_FN_ROW] = MR_LEAVES_ALL; /* if there is none */
    for (int i = 0; i < MR_FN_N; i++) {
        lua_pushstring(L, mr_script_function_names[i]);
        state->has[i] = lua_rawget(L, table) != LUA_TNIL;
        if (state->has[i])
            look_at(L, state, i);
        lua_rawseti(L, LUA_REGISTRYINDEX, MR_SLOT_FUNCTIONS + i);
    }
    lua_pushliteral(L, "fields");
    if (lua_rawget(L, table) != LUA_TNIL) {
        const char *where = push_where(L, state->bundle, "fields");
        mr_fields_compile(L, table + 1, &state->fields, where);
    }
    lua_settop(L, table);
    check_fit(L, state);
    mr_script_push_function(L, MR_FN_FILTER);
    mr_glance_open(L, &state->glance, &state->fields);
    lua_settop(L, table);
}

static int job_load(lua_State *L)
{
    struct mr_script_state *state = lua_touserdata(L, 1);
    const struct mr_script_options *options = &state->options;
    mr_sandbox_open(L);
    mr_library_open(L, &state->library);
    mr_placeholder_open(L, options->lookup, options->has_lookup, &state->col_live);
    mr_context_open(L, &state->view, options->vars);
    mr_template_open(L, &state->templates);
    mr_script_open_row(L, options->lookup);
    mr_bundle_run(L, state->bundle);
    take_table(L, state);
    lua_settop(L, 0);
    if (state->has[MR_FN_INIT]) {
        mr_script_push_function(L, MR_FN_INIT);
        mr_context_push(L, &state->view);
        lua_call(L, 1, 0);
    }
    return 0;
}

bool mr_script_load(struct mr_script_state *state, const struct mr_context *ctx,
                    struct mr_error *err)
{
    struct mr_host_limits limits = {.memory_bytes = state->options.memory_limit_bytes,
                                    .time_ms = state->options.time_limit_ms};
    if (!mr_host_new(&limits, &state->host, err))
        return false;
    mr_assert(!state->view.rec);
    state->view.ctx = ctx;
    state->view.bundle = ""; /* its hash is known when all of it is loaded */
    bool done = mr_host_call(state->host, job_load, state, err);
    mr_context_end(&state->view);
    if (!done) {
        mr_host_free(state->host);
        state->host = NULL;
        err->action = MR_STOP;
        err->code = MR_EXIT_CONFIG;
        return false;
    }
    mr_bundle_seal(state->bundle);
    state->view.bundle = mr_bundle_hash(state->bundle);
    return true;
}
