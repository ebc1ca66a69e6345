/*
 * changes.c - the changes of one table, applied to a lookup: whole transactions only.
 *
 * One thread; owns what it has collected of the transaction at hand. A transaction is kept as it
 * came until it is whole, so that the ones before it can be shown at any time; one that grows large
 * is collected in the lookup itself. What cannot be told row by row (a column that is gone, another
 * replica identity) asks for a new read, in a sentence. Must not know connections. Tests:
 * tests/unit/test_pgoutput.c, tests/unit/test_postgres_logical.c, tests/fuzz/fuzz_pgoutput.c.
 */
#include "postgres/changes.h"
#include "postgres/pgoutput.h"
#include "postgres/rowchange.h"

#include <stdlib.h>

enum { KEPT_BYTES_MAX = 256 * 1024 };

struct mr_pg_changes {
    struct mr_pg_changes_options options;
    struct mr_pg_rows *rows;
    struct mr_pgo_space *space;
    struct mr_buf kept; /* of the transaction at hand: | length, 4 bytes | message | ... */
    bool direct;        /* it is too large for that: collected in the lookup at once */
    bool changed;       /* it has changed the lookup */
    struct mr_table_builder *emptied; /* it has emptied the table; what came after */
    uint64_t collected_lsn;           /* the end of the last whole one */
    int64_t collected_us;             /* when the last one that changed something was committed */
    struct mr_pg_changes_state state;
};

struct mr_pg_changes *mr_pg_changes_new(const struct mr_pg_changes_options *options)
{
    struct mr_pg_changes *c = mr_calloc(1, sizeof *c);
    c->options = *options;
    c->rows = mr_pg_rows_new(&c->options);
    c->space = mr_alloc(sizeof *c->space);
    return c;
}

void mr_pg_changes_free(struct mr_pg_changes *changes)
{
    if (!changes)
        return;
    mr_table_builder_free(changes->emptied);
    mr_pg_rows_free(changes->rows);
    mr_buf_fini(&changes->kept);
    free(changes->space);
    free(changes);
}

struct mr_pg_changes_state mr_pg_changes_state(const struct mr_pg_changes *changes)
{
    return changes->state;
}

static enum mr_feed_event out_of_step(struct mr_error *err)
{
    mr_error_set(err, MR_RETRY, MR_EXIT_UNREACHABLE,
                 "logical replication from Postgres is out of step: a transaction begins or ends "
                 "where it cannot");
    return MR_FEED_FAILED;
}

/* --- showing --- */

static void shown(struct mr_pg_changes *c)
{
    c->state.unshown = false;
    c->state.lsn = c->collected_lsn;
    c->state.shown_us = c->collected_us;
}

enum mr_feed_event mr_pg_changes_publish(struct mr_pg_changes *c, struct mr_lookup *lookup,
                                         struct mr_error *err)
{
    if (!c->state.unshown)
        return MR_FEED_FOLLOWS;
    mr_assert(!c->direct);
    if (!mr_lookup_publish(lookup, err))
        return mr_pg_rows_event(&c->options, err);
    shown(c);
    return MR_FEED_FOLLOWS;
}

/* A transaction that emptied the table replaces it: what was collected before is void with it. */
static enum mr_feed_event replace(struct mr_pg_changes *c, struct mr_lookup *lookup,
                                  struct mr_error *err)
{
    struct mr_table *table = NULL;
    struct mr_table_builder *builder = c->emptied;
    c->emptied = NULL;
    if (!mr_table_builder_finish(builder, &table, err))
        return mr_pg_rows_event(&c->options, err);
    mr_lookup_swap(lookup, table);
    c->state.truncates++;
    shown(c);
    return MR_FEED_FOLLOWS;
}

/* --- collecting --- */

static void empty(struct mr_pg_changes *c)
{
    const struct mr_pg_shape *shape = c->options.shape;
    const struct mr_postgres_lookup_options *lookup = c->options.lookup;
    mr_table_builder_free(c->emptied);
    c->emptied = mr_table_builder_new(shape->schema, lookup->distinct, lookup->max_bytes);
    if (shape->n_ids)
        mr_table_builder_identify(c->emptied, shape->n_ids);
    c->changed = true;
    c->state.changes++;
}

