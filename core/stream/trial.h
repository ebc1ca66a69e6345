/*
 * trial.h - messages through the real pipeline with nothing behind it: no broker, no database, and
 * each output shown to a function. What `millrace try`, the rehearsal of a reload, millrace.so and
 * millrace.testing share.
 *
 * A trial borrows script, lookup and row schema and is driven by one thread, the script's. Fan-outs
 * go chunk by chunk, as in the engine. Nothing is counted and nothing is logged here.
 */
#ifndef MR_STREAM_TRIAL_H
#define MR_STREAM_TRIAL_H

#include "millrace/lookup.h"
#include "millrace/message.h"
#include "millrace/row.h"
#include "millrace/script.h"

#include <stdatomic.h>

/* What one joined row became: a message, a row, or both. Borrows until the function returns. */
struct mr_trial_output {
    bool has_message, has_row;
    struct mr_frame frame; /* topic: index into the script's topics */
    struct mr_bytes key, headers, value;
    const struct mr_column_set *set;
    struct mr_bytes row; /* one tuple, see row.h */
};

struct mr_trial_options {
    struct mr_script *script;
    struct mr_lookup *lookup; /* NULL: `map`. Pinned while a message runs, and only then */
    const struct mr_lookup_schema *columns; /* with which the script was opened; NULL: `map` */
    const struct mr_row_schema *rows;       /* with which the script was opened; may be NULL */
    uint32_t chunk_outputs;                 /* 0: 20000, as unit.outputs */
    size_t chunk_bytes;                     /* 0: 7 MB, as unit.bytes */
    size_t max_message_bytes;               /* 0: 1 MB, as max_message */
    uint64_t outputs_max;                   /* of a message: shown at most; 0: all of them */
    int64_t deadline_mono_ms;               /* a fan-out is cut between chunks; 0: never */
    const atomic_bool *stop;                /* so it is when this is set; may be NULL */
    void (*output)(void *arg, const struct mr_trial_output *output);
    void *arg;
};

struct mr_trial_result {
    const char *reason; /* DROP: why; borrows until the next message */
    size_t n_keys;      /* that the script asked the lookup for */
    uint64_t n_outputs; /* shown */
    bool cut;           /* there was more than outputs_max, or than there was time for */
};

struct mr_trial;

struct mr_trial *mr_trial_new(const struct mr_trial_options *options);
void mr_trial_free(struct mr_trial *trial); /* NULL is nothing */

/*
 * One message, whole. `rec` has its headers; everything is borrowed. EMIT, DROP and REJECT as the
 * engine would have them (REJECT: a dead letter, *err says why; outputs of chunks before it were
 * shown, as they would have been sent). RETRY: the lookup has no table, or one of other columns
 * than the script knows. STOP: the script could not be loaded again.
 */
enum mr_verdict mr_trial_run(struct mr_trial *trial, const struct mr_record *rec, int64_t now_ms,
                             struct mr_trial_result *result, struct mr_error *err);
/* What ctx.attempt says from now on; 0 at first. */
void mr_trial_set_attempt(struct mr_trial *trial, int attempt);

/* The next field of a tuple: walks from *at (NULL at first) on; ptr NULL for a NULL. Call it
 * set->n times. */
struct mr_bytes mr_trial_field(struct mr_bytes row, const char **at);

#endif
