/*
 * record.h - one message as the source hands it over.
 *
 * Everything is borrowed from the source until mr_source_ops.release. A NULL `ptr` in key or value
 * is a Kafka null (a tombstone as value), which is not the empty value. Headers are read only when
 * asked for.
 */
#ifndef MILLRACE_RECORD_H
#define MILLRACE_RECORD_H

#include "base/buf.h"

#include <stdint.h>

struct mr_header {
    struct mr_bytes name, value; /* value.ptr NULL: null */
};

struct mr_record {
    const char *topic; /* lives as long as the source; equal topics have equal pointers */
    int32_t partition;
    int64_t offset;
    int64_t timestamp_ms; /* unix; -1 if the message has none */
    struct mr_bytes key, value;
    const struct mr_header *headers; /* valid after mr_source_ops.headers */
    size_t n_headers;
    void *handle; /* the source's own; NULL: nothing to release */
};

#endif
