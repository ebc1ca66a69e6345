/*
 * rowmap.c - identities to payloads, by linear hashing into chains of small chunks.
 *
 * The writer's thread. The low bits of an identity choose its bucket, the rest of them are kept, as
 * few bytes as it takes: 2 of 4, when there are many. Buckets are added one at a time, and split
 * one at a time, so that no single call takes long. A bucket is a chain of chunks of one size, of
 * which the first may have room; so no memory is lost between them, whatever comes and goes. Must
 * not know what a payload means. Tests: tests/unit/test_rowmap.c.
 */
#include "lookup/rowmap.h"

#include "lookup/key.h"
#include "lookup/pages.h"
#include "lookup/table.h"

#include <stdlib.h>

enum {
    BUCKET_FILL = 64,   /* entries, on average */
    CHUNK_ENTRIES = 12, /* in all chunks of a bucket but the first */
    HEAD = 5,           /* of a chunk: uint32 next, 0 at the end; uint8 how many entries */
    SLACK = 8,          /* entries are read 8 bytes at a time */
    PAYLOAD_BYTES = PAYLOAD_BITS / 8,
    CHUNK_MAX = HEAD + CHUNK_ENTRIES * (8 + PAYLOAD_BYTES)
};

/* Identities of one width. */
struct side {
    unsigned id_bytes;      /* 4 or 8 */
    unsigned level;         /* 2^level buckets were there before those that are split now */
    unsigned rest;          /* bytes kept of an identity: without the whole bytes of `level` bits */
    size_t n, n_buckets;    /* 0 before the first entry */
    struct mr_pages dir;    /* uint32_t[n_buckets]: the first chunk; 0: none */
    struct mr_pages chunks; /* numbered; the first is none */
    uint32_t freed;         /* the first of a list through the chunks */
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
        mr_pages_free(&map->sides[i].chunks);
    }
    free(map);
}

