/*
 * fuzz_listen.c - what reaches the admin port before anything is decided: Host and Origin headers;
 * and the address that the configuration names.
 *
 * Input: an address, a newline, a header's value.
 */
#include "fuzz.h"

#include "admin/listen.h"

#include <strings.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mr_listen listen = {.host = "127.0.0.1", .port = 9469};
    struct mr_error err = {0};
    char *text = mr_strndup(size ? (const char *)data : "", size);
    char *header = strchr(text, '\n');
    if (header)
        *header++ = '\0';
    if (!mr_listen_parse(text, &listen, &err)) {
        FUZZ_CHECK(err.action == MR_STOP && err.code == MR_EXIT_CONFIG && err.msg[0], "%s",
                   err.msg);
        listen = (struct mr_listen){.host = "127.0.0.1", .port = 9469};
    }
    FUZZ_CHECK(listen.port >= 0 && listen.port <= 65535 && *listen.host, "\"%s\" is %s : %d", text,
               listen.host, listen.port);
    if (header) {
        /* What is no web page of ours does not get in. */
        bool origin = mr_listen_origin_allowed(&listen, header);
        FUZZ_CHECK(!origin || strncasecmp(header, "http", 4) == 0, "origin %s", header);
        (void)mr_listen_host_allowed(&listen, header);
    }
    free(text);
    return 0;
}
