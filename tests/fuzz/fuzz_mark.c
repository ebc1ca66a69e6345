/*
 * fuzz_mark.c - the metadata of a committed offset: ours, anybody's, or nonsense.
 *
 * A unit that is read is not negative, and what was read as ours is written the same way.
 */
#include "fuzz.h"

#include "stream/mark.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char id[] = "0123abcd";
    struct mr_committed committed = {.present = true, .offset = 1};
    size_t len = size < sizeof committed.metadata ? size : sizeof committed.metadata - 1;
    if (len)
        memcpy(committed.metadata, data, len);
    int64_t unit = -1, again = -1;
    enum mr_mark_kind kind = mr_mark_read(&committed, id, &unit);
    FUZZ_CHECK(kind == MR_MARK_PLAIN || kind == MR_MARK_OURS || kind == MR_MARK_FOREIGN, "%d",
               (int)kind);
    FUZZ_CHECK((kind == MR_MARK_PLAIN) == (unit < 0), "kind %d, unit %lld", (int)kind,
               (long long)unit);
    if (kind == MR_MARK_OURS) {
        mr_mark_format(committed.metadata, id, unit);
        FUZZ_CHECK(mr_mark_read(&committed, id, &again) == MR_MARK_OURS && again == unit, "%s",
                   committed.metadata);
    }
    return 0;
}
