/*
 * refresh_metrics.h - private to the engine: what /metrics tells about a lookup.
 *
 * Set by the refresh's thread, but for staleness_seconds and stale, which are computed when
 * somebody looks.
 */
#ifndef MR_STREAM_REFRESH_METRICS_H
#define MR_STREAM_REFRESH_METRICS_H

#include "base/metrics.h"
#include "millrace/feed.h"

struct mr_refresh_metrics {
    struct mr_metric *rows, *keys, *bytes, *loads, *failures, *held, *changes, *load_seconds,
        *staleness_seconds, *stale, *lag_seconds, *kinds[MR_FEED_KINDS];
    int64_t counted; /* changes, so far */
};

void mr_refresh_metrics_init(struct mr_refresh_metrics *metrics, const char *lookup);
void mr_refresh_metrics_kind(struct mr_refresh_metrics *metrics, enum mr_feed_kind kind);
void mr_refresh_metrics_table(struct mr_refresh_metrics *metrics, struct mr_table_stats stats,
                              const struct mr_feed_state *state);

#endif
