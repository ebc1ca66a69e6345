/*
 * pipeline.c - the way of one message. Read mr_pipeline_run, top to bottom: it is the product.
 *
 * One worker thread; owns the span and the pin on the lookup's table. Must not know Kafka, Postgres
 * or Lua, read a clock or do I/O. Work per row is stamping (stamp.c): a copy, not a call into Lua,
 * unless the script asks for that (`each`).
 * Tests: tests/unit/test_stream.c.
 */
#include "stream/pipeline.h"

#include "stream/stamp.h"

#include <inttypes.h>

/* A unit may exceed its size to finish one row key; beyond this factor the message is refused. */
enum { OVERSIZE = 4 };

bool mr_pipeline_unit_full(const struct mr_pipeline *pipeline, const struct mr_unit *unit)
{
    /* Dead letters have no outputs, but their messages are kept too. */
    return unit->n_outputs >= pipeline->unit_outputs ||
           unit->n_segments >= pipeline->unit_outputs ||
           unit->frames.len + unit->rows.len + unit->dead_bytes >= pipeline->unit_bytes;
}

bool mr_pipeline_pin(struct mr_pipeline *pipeline)
{
    return !pipeline->lookup || pipeline->pin.table ||
           mr_lookup_pin(pipeline->lookup, &pipeline->pin);
}

void mr_pipeline_unpin(struct mr_pipeline *pipeline)
{
    if (pipeline->lookup)
        mr_lookup_unpin(pipeline->lookup, &pipeline->pin);
}

static bool stamp_outputs(struct mr_pipeline *pipeline, const struct mr_template *template,
                          const struct mr_row_ref *row, int64_t trigger_ms, struct mr_unit *unit,
                          struct mr_error *err)
{
    const struct mr_lookup_schema *columns =
        pipeline->pin.table ? mr_table_schema(pipeline->pin.table) : NULL;
    for (size_t i = 0; i < template->n_outputs; i++) {
        const struct mr_output *output = &template->outputs[i];
        size_t rows_from = unit->rows.len;
        if (!mr_stamp_row(template, output, columns, pipeline->rows, row, trigger_ms, &unit->frames,
                          &unit->rows, err))
            return false;
        unit->n_outputs++;
        unit->n_frames += output->has_message;
        if (output->has_row)
            mr_unit_note_row(unit, output->set, rows_from);
    }
    return true;
}

/* Keys as the ledger keeps them between chunks: uint32 length, bytes, and so on. */
static void pack_keys(struct mr_buf *out, const struct mr_bytes *keys, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        mr_buf_put_be32(out, (uint32_t)keys[i].len);
        mr_buf_put(out, keys[i].ptr, keys[i].len);
    }
}

/* False: not what pack_keys writes for a table of `n_cells` key columns. */
static bool unpack_keys(struct mr_bytes packed, size_t n_cells, struct mr_bytes *keys, size_t max,
                        size_t *n)
{
    size_t at = 0;
    *n = 0;
    while (at < packed.len) {
        uint32_t len;
        if (*n == max || packed.len - at < sizeof len)
            return false;
        memcpy(&len, packed.ptr + at, sizeof len);
        len = __builtin_bswap32(len);
        at += sizeof len;
        if (packed.len - at < len)
            return false;
        struct mr_bytes key = {packed.ptr + at, len};
        if (mr_cells_count(key) != n_cells)
            return false;
        keys[(*n)++] = key;
        at += len;
    }
    return true;
}

/* What an earlier chunk left in the ledger. False, MR_STOP: it cannot be read with this lookup. */
static bool resume(const struct mr_pipeline *pipeline, const struct mr_part *part,
                   struct mr_bytes *keys, size_t max, size_t *n, struct mr_bytes *cursor,
                   int64_t *trigger_ms, struct mr_error *err)
{
    struct mr_job_state job = mr_part_job(part);
    *trigger_ms = job.trigger_ms;
    *cursor = job.cursor;
    if (pipeline->lookup &&
        unpack_keys(job.keys, mr_table_schema(pipeline->pin.table)->n_keys, keys, max, n) &&
        (!cursor->ptr || mr_cells_count(*cursor) == 1))
        return true;
    return mr_error_set(err, MR_STOP, MR_EXIT_DATA,
                        "%s/%" PRId32 "@%" PRId64
                        " is in the middle of its fan-out, but its place in millrace_ledger "
                        "(job_keys, job_cursor) does not fit the lookup: if the lookup's key was "
                        "changed, change it back until this message is done",
                        part->at.topic, part->at.partition, part->position);
}

