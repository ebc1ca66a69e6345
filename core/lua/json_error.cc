/*
 * json_error.cc - what is wrong with a text that is not JSON, and where.
 *
 * Owns nothing. simdjson's DOM says only what kind of error there is: the on-demand parser, which
 * knows where it stopped, walks the text once more. Must not know messages, scripts or Lua. Tests:
 * tests/unit/test_json.c, tests/spec/json_spec.lua.
 */
#include "lua/json_parser.h"

extern "C" {
#include "base/text.h"
}

namespace ondemand = simdjson::ondemand;

/* Walks a value to the first error. */
template <typename V> static simdjson::error_code walk(V value, int depth) noexcept
{
    if (depth > MR_JSON_DEPTH_MAX)
        return simdjson::DEPTH_ERROR;
    ondemand::json_type type;
    SIMDJSON_TRY(value.type().get(type));
    switch (type) {
    case ondemand::json_type::array: {
        ondemand::array array;
        SIMDJSON_TRY(value.get_array().get(array));
        for (auto item : array) {
            ondemand::value inner;
            SIMDJSON_TRY(item.get(inner));
            SIMDJSON_TRY(walk(inner, depth + 1));
        }
        return simdjson::SUCCESS;
    }
    case ondemand::json_type::object: {
        ondemand::object object;
        SIMDJSON_TRY(value.get_object().get(object));
        for (auto item : object) {
            ondemand::field field;
            SIMDJSON_TRY(std::move(item).get(field));
            std::string_view name;
            SIMDJSON_TRY(field.unescaped_key().get(name));
            ondemand::value inner = field.value();
            SIMDJSON_TRY(walk(inner, depth + 1));
        }
        return simdjson::SUCCESS;
    }
    case ondemand::json_type::string: {
        std::string_view text;
        return value.get_string().get(text);
    }
    case ondemand::json_type::number: {
        ondemand::number number;
        return value.get_number().get(number);
    }
    case ondemand::json_type::boolean: {
        bool b;
        return value.get_bool().get(b);
    }
    case ondemand::json_type::null: {
        bool null;
        SIMDJSON_TRY(value.is_null().get(null));
        return null ? simdjson::SUCCESS : simdjson::N_ATOM_ERROR;
    }
    }
    return simdjson::TAPE_ERROR;
}

/* The byte at which the text stops being JSON, or SIZE_MAX. */
static size_t broken_at(const struct mr_json *json) noexcept
{
    ondemand::parser parser;
    ondemand::document doc;
    const char *text = json->text.ptr;
    size_t len = json->text.len;
    if (parser.iterate(simdjson::padded_string_view(text, len, len + simdjson::SIMDJSON_PADDING))
            .get(doc))
        return SIZE_MAX;
    /* If the walk comes through, it stands before what is too much. */
    ondemand::value value;
    if (doc.get_value().get(value) == simdjson::SUCCESS)
        (void)walk(value, 1);
    const char *at;
    if (doc.current_location().get(at) || at < text || at > text + len)
        return SIZE_MAX;
    return (size_t)(at - text);
}

/* The first byte that is not UTF-8. Valid up to `good`, and no character is longer than 4 bytes. */
static size_t bad_utf8_at(const char *text, size_t len)
{
    size_t at = 0;
    while (at < len) {
        if ((unsigned char)text[at] < 0x80) {
            at++;
            continue;
        }
        size_t n = 2;
        while (n <= 4 && at + n <= len && !mr_text_utf8_valid(text + at, n))
            n++;
        if (n > 4 || at + n > len)
            return at;
        at += n;
    }
    return len;
}

static bool hex4(const char *p, unsigned *out)
{
    *out = 0;
    for (int i = 0; i < 4; i++) {
        char c = p[i];
        unsigned digit = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
                         : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a' + 10)
                         : c >= 'A' && c <= 'F' ? (unsigned)(c - 'A' + 10)
                                                : 16u;
        if (digit > 15)
            return false;
        *out = *out << 4 | digit;
    }
    return true;
}

enum class fault { none, escape, surrogate, control };

/* What is wrong with the escape at `at`; *len is its length if nothing is. The text has padding
 * behind it. */
static fault check_escape(const char *at, size_t *len)
{
    unsigned unit, low;
    *len = 2;
    if (at[1] != 'u')
        return at[1] && strchr("\"\\/bfnrt", at[1]) ? fault::none : fault::escape;
    if (!hex4(at + 2, &unit))
        return fault::escape;
    *len = 6;
    if (unit < 0xd800 || unit > 0xdfff)
        return fault::none;
    *len = 12;
    bool paired = unit < 0xdc00 && at[6] == '\\' && at[7] == 'u' && hex4(at + 8, &low) &&
                  low >= 0xdc00 && low <= 0xdfff;
    return paired ? fault::none : fault::surrogate;
}

