/*
 * listen.h - the address the admin port listens on, and which Host names a request may carry.
 * Private to core/admin. Pure but for mr_listen_open; any thread.
 */
#ifndef MR_ADMIN_LISTEN_H
#define MR_ADMIN_LISTEN_H

#include "base/error.h"

struct mr_listen {
    char host[256]; /* without brackets */
    int port;       /* 0..65535 */
};

/* "host:port" or "[v6]:port". False: MR_STOP, MR_EXIT_CONFIG. */
MR_MUSTCHECK bool mr_listen_parse(const char *text, struct mr_listen *listen, struct mr_error *err);

/* A bound, listening, non-blocking socket; the caller takes it. listen->port becomes the real one;
 * *loopback: whether only this machine can reach it. */
MR_MUSTCHECK bool mr_listen_open(struct mr_listen *listen, int *fd, bool *loopback,
                                 struct mr_error *err);

/* Whether a Host header ("name", "name:port", "[v6]:port") may be answered: see admin.h. */
bool mr_listen_host_allowed(const struct mr_listen *listen, const char *host);

/* The same for an Origin header: "http://host[:port]" or https. "null" and anything else: no. */
bool mr_listen_origin_allowed(const struct mr_listen *listen, const char *origin);

#endif
