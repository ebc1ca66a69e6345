/*
 * times.c - dates and times between ISO 8601 text and Postgres's binary form (from 2000-01-01 on).
 *
 * Pure; any thread; owns nothing. Proleptic Gregorian, as Postgres. Strict: no month 13, no 30th of
 * February, no second 60. Must not know columns or the session's time zone. Tests:
 * tests/unit/test_postgres_rows.c.
 */
#include "postgres/values.h"

#define MICROS_A_SECOND INT64_C(1000000)
#define MICROS_A_DAY    (86400 * MICROS_A_SECOND)

enum { YEAR_MAX = 294276, EPOCH_DAYS = 10957 /* from 1970-01-01 to 2000-01-01 */ };

/* Days since 2000-01-01 of a proleptic Gregorian date; eras of 400 years, years from March. */
static int64_t days_of(int64_t year, int month, int day)
{
    year -= month <= 2;
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    int64_t of_era = year - era * 400;
    int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    int64_t day_of_era = of_era * 365 + of_era / 4 - of_era / 100 + day_of_year;
    return era * 146097 + day_of_era - 719468 - EPOCH_DAYS;
}

static void date_of(int64_t days, int64_t *year, int *month, int *day)
{
    days += 719468 + EPOCH_DAYS;
    int64_t era = (days >= 0 ? days : days - 146096) / 146097;
    int64_t day_of_era = days - era * 146097;
    int64_t of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * of_era + of_era / 4 - of_era / 100);
    int64_t shifted = (5 * day_of_year + 2) / 153;
    *day = (int)(day_of_year - (153 * shifted + 2) / 5 + 1);
    *month = (int)(shifted < 10 ? shifted + 3 : shifted - 9);
    *year = of_era + era * 400 + (*month <= 2);
}

static int month_days(int64_t year, int month)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    return days[month - 1] + (month == 2 && leap);
}

struct cursor {
    const char *at, *end;
};

static bool eat(struct cursor *c, char wanted)
{
    if (c->at == c->end || *c->at != wanted)
        return false;
    c->at++;
    return true;
}

/* Between `min` and `max` digits. */
static bool number(struct cursor *c, int min, int max, int *out)
{
    int n = 0;
    *out = 0;
    for (; n < max && c->at < c->end && *c->at >= '0' && *c->at <= '9'; n++)
        *out = *out * 10 + (*c->at++ - '0');
    return n >= min;
}

static bool parse_day(struct cursor *c, bool before_christ, int64_t *days)
{
    int year, month, day;
    if (!number(c, 4, 6, &year) || !eat(c, '-') || !number(c, 2, 2, &month) || !eat(c, '-') ||
        !number(c, 2, 2, &day))
        return false;
    int64_t astronomical = before_christ ? 1 - year : year;
    if (year < 1 || year > YEAR_MAX || month < 1 || month > 12 || day < 1 ||
        day > month_days(astronomical, month))
        return false;
    *days = days_of(astronomical, month, day);
    return true;
}

static bool parse_clock(struct cursor *c, int64_t *micros)
{
    int hour, minute, second = 0, digit;
    int64_t fraction = 0, unit = MICROS_A_SECOND;
    if (!number(c, 2, 2, &hour) || !eat(c, ':') || !number(c, 2, 2, &minute))
        return false;
    if (eat(c, ':')) {
        if (!number(c, 2, 2, &second))
            return false;
        if (eat(c, '.')) {
            if (!number(c, 1, 1, &digit))
                return false;
            do {
                unit /= 10;
                if (!unit)
                    return false;
                fraction += digit * unit;
            } while (number(c, 1, 1, &digit));
        }
    }
    if (hour > 23 || minute > 59 || second > 59)
        return false;
    *micros = ((hour * INT64_C(60) + minute) * 60 + second) * MICROS_A_SECOND + fraction;
    return true;
}

