/*
 * admin.c - the HTTP server of the admin port: routes, limits, answers.
 *
 * Started and stopped by one thread; requests are served by the server's own (libmicrohttpd's
 * internal polling thread). Owns the socket and that thread. Read-only: nothing here changes the
 * stream. Must not know what a pipeline is: `ready` and base/metrics tell it what to say. Tests:
 * tests/unit/test_admin.c.
 */
#include "admin/admin.h"

#include "admin/desk.h"
#include "admin/listen.h"
#include "admin/process.h"
#include "base/log.h"
#include "base/metrics.h"

#include <microhttpd.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

enum { CONNECTIONS_MAX = 32, REQUEST_MAX_BYTES = 16 * 1024, SILENCE_MAX_S = 10 };

struct mr_admin {
    struct mr_listen listen;
    struct mr_admin_options options; /* without `listen`, which was borrowed */
    struct MHD_Daemon *daemon;
    struct mr_log_gate complaints; /* of libmicrohttpd; server's thread */
    struct mr_rehearse_desk desk;
};

struct request {
    struct mr_admin *admin;
    struct MHD_Connection *connection;
};

static const char plain_text[] = "text/plain; charset=utf-8";

/* Takes body. `result`: NULL, or what a rehearsal came to. */
static enum MHD_Result answer_with(struct MHD_Connection *connection, unsigned status,
                                   const char *type, const char *result, struct mr_buf *body)
{
    static const char *const headers[][2] = {
        {MHD_HTTP_HEADER_CACHE_CONTROL, "no-store"},
        {"X-Content-Type-Options", "nosniff"},
        {"Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"},
    };
    struct MHD_Response *response =
        MHD_create_response_from_buffer_with_free_callback(body->len, body->ptr, free);
    if (!response) {
        mr_buf_fini(body);
        return MHD_NO;
    }
    *body = (struct mr_buf){0};
    enum MHD_Result ok = MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    for (size_t i = 0; ok == MHD_YES && i < sizeof headers / sizeof *headers; i++)
        ok = MHD_add_response_header(response, headers[i][0], headers[i][1]);
    if (ok == MHD_YES && status == MHD_HTTP_METHOD_NOT_ALLOWED)
        ok = MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
    if (ok == MHD_YES && result)
        ok = MHD_add_response_header(response, "Millrace-Result", result);
    if (ok == MHD_YES)
        ok = MHD_queue_response(connection, status, response);
    MHD_destroy_response(response);
    return ok;
}

static enum MHD_Result answer(struct MHD_Connection *connection, unsigned status, const char *type,
                              struct mr_buf *body)
{
    return answer_with(connection, status, type, NULL, body);
}

static enum MHD_Result refuse(struct MHD_Connection *connection, unsigned status,
                              const char *sentence)
{
    struct mr_buf body;
    mr_buf_init(&body);
    mr_buf_printf(&body, "%s\n", sentence);
    return answer(connection, status, plain_text, &body);
}

/* The checks of one endpoint as Kubernetes's own servers show them: "ok", or the list. */
static enum MHD_Result answer_checks(const struct request *req, const char *name, bool well,
                                     struct mr_buf *checks)
{
    struct mr_buf body;
    mr_buf_init(&body);
    const char *value;
    size_t len;
    bool verbose = MHD_lookup_connection_value_n(req->connection, MHD_GET_ARGUMENT_KIND, "verbose",
                                                 strlen("verbose"), &value, &len) == MHD_YES;
    if (well && !verbose) {
        mr_buf_put_text(&body, "ok");
    } else {
        mr_buf_put(&body, checks->ptr, checks->len);
        mr_buf_printf(&body, "%s check %s\n", name, well ? "passed" : "failed");
    }
    mr_buf_fini(checks);
    return answer(req->connection, well ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE, plain_text,
                  &body);
}

/* That this thread answers is the check. */
static enum MHD_Result get_livez(const struct request *req)
{
    struct mr_buf checks;
    mr_buf_init(&checks);
    mr_buf_put_text(&checks, "[+]process ok\n");
    return answer_checks(req, "livez", true, &checks);
}

static enum MHD_Result get_readyz(const struct request *req)
{
    const struct mr_admin_options *options = &req->admin->options;
    struct mr_buf checks;
    mr_buf_init(&checks);
    bool well = !options->ready || options->ready(options->arg, &checks);
    if (checks.len && checks.ptr[checks.len - 1] != '\n')
        mr_buf_put_char(&checks, '\n');
    return answer_checks(req, "readyz", well, &checks);
}

static enum MHD_Result get_metrics(const struct request *req)
{
    const struct mr_admin_options *options = &req->admin->options;
    if (options->before_metrics)
        options->before_metrics(options->arg);
    mr_process_update();
    struct mr_buf body;
    mr_buf_init(&body);
    mr_metrics_write(&body);
    return answer(req->connection, MHD_HTTP_OK, "text/plain; version=0.0.4; charset=utf-8", &body);
}

