/*
 * builder.c - rows as they come, dealt out to partitions; the table at the end.
 *
 * One thread. Owns the partitions until they are in the table. A key is stored once, however many
 * rows it has, and each row as its cells, so that building takes little more than the table does;
 * max_bytes is checked before memory is taken. Must not know where rows come from. Tests:
 * tests/unit/test_lookup.c.
 */
#include "lookup/builder.h"

#include "base/clock.h"
#include "lookup/key.h"
#include "lookup/rowmap.h"

#include <stdlib.h>

/* Rows are placed so many at a time, so that waiting for memory overlaps. */
enum { BATCH = 16 };

enum { FIRST_SLOTS = 64, RUN_MIN = 512 << 10, RUN_MAX = 4 << 20, RUN_SHARE = 16 };

/* A row that is encoded but not placed: key and row cells in builder->bytes, from `from` on. */
struct pending {
    uint64_t hash;
    size_t from, key_len, row_len;
    struct rowid id; /* where rows are identified */
};

struct mr_table_builder {
    struct mr_table *table; /* empty until finish */
    size_t max_bytes;
    size_t used; /* by rows, keys and slots of all partitions */
    struct mr_buf bytes, scratch;
    struct pending pending[BATCH];
    size_t n_pending;
    struct sort_space space;
    struct partition parts[PARTITIONS];
};

struct mr_table_builder *mr_table_builder_new(const struct mr_lookup_schema *schema, bool distinct,
                                              size_t max_bytes)
{
    struct mr_table_builder *builder = mr_calloc(1, sizeof *builder);
    builder->table = mr_calloc(1, sizeof *builder->table);
    builder->table->schema = mr_lookup_schema_copy(schema);
    builder->table->n_row_cells = schema->n_columns - schema->n_keys;
    builder->table->distinct = distinct;
    builder->table->seed = (uint64_t)mr_clock_random63();
    builder->max_bytes = builder->table->max_bytes = max_bytes ? max_bytes : SIZE_MAX;
    return builder;
}

void mr_partition_free(struct partition *part)
{
    mr_pages_free(&part->rows);
    mr_pages_free(&part->keys);
    mr_pages_free(&part->slots);
    free(part->runs);
    *part = (struct partition){0};
}

void mr_table_builder_free(struct mr_table_builder *builder)
{
    if (!builder)
        return;
    for (size_t i = 0; i < PARTITIONS; i++)
        mr_partition_free(&builder->parts[i]);
    mr_sort_space_free(&builder->space);
    mr_buf_fini(&builder->bytes);
    mr_buf_fini(&builder->scratch);
    mr_table_free(builder->table);
    free(builder);
}

static bool too_big(const struct mr_table_builder *builder, struct mr_error *err)
{
    const char *name = builder->table->schema->name;
    return mr_error_set(err, MR_STOP, MR_EXIT_CONFIG,
                        "lookup %s needs more than its max_bytes of %zu: it was full after %llu "
                        "rows. Raise lookups.%s.max_bytes, or load fewer rows or columns with "
                        "lookups.%s.query",
                        name, builder->max_bytes,
                        (unsigned long long)builder->table->stats.rows_read, name, name);
}

static bool take(struct mr_table_builder *builder, size_t bytes, struct mr_error *err)
{
    if (builder->used + mr_rowmap_bytes(builder->table->rowmap) + bytes > builder->max_bytes)
        return too_big(builder, err);
    builder->used += bytes;
    return true;
}

static struct partition *partition_of(struct mr_table_builder *builder, uint64_t hash)
{
    return &builder->parts[hash >> (64 - PARTITION_BITS)];
}

/* The part of the hash that a slot keeps, in its place. */
static uint64_t part_tag(uint64_t hash)
{
    return hash << PARTITION_BITS >> 32 << 32;
}

static size_t part_home(const struct partition *part, uint64_t tag)
{
    return (size_t)(tag >> 32) & (part->n_slots - 1);
}

static void enter_slot(struct partition *part, uint64_t slot)
{
    uint64_t *slots = (uint64_t *)(void *)part->slots.ptr;
    size_t at = part_home(part, slot);
    while (slots[at])
        at = (at + 1) & (part->n_slots - 1);
    slots[at] = slot;
}

