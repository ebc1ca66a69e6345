/*
 * test_admin.c - the admin port as a client sees it: raw HTTP over a loopback socket.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "admin/admin.h"
#include "admin/listen.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "support/wait.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { DEADLINE_MS = 10000 };

static atomic_bool well = true;
static atomic_int metrics_asked;

static bool ready(void *arg, struct mr_buf *out)
{
    mr_buf_printf(out, "[+]lookup %s ok\n", (const char *)arg);
    if (!well)
        mr_buf_put_text(out, "[-]promo/0 postgres: connection refused");
    return well;
}

static void before_metrics(void *arg)
{
    (void)arg;
    mr_metric_set(mr_metrics_get(MR_GAUGE, "test_asked", "How often /metrics was asked for.", ""),
                  ++metrics_asked);
}

static atomic_int rehearsals;
static atomic_bool slow; /* until somebody stops it, or this turns false */
static atomic_bool deaf; /* and does not heed a stop */

static const char *rehearse(void *arg, const struct mr_admin_query *query, const atomic_bool *end,
                            struct mr_buf *out)
{
    (void)arg;
    rehearsals++;
    while (slow && (deaf || !*end))
        mr_clock_sleep_ms(1); /* poll */
    mr_buf_printf(out, "%s of \"%s\"", query->json ? "json" : "text", query->pipeline);
    return *end ? "ended" : "differs";
}

static struct mr_admin *start_on(const char *listen)
{
    static char arg[] = "subscribers";
    struct mr_admin_options options = {.listen = listen,
                                       .ready = ready,
                                       .before_metrics = before_metrics,
                                       .rehearse = rehearse,
                                       .arg = arg};
    struct mr_admin *admin = NULL;
    struct mr_error err;
    if (!mr_admin_start(&options, &admin, &err))
        fail_msg("%s", err.msg);
    return admin;
}

static int start(void **state)
{
    well = true;
    *state = start_on("127.0.0.1:0");
    return 0;
}

static int stop(void **state)
{
    mr_admin_stop(*state);
    return 0;
}

static int dial(int port)
{
    struct sockaddr_in addr = {.sin_family = AF_INET,
                               .sin_port = htons((uint16_t)port),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval patience = {.tv_sec = DEADLINE_MS / 1000};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof addr), 0);
    return fd;
}

/* Sends `request` as it is; returns all that comes until the server closes, for the caller to free.
 */
static char *exchange(struct mr_admin *admin, const char *request)
{
    int fd = dial(mr_admin_port(admin));
    struct mr_buf got;
    mr_buf_init(&got);
    /* A refused request may be answered before all of it is sent: that is no error here. */
    (void)!send(fd, request, strlen(request), MSG_NOSIGNAL);
    for (;;) {
        ssize_t n = recv(fd, mr_buf_reserve(&got, 4096), 4096, 0);
        if (n <= 0)
            break;
        mr_buf_commit(&got, (size_t)n);
    }
    close(fd);
    mr_buf_cstr(&got);
    return got.ptr;
}

static char *ask(struct mr_admin *admin, const char *method, const char *target,
                 const char *headers)
{
    char request[1024];
    snprintf(request, sizeof request, "%s %s HTTP/1.1\r\nConnection: close\r\n%s\r\n", method,
             target, headers);
    return exchange(admin, request);
}

static char *get(struct mr_admin *admin, const char *target)
{
    return ask(admin, "GET", target, "Host: 127.0.0.1\r\n");
}

static int status_of(const char *answer)
{
    int status = 0;
    assert_int_equal(sscanf(answer, "HTTP/1.1 %d", &status), 1);
    return status;
}

static const char *body_of(const char *answer)
{
    const char *end = strstr(answer, "\r\n\r\n");
    assert_non_null(end);
    return end + 4;
}

static void expect(char *answer, int status, const char *body)
{
    assert_int_equal(status_of(answer), status);
    assert_string_equal(body_of(answer), body);
    free(answer);
}

static void expect_status(char *answer, int status)
{
    assert_int_equal(status_of(answer), status);
    free(answer);
}

static void livez_answers_whatever_readiness_says(void **state)
{
    expect(get(*state, "/livez"), 200, "ok");
    well = false;
    expect(get(*state, "/livez"), 200, "ok");
    expect(get(*state, "/livez?verbose"), 200, "[+]process ok\nlivez check passed\n");
}

