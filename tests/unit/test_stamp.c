/*
 * test_stamp.c - stamped frames and COPY tuples against a naive second implementation:
 * core/stream/stamp.c.
 *
 * Frames and tuples are read by parsers of this file. MILLRACE_STAMP_ROWS sets how often the seed's
 * record is stamped when the time is taken (default 200000).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "seed.h"
#include "stream/stamp.h"

#include <math.h>
#include <string.h>

/* --- a lookup of one row, a row schema, an encoder --- */

enum { N_LOOKUP = 7, N_ROW = 6 };

static struct mr_lookup_column lookup_columns[N_LOOKUP] = {
    {"k1", MR_TEXT, "text"},   {"k2", MR_INT, "integer"},
    {"name", MR_TEXT, "text"}, {"number", MR_INT, "bigint"},
    {"any", MR_TEXT, "text"},  {"float", MR_FLOAT, "double precision"},
    {"doc", MR_JSON, "jsonb"}};
static const struct mr_lookup_schema lookup_schema = {"seed", lookup_columns, 2, N_LOOKUP};

static const struct mr_row_column row_columns[N_ROW] = {
    {.name = "plain", .type_name = "text", .oid = 25, .typmod = -1, .is_text = true},
    {.name = "any", .type_name = "varchar", .oid = 1043, .typmod = -1, .is_text = true},
    {.name = "short", .type_name = "varchar(8)", .oid = 1043, .typmod = 12, .is_text = true},
    {.name = "number", .type_name = "bigint", .oid = 20, .typmod = -1},
    {.name = "must",
     .type_name = "text",
     .oid = 25,
     .typmod = -1,
     .is_text = true,
     .not_null = true},
    {.name = "doc", .type_name = "json", .oid = 114, .typmod = -1, .is_text = true}};

/* Says what it was given, in a form that the test can foresee: "<column>:<type>:<text>". */
static bool encode(const struct mr_row_column *column, const struct mr_value *value,
                   struct mr_buf *out, struct mr_error *err)
{
    if (value->type == MR_NULL && column->not_null)
        return mr_error_reject(err, "schema", "%s is NOT NULL", column->name);
    if (value->type == MR_NULL) {
        mr_buf_put_be32(out, UINT32_MAX);
        return true;
    }
    struct mr_buf text = {0};
    bool ok = true;
    if (column->typmod < 0 && (column->oid == 25 || column->oid == 1043))
        ok = mr_value_text(&text, value, err);
    else {
        mr_buf_printf(&text, "%s:%s:", column->name, mr_type_name(value->type));
        if (value->type == MR_FLOAT && isnan(value->f))
            mr_buf_put_text(&text, "NaN"); /* a float column takes it */
        else
            ok = mr_value_text(&text, value, err);
    }
    if (ok) {
        mr_buf_put_be32(out, (uint32_t)text.len);
        mr_buf_put(out, text.ptr, text.len);
    }
    mr_buf_fini(&text);
    return ok;
}

static const struct mr_row_schema row_schema = {
    .table = "feedback", .columns = row_columns, .n = N_ROW, .encode = encode};

/* --- templates made by hand --- */

enum { SEGS_MAX = 64, FIELDS_MAX = N_ROW, HEADERS_MAX = 4 };

struct made {
    struct mr_template template;
    struct mr_output output;
    struct mr_buf bytes;
    struct mr_seg segs[SEGS_MAX];
    uint32_t n_segs;
    struct mr_template_header headers[HEADERS_MAX];
    struct mr_template_field fields[FIELDS_MAX];
    struct mr_column_set set;
};

static struct mr_template *made_template(struct made *made)
{
    made->template = (struct mr_template){made->bytes.ptr, made->segs, &made->output, 1};
    return &made->template;
}

static void add_bytes(struct made *made, const char *bytes, size_t len)
{
    assert_true(made->n_segs < SEGS_MAX);
    made->segs[made->n_segs++] = (struct mr_seg){
        .kind = MR_SEG_BYTES, .from = (uint32_t)made->bytes.len, .len = (uint32_t)len};
    mr_buf_put(&made->bytes, bytes, len);
}

