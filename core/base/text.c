/*
 * text.c - JSON strings and numbers, uuids, UTF-8, nearest names.
 *
 * Pure; any thread; owns nothing. The escape and uuid functions are on the path of each row: they
 * copy in runs. Must not know where the text goes. Tests: tests/unit/test_base.c.
 */
#include "base/text.h"

#include <ctype.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static inline bool needs_escape(unsigned char c)
{
    return c < 0x20 || c == '"' || c == '\\';
}

static void put_escape(struct mr_buf *buf, unsigned char c)
{
    switch (c) {
    case '"':
        mr_buf_put(buf, "\\\"", 2);
        break;
    case '\\':
        mr_buf_put(buf, "\\\\", 2);
        break;
    case '\n':
        mr_buf_put(buf, "\\n", 2);
        break;
    case '\r':
        mr_buf_put(buf, "\\r", 2);
        break;
    case '\t':
        mr_buf_put(buf, "\\t", 2);
        break;
    default:
        mr_buf_printf(buf, "\\u%04x", c);
    }
}

/* Eight bytes at once: the high bit of each that is zero in `word`, and perhaps of ones above it.
 */
static uint64_t zero_bytes(uint64_t word)
{
    return (word - 0x0101010101010101u) & ~word & 0x8080808080808080u;
}

/* How many bytes from the start need no escape, in steps of eight. */
static size_t skip_plain(const char *bytes, size_t len)
{
    size_t i = 0;
    for (uint64_t word; i + sizeof word <= len; i += sizeof word) {
        memcpy(&word, bytes + i, sizeof word);
        uint64_t controls = (word - 0x2020202020202020u) & ~word & 0x8080808080808080u;
        if (controls | zero_bytes(word ^ 0x2222222222222222u) |
            zero_bytes(word ^ 0x5c5c5c5c5c5c5c5cu))
            break;
    }
    return i;
}

void mr_text_json_escape(struct mr_buf *buf, const char *bytes, size_t len)
{
    size_t from = 0;
    for (size_t i = skip_plain(bytes, len); i < len; i++)
        if (needs_escape((unsigned char)bytes[i])) {
            mr_buf_put(buf, bytes + from, i - from);
            put_escape(buf, (unsigned char)bytes[i]);
            from = i + 1;
        }
    mr_buf_put(buf, bytes + from, len - from);
}

void mr_text_json_string(struct mr_buf *buf, const char *bytes, size_t len)
{
    size_t plain = skip_plain(bytes, len);
    while (plain < len && !needs_escape((unsigned char)bytes[plain]))
        plain++;
    if (plain == len) { /* nearly always */
        char *at = mr_buf_reserve(buf, len + 2);
        at[0] = at[len + 1] = '"';
        memcpy(at + 1, bytes, len);
        mr_buf_commit(buf, len + 2);
        return;
    }
    mr_buf_put_char(buf, '"');
    mr_text_json_escape(buf, bytes, len);
    mr_buf_put_char(buf, '"');
}

void mr_text_int(struct mr_buf *buf, int64_t value)
{
    char digits[24];
    char *p = digits + sizeof digits;
    uint64_t rest = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    do
        *--p = (char)('0' + rest % 10);
    while (rest /= 10);
    if (value < 0)
        *--p = '-';
    mr_buf_put(buf, p, (size_t)(digits + sizeof digits - p));
}

bool mr_text_float(struct mr_buf *buf, double value)
{
    if (!isfinite(value))
        return false;
    char text[40];
    /* 15 digits are enough for most, and trailing zeros are not printed; subnormals have fewer. */
    for (int precision = fabs(value) < DBL_MIN ? 1 : 15; precision <= 17; precision++) {
        snprintf(text, sizeof text, "%.*g", precision, value);
        if (strtod(text, NULL) == value)
            break;
    }
    mr_buf_put_text(buf, text);
    if (!strpbrk(text, ".e"))
        mr_buf_put(buf, ".0", 2);
    return true;
}

bool mr_text_utf8_valid(const char *bytes, size_t len)
{
    const unsigned char *p = (const unsigned char *)bytes, *end = p + len;
    while (p < end) {
        unsigned char c = *p;
        if (c < 0x80) {
            uint64_t word;
            for (p++; (size_t)(end - p) >= sizeof word; p += sizeof word) {
                memcpy(&word, p, sizeof word);
                if (word & 0x8080808080808080u)
                    break;
            }
            continue;
        }
        int more = c >= 0xc2 && c <= 0xdf   ? 1
                   : (c & 0xf0) == 0xe0     ? 2
                   : c >= 0xf0 && c <= 0xf4 ? 3
                                            : 0;
        if (!more || end - p <= more)
            return false;
        unsigned char second = p[1];
        if ((c == 0xe0 && second < 0xa0) || (c == 0xed && second > 0x9f) ||
            (c == 0xf0 && second < 0x90) || (c == 0xf4 && second > 0x8f))
            return false;
        for (int i = 1; i <= more; i++)
            if ((p[i] & 0xc0) != 0x80)
                return false;
        p += more + 1;
    }
    return true;
}

