/*
 * reload.c - reloads, one after the other, each in a thread of its own.
 *
 * ask and serve: the instance's thread; last and files: any. Owns the running thread and what is
 * remembered of the last one. Must not know signals, files' watchers or what a rehearsal compares.
 * Tests: tests/integration/reload_spec.lua.
 */
#include "cli/reload.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/thread.h"

#include <inttypes.h>
#include <stdlib.h>

struct mr_reload {
    struct mr_cli_args args; /* config and sets are ours */
    struct mr_wiring *wiring;
    struct mr_rehearsal rehearsal;
    struct mr_thread thread;
    bool running, quiet; /* quiet: of the one that runs */
    bool last_good;      /* the one before it; the running thread's */
    bool asked, asked_quietly;
    unsigned n_asked, n_running; /* asks; those that the one that runs will answer */
    struct mr_metric *results[MR_RELOAD_RESULTS], *last_worked;
    struct mr_metric **bundles; /* one a pipeline, in the order of the configuration */
    size_t n_bundles;
    pthread_mutex_t lock; /* of what follows */
    unsigned n_answered;
    enum mr_reload_result last;
    struct mr_buf text, files;
};

static const char *const result_names[MR_RELOAD_RESULTS] = {"applied", "unchanged", "failed",
                                                            "refused", "blocked"};

/* --- metrics ---
 */

static void bundle_labels(struct mr_buf *labels, const char *pipeline, const char *bundle)
{
    mr_buf_reset(labels);
    mr_metrics_label(labels, "pipeline", pipeline);
    mr_metrics_label(labels, "bundle", bundle);
}

static void show_bundle(struct mr_reload *reload, size_t i, const char *pipeline,
                        const struct mr_edition *edition)
{
    struct mr_buf labels = {0};
    bundle_labels(&labels, pipeline, edition->bundle);
    if (!reload->bundles[i]) {
        reload->bundles[i] = mr_metrics_get(
            MR_GAUGE, "millrace_bundle_info",
            "Always 1; the label names the version of the script in force.", mr_buf_cstr(&labels));
        mr_metric_set(reload->bundles[i], 1);
    } else {
        mr_metric_relabel(reload->bundles[i], mr_buf_cstr(&labels));
    }
    mr_buf_fini(&labels);
}

static void open_metrics(struct mr_reload *reload)
{
    struct mr_shared_config *config = mr_wiring_config(reload->wiring);
    const struct mr_node *pipelines = mr_node_at(mr_shared_config_tree(config), "pipelines");
    reload->bundles = mr_calloc(pipelines->n_children, sizeof(struct mr_metric *));
    for (const struct mr_node *c = pipelines->children; c; c = c->next) {
        struct mr_edition *edition = mr_wiring_edition(reload->wiring, c->name);
        show_bundle(reload, reload->n_bundles++, c->name, edition);
        mr_edition_release(edition);
    }
    mr_shared_config_release(config);
    for (int i = 0; i < MR_RELOAD_RESULTS; i++) {
        struct mr_buf labels = {0};
        mr_metrics_label(&labels, "result", result_names[i]);
        reload->results[i] = mr_metrics_get(MR_COUNTER, "millrace_reloads_total",
                                            "Reloads, by result.", mr_buf_cstr(&labels));
        mr_buf_fini(&labels);
    }
    reload->last_worked = mr_metrics_get(
        MR_GAUGE, "millrace_reload_last_successful",
        "1 when what is on the disk was in force after the last reload, else 0.", "");
    mr_metric_set(reload->last_worked, 1);
}

/* --- one reload, in its thread ---
 */

struct attempt {
    struct mr_candidate candidate;
    enum mr_reload_result result;
    struct mr_error err;
    size_t n_late;
};

static bool rehearse(struct mr_reload *reload, struct attempt *attempt)
{
    const struct mr_rehearsal *rehearsal = &reload->rehearsal;
    if (!rehearsal->run ||
        rehearsal->run(rehearsal->arg, &attempt->candidate,
                       mr_app_stop_flag(mr_wiring_app(reload->wiring)), &attempt->err))
        return true;
    attempt->result = MR_RELOAD_BLOCKED;
    return false;
}

