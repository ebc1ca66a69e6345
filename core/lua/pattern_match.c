/*
 * pattern_match.c - see pattern_match.h: compiler and backtracking matcher.
 *
 * Runs inside the gate; owns nothing: programs lie on the C stack or in Lua's memory. The matcher
 * recurs only where there is a choice (a repetition); what captures were opened and closed behind
 * a choice is undone when the next one is tried. Must not know scripts. Held against Lua's own
 * functions by tests/spec/pattern_spec.lua; time: tests/spec/limits_spec.lua.
 */
#include "lua/pattern_match.h"

#include "lua/host.h"

#include <lauxlib.h>
#include <lua.h>
#include <string.h>

enum {
    DEPTH_MAX = 200, /* choices within choices */
    PORTION = 1000   /* steps at once to mr_host_work */
};

enum kind {
    LITERAL, /* these three match one character, and may be repeated */
    ANY,
    SET,
    GROUP_BEGIN,
    GROUP_END,
    PLACE,    /* () */
    AGAIN,    /* %1 */
    BALANCED, /* %bxy */
    FRONTIER, /* %f[set] */
    TEXT_END, /* $ */
    BROKEN,
    FINISH
};

enum wrong { ENDS_WITH_PERCENT, NO_BRACKET, NO_PAIR, NO_FRONTIER_SET };
static const char *const wrongs[] = {
    [ENDS_WITH_PERCENT] = "malformed pattern (ends with '%')",
    [NO_BRACKET] = "malformed pattern (missing ']')",
    [NO_PAIR] = "malformed pattern (missing arguments to '%b')",
    [NO_FRONTIER_SET] = "missing '[' after '%f' in pattern",
};

/* --- sets --- */

/* Classes as ranges, in pairs of first and last: those of the C locale. */
static const struct {
    char name;
    uint8_t n;
    uint8_t ranges[8];
} classes[] = {
    {'a', 4, {'A', 'Z', 'a', 'z'}},
    {'c', 4, {0, 31, 127, 127}},
    {'d', 2, {'0', '9'}},
    {'g', 2, {'!', '~'}},
    {'l', 2, {'a', 'z'}},
    {'p', 8, {'!', '/', ':', '@', '[', '`', '{', '~'}},
    {'s', 4, {'\t', '\r', ' ', ' '}},
    {'u', 2, {'A', 'Z'}},
    {'w', 6, {'0', '9', 'A', 'Z', 'a', 'z'}},
    {'x', 6, {'0', '9', 'A', 'F', 'a', 'f'}},
    {'z', 2, {0, 0}}, /* of old, before a pattern could hold a NUL */
};

static void add_range(struct mr_pattern_set *set, unsigned first, unsigned last)
{
    for (unsigned c = first; c <= last; c++)
        set->bits[c / 32] |= 1u << c % 32;
}

static void invert(struct mr_pattern_set *set)
{
    for (int i = 0; i < 8; i++)
        set->bits[i] = ~set->bits[i];
}

static bool has(const struct mr_pattern_set *set, unsigned char c)
{
    return set->bits[c / 32] >> c % 32 & 1;
}

/* What %name stands for: a class, all but a class (a capital), or the character itself. */
static void add_class(struct mr_pattern_set *set, uint8_t name)
{
    struct mr_pattern_set class = {{0}};
    bool capital = name >= 'A' && name <= 'Z';
    uint8_t small = capital ? (uint8_t)(name + 'a' - 'A') : name;
    size_t i = 0;
    while (i < sizeof classes / sizeof *classes && (uint8_t)classes[i].name != small)
        i++;
    if (i == sizeof classes / sizeof *classes) {
        add_range(set, name, name);
        return;
    }
    for (int r = 0; r < classes[i].n; r += 2)
        add_range(&class, classes[i].ranges[r], classes[i].ranges[r + 1]);
    if (capital)
        invert(&class);
    for (int word = 0; word < 8; word++)
        set->bits[word] |= class.bits[word];
}

/* --- the compiler --- */

struct compiler {
    const uint8_t *at, *end;
    struct mr_pattern_item *item; /* the next one */
    struct mr_pattern_set *sets;
    uint32_t n_sets;
};

static struct mr_pattern_item *put(struct compiler *in, enum kind kind)
{
    *in->item = (struct mr_pattern_item){.kind = (uint8_t)kind};
    return in->item++;
}

static void put_wrong(struct compiler *in, enum wrong what)
{
    put(in, BROKEN)->a = (uint8_t)what;
    in->at = in->end;
}

static struct mr_pattern_set *new_set(struct compiler *in, struct mr_pattern_item *item)
{
    item->set = in->n_sets++;
    memset(&in->sets[item->set], 0, sizeof *in->sets);
    return &in->sets[item->set];
}