static void add_column(struct made *made, enum mr_seg_kind kind, uint16_t column)
{
    assert_true(made->n_segs < SEGS_MAX);
    made->segs[made->n_segs++] = (struct mr_seg){.kind = (uint8_t)kind, .column = column};
}

static void add_const_field(struct made *made, uint16_t row_column, const char *text)
{
    struct mr_template_field *field = &made->fields[made->set.n];
    *field = (struct mr_template_field){
        .kind = MR_FIELD_CONST, .row_column = row_column, .from = (uint32_t)made->bytes.len};
    mr_buf_put_be32(&made->bytes, (uint32_t)strlen(text));
    mr_buf_put_text(&made->bytes, text);
    field->len = (uint32_t)made->bytes.len - field->from;
    made->set.columns[made->set.n++] = row_column;
}

/* --- the naive second implementation --- */

static void naive_escape(struct mr_buf *out, const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        const char *pairs = "\"\"\\\\\nn\rr\tt", *pair = pairs;
        for (; *pair && (unsigned char)*pair != c; pair += 2)
            ;
        if (c && *pair)
            mr_buf_printf(out, "\\%c", pair[1]);
        else if (c < 0x20)
            mr_buf_printf(out, "\\u%04x", c);
        else
            mr_buf_put_char(out, (char)c);
    }
}

static void naive_seg(struct mr_buf *out, const struct made *made, const struct mr_seg *seg,
                      const struct mr_value *values)
{
    const struct mr_value *value = &values[seg->column];
    struct mr_buf text = {0};
    struct mr_error err;
    if (seg->kind == MR_SEG_BYTES) {
        mr_buf_put(out, made->bytes.ptr + seg->from, seg->len);
        return;
    }
    assert_true(mr_value_text(&text, value, &err));
    if (seg->kind == MR_SEG_TEXT) {
        mr_buf_put(out, text.ptr, text.len);
    } else if (seg->kind == MR_SEG_JSON_INSIDE) {
        naive_escape(out, text.ptr, text.len);
    } else if (value->type == MR_NULL) {
        mr_buf_put_text(out, "null");
    } else if (value->type == MR_TEXT || value->type == MR_UUID) {
        mr_buf_put_char(out, '"');
        naive_escape(out, text.ptr, text.len);
        mr_buf_put_char(out, '"');
    } else {
        mr_buf_put(out, text.ptr, text.len);
    }
    mr_buf_fini(&text);
}

static bool naive_run(struct mr_buf *out, const struct made *made, struct mr_seg_run run,
                      const struct mr_value *values)
{
    mr_buf_reset(out);
    if (run.absent)
        return false;
    for (uint32_t i = 0; i < run.n; i++)
        naive_seg(out, made, &made->segs[run.first + i], values);
    const struct mr_seg *seg = &made->segs[run.first];
    return !(run.n == 1 && seg->kind == MR_SEG_TEXT && values[seg->column].type == MR_NULL);
}

/* --- parsers --- */

static uint64_t read_host(const char *at, size_t size)
{
    uint64_t value = 0;
    memcpy(&value, at, size); /* little-endian hosts only, as the tests run on */
    return value;
}

static void assert_run(const struct made *made, struct mr_seg_run run,
                       const struct mr_value *values, const char *at, uint64_t len)
{
    struct mr_buf expected = {0};
    if (naive_run(&expected, made, run, values)) {
        assert_int_equal(len, expected.len);
        assert_memory_equal(at, expected.len ? expected.ptr : at, expected.len);
    } else {
        assert_int_equal(len, UINT32_MAX);
    }
    mr_buf_fini(&expected);
}

