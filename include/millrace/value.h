/*
 * value.h - one column value, between Postgres, the lookup, scripts, JSON and COPY.
 *
 * A value borrows its bytes. Which C member is set follows from `type`. Text forms are Postgres's
 * own (numeric digits, json text); times are Postgres's binary: microseconds and days since
 * 2000-01-01 UTC, INT64_MAX/MIN and INT32_MAX/MIN for infinity. Any thread.
 */
#ifndef MILLRACE_VALUE_H
#define MILLRACE_VALUE_H

#include "base/buf.h"

#include <stdbool.h>
#include <stdint.h>

enum mr_type {
    MR_NULL = 0,
    MR_BOOL,      /* b */
    MR_INT,       /* i: int2, int4, int8 */
    MR_FLOAT,     /* f: float4 (widened through its shortest text) and float8 */
    MR_NUMERIC,   /* bytes: Postgres's digits, "NaN", "Infinity", "-Infinity" */
    MR_TEXT,      /* bytes: UTF-8 */
    MR_UUID,      /* uuid: 16 bytes */
    MR_TIMESTAMP, /* i: microseconds since 2000-01-01 00:00:00 UTC (timestamptz) */
    MR_DATE,      /* i: days since 2000-01-01 */
    MR_JSON       /* bytes: JSON text as Postgres prints it (jsonb, json) */
};

struct mr_value {
    enum mr_type type;
    union {
        bool b;
        int64_t i;
        double f;
        struct mr_bytes bytes;
        uint8_t uuid[16];
    };
};

/*
 * As JSON: ints and floats as numbers, numeric as a number with Postgres's digits, text and uuid as
 * strings, timestamptz as ISO 8601 UTC ("2026-11-22T17:31:18.25Z"), date as "2026-11-22", json
 * embedded, null as null. NaN and infinity: false, MR_REJECT with class `schema`.
 */
MR_MUSTCHECK bool mr_value_json(struct mr_buf *out, const struct mr_value *value,
                                struct mr_error *err);

/* As bare text, for message keys, headers, `fmt` and text columns: like JSON without the quotes and
 * escapes; null is the empty text. The same refusals. */
MR_MUSTCHECK bool mr_value_text(struct mr_buf *out, const struct mr_value *value,
                                struct mr_error *err);

const char *mr_type_name(enum mr_type type); /* "null" "bool" "int" "float" "numeric" "text" ... */

#endif
