/*
 * pages.h - memory straight from the kernel: what is freed is given back at once, whatever malloc
 * does.
 *
 * A region grows by mremap (page tables move, bytes are not copied) and counts as used only where
 * it was written. One owner, no thread safety. Tests: through tests/unit/test_lookup.c.
 */
#ifndef MR_LOOKUP_PAGES_H
#define MR_LOOKUP_PAGES_H

#include "base/error.h"

#include <stdint.h>

struct mr_pages {
    uint8_t *ptr; /* moves when it grows */
    size_t len;   /* in use: the owner's to count */
    size_t cap;
};

/* At least `cap` bytes, zeroed where never written, the rest as it was. Never fails: see mr_alloc.
 */
void mr_pages_grow(struct mr_pages *pages, size_t cap);
/* Room for `extra` more bytes behind len. */
static inline uint8_t *mr_pages_reserve(struct mr_pages *pages, size_t extra)
{
    if (__builtin_expect(pages->cap < pages->len + extra, 0))
        mr_pages_grow(pages,
                      pages->len + extra > 2 * pages->cap ? pages->len + extra : 2 * pages->cap);
    return pages->ptr + pages->len;
}
/* Gives back what lies behind len. */
void mr_pages_trim(struct mr_pages *pages);
/* Gives back whole pages of [from, to); they read as zeros afterwards. */
void mr_pages_forget(struct mr_pages *pages, size_t from, size_t to);
void mr_pages_free(struct mr_pages *pages);

/* Memory taken by `len` bytes of a region. */
size_t mr_pages_size(size_t len);

#endif
