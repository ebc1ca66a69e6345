/*
 * json_look.cc - some members of what was parsed, without making Lua values of the rest.
 *
 * One thread. Owns nothing. The rest is not skipped unseen: the parser has held all of it against
 * RFC 8259, and what mr_json_push would refuse (an integer beyond int64, one level too many) is
 * looked for in all of it. Must not know messages, scripts or Lua. Tests: tests/unit/test_json.c,
 * tests/spec/glance_spec.lua.
 */
#include "lua/json_parser.h"

namespace dom = simdjson::dom;

/* Could it be pushed? `depth`: of what it stands in. */
static bool sound(dom::element value, int depth) noexcept
{
    switch (value.type()) {
    case dom::element_type::UINT64:
        return false;
    case dom::element_type::ARRAY: {
        dom::array array = value.get_array().value_unsafe();
        if (depth >= MR_JSON_DEPTH_MAX)
            return false;
        for (dom::element item : array)
            if (!sound(item, depth + 1))
                return false;
        return true;
    }
    case dom::element_type::OBJECT: {
        dom::object object = value.get_object().value_unsafe();
        if (depth >= MR_JSON_DEPTH_MAX)
            return false;
        for (dom::key_value_pair field : object)
            if (!sound(field.value, depth + 1))
                return false;
        return true;
    }
    default:
        return true;
    }
}

/* False: it could not be pushed. */
static bool take(dom::element value, struct mr_json_look *look) noexcept
{
    look->found = true;
    switch (value.type()) {
    case dom::element_type::STRING: {
        std::string_view text = value.get_string().value_unsafe();
        look->kind = MR_JSON_STRING;
        look->text = {text.data(), text.size()};
        break;
    }
    case dom::element_type::INT64:
        look->kind = MR_JSON_INT;
        look->i = value.get_int64().value_unsafe();
        break;
    case dom::element_type::DOUBLE:
        look->kind = MR_JSON_NUMBER;
        look->f = value.get_double().value_unsafe();
        break;
    case dom::element_type::BOOL:
        look->kind = MR_JSON_BOOL;
        look->is_true = value.get_bool().value_unsafe();
        break;
    case dom::element_type::ARRAY:
        look->kind = MR_JSON_ARRAY;
        return sound(value, 1);
    case dom::element_type::OBJECT:
        look->kind = MR_JSON_OBJECT;
        return sound(value, 1);
    case dom::element_type::UINT64:
        return false;
    case dom::element_type::NULL_VALUE:
        look->kind = MR_JSON_NULL;
    }
    return true;
}

static bool is_named(const struct mr_json_look *look, std::string_view name)
{
    return look->name_len == name.size() && memcmp(look->name, name.data(), name.size()) == 0;
}

/* Which look the member is, or looks->n. Messages repeat their order, too. */
static size_t which(struct mr_json_looks *looks, size_t place, std::string_view name)
{
    size_t guess = place < MR_JSON_LOOKS ? looks->places[place] : 0, i = 0;
    if (guess < looks->n && is_named(&looks->list[guess], name))
        return guess;
    while (i < looks->n && !is_named(&looks->list[i], name))
        i++;
    if (place < MR_JSON_LOOKS && i < looks->n)
        looks->places[place] = (uint8_t)i;
    return i;
}

bool mr_json_find(const struct mr_json *json, struct mr_json_looks *looks)
{
    dom::object object;
    if (json->root.get_object().get(object))
        return false;
    for (size_t i = 0; i < looks->n; i++)
        looks->list[i].found = false;
    size_t place = 0;
    for (dom::key_value_pair field : object) {
        size_t i = which(looks, place++, field.key);
        struct mr_json_look none;
        if (!take(field.value, i < looks->n ? &looks->list[i] : &none))
            return false;
    }
    return true;
}
