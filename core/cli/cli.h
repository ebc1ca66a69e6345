/*
 * cli.h - the command line: what each command is given, and the commands.
 *
 * One file a command (core/cli/<command>.c). A command returns the exit code of the process (enum
 * mr_exit); exit() is called by main.c alone. Data goes to stdout, everything else to stderr. Main
 * thread.
 */
#ifndef MR_CLI_CLI_H
#define MR_CLI_CLI_H

#include "base/buf.h"
#include "base/tree.h"

#include <stdio.h>

struct mr_cli_args {
    const char *config;      /* -c; "config.lua" unless given */
    const char *const *sets; /* --set, in order */
    size_t n_sets;
    const char *word; /* of `help`: the command; of `try`, `bench`, `audit`, `repair`: the pipeline;
                         or NULL */
    bool watch;       /* of `run` */
    bool json, connect, print, create_topics, docs;
    int partitions, replication; /* of topics to create; 0: the brokers' defaults */
    const char *since, *until;   /* of `audit`; NULL: not given */
    const char *topic, *take;    /* of `repair`; NULL: not given */
    int partition;               /* of `repair`; -1: not given */
    bool all;
    const char *rows, *now;      /* of `try` (rows: of `bench` too); NULL: not given */
    bool records;                /* of `try` */
    bool against_live;           /* of `try` */
    int each, messages, seconds; /* of `bench`; 0: not given */
    int argc;                    /* of `test`: all that stands behind the command */
    char *const *argv;
};

/* Finds the command, reads its options, runs it. */
int mr_cli_main(int argc, char **argv);
/* `run` has left threads behind that did not end in time: the process must end by _exit. */
bool mr_cli_abandoned(void);

int mr_cli_run(const struct mr_cli_args *args);
int mr_cli_check(const struct mr_cli_args *args);
int mr_cli_init(const struct mr_cli_args *args);
int mr_cli_try(const struct mr_cli_args *args);
int mr_cli_bench(const struct mr_cli_args *args);
int mr_cli_audit(const struct mr_cli_args *args);
int mr_cli_repair(const struct mr_cli_args *args);
int mr_cli_test(const struct mr_cli_args *args);
int mr_cli_config(const struct mr_cli_args *args);
int mr_cli_version(const struct mr_cli_args *args);
int mr_cli_help(const struct mr_cli_args *args);

/* After `run`: threads are left that did not end in time. main.c ends by _exit then, which harms
 * nothing. */
bool mr_cli_abandoned(void);

/* --- shared by commands --- */

/* The text about `command`, examples first; NULL or unknown: about millrace. */
void mr_cli_help_text(const char *command, FILE *out);

/* The name nearest to `word` among the commands, or NULL. */
const char *mr_cli_nearest_command(const char *word);

/*
 * Loads the configuration with what all rooms know about it, and sets up the log as it says. False:
 * what is wrong has been written to stderr; return MR_EXIT_CONFIG. *out: mr_node_free.
 */
MR_MUSTCHECK bool mr_cli_load(const struct mr_cli_args *args, struct mr_node **out);

/* The same, quietly: errors are appended to `errors`, the log is left alone. */
MR_MUSTCHECK bool mr_cli_load_quietly(const struct mr_cli_args *args, struct mr_node **out,
                                      struct mr_buf *errors);

/* The pipeline that is meant: the one named, or the only one, or the only one with the option
 * `with` (may be NULL). NULL: none; a sentence has been written to stderr. */
const struct mr_node *mr_cli_pipeline(const struct mr_cli_args *args, const struct mr_node *config,
                                      const char *command, const char *with);

/* Level and format of the log as the configuration says; before threads start. */
void mr_cli_set_up_log(const struct mr_node *config);

/* The part of `try` that asks the running daemon (against.c). */
int mr_cli_try_against_live(const struct mr_cli_args *args, const struct mr_node *config,
                            const char *pipeline);

struct mr_config_checks;
/* What the rooms know; never changes. */
const struct mr_config_checks *mr_cli_checks(void);

#endif
