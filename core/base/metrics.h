/*
 * metrics.h - counters and gauges, by the conventions of Prometheus (base units, _total, labels).
 *
 * A metric is registered once and lives until the process ends; asking again for the same name and
 * labels gives the same metric, so workers share. Adding is one relaxed atomic: any thread.
 * core/admin writes them out. Labels are given in their final form:
 * `pipeline="promo",reason="expired"` (mr_metrics_label escapes values). A family takes at most 200
 * label sets: what comes later counts in `other="1"`.
 */
#ifndef MR_BASE_METRICS_H
#define MR_BASE_METRICS_H

#include "base/buf.h"

#include <stdatomic.h>

enum mr_metric_kind { MR_COUNTER, MR_GAUGE };

struct mr_metric {
    _Atomic double value;
    char *labels; /* without braces; "" if none */
    struct mr_metric *next;
};

/* `help` is one sentence. Never NULL. */
struct mr_metric *mr_metrics_get(enum mr_metric_kind kind, const char *name, const char *help,
                                 const char *labels);

/* Counters only go up; single adders of whole numbers, exact up to 2^53. */
static inline void mr_metric_add(struct mr_metric *metric, double n)
{
    double old = atomic_load_explicit(&metric->value, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&metric->value, &old, old + n,
                                                  memory_order_relaxed, memory_order_relaxed))
        ;
}
static inline void mr_metric_set(struct mr_metric *metric, double value)
{
    atomic_store_explicit(&metric->value, value, memory_order_relaxed);
}
static inline double mr_metric_read(struct mr_metric *metric)
{
    return atomic_load_explicit(&metric->value, memory_order_relaxed);
}

/* Other labels for a metric that tells by them what is in force, such as a version. */
void mr_metric_relabel(struct mr_metric *metric, const char *labels);

/* Appends name="value", escaped, with a comma in front if the buf is not empty. */
void mr_metrics_label(struct mr_buf *labels, const char *name, const char *value);

/* All of them in the text exposition format 0.0.4. */
void mr_metrics_write(struct mr_buf *out);

#endif
