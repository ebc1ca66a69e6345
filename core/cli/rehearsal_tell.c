/*
 * rehearsal_tell.c - the report of a rehearsal: short lines for the log, everything as JSON.
 *
 * The thread that rehearses. Owns the examples of the pipeline at hand. A line shows where two
 * outputs begin to differ; the JSON has them whole. Must not know what follows from it. Tests:
 * tests/integration/rehearse_spec.lua.
 */
#include "cli/rehearsal_tell.h"

#include "base/text.h"

#include <inttypes.h>

enum {
    SHOWN = 160,  /* bytes of an output in a line */
    LEAD = 40,    /* of what two outputs have in common in front of the difference */
    LINES_MAX = 3 /* examples of a kind in the lines */
};

void mr_rehearsal_tell_init(struct mr_rehearsal_tell *tell,
                            const struct mr_candidate_pipeline *pipeline,
                            struct mr_rehearsal_report *report)
{
    *tell = (struct mr_rehearsal_tell){.pipeline = pipeline, .report = report};
    struct mr_buf *json = &report->json;
    if (json->ptr[json->len - 1] == '}')
        mr_buf_put_char(json, ',');
    mr_buf_put_text(json, "{\"pipeline\":");
    mr_text_json_string(json, pipeline->name, strlen(pipeline->name));
    mr_buf_printf(json, ",\"bundle\":{\"before\":\"%s\",\"after\":\"%s\"}",
                  pipeline->before->bundle, pipeline->after->bundle);
}

void mr_rehearsal_tell_fini(struct mr_rehearsal_tell *tell)
{
    if (tell->begun) {
        mr_show_fini(&tell->before);
        mr_show_fini(&tell->after);
    }
    mr_buf_put_char(&tell->report->json, '}');
    mr_buf_fini(&tell->lines);
    mr_buf_fini(&tell->json);
    mr_buf_fini(&tell->first_error);
}

void mr_rehearsal_tell_problem(struct mr_rehearsal_tell *tell, const char *problem)
{
    mr_buf_printf(&tell->report->text, "rehearsal of %s: %.*s\n", tell->pipeline->name,
                  (int)strcspn(problem, "\n"), problem);
    mr_buf_put_text(&tell->report->json, ",\"problem\":");
    mr_text_json_string(&tell->report->json, problem, strlen(problem));
}

void mr_rehearsal_tell_begin(struct mr_rehearsal_tell *tell,
                             const struct mr_rehearse_options *options)
{
    tell->options = options;
    mr_show_init(&tell->before, options->before.topics, options->before.n_topics, options->rows);
    mr_show_init(&tell->after, options->after.topics, options->after.n_topics, options->rows);
    tell->begun = true;
}

/* --- examples --- */

/* At most SHOWN bytes from `from` on; never within a character. */
static void put_excerpt(struct mr_buf *out, const struct mr_buf *text, size_t from)
{
    size_t end = text->len - from > SHOWN ? from + SHOWN : text->len;
    while (from < end && ((unsigned char)text->ptr[from] & 0xc0) == 0x80)
        from++;
    while (end < text->len && end > from && ((unsigned char)text->ptr[end] & 0xc0) == 0x80)
        end--;
    mr_buf_put_text(out, from ? "..." : "");
    mr_buf_put(out, text->ptr + from, end - from);
    mr_buf_put_text(out, end < text->len ? "..." : "");
}

