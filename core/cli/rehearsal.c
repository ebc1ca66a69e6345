/*
 * rehearsal.c - rehearses a candidate pipeline by pipeline: which messages, which scripts, for how
 * long, and whether the result forbids the reload.
 *
 * Any thread but a worker's, so that the stream goes on. Owns scripts of its own, in fresh states.
 * Must not know how outputs are compared (stream/rehearse.h) or told (rehearsal_tell.c). Tests:
 * tests/integration/rehearse_spec.lua.
 */
#include "cli/rehearsal.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "cli/rehearsal_tell.h"

#include <inttypes.h>
#include <stdlib.h>

enum { OUTPUTS_MAX = 100 }; /* of a message: of a fan-out of a million only the first */

/* What is needed to run the two scripts of a pipeline. */
struct stage {
    struct mr_sample **samples;
    size_t n_samples;
    struct mr_lookup *lookup;
    struct mr_lookup_schema *columns;
    const struct mr_row_schema *rows;      /* one of the next two */
    const struct mr_row_schema *described; /* just now; NULL: there is none, or it is away */
    struct mr_row_schema *known;           /* to the workers */
    struct mr_script *before, *after;
    struct mr_names topics_before, topics_after;
};

/* The shape of the lookup's table now; false: there is none yet. */
static bool look_at_lookup(struct stage *stage)
{
    struct mr_pin pin = {0};
    if (!stage->lookup)
        return true;
    if (!mr_lookup_pin(stage->lookup, &pin))
        return false;
    stage->columns = mr_lookup_schema_copy(mr_table_schema(pin.table));
    mr_lookup_unpin(stage->lookup, &pin);
    return true;
}

/* The columns of the feedback table now: a script is often edited because it was altered, and an
 * idle worker does not know that yet. */
static void look_at_table(struct stage *stage, const struct mr_node *pipeline,
                          const atomic_bool *stop)
{
    struct mr_error err;
    struct mr_names columns = mr_settings_names(mr_node_at(pipeline, "sinks.postgres.columns"));
    struct mr_postgres_store_options options = mr_settings_store(pipeline, &columns);
    options.cancel = stop;
    if (options.table && !mr_postgres_check(&options, NULL, &stage->described, &err))
        mr_log(MR_DEBUG, "rehearsal of %s: the table's columns are those of before: %s",
               pipeline->name, err.msg);
    stage->rows = stage->described ? stage->described : stage->known;
    free(columns.items);
}

/* Why there is nothing to run; NULL: there is. */
static const char *set_stage(struct stage *stage, struct mr_wiring *wiring,
                             const struct mr_candidate_pipeline *pipeline, size_t max,
                             const atomic_bool *stop)
{
    struct mr_recent *recent = mr_wiring_recent(wiring, pipeline->name);
    const struct mr_node *node = mr_edition_node(pipeline->after);
    stage->samples = mr_recent_take(recent, max, &stage->n_samples);
    if (!stage->n_samples)
        return "no message has come yet that could be rehearsed";
    stage->lookup = mr_wiring_lookup(wiring, pipeline->name);
    if (!look_at_lookup(stage))
        return "not rehearsed: the lookup is not loaded yet";
    stage->known = mr_recent_rows(recent);
    look_at_table(stage, node, stop);
    if (!stage->rows && mr_node_text(node, "sinks.postgres.table"))
        return "not rehearsed: the columns of the Postgres sink are not known yet";
    stage->topics_before = mr_settings_topics(mr_edition_node(pipeline->before));
    stage->topics_after = mr_settings_topics(node);
    return NULL;
}

static void clear_stage(struct stage *stage)
{
    if (stage->before)
        stage->before->ops->close(stage->before);
    if (stage->after)
        stage->after->ops->close(stage->after);
    for (size_t i = 0; i < stage->n_samples; i++)
        mr_sample_release(stage->samples[i]);
    free(stage->samples);
    free(stage->topics_before.items);
    free(stage->topics_after.items);
    mr_lookup_schema_free(stage->columns);
    mr_postgres_row_schema_free(stage->described);
    mr_recent_rows_free(stage->known);
}

/* --- the limits of block_if --- */

/* "3", or "20%" of `all`: as core/lua/config_types.lua made it. */
static bool exceeds(const char *limit, uint64_t n, uint64_t all)
{
    char *end;
    double most = strtod(limit, &end);
    if (*end == '%')
        return (double)n * 100 > most * (double)all;
    return (double)n > most;
}

