/*
 * fuzz_rows.c - any value for any column of the feedback table, and the text forms of times and
 * numerics.
 *
 * Refused with a sentence and nothing written, or one whole field, which reads back as a value that
 * is written the same way. Input: column, then value.
 */
#include "fuzz.h"

#include "postgres/postgres.h"
#include "postgres/values.h"

static const uint32_t oids[] = {MR_OID_BOOL,
                                MR_OID_BYTEA,
                                MR_OID_NAME,
                                MR_OID_INT8,
                                MR_OID_INT2,
                                MR_OID_INT4,
                                MR_OID_TEXT,
                                MR_OID_JSON,
                                MR_OID_FLOAT4,
                                MR_OID_FLOAT8,
                                MR_OID_BPCHAR,
                                MR_OID_DATE,
                                MR_OID_UUID,
                                MR_OID_TIMESTAMP,
                                MR_OID_TIMESTAMPTZ,
                                MR_OID_NUMERIC,
                                MR_OID_JSONB,
                                MR_OID_VARCHAR,
                                600 /* point, which cannot be written */};

static struct mr_row_column take_column(struct fuzz_input *in)
{
    uint32_t oid = oids[fuzz_byte(in) % (sizeof oids / sizeof *oids)];
    uint8_t flags = fuzz_byte(in);
    bool text =
        oid == MR_OID_NAME || oid == MR_OID_TEXT || oid == MR_OID_BPCHAR || oid == MR_OID_VARCHAR;
    return (struct mr_row_column){.name = "c",
                                  .type_name = "its type",
                                  .oid = oid,
                                  .typmod = flags & 1 ? 4 + (flags >> 4) : -1,
                                  .not_null = flags & 2,
                                  .generated = (flags & 12) == 12,
                                  .is_text = text};
}

/* Numerics are what Postgres prints: made from their binary form. */
static void take_value(struct fuzz_input *in, struct mr_buf *scratch, struct mr_value *value)
{
    uint64_t bits;
    value->type = (enum mr_type)(fuzz_byte(in) % (MR_JSON + 1));
    switch (value->type) {
    case MR_NULL:
        return;
    case MR_BOOL:
        value->b = fuzz_byte(in) & 1;
        return;
    case MR_FLOAT:
        bits = fuzz_number(in, 8);
        memcpy(&value->f, &bits, sizeof bits);
        return;
    case MR_NUMERIC: {
        struct mr_bytes binary = fuzz_rest(in);
        struct mr_value read;
        if (mr_pg_decode(MR_OID_NUMERIC, (const uint8_t *)binary.ptr, binary.len, scratch, &read))
            *value = read;
        else
            *value = (struct mr_value){.type = MR_NUMERIC, .bytes = {"12.50", 5}};
        return;
    }
    case MR_UUID:
        memset(value->uuid, fuzz_byte(in), sizeof value->uuid);
        return;
    case MR_INT:
        value->i = (int64_t)fuzz_number(in, 8);
        return;
    case MR_TIMESTAMP: /* within Postgres's calendar, as it comes from there, or infinite */
        value->i = (int64_t)fuzz_number(in, 8);
        if (value->i != INT64_MAX && value->i != INT64_MIN)
            value->i %= INT64_C(211813488000000000);
        return;
    case MR_DATE:
        value->i = (int32_t)fuzz_number(in, 4);
        return;
    case MR_TEXT:
    case MR_JSON:
        value->bytes = fuzz_rest(in);
        if (value->type == MR_JSON && !value->bytes.len)
            value->bytes = mr_bytes_of("null"); /* no JSON is empty */
        return;
    }
}

static void check_field(const struct mr_row_column *column, const struct mr_buf *field)
{
    struct mr_buf scratch = {0}, again = {0};
    struct mr_value value;
    struct mr_error err = {0};
    const uint8_t *at = (const uint8_t *)field->ptr;
    FUZZ_CHECK(field->len >= 4, "%zu bytes", field->len);
    uint32_t len = (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
    FUZZ_CHECK(field->len - 4 == (len == UINT32_MAX ? 0 : len), "%zu bytes, length %u", field->len,
               len);
    if (len != UINT32_MAX && column->oid != MR_OID_BYTEA) {
        FUZZ_CHECK(mr_pg_decode(column->oid, at + 4, len, &scratch, &value), "not read back");
        if (value.type != MR_JSON) {
            FUZZ_CHECK(mr_postgres_encode(column, &value, &again, &err), "%s", err.msg);
            FUZZ_CHECK(again.len == field->len && memcmp(again.ptr, at, again.len) == 0,
                       "a %s comes back as another", mr_type_name(value.type));
        }
    }
    mr_buf_fini(&scratch);
    mr_buf_fini(&again);
}

/* What is read is written so that it is read as the same. */
static void check_times(struct mr_bytes text)
{
    struct mr_buf out = {0};
    int64_t micros, again;
    enum mr_pg_zone zone;
    if (mr_pg_timestamp_parse(text.ptr, text.len, &micros, &zone)) {
        mr_pg_timestamp_text(&out, micros);
        FUZZ_CHECK(mr_pg_timestamp_parse(out.ptr, out.len, &again, &zone) && again == micros,
                   "%.*s became %.*s", (int)text.len, text.ptr, (int)out.len, out.ptr);
    }
    mr_buf_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = {data, data + size};
    struct mr_row_column column = take_column(&in);
    struct mr_buf scratch = {0}, field = {0};
    struct mr_value value;
    struct mr_error err = {0};
    take_value(&in, &scratch, &value);
    if (mr_postgres_encode(&column, &value, &field, &err)) {
        check_field(&column, &field);
    } else {
        FUZZ_CHECK(field.len == 0, "%zu bytes of a refused value", field.len);
        fuzz_check_reject(&err, " schema utf8 ");
    }
    if (value.type == MR_TEXT)
        check_times(value.bytes);
    mr_buf_fini(&scratch);
    mr_buf_fini(&field);
    return 0;
}
