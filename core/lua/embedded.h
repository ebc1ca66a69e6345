/*
 * embedded.h - the Lua modules that are part of the binary (core/lua/config*.lua, options.lua).
 *
 * Read-only data, any thread; written at build time by core/lua/embed.cmake.
 */
#ifndef MR_LUA_EMBEDDED_H
#define MR_LUA_EMBEDDED_H

#include <stddef.h>

struct mr_embedded {
    const char *name; /* of the file, without .lua */
    const char *text;
    size_t len;
};

extern const struct mr_embedded mr_embedded_modules[];
extern const size_t mr_embedded_count;

#endif
