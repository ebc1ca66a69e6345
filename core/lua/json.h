/*
 * json.h - JSON text to Lua values (simdjson behind it).
 *
 * Two steps, so that no longjmp crosses the parser: mr_json_parse knows no Lua; mr_json_push builds
 * the value and may raise for memory only. Objects become tables, arrays tables with the array
 * metatable (so that an empty one stays an array), null the light userdata NULL, which is
 * cjson.null too. Integers are int64; what is written as a float stays one; of doubled names the
 * last wins. At most 64 levels deep. One decoder a state, same thread. Without a state:
 * mr_json_pick.
 */
#ifndef MR_LUA_JSON_H
#define MR_LUA_JSON_H

#include "base/buf.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { MR_JSON_DEPTH_MAX = 64 };

struct lua_State;
struct mr_json;

struct mr_json *mr_json_new(void);
void mr_json_free(struct mr_json *json);

/* Copies the text. False: MR_REJECT, class decode or utf8, with the position where it is known. */
MR_MUSTCHECK bool mr_json_parse(struct mr_json *json, struct mr_bytes text, struct mr_error *err);

/* Pushes what was parsed last. False (an integer beyond int64): pushes nothing. Inside the gate. */
MR_MUSTCHECK bool mr_json_push(struct mr_json *json, struct lua_State *L, struct mr_error *err);

/* The value at a path of names ("payload.client_id") in what was parsed last, appended as text:
 * strings without quotes and escapes, all else as it was written, digit by digit. Of doubled names
 * the first. False: there is none, or it is null; nothing is appended. Needs no Lua. */
MR_MUSTCHECK bool mr_json_pick(struct mr_json *json, const char *path, struct mr_buf *out);

/* What a member is, and how `text` shows it: a string without quotes and escapes, a number as it
 * was written, an object or array as JSON. */
enum mr_json_kind {
    MR_JSON_NULL,
    MR_JSON_BOOL,
    MR_JSON_INT,    /* without a point or exponent; any size */
    MR_JSON_NUMBER, /* any other */
    MR_JSON_STRING,
    MR_JSON_OBJECT,
    MR_JSON_ARRAY
};
/* Calls `member` for each member of the object (or item of the array, without a name) that was
 * parsed last, in order, doubled names each time. Texts live until it returns. False: it is neither
 * object nor array. Needs no Lua. */
MR_MUSTCHECK bool mr_json_each(struct mr_json *json,
                               void (*member)(void *arg, struct mr_bytes name,
                                              enum mr_json_kind kind, struct mr_bytes text),
                               void *arg);

/* Some members of an object, found without Lua. */
enum { MR_JSON_LOOKS = 64 };
struct mr_json_look {
    const char *name; /* set once, with its length: borrowed */
    size_t name_len;
    bool found;
    enum mr_json_kind kind; /* and the value, of a scalar: */
    bool is_true;
    int64_t i;            /* MR_JSON_INT */
    double f;             /* MR_JSON_NUMBER */
    struct mr_bytes text; /* MR_JSON_STRING; lives until the next parse */
};
struct mr_json_looks {
    struct mr_json_look list[MR_JSON_LOOKS];
    size_t n;
    uint8_t places[MR_JSON_LOOKS]; /* which of them the member at that place was, the last time */
};
/* Looks for them in what was parsed last; of doubled names the last. False: it is no object, or
 * mr_json_push would refuse it. Needs no Lua. */
MR_MUSTCHECK bool mr_json_find(const struct mr_json *json, struct mr_json_looks *looks);
/* Pushes what a look has found, as mr_json_push would: a scalar; nil if nothing was found. */
void mr_json_push_look(struct lua_State *L, const struct mr_json_look *look);

/* The metatable of arrays; made on first use. */
void mr_json_push_array_meta(struct lua_State *L);
/* The table at `index` is an array: it has that metatable, or t[1] is not nil. */
bool mr_json_is_array(struct lua_State *L, int index);

#ifdef __cplusplus
}
#endif

#endif
