/*
 * desk.h - a request whose answer takes seconds: its connection sleeps, a thread of its own does
 * the work and wakes it. One at a time. Private to core/admin.
 *
 * begin, take, leave: the server's thread. quiet: any. close: whoever stops the server, before it
 * does.
 * Embedded: init / fini.
 */
#ifndef MR_ADMIN_DESK_H
#define MR_ADMIN_DESK_H

#include "admin/admin.h"
#include "base/thread.h"

#include <microhttpd.h>
#include <pthread.h>

struct mr_rehearse_desk {
    pthread_mutex_t lock;
    pthread_cond_t ended;
    bool busy; /* from begin until leave */
    bool running;
    atomic_bool stop;
    const struct mr_admin_options *options;
    struct MHD_Connection *connection;
    struct mr_thread thread;
    struct mr_admin_query query;
    struct mr_buf out;
    const char *result;
};

void mr_desk_init(struct mr_rehearse_desk *desk);
void mr_desk_fini(struct mr_rehearse_desk *desk);

/* Puts the connection to sleep and starts the work. False: busy. */
bool mr_desk_begin(struct mr_rehearse_desk *desk, const struct mr_admin_options *options,
                   struct MHD_Connection *connection);
/* What came of it, once the connection is awake; gives `out`. */
void mr_desk_take(struct mr_rehearse_desk *desk, struct mr_buf *out, const char **result,
                  bool *json);
/* The request is over; nobody wants the answer, unless it was taken. */
void mr_desk_leave(struct mr_rehearse_desk *desk);
/* Asks the work to end; none begins from now on. True: none runs. Any thread. */
bool mr_desk_quiet(struct mr_rehearse_desk *desk);
/* Asks the work to end and waits for it; none begins from now on. */
void mr_desk_close(struct mr_rehearse_desk *desk);

/* Does the request come from this machine? */
bool mr_desk_is_local(struct MHD_Connection *connection);

#endif