static bool grow_slots(struct mr_table_builder *builder, struct partition *part,
                       struct mr_error *err)
{
    struct mr_pages old = part->slots;
    size_t n_old = part->n_slots, n = n_old ? 2 * n_old : FIRST_SLOTS;
    if (!take(builder, (n - n_old) * sizeof(uint64_t), err))
        return false;
    part->slots = (struct mr_pages){0};
    mr_pages_grow(&part->slots, n * sizeof(uint64_t));
    part->n_slots = n;
    const uint64_t *slots = (const uint64_t *)(const void *)old.ptr;
    for (size_t i = 0; i < n_old; i++)
        if (slots[i])
            enter_slot(part, slots[i]);
    mr_pages_free(&old);
    return true;
}

/* The offset of the key in the partition's keys, where it is put if it is new. */
static bool intern_key(struct mr_table_builder *builder, struct partition *part, uint64_t hash,
                       const char *key, size_t len, uint32_t *offset, struct mr_error *err)
{
    uint64_t tag = part_tag(hash);
    if (4 * (part->n_keys + 1) > 3 * part->n_slots && !grow_slots(builder, part, err))
        return false;
    const uint64_t *slots = (const uint64_t *)(const void *)part->slots.ptr;
    for (size_t at = part_home(part, tag); slots[at]; at = (at + 1) & (part->n_slots - 1)) {
        if ((slots[at] & ~(uint64_t)UINT32_MAX) != tag)
            continue;
        *offset = (uint32_t)slots[at];
        if (part->keys.len - *offset >= len && memcmp(part->keys.ptr + *offset, key, len) == 0)
            return true;
    }
    if (!part->keys.len)
        part->keys.len = 1;
    if (part->keys.len + len > UINT32_MAX)
        return too_big(builder, err);
    if (!take(builder, len, err))
        return false;
    *offset = (uint32_t)part->keys.len;
    memcpy(mr_pages_reserve(&part->keys, len), key, len);
    part->keys.len += len;
    part->n_keys++;
    enter_slot(part, tag | *offset);
    return true;
}

static void sort_tail(struct mr_table_builder *builder, struct partition *part)
{
    size_t before = part->rows.len;
    mr_partition_sort(part, builder->table->n_row_cells, &builder->space);
    builder->used = builder->used - before + part->rows.len;
}

/* Longer runs for more rows, so that there are never many to merge. */
static bool tail_is_long(const struct partition *part)
{
    size_t limit = part->rows.len / RUN_SHARE;
    limit = limit < RUN_MIN ? RUN_MIN : limit > RUN_MAX ? RUN_MAX : limit;
    return part->rows.len - part->tail >= limit;
}

static bool place(struct mr_table_builder *builder, const struct pending *row, struct mr_error *err)
{
    struct partition *part = partition_of(builder, row->hash);
    const char *key = builder->bytes.ptr + row->from;
    uint32_t offset = 0;
    if (!intern_key(builder, part, row->hash, key, row->key_len, &offset, err))
        return false;
    uint8_t head[VARINT_MAX];
    size_t head_len = (size_t)(varint_write(head, offset) - head);
    if (!take(builder, head_len + row->row_len, err))
        return false;
    uint8_t *at = mr_pages_reserve(&part->rows, head_len + row->row_len);
    memcpy(at, head, head_len);
    if (row->row_len)
        memcpy(at + head_len, key + row->key_len, row->row_len);
    part->rows.len += head_len + row->row_len;
    if (tail_is_long(part))
        sort_tail(builder, part);
    if (builder->table->rowmap)
        mr_rowmap_put(
            builder->table->rowmap, row->id,
            mr_table_payload(row->hash, (const uint8_t *)key + row->key_len, row->row_len));
    return true;
}

/* By now the slots are here: asks for the keys that they point to, then places the rows. */
static bool place_pending(struct mr_table_builder *builder, struct mr_error *err)
{
    for (size_t i = 0; i < builder->n_pending; i++) {
        const struct pending *row = &builder->pending[i];
        const struct partition *part = partition_of(builder, row->hash);
        if (builder->table->rowmap)
            mr_rowmap_prefetch_chunk(builder->table->rowmap, row->id);
        if (!part->n_slots)
            continue;
        const uint64_t *slots = (const uint64_t *)(const void *)part->slots.ptr;
        __builtin_prefetch(part->keys.ptr + (uint32_t)slots[part_home(part, part_tag(row->hash))]);
        __builtin_prefetch(part->rows.ptr + part->rows.len, 1);
    }
    bool ok = true;
    for (size_t i = 0; ok && i < builder->n_pending; i++)
        ok = place(builder, &builder->pending[i], err);
    builder->n_pending = 0;
    mr_buf_reset(&builder->bytes);
    return ok;
}

