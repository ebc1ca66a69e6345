/*
 * library.h - the globals that Millrace gives to scripts: null, array, json, time.
 *
 * The C side of `json` (a decoder, a buf) belongs to whoever opens the state and outlives it.
 * Inside the gate.
 */
#ifndef MR_LUA_LIBRARY_H
#define MR_LUA_LIBRARY_H

#include "lua/build.h"
#include "lua/json.h"

struct mr_library {
    struct mr_json *json;  /* borrowed */
    struct mr_build build; /* of json.encode */
};

void mr_library_open(struct lua_State *L, struct mr_library *library);

#endif
