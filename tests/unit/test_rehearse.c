/*
 * test_rehearse.c - the last messages of a pipeline (recent.h), and what differs when two scripts
 * run over them (rehearse.h). The scripts are plain C: the outputs of a message are its words.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/clock.h"
#include "stream/rehearse.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

/* --- recent --- */

static atomic_int headers_read;

static void give_headers(struct mr_source *source, struct mr_record *rec)
{
    static const struct mr_header headers[] = {{{"name", 4}, {"value", 5}}, {{"none", 4}, {0}}};
    (void)source;
    headers_read++;
    rec->headers = headers;
    rec->n_headers = 2;
}
static const struct mr_source_ops source_ops = {.headers = give_headers};
static struct mr_source source = {&source_ops};

/* Notes messages "from" .. "from + n - 1", all at that time. */
static void note(struct mr_recent *recent, struct mr_recent_tap *tap, int from, int n,
                 int64_t now_ms)
{
    for (int i = from; i < from + n; i++) {
        char value[16];
        snprintf(value, sizeof value, "%d", i);
        struct mr_record rec = {.topic = "in", .offset = i, .value = mr_bytes_of(value)};
        mr_recent_note(recent, tap, &source, &rec, now_ms);
    }
}

/* "first..last (n)" of what is kept, which must be in order. */
static void check_kept(struct mr_recent *recent, size_t max, const char *expected)
{
    size_t n;
    char text[64];
    struct mr_sample **list = mr_recent_take(recent, max, &n);
    for (size_t i = 1; i < n; i++)
        assert_true(list[i - 1]->rec.offset < list[i]->rec.offset);
    snprintf(text, sizeof text, n ? "%d..%d (%zu)" : "none", n ? (int)list[0]->rec.offset : 0,
             n ? (int)list[n - 1]->rec.offset : 0, n);
    for (size_t i = 0; i < n; i++)
        mr_sample_release(list[i]);
    free(list);
    assert_string_equal(text, expected);
}

static void the_last_messages_are_kept_whole(void **state)
{
    struct mr_recent *recent = mr_recent_new(3, 1 << 20);
    struct mr_recent_tap tap = {0};
    size_t n;
    (void)state;
    check_kept(recent, 10, "none");
    char topic[] = "in", key[] = "k", value[] = "v";
    struct mr_record rec = {.topic = topic,
                            .partition = 4,
                            .offset = 5,
                            .timestamp_ms = 6,
                            .key = {key, 1},
                            .value = {value, 1},
                            .handle = &rec};
    mr_recent_note(recent, &tap, &source, &rec, 77);
    topic[0] = key[0] = value[0] = '!'; /* nothing is borrowed */
    struct mr_sample **list = mr_recent_take(recent, 10, &n);
    mr_recent_free(recent); /* what was taken stays */
    assert_int_equal(n, 1);
    assert_string_equal(list[0]->rec.topic, "in");
    assert_memory_equal(list[0]->rec.key.ptr, "k", 1);
    assert_memory_equal(list[0]->rec.value.ptr, "v", 1);
    assert_int_equal(list[0]->rec.partition, 4);
    assert_int_equal(list[0]->rec.timestamp_ms, 6);
    assert_int_equal(list[0]->now_ms, 77);
    assert_null(list[0]->rec.handle);
    assert_int_equal(list[0]->rec.n_headers, 2);
    assert_memory_equal(list[0]->rec.headers[0].value.ptr, "value", 5);
    assert_null(list[0]->rec.headers[1].value.ptr);
    mr_sample_release(list[0]);
    free(list);
}

static void a_tombstone_stays_one(void **state)
{
    struct mr_recent *recent = mr_recent_new(3, 1 << 20);
    struct mr_recent_tap tap = {0};
    struct mr_record rec = {.topic = "in", .key = {"", 0}};
    size_t n;
    (void)state;
    mr_recent_note(recent, &tap, &source, &rec, 0);
    struct mr_sample **list = mr_recent_take(recent, 1, &n);
    assert_null(list[0]->rec.value.ptr);
    assert_non_null(list[0]->rec.key.ptr);
    mr_sample_release(list[0]);
    free(list);
    mr_recent_free(recent);
}

