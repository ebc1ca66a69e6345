/*
 * admin.h - the admin port: /livez, /readyz and /metrics over HTTP, and /rehearse, which asks what
 * a reload would change. Nothing here changes anything.
 *
 * One server with one thread of its own, which calls `ready` and `before_metrics`; both must be
 * quick, since probes wait for them. `rehearse` may take seconds: it gets a thread of its own, one
 * at a time. It is for programs on this machine: POST from a loopback address, without an Origin.
 * Binds what `listen` names and nothing else. Who may ask: GET and HEAD, with a Host (and Origin)
 * header that is an IP address, "localhost" or the host of `listen`, so that a web page cannot
 * reach it by DNS rebinding. At most 32 connections, 16 KiB of request, 10 s of silence. Tests:
 * tests/unit/test_admin.c, tests/integration/metrics_spec.lua.
 */
#ifndef MR_ADMIN_ADMIN_H
#define MR_ADMIN_ADMIN_H

#include "base/buf.h"
#include "base/error.h"

#include <stdatomic.h>

struct mr_admin;

/* Of a request to rehearse. */
struct mr_admin_query {
    bool json;
    char pipeline[65]; /* empty: all */
};

struct mr_admin_options {
    /* "127.0.0.1:9469", "[::1]:9469", "localhost:9469"; port 0: any free one. Borrowed during
     * start. */
    const char *listen;
    /* What /readyz asks: appends one line a check to `out` ("[+]lookup subscribers ok",
     * "[-]promo/0 postgres: connection refused"), returns whether all are well. NULL: always ready.
     */
    bool (*ready)(void *arg, struct mr_buf *out);
    /* Called before /metrics is written, for gauges that are read when asked for. May be NULL. */
    void (*before_metrics)(void *arg);
    /* What POST /rehearse asks. Writes the body, and gives a word for the header Millrace-Result
     * (static). `stop` is set when the server ends: return soon. NULL: there is no such thing here.
     */
    const char *(*rehearse)(void *arg, const struct mr_admin_query *query, const atomic_bool *stop,
                            struct mr_buf *out);
    void *arg; /* of all; borrowed until mr_admin_stop */
};

/* Whether `listen` has a valid form; asks no network. MR_STOP, MR_EXIT_CONFIG. Any thread. */
MR_MUSTCHECK bool mr_admin_check_listen(const char *listen, struct mr_error *err);

/* Binds and starts the thread; gives *out. MR_STOP: MR_EXIT_CONFIG for an address that is wrong,
 * taken or forbidden (the sentence names admin.listen), MR_EXIT_UNREACHABLE for a server that
 * cannot start. */
MR_MUSTCHECK bool mr_admin_start(const struct mr_admin_options *options, struct mr_admin **out,
                                 struct mr_error *err);

/* The port that is bound: the one asked for, or the free one that was found. */
int mr_admin_port(const struct mr_admin *admin);

/* The end is near: no rehearsal begins from now on, and one that runs is asked to end. True: none
 * runs, so that stop need not wait for one. Any thread; NULL: true. */
bool mr_admin_quiet(struct mr_admin *admin);

/* Ends the thread, drops what connections there are; takes admin. NULL is nothing. */
void mr_admin_stop(struct mr_admin *admin);

#endif