/* One frame by its description in message.h: offsets and sizes, no struct. Returns its size. */
static size_t assert_frame(const struct made *made, const struct mr_value *values, const char *at,
                           int64_t timestamp_ms)
{
    const struct mr_output *output = &made->output;
    uint64_t key_len = read_host(at, 4), headers_len = read_host(at + 4, 4);
    uint64_t value_len = read_host(at + 8, 4);
    assert_int_equal(read_host(at + 12, 2), output->n_headers);
    assert_int_equal(read_host(at + 14, 2), output->topic);
    assert_true((int64_t)read_host(at + 16, 8) == timestamp_ms);
    const char *from = at;
    at += sizeof(struct mr_frame);
    assert_run(made, output->key, values, at, key_len);
    at += key_len == UINT32_MAX ? 0 : key_len;
    const char *headers_end = at + headers_len;
    for (size_t i = 0; i < output->n_headers; i++) {
        uint64_t lens[2] = {read_host(at, 4), read_host(at + 4, 4)};
        at += 8;
        assert_run(made, output->headers[i].name, values, at, lens[0]);
        at += lens[0];
        assert_run(made, output->headers[i].value, values, at, lens[1]);
        at += lens[1] == UINT32_MAX ? 0 : lens[1];
    }
    assert_ptr_equal(at, headers_end);
    assert_run(made, output->value, values, at, value_len);
    at += value_len == UINT32_MAX ? 0 : value_len;
    return (size_t)(at - from);
}

static uint32_t read_network(const char *at, size_t size)
{
    uint32_t value = 0;
    for (size_t i = 0; i < size; i++)
        value = value << 8 | (unsigned char)at[i];
    return value;
}

static size_t assert_tuple(const struct made *made, const struct mr_value *values, const char *at)
{
    const char *from = at;
    struct mr_buf expected = {0};
    struct mr_error err;
    assert_int_equal(read_network(at, 2), made->set.n);
    at += 2;
    for (size_t i = 0; i < made->set.n; i++) {
        const struct mr_template_field *field = &made->fields[i];
        const struct mr_row_column *column = &row_columns[field->row_column];
        mr_buf_reset(&expected);
        if (field->kind == MR_FIELD_CONST) {
            mr_buf_put(&expected, made->bytes.ptr + field->from, field->len);
        } else if (field->kind == MR_FIELD_COLUMN) {
            assert_true(encode(column, &values[field->lookup_column], &expected, &err));
        } else {
            struct mr_buf text = {0};
            naive_run(&text, made, field->text, values);
            struct mr_value value = {.type = MR_TEXT,
                                     .bytes = {text.ptr ? text.ptr : "", text.len}};
            assert_true(encode(column, &value, &expected, &err));
            mr_buf_fini(&text);
        }
        uint32_t len = read_network(at, 4);
        size_t size = 4 + (len == UINT32_MAX ? 0 : len);
        assert_int_equal(size, expected.len);
        assert_memory_equal(at, expected.ptr, size);
        at += size;
    }
    mr_buf_fini(&expected);
    return (size_t)(at - from);
}

/* --- random templates and rows --- */

static struct mr_seg_run random_run(struct made *made, struct seed *seed, bool json)
{
    static const char *const texts[] = {"{\"a\":", "", ",\"b\":1,", "}", "text \xc3\xa4"};
    struct mr_seg_run run = {.first = made->n_segs, .absent = seed_below(seed, 6) == 0};
    for (uint64_t n = seed_below(seed, 6); n; n--) {
        const char *text = texts[seed_below(seed, 5)];
        uint16_t column = (uint16_t)seed_below(seed, N_LOOKUP);
        if (seed_below(seed, 2))
            add_bytes(made, text, strlen(text));
        else
            add_column(made,
                       json ? (enum mr_seg_kind)(MR_SEG_JSON + seed_below(seed, 3)) : MR_SEG_TEXT,
                       column);
    }
    run.n = made->n_segs - run.first;
    return run;
}