/* The unit is full and rows are left: what the next chunk, here or elsewhere, needs to go on. */
static void cut_chunk(struct mr_source *source, struct mr_record *rec, struct mr_segment *segment,
                      const struct mr_bytes *keys, size_t n_keys, const struct mr_row_ref *last,
                      int64_t trigger_ms)
{
    const uint8_t *end = mr_cell_skip(last->cells);
    /* The record outlives this segment: what is read of it belongs to the record, not here. */
    source->ops->headers(source, rec);
    segment->rec = *rec;
    segment->has_job = true;
    segment->next_offset = segment->rec.offset;
    segment->job_trigger_ms = trigger_ms;
    pack_keys(&segment->job_keys, keys, n_keys);
    mr_buf_put(&segment->job_cursor, last->cells, (size_t)(end - last->cells));
}

/* The rows of one chunk: handed out until they end or the unit is full. */
struct chunk {
    struct mr_rows rows; /* first: what `each` sees */
    struct mr_pipeline *pipeline;
    struct mr_unit *unit;
    struct mr_segment *segment;
    struct mr_record *rec;
    const struct mr_bytes *keys;
    size_t n_keys;
    int64_t trigger_ms;
    struct mr_row_ref row; /* the last one handed out; no cells: none yet */
    uint32_t copies_left;  /* of it */
    uint64_t n_rows;       /* handed out: what `each` skips counts too */
    bool more;
};

/* Cuts only between row keys, and by what was counted, never by the clock. */
static bool next_row(struct chunk *chunk, struct mr_row_ref *row, struct mr_error *err)
{
    const struct mr_pipeline *pipeline = chunk->pipeline;
    const struct mr_unit *unit = chunk->unit;
    if (chunk->copies_left) {
        chunk->copies_left--;
    } else {
        struct mr_row_ref next;
        if (!mr_span_next(pipeline->span, &next))
            return false;
        if (chunk->row.cells && next.new_row_key &&
            (mr_pipeline_unit_full(pipeline, unit) || chunk->n_rows >= pipeline->unit_outputs)) {
            cut_chunk(pipeline->source, chunk->rec, chunk->segment, chunk->keys, chunk->n_keys,
                      &chunk->row, chunk->trigger_ms);
            chunk->more = true;
            return false;
        }
        chunk->row = next;
        chunk->copies_left = next.copies - 1;
    }
    if (unit->frames.len + unit->rows.len > OVERSIZE * pipeline->unit_bytes) {
        chunk->rows.failed = true;
        return mr_error_reject(err, "too_large",
                               "the outputs of one row exceed %zu bytes, more than a unit holds",
                               OVERSIZE * pipeline->unit_bytes);
    }
    chunk->n_rows++;
    *row = chunk->row;
    return true;
}

static bool put_row(struct chunk *chunk, const struct mr_template *template, struct mr_error *err)
{
    chunk->rows.failed =
        !stamp_outputs(chunk->pipeline, template, &chunk->row, chunk->trigger_ms, chunk->unit, err);
    return !chunk->rows.failed;
}

static bool rows_next(struct mr_rows *rows, struct mr_row_ref *row, struct mr_error *err)
{
    return next_row((struct chunk *)rows, row, err);
}

static bool rows_put(struct mr_rows *rows, const struct mr_template *template, struct mr_error *err)
{
    return put_row((struct chunk *)rows, template, err);
}

static enum mr_verdict verdict_of(const struct mr_error *err)
{
    return err->action == MR_REJECT ? MR_VERDICT_REJECT : MR_VERDICT_STOP;
}

/* One template for all rows of the chunk, or `each` for every one of them. */
static enum mr_verdict stamp_chunk(struct chunk *chunk, const struct mr_context *ctx,
                                   const struct mr_template *template, struct mr_error *err)
{
    struct mr_script *script = chunk->pipeline->script;
    struct mr_row_ref row;
    if (!template)
        return script->ops->each(script, ctx, &chunk->rows, err);
    while (next_row(chunk, &row, err))
        if (!put_row(chunk, template, err))
            break;
    return chunk->rows.failed ? verdict_of(err) : MR_VERDICT_EMIT;
}

enum { JOB_KEYS_MAX = 1024 };

