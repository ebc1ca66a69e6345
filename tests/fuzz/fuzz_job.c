/*
 * fuzz_job.c - a fan-out in progress as the ledger gives it back: keys and cursor of a job that
 * some other process, or person, wrote.
 *
 * Through mr_pipeline_run: the message halts with a sentence, or goes on, and then no row comes out
 * that is not behind the cursor. Input: length of the cursor, cursor, packed keys.
 */
#include "fuzz.h"

#include "millrace/message.h"
#include "stream/pipeline.h"

static const struct mr_lookup_column columns[] = {
    {"k", MR_TEXT, "text"}, {"id", MR_INT, "bigint"}, {"name", MR_TEXT, "text"}};
static const struct mr_lookup_schema schema = {"fuzz", columns, 1, 3};

static struct mr_table *make_table(void)
{
    static const char *const keys[] = {"a", "b", "0b8fa5c2-6a8f-4c3a-9d5e-1f2a3b4c5d6e", ""};
    struct mr_table_builder *builder = mr_table_builder_new(&schema, false, 0);
    struct mr_table *table = NULL;
    struct mr_error err = {0};
    for (int64_t i = 0; i < 40; i++) {
        struct mr_value row[] = {{.type = MR_TEXT, .bytes = mr_bytes_of(keys[i % 4])},
                                 {.type = MR_INT, .i = i / 3 * 1000 - 5000},
                                 {.type = MR_TEXT, .bytes = mr_bytes_of(keys[i % 3])}};
        FUZZ_CHECK(mr_table_builder_add(builder, row, &err), "%s", err.msg);
    }
    FUZZ_CHECK(mr_table_builder_finish(builder, &table, &err), "%s", err.msg);
    return table;
}

/* --- a script that takes every message, and writes each row's id and name --- */

static enum mr_verdict accept_record(struct mr_script *script, struct mr_record *rec,
                                     struct mr_source *source, const struct mr_context *ctx,
                                     const char **reason, struct mr_error *err)
{
    (void)script, (void)rec, (void)source, (void)ctx, (void)reason, (void)err;
    return MR_VERDICT_EMIT;
}

static enum mr_verdict project(struct mr_script *script, const struct mr_context *ctx,
                               const struct mr_template **out, const char **reason,
                               struct mr_error *err)
{
    static const struct mr_seg segs[] = {{.kind = MR_SEG_TEXT, .column = 1},
                                         {.kind = MR_SEG_JSON, .column = 2}};
    static const struct mr_output output = {
        .has_message = true, .value = {1, 1, false}, .key = {0, 1, false}};
    static const struct mr_template template = {"", segs, &output, 1};
    (void)script, (void)ctx, (void)reason, (void)err;
    *out = &template;
    return MR_VERDICT_EMIT;
}

static void finish(struct mr_script *script)
{
    (void)script;
}

/* Asked for what it does to the message; its keys are not those of the job. */
static enum mr_verdict key(struct mr_script *script, const struct mr_context *ctx,
                           const struct mr_bytes **keys, size_t *n, const char **reason,
                           struct mr_error *err)
{
    (void)script, (void)ctx, (void)keys, (void)n, (void)err;
    *reason = "no_key";
    return MR_VERDICT_DROP;
}

static const char *bundle(const struct mr_script *script)
{
    (void)script;
    return "0";
}

static const struct mr_script_ops script_ops = {
    .accept = accept_record, .key = key, .project = project, .finish = finish, .bundle = bundle};

static void give_headers(struct mr_source *source, struct mr_record *rec)
{
    (void)source;
    rec->n_headers = 0;
}

static const struct mr_source_ops source_ops = {.headers = give_headers};

/* Message keys are the rows' ids: in the order of cells, and the first behind the cursor. */
static void check_frames(struct mr_bytes frames, struct mr_bytes cursor)
{
    struct mr_buf last = {0}, cell = {0};
    bool first = true;
    for (size_t at = 0; at < frames.len; first = false) {
        struct mr_frame frame;
        struct mr_bytes key, headers, value;
        char digits[32];
        if (first)
            mr_buf_put(&last, cursor.ptr, cursor.len);
        const char *next = mr_frame_read(frames.ptr + at, &frame, &key, &headers, &value);
        at = (size_t)(next - frames.ptr);
        snprintf(digits, sizeof digits, "%.*s", (int)key.len, key.ptr);
        mr_buf_reset(&cell);
        mr_cell_put(&cell, &(struct mr_value){.type = MR_INT, .i = strtoll(digits, NULL, 10)});
        if (last.len) {
            int order = mr_cell_compare((const uint8_t *)last.ptr, (const uint8_t *)cell.ptr);
            FUZZ_CHECK(first ? order < 0 : order <= 0, "%s is out of order", digits);
        }
        mr_buf_reset(&last);
        mr_buf_put(&last, cell.ptr, cell.len);
        FUZZ_CHECK(at <= frames.len, "a frame ends early");
    }
    mr_buf_fini(&last);
    mr_buf_fini(&cell);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct mr_lookup *lookup;
    if (!lookup) {
        lookup = mr_lookup_new("fuzz");
        mr_lookup_swap(lookup, make_table());
    }
    struct fuzz_input in = {data, data + size};
    struct mr_script script = {&script_ops};
    struct mr_source source = {&source_ops};
    struct mr_pipeline pipeline = {.script = &script,
                                   .source = &source,
                                   .lookup = lookup,
                                   .span = mr_span_new(),
                                   .unit_outputs = 4,
                                   .unit_bytes = 1 << 20,
                                   .max_message_bytes = 100};
    struct mr_part part = {.at = {"in", 0}, .claimed = true};
    struct mr_job_state job = {.trigger_ms = 1};
    struct mr_record rec = {.topic = "in", .value = {"{}", 2}};
    struct mr_unit unit;
    struct mr_pass pass;
    struct mr_error err = {0};
    mr_unit_init(&unit);
    job.cursor = fuzz_bytes(&in, fuzz_byte(&in));
    job.keys = fuzz_rest(&in);
    mr_part_set_job(&part, &job);
    FUZZ_CHECK(mr_pipeline_pin(&pipeline), "no table");
    enum mr_verdict verdict = mr_pipeline_run(&pipeline, &part, &rec, 1, &unit, &pass, &err);
    FUZZ_CHECK(verdict == MR_VERDICT_EMIT || verdict == MR_VERDICT_DROP ||
                   (verdict == MR_VERDICT_STOP && strstr(err.msg, "millrace_ledger")),
               "verdict %d: %s", (int)verdict, err.msg);
    check_frames((struct mr_bytes){unit.frames.ptr, unit.frames.len}, job.cursor);
    mr_unit_fini(&unit, &source);
    mr_part_fini(&part);
    mr_pipeline_unpin(&pipeline);
    mr_span_free(pipeline.span);
    return 0;
}
