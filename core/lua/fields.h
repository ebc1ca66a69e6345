/*
 * fields.h - a script's `fields`: which fields a message must have, and of what type.
 *
 * Compiled once at load, checked in C before any function of the script runs. Inside the gate.
 */
#ifndef MR_LUA_FIELDS_H
#define MR_LUA_FIELDS_H

#include "lua/json.h"

#include <stddef.h>

struct lua_State;

struct mr_field {
    char *name;
    unsigned char type; /* enum of fields.c */
    bool optional;      /* may be missing or null */
};

struct mr_fields {
    struct mr_field *list;
    size_t n;
};

/* Compiles the table at `index`; raises a sentence, behind `where`, if it is wrong. Keeps the names
 * in the state too. */
void mr_fields_compile(struct lua_State *L, int index, struct mr_fields *fields, const char *where);
void mr_fields_fini(struct mr_fields *fields);

/* Checks the message at `index`. False: class schema, naming field, what was expected and what
 * came. */
MR_MUSTCHECK bool mr_fields_check(struct lua_State *L, int index, const struct mr_fields *fields,
                                  struct mr_error *err);

/* The same of looks, of which the first are the fields, in their order. False: mr_fields_check says
 * what is wrong. */
bool mr_fields_fit(const struct mr_fields *fields, const struct mr_json_looks *looks);

/* Appends a message (JSON) that has all fields: texts that end in `number`, numbers that are the
 * time in seconds. */
void mr_fields_sample(const struct mr_fields *fields, int64_t now_s, unsigned number,
                      struct mr_buf *out);

#endif
