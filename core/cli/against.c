/*
 * against.c - `millrace try --against-live`: asks the running daemon what a reload would change.
 *
 * Main thread. One HTTP request to the admin port that the configuration names, on this machine;
 * the daemon reads its own files and answers with the report, which is passed on. Must not know
 * what a rehearsal is. Tests: tests/integration/rehearse_spec.lua.
 */
#include "cli/cli.h"

#include <errno.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum { READ_BYTES = 4096, PATIENCE_S = 60, OK_STATUS = 200 };

/* "host:port" or "[v6]:port", as it was checked at load. */
static void split(const char *listen, char host[256], const char **port)
{
    const char *colon = strrchr(listen, ':');
    size_t len = (size_t)(colon - listen);
    bool bracket = *listen == '[';
    snprintf(host, 256, "%.*s", (int)(len - 2 * bracket), listen + bracket);
    *port = colon + 1;
    if (!*host || strcmp(host, "0.0.0.0") == 0) /* all addresses: this is one of them */
        snprintf(host, 256, "127.0.0.1");
    else if (strcmp(host, "::") == 0)
        snprintf(host, 256, "::1");
}

/* A connected socket; -1: errno says why, or *resolve does. */
static int dial(const char *host, const char *port, int *resolve)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list = NULL;
    struct timeval patience = {.tv_sec = PATIENCE_S};
    int fd = -1;
    *resolve = getaddrinfo(host, port, &hints, &list);
    for (struct addrinfo *at = *resolve ? NULL : list; at && fd < 0; at = at->ai_next) {
        fd = socket(at->ai_family, at->ai_socktype | SOCK_CLOEXEC, 0);
        if (fd >= 0 && connect(fd, at->ai_addr, at->ai_addrlen) != 0) {
            int why = errno;
            close(fd);
            errno = why;
            fd = -1;
        }
    }
    if (fd >= 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (list)
        freeaddrinfo(list);
    return fd;
}

/* Sends all of it, then reads until the other side closes. */
static bool exchange(int fd, const struct mr_buf *request, struct mr_buf *answer)
{
    for (size_t sent = 0; sent < request->len;) {
        ssize_t n = send(fd, request->ptr + sent, request->len - sent, MSG_NOSIGNAL);
        if (n <= 0)
            return false;
        sent += (size_t)n;
    }
    for (;;) {
        ssize_t n = recv(fd, mr_buf_reserve(answer, READ_BYTES), READ_BYTES, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n == 0;
        mr_buf_commit(answer, (size_t)n);
    }
}

/* The value of a header, at most to its end of line; *len 0: it is not there. */
static const char *header(const char *head, const char *name, size_t *len)
{
    size_t name_len = strlen(name);
    *len = 0;
    for (const char *line = strstr(head, "\r\n"); line; line = strstr(line + 2, "\r\n")) {
        const char *at = line + 2;
        if (strncasecmp(at, name, name_len) != 0 || at[name_len] != ':')
            continue;
        at += name_len + 1;
        at += strspn(at, " \t");
        *len = strcspn(at, "\r\n");
        return at;
    }
    return NULL;
}

/* It was stopped, say. Half a report is none. */
static int cut_off(const char *listen)
{
    fprintf(stderr,
            "millrace try: the daemon on %s (admin.listen) ended the connection before its answer "
            "was complete\n",
            listen);
    return MR_EXIT_UNREACHABLE;
}

/* What the daemon said, to stdout; the exit code. */
static int pass_on(struct mr_buf *answer, const char *listen)
{
    static const struct {
        const char *result;
        int code;
    } codes[] = {
        {"same", MR_EXIT_OK}, {"differs", MR_EXIT_TESTS_FAILED}, {"broken", MR_EXIT_CONFIG}};
    char *text = answer->ptr, *body = strstr(text, "\r\n\r\n");
    int status = 0;
    size_t len = 0;
    if (!answer->len)
        return cut_off(listen);
    if (sscanf(text, "HTTP/1.%*d %d", &status) != 1 || !body) {
        fprintf(stderr, "millrace try: what answers on %s (admin.listen) is no millrace\n", listen);
        return MR_EXIT_UNREACHABLE;
    }
    *body = '\0';
    body += strlen("\r\n\r\n");
    const char *length = header(text, "Content-Length", &len);
    if (len && strtoull(length, NULL, 10) != (size_t)(answer->ptr + answer->len - body))
        return cut_off(listen);
    const char *result = header(text, "Millrace-Result", &len);
    for (size_t i = 0; status == OK_STATUS && i < sizeof codes / sizeof *codes; i++)
        if (len == strlen(codes[i].result) && strncmp(result, codes[i].result, len) == 0) {
            fwrite(body, 1, (size_t)(answer->ptr + answer->len - body), stdout);
            return codes[i].code;
        }
    fprintf(stderr, "millrace try: %s (admin.listen) answered with status %d: %.*s\n", listen,
            status, (int)strcspn(body, "\r\n"), body);
    return MR_EXIT_UNREACHABLE;
}

int mr_cli_try_against_live(const struct mr_cli_args *args, const struct mr_node *config,
                            const char *pipeline)
{
    const char *listen = mr_node_text(config, "admin.listen"), *port;
    char host[256];
    int resolve, code = MR_EXIT_UNREACHABLE;
    struct mr_buf request = {0}, answer = {0};
    if (!listen || !*listen || strcmp(listen, "off") == 0) {
        fputs("millrace try: --against-live asks the daemon at admin.listen, which the "
              "configuration turns off\n",
              stderr);
        return MR_EXIT_CONFIG;
    }
    split(listen, host, &port);
    int fd = dial(host, port, &resolve);
    if (fd < 0) {
        fprintf(stderr,
                "millrace try: no daemon answers on %s (admin.listen): %s; is `millrace run` up, "
                "with this configuration?\n",
                listen, resolve ? gai_strerror(resolve) : strerror(errno));
        return code;
    }
    bool v6 = strchr(host, ':') != NULL;
    mr_buf_printf(&request,
                  "POST /rehearse?%s%s%s HTTP/1.0\r\nHost: %s%s%s:%s\r\nContent-Length: 0\r\n\r\n",
                  args->json ? "json=1" : "", pipeline ? "&pipeline=" : "",
                  pipeline ? pipeline : "", v6 ? "[" : "", host, v6 ? "]" : "", port);
    bool whole = exchange(fd, &request, &answer);
    mr_buf_cstr(&answer);
    if (whole)
        code = pass_on(&answer, listen);
    else
        fprintf(stderr,
                "millrace try: the daemon on %s (admin.listen) gave no answer within %d s\n",
                listen, PATIENCE_S);
    close(fd);
    mr_buf_fini(&request);
    mr_buf_fini(&answer);
    return code;
}