static void put_line(struct mr_rehearsal_tell *tell, const struct mr_example *example,
                     const struct mr_buf *before, const struct mr_buf *after)
{
    const struct mr_record *rec = &example->sample->rec;
    struct mr_buf *out = &tell->lines;
    size_t same = 0;
    while (same < before->len && same < after->len && before->ptr[same] == after->ptr[same])
        same++;
    same = example->before && example->after && same > LEAD ? same - LEAD : 0;
    mr_buf_printf(out, "rehearsal of %s: %s: %s/%" PRId32 "@%" PRId64 ": ", tell->pipeline->name,
                  mr_difference_names[example->kind], rec->topic, rec->partition, rec->offset);
    if (example->err)
        mr_buf_printf(out, "%s: %.*s", example->err->class_, (int)strcspn(example->err->msg, "\n"),
                      example->err->msg);
    if (example->before)
        put_excerpt(out, before, same);
    if (example->before && example->after)
        mr_buf_put_text(out, " -> ");
    if (example->after)
        put_excerpt(out, after, same);
    if (example->reason)
        mr_buf_printf(out,
                      example->before ? " (the message is dropped now: %s)"
                                      : " (the message was dropped: %s)",
                      example->reason);
    mr_buf_put_char(out, '\n');
}

static void put_json(struct mr_rehearsal_tell *tell, const struct mr_example *example,
                     const struct mr_buf *before, const struct mr_buf *after)
{
    const struct mr_record *rec = &example->sample->rec;
    struct mr_buf *out = &tell->json;
    mr_buf_printf(out, "%s{\"kind\":\"%s\",\"topic\":", out->len ? "," : "",
                  mr_difference_names[example->kind]);
    mr_text_json_string(out, rec->topic, strlen(rec->topic));
    mr_buf_printf(out, ",\"partition\":%" PRId32 ",\"offset\":%" PRId64, rec->partition,
                  rec->offset);
    mr_buf_put_text(out, ",\"input\":");
    mr_show_bytes(&tell->before, rec->value, out);
    if (example->before) {
        mr_buf_put_text(out, ",\"before\":");
        mr_buf_put(out, before->ptr, before->len);
    }
    if (example->after) {
        mr_buf_put_text(out, ",\"after\":");
        mr_buf_put(out, after->ptr, after->len);
    }
    if (example->err) {
        mr_buf_printf(out, ",\"class\":\"%s\",\"error\":", example->err->class_);
        mr_text_json_string(out, example->err->msg, strlen(example->err->msg));
    }
    if (example->reason) {
        mr_buf_put_text(out, ",\"reason\":");
        mr_text_json_string(out, example->reason, strlen(example->reason));
    }
    mr_buf_put_char(out, '}');
}

void mr_rehearsal_tell_example(void *arg, const struct mr_example *example)
{
    struct mr_rehearsal_tell *tell = arg;
    struct mr_buf before = {0}, after = {0};
    if (example->before)
        mr_show_output(&tell->before, example->before, &before);
    if (example->after)
        mr_show_output(&tell->after, example->after, &after);
    if (example->kind == MR_ERROR_NEW && !tell->first_error.len)
        mr_buf_printf(&tell->first_error, "%s/%" PRId32 "@%" PRId64 " (%s): %.*s",
                      example->sample->rec.topic, example->sample->rec.partition,
                      example->sample->rec.offset, example->err->class_,
                      (int)strcspn(example->err->msg, "\n"), example->err->msg);
    if (tell->told[example->kind]++ < LINES_MAX)
        put_line(tell, example, &before, &after);
    put_json(tell, example, &before, &after);
    mr_buf_fini(&before);
    mr_buf_fini(&after);
}

/* --- counts --- */

