/*
 * pages.c - regions of anonymous memory by mmap.
 *
 * One owner each, no thread safety. A lookup of gigabytes is rebuilt once a minute: with malloc the
 * old one's memory would stay in the process, scattered. Must not know what is stored. Tests:
 * tests/unit/test_lookup.c.
 */
#include "lookup/pages.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static size_t page_size(void)
{
    static size_t size; /* the same whoever writes it first */
    size_t known = __atomic_load_n(&size, __ATOMIC_RELAXED);
    if (!known) {
        known = (size_t)sysconf(_SC_PAGESIZE);
        __atomic_store_n(&size, known, __ATOMIC_RELAXED);
    }
    return known;
}

size_t mr_pages_size(size_t len)
{
    size_t page = page_size();
    return (len + page - 1) / page * page;
}

void mr_pages_grow(struct mr_pages *pages, size_t cap)
{
    cap = mr_pages_size(cap ? cap : 1);
    if (cap <= pages->cap)
        return;
    void *ptr = pages->ptr ? mremap(pages->ptr, pages->cap, cap, MREMAP_MAYMOVE)
                           : mmap(NULL, cap, PROT_READ | PROT_WRITE,
                                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (ptr == MAP_FAILED) {
        fprintf(stderr, "millrace: out of memory asking for %zu bytes for a lookup\n", cap);
        abort();
    }
    pages->ptr = ptr;
    pages->cap = cap;
}

void mr_pages_trim(struct mr_pages *pages)
{
    size_t keep = mr_pages_size(pages->len);
    if (keep >= pages->cap)
        return;
    munmap(pages->ptr + keep, pages->cap - keep);
    pages->cap = keep;
    if (!keep)
        pages->ptr = NULL;
}

void mr_pages_forget(struct mr_pages *pages, size_t from, size_t to)
{
    size_t page = page_size();
    from = (from + page - 1) / page * page;
    to = to / page * page;
    if (from < to)
        madvise(pages->ptr + from, to - from, MADV_DONTNEED);
}

void mr_pages_free(struct mr_pages *pages)
{
    if (pages->ptr)
        munmap(pages->ptr, pages->cap);
    *pages = (struct mr_pages){0};
}
