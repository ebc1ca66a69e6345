/*
 * test.c - `millrace test`: busted specs, with the real core in reach of `require`.
 *
 * Main thread. The words behind the command are busted's, but for --help. Must not know specs or
 * busted (core/lua/test.c). Tests: tests/spec/test_command_spec.lua.
 */
#include "cli/cli.h"

#include "lua/test.h"

#include <string.h>

int mr_cli_test(const struct mr_cli_args *args)
{
    struct mr_error err;
    int code;
    for (int i = 0; i < args->argc && strcmp(args->argv[i], "--") != 0; i++) {
        if (strcmp(args->argv[i], "--help") == 0 || strcmp(args->argv[i], "-h") == 0) {
            mr_cli_help_text("test", stdout);
            return MR_EXIT_OK;
        }
    }
    if (!mr_lua_test(args->argc, args->argv, &code, &err)) {
        fprintf(stderr, "millrace test: %s\n", err.msg);
        return err.code;
    }
    return code;
}
