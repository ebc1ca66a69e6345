/*
 * host.c - the Lua state, its allocator, its clock, and the only lua_pcall.
 *
 * One thread a host. Owns the lua_State. Must not know what scripts or configurations are:
 * sandbox.c says what is in the state, script.c and config.c what is run. The hook stays set for
 * the life of the state; a call only resets the counters, and the clock is not read before a
 * thousand instructions have passed, so that a short call costs nothing. Tests:
 * tests/spec/limits_spec.lua, tests/unit/test_script.c.
 */
#include "lua/host.h"

#include "base/clock.h"

#include <lauxlib.h>
#include <lua.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    HOOK_INSTRUCTIONS = 1000,
    HOOK_BYTES = 64 * 1024 * 1024, /* looked through from one hook to the next, at most */
    LONG_STRING = HOOK_BYTES / HOOK_INSTRUCTIONS,
    COPIED_MAX = 4 * 1024 * 1024 /* bytes made anew, after which the clock is looked at */
};

struct mr_host {
    lua_State *L;
    struct mr_host_limits limits;
    size_t used_bytes;
    /* of the call that runs: */
    unsigned ticks; /* how often the hook has fired */
    uint32_t work;  /* units since the last look at the clock */
    size_t copied;  /* bytes, likewise: an instruction may make a string of megabytes */
    /* Strings so long that an instruction may take as long as thousands: a number is read from one,
     * or two are compared. */
    struct long_string {
        void *at;
        size_t size;
    } * long_strings;
    size_t n_long_strings, cap_long_strings;
    size_t longest;  /* 0: none */
    int64_t mono_us; /* at the first tick */
    int64_t cpu_us;  /* at the second tick */
    bool expired;    /* sticky: the time is over */
    bool spent;      /* the state is not to be used again */
};

static void on_count(lua_State *L, lua_Debug *ar);

/* Instructions from one hook to the next. */
static int period(const struct mr_host *host)
{
    if (host->longest <= LONG_STRING)
        return HOOK_INSTRUCTIONS;
    return host->longest < HOOK_BYTES ? (int)(HOOK_BYTES / host->longest) : 1;
}

static void note_long_string(struct mr_host *host, void *at, size_t size)
{
    if (host->n_long_strings == host->cap_long_strings) {
        host->cap_long_strings = host->cap_long_strings * 2 + 8;
        host->long_strings =
            mr_realloc(host->long_strings, host->cap_long_strings * sizeof *host->long_strings);
    }
    host->long_strings[host->n_long_strings++] = (struct long_string){at, size};
    if (size > host->longest)
        host->longest = size;
    /* Only ever to fewer: each time the count begins anew. Back to more: on_count. */
    if (host->L && host->limits.time_ms && period(host) < lua_gethookcount(host->L))
        lua_sethook(host->L, on_count, LUA_MASKCOUNT, period(host));
}

/* Of strings or not: whatever lay there. */
static void forget_long_string(struct mr_host *host, const void *at)
{
    size_t n = host->n_long_strings, i = 0;
    while (i < n && host->long_strings[i].at != at)
        i++;
    if (i == n)
        return;
    host->long_strings[i] = host->long_strings[n - 1];
    host->n_long_strings = n - 1;
    host->longest = 0;
    for (i = 0; i + 1 < n; i++)
        if (host->long_strings[i].size > host->longest)
            host->longest = host->long_strings[i].size;
}

static void *account(void *arg, void *ptr, size_t old_size, size_t new_size)
{
    struct mr_host *host = arg;
    bool is_string = !ptr && old_size == LUA_TSTRING;
    if (!ptr)
        old_size = 0; /* then it is a type tag, not a size */
    if (new_size == 0) {
        if (old_size > LONG_STRING)
            forget_long_string(host, ptr);
        free(ptr);
        host->used_bytes -= old_size;
        return NULL;
    }
    if (new_size > old_size && host->limits.memory_bytes &&
        host->used_bytes - old_size + new_size > host->limits.memory_bytes)
        return NULL; /* Lua collects garbage and asks once more, then raises */
    void *moved = realloc(ptr, new_size);
    if (!moved)
        return NULL;
    host->used_bytes += new_size - old_size;
    host->copied += new_size;
    if (is_string && new_size > LONG_STRING)
        note_long_string(host, moved, new_size);
    if (host->copied > COPIED_MAX && host->L && host->limits.time_ms && !host->expired) {
        host->copied = 0;
        lua_sethook(host->L, on_count, LUA_MASKCOUNT, 1); /* at the next instruction */
    }
    return moved;
}

static int64_t thread_cpu_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void tick(lua_State *L, struct mr_host *host);

static void on_count(lua_State *L, lua_Debug *ar)
{
    struct mr_host *host = mr_host_of(L);
    (void)ar;
    if (lua_gethookcount(L) != period(host) && !host->expired)
        lua_sethook(L, on_count, LUA_MASKCOUNT, period(host));
    tick(L, host);
}

/* From now on each instruction raises: a pcall inside the script gains nothing. */
static MR_NORETURN void raise_expired(lua_State *L, const struct mr_host *host)
{
    lua_sethook(L, on_count, LUA_MASKCOUNT, 1);
    luaL_where(L, 0); /* in the hook that is the script's line; in a C function there is none */
    if (!*lua_tostring(L, -1))
        luaL_where(L, 1);
    lua_pushfstring(L, "%sthe time limit of %d ms is over (limits.time)", lua_tostring(L, -1),
                    (int)host->limits.time_ms);
    lua_error(L);
    __builtin_unreachable();
}

