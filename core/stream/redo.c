/*
 * redo.c - see redo.h. LZ4 because near-identical messages shrink to a tenth at memory speed.
 *
 * Any thread. Owns nothing. Must not know Kafka or Postgres. What comes back from the ledger is
 * checked before a byte of it is sent: crc first, then each length. Tests: tests/unit/test_redo.c.
 */
#include "stream/redo.h"

#include <isa-l/crc.h>
#include <lz4frame.h>

static const char codec[] = "lz4/1";

uint32_t mr_redo_crc32c(struct mr_bytes bytes)
{
    return ~crc32_iscsi((unsigned char *)(uintptr_t)bytes.ptr, (int)bytes.len, 0xffffffff);
}

/* All that the sink has: a few, and no message need be looked at. */
static void put_topics(struct mr_sink *sink, struct mr_buf *out)
{
    uint16_t n_topics = 0;
    while (sink->ops->topic_name(sink, n_topics))
        n_topics++;
    mr_buf_put(out, &n_topics, sizeof n_topics);
    for (uint16_t t = 0; t < n_topics; t++) {
        const char *name = sink->ops->topic_name(sink, t);
        uint16_t len = (uint16_t)strlen(name);
        mr_buf_put(out, &len, sizeof len);
        mr_buf_put(out, name, len);
    }
}

void mr_redo_pack(struct mr_sink *sink, const struct mr_bytes *parts, size_t n_parts,
                  uint32_t n_messages, struct mr_buf *out, struct mr_redo *redo)
{
    struct mr_buf head = {0};
    put_topics(sink, &head);
    size_t total = head.len;
    for (size_t i = 0; i < n_parts; i++)
        total += parts[i].len;
    LZ4F_preferences_t preferences = {.frameInfo = {.contentSize = total,
                                                    .blockMode = LZ4F_blockLinked,
                                                    .blockSizeID = LZ4F_max256KB}};
    LZ4F_cctx *lz4 = NULL;
    mr_assert(!LZ4F_isError(LZ4F_createCompressionContext(&lz4, LZ4F_VERSION)));
    mr_buf_reset(out);
    /* The bound for all of it at once holds for its parts, each with a flush of what is buffered.
     */
    size_t bound = LZ4F_HEADER_SIZE_MAX + LZ4F_compressBound(0, &preferences);
    bound += LZ4F_compressBound(head.len, &preferences);
    for (size_t i = 0; i < n_parts; i++)
        bound += LZ4F_compressBound(parts[i].len, &preferences);
    char *at = mr_buf_reserve(out, bound), *end = at + bound;
    at += LZ4F_compressBegin(lz4, at, (size_t)(end - at), &preferences);
    for (size_t i = 0; i <= n_parts; i++) {
        struct mr_bytes part = i ? parts[i - 1] : (struct mr_bytes){head.ptr, head.len};
        size_t n = LZ4F_compressUpdate(lz4, at, (size_t)(end - at), part.ptr, part.len, NULL);
        mr_assert(!LZ4F_isError(n));
        at += n;
    }
    size_t n = LZ4F_compressEnd(lz4, at, (size_t)(end - at), NULL);
    mr_assert(!LZ4F_isError(n));
    out->len = (size_t)(at + n - out->ptr);
    LZ4F_freeCompressionContext(lz4);
    mr_buf_fini(&head);
    *redo = (struct mr_redo){.payload = {out->ptr, out->len}, .codec = codec, .n = n_messages};
    redo->crc32c = mr_redo_crc32c(redo->payload);
}

static bool damaged(const char *what, struct mr_error *err)
{
    return mr_error_set(err, MR_STOP, MR_EXIT_DATA,
                        "the stored messages of this unit (millrace_redo) are damaged: %s", what);
}

enum { MAX_UNPACKED = 1 << 30 };

