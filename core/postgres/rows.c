/*
 * rows.c - one value as a field of COPY BINARY: mr_row_schema.encode.
 *
 * Pure, any thread, owns nothing; runs once a row for each column placeholder. Strict: what does
 * not fit is refused with a sentence, never rounded, cut or guessed. What only the server can know
 * (numeric's and varchar's modifiers within a domain, labels of an enum, constraints) is left to
 * it. Must not know libpq. Tests: tests/unit/test_postgres_rows.c.
 */
#include "postgres/values.h"
#include "postgres/postgres.h"
#include "base/text.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { VARHDRSZ = 4, NAME_BYTES_MAX = 63, SHOWN_MAX = 60, SHOWN_SIZE = 240 };

const char mr_pg_types_supported[] =
    "text, varchar, char, name, enums, citext, json, jsonb, uuid, smallint, integer, bigint, "
    "boolean, "
    "real, double precision, numeric, timestamptz, timestamp, date and bytea";

bool mr_pg_type_supported(uint32_t oid, bool is_text)
{
    switch (oid) {
    case MR_OID_BOOL:
    case MR_OID_BYTEA:
    case MR_OID_INT2:
    case MR_OID_INT4:
    case MR_OID_INT8:
    case MR_OID_FLOAT4:
    case MR_OID_FLOAT8:
    case MR_OID_NUMERIC:
    case MR_OID_UUID:
    case MR_OID_TIMESTAMP:
    case MR_OID_TIMESTAMPTZ:
    case MR_OID_DATE:
    case MR_OID_JSON:
    case MR_OID_JSONB:
        return true;
    default:
        return is_text;
    }
}

/* The value for a sentence: kind and a glimpse of it. */
static void show(char out[SHOWN_SIZE], const struct mr_value *value)
{
    struct mr_buf text = {0};
    bool cut = false;
    if ((value->type == MR_TEXT || value->type == MR_JSON) && value->bytes.len > SHOWN_MAX) {
        size_t len = SHOWN_MAX;
        while (len && ((unsigned char)value->bytes.ptr[len] & 0xc0) == 0x80)
            len--;
        mr_buf_put(&text, value->bytes.ptr, len);
        cut = true;
    } else if (value->type == MR_TEXT) {
        mr_buf_put(&text, value->bytes.ptr, value->bytes.len);
    } else if (value->type == MR_FLOAT && !isfinite(value->f)) {
        mr_buf_put_text(&text, isnan(value->f) ? "NaN" : value->f > 0 ? "Infinity" : "-Infinity");
    } else if (!mr_value_text(&text, value, NULL)) {
        mr_buf_put_text(&text, "?");
    }
    bool quoted = value->type == MR_TEXT;
    snprintf(out, SHOWN_SIZE, "the %s %s%.*s%s%s", mr_type_name(value->type), quoted ? "\"" : "",
             (int)(text.len < SHOWN_MAX + 8 ? text.len : SHOWN_MAX + 8), text.len ? text.ptr : "",
             cut ? "..." : "", quoted ? "\"" : "");
    mr_buf_fini(&text);
}

static bool misfit(const struct mr_row_column *column, const struct mr_value *value,
                   const char *cure, struct mr_error *err)
{
    char shown[SHOWN_SIZE];
    show(shown, value);
    return mr_error_reject(err, "schema", "column \"%s\" takes %s, not %s%s%s", column->name,
                           column->type_name, shown, cure ? "; " : "", cure ? cure : "");
}

static bool out_of_range(const struct mr_row_column *column, const struct mr_value *value,
                         struct mr_error *err)
{
    char shown[SHOWN_SIZE];
    show(shown, value);
    return mr_error_reject(err, "schema", "column \"%s\": %s does not fit %s", column->name, shown,
                           column->type_name);
}

static inline bool is_plain_ascii(const char *p, size_t len)
{
    /* Eight bytes a step: any with the high bit set, any zero? */
    for (; len >= 8; p += 8, len -= 8) {
        uint64_t word;
        memcpy(&word, p, sizeof word);
        if ((word | ((word - UINT64_C(0x0101010101010101)) & ~word)) & UINT64_C(0x8080808080808080))
            return false;
    }
    for (; len; p++, len--)
        if (*p <= 0)
            return false;
    return true;
}

static size_t characters(const char *p, size_t len)
{
    size_t n = 0;
    for (size_t i = 0; i < len; i++)
        n += ((unsigned char)p[i] & 0xc0) != 0x80;
    return n;
}

static bool check_utf8(const struct mr_row_column *column, struct mr_bytes text,
                       struct mr_error *err)
{
    if (is_plain_ascii(text.ptr, text.len))
        return true;
    if (memchr(text.ptr, 0, text.len))
        return mr_error_reject(err, "utf8",
                               "column \"%s\": the text holds \\u0000, which Postgres's %s cannot",
                               column->name, column->type_name);
    if (!mr_text_utf8_valid(text.ptr, text.len))
        return mr_error_reject(err, "utf8", "column \"%s\": the text is not valid UTF-8",
                               column->name);
    return true;
}