static void the_oldest_make_room(void **state)
{
    struct mr_recent *recent = mr_recent_new(5, 1 << 20);
    struct mr_recent_tap tap = {0};
    (void)state;
    note(recent, &tap, 0, 5, 0);
    check_kept(recent, 10, "0..4 (5)");
    note(recent, &tap, 5, 3, 1000);
    check_kept(recent, 10, "3..7 (5)");
    check_kept(recent, 2, "6..7 (2)");
    mr_recent_resize(recent, 3);
    check_kept(recent, 10, "5..7 (3)");
    mr_recent_resize(recent, 6);
    note(recent, &tap, 8, 2, 2000);
    check_kept(recent, 10, "5..9 (5)");
    mr_recent_resize(recent, 0);
    note(recent, &tap, 10, 2, 3000);
    check_kept(recent, 10, "none");
    mr_recent_free(recent);
}

static void memory_is_bounded(void **state)
{
    enum { BYTES = 20000, LEN = 4000 };
    struct mr_recent *recent = mr_recent_new(100, BYTES);
    struct mr_recent_tap tap = {0};
    char *value = mr_calloc(1, BYTES);
    size_t n, bytes = 0;
    (void)state;
    for (int i = 0; i < 50; i++) {
        struct mr_record rec = {.topic = "in", .offset = i, .value = {value, LEN}};
        mr_recent_note(recent, &tap, &source, &rec, 0);
    }
    struct mr_record large = {.topic = "in", .offset = 99, .value = {value, BYTES / 4 + 1}};
    mr_recent_note(recent, &tap, &source, &large, 0);
    struct mr_sample **list = mr_recent_take(recent, 100, &n);
    for (size_t i = 0; i < n; i++) {
        bytes += list[i]->bytes;
        assert_true(list[i]->rec.offset < 50);
        mr_sample_release(list[i]);
    }
    free(list);
    assert_int_equal(n, 4);
    assert_true(bytes <= BYTES);
    free(value);
    mr_recent_free(recent);
}

static void at_high_rates_it_is_a_sample(void **state)
{
    struct mr_recent *recent = mr_recent_new(1000, 1 << 20);
    struct mr_recent_tap tap = {0};
    (void)state;
    headers_read = 0;
    note(recent, &tap, 0, 5000, 1000);
    check_kept(recent, 1000, "0..999 (1000)"); /* what comes at once at first */
    assert_int_equal(headers_read, 1000);      /* the others cost nothing */
    note(recent, &tap, 5000, 5000, 1500);      /* half a second: 50 more */
    check_kept(recent, 1000, "50..5049 (1000)");
    note(recent, &tap, 10000, 5000, 1400); /* a clock that goes back gives none */
    check_kept(recent, 1000, "50..5049 (1000)");
    mr_recent_free(recent);
}

static void *write_on(void *arg)
{
    struct mr_recent_tap tap = {0};
    for (int i = 0; i < 20000; i++)
        note(arg, &tap, i, 1, i * 100);
    return NULL;
}

static void workers_and_whoever_looks_do_not_disturb_each_other(void **state)
{
    struct mr_recent *recent = mr_recent_new(50, 1 << 20);
    pthread_t threads[2];
    (void)state;
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, write_on, recent), 0);
    for (int round = 0; round < 200; round++) {
        size_t n;
        struct mr_sample **list = mr_recent_take(recent, 50, &n);
        for (size_t i = 0; i < n; i++) {
            char value[16];
            snprintf(value, sizeof value, "%d", (int)list[i]->rec.offset);
            assert_int_equal(list[i]->rec.value.len, strlen(value));
            assert_memory_equal(list[i]->rec.value.ptr, value, strlen(value));
            mr_sample_release(list[i]);
        }
        free(list);
        mr_recent_resize(recent, 20 + (size_t)round % 40);
    }
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    mr_recent_free(recent);
}

