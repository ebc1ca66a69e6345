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
    struct mr_mark_text mark, again;
    struct mr_buf job = {0}, job_again = {0};
    enum mr_mark_kind kind = mr_mark_read(&committed, id, &mark, &job);
    FUZZ_CHECK(kind == MR_MARK_PLAIN || kind == MR_MARK_OURS || kind == MR_MARK_FOREIGN, "%d",
               (int)kind);
    FUZZ_CHECK(mark.unit >= 0 && mark.probe >= 0, "unit %lld", (long long)mark.unit);
    if (kind == MR_MARK_OURS && mr_mark_format(committed.metadata, id, mark.unit, mark.probe,
                                               mark.has_job ? &mark.job : NULL)) {
        FUZZ_CHECK(mr_mark_read(&committed, id, &again, &job_again) == MR_MARK_OURS &&
                       again.unit == mark.unit && again.probe == mark.probe &&
                       again.has_job == mark.has_job && job.len == job_again.len &&
                       (!job.len || memcmp(job.ptr, job_again.ptr, job.len) == 0),
                   "%s", committed.metadata);
    }
    mr_buf_fini(&job);
    mr_buf_fini(&job_again);
    return 0;
}
