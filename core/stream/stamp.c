/*
 * stamp.c - templates and rows in, message frames and COPY tuples out: the work that is done for
 * each row.
 *
 * Any thread; owns nothing but a little stack. A column is looked up in the row once a call and its
 * text is made once; a uuid or a clean text is then only copied wherever it is needed. What is rare
 * goes through mr_value_json and the row schema's encoder. Must not know Lua, Kafka or Postgres.
 * Tests: tests/unit/test_stamp.c.
 */
#include "stream/stamp.h"

#include "base/text.h"

/* Postgres's text and varchar: any text fits them as it is (varchar: without a length). */
enum { OID_TEXT = 25, OID_VARCHAR = 1043 };

/* Columns that a call remembers. A template that uses more works, the others are read each time. */
enum { SLOTS = 8 };

/* A column of the row at hand. */
struct slot {
    uint16_t column;
    bool ready;  /* `text` is there: it was not refused and is not null */
    bool quoted; /* in JSON it is a string */
    bool clean;  /* needs no escape inside a JSON string */
    struct mr_value value;
    const char *text;
    size_t len;
    char space[40]; /* the text, when it is made here */
};

struct stamp {
    const struct mr_template *template;
    const struct mr_lookup_schema *columns;
    const struct mr_row_ref *row;
    struct slot slots[SLOTS];
    unsigned n_slots;
    struct mr_error *err;
};

static bool is_clean(const char *text, size_t len)
{
    unsigned dirty = 0;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        dirty |= (unsigned)(c < 0x20) | (unsigned)(c == '"') | (unsigned)(c == '\\');
    }
    return !dirty;
}

static const uint8_t *find_cell(const struct stamp *stamp, uint16_t column)
{
    size_t n_keys = stamp->columns->n_keys;
    bool in_key = column < n_keys;
    const uint8_t *at = in_key ? stamp->row->key : stamp->row->cells;
    for (size_t skip = in_key ? column : column - n_keys; skip; skip--)
        at = mr_cell_skip(at);
    return at;
}

static void read_slot(const struct stamp *stamp, struct slot *slot, uint16_t column)
{
    slot->column = column;
    mr_cell_read(find_cell(stamp, column), &slot->value);
    slot->ready = true;
    switch (slot->value.type) {
    case MR_UUID:
        mr_text_uuid_format(slot->value.uuid, slot->space);
        slot->text = slot->space;
        slot->len = 36;
        slot->quoted = slot->clean = true;
        break;
    case MR_TEXT:
        slot->text = slot->value.bytes.ptr;
        slot->len = slot->value.bytes.len;
        slot->quoted = true;
        slot->clean = is_clean(slot->text, slot->len);
        break;
    default:
        slot->ready = false;
    }
}

static struct slot *column_slot(struct stamp *stamp, uint16_t column)
{
    for (unsigned i = 0; i < stamp->n_slots; i++)
        if (stamp->slots[i].column == column)
            return &stamp->slots[i];
    mr_assert(stamp->row && column < stamp->columns->n_columns);
    struct slot *slot = &stamp->slots[stamp->n_slots < SLOTS ? stamp->n_slots++ : SLOTS - 1];
    read_slot(stamp, slot, column);
    return slot;
}

static bool blame_column(const struct stamp *stamp, uint16_t column)
{
    return mr_error_context(stamp->err, "column %s of lookup %s",
                            stamp->columns->columns[column].name, stamp->columns->name);
}

static void put_quoted(struct mr_buf *out, const struct slot *slot)
{
    char *at = mr_buf_reserve(out, slot->len + 2);
    *at = '"';
    memcpy(at + 1, slot->text, slot->len);
    at[slot->len + 1] = '"';
    mr_buf_commit(out, slot->len + 2);
}

static bool put_json(struct stamp *stamp, struct mr_buf *out, const struct slot *slot)
{
    if (slot->ready && slot->clean) {
        put_quoted(out, slot);
        return true;
    }
    return mr_value_json(out, &slot->value, stamp->err) || blame_column(stamp, slot->column);
}

static bool put_text(struct stamp *stamp, struct mr_buf *out, const struct slot *slot)
{
    if (slot->ready) {
        mr_buf_put(out, slot->text, slot->len);
        return true;
    }
    return mr_value_text(out, &slot->value, stamp->err) || blame_column(stamp, slot->column);
}

