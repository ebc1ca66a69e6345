/*
 * desk.c - the one place for requests that take their time.
 *
 * The server's thread, and one that the desk starts. Owns that thread and what it wrote. Must not
 * know what the work is. Tests: tests/unit/test_admin.c.
 */
#include "admin/desk.h"

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void mr_desk_init(struct mr_rehearse_desk *desk)
{
    pthread_mutex_init(&desk->lock, NULL);
    pthread_cond_init(&desk->ended, NULL);
}

void mr_desk_fini(struct mr_rehearse_desk *desk)
{
    mr_desk_leave(desk);
    pthread_mutex_destroy(&desk->lock);
    pthread_cond_destroy(&desk->ended);
}

static void work(void *arg)
{
    struct mr_rehearse_desk *desk = arg;
    desk->result =
        desk->options->rehearse(desk->options->arg, &desk->query, &desk->stop, &desk->out);
    /* Under the lock, so that close returns only when nothing of the server is touched any more. */
    pthread_mutex_lock(&desk->lock);
    MHD_resume_connection(desk->connection);
    desk->running = false;
    pthread_cond_broadcast(&desk->ended);
    pthread_mutex_unlock(&desk->lock);
}

static enum MHD_Result read_argument(void *cls, enum MHD_ValueKind kind, const char *name,
                                     const char *value)
{
    struct mr_admin_query *query = cls;
    (void)kind;
    if (strcmp(name, "json") == 0)
        query->json = true;
    else if (strcmp(name, "pipeline") == 0 && value)
        snprintf(query->pipeline, sizeof query->pipeline, "%s", value);
    return MHD_YES;
}

bool mr_desk_begin(struct mr_rehearse_desk *desk, const struct mr_admin_options *options,
                   struct MHD_Connection *connection)
{
    pthread_mutex_lock(&desk->lock);
    bool ok = !desk->busy && !atomic_load(&desk->stop);
    if (ok) {
        desk->busy = desk->running = true;
        desk->options = options;
        desk->connection = connection;
        desk->query = (struct mr_admin_query){0};
        MHD_get_connection_values(connection, MHD_GET_ARGUMENT_KIND, read_argument, &desk->query);
        MHD_suspend_connection(connection);
        mr_thread_start(&desk->thread, work, desk);
    }
    pthread_mutex_unlock(&desk->lock);
    return ok;
}

void mr_desk_take(struct mr_rehearse_desk *desk, struct mr_buf *out, const char **result,
                  bool *json)
{
    *out = desk->out;
    desk->out = (struct mr_buf){0};
    *result = desk->result;
    *json = desk->query.json;
    mr_buf_cstr(out); /* never NULL */
}

void mr_desk_leave(struct mr_rehearse_desk *desk)
{
    if (!desk->busy)
        return;
    bool joined = mr_thread_join(&desk->thread, INT64_MAX); /* it has woken us: it is at its end */
    mr_assert(joined);
    mr_buf_fini(&desk->out);
    pthread_mutex_lock(&desk->lock);
    desk->busy = false;
    pthread_mutex_unlock(&desk->lock);
}

bool mr_desk_quiet(struct mr_rehearse_desk *desk)
{
    pthread_mutex_lock(&desk->lock);
    atomic_store(&desk->stop, true);
    bool quiet = !desk->running;
    pthread_mutex_unlock(&desk->lock);
    return quiet;
}

void mr_desk_close(struct mr_rehearse_desk *desk)
{
    pthread_mutex_lock(&desk->lock);
    atomic_store(&desk->stop, true);
    while (desk->running)
        pthread_cond_wait(&desk->ended, &desk->lock);
    pthread_mutex_unlock(&desk->lock);
}

bool mr_desk_is_local(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    if (!info || !info->client_addr)
        return false;
    if (info->client_addr->sa_family == AF_INET) {
        struct sockaddr_in v4;
        memcpy(&v4, info->client_addr, sizeof v4);
        return ntohl(v4.sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
    }
    struct sockaddr_in6 v6;
    if (info->client_addr->sa_family != AF_INET6)
        return false;
    memcpy(&v6, info->client_addr, sizeof v6);
    return IN6_IS_ADDR_LOOPBACK(&v6.sin6_addr) ||
           (IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr) && v6.sin6_addr.s6_addr[12] == IN_LOOPBACKNET);
}