/* Z, +hh, +hhmm, +hh:mm or nothing. */
static bool parse_zone(struct cursor *c, enum mr_pg_zone *zone, int64_t *offset)
{
    *offset = 0;
    *zone = MR_PG_ZONE_GIVEN;
    if (c->at == c->end) {
        *zone = MR_PG_ZONE_NONE;
        return true;
    }
    if (eat(c, 'Z'))
        return true;
    bool west = *c->at == '-';
    int hours, minutes = 0;
    if ((!eat(c, '-') && !eat(c, '+')) || !number(c, 2, 2, &hours))
        return false;
    if (c->at < c->end) {
        (void)eat(c, ':');
        if (!number(c, 2, 2, &minutes))
            return false;
    }
    if (hours > 15 || minutes > 59)
        return false;
    *offset = (hours * INT64_C(60) + minutes) * 60 * MICROS_A_SECOND * (west ? -1 : 1);
    return true;
}

static bool is(const char *text, size_t len, const char *word)
{
    return len == strlen(word) && memcmp(text, word, len) == 0;
}

static bool cut_before_christ(const char *text, size_t *len)
{
    if (*len < 3 || memcmp(text + *len - 3, " BC", 3) != 0)
        return false;
    *len -= 3;
    return true;
}

bool mr_pg_timestamp_parse(const char *text, size_t len, int64_t *micros, enum mr_pg_zone *zone)
{
    *zone = MR_PG_ZONE_GIVEN;
    if (is(text, len, "infinity") || is(text, len, "-infinity")) {
        *micros = *text == '-' ? INT64_MIN : INT64_MAX;
        return true;
    }
    bool before_christ = cut_before_christ(text, &len);
    struct cursor c = {text, text + len};
    int64_t days, clock, offset;
    if (!parse_day(&c, before_christ, &days) || (!eat(&c, 'T') && !eat(&c, ' ')) ||
        !parse_clock(&c, &clock) || !parse_zone(&c, zone, &offset) || c.at != c.end)
        return false;
    /* From 4714-11-24 BC to the end of 294276, in UTC: Postgres's calendar. Days first: the
     * microseconds of those long before would overflow. */
    if (days < days_of(-4713, 11, 24) - 1)
        return false;
    *micros = days * MICROS_A_DAY + clock - offset;
    return *micros >= days_of(-4713, 11, 24) * MICROS_A_DAY &&
           *micros < days_of(YEAR_MAX + 1, 1, 1) * MICROS_A_DAY;
}

bool mr_pg_date_parse(const char *text, size_t len, int32_t *out)
{
    if (is(text, len, "infinity") || is(text, len, "-infinity")) {
        *out = *text == '-' ? INT32_MIN : INT32_MAX;
        return true;
    }
    bool before_christ = cut_before_christ(text, &len);
    struct cursor c = {text, text + len};
    int64_t days;
    if (!parse_day(&c, before_christ, &days) || c.at != c.end || days < days_of(-4713, 11, 24))
        return false;
    *out = (int32_t)days;
    return true;
}

void mr_pg_timestamp_text(struct mr_buf *out, int64_t micros)
{
    if (micros == INT64_MAX || micros == INT64_MIN) {
        mr_buf_put_text(out, micros > 0 ? "infinity" : "-infinity");
        return;
    }
    int64_t days = micros / MICROS_A_DAY, rest = micros % MICROS_A_DAY, year;
    if (rest < 0) {
        rest += MICROS_A_DAY;
        days--;
    }
    int month, day;
    date_of(days, &year, &month, &day);
    int seconds = (int)(rest / MICROS_A_SECOND), fraction = (int)(rest % MICROS_A_SECOND);
    mr_buf_printf(out, "%04d-%02d-%02dT%02d:%02d:%02d", (int)(year > 0 ? year : 1 - year), month,
                  day, seconds / 3600, seconds / 60 % 60, seconds % 60);
    if (fraction) {
        mr_buf_printf(out, ".%06d", fraction);
        while (out->ptr[out->len - 1] == '0')
            out->len--;
    }
    if (year <= 0)
        mr_buf_put_text(out, " BC");
}