/* The ']' of a set whose first member is at `at`: a ']' that comes first is a member. */
static const uint8_t *closing(const uint8_t *at, const uint8_t *end)
{
    for (bool first = true; at < end && (first || *at != ']'); first = false)
        at += *at == '%' && at + 1 < end ? 2 : 1;
    return at < end ? at : NULL;
}

/* in->at: behind the '['. */
static void put_set(struct compiler *in, enum kind kind)
{
    bool all_but = in->at < in->end && *in->at == '^';
    const uint8_t *at = in->at + all_but, *close = closing(at, in->end);
    if (!close) {
        put_wrong(in, NO_BRACKET);
        return;
    }
    struct mr_pattern_set *set = new_set(in, put(in, kind));
    while (at < close) {
        if (*at == '%') {
            add_class(set, at[1]);
            at += 2;
        } else if (at + 2 < close && at[1] == '-') {
            add_range(set, at[0], at[2]);
            at += 3;
        } else {
            add_range(set, *at, *at);
            at++;
        }
    }
    if (all_but)
        invert(set);
    in->at = close + 1;
}

/* in->at: behind the '%'. */
static void put_escape(struct compiler *in)
{
    if (in->at == in->end) {
        put_wrong(in, ENDS_WITH_PERCENT);
        return;
    }
    uint8_t c = *in->at++;
    size_t left = (size_t)(in->end - in->at);
    if (c >= '0' && c <= '9') {
        put(in, AGAIN)->a = c;
    } else if (c == 'b' && left < 2) {
        put_wrong(in, NO_PAIR);
    } else if (c == 'b') {
        struct mr_pattern_item *item = put(in, BALANCED);
        item->a = *in->at++;
        item->b = *in->at++;
    } else if (c == 'f' && (!left || *in->at != '[')) {
        put_wrong(in, NO_FRONTIER_SET);
    } else if (c == 'f') {
        in->at++;
        put_set(in, FRONTIER);
    } else {
        add_class(new_set(in, put(in, SET)), c);
    }
}

static void put_item(struct compiler *in)
{
    uint8_t c = *in->at++;
    if (c == '(' && in->at < in->end && *in->at == ')') {
        in->at++;
        put(in, PLACE);
    } else if (c == '(' || c == ')') {
        put(in, c == '(' ? GROUP_BEGIN : GROUP_END);
    } else if (c == '$' && in->at == in->end) {
        put(in, TEXT_END);
    } else if (c == '%') {
        put_escape(in);
    } else if (c == '[') {
        put_set(in, SET);
    } else {
        put(in, c == '.' ? ANY : LITERAL)->a = c;
    }
    if (in->item[-1].kind <= SET && in->at < in->end && *in->at && strchr("*+-?", *in->at))
        in->item[-1].repeat = *in->at++;
}

bool mr_pattern_compile(lua_State *L, struct mr_pattern *pattern, const char *text, size_t len)
{
    size_t n_sets = 0;
    for (size_t i = 0; i < len; i++)
        n_sets += text[i] == '%' || text[i] == '[';
    bool pushed = len + 1 > MR_PATTERN_ITEMS || n_sets > MR_PATTERN_SETS;
    pattern->items = pattern->own_items;
    pattern->sets = pattern->own_sets;
    if (pushed) {
        mr_host_work(L, (uint32_t)(len / 4));
        pattern->sets = lua_newuserdatauv(
            L, n_sets * sizeof *pattern->sets + (len + 1) * sizeof *pattern->items, 0);
        pattern->items = (struct mr_pattern_item *)(void *)(pattern->sets + n_sets);
    }
    struct compiler in = {.at = (const uint8_t *)text,
                          .end = (const uint8_t *)text + len,
                          .item = pattern->items,
                          .sets = pattern->sets};
    while (in.at < in.end)
        put_item(&in);
    put(&in, FINISH);
    return pushed;
}

/* --- the matcher --- */

static const char *run(struct mr_match *m, const char *s, const struct mr_pattern_item *item);

static void step(struct mr_match *m)
{
    if (++m->steps >= PORTION) {
        m->steps = 0;
        mr_host_work(m->L, PORTION);
    }
}

static bool matches_one(struct mr_match *m, const char *s, const struct mr_pattern_item *item)
{
    step(m);
    if (s >= m->text_end)
        return false;
    if (item->kind == LITERAL)
        return (uint8_t)*s == item->a;
    return item->kind == ANY || has(&m->pattern->sets[item->set], (unsigned char)*s);
}

/* What follows, tried from s on. If it fails, captures are as they were. */
static const char *choose(struct mr_match *m, const char *s, const struct mr_pattern_item *next)
{
    int n_captures = m->n_captures, n_closed = m->n_closed;
    const char *end = run(m, s, next);
    if (!end) {
        while (m->n_closed > n_closed)
            m->captures[m->closed[--m->n_closed]].len = MR_CAPTURE_OPEN;
        m->n_captures = n_captures;
    }
    return end;
}

