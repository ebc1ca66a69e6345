/*
 * template.h - from a script's record to one output of the template: value, key, headers, and the
 * row.
 *
 * C memory of the script; the functions run inside the gate and raise for memory only. What was
 * appended before a failure is dropped by the next mr_build_reset.
 */
#ifndef MR_LUA_TEMPLATE_H
#define MR_LUA_TEMPLATE_H

#include "lua/build.h"
#include "lua/layout.h"

struct lua_State;

/* One of the sets of columns that rows have had. */
struct mr_set_node {
    struct mr_set_node *next;
    struct mr_column_set set;
};

struct mr_templates {
    struct mr_build build;
    const struct mr_row_schema *rows; /* NULL: no rows */
    const char *bundle;               /* for the header millrace-bundle; NULL: none */
    struct mr_set_node *sets;         /* column sets, interned: they live as long as the script */
    struct mr_build scratch;          /* JSON of a row's field */
    const char *const *topics;        /* to which shape may send; the first is the default */
    size_t n_topics;
    struct mr_layouts layouts; /* of records and rows */
};

void mr_template_fini(struct mr_templates *templates);

/* Once a state: names of the row's columns as Lua strings. */
void mr_template_open(struct lua_State *L, struct mr_templates *templates);

/* The four results of `shape`, from `results` on: value, key, headers, topic (nil where there was
 * none). */
MR_MUSTCHECK bool mr_template_message(struct lua_State *L, int results,
                                      struct mr_templates *templates, struct mr_output *output,
                                      struct mr_error *err);
/* The result of `row`. */
MR_MUSTCHECK bool mr_template_row(struct lua_State *L, int row, struct mr_templates *templates,
                                  struct mr_output *output, struct mr_error *err);

#endif
