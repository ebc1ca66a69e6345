/*
 * edition.h - what a reload exchanges under a running pipeline: an edition of its script, and the
 * numbers by which its workers go.
 *
 * An edition is one version of everything that a script is opened with: sources, vars, limits. It
 * never changes, is counted, and lives as long as a script that was opened from it; the factory of
 * the workers (worker.h) knows what is in it, the engine only its name. Any thread.
 */
#ifndef MR_STREAM_EDITION_H
#define MR_STREAM_EDITION_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

struct mr_edition {
    atomic_int refs;
    const char *bundle; /* hash of the script's sources; lives as long as the edition */
    void (*free)(struct mr_edition *edition); /* with the last reference */
};

/* Takes a reference; gives the same pointer. NULL is nothing. */
struct mr_edition *mr_edition_acquire(struct mr_edition *edition);
void mr_edition_release(struct mr_edition *edition);

/* May change without the script being opened anew. */
struct mr_worker_settings {
    int64_t linger_ms;
    int64_t script_limit_ms; /* of one call into the script: the watchdog gives it several */
    uint32_t unit_outputs;
    size_t unit_bytes, max_message_bytes;
};

#endif