static void the_columns_are_copied(void **state)
{
    struct mr_recent *recent = mr_recent_new(1, 1000);
    char name[] = "a", type[] = "text";
    struct mr_row_column column = {.name = name, .type_name = type, .oid = 25, .not_null = true};
    struct mr_row_schema rows = {.table = "t", .columns = &column, .n = 1};
    (void)state;
    assert_null(mr_recent_rows(recent));
    mr_recent_set_rows(recent, &rows);
    name[0] = type[0] = '!';
    struct mr_row_schema *copy = mr_recent_rows(recent);
    mr_recent_set_rows(recent, NULL);
    assert_null(mr_recent_rows(recent));
    mr_recent_free(recent);
    assert_string_equal(copy->columns[0].name, "a");
    assert_string_equal(copy->columns[0].type_name, "text");
    assert_true(copy->columns[0].not_null && copy->n == 1);
    mr_recent_rows_free(copy);
}

/* --- rehearse --- */

/*
 * A script without a lookup. The words of a message are its outputs: "k=v" has the key k, "v" none.
 * "!WHY" rejects, "-WHY" drops, "?" is a lookup that is away. `edit` is put before each value,
 * `skip` leaves out one word, `also` is one output more.
 */
struct words {
    struct mr_script base;
    const char *edit, *skip, *also;
    struct mr_buf bytes;
    struct mr_seg segs[256];
    struct mr_output outputs[128];
    struct mr_template template;
    char text[4096], reason[32];
    int64_t now_ms;
};

static enum mr_verdict words_accept(struct mr_script *base, struct mr_record *rec,
                                    struct mr_source *from, const struct mr_context *ctx,
                                    const char **reason, struct mr_error *err)
{
    struct words *words = (struct words *)base;
    (void)from;
    words->now_ms = ctx->now_ms;
    snprintf(words->text, sizeof words->text, "%.*s", (int)rec->value.len, rec->value.ptr);
    if (words->skip && strcmp(words->text, words->skip) == 0)
        snprintf(words->text, sizeof words->text, "-skipped");
    if (words->text[0] == '!') {
        mr_error_reject(err, "script", "%s", words->text + 1);
        return MR_VERDICT_REJECT;
    }
    if (words->text[0] == '-') {
        snprintf(words->reason, sizeof words->reason, "%s", words->text + 1);
        *reason = words->reason;
        return MR_VERDICT_DROP;
    }
    if (words->text[0] != '?')
        return MR_VERDICT_EMIT;
    mr_error_set(err, MR_RETRY, MR_EXIT_UNREACHABLE, "away");
    return MR_VERDICT_RETRY;
}

static struct mr_seg_run put(struct words *words, size_t *n, const char *edit, const char *text,
                             size_t len)
{
    struct mr_seg *seg = &words->segs[*n];
    *seg = (struct mr_seg){.kind = MR_SEG_BYTES, .from = (uint32_t)words->bytes.len};
    mr_buf_put_text(&words->bytes, edit);
    mr_buf_put(&words->bytes, text, len);
    seg->len = (uint32_t)words->bytes.len - seg->from;
    return (struct mr_seg_run){.first = (uint32_t)(*n)++, .n = 1};
}

static void put_word(struct words *words, size_t *n_segs, const char *word)
{
    const char *value = strchr(word, '=');
    struct mr_output *output = &words->outputs[words->template.n_outputs++];
    *output = (struct mr_output){.has_message = true, .key = {.absent = true}};
    if (value)
        output->key = put(words, n_segs, "", word, (size_t)(value - word));
    value = value ? value + 1 : word;
    output->value = put(words, n_segs, words->edit ? words->edit : "", value, strlen(value));
}

