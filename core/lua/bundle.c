/*
 * bundle.c - reads a script and its sibling modules, runs them, hashes them.
 *
 * Inside the gate (a read error raises with a sentence). Owns the sources. Must not know what the
 * script returns. A module is named by letters, digits, _ and - ; dots are directories below the
 * script's own. Tests: tests/spec/script_spec.lua.
 */
#include "lua/bundle.h"

#include "base/buf.h"
#include "lua/sandbox.h"

#include <ctype.h>
#include <errno.h>
#include <lauxlib.h>
#include <lua.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

enum { SOURCE_MAX_BYTES = 16 * 1024 * 1024 };

struct source {
    struct source *next;
    char *name; /* of the module; "" for the script */
    char *path;
    struct mr_buf text;
};

struct mr_bundle {
    atomic_int refs;
    char *path;
    char *missing;                /* could not be read */
    struct source *first, **last; /* in the order of loading */
    bool sealed;
    char hash[33];
};

struct mr_bundle *mr_bundle_new(const char *path)
{
    struct mr_bundle *bundle = mr_calloc(1, sizeof *bundle);
    atomic_init(&bundle->refs, 1);
    bundle->path = mr_strdup(path);
    bundle->last = &bundle->first;
    return bundle;
}

struct mr_bundle *mr_bundle_acquire(struct mr_bundle *bundle)
{
    atomic_fetch_add_explicit(&bundle->refs, 1, memory_order_relaxed);
    return bundle;
}

void mr_bundle_release(struct mr_bundle *bundle)
{
    if (!bundle || atomic_fetch_sub_explicit(&bundle->refs, 1, memory_order_acq_rel) > 1)
        return;
    struct source *source = bundle->first;
    while (source) {
        struct source *next = source->next;
        free(source->name);
        free(source->path);
        mr_buf_fini(&source->text);
        free(source);
        source = next;
    }
    free(bundle->missing);
    free(bundle->path);
    free(bundle);
}

static bool read_file(const char *path, struct mr_buf *out)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        return false;
    size_t n;
    do {
        n = fread(mr_buf_reserve(out, 16384), 1, 16384, file);
        mr_buf_commit(out, n);
    } while (n > 0 && out->len <= SOURCE_MAX_BYTES);
    bool done = !ferror(file);
    int saved = errno;
    fclose(file);
    errno = done ? EFBIG : saved;
    return done && out->len <= SOURCE_MAX_BYTES;
}

/* <directory of the script>/a/b.lua for the module a.b; plain C memory. */
static char *module_path(const struct mr_bundle *bundle, const char *name)
{
    if (!*name)
        return mr_strdup(bundle->path);
    struct mr_buf path;
    mr_buf_init(&path);
    const char *slash = strrchr(bundle->path, '/');
    if (slash)
        mr_buf_put(&path, bundle->path, (size_t)(slash - bundle->path) + 1);
    for (const char *p = name; *p; p++)
        mr_buf_put_char(&path, *p == '.' ? '/' : *p);
    mr_buf_put_text(&path, ".lua");
    char *text = mr_strdup(mr_buf_cstr(&path));
    mr_buf_fini(&path);
    return text;
}

/* Reads it unless it is there; raises if it cannot. */
static const struct source *find_source(lua_State *L, struct mr_bundle *bundle, const char *name)
{
    for (struct source *source = bundle->first; source; source = source->next)
        if (strcmp(source->name, name) == 0)
            return source;
    if (bundle->sealed)
        luaL_error(L,
                   "require '%s' must stand at the top level of the script: "
                   "modules are part of the bundle, which is complete after loading",
                   name);
    struct source *source = mr_calloc(1, sizeof *source);
    source->name = mr_strdup(name);
    source->path = module_path(bundle, name);
    if (!read_file(source->path, &source->text)) {
        char sentence[512];
        snprintf(sentence, sizeof sentence, "cannot read %s: %s", source->path, strerror(errno));
        free(source->name);
        free(bundle->missing);
        bundle->missing = source->path;
        mr_buf_fini(&source->text);
        free(source);
        lua_pushstring(L, sentence);
        lua_error(L);
        __builtin_unreachable();
    }
    mr_buf_cstr(&source->text);
    *bundle->last = source;
    bundle->last = &source->next;
    return source;
}

