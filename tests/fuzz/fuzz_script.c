/*
 * fuzz_script.c - a user's script as text, one message through it, and the rows it leads to.
 *
 * It does not open, with a sentence, or it takes the message: dropped with a reason, rejected with
 * a class, or stamped into whole frames and whole rows. Input: the script, a line "-- message", the
 * message. A script that mentions `project` is joined with a lookup. One that searches by patterns
 * is left out: how often a pattern backtracks is not bounded (core/lua/bounded.c), so each would be
 * a time-out.
 */
#include "fuzz.h"

#include "base/log.h"
#include "lua/script.h"
#include "postgres/postgres.h"
#include "postgres/values.h"
#include "stream/stamp.h"

#include <sys/mman.h>
#include <unistd.h>

static const struct mr_lookup_column columns[] = {{"id", MR_TEXT, "text"},
                                                  {"client_id", MR_UUID, "uuid"},
                                                  {"name", MR_TEXT, "text"},
                                                  {"n", MR_INT, "bigint"},
                                                  {"x", MR_FLOAT, "double precision"}};
static const struct mr_lookup_schema schema = {"people", columns, 1, 5};

static const struct mr_row_column row_columns[] = {
    {.name = "id", .type_name = "text", .oid = MR_OID_TEXT, .typmod = -1, .is_text = true},
    {.name = "client_id", .type_name = "uuid", .oid = MR_OID_UUID, .typmod = -1},
    {.name = "n", .type_name = "integer", .oid = MR_OID_INT4, .typmod = -1},
    {.name = "at", .type_name = "timestamptz", .oid = MR_OID_TIMESTAMPTZ, .typmod = -1},
    {.name = "doc", .type_name = "jsonb", .oid = MR_OID_JSONB, .typmod = -1}};
static const struct mr_row_schema rows = {
    .table = "feedback", .columns = row_columns, .n = 5, .encode = mr_postgres_encode};

static void give_headers(struct mr_source *source, struct mr_record *rec)
{
    static const struct mr_header headers[] = {{{"h", 1}, {"v", 1}}, {{"", 0}, {NULL, 0}}};
    (void)source;
    rec->headers = headers;
    rec->n_headers = 2;
}
static const struct mr_source_ops source_ops = {.headers = give_headers};

/* One row as a table holds it. */
static struct mr_row_ref make_row(struct mr_buf *key, struct mr_buf *cells)
{
    struct mr_value id = {.type = MR_TEXT, .bytes = {"r1", 2}};
    struct mr_value rest[] = {{.type = MR_UUID, .uuid = {1, 2, 3}},
                              {.type = MR_TEXT, .bytes = {"\"\n\xc3\xa9", 4}},
                              {.type = MR_INT, .i = 1LL << 40},
                              {.type = MR_FLOAT, .f = 0.1}};
    mr_cell_put(key, &id);
    for (size_t i = 0; i < 4; i++)
        mr_cell_put(cells, &rest[i]);
    return (struct mr_row_ref){
        .key = (const uint8_t *)key->ptr, .cells = (const uint8_t *)cells->ptr, .copies = 1};
}

static void check_frames(const struct mr_buf *frames)
{
    size_t at = 0;
    while (at < frames->len) {
        struct mr_frame frame;
        FUZZ_CHECK(frames->len - at >= sizeof frame, "a frame ends early");
        memcpy(&frame, frames->ptr + at, sizeof frame);
        FUZZ_CHECK(mr_frame_size(&frame) <= frames->len - at, "a frame ends early");
        FUZZ_CHECK(frame.topic == 0, "topic %u", frame.topic);
        at += mr_frame_size(&frame);
    }
}

