/*
 * reads.c - Lua 5.4's instructions of one function, looked through once, at load.
 *
 * Inside the gate. Owns nothing. It is shown the function by lua_dump, which is Lua's own way out;
 * what is not as Lua 5.4 writes it is not understood, and then the answer is no. The first argument
 * is register 0: an instruction that could touch that register in another way than to read a field
 * of it is a no, and so is a function that holds other functions, which could capture it. Must not
 * know messages. Tests: tests/unit/test_script.c, tests/spec/glance_spec.lua.
 */
#include "lua/reads.h"

#include "base/buf.h"

#include <lua.h>
#include <stdlib.h>

/* --- the bytes of lua_dump --- */

struct reader {
    const char *at, *end;
    bool failed;
};

static const char *take(struct reader *r, size_t len)
{
    if (r->failed || (size_t)(r->end - r->at) < len) {
        r->failed = true;
        return NULL;
    }
    const char *from = r->at;
    r->at += len;
    return from;
}

static unsigned take_byte(struct reader *r)
{
    const char *byte = take(r, 1);
    return byte ? (unsigned char)*byte : 0;
}

/* Seven bits a byte, the last one marked. */
static size_t take_size(struct reader *r)
{
    size_t size = 0;
    for (unsigned byte = 0; !r->failed && !(byte & 0x80);) {
        byte = take_byte(r);
        if (size >> 56)
            r->failed = true;
        size = size << 7 | (byte & 0x7f);
    }
    return r->failed ? 0 : size;
}

/* A size of 0 is no string at all. */
static struct mr_bytes take_string(struct reader *r)
{
    struct mr_bytes text = {NULL, take_size(r)};
    if (text.len > 0)
        text.ptr = take(r, --text.len);
    return text;
}

static bool take_header(struct reader *r)
{
    static const char start[] = "\x1bLua\x54\x00\x19\x93\r\n\x1a\n\x04\x08\x08";
    const lua_Integer an_integer = 0x5678;
    const lua_Number a_number = 370.5;
    const char *head = take(r, sizeof start - 1);
    const char *integer = take(r, sizeof an_integer), *number = take(r, sizeof a_number);
    take_byte(r); /* upvalues */
    return !r->failed && memcmp(head, start, sizeof start - 1) == 0 &&
           memcmp(integer, &an_integer, sizeof an_integer) == 0 &&
           memcmp(number, &a_number, sizeof a_number) == 0;
}

/* --- instructions --- */

/*
 * Which operands of an instruction are registers, in the order of Lua 5.4's opcodes: a: A. b: A, B.
 * c: A, B, C. k: these, but C may be a constant. s: A and such a C. t: such a C. n: none. x: not
 * understood. What touches a run of registers (CALL) begins at A: never at 0 when A is another.
 */
static const char kinds[] =
    "baaaaaaa"  /* MOVE LOADI LOADF LOADK LOADKX LOADFALSE LFALSESKIP LOADTRUE */
    "aaaa"      /* LOADNIL GETUPVAL SETUPVAL GETTABUP */
    "cba"       /* GETTABLE GETI; GETFIELD, of which B may be 0 */
    "tkss"      /* SETTABUP SETTABLE SETI SETFIELD */
    "ak"        /* NEWTABLE SELF */
    "bbbbbbbb"  /* ADDI ADDK SUBK MULK MODK POWK DIVK IDIVK */
    "bbbbb"     /* BANDK BORK BXORK SHRI SHLI */
    "ccccccc"   /* ADD SUB MUL MOD POW DIV IDIV */
    "ccccc"     /* BAND BOR BXOR SHL SHR */
    "baabbbb"   /* MMBIN MMBINI MMBINK UNM BNOT NOT LEN */
    "aaan"      /* CONCAT CLOSE TBC JMP */
    "bbbaaaaaa" /* EQ LT LE EQK EQI LTI LEI GTI GEI */
    "ab"        /* TEST TESTSET */
    "aaana"     /* CALL TAILCALL RETURN RETURN0 RETURN1 */
    "aaaaaa"    /* FORLOOP FORPREP TFORPREP TFORCALL TFORLOOP SETLIST */
    "xxxn";     /* CLOSURE VARARG VARARGPREP EXTRAARG */
enum {
    MOVE = 0,
    LFALSESKIP = 6,
    LOADNIL = 8,
    SETUPVAL = 10,
    GETTABUP,
    GETTABLE,
    GETFIELD = 14, /* the last one that only gets a value */
    SETTABLE = 16,
    SETFIELD = 18,
    NEWTABLE = 19,
    RETURN = 70,
    RETURN0,
    RETURN1,
    SETLIST = 78,
    EXTRAARG = 82,
    N_OPCODES = sizeof kinds - 1
};
_Static_assert(N_OPCODES == 83, "the opcodes of Lua 5.4");

