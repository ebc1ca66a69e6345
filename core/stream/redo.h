/*
 * redo.h - the final bytes of a unit's messages, packed for the ledger and unpacked for sending
 * again.
 *
 * Packed, codec "lz4/1", an LZ4 frame of
 *
 *     uint16 n_topics | n_topics times: uint16 len, name | frames (message.h)
 *
 * in the byte order of the host. The names are those of the topic indexes in the frames, so that a
 * configuration that has changed meanwhile changes nothing. Pure, but for the sink's topic list.
 */
#ifndef MR_STREAM_REDO_H
#define MR_STREAM_REDO_H

#include "millrace/sink.h"
#include "millrace/store.h"

/* Packs the frames that lie in `parts`, one behind the other. `out` is overwritten, redo->payload
 * borrows from it. */
void mr_redo_pack(struct mr_sink *sink, const struct mr_bytes *parts, size_t n_parts,
                  uint32_t n_messages, struct mr_buf *out, struct mr_redo *redo);

/* The frames again, with the sink's own topic indexes; `out` is overwritten. False, MR_STOP: these
 * are not the bytes that were packed. */
MR_MUSTCHECK bool mr_redo_unpack(struct mr_sink *sink, const struct mr_redo *redo,
                                 struct mr_buf *out, struct mr_error *err);

uint32_t mr_redo_crc32c(struct mr_bytes bytes);

#endif