size_t mr_rowmap_bytes(const struct rowmap *map)
{
    size_t bytes = map ? sizeof *map : 0;
    for (int i = 0; map && i < 2; i++) /* what lies behind len was never touched */
        bytes += mr_pages_size(map->sides[i].dir.len) + mr_pages_size(map->sides[i].chunks.len);
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

static size_t entry_size(const struct side *side)
{
    return side->rest + PAYLOAD_BYTES;
}

static size_t chunk_size(const struct side *side)
{
    return HEAD + CHUNK_ENTRIES * entry_size(side);
}

static uint8_t *chunk_at(const struct side *side, uint32_t chunk)
{
    return side->chunks.ptr + chunk * chunk_size(side);
}

static uint32_t next_of(const uint8_t *chunk)
{
    uint32_t next;
    memcpy(&next, chunk, sizeof next);
    return next;
}

static uint8_t *count_of(uint8_t *chunk)
{
    return chunk + HEAD - 1;
}

static uint64_t read_bytes(const uint8_t *at, unsigned n)
{
    uint64_t value = 0;
    memcpy(&value, at, n);
    return value;
}

/* A chunk in front of the bucket's others. */
static void push_chunk(struct side *side, size_t bucket)
{
    uint32_t chunk = side->freed, *first = dir_of(side) + bucket;
    size_t size = chunk_size(side);
    if (chunk) {
        side->freed = next_of(chunk_at(side, chunk));
    } else {
        side->chunks.len = side->chunks.len ? side->chunks.len : size;
        mr_pages_reserve(&side->chunks, size + SLACK);
        chunk = (uint32_t)(side->chunks.len / size);
        side->chunks.len += size;
    }
    memcpy(chunk_at(side, chunk), first, sizeof *first);
    *count_of(chunk_at(side, chunk)) = 0;
    *first = chunk;
}

/* Takes the bucket's first chunk away. */
static void pop_chunk(struct side *side, size_t bucket)
{
    uint32_t *first = dir_of(side) + bucket, chunk = *first;
    *first = next_of(chunk_at(side, chunk));
    memcpy(chunk_at(side, chunk), &side->freed, sizeof chunk);
    side->freed = chunk;
}

static void put_entry(struct side *side, uint64_t key, uint64_t payload)
{
    size_t bucket = bucket_of(side, key);
    uint32_t first = dir_of(side)[bucket];
    if (!first || *count_of(chunk_at(side, first)) == CHUNK_ENTRIES)
        push_chunk(side, bucket);
    uint8_t *chunk = chunk_at(side, dir_of(side)[bucket]);
    uint8_t *at = chunk + HEAD + *count_of(chunk) * entry_size(side);
    key >>= told_bits(side);
    memcpy(at, &key, side->rest);
    memcpy(at + side->rest, &payload, PAYLOAD_BYTES);
    ++*count_of(chunk);
}

/* --- growing --- */

/* Puts the chain from `chunk` on, of a bucket of `from`, where it belongs in `side`. */
static void move_chain(struct side *side, struct side *from, size_t bucket)
{
    unsigned told = told_bits(from), rest = from->rest;
    uint64_t low = bucket & ((1ULL << told) - 1);
    uint32_t first = dir_of(from)[bucket];
    dir_of(from)[bucket] = 0;
    for (uint32_t chunk = first, next; chunk; chunk = next) {
        uint8_t copy[CHUNK_MAX];
        memcpy(copy, chunk_at(from, chunk), chunk_size(from));
        next = next_of(copy);
        memcpy(chunk_at(from, chunk), &from->freed, sizeof from->freed);
        from->freed = chunk;
        const uint8_t *at = copy + HEAD;
        for (unsigned i = 0; i < *count_of(copy); i++, at += rest + PAYLOAD_BYTES)
            put_entry(side, read_bytes(at, rest) << told | low,
                      read_bytes(at + rest, PAYLOAD_BYTES));
    }
}

static void keep_less(struct side *side)
{
    struct side old = *side;
    side->dir = side->chunks = (struct mr_pages){0};
    side->freed = 0;
    side->rest--;
    side->dir.len = old.dir.len;
    mr_pages_grow(&side->dir, old.dir.cap);
    for (size_t bucket = 0; bucket < side->n_buckets; bucket++)
        move_chain(side, &old, bucket);
    mr_pages_free(&old.dir);
    mr_pages_free(&old.chunks);
}

static void add_bucket(struct side *side)
{
    size_t split = side->n_buckets ? side->n_buckets - (1ULL << side->level) : 0;
    mr_pages_reserve(&side->dir, sizeof(uint32_t));
    side->dir.len += sizeof(uint32_t);
    dir_of(side)[side->n_buckets++] = 0;
    if (side->n_buckets > 1)
        move_chain(side, side, split);
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
    put_entry(side, id.key, payload);
}

/* Where an identity was found. */
struct place {
    const struct side *side;
    uint32_t chunk; /* 0: nowhere */
    unsigned entry;
    uint64_t rest_of_id, mask;
};

static uint8_t *entry_at(const struct place *place)
{
    return chunk_at(place->side, place->chunk) + HEAD + place->entry * entry_size(place->side);
}

/* From the entry where the place stands on. */
static bool find_from(struct place *place)
{
    size_t size = entry_size(place->side);
    while (place->chunk) {
        uint8_t *chunk = chunk_at(place->side, place->chunk), *at = entry_at(place);
        for (; place->entry < *count_of(chunk); place->entry++, at += size)
            if ((read_bytes(at, sizeof(uint64_t)) & place->mask) == place->rest_of_id)
                return true;
        place->chunk = next_of(chunk);
        place->entry = 0;
    }
    return false;
}

static bool find(const struct rowmap *map, struct rowid id, struct place *place)
{
    const struct side *side = &map->sides[id.wide];
    *place = (struct place){.side = side,
                            .rest_of_id = id.key >> told_bits(side),
                            .mask = UINT64_MAX >> (64 - 8 * side->rest)};
    if (side->n_buckets)
        place->chunk = dir_of(side)[bucket_of(side, id.key)];
    return find_from(place);
}

int mr_rowmap_find(const struct rowmap *map, struct rowid id, uint64_t *payload)
{
    struct place place;
    if (!find(map, id, &place))
        return 0;
    *payload = read_bytes(entry_at(&place) + place.side->rest, PAYLOAD_BYTES);
    place.entry++;
    return find_from(&place) ? 2 : 1;
}

/* The last entry of the first chunk takes the place. */
void mr_rowmap_remove(struct rowmap *map, struct rowid id)
{
    struct side *side = &map->sides[id.wide];
    struct place place;
    bool found = find(map, id, &place);
    mr_assert(found);
    size_t bucket = bucket_of(side, id.key);
    uint8_t *first = chunk_at(side, dir_of(side)[bucket]);
    --*count_of(first);
    memmove(entry_at(&place), first + HEAD + *count_of(first) * entry_size(side), entry_size(side));
    if (!*count_of(first))
        pop_chunk(side, bucket);
    side->n--;
}

void mr_rowmap_prefetch(const struct rowmap *map, struct rowid id)
{
    const struct side *side = &map->sides[id.wide];
    if (side->n_buckets)
        __builtin_prefetch(dir_of(side) + bucket_of(side, id.key));
}

void mr_rowmap_prefetch_chunk(const struct rowmap *map, struct rowid id)
{
    const struct side *side = &map->sides[id.wide];
    if (!side->n_buckets)
        return;
    const uint8_t *chunk = chunk_at(side, dir_of(side)[bucket_of(side, id.key)]);
    __builtin_prefetch(chunk, 1);
    __builtin_prefetch(chunk + 64, 1);
}