static bool put_inside(struct stamp *stamp, struct mr_buf *out, const struct slot *slot)
{
    if (slot->ready && slot->clean)
        return put_text(stamp, out, slot);
    struct mr_buf text = {0};
    bool ok = put_text(stamp, &text, slot);
    if (ok)
        mr_text_json_escape(out, text.ptr, text.len);
    mr_buf_fini(&text);
    return ok;
}

static bool put_run(struct stamp *stamp, struct mr_buf *out, struct mr_seg_run run)
{
    const struct mr_seg *seg = stamp->template->segs + run.first, *end = seg + run.n;
    for (bool ok = true; seg < end; seg++) {
        switch ((enum mr_seg_kind)seg->kind) {
        case MR_SEG_BYTES:
            mr_buf_put(out, stamp->template->bytes + seg->from, seg->len);
            break;
        case MR_SEG_JSON:
            ok = put_json(stamp, out, column_slot(stamp, seg->column));
            break;
        case MR_SEG_JSON_INSIDE:
            ok = put_inside(stamp, out, column_slot(stamp, seg->column));
            break;
        case MR_SEG_TEXT:
            ok = put_text(stamp, out, column_slot(stamp, seg->column));
            break;
        }
        if (!ok)
            return false;
    }
    return true;
}

/* Nothing at all: said so by the script, or a placeholder alone whose column is NULL. */
static bool run_is_null(struct stamp *stamp, struct mr_seg_run run)
{
    const struct mr_seg *seg = &stamp->template->segs[run.first];
    return run.absent || (run.n == 1 && seg->kind == MR_SEG_TEXT &&
                          column_slot(stamp, seg->column)->value.type == MR_NULL);
}

/* The run, and its length or MR_ABSENT. */
static bool put_part(struct stamp *stamp, struct mr_buf *out, struct mr_seg_run run, uint32_t *len)
{
    *len = MR_ABSENT;
    if (run_is_null(stamp, run))
        return true;
    size_t before = out->len;
    if (!put_run(stamp, out, run))
        return false;
    if (out->len - before >= MR_ABSENT)
        return mr_error_reject(stamp->err, "too_large",
                               "a part of the message has %zu bytes, 4 GB is the limit",
                               out->len - before);
    *len = (uint32_t)(out->len - before);
    return true;
}

static bool put_header(struct stamp *stamp, struct mr_buf *out,
                       const struct mr_template_header *header)
{
    uint32_t lens[2];
    size_t at = out->len;
    mr_buf_reserve(out, sizeof lens);
    mr_buf_commit(out, sizeof lens);
    struct mr_seg_run name = header->name;
    name.absent = false;
    if (!put_run(stamp, out, name))
        return false;
    lens[0] = (uint32_t)(out->len - at - sizeof lens);
    if (!put_part(stamp, out, header->value, &lens[1]))
        return false;
    memcpy(out->ptr + at, lens, sizeof lens);
    return true;
}

/* Field by field: reading the struct back at once would wait for the small stores just made. */
static void write_frame(char *at, const struct mr_output *output, const uint32_t lens[3],
                        int64_t timestamp_ms)
{
    uint16_t n_headers = (uint16_t)output->n_headers;
    memcpy(at + offsetof(struct mr_frame, key_len), &lens[0], 4);
    memcpy(at + offsetof(struct mr_frame, headers_len), &lens[1], 4);
    memcpy(at + offsetof(struct mr_frame, value_len), &lens[2], 4);
    memcpy(at + offsetof(struct mr_frame, n_headers), &n_headers, 2);
    memcpy(at + offsetof(struct mr_frame, topic), &output->topic, 2);
    memcpy(at + offsetof(struct mr_frame, timestamp_ms), &timestamp_ms, 8);
}

