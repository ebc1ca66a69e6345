/*
 * mark.c - the metadata string of a committed offset.
 *
 * Pure; any thread. Must not know Kafka. Tests: tests/unit/test_stream.c.
 */
#include "stream/mark.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { ID_LEN = 8 };

void mr_mark_format(char metadata[MR_METADATA_MAX + 1], const char *ledger_id, int64_t unit)
{
    snprintf(metadata, 256, "mr1;l=%.8s;u=%" PRId64, ledger_id, unit);
}

enum mr_mark_kind mr_mark_read(const struct mr_committed *committed, const char *ledger_id,
                               int64_t *unit)
{
    if (!committed->present)
        return MR_MARK_ABSENT;
    const char *at = committed->metadata;
    if (strncmp(at, "mr1;l=", 6) != 0 || strlen(at) < 6 + ID_LEN + 4 ||
        strncmp(at + 6 + ID_LEN, ";u=", 3) != 0)
        return MR_MARK_PLAIN;
    char *end;
    const char *digits = at + 6 + ID_LEN + 3;
    int64_t value = strtoll(digits, &end, 10);
    if (end == digits || (*end && *end != ';') || value < 0)
        return MR_MARK_PLAIN;
    *unit = value;
    return strncmp(at + 6, ledger_id, ID_LEN) == 0 ? MR_MARK_OURS : MR_MARK_FOREIGN;
}