struct instruction {
    unsigned op, a, b, c;
    bool k;
};

static struct instruction decode(const char *code, size_t i)
{
    uint32_t word;
    memcpy(&word, code + i * sizeof word, sizeof word);
    return (struct instruction){.op = word & 0x7f,
                                .a = word >> 7 & 0xff,
                                .k = word >> 15 & 1,
                                .b = word >> 16 & 0xff,
                                .c = word >> 24};
}

/* May the instruction touch register 0, other than to read a field of it? */
static bool touches(struct instruction in)
{
    bool a = in.a == 0, b = in.b == 0, c = in.c == 0;
    switch (in.op < N_OPCODES ? kinds[in.op] : 'x') {
    case 'n':
        return false;
    case 'a':
        return a;
    case 'b':
        return a || b;
    case 'c':
        return a || b || c;
    case 'k':
        return a || b || (c && !in.k);
    case 's':
        return a || (c && !in.k);
    case 't':
        return c && !in.k;
    default:
        return true;
    }
}

/* --- the function --- */

static bool add(struct mr_reads *reads, struct mr_bytes name)
{
    if (!name.ptr || memchr(name.ptr, '\0', name.len))
        return false;
    for (size_t i = 0; i < reads->n; i++)
        if (strlen(reads->names[i]) == name.len && memcmp(reads->names[i], name.ptr, name.len) == 0)
            return true;
    if (reads->n == MR_READS_MAX)
        return false;
    reads->names[reads->n++] = mr_strndup(name.ptr, name.len);
    return true;
}

/* The constant `wanted` of those that come next, if it is a string. Reads them all. */
static struct mr_bytes take_constants(struct reader *r, size_t wanted)
{
    struct mr_bytes found = {NULL, 0};
    size_t n = take_size(r);
    for (size_t i = 0; i < n && !r->failed; i++) {
        struct mr_bytes text = {NULL, 0};
        switch (take_byte(r)) {
        case 0x00: /* nil, false, true */
        case 0x01:
        case 0x11:
            break;
        case 0x03: /* integer, float */
        case 0x13:
            take(r, 8);
            break;
        case 0x04: /* strings */
        case 0x14:
            text = take_string(r);
            break;
        default:
            r->failed = true;
        }
        if (i == wanted)
            found = text;
    }
    return found;
}

/* A function's instructions, and where its constants stand. */
struct body {
    const char *code;
    size_t n;
    struct reader constants;
};

/* False: not understood, or without a first argument, or with functions within. */
static bool take_body(struct reader *r, struct body *body)
{
    if (!take_header(r))
        return false;
    take_string(r); /* source; lines */
    take_size(r);
    take_size(r);
    unsigned parameters = take_byte(r), is_vararg = take_byte(r);
    take_byte(r); /* registers */
    body->n = take_size(r);
    if (r->failed || parameters == 0 || is_vararg || body->n > SIZE_MAX / 4)
        return false;
    body->code = take(r, body->n * 4);
    body->constants = *r;
    take_constants(r, SIZE_MAX);
    size_t upvalues = take_size(r);
    for (size_t i = 0; i < upvalues && !r->failed; i++)
        take(r, 3);
    return take_size(r) == 0 && !r->failed;
}

static bool look_through(const struct body *body, struct mr_reads *reads)
{
    for (size_t i = 0; i < body->n; i++) {
        struct instruction in = decode(body->code, i);
        if (touches(in))
            return false;
        if (in.op != GETFIELD || in.b != 0)
            continue;
        struct reader again = body->constants;
        if (!add(reads, take_constants(&again, in.c)))
            return false;
    }
    return true;
}

/* What a register holds: another value; the argument; a table that was made here and put into
 * another, or what was read out of a table that was made here, at any depth: it may be that one, or
 * the argument. From OWN on: a table that was made here, and that no other table holds. */
enum { OTHER, ARGUMENT, UNSURE, OWN };

struct straight {
    bool changes; /* or keeps the argument, or is not understood */
    bool quiet;   /* runs nothing of the script's, not even an __index */
    bool makes;   /* the first result was made here, and no table that was made here holds it */
    size_t held[256];
};

/* Somebody may come to it through another table from now on. */
static void is_put(struct straight *s, unsigned where)
{
    size_t table = s->held[where];
    if (table < OWN)
        return;
    for (size_t i = 0; i < 256; i++)
        if (s->held[i] == table)
            s->held[i] = UNSURE;
}

