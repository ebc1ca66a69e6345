/*
 * pattern_match.h - Lua's patterns, made into a program once and then matched.
 *
 * The language is that of Lua's manual, section 6.4.1. A pattern becomes a list of items; what
 * stands for one character out of many is a set of 256 bits. What is malformed becomes an item,
 * too: it raises when the match comes to it and not before, as in Lua. Matching counts its steps
 * (host.h, mr_host_work). Inside the gate.
 */
#ifndef MR_LUA_PATTERN_MATCH_H
#define MR_LUA_PATTERN_MATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct lua_State;

enum { MR_PATTERN_CAPTURES = 32, MR_PATTERN_ITEMS = 48, MR_PATTERN_SETS = 6 };

struct mr_pattern_item {
    uint8_t kind, repeat, a, b; /* a, b: characters, the digit of a capture, or what is wrong */
    uint32_t set;
};

struct mr_pattern_set {
    uint32_t bits[8];
};

/* Short ones have their room here; of longer ones a block of Lua's memory holds the items. */
struct mr_pattern {
    struct mr_pattern_item *items;
    struct mr_pattern_set *sets;
    struct mr_pattern_item own_items[MR_PATTERN_ITEMS];
    struct mr_pattern_set own_sets[MR_PATTERN_SETS];
};

enum { MR_CAPTURE_OPEN = -1, MR_CAPTURE_POSITION = -2 };

struct mr_capture {
    const char *from;
    ptrdiff_t len; /* or one of the two above */
};

struct mr_match {
    struct lua_State *L;
    const struct mr_pattern *pattern;
    const char *text, *text_end;
    int depth;
    uint32_t steps;
    int n_captures, n_closed;
    struct mr_capture captures[MR_PATTERN_CAPTURES];
    uint8_t closed[MR_PATTERN_CAPTURES]; /* which were closed, in this order: to open them again */
};

/* True: a block that must live as long as the pattern was pushed onto the stack. */
bool mr_pattern_compile(struct lua_State *L, struct mr_pattern *pattern, const char *text,
                        size_t len);

void mr_match_begin(struct mr_match *match, struct lua_State *L, const struct mr_pattern *pattern,
                    const char *text, size_t len);
/* Where the match ends that begins at `s`; NULL: there is none. Raises for a malformed pattern. */
const char *mr_match_at(struct mr_match *match, const char *s);

#endif
