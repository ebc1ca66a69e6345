/*
 * metrics.c - the registry behind metrics.h, and its text form.
 *
 * Any thread: the registry has a lock, values are atomics. Owns all metrics until the process ends.
 * Must not know HTTP. Tests: tests/unit/test_base.c.
 */
#include "base/metrics.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { LABEL_SETS_MAX = 200 };

struct family {
    char *name, *help;
    enum mr_metric_kind kind;
    struct mr_metric *first, **last;
    size_t n;
    struct family *next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct family *families, **last_family = &families;

static struct family *find_family(enum mr_metric_kind kind, const char *name, const char *help)
{
    for (struct family *f = families; f; f = f->next)
        if (strcmp(f->name, name) == 0)
            return f;
    struct family *f = mr_calloc(1, sizeof *f);
    f->name = mr_strdup(name);
    f->help = mr_strdup(help);
    f->kind = kind;
    f->last = &f->first;
    *last_family = f;
    last_family = &f->next;
    return f;
}

struct mr_metric *mr_metrics_get(enum mr_metric_kind kind, const char *name, const char *help,
                                 const char *labels)
{
    pthread_mutex_lock(&lock);
    struct family *f = find_family(kind, name, help);
    struct mr_metric *metric = NULL;
    for (int round = 0; !metric && round < 2; round++) {
        for (metric = f->first; metric; metric = metric->next)
            if (strcmp(metric->labels, labels) == 0)
                break;
        if (!metric && f->n >= LABEL_SETS_MAX)
            labels = "other=\"1\"";
    }
    if (!metric) {
        metric = mr_calloc(1, sizeof *metric);
        metric->labels = mr_strdup(labels);
        *f->last = metric;
        f->last = &metric->next;
        f->n++;
    }
    pthread_mutex_unlock(&lock);
    return metric;
}

void mr_metric_relabel(struct mr_metric *metric, const char *labels)
{
    pthread_mutex_lock(&lock);
    free(metric->labels);
    metric->labels = mr_strdup(labels);
    pthread_mutex_unlock(&lock);
}

void mr_metrics_label(struct mr_buf *labels, const char *name, const char *value)
{
    if (labels->len)
        mr_buf_put_char(labels, ',');
    mr_buf_printf(labels, "%s=\"", name);
    for (const char *p = value; *p; p++) {
        if (*p == '\n') {
            mr_buf_put(labels, "\\n", 2);
            continue;
        }
        if (*p == '\\' || *p == '"')
            mr_buf_put_char(labels, '\\');
        mr_buf_put_char(labels, *p);
    }
    mr_buf_put_char(labels, '"');
}

static void write_value(struct mr_buf *out, double value)
{
    if (fabs(value) < 9e15 && value == floor(value))
        mr_buf_printf(out, "%.0f\n", value);
    else
        mr_buf_printf(out, "%.17g\n", value);
}

void mr_metrics_write(struct mr_buf *out)
{
    pthread_mutex_lock(&lock);
    for (struct family *f = families; f; f = f->next) {
        mr_buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", f->name, f->help, f->name,
                      f->kind == MR_COUNTER ? "counter" : "gauge");
        for (struct mr_metric *m = f->first; m; m = m->next) {
            mr_buf_put_text(out, f->name);
            if (m->labels[0])
                mr_buf_printf(out, "{%s}", m->labels);
            mr_buf_put_char(out, ' ');
            write_value(out, mr_metric_read(m));
        }
    }
    pthread_mutex_unlock(&lock);
}