/* Looks at the clock. The CPU clock is a system call: asked only in calls that are long already. */
static void tick(lua_State *L, struct mr_host *host)
{
    int64_t limit_us = host->limits.time_ms * 1000;
    if (!host->expired) {
        host->ticks++;
        if (host->ticks == 1)
            host->mono_us = mr_clock_mono_us();
        else if (host->ticks == 2)
            host->cpu_us = thread_cpu_us();
        else if (mr_clock_mono_us() - host->mono_us > limit_us &&
                 thread_cpu_us() - host->cpu_us > limit_us)
            host->expired = true;
    }
    if (host->expired) {
        host->spent = true;
        raise_expired(L, host);
    }
}

void mr_host_work(lua_State *L, uint32_t units)
{
    struct mr_host *host = mr_host_of(L);
    if (!host->limits.time_ms)
        return;
    host->work += units;
    if (host->work < 20 * HOOK_INSTRUCTIONS)
        return;
    host->work = 0;
    tick(L, host);
}

static int panic(lua_State *L)
{
    const char *msg = lua_tostring(L, -1);
    fprintf(stderr, "millrace: a Lua error outside the gate: %s\n", msg ? msg : "(no text)");
    mr_assert(!"Lua error outside the gate");
    return 0;
}

/* The message handler: text of the error, then the traceback without the frames of the gate itself.
 */
static int traceback(lua_State *L)
{
    const char *msg = lua_tostring(L, 1);
    if (!msg) {
        if (luaL_callmeta(L, 1, "__tostring") && lua_type(L, -1) == LUA_TSTRING)
            msg = lua_tostring(L, -1);
        else
            msg = lua_pushfstring(L, "the error is a %s value, not a text", luaL_typename(L, 1));
    }
    luaL_traceback(L, L, msg, 1);
    size_t len;
    const char *text = lua_tolstring(L, -1, &len);
    static const char noise[] = "\n\t[C]: in ?";
    static const size_t noise_len = sizeof noise - 1;
    while (len > noise_len && memcmp(text + len - noise_len, noise, noise_len) == 0)
        len -= noise_len;
    static const char title[] = "\nstack traceback:";
    if (len > sizeof title - 1 &&
        memcmp(text + len - (sizeof title - 1), title, sizeof title - 1) == 0)
        len -= sizeof title - 1;
    lua_pushlstring(L, text, len);
    return 1;
}

bool mr_host_new(const struct mr_host_limits *limits, struct mr_host **out, struct mr_error *err)
{
    struct mr_host *host = mr_calloc(1, sizeof *host);
    *out = NULL;
    host->limits = *limits;
    host->L = lua_newstate(account, host);
    if (!host->L) {
        bool done = mr_error_set(err, MR_STOP, MR_EXIT_CONFIG,
                                 "a Lua state does not fit into %zu bytes (limits.memory)",
                                 limits->memory_bytes);
        free(host);
        return done;
    }
    *(struct mr_host **)lua_getextraspace(host->L) = host;
    lua_atpanic(host->L, panic);
    lua_gc(host->L, LUA_GCINC, 400, 0, 0);
    if (limits->time_ms)
        lua_sethook(host->L, on_count, LUA_MASKCOUNT, HOOK_INSTRUCTIONS);
    *out = host;
    return true;
}

void mr_host_free(struct mr_host *host)
{
    if (!host)
        return;
    /* Closing runs the finalizers of our own C objects only: scripts have none (sandbox.c). */
    lua_close(host->L);
    mr_assert(host->used_bytes == 0 && host->n_long_strings == 0);
    free(host->long_strings);
    free(host);
}

static bool fail(struct mr_host *host, int status, struct mr_error *err)
{
    const char *msg =
        status == LUA_OK ? "the time limit is over (limits.time)" : lua_tostring(host->L, -1);
    if (!msg)
        msg = "error without a text";
    if (host->expired)
        return mr_error_reject(err, "script_timeout", "%s", msg);
    if (status == LUA_ERRMEM) {
        host->spent = true;
        return mr_error_reject(err, "script_memory",
                               "the script wants more than %zu bytes of memory (limits.memory)",
                               host->limits.memory_bytes);
    }
    return mr_error_reject(err, "script", "%s", msg);
}

bool mr_host_call(struct mr_host *host, int (*job)(lua_State *L), void *arg, struct mr_error *err)
{
    lua_State *L = host->L;
    mr_assert(!host->spent);
    mr_host_renew(host);
    lua_pushcfunction(L, traceback);
    int handler = lua_gettop(L);
    lua_pushcfunction(L, job);
    lua_pushlightuserdata(L, arg);
    int status = lua_pcall(L, 1, 0, handler);
    bool done = status == LUA_OK && !host->expired;
    if (!done)
        done = fail(host, status, err);
    lua_settop(L, handler - 1);
    return done;
}

void mr_host_renew(struct mr_host *host)
{
    host->ticks = 0;
    host->work = 0;
    host->copied = 0;
}

bool mr_host_spent(const struct mr_host *host)
{
    return host->spent;
}

bool mr_host_expired(const struct mr_host *host)
{
    return host->expired;
}

struct mr_host *mr_host_of(lua_State *L)
{
    return *(struct mr_host **)lua_getextraspace(L);
}

size_t mr_host_memory_bytes(const struct mr_host *host)
{
    return host->used_bytes;
}
