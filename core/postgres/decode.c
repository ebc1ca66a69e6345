/*
 * decode.c - fields of a binary COPY as values, faithfully: no digit, decimal place or microsecond
 * is lost.
 *
 * Pure; any thread; owns nothing. A real is widened through its shortest text, so that 0.1 stays
 * 0.1; a timestamp without time zone is text, since a value's timestamp is an instant. Must not
 * know libpq. Tests: tests/unit/test_postgres_rows.c.
 */
#include "postgres/postgres.h"
#include "postgres/values.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

const char mr_pg_decodable_types[] =
    "text, varchar, char, name, enums, citext, json, jsonb, uuid, smallint, integer, bigint, "
    "boolean, "
    "real, double precision, numeric, timestamptz, timestamp and date";

enum mr_type mr_pg_decoded_type(uint32_t oid, bool is_text)
{
    switch (oid) {
    case MR_OID_BOOL:
        return MR_BOOL;
    case MR_OID_INT2:
    case MR_OID_INT4:
    case MR_OID_INT8:
        return MR_INT;
    case MR_OID_FLOAT4:
    case MR_OID_FLOAT8:
        return MR_FLOAT;
    case MR_OID_NUMERIC:
        return MR_NUMERIC;
    case MR_OID_UUID:
        return MR_UUID;
    case MR_OID_TIMESTAMPTZ:
        return MR_TIMESTAMP;
    case MR_OID_DATE:
        return MR_DATE;
    case MR_OID_JSON:
    case MR_OID_JSONB:
        return MR_JSON;
    case MR_OID_TIMESTAMP:
        return MR_TEXT;
    default:
        return is_text ? MR_TEXT : MR_NULL;
    }
}

static uint16_t read16(const uint8_t *at)
{
    uint16_t v;
    memcpy(&v, at, sizeof v);
    return __builtin_bswap16(v);
}

static uint32_t read32(const uint8_t *at)
{
    uint32_t v;
    memcpy(&v, at, sizeof v);
    return __builtin_bswap32(v);
}

static uint64_t read64(const uint8_t *at)
{
    uint64_t v;
    memcpy(&v, at, sizeof v);
    return __builtin_bswap64(v);
}

static double widen(float narrow)
{
    if (!isfinite(narrow))
        return (double)narrow;
    char text[32];
    for (int precision = 6; precision <= 9; precision++) {
        snprintf(text, sizeof text, "%.*g", precision, (double)narrow);
        if (strtof(text, NULL) == narrow)
            break;
    }
    return strtod(text, NULL);
}

static bool decode_float4(const uint8_t *bytes, struct mr_value *value)
{
    uint32_t bits = read32(bytes);
    float narrow;
    memcpy(&narrow, &bits, sizeof narrow);
    value->type = MR_FLOAT;
    value->f = widen(narrow);
    return true;
}

static bool decode_float8(const uint8_t *bytes, struct mr_value *value)
{
    uint64_t bits = read64(bytes);
    value->type = MR_FLOAT;
    memcpy(&value->f, &bits, sizeof value->f);
    return true;
}

static bool as_int(struct mr_value *value, enum mr_type type, int64_t i)
{
    value->type = type;
    value->i = i;
    return true;
}

static bool as_bytes(struct mr_value *value, enum mr_type type, const void *bytes, size_t len)
{
    value->type = type;
    value->bytes = (struct mr_bytes){bytes, len};
    return true;
}

bool mr_pg_decode(uint32_t oid, const uint8_t *bytes, size_t len, struct mr_buf *scratch,
                  struct mr_value *value)
{
    switch (oid) {
    case MR_OID_BOOL:
        value->type = MR_BOOL;
        value->b = len == 1 && bytes[0];
        return len == 1;
    case MR_OID_INT2:
        return len == 2 && as_int(value, MR_INT, (int16_t)read16(bytes));
    case MR_OID_INT4:
        return len == 4 && as_int(value, MR_INT, (int32_t)read32(bytes));
    case MR_OID_INT8:
        return len == 8 && as_int(value, MR_INT, (int64_t)read64(bytes));
    case MR_OID_FLOAT4:
        return len == 4 && decode_float4(bytes, value);
    case MR_OID_FLOAT8:
        return len == 8 && decode_float8(bytes, value);
    case MR_OID_DATE:
        return len == 4 && as_int(value, MR_DATE, (int32_t)read32(bytes));
    case MR_OID_TIMESTAMPTZ:
        return len == 8 && as_int(value, MR_TIMESTAMP, (int64_t)read64(bytes));
    case MR_OID_UUID:
        if (len != 16)
            return false;
        value->type = MR_UUID;
        memcpy(value->uuid, bytes, 16);
        return true;
    case MR_OID_TIMESTAMP:
        mr_buf_reset(scratch);
        if (len != 8)
            return false;
        mr_pg_timestamp_text(scratch, (int64_t)read64(bytes));
        return as_bytes(value, MR_TEXT, scratch->ptr, scratch->len);
    case MR_OID_NUMERIC:
        mr_buf_reset(scratch);
        return mr_pg_numeric_text(scratch, bytes, len) &&
               as_bytes(value, MR_NUMERIC, scratch->ptr, scratch->len);
    case MR_OID_JSONB:
        return len > 1 && bytes[0] == 1 && as_bytes(value, MR_JSON, bytes + 1, len - 1);
    case MR_OID_JSON:
        return as_bytes(value, MR_JSON, bytes, len);
    default:
        return as_bytes(value, MR_TEXT, bytes, len);
    }
}

bool mr_postgres_show(const struct mr_row_column *column, struct mr_bytes field, struct mr_buf *out)
{
    struct mr_buf scratch = {0};
    struct mr_value value;
    struct mr_error err;
    bool is_text = column->is_text && column->oid != MR_OID_JSON;
    bool ok =
        mr_pg_decoded_type(column->oid, is_text) != MR_NULL &&
        mr_pg_decode(is_text && mr_pg_decoded_type(column->oid, false) == MR_NULL ? MR_OID_TEXT
                                                                                  : column->oid,
                     (const uint8_t *)field.ptr, field.len, &scratch, &value) &&
        mr_value_json(out, &value, &err);
    mr_buf_fini(&scratch);
    return ok;
}
