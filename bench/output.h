/*
 * output.h - what the raw programs send: the same messages and rows as the workload's outputs.
 */
#ifndef BENCH_OUTPUT_H
#define BENCH_OUTPUT_H

#include "tool.h"

/* Output n of the workload, made at now_s, as JSON; `client` is its key. Returns its length. */
size_t output_message(char text[TEXT_SIZE], const struct options *options, uint64_t n,
                      int64_t now_s, char client[UUID_SIZE]);

/* One transaction that copies rows, binary, into subscribers_feedback. */
enum { COPY_CHUNK = 60000 };
struct copy {
    PGconn *conn;
    size_t len;
    char rows[COPY_CHUNK + TEXT_SIZE];
};
void copy_begin(struct copy *copy);
void copy_row(struct copy *copy, const struct options *options, uint64_t n, int64_t now_s);
void copy_end(struct copy *copy); /* without COMMIT */

#endif
