/*
 * changes.c - what the writer has collected and nobody sees yet.
 *
 * The writer's thread. A change is a row and how often it comes or goes; an identity that was
 * touched is remembered with what has become of it, so that changes of one transaction see each
 * other. Must not know how a table is changed. Tests: tests/unit/test_lookup_live.c.
 */
#include "lookup/live.h"

#include "lookup/key.h"

#include <stdlib.h>

enum { FIRST_SLOTS = 64, KEEP = 64 << 10 };

/* --- the lists --- */

static void *grow(void *list, size_t *cap, size_t n, size_t size)
{
    if (n < *cap)
        return list;
    *cap = *cap ? 2 * *cap : 16;
    return mr_realloc(list, *cap * size);
}

struct change *mr_changes_add(struct changes *changes, const struct row *row, int64_t copies)
{
    changes->list = grow(changes->list, &changes->cap, changes->n, sizeof *changes->list);
    struct change *change = &changes->list[changes->n++];
    *change = (struct change){.row = *row, .copies = copies};
    changes->bytes += sizeof *change;
    return change;
}

static void add_seek(struct changes *changes, uint64_t payload)
{
    changes->seeks =
        grow(changes->seeks, &changes->cap_seeks, changes->n_seeks, sizeof *changes->seeks);
    changes->seeks[changes->n_seeks++] = (struct seek){.payload = payload, .times = 1};
    changes->bytes += sizeof *changes->seeks;
}

void mr_changes_fini(struct changes *changes)
{
    mr_arena_fini(&changes->arena);
    mr_buf_fini(&changes->scratch);
    free(changes->list);
    free(changes->seeks);
    free(changes->touched);
    free(changes->touched_slots);
    *changes = (struct changes){0};
}

void mr_lookup_discard(struct mr_lookup *lookup)
{
    struct changes *changes = &lookup->changes;
    if (changes->bytes > KEEP) { /* a large transaction's memory is not kept for the next */
        mr_changes_fini(changes);
        return;
    }
    for (size_t i = 0; i < changes->n_touched; i++)
        changes->touched_slots[changes->touched[i].slot] = 0;
    mr_arena_reset(&changes->arena);
    changes->n = changes->n_seeks = changes->n_touched = changes->bytes = 0;
    changes->null_keys = 0;
}

/* --- rows --- */

/* In `scratch`. False: there is a NULL in the key. */
static bool encode_briefly(struct mr_lookup *lookup, const struct mr_value *values, struct row *row)
{
    const struct mr_table *table = lookup->current;
    struct changes *changes = &lookup->changes;
    struct mr_buf *cells = &changes->scratch;
    const struct mr_lookup_schema *schema = table->schema;
    mr_buf_reset(cells);
    for (size_t i = 0; i < schema->n_keys; i++) {
        if (values[i].type == MR_NULL)
            return false;
        mr_key_put(cells, &values[i]);
    }
    row->key_len = cells->len;
    for (size_t i = schema->n_keys; i < schema->n_columns; i++)
        mr_cell_put(cells, &values[i]);
    row->len = cells->len - row->key_len;
    row->key = (const uint8_t *)cells->ptr;
    row->cells = row->key + row->key_len;
    row->hash = mr_table_hash(table->seed, row->key, row->key_len);
    return true;
}

/* The same, to stay until publish. */
static bool encode(struct mr_lookup *lookup, const struct mr_value *values, struct row *row)
{
    struct changes *changes = &lookup->changes;
    if (!encode_briefly(lookup, values, row))
        return false;
    size_t len = row->key_len + row->len;
    row->key = mr_arena_copy(&changes->arena, row->key, len);
    row->cells = row->key + row->key_len;
    changes->bytes += len;
    return true;
}

bool mr_lookup_too_big(const struct mr_lookup *lookup, struct mr_error *err)
{
    return mr_error_set(err, MR_STOP, MR_EXIT_CONFIG,
                        "lookup %s would grow beyond its max_bytes of %zu. Raise "
                        "lookups.%s.max_bytes, or load fewer rows or columns with lookups.%s.query",
                        lookup->name, lookup->current->max_bytes, lookup->name, lookup->name);
}

