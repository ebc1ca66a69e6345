/*
 * record.h - for `millrace check --connect`: whether the record that a script makes fits the real
 * table, as far as that can be told without a message.
 */
#ifndef MR_CLI_RECORD_H
#define MR_CLI_RECORD_H

#include "cli/findings.h"
#include "millrace/script.h"

/*
 * Gives the open script a made-up message of its `fields` and looks at what `project` makes of it:
 * a column that the table does not have, one that must be there and is not, and columns of the
 * lookup whose type no value of could go into the column of the table. What depends on the values
 * of a message is left alone; a script without `fields`, or with `each`, is not looked at.
 * `sample`: the message, JSON. Every finding goes to `where`.
 */
void mr_record_check(struct mr_findings *findings, const char *where, struct mr_script *script,
                     struct mr_bytes sample, int64_t now_ms, const struct mr_lookup_schema *lookup,
                     const struct mr_row_schema *rows);

#endif
