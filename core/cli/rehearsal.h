/*
 * rehearsal.h - what a reload would change: the last messages of each pipeline, run through the
 * scripts in force and those of a candidate, and told as lines and as JSON.
 *
 * Any thread; several may run at a time. Nothing is applied here.
 */
#ifndef MR_CLI_REHEARSAL_H
#define MR_CLI_REHEARSAL_H

#include "cli/candidate.h"

#include <stdatomic.h>

struct mr_rehearsal_report {
    bool differs; /* some output, or some error */
    bool serious; /* new errors, or outputs that are missing */
    bool broken;  /* a script does not open with the columns that there are; the text says why */
    bool blocks;  /* more than reload.block_if allows */
    struct mr_buf text;    /* lines */
    struct mr_buf json;    /* one object, without a newline */
    struct mr_buf blocked; /* of `blocks`: a sentence that says why, and how to force it */
};

/* All pipelines whose script, or what it is opened with, differs; or `only` the one of that name
 * (NULL: all). Takes 5 s at most, beyond the message that is run when they are over and a look at
 * the columns of the Postgres table. `stop`: return soon. */
void mr_rehearsal_run(struct mr_wiring *wiring, const struct mr_candidate *candidate,
                      const char *only, const atomic_bool *stop,
                      struct mr_rehearsal_report *report);
void mr_rehearsal_report_fini(struct mr_rehearsal_report *report);

/*
 * What a reload would do to what stands on the disk now, as `args` name it: the report, as lines or
 * (`json`) one object, in `out`. "same", "differs", or "broken": a reload would fail.
 */
const char *mr_rehearsal_answer(struct mr_wiring *wiring, const struct mr_cli_args *args,
                                const char *only, bool json, const atomic_bool *stop,
                                struct mr_buf *out);

/* The place in a reload (reload.h): logs the report, and says no where block_if does. arg: wiring.
 */
bool mr_rehearsal_judge(void *arg, const struct mr_candidate *candidate, const atomic_bool *stop,
                        struct mr_error *why);

#endif
