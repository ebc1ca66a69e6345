/*
 * pipeline.h - the way of one message, from record to the open unit. The file to read first:
 * pipeline.c.
 *
 * Belongs to one worker thread. Sees the script, the lookup and the source through their contracts;
 * reads no clock (`now_ms` is handed in) and does no I/O. Its verdicts are a closed set; the switch
 * over them stands in worker.c.
 */
#ifndef MR_STREAM_PIPELINE_H
#define MR_STREAM_PIPELINE_H

#include "millrace/lookup.h"
#include "millrace/script.h"
#include "stream/unit.h"

struct mr_pipeline {
    struct mr_script *script;
    struct mr_source *source;         /* for headers */
    struct mr_lookup *lookup;         /* NULL: the script's `map` */
    const struct mr_row_schema *rows; /* NULL: no feedback table */
    struct mr_pin pin;                /* of the lookup, for the open unit */
    struct mr_span *span;
    uint32_t unit_outputs; /* a unit is full from here */
    size_t unit_bytes;
    size_t max_message_bytes;
};

/* What a message left behind. */
struct mr_pass {
    const char *reason; /* DROP: why */
    size_t n_keys;      /* that the script asked the lookup for; 0: it was not asked */
    bool more;          /* EMIT: a chunk; the same record goes on after the unit is decided */
    struct mr_segment *segment; /* EMIT, REJECT: the caller gives it the record */
};

bool mr_pipeline_unit_full(const struct mr_pipeline *pipeline, const struct mr_unit *unit);

/* Pins the lookup's current table, at the start of a unit; false: not loaded yet. */
bool mr_pipeline_pin(struct mr_pipeline *pipeline);
void mr_pipeline_unpin(struct mr_pipeline *pipeline);

/*
 * EMIT and REJECT leave a segment in the unit (REJECT: a dead letter, *err says why); DROP leaves
 * nothing. RETRY and STOP leave nothing either, *err is filled.
 */
enum mr_verdict mr_pipeline_run(struct mr_pipeline *pipeline, struct mr_part *part,
                                struct mr_record *rec, int64_t now_ms, struct mr_unit *unit,
                                struct mr_pass *pass, struct mr_error *err);

#endif
