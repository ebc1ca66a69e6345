/*
 * records.h - source messages from lines of text, for `millrace try`.
 *
 * One thread. A line is the value of a message; with `records` it is an object that says all of it:
 *
 *   {"value": .., "key": "..", "headers": {"name": "value"}, "timestamp": 1700000000000,
 *    "topic": "..", "partition": 0, "offset": 7}
 *
 * of which anything may be missing. What `kcat -J` prints is understood too (payload, ts, headers
 * as a list). A value that is a string stands for its text, any other for its JSON, null for a
 * tombstone.
 */
#ifndef MR_CLI_RECORDS_H
#define MR_CLI_RECORDS_H

#include "base/arena.h"
#include "lua/json.h"
#include "millrace/record.h"

enum { MR_RECORDS_HEADERS_MAX = 256 };

struct mr_records {
    bool records;
    const char *topic; /* unless a line names its own */
    struct mr_json *json, *inner;
    struct mr_arena arena; /* of the line at hand */
    struct mr_header headers[MR_RECORDS_HEADERS_MAX];
    struct mr_record *rec;
    const char *problem;
};

void mr_records_init(struct mr_records *records, bool as_records, const char *topic);
void mr_records_fini(struct mr_records *records);

/* `rec` borrows from the line and from here until the next one. `number`: of the line, from 1; the
 * offset is one less. False: not such an object; *err is MR_STOP, exit code 65. */
MR_MUSTCHECK bool mr_records_read(struct mr_records *records, struct mr_bytes line, size_t number,
                                  struct mr_record *rec, struct mr_error *err);

#endif
