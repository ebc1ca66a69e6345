/*
 * tree.h - configuration as a tree of named values, after loading: defaults filled in, everything
 * checked.
 *
 * Durations are integers in milliseconds, sizes integers in bytes. A tree is immutable once loaded;
 * any thread reads it. Paths are dotted; a name with dots in it (librdkafka's) is reached by
 * mr_node_child.
 */
#ifndef MR_BASE_TREE_H
#define MR_BASE_TREE_H

#include "base/error.h"

#include <stdint.h>

enum mr_node_kind {
    MR_NODE_TABLE,
    MR_NODE_LIST,
    MR_NODE_STRING,
    MR_NODE_INT,
    MR_NODE_FLOAT,
    MR_NODE_BOOL
};

struct mr_node {
    char *name; /* key in the parent; NULL in a list and at the root */
    enum mr_node_kind kind;
    bool secret;     /* prints as *** */
    bool is_default; /* not written by the user */
    bool reloadable; /* may change, with all below it, while Millrace runs */
    char *text;      /* STRING */
    int64_t i;       /* INT, BOOL (0, 1) */
    double f;        /* FLOAT */
    struct mr_node *children, *next;
    size_t n_children;
};

/* A new child at the end; copies name. mr_node_new_root for the first. */
struct mr_node *mr_node_new_root(void);
struct mr_node *mr_node_add(struct mr_node *parent, const char *name, enum mr_node_kind kind);
void mr_node_free(struct mr_node *root);

/* NULL if absent. `path` dotted, from `node`. */
const struct mr_node *mr_node_at(const struct mr_node *node, const char *path);
const struct mr_node *mr_node_child(const struct mr_node *node, const char *name);
/* Absent: NULL, `otherwise`. Another kind is a bug of ours (mr_assert): the loader has checked. */
const char *mr_node_text(const struct mr_node *node, const char *path);
int64_t mr_node_int(const struct mr_node *node, const char *path, int64_t otherwise);
bool mr_node_bool(const struct mr_node *node, const char *path, bool otherwise);

/* The same values under the same names, in any order of names; NULL equals NULL alone. */
bool mr_node_equal(const struct mr_node *a, const struct mr_node *b);
/* Calls `differs` for each option that is not the same in both: `path` as one would write it, up to
 * the first table or value that only one of them has. Not reloadable: it, or something below it. */
void mr_node_compare(const struct mr_node *before, const struct mr_node *after,
                     void (*differs)(void *arg, const char *path, bool reloadable), void *arg);

#endif
