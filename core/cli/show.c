/*
 * show.c - outputs of a trial as JSON.
 *
 * Any thread. Owns a JSON parser, which tells JSON from text. Must not know where the outputs come
 * from. The columns of a row are sorted by name, as all objects that Millrace writes. Tests:
 * tests/spec/try_spec.lua.
 */
#include "cli/show.h"

#include "base/text.h"

#include <stdio.h>
#include <stdlib.h>

void mr_show_init(struct mr_show *show, const char *const *topics, size_t n_topics,
                  const struct mr_row_schema *rows)
{
    *show = (struct mr_show){
        .topics = topics, .n_topics = n_topics, .rows = rows, .json = mr_json_new()};
}

void mr_show_fini(struct mr_show *show)
{
    mr_json_free(show->json);
}

static void put_hex(struct mr_bytes bytes, struct mr_buf *out)
{
    mr_buf_put_text(out, "{\"hex\":\"");
    for (size_t i = 0; i < bytes.len; i++)
        mr_buf_printf(out, "%02x", (unsigned char)bytes.ptr[i]);
    mr_buf_put_text(out, "\"}");
}

void mr_show_bytes(struct mr_show *show, struct mr_bytes bytes, struct mr_buf *out)
{
    struct mr_error err;
    if (!bytes.ptr)
        mr_buf_put_text(out, "null");
    else if (!mr_text_utf8_valid(bytes.ptr, bytes.len))
        put_hex(bytes, out);
    else if (bytes.len && (*bytes.ptr == '{' || *bytes.ptr == '[') &&
             !memchr(bytes.ptr, '\n', bytes.len) && mr_json_parse(show->json, bytes, &err))
        mr_buf_put(out, bytes.ptr, bytes.len);
    else
        mr_text_json_string(out, bytes.ptr, bytes.len);
}

/* Never as JSON: a key is bytes. */
static void put_text(struct mr_bytes bytes, struct mr_buf *out)
{
    if (!bytes.ptr)
        mr_buf_put_text(out, "null");
    else if (!mr_text_utf8_valid(bytes.ptr, bytes.len))
        put_hex(bytes, out);
    else
        mr_text_json_string(out, bytes.ptr, bytes.len);
}

void mr_show_message(struct mr_show *show, const struct mr_trial_output *output, struct mr_buf *out)
{
    const char *at = output->headers.ptr;
    mr_buf_put_text(out, "{\"topic\":");
    put_text(mr_bytes_of(output->frame.topic < show->n_topics ? show->topics[output->frame.topic]
                                                              : NULL),
             out);
    mr_buf_put_text(out, ",\"key\":");
    put_text(output->key, out);
    mr_buf_put_text(out, ",\"headers\":[");
    for (unsigned i = 0; i < output->frame.n_headers; i++) {
        struct mr_bytes name, value;
        at = mr_frame_header(at, &name, &value);
        mr_buf_put_text(out, i ? ",[" : "[");
        put_text(name, out);
        mr_buf_put_char(out, ',');
        put_text(value, out);
        mr_buf_put_char(out, ']');
    }
    mr_buf_put_text(out, "],\"value\":");
    mr_show_bytes(show, output->value, out);
    mr_buf_put_char(out, '}');
}

struct field {
    const struct mr_row_column *column;
    struct mr_bytes bytes;
};

static int compare_fields(const void *a, const void *b)
{
    const struct field *x = a, *y = b;
    return strcmp(x->column->name, y->column->name);
}

void mr_show_row(struct mr_show *show, const struct mr_trial_output *output, struct mr_buf *out)
{
    struct field fields[MR_ROW_COLUMNS_MAX];
    const char *at = NULL;
    size_t n = output->set->n;
    for (size_t i = 0; i < n; i++)
        fields[i] = (struct field){&show->rows->columns[output->set->columns[i]],
                                   mr_trial_field(output->row, &at)};
    qsort(fields, n, sizeof *fields, compare_fields);
    mr_buf_put_char(out, '{');
    for (size_t i = 0; i < n; i++) {
        if (i)
            mr_buf_put_char(out, ',');
        mr_text_json_string(out, fields[i].column->name, strlen(fields[i].column->name));
        mr_buf_put_char(out, ':');
        if (!fields[i].bytes.ptr)
            mr_buf_put_text(out, "null");
        else if (!show->rows->show || !show->rows->show(fields[i].column, fields[i].bytes, out))
            put_text(fields[i].bytes, out);
    }
    mr_buf_put_char(out, '}');
}

void mr_show_output(struct mr_show *show, const struct mr_trial_output *output, struct mr_buf *out)
{
    mr_buf_put_char(out, '{');
    if (output->has_message) {
        mr_buf_put_text(out, "\"message\":");
        mr_show_message(show, output, out);
    }
    if (output->has_row) {
        mr_buf_put_text(out, output->has_message ? ",\"row\":" : "\"row\":");
        mr_show_row(show, output, out);
    }
    mr_buf_put_char(out, '}');
}
