/*
 * mark.c - the metadata string of a committed offset.
 *
 * Pure; any thread. Must not know Kafka. Tests: tests/unit/test_stream.c.
 */
#include "stream/mark.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { ID_LEN = 8 };

static void put_hex(struct mr_buf *out, struct mr_bytes bytes)
{
    for (size_t i = 0; i < bytes.len; i++)
        mr_buf_printf(out, "%02x", (unsigned)(uint8_t)bytes.ptr[i]);
}

bool mr_mark_format(char metadata[MR_METADATA_MAX + 1], const char *ledger_id, int64_t unit,
                    int64_t probe, const struct mr_job_state *job)
{
    struct mr_buf text = {0};
    mr_buf_printf(&text, "mr1;l=%.8s;u=%" PRId64, ledger_id, unit);
    if (probe)
        mr_buf_printf(&text, ";p=%" PRId64, probe);
    if (job) {
        mr_buf_printf(&text, ";t=%" PRId64 ";k=", job->trigger_ms);
        put_hex(&text, job->keys);
        mr_buf_put_text(&text, ";c=");
        put_hex(&text, job->cursor);
    }
    bool fits = text.len <= MR_METADATA_MAX;
    if (fits)
        memcpy(metadata, mr_buf_cstr(&text), text.len + 1);
    mr_buf_fini(&text);
    return fits;
}

/* The value of ";<letter>=" up to the next ';'; NULL if there is none. */
static const char *field(const char *text, char letter, size_t *len)
{
    char name[4] = {';', letter, '=', '\0'};
    const char *at = strstr(text, name);
    if (!at)
        return NULL;
    at += 3;
    *len = strcspn(at, ";");
    return at;
}

static bool read_number(const char *text, char letter, int64_t *value)
{
    size_t len;
    char *end;
    const char *at = field(text, letter, &len);
    if (!at || !len)
        return false;
    int64_t number = strtoll(at, &end, 10);
    if (end != at + len || number < 0)
        return false;
    *value = number;
    return true;
}

static size_t take_hex(const char *hex, size_t len, struct mr_buf *out)
{
    size_t start = out->len;
    for (size_t i = 0; i + 1 < len; i += 2) {
        char pair[3] = {hex[i], hex[i + 1], '\0'};
        mr_buf_put_char(out, (char)strtoul(pair, NULL, 16));
    }
    return out->len - start;
}

static void read_job(const char *metadata, struct mr_mark_text *text, struct mr_buf *job)
{
    size_t n_keys, n_cursor;
    const char *keys = field(metadata, 'k', &n_keys), *cursor = field(metadata, 'c', &n_cursor);
    text->has_job = keys && cursor && read_number(metadata, 't', &text->job.trigger_ms);
    if (!text->has_job)
        return;
    mr_buf_reset(job);
    n_keys = take_hex(keys, n_keys, job);
    n_cursor = take_hex(cursor, n_cursor, job);
    text->job.keys = (struct mr_bytes){mr_buf_cstr(job), n_keys};
    text->job.cursor = (struct mr_bytes){n_cursor ? job->ptr + n_keys : NULL, n_cursor};
}

enum mr_mark_kind mr_mark_read(const struct mr_committed *committed, const char *ledger_id,
                               struct mr_mark_text *text, struct mr_buf *job)
{
    const char *at = committed->metadata;
    *text = (struct mr_mark_text){0};
    if (!committed->present)
        return MR_MARK_ABSENT;
    if (strncmp(at, "mr1;l=", 6) != 0 || strlen(at) < 6 + ID_LEN + 4 || at[6 + ID_LEN] != ';' ||
        !read_number(at, 'u', &text->unit))
        return MR_MARK_PLAIN;
    if (!read_number(at, 'p', &text->probe))
        text->probe = 0;
    text->no_ledger = strncmp(at + 6, MR_NO_LEDGER, ID_LEN) == 0;
    read_job(at, text, job);
    return strncmp(at + 6, ledger_id, ID_LEN) == 0 ? MR_MARK_OURS : MR_MARK_FOREIGN;
}