enum mr_verdict mr_pipeline_run(struct mr_pipeline *pipeline, struct mr_part *part,
                                struct mr_record *rec, int64_t now_ms, struct mr_unit *unit,
                                struct mr_pass *pass, struct mr_error *err)
{
    struct mr_script *script = pipeline->script;
    const struct mr_script_ops *ops = script->ops;
    struct mr_context ctx = {
        .now_ms = now_ms,
        .attempt = rec->offset == part->trying ? (uint32_t)part->attempts : 0,
    };
    struct mr_segment *segment = NULL;
    const struct mr_template *template = NULL;
    struct mr_bytes job_keys[JOB_KEYS_MAX];
    const struct mr_bytes *keys = NULL;
    struct mr_bytes cursor = {0};
    struct chunk chunk = {
        .rows = {.next = rows_next, .put = rows_put, .budget_rows = pipeline->unit_outputs},
        .pipeline = pipeline,
        .unit = unit,
        .rec = rec};
    size_t n_keys = 0;
    bool by_row = pipeline->lookup && ops->by_row && ops->by_row(script);
    enum mr_verdict verdict;
    *pass = (struct mr_pass){0};

    /* 1 the record, borrowed */
    if (rec->value.len > pipeline->max_message_bytes) {
        mr_error_reject(err, "too_large", "the message has %zu bytes, max_message allows %zu",
                        rec->value.len, pipeline->max_message_bytes);
        verdict = MR_VERDICT_REJECT;
        goto out;
    }
    /* 2 decode, 3 filter: asked with the current time at every chunk, so that what ended stops */
    verdict = ops->accept(script, rec, pipeline->source, &ctx, &pass->reason, err);
    if (verdict != MR_VERDICT_EMIT)
        goto out;
    /* 4 the keys, and a span of rows, nothing copied. A fan-out in progress keeps its keys and its
     * trigger time. */
    if (part->has_job) {
        keys = job_keys;
        if (!resume(pipeline, part, job_keys, JOB_KEYS_MAX, &n_keys, &cursor, &ctx.now_ms, err)) {
            verdict = MR_VERDICT_STOP;
            goto out;
        }
        /* What it writes into the message is there in every chunk; what it returns stays as it was.
         */
        const struct mr_bytes *unused;
        size_t n_unused;
        verdict = ops->key(script, &ctx, &unused, &n_unused, &pass->reason, err);
        if (verdict != MR_VERDICT_EMIT && verdict != MR_VERDICT_DROP)
            goto out;
    } else if (pipeline->lookup) {
        verdict = ops->key(script, &ctx, &keys, &n_keys, &pass->reason, err);
        if (verdict != MR_VERDICT_EMIT)
            goto out;
        pass->n_keys = n_keys;
        if (n_keys > JOB_KEYS_MAX) {
            mr_error_reject(err, "too_large", "key returned %zu keys, at most %d are allowed",
                            n_keys, JOB_KEYS_MAX);
            verdict = MR_VERDICT_REJECT;
            goto out;
        }
    }
    if (pipeline->lookup &&
        !mr_span_open(pipeline->span, pipeline->pin.table, keys, n_keys, cursor)) {
        pass->reason = "no_rows";
        verdict = MR_VERDICT_DROP;
        goto out;
    }
    /* 5 project, shape, row: one call for the whole span; `each` is called in 6 */
    if (!by_row) {
        verdict = ops->project(script, &ctx, &template, &pass->reason, err);
        if (verdict != MR_VERDICT_EMIT)
            goto out;
    }
    /* 6 stamp into the open unit */
    segment = mr_unit_begin(unit, part, rec);
    segment->bundle = ops->bundle(script);
    if (pipeline->lookup) {
        chunk.segment = segment;
        chunk.keys = keys;
        chunk.n_keys = n_keys;
        chunk.trigger_ms = ctx.now_ms;
        verdict = stamp_chunk(&chunk, &ctx, template, err);
    } else if (!stamp_outputs(pipeline, template, NULL, ctx.now_ms, unit, err)) {
        verdict = verdict_of(err);
    }
    if (verdict != MR_VERDICT_EMIT) {
        mr_unit_undo(unit);
        goto out;
    }
    pass->more = chunk.more;
    if (unit->n_outputs == segment->from.outputs && !part->has_job && !chunk.more) {
        mr_unit_undo(unit);
        pass->reason = "no_output";
        verdict = MR_VERDICT_DROP;
        goto out;
    }
    mr_unit_end(unit, segment);
    pass->segment = segment;
out:
    if (verdict == MR_VERDICT_REJECT) {
        segment = mr_unit_begin(unit, part, rec);
        segment->bundle = ops->bundle(script);
        mr_segment_bury(segment, pipeline->source, err);
        unit->dead_bytes += rec->key.len + rec->value.len;
        *rec = segment->rec; /* the headers, now read, belong to the record */
        mr_unit_end(unit, segment);
        pass->segment = segment;
        pass->more = false;
    }
    ops->finish(script);
    return verdict;
}
