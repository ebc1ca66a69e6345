/*
 * test.h - runs busted specs in this process, with `millrace` and `millrace.testing` built in.
 *
 * One thread. Specs are the user's own programs: they run in an ordinary Lua, not in the sandbox.
 */
#ifndef MR_LUA_TEST_H
#define MR_LUA_TEST_H

#include "base/error.h"

/*
 * `argv`: what busted is given, options and files. *code: MR_EXIT_OK, MR_EXIT_TESTS_FAILED, or 64
 * for a command line that busted refuses (it has said why). False: busted is not installed, or the
 * run itself broke; *err says what to do.
 */
MR_MUSTCHECK bool mr_lua_test(int argc, char *const *argv, int *code, struct mr_error *err);

#endif
