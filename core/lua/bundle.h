/*
 * bundle.h - the sources of a script: its file and the modules beside it, read once.
 *
 * A bundle outlives the Lua state: after a time-out the new state runs the same sources, not what
 * the files have become since. Its hash names what ran. C memory, counted: once it is sealed it
 * never changes, and scripts of several threads may run it.
 */
#ifndef MR_LUA_BUNDLE_H
#define MR_LUA_BUNDLE_H

#include "base/error.h"

struct lua_State;
struct mr_bundle;

struct mr_bundle *mr_bundle_new(const char *path);             /* with one reference */
struct mr_bundle *mr_bundle_acquire(struct mr_bundle *bundle); /* gives the same pointer */
void mr_bundle_release(struct mr_bundle *bundle);              /* NULL is nothing */

/* Inside the gate: sets the global `require`, runs the main file and pushes what it returns. */
void mr_bundle_run(struct lua_State *L, struct mr_bundle *bundle);
/* From here on `require` gives what is loaded and nothing new; the hash is made. */
void mr_bundle_seal(struct mr_bundle *bundle);
const char *mr_bundle_hash(const struct mr_bundle *bundle); /* 32 hex digits; "" before the seal */

const char *mr_bundle_path(const struct mr_bundle *bundle);
/* The text of the main file; NULL until it is read. */
const char *mr_bundle_text(const struct mr_bundle *bundle);
/* The path of the i-th file that was read, or could not be; NULL: there are no more. */
const char *mr_bundle_file(const struct mr_bundle *bundle, size_t i);

#endif