static enum mr_verdict words_project(struct mr_script *base, const struct mr_context *ctx,
                                     const struct mr_template **out, const char **reason,
                                     struct mr_error *err)
{
    struct words *words = (struct words *)base;
    size_t n = 0;
    char *rest = NULL;
    (void)ctx;
    (void)err;
    mr_buf_reset(&words->bytes);
    words->template = (struct mr_template){.segs = words->segs, .outputs = words->outputs};
    for (char *word = strtok_r(words->text, " ", &rest); word; word = strtok_r(NULL, " ", &rest))
        if (!words->skip || strcmp(word, words->skip) != 0)
            put_word(words, &n, word);
    if (words->also)
        put_word(words, &n, words->also);
    words->template.bytes = words->bytes.ptr;
    *out = &words->template;
    *reason = "no_output";
    return words->template.n_outputs ? MR_VERDICT_EMIT : MR_VERDICT_DROP;
}

static void words_finish(struct mr_script *base)
{
    (void)base;
}
static const char *words_bundle(const struct mr_script *base)
{
    (void)base;
    return "b";
}
static const struct mr_script_ops words_ops = {.accept = words_accept,
                                               .project = words_project,
                                               .finish = words_finish,
                                               .bundle = words_bundle};

struct bench {
    struct words before, after;
    struct mr_sample samples[16];
    struct mr_sample *list[16];
    struct mr_rehearse_options options;
    struct mr_rehearsed got;
    struct mr_buf examples; /* "kind@offset before>after(reason);" */
    struct mr_error err;
};

static void put_output(struct mr_buf *out, const struct mr_trial_output *output)
{
    if (!output)
        return;
    if (output->key.ptr)
        mr_buf_printf(out, "%.*s=", (int)output->key.len, output->key.ptr);
    mr_buf_printf(out, "%.*s", (int)output->value.len, output->value.ptr);
}

static void take_example(void *arg, const struct mr_example *example)
{
    struct bench *bench = arg;
    struct mr_buf *out = &bench->examples;
    mr_buf_printf(out, "%s@%d ", mr_difference_names[example->kind],
                  (int)example->sample->rec.offset);
    put_output(out, example->before);
    mr_buf_put_char(out, '>');
    put_output(out, example->after);
    if (example->err)
        mr_buf_printf(out, "%s:%s", example->err->class_, example->err->msg);
    if (example->reason)
        mr_buf_printf(out, "(%s)", example->reason);
    mr_buf_put_char(out, ';');
}

/* The messages are separated by "|". */
static void bench_init(struct bench *bench, const char *messages)
{
    static const char *const topics[] = {"out"};
    *bench = (struct bench){.before.base.ops = &words_ops, .after.base.ops = &words_ops};
    size_t n = 0;
    for (const char *at = messages; *at; n++) {
        size_t len = strcspn(at, "|");
        bench->samples[n].rec =
            (struct mr_record){.topic = "in", .offset = (int)n, .value = {at, len}};
        bench->samples[n].now_ms = 1000 + (int)n;
        bench->list[n] = &bench->samples[n];
        at += len + (at[len] == '|');
    }
    bench->options = (struct mr_rehearse_options){
        .before = {&bench->before.base, topics, 1, 0},
        .after = {&bench->after.base, topics, 1, 0},
        .samples = bench->list,
        .n_samples = n,
        .outputs_max = 100,
        .deadline_mono_ms = mr_clock_mono_ms() + 60000,
        .example = take_example,
        .arg = bench,
    };
}

static void bench_fini(struct bench *bench)
{
    mr_buf_fini(&bench->before.bytes);
    mr_buf_fini(&bench->after.bytes);
    mr_buf_fini(&bench->examples);
}

static void check(struct bench *bench, const char *counts, const char *examples)
{
    char text[128];
    mr_buf_reset(&bench->examples);
    assert_true(mr_rehearse(&bench->options, &bench->got, &bench->err));
    const uint64_t *n = bench->got.differences;
    snprintf(text, sizeof text, "%zu/%zu +%d -%d ~%d !%d ok%d", bench->got.n_differ,
             bench->got.n_messages, (int)n[MR_OUTPUT_ADDED], (int)n[MR_OUTPUT_DROPPED],
             (int)n[MR_OUTPUT_CHANGED], (int)n[MR_ERROR_NEW], (int)n[MR_ERROR_GONE]);
    assert_string_equal(text, counts);
    assert_string_equal(mr_buf_cstr(&bench->examples), examples);
    assert_int_equal(mr_rehearsed_same(&bench->got), bench->got.n_differ == 0);
}

