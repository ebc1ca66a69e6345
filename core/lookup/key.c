/*
 * key.c - keys: what a script gives, and what a row has, brought to the same cells.
 *
 * Pure; any thread; owns nothing. A key that can never match is refused with a sentence instead of
 * finding nothing for ever: that is a mistake in the script. Must not know tables. Tests:
 * tests/unit/test_lookup.c.
 */
#include "lookup/key.h"

#include "base/text.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define DAY_US INT64_C(86400000000)

enum { DIGITS_MAX = 1400, EXPONENT_MAX = 1000, SHOWN_MAX = 60 };
/* Postgres's calendar; what lies beyond it is in no column, and would overflow here. */
enum { YEAR_MIN = -4713, DATE_YEAR_MAX = 5874897, TIMESTAMP_YEAR_MAX = 294276 };

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* n digits with the point behind `point` of them; n 0 is zero. Returns the length. */
static size_t write_plain(bool negative, const char *digits, size_t n, long point,
                          char out[DIGITS_MAX])
{
    char *to = out;
    if (negative && n)
        *to++ = '-';
    if (point <= 0)
        *to++ = '0';
    for (long i = 0; i < point && n; i++)
        *to++ = i < (long)n ? digits[i] : '0';
    if (!n)
        return *out = '0', 1;
    if ((long)n > point) {
        *to++ = '.';
        for (long i = point; i < 0; i++)
            *to++ = '0';
        for (size_t i = point > 0 ? (size_t)point : 0; i < n; i++)
            *to++ = digits[i];
    }
    return (size_t)(to - out);
}

/*
 * Decimal text, with or without exponent, as plain digits without needless zeros: "-12.50" is
 * "-12.5", "1e3" is "1000". Returns the length in `out`, 0 if it is no such number or a very long
 * one.
 */
static size_t plain_decimal(const char *text, size_t len, char out[DIGITS_MAX])
{
    const char *at = text, *end = text + len;
    bool negative = at < end && *at == '-';
    if (at < end && (*at == '-' || *at == '+'))
        at++;
    char digits[DIGITS_MAX];
    size_t n = 0, zeros = 0; /* zeros: behind digits[n], stored when another digit follows */
    long point = 0;          /* digits in front of it */
    bool seen_point = false, any = false;
    for (; at < end && (is_digit(*at) || (*at == '.' && !seen_point)); at++) {
        if (*at == '.') {
            seen_point = true;
            continue;
        }
        any = true;
        if (!n && *at == '0') { /* a leading zero only moves the point */
            point -= seen_point;
            continue;
        }
        point += !seen_point;
        if (*at == '0') {
            zeros++;
            continue;
        }
        if (n + zeros >= DIGITS_MAX / 4)
            return 0;
        for (; zeros; zeros--)
            digits[n++] = '0';
        digits[n++] = *at;
    }
    if (any && at < end && (*at == 'e' || *at == 'E')) {
        char *stop;
        char exponent[8] = {0};
        if (end - at - 1 < 1 || end - at - 1 >= (long)sizeof exponent ||
            isspace((unsigned char)at[1]))
            return 0;
        memcpy(exponent, at + 1, (size_t)(end - at - 1));
        long e = strtol(exponent, &stop, 10);
        if (*stop || e > EXPONENT_MAX || e < -EXPONENT_MAX)
            return 0;
        point += e;
        at = end;
    }
    if (!any || at != end)
        return 0;
    if (n && (point > EXPONENT_MAX || point < -EXPONENT_MAX))
        return 0;
    return write_plain(negative, digits, n, point, out);
}

void mr_key_put(struct mr_buf *out, const struct mr_value *value)
{
    struct mr_value canonical = *value;
    char plain[DIGITS_MAX];
    if (value->type == MR_FLOAT && value->f == 0) {
        canonical.f = 0.0;
    } else if (value->type == MR_NUMERIC) {
        size_t len = plain_decimal(value->bytes.ptr, value->bytes.len, plain);
        if (len)
            canonical.bytes = (struct mr_bytes){plain, len};
    }
    mr_cell_put(out, &canonical);
}

