/*
 * rowchange.c - one change of a row: where its columns stand, which row it was, which it is now.
 *
 * One thread; owns the values of the row at hand. Columns are found by name in each Relation
 * message. A row is told by the columns of the replica identity (ids), or, where the identity
 * covers all columns of the lookup, by those. An update that changes nothing of the lookup's is no
 * change. Must not know transactions or connections. Tests: tests/unit/test_pgoutput.c,
 * tests/unit/test_postgres_logical.c, tests/fuzz/fuzz_pgoutput.c.
 */
#include "postgres/rowchange.h"
#include "postgres/values.h"

#include <stdlib.h>

/* The columns and ids of one row. */
struct side {
    struct mr_value *values;
    struct mr_buf *scratch;
};

struct mr_pg_rows {
    const struct mr_pg_changes_options *options;
    const struct mr_pg_shape *shape;
    size_t n;         /* columns and ids */
    size_t n_theirs;  /* columns of the Relation message; 0: none has come */
    char identity;    /* of the same */
    size_t *place;    /* of ours among theirs */
    bool *identified; /* of theirs: part of the replica identity */
    struct side old_row, new_row;
    struct mr_buf found, cells; /* rows as cells, to be kept or compared */
};

static struct side side_new(size_t n)
{
    return (struct side){mr_calloc(n, sizeof(struct mr_value)),
                         mr_calloc(n, sizeof(struct mr_buf))};
}

static void side_free(struct side *side, size_t n)
{
    for (size_t i = 0; i < n; i++)
        mr_buf_fini(&side->scratch[i]);
    free(side->scratch);
    free(side->values);
}

struct mr_pg_rows *mr_pg_rows_new(const struct mr_pg_changes_options *options)
{
    struct mr_pg_rows *r = mr_calloc(1, sizeof *r);
    size_t n = options->shape->n_columns + options->shape->n_ids;
    *r = (struct mr_pg_rows){.options = options,
                             .shape = options->shape,
                             .n = n,
                             .place = mr_calloc(n, sizeof *r->place),
                             .identified = mr_calloc(MR_PGO_COLUMNS_MAX, sizeof *r->identified),
                             .old_row = side_new(n),
                             .new_row = side_new(n)};
    return r;
}

void mr_pg_rows_free(struct mr_pg_rows *rows)
{
    if (!rows)
        return;
    side_free(&rows->old_row, rows->n);
    side_free(&rows->new_row, rows->n);
    mr_buf_fini(&rows->found);
    mr_buf_fini(&rows->cells);
    free(rows->identified);
    free(rows->place);
    free(rows);
}

/* --- events --- */

static enum mr_feed_event read_again(const struct mr_pg_changes_options *options,
                                     struct mr_error *err, const char *what, const char *column)
{
    mr_error_set(err, MR_RECOVER, MR_EXIT_TRY_AGAIN, "table \"%s\": %s%s%s%s", options->name, what,
                 column ? " \"" : "", column ? column : "", column ? "\"" : "");
    return MR_FEED_READ;
}

static enum mr_feed_event malformed(const struct mr_pg_rows *r, struct mr_error *err)
{
    mr_error_set(err, MR_RETRY, MR_EXIT_UNREACHABLE,
                 "a change of table \"%s\" is not of the form that its columns have",
                 r->options->name);
    return MR_FEED_FAILED;
}

enum mr_feed_event mr_pg_rows_event(const struct mr_pg_changes_options *options,
                                    struct mr_error *err)
{
    mr_error_context(err, "table \"%s\"", options->name);
    return err->action == MR_RECOVER ? MR_FEED_READ : MR_FEED_FAILED;
}

/* --- where the columns stand --- */

static size_t find(const struct mr_pgo_message *message, const char *name)
{
    size_t i = 0;
    while (i < message->n_columns && strcmp(message->columns[i].name, name) != 0)
        i++;
    return i;
}

static bool is_ours(const struct mr_pg_rows *r, const char *name)
{
    for (size_t i = 0; i < r->shape->n_columns; i++)
        if (strcmp(r->shape->names[i], name) == 0)
            return true;
    return false;
}

static bool is_id(const struct mr_pg_rows *r, const char *name)
{
    for (size_t i = r->shape->n_columns; i < r->n; i++)
        if (strcmp(r->shape->names[i], name) == 0)
            return true;
    return false;
}

/* The replica identity is what the load took it for: the ids, or no less than all of our columns.
 */
