/*
 * lint.c - runs lint.lua over the files of a script.
 *
 * Any thread; owns a Lua state for the length of a call. Must not know configurations or how
 * findings are shown. Tests: tests/spec/lint_spec.lua.
 */
#include "lua/lint.h"

#include "lua/config_sys.h"
#include "lua/host.h"

#include <errno.h>
#include <lauxlib.h>
#include <lua.h>
#include <stdio.h>

static const struct mr_host_limits limits = {.memory_bytes = (size_t)256 << 20, .time_ms = 5000};

struct job {
    const char *file;
    const struct mr_buf *text;
    const struct mr_lookup_schema *schema;
    void (*found)(void *arg, const struct mr_lint_finding *finding);
    void *arg;
};

static bool read_file(const char *path, struct mr_buf *out, struct mr_error *err)
{
    FILE *file = fopen(path, "rb");
    bool ok = file != NULL;
    while (ok && !feof(file)) {
        enum { PIECE = 65536 };
        mr_buf_commit(out, fread(mr_buf_reserve(out, PIECE), 1, PIECE, file));
        ok = !ferror(file);
    }
    if (!ok)
        mr_error_set(err, MR_STOP, MR_EXIT_CONFIG, "%s cannot be read: %s", path, strerror(errno));
    if (file)
        fclose(file);
    return ok;
}

static void push_lookup(lua_State *L, const struct mr_lookup_schema *schema)
{
    lua_createtable(L, 0, 2);
    if (!schema)
        return;
    lua_pushstring(L, schema->name);
    lua_setfield(L, -2, "name");
    lua_createtable(L, (int)schema->n_columns, 0);
    for (size_t i = 0; i < schema->n_columns; i++) {
        lua_pushstring(L, schema->columns[i].name);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    lua_setfield(L, -2, "columns");
}

static const char *text_at(lua_State *L, int index, const char *name)
{
    lua_getfield(L, index, name);
    const char *text = lua_tostring(L, -1);
    lua_pop(L, 1); /* the table keeps it */
    return text ? text : "";
}

static int int_at(lua_State *L, int index, const char *name)
{
    lua_getfield(L, index, name);
    int value = (int)lua_tointeger(L, -1);
    lua_pop(L, 1);
    return value;
}

/* Pushes the line of that number, without its end. */
static void push_line(lua_State *L, const struct mr_buf *text, int number)
{
    const char *at = text->ptr, *end = text->ptr + text->len;
    for (; number > 1 && at < end; number--) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        at = newline ? newline + 1 : end;
    }
    const char *stop = at < end ? memchr(at, '\n', (size_t)(end - at)) : NULL;
    size_t len = (size_t)((stop ? stop : end) - at);
    if (len && at[len - 1] == '\r')
        len--;
    lua_pushlstring(L, at ? at : "", len);
}

static int job_lint(lua_State *L)
{
    const struct job *job = lua_touserdata(L, 1);
    mr_config_open_module(L, NULL, "lint");
    lua_getfield(L, -1, "run");
    lua_pushstring(L, job->file);
    lua_pushlstring(L, job->text->ptr ? job->text->ptr : "", job->text->len);
    push_lookup(L, job->schema);
    lua_call(L, 3, 1);
    int list = lua_gettop(L);
    lua_Integer n = (lua_Integer)lua_rawlen(L, list);
    for (lua_Integer i = 1; i <= n; i++) {
        lua_rawgeti(L, list, i);
        int at = lua_gettop(L);
        struct mr_lint_finding finding = {
            .file = job->file,
            .line = int_at(L, at, "line"),
            .column = int_at(L, at, "column"),
            .length = int_at(L, at, "length"),
            .code = text_at(L, at, "code"),
            .message = text_at(L, at, "message"),
            .hint = text_at(L, at, "hint"),
        };
        push_line(L, job->text, finding.line);
        finding.text = lua_tostring(L, -1);
        job->found(job->arg, &finding);
        lua_settop(L, list);
    }
    return 0;
}

bool mr_lint_run(const char *const *files, size_t n_files, const struct mr_lookup_schema *schema,
                 void (*found)(void *arg, const struct mr_lint_finding *finding), void *arg,
                 struct mr_error *err)
{
    bool ok = true;
    for (size_t i = 0; ok && i < n_files; i++) {
        struct mr_buf text;
        struct mr_host *host = NULL;
        struct job job = {files[i], &text, schema, found, arg};
        mr_buf_init(&text);
        ok = read_file(files[i], &text, err) && mr_host_new(&limits, &host, err) &&
             mr_host_call(host, job_lint, &job, err);
        mr_host_free(host);
        mr_buf_fini(&text);
    }
    if (!ok) {
        err->action = MR_STOP;
        err->code = MR_EXIT_CONFIG;
    }
    return ok;
}
