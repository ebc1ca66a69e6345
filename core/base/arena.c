/*
 * arena.c - bump allocation in a chain of blocks.
 *
 * One owner, no thread safety. Owns its blocks. Must not know what is stored. Tests:
 * tests/unit/test_base.c.
 */
#include "base/arena.h"

#include "base/error.h"

#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK_BYTES = 64 * 1024, ALIGN = 16 };

struct mr_arena_block {
    struct mr_arena_block *next;
    size_t cap;
    alignas(ALIGN) char data[];
};

void mr_arena_init(struct mr_arena *arena)
{
    *arena = (struct mr_arena){0};
}

void mr_arena_fini(struct mr_arena *arena)
{
    struct mr_arena_block *block = arena->first;
    while (block) {
        struct mr_arena_block *next = block->next;
        free(block);
        block = next;
    }
    *arena = (struct mr_arena){0};
}

void mr_arena_reset(struct mr_arena *arena)
{
    if (!arena->first)
        return;
    struct mr_arena_block *block = arena->first->next;
    while (block) {
        struct mr_arena_block *next = block->next;
        free(block);
        block = next;
    }
    arena->first->next = NULL;
    arena->current = arena->first;
    arena->used = 0;
}

static void add_block(struct mr_arena *arena, size_t at_least)
{
    size_t cap = at_least > BLOCK_BYTES ? at_least : BLOCK_BYTES;
    struct mr_arena_block *block = mr_alloc(sizeof *block + cap);
    block->next = NULL;
    block->cap = cap;
    if (arena->current)
        arena->current->next = block;
    else
        arena->first = block;
    arena->current = block;
    arena->used = 0;
}

void *mr_arena_alloc(struct mr_arena *arena, size_t size_bytes)
{
    size_t rounded = (size_bytes + ALIGN - 1) & ~(size_t)(ALIGN - 1);
    if (!arena->current || arena->current->cap - arena->used < rounded)
        add_block(arena, rounded);
    void *at = arena->current->data + arena->used;
    arena->used += rounded;
    return at;
}

void *mr_arena_copy(struct mr_arena *arena, const void *bytes, size_t len)
{
    void *at = mr_arena_alloc(arena, len ? len : 1);
    if (len)
        memcpy(at, bytes, len);
    return at;
}

char *mr_arena_strdup(struct mr_arena *arena, const char *text)
{
    return mr_arena_copy(arena, text, strlen(text) + 1);
}
