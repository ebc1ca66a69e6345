/*
 * script.c - the contract of millrace/script.h: accept, key, project, each, finish, every one of
 * them one call through the gate. The rows of `each`: each.c; shape and row: outputs.c.
 *
 * One worker thread. Owns the state below (script_state.h). The jobs run inside the gate and never
 * raise for what a message or a script did wrong in C's eyes: they leave a verdict and an error.
 * Must not know Kafka or Postgres. The message's table stays in the registry between the calls.
 * Tests: the specs in tests/spec (through millrace.so), tests/unit/test_script.c.
 */
#include "lua/script_state.h"

#include "base/clock.h"
#include "base/text.h"
#include "lua/placeholder.h"
#include "lua/slots.h"

#include <lauxlib.h>
#include <lua.h>
#include <stdio.h>
#include <stdlib.h>

static void drop(struct mr_script_state *state, const char *reason)
{
    state->verdict = MR_VERDICT_DROP;
    state->reason = reason;
}

static void reject(struct mr_script_state *state)
{
    state->verdict = MR_VERDICT_REJECT;
}

/* --- accept --- */

/* Most reasons are the one of the message before: that one is clean already. */
static const char *keep_reason(struct mr_script_state *state, const char *text)
{
    if (strcmp(text, state->reason_given) != 0) {
        snprintf(state->reason_given, sizeof state->reason_given, "%s", text);
        memcpy(state->reason_text, state->reason_given, sizeof state->reason_text);
        mr_text_clean(state->reason_text);
    }
    return state->reason_text;
}

static void run_filter(lua_State *L, struct mr_script_state *state, int msg)
{
    mr_script_push_function(L, MR_FN_FILTER);
    lua_pushvalue(L, msg);
    mr_context_push(L, &state->view);
    lua_call(L, 2, LUA_MULTRET);
    int n = lua_gettop(L) - msg;
    if (n == 0) {
        mr_error_reject(state->err, "script",
                        "filter returned nothing; return true to keep the message, or false and "
                        "the reason");
        reject(state);
        return;
    }
    if (lua_type(L, msg + 1) == LUA_TSTRING) { /* the reason, and `false` forgotten */
        mr_error_reject(state->err, "script",
                        "filter returned a string; return true to keep the message, or false and "
                        "the reason");
        reject(state);
        return;
    }
    if (lua_toboolean(L, msg + 1))
        return;
    const char *reason = "filter";
    if (n > 1 && !lua_isnil(L, msg + 2)) {
        if (lua_type(L, msg + 2) != LUA_TSTRING) {
            mr_error_reject(state->err, "script",
                            "filter: the reason is a %s; it is a short string",
                            luaL_typename(L, msg + 2));
            reject(state);
            return;
        }
        reason = keep_reason(state, lua_tostring(L, msg + 2));
    }
    drop(state, reason);
}

static int job_accept(lua_State *L)
{
    struct mr_script_state *state = lua_touserdata(L, 1);
    lua_settop(L, 0);
    bool fits = mr_glance_fits(&state->glance, &state->fields, state->json);
    bool filtered = fits && mr_glance_push(L, &state->glance);
    if (filtered) {
        run_filter(L, state, 1);
        if (state->verdict != MR_VERDICT_EMIT)
            return 0;
        lua_settop(L, 0);
    }
    if (!mr_json_push(state->json, L, state->err) ||
        (!fits && state->fields.n && !mr_fields_check(L, 1, &state->fields, state->err))) {
        reject(state);
        return 0;
    }
    lua_pushvalue(L, 1);
    lua_rawseti(L, LUA_REGISTRYINDEX, MR_SLOT_MESSAGE);
    if (state->has[MR_FN_FILTER] && !filtered)
        run_filter(L, state, 1);
    return 0;
}

/* --- key --- */

void mr_script_push_message(lua_State *L)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, MR_SLOT_MESSAGE);
}

static int job_key(lua_State *L)
{
    struct mr_script_state *state = lua_touserdata(L, 1);
    lua_settop(L, 0);
    mr_script_push_function(L, MR_FN_KEY);
    mr_script_push_message(L);
    mr_context_push(L, &state->view);
    lua_call(L, 2, 1);
    if (!mr_keys_read(L, 1, state->options.lookup, &state->keys, state->err))
        reject(state);
    else if (state->keys.n == 0)
        drop(state, "no_key");
    return 0;
}