static bool put_decimal(struct mr_buf *out, const char *text, size_t len)
{
    char plain[DIGITS_MAX];
    size_t plain_len = plain_decimal(text, len, plain);
    struct mr_value value = {.type = MR_NUMERIC, .bytes = {plain, plain_len}};
    if (!plain_len)
        return false;
    mr_cell_put(out, &value);
    return true;
}

static bool read_number(const char **at, const char *end, unsigned min_width, unsigned max_width,
                        int64_t *value)
{
    unsigned width = 0;
    *value = 0;
    for (; *at < end && width < max_width && is_digit(**at); ++*at, width++)
        *value = *value * 10 + (**at - '0');
    return width >= min_width;
}

static bool read_char(const char **at, const char *end, char c)
{
    if (*at == end || **at != c)
        return false;
    ++*at;
    return true;
}

/* Days since 2000-01-01 of a date in the Gregorian calendar, counted from a year that begins in
 * March. */
static int64_t days_of(int64_t year, int64_t month, int64_t day)
{
    year -= month <= 2;
    int64_t era = (year >= 0 ? year : year - 399) / 400, yoe = year - era * 400;
    int64_t doy = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 730425;
}

static bool read_date(const char **at, const char *end, bool before_christ, int64_t year_max,
                      int64_t *days)
{
    static const uint8_t lengths[] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int64_t year, month, day;
    if (!read_number(at, end, 4, 7, &year) || !read_char(at, end, '-') ||
        !read_number(at, end, 2, 2, &month) || !read_char(at, end, '-') ||
        !read_number(at, end, 2, 2, &day))
        return false;
    if (before_christ)
        year = year ? 1 - year : YEAR_MIN - 1;
    else if (!year)
        return false;
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    if (year < YEAR_MIN || year > year_max || month < 1 || month > 12 || day < 1 ||
        day > lengths[month - 1] || (month == 2 && day == 29 && !leap))
        return false;
    *days = days_of(year, month, day);
    return true;
}

/* hh:mm:ss[.ffffff] and Z or an offset such as +01:00, behind the date. */
static bool read_time(const char **at, const char *end, int64_t *us)
{
    int64_t hour, minute, second, fraction = 0, off_hour = 0, off_minute = 0;
    if (!read_number(at, end, 2, 2, &hour) || !read_char(at, end, ':') ||
        !read_number(at, end, 2, 2, &minute) || !read_char(at, end, ':') ||
        !read_number(at, end, 2, 2, &second) || hour > 23 || minute > 59 || second > 59)
        return false;
    if (read_char(at, end, '.')) {
        const char *from = *at;
        if (!read_number(at, end, 1, 6, &fraction))
            return false;
        for (long width = *at - from; width < 6; width++)
            fraction *= 10;
    }
    if (!read_char(at, end, 'Z')) {
        int64_t sign = *at < end && **at == '-' ? -1 : 1;
        if (!(read_char(at, end, '+') || read_char(at, end, '-')) ||
            !read_number(at, end, 2, 2, &off_hour) || !read_char(at, end, ':') ||
            !read_number(at, end, 2, 2, &off_minute) || off_hour > 15 || off_minute > 59)
            return false;
        minute -= sign * off_minute;
        hour -= sign * off_hour;
    }
    *us = ((hour * 60 + minute) * 60 + second) * 1000000 + fraction;
    return true;
}

static bool put_datetime(struct mr_buf *out, enum mr_type type, struct mr_bytes text)
{
    const char *at = text.ptr, *end = text.ptr + text.len;
    int64_t days, us = 0, year_max = type == MR_DATE ? DATE_YEAR_MAX : TIMESTAMP_YEAR_MAX;
    bool before_christ = text.len > 3 && memcmp(end - 3, " BC", 3) == 0;
    if (before_christ)
        end -= 3;
    if (!read_date(&at, end, before_christ, year_max, &days))
        return false;
    if (type == MR_TIMESTAMP &&
        !((read_char(&at, end, 'T') || read_char(&at, end, ' ')) && read_time(&at, end, &us)))
        return false;
    if (at != end)
        return false;
    struct mr_value value = {.type = type, .i = days};
    if (type == MR_TIMESTAMP) {
        value.i = days * DAY_US + us;
        if (value.i >= days_of(TIMESTAMP_YEAR_MAX + 1, 1, 1) * DAY_US)
            return false;
    }
    mr_cell_put(out, &value);
    return true;
}

