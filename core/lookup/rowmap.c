/*
 * rowmap.c - identities to payloads, by linear hashing into small blocks.
 *
 * The writer's thread. The low bits of an identity choose its bucket, the rest of them are kept, as
 * few bytes as it takes: 2 of 4, when there are many. Buckets are added one at a time, and split
 * one at a time, so that they stay equally full and no single call takes long. A bucket is one
 * block of a region, a multiple of 16 bytes; freed blocks are used again for buckets of their size.
 * Must not know what a payload means. Tests: tests/unit/test_rowmap.c.
 */
#include "lookup/rowmap.h"

#include "lookup/key.h"
#include "lookup/pages.h"
#include "lookup/table.h"

#include <stdlib.h>

enum {
    BUCKET_FILL = 24, /* entries, on average */
    BUCKET_MAX = 250, /* more only if identities are not unique */
    UNIT = 16,        /* blocks are so many bytes, times a number */
    HEAD = 1,         /* of a block: how many entries */
    PAYLOAD_BYTES = PAYLOAD_BITS / 8,
    ENTRY_MAX = 8 + PAYLOAD_BYTES,
    UNITS_MAX = (HEAD + BUCKET_MAX * ENTRY_MAX) / UNIT + 2
};

/* Identities of one width. */
struct side {
    unsigned id_bytes;   /* 4 or 8 */
    unsigned level;      /* 2^level buckets were there before those that are split now */
    unsigned rest;       /* bytes kept of an identity: without the whole bytes of `level` bits */
    size_t n, n_buckets; /* 0 before the first entry */
    struct mr_pages dir; /* uint32_t[n_buckets]: a block, in units; 0: an empty bucket */
    struct mr_pages blocks;
    uint32_t freed[UNITS_MAX]; /* by size: the first of a list through the blocks */
    bool crowded;              /* entries were left out */
};

struct rowmap {
    uint64_t seed;
    struct side sides[2]; /* narrow, wide */
};

struct rowmap *mr_rowmap_new(uint64_t seed)
{
    struct rowmap *map = mr_calloc(1, sizeof *map);
    map->seed = seed;
    map->sides[0].id_bytes = map->sides[0].rest = 4;
    map->sides[1].id_bytes = map->sides[1].rest = 8;
    return map;
}

void mr_rowmap_free(struct rowmap *map)
{
    for (int i = 0; map && i < 2; i++) {
        mr_pages_free(&map->sides[i].dir);
        mr_pages_free(&map->sides[i].blocks);
    }
    free(map);
}

size_t mr_rowmap_bytes(const struct rowmap *map)
{
    size_t bytes = map ? sizeof *map : 0;
    for (int i = 0; map && i < 2; i++) /* what lies behind len was never touched */
        bytes += mr_pages_size(map->sides[i].dir.len) + mr_pages_size(map->sides[i].blocks.len);
    return bytes;
}

size_t mr_rowmap_count(const struct rowmap *map)
{
    return map->sides[0].n + map->sides[1].n;
}

/* One to one on 32 bits. */
static uint32_t mix32(uint32_t value)
{
    value ^= value >> 16;
    value *= 0x7feb352dU;
    value ^= value >> 15;
    value *= 0x846ca68bU;
    return value ^ value >> 16;
}

struct rowid mr_rowmap_id(const struct rowmap *map, const struct mr_value *ids, size_t n,
                          struct mr_buf *scratch)
{
    if (n == 1 && ids->type == MR_INT && ids->i >= 0 && ids->i <= UINT32_MAX)
        return (struct rowid){mix32((uint32_t)ids->i ^ (uint32_t)map->seed), false};
    mr_buf_reset(scratch);
    for (size_t i = 0; i < n; i++)
        mr_key_put(scratch, &ids[i]);
    return (struct rowid){mr_table_hash(map->seed, scratch->ptr, scratch->len), true};
}

/* --- buckets and their entries --- */

static size_t bucket_of(const struct side *side, uint64_t key)
{
    size_t bucket = key & ((2ULL << side->level) - 1);
    return bucket < side->n_buckets ? bucket : bucket & ((1ULL << side->level) - 1);
}

/* Bits of an identity that are not kept, since the bucket tells them. */
static unsigned told_bits(const struct side *side)
{
    return 8 * (side->id_bytes - side->rest);
}

static uint32_t *dir_of(const struct side *side)
{
    return (uint32_t *)(void *)side->dir.ptr;
}

