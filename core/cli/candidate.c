/*
 * candidate.c - loads what is on the disk and compares it with what is in force.
 *
 * One thread; opens nothing outside but files. Owns what it loaded. Must not know workers. Tests:
 * tests/integration/reload_spec.lua.
 */
#include "cli/candidate.h"

#include <stdlib.h>
#include <string.h>

/* The first of the errors, without the line of source below it. */
static bool first_error(struct mr_buf *errors, struct mr_error *err)
{
    const char *text = mr_buf_cstr(errors);
    int len = (int)strcspn(text, "\n"), n = 0;
    for (const char *at = text; (at = strstr(at, ": error: ")); at++)
        n++;
    if (n > 1)
        return mr_error_set(err, MR_STOP, MR_EXIT_CONFIG, "%.*s (`millrace check` tells %d more)",
                            len, text, n - 1);
    return mr_error_set(err, MR_STOP, MR_EXIT_CONFIG, "%.*s", len, text);
}

struct differences {
    struct mr_buf *changed;
    struct mr_buf fixed; /* those that cannot change */
    size_t n_fixed;
};

static void note_difference(void *arg, const char *path, bool reloadable)
{
    struct differences *differences = arg;
    struct mr_buf *list = reloadable ? differences->changed : &differences->fixed;
    mr_buf_printf(list, "%s%s", list->len ? ", " : "", path);
    differences->n_fixed += !reloadable;
}

static bool compare(struct mr_candidate *candidate, const struct mr_node *before,
                    const struct mr_node *after, bool *refused, struct mr_error *err)
{
    struct differences differences = {.changed = &candidate->changed};
    mr_node_compare(before, after, note_difference, &differences);
    *refused = differences.n_fixed > 0;
    if (*refused)
        mr_error_set(err, MR_STOP, MR_EXIT_CONFIG, "%s cannot change while Millrace runs: %s",
                     mr_buf_cstr(&differences.fixed),
                     differences.n_fixed == 1 ? "change it back, or restart to change it"
                                              : "change them back, or restart to change them");
    mr_buf_fini(&differences.fixed);
    return !*refused;
}

/* The traceback is for `millrace check`. */
static void cut_to_line(struct mr_error *err)
{
    err->msg[strcspn(err->msg, "\n")] = '\0';
}

/* All scripts are looked at, so that all files are known; the first error counts. */
static bool load_editions(struct mr_candidate *candidate, const struct mr_node *in_force,
                          struct mr_wiring *wiring, struct mr_error *err)
{
    const struct mr_node *tree = mr_shared_config_tree(candidate->config);
    const struct mr_node *pipelines = mr_node_at(tree, "pipelines");
    bool ok = true;
    candidate->pipelines = mr_calloc(pipelines->n_children, sizeof *candidate->pipelines);
    for (const struct mr_node *c = pipelines->children; c; c = c->next) {
        struct mr_edition *before = mr_wiring_edition(wiring, c->name), *after = NULL;
        struct mr_error why;
        if (!before) /* a new pipeline, which is refused below */
            continue;
        if (!mr_edition_new(candidate->config, c, &after, &candidate->files, &why) && ok) {
            cut_to_line(&why);
            *err = why;
            ok = false;
        }
        if (mr_edition_equal(before, after)) {
            mr_edition_release(after);
            after = mr_edition_acquire(before);
        }
        const struct mr_node *running = mr_node_child(mr_node_at(in_force, "pipelines"), c->name);
        candidate->pipelines[candidate->n++] = (struct mr_candidate_pipeline){
            .name = c->name,
            .before = before,
            .after = after,
            .in_force = mr_edition_settings(running),
            .settings = mr_edition_settings(c),
            .differs = after != before || !mr_node_equal(running, c),
        };
    }
    return ok;
}

bool mr_candidate_load(struct mr_candidate *candidate, const struct mr_cli_args *args,
                       struct mr_wiring *wiring, bool *refused, struct mr_error *err)
{
    struct mr_buf errors = {0};
    struct mr_node *tree = NULL;
    struct mr_shared_config *in_force = mr_wiring_config(wiring);
    *candidate = (struct mr_candidate){0};
    *refused = false;
    mr_buf_printf(&candidate->files, "%s\n", args->config);
    bool ok = mr_cli_load_quietly(args, &tree, &errors);
    if (!ok) {
        first_error(&errors, err);
        goto out;
    }
    candidate->config = mr_shared_config_new(tree, false);
    const struct mr_node *before = mr_shared_config_tree(in_force);
    /* A broken script is told before an option that wants a restart, which would fail with it. */
    ok = load_editions(candidate, before, wiring, err) &&
         compare(candidate, before, tree, refused, err);
out:
    mr_shared_config_release(in_force);
    mr_buf_fini(&errors);
    return ok;
}

void mr_candidate_fini(struct mr_candidate *candidate)
{
    for (size_t i = 0; i < candidate->n; i++) {
        mr_edition_release(candidate->pipelines[i].before);
        mr_edition_release(candidate->pipelines[i].after);
    }
    free(candidate->pipelines);
    mr_shared_config_release(candidate->config);
    mr_buf_fini(&candidate->changed);
    mr_buf_fini(&candidate->files);
    *candidate = (struct mr_candidate){0};
}

bool mr_candidate_is_same(const struct mr_candidate *candidate)
{
    bool same = candidate->changed.len == 0;
    for (size_t i = 0; same && i < candidate->n; i++)
        same = !candidate->pipelines[i].differs;
    return same;
}