static const struct route {
    const char *path, *what;
    enum MHD_Result (*get)(const struct request *req);
} routes[] = {
    {"/livez", "the process runs", get_livez},
    {"/readyz", "it can do its work; ?verbose lists the checks", get_readyz},
    {"/metrics", "counters and gauges, for Prometheus", get_metrics},
};
enum { N_ROUTES = sizeof routes / sizeof *routes };

static enum MHD_Result not_found(struct MHD_Connection *connection)
{
    struct mr_buf body;
    mr_buf_init(&body);
    mr_buf_put_text(&body, "not here; what there is:\n");
    for (size_t i = 0; i < N_ROUTES; i++)
        mr_buf_printf(&body, "%-9s %s\n", routes[i].path, routes[i].what);
    mr_buf_put_text(&body, "/rehearse what a reload would change: millrace try --against-live\n");
    return answer(connection, MHD_HTTP_NOT_FOUND, plain_text, &body);
}

struct seen_headers {
    const struct mr_listen *listen;
    int hosts;
    bool refused, body, page; /* page: sent by one that a browser shows */
};

static enum MHD_Result see_header(void *cls, enum MHD_ValueKind kind, const char *name,
                                  const char *value)
{
    struct seen_headers *seen = cls;
    (void)kind;
    if (strcasecmp(name, MHD_HTTP_HEADER_HOST) == 0) {
        seen->hosts++;
        if (!value || !mr_listen_host_allowed(seen->listen, value))
            seen->refused = true;
    } else if (strcasecmp(name, "Sec-Fetch-Site") == 0) {
        seen->page = true;
    } else if (strcasecmp(name, "Origin") == 0) {
        seen->page = true;
        if (!value || !mr_listen_origin_allowed(seen->listen, value))
            seen->refused = true;
    } else if (strcasecmp(name, MHD_HTTP_HEADER_CONTENT_LENGTH) == 0) {
        if (!value || strcmp(value, "0") != 0)
            seen->body = true;
    } else if (strcasecmp(name, MHD_HTTP_HEADER_TRANSFER_ENCODING) == 0) {
        seen->body = true;
    }
    return MHD_YES;
}

