/*
 * numeric.c - Postgres's numeric between decimal text and its binary form.
 *
 * Pure; any thread; owns nothing. Exact both ways: the number of decimal places survives. The
 * binary form: int16 count of base-10000 digits, int16 weight of the first, uint16 sign, uint16
 * decimal places shown, digits. Must not know columns. Tests: tests/unit/test_postgres_rows.c.
 */
#include "postgres/values.h"

enum {
    SIGN_POSITIVE = 0x0000,
    SIGN_NEGATIVE = 0x4000,
    SIGN_NAN = 0xc000,
    SIGN_INF = 0xd000,
    SIGN_MINUS_INF = 0xf000,
    BASE_DIGITS = 4,
    PLACES_MAX = 16383,   /* after the point */
    INTEGRAL_MAX = 131072 /* before it */
};

static void put_header(struct mr_buf *out, int digits, int weight, unsigned sign, int places)
{
    mr_buf_put_be16(out, (uint16_t)digits);
    mr_buf_put_be16(out, (uint16_t)weight);
    mr_buf_put_be16(out, (uint16_t)sign);
    mr_buf_put_be16(out, (uint16_t)places);
}

static bool put_special(struct mr_buf *out, const char *text, size_t len)
{
    static const struct {
        const char *text;
        unsigned sign;
    } specials[] = {{"NaN", SIGN_NAN}, {"Infinity", SIGN_INF}, {"-Infinity", SIGN_MINUS_INF}};
    for (size_t i = 0; i < sizeof specials / sizeof *specials; i++)
        if (len == strlen(specials[i].text) && memcmp(text, specials[i].text, len) == 0) {
            put_header(out, 0, 0, specials[i].sign, 0);
            return true;
        }
    return false;
}

/* Where the parts of a decimal text lie. */
struct decimal {
    bool negative;
    const char *whole, *fraction;
    size_t n_whole, n_fraction;
    long exponent;
};

static size_t count_digits(const char *at, const char *end)
{
    const char *from = at;
    while (at < end && *at >= '0' && *at <= '9')
        at++;
    return (size_t)(at - from);
}

static bool parse_decimal(const char *at, size_t len, struct decimal *d)
{
    const char *end = at + len;
    *d = (struct decimal){0};
    if (at < end && (*at == '-' || *at == '+'))
        d->negative = *at++ == '-';
    d->whole = at;
    d->n_whole = count_digits(at, end);
    at += d->n_whole;
    if (at < end && *at == '.') {
        d->fraction = ++at;
        d->n_fraction = count_digits(at, end);
        at += d->n_fraction;
    }
    if (!d->n_whole && !d->n_fraction)
        return false;
    if (at < end && (*at == 'e' || *at == 'E')) {
        bool minus = false;
        at++;
        if (at < end && (*at == '-' || *at == '+'))
            minus = *at++ == '-';
        size_t n = count_digits(at, end);
        if (!n || n > 6)
            return false;
        for (size_t i = 0; i < n; i++)
            d->exponent = d->exponent * 10 + (at[i] - '0');
        at += n;
        d->exponent = minus ? -d->exponent : d->exponent;
    }
    return at == end;
}

static int digit_at(const struct decimal *d, long i)
{
    if (i < 0)
        return 0;
    if ((size_t)i < d->n_whole)
        return d->whole[i] - '0';
    size_t k = (size_t)i - d->n_whole;
    return k < d->n_fraction ? d->fraction[k] - '0' : 0;
}

bool mr_pg_numeric_put(struct mr_buf *out, const char *text, size_t len)
{
    struct decimal d;
    if (put_special(out, text, len))
        return true;
    if (len > INTEGRAL_MAX + PLACES_MAX + 16 || !parse_decimal(text, len, &d))
        return false;
    /* The point stands before decimal digit `point`; leading and trailing zeros are not stored. */
    long n = (long)(d.n_whole + d.n_fraction), point = (long)d.n_whole + d.exponent;
    long places = (long)d.n_fraction - d.exponent;
    if (places < 0)
        places = 0;
    long first = 0, last = n;
    while (first < n && !digit_at(&d, first))
        first++;
    while (last > first && !digit_at(&d, last - 1))
        last--;
    if (places > PLACES_MAX || (first < last && point - first > INTEGRAL_MAX))
        return false;
    if (first == last) {
        put_header(out, 0, 0, SIGN_POSITIVE, (int)places);
        return true;
    }
    /* Group k covers decimal digits point - 4(k + 1) .. point - 4k - 1. */
    long weight = point - first > 0 ? (point - first - 1) / BASE_DIGITS
                                    : -((first - point) / BASE_DIGITS) - 1;
    long from = point - BASE_DIGITS * (weight + 1);
    long groups = (last - from + BASE_DIGITS - 1) / BASE_DIGITS;
    put_header(out, (int)groups, (int)weight, d.negative ? SIGN_NEGATIVE : SIGN_POSITIVE,
               (int)places);
    for (long g = 0; g < groups; g++) {
        int value = 0;
        for (int i = 0; i < BASE_DIGITS; i++)
            value = value * 10 + digit_at(&d, from + g * BASE_DIGITS + i);
        mr_buf_put_be16(out, (uint16_t)value);
    }
    return true;
}

static unsigned read16(const uint8_t *at)
{
    return (unsigned)at[0] << 8 | at[1];
}

static unsigned group_at(const uint8_t *digits, long n, long i)
{
    return i >= 0 && i < n ? read16(digits + 2 * i) : 0;
}

static void put_group(struct mr_buf *out, unsigned group)
{
    char text[BASE_DIGITS];
    for (int i = BASE_DIGITS - 1; i >= 0; i--, group /= 10)
        text[i] = (char)('0' + group % 10);
    mr_buf_put(out, text, sizeof text);
}

bool mr_pg_numeric_text(struct mr_buf *out, const uint8_t *bytes, size_t len)
{
    if (len < 8)
        return false;
    long n = (long)read16(bytes), weight = (int16_t)read16(bytes + 2);
    unsigned sign = read16(bytes + 4);
    long places = (long)read16(bytes + 6);
    if (len != 8 + 2 * (size_t)n)
        return false;
    if (sign != SIGN_POSITIVE && sign != SIGN_NEGATIVE) {
        mr_buf_put_text(out, sign == SIGN_NAN   ? "NaN"
                             : sign == SIGN_INF ? "Infinity"
                                                : "-Infinity");
        return sign == SIGN_NAN || sign == SIGN_INF || sign == SIGN_MINUS_INF;
    }
    const uint8_t *digits = bytes + 8;
    if (sign == SIGN_NEGATIVE)
        mr_buf_put_char(out, '-');
    if (weight < 0) {
        mr_buf_put_char(out, '0');
    } else {
        mr_buf_printf(out, "%u", group_at(digits, n, 0));
        for (long i = 1; i <= weight; i++)
            put_group(out, group_at(digits, n, i));
    }
    if (places > 0) {
        mr_buf_put_char(out, '.');
        size_t point = out->len;
        for (long i = weight + 1; (long)(out->len - point) < places; i++)
            put_group(out, group_at(digits, n, i));
        out->len = point + (size_t)places;
    }
    return true;
}