static void check_tuples(const struct mr_buf *tuples)
{
    const uint8_t *at = (const uint8_t *)tuples->ptr, *end = at + tuples->len;
    while (at < end) {
        FUZZ_CHECK(end - at >= 2, "a row ends early");
        unsigned n = (unsigned)at[0] << 8 | at[1];
        FUZZ_CHECK(n <= rows.n, "%u fields", n);
        for (at += 2; n; n--) {
            FUZZ_CHECK(end - at >= 4, "a field ends early");
            uint32_t len =
                (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
            at += 4;
            if (len == UINT32_MAX)
                continue;
            FUZZ_CHECK(len <= (size_t)(end - at), "a field ends early");
            at += len;
        }
    }
}

static void stamp(const struct mr_template *template, bool joined)
{
    struct mr_buf key = {0}, cells = {0}, frames = {0}, tuples = {0};
    struct mr_error err = {0};
    struct mr_row_ref row = make_row(&key, &cells);
    for (size_t i = 0; i < template->n_outputs && frames.len < 1 << 20; i++)
        if (!mr_stamp_row(template, &template->outputs[i], joined ? &schema : NULL, &rows,
                          joined ? &row : NULL, 1, &frames, &tuples, &err)) {
            fuzz_check_reject(&err, " schema utf8 too_large ");
            break;
        }
    check_frames(&frames);
    check_tuples(&tuples);
    mr_buf_fini(&key);
    mr_buf_fini(&cells);
    mr_buf_fini(&frames);
    mr_buf_fini(&tuples);
}

static void pass(struct mr_script *script, struct mr_bytes message, bool joined)
{
    struct mr_source source = {&source_ops};
    struct mr_context ctx = {.now_ms = 1700000000123};
    struct mr_record rec = {.topic = "in", .offset = 5, .timestamp_ms = 1, .value = message};
    const struct mr_template *template = NULL;
    const struct mr_bytes *keys = NULL;
    const char *reason = NULL;
    struct mr_error err = {0};
    size_t n = 0;
    enum mr_verdict verdict = script->ops->accept(script, &rec, &source, &ctx, &reason, &err);
    if (verdict == MR_VERDICT_EMIT && joined)
        verdict = script->ops->key(script, &ctx, &keys, &n, &reason, &err);
    for (size_t i = 0; verdict == MR_VERDICT_EMIT && i < n; i++)
        FUZZ_CHECK(mr_cells_count(keys[i]) == schema.n_keys, "key %zu", i);
    if (verdict == MR_VERDICT_EMIT)
        verdict = script->ops->project(script, &ctx, &template, &reason, &err);
    if (verdict == MR_VERDICT_EMIT)
        stamp(template, joined);
    else if (verdict == MR_VERDICT_DROP)
        FUZZ_CHECK(reason && *reason, "dropped without a reason");
    else if (verdict == MR_VERDICT_REJECT)
        fuzz_check_reject(&err, " decode utf8 schema script script_timeout script_memory "
                                "too_large ");
    else
        FUZZ_CHECK(verdict == MR_VERDICT_STOP && err.msg[0], "verdict %d", (int)verdict);
    script->ops->finish(script);
}

static bool searches(struct mr_bytes text)
{
    static const char *const words[] = {"find", "match", "gsub"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (text.len && memmem(text.ptr, text.len, words[i], strlen(words[i])))
            return true;
    return false;
}

static void drop_line(const char *text, void *arg)
{
    (void)text, (void)arg;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char line[] = "\n-- message\n";
    static const char *const topics[] = {"out"};
    static int fd = -1;
    char path[32];
    struct mr_bytes text = {(const char *)data, size}, message = {"{\"id\":\"r1\",\"n\":1}", 17};
    struct mr_error err = {0};
    struct mr_script *script = NULL;
    const char *cut = size ? memmem(data, size, line, sizeof line - 1) : NULL;
    if (cut) {
        text.len = (size_t)(cut - text.ptr) + 1;
        message.ptr = cut + sizeof line - 1;
        message.len = (size_t)(text.ptr + size - message.ptr);
    }
    if (fd < 0) {
        fd = memfd_create("script.lua", MFD_CLOEXEC);
        mr_log_hook(drop_line, NULL);
    }
    FUZZ_CHECK(fd >= 0 && ftruncate(fd, 0) == 0 &&
                   pwrite(fd, text.ptr, text.len, 0) == (ssize_t)text.len,
               "no file in memory");
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (searches(text))
        return 0;
    bool joined = text.len && memmem(text.ptr, text.len, "project", 7);
    struct mr_script_options options = {.path = path,
                                        .has_lookup = joined,
                                        .lookup = joined ? &schema : NULL,
                                        .rows = &rows,
                                        .has_message = true,
                                        .topics = topics,
                                        .n_topics = 1,
                                        .time_limit_ms = 20,
                                        .memory_limit_bytes = 8 << 20,
                                        .output_limit_bytes = 1 << 20,
                                        .pipeline = "fuzz"};
    if (mr_script_open(&options, &script, &err)) {
        pass(script, message, joined);
        script->ops->close(script);
    } else {
        FUZZ_CHECK(err.action == MR_STOP && err.code == MR_EXIT_CONFIG && err.msg[0],
                   "action %d, code %d: %s", (int)err.action, err.code, err.msg);
    }
    return 0;
}