static bool name_is_fine(const char *name)
{
    char before = '.';
    for (const char *p = name; *p; before = *p++) {
        if (*p == '.' && before == '.')
            return false;
        if (*p != '.' && !isalnum((unsigned char)*p) && *p != '_' && *p != '-')
            return false;
    }
    return before != '.';
}

static const char loading_key = 'l'; /* what stands for a module while it runs */

/* Upvalues: the bundle, the table of loaded modules. */
static int l_require(lua_State *L)
{
    struct mr_bundle *bundle = lua_touserdata(L, lua_upvalueindex(1));
    const char *name = luaL_checkstring(L, 1);
    lua_settop(L, 1);
    lua_pushvalue(L, 1);
    if (lua_rawget(L, lua_upvalueindex(2)) != LUA_TNIL) {
        if (lua_touserdata(L, -1) == &loading_key)
            return luaL_error(L, "require '%s' goes in a circle", name);
        return 1;
    }
    if (strcmp(name, "cjson") == 0) {
        mr_sandbox_cjson(L);
    } else {
        if (!name_is_fine(name))
            return luaL_error(L,
                              "require '%s': a module is named by letters, digits, '_' and '-', "
                              "with dots between directories",
                              name);
        const struct source *source = find_source(L, bundle, name);
        lua_pushvalue(L, 1);
        lua_pushlightuserdata(L, (void *)(uintptr_t)&loading_key);
        lua_rawset(L, lua_upvalueindex(2));
        mr_sandbox_load(L, source->text.ptr, source->text.len, source->path);
        lua_pushvalue(L, 1);
        lua_call(L, 1, 1);
        if (lua_isnil(L, -1)) {
            lua_pop(L, 1);
            lua_pushboolean(L, 1);
        }
    }
    lua_pushvalue(L, 1);
    lua_pushvalue(L, -2);
    lua_rawset(L, lua_upvalueindex(2));
    return 1;
}

void mr_bundle_run(lua_State *L, struct mr_bundle *bundle)
{
    lua_pushlightuserdata(L, bundle);
    lua_newtable(L);
    lua_pushcclosure(L, l_require, 2);
    mr_sandbox_global(L, "require");
    const struct source *source = find_source(L, bundle, "");
    mr_sandbox_load(L, source->text.ptr, source->text.len, source->path);
    lua_call(L, 0, 1);
}

void mr_bundle_seal(struct mr_bundle *bundle)
{
    if (bundle->sealed)
        return;
    bundle->sealed = true;
    XXH3_state_t *state = XXH3_createState();
    mr_assert(state);
    XXH3_128bits_reset(state);
    for (const struct source *source = bundle->first; source; source = source->next) {
        uint64_t len = source->text.len;
        XXH3_128bits_update(state, source->name, strlen(source->name) + 1);
        XXH3_128bits_update(state, &len, sizeof len);
        XXH3_128bits_update(state, source->text.ptr, source->text.len);
    }
    XXH128_hash_t hash = XXH3_128bits_digest(state);
    XXH3_freeState(state);
    snprintf(bundle->hash, sizeof bundle->hash, "%016llx%016llx", (unsigned long long)hash.high64,
             (unsigned long long)hash.low64);
}

const char *mr_bundle_hash(const struct mr_bundle *bundle)
{
    return bundle->hash;
}

const char *mr_bundle_path(const struct mr_bundle *bundle)
{
    return bundle->path;
}

const char *mr_bundle_text(const struct mr_bundle *bundle)
{
    return bundle->first ? bundle->first->text.ptr : NULL;
}

const char *mr_bundle_file(const struct mr_bundle *bundle, size_t i)
{
    const struct source *source = bundle->first;
    for (; source && i > 0; i--)
        source = source->next;
    return source ? source->path : i == 0 ? bundle->missing : NULL;
}
