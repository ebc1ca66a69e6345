/*
 * tree_compare.c - what differs between two trees, by the names under which a person knows it.
 *
 * Any thread; reads both. Owns nothing. Must not know options: which of them may change at runtime
 * stands in the nodes. Tests: tests/unit/test_base.c.
 */
#include "base/tree.h"

#include "base/buf.h"

#include <ctype.h>
#include <string.h>

static bool equal_children(const struct mr_node *a, const struct mr_node *b)
{
    const struct mr_node *other = b->children;
    if (a->n_children != b->n_children)
        return false;
    for (const struct mr_node *c = a->children; c; c = c->next) {
        if (!mr_node_equal(c, c->name ? mr_node_child(b, c->name) : other))
            return false;
        other = other ? other->next : NULL;
    }
    return true;
}

bool mr_node_equal(const struct mr_node *a, const struct mr_node *b)
{
    if (!a || !b || a->kind != b->kind)
        return a == b;
    switch (a->kind) {
    case MR_NODE_STRING:
        return strcmp(a->text, b->text) == 0;
    case MR_NODE_INT:
    case MR_NODE_BOOL:
        return a->i == b->i;
    case MR_NODE_FLOAT:
        return memcmp(&a->f, &b->f, sizeof a->f) == 0;
    case MR_NODE_TABLE:
    case MR_NODE_LIST:
        break;
    }
    return equal_children(a, b);
}

struct comparison {
    struct mr_buf path;
    void (*differs)(void *arg, const char *path, bool reloadable);
    void *arg;
};

static bool is_identifier(const char *name)
{
    if (!isalpha((unsigned char)*name) && *name != '_')
        return false;
    for (; *name; name++)
        if (!isalnum((unsigned char)*name) && *name != '_' && *name != '-')
            return false;
    return true;
}

static void put_name(struct mr_buf *path, const char *name)
{
    if (is_identifier(name))
        mr_buf_printf(path, "%s%s", path->len ? "." : "", name);
    else
        mr_buf_printf(path, "[\"%s\"]", name);
}

/* A table of options may change if everything in it may. */
static bool all_reloadable(const struct mr_node *node)
{
    bool all = node->kind == MR_NODE_TABLE && node->children;
    if (node->reloadable)
        return true;
    for (const struct mr_node *c = node->children; all && c; c = c->next)
        all = all_reloadable(c);
    return all;
}

static void compare(struct comparison *comparison, const struct mr_node *a,
                    const struct mr_node *b);

/* One of them may be NULL. */
static void compare_child(struct comparison *comparison, const char *name, const struct mr_node *a,
                          const struct mr_node *b)
{
    size_t len = comparison->path.len;
    put_name(&comparison->path, name);
    compare(comparison, a, b);
    comparison->path.len = len;
}

static void compare(struct comparison *comparison, const struct mr_node *a, const struct mr_node *b)
{
    bool tables = a && b && a->kind == MR_NODE_TABLE && b->kind == MR_NODE_TABLE;
    if (!tables || a->reloadable) {
        if (!mr_node_equal(a, b))
            comparison->differs(comparison->arg, mr_buf_cstr(&comparison->path),
                                (!a || all_reloadable(a)) && (!b || all_reloadable(b)));
        return;
    }
    for (const struct mr_node *c = a->children; c; c = c->next)
        compare_child(comparison, c->name, c, mr_node_child(b, c->name));
    for (const struct mr_node *c = b->children; c; c = c->next)
        if (!mr_node_child(a, c->name))
            compare_child(comparison, c->name, NULL, c);
}

void mr_node_compare(const struct mr_node *before, const struct mr_node *after,
                     void (*differs)(void *arg, const char *path, bool reloadable), void *arg)
{
    struct comparison comparison = {.differs = differs, .arg = arg};
    compare(&comparison, before, after);
    mr_buf_fini(&comparison.path);
}