static void readyz_lists_its_checks(void **state)
{
    expect(get(*state, "/readyz"), 200, "ok");
    expect(get(*state, "/readyz?verbose"), 200, "[+]lookup subscribers ok\nreadyz check passed\n");
    expect(get(*state, "/readyz?verbose=1"), 200,
           "[+]lookup subscribers ok\nreadyz check passed\n");
    well = false;
    expect(get(*state, "/readyz"), 503,
           "[+]lookup subscribers ok\n[-]promo/0 postgres: connection refused\n"
           "readyz check failed\n");
}

/* The value of a metric without labels, or with the labels given in the name. */
static double metric(const char *answer, const char *name)
{
    char line[128];
    snprintf(line, sizeof line, "\n%s ", name);
    const char *at = strstr(answer, line);
    if (!at)
        fail_msg("no metric %s in:\n%s", name, answer);
    return strtod(at + strlen(line), NULL);
}

static void metrics_tell_counters_and_the_process(void **state)
{
    mr_metric_add(mr_metrics_get(MR_COUNTER, "test_messages_total", "Messages.", "topic=\"in\""),
                  41);
    int asked = metrics_asked;
    char *answer = get(*state, "/metrics");
    assert_int_equal(status_of(answer), 200);
    assert_non_null(strstr(answer, "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
    assert_true(metric(answer, "test_messages_total{topic=\"in\"}") == 41);
    assert_true(metric(answer, "test_asked") == asked + 1);
    assert_true(metric(answer, "millrace_build_info{version=\"" MR_VERSION "\"}") == 1);
    assert_true(metric(answer, "process_resident_memory_bytes") > 500e3);
    assert_true(metric(answer, "process_virtual_memory_bytes") >
                metric(answer, "process_resident_memory_bytes"));
    assert_true(metric(answer, "process_cpu_seconds_total") > 0);
    assert_true(metric(answer, "process_max_fds") >= metric(answer, "process_open_fds"));
    double age_s = (double)time(NULL) - metric(answer, "process_start_time_seconds");
    assert_true(age_s > -2 && age_s < 600);
    free(answer);
}

static void open_fds_counts_one_more_for_one_more(void **state)
{
    char *before = get(*state, "/metrics");
    int fd = dup(0);
    assert_true(fd >= 0);
    char *after = get(*state, "/metrics");
    close(fd);
    assert_true(metric(after, "process_open_fds") == metric(before, "process_open_fds") + 1);
    free(before);
    free(after);
}

static void unknown_paths_get_the_list(void **state)
{
    const char *targets[] = {"/", "/livez/", "/LIVEZ", "/../livez", "/livez%2f"};
    for (size_t i = 0; i < sizeof targets / sizeof *targets; i++) {
        char *answer = get(*state, targets[i]);
        assert_int_equal(status_of(answer), 404);
        assert_non_null(strstr(body_of(answer), "/livez "));
        assert_non_null(strstr(body_of(answer), "/readyz "));
        assert_non_null(strstr(body_of(answer), "/metrics "));
        free(answer);
    }
}

static void only_get_and_head(void **state)
{
    const char *methods[] = {"POST", "PUT", "DELETE", "OPTIONS", "TRACE", "BREW"};
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        char *answer = ask(*state, methods[i], "/livez", "Host: localhost\r\n");
        assert_int_equal(status_of(answer), 405);
        assert_non_null(strstr(answer, "\r\nAllow: GET, HEAD\r\n"));
        free(answer);
    }
    char *answer = ask(*state, "HEAD", "/livez", "Host: localhost\r\n");
    assert_non_null(strstr(answer, "\r\nContent-Length: 2\r\n"));
    expect(answer, 200, "");
}

#define LOCAL "Host: 127.0.0.1\r\nContent-Length: 0\r\n"

static void a_rehearsal_is_answered_when_it_has_ended(void **state)
{
    slow = false;
    char *answer = ask(*state, "POST", "/rehearse", LOCAL);
    assert_non_null(strstr(answer, "\r\nMillrace-Result: differs\r\n"));
    expect(answer, 200, "text of \"\"");
    answer = ask(*state, "POST", "/rehearse?json=1&pipeline=promo", LOCAL);
    assert_non_null(strstr(answer, "\r\nContent-Type: application/json"));
    expect(answer, 200, "json of \"promo\"");
}

static void a_rehearsal_is_not_for_web_pages(void **state)
{
    const char *bad[] = {
        LOCAL "Origin: http://127.0.0.1:9469\r\n",
        LOCAL "Origin: null\r\n",
        LOCAL "Sec-Fetch-Site: cross-site\r\n",
        "Host: evil.example\r\nContent-Length: 0\r\n",
    };
    int before = rehearsals;
    slow = false;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char *answer = ask(*state, "POST", "/rehearse", bad[i]);
        assert_int_equal(status_of(answer), 403);
        free(answer);
    }
    char *answer = get(*state, "/rehearse");
    assert_int_equal(status_of(answer), 405);
    free(answer);
    answer = ask(*state, "POST", "/rehearse", "Host: 127.0.0.1\r\nContent-Length: 2\r\n\r\n{}");
    assert_int_equal(status_of(answer), 413);
    free(answer);
    assert_int_equal(rehearsals, before);
}

