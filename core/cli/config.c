/*
 * config.c - `millrace config`: prints the configuration in force, or the page about all options.
 *
 * Main thread. Must not know options: text comes from core/lua. Tests: tests/spec/config_spec.lua.
 */
#include "cli/cli.h"

#include "lua/config.h"

static int print_docs(struct mr_buf *text)
{
    struct mr_error err;
    if (mr_config_docs(text, &err))
        return MR_EXIT_OK;
    fprintf(stderr, "millrace config: %s\n", err.msg);
    return MR_EXIT_BUG;
}

int mr_cli_config(const struct mr_cli_args *args)
{
    int code = MR_EXIT_OK;
    struct mr_buf text, errors;
    mr_buf_init(&text);
    mr_buf_init(&errors);
    enum mr_config_format format = args->json ? MR_CONFIG_JSON : MR_CONFIG_LUA;
    if (args->docs)
        code = print_docs(&text);
    else if (!mr_config_show(args->config, args->sets, args->n_sets, mr_cli_checks(), format, &text,
                             &errors))
        code = MR_EXIT_CONFIG;
    fputs(mr_buf_cstr(&text), stdout);
    fputs(mr_buf_cstr(&errors), stderr);
    mr_buf_fini(&text);
    mr_buf_fini(&errors);
    return code;
}