static uint8_t *block_at(const struct side *side, uint32_t unit)
{
    return side->blocks.ptr + (size_t)unit * UNIT;
}

static size_t block_units(unsigned n, unsigned rest)
{
    return (HEAD + n * (size_t)(rest + PAYLOAD_BYTES) + UNIT - 1) / UNIT;
}

static uint64_t read_bytes(const uint8_t *at, unsigned n)
{
    uint64_t value = 0;
    memcpy(&value, at, n);
    return value;
}

static uint32_t alloc_block(struct side *side, size_t units)
{
    uint32_t unit = side->freed[units];
    if (unit) {
        memcpy(&side->freed[units], block_at(side, unit), sizeof unit);
        return unit;
    }
    if (!side->blocks.len)
        side->blocks.len = UNIT;                          /* the first is none */
    mr_pages_reserve(&side->blocks, units * UNIT + UNIT); /* entries are read 8 bytes at a time */
    unit = (uint32_t)(side->blocks.len / UNIT);
    side->blocks.len += units * UNIT;
    return unit;
}

static void free_block(struct side *side, uint32_t unit, size_t units)
{
    if (!unit)
        return;
    memcpy(block_at(side, unit), &side->freed[units], sizeof unit);
    side->freed[units] = unit;
}

/* Makes room for n entries in a bucket that has n_old; gives its block. */
static uint8_t *resize_bucket(struct side *side, size_t bucket, unsigned n_old, unsigned n)
{
    uint32_t old = dir_of(side)[bucket], unit = old;
    size_t old_units = old ? block_units(n_old, side->rest) : 0;
    size_t units = n ? block_units(n, side->rest) : 0;
    if (units != old_units) {
        unit = units ? alloc_block(side, units) : 0;
        if (unit && old)
            memcpy(block_at(side, unit), block_at(side, old),
                   (units < old_units ? units : old_units) * UNIT);
        free_block(side, old, old_units);
        dir_of(side)[bucket] = unit;
    }
    if (!unit)
        return NULL;
    *block_at(side, unit) = (uint8_t)n;
    return block_at(side, unit);
}

static unsigned bucket_count(const struct side *side, size_t bucket)
{
    uint32_t unit = dir_of(side)[bucket];
    return unit ? *block_at(side, unit) : 0;
}

static void put_entry(struct side *side, size_t bucket, uint64_t key, uint64_t payload)
{
    unsigned n = bucket_count(side, bucket), rest = side->rest;
    if (n == BUCKET_MAX) {
        side->crowded = true;
        side->n--;
        return;
    }
    uint8_t *at = resize_bucket(side, bucket, n, n + 1) + HEAD + n * (rest + PAYLOAD_BYTES);
    key >>= told_bits(side);
    memcpy(at, &key, rest);
    memcpy(at + rest, &payload, PAYLOAD_BYTES);
}

/* --- growing --- */

/* Takes a bucket's entries out, into `copy`; they are put in again, where they belong by now. */
static unsigned empty_bucket(struct side *side, size_t bucket, uint8_t copy[BUCKET_MAX * ENTRY_MAX])
{
    unsigned n = bucket_count(side, bucket);
    if (n)
        memcpy(copy, block_at(side, dir_of(side)[bucket]) + HEAD,
               n * (size_t)(side->rest + PAYLOAD_BYTES));
    resize_bucket(side, bucket, n, 0);
    return n;
}

static void refill(struct side *side, size_t bucket, unsigned old_rest, unsigned n,
                   const uint8_t *copy)
{
    unsigned told = 8 * (side->id_bytes - old_rest);
    for (unsigned i = 0; i < n; i++, copy += old_rest + PAYLOAD_BYTES) {
        uint64_t key = read_bytes(copy, old_rest) << told | (bucket & ((1ULL << told) - 1));
        put_entry(side, bucket_of(side, key), key, read_bytes(copy + old_rest, PAYLOAD_BYTES));
    }
}

static void keep_less(struct side *side)
{
    uint8_t copy[BUCKET_MAX * ENTRY_MAX];
    struct mr_pages old_dir = side->dir, old_blocks = side->blocks;
    struct side old = *side;
    side->dir = side->blocks = (struct mr_pages){0};
    memset(side->freed, 0, sizeof side->freed);
    side->rest--;
    side->dir.len = old_dir.len;
    mr_pages_grow(&side->dir, old_dir.cap);
    for (size_t bucket = 0; bucket < side->n_buckets; bucket++)
        refill(side, bucket, old.rest, empty_bucket(&old, bucket, copy), copy);
    mr_pages_free(&old_dir);
    mr_pages_free(&old_blocks);
}

