/*
 * lint.h - what is wrong with a script by its text alone: uses of placeholders that Lua cannot
 * catch while it runs, and names of columns that are not there (lint.lua says which, and why).
 *
 * For `millrace check`. Reads the script's file and the modules that it requires. Any thread.
 */
#ifndef MR_LUA_LINT_H
#define MR_LUA_LINT_H

#include "base/error.h"
#include "millrace/lookup.h"

struct mr_lint_finding {
    const char *file;
    int line, column, length; /* of what is meant; bytes, from 1 */
    const char *code;         /* "placeholder-condition", "unknown-column", ... */
    const char *message, *hint;
    const char *text; /* the line */
};

/*
 * Calls `found` for each finding, file by file, in the order of the text; borrows until it returns.
 * `schema`: of the lookup, NULL if its columns are not known. False: a file could not be read, *err
 * is MR_STOP.
 */
MR_MUSTCHECK bool mr_lint_run(const char *const *files, size_t n_files,
                              const struct mr_lookup_schema *schema,
                              void (*found)(void *arg, const struct mr_lint_finding *finding),
                              void *arg, struct mr_error *err);

#endif
