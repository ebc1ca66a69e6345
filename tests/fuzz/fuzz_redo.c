/*
 * fuzz_redo.c - the stored messages of a unit: whatever stands in millrace_redo, what comes out are
 * whole frames of known topics, or a sentence.
 *
 * The first byte chooses: the rest is the payload as it is, or it is packed first, so that the
 * parts behind the decompression are reached. The checksum is made right either way.
 */
#include "fuzz.h"

#include "stream/redo.h"

#include <lz4frame.h>

static uint16_t topic(struct mr_sink *sink, const char *name)
{
    (void)sink;
    return (uint16_t)(strlen(name) % 3);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct mr_sink_ops ops = {.topic = topic};
    struct mr_sink sink = {&ops};
    static char packed[1 << 17];
    struct mr_buf frames = {0};
    struct mr_error err;
    if (size < 2 || size > sizeof packed / 2)
        return 0;
    struct mr_redo redo = {.codec = "lz4/1", .n = data[1] % 8};
    if (data[0] & 1) {
        redo.payload = (struct mr_bytes){(const char *)data + 2, size - 2};
    } else {
        LZ4F_preferences_t preferences = {.frameInfo = {.contentSize = size - 2}};
        size_t n = LZ4F_compressFrame(packed, sizeof packed, data + 2, size - 2, &preferences);
        FUZZ_CHECK(!LZ4F_isError(n), "%s", LZ4F_getErrorName(n));
        redo.payload = (struct mr_bytes){packed, n};
    }
    redo.crc32c = mr_redo_crc32c(redo.payload);
    if (mr_redo_unpack(&sink, &redo, &frames, &err)) {
        const char *at = frames.ptr, *end = frames.ptr + frames.len;
        uint32_t n = 0;
        for (; at < end; n++) {
            struct mr_frame frame;
            struct mr_bytes key, headers, value;
            at = mr_frame_read(at, &frame, &key, &headers, &value);
            FUZZ_CHECK(frame.topic < 3, "topic %u", (unsigned)frame.topic);
        }
        FUZZ_CHECK(at == end && n == redo.n, "%u frames", (unsigned)n);
    } else {
        FUZZ_CHECK(err.action == MR_STOP && err.msg[0], "%d", (int)err.action);
    }
    mr_buf_fini(&frames);
    return 0;
}
