/*
 * value.c - a column value as JSON and as bare text.
 *
 * Pure; any thread; owns nothing. What JSON cannot carry (NaN, infinity) is refused here, in one
 * place, so that output is valid whatever the data holds. Must not know where the value stood:
 * callers put the column's name in front of an error. Tests: tests/unit/test_value.c.
 */
#include "millrace/value.h"

#include "base/text.h"

#include <stdio.h>

enum { DAYS_TO_2000 = 730425 }; /* from 0000-03-01 to 2000-01-01, proleptic Gregorian */
static const int64_t day_us = 86400000000;

const char *mr_type_name(enum mr_type type)
{
    static const char *const names[] = {"null", "bool", "int",       "float", "numeric",
                                        "text", "uuid", "timestamp", "date",  "json"};
    return (size_t)type < sizeof names / sizeof *names ? names[type] : "unknown";
}

static bool refuse(struct mr_error *err, enum mr_type type, const char *what)
{
    return mr_error_reject(err, "schema",
                           "a %s that is %s has no form in JSON or text: filter such rows out, or "
                           "give the lookup a `query` that replaces it",
                           mr_type_name(type), what);
}

static int64_t floor_div(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}

static char *put_digits(char *at, unsigned value, unsigned width)
{
    for (unsigned i = width; i-- > 0; value /= 10)
        at[i] = (char)('0' + value % 10);
    return at + width;
}

/*
 * As Postgres prints it in ISO style: at least four digits of year, and years before the first end
 * in " BC" (the caller puts that last). Counted from 0000-03-01, so that a leap day ends its year.
 */
static char *put_date(char *at, int64_t days_since_2000, bool *bc)
{
    int64_t days = days_since_2000 + DAYS_TO_2000;
    int64_t era = floor_div(days, 146097);
    int64_t doe = days - era * 146097; /* day of the 400-year era */
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    int64_t month = (5 * doy + 2) / 153; /* 0: March */
    unsigned day = (unsigned)(doy - (153 * month + 2) / 5 + 1);
    month += month < 10 ? 3 : -9;
    int64_t year = yoe + era * 400 + (month <= 2);
    *bc = year <= 0;
    unsigned shown = (unsigned)(*bc ? 1 - year : year);
    unsigned width = 4;
    for (unsigned limit = 10000; shown >= limit && width < 9; limit *= 10)
        width++;
    at = put_digits(at, shown, width);
    *at++ = '-';
    at = put_digits(at, (unsigned)month, 2);
    *at++ = '-';
    return put_digits(at, day, 2);
}

static char *put_time(char *at, int64_t us_of_day)
{
    unsigned seconds = (unsigned)(us_of_day / 1000000), us = (unsigned)(us_of_day % 1000000);
    *at++ = 'T';
    at = put_digits(at, seconds / 3600, 2);
    *at++ = ':';
    at = put_digits(at, seconds / 60 % 60, 2);
    *at++ = ':';
    at = put_digits(at, seconds % 60, 2);
    if (us) {
        *at++ = '.';
        at = put_digits(at, us, 6);
        while (at[-1] == '0')
            at--;
    }
    *at++ = 'Z';
    return at;
}

static bool put_datetime(struct mr_buf *out, const struct mr_value *value, struct mr_error *err)
{
    bool is_date = value->type == MR_DATE;
    if (is_date ? value->i == INT32_MAX || value->i == INT32_MIN
                : value->i == INT64_MAX || value->i == INT64_MIN)
        return refuse(err, value->type, "infinite");
    char *from = mr_buf_reserve(out, 48), *at = from;
    bool bc;
    int64_t day = is_date ? value->i : floor_div(value->i, day_us);
    at = put_date(at, day, &bc);
    if (!is_date)
        at = put_time(at, (value->i % day_us + day_us) % day_us);
    if (bc) {
        memcpy(at, " BC", 3);
        at += 3;
    }
    mr_buf_commit(out, (size_t)(at - from));
    return true;
}

/* Postgres prints plain digits ("12.50", "0.5", never an exponent), which is a JSON number as it
 * stands. */
static bool put_numeric(struct mr_buf *out, struct mr_bytes digits, struct mr_error *err)
{
    char last = digits.len ? digits.ptr[digits.len - 1] : 0;
    if (last < '0' || last > '9')
        return refuse(err, MR_NUMERIC, last == 'N' ? "NaN" : "infinite");
    mr_buf_put(out, digits.ptr, digits.len);
    return true;
}

bool mr_value_text(struct mr_buf *out, const struct mr_value *value, struct mr_error *err)
{
    switch (value->type) {
    case MR_NULL:
        return true;
    case MR_BOOL:
        mr_buf_put_text(out, value->b ? "true" : "false");
        return true;
    case MR_INT:
        mr_text_int(out, value->i);
        return true;
    case MR_FLOAT:
        return mr_text_float(out, value->f) ||
               refuse(err, MR_FLOAT, value->f != value->f ? "NaN" : "infinite");
    case MR_NUMERIC:
        return put_numeric(out, value->bytes, err);
    case MR_UUID:
        mr_text_uuid_format(value->uuid, mr_buf_reserve(out, 36));
        mr_buf_commit(out, 36);
        return true;
    case MR_TIMESTAMP:
    case MR_DATE:
        return put_datetime(out, value, err);
    case MR_TEXT:
    case MR_JSON:
        mr_buf_put(out, value->bytes.ptr, value->bytes.len);
        return true;
    }
    mr_assert_failed("a value of no type", __FILE__, __LINE__);
}

bool mr_value_json(struct mr_buf *out, const struct mr_value *value, struct mr_error *err)
{
    size_t before = out->len;
    switch (value->type) {
    case MR_NULL:
        mr_buf_put(out, "null", 4);
        return true;
    case MR_TEXT:
        mr_text_json_string(out, value->bytes.ptr, value->bytes.len);
        return true;
    case MR_UUID:
    case MR_TIMESTAMP:
    case MR_DATE:
        mr_buf_put_char(out, '"');
        if (!mr_value_text(out, value, err)) {
            out->len = before;
            return false;
        }
        mr_buf_put_char(out, '"');
        return true;
    default: /* numbers, bool and json: their text is JSON */
        return mr_value_text(out, value, err);
    }
}
