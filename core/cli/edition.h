/*
 * edition.h - editions (stream/edition.h) as the configuration gives them: one pipeline's script,
 * its vars and limits, with the sources read once.
 *
 * An edition holds the tree of the configuration it came from. Counted; any thread opens scripts
 * from it.
 */
#ifndef MR_CLI_EDITION_H
#define MR_CLI_EDITION_H

#include "base/buf.h"
#include "base/tree.h"
#include "millrace/script.h"
#include "stream/edition.h"

/* A configuration that several hold; it is freed with the last of them. */
struct mr_shared_config;
/* With one reference. Takes the tree; with `borrowed` it stays its owner's, who outlives all. */
struct mr_shared_config *mr_shared_config_new(const struct mr_node *tree, bool borrowed);
struct mr_shared_config *mr_shared_config_acquire(struct mr_shared_config *config);
void mr_shared_config_release(struct mr_shared_config *config);
const struct mr_node *mr_shared_config_tree(const struct mr_shared_config *config);

/*
 * Reads the script of `pipeline`, a node of the configuration, with its modules, and runs it once
 * to see whether it loads; what it makes of columns is found out when it is opened for a worker.
 * Never NULL in *out: with an error (false, *err with file and line) it is an edition whose scripts
 * do not open, for the same reason. `files` (may be NULL): the paths of all files that were read or
 * should have been are appended, each with a newline.
 */
bool mr_edition_new(struct mr_shared_config *config, const struct mr_node *pipeline,
                    struct mr_edition **out, struct mr_buf *files, struct mr_error *err);

/* The pipeline's node, in the configuration that it came from; lives as long as the edition. */
const struct mr_node *mr_edition_node(const struct mr_edition *edition);

/* What it is opened with is the same, down to the last byte: nobody could tell the two apart. */
bool mr_edition_equal(const struct mr_edition *a, const struct mr_edition *b);

/* The schemas are borrowed by the script, NULL where they are not known (lua/script.h). */
MR_MUSTCHECK bool mr_edition_open(const struct mr_edition *edition,
                                  const struct mr_lookup_schema *lookup,
                                  const struct mr_row_schema *rows, struct mr_script **out,
                                  struct mr_error *err);

/* The same for a rehearsal: it logs and counts nothing, and its messages do not name the bundle. */
MR_MUSTCHECK bool mr_edition_open_quietly(const struct mr_edition *edition,
                                          const struct mr_lookup_schema *lookup,
                                          const struct mr_row_schema *rows, struct mr_script **out,
                                          struct mr_error *err);

/* The numbers beside it. */
struct mr_worker_settings mr_edition_settings(const struct mr_node *pipeline);

#endif