static void judge(const struct mr_node *config, const char *pipeline,
                  const struct mr_rehearsed *rehearsed, const char *first_error,
                  struct mr_rehearsal_report *report)
{
    const struct {
        const char *path, *what, *of;
        uint64_t n, all;
    } limits[] = {
        {"reload.block_if.errors", "new error", "messages", rehearsed->differences[MR_ERROR_NEW],
         rehearsed->n_messages},
        {"reload.block_if.dropped", "dropped output", "outputs",
         rehearsed->differences[MR_OUTPUT_DROPPED], rehearsed->outputs_before},
    };
    for (size_t i = 0; i < sizeof limits / sizeof *limits && !report->blocks; i++) {
        const char *limit = mr_node_text(config, limits[i].path);
        if (!limit || !exceeds(limit, limits[i].n, limits[i].all))
            continue;
        report->blocks = true;
        mr_buf_printf(&report->blocked,
                      "the rehearsal of %s found %" PRIu64 " %s%s in %" PRIu64
                      " %s, and %s allows %s; to reload all the same, raise that limit or set "
                      "reload.rehearse = 0 in the configuration, and reload again",
                      pipeline, limits[i].n, limits[i].what, limits[i].n == 1 ? "" : "s",
                      limits[i].all, limits[i].of, limits[i].path, limit);
        if (i == 0 && first_error)
            mr_buf_printf(&report->blocked, " (the first is %s)", first_error);
    }
}

/* --- a pipeline --- */

/* *deadline_ms: of the messages of all pipelines; what a look at the services takes is not theirs.
 */
static void rehearse_pipeline(struct mr_wiring *wiring, const struct mr_candidate *candidate,
                              const struct mr_candidate_pipeline *pipeline, int64_t *deadline_ms,
                              const atomic_bool *stop, struct mr_rehearsal_report *report)
{
    const struct mr_node *config = mr_shared_config_tree(candidate->config);
    struct stage stage = {0};
    struct mr_error err;
    struct mr_rehearsed rehearsed;
    struct mr_rehearsal_tell tell;
    int64_t began_ms = mr_clock_mono_ms();
    const char *problem = set_stage(&stage, wiring, pipeline,
                                    (size_t)mr_node_int(config, "reload.rehearse", 0), stop);
    *deadline_ms += mr_clock_mono_ms() - began_ms;
    mr_rehearsal_tell_init(&tell, pipeline, report);
    if (problem) {
        mr_rehearsal_tell_problem(&tell, problem);
        goto out;
    }
    if (!mr_edition_open_quietly(pipeline->after, stage.columns, stage.rows, &stage.after, &err) ||
        !mr_edition_open_quietly(pipeline->before, stage.columns, stage.rows, &stage.before,
                                 &err)) {
        report->broken = report->broken || !stage.after;
        mr_rehearsal_tell_problem(&tell, err.msg);
        goto out;
    }
    struct mr_rehearse_options options = {
        .before = {stage.before, stage.topics_before.items, stage.topics_before.n,
                   pipeline->in_force.max_message_bytes},
        .after = {stage.after, stage.topics_after.items, stage.topics_after.n,
                  pipeline->settings.max_message_bytes},
        .lookup = stage.lookup,
        .columns = stage.columns,
        .rows = stage.rows,
        .outputs_max = OUTPUTS_MAX,
        .samples = stage.samples,
        .n_samples = stage.n_samples,
        .deadline_mono_ms = *deadline_ms,
        .stop = stop,
        .example = mr_rehearsal_tell_example,
        .arg = &tell,
    };
    mr_rehearsal_tell_begin(&tell, &options);
    if (!mr_rehearse(&options, &rehearsed, &err)) {
        mr_rehearsal_tell_problem(&tell, err.msg);
        goto out;
    }
    mr_rehearsal_tell_counts(&tell, &rehearsed, stage.n_samples, mr_clock_mono_ms() - began_ms);
    report->differs = report->differs || !mr_rehearsed_same(&rehearsed);
    report->serious = report->serious || rehearsed.differences[MR_ERROR_NEW] ||
                      rehearsed.differences[MR_OUTPUT_DROPPED];
    judge(config, pipeline->name, &rehearsed,
          tell.first_error.len ? mr_buf_cstr(&tell.first_error) : NULL, report);
out:
    mr_rehearsal_tell_fini(&tell);
    clear_stage(&stage);
}