static bool check_length(const struct mr_row_column *column, const struct mr_value *value,
                         struct mr_bytes text, struct mr_error *err)
{
    if (column->oid == MR_OID_NAME)
        return text.len <= NAME_BYTES_MAX || out_of_range(column, value, err);
    if ((column->oid != MR_OID_VARCHAR && column->oid != MR_OID_BPCHAR) ||
        column->typmod < VARHDRSZ || text.len <= (size_t)(column->typmod - VARHDRSZ))
        return true;
    /* Blanks beyond the length are cut by Postgres, as SQL wants it. */
    size_t max = (size_t)(column->typmod - VARHDRSZ), len = text.len;
    while (len && text.ptr[len - 1] == ' ')
        len--;
    size_t n = characters(text.ptr, len);
    if (n <= max)
        return true;
    char shown[SHOWN_SIZE];
    show(shown, value);
    return mr_error_reject(err, "schema", "column \"%s\" takes %s, but %s has %zu characters",
                           column->name, column->type_name, shown, n);
}

static void put_field(struct mr_buf *out, const void *bytes, size_t len)
{
    char *at = mr_buf_reserve(out, len + 4);
    uint32_t length = __builtin_bswap32((uint32_t)len);
    memcpy(at, &length, sizeof length);
    if (len)
        memcpy(at + sizeof length, bytes, len);
    mr_buf_commit(out, len + 4);
}

static bool put_text(const struct mr_row_column *column, const struct mr_value *value,
                     struct mr_buf *out, struct mr_error *err)
{
    char uuid[36];
    struct mr_bytes text;
    if (value->type == MR_TEXT) {
        text = value->bytes;
        if (!check_utf8(column, text, err))
            return false;
    } else if (value->type == MR_UUID) {
        mr_text_uuid_format(value->uuid, uuid);
        text = (struct mr_bytes){uuid, sizeof uuid};
    } else {
        return misfit(
            column, value,
            value->type == MR_JSON
                ? "encode it with json.encode if its text is meant"
                : "make it a text with tostring(...), or with fmt \"{column}\" if it comes "
                  "from the lookup",
            err);
    }
    if (!check_length(column, value, text, err))
        return false;
    put_field(out, text.ptr, text.len);
    return true;
}

/* \u0000 as an escape, not as "\\u0000". */
static bool has_nul_escape(struct mr_bytes json)
{
    const char *at = json.ptr, *end = json.ptr + json.len;
    while ((at = memmem(at, (size_t)(end - at), "\\u0000", 6))) {
        const char *slash = at;
        while (slash > json.ptr && slash[-1] == '\\')
            slash--;
        if ((at - slash) % 2 == 0)
            return true;
        at++;
    }
    return false;
}

/* Any value goes into a JSON column as the JSON value that it is. */
static bool put_json(const struct mr_row_column *column, const struct mr_value *value,
                     struct mr_buf *out, struct mr_error *err)
{
    if (value->type == MR_TEXT && !mr_text_utf8_valid(value->bytes.ptr, value->bytes.len))
        return mr_error_reject(err, "utf8", "column \"%s\": the text is not valid UTF-8",
                               column->name);
    size_t start = out->len;
    mr_buf_put_be32(out, 0);
    if (column->oid == MR_OID_JSONB)
        mr_buf_put_char(out, 1); /* version of the binary form */
    size_t text_at = out->len;
    if (!mr_value_json(out, value, err)) {
        out->len = start;
        return mr_error_context(err, "column \"%s\"", column->name);
    }
    struct mr_bytes text = {out->ptr + text_at, out->len - text_at};
    if (column->oid == MR_OID_JSONB && has_nul_escape(text)) {
        out->len = start;
        return mr_error_reject(err, "utf8",
                               "column \"%s\": the value holds \\u0000, which Postgres's jsonb "
                               "cannot",
                               column->name);
    }
    uint32_t len = __builtin_bswap32((uint32_t)(out->len - start - 4));
    memcpy(out->ptr + start, &len, sizeof len);
    return true;
}

/* A float or numeric without a fraction is that integer; anything else is refused, not rounded. */
static bool as_integer(const struct mr_value *value, int64_t *out)
{
    struct mr_bytes text = value->bytes;
    char digits[64], *end;
    switch (value->type) {
    case MR_INT:
        *out = value->i;
        return true;
    case MR_FLOAT:
        if (!(value->f >= -0x1p63 && value->f < 0x1p63) || value->f != trunc(value->f))
            return false;
        *out = (int64_t)value->f;
        return true;
    case MR_NUMERIC:
        if (memchr(text.ptr, '.', text.len))
            while (text.len && text.ptr[text.len - 1] == '0')
                text.len--;
        if (text.len && text.ptr[text.len - 1] == '.')
            text.len--;
        if (!text.len || text.len >= sizeof digits)
            return false;
        snprintf(digits, sizeof digits, "%.*s", (int)text.len, text.ptr);
        errno = 0;
        *out = strtoll(digits, &end, 10);
        return !*end && !errno;
    default:
        return false;
    }
}

