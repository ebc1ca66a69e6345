/*
 * version.c - `millrace version`: our version, and the libraries that the program was built with.
 *
 * Main thread. The versions come from the build (CMakeLists.txt): headers of third parties stay in
 * their rooms. Tests: tests/spec/cli_spec.lua.
 */
#include "cli/cli.h"

int mr_cli_version(const struct mr_cli_args *args)
{
    static const struct {
        const char *name, *version;
    } libraries[] = {
        {"librdkafka", MR_RDKAFKA_VERSION},
        {"libpq", MR_PQ_VERSION},
        {"lua", MR_LUA_VERSION},
        {"simdjson", MR_SIMDJSON_VERSION},
        {"libmicrohttpd", MR_MICROHTTPD_VERSION},
        {"xxhash", MR_XXHASH_VERSION},
        {"mimalloc", MR_MIMALLOC_VERSION},
    };
    size_t n = sizeof libraries / sizeof *libraries;
    if (args->json) {
        printf("{\"millrace\": \"%s\"", MR_VERSION);
        for (size_t i = 0; i < n; i++)
            printf(", \"%s\": \"%s\"", libraries[i].name, libraries[i].version);
        puts("}");
        return MR_EXIT_OK;
    }
    printf("millrace %s\n", MR_VERSION);
    for (size_t i = 0; i < n; i++)
        printf("  %-13s %s\n", libraries[i].name, libraries[i].version);
    return MR_EXIT_OK;
}