/* --- project, or map --- */

static int job_project(lua_State *L)
{
    struct mr_script_state *state = lua_touserdata(L, 1);
    bool joined = state->options.has_lookup;
    lua_settop(L, 0);
    mr_script_push_function(L, joined ? MR_FN_PROJECT : MR_FN_MAP);
    mr_script_push_message(L);
    if (joined)
        mr_placeholder_push_col(L);
    mr_context_push(L, &state->view);
    state->col_live = true;
    lua_call(L, joined ? 3 : 2, 1);
    state->col_live = false;
    if (!joined && lua_isnil(L, 1)) {
        drop(state, "no_output");
        return 0;
    }
    if (!lua_istable(L, 1)) {
        mr_error_reject(state->err, "script",
                        "%s returned %s; expected the record (a table) or a list of records%s",
                        mr_script_maker(state), lua_isnil(L, 1) ? "nothing" : luaL_typename(L, 1),
                        joined ? "; to drop a message use filter" : "");
        reject(state);
    } else if (!mr_script_outputs(L, state, 1)) {
        reject(state);
    } else if (!state->templates.build.outputs.len) {
        drop(state, "no_output");
    }
    return 0;
}

/* --- tick --- */

static int job_tick(lua_State *L)
{
    struct mr_script_state *state = lua_touserdata(L, 1);
    mr_script_push_function(L, MR_FN_TICK);
    mr_context_push(L, &state->view);
    lua_call(L, 1, 0);
    return 0;
}

/* --- the contract --- */

static struct mr_script_state *state_of(const struct mr_script *script)
{
    return (struct mr_script_state *)(uintptr_t)script;
}

/* Runs one job; makes a new state first if the last one was discarded. */
static enum mr_verdict run(struct mr_script_state *state, int (*job)(lua_State *),
                           const struct mr_context *ctx, const char **reason, struct mr_error *err)
{
    state->view.ctx = ctx;
    state->verdict = MR_VERDICT_EMIT;
    state->err = err;
    if (!mr_host_call(state->host, job, state, err)) {
        state->verdict = MR_VERDICT_REJECT;
        state->col_live = false;
        if (mr_host_spent(state->host)) {
            mr_context_end(&state->view);
            mr_host_free(state->host);
            state->host = NULL;
        }
    }
    if (state->verdict == MR_VERDICT_REJECT)
        mr_text_clean(err->msg);
    if (state->verdict == MR_VERDICT_DROP)
        *reason = state->reason;
    return state->verdict;
}

/* A state that a limit has ended is made anew, `init` and all. */
static bool reload(struct mr_script_state *state, const struct mr_context *ctx,
                   struct mr_error *err)
{
    if (state->host)
        return true;
    if (mr_script_load(state, ctx, err))
        return true;
    return mr_error_context(err, "loading the script again after it was stopped");
}

static enum mr_verdict accept_record(struct mr_script *script, struct mr_record *rec,
                                     struct mr_source *source, const struct mr_context *ctx,
                                     const char **reason, struct mr_error *err)
{
    struct mr_script_state *state = state_of(script);
    if (!rec->value.ptr) {
        *reason = "tombstone";
        return MR_VERDICT_DROP;
    }
    if (!reload(state, ctx, err))
        return MR_VERDICT_STOP;
    if (!mr_json_parse(state->json, rec->value, err))
        return MR_VERDICT_REJECT;
    state->view.rec = rec;
    state->view.source = source;
    state->view.headers_read = false;
    return run(state, job_accept, ctx, reason, err);
}

static enum mr_verdict find_keys(struct mr_script *script, const struct mr_context *ctx,
                                 const struct mr_bytes **keys, size_t *n, const char **reason,
                                 struct mr_error *err)
{
    struct mr_script_state *state = state_of(script);
    mr_assert(state->view.rec && state->options.lookup);
    enum mr_verdict verdict = run(state, job_key, ctx, reason, err);
    *keys = state->keys.list;
    *n = verdict == MR_VERDICT_EMIT ? state->keys.n : 0;
    return verdict;
}

