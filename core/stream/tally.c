/*
 * tally.c - a worker's counters, by their labels.
 *
 * One worker's thread; owns nothing, metrics live as long as the process. Must not know what is
 * done with a message. Tests: tests/unit/test_stream.c, tests/integration/metrics_spec.lua.
 */
#include "stream/tally.h"

static struct mr_metric *labelled(const char *pipeline, const char *name, const char *help,
                                  const char *label, const char *value)
{
    struct mr_buf labels = {0};
    mr_metrics_label(&labels, "pipeline", pipeline);
    if (label)
        mr_metrics_label(&labels, label, value);
    struct mr_metric *metric = mr_metrics_get(MR_COUNTER, name, help, mr_buf_cstr(&labels));
    mr_buf_fini(&labels);
    return metric;
}

/* A script may make up reasons without end: the first ones are kept at hand, the rest is looked up.
 */
static struct mr_metric *reason_metric(struct mr_tally *tally, const char *reason)
{
    for (size_t i = 0; i < tally->n_reasons; i++)
        if (strcmp(tally->reasons[i].name, reason) == 0)
            return tally->reasons[i].metric;
    struct mr_metric *metric = labelled(tally->pipeline, "millrace_dropped_total",
                                        "Messages dropped, by reason.", "reason", reason);
    if (tally->n_reasons < MR_TALLY_REASONS && strlen(reason) < sizeof tally->reasons[0].name) {
        strcpy(tally->reasons[tally->n_reasons].name, reason);
        tally->reasons[tally->n_reasons++].metric = metric;
    }
    return metric;
}

void mr_tally_drop(struct mr_tally *tally, const char *reason)
{
    mr_metric_add(reason_metric(tally, reason ? reason : "filter"), 1);
}

static struct mr_metric *dead_metric(const char *pipeline, const char *class_)
{
    return labelled(pipeline, "millrace_dead_letters_total",
                    "Messages that became dead letters, by class.", "class", class_);
}

void mr_tally_dead(struct mr_tally *tally, const char *class_)
{
    mr_metric_add(dead_metric(tally->pipeline, class_), 1);
}

/* At 0 from the start: a counter that appears with its first increment hides it from rate(). */
static void show_classes(const char *pipeline)
{
    static const char *const classes[] = {"decode",    "utf8",           "schema",
                                          "script",    "script_timeout", "script_memory",
                                          "too_large", "rejected",       "crash_loop"};
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++)
        dead_metric(pipeline, classes[i]);
}

void mr_tally_init(struct mr_tally *tally, const char *pipeline)
{
    show_classes(pipeline);
    *tally = (struct mr_tally){
        .pipeline = pipeline,
        .messages = labelled(pipeline, "millrace_messages_total", "Messages taken from the source.",
                             NULL, NULL),
        .recoveries =
            labelled(pipeline, "millrace_recoveries_total",
                     "Times a worker forgot what was undecided and claimed again.", NULL, NULL),
        .stale = labelled(pipeline, "millrace_stale_records_total",
                          "Records that came after their partition was taken away, or twice.", NULL,
                          NULL),
        .tick_errors = labelled(pipeline, "millrace_script_tick_errors_total",
                                "Calls of the script's tick that failed.", NULL, NULL),
    };
}