static bool put_integer(const struct mr_row_column *column, const struct mr_value *value,
                        struct mr_buf *out, struct mr_error *err)
{
    int64_t i;
    if (!as_integer(value, &i)) {
        bool number = value->type == MR_FLOAT || value->type == MR_NUMERIC;
        return number
                   ? out_of_range(column, value, err)
                   : misfit(column, value,
                            value->type == MR_TEXT ? "convert it with math.tointeger(...)" : NULL,
                            err);
    }
    switch (column->oid) {
    case MR_OID_INT2:
        if (i < INT16_MIN || i > INT16_MAX)
            return out_of_range(column, value, err);
        mr_buf_put_be32(out, 2);
        mr_buf_put_be16(out, (uint16_t)i);
        return true;
    case MR_OID_INT4:
        if (i < INT32_MIN || i > INT32_MAX)
            return out_of_range(column, value, err);
        mr_buf_put_be32(out, 4);
        mr_buf_put_be32(out, (uint32_t)i);
        return true;
    default:
        mr_buf_put_be32(out, 8);
        mr_buf_put_be64(out, (uint64_t)i);
        return true;
    }
}

/* The nearest float: a floating column is approximate by its nature. */
static bool as_float(const struct mr_value *value, bool single, double *out)
{
    char small[64];
    switch (value->type) {
    case MR_INT:
        *out = (double)value->i;
        return true;
    case MR_FLOAT:
        *out = value->f;
        return true;
    case MR_NUMERIC: {
        char *text = value->bytes.len < sizeof small ? small : mr_alloc(value->bytes.len + 1);
        memcpy(text, value->bytes.ptr, value->bytes.len);
        text[value->bytes.len] = '\0';
        /* Straight to float where that is the type: two roundings are one too many. */
        *out = single ? (double)strtof(text, NULL) : strtod(text, NULL);
        bool fits = !isinf(*out) || strchr(text, 'I');
        if (text != small)
            free(text);
        return fits;
    }
    default:
        return false;
    }
}

static bool put_float(const struct mr_row_column *column, const struct mr_value *value,
                      struct mr_buf *out, struct mr_error *err)
{
    double f;
    bool single = column->oid == MR_OID_FLOAT4;
    if (value->type != MR_INT && value->type != MR_FLOAT && value->type != MR_NUMERIC)
        return misfit(column, value,
                      value->type == MR_TEXT ? "convert it with tonumber(...)" : NULL, err);
    if (!as_float(value, single, &f))
        return out_of_range(column, value, err);
    if (single) {
        float narrow = (float)f;
        uint32_t bits;
        if ((isinf(narrow) && !isinf(f)) || (narrow == 0 && f != 0))
            return out_of_range(column, value, err);
        memcpy(&bits, &narrow, sizeof bits);
        mr_buf_put_be32(out, 4);
        mr_buf_put_be32(out, bits);
        return true;
    }
    uint64_t bits;
    memcpy(&bits, &f, sizeof bits);
    mr_buf_put_be32(out, 8);
    mr_buf_put_be64(out, bits);
    return true;
}

static bool put_numeric(const struct mr_row_column *column, const struct mr_value *value,
                        struct mr_buf *out, struct mr_error *err)
{
    struct mr_buf digits = {0};
    struct mr_bytes text = value->bytes;
    size_t start = out->len;
    bool ok = true;
    if (value->type == MR_INT)
        mr_text_int(&digits, value->i);
    else if (value->type == MR_FLOAT && isfinite(value->f))
        ok = mr_text_float(&digits, value->f);
    else if (value->type == MR_FLOAT)
        mr_buf_put_text(&digits, isnan(value->f) ? "NaN" : value->f > 0 ? "Infinity" : "-Infinity");
    else if (value->type != MR_NUMERIC && value->type != MR_TEXT)
        return misfit(column, value, NULL, err);
    if (digits.len)
        text = (struct mr_bytes){digits.ptr, digits.len};
    /* 5.0 is how a float prints; as a numeric it would claim a decimal place. */
    if (value->type == MR_FLOAT && text.len > 2 && !memcmp(text.ptr + text.len - 2, ".0", 2))
        text.len -= 2;
    mr_buf_put_be32(out, 0);
    ok = ok && mr_pg_numeric_put(out, text.ptr, text.len);
    mr_buf_fini(&digits);
    if (!ok) {
        out->len = start;
        return value->type == MR_TEXT ? misfit(column, value, NULL, err)
                                      : out_of_range(column, value, err);
    }
    uint32_t len = __builtin_bswap32((uint32_t)(out->len - start - 4));
    memcpy(out->ptr + start, &len, sizeof len);
    return true;
}