static bool identity_fits(const struct mr_pg_rows *r, const struct mr_pgo_message *message)
{
    if (message->identity == 'n' || (r->shape->n_ids && message->identity == 'f'))
        return false;
    for (size_t i = 0; i < message->n_columns; i++) {
        const struct mr_pgo_column *column = &message->columns[i];
        if (r->shape->n_ids ? column->is_identity != is_id(r, column->name)
                            : !column->is_identity && is_ours(r, column->name))
            return false;
    }
    return true;
}

static enum mr_feed_event take_relation(struct mr_pg_rows *r, const struct mr_pgo_message *message,
                                        struct mr_error *err)
{
    const struct mr_pg_changes_options *o = r->options;
    if (strcmp(message->schema, o->schema) != 0 || strcmp(message->name, o->name) != 0)
        return read_again(o, err, "it is called otherwise now:", message->name);
    for (size_t i = 0; i < r->n; i++) {
        r->place[i] = find(message, r->shape->names[i]);
        if (r->place[i] == message->n_columns)
            return read_again(o, err, "there is no longer, or not in what is published, a column",
                              r->shape->names[i]);
        if (message->columns[r->place[i]].type != o->declared[i])
            return read_again(o, err, "of another type is now column", r->shape->names[i]);
    }
    for (size_t i = 0; !o->lookup->n_columns && i < message->n_columns; i++)
        if (!is_ours(r, message->columns[i].name))
            return read_again(o, err, "it has got a column", message->columns[i].name);
    if (!identity_fits(r, message))
        return read_again(o, err, "its replica identity has changed", NULL);
    for (size_t i = 0; i < message->n_columns; i++)
        r->identified[i] = message->columns[i].is_identity;
    r->identity = message->identity;
    r->n_theirs = message->n_columns;
    return MR_FEED_FOLLOWS;
}

enum mr_feed_event mr_pg_rows_relation(struct mr_pg_rows *r, const struct mr_pgo_message *message,
                                       struct mr_error *err)
{
    const struct mr_pg_changes_options *o = r->options;
    if (message->relation == o->oid)
        return take_relation(r, message, err);
    if (strcmp(message->schema, o->schema) == 0 && strcmp(message->name, o->name) == 0)
        return read_again(o, err, "it has been replaced by another one of the same name", NULL);
    return MR_FEED_FOLLOWS;
}

/* --- values --- */

static bool decode_one(uint32_t oid, const struct mr_pgo_value *raw, struct mr_buf *scratch,
                       struct mr_value *out)
{
    if (raw->kind == 'n') {
        out->type = MR_NULL;
        return true;
    }
    /* As text only what is text in binary too. */
    if (raw->kind != 'b' && (raw->kind != 't' || mr_pg_decoded_type(oid, false) != MR_NULL))
        return false;
    return mr_pg_decode(oid, raw->bytes, raw->len, scratch, out);
}

/* The value of column i in the new row, from the old row if it was left out there. */
static const struct mr_pgo_value *new_value(const struct mr_pg_rows *r,
                                            const struct mr_pgo_message *m, size_t i)
{
    size_t at = r->place[i];
    const struct mr_pgo_value *value = &m->new_row.values[at];
    bool known = m->old_kind == 'O' || (m->old_kind == 'K' && r->identified[at]);
    return value->kind == 'u' && known ? &m->old_row.values[at] : value;
}

/* Decodes the new row; *left_out: some columns have not changed and are not told. */
static bool decode_new(struct mr_pg_rows *r, const struct mr_pgo_message *m, bool *left_out)
{
    *left_out = false;
    for (size_t i = 0; i < r->n; i++) {
        const struct mr_pgo_value *raw = new_value(r, m, i);
        if (raw->kind == 'u' && i < r->shape->n_columns)
            *left_out = true;
        else if (!decode_one(r->shape->oids[i], raw, &r->new_row.scratch[i], &r->new_row.values[i]))
            return false;
    }
    return true;
}

/* The columns [from, to) of the old row. */
static bool decode_old(struct mr_pg_rows *r, const struct mr_pgo_message *m, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++)
        if (!decode_one(r->shape->oids[i], &m->old_row.values[r->place[i]], &r->old_row.scratch[i],
                        &r->old_row.values[i]))
            return false;
    return true;
}

static bool same_raw(const struct mr_pgo_value *a, const struct mr_pgo_value *b)
{
    return a->kind == b->kind && a->len == b->len &&
           (!a->len || memcmp(a->bytes, b->bytes, a->len) == 0);
}