static void wait_rehearsals(int n)
{
    WAIT(rehearsals >= n);
}

static int send_rehearse(struct mr_admin *admin)
{
    static const char request[] = "POST /rehearse HTTP/1.1\r\nConnection: close\r\n" LOCAL "\r\n";
    int fd = dial(mr_admin_port(admin)), before = rehearsals;
    assert_int_equal(send(fd, request, strlen(request), MSG_NOSIGNAL), strlen(request));
    wait_rehearsals(before + 1);
    return fd;
}

static void probes_are_answered_while_a_rehearsal_runs_and_a_second_one_is_not(void **state)
{
    slow = true;
    int fd = send_rehearse(*state);
    expect(get(*state, "/livez"), 200, "ok");
    char *answer = ask(*state, "POST", "/rehearse", LOCAL);
    assert_int_equal(status_of(answer), 409);
    free(answer);
    slow = false;
    char text[1024] = "";
    for (size_t len = 0; !strstr(text, "text of");) {
        ssize_t n = recv(fd, text + len, sizeof text - 1 - len, 0);
        assert_true(n > 0);
        len += (size_t)n;
    }
    close(fd);
    expect(ask(*state, "POST", "/rehearse", LOCAL), 200, "text of \"\""); /* free again */
}

static void whoever_leaves_before_the_answer_leaves_nothing_behind(void **state)
{
    slow = true;
    close(send_rehearse(*state));
    slow = false;
    /* Free again, as soon as the server has noticed. */
    int64_t deadline = mr_clock_mono_ms() + DEADLINE_MS;
    for (int status = 0; status != 200;) {
        char *answer = ask(*state, "POST", "/rehearse", LOCAL);
        status = status_of(answer);
        free(answer);
        assert_true(mr_clock_mono_ms() < deadline);
    }
}

static void a_stop_ends_the_rehearsal_that_runs(void **state)
{
    (void)state;
    struct mr_admin *admin = start_on("127.0.0.1:0");
    slow = true;
    int fd = send_rehearse(admin);
    mr_admin_stop(admin);
    close(fd);
    slow = false;
}

static void an_end_need_not_wait_for_a_rehearsal_that_does_not_heed_it(void **state)
{
    (void)state;
    struct mr_admin *admin = start_on("127.0.0.1:0");
    assert_true(mr_admin_quiet(NULL));
    slow = deaf = true;
    int fd = send_rehearse(admin);
    assert_false(mr_admin_quiet(admin)); /* at once */
    char *answer = ask(admin, "POST", "/rehearse", LOCAL);
    assert_int_equal(status_of(answer), 409);
    free(answer);
    slow = deaf = false;
    WAIT(mr_admin_quiet(admin));
    mr_admin_stop(admin);
    close(fd);
}

static void answers_carry_protective_headers(void **state)
{
    char *answer = get(*state, "/readyz");
    assert_non_null(strstr(answer, "\r\nX-Content-Type-Options: nosniff\r\n"));
    assert_non_null(strstr(answer, "\r\nContent-Security-Policy: default-src 'none'"));
    assert_non_null(strstr(answer, "\r\nCache-Control: no-store\r\n"));
    free(answer);
}

static void a_foreign_host_or_origin_is_refused(void **state)
{
    const char *good[] = {
        "Host: 127.0.0.1:9469\r\n",
        "Host: 10.1.2.3\r\n",
        "Host: [::1]:1\r\n",
        "Host: LocalHost:65535\r\n",
        "Host: localhost\r\nOrigin: http://127.0.0.1:9469\r\n",
    };
    const char *bad[] = {
        "Host: evil.example\r\n",
        "Host: 127.0.0.1.evil.example\r\n",
        "Host: localhost.evil.example:80\r\n",
        "Host: localhost:port\r\n",
        "Host: [::1\r\n",
        "Host: localhost\r\nOrigin: http://evil.example\r\n",
        "Host: localhost\r\nOrigin: null\r\n",
        "Host: localhost\r\nHost: evil.example\r\n",
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        expect(ask(*state, "GET", "/livez", good[i]), 200, "ok");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char *answer = ask(*state, "GET", "/livez", bad[i]);
        if (status_of(answer) != 403)
            fail_msg("%s is answered: %s", bad[i], answer);
        assert_null(strstr(answer, "evil"));
        free(answer);
    }
    expect_status(ask(*state, "GET", "/livez", ""), 403); /* HTTP/1.1 demands a Host */
    expect(exchange(*state, "GET /livez HTTP/1.0\r\n\r\n"), 200, "ok");
}

