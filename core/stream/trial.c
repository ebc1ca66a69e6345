/*
 * trial.c - the pipeline with nothing behind it: runs a message chunk by chunk and shows what lies
 * in the unit.
 *
 * One thread, the script's. Owns a pipeline, a unit and a partition of its own. Must not know who
 * looks on, nor Lua. Messages and rows lie in two bufs; those of one joined row have the same place
 * in both. Tests: tests/unit/test_trial.c, and all specs through millrace.so.
 */
#include "stream/trial.h"

#include "base/clock.h"
#include "stream/pipeline.h"

#include <stdlib.h>

enum { CHUNK_OUTPUTS = 20000, CHUNK_BYTES = 7 << 20, MAX_MESSAGE_BYTES = 1 << 20 };

struct mr_trial {
    struct mr_trial_options options;
    struct mr_pipeline pipeline;
    struct mr_source source; /* of headers that are there already */
    struct mr_unit unit;
    struct mr_part part;
};

static void no_headers(struct mr_source *source, struct mr_record *rec)
{
    (void)source;
    (void)rec;
}

static const struct mr_source_ops source_ops = {.headers = no_headers, .release = no_headers};

struct mr_trial *mr_trial_new(const struct mr_trial_options *options)
{
    struct mr_trial *trial = mr_calloc(1, sizeof *trial);
    trial->options = *options;
    trial->source.ops = &source_ops;
    mr_unit_init(&trial->unit);
    uint32_t chunk = options->chunk_outputs ? options->chunk_outputs : CHUNK_OUTPUTS;
    if (options->outputs_max && options->outputs_max < chunk)
        chunk = (uint32_t)options->outputs_max;
    trial->pipeline = (struct mr_pipeline){
        .script = options->script,
        .source = &trial->source,
        .lookup = options->lookup,
        .rows = options->rows,
        .span = mr_span_new(),
        .unit_outputs = chunk,
        .unit_bytes = options->chunk_bytes ? options->chunk_bytes : CHUNK_BYTES,
        .max_message_bytes =
            options->max_message_bytes ? options->max_message_bytes : MAX_MESSAGE_BYTES,
    };
    return trial;
}

void mr_trial_free(struct mr_trial *trial)
{
    if (!trial)
        return;
    mr_unit_fini(&trial->unit, &trial->source);
    mr_part_fini(&trial->part);
    mr_span_free(trial->pipeline.span);
    free(trial);
}

void mr_trial_set_attempt(struct mr_trial *trial, int attempt)
{
    trial->part.attempts = attempt;
}

struct mr_bytes mr_trial_field(struct mr_bytes row, const char **at)
{
    uint32_t len;
    if (!*at)
        *at = row.ptr + sizeof(uint16_t); /* behind the count of fields */
    memcpy(&len, *at, sizeof len);
    len = __builtin_bswap32(len);
    *at += sizeof len;
    struct mr_bytes field = {len == UINT32_MAX ? NULL : *at, len == UINT32_MAX ? 0 : len};
    *at += field.len;
    return field;
}

/* --- what lies in the unit --- */

/* Walks over the rows of a segment. */
struct row_walk {
    const struct mr_unit *unit;
    size_t run, run_end, left; /* left: rows of the run */
    const char *at;
};

static bool next_row(struct row_walk *walk, struct mr_trial_output *output)
{
    while (!walk->left) {
        if (walk->run == walk->run_end)
            return false;
        const struct mr_unit_run *run = &walk->unit->runs[walk->run++];
        walk->left = run->n;
        walk->at = walk->unit->rows.ptr + run->from;
    }
    walk->left--;
    output->has_row = true;
    output->set = walk->unit->runs[walk->run - 1].set;
    output->row.ptr = walk->at;
    const char *at = NULL;
    for (uint16_t i = 0; i < output->set->n; i++)
        mr_trial_field(output->row, &at);
    walk->at = at ? at : walk->at + sizeof(uint16_t);
    output->row.len = (size_t)(walk->at - output->row.ptr);
    return true;
}