static bool inflate(struct mr_bytes packed, struct mr_buf *out, struct mr_error *err)
{
    LZ4F_dctx *lz4 = NULL;
    LZ4F_frameInfo_t info;
    size_t used = packed.len, hint;
    mr_assert(!LZ4F_isError(LZ4F_createDecompressionContext(&lz4, LZ4F_VERSION)));
    hint = LZ4F_getFrameInfo(lz4, &info, packed.ptr, &used);
    bool ok = !LZ4F_isError(hint) && info.contentSize && info.contentSize <= MAX_UNPACKED;
    if (ok) {
        size_t written = (size_t)info.contentSize, left = packed.len - used;
        mr_buf_reset(out);
        char *to = mr_buf_reserve(out, written);
        hint = LZ4F_decompress(lz4, to, &written, packed.ptr + used, &left, NULL);
        ok = hint == 0 && written == info.contentSize && used + left == packed.len;
        out->len = written;
    }
    LZ4F_freeDecompressionContext(lz4);
    return ok || damaged("not an LZ4 frame of the size that it names", err);
}

/* Takes the topics off the front; *frames is what follows. */
static bool read_topics(struct mr_sink *sink, struct mr_bytes *bytes, uint16_t *map, size_t max,
                        size_t *n)
{
    uint16_t n_topics, len;
    char name[256];
    if (bytes->len < sizeof n_topics)
        return false;
    memcpy(&n_topics, bytes->ptr, sizeof n_topics);
    *bytes = (struct mr_bytes){bytes->ptr + sizeof n_topics, bytes->len - sizeof n_topics};
    if (n_topics > max)
        return false;
    for (*n = 0; *n < n_topics; ++*n) {
        if (bytes->len < sizeof len)
            return false;
        memcpy(&len, bytes->ptr, sizeof len);
        if (len >= sizeof name || bytes->len < sizeof len + len)
            return false;
        memcpy(name, bytes->ptr + sizeof len, len);
        name[len] = '\0';
        map[*n] = sink->ops->topic(sink, name);
        *bytes = (struct mr_bytes){bytes->ptr + sizeof len + len, bytes->len - sizeof len - len};
    }
    return true;
}

static bool map_frames(char *at, size_t left, const uint16_t *map, size_t n_topics, uint32_t *n)
{
    for (*n = 0; left; ++*n) {
        struct mr_frame frame;
        if (left < sizeof frame)
            return false;
        memcpy(&frame, at, sizeof frame);
        size_t size = mr_frame_size(&frame);
        if (left < size || frame.topic >= n_topics)
            return false;
        frame.topic = map[frame.topic];
        memcpy(at, &frame, sizeof frame);
        at += size;
        left -= size;
    }
    return true;
}

enum { TOPICS_MAX = 1024 };

bool mr_redo_unpack(struct mr_sink *sink, const struct mr_redo *redo, struct mr_buf *out,
                    struct mr_error *err)
{
    uint16_t map[TOPICS_MAX];
    size_t n_topics;
    uint32_t n;
    if (strcmp(redo->codec, codec) != 0)
        return mr_error_set(err, MR_STOP, MR_EXIT_DATA,
                            "the stored messages of this unit (millrace_redo) have codec \"%s\", "
                            "which this version does not read: use the one that wrote it",
                            redo->codec);
    if (redo->payload.len > MAX_UNPACKED || mr_redo_crc32c(redo->payload) != redo->crc32c)
        return damaged("crc32c differs", err);
    if (!inflate(redo->payload, out, err))
        return false;
    struct mr_bytes frames = {out->ptr, out->len};
    if (!read_topics(sink, &frames, map, TOPICS_MAX, &n_topics))
        return damaged("the list of topics", err);
    memmove(out->ptr, frames.ptr, frames.len);
    out->len = frames.len;
    if (!map_frames(out->ptr, out->len, map, n_topics, &n) || n != redo->n)
        return damaged("the messages", err);
    return true;
}
