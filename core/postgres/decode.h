/*
 * decode.h - private to core/postgres: fields of a binary COPY as values.
 */
#ifndef MR_POSTGRES_DECODE_H
#define MR_POSTGRES_DECODE_H

#include "postgres/schema.h"
#include "millrace/value.h"

/* What a column of this base type comes out as; MR_NULL: not supported. is_text: see row.h, without
 * json. */
enum mr_type mr_pg_decoded_type(uint32_t oid, bool is_text);
extern const char mr_pg_decodable_types[]; /* for sentences */

/*
 * One field. The value borrows from `bytes` or from `scratch` (the column's own, reset here).
 * False: not the form that the type has.
 */
bool mr_pg_decode(uint32_t oid, const uint8_t *bytes, size_t len, struct mr_buf *scratch,
                  struct mr_value *value);

#endif