static enum mr_feed_event collect_one(struct mr_pg_changes *c, struct mr_lookup *lookup,
                                      const uint8_t *bytes, size_t len, struct mr_error *err)
{
    struct mr_pgo_message message;
    if (!mr_pgo_read(bytes, len, c->space, &message, err))
        return MR_FEED_FAILED;
    if (message.kind == 'R')
        return mr_pg_rows_relation(c->rows, &message, err);
    if (message.kind == 'T') {
        if (mr_pgo_truncates(&message, c->options.oid))
            empty(c);
        return MR_FEED_FOLLOWS;
    }
    size_t n = 0;
    enum mr_feed_event event = mr_pg_rows_change(c->rows, &message, lookup, c->emptied, &n, err);
    c->changed = c->changed || n;
    c->state.changes += (int64_t)n;
    return event;
}

static enum mr_feed_event collect_kept(struct mr_pg_changes *c, struct mr_lookup *lookup,
                                       struct mr_error *err)
{
    enum mr_feed_event event = MR_FEED_FOLLOWS;
    for (size_t at = 0; event == MR_FEED_FOLLOWS && at < c->kept.len;) {
        uint32_t len;
        memcpy(&len, c->kept.ptr + at, sizeof len);
        at += sizeof len;
        event = collect_one(c, lookup, (const uint8_t *)c->kept.ptr + at, len, err);
        at += len;
    }
    mr_buf_reset(&c->kept);
    return event;
}

/* --- transactions --- */

static enum mr_feed_event begin(struct mr_pg_changes *c, struct mr_error *err)
{
    if (c->state.in_transaction)
        return out_of_step(err);
    c->state.in_transaction = true;
    return MR_FEED_FOLLOWS;
}

static enum mr_feed_event commit(struct mr_pg_changes *c, struct mr_lookup *lookup,
                                 const struct mr_pgo_message *message, struct mr_error *err)
{
    if (!c->state.in_transaction)
        return out_of_step(err);
    enum mr_feed_event event = collect_kept(c, lookup, err);
    if (event != MR_FEED_FOLLOWS)
        return event;
    c->collected_lsn = message->lsn;
    if (c->changed)
        c->collected_us = message->commit_us;
    if (c->emptied)
        event = replace(c, lookup, err);
    else if (c->changed)
        c->state.unshown = true;
    else if (!c->state.unshown)
        c->state.lsn = c->collected_lsn;
    c->changed = c->direct = c->state.in_transaction = false;
    return event;
}

/* Does it say something about our table, or which tables there are? */
static bool concerns(const struct mr_pg_changes *c, const uint8_t *bytes, size_t len)
{
    if (*bytes == 'O' || *bytes == 'Y')
        return false;
    if ((*bytes != 'I' && *bytes != 'U' && *bytes != 'D') || len < 5)
        return true;
    return ((uint32_t)bytes[1] << 24 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 8 |
            bytes[4]) == c->options.oid;
}

static enum mr_feed_event keep(struct mr_pg_changes *c, struct mr_lookup *lookup,
                               const uint8_t *bytes, size_t len, struct mr_error *err)
{
    uint32_t size = (uint32_t)len;
    if (!c->state.in_transaction)
        return out_of_step(err);
    if (!concerns(c, bytes, len))
        return MR_FEED_FOLLOWS;
    if (c->direct)
        return collect_one(c, lookup, bytes, len, err);
    mr_buf_put(&c->kept, &size, sizeof size);
    mr_buf_put(&c->kept, bytes, len);
    if (c->kept.len < KEPT_BYTES_MAX)
        return MR_FEED_FOLLOWS;
    enum mr_feed_event event = mr_pg_changes_publish(c, lookup, err);
    c->direct = true;
    return event == MR_FEED_FOLLOWS ? collect_kept(c, lookup, err) : event;
}

enum mr_feed_event mr_pg_changes_apply(struct mr_pg_changes *c, struct mr_lookup *lookup,
                                       const uint8_t *bytes, size_t len, struct mr_error *err)
{
    struct mr_pgo_message message;
    enum mr_feed_event event;
    char kind = len ? (char)*bytes : 0;
    if (kind && kind != 'B' && kind != 'C')
        event = keep(c, lookup, bytes, len, err);
    else if (!mr_pgo_read(bytes, len, c->space, &message, err))
        event = MR_FEED_FAILED;
    else
        event = kind == 'B' ? begin(c, err) : commit(c, lookup, &message, err);
    if (event != MR_FEED_FOLLOWS)
        mr_lookup_discard(lookup);
    return event;
}