static void the_name_that_listen_gives_is_a_good_host(void **state)
{
    (void)state;
    struct mr_listen listen;
    struct mr_error err;
    assert_true(mr_listen_parse("metrics.example:9469", &listen, &err));
    assert_true(mr_listen_host_allowed(&listen, "Metrics.Example"));
    assert_true(mr_listen_host_allowed(&listen, "metrics.example:9469"));
    assert_true(mr_listen_origin_allowed(&listen, "https://metrics.example"));
    assert_false(mr_listen_host_allowed(&listen, "metrics.example.evil.example"));
    assert_false(mr_listen_host_allowed(&listen, "example"));
    assert_false(mr_listen_host_allowed(&listen, ""));
    assert_false(mr_listen_origin_allowed(&listen, "metrics.example"));
    assert_false(mr_listen_origin_allowed(&listen, "ftp://metrics.example"));
}

static void bodies_and_giant_headers_are_refused(void **state)
{
    expect_status(ask(*state, "GET", "/livez", "Host: localhost\r\nContent-Length: 5\r\n"), 413);
    expect_status(ask(*state, "GET", "/livez", "Host: localhost\r\nTransfer-Encoding: chunked\r\n"),
                  413);
    struct mr_buf big;
    mr_buf_init(&big);
    mr_buf_put_text(&big, "GET /livez HTTP/1.1\r\nHost: localhost\r\nX: ");
    for (int i = 0; i < 200000; i++)
        mr_buf_put_char(&big, 'x');
    mr_buf_put_text(&big, "\r\n\r\n");
    char *answer = exchange(*state, mr_buf_cstr(&big));
    assert_null(strstr(answer, " 200 "));
    free(answer);
    mr_buf_fini(&big);
    expect(get(*state, "/livez"), 200, "ok");
}

static void connections_are_limited_and_the_next_waits_its_turn(void **state)
{
    enum { LIMIT = 32 };
    const char *request = "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";
    char byte;
    int fds[LIMIT];
    for (size_t i = 0; i < LIMIT; i++) {
        fds[i] = dial(mr_admin_port(*state));
        /* An answer shows that the server has accepted it, and keeps it. */
        assert_int_equal(send(fds[i], request, strlen(request), MSG_NOSIGNAL), strlen(request));
        assert_int_equal(recv(fds[i], &byte, 1, 0), 1);
    }
    int next = dial(mr_admin_port(*state));
    assert_int_equal(send(next, request, strlen(request), MSG_NOSIGNAL), strlen(request));
    struct pollfd waiting = {.fd = next, .events = POLLIN};
    assert_int_equal(poll(&waiting, 1, 200), 0);
    for (size_t i = 0; i < LIMIT; i++)
        close(fds[i]);
    assert_int_equal(poll(&waiting, 1, 8000), 1); /* not the silence of 10 s */
    assert_int_equal(recv(next, &byte, 1, 0), 1);
    close(next);
}

static void a_client_that_stays_does_not_delay_the_end(void **state)
{
    (void)state;
    struct mr_admin *admin = start_on("127.0.0.1:0");
    int fd = dial(mr_admin_port(admin));
    assert_int_equal(send(fd, "GET /li", 7, MSG_NOSIGNAL), 7);
    int64_t before_ms = mr_clock_mono_ms();
    mr_admin_stop(admin);
    assert_true(mr_clock_mono_ms() - before_ms < 8000);
    close(fd);
}

static void a_taken_port_names_the_option(void **state)
{
    char listen[32], port[8];
    snprintf(port, sizeof port, "%d", mr_admin_port(*state));
    snprintf(listen, sizeof listen, "127.0.0.1:%s", port);
    struct mr_admin_options options = {.listen = listen};
    struct mr_admin *admin = NULL;
    struct mr_error err;
    assert_false(mr_admin_start(&options, &admin, &err));
    assert_null(admin);
    assert_int_equal(err.action, MR_STOP);
    assert_int_equal(err.code, MR_EXIT_CONFIG);
    assert_non_null(strstr(err.msg, "admin.listen"));
    assert_non_null(strstr(err.msg, port));
    assert_non_null(strstr(err.msg, "another process listens there"));

    /* Free again at once after a stop, though connections to it have just been closed. */
    mr_admin_stop(*state);
    *state = start_on(listen);
    expect(get(*state, "/livez"), 200, "ok");
}