/* Is the row, as far as it concerns the lookup, still what the old row says? */
static bool unchanged(const struct mr_pg_rows *r, const struct mr_pgo_message *m, size_t from,
                      size_t to)
{
    for (size_t i = from; i < to; i++)
        if (!same_raw(&m->old_row.values[r->place[i]], new_value(r, m, i)))
            return false;
    return true;
}

/* --- telling the lookup --- */

static enum mr_feed_event put(struct mr_pg_rows *r, struct mr_lookup *lookup, size_t *n,
                              struct mr_error *err)
{
    const struct mr_value *values = r->new_row.values;
    const struct mr_value *ids = r->shape->n_ids ? values + r->shape->n_columns : NULL;
    if (!mr_lookup_put(lookup, values, ids, err))
        return mr_pg_rows_event(r->options, err);
    ++*n;
    return MR_FEED_FOLLOWS;
}

/* The row that `side` tells, by ids or by all its columns. */
static enum mr_feed_event take(struct mr_pg_rows *r, const struct side *side,
                               struct mr_lookup *lookup, size_t *n, struct mr_error *err)
{
    bool ok = r->shape->n_ids ? mr_lookup_take_id(lookup, side->values + r->shape->n_columns, err)
                              : mr_lookup_take(lookup, side->values, err);
    if (!ok)
        return mr_pg_rows_event(r->options, err);
    ++*n;
    return MR_FEED_FOLLOWS;
}

static enum mr_feed_event insert(struct mr_pg_rows *r, const struct mr_pgo_message *m,
                                 struct mr_lookup *lookup, struct mr_table_builder *builder,
                                 size_t *n, struct mr_error *err)
{
    bool left_out;
    const struct mr_value *values = r->new_row.values;
    if (!decode_new(r, m, &left_out) || left_out)
        return malformed(r, err);
    if (!builder)
        return put(r, lookup, n, err);
    bool ok = r->shape->n_ids
                  ? mr_table_builder_add_id(builder, values, values + r->shape->n_columns, err)
                  : mr_table_builder_add(builder, values, err);
    if (!ok)
        return mr_pg_rows_event(r->options, err);
    ++*n;
    return MR_FEED_FOLLOWS;
}

/* The old row of a partition whose replica identity is another than that of the whole table tells
 * too little. (No column of an identity but FULL can be null.) */
static bool tells_row(const struct mr_pg_rows *r, const struct mr_pgo_message *m)
{
    if (m->old_kind == 'O')
        return true;
    if (m->old_kind != 'K' || r->identity == 'f')
        return false;
    for (size_t i = r->shape->n_ids ? r->shape->n_columns : 0; i < r->n; i++)
        if (m->old_row.values[r->place[i]].kind == 'n')
            return false;
    return true;
}

static enum mr_feed_event tells_too_little(const struct mr_pg_rows *r, struct mr_error *err)
{
    return read_again(r->options, err,
                      "a change does not tell which row it was: give each partition the replica "
                      "identity of the table",
                      NULL);
}

static enum mr_feed_event remove_row(struct mr_pg_rows *r, const struct mr_pgo_message *m,
                                     struct mr_lookup *lookup, size_t *n, struct mr_error *err)
{
    if (!tells_row(r, m))
        return tells_too_little(r, err);
    size_t n_columns = r->shape->n_columns;
    bool ok = r->shape->n_ids ? decode_old(r, m, n_columns, r->n) : decode_old(r, m, 0, n_columns);
    return ok ? take(r, &r->old_row, lookup, n, err) : malformed(r, err);
}

/* Rows told by all their columns. Without an old row the identity, so all of them, is the same. */
static enum mr_feed_event update_whole(struct mr_pg_rows *r, const struct mr_pgo_message *m,
                                       struct mr_lookup *lookup, size_t *n, struct mr_error *err)
{
    bool left_out;
    if (m->old_kind ? !tells_row(r, m) : r->identity == 'f')
        return tells_too_little(r, err);
    if (!m->old_kind || unchanged(r, m, 0, r->n))
        return MR_FEED_FOLLOWS;
    if (!decode_old(r, m, 0, r->n) || !decode_new(r, m, &left_out) || left_out)
        return malformed(r, err);
    enum mr_feed_event event = take(r, &r->old_row, lookup, n, err);
    return event == MR_FEED_FOLLOWS ? put(r, lookup, n, err) : event;
}

