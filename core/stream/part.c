/*
 * part.c - a partition's fan-out state, copied and freed.
 *
 * One worker thread. Owns the job's bytes. Must not know where the numbers come from.
 * Tests: tests/unit/test_stream.c.
 */
#include "stream/part.h"

#include <stdlib.h>

void mr_part_set_job(struct mr_part *part, const struct mr_job_state *job)
{
    part->has_job = job != NULL;
    if (!job)
        return;
    /* The caller may hand back what mr_part_job lent: then the keys are in place already. */
    if (job->keys.ptr != part->job_keys.ptr) {
        mr_buf_reset(&part->job_keys);
        mr_buf_put(&part->job_keys, job->keys.ptr, job->keys.len);
    }
    if (job->cursor.ptr != part->job_cursor.ptr) {
        mr_buf_reset(&part->job_cursor);
        mr_buf_put(&part->job_cursor, job->cursor.ptr, job->cursor.len);
    }
    part->job_trigger_ms = job->trigger_ms;
}

struct mr_job_state mr_part_job(const struct mr_part *part)
{
    return (struct mr_job_state){
        .keys = {part->job_keys.ptr, part->job_keys.len},
        .cursor = {part->job_cursor.len ? part->job_cursor.ptr : NULL, part->job_cursor.len},
        .trigger_ms = part->job_trigger_ms,
    };
}

void mr_part_fini(struct mr_part *part)
{
    mr_buf_fini(&part->job_keys);
    mr_buf_fini(&part->job_cursor);
    free(part->owner_before);
}