static void random_fields(struct made *made, struct seed *seed)
{
    for (uint16_t i = 0; i < N_ROW; i++) {
        struct mr_template_field field = {.row_column = i};
        switch (seed_below(seed, 4)) {
        case 0:
            continue;
        case 1:
            add_const_field(made, i, seed_below(seed, 2) ? "constant" : "");
            if (seed_below(seed, 3) == 0)
                mr_buf_put_text(&made->bytes, "a gap");
            continue;
        case 2:
            field.kind = MR_FIELD_COLUMN;
            field.lookup_column = (uint16_t)seed_below(seed, N_LOOKUP);
            break;
        default:
            field.kind = MR_FIELD_TEXT;
            field.text = random_run(made, seed, false);
            field.text.absent = false;
        }
        made->fields[made->set.n] = field;
        made->set.columns[made->set.n++] = i;
    }
}

static void random_template(struct made *made, struct seed *seed)
{
    made->output.has_message = seed_below(seed, 8) != 0;
    made->output.has_row = seed_below(seed, 8) != 0;
    made->output.topic = (uint16_t)seed_below(seed, 3);
    made->output.value = random_run(made, seed, true);
    made->output.key = random_run(made, seed, false);
    made->output.n_headers = seed_below(seed, HEADERS_MAX + 1);
    for (size_t i = 0; i < made->output.n_headers; i++) {
        made->headers[i].name.first = made->n_segs;
        made->headers[i].name.n = 1;
        add_bytes(made, "h", 1);
        made->headers[i].value = random_run(made, seed, false);
    }
    random_fields(made, seed);
    made->output.headers = made->headers;
    made->output.fields = made->fields;
    made->output.set = &made->set;
}

static struct mr_value random_value(struct seed *seed, enum mr_type type)
{
    static const char *const texts[] = {"",           "clean",     "with \"quotes\" and \\",
                                        "line\nfeed", "\x01\x1f",  "\xc3\xa4\xe2\x82\xac",
                                        "tab\there",  "Ivan Ivan", "\""};
    struct mr_value value = {.type = type};
    if (seed_below(seed, 5) == 0)
        return (struct mr_value){.type = MR_NULL};
    if (type == MR_INT)
        value.i = (int64_t)seed_next(seed);
    else if (type == MR_FLOAT)
        value.f = (double)(int64_t)seed_next(seed) / 1024;
    else if (type == MR_JSON)
        value.bytes = mr_bytes_of("{\"x\": [1, \"\\n\"]}");
    else if (seed_below(seed, 2)) {
        value.type = MR_UUID;
        for (int i = 0; i < 16; i++)
            value.uuid[i] = (uint8_t)seed_next(seed);
    } else
        value.bytes = mr_bytes_of(texts[seed_below(seed, 9)]);
    return value;
}

static void pack_row(const struct mr_value *values, struct mr_buf *key, struct mr_buf *cells,
                     struct mr_row_ref *row)
{
    mr_buf_reset(key);
    mr_buf_reset(cells);
    for (size_t i = 0; i < N_LOOKUP; i++)
        mr_cell_put(i < 2 ? key : cells, &values[i]);
    *row = (struct mr_row_ref){(uint8_t *)key->ptr, (uint8_t *)cells->ptr, 1, true};
}

static bool refused(const struct made *made, const struct mr_value *values)
{
    for (size_t i = 0; made->output.has_row && i < made->set.n; i++) {
        const struct mr_template_field *field = &made->fields[i];
        if (field->kind == MR_FIELD_COLUMN && row_columns[field->row_column].not_null &&
            values[field->lookup_column].type == MR_NULL)
            return true;
    }
    return false;
}