static bool next_message(const char **at, const char *end, struct mr_trial_output *output)
{
    if (*at == end)
        return false;
    output->has_message = true;
    *at = mr_frame_read(*at, &output->frame, &output->key, &output->headers, &output->value);
    return true;
}

static void show(struct mr_trial *trial, const struct mr_segment *segment,
                 struct mr_trial_result *result)
{
    const struct mr_unit *unit = &trial->unit;
    bool any_frame = segment->to.frames > segment->from.frames; /* else there may be no buf */
    const char *frame = any_frame ? unit->frames.ptr + segment->from.frames : NULL;
    const char *frames_end = any_frame ? unit->frames.ptr + segment->to.frames : NULL;
    struct row_walk walk = {.unit = unit, .run = segment->from.runs, .run_end = segment->to.runs};
    uint64_t max = trial->options.outputs_max;
    for (;;) {
        struct mr_trial_output output = {0};
        bool any = frame && next_message(&frame, frames_end, &output);
        any = next_row(&walk, &output) || any;
        if (!any)
            break;
        if (max && result->n_outputs == max) {
            result->cut = true;
            break;
        }
        result->n_outputs++;
        if (trial->options.output)
            trial->options.output(trial->options.arg, &output);
    }
}

/* --- a message --- */

static bool pin(struct mr_trial *trial, struct mr_error *err)
{
    if (!mr_pipeline_pin(&trial->pipeline))
        return mr_error_set(err, MR_RETRY, MR_EXIT_UNREACHABLE, "the lookup is not loaded");
    const struct mr_table *table = trial->pipeline.pin.table;
    if (table && !mr_lookup_schema_equal(trial->options.columns, mr_table_schema(table)))
        return mr_error_set(err, MR_RETRY, MR_EXIT_TRY_AGAIN, "the lookup's columns have changed");
    return true;
}

/* Of a fan-out: `each` may skip row after row for longer than anybody waits. */
static bool is_enough(const struct mr_trial *trial, const struct mr_trial_result *result)
{
    const struct mr_trial_options *options = &trial->options;
    return (options->outputs_max && result->n_outputs >= options->outputs_max) ||
           (options->stop && atomic_load(options->stop)) ||
           (options->deadline_mono_ms && mr_clock_mono_ms() >= options->deadline_mono_ms);
}

enum mr_verdict mr_trial_run(struct mr_trial *trial, const struct mr_record *rec, int64_t now_ms,
                             struct mr_trial_result *result, struct mr_error *err)
{
    struct mr_pass pass = {.more = true};
    struct mr_record copy = *rec;
    enum mr_verdict verdict = MR_VERDICT_RETRY;
    *result = (struct mr_trial_result){0};
    trial->part.at = (struct mr_partition){rec->topic, rec->partition};
    trial->part.position = trial->part.trying = rec->offset;
    mr_part_set_job(&trial->part, NULL);
    if (!pin(trial, err))
        goto out;
    while (pass.more) {
        verdict = mr_pipeline_run(&trial->pipeline, &trial->part, &copy, now_ms, &trial->unit,
                                  &pass, err);
        result->n_keys = pass.n_keys ? pass.n_keys : result->n_keys;
        if (verdict == MR_VERDICT_EMIT) {
            struct mr_job_state job = mr_segment_job(pass.segment);
            show(trial, pass.segment, result);
            mr_part_set_job(&trial->part, pass.more ? &job : NULL);
        }
        mr_unit_reset(&trial->unit, &trial->source);
        if (pass.more && is_enough(trial, result)) {
            result->cut = true;
            pass.more = false;
        }
    }
    /* What came before is sent; that the filter has ended the rest is no drop of the message. */
    if (verdict == MR_VERDICT_DROP && result->n_outputs)
        verdict = MR_VERDICT_EMIT;
    result->reason = pass.reason;
out:
    mr_pipeline_unpin(&trial->pipeline);
    return verdict;
}
