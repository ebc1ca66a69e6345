/*
 * edition.c - the references to an edition, counted.
 *
 * Any thread. Owns nothing. Must not know what is in an edition. Tests: tests/unit/test_reload.c.
 */
#include "stream/edition.h"

struct mr_edition *mr_edition_acquire(struct mr_edition *edition)
{
    if (edition)
        atomic_fetch_add_explicit(&edition->refs, 1, memory_order_relaxed);
    return edition;
}

void mr_edition_release(struct mr_edition *edition)
{
    if (edition && atomic_fetch_sub_explicit(&edition->refs, 1, memory_order_acq_rel) == 1)
        edition->free(edition);
}