/* A value that is what the column holds, or becomes it without loss. */
static bool put_converted(struct mr_buf *out, enum mr_type type, const struct mr_value *value)
{
    struct mr_value as = {.type = type};
    struct mr_buf digits = {0};
    bool ok = false;
    switch (type) {
    case MR_INT:
        if (value->type != MR_FLOAT || value->f != floor(value->f) || fabs(value->f) >= 0x1p63)
            return false;
        as.i = (int64_t)value->f;
        mr_cell_put(out, &as);
        return true;
    case MR_FLOAT:
        if (value->type != MR_INT)
            return false;
        as.f = (double)value->i;
        mr_cell_put(out, &as);
        return true;
    case MR_NUMERIC:
        if (value->type == MR_INT)
            mr_text_int(&digits, value->i);
        else if (value->type == MR_TEXT)
            mr_buf_put(&digits, value->bytes.ptr, value->bytes.len);
        else if (value->type != MR_FLOAT || !mr_text_float(&digits, value->f))
            return false;
        ok = digits.len && put_decimal(out, digits.ptr, digits.len);
        mr_buf_fini(&digits);
        return ok;
    case MR_UUID:
        if (value->type != MR_TEXT ||
            !mr_text_uuid_parse_any(value->bytes.ptr, value->bytes.len, as.uuid))
            return false;
        mr_cell_put(out, &as);
        return true;
    case MR_TIMESTAMP:
    case MR_DATE:
        return value->type == MR_TEXT && put_datetime(out, type, value->bytes);
    case MR_JSON:
        if (value->type != MR_TEXT)
            return false;
        as.bytes = value->bytes;
        mr_cell_put(out, &as);
        return true;
    default:
        return false;
    }
}

static bool refuse(const struct mr_lookup_schema *schema, const struct mr_lookup_column *column,
                   const struct mr_value *value, struct mr_error *err)
{
    struct mr_buf shown = {0};
    if (value->type == MR_TEXT) {
        size_t len = value->bytes.len < SHOWN_MAX ? value->bytes.len : SHOWN_MAX;
        mr_buf_put_text(&shown, "the string ");
        mr_text_json_string(&shown, value->bytes.ptr, len);
        if (len < value->bytes.len)
            mr_buf_put_text(&shown, "...");
    } else {
        mr_buf_printf(&shown, "%s ",
                      value->type == MR_INT ? "the integer" : mr_type_name(value->type));
        if (!mr_value_text(&shown, value, NULL))
            mr_buf_put_text(&shown, "NaN or infinity");
    }
    mr_error_reject(
        err, "schema",
        "the script's key for lookup %s is %s, which key column %s (%s) can never equal: "
        "convert it in `key`, or declare its type in `fields`",
        schema->name, mr_buf_cstr(&shown), column->name, column->type_name);
    mr_buf_fini(&shown);
    return false;
}

bool mr_lookup_key(const struct mr_lookup_schema *schema, const struct mr_value *values,
                   struct mr_buf *out, struct mr_error *err)
{
    size_t before = out->len;
    for (size_t i = 0; i < schema->n_keys; i++) {
        const struct mr_lookup_column *column = &schema->columns[i];
        if (values[i].type == MR_NULL || values[i].type == column->type ||
            column->type == MR_TEXT) {
            mr_key_put(out, &values[i]);
        } else if (!put_converted(out, column->type, &values[i])) {
            out->len = before;
            return refuse(schema, column, &values[i], err);
        }
    }
    return true;
}