static enum mr_verdict project(struct mr_script *script, const struct mr_context *ctx,
                               const struct mr_template **out, const char **reason,
                               struct mr_error *err)
{
    struct mr_script_state *state = state_of(script);
    mr_assert(state->view.rec);
    mr_build_reset(&state->templates.build);
    enum mr_verdict verdict = run(state, job_project, ctx, reason, err);
    *out = verdict == MR_VERDICT_EMIT ? mr_build_finish(&state->templates.build) : NULL;
    return verdict;
}

static enum mr_verdict each(struct mr_script *script, const struct mr_context *ctx,
                            struct mr_rows *rows, struct mr_error *err)
{
    struct mr_script_state *state = state_of(script);
    const char *reason;
    mr_assert(state->view.rec);
    state->rows = rows;
    return run(state, mr_script_job_each, ctx, &reason, err);
}

static bool tick(struct mr_script *script, const struct mr_context *ctx, struct mr_error *err)
{
    struct mr_script_state *state = state_of(script);
    const char *reason;
    mr_assert(!state->view.rec);
    if (!state->has[MR_FN_TICK])
        return true;
    if (!reload(state, ctx, err))
        return false;
    bool done = run(state, job_tick, ctx, &reason, err) == MR_VERDICT_EMIT;
    mr_context_end(&state->view);
    return done;
}

static void finish(struct mr_script *script)
{
    mr_context_end(&state_of(script)->view);
}

static bool uses_lookup(const struct mr_script *script)
{
    return state_of(script)->options.has_lookup;
}

static bool by_row(const struct mr_script *script)
{
    return state_of(script)->has[MR_FN_EACH];
}

static const char *bundle_of(const struct mr_script *script)
{
    return mr_bundle_hash(state_of(script)->bundle);
}

static void close_script(struct mr_script *script)
{
    struct mr_script_state *state = state_of(script);
    mr_context_end(&state->view);
    mr_host_free(state->host);
    mr_template_fini(&state->templates);
    mr_build_fini(&state->library.build);
    mr_buf_fini(&state->keys.bytes);
    mr_glance_fini(&state->glance);
    mr_fields_fini(&state->fields);
    mr_json_free(state->library.json);
    mr_json_free(state->json);
    mr_bundle_release(state->bundle);
    free(state);
}

static const struct mr_script_ops ops = {
    .accept = accept_record,
    .key = find_keys,
    .project = project,
    .each = each,
    .tick = tick,
    .finish = finish,
    .uses_lookup = uses_lookup,
    .by_row = by_row,
    .bundle = bundle_of,
    .close = close_script,
};

enum { OUTPUT_MAX_BYTES = 1024 * 1024 * 1024 }; /* positions in a template are 32 bits wide */

bool mr_script_open(const struct mr_script_options *options, struct mr_script **out,
                    struct mr_error *err)
{
    struct mr_script_state *state = mr_calloc(1, sizeof *state);
    *out = NULL;
    state->base.ops = &ops;
    state->options = *options;
    state->bundle =
        options->bundle ? mr_bundle_acquire(options->bundle) : mr_bundle_new(options->path);
    state->json = mr_json_new();
    state->library.json = mr_json_new(); /* json.decode in filter: the message is still needed */
    size_t limit = options->output_limit_bytes;
    if (!limit || limit > OUTPUT_MAX_BYTES)
        limit = OUTPUT_MAX_BYTES;
    state->library.build.limit_bytes = limit;
    state->templates.build.limit_bytes = limit;
    state->templates.scratch.limit_bytes = limit;
    state->templates.rows = options->rows;
    state->templates.topics = options->topics;
    state->templates.n_topics = options->n_topics;
    state->templates.bundle = options->bundle_header ? mr_bundle_hash(state->bundle) : NULL;
    state->view.pipeline = options->pipeline;
    state->view.quiet = options->quiet;
    struct mr_context ctx = {.now_ms = options->now_ms ? options->now_ms : mr_clock_wall_ms()};
    if (!mr_script_load(state, &ctx, err)) {
        close_script(&state->base);
        return false;
    }
    *out = &state->base;
    return true;
}

struct mr_bundle *mr_script_bundle(struct mr_script *script)
{
    return mr_bundle_acquire(state_of(script)->bundle);
}

bool mr_script_sample(struct mr_script *script, int64_t now_s, unsigned number, struct mr_buf *out)
{
    const struct mr_fields *fields = &state_of(script)->fields;
    if (fields->n)
        mr_fields_sample(fields, now_s, number, out);
    return fields->n > 0;
}
