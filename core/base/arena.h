/*
 * arena.h - memory that lives as long as one message (or one configuration) and goes at once.
 *
 * Allocation is a pointer bump; mr_arena_reset keeps the first block. What is handed out stays
 * where it is until reset. A longjmp past an arena leaks nothing. One owner, no thread safety.
 */
#ifndef MR_BASE_ARENA_H
#define MR_BASE_ARENA_H

#include <stddef.h>

struct mr_arena_block;

struct mr_arena {
    struct mr_arena_block *first, *current;
    size_t used; /* bytes used in `current` */
};

void mr_arena_init(struct mr_arena *arena);
void mr_arena_fini(struct mr_arena *arena);
void mr_arena_reset(struct mr_arena *arena);

/* Aligned to 16, not zeroed; never NULL. */
void *mr_arena_alloc(struct mr_arena *arena, size_t size_bytes);
void *mr_arena_copy(struct mr_arena *arena, const void *bytes, size_t len);
char *mr_arena_strdup(struct mr_arena *arena, const char *text);

#endif
