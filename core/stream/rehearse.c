/*
 * rehearse.c - runs messages through two trials and compares what comes out.
 *
 * One thread. Owns copies of the outputs of the message at hand. Must not know where samples and
 * scripts come from, nor what follows from the differences. Tests: tests/unit/test_rehearse.c.
 */
#include "stream/rehearse.h"

#include "base/clock.h"

#include <stdlib.h>

const char *const mr_difference_names[MR_DIFFERENCES] = {"added", "dropped", "changed", "new error",
                                                         "error gone"};

/* An output whose bytes lie in the side's buf, behind each other from `from` on. */
struct kept {
    struct mr_trial_output output;
    size_t from;
    bool matched;
};

struct side {
    const struct mr_rehearse_side *options;
    struct mr_trial *trial;
    struct mr_buf bytes, kept; /* kept: struct kept */
    size_t n;
    enum mr_verdict verdict;
    struct mr_trial_result result;
    struct mr_error err;
};

struct rehearsal {
    const struct mr_rehearse_options *options;
    struct side before, after;
    struct mr_rehearsed *out;
    const struct mr_sample *sample;
    bool differs;
    unsigned examples[MR_DIFFERENCES];                    /* given */
    const struct mr_sample *last_example[MR_DIFFERENCES]; /* of this message */
};

/* --- what a message becomes --- */

static void keep(void *arg, const struct mr_trial_output *output)
{
    struct side *side = arg;
    struct kept kept = {.output = *output, .from = side->bytes.len};
    mr_buf_put(&side->bytes, output->key.ptr, output->key.len);
    mr_buf_put(&side->bytes, output->headers.ptr, output->headers.len);
    mr_buf_put(&side->bytes, output->value.ptr, output->value.len);
    mr_buf_put(&side->bytes, output->row.ptr, output->row.len);
    mr_buf_put(&side->kept, &kept, sizeof kept);
    side->n++;
}

static struct kept *kept_of(const struct side *side)
{
    return (struct kept *)(void *)side->kept.ptr;
}

static void place(struct mr_bytes *bytes, const char **at)
{
    if (bytes->ptr)
        bytes->ptr = *at;
    *at += bytes->len;
}

static void run_side(struct side *side, const struct mr_sample *sample)
{
    mr_buf_reset(&side->bytes);
    mr_buf_reset(&side->kept);
    side->n = 0;
    side->verdict =
        mr_trial_run(side->trial, &sample->rec, sample->now_ms, &side->result, &side->err);
    if (side->verdict == MR_VERDICT_STOP) /* a state that could not be made again */
        side->verdict = MR_VERDICT_REJECT;
    if (side->verdict == MR_VERDICT_REJECT && !side->err.class_[0])
        memcpy(side->err.class_, "script", sizeof "script");
    mr_buf_reserve(&side->bytes, 1); /* not NULL: empty texts point there */
    for (size_t i = 0; i < side->n; i++) {
        struct kept *kept = &kept_of(side)[i];
        const char *at = side->bytes.ptr + kept->from;
        place(&kept->output.key, &at);
        place(&kept->output.headers, &at);
        place(&kept->output.value, &at);
        place(&kept->output.row, &at);
    }
}

/* --- comparing --- */

static bool same_bytes(struct mr_bytes a, struct mr_bytes b)
{
    return !a.ptr == !b.ptr && a.len == b.len && (!a.len || memcmp(a.ptr, b.ptr, a.len) == 0);
}

static bool same_topic(const struct side *a, const struct kept *x, const struct side *b,
                       const struct kept *y)
{
    uint16_t i = x->output.frame.topic, j = y->output.frame.topic;
    if (i >= a->options->n_topics || j >= b->options->n_topics)
        return i == j;
    return strcmp(a->options->topics[i], b->options->topics[j]) == 0;
}

static bool same_output(const struct side *a, const struct kept *x, const struct side *b,
                        const struct kept *y)
{
    const struct mr_trial_output *p = &x->output, *q = &y->output;
    if (p->has_message != q->has_message || p->has_row != q->has_row)
        return false;
    if (p->has_message && !(same_topic(a, x, b, y) && same_bytes(p->key, q->key) &&
                            same_bytes(p->value, q->value) && same_bytes(p->headers, q->headers)))
        return false;
    return !p->has_row || (mr_column_set_equal(p->set, q->set) && same_bytes(p->row, q->row));
}

/* Could be the same output, changed: that of the same key, or one without. */
static bool related(const struct side *a, const struct kept *x, const struct side *b,
                    const struct kept *y)
{
    return x->output.has_message == y->output.has_message &&
           (!x->output.has_message ||
            (same_topic(a, x, b, y) && same_bytes(x->output.key, y->output.key)));
}

