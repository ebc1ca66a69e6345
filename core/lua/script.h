/*
 * script.h - opens a user's script; what it does then: millrace/script.h.
 *
 * Strings, schemas and vars are borrowed as long as the script is open. One thread opens, uses and
 * closes it.
 */
#ifndef MR_LUA_SCRIPT_H
#define MR_LUA_SCRIPT_H

#include "base/tree.h"
#include "millrace/script.h"

struct mr_bundle;

struct mr_script_options {
    const char *path;
    struct mr_bundle *bundle; /* its sources, read and sealed (bundle.h), in place of the files at
                                 `path`; NULL: they are read. Acquired */
    bool has_lookup;          /* then the script has key, and project or each; else map */
    const struct mr_lookup_schema
        *lookup;                      /* NULL: not known yet (check without --connect), or none */
    const struct mr_row_schema *rows; /* NULL: no feedback rows, or not known yet */
    bool has_message;                 /* a sink for messages is there */
    const char *const *topics;        /* to which shape may send; the first is the default */
    size_t n_topics;
    const struct mr_node *vars; /* NULL: none */
    int64_t time_limit_ms;      /* of each call; 0: none */
    size_t memory_limit_bytes;  /* of the state; 0: none */
    size_t output_limit_bytes;  /* of what one message becomes before it is stamped; 0: 1 GB */
    const char *pipeline;       /* for metrics and log lines */
    int64_t now_ms;             /* what ctx.now tells the first `init`; 0: the host's clock */
    bool bundle_header;         /* each message carries millrace-bundle */
    bool quiet;                 /* ctx.log and ctx.count do nothing: a rehearsal */
};

/* Runs the file and checks what it returns. False: *err is MR_STOP, exit code 78, with file and
 * line, and the nearest name where one is unknown. */
MR_MUSTCHECK bool mr_script_open(const struct mr_script_options *options, struct mr_script **out,
                                 struct mr_error *err);
/* The sources that it runs; mr_bundle_release. Another thread may open a script from them. */
struct mr_bundle *mr_script_bundle(struct mr_script *script);

/* Appends a message (JSON) as the script's `fields` ask for: texts that end in `number`, numbers
 * that are the time in seconds. False, nothing appended: the script has no `fields`. */
bool mr_script_sample(struct mr_script *script, int64_t now_s, unsigned number, struct mr_buf *out);

#endif