static void stamped_is_what_a_naive_reading_gives(void **state)
{
    (void)state;
    struct seed seed = seed_start("stamped_is_what_a_naive_reading_gives");
    struct mr_buf key = {0}, cells = {0}, frames = {0}, rows = {0};
    struct mr_value values[N_LOOKUP];
    struct mr_row_ref row;
    struct mr_error err;
    int n_refused = 0;
    for (int round = 0; round < 2000; round++) {
        struct made made = {0};
        random_template(&made, &seed);
        for (int i = 0; i < 5; i++) {
            int64_t at = (int64_t)seed_next(&seed);
            for (size_t c = 0; c < N_LOOKUP; c++)
                values[c] = random_value(&seed, lookup_columns[c].type);
            pack_row(values, &key, &cells, &row);
            size_t frames_before = frames.len, rows_before = rows.len;
            bool ok = mr_stamp_row(made_template(&made), &made.output, &lookup_schema, &row_schema,
                                   &row, at, &frames, &rows, &err);
            assert_int_equal(ok, !refused(&made, values));
            if (!ok) {
                n_refused++;
                assert_int_equal(frames.len, frames_before);
                assert_int_equal(rows.len, rows_before);
                continue;
            }
            if (made.output.has_message)
                frames_before += assert_frame(&made, values, frames.ptr + frames_before, at);
            if (made.output.has_row)
                rows_before += assert_tuple(&made, values, rows.ptr + rows_before);
            assert_int_equal(frames.len, frames_before);
            assert_int_equal(rows.len, rows_before);
        }
        if (frames.len + rows.len > 1 << 20)
            frames.len = rows.len = 0;
        mr_buf_fini(&made.bytes);
    }
    assert_true(n_refused > 10);
    mr_buf_fini(&key);
    mr_buf_fini(&cells);
    mr_buf_fini(&frames);
    mr_buf_fini(&rows);
}

/* --- single behaviours --- */

static void what_json_cannot_carry_names_its_column(void **state)
{
    (void)state;
    struct made made = {.output = {.has_message = true, .has_row = true}};
    struct mr_buf key = {0}, cells = {0}, frames = {0}, rows = {0};
    struct mr_value values[N_LOOKUP] = {[5] = {.type = MR_FLOAT, .f = (double)NAN}};
    struct mr_row_ref row;
    struct mr_error err = {0};
    add_const_field(&made, 0, "x");
    made.output.fields = made.fields;
    made.output.set = &made.set;
    made.output.key = (struct mr_seg_run){.absent = true};
    made.output.value = (struct mr_seg_run){.first = made.n_segs, .n = 2};
    add_bytes(&made, "[", 1);
    add_column(&made, MR_SEG_JSON, 5);
    pack_row(values, &key, &cells, &row);
    mr_buf_put_text(&frames, "before");
    mr_buf_put_text(&rows, "here");
    assert_false(mr_stamp_row(made_template(&made), &made.output, &lookup_schema, &row_schema, &row,
                              0, &frames, &rows, &err));
    assert_int_equal(err.action, MR_REJECT);
    assert_string_equal(err.class_, "schema");
    assert_non_null(strstr(err.msg, "column float of lookup seed"));
    assert_non_null(strstr(err.msg, "NaN"));
    assert_int_equal(frames.len, 6);
    assert_int_equal(rows.len, 4);
    /* The same row with the message refused only by its row: the frame is taken back too. */
    made.segs[1].column = 3;
    made.fields[0] =
        (struct mr_template_field){.kind = MR_FIELD_COLUMN, .row_column = 4, .lookup_column = 2};
    made.set.columns[0] = 4;
    assert_false(mr_stamp_row(made_template(&made), &made.output, &lookup_schema, &row_schema, &row,
                              0, &frames, &rows, &err));
    assert_non_null(strstr(err.msg, "column name of lookup seed"));
    assert_int_equal(frames.len, 6);
    assert_int_equal(rows.len, 4);
    mr_buf_fini(&made.bytes);
    mr_buf_fini(&key);
    mr_buf_fini(&cells);
    mr_buf_fini(&frames);
    mr_buf_fini(&rows);
}

