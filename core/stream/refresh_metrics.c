/*
 * refresh_metrics.c - what /metrics tells about a lookup. Names: docs/METRICS.md.
 *
 * Must not decide anything. Tests: tests/unit/test_refresh.c, tests/integration/metrics_spec.lua.
 */
#include "stream/refresh_metrics.h"

static struct mr_metric *metric(const char *lookup, const char *feed, enum mr_metric_kind kind,
                                const char *name, const char *help)
{
    struct mr_buf labels = {0};
    mr_metrics_label(&labels, "lookup", lookup);
    if (feed)
        mr_metrics_label(&labels, "feed", feed);
    struct mr_metric *found = mr_metrics_get(kind, name, help, mr_buf_cstr(&labels));
    mr_buf_fini(&labels);
    return found;
}

void mr_refresh_metrics_init(struct mr_refresh_metrics *metrics, const char *lookup)
{
    const char *l = lookup;
    *metrics = (struct mr_refresh_metrics){
        .rows = metric(l, NULL, MR_GAUGE, "millrace_lookup_rows",
                       "Rows held, as SELECT counts them (those with a NULL key left out)."),
        .keys = metric(l, NULL, MR_GAUGE, "millrace_lookup_keys", "Distinct keys held."),
        .bytes = metric(l, NULL, MR_GAUGE, "millrace_lookup_bytes", "Memory of the table."),
        .loads = metric(l, NULL, MR_COUNTER, "millrace_lookup_loads_total",
                        "Reads of the whole table that were taken into use."),
        .failures = metric(l, NULL, MR_COUNTER, "millrace_lookup_load_failures_total",
                           "Reads that failed, and feeds that broke."),
        .held = metric(l, NULL, MR_COUNTER, "millrace_lookup_held_back_total",
                       "Reads that were held back, since rows were missing."),
        .changes = metric(l, NULL, MR_COUNTER, "millrace_lookup_changes_total",
                          "Rows put and taken by the feed."),
        .load_seconds = metric(l, NULL, MR_GAUGE, "millrace_lookup_load_seconds",
                               "How long the last load took."),
        .staleness_seconds = metric(l, NULL, MR_GAUGE, "millrace_lookup_staleness_seconds",
                                    "How long ago the table was known to equal Postgres's."),
        .stale = metric(l, NULL, MR_GAUGE, "millrace_lookup_stale",
                        "1 when that is longer than max_staleness."),
        .lag_seconds = metric(l, NULL, MR_GAUGE, "millrace_lookup_lag_seconds",
                              "Of the last change: from its COMMIT until it was seen here."),
    };
    for (enum mr_feed_kind kind = 0; kind < MR_FEED_KINDS; kind++)
        metrics->kinds[kind] = metric(l, mr_feed_kind_name(kind), MR_GAUGE, "millrace_lookup_feed",
                                      "1 for the feed that is in use.");
}

void mr_refresh_metrics_kind(struct mr_refresh_metrics *metrics, enum mr_feed_kind kind)
{
    for (enum mr_feed_kind k = 0; k < MR_FEED_KINDS; k++)
        mr_metric_set(metrics->kinds[k], k == kind);
}

void mr_refresh_metrics_table(struct mr_refresh_metrics *metrics, struct mr_table_stats stats,
                              const struct mr_feed_state *state)
{
    mr_metric_set(metrics->rows, (double)stats.rows);
    mr_metric_set(metrics->keys, (double)stats.keys);
    mr_metric_set(metrics->bytes, (double)stats.bytes);
    if (state->lag_ms >= 0)
        mr_metric_set(metrics->lag_seconds, (double)state->lag_ms / 1000);
    if (state->changes > metrics->counted)
        mr_metric_add(metrics->changes, (double)(state->changes - metrics->counted));
    metrics->counted = state->changes;
}
