/*
 * config_sys.c - environment, files, host name and the other rooms' checks, for the configuration's
 * modules.
 *
 * Only the trusted modules see these functions; config.lua sees env and secret, made from them.
 * Inside the gate: may raise, owns nothing across a call that can. A file that holds a secret is
 * looked at through its descriptor, so that it cannot change between the check and the read. Tests:
 * tests/spec/config_spec.lua.
 */
#include "lua/config_sys.h"

#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <limits.h>
#include <lua.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SECRET_MAX_BYTES = 64 * 1024, NAMES_MAX = 1024 };

static int l_getenv(lua_State *L)
{
    lua_pushstring(L, getenv(luaL_checkstring(L, 1)));
    return 1;
}

static int l_hostname(lua_State *L)
{
    char name[256] = "";
    if (gethostname(name, sizeof name - 1) != 0 || !*name)
        strcpy(name, "localhost");
    lua_pushstring(L, name);
    return 1;
}

static int refuse(lua_State *L, const char *format, const char *path, const char *why)
{
    lua_pushnil(L);
    lua_pushfstring(L, format, path, why);
    return 2;
}

/* Fills `text`; returns its length, or -1 and a sentence that may name the path by %s and errno. */
static ssize_t read_secret(const char *path, bool check_mode, char *text, size_t cap,
                           const char **why)
{
    ssize_t len = -1;
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &st) != 0) {
        *why = "%s: %s";
        goto out;
    }
    if (!S_ISREG(st.st_mode)) {
        *why = "%s is not a regular file";
        goto out;
    }
    if (check_mode && (st.st_mode & 077)) {
        *why = "%s may be read by group or others; chmod 600 it";
        goto out;
    }
    if (st.st_size >= (off_t)cap) {
        *why = "%s is too large for a secret";
        goto out;
    }
    len = read(fd, text, cap);
    if (len < 0)
        *why = "%s: %s";
out:
    if (fd >= 0) {
        int saved = errno;
        close(fd);
        errno = saved;
    }
    return len;
}

/* read_secret(path, check_mode): the text without the newline at its end; or nil and a sentence. */
static int l_read_secret(lua_State *L)
{
    const char *path = luaL_checkstring(L, 1), *why = NULL;
    bool check_mode = lua_toboolean(L, 2);
    char *text = lua_newuserdatauv(L, SECRET_MAX_BYTES, 0);
    ssize_t len = read_secret(path, check_mode, text, SECRET_MAX_BYTES, &why);
    if (len < 0)
        return refuse(L, why, path, strerror(errno));
    if (len > 0 && text[len - 1] == '\n')
        len--;
    if (len > 0 && text[len - 1] == '\r')
        len--;
    lua_pushlstring(L, text, (size_t)len);
    explicit_bzero(text, SECRET_MAX_BYTES);
    return 1;
}

/* find_file(directory, name): the absolute path of a file that can be read; or nil and a sentence.
 */
static int l_find_file(lua_State *L)
{
    const char *directory = luaL_checkstring(L, 1), *name = luaL_checkstring(L, 2);
    bool as_is = name[0] == '/' || strcmp(directory, ".") == 0;
    const char *path = as_is ? name : lua_pushfstring(L, "%s/%s", directory, name);
    char full[PATH_MAX];
    struct stat st;
    if (!realpath(path, full) || stat(full, &st) != 0)
        return refuse(L, "%s: %s (paths are relative to the configuration file)", path,
                      strerror(errno));
    if (!S_ISREG(st.st_mode))
        return refuse(L, "%s is not a regular file", path, NULL);
    if (access(full, R_OK) != 0)
        return refuse(L, "%s: %s", path, strerror(errno));
    lua_pushstring(L, full);
    return 1;
}

/* The strings of the list at `index`; the list keeps them, Lua keeps the array. */
static const char **strings_of(lua_State *L, int index, size_t n)
{
    const char **strings = lua_newuserdatauv(L, (n + 1) * sizeof *strings, 0);
    for (size_t i = 0; i < n; i++) {
        lua_rawgeti(L, index, (lua_Integer)i + 1);
        strings[i] = luaL_checkstring(L, -1);
        lua_pop(L, 1);
    }
    return strings;
}

