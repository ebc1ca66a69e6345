/*
 * mark.h - what Millrace writes into the metadata of a committed offset, and reads back at claim.
 *
 *     mr1;l=<first 8 hex of ledger_id>;u=<unit>[;p=<probe>][;t=<trigger>;k=<keys>;c=<cursor>]
 *
 * `l` catches a group paired with the wrong database; `u` answers "did unit u reach Kafka?" with an
 * ordinary offset fetch; `p` is a number that a probe looks for. The state of a fan-out in progress
 * travels along, in hex: without a database (`l` is 00000000 then) it is nowhere else, and with one
 * it tells what Kafka has when the database was lost. Pure.
 */
#ifndef MR_STREAM_MARK_H
#define MR_STREAM_MARK_H

#include "millrace/source.h"
#include "millrace/store.h"

#define MR_NO_LEDGER "00000000"

enum mr_mark_kind {
    MR_MARK_ABSENT, /* no committed offset */
    MR_MARK_PLAIN,  /* an offset without our prefix: another program's, or moved from outside */
    MR_MARK_OURS,   /* this ledger's */
    MR_MARK_FOREIGN /* another ledger's */
};

/* Of OURS and FOREIGN. */
struct mr_mark_text {
    int64_t unit, probe; /* probe 0: none */
    bool no_ledger;      /* written without a database */
    bool has_job;
    struct mr_job_state job; /* borrows from the buffer given to read */
};

/* probe 0, job NULL: none. False: the job's keys and cursor do not fit. */
bool mr_mark_format(char metadata[MR_METADATA_MAX + 1], const char *ledger_id, int64_t unit,
                    int64_t probe, const struct mr_job_state *job);
enum mr_mark_kind mr_mark_read(const struct mr_committed *committed, const char *ledger_id,
                               struct mr_mark_text *text, struct mr_buf *job);

#endif
