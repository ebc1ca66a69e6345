/*
 * pgoutput.h - private to core/postgres: the messages of logical replication, pgoutput protocol 1.
 *
 * Pure functions over bytes, no I/O, no memory of earlier messages. Whatever a message holds
 * borrows from its bytes or from the space, until the next read with the same space.
 */
#ifndef MR_POSTGRES_PGOUTPUT_H
#define MR_POSTGRES_PGOUTPUT_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

enum { MR_PGO_COLUMNS_MAX = 1664 }; /* no tuple of Postgres has more */

/* --- the envelope: one CopyData message --- */
struct mr_pgo_envelope {
    char kind; /* 'w': data (XLogData), 'k': keepalive */
    /* w: where the message stands in the log; k: everything that was committed up to here has been
     * sent. */
    uint64_t lsn;
    int64_t sent_us;     /* the server's clock, microseconds since 2000-01-01 */
    bool reply;          /* k: it wants a status update now */
    const uint8_t *body; /* w: one message of pgoutput */
    size_t len;
};
MR_MUSTCHECK bool mr_pgo_open(const uint8_t *bytes, size_t len, struct mr_pgo_envelope *out,
                              struct mr_error *err);
/* A status update: everything up to lsn is done. `out` takes MR_PGO_STATUS_LEN bytes. */
enum { MR_PGO_STATUS_LEN = 1 + 8 + 8 + 8 + 8 + 1 };
void mr_pgo_status(uint8_t *out, uint64_t lsn, int64_t now_us, bool reply);

/* --- the messages --- */
struct mr_pgo_value {
    char kind; /* 'n': null, 'u': an unchanged TOAST value, 't': text, 'b': binary */
    uint32_t len;
    const uint8_t *bytes;
};
struct mr_pgo_tuple {
    const struct mr_pgo_value *values;
    size_t n;
};
struct mr_pgo_column {
    const char *name;
    uint32_t type;    /* as declared: may be a domain */
    bool is_identity; /* part of the replica identity */
};
struct mr_pgo_message {
    char kind;         /* B C O R Y I U D T */
    uint64_t lsn;      /* C: the end of the transaction */
    int64_t commit_us; /* B C: microseconds since 2000-01-01 */
    uint32_t relation; /* R I U D */
    /* R */
    const char *schema, *name; /* schema "": pg_catalog */
    char identity;             /* d n f i, as in pg_class.relreplident */
    const struct mr_pgo_column *columns;
    size_t n_columns;
    /* I U D. `old`: of U and D, 0 there is none, 'K': the identity's columns, the others are null,
     * 'O': all columns */
    char old_kind;
    struct mr_pgo_tuple old_row, new_row;
    /* T */
    const uint8_t *truncated; /* oids: ask mr_pgo_truncates */
    size_t n_truncated;
};
struct mr_pgo_space {
    struct mr_pgo_column columns[MR_PGO_COLUMNS_MAX];
    struct mr_pgo_value old_row[MR_PGO_COLUMNS_MAX], new_row[MR_PGO_COLUMNS_MAX];
};
/* False: MR_RETRY, not a message of this protocol. */
MR_MUSTCHECK bool mr_pgo_read(const uint8_t *bytes, size_t len, struct mr_pgo_space *space,
                              struct mr_pgo_message *out, struct mr_error *err);
bool mr_pgo_truncates(const struct mr_pgo_message *message, uint32_t relation);

/* "16/B374D848". */
bool mr_pgo_lsn_parse(const char *text, uint64_t *lsn);

#endif
