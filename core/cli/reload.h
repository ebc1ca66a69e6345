/*
 * reload.h - new configuration and scripts for a running instance, without a stop.
 *
 * A reload runs in a thread of its own: read everything anew (candidate.h), rehearse it if somebody
 * wants to, let every worker open its script beside the one in use, then let all of them take it,
 * or none (stream/app.h). Errors are told in the log and change nothing. Driven by the instance's
 * thread.
 */
#ifndef MR_CLI_RELOAD_H
#define MR_CLI_RELOAD_H

#include "cli/candidate.h"

/*
 * Called in the reload's thread between "it loads" and "it is offered to the workers": may take its
 * time, and may say no (false, *why a sentence). `stop` is set when the program ends: return soon.
 */
struct mr_rehearsal {
    bool (*run)(void *arg, const struct mr_candidate *candidate, const atomic_bool *stop,
                struct mr_error *why);
    void *arg; /* run NULL: none */
};

enum mr_reload_result {
    MR_RELOAD_APPLIED,
    MR_RELOAD_UNCHANGED, /* nothing differs */
    MR_RELOAD_FAILED,    /* what is there is wrong; the old goes on */
    MR_RELOAD_REFUSED,   /* something that cannot change while it runs */
    MR_RELOAD_BLOCKED,   /* by the rehearsal */
    MR_RELOAD_RESULTS
};

struct mr_reload;

/* Copies args' config and sets. Borrows the wiring and its app until free. */
struct mr_reload *mr_reload_new(const struct mr_cli_args *args, struct mr_wiring *wiring,
                                const struct mr_rehearsal *rehearsal);
/* Begins one, or another one after the one that runs. `quiet`: that nothing differs is no news. */
void mr_reload_ask(struct mr_reload *reload, bool quiet);
/* Looks whether it has come to its end; to be called now and then. True: none is running. */
bool mr_reload_serve(struct mr_reload *reload);
/* How many calls of mr_reload_ask have been answered, and how the last reload went: its line of the
 * log in `text` (both may be NULL). Any thread. */
unsigned mr_reload_last(struct mr_reload *reload, enum mr_reload_result *result,
                        struct mr_buf *text);
/* Configuration and overrides, as it reads them; any thread. */
const struct mr_cli_args *mr_reload_args(const struct mr_reload *reload);
/* The files whose change makes a reload worth while, a newline after each; any thread. */
void mr_reload_files(struct mr_reload *reload, struct mr_buf *out);
/* None may be running. */
void mr_reload_free(struct mr_reload *reload);

#endif