static bool put_message(struct stamp *stamp, const struct mr_output *output, int64_t timestamp_ms,
                        struct mr_buf *out)
{
    uint32_t lens[3] = {0}; /* key, headers, value */
    size_t at = out->len;
    mr_buf_reserve(out, sizeof(struct mr_frame));
    mr_buf_commit(out, sizeof(struct mr_frame));
    if (!put_part(stamp, out, output->key, &lens[0]))
        return false;
    size_t headers_at = out->len;
    for (size_t i = 0; i < output->n_headers; i++)
        if (!put_header(stamp, out, &output->headers[i]))
            return false;
    if (out->len - headers_at >= MR_ABSENT)
        return mr_error_reject(stamp->err, "too_large",
                               "the headers of the message have %zu bytes, 4 GB is the limit",
                               out->len - headers_at);
    lens[1] = (uint32_t)(out->len - headers_at);
    if (!put_part(stamp, out, output->value, &lens[2]))
        return false;
    write_frame(out->ptr + at, output, lens, timestamp_ms);
    return true;
}

/* Does any text fit the column, just as it is? */
static bool takes_any_text(const struct mr_row_column *column)
{
    return (column->oid == OID_TEXT || column->oid == OID_VARCHAR) && column->is_text &&
           column->typmod < 0 && !column->generated;
}

static void put_text_field(struct mr_buf *out, const char *text, size_t len)
{
    uint32_t size = __builtin_bswap32((uint32_t)len);
    char *at = mr_buf_reserve(out, sizeof size + len);
    memcpy(at, &size, sizeof size);
    memcpy(at + sizeof size, text, len);
    mr_buf_commit(out, sizeof size + len);
}

static bool put_column_field(struct stamp *stamp, const struct mr_row_schema *schema,
                             const struct mr_template_field *field, struct mr_buf *out)
{
    const struct mr_row_column *column = &schema->columns[field->row_column];
    const struct slot *slot = column_slot(stamp, field->lookup_column);
    if (slot->ready && takes_any_text(column)) {
        put_text_field(out, slot->text, slot->len);
        return true;
    }
    return schema->encode(column, &slot->value, out, stamp->err) ||
           blame_column(stamp, field->lookup_column);
}

/* A `fmt`: goes the way of any text that a script gives for the column. */
static bool put_fmt_field(struct stamp *stamp, const struct mr_row_schema *schema,
                          const struct mr_template_field *field, struct mr_buf *out)
{
    struct mr_buf text = {0};
    bool ok = put_run(stamp, &text, field->text);
    if (ok) {
        struct mr_value value = {.type = MR_TEXT, .bytes = {text.ptr ? text.ptr : "", text.len}};
        ok = schema->encode(&schema->columns[field->row_column], &value, out, stamp->err);
    }
    mr_buf_fini(&text);
    return ok;
}

static bool put_row(struct stamp *stamp, const struct mr_row_schema *schema,
                    const struct mr_output *output, struct mr_buf *out)
{
    const char *bytes = stamp->template->bytes;
    const struct mr_template_field *field = output->fields;
    const struct mr_template_field *end = output->set->n ? field + output->set->n : field;
    mr_buf_put_be16(out, output->set->n);
    while (field < end) {
        if (field->kind == MR_FIELD_CONST) { /* neighbours in the template go in one copy */
            size_t from = field->from, len = 0;
            for (; field < end && field->kind == MR_FIELD_CONST && field->from == from + len;
                 field++)
                len += field->len;
            mr_buf_put(out, bytes + from, len);
            continue;
        }
        if (!(field->kind == MR_FIELD_COLUMN ? put_column_field(stamp, schema, field, out)
                                             : put_fmt_field(stamp, schema, field, out)))
            return false;
        field++;
    }
    return true;
}

bool mr_stamp_row(const struct mr_template *template, const struct mr_output *output,
                  const struct mr_lookup_schema *columns, const struct mr_row_schema *row_schema,
                  const struct mr_row_ref *row, int64_t timestamp_ms, struct mr_buf *frames,
                  struct mr_buf *rows, struct mr_error *err)
{
    struct stamp stamp; /* its slots are filled as they are needed */
    stamp.template = template;
    stamp.columns = columns;
    stamp.row = row;
    stamp.n_slots = 0;
    stamp.err = err;
    size_t frames_before = frames->len, rows_before = rows->len;
    if ((output->has_message && !put_message(&stamp, output, timestamp_ms, frames)) ||
        (output->has_row && !put_row(&stamp, row_schema, output, rows))) {
        frames->len = frames_before;
        rows->len = rows_before;
        return false;
    }
    return true;
}