/* Into a table that was made here, or it is a change. */
static bool put(struct straight *s, struct instruction in)
{
    if (s->held[in.a] < OWN)
        return false;
    if (in.op == SETLIST) {
        for (unsigned i = 1; i <= in.b; i++)
            is_put(s, (in.a + i) % 256);
        return in.b > 0;
    }
    if (in.op == SETTABLE) {
        s->quiet = s->quiet && s->held[in.b] == OTHER; /* a key: who it is could be told */
        is_put(s, in.b);
    }
    if (!in.k)
        is_put(s, in.c);
    return true;
}

/* A key would be given to an __index. */
static bool get(struct straight *s, struct instruction in)
{
    size_t from = in.op >= GETTABLE ? s->held[in.b] : OTHER;
    if (in.op == GETTABLE && s->held[in.c] != OTHER)
        return false;
    if (in.op == GETTABUP || (in.op >= GETTABLE && from != ARGUMENT && from < OWN))
        s->quiet = false;
    s->held[in.a] = from >= UNSURE ? UNSURE : OTHER;
    for (unsigned more = in.op == LOADNIL ? in.b : 0; more > 0; more--)
        s->held[(in.a + more) % 256] = OTHER;
    return true;
}

/*
 * Straight on, one instruction after the other, and nothing but: read, load, make a table, put
 * something into a table that was made here, return. No call, and nothing that could become one but
 * for a table's __index, which is given neither the argument nor what was made. What each register
 * holds is known at each step, since there are no jumps.
 */
static struct straight go_straight(const struct body *body)
{
    struct straight s = {.changes = true, .quiet = true, .held = {ARGUMENT}};
    for (size_t i = 0; i < body->n; i++) {
        struct instruction in = decode(body->code, i);
        bool fine = true;
        if ((in.op >= SETTABLE && in.op <= SETFIELD) || in.op == SETLIST)
            fine = put(&s, in);
        else if (in.op == MOVE)
            s.held[in.a] = s.held[in.b];
        else if (in.op <= GETFIELD && in.op != LFALSESKIP && in.op != SETUPVAL)
            fine = get(&s, in);
        else if (in.op == NEWTABLE)
            s.held[in.a] = OWN + i;
        else if (in.op == RETURN || in.op == RETURN0 || in.op == RETURN1) {
            bool has_result = in.op == RETURN1 || (in.op == RETURN && in.b != 1);
            s.makes = has_result && s.held[in.a] >= OWN;
            s.changes = false;
            break;
        } else
            fine = in.op == EXTRAARG;
        if (!fine)
            break;
    }
    return s;
}

static int collect(lua_State *L, const void *bytes, size_t len, void *to)
{
    (void)L;
    mr_buf_put(to, bytes, len);
    return 0;
}

/* Of the function on top; the body borrows the dump. */
static bool open_body(lua_State *L, struct mr_buf *dump, struct body *body)
{
    if (lua_iscfunction(L, -1) || lua_dump(L, collect, dump, 1) != 0)
        return false;
    struct reader r = {dump->ptr, dump->ptr + dump->len, false};
    return take_body(&r, body);
}

bool mr_reads_only(lua_State *L, struct mr_reads *reads)
{
    struct mr_buf dump = {0};
    struct body body;
    reads->n = 0;
    bool only = open_body(L, &dump, &body) && look_through(&body, reads);
    mr_buf_fini(&dump);
    if (!only)
        mr_reads_fini(reads);
    return only;
}

enum mr_leaves mr_reads_leaves(lua_State *L)
{
    struct mr_buf dump = {0};
    struct body body;
    struct mr_reads reads = {.n = 0};
    enum mr_leaves leaves = MR_LEAVES_NOT;
    if (open_body(L, &dump, &body)) {
        struct straight s = go_straight(&body);
        if (!s.changes)
            leaves = s.quiet ? MR_LEAVES_ALL : MR_LEAVES_IT;
        else if (look_through(&body, &reads))
            leaves = MR_LEAVES_IT;
    }
    mr_buf_fini(&dump);
    mr_reads_fini(&reads);
    return leaves;
}

bool mr_reads_makes(lua_State *L)
{
    struct mr_buf dump = {0};
    struct body body;
    bool makes = open_body(L, &dump, &body) && go_straight(&body).makes;
    mr_buf_fini(&dump);
    return makes;
}

void mr_reads_fini(struct mr_reads *reads)
{
    for (size_t i = 0; i < reads->n; i++)
        free(reads->names[i]);
    reads->n = 0;
}
