/*
 * listen.c - admin.listen: parse it, bind it, and judge Host headers by it.
 *
 * Called by whoever starts the server and, for the headers, by the server's thread. Owns nothing:
 * the socket it opens goes to the caller. Must not know HTTP beyond the form of Host and Origin.
 * Tests: tests/unit/test_admin.c.
 */
#include "admin/listen.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BACKLOG = 64, PORT_MAX = 65535 };

static bool parse_port(const char *text, int *port)
{
    size_t digits = strspn(text, "0123456789");
    if (digits < 1 || digits > 5 || text[digits])
        return false;
    int value = 0;
    for (size_t i = 0; i < digits; i++)
        value = value * 10 + (text[i] - '0');
    *port = value;
    return value <= PORT_MAX;
}

/* Splits "name", "name:port", "[v6]", "[v6]:port"; *port is -1 where there is none. */
static bool split(const char *text, char *host, size_t host_size, int *port)
{
    const char *from = text, *end, *rest;
    if (*text == '[') {
        from = text + 1;
        end = strchr(from, ']');
        if (!end)
            return false;
        rest = end + 1;
    } else {
        end = rest = text + strcspn(text, ":");
    }
    size_t len = (size_t)(end - from);
    if (len == 0 || len >= host_size)
        return false;
    memcpy(host, from, len);
    host[len] = '\0';
    *port = -1;
    if (*rest == '\0')
        return true;
    return *rest == ':' && parse_port(rest + 1, port);
}

static bool is_address(const char *host)
{
    struct in6_addr any; /* large enough for both */
    return inet_pton(AF_INET, host, &any) == 1 || inet_pton(AF_INET6, host, &any) == 1;
}

bool mr_listen_parse(const char *text, struct mr_listen *listen, struct mr_error *err)
{
    if (!split(text, listen->host, sizeof listen->host, &listen->port) || listen->port < 0)
        return mr_error_set(err, MR_STOP, MR_EXIT_CONFIG,
                            "admin.listen = \"%s\" is not an address: expected host:port, such as "
                            "\"127.0.0.1:9469\", \"[::1]:9469\", or \"0.0.0.0:9469\" for every "
                            "address of this machine; port 0 takes any free one",
                            text);
    return true;
}

static bool is_loopback(const struct sockaddr *addr)
{
    if (addr->sa_family == AF_INET) {
        const struct sockaddr_in *v4 = (const void *)addr;
        return ntohl(v4->sin_addr.s_addr) >> 24 == 127;
    }
    const struct sockaddr_in6 *v6 = (const void *)addr;
    if (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr))
        return v6->sin6_addr.s6_addr[12] == 127;
    return IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr);
}

static int bound_port(int fd)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } addr;
    socklen_t len = sizeof addr;
    memset(&addr, 0, sizeof addr);
    if (getsockname(fd, &addr.any, &len) != 0)
        return 0;
    return ntohs(addr.any.sa_family == AF_INET6 ? addr.v6.sin6_port : addr.v4.sin_port);
}

static int bind_one(const struct addrinfo *info)
{
    int on = 1, saved;
    int fd = socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    /* Connections of a process that just ended do not keep the next one from its port. */
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0)
        goto fail;
    if (info->ai_family == AF_INET6 &&
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on) != 0)
        goto fail;
    if (bind(fd, info->ai_addr, info->ai_addrlen) != 0 || listen(fd, BACKLOG) != 0)
        goto fail;
    return fd;
fail:
    saved = errno;
    close(fd);
    errno = saved;
    return -1;
}

static bool bind_error(const struct mr_listen *listen, int code, struct mr_error *err)
{
    const char *cure = "name an address of this machine, such as 127.0.0.1";
    if (code == EADDRINUSE)
        cure = "another process listens there (see `ss -ltnp`), perhaps another Millrace: stop it, "
               "or give "
               "this one another port, --set admin.listen=127.0.0.1:0 for any free one";
    else if (code == EACCES)
        cure = "this user may not bind it: choose a port above 1023";
    return mr_error_set(err, MR_STOP, MR_EXIT_CONFIG,
                        "admin.listen: cannot listen on %s port %d: %s; %s", listen->host,
                        listen->port, strerror(code), cure);
}

bool mr_listen_open(struct mr_listen *listen, int *fd, bool *loopback, struct mr_error *err)
{
    char port[8];
    snprintf(port, sizeof port, "%d", listen->port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV | AI_PASSIVE};
    struct addrinfo *list = NULL;
    int failed = getaddrinfo(listen->host, port, &hints, &list);
    if (failed)
        return mr_error_set(
            err, MR_STOP, MR_EXIT_CONFIG,
            "admin.listen: the host \"%s\" has no address: %s; write an IP address, "
            "such as 127.0.0.1",
            listen->host, gai_strerror(failed));
    *fd = -1;
    int code = EADDRNOTAVAIL;
    for (const struct addrinfo *one = list; one && *fd < 0; one = one->ai_next) {
        *fd = bind_one(one);
        if (*fd >= 0) {
            *loopback = is_loopback(one->ai_addr);
            break;
        }
        code = errno;
        /* Only a family that is not there leads on to the next address: a taken port must not. */
        if (code != EADDRNOTAVAIL && code != EAFNOSUPPORT)
            break;
    }
    freeaddrinfo(list);
    if (*fd < 0)
        return bind_error(listen, code, err);
    listen->port = bound_port(*fd);
    return true;
}

bool mr_listen_host_allowed(const struct mr_listen *listen, const char *host)
{
    char name[256];
    int port;
    if (!split(host, name, sizeof name, &port))
        return false;
    return is_address(name) || strcasecmp(name, "localhost") == 0 ||
           strcasecmp(name, listen->host) == 0;
}

bool mr_listen_origin_allowed(const struct mr_listen *listen, const char *origin)
{
    const char *schemes[] = {"http://", "https://"};
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++)
        if (strncasecmp(origin, schemes[i], strlen(schemes[i])) == 0)
            return mr_listen_host_allowed(listen, origin + strlen(schemes[i]));
    return false;
}
