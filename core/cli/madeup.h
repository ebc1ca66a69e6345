/*
 * madeup.h - a lookup's table that nobody has: rows of made-up texts, for `millrace bench`.
 *
 * Main thread. What the caller is given is a lookup as the daemon has it, with one table in it.
 */
#ifndef MR_CLI_MADEUP_H
#define MR_CLI_MADEUP_H

#include "base/tree.h"
#include "millrace/lookup.h"

/* The columns of the lookup `node` of the configuration, all of them texts. False, MR_STOP, exit
 * code 64: it names none. *out: mr_lookup_schema_free. */
MR_MUSTCHECK bool mr_madeup_schema(const struct mr_node *node, struct mr_lookup_schema **out,
                                   struct mr_error *err);

/* Keys that messages ask for, each once; zeroed at first. */
struct mr_madeup_keys {
    struct mr_bytes *items; /* cells */
    size_t n, cap;
};
void mr_madeup_keys_add(struct mr_madeup_keys *keys, struct mr_bytes key); /* copies */
void mr_madeup_keys_fini(struct mr_madeup_keys *keys);

/*
 * A table of `n` rows, `each` of them to a key: first to `keys` (put in order, and each left once),
 * then to others that no message asks for. `each` 0: all of them to `keys`, evenly.
 * *out: mr_lookup_free. Borrows the schema.
 */
MR_MUSTCHECK bool mr_madeup_lookup(const char *name, const struct mr_lookup_schema *schema,
                                   struct mr_madeup_keys *keys, uint64_t n, uint64_t each,
                                   struct mr_lookup **out, struct mr_error *err);

#endif
