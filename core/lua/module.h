/*
 * module.h - private to millrace.so and `millrace test`: a script in a pipeline of its own, fed by
 * a spec.
 *
 * Everything runs in the Lua of the spec, which may raise: memory belongs to the userdata of the
 * object. `millrace.script{...}` makes it (module.c), `process` gives it a message (module_run.c),
 * tables and rows are brought into the core's form and back in module_data.c.
 */
#ifndef MR_LUA_MODULE_H
#define MR_LUA_MODULE_H

#include "base/arena.h"
#include "base/tree.h"
#include "lua/script.h"
#include "stream/anyrow.h"
#include "stream/trial.h"

struct lua_State;

enum { MR_MODULE_HEADERS = 64 };

struct mr_module_object {
    struct mr_script *script;
    struct mr_script_options options;
    struct mr_arena arena; /* of the options */
    struct mr_lookup_schema columns;
    struct mr_row_schema rows; /* as the spec describes them, */
    struct mr_anyrow *any;     /* or of any columns */
    struct mr_node *vars;
    struct mr_lookup *lookup; /* NULL: the script's `map` */
    bool distinct;
    uint32_t chunk_outputs;
    size_t chunk_bytes, max_message_bytes;
    struct mr_trial *trial;

    /* of one message; C memory that outlives a raise */
    struct mr_record rec;
    struct mr_header headers[MR_MODULE_HEADERS];
    struct mr_table_builder *builder;
    struct lua_State *L; /* where the outputs go, at these places of its stack */
    int messages_at, rows_at;
};

/* --- module_run.c --- */

/* The script is a new one: from now on messages go through it. */
void mr_module_begin(struct mr_module_object *object);
/* object:process{...}; the object stands at 1, the message at 2. Pushes the result. */
int mr_module_process(struct lua_State *L, struct mr_module_object *object);
int mr_module_tick(struct lua_State *L, struct mr_module_object *object);

/* --- module_data.c --- */

/* From keys = { name = type }, columns = { name = type }. */
void mr_module_lookup(struct lua_State *L, int options, struct mr_arena *arena,
                      struct mr_lookup_schema *out);
/* From table = { "name type[ not null][ default][ generated]", ... }. */
void mr_module_row_schema(struct lua_State *L, int table, struct mr_arena *arena,
                          struct mr_row_schema *out);
/* Replaces the rows of the lookup by the list at `rows`; nil: by none. */
void mr_module_fill(struct lua_State *L, int rows, struct mr_module_object *object);
/* Pushes a row as stamped: a table of column names and text forms (null for NULL); JSON forms where
 * the table is not known. */
void mr_module_push_row(struct lua_State *L, const struct mr_row_schema *schema,
                        const struct mr_column_set *set, struct mr_bytes row);
/* vars = { ... }; the caller frees it. */
void mr_module_read_vars(struct lua_State *L, int vars, struct mr_node *parent);

/* --- testing.c --- */

/* Into the module's table on top: config, json, null, array, time, metrics, the log. */
void mr_module_add_testing(struct lua_State *L);
/* Compiles one of our own Lua modules and pushes the function. */
void mr_module_load_embedded(struct lua_State *L, const char *name);

/* For require. */
int luaopen_millrace(struct lua_State *L);
int luaopen_millrace_testing(struct lua_State *L);

#endif
