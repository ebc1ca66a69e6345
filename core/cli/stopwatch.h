/*
 * stopwatch.h - a script that counts the time it is called for: what `millrace bench` puts between
 * the pipeline and the real one.
 *
 * One thread, the script's. The stopwatch borrows the script, which is closed by its owner.
 */
#ifndef MR_CLI_STOPWATCH_H
#define MR_CLI_STOPWATCH_H

#include "millrace/script.h"

struct mr_stopwatch {
    struct mr_script script; /* first: hand out its address */
    struct mr_script *real;
    int64_t script_ns; /* in accept, key, project and each, without what they had stamped */
    int64_t stamp_ns;  /* stamping, where `each` asked for it */
};

void mr_stopwatch_init(struct mr_stopwatch *watch, struct mr_script *real);
int64_t mr_stopwatch_now_ns(void);
int64_t mr_stopwatch_cpu_ns(void); /* of this thread; a look takes longer */

#endif