/* To the workers of those pipelines in which something differs. */
static bool offer(struct mr_reload *reload, struct attempt *attempt)
{
    const struct mr_candidate *candidate = &attempt->candidate;
    struct mr_app_change *changes = mr_calloc(candidate->n, sizeof *changes);
    struct mr_edition **editions = mr_calloc(candidate->n, sizeof(struct mr_edition *));
    size_t n = 0;
    for (size_t i = 0; i < candidate->n; i++) {
        const struct mr_candidate_pipeline *pipeline = &candidate->pipelines[i];
        if (!pipeline->differs)
            continue;
        editions[n] = pipeline->after;
        changes[n++] = (struct mr_app_change){
            .pipeline = pipeline->name, .edition = pipeline->after, .settings = pipeline->settings};
    }
    bool ok =
        mr_app_reload(mr_wiring_app(reload->wiring), changes, n, &attempt->n_late, &attempt->err);
    if (ok)
        mr_wiring_adopt(reload->wiring, candidate->config, editions, n);
    free(changes);
    free(editions);
    return ok;
}

static void take_over(struct mr_reload *reload, const struct mr_candidate *candidate)
{
    enum mr_level level = MR_INFO;
    const struct mr_node *tree = mr_shared_config_tree(candidate->config);
    bool known = mr_log_level_parse(mr_node_text(tree, "log.level"), &level);
    mr_assert(known);
    mr_log_set_level(level);
    for (size_t i = 0; i < candidate->n; i++)
        show_bundle(reload, i, candidate->pipelines[i].name, candidate->pipelines[i].after);
}

static void attempt_reload(struct mr_reload *reload, struct attempt *attempt)
{
    struct mr_candidate *candidate = &attempt->candidate;
    bool refused = false;
    attempt->result = MR_RELOAD_FAILED;
    if (!mr_candidate_load(candidate, &reload->args, reload->wiring, &refused, &attempt->err)) {
        if (refused)
            attempt->result = MR_RELOAD_REFUSED;
    } else if (mr_candidate_is_same(candidate)) {
        attempt->result = MR_RELOAD_UNCHANGED;
    } else if (rehearse(reload, attempt) && offer(reload, attempt)) {
        take_over(reload, candidate);
        attempt->result = MR_RELOAD_APPLIED;
    }
}

/* --- what is told ---
 */

/* "bundle a -> b", or for several pipelines "promo: bundle a -> b; alerts: unchanged". */
static void describe_bundles(struct mr_buf *text, const struct mr_candidate *candidate)
{
    for (size_t i = 0; i < candidate->n; i++) {
        const struct mr_candidate_pipeline *pipeline = &candidate->pipelines[i];
        mr_buf_put_text(text, i ? "; " : "");
        if (candidate->n > 1)
            mr_buf_printf(text, "%s: ", pipeline->name);
        if (strcmp(pipeline->before->bundle, pipeline->after->bundle) != 0)
            mr_buf_printf(text, "bundle %s -> %s", pipeline->before->bundle,
                          pipeline->after->bundle);
        else
            mr_buf_printf(text, "bundle %s stays", pipeline->after->bundle);
    }
}

static void describe(struct mr_buf *text, struct attempt *attempt, int64_t ms)
{
    struct mr_candidate *candidate = &attempt->candidate;
    switch (attempt->result) {
    case MR_RELOAD_APPLIED:
        mr_buf_put_text(text, "reloaded: ");
        describe_bundles(text, candidate);
        if (candidate->changed.len)
            mr_buf_printf(text, "; changed: %s", mr_buf_cstr(&candidate->changed));
        mr_buf_printf(text, ", %" PRId64 " ms", ms);
        if (attempt->n_late)
            mr_buf_printf(text, "; %zu worker%s finish%s a fan-out with the old one first",
                          attempt->n_late, attempt->n_late == 1 ? "" : "s",
                          attempt->n_late == 1 ? "es" : "");
        break;
    case MR_RELOAD_UNCHANGED:
        mr_buf_put_text(text, "reload: nothing has changed: ");
        describe_bundles(text, candidate);
        mr_buf_printf(text, ", %" PRId64 " ms", ms);
        break;
    case MR_RELOAD_REFUSED:
        mr_buf_printf(text, "reload refused, nothing was changed: %s", attempt->err.msg);
        break;
    case MR_RELOAD_BLOCKED:
        mr_buf_printf(text, "reload blocked, nothing was changed: %s", attempt->err.msg);
        break;
    case MR_RELOAD_FAILED:
    case MR_RELOAD_RESULTS:
        mr_buf_printf(text, "reload failed, nothing was changed: %.*s",
                      (int)strcspn(attempt->err.msg, "\n"), attempt->err.msg);
        break;
    }
}

