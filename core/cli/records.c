/*
 * records.c - lines of text as source messages.
 *
 * One thread. Owns two JSON parsers and the memory of the line at hand. Must not know what a
 * message is for. Tests: tests/spec/try_spec.lua.
 */
#include "cli/records.h"

#include <stdlib.h>

void mr_records_init(struct mr_records *records, bool as_records, const char *topic)
{
    *records = (struct mr_records){
        .records = as_records, .topic = topic, .json = mr_json_new(), .inner = mr_json_new()};
    mr_arena_init(&records->arena);
}

void mr_records_fini(struct mr_records *records)
{
    mr_json_free(records->json);
    mr_json_free(records->inner);
    mr_arena_fini(&records->arena);
}

static bool is(struct mr_bytes name, const char *text)
{
    return name.len == strlen(text) && memcmp(name.ptr, text, name.len) == 0;
}

static struct mr_bytes keep(struct mr_records *records, enum mr_json_kind kind,
                            struct mr_bytes text)
{
    if (kind == MR_JSON_NULL)
        return (struct mr_bytes){NULL, 0};
    char *copy = mr_arena_alloc(&records->arena, text.len + 1);
    memcpy(copy, text.ptr, text.len);
    copy[text.len] = '\0';
    return (struct mr_bytes){copy, text.len};
}

/* The members of an object; or of a list: [name, value], ... or, as kcat has it, name, value, ...
 */
static void take_header(void *arg, struct mr_bytes name, enum mr_json_kind kind,
                        struct mr_bytes text)
{
    struct mr_records *records = arg;
    struct mr_record *rec = records->rec;
    struct mr_bytes value = keep(records, kind, text);
    size_t n = rec->n_headers;
    struct mr_header *last = n ? &records->headers[n - 1] : NULL;
    if (!name.ptr && last && !last->value.ptr && last->value.len) {
        last->value = value; /* the second of a pair */
        return;
    }
    if (n == MR_RECORDS_HEADERS_MAX) {
        records->problem = "more than 256 headers";
        return;
    }
    records->headers[n].name = name.ptr ? keep(records, MR_JSON_STRING, name) : value;
    /* ptr NULL, len 1: the value of a list's pair comes next */
    records->headers[n].value = name.ptr ? value : (struct mr_bytes){NULL, 1};
    rec->headers = records->headers;
    rec->n_headers++;
}

static void take_pair(void *arg, struct mr_bytes name, enum mr_json_kind kind, struct mr_bytes text)
{
    struct mr_records *records = arg;
    struct mr_json *json = records->inner;
    struct mr_error err;
    if (kind != MR_JSON_ARRAY) {
        take_header(arg, name, kind, text);
        return;
    }
    records->inner = mr_json_new(); /* `json` is being walked */
    if (!mr_json_parse(records->inner, text, &err) ||
        !mr_json_each(records->inner, take_header, records))
        records->problem = "a header is not a pair of name and value";
    mr_json_free(records->inner);
    records->inner = json;
}

static void take_headers(struct mr_records *records, enum mr_json_kind kind, struct mr_bytes text)
{
    struct mr_error err;
    if (kind == MR_JSON_NULL)
        return;
    if ((kind != MR_JSON_OBJECT && kind != MR_JSON_ARRAY) ||
        !mr_json_parse(records->inner, text, &err) ||
        !mr_json_each(records->inner, take_pair, records))
        records->problem = "headers are an object, or a list of pairs";
}

static int64_t integer(struct mr_records *records, enum mr_json_kind kind, struct mr_bytes text,
                       const char *problem)
{
    if (kind != MR_JSON_INT)
        records->problem = problem;
    return strtoll(keep(records, MR_JSON_INT, text).ptr, NULL, 10);
}

static void take_member(void *arg, struct mr_bytes name, enum mr_json_kind kind,
                        struct mr_bytes text)
{
    struct mr_records *records = arg;
    struct mr_record *rec = records->rec;
    if (is(name, "value") || is(name, "payload"))
        rec->value = keep(records, kind, text);
    else if (is(name, "key"))
        rec->key = keep(records, kind, text);
    else if (is(name, "headers"))
        take_headers(records, kind, text);
    else if ((is(name, "timestamp") || is(name, "ts")) && kind != MR_JSON_NULL)
        rec->timestamp_ms =
            integer(records, kind, text, "the timestamp is a number of milliseconds");
    else if (is(name, "topic") && kind == MR_JSON_STRING)
        rec->topic = keep(records, kind, text).ptr;
    else if (is(name, "partition"))
        rec->partition = (int32_t)integer(records, kind, text, "the partition is a number");
    else if (is(name, "offset"))
        rec->offset = integer(records, kind, text, "the offset is a number");
}

bool mr_records_read(struct mr_records *records, struct mr_bytes line, size_t number,
                     struct mr_record *rec, struct mr_error *err)
{
    *rec = (struct mr_record){
        .topic = records->topic, .offset = (int64_t)number - 1, .timestamp_ms = -1, .value = line};
    if (!records->records)
        return true;
    rec->value = (struct mr_bytes){NULL, 0};
    mr_arena_reset(&records->arena);
    records->rec = rec;
    records->problem = NULL;
    size_t first = 0;
    while (first < line.len && line.ptr[first] && strchr(" \t", line.ptr[first]))
        first++;
    if (!mr_json_parse(records->json, line, err)) {
        err->action = MR_STOP;
        err->code = MR_EXIT_DATA;
        return mr_error_context(err, "line %zu", number);
    }
    if (line.ptr[first] != '{' || !mr_json_each(records->json, take_member, records))
        records->problem = "with --records each line is an object: {\"value\": ..., \"key\": ...}";
    for (size_t i = 0; i < rec->n_headers; i++)
        if (!records->headers[i].value.ptr)
            records->headers[i].value.len = 0;
    return !records->problem ||
           mr_error_set(err, MR_STOP, MR_EXIT_DATA, "line %zu: %s", number, records->problem);
}
