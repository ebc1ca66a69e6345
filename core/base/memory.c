/*
 * memory.c - see memory.h. The allocator is the program's choice (core/CMakeLists.txt), not this
 * room's: mimalloc's function is asked for by name and may not be there (sanitizers, a program that
 * embeds us). Tests: tests/unit/test_base.c.
 */
#include "base/memory.h"

#include <malloc.h>
#include <stdbool.h>

extern void mi_collect(bool force) __attribute__((weak));

void mr_memory_give_back(void)
{
    if (mi_collect)
        mi_collect(true);
    else
        malloc_trim(0);
}