/* nearest(name, list): the nearest of the names, or nil. */
static int l_nearest(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1);
    size_t n = (size_t)luaL_len(L, 2);
    if (n > NAMES_MAX)
        n = NAMES_MAX;
    lua_pushstring(L, mr_text_nearest(name, strings_of(L, 2, n), n));
    return 1;
}

static const struct mr_config_checks *checks_of(lua_State *L)
{
    return lua_touserdata(L, lua_upvalueindex(1));
}

/* kafka_property(name, value, secret, for_sink): a sentence if it is wrong. */
static int l_kafka_property(lua_State *L)
{
    const struct mr_config_checks *checks = checks_of(L);
    struct mr_error err;
    if (!checks || !checks->kafka_property ||
        checks->kafka_property(luaL_checkstring(L, 1), luaL_checkstring(L, 2), lua_toboolean(L, 3),
                               lua_toboolean(L, 4), &err))
        return 0;
    lua_pushstring(L, err.msg);
    return 1;
}

/* kafka_properties(names, values, secrets, for_sink): a sentence if they do not go together. */
static int l_kafka_properties(lua_State *L)
{
    const struct mr_config_checks *checks = checks_of(L);
    struct mr_error err;
    if (!checks || !checks->kafka_properties)
        return 0;
    size_t n = (size_t)luaL_len(L, 1);
    const char **names = strings_of(L, 1, n), **values = strings_of(L, 2, n);
    bool *secrets = lua_newuserdatauv(L, (n + 1) * sizeof *secrets, 0);
    for (size_t i = 0; i < n; i++) {
        lua_rawgeti(L, 3, (lua_Integer)i + 1);
        secrets[i] = lua_toboolean(L, -1);
        lua_pop(L, 1);
    }
    if (checks->kafka_properties(names, values, secrets, n, lua_toboolean(L, 4), &err))
        return 0;
    lua_pushstring(L, err.msg);
    return 1;
}

/* A sentence if the text is not what `check` wants. */
static int ask(lua_State *L, bool (*check)(const char *, struct mr_error *))
{
    struct mr_error err;
    if (!check || check(luaL_checkstring(L, 1), &err))
        return 0;
    lua_pushstring(L, err.msg);
    return 1;
}

static int l_dsn(lua_State *L)
{
    const struct mr_config_checks *checks = checks_of(L);
    return ask(L, checks ? checks->dsn : NULL);
}

static int l_relation(lua_State *L)
{
    const struct mr_config_checks *checks = checks_of(L);
    return ask(L, checks ? checks->relation : NULL);
}

/* "off" and "" mean that there is no port. */
static int l_listen(lua_State *L)
{
    const struct mr_config_checks *checks = checks_of(L);
    const char *text = luaL_checkstring(L, 1);
    bool none = !*text || strcmp(text, "off") == 0;
    return ask(L, checks && !none ? checks->listen : NULL);
}

static const luaL_Reg functions[] = {
    {"getenv", l_getenv},
    {"hostname", l_hostname},
    {"read_secret", l_read_secret},
    {"find_file", l_find_file},
    {"nearest", l_nearest},
    {"kafka_property", l_kafka_property},
    {"kafka_properties", l_kafka_properties},
    {"dsn", l_dsn},
    {"relation", l_relation},
    {"listen", l_listen},
    {NULL, NULL},
};

void mr_config_push_sys(lua_State *L, const struct mr_config_checks *checks)
{
    lua_newtable(L);
    union {
        const struct mr_config_checks *in;
        void *out;
    } pointer = {checks};
    lua_pushlightuserdata(L, pointer.out);
    luaL_setfuncs(L, functions, 1);
    lua_newtable(L);
    for (size_t i = 0; checks && i < checks->n_kafka_names; i++) {
        lua_pushstring(L, checks->kafka_names[i]);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    lua_setfield(L, -2, "kafka_names");
    lua_pushglobaltable(L); /* the sandbox: what config.lua runs in */
    lua_setfield(L, -2, "globals");
}
