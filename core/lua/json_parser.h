/*
 * json_parser.h - what stands behind struct mr_json, shared by json.cc, json_error.cc and
 * json_lua.cc.
 *
 * For those alone: C++, so that a file in C sees nothing here.
 */
#ifndef MR_LUA_JSON_PARSER_H
#define MR_LUA_JSON_PARSER_H

#ifdef __cplusplus

extern "C" {
#include "lua/json.h"
}

#include <simdjson.h>

struct mr_json {
    simdjson::dom::parser parser;
    simdjson::ondemand::parser picker; /* of a second walk, over the text */
    simdjson::dom::element root;
    struct mr_buf text; /* with SIMDJSON_PADDING behind */
};

/* json_error.cc: why the text was refused. Always false. */
bool mr_json_explain(const struct mr_json *json, simdjson::error_code code, struct mr_error *err);

#endif

#endif