static void put_cells(struct mr_buf *out, const struct mr_value *values, size_t n)
{
    mr_buf_reset(out);
    for (size_t i = 0; i < n; i++)
        mr_cell_put(out, &values[i]);
}

/*
 * Columns that were left out come from what the lookup has for the identity in `side`.
 * *same: nothing of the lookup's has changed.
 */
static enum mr_feed_event complete(struct mr_pg_rows *r, const struct mr_pgo_message *m,
                                   const struct side *side, struct mr_lookup *lookup, bool *same,
                                   struct mr_error *err)
{
    size_t n_columns = r->shape->n_columns;
    struct mr_value *found = r->old_row.values, *values = r->new_row.values;
    bool kept = false, null_key = false;
    if (!mr_lookup_find_id(lookup, side->values + n_columns, found, &kept, err))
        return mr_pg_rows_event(r->options, err);
    for (size_t i = 0; i < r->shape->schema->n_keys; i++)
        null_key = null_key || m->new_row.values[r->place[i]].kind == 'n';
    *same = !kept && null_key;
    if (!kept && !null_key)
        return read_again(r->options, err,
                          "a row without a key has got one, and Postgres does not tell all of it",
                          NULL);
    if (!kept) {
        for (size_t i = 0; i < n_columns; i++)
            if (new_value(r, m, i)->kind == 'u')
                values[i].type = MR_NULL; /* nobody will see it */
        return MR_FEED_FOLLOWS;
    }
    /* What was found does not outlive the next call to the lookup. */
    put_cells(&r->found, found, n_columns);
    const uint8_t *at = (const uint8_t *)r->found.ptr;
    for (size_t i = 0; i < n_columns; i++) {
        struct mr_value value;
        at = mr_cell_read(at, &value);
        if (new_value(r, m, i)->kind == 'u')
            values[i] = value;
    }
    put_cells(&r->cells, values, n_columns);
    *same = r->cells.len == r->found.len && memcmp(r->cells.ptr, r->found.ptr, r->cells.len) == 0;
    return MR_FEED_FOLLOWS;
}

/* Rows told by ids. Without an old row the ids are the same. */
static enum mr_feed_event update_by_id(struct mr_pg_rows *r, const struct mr_pgo_message *m,
                                       struct mr_lookup *lookup, size_t *n, struct mr_error *err)
{
    size_t n_columns = r->shape->n_columns;
    bool left_out, same = false;
    if (m->old_kind && !tells_row(r, m))
        return tells_too_little(r, err);
    for (size_t i = n_columns; i < r->n; i++)
        if (new_value(r, m, i)->kind == 'u')
            return tells_too_little(r, err);
    bool moved = m->old_kind && !unchanged(r, m, n_columns, r->n);
    if (!decode_new(r, m, &left_out) || (moved && !decode_old(r, m, n_columns, r->n)))
        return malformed(r, err);
    const struct side *was = moved ? &r->old_row : &r->new_row;
    enum mr_feed_event event = MR_FEED_FOLLOWS;
    if (left_out)
        event = complete(r, m, was, lookup, &same, err);
    else if (!moved && !mr_lookup_same_id(lookup, r->new_row.values, r->new_row.values + n_columns,
                                          &same, err))
        event = mr_pg_rows_event(r->options, err);
    if (event != MR_FEED_FOLLOWS || (same && !moved))
        return event;
    event = take(r, was, lookup, n, err);
    return event == MR_FEED_FOLLOWS ? put(r, lookup, n, err) : event;
}

enum mr_feed_event mr_pg_rows_change(struct mr_pg_rows *r, const struct mr_pgo_message *m,
                                     struct mr_lookup *lookup, struct mr_table_builder *builder,
                                     size_t *n, struct mr_error *err)
{
    size_t n_row = m->kind == 'D' ? m->old_row.n : m->new_row.n;
    if (!r->n_theirs || n_row != r->n_theirs)
        return malformed(r, err);
    if (m->kind == 'I')
        return insert(r, m, lookup, builder, n, err);
    if (builder)
        return read_again(r->options, err,
                          "a transaction emptied it and then changed rows that it had just written",
                          NULL);
    if (m->kind == 'D')
        return remove_row(r, m, lookup, n, err);
    return r->shape->n_ids ? update_by_id(r, m, lookup, n, err)
                           : update_whole(r, m, lookup, n, err);
}