/* The first thing inside a string that JSON forbids, and where. simdjson says only that there is
 * one. */
static fault string_fault(const char *text, size_t len, size_t *where)
{
    bool in_string = false;
    for (size_t at = 0, step; at < len; at += step) {
        fault found = fault::none;
        step = 1;
        if (text[at] == '"')
            in_string = !in_string;
        else if (in_string && text[at] == '\\')
            found = check_escape(text + at, &step);
        else if (in_string && (unsigned char)text[at] < 0x20)
            found = fault::control;
        *where = at;
        if (found != fault::none)
            return found;
    }
    return fault::none;
}

/* A few bytes of the text from `at`, fit for an error message. */
static const char *excerpt(const struct mr_json *json, size_t at, char out[64])
{
    size_t n = json->text.len - at;
    bool cut = n > 24;
    const char *dots = cut ? "..." : "";
    n = cut ? 24 : n;
    while (cut && n > 0 && ((unsigned char)json->text.ptr[at + n] & 0xc0) == 0x80)
        n--; /* not inside a character */
    char clean[32] = "";
    for (size_t i = 0; i < n; i++) {
        char c = json->text.ptr[at + i];
        clean[i] = (unsigned char)c < 0x20 || c == 0x7f ? ' ' : c;
    }
    if (!mr_text_utf8_valid(clean, n))
        for (size_t i = 0; i < n; i++)
            if ((unsigned char)clean[i] >= 0x80)
                clean[i] = '?';
    snprintf(out, 64, "%.*s%s", (int)n, clean, dots);
    return out;
}

static const char *what_is_wrong(simdjson::error_code code)
{
    switch (code) {
    case simdjson::NUMBER_ERROR:
        return "a number that is malformed or too large";
    case simdjson::STRING_ERROR:
        return "a malformed escape in a string";
    case simdjson::UNESCAPED_CHARS:
        return "a control character in a string that must be escaped";
    case simdjson::UNCLOSED_STRING:
        return "a string that is not closed";
    case simdjson::T_ATOM_ERROR:
    case simdjson::F_ATOM_ERROR:
    case simdjson::N_ATOM_ERROR:
        return "a word that is not true, false or null";
    default:
        return "a comma, colon, bracket, name or value is missing or too many";
    }
}

bool mr_json_explain(const struct mr_json *json, simdjson::error_code code, struct mr_error *err)
{
    char piece[64];
    const char *text = json->text.ptr;
    size_t len = json->text.len;
    if (code == simdjson::EMPTY)
        return mr_error_reject(err, "decode", "the value is %s: expected JSON",
                               len ? "blank" : "empty");
    if (code == simdjson::UTF8_ERROR) {
        size_t bad = bad_utf8_at(text, len);
        return mr_error_reject(err, "utf8", "the value is not UTF-8: byte 0x%02x at position %zu",
                               bad < len ? (unsigned)(unsigned char)text[bad] : 0u, bad);
    }
    if (code == simdjson::CAPACITY || code == simdjson::MEMALLOC)
        return mr_error_reject(err, "decode", "the value of %zu bytes is too large to parse", len);
    size_t at;
    if (code == simdjson::STRING_ERROR || code == simdjson::UNESCAPED_CHARS) {
        fault found = string_fault(text, len, &at);
        if (found == fault::surrogate)
            return mr_error_reject(err, "utf8",
                                   "a surrogate without its other half at position %zu: %s", at,
                                   excerpt(json, at, piece));
        if (found != fault::none)
            return mr_error_reject(err, "decode", "not JSON: %s, at position %zu: %s",
                                   what_is_wrong(code), at, excerpt(json, at, piece));
    }
    if (code == simdjson::DEPTH_ERROR)
        return mr_error_reject(err, "decode", "the value is nested more than %d levels deep",
                               MR_JSON_DEPTH_MAX);
    if (len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
        return mr_error_reject(err, "decode", "not JSON: it begins with a byte order mark");
    at = code == simdjson::UNCLOSED_STRING ? SIZE_MAX : broken_at(json);
    if (at == SIZE_MAX)
        return mr_error_reject(err, "decode", "not JSON: %s, in: %s", what_is_wrong(code),
                               excerpt(json, 0, piece));
    if (at == len)
        return mr_error_reject(err, "decode", "not JSON: %s, at the end (position %zu)",
                               what_is_wrong(code), at);
    return mr_error_reject(err, "decode", "not JSON: %s, at position %zu: %s", what_is_wrong(code),
                           at, excerpt(json, at, piece));
}
