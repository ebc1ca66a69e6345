/*
 * candidate.h - what stands on the disk now, beside what runs: loaded, checked and compared, but
 * not yet in use.
 *
 * Made and looked at by one thread, any one. What has no error may take the place of what runs
 * (reload.h); whoever only wants to know what it would do frees it again.
 */
#ifndef MR_CLI_CANDIDATE_H
#define MR_CLI_CANDIDATE_H

#include "cli/cli.h"
#include "cli/wire.h"

struct mr_candidate_pipeline {
    const char *name;
    struct mr_edition *before; /* in use, or decided */
    struct mr_edition *after;  /* the same pointer: nothing that the script could notice differs */
    struct mr_worker_settings in_force; /* beside `before`, whose configuration may be older */
    struct mr_worker_settings settings;
    bool differs; /* in the script or in any option */
};

struct mr_candidate {
    struct mr_shared_config *config;
    struct mr_candidate_pipeline *pipelines; /* all of them, in the order of the configuration */
    size_t n;
    struct mr_buf changed; /* names of options that differ, with commas */
    struct mr_buf files;   /* paths that were read, or should have been; a newline after each */
};

/*
 * Reads configuration and scripts as `args` say. False: *err is what is wrong first, with file and
 * line, or that options differ that cannot change while Millrace runs (*refused true); the
 * candidate is to be freed all the same, its files are what a person may mend.
 */
MR_MUSTCHECK bool mr_candidate_load(struct mr_candidate *candidate, const struct mr_cli_args *args,
                                    struct mr_wiring *wiring, bool *refused, struct mr_error *err);
void mr_candidate_fini(struct mr_candidate *candidate);

/* Nothing differs but, perhaps, comments in the configuration. */
bool mr_candidate_is_same(const struct mr_candidate *candidate);

#endif