void mr_table_builder_identify(struct mr_table_builder *builder, size_t n)
{
    struct mr_table *table = builder->table;
    mr_assert(n && !table->rowmap && !table->stats.rows_read);
    table->n_ids = n;
    table->rowmap = mr_rowmap_new(table->seed);
}

/* A NULL in the key: the row is counted, and at most its identity is kept. */
static bool leave_out(struct mr_table_builder *builder, const struct pending *row,
                      struct mr_error *err)
{
    builder->bytes.len = row->from;
    builder->table->stats.null_keys++;
    if (!builder->table->rowmap)
        return true;
    if (!take(builder, 0, err))
        return false;
    mr_rowmap_put(builder->table->rowmap, row->id, 0);
    return true;
}

static bool add(struct mr_table_builder *builder, const struct mr_value *values,
                struct mr_error *err)
{
    const struct mr_lookup_schema *schema = builder->table->schema;
    struct mr_buf *bytes = &builder->bytes;
    struct pending *row = &builder->pending[builder->n_pending];
    builder->table->stats.rows_read++;
    row->from = bytes->len;
    for (size_t i = 0; i < schema->n_keys; i++) {
        if (values[i].type == MR_NULL)
            return leave_out(builder, row, err);
        mr_key_put(bytes, &values[i]);
    }
    row->key_len = bytes->len - row->from;
    for (size_t i = schema->n_keys; i < schema->n_columns; i++)
        mr_cell_put(bytes, &values[i]);
    row->row_len = bytes->len - row->from - row->key_len;
    row->hash = mr_table_hash(builder->table->seed, bytes->ptr + row->from, row->key_len);
    const struct partition *part = partition_of(builder, row->hash);
    if (part->n_slots)
        __builtin_prefetch(part->slots.ptr +
                           part_home(part, part_tag(row->hash)) * sizeof(uint64_t));
    return ++builder->n_pending < BATCH || place_pending(builder, err);
}

bool mr_table_builder_add(struct mr_table_builder *builder, const struct mr_value *values,
                          struct mr_error *err)
{
    mr_assert(!builder->table->rowmap);
    return add(builder, values, err);
}

bool mr_table_builder_add_id(struct mr_table_builder *builder, const struct mr_value *values,
                             const struct mr_value *ids, struct mr_error *err)
{
    const struct mr_table *table = builder->table;
    struct rowid id = mr_rowmap_id(table->rowmap, ids, table->n_ids, &builder->scratch);
    builder->pending[builder->n_pending].id = id;
    mr_rowmap_prefetch(table->rowmap, id);
    return add(builder, values, err);
}

bool mr_table_builder_finish(struct mr_table_builder *builder, struct mr_table **out,
                             struct mr_error *err)
{
    struct mr_table *table = builder->table;
    size_t n_keys = 0, upper = 1;
    *out = NULL;
    if (!place_pending(builder, err)) {
        mr_table_builder_free(builder);
        return false;
    }
    for (size_t i = 0; i < PARTITIONS; i++) {
        struct partition *part = &builder->parts[i];
        sort_tail(builder, part);
        n_keys += part->n_keys;
        upper += part->rows.len + part->keys.len;
    }
    mr_sort_space_free(&builder->space);
    if (builder->used + mr_rowmap_bytes(table->rowmap) > builder->max_bytes || upper > SLOT_PLACE) {
        too_big(builder, err);
        mr_table_builder_free(builder);
        return false;
    }
    table->index = mr_index_new(mr_index_slots(n_keys));
    table->used_slots = n_keys;
    mr_pages_grow(&table->postings, upper);
    table->postings.len = 1;
    for (size_t i = 0; i < PARTITIONS; i++)
        mr_partition_merge(&builder->parts[i], table, table->schema->n_keys);
    mr_pages_trim(&table->postings);
    table->stats.keys = n_keys;
    table->stats.bytes = mr_table_bytes(table);
    builder->table = NULL;
    mr_table_builder_free(builder);
    *out = table;
    return true;
}
