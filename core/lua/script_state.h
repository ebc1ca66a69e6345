/*
 * script_state.h - the inside of an open script, shared by script.c (the calls) and script_load.c
 * (the load).
 *
 * The host (the Lua state) comes and goes: after script_timeout or script_memory it is freed, and
 * the next message gets a new one from the same bundle. All else lives from open to close.
 */
#ifndef MR_LUA_SCRIPT_STATE_H
#define MR_LUA_SCRIPT_STATE_H

#include "lua/bundle.h"
#include "lua/context.h"
#include "lua/fields.h"
#include "lua/glance.h"
#include "lua/host.h"
#include "lua/keys.h"
#include "lua/library.h"
#include "lua/script.h"
#include "lua/template.h"

/* The script's functions, in the order in which they are called. */
enum mr_function {
    MR_FN_FILTER,
    MR_FN_KEY,
    MR_FN_PROJECT,
    MR_FN_EACH,
    MR_FN_MAP,
    MR_FN_SHAPE,
    MR_FN_ROW,
    MR_FN_INIT,
    MR_FN_TICK,
    MR_FN_N
};

struct mr_script_state {
    struct mr_script base; /* first: what callers hold */
    struct mr_script_options options;
    struct mr_bundle *bundle;
    struct mr_json *json;
    struct mr_library library;
    struct mr_fields fields;
    struct mr_glance glance;
    struct mr_templates templates;
    struct mr_keys keys;
    struct mr_view view;
    struct mr_host *host; /* NULL: to be made anew */
    bool has[MR_FN_N];    /* the functions stand in the registry, see mr_script_push_function */
    enum mr_leaves leaves[MR_FN_N]; /* shape, row: the record as it is, so that it needs no copy */
    bool makes;                     /* the record is made each time, and nobody else holds it */
    bool col_live;

    /* of the call that runs */
    enum mr_verdict verdict;
    const char *reason;
    char reason_given[64], reason_text[64]; /* by the filter, and in UTF-8 */
    struct mr_error *err;
    struct mr_rows *rows; /* of each */
};

extern const char *const mr_script_function_names[MR_FN_N];

/* A new host with everything in it, and `init` run in it. Errors are MR_STOP with exit code 78. */
MR_MUSTCHECK bool mr_script_load(struct mr_script_state *state, const struct mr_context *ctx,
                                 struct mr_error *err);

/* Inside the gate: functions, the message's table. */
void mr_script_push_function(struct lua_State *L, enum mr_function function);
void mr_script_push_message(struct lua_State *L);
/* The function that makes records: its name. */
const char *mr_script_maker(const struct mr_script_state *state);
/* outputs.c: shape and row of the record at `record`, or of each record of the list there, added to
 * the build. False: *state->err says why. */
MR_MUSTCHECK bool mr_script_outputs(struct lua_State *L, struct mr_script_state *state, int record);
/* each.c: the job of the `each` call; state->rows gives the rows. */
int mr_script_job_each(struct lua_State *L);
/* Is it that table: `each` may return it as the record. */
bool mr_script_is_row(struct lua_State *L, int index);
/* Once a state, for a lookup whose columns are known: the row's table. */
void mr_script_open_row(struct lua_State *L, const struct mr_lookup_schema *schema);

#endif