static void equal_scripts_do_not_differ(void **state)
{
    struct bench bench;
    (void)state;
    bench_init(&bench, "a=1 b=2 c|!why|-late|x x x");
    check(&bench, "0/4 +0 -0 ~0 !0 ok0", "");
    assert_int_equal(bench.got.outputs_before, 6);
    assert_int_equal(bench.got.errors_before, 1);
    assert_int_equal(bench.got.errors_after, 1);
    assert_int_equal(bench.after.now_ms, 1003); /* each as of when it was taken */
    bench_fini(&bench);
}

static void added_dropped_and_changed_outputs_are_told_apart(void **state)
{
    struct bench bench;
    (void)state;
    bench_init(&bench, "a=1 b=2|c");
    bench.after.also = "n=9";
    check(&bench, "2/2 +2 -0 ~0 !0 ok0", "added@0 >n=9;added@1 >n=9;");
    bench.after.also = NULL;
    bench.after.skip = "b=2";
    check(&bench, "1/2 +0 -1 ~0 !0 ok0", "dropped@0 b=2>;");
    bench.after.skip = NULL;
    bench.after.edit = "v";
    check(&bench, "2/2 +0 -0 ~3 !0 ok0", "changed@0 a=1>a=v1;changed@1 c>vc;");
    bench_fini(&bench);
}

static void the_order_of_outputs_is_no_difference(void **state)
{
    struct bench bench;
    (void)state;
    bench_init(&bench, "a=1 b=2 c=3 b=2");
    bench.before.skip = bench.after.skip = "b=2";
    bench.before.also = bench.after.also = NULL;
    check(&bench, "0/1 +0 -0 ~0 !0 ok0", "");
    bench.before.skip = "a=1"; /* b c b, and a behind them */
    bench.before.also = "a=1";
    bench.after.skip = NULL;
    check(&bench, "0/1 +0 -0 ~0 !0 ok0", "");
    bench_fini(&bench);
}

static void one_of_several_equal_outputs_that_is_missing_is_seen(void **state)
{
    struct bench bench;
    (void)state;
    bench_init(&bench, "x x");
    bench.before.also = "x";
    check(&bench, "1/1 +0 -1 ~0 !0 ok0", "dropped@0 x>;");
    bench_fini(&bench);
}

static void messages_that_are_dropped_now_lose_all_their_outputs(void **state)
{
    struct bench bench;
    (void)state;
    bench_init(&bench, "a=1|b=2 c=3|d=4");
    bench.after.skip = "b=2 c=3";
    check(&bench, "1/3 +0 -2 ~0 !0 ok0", "dropped@1 b=2>(skipped);");
    bench.after.skip = NULL;
    bench.before.skip = "d=4";
    check(&bench, "1/3 +1 -0 ~0 !0 ok0", "added@2 >d=4(skipped);");
    bench_fini(&bench);
}

static enum mr_verdict refuse_all(struct mr_script *base, struct mr_record *rec,
                                  struct mr_source *from, const struct mr_context *ctx,
                                  const char **reason, struct mr_error *err)
{
    enum mr_verdict verdict = words_accept(base, rec, from, ctx, reason, err);
    if (verdict != MR_VERDICT_EMIT)
        return verdict;
    mr_error_reject(err, "script", "refused");
    return MR_VERDICT_REJECT;
}