/* An item with a suffix. *rest: a last choice is left, the text goes on where is returned; else
 * that is the end of everything, or NULL. */
static const char *repeated(struct mr_match *m, const char *s, const struct mr_pattern_item *item,
                            bool *rest)
{
    const char *end = NULL, *least = s + (item->repeat == '+');
    *rest = false;
    if (item->repeat == '-') {
        while (!(end = choose(m, s, item + 1)) && matches_one(m, s, item))
            s++;
        return end;
    }
    bool once = item->repeat == '?';
    while (!(once && s > least) && matches_one(m, s, item))
        s++;
    for (; s > least && !end; s--)
        end = choose(m, s, item + 1);
    *rest = !end && s == least;
    return end ? end : s == least ? s : NULL;
}

static const char *balanced(struct mr_match *m, const char *s, char open, char close)
{
    size_t depth = 0;
    if (s == m->text_end || *s != open)
        return NULL;
    for (; s < m->text_end; s++) {
        step(m);
        /* where both are the same character, the next one closes */
        if (*s == close && depth > 0) {
            if (--depth == 0)
                return s + 1;
        } else if (*s == open) {
            depth++;
        }
    }
    return NULL;
}

static bool at_frontier(struct mr_match *m, const char *s, const struct mr_pattern_item *item)
{
    const struct mr_pattern_set *set = &m->pattern->sets[item->set];
    unsigned char before = s > m->text ? (unsigned char)s[-1] : 0;
    unsigned char here = s < m->text_end ? (unsigned char)*s : 0;
    return has(set, here) && !has(set, before);
}

/* The text of a capture once more. That of a position fits nowhere. */
static const char *again(struct mr_match *m, const char *s, int digit)
{
    int i = digit - '1';
    if (i < 0 || i >= m->n_captures || m->captures[i].len == MR_CAPTURE_OPEN)
        luaL_error(m->L, "invalid capture index %%%d", i + 1);
    const struct mr_capture *capture = &m->captures[i];
    bool same = capture->len >= 0 && m->text_end - s >= capture->len &&
                memcmp(capture->from, s, (size_t)capture->len) == 0;
    return same ? s + capture->len : NULL;
}

static void open_group(struct mr_match *m, const char *s, ptrdiff_t len)
{
    if (m->n_captures == MR_PATTERN_CAPTURES)
        luaL_error(m->L, "too many captures");
    m->captures[m->n_captures++] = (struct mr_capture){s, len};
}

/* Closes the innermost group that is open. */
static void close_group(struct mr_match *m, const char *s)
{
    int i = m->n_captures - 1;
    while (i >= 0 && m->captures[i].len != MR_CAPTURE_OPEN)
        i--;
    if (i < 0)
        luaL_error(m->L, "invalid pattern capture");
    m->captures[i].len = s - m->captures[i].from;
    m->closed[m->n_closed++] = (uint8_t)i;
}

/* One item without a suffix: where the text goes on, or NULL. */
static const char *simple(struct mr_match *m, const char *s, const struct mr_pattern_item *item)
{
    switch ((enum kind)item->kind) {
    case LITERAL:
    case ANY:
    case SET:
        return matches_one(m, s, item) ? s + 1 : NULL;
    case GROUP_BEGIN:
        open_group(m, s, MR_CAPTURE_OPEN);
        return s;
    case PLACE:
        open_group(m, s, MR_CAPTURE_POSITION);
        return s;
    case GROUP_END:
        close_group(m, s);
        return s;
    case AGAIN:
        return again(m, s, item->a);
    case BALANCED:
        return balanced(m, s, (char)item->a, (char)item->b);
    case FRONTIER:
        return at_frontier(m, s, item) ? s : NULL;
    case TEXT_END:
        return s == m->text_end ? s : NULL;
    case BROKEN:
        luaL_error(m->L, "%s", wrongs[item->a]);
        break;
    case FINISH:
        break;
    }
    return s;
}

static const char *run(struct mr_match *m, const char *s, const struct mr_pattern_item *item)
{
    bool rest = true;
    if (m->depth++ == DEPTH_MAX)
        luaL_error(m->L, "pattern too complex");
    for (; s && rest && item->kind != FINISH; item++) {
        step(m);
        s = item->repeat ? repeated(m, s, item, &rest) : simple(m, s, item);
    }
    m->depth--;
    return s;
}

void mr_match_begin(struct mr_match *m, lua_State *L, const struct mr_pattern *pattern,
                    const char *text, size_t len)
{
    m->L = L;
    m->pattern = pattern;
    m->text = text;
    m->text_end = text + len;
    m->steps = 0;
}

const char *mr_match_at(struct mr_match *m, const char *s)
{
    m->n_captures = m->n_closed = 0;
    m->depth = 0;
    return run(m, s, m->pattern->items);
}
