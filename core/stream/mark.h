/*
 * mark.h - what Millrace writes into the metadata of a committed offset, and reads back at claim.
 *
 *     mr1;l=<first 8 hex of ledger_id>;u=<unit>
 *
 * `l` catches a group paired with the wrong database; `u` answers "did unit u reach Kafka?" with an
 * ordinary offset fetch. Without a database `l` is 00000000. Pure.
 */
#ifndef MR_STREAM_MARK_H
#define MR_STREAM_MARK_H

#include "millrace/source.h"

enum mr_mark_kind {
    MR_MARK_ABSENT, /* no committed offset */
    MR_MARK_PLAIN,  /* an offset without our prefix: another program's, or moved from outside */
    MR_MARK_OURS,   /* this ledger's: *unit is set */
    MR_MARK_FOREIGN /* another ledger's */
};

void mr_mark_format(char metadata[MR_METADATA_MAX + 1], const char *ledger_id, int64_t unit);
enum mr_mark_kind mr_mark_read(const struct mr_committed *committed, const char *ledger_id,
                               int64_t *unit);

#endif
