/*
 * admin.h - the admin port: /livez, /readyz and /metrics over HTTP, read-only.
 *
 * One server with one thread of its own, which calls `ready` and `before_metrics`; both must be
 * quick, since probes wait for them. Binds what `listen` names and nothing else. Who may ask: GET
 * and HEAD, with a Host (and Origin) header that is an IP address, "localhost" or the host of
 * `listen`, so that a web page cannot reach it by DNS rebinding. At most 32 connections, 16 KiB of
 * request, 10 s of silence. Tests: tests/unit/test_admin.c, tests/integration/metrics_spec.lua.
 */
#ifndef MR_ADMIN_ADMIN_H
#define MR_ADMIN_ADMIN_H

#include "base/buf.h"
#include "base/error.h"

struct mr_admin;

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
    void *arg; /* of both; borrowed until mr_admin_stop */
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

/* Ends the thread, drops what connections there are; takes admin. NULL is nothing. */
void mr_admin_stop(struct mr_admin *admin);

#endif