void mr_text_clean(char *text)
{
    size_t len = strlen(text);
    for (size_t at = 0; at < len;) {
        size_t n = 1;
        while (n <= 4 && at + n <= len && !mr_text_utf8_valid(text + at, n))
            n++;
        bool valid = n <= 4 && at + n <= len;
        if (!valid)
            text[at] = '?';
        at += valid ? n : 1;
    }
}

/* Digits as 0x10 | value, 0 for what is none: the tables keep random digits from being
 * mispredicted. */
#define HEX_DIGITS                                                                                 \
    ['0'] = 0x10, ['1'] = 0x11, ['2'] = 0x12, ['3'] = 0x13, ['4'] = 0x14, ['5'] = 0x15,            \
    ['6'] = 0x16, ['7'] = 0x17, ['8'] = 0x18, ['9'] = 0x19, ['a'] = 0x1a, ['b'] = 0x1b,            \
    ['c'] = 0x1c, ['d'] = 0x1d, ['e'] = 0x1e, ['f'] = 0x1f
static const uint8_t hex_lower[256] = {HEX_DIGITS};
static const uint8_t hex_any[256] = {
    HEX_DIGITS, ['A'] = 0x1a, ['B'] = 0x1b, ['C'] = 0x1c, ['D'] = 0x1d, ['E'] = 0x1e, ['F'] = 0x1f};
#undef HEX_DIGITS

/* Where the two digits of each byte stand. */
static const uint8_t uuid_places[16] = {0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34};

static bool parse_uuid(const char *text, size_t len, uint8_t uuid[16], const uint8_t digits[256])
{
    if (len != 36 || text[8] != '-' || text[13] != '-' || text[18] != '-' || text[23] != '-')
        return false;
    const unsigned char *at = (const unsigned char *)text;
    unsigned all = 0x10;
    for (int i = 0; i < 16; i++) {
        unsigned high = digits[at[uuid_places[i]]], low = digits[at[uuid_places[i] + 1]];
        all &= high & low;
        uuid[i] = (uint8_t)(high << 4 | (low & 15));
    }
    return all != 0;
}

bool mr_text_uuid_parse(const char *text, size_t len, uint8_t uuid[16])
{
    return parse_uuid(text, len, uuid, hex_lower);
}

bool mr_text_uuid_parse_any(const char *text, size_t len, uint8_t uuid[16])
{
    return parse_uuid(text, len, uuid, hex_any);
}

void mr_text_uuid_format(const uint8_t uuid[16], char text[36])
{
    static const char digits[] = "0123456789abcdef";
    for (int i = 0; i < 16; i++) {
        text[uuid_places[i]] = digits[uuid[i] >> 4];
        text[uuid_places[i] + 1] = digits[uuid[i] & 15];
    }
    text[8] = text[13] = text[18] = text[23] = '-';
}

enum { NAME_MAX_LEN = 63 };

static size_t distance(const char *a, size_t la, const char *b, size_t lb)
{
    size_t rows[3][NAME_MAX_LEN + 1];
    size_t *before = rows[0], *last = rows[1], *row = rows[2];
    for (size_t j = 0; j <= lb; j++)
        last[j] = j;
    for (size_t i = 1; i <= la; i++) {
        row[0] = i;
        for (size_t j = 1; j <= lb; j++) {
            int ca = tolower((unsigned char)a[i - 1]), cb = tolower((unsigned char)b[j - 1]);
            size_t best = last[j - 1] + (ca != cb);
            if (last[j] + 1 < best)
                best = last[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            if (i > 1 && j > 1 && ca == tolower((unsigned char)b[j - 2]) &&
                tolower((unsigned char)a[i - 2]) == cb && before[j - 2] + 1 < best)
                best = before[j - 2] + 1;
            row[j] = best;
        }
        size_t *recycled = before;
        before = last;
        last = row;
        row = recycled;
    }
    return last[lb];
}

const char *mr_text_nearest(const char *name, const char *const *names, size_t n)
{
    size_t len = strlen(name);
    if (len > NAME_MAX_LEN)
        return NULL;
    const char *best = NULL;
    size_t best_distance = len / 3 > 1 ? len / 3 : 1;
    for (size_t i = 0; i < n; i++) {
        size_t other = strlen(names[i]);
        if (other > NAME_MAX_LEN)
            continue;
        size_t d = distance(name, len, names[i], other);
        if (d < best_distance || (d == best_distance && !best)) {
            best = names[i];
            best_distance = d;
        }
    }
    return best;
}
