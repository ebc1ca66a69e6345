/*
 * json.cc - the parser: text to simdjson's DOM, and from there to text.
 *
 * One thread. Owns the parser and a padded copy of the text. Only the files json*.cc are C++. Must
 * not know messages, scripts or Lua: json_lua.cc. Tests: tests/unit/test_json.c,
 * tests/spec/json_spec.lua.
 */
#include "lua/json_parser.h"

#include <new>

namespace ondemand = simdjson::ondemand;

struct mr_json *mr_json_new(void)
{
    struct mr_json *json = new (std::nothrow) mr_json;
    mr_assert(json);
    mr_buf_init(&json->text);
    /* One level more than we allow: simdjson does not count an empty container. */
    simdjson::error_code failed = json->parser.allocate(4096, MR_JSON_DEPTH_MAX + 1);
    mr_assert(!failed);
    return json;
}

void mr_json_free(struct mr_json *json)
{
    if (!json)
        return;
    mr_buf_fini(&json->text);
    delete json;
}

bool mr_json_parse(struct mr_json *json, struct mr_bytes text, struct mr_error *err)
{
    mr_buf_reset(&json->text);
    mr_buf_reserve(&json->text, text.len + simdjson::SIMDJSON_PADDING);
    mr_buf_put(&json->text, text.ptr, text.len);
    memset(json->text.ptr + text.len, 0, simdjson::SIMDJSON_PADDING);
    simdjson::error_code code =
        json->parser.parse(json->text.ptr, json->text.len, false).get(json->root);
    return code == simdjson::SUCCESS || mr_json_explain(json, code, err);
}

/* --- to text --- */

/* Goes down the path; the value may be of any type. */
static simdjson::error_code find(ondemand::value value, std::string_view path,
                                 struct mr_buf *out) noexcept
{
    for (;;) {
        size_t dot = path.find('.');
        ondemand::object object;
        SIMDJSON_TRY(value.get_object().get(object));
        SIMDJSON_TRY(object.find_field_unordered(path.substr(0, dot)).get(value));
        if (dot == std::string_view::npos)
            break;
        path.remove_prefix(dot + 1);
    }
    ondemand::json_type type;
    SIMDJSON_TRY(value.type().get(type));
    std::string_view text;
    if (type == ondemand::json_type::null)
        return simdjson::NO_SUCH_FIELD;
    bool is_string = type == ondemand::json_type::string;
    SIMDJSON_TRY((is_string ? value.get_string() : simdjson::to_json_string(value)).get(text));
    while (!is_string && !text.empty() && strchr(" \t\r\n", text.back()))
        text.remove_suffix(1); /* simdjson's token goes up to the next one */
    mr_buf_put(out, text.data(), text.size());
    return simdjson::SUCCESS;
}

bool mr_json_pick(struct mr_json *json, const char *path, struct mr_buf *out)
{
    size_t len = json->text.len;
    simdjson::padded_string_view text(json->text.ptr, len, len + simdjson::SIMDJSON_PADDING);
    ondemand::document doc;
    ondemand::value root;
    return json->picker.iterate(text).get(doc) == simdjson::SUCCESS &&
           doc.get_value().get(root) == simdjson::SUCCESS &&
           find(root, path, out) == simdjson::SUCCESS;
}

using member_fn = void (*)(void *arg, struct mr_bytes name, enum mr_json_kind kind,
                           struct mr_bytes text);

static enum mr_json_kind kind_of(ondemand::json_type type, std::string_view text) noexcept
{
    switch (type) {
    case ondemand::json_type::null:
        return MR_JSON_NULL;
    case ondemand::json_type::boolean:
        return MR_JSON_BOOL;
    case ondemand::json_type::string:
        return MR_JSON_STRING;
    case ondemand::json_type::object:
        return MR_JSON_OBJECT;
    case ondemand::json_type::array:
        return MR_JSON_ARRAY;
    default:
        return text.find_first_of(".eE") == text.npos ? MR_JSON_INT : MR_JSON_NUMBER;
    }
}

static simdjson::error_code tell(ondemand::value value, std::string_view name, member_fn member,
                                 void *arg) noexcept
{
    ondemand::json_type type;
    std::string_view text;
    SIMDJSON_TRY(value.type().get(type));
    bool is_string = type == ondemand::json_type::string;
    SIMDJSON_TRY((is_string ? value.get_string() : simdjson::to_json_string(value)).get(text));
    while (!is_string && !text.empty() && strchr(" \t\r\n", text.back()))
        text.remove_suffix(1); /* simdjson's token goes up to the next one */
    member(arg, {name.data(), name.size()}, kind_of(type, text), {text.data(), text.size()});
    return simdjson::SUCCESS;
}

static simdjson::error_code each(ondemand::document &document, member_fn member, void *arg) noexcept
{
    ondemand::json_type type;
    SIMDJSON_TRY(document.type().get(type));
    if (type == ondemand::json_type::array) {
        ondemand::array array;
        SIMDJSON_TRY(document.get_array().get(array));
        for (auto item : array) {
            ondemand::value value;
            SIMDJSON_TRY(item.get(value));
            SIMDJSON_TRY(tell(value, {}, member, arg));
        }
        return simdjson::SUCCESS;
    }
    ondemand::object object;
    SIMDJSON_TRY(document.get_object().get(object));
    for (auto item : object) {
        ondemand::field field;
        std::string_view name;
        SIMDJSON_TRY(std::move(item).get(field));
        SIMDJSON_TRY(field.unescaped_key().get(name));
        ondemand::value value = field.value();
        SIMDJSON_TRY(tell(value, name, member, arg));
    }
    return simdjson::SUCCESS;
}

bool mr_json_each(struct mr_json *json, member_fn member, void *arg)
{
    ondemand::document document;
    if (json->picker
            .iterate(json->text.ptr, json->text.len, json->text.len + simdjson::SIMDJSON_PADDING)
            .get(document))
        return false;
    return !each(document, member, arg);
}
