/*
 * build.c - bytes and segments of a template, appended in order.
 *
 * One thread. Owns its bufs. Must not know Lua: encode.c and template.c say what is appended. While
 * outputs are added the arrays still move, so an output holds counts until mr_build_finish sets the
 * pointers. Tests: tests/spec/template_spec.lua, tests/unit/test_script.c.
 */
#include "lua/build.h"

void mr_build_fini(struct mr_build *build)
{
    mr_buf_fini(&build->bytes);
    mr_buf_fini(&build->segs);
    mr_buf_fini(&build->headers);
    mr_buf_fini(&build->fields);
    mr_buf_fini(&build->outputs);
}

void mr_build_reset(struct mr_build *build)
{
    mr_buf_reset(&build->bytes);
    mr_buf_reset(&build->segs);
    mr_buf_reset(&build->headers);
    mr_buf_reset(&build->fields);
    mr_buf_reset(&build->outputs);
    build->run_first = build->bytes_from = 0;
}

static size_t n_segs(const struct mr_build *build)
{
    return build->segs.len / sizeof(struct mr_seg);
}

static void close_bytes(struct mr_build *build)
{
    if (build->bytes.len == build->bytes_from)
        return;
    struct mr_seg seg = {.kind = MR_SEG_BYTES,
                         .from = (uint32_t)build->bytes_from,
                         .len = (uint32_t)(build->bytes.len - build->bytes_from)};
    mr_buf_put(&build->segs, &seg, sizeof seg);
    build->bytes_from = build->bytes.len;
}

void mr_build_begin(struct mr_build *build)
{
    build->run_first = n_segs(build);
    build->bytes_from = build->bytes.len;
}

void mr_build_column(struct mr_build *build, enum mr_seg_kind kind, uint16_t column)
{
    close_bytes(build);
    struct mr_seg seg = {.kind = (uint8_t)kind, .column = column};
    mr_buf_put(&build->segs, &seg, sizeof seg);
}

struct mr_seg_run mr_build_end(struct mr_build *build)
{
    close_bytes(build);
    return (struct mr_seg_run){.first = (uint32_t)build->run_first,
                               .n = (uint32_t)(n_segs(build) - build->run_first)};
}

struct mr_seg_run mr_build_absent(void)
{
    return (struct mr_seg_run){.absent = true};
}

bool mr_build_check(const struct mr_build *build, struct mr_error *err)
{
    if (!build->limit_bytes || build->bytes.len <= build->limit_bytes)
        return true;
    return mr_error_reject(err, "too_large",
                           "what the script made of the message exceeds %zu bytes (limits.output)",
                           build->limit_bytes);
}

void mr_build_header(struct mr_build *build, const struct mr_template_header *header)
{
    mr_buf_put(&build->headers, header, sizeof *header);
}

void mr_build_field(struct mr_build *build, const struct mr_template_field *field)
{
    mr_buf_put(&build->fields, field, sizeof *field);
}

size_t mr_build_n_headers(const struct mr_build *build)
{
    return build->headers.len / sizeof(struct mr_template_header);
}

size_t mr_build_n_fields(const struct mr_build *build)
{
    return build->fields.len / sizeof(struct mr_template_field);
}

void mr_build_output(struct mr_build *build, struct mr_output output, size_t headers_from,
                     size_t fields_from)
{
    output.n_headers = mr_build_n_headers(build) - headers_from;
    mr_assert(mr_build_n_fields(build) - fields_from == (output.has_row ? output.set->n : 0));
    mr_buf_put(&build->outputs, &output, sizeof output);
}

const struct mr_template *mr_build_finish(struct mr_build *build)
{
    struct mr_output *outputs = (void *)build->outputs.ptr;
    size_t n = build->outputs.len / sizeof *outputs;
    const struct mr_template_header *header = (void *)build->headers.ptr;
    const struct mr_template_field *field = (void *)build->fields.ptr;
    for (size_t i = 0; i < n; i++) {
        outputs[i].headers = header;
        outputs[i].fields = field;
        if (outputs[i].n_headers)
            header += outputs[i].n_headers;
        if (outputs[i].has_row && outputs[i].set->n)
            field += outputs[i].set->n;
    }
    build->template = (struct mr_template){
        .bytes = build->bytes.ptr ? build->bytes.ptr : "",
        .segs = (void *)build->segs.ptr,
        .outputs = outputs,
        .n_outputs = n,
    };
    return &build->template;
}
