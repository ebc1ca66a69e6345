/*
 * main.c - the program: argv to a command, and the only exit of the process.
 *
 * Main thread. Core dumps are off, since memory holds passwords: a limit of one byte also keeps a
 * core pattern that pipes to a program from getting one. SIGPIPE is ignored: a peer that is gone is
 * an error of the write. Must not know any command. Tests: tests/spec/cli_spec.lua.
 */
#include "base/log.h"
#include "cli/cli.h"

#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    setrlimit(RLIMIT_CORE, &(struct rlimit){1, 1});
    signal(SIGPIPE, SIG_IGN);
    mr_log_init(MR_INFO, MR_LOG_AUTO);
    int code = mr_cli_main(argc, argv);
    if (mr_cli_abandoned())
        _exit(code); /* threads are still at work: their memory must stay */
    return code;
}