void mr_rehearsal_run(struct mr_wiring *wiring, const struct mr_candidate *candidate,
                      const char *only, const atomic_bool *stop, struct mr_rehearsal_report *report)
{
    int64_t deadline_ms = mr_clock_mono_ms() + MR_REHEARSAL_S * 1000;
    *report = (struct mr_rehearsal_report){0};
    mr_buf_put_text(&report->json, "{\"pipelines\":[");
    for (size_t i = 0; i < candidate->n; i++)
        if (candidate->pipelines[i].before != candidate->pipelines[i].after &&
            (!only || strcmp(only, candidate->pipelines[i].name) == 0))
            rehearse_pipeline(wiring, candidate, &candidate->pipelines[i], &deadline_ms, stop,
                              report);
    mr_rehearsal_tell_end(report, candidate);
}

void mr_rehearsal_report_fini(struct mr_rehearsal_report *report)
{
    mr_buf_fini(&report->text);
    mr_buf_fini(&report->json);
    mr_buf_fini(&report->blocked);
}

/* What is said behind the report: what a reload would do. */
static void conclude(const struct mr_candidate *candidate, struct mr_rehearsal_report *report)
{
    bool any = false;
    for (size_t i = 0; i < candidate->n; i++)
        any = any || candidate->pipelines[i].before != candidate->pipelines[i].after;
    if (mr_candidate_is_same(candidate))
        mr_buf_put_text(&report->text, "what is on the disk is what runs\n");
    else if (!any)
        mr_buf_put_text(&report->text, "the scripts are as they were\n");
    if (candidate->changed.len)
        mr_buf_printf(&report->text, "changed: %.*s\n", (int)candidate->changed.len,
                      candidate->changed.ptr);
    if (report->blocks)
        mr_buf_printf(&report->text, "a reload would be blocked: %s\n",
                      mr_buf_cstr(&report->blocked));
}

const char *mr_rehearsal_answer(struct mr_wiring *wiring, const struct mr_cli_args *args,
                                const char *only, bool json, const atomic_bool *stop,
                                struct mr_buf *out)
{
    struct mr_candidate candidate;
    struct mr_rehearsal_report report = {0};
    struct mr_error err;
    bool refused;
    const char *result = "broken";
    if (!mr_candidate_load(&candidate, args, wiring, &refused, &err)) {
        mr_buf_printf(&report.text, "a reload would %s: %s\n", refused ? "be refused" : "fail",
                      err.msg);
        mr_buf_put_text(&report.json, "{\"broken\":");
        mr_text_json_string(&report.json, err.msg, strlen(err.msg));
        mr_buf_put_char(&report.json, '}');
        goto out;
    }
    if (!mr_node_int(mr_shared_config_tree(candidate.config), "reload.rehearse", 0))
        mr_buf_put_text(out, json ? "" : "reload.rehearse is 0: a reload would rehearse nothing\n");
    mr_rehearsal_run(wiring, &candidate, only, stop, &report);
    conclude(&candidate, &report);
    result = report.broken ? "broken" : report.differs ? "differs" : "same";
out:
    mr_buf_put_text(out, mr_buf_cstr(json ? &report.json : &report.text));
    if (json)
        mr_buf_put_char(out, '\n');
    mr_rehearsal_report_fini(&report);
    mr_candidate_fini(&candidate);
    return result;
}

bool mr_rehearsal_judge(void *arg, const struct mr_candidate *candidate, const atomic_bool *stop,
                        struct mr_error *why)
{
    struct mr_rehearsal_report report;
    const struct mr_node *config = mr_shared_config_tree(candidate->config);
    if (!mr_node_int(config, "reload.rehearse", 0))
        return true;
    mr_rehearsal_run(arg, candidate, NULL, stop, &report);
    const char *at = mr_buf_cstr(&report.text);
    while (*at && !report.broken) { /* what is broken is told by the workers */
        size_t len = strcspn(at, "\n");
        mr_log(report.serious ? MR_WARN : MR_INFO, "%.*s", (int)len, at);
        at += len + (at[len] == '\n');
    }
    bool ok = !report.blocks ||
              mr_error_set(why, MR_STOP, MR_EXIT_CONFIG, "%s", mr_buf_cstr(&report.blocked));
    mr_rehearsal_report_fini(&report);
    return ok;
}