/* Asked for rows that come, not for those that go. */
static bool has_room(struct mr_lookup *lookup, struct mr_error *err)
{
    const struct mr_table *table = lookup->current;
    return table->max_bytes == SIZE_MAX ||
           mr_table_bytes(table) + lookup->changes.bytes <= table->max_bytes ||
           mr_lookup_too_big(lookup, err);
}

/* --- identities --- */

static size_t slot_of(const struct changes *changes, struct rowid id)
{
    size_t at = (id.key ^ id.key >> 32) & (changes->n_slots - 1);
    for (uint32_t place; (place = changes->touched_slots[at]);
         at = (at + 1) & (changes->n_slots - 1)) {
        const struct rowid *other = &changes->touched[place - 1].id;
        if (other->key == id.key && other->wide == id.wide)
            break;
    }
    return at;
}

static void grow_slots(struct changes *changes)
{
    changes->n_slots = changes->n_slots ? 2 * changes->n_slots : FIRST_SLOTS;
    free(changes->touched_slots);
    changes->touched_slots = mr_calloc(changes->n_slots, sizeof *changes->touched_slots);
    for (size_t i = 0; i < changes->n_touched; i++) {
        struct touched *touched = &changes->touched[i];
        touched->slot = slot_of(changes, touched->id);
        changes->touched_slots[touched->slot] = (uint32_t)i + 1;
    }
    changes->bytes += changes->n_slots * sizeof *changes->touched_slots / 2;
}

/* As it stands, with what was collected; NULL: the map has it twice. */
static struct touched *touch(struct mr_lookup *lookup, const struct mr_value *ids)
{
    struct changes *changes = &lookup->changes;
    const struct mr_table *table = lookup->current;
    struct rowid id = mr_rowmap_id(table->rowmap, ids, table->n_ids, &changes->scratch);
    if (2 * changes->n_touched >= changes->n_slots)
        grow_slots(changes);
    size_t slot = slot_of(changes, id);
    if (changes->touched_slots[slot])
        return &changes->touched[changes->touched_slots[slot] - 1];
    uint64_t payload = 0;
    int n = mr_rowmap_find(table->rowmap, id, &payload);
    if (n > 1)
        return NULL;
    changes->touched =
        grow(changes->touched, &changes->cap_touched, changes->n_touched, sizeof *changes->touched);
    struct touched *touched = &changes->touched[changes->n_touched++];
    *touched =
        (struct touched){.id = id, .had = n == 1, .has = n == 1, .payload = payload, .slot = slot};
    changes->touched_slots[slot] = (uint32_t)changes->n_touched;
    changes->bytes += sizeof *touched;
    return touched;
}

bool mr_lookup_lost(const struct mr_lookup *lookup, const char *what, struct mr_error *err)
{
    return mr_error_set(err, MR_RECOVER, MR_EXIT_TRY_AGAIN,
                        "lookup %s: %s: the table in memory is not what it should be, and must be "
                        "read again",
                        lookup->name, what);
}

static struct touched *touch_present(struct mr_lookup *lookup, const struct mr_value *ids,
                                     struct mr_error *err)
{
    struct touched *touched = touch(lookup, ids);
    if (touched && touched->has)
        return touched;
    mr_lookup_lost(lookup,
                   touched ? "a change names a row that is not there"
                           : "a change names a row that is there twice",
                   err);
    return NULL;
}

/* --- what the writer calls --- */