static void add_bucket(struct side *side)
{
    uint8_t copy[BUCKET_MAX * ENTRY_MAX];
    size_t split = side->n_buckets ? side->n_buckets - (1ULL << side->level) : 0;
    bool first = !side->n_buckets;
    *(uint32_t *)(void *)mr_pages_reserve(&side->dir, sizeof(uint32_t)) = 0;
    side->dir.len += sizeof(uint32_t);
    unsigned n = first ? 0 : empty_bucket(side, split, copy);
    side->n_buckets++;
    refill(side, split, side->rest, n, copy);
    if (side->n_buckets != 2ULL << side->level)
        return;
    side->level++;
    if (side->level % 8 == 0 && side->rest > 1)
        keep_less(side);
}

/* --- the map --- */

void mr_rowmap_put(struct rowmap *map, struct rowid id, uint64_t payload)
{
    struct side *side = &map->sides[id.wide];
    while (side->n >= side->n_buckets * BUCKET_FILL)
        add_bucket(side);
    side->n++;
    put_entry(side, bucket_of(side, id.key), id.key, payload);
}

/* The entry of an identity from `at` on, or `end`. */
static const uint8_t *find_entry(const uint8_t *at, const uint8_t *end, uint64_t rest_of_id,
                                 unsigned rest)
{
    uint64_t mask = rest == 8 ? UINT64_MAX : (1ULL << 8 * rest) - 1, entry;
    for (; at < end; at += rest + PAYLOAD_BYTES) {
        memcpy(&entry, at, sizeof entry);
        if ((entry & mask) == rest_of_id)
            break;
    }
    return at;
}

static const uint8_t *find_in_bucket(const struct side *side, size_t bucket, uint64_t key,
                                     const uint8_t *from, const uint8_t **end)
{
    const uint8_t *block = block_at(side, dir_of(side)[bucket]);
    *end = block + HEAD + *block * (side->rest + PAYLOAD_BYTES);
    return find_entry(from ? from : block + HEAD, *end, key >> told_bits(side), side->rest);
}

int mr_rowmap_find(const struct rowmap *map, struct rowid id, uint64_t *payload)
{
    const struct side *side = &map->sides[id.wide];
    size_t bucket = side->n_buckets ? bucket_of(side, id.key) : 0;
    if (side->crowded)
        return 2;
    if (!side->n_buckets || !dir_of(side)[bucket])
        return 0;
    const uint8_t *end, *at = find_in_bucket(side, bucket, id.key, NULL, &end);
    if (at == end)
        return 0;
    *payload = read_bytes(at + side->rest, PAYLOAD_BYTES);
    const uint8_t *next = at + side->rest + PAYLOAD_BYTES;
    return find_in_bucket(side, bucket, id.key, next, &end) == end ? 1 : 2;
}

void mr_rowmap_remove(struct rowmap *map, struct rowid id)
{
    struct side *side = &map->sides[id.wide];
    size_t bucket = bucket_of(side, id.key), size = side->rest + PAYLOAD_BYTES;
    const uint8_t *end, *found = find_in_bucket(side, bucket, id.key, NULL, &end);
    mr_assert(found != end);
    uint8_t *at = side->blocks.ptr + (found - side->blocks.ptr);
    if (at + size != end)
        memcpy(at, end - size, size);
    unsigned n = bucket_count(side, bucket);
    resize_bucket(side, bucket, n, n - 1);
    side->n--;
}

void mr_rowmap_prefetch(const struct rowmap *map, struct rowid id)
{
    const struct side *side = &map->sides[id.wide];
    if (side->n_buckets)
        __builtin_prefetch(dir_of(side) + bucket_of(side, id.key));
}

void mr_rowmap_prefetch_block(const struct rowmap *map, struct rowid id)
{
    const struct side *side = &map->sides[id.wide];
    if (!side->n_buckets)
        return;
    const uint8_t *block = block_at(side, dir_of(side)[bucket_of(side, id.key)]);
    __builtin_prefetch(block);
    __builtin_prefetch(block + 64);
    __builtin_prefetch(block + 128);
    __builtin_prefetch(block + 192);
}
