/*
 * text.h - text forms that several rooms write the same way: JSON strings and numbers, uuids,
 * UTF-8. Pure functions over a buf; any thread.
 */
#ifndef MR_BASE_TEXT_H
#define MR_BASE_TEXT_H

#include "base/buf.h"

/* A quoted JSON string. The bytes must be valid UTF-8 (mr_text_utf8_valid); invalid ones are passed
 * on. */
void mr_text_json_string(struct mr_buf *buf, const char *bytes, size_t len);
/* The same without the quotes: the inside of a string. */
void mr_text_json_escape(struct mr_buf *buf, const char *bytes, size_t len);

void mr_text_int(struct mr_buf *buf, int64_t value);

/* Shortest text that reads back as the same double, always with '.', 'e' or both (stays a float).
 * False for NaN and infinity, which JSON cannot carry; nothing is written then. */
bool mr_text_float(struct mr_buf *buf, double value);

bool mr_text_utf8_valid(const char *bytes, size_t len);
/* What is not UTF-8 becomes '?': texts of scripts go into logs, labels and Postgres. */
void mr_text_clean(char *text);

/* Exactly 36 characters, lower case, 8-4-4-4-12: what uuid_out prints. Anything else is not a uuid
 * here. */
bool mr_text_uuid_parse(const char *text, size_t len, uint8_t uuid[16]);
/* The same, upper case and braces accepted as uuid_in does for the 36-character form. */
bool mr_text_uuid_parse_any(const char *text, size_t len, uint8_t uuid[16]);
void mr_text_uuid_format(const uint8_t uuid[16], char text[36]);

/* Restricted Damerau-Levenshtein distance, and the nearest of `names`, or NULL if none is near. */
const char *mr_text_nearest(const char *name, const char *const *names, size_t n);

#endif
