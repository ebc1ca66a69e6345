/*
 * volume.c - what a large lookup costs: seconds and memory of a load, and whether a feed keeps up.
 *
 *   lookup_volume load FEED PAIRS           bare COPY reads and loads in turn, then memory
 *   lookup_volume rate FEED SECONDS CHANGES follows that many changes a second
 *
 * FEED: logical changelog reload. Works on the table subscribers_restaurants of MILLRACE_PG, which
 * somebody else has filled; the churn is tests/lookup/churn.sql. Prints figures; exit status 1 when
 * one is out of the bounds that issue 5 sets. tools/lookup runs it.
 */
#include "support/follower.h"
#include "base/clock.h"
#include "base/log.h"

#include <libpq-fe.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

enum { WAIT_MS = 600000, PAIRS_MAX = 32 };

static const char *const keys[] = {"restaurant_id"}, *const columns[] = {"client_id"};
static struct mr_postgres_feed_options options = {.lookup = {.name = "subscribers",
                                                             .table = "subscribers_restaurants",
                                                             .keys = keys,
                                                             .n_keys = 1,
                                                             .columns = columns,
                                                             .n_columns = 1,
                                                             .distinct = true},
                                                  .interval_ms = 3600000,
                                                  .publication = "lookup_volume"};
static bool out_of_bounds;

static void die(const char *what, const char *why)
{
    fprintf(stderr, "%s: %s\n", what, why);
    exit(70);
}

static double since_s(int64_t began_us)
{
    return (double)(mr_clock_mono_us() - began_us) / 1e6;
}

