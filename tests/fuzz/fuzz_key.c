/*
 * fuzz_key.c - what a script returns as a key, for a key column of each type.
 *
 * Refused with a sentence, or one cell; and the cell's own text is a key for the same cell.
 * Input: the column's type, the kind of the value, then the value.
 */
#include "fuzz.h"

#include "base/text.h"
#include "millrace/lookup.h"

static void take_value(struct fuzz_input *in, struct mr_value *value)
{
    uint64_t bits;
    switch (fuzz_byte(in) % 5) {
    case 0:
        *value = (struct mr_value){.type = MR_TEXT, .bytes = fuzz_rest(in)};
        break;
    case 1:
        *value = (struct mr_value){.type = MR_INT, .i = (int64_t)fuzz_number(in, 8)};
        break;
    case 2:
        bits = fuzz_number(in, 8);
        value->type = MR_FLOAT;
        memcpy(&value->f, &bits, sizeof bits);
        break;
    case 3:
        *value = (struct mr_value){.type = MR_BOOL, .b = fuzz_byte(in) & 1};
        break;
    default:
        *value = (struct mr_value){.type = MR_NULL};
    }
}

/* The text of what the column holds finds it: that is what a script sees of it. */
static void check_text(const struct mr_lookup_schema *schema, const struct mr_buf *cell)
{
    struct mr_value held, value;
    struct mr_buf text = {0}, again = {0};
    struct mr_error err = {0};
    mr_cell_read((const uint8_t *)cell->ptr, &held);
    if (held.type == schema->columns[0].type && held.type >= MR_NUMERIC && held.type != MR_JSON) {
        FUZZ_CHECK(mr_value_text(&text, &held, &err), "%s", err.msg);
        value = (struct mr_value){.type = MR_TEXT, .bytes = {text.ptr ? text.ptr : "", text.len}};
        FUZZ_CHECK(mr_lookup_key(schema, &value, &again, &err), "%s", err.msg);
        FUZZ_CHECK(again.len == cell->len && memcmp(again.ptr, cell->ptr, cell->len) == 0,
                   "%.*s is another key", (int)text.len, text.ptr);
    }
    mr_buf_fini(&text);
    mr_buf_fini(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = {data, data + size};
    enum mr_type type = (enum mr_type)(MR_BOOL + fuzz_byte(&in) % (MR_JSON - MR_BOOL + 1));
    struct mr_lookup_column column = {"k", type, mr_type_name(type)};
    struct mr_lookup_schema schema = {"fuzz", &column, 1, 1};
    struct mr_value value;
    struct mr_buf cell = {0};
    struct mr_error err = {0};
    take_value(&in, &value);
    if (mr_lookup_key(&schema, &value, &cell, &err)) {
        FUZZ_CHECK(mr_cells_count((struct mr_bytes){cell.ptr, cell.len}) == 1, "no cell");
        check_text(&schema, &cell);
    } else {
        FUZZ_CHECK(cell.len == 0, "something was appended");
        fuzz_check_reject(&err, " schema ");
    }
    mr_buf_fini(&cell);
    return 0;
}
