/*
 * fuzz_copy.c - the binary COPY of a lookup's rows, whole or in two messages.
 *
 * Malformed, or a table. What decodes can be said as text; what is said of a row that is kept can
 * be stamped. Input: number of columns, one byte a column for its type, where the second message
 * begins (2 bytes), then the bytes. An input that begins with the signature's first byte is taken
 * as a stream of three columns: uuid, text, numeric.
 */
#include "fuzz.h"

#include "postgres/tuples.h"
#include "postgres/values.h"

enum { COLUMNS_MAX = 4 };

static const uint32_t types[] = {MR_OID_BOOL,   MR_OID_INT8,      MR_OID_INT2,       MR_OID_INT4,
                                 MR_OID_TEXT,   MR_OID_JSON,      MR_OID_UUID,       MR_OID_FLOAT4,
                                 MR_OID_FLOAT8, MR_OID_DATE,      MR_OID_NUMERIC,    MR_OID_JSONB,
                                 MR_OID_BPCHAR, MR_OID_TIMESTAMP, MR_OID_TIMESTAMPTZ};

/* Every value that may come out of a row has a text, or is refused with a class. */
static void say_rows(const struct mr_table *table, const uint8_t *key, size_t key_len)
{
    struct mr_bytes keys[1] = {{(const char *)key, key_len}};
    struct mr_span *span = mr_span_new();
    struct mr_row_ref row;
    struct mr_buf text = {0};
    size_t n_cells = mr_table_schema(table)->n_columns - 1;
    (void)mr_span_open(span, table, keys, 1, (struct mr_bytes){0});
    while (mr_span_next(span, &row)) {
        const uint8_t *at = row.cells;
        for (size_t i = 0; i < n_cells; i++) {
            struct mr_value value;
            struct mr_error err = {0};
            at = mr_cell_read(at, &value);
            if (!mr_value_json(&text, &value, &err))
                fuzz_check_reject(&err, " schema ");
        }
    }
    mr_buf_fini(&text);
    mr_span_free(span);
}

/* The key of the first row, as a script would give it. */
static void look_up(const struct mr_table *table, const uint32_t *oids, struct mr_bytes first)
{
    struct mr_value value;
    struct mr_buf scratch = {0}, key = {0};
    struct mr_error err = {0};
    if (mr_pg_decode(oids[0], (const uint8_t *)first.ptr, first.len, &scratch, &value) &&
        mr_lookup_key(mr_table_schema(table), &value, &key, &err))
        say_rows(table, (const uint8_t *)key.ptr, key.len);
    mr_buf_fini(&scratch);
    mr_buf_fini(&key);
}

static bool read_all(struct mr_pg_tuples *tuples, struct mr_bytes bytes, size_t cut,
                     struct mr_error *err)
{
    cut = cut < bytes.len ? cut : bytes.len;
    return mr_pg_tuples_put(tuples, bytes.ptr, cut, err) &&
           (cut == bytes.len || mr_pg_tuples_put(tuples, bytes.ptr + cut, bytes.len - cut, err)) &&
           mr_pg_tuples_end(tuples, err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum { HEADER = 19, FIRST_FIELD = HEADER + 2 + 4 };
    struct fuzz_input in = {data, data + size};
    uint32_t oids[COLUMNS_MAX] = {MR_OID_UUID, MR_OID_TEXT, MR_OID_NUMERIC};
    struct mr_lookup_column columns[COLUMNS_MAX];
    size_t n = 3, cut = SIZE_MAX;
    if (!size || *data != 'P') {
        n = 1 + fuzz_byte(&in) % COLUMNS_MAX;
        for (size_t i = 0; i < n; i++)
            oids[i] = types[fuzz_byte(&in) % (sizeof types / sizeof *types)];
        cut = fuzz_number(&in, 2);
    }
    for (size_t i = 0; i < n; i++)
        columns[i] = (struct mr_lookup_column){
            "c", mr_pg_decoded_type(oids[i], oids[i] == MR_OID_TEXT || oids[i] == MR_OID_BPCHAR),
            "its type"};
    struct mr_lookup_schema schema = {"fuzz", columns, 1, n};
    struct mr_table_builder *builder = mr_table_builder_new(&schema, true, 0);
    struct mr_pg_tuples *tuples = mr_pg_tuples_new(oids, n, 0, builder);
    struct mr_table *table = NULL;
    struct mr_error err = {0};
    struct mr_bytes bytes = fuzz_rest(&in);
    if (read_all(tuples, bytes, cut, &err)) {
        FUZZ_CHECK(mr_table_builder_finish(builder, &table, &err), "%s", err.msg);
        struct mr_table_stats stats = mr_table_stats(table);
        FUZZ_CHECK(stats.rows_read == mr_pg_tuples_rows(tuples), "rows were lost");
        if (stats.keys && bytes.len > FIRST_FIELD) {
            const uint8_t *len = (const uint8_t *)bytes.ptr + FIRST_FIELD - 4;
            size_t first =
                (size_t)len[0] << 24 | (size_t)len[1] << 16 | (size_t)len[2] << 8 | len[3];
            if (first <= bytes.len - FIRST_FIELD)
                look_up(table, oids, (struct mr_bytes){bytes.ptr + FIRST_FIELD, first});
        }
        mr_table_free(table);
    } else {
        FUZZ_CHECK(err.action == MR_RETRY && err.msg[0], "action %d", (int)err.action);
        mr_table_builder_free(builder);
    }
    mr_pg_tuples_free(tuples);
    return 0;
}
