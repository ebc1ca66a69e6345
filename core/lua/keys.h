/*
 * keys.h - what a script's `key` returned, as canonical keys of the lookup.
 *
 * C memory of the script, used again for each message. mr_keys_read runs inside the gate and raises
 * for memory only.
 */
#ifndef MR_LUA_KEYS_H
#define MR_LUA_KEYS_H

#include "millrace/lookup.h"

struct lua_State;

enum { MR_KEYS_MAX = 1024 }; /* of one message */

struct mr_keys {
    struct mr_buf bytes;
    struct mr_bytes list[MR_KEYS_MAX]; /* in the script's order, each once */
    size_t n;
};

/* The value at `index`: scalar, composite { a = , b = }, a list of either, nil or null (no key). */
MR_MUSTCHECK bool mr_keys_read(struct lua_State *L, int index,
                               const struct mr_lookup_schema *schema, struct mr_keys *keys,
                               struct mr_error *err);

#endif
