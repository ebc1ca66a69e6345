/*
 * message.h - outgoing messages as bytes: what the stamper writes, the sink produces, the redo will
 * store.
 *
 * A unit's messages stand one behind the other in a buf, each as a frame in host byte order:
 *
 *     | struct mr_frame (24 bytes) | key | headers | value |     padded with nothing, read with
 * memcpy
 *
 * headers: n_headers times | uint32 name_len | uint32 value_len or MR_ABSENT | name | value | A
 * length of MR_ABSENT means null. `topic` is an index into the sink's topic list (0:
 * sinks.kafka.topic).
 */
#ifndef MILLRACE_MESSAGE_H
#define MILLRACE_MESSAGE_H

#include "base/buf.h"

#include <stdint.h>

#define MR_ABSENT UINT32_MAX

struct mr_frame {
    uint32_t key_len, headers_len, value_len; /* key_len, value_len may be MR_ABSENT */
    uint16_t n_headers, topic;
    int64_t timestamp_ms;
};

static inline size_t mr_frame_size(const struct mr_frame *frame)
{
    return sizeof *frame + (frame->key_len == MR_ABSENT ? 0 : frame->key_len) + frame->headers_len +
           (frame->value_len == MR_ABSENT ? 0 : frame->value_len);
}

/* The frame at `at`, with its parts. Returns where the next one begins. */
static inline const char *mr_frame_read(const char *at, struct mr_frame *frame,
                                        struct mr_bytes *key, struct mr_bytes *headers,
                                        struct mr_bytes *value)
{
    memcpy(frame, at, sizeof *frame);
    at += sizeof *frame;
    *key = (struct mr_bytes){frame->key_len == MR_ABSENT ? NULL : at,
                             frame->key_len == MR_ABSENT ? 0 : frame->key_len};
    at += key->len;
    *headers = (struct mr_bytes){at, frame->headers_len};
    at += headers->len;
    *value = (struct mr_bytes){frame->value_len == MR_ABSENT ? NULL : at,
                               frame->value_len == MR_ABSENT ? 0 : frame->value_len};
    return at + value->len;
}

/* The header at `at`, at first headers.ptr; value.ptr NULL for a null. Returns where the next one
 * begins: call it n_headers times. */
static inline const char *mr_frame_header(const char *at, struct mr_bytes *name,
                                          struct mr_bytes *value)
{
    uint32_t len[2];
    memcpy(len, at, sizeof len);
    at += sizeof len;
    *name = (struct mr_bytes){at, len[0]};
    at += len[0];
    *value = (struct mr_bytes){len[1] == MR_ABSENT ? NULL : at, len[1] == MR_ABSENT ? 0 : len[1]};
    return at + value->len;
}

#endif