/* `map`: no lookup, no row, no placeholders, perhaps no feedback table. */
static void constants_need_no_lookup(void **state)
{
    (void)state;
    struct made made = {.output = {.has_message = true}};
    struct mr_buf frames = {0}, rows = {0};
    struct mr_error err;
    made.output.value = (struct mr_seg_run){.first = 0, .n = 1};
    made.output.key = (struct mr_seg_run){.absent = true};
    add_bytes(&made, "{}", 2);
    assert_true(mr_stamp_row(made_template(&made), &made.output, NULL, NULL, NULL, 77, &frames,
                             &rows, &err));
    assert_int_equal(assert_frame(&made, NULL, frames.ptr, 77), frames.len);
    assert_int_equal(rows.len, 0);
    mr_buf_fini(&made.bytes);
    mr_buf_fini(&frames);
}

/* More columns than a call remembers: each still comes out right. */
static void many_columns_are_stamped_each_as_itself(void **state)
{
    (void)state;
    enum { MANY = 30 };
    struct mr_lookup_column columns[MANY];
    struct mr_buf cells = {0}, frames = {0}, rows = {0}, expected = {0};
    struct made made = {.output = {.has_message = true, .key = {.absent = true}}};
    struct mr_error err;
    for (int i = 0; i < MANY; i++) {
        struct mr_value value = {.type = MR_INT, .i = 1000 + i};
        columns[i] = (struct mr_lookup_column){"c", MR_INT, "integer"};
        mr_cell_put(&cells, &value);
    }
    for (int i = 0; i < 2 * MANY - 2; i++) {
        int column = i < MANY ? i : 2 * MANY - 2 - i;
        add_column(&made, MR_SEG_TEXT, (uint16_t)column);
        mr_buf_printf(&expected, "%d", 1000 + column);
    }
    made.output.value = (struct mr_seg_run){.first = 0, .n = made.n_segs};
    struct mr_lookup_schema schema = {"many", columns, 0, MANY};
    struct mr_row_ref row = {NULL, (uint8_t *)cells.ptr, 1, true};
    assert_true(mr_stamp_row(made_template(&made), &made.output, &schema, NULL, &row, 0, &frames,
                             &rows, &err));
    assert_int_equal(frames.len, sizeof(struct mr_frame) + expected.len);
    assert_memory_equal(frames.ptr + sizeof(struct mr_frame), expected.ptr, expected.len);
    mr_buf_fini(&cells);
    mr_buf_fini(&frames);
    mr_buf_fini(&expected);
}

/* --- the seed's record --- */

/* What scripts/promo.lua makes of the seed's campaign: fields by name, the row in the table's
 * order. */
static void make_promo(struct made *made)
{
    static const char before[] =
        "{\"adv_campaign_content\":\"first campaign\",\"adv_campaign_datetime_end\":2659207116,"
        "\"adv_campaign_datetime_start\":1659203516,"
        "\"adv_campaign_id\":\"123e4567-e89b-12d3-a456-426614174003\","
        "\"adv_campaign_owner\":\"Ivanov Ivan Ivanovich\","
        "\"adv_campaign_owner_contact\":\"iiivanov@restaurant_id\",\"client_id\":";
    static const char behind[] = ",\"datetime_created\":1659131516,"
                                 "\"restaurant_id\":\"123e4567-e89b-12d3-a456-426614174000\","
                                 "\"trigger_datetime_created\":1795368678}";
    static const char *const constants[] = {"123e4567-e89b-12d3-a456-426614174000",
                                            "123e4567-e89b-12d3-a456-426614174003",
                                            "first campaign",
                                            "Ivanov Ivan Ivanovich",
                                            "iiivanov@restaurant_id",
                                            "8 bytes1",
                                            "8 bytes2",
                                            "8 bytes3",
                                            NULL,
                                            "4 by",
                                            ""};
    static struct mr_template_field fields[11];
    static struct mr_column_set set = {.n = 11};
    made->output =
        (struct mr_output){.has_message = true, .has_row = true, .fields = fields, .set = &set};
    made->output.value = (struct mr_seg_run){.first = 0, .n = 3};
    add_bytes(made, before, sizeof before - 1);
    add_column(made, MR_SEG_JSON, 1);
    add_bytes(made, behind, sizeof behind - 1);
    made->output.key = (struct mr_seg_run){.first = 3, .n = 1};
    add_column(made, MR_SEG_TEXT, 1);
    for (size_t i = 0; i < 11; i++) {
        fields[i] = (struct mr_template_field){.kind = MR_FIELD_COLUMN, .lookup_column = 1};
        if (!constants[i])
            continue;
        fields[i] =
            (struct mr_template_field){.kind = MR_FIELD_CONST, .from = (uint32_t)made->bytes.len};
        mr_buf_put_be32(&made->bytes, (uint32_t)strlen(constants[i]));
        mr_buf_put_text(&made->bytes, constants[i]);
        fields[i].len = (uint32_t)made->bytes.len - fields[i].from;
    }
}