static void new_errors_are_counted_by_message_and_not_as_dropped(void **state)
{
    struct mr_script_ops refusing = words_ops;
    struct bench bench;
    (void)state;
    refusing.accept = refuse_all;
    bench_init(&bench, "a b c|-late|!old");
    bench.after.base.ops = &refusing;
    check(&bench, "1/3 +0 -0 ~0 !1 ok0", "new error@0 >script:refused;");
    assert_int_equal(bench.got.errors_before, 1);
    assert_int_equal(bench.got.errors_after, 2);
    bench.after.base.ops = &words_ops;
    bench.before.base.ops = &refusing;
    check(&bench, "1/3 +0 -0 ~0 !0 ok1", "error gone@0 >script:refused;");
    bench_fini(&bench);
}

static void only_the_first_outputs_of_a_message_are_compared(void **state)
{
    struct bench bench;
    (void)state;
    bench_init(&bench, "a b c d|e");
    bench.options.outputs_max = 2;
    check(&bench, "0/2 +0 -0 ~0 !0 ok0", "");
    assert_int_equal(bench.got.n_cut, 1);
    assert_int_equal(bench.got.outputs_before, 3);
    bench.after.skip = "a"; /* what moves up from behind is not told as added, nor c as missing */
    check(&bench, "1/2 +0 -0 ~1 !0 ok0", "changed@0 a>c;");
    bench_fini(&bench);
}

static void examples_are_few_one_a_message_and_counts_are_whole(void **state)
{
    struct bench bench;
    int n = 0;
    (void)state;
    bench_init(&bench, "a b c|d e|f|g|h|i|j");
    bench.after.edit = "x";
    mr_buf_reset(&bench.examples);
    assert_true(mr_rehearse(&bench.options, &bench.got, &bench.err));
    assert_int_equal(bench.got.differences[MR_OUTPUT_CHANGED], 10);
    for (const char *at = mr_buf_cstr(&bench.examples); (at = strchr(at, ';')); at++)
        n++;
    assert_int_equal(n, MR_REHEARSE_EXAMPLES);
    bench_fini(&bench);
}

static void it_ends_when_time_is_over_or_somebody_stops_it(void **state)
{
    struct bench bench;
    atomic_bool stop;
    (void)state;
    bench_init(&bench, "a|b");
    bench.options.deadline_mono_ms = mr_clock_mono_ms();
    check(&bench, "0/0 +0 -0 ~0 !0 ok0", "");
    bench.options.deadline_mono_ms = INT64_MAX;
    atomic_init(&stop, true);
    bench.options.stop = &stop;
    check(&bench, "0/0 +0 -0 ~0 !0 ok0", "");
    bench_fini(&bench);
}

static void a_lookup_that_is_away_ends_it_with_its_reason(void **state)
{
    struct bench bench;
    (void)state;
    bench_init(&bench, "a|?");
    assert_false(mr_rehearse(&bench.options, &bench.got, &bench.err));
    assert_string_equal(bench.err.msg, "away");
    bench_fini(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_last_messages_are_kept_whole),
        cmocka_unit_test(a_tombstone_stays_one),
        cmocka_unit_test(the_oldest_make_room),
        cmocka_unit_test(memory_is_bounded),
        cmocka_unit_test(at_high_rates_it_is_a_sample),
        cmocka_unit_test(workers_and_whoever_looks_do_not_disturb_each_other),
        cmocka_unit_test(the_columns_are_copied),
        cmocka_unit_test(equal_scripts_do_not_differ),
        cmocka_unit_test(added_dropped_and_changed_outputs_are_told_apart),
        cmocka_unit_test(the_order_of_outputs_is_no_difference),
        cmocka_unit_test(one_of_several_equal_outputs_that_is_missing_is_seen),
        cmocka_unit_test(messages_that_are_dropped_now_lose_all_their_outputs),
        cmocka_unit_test(new_errors_are_counted_by_message_and_not_as_dropped),
        cmocka_unit_test(only_the_first_outputs_of_a_message_are_compared),
        cmocka_unit_test(examples_are_few_one_a_message_and_counts_are_whole),
        cmocka_unit_test(it_ends_when_time_is_over_or_somebody_stops_it),
        cmocka_unit_test(a_lookup_that_is_away_ends_it_with_its_reason),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
