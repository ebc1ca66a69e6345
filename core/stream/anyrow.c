/*
 * anyrow.c - a row schema that takes what comes.
 *
 * One thread, the script's. Owns the columns that it was told of. Must not know Postgres: whether a
 * value fits the real column, `millrace check --connect` and the daemon tell. Tests:
 * tests/unit/test_trial.c, tests/spec/try_spec.lua.
 */
#include "stream/anyrow.h"

#include "millrace/lookup.h"

#include <stdlib.h>

struct mr_anyrow {
    struct mr_row_schema schema; /* first: what scripts hold */
    struct mr_row_column columns[MR_ROW_COLUMNS_MAX];
    char *table;
};

static bool encode(const struct mr_row_column *column, const struct mr_value *value,
                   struct mr_buf *out, struct mr_error *err)
{
    if (value->type == MR_FLOAT && !(value->f - value->f == 0)) /* it could not be shown */
        return mr_error_reject(err, "schema", "column %s: the value is NaN or infinite",
                               column->name);
    size_t at = out->len;
    mr_buf_put_be32(out, UINT32_MAX);
    if (value->type == MR_NULL)
        return true;
    mr_cell_put(out, value);
    uint32_t len = __builtin_bswap32((uint32_t)(out->len - at - sizeof len));
    memcpy(out->ptr + at, &len, sizeof len);
    return true;
}

static bool show(const struct mr_row_column *column, struct mr_bytes field, struct mr_buf *out)
{
    struct mr_value value;
    struct mr_error err;
    (void)column;
    mr_cell_read((const uint8_t *)field.ptr, &value);
    return mr_value_json(out, &value, &err);
}

static bool add(const struct mr_row_schema *schema, const char *name)
{
    struct mr_anyrow *any = (struct mr_anyrow *)(uintptr_t)schema;
    if (any->schema.n == MR_ROW_COLUMNS_MAX)
        return false;
    any->columns[any->schema.n++] = (struct mr_row_column){
        .name = mr_strdup(name), .type_name = "any", .typmod = -1, .is_text = true};
    return true;
}

struct mr_anyrow *mr_anyrow_new(const char *table)
{
    struct mr_anyrow *any = mr_calloc(1, sizeof *any);
    any->table = mr_strdup(table);
    any->schema = (struct mr_row_schema){
        .table = any->table, .columns = any->columns, .encode = encode, .show = show, .add = add};
    return any;
}

const struct mr_row_schema *mr_anyrow_schema(const struct mr_anyrow *any)
{
    return &any->schema;
}

void mr_anyrow_close(struct mr_anyrow *any)
{
    any->schema.add = NULL;
}

void mr_anyrow_free(struct mr_anyrow *any)
{
    if (!any)
        return;
    for (size_t i = 0; i < any->schema.n; i++)
        free((void *)(uintptr_t)any->columns[i].name);
    free(any->table);
    free(any);
}