static double cpu_s(void)
{
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
           (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

/* A line of /proc/self/status, in bytes. */
static double memory(const char *field)
{
    char line[256];
    double kb = 0;
    FILE *file = fopen("/proc/self/status", "r");
    while (file && fgets(line, sizeof line, file))
        if (strncmp(line, field, strlen(field)) == 0 && line[strlen(field)] == ':')
            kb = strtod(line + strlen(field) + 1, NULL);
    if (file)
        fclose(file);
    return kb * 1024;
}

static void forget_peak(void)
{
    FILE *file = fopen("/proc/self/clear_refs", "w");
    if (!file || fputs("5", file) < 0 || fclose(file))
        die("/proc/self/clear_refs", "the peak cannot be reset");
}

static void bound(const char *what, double value, double most)
{
    bool bad = value > most;
    printf("  %-52s %8.2f  (at most %.2f)%s\n", what, value, most, bad ? "  OVER" : "");
    out_of_bounds = out_of_bounds || bad;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* --- the bare read --- */

static PGconn *connected(void)
{
    PGconn *conn = PQconnectdb(options.lookup.dsn);
    if (PQstatus(conn) != CONNECTION_OK)
        die("connecting", PQerrorMessage(conn));
    return conn;
}

static double bare_read_s(uint64_t *bytes)
{
    PGconn *conn = connected();
    int64_t began = mr_clock_mono_us();
    PGresult *res = PQexec(conn, "COPY (SELECT restaurant_id, client_id FROM "
                                 "subscribers_restaurants) TO STDOUT (FORMAT binary)");
    if (PQresultStatus(res) != PGRES_COPY_OUT)
        die("COPY", PQerrorMessage(conn));
    PQclear(res);
    char *row;
    *bytes = 0;
    for (int len; (len = PQgetCopyData(conn, &row, 0)) > 0; PQfreemem(row))
        *bytes += (uint64_t)len;
    double seconds = since_s(began);
    PQfinish(conn);
    return seconds;
}

/* --- load --- */

static struct mr_table *loaded(struct mr_feed *feed, double *seconds)
{
    struct mr_table *table = NULL;
    struct mr_error err;
    int64_t began = mr_clock_mono_us();
    if (!feed->ops->load(feed, &table, &err))
        die("load", err.msg);
    *seconds = since_s(began);
    return table;
}

static void times(struct mr_feed *feed, unsigned pairs)
{
    double ratios[PAIRS_MAX];
    for (unsigned i = 0; i < pairs; i++) {
        double bare = 0, load = 0;
        uint64_t bytes = 0;
        if (i % 2 == 0)
            bare = bare_read_s(&bytes);
        struct mr_table *table = loaded(feed, &load);
        uint64_t rows = mr_table_stats(table).rows;
        mr_table_free(table);
        if (i % 2 == 1)
            bare = bare_read_s(&bytes);
        ratios[i] = load / bare;
        printf("  pair %u: bare COPY %.2f s (%.0f MB), load of %" PRIu64
               " rows %.2f s: %.2f times\n",
               i + 1, bare, (double)bytes / 1e6, rows, load, ratios[i]);
        fflush(stdout);
    }
    qsort(ratios, pairs, sizeof *ratios, by_size);
    bound("load / bare COPY, median", ratios[pairs / 2], 1.5);
}

static void memories(struct mr_feed *feed, struct mr_lookup *lookup, double before, double most)
{
    double seconds;
    mr_lookup_swap(lookup, loaded(feed, &seconds));
    struct mr_table_stats stats = mr_lookup_stats(lookup);
    double rows = (double)stats.rows, one = memory("VmRSS") - before;
    printf("  %" PRIu64 " rows under %" PRIu64 " keys\n", stats.rows, stats.keys);
    bound("bytes a row by the table's own account", (double)stats.bytes / rows, most);
    bound("bytes a row by RSS", one / rows, most);
    forget_peak();
    struct mr_table *next = loaded(feed, &seconds);
    double peak = memory("VmHWM") - before;
    mr_lookup_swap(lookup, next);
    bound("peak during a second load / one table (RSS)", peak / one, 2.3);
    bound("RSS after it / before it", (memory("VmRSS") - before) / one, 1.1);
}

static void load(unsigned pairs, double most)
{
    struct mr_feed *feed = NULL;
    struct mr_error err;
    double before = memory("VmRSS");
    if (!mr_postgres_feed_open(&options, &feed, &err))
        die("feed", err.msg);
    struct mr_lookup *lookup = mr_lookup_new("subscribers");
    times(feed, pairs < PAIRS_MAX ? pairs : PAIRS_MAX);
    printf("  RSS with no table, after those loads: %.0f MB more than at first\n",
           (memory("VmRSS") - before) / 1e6);
    memories(feed, lookup, before, most);
    struct mr_feed_state state = feed->ops->state(feed);
    printf("  feed: %s%s%s\n", mr_feed_kind_name(state.kind), *state.why ? "; " : "", state.why);
    feed->ops->close(feed);
    mr_lookup_free(lookup);
    printf("  RSS at the end: %.0f MB more than at first\n", (memory("VmRSS") - before) / 1e6);
}

/* --- rate --- */

static PGconn *churning(unsigned seconds, unsigned changes)
{
    char sql[128];
    PGconn *conn = connected();
    PQclear(PQexec(conn, "SET synchronous_commit = off"));
    snprintf(sql, sizeof sql, "CALL churn(%u, %u)", seconds, changes);
    if (!PQsendQuery(conn, sql))
        die("churn", PQerrorMessage(conn));
    return conn;
}

static bool is_over(PGconn *conn)
{
    if (!PQconsumeInput(conn))
        die("churn", PQerrorMessage(conn));
    return !PQisBusy(conn);
}

static void rate(unsigned seconds, unsigned changes)
{
    struct follower *follower = follower_start(&options);
    if (!follower_loaded(follower, WAIT_MS))
        die("the first load", follower_status(follower).problem);
    int64_t first = follower_status(follower).state.changes;
    double used = cpu_s(), worst = 0;
    PGconn *conn = churning(seconds, changes);
    int64_t began = mr_clock_mono_us();
    while (!is_over(conn)) {
        int64_t asked = mr_clock_mono_us();
        if (!follower_strict(follower, WAIT_MS))
            die("a position was not reached", follower_status(follower).problem);
        double lag = since_s(asked);
        worst = lag > worst ? lag : worst;
        mr_clock_sleep_ms(200); /* poll */
    }
    double took = since_s(began);
    int64_t asked = mr_clock_mono_us();
    if (!follower_strict(follower, WAIT_MS))
        die("the last position was not reached", follower_status(follower).problem);
    double lag = since_s(asked);
    struct follower_status status = follower_status(follower);
    printf("  %.1f s, %.0f rows put or taken a second (an update is both), %.1f CPU s of the feed, "
           "%u loads\n",
           took, (double)(status.state.changes - first) / took, cpu_s() - used, status.loads);
    printf("  the feed's own figure at the end: %" PRId64 " ms behind COMMIT\n",
           status.state.lag_ms);
    bound("behind, at worst on the way, s", worst, 30);
    bound("behind at the end, s", lag, 1);
    bound("loads", status.loads, 1);
    PGresult *res;
    while ((res = PQgetResult(conn))) {
        if (PQresultStatus(res) != PGRES_COMMAND_OK)
            die("churn", PQresultErrorMessage(res));
        PQclear(res);
    }
    PQfinish(conn);
    follower_stop(follower);
}

static bool choose(const char *name)
{
    for (int kind = 0; kind < MR_FEED_KINDS; kind++)
        if (strcmp(name, mr_feed_kind_name((enum mr_feed_kind)kind)) == 0) {
            static const enum mr_postgres_refresh of[MR_FEED_KINDS] = {
                MR_POSTGRES_REFRESH_RELOAD, MR_POSTGRES_REFRESH_CHANGELOG,
                MR_POSTGRES_REFRESH_LOGICAL};
            options.refresh = of[kind];
            options.changelog = kind == MR_FEED_CHANGELOG ? "subscribers_changes" : NULL;
            return true;
        }
    return false;
}

int main(int argc, char **argv)
{
    options.lookup.dsn = getenv("MILLRACE_PG");
    if (!options.lookup.dsn || argc < 4 || !choose(argv[2])) {
        fprintf(stderr, "usage: lookup_volume load FEED PAIRS [BYTES A ROW] | rate FEED SECONDS "
                        "CHANGES, with MILLRACE_PG\n");
        return 64;
    }
    mr_log_init(MR_WARN, MR_LOG_TEXT);
    struct mr_buf sql = {0}, report = {0};
    struct mr_error err;
    if (!mr_postgres_feed_init(&options, false, &sql, &report, &err))
        die("init", err.msg);
    mr_buf_fini(&sql);
    mr_buf_fini(&report);
    unsigned n = (unsigned)strtoul(argv[3], NULL, 10);
    if (strcmp(argv[1], "load") == 0)
        load(n, argc > 4 ? strtod(argv[4], NULL) : 20);
    else
        rate(n, argc > 4 ? (unsigned)strtoul(argv[4], NULL, 10) : 10000);
    return out_of_bounds ? 1 : 0;
}
