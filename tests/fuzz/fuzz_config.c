/*
 * fuzz_config.c - config.lua as anybody might write it.
 *
 * Either a tree and no errors, or errors and no tree. What is printed as the configuration in force
 * is a configuration, and prints the same again. Texts with loops are left out: that they end is
 * tests/spec/limits_spec.lua's, and each would cost the whole time limit. Run from the root of the
 * tree, where scripts/promo.lua is.
 */
#include "fuzz.h"

#include "base/text.h"
#include "lua/config.h"
#include "postgres/postgres.h"

#include <sys/mman.h>
#include <unistd.h>

static const struct mr_config_checks checks = {.dsn = mr_postgres_dsn_check,
                                               .relation = mr_postgres_table_check};

/* Makes the text the content of a file in memory; returns its path. */
static const char *write_file(int *fd, char path[32], const void *text, size_t len)
{
    if (*fd < 0)
        *fd = memfd_create("config.lua", MFD_CLOEXEC);
    FUZZ_CHECK(*fd >= 0 && ftruncate(*fd, 0) == 0 && pwrite(*fd, text, len, 0) == (ssize_t)len,
               "no file in memory");
    snprintf(path, 32, "/proc/self/fd/%d", *fd);
    return path;
}

static bool has_loop(struct mr_bytes text)
{
    static const char *const words[] = {"while", "repeat", "goto", "for", "function"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (memmem(text.ptr, text.len, words[i], strlen(words[i])))
            return true;
    return false;
}

/* Shows the file at `path`; false if it is refused. */
static bool show(const char *path, enum mr_config_format format, struct mr_buf *text)
{
    struct mr_buf errors = {0};
    mr_buf_reset(text);
    bool done = mr_config_show(path, NULL, 0, &checks, format, text, &errors);
    FUZZ_CHECK(done == (errors.len == 0), "%s", mr_buf_cstr(&errors));
    mr_buf_fini(&errors);
    return done;
}

static void show_again(const char *path)
{
    static int fd = -1;
    char again_path[32];
    struct mr_buf text = {0}, json = {0}, again = {0};
    if (!show(path, MR_CONFIG_LUA, &text) || !show(path, MR_CONFIG_JSON, &json))
        abort();
    if (!memmem(text.ptr, text.len, "***", 3)) { /* a secret is not printed, so it is lost */
        write_file(&fd, again_path, text.ptr, text.len);
        FUZZ_CHECK(show(again_path, MR_CONFIG_JSON, &again), "refused:\n%s", mr_buf_cstr(&text));
        FUZZ_CHECK(json.len == again.len && memcmp(json.ptr, again.ptr, json.len) == 0,
                   "it is:\n%s\nprinted and read it is:\n%s", mr_buf_cstr(&json),
                   mr_buf_cstr(&again));
    }
    mr_buf_fini(&text);
    mr_buf_fini(&json);
    mr_buf_fini(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int fd = -1;
    char path[32];
    struct mr_buf errors = {0};
    struct mr_node *root = NULL;
    if (has_loop((struct mr_bytes){(const char *)data, size}))
        return 0;
    write_file(&fd, path, data, size);
    bool done = mr_config_load(path, NULL, 0, &checks, &root, &errors);
    FUZZ_CHECK(done == (root != NULL), "%s", mr_buf_cstr(&errors));
    FUZZ_CHECK(done == (errors.len == 0), "%s", mr_buf_cstr(&errors));
    FUZZ_CHECK(
        done || (strstr(mr_buf_cstr(&errors), ": error: ") && errors.ptr[errors.len - 1] == '\n'),
        "not in form: %s", mr_buf_cstr(&errors));
    mr_node_free(root);
    mr_buf_fini(&errors);
    if (done)
        show_again(path);
    return 0;
}