/* Answers what must not reach a route; *done says that it did. */
static enum MHD_Result guard(const struct request *req, const char *url, const char *method,
                             const char *version, bool *done)
{
    bool rehearse = req->admin->options.rehearse && strcmp(url, "/rehearse") == 0;
    struct seen_headers seen = {.listen = &req->admin->listen};
    MHD_get_connection_values(req->connection, MHD_HEADER_KIND, see_header, &seen);
    *done = true;
    /* A browser always sends Host; only old probes, which speak HTTP/1.0, do not. */
    if (seen.refused || seen.hosts > 1 || (seen.hosts == 0 && strcmp(version, "HTTP/1.0") != 0))
        return refuse(req->connection, MHD_HTTP_FORBIDDEN,
                      "refused: Host and Origin must be an IP address, localhost or the host that "
                      "admin.listen names");
    if (rehearse && strcmp(method, MHD_HTTP_METHOD_POST) != 0)
        return refuse(req->connection, MHD_HTTP_METHOD_NOT_ALLOWED,
                      "a rehearsal is asked for with POST: millrace try --against-live");
    if (rehearse && (seen.page || !mr_desk_is_local(req->connection)))
        return refuse(req->connection, MHD_HTTP_FORBIDDEN,
                      "refused: only programs on this machine may ask for a rehearsal, and no web "
                      "page");
    if (!rehearse && strcmp(method, MHD_HTTP_METHOD_GET) != 0 &&
        strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
        return refuse(req->connection, MHD_HTTP_METHOD_NOT_ALLOWED,
                      "nothing can be changed here: only GET and HEAD are answered");
    if (seen.body)
        return refuse(req->connection, MHD_HTTP_CONTENT_TOO_LARGE, "no request here has a body");
    *done = false;
    return MHD_YES;
}

/* Asked for the first time the connection is put to sleep; a thread wakes it with the answer. */
static enum MHD_Result post_rehearse(const struct request *req, bool first, void **per_request)
{
    struct mr_rehearse_desk *desk = &req->admin->desk;
    const char *result = NULL;
    struct mr_buf body;
    bool json = false;
    if (first) {
        if (mr_desk_begin(desk, &req->admin->options, req->connection)) {
            *per_request = desk;
            return MHD_YES;
        }
        return refuse(req->connection, MHD_HTTP_CONFLICT,
                      "a rehearsal is running already; ask again when it has ended");
    }
    mr_desk_take(desk, &body, &result, &json);
    return answer_with(req->connection, MHD_HTTP_OK,
                       json ? "application/json; charset=utf-8" : plain_text, result, &body);
}

/* A client that has left before its answer came. */
static void completed(void *cls, struct MHD_Connection *connection, void **per_request,
                      enum MHD_RequestTerminationCode code)
{
    struct mr_admin *admin = cls;
    (void)connection;
    (void)code;
    if (*per_request == &admin->desk)
        mr_desk_leave(&admin->desk);
    *per_request = NULL;
}

/* libmicrohttpd calls this twice a request: when its headers are there, and to have it answered; a
 * third time when the answer had to be waited for. */
static enum MHD_Result serve(void *cls, struct MHD_Connection *connection, const char *url,
                             const char *method, const char *version, const char *upload,
                             size_t *upload_size, void **per_request)
{
    static char guarded;
    struct request req = {cls, connection};
    (void)upload;
    if (!*per_request) {
        bool done;
        enum MHD_Result result = guard(&req, url, method, version, &done);
        *per_request = &guarded;
        return done ? result : MHD_YES;
    }
    if (*upload_size)
        return MHD_NO; /* a body that no header announced */
    if (strcmp(method, MHD_HTTP_METHOD_POST) == 0)
        return post_rehearse(&req, *per_request == &guarded, per_request);
    for (size_t i = 0; i < N_ROUTES; i++)
        if (strcmp(url, routes[i].path) == 0)
            return routes[i].get(&req);
    return not_found(connection);
}

static void complain(void *cls, const char *format, va_list ap)
{
    struct mr_admin *admin = cls;
    char text[512];
    vsnprintf(text, sizeof text, format, ap);
    text[strcspn(text, "\n")] = '\0';
    mr_log_every(&admin->complaints, MR_DEBUG, "admin port: %s", text);
}

/* Takes fd. Signals are the business of the thread that waits for them, never of the server's. */
static struct MHD_Daemon *start_daemon(struct mr_admin *admin, int fd)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    struct MHD_Daemon *daemon = MHD_start_daemon(
        MHD_USE_EPOLL_INTERNAL_THREAD | MHD_USE_ITC | MHD_USE_ERROR_LOG | MHD_ALLOW_SUSPEND_RESUME,
        0, NULL, NULL, serve, admin, MHD_OPTION_NOTIFY_COMPLETED, completed, admin,
        MHD_OPTION_EXTERNAL_LOGGER, complain, admin, MHD_OPTION_LISTEN_SOCKET, fd,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS_MAX, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)REQUEST_MAX_BYTES, MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)SILENCE_MAX_S,
        MHD_OPTION_END);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return daemon;
}

bool mr_admin_check_listen(const char *listen, struct mr_error *err)
{
    struct mr_listen parsed;
    return mr_listen_parse(listen, &parsed, err);
}

bool mr_admin_start(const struct mr_admin_options *options, struct mr_admin **out,
                    struct mr_error *err)
{
    bool ok = false, loopback = false;
    int fd = -1;
    struct mr_admin *admin = mr_calloc(1, sizeof *admin);
    admin->options = *options;
    admin->options.listen = NULL;
    mr_desk_init(&admin->desk);
    if (!mr_listen_parse(options->listen, &admin->listen, err))
        goto out;
    if (!mr_listen_open(&admin->listen, &fd, &loopback, err))
        goto out;
    admin->daemon = start_daemon(admin, fd); /* takes fd, even if it fails */
    if (!admin->daemon) {
        mr_error_set(
            err, MR_STOP, MR_EXIT_UNREACHABLE,
            "admin.listen: the HTTP server on %s port %d did not start: the process is short of "
            "memory, threads or file descriptors (`ulimit -a`)",
            admin->listen.host, admin->listen.port);
        goto out;
    }
    if (!loopback)
        mr_log(MR_WARN,
               "admin.listen = \"%s\": other machines can reach the admin port, which asks for no "
               "password; it shows metrics and states, and changes nothing",
               options->listen);
    bool v6 = strchr(admin->listen.host, ':') != NULL;
    mr_log(MR_INFO, "admin: listening on http://%s%s%s:%d", v6 ? "[" : "", admin->listen.host,
           v6 ? "]" : "", admin->listen.port);
    *out = admin;
    admin = NULL;
    ok = true;
out:
    mr_admin_stop(admin);
    return ok;
}

int mr_admin_port(const struct mr_admin *admin)
{
    return admin->listen.port;
}

bool mr_admin_quiet(struct mr_admin *admin)
{
    return !admin || mr_desk_quiet(&admin->desk);
}

void mr_admin_stop(struct mr_admin *admin)
{
    if (!admin)
        return;
    mr_desk_close(&admin->desk); /* nothing may be asleep when the server ends */
    if (admin->daemon)
        MHD_stop_daemon(admin->daemon);
    mr_desk_fini(&admin->desk);
    free(admin);
}
