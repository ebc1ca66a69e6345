/*
 * rehearsal_tell.h - writes the report of a rehearsal, pipeline by pipeline. Private to the cli:
 * rehearsal.c drives it.
 *
 * init, then either problem, or begin, examples and counts; fini. end once, after all pipelines.
 */
#ifndef MR_CLI_REHEARSAL_TELL_H
#define MR_CLI_REHEARSAL_TELL_H

#include "cli/rehearsal.h"
#include "cli/show.h"
#include "stream/rehearse.h"

enum { MR_REHEARSAL_S = 5 }; /* for all pipelines together */

struct mr_rehearsal_tell {
    const struct mr_candidate_pipeline *pipeline;
    struct mr_rehearsal_report *report;
    const struct mr_rehearse_options *options;
    struct mr_show before, after;
    bool begun;
    unsigned told[MR_DIFFERENCES];
    struct mr_buf lines, json; /* the examples so far */
    struct mr_buf first_error; /* where it was, and what */
};

void mr_rehearsal_tell_init(struct mr_rehearsal_tell *tell,
                            const struct mr_candidate_pipeline *pipeline,
                            struct mr_rehearsal_report *report);
void mr_rehearsal_tell_fini(struct mr_rehearsal_tell *tell);
/* It was not rehearsed, or not to the end: why. */
void mr_rehearsal_tell_problem(struct mr_rehearsal_tell *tell, const char *problem);
void mr_rehearsal_tell_begin(struct mr_rehearsal_tell *tell,
                             const struct mr_rehearse_options *options);
void mr_rehearsal_tell_example(void *arg, const struct mr_example *example); /* arg: the tell */
void mr_rehearsal_tell_counts(struct mr_rehearsal_tell *tell, const struct mr_rehearsed *rehearsed,
                              size_t n_samples, int64_t ms);
void mr_rehearsal_tell_end(struct mr_rehearsal_report *report,
                           const struct mr_candidate *candidate);

#endif
