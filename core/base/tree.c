/*
 * tree.c - the tree of named values behind tree.h.
 *
 * Built by one thread, then read by any. Owns names and texts. Must not know options or files.
 * Tests: tests/unit/test_base.c.
 */
#include "base/tree.h"

#include <stdlib.h>
#include <string.h>

struct mr_node *mr_node_new_root(void)
{
    struct mr_node *root = mr_calloc(1, sizeof *root);
    root->kind = MR_NODE_TABLE;
    return root;
}

struct mr_node *mr_node_add(struct mr_node *parent, const char *name, enum mr_node_kind kind)
{
    struct mr_node *node = mr_calloc(1, sizeof *node);
    node->name = name ? mr_strdup(name) : NULL;
    node->kind = kind;
    struct mr_node **at = &parent->children;
    while (*at)
        at = &(*at)->next;
    *at = node;
    parent->n_children++;
    return node;
}

void mr_node_free(struct mr_node *root)
{
    while (root) {
        struct mr_node *next = root->next;
        mr_node_free(root->children);
        free(root->name);
        free(root->text);
        free(root);
        root = next;
    }
}

static const struct mr_node *child(const struct mr_node *node, const char *name, size_t len)
{
    for (const struct mr_node *c = node->children; c; c = c->next)
        if (c->name && strlen(c->name) == len && memcmp(c->name, name, len) == 0)
            return c;
    return NULL;
}

const struct mr_node *mr_node_child(const struct mr_node *node, const char *name)
{
    return node ? child(node, name, strlen(name)) : NULL;
}

const struct mr_node *mr_node_at(const struct mr_node *node, const char *path)
{
    while (node && *path) {
        size_t len = strcspn(path, ".");
        node = child(node, path, len);
        path += len + (path[len] == '.');
    }
    return node;
}

const char *mr_node_text(const struct mr_node *node, const char *path)
{
    const struct mr_node *found = mr_node_at(node, path);
    mr_assert(!found || found->kind == MR_NODE_STRING);
    return found ? found->text : NULL;
}

int64_t mr_node_int(const struct mr_node *node, const char *path, int64_t otherwise)
{
    const struct mr_node *found = mr_node_at(node, path);
    mr_assert(!found || found->kind == MR_NODE_INT);
    return found ? found->i : otherwise;
}

bool mr_node_bool(const struct mr_node *node, const char *path, bool otherwise)
{
    const struct mr_node *found = mr_node_at(node, path);
    mr_assert(!found || found->kind == MR_NODE_BOOL);
    return found ? found->i != 0 : otherwise;
}
