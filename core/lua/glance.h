/*
 * glance.h - a look at a message before its table is made: does it have the fields, does filter
 * want it.
 *
 * Most messages may be none of the script's business, and most of what a message costs is its
 * table. A filter that does nothing with msg but read fields of it by name (reads.h) is called with
 * a table of these fields alone; what it drops is never made whole. One a script; inside the gate.
 */
#ifndef MR_LUA_GLANCE_H
#define MR_LUA_GLANCE_H

#include "lua/fields.h"
#include "lua/reads.h"

struct mr_glance {
    bool of_fields, of_filter;  /* what it is good for */
    struct mr_json_looks looks; /* the fields in their order, then what else the filter reads */
    struct mr_reads reads;
    size_t at[MR_READS_MAX]; /* where each of them stands among the looks */
    int view, names;         /* in the registry of the state: the table, the names as strings */
};

/* Once a state, when the fields are compiled. The filter, or nil, is on top of the stack. */
void mr_glance_open(struct lua_State *L, struct mr_glance *glance, const struct mr_fields *fields);
void mr_glance_fini(struct mr_glance *glance);

/* Looks at what was parsed last. True: it is an object that can be made whole, and has the
 * fields. In all other cases the table says what is wrong. */
bool mr_glance_fits(struct mr_glance *glance, const struct mr_fields *fields,
                    const struct mr_json *json);
/* After that: pushes what the filter is called with. False, nothing pushed: it has to be the whole
 * message. */
bool mr_glance_push(struct lua_State *L, const struct mr_glance *glance);

#endif