/* Of this thread: a busy machine shows less in it. */
static int64_t cpu_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void stamping_the_seed_is_a_copy(void **state)
{
    (void)state;
    const char *given = getenv("MILLRACE_STAMP_ROWS");
    uint64_t n = given ? strtoull(given, NULL, 10) : 200000;
    struct mr_lookup_column columns[] = {{"restaurant_id", MR_TEXT, "character varying"},
                                         {"client_id", MR_TEXT, "character varying"}};
    struct mr_lookup_schema schema = {"subscribers", columns, 1, 2};
    struct made made = {0};
    struct mr_buf cells = {0}, frames = {0}, rows = {0};
    struct seed seed = {1};
    struct mr_error err;
    make_promo(&made);
    for (size_t i = 0; i < 10000; i++) {
        struct mr_value value = {.type = MR_UUID};
        for (int j = 0; j < 16; j++)
            value.uuid[j] = (uint8_t)seed_next(&seed);
        mr_cell_put(&cells, &value);
    }
    const struct mr_template *template = made_template(&made);
    int64_t best_us = INT64_MAX;
    for (int round = 0; round < 5; round++) {
        int64_t started = cpu_us();
        for (uint64_t i = 0; i < n; i++) {
            struct mr_row_ref row = {NULL, (uint8_t *)cells.ptr + 17 * (i % 10000), 1, true};
            if (i % 10000 == 0)
                frames.len = rows.len = 0;
            assert_true(mr_stamp_row(template, &made.output, &schema, &row_schema, &row, 0, &frames,
                                     &rows, &err));
        }
        int64_t took = cpu_us() - started;
        best_us = took < best_us ? took : best_us;
    }
    print_message(
        "the seed's record: %zu bytes of message, %zu of row, %.0f ns a row (best of 5)\n",
        frames.len / 10000, rows.len / 10000, 1e3 * (double)best_us / (double)n);
    /* The last row, read by hand. */
    char expected[600];
    struct mr_value last;
    struct mr_buf text = {0};
    mr_cell_read((uint8_t *)cells.ptr + 17 * 9999, &last);
    assert_true(mr_value_text(&text, &last, &err));
    snprintf(expected, sizeof expected, "\"client_id\":\"%s\",\"datetime_created\"",
             mr_buf_cstr(&text));
    const char *frame = frames.ptr + frames.len / 10000 * 9999;
    assert_memory_equal(frame + sizeof(struct mr_frame), text.ptr, 36);
    assert_non_null(memmem(frame, frames.len / 10000, expected, strlen(expected)));
    assert_non_null(
        memmem(rows.ptr + rows.len / 10000 * 9999, rows.len / 10000, text.ptr, text.len));
    mr_buf_fini(&text);
    mr_buf_fini(&made.bytes);
    mr_buf_fini(&cells);
    mr_buf_fini(&frames);
    mr_buf_fini(&rows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stamped_is_what_a_naive_reading_gives),
        cmocka_unit_test(what_json_cannot_carry_names_its_column),
        cmocka_unit_test(constants_need_no_lookup),
        cmocka_unit_test(many_columns_are_stamped_each_as_itself),
        cmocka_unit_test(stamping_the_seed_is_a_copy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