static void run(void *arg)
{
    struct mr_reload *reload = arg;
    struct attempt attempt = {0};
    struct mr_buf text = {0};
    int64_t began_ms = mr_clock_mono_ms();
    attempt_reload(reload, &attempt);
    bool good = attempt.result == MR_RELOAD_APPLIED || attempt.result == MR_RELOAD_UNCHANGED;
    /* After one that was not taken, somebody waits to read that all is well again. */
    bool quiet = reload->quiet && attempt.result == MR_RELOAD_UNCHANGED && reload->last_good;
    reload->last_good = good;
    describe(&text, &attempt, mr_clock_mono_ms() - began_ms);
    mr_metric_add(reload->results[attempt.result], 1);
    mr_metric_set(reload->last_worked, good);
    mr_log(!good ? MR_ERROR : quiet ? MR_DEBUG : MR_INFO, "%s", mr_buf_cstr(&text));
    pthread_mutex_lock(&reload->lock);
    reload->last = attempt.result;
    mr_buf_fini(&reload->text);
    mr_buf_fini(&reload->files);
    reload->text = text;
    reload->files = attempt.candidate.files;
    attempt.candidate.files = (struct mr_buf){0};
    reload->n_answered = reload->n_running;
    pthread_mutex_unlock(&reload->lock);
    mr_candidate_fini(&attempt.candidate);
}

/* --- the instance's thread ---
 */

static void begin(struct mr_reload *reload)
{
    reload->asked = false;
    reload->n_running = reload->n_asked;
    reload->quiet = reload->asked_quietly;
    reload->running = true;
    mr_thread_start(&reload->thread, run, reload);
}

void mr_reload_ask(struct mr_reload *reload, bool quiet)
{
    reload->asked_quietly = quiet && (!reload->asked || reload->asked_quietly);
    reload->asked = true;
    reload->n_asked++;
    if (!reload->running)
        begin(reload);
}

bool mr_reload_serve(struct mr_reload *reload)
{
    if (reload->running && mr_thread_join(&reload->thread, 0))
        reload->running = false;
    if (!reload->running && reload->asked &&
        !atomic_load(mr_app_stop_flag(mr_wiring_app(reload->wiring))))
        begin(reload);
    return !reload->running;
}

unsigned mr_reload_last(struct mr_reload *reload, enum mr_reload_result *result,
                        struct mr_buf *text)
{
    pthread_mutex_lock(&reload->lock);
    unsigned n = reload->n_answered;
    if (result)
        *result = reload->last;
    if (n && text)
        mr_buf_put_text(text, mr_buf_cstr(&reload->text));
    pthread_mutex_unlock(&reload->lock);
    return n;
}

const struct mr_cli_args *mr_reload_args(const struct mr_reload *reload)
{
    return &reload->args;
}

/* Before the first reload, a look at what is there says which files there are. */
static void find_files(struct mr_reload *reload)
{
    struct mr_candidate candidate;
    struct mr_error err;
    bool refused;
    if (!mr_candidate_load(&candidate, &reload->args, reload->wiring, &refused, &err))
        mr_log(MR_DEBUG, "%s", err.msg);
    reload->files = candidate.files;
    candidate.files = (struct mr_buf){0};
    mr_candidate_fini(&candidate);
}

void mr_reload_files(struct mr_reload *reload, struct mr_buf *out)
{
    pthread_mutex_lock(&reload->lock);
    if (!reload->files.len)
        find_files(reload);
    mr_buf_put(out, reload->files.ptr, reload->files.len);
    pthread_mutex_unlock(&reload->lock);
}

struct mr_reload *mr_reload_new(const struct mr_cli_args *args, struct mr_wiring *wiring,
                                const struct mr_rehearsal *rehearsal)
{
    struct mr_reload *reload = mr_calloc(1, sizeof *reload);
    const char **sets = mr_calloc(args->n_sets + 1, sizeof *sets);
    for (size_t i = 0; i < args->n_sets; i++)
        sets[i] = mr_strdup(args->sets[i]);
    reload->args = (struct mr_cli_args){
        .config = mr_strdup(args->config), .sets = sets, .n_sets = args->n_sets};
    reload->wiring = wiring;
    if (rehearsal)
        reload->rehearsal = *rehearsal;
    reload->last_good = true;
    pthread_mutex_init(&reload->lock, NULL);
    open_metrics(reload);
    return reload;
}

void mr_reload_free(struct mr_reload *reload)
{
    if (!reload)
        return;
    mr_assert(!reload->running);
    for (size_t i = 0; i < reload->args.n_sets; i++)
        free((char *)(uintptr_t)reload->args.sets[i]);
    free((void *)(uintptr_t)reload->args.sets);
    free((char *)(uintptr_t)reload->args.config);
    for (size_t i = 0; i < reload->n_bundles; i++)
        mr_metric_set(reload->bundles[i], 0); /* of another instance's in the same process */
    free(reload->bundles);
    mr_buf_fini(&reload->text);
    mr_buf_fini(&reload->files);
    pthread_mutex_destroy(&reload->lock);
    free(reload);
}
