/*
 * script.h - the contract of the user's script (core/lua/script.c; plain C in tests).
 *
 * One script belongs to one worker thread. For one message the calls come in this order: accept,
 * then (with a lookup) key and project or each, or (without) project alone, which calls the
 * script's `map`; then finish, always. Each is one protected call. Verdicts are a closed set; the
 * switch over them stands in core/stream/worker.c. A script error is MR_VERDICT_REJECT with *err
 * filled (class script, script_timeout, script_memory, schema, decode, utf8): never "pass the
 * record on".
 */
#ifndef MILLRACE_SCRIPT_H
#define MILLRACE_SCRIPT_H

#include "base/error.h"
#include "millrace/lookup.h"
#include "millrace/record.h"
#include "millrace/source.h"
#include "millrace/template.h"

enum mr_verdict {
    MR_VERDICT_EMIT,   /* go on; after project: outputs are there */
    MR_VERDICT_DROP,   /* *reason says why: a short name, a metric label */
    MR_VERDICT_HOLD,   /* with the calendar */
    MR_VERDICT_REJECT, /* dead letter, *err says why */
    MR_VERDICT_RETRY,  /* a service is away: undo the unit, back off */
    MR_VERDICT_STOP    /* halt */
};

struct mr_script {
    const struct mr_script_ops *ops;
};

/* ctx, as far as it is not the record. */
struct mr_context {
    int64_t now_ms;   /* accept: the current time at each chunk; key, project: the frozen one */
    uint32_t attempt; /* 0 the first time */
};

/* `each` has limits.time for so many rows, and again for the next so many. */
enum { MR_EACH_ROWS = 1000 };

/* The rows of one chunk, for `each`. Both are called inside the script's protected call: they never
 * raise, and what they do stands when the script fails later (the caller takes it back). */
struct mr_rows {
    /* False: there are no more in this chunk, or *err is filled. Good until the next call. */
    bool (*next)(struct mr_rows *rows, struct mr_row_ref *row, struct mr_error *err);
    /* What the script made of the row that next gave last. Borrows. */
    bool (*put)(struct mr_rows *rows, const struct mr_template *template, struct mr_error *err);
    bool failed;          /* next or put has: *err says why */
    uint64_t budget_rows; /* beyond these the time for the last MR_EACH_ROWS must do */
};

struct mr_script_ops {
    /* Decodes, checks `fields`, runs `filter`. Borrows rec until finish. `source` reads headers if
     * the script asks. */
    enum mr_verdict (*accept)(struct mr_script *script, struct mr_record *rec,
                              struct mr_source *source, const struct mr_context *ctx,
                              const char **reason, struct mr_error *err);
    /* Runs `key`. *keys: n canonical keys (mr_lookup_key), repeated ones once; lives until finish.
     * No key: DROP "no_key". */
    enum mr_verdict (*key)(struct mr_script *script, const struct mr_context *ctx,
                           const struct mr_bytes **keys, size_t *n, const char **reason,
                           struct mr_error *err);
    /* Runs `project` (or `map`), `shape`, `row`. *out lives until finish. `map` returning nil: DROP
     * "no_output". */
    enum mr_verdict (*project)(struct mr_script *script, const struct mr_context *ctx,
                               const struct mr_template **out, const char **reason,
                               struct mr_error *err);
    /* Runs `each`, `shape`, `row` for every row of `rows`. NULL: the script has no `each` (ever).
     */
    enum mr_verdict (*each)(struct mr_script *script, const struct mr_context *ctx,
                            struct mr_rows *rows, struct mr_error *err);
    /* Runs `tick`, if there is one, between messages. False: *err says why, for the log. NULL: the
     * script has none. */
    bool (*tick)(struct mr_script *script, const struct mr_context *ctx, struct mr_error *err);
    void (*finish)(struct mr_script *script);
    bool (*uses_lookup)(const struct mr_script *script);   /* false: `map` */
    bool (*by_row)(const struct mr_script *script);        /* each, not project; NULL: project */
    const char *(*bundle)(const struct mr_script *script); /* hash of the sources, hex */
    void (*close)(struct mr_script *script);
};

#endif
