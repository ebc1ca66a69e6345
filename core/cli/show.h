/*
 * show.h - what a message became, as JSON: for `millrace try` and for the report of a rehearsal.
 *
 * Any thread; one show a thread. Embedded: init / fini.
 */
#ifndef MR_CLI_SHOW_H
#define MR_CLI_SHOW_H

#include "cli/settings.h"
#include "lua/json.h"
#include "stream/trial.h"

struct mr_show {
    const char *const *topics; /* by index, as the script's */
    size_t n_topics;
    const struct mr_row_schema *rows;
    struct mr_json *json;
};

void mr_show_init(struct mr_show *show, const char *const *topics, size_t n_topics,
                  const struct mr_row_schema *rows);
void mr_show_fini(struct mr_show *show);

/*
 * {"message":{"topic":..,"key":..,"headers":[[name,value],..],"value":..},"row":{..}}, without the
 * part that is not there. A value that is a JSON object or array stands as such, any other text as
 * a string, null for a tombstone, and what is not UTF-8 as {"hex":".."}.
 */
void mr_show_output(struct mr_show *show, const struct mr_trial_output *output, struct mr_buf *out);
/* One of those parts alone. */
void mr_show_message(struct mr_show *show, const struct mr_trial_output *output,
                     struct mr_buf *out);
void mr_show_row(struct mr_show *show, const struct mr_trial_output *output, struct mr_buf *out);
/* Bytes of a message: a key or a value. */
void mr_show_bytes(struct mr_show *show, struct mr_bytes bytes, struct mr_buf *out);

#endif
