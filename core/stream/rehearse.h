/*
 * rehearse.h - the same messages through two scripts, and what differs in what they become.
 *
 * Both run in fresh states, side by side, message by message, against the same lookup, each message
 * with the time at which it had been taken; nothing is sent and nothing is written. Of a fan-out
 * only the first outputs are compared. Driven by one thread, which opened the scripts.
 *
 * Outputs of a message are compared as a set: equal ones, wherever they stand, are no difference.
 * Of the others those with the same topic and key (without a key: in their order) are one output
 * that has changed; what is left was added or dropped. A message that only one of the two rejects
 * is an error that is new or gone, and its outputs are not counted besides.
 */
#ifndef MR_STREAM_REHEARSE_H
#define MR_STREAM_REHEARSE_H

#include "stream/recent.h"
#include "stream/trial.h"

enum mr_difference {
    MR_OUTPUT_ADDED,
    MR_OUTPUT_DROPPED,
    MR_OUTPUT_CHANGED,
    MR_ERROR_NEW,
    MR_ERROR_GONE,
    MR_DIFFERENCES
};
extern const char *const mr_difference_names[MR_DIFFERENCES]; /* "added", "dropped", ... */

enum { MR_REHEARSE_EXAMPLES = 5 }; /* of each kind: the first ones, one a message */

/* Borrows until the function returns. */
struct mr_example {
    enum mr_difference kind;
    const struct mr_sample *sample;
    const struct mr_trial_output *before, *after; /* NULL where there is none */
    const struct mr_error *err;                   /* of the errors */
    const char *reason; /* ADDED, DROPPED: why one of them dropped the whole message; or NULL */
};

struct mr_rehearsed {
    size_t n_messages; /* that were run; fewer than there are when time was over */
    size_t n_differ;   /* messages */
    size_t n_cut;      /* messages of which not all outputs were compared */
    uint64_t outputs_before, outputs_after; /* that were compared */
    uint64_t differences[MR_DIFFERENCES];
    size_t errors_before, errors_after; /* messages */
    const struct mr_sample *unmended;   /* the first that neither can take; NULL: none */
    struct mr_error err;                /* of the new one, for that message */
};

/* One of the two. */
struct mr_rehearse_side {
    struct mr_script *script;
    const char *const *topics;
    size_t n_topics, max_message_bytes;
};

struct mr_rehearse_options {
    struct mr_rehearse_side before, after;
    struct mr_lookup *lookup;               /* NULL: `map` */
    const struct mr_lookup_schema *columns; /* with which both were opened */
    const struct mr_row_schema *rows;
    uint64_t outputs_max; /* of a message */
    struct mr_sample *const *samples;
    size_t n_samples;
    int64_t deadline_mono_ms; /* looked at before each message, and within a fan-out */
    const atomic_bool *stop;  /* may be NULL */
    void (*example)(void *arg, const struct mr_example *example); /* may be NULL */
    void *arg;
};

/* False: it came to no end (MR_RETRY): the lookup is away or has changed its shape. */
MR_MUSTCHECK bool mr_rehearse(const struct mr_rehearse_options *options, struct mr_rehearsed *out,
                              struct mr_error *err);
bool mr_rehearsed_same(const struct mr_rehearsed *rehearsed);

#endif