static void put_summary(struct mr_buf *out, const struct mr_rehearsed *rehearsed, size_t n_samples)
{
    const uint64_t *n = rehearsed->differences;
    if (mr_rehearsed_same(rehearsed))
        mr_buf_printf(out, "%zu message%s: no difference (%" PRIu64 " output%s, %zu error%s)",
                      rehearsed->n_messages, rehearsed->n_messages == 1 ? "" : "s",
                      rehearsed->outputs_after, rehearsed->outputs_after == 1 ? "" : "s",
                      rehearsed->errors_after, rehearsed->errors_after == 1 ? "" : "s");
    else
        mr_buf_printf(out,
                      "%zu of %zu messages differ: outputs %" PRIu64 " added, %" PRIu64
                      " dropped, %" PRIu64 " changed; errors %" PRIu64 " new, %" PRIu64 " gone",
                      rehearsed->n_differ, rehearsed->n_messages, n[MR_OUTPUT_ADDED],
                      n[MR_OUTPUT_DROPPED], n[MR_OUTPUT_CHANGED], n[MR_ERROR_NEW],
                      n[MR_ERROR_GONE]);
    if (rehearsed->n_messages < n_samples)
        mr_buf_printf(out, "; after %d s %zu messages were left and not rehearsed", MR_REHEARSAL_S,
                      n_samples - rehearsed->n_messages);
    if (rehearsed->n_cut)
        mr_buf_printf(out, "; of %zu message%s only the first outputs were compared",
                      rehearsed->n_cut, rehearsed->n_cut == 1 ? "" : "s");
}

/* Somebody who mends a script may have got no further. */
static void put_unmended(struct mr_rehearsal_tell *tell, const struct mr_rehearsed *rehearsed)
{
    const struct mr_sample *sample = rehearsed->unmended;
    if (sample)
        mr_buf_printf(
            &tell->lines, "rehearsal of %s: still an error: %s/%" PRId32 "@%" PRId64 ": %s: %.*s\n",
            tell->pipeline->name, sample->rec.topic, sample->rec.partition, sample->rec.offset,
            rehearsed->err.class_, (int)strcspn(rehearsed->err.msg, "\n"), rehearsed->err.msg);
}

void mr_rehearsal_tell_counts(struct mr_rehearsal_tell *tell, const struct mr_rehearsed *rehearsed,
                              size_t n_samples, int64_t ms)
{
    const uint64_t *n = rehearsed->differences;
    struct mr_buf *text = &tell->report->text, *json = &tell->report->json;
    mr_buf_printf(text, "rehearsal of %s: ", tell->pipeline->name);
    put_summary(text, rehearsed, n_samples);
    mr_buf_printf(text, ", %" PRId64 " ms\n", ms);
    put_unmended(tell, rehearsed);
    mr_buf_put(text, tell->lines.ptr, tell->lines.len);
    mr_buf_printf(json,
                  ",\"messages\":%zu,\"kept\":%zu,\"differ\":%zu,\"cut\":%zu,\"ms\":%" PRId64
                  ",\"outputs\":{\"before\":%" PRIu64 ",\"after\":%" PRIu64 ",\"added\":%" PRIu64
                  ",\"dropped\":%" PRIu64 ",\"changed\":%" PRIu64
                  "},\"errors\":{\"before\":%zu,\"after\":%zu,\"new\":%" PRIu64 ",\"gone\":%" PRIu64
                  "},\"examples\":[",
                  rehearsed->n_messages, n_samples, rehearsed->n_differ, rehearsed->n_cut, ms,
                  rehearsed->outputs_before, rehearsed->outputs_after, n[MR_OUTPUT_ADDED],
                  n[MR_OUTPUT_DROPPED], n[MR_OUTPUT_CHANGED], rehearsed->errors_before,
                  rehearsed->errors_after, n[MR_ERROR_NEW], n[MR_ERROR_GONE]);
    mr_buf_put(json, tell->json.ptr, tell->json.len);
    mr_buf_put_char(json, ']');
}

void mr_rehearsal_tell_end(struct mr_rehearsal_report *report, const struct mr_candidate *candidate)
{
    struct mr_buf *json = &report->json;
    mr_buf_put_text(json, "],\"changed\":");
    mr_text_json_string(json, candidate->changed.len ? candidate->changed.ptr : "",
                        candidate->changed.len);
    mr_buf_printf(json, ",\"differs\":%s,\"blocked\":", report->differs ? "true" : "false");
    if (report->blocks)
        mr_text_json_string(json, report->blocked.ptr, report->blocked.len);
    else
        mr_buf_put_text(json, "null");
    mr_buf_put_char(json, '}');
}
