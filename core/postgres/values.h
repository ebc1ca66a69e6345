/*
 * values.h - private to core/postgres: values in COPY's binary form, without libpq.
 *
 * Pure functions over bytes (rows.c, numeric.c, times.c, decode.c); any thread.
 */
#ifndef MR_POSTGRES_VALUES_H
#define MR_POSTGRES_VALUES_H

#include "base/buf.h"
#include "millrace/value.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    MR_OID_BOOL = 16,
    MR_OID_BYTEA = 17,
    MR_OID_NAME = 19,
    MR_OID_INT8 = 20,
    MR_OID_INT2 = 21,
    MR_OID_INT4 = 23,
    MR_OID_TEXT = 25,
    MR_OID_JSON = 114,
    MR_OID_FLOAT4 = 700,
    MR_OID_FLOAT8 = 701,
    MR_OID_BPCHAR = 1042,
    MR_OID_VARCHAR = 1043,
    MR_OID_DATE = 1082,
    MR_OID_TIMESTAMP = 1114,
    MR_OID_TIMESTAMPTZ = 1184,
    MR_OID_NUMERIC = 1700,
    MR_OID_UUID = 2950,
    MR_OID_JSONB = 3802
};
/* Can rows be written to a column of this base type? is_text: see row.h. */
bool mr_pg_type_supported(uint32_t oid, bool is_text);
extern const char mr_pg_types_supported[]; /* for sentences */

/* Decimal text (optional sign, digits, point, exponent; NaN, Infinity) as numeric's binary form,
 * without the length. False: malformed or out of numeric's range; nothing is written. */
bool mr_pg_numeric_put(struct mr_buf *out, const char *text, size_t len);
/* Binary numeric as Postgres prints it. False: malformed. */
bool mr_pg_numeric_text(struct mr_buf *out, const uint8_t *bytes, size_t len);

enum mr_pg_zone { MR_PG_ZONE_NONE, MR_PG_ZONE_GIVEN };
/* ISO 8601 date and time ("2026-11-22T17:31:18.25+01:00", blank for T, up to 6 decimals),
 * "infinity": microseconds since 2000-01-01, in UTC when a zone was given. Strict. */
bool mr_pg_timestamp_parse(const char *text, size_t len, int64_t *micros, enum mr_pg_zone *zone);
bool mr_pg_date_parse(const char *text, size_t len, int32_t *days);
/* "2026-11-22T17:31:18.25", without a zone. */
void mr_pg_timestamp_text(struct mr_buf *out, int64_t micros);

/* --- decode.c: fields of a binary COPY as values --- */
/* What a column of this base type comes out as; MR_NULL: not supported. is_text: see row.h, without
 * json. */
enum mr_type mr_pg_decoded_type(uint32_t oid, bool is_text);
extern const char mr_pg_decodable_types[]; /* for sentences */

/*
 * One field. The value borrows from `bytes` or from `scratch` (the column's own, reset here).
 * False: not the form that the type has.
 */
bool mr_pg_decode(uint32_t oid, const uint8_t *bytes, size_t len, struct mr_buf *scratch,
                  struct mr_value *value);

#endif
