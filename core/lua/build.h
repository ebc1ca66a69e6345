/*
 * build.h - a template under construction: bytes and segments, appended in order (contract:
 * millrace/template.h).
 *
 * begin, then bytes (into `bytes`, by the mr_buf functions) and columns in the order of the output,
 * then end: that is a run. Owned by the script, used again for each message: reset keeps the
 * memory. No Lua in it.
 */
#ifndef MR_LUA_BUILD_H
#define MR_LUA_BUILD_H

#include "millrace/template.h"

struct mr_layouts;

struct mr_build {
    struct mr_buf bytes;
    struct mr_buf segs;    /* struct mr_seg */
    struct mr_buf headers; /* struct mr_template_header */
    struct mr_buf fields;  /* struct mr_template_field */
    struct mr_buf outputs; /* struct mr_output, their pointers set by mr_build_finish */
    size_t run_first, bytes_from;
    size_t limit_bytes; /* of `bytes`; 0: none */
    struct mr_template template;
    struct mr_layouts *layouts; /* of the tables that are encoded; NULL: each is worked out anew */
};

void mr_build_fini(struct mr_build *build);
void mr_build_reset(struct mr_build *build);

void mr_build_begin(struct mr_build *build);
void mr_build_column(struct mr_build *build, enum mr_seg_kind kind, uint16_t column);
struct mr_seg_run mr_build_end(struct mr_build *build);
struct mr_seg_run mr_build_absent(void);

/* The message has become larger than limits.output: false, class too_large. */
MR_MUSTCHECK bool mr_build_check(const struct mr_build *build, struct mr_error *err);

/* Headers and fields that follow belong to the output that is added after them. */
void mr_build_header(struct mr_build *build, const struct mr_template_header *header);
void mr_build_field(struct mr_build *build, const struct mr_template_field *field);
size_t mr_build_n_headers(const struct mr_build *build);
size_t mr_build_n_fields(const struct mr_build *build);
/* Takes the headers and fields from `headers_from`, `fields_from` on. */
void mr_build_output(struct mr_build *build, struct mr_output output, size_t headers_from,
                     size_t fields_from);

const struct mr_template *mr_build_finish(struct mr_build *build);

#endif