static bool put_uuid(const struct mr_row_column *column, const struct mr_value *value,
                     struct mr_buf *out, struct mr_error *err)
{
    uint8_t uuid[16];
    if (value->type == MR_UUID)
        memcpy(uuid, value->uuid, sizeof uuid);
    else if (value->type != MR_TEXT ||
             !mr_text_uuid_parse_any(value->bytes.ptr, value->bytes.len, uuid))
        return misfit(column, value, NULL, err);
    put_field(out, uuid, sizeof uuid);
    return true;
}

static bool put_timestamp(const struct mr_row_column *column, const struct mr_value *value,
                          struct mr_buf *out, struct mr_error *err)
{
    int64_t micros;
    enum mr_pg_zone zone = MR_PG_ZONE_GIVEN;
    if (value->type == MR_TIMESTAMP)
        micros = value->i;
    else if (value->type == MR_INT || value->type == MR_FLOAT)
        return misfit(column, value, "a number is no time: time.format(...) makes one of it", err);
    else if (value->type != MR_TEXT ||
             !mr_pg_timestamp_parse(value->bytes.ptr, value->bytes.len, &micros, &zone))
        return misfit(column, value, "write it as 2026-11-22T17:31:18Z", err);
    if (column->oid == MR_OID_TIMESTAMPTZ && zone == MR_PG_ZONE_NONE)
        return misfit(column, value, "say the zone: append Z or +01:00", err);
    mr_buf_put_be32(out, 8);
    mr_buf_put_be64(out, (uint64_t)micros);
    return true;
}

static bool put_date(const struct mr_row_column *column, const struct mr_value *value,
                     struct mr_buf *out, struct mr_error *err)
{
    int32_t days;
    if (value->type == MR_DATE)
        days = (int32_t)value->i;
    else if (value->type != MR_TEXT || !mr_pg_date_parse(value->bytes.ptr, value->bytes.len, &days))
        return misfit(column, value, "write it as 2026-11-22", err);
    mr_buf_put_be32(out, 4);
    mr_buf_put_be32(out, (uint32_t)days);
    return true;
}

static bool put_bytes(const struct mr_row_column *column, const struct mr_value *value,
                      struct mr_buf *out, struct mr_error *err)
{
    char uuid[36];
    if (value->type == MR_TEXT) {
        put_field(out, value->bytes.ptr, value->bytes.len);
    } else if (value->type == MR_UUID) {
        mr_text_uuid_format(value->uuid, uuid);
        put_field(out, uuid, sizeof uuid);
    } else {
        return misfit(column, value, NULL, err);
    }
    return true;
}

bool mr_postgres_encode(const struct mr_row_column *column, const struct mr_value *value,
                        struct mr_buf *out, struct mr_error *err)
{
    if (column->generated)
        return mr_error_reject(err, "schema",
                               "column \"%s\" is generated by Postgres and cannot be written",
                               column->name);
    if (value->type == MR_NULL) {
        if (column->not_null)
            return mr_error_reject(err, "schema", "column \"%s\" (%s) is NOT NULL, but got null",
                                   column->name, column->type_name);
        mr_buf_put_be32(out, UINT32_MAX);
        return true;
    }
    switch (column->oid) {
    case MR_OID_INT2:
    case MR_OID_INT4:
    case MR_OID_INT8:
        return put_integer(column, value, out, err);
    case MR_OID_BOOL:
        if (value->type != MR_BOOL)
            return misfit(column, value, NULL, err);
        put_field(out, value->b ? "\1" : "\0", 1);
        return true;
    case MR_OID_FLOAT4:
    case MR_OID_FLOAT8:
        return put_float(column, value, out, err);
    case MR_OID_NUMERIC:
        return put_numeric(column, value, out, err);
    case MR_OID_UUID:
        return put_uuid(column, value, out, err);
    case MR_OID_TIMESTAMP:
    case MR_OID_TIMESTAMPTZ:
        return put_timestamp(column, value, out, err);
    case MR_OID_DATE:
        return put_date(column, value, out, err);
    case MR_OID_JSON:
    case MR_OID_JSONB:
        return put_json(column, value, out, err);
    case MR_OID_BYTEA:
        return put_bytes(column, value, out, err);
    default:
        if (column->is_text)
            return put_text(column, value, out, err);
        return mr_error_reject(
            err, "schema", "column \"%s\" has type %s, which Millrace cannot write; it writes %s",
            column->name, column->type_name, mr_pg_types_supported);
    }
}