bool mr_lookup_put(struct mr_lookup *lookup, const struct mr_value *values,
                   const struct mr_value *ids, struct mr_error *err)
{
    struct mr_table *table = lookup->current;
    struct changes *changes = &lookup->changes;
    struct touched *touched = NULL;
    struct row row = {0};
    mr_assert(table && !ids == !table->rowmap);
    if (ids && (!(touched = touch(lookup, ids)) || touched->has))
        return mr_lookup_lost(lookup, "a new row has the primary key of another", err);
    bool kept = encode(lookup, values, &row);
    if (kept)
        mr_changes_add(changes, &row, 1);
    else
        changes->null_keys++;
    if (touched) {
        touched->has = touched->changed = true;
        touched->row = row;
        touched->payload = kept ? mr_table_payload(row.hash, row.cells, row.len) : 0;
    }
    return has_room(lookup, err);
}

bool mr_lookup_take(struct mr_lookup *lookup, const struct mr_value *values, struct mr_error *err)
{
    struct row row;
    (void)err; /* it is publish that finds out */
    mr_assert(lookup->current && !lookup->current->rowmap);
    if (encode(lookup, values, &row))
        mr_changes_add(&lookup->changes, &row, -1);
    else
        lookup->changes.null_keys--;
    return true;
}

bool mr_lookup_take_id(struct mr_lookup *lookup, const struct mr_value *ids, struct mr_error *err)
{
    struct changes *changes = &lookup->changes;
    mr_assert(lookup->current && lookup->current->rowmap);
    struct touched *touched = touch_present(lookup, ids, err);
    if (!touched)
        return false;
    touched->has = false;
    touched->changed = true;
    if (!touched->payload)
        changes->null_keys--;
    else if (touched->row.key)
        mr_changes_add(changes, &touched->row, -1);
    else
        add_seek(changes, touched->payload);
    return true;
}

bool mr_lookup_same_id(struct mr_lookup *lookup, const struct mr_value *values,
                       const struct mr_value *ids, bool *same, struct mr_error *err)
{
    struct changes *changes = &lookup->changes;
    const struct mr_table *table = lookup->current;
    mr_assert(table && table->rowmap);
    struct rowid id = mr_rowmap_id(table->rowmap, ids, table->n_ids, &changes->scratch);
    uint32_t place = changes->n_slots ? changes->touched_slots[slot_of(changes, id)] : 0;
    const struct touched *touched = place ? &changes->touched[place - 1] : NULL;
    uint64_t payload = touched ? touched->payload : 0;
    struct row row;
    if (!(touched ? touched->has : mr_rowmap_find(table->rowmap, id, &payload) == 1))
        return mr_lookup_lost(lookup, "a change names a row that is not there, or is twice", err);
    if (!encode_briefly(lookup, values, &row))
        *same = !payload;
    else if (mr_table_payload(row.hash, row.cells, row.len) != payload)
        *same = false;
    else if (touched && touched->row.key)
        *same = touched->row.key_len == row.key_len && touched->row.len == row.len &&
                memcmp(touched->row.key, row.key, row.key_len) == 0 &&
                memcmp(touched->row.cells, row.cells, row.len) == 0;
    else
        *same = mr_seek_has(table, &row);
    return true;
}

bool mr_lookup_find_id(struct mr_lookup *lookup, const struct mr_value *ids,
                       struct mr_value *values, bool *kept, struct mr_error *err)
{
    const struct mr_table *table = lookup->current;
    mr_assert(table && table->rowmap);
    struct touched *touched = touch_present(lookup, ids, err);
    if (!touched)
        return false;
    *kept = touched->payload != 0;
    if (!*kept)
        return true;
    if (!touched->row.key) {
        struct seek seek = {.payload = touched->payload, .times = 1};
        mr_seek_rows(table, &seek, 1);
        const struct row *found = mr_seek_result(&seek);
        if (!found)
            return mr_lookup_lost(lookup, "a change names a row that cannot be told", err);
        touched->row = *found;
    }
    const uint8_t *at = touched->row.key;
    for (size_t i = 0; i < table->schema->n_columns; i++) {
        if (i == table->schema->n_keys)
            at = touched->row.cells;
        at = mr_cell_read(at, &values[i]);
    }
    return true;
}