static void tell(struct rehearsal *rehearsal, enum mr_difference kind, const struct kept *before,
                 const struct kept *after)
{
    const struct mr_rehearse_options *options = rehearsal->options;
    const struct side *left = &rehearsal->before, *right = &rehearsal->after;
    rehearsal->differs = true;
    rehearsal->out->differences[kind]++;
    if (!options->example || rehearsal->last_example[kind] == rehearsal->sample ||
        rehearsal->examples[kind]++ >= MR_REHEARSE_EXAMPLES)
        return;
    rehearsal->last_example[kind] = rehearsal->sample;
    struct mr_example example = {
        .kind = kind,
        .sample = rehearsal->sample,
        .before = before ? &before->output : NULL,
        .after = after ? &after->output : NULL,
        .err = kind == MR_ERROR_NEW    ? &right->err
               : kind == MR_ERROR_GONE ? &left->err
                                       : NULL,
        .reason =
            kind == MR_OUTPUT_DROPPED && right->verdict == MR_VERDICT_DROP ? right->result.reason
            : kind == MR_OUTPUT_ADDED && left->verdict == MR_VERDICT_DROP  ? left->result.reason
                                                                           : NULL,
    };
    options->example(options->arg, &example);
}

/* The first output of `b` that is not matched yet and fits; it is now. NULL: none. */
static struct kept *match(const struct side *a, const struct kept *x, const struct side *b,
                          size_t from,
                          bool (*fits)(const struct side *, const struct kept *,
                                       const struct side *, const struct kept *))
{
    for (size_t i = 0; i < b->n; i++) {
        struct kept *y = &kept_of(b)[(from + i) % b->n];
        if (!y->matched && fits(a, x, b, y)) {
            y->matched = true;
            return y;
        }
    }
    return NULL;
}

static void compare_outputs(struct rehearsal *rehearsal)
{
    struct side *left = &rehearsal->before, *right = &rehearsal->after;
    struct kept *x = kept_of(left), *y = kept_of(right);
    for (size_t i = 0; i < left->n; i++) /* most are where they were */
        x[i].matched = match(left, &x[i], right, i, same_output) != NULL;
    for (size_t i = 0; i < left->n; i++) {
        struct kept *other = x[i].matched ? NULL : match(left, &x[i], right, 0, related);
        if (x[i].matched)
            continue;
        if (other)
            tell(rehearsal, MR_OUTPUT_CHANGED, &x[i], other);
        else if (!right->result.cut) /* else it may stand behind what was compared */
            tell(rehearsal, MR_OUTPUT_DROPPED, &x[i], NULL);
    }
    for (size_t i = 0; i < right->n && !left->result.cut; i++)
        if (!y[i].matched)
            tell(rehearsal, MR_OUTPUT_ADDED, NULL, &y[i]);
}

static bool compare_message(struct rehearsal *rehearsal, struct mr_error *err)
{
    struct side *left = &rehearsal->before, *right = &rehearsal->after;
    struct mr_rehearsed *out = rehearsal->out;
    rehearsal->differs = false;
    run_side(left, rehearsal->sample);
    run_side(right, rehearsal->sample);
    if (left->verdict == MR_VERDICT_RETRY || right->verdict == MR_VERDICT_RETRY) {
        *err = left->verdict == MR_VERDICT_RETRY ? left->err : right->err;
        return false;
    }
    bool left_failed = left->verdict == MR_VERDICT_REJECT;
    bool right_failed = right->verdict == MR_VERDICT_REJECT;
    out->n_messages++;
    out->errors_before += left_failed;
    out->errors_after += right_failed;
    out->n_cut += left->result.cut || right->result.cut;
    if (right_failed && !left_failed) {
        tell(rehearsal, MR_ERROR_NEW, NULL, NULL);
    } else if (left_failed && !right_failed) {
        tell(rehearsal, MR_ERROR_GONE, NULL, NULL);
    } else if (left_failed) {
        if (!out->unmended) {
            out->unmended = rehearsal->sample;
            out->err = right->err;
        }
    } else {
        out->outputs_before += left->n;
        out->outputs_after += right->n;
        compare_outputs(rehearsal);
    }
    out->n_differ += rehearsal->differs;
    return true;
}

/* --- all of them --- */

static void open_side(struct side *side, const struct mr_rehearse_side *of,
                      const struct mr_rehearse_options *options)
{
    struct mr_trial_options trial = {
        .script = of->script,
        .lookup = options->lookup,
        .columns = options->columns,
        .rows = options->rows,
        .max_message_bytes = of->max_message_bytes,
        .outputs_max = options->outputs_max,
        .deadline_mono_ms = options->deadline_mono_ms,
        .stop = options->stop,
        .output = keep,
        .arg = side,
    };
    *side = (struct side){.options = of, .trial = mr_trial_new(&trial)};
}

static void close_side(struct side *side)
{
    mr_trial_free(side->trial);
    mr_buf_fini(&side->bytes);
    mr_buf_fini(&side->kept);
}

bool mr_rehearse(const struct mr_rehearse_options *options, struct mr_rehearsed *out,
                 struct mr_error *err)
{
    struct rehearsal rehearsal = {.options = options, .out = out};
    bool ok = true;
    *out = (struct mr_rehearsed){0};
    open_side(&rehearsal.before, &options->before, options);
    open_side(&rehearsal.after, &options->after, options);
    for (size_t i = 0; ok && i < options->n_samples; i++) {
        if (mr_clock_mono_ms() >= options->deadline_mono_ms ||
            (options->stop && atomic_load(options->stop)))
            break;
        rehearsal.sample = options->samples[i];
        ok = compare_message(&rehearsal, err);
    }
    close_side(&rehearsal.before);
    close_side(&rehearsal.after);
    return ok;
}

bool mr_rehearsed_same(const struct mr_rehearsed *rehearsed)
{
    return rehearsed->n_differ == 0;
}