static void a_bad_address_is_explained(void **state)
{
    (void)state;
    const char *bad[] = {
        "",         "9469",         ":9469",     "127.0.0.1",  "[::1]",       "[::1:9469",
        "::1:9469", "127.0.0.1:",   "host:http", "host:65536", "host:999999", "host:-1",
        "[]:1",     "http://host:1"};
    struct mr_error err;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (mr_admin_check_listen(bad[i], &err))
            fail_msg("\"%s\" is accepted", bad[i]);
        assert_int_equal(err.code, MR_EXIT_CONFIG);
        assert_non_null(strstr(err.msg, "admin.listen"));
    }
    const char *good[] = {"127.0.0.1:0", "[::1]:9469", "localhost:65535", "0.0.0.0:1"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_true(mr_admin_check_listen(good[i], &err));

    struct mr_admin *admin = NULL;
    struct mr_admin_options options = {.listen = "192.0.2.1:0"}; /* nobody has that one */
    assert_false(mr_admin_start(&options, &admin, &err));
    assert_non_null(strstr(err.msg, "name an address of this machine"));
    options.listen = "no such host:0";
    assert_false(mr_admin_start(&options, &admin, &err));
    assert_non_null(strstr(err.msg, "no such host"));
}

static void keep_lines(const char *text, void *arg)
{
    mr_buf_printf(arg, "%s\n", text);
}

static void the_log_says_where_it_listens_and_warns_of_an_open_address(void **state)
{
    (void)state;
    struct mr_buf log;
    char expected[64];
    mr_buf_init(&log);
    mr_log_init(MR_INFO, MR_LOG_TEXT);
    mr_log_hook(keep_lines, &log);
    struct mr_admin *admin = start_on("127.0.0.1:0");
    snprintf(expected, sizeof expected, "admin: listening on http://127.0.0.1:%d",
             mr_admin_port(admin));
    mr_admin_stop(admin);
    assert_non_null(strstr(mr_buf_cstr(&log), expected));
    assert_null(strstr(mr_buf_cstr(&log), "warn"));
    mr_buf_reset(&log);
    mr_admin_stop(start_on("0.0.0.0:0"));
    mr_log_hook(NULL, NULL);
    mr_log_init(MR_WARN, MR_LOG_TEXT);
    assert_non_null(strstr(mr_buf_cstr(&log), "warn"));
    assert_non_null(strstr(mr_buf_cstr(&log), "other machines can reach the admin port"));
    mr_buf_fini(&log);
}

int main(void)
{
    mr_log_init(MR_WARN, MR_LOG_AUTO);
#define SERVED(f) cmocka_unit_test_setup_teardown(f, start, stop)
    const struct CMUnitTest tests[] = {
        SERVED(livez_answers_whatever_readiness_says),
        SERVED(readyz_lists_its_checks),
        SERVED(metrics_tell_counters_and_the_process),
        SERVED(open_fds_counts_one_more_for_one_more),
        SERVED(unknown_paths_get_the_list),
        SERVED(only_get_and_head),
        SERVED(a_rehearsal_is_answered_when_it_has_ended),
        SERVED(a_rehearsal_is_not_for_web_pages),
        SERVED(probes_are_answered_while_a_rehearsal_runs_and_a_second_one_is_not),
        SERVED(whoever_leaves_before_the_answer_leaves_nothing_behind),
        cmocka_unit_test(a_stop_ends_the_rehearsal_that_runs),
        cmocka_unit_test(an_end_need_not_wait_for_a_rehearsal_that_does_not_heed_it),
        SERVED(answers_carry_protective_headers),
        SERVED(a_foreign_host_or_origin_is_refused),
        cmocka_unit_test(the_name_that_listen_gives_is_a_good_host),
        SERVED(bodies_and_giant_headers_are_refused),
        SERVED(connections_are_limited_and_the_next_waits_its_turn),
        cmocka_unit_test(a_client_that_stays_does_not_delay_the_end),
        SERVED(a_taken_port_names_the_option),
        cmocka_unit_test(a_bad_address_is_explained),
        cmocka_unit_test(the_log_says_where_it_listens_and_warns_of_an_open_address),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
