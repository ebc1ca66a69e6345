/*
 * bench.c - `millrace bench`: how fast is this script? The pipeline in memory, on made-up rows.
 *
 * Main thread, as a worker would be. Script, lookup and stamper are the real ones; there is no
 * broker and no database, so that the figure is what the script leaves of a core, before delivery.
 * Units are filled and thrown away. Must not know how rows are made up (madeup.c) nor how time is
 * taken (stopwatch.c). Tests: tests/spec/bench_command_spec.lua.
 */
#include "cli/cli.h"

#include "base/clock.h"
#include "base/text.h"
#include "cli/edition.h"
#include "cli/madeup.h"
#include "cli/rowsfile.h"
#include "cli/settings.h"
#include "cli/stopwatch.h"
#include "lua/json.h"
#include "lua/script.h"
#include "stream/anyrow.h"
#include "stream/pipeline.h"

#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

enum { ROWS = 100000, EACH = 10, SAMPLES = 1000, SECONDS = 2 };

struct bench {
    const struct mr_cli_args *args;
    const struct mr_node *node, *lookup_node;
    struct mr_edition *edition;
    struct mr_anyrow *any;
    const struct mr_row_schema *rows;
    struct mr_lookup *lookup;
    struct mr_lookup_schema *schema;
    struct mr_script *script;
    struct mr_stopwatch watch;
    struct mr_pipeline pipeline;
    struct mr_source source;
    struct mr_unit unit;
    struct mr_part part;
    struct mr_buf text; /* all messages, one behind the other */
    size_t *ends;       /* of each message in `text` */
    size_t n, cap;
    bool made_up; /* the messages */
    int64_t now_ms;
    uint64_t n_messages, n_outputs, n_dropped, n_dead;
    char dropped[64]; /* the first reason */
    struct mr_error dead;
    int64_t took_ns, cpu_ns, decode_ns;
};

static void no_headers(struct mr_source *source, struct mr_record *rec)
{
    (void)source, (void)rec;
}

static const struct mr_source_ops source_ops = {.headers = no_headers, .release = no_headers};

/* --- messages --- */

static void end_message(struct bench *bench)
{
    if (bench->n == bench->cap) {
        bench->cap = bench->cap ? 2 * bench->cap : 1024;
        bench->ends = mr_realloc(bench->ends, bench->cap * sizeof *bench->ends);
    }
    bench->ends[bench->n++] = bench->text.len;
}

static struct mr_record message(const struct bench *bench, size_t i)
{
    size_t from = i ? bench->ends[i - 1] : 0;
    return (struct mr_record){
        .topic = mr_node_at(bench->node, "source.topics")->children->text,
        .offset = (int64_t)i,
        .timestamp_ms = bench->now_ms,
        .value = {bench->text.ptr + from, bench->ends[i] - from},
    };
}

/* Lines of stdin; none from a terminal. */
static void read_messages(struct bench *bench)
{
    char *line = NULL;
    size_t cap = 0;
    ssize_t len;
    while (!isatty(STDIN_FILENO) && (len = getline(&line, &cap, stdin)) >= 0) {
        size_t n = (size_t)len;
        while (n && strchr(" \t\r\n", line[n - 1]))
            n--;
        if (n) {
            mr_buf_put(&bench->text, line, n);
            end_message(bench);
        }
    }
    free(line);
}

static int make_messages(struct bench *bench)
{
    bench->made_up = true;
    for (unsigned i = 1; i <= SAMPLES; i++) {
        if (!mr_script_sample(bench->script, bench->now_ms / 1000, i, &bench->text)) {
            fputs("millrace bench: the script has no `fields` from which messages could be made "
                  "up: give some on standard input, one a line: millrace bench < sample.jsonl\n",
                  stderr);
            return MR_EXIT_USAGE;
        }
        end_message(bench);
    }
    return MR_EXIT_OK;
}

/* --- rows --- */

/* The keys for which the messages ask, so that their rows can be made up. */
static void ask_for_keys(struct bench *bench, struct mr_madeup_keys *keys)
{
    const struct mr_script_ops *ops = bench->script->ops;
    const struct mr_context ctx = {.now_ms = bench->now_ms};
    for (size_t i = 0; i < bench->n; i++) {
        struct mr_record rec = message(bench, i);
        struct mr_error err;
        const char *reason;
        const struct mr_bytes *found;
        size_t n;
        if (ops->accept(bench->script, &rec, &bench->source, &ctx, &reason, &err) ==
                MR_VERDICT_EMIT &&
            ops->key(bench->script, &ctx, &found, &n, &reason, &err) == MR_VERDICT_EMIT)
            for (size_t k = 0; k < n; k++)
                mr_madeup_keys_add(keys, found[k]);
        ops->finish(bench->script);
    }
}

static bool make_rows(struct bench *bench, struct mr_error *err)
{
    struct mr_madeup_keys keys = {0};
    uint64_t n = bench->args->rows ? strtoull(bench->args->rows, NULL, 10) : ROWS;
    ask_for_keys(bench, &keys);
    bool ok = mr_madeup_lookup(bench->lookup_node->name, bench->schema, &keys, n,
                               bench->args->each ? (uint64_t)bench->args->each : EACH,
                               &bench->lookup, err);
    mr_madeup_keys_fini(&keys);
    return ok;
}

static bool is_number(const char *text)
{
    return *text && strspn(text, "0123456789") == strlen(text);
}

/* The columns, before the script is opened; with a file also its rows. */
static int find_columns(struct bench *bench)
{
    struct mr_buf said = {0};
    struct mr_error err;
    const char *rows = bench->args->rows;
    bool ok = true;
    if (bench->lookup_node && rows && !is_number(rows)) {
        ok =
            mr_rowsfile_read(rows, bench->lookup_node, &bench->lookup, &bench->schema, &said, &err);
        if (ok)
            fprintf(stderr, "lookup %s: %s\n", bench->lookup_node->name, mr_buf_cstr(&said));
    } else if (bench->lookup_node) {
        ok = mr_madeup_schema(bench->lookup_node, &bench->schema, &err);
    }
    if (!ok)
        fprintf(stderr, "millrace bench: %s\n", err.msg);
    mr_buf_fini(&said);
    return ok ? MR_EXIT_OK : err.code;
}

static int open_script(struct bench *bench, struct mr_shared_config *config)
{
    struct mr_error err;
    const char *table = mr_node_text(bench->node, "sinks.postgres.table");
    bench->any = table ? mr_anyrow_new(table) : NULL;
    bench->rows = table ? mr_anyrow_schema(bench->any) : NULL;
    if (mr_edition_new(config, bench->node, &bench->edition, NULL, &err) &&
        mr_edition_open(bench->edition, bench->schema, bench->rows, &bench->script, &err))
        return MR_EXIT_OK;
    fprintf(stderr, "%s\n", err.msg);
    return err.code;
}

/* --- the run --- */

/* One message, whole, chunk by chunk, into units that are thrown away when they are full. */
static bool pass(struct bench *bench, size_t i, struct mr_error *err)
{
    struct mr_record rec = message(bench, i);
    struct mr_pass pass = {.more = true};
    while (pass.more) {
        enum mr_verdict verdict = mr_pipeline_run(&bench->pipeline, &bench->part, &rec,
                                                  bench->now_ms, &bench->unit, &pass, err);
        if (verdict == MR_VERDICT_DROP && !bench->n_dropped++)
            snprintf(bench->dropped, sizeof bench->dropped, "%s", pass.reason);
        if (verdict == MR_VERDICT_REJECT && !bench->n_dead++)
            bench->dead = *err;
        if (verdict == MR_VERDICT_RETRY || verdict == MR_VERDICT_STOP)
            return false;
        if (verdict == MR_VERDICT_EMIT)
            bench->n_outputs += pass.segment->to.outputs - pass.segment->from.outputs;
        struct mr_job_state job = {0};
        if (pass.more)
            job = mr_segment_job(pass.segment);
        mr_part_set_job(&bench->part, pass.more ? &job : NULL);
        if (pass.more || mr_pipeline_unit_full(&bench->pipeline, &bench->unit))
            mr_unit_reset(&bench->unit, &bench->source);
    }
    bench->n_messages++;
    return true;
}

/* What the decoder alone takes for a message, measured apart: it is part of the script's time. */
static int64_t decode_ns(struct bench *bench)
{
    struct mr_json *json = mr_json_new();
    struct mr_error err;
    int64_t began = mr_stopwatch_cpu_ns(), took = 0, n = 0;
    while (took < INT64_C(50000000)) {
        for (size_t i = 0; i < bench->n; i++, n++) {
            struct mr_record rec = message(bench, i);
            bool ok = mr_json_parse(json, rec.value, &err);
            (void)ok; /* what is no JSON has taken its time too */
        }
        took = mr_stopwatch_cpu_ns() - began;
    }
    mr_json_free(json);
    return took / n;
}

static int run_all(struct bench *bench)
{
    struct mr_error err;
    int64_t most_ns = INT64_C(1000000000) * (bench->args->seconds ? bench->args->seconds : SECONDS);
    uint64_t most = bench->args->messages ? (uint64_t)bench->args->messages : UINT64_MAX;
    if (bench->args->messages && !bench->args->seconds)
        most_ns = INT64_MAX;
    if (!mr_pipeline_pin(&bench->pipeline)) {
        fputs("millrace bench: the lookup has no table\n", stderr);
        return MR_EXIT_BUG;
    }
    /* One round that does not count: the table, the script and the allocator are met. */
    for (size_t i = 0; i < bench->n && i < SAMPLES; i++)
        if (!pass(bench, i, &err))
            goto failed;
    bench->n_messages = bench->n_outputs = bench->n_dropped = bench->n_dead = 0;
    mr_stopwatch_init(&bench->watch, bench->script);
    int64_t began = mr_stopwatch_now_ns(), cpu = mr_stopwatch_cpu_ns();
    for (size_t i = 0; bench->n_messages < most && bench->took_ns < most_ns;
         i = i + 1 == bench->n ? 0 : i + 1) {
        if (!pass(bench, i, &err))
            goto failed;
        bench->took_ns = mr_stopwatch_now_ns() - began;
    }
    bench->cpu_ns = mr_stopwatch_cpu_ns() - cpu;
    bench->decode_ns = decode_ns(bench);
    return MR_EXIT_OK;
failed:
    fprintf(stderr, "millrace bench: %s\n", err.msg);
    return err.code ? err.code : MR_EXIT_BUG;
}

/* --- what is said --- */

/* Rates are of a second of a core: on a machine that is busy, too, they say what the script costs.
 */
struct figures {
    double seconds, cpu_s, messages_s, rows_s, us_message, us_row; /* of a message, of an output */
    double lua, decode, stamp;                                     /* shares, 0 to 1 */
};

static struct figures figures(const struct bench *bench)
{
    double seconds = (double)bench->took_ns / 1e9, cpu = (double)bench->cpu_ns / 1e9;
    double decode = (double)bench->decode_ns * (double)bench->n_messages / 1e9 / cpu;
    double script = (double)bench->watch.script_ns / (double)bench->took_ns;
    decode = decode < script ? decode : script;
    return (struct figures){
        .seconds = seconds,
        .cpu_s = cpu,
        .messages_s = (double)bench->n_messages / cpu,
        .rows_s = (double)bench->n_outputs / cpu,
        .us_message = cpu * 1e6 / (double)bench->n_messages,
        .us_row = bench->n_outputs ? cpu * 1e6 / (double)bench->n_outputs : 0,
        .lua = script - decode,
        .decode = decode,
        .stamp = 1 - script,
    };
}

static void tell_json(const struct bench *bench, const struct figures *f, uint64_t rows,
                      uint64_t keys)
{
    struct mr_buf name = {0};
    mr_text_json_string(&name, bench->node->name, strlen(bench->node->name));
    printf("{\"pipeline\":%s,\"samples\":%zu,\"made_up\":%s,\"lookup_rows\":%" PRIu64
           ",\"lookup_keys\":%" PRIu64
           ",\"seconds\":%.3f,\"cpu_seconds\":%.3f,\"messages\":%" PRIu64 ",\"outputs\":%" PRIu64
           ",\"dropped\":%" PRIu64 ",\"dead_letters\":%" PRIu64
           ",\"messages_per_s\":%.0f,\"rows_per_s\":%.0f,\"us_a_message\":%.3f,\"us_a_row\":%.3f,"
           "\"share\":{\"lua\":%.3f,\"decode\":%.3f,\"stamp\":%.3f}}\n",
           mr_buf_cstr(&name), bench->n, bench->made_up ? "true" : "false", rows, keys, f->seconds,
           f->cpu_s, bench->n_messages, bench->n_outputs, bench->n_dropped, bench->n_dead,
           f->messages_s, f->rows_s, f->us_message, f->us_row, f->lua, f->decode, f->stamp);
    mr_buf_fini(&name);
}

static void tell_text(const struct bench *bench, const struct figures *f, uint64_t rows,
                      uint64_t keys)
{
    printf("%s: %zu messages%s, again and again", bench->node->name, bench->n,
           bench->made_up ? " made up from the script's fields" : " of standard input");
    if (bench->lookup)
        printf("; a lookup of %" PRIu64 " rows under %" PRIu64 " keys%s", rows, keys,
               bench->args->rows && !is_number(bench->args->rows) ? "" : ", made up too");
    printf("\n%12.0f messages/s  %8.2f us each\n", f->messages_s, f->us_message);
    printf("%12.0f rows/s      %8.2f us each, %.1f a message\n", f->rows_s, f->us_row,
           (double)bench->n_outputs / (double)bench->n_messages);
    printf("of the time: Lua %.0f %%, decode %.0f %%, lookup and stamp %.0f %%\n", 100 * f->lua,
           100 * f->decode, 100 * f->stamp);
    printf("of one core, without Kafka and Postgres; %.1f s in all, %.1f CPU s\n", f->seconds,
           f->cpu_s);
}

static int tell(const struct bench *bench)
{
    struct mr_table_stats stats = {0};
    if (bench->lookup)
        stats = mr_lookup_stats(bench->lookup);
    struct figures f = figures(bench);
    if (bench->args->json)
        tell_json(bench, &f, stats.rows, stats.keys);
    else
        tell_text(bench, &f, stats.rows, stats.keys);
    if (bench->n_dropped)
        fprintf(stderr, "%" PRIu64 " of %" PRIu64 " messages were dropped, the first one: %s\n",
                bench->n_dropped, bench->n_messages, bench->dropped);
    if (bench->n_dead)
        fprintf(stderr, "%" PRIu64 " of %" PRIu64 " would be dead letters, the first one: %s\n",
                bench->n_dead, bench->n_messages, bench->dead.msg);
    bool real_rows = bench->args->rows && !is_number(bench->args->rows);
    if ((bench->n_dropped || bench->n_dead) && (bench->made_up || (bench->lookup && !real_rows)))
        fputs("what was made up may not be what the script expects: give real messages on standard "
              "input, and rows with --rows FILE\n",
              stderr);
    return bench->n_dead ? MR_EXIT_DATA : MR_EXIT_OK;
}

static int bench_pipeline(struct bench *bench, struct mr_shared_config *config)
{
    const struct mr_node *tree = mr_shared_config_tree(config);
    const char *name = mr_node_text(bench->node, "lookup");
    struct mr_error err;
    bench->lookup_node = name ? mr_node_child(mr_node_at(tree, "lookups"), name) : NULL;
    int code = find_columns(bench);
    if (!code)
        code = open_script(bench, config);
    if (code)
        return code;
    read_messages(bench);
    if (!bench->n)
        code = make_messages(bench);
    if (!code && bench->lookup_node && !bench->lookup && !make_rows(bench, &err)) {
        fprintf(stderr, "millrace bench: %s\n", err.msg);
        code = err.code;
    }
    if (code)
        return code;
    mr_stopwatch_init(&bench->watch, bench->script);
    bench->pipeline = (struct mr_pipeline){
        .script = &bench->watch.script,
        .source = &bench->source,
        .lookup = bench->lookup,
        .rows = bench->rows,
        .span = mr_span_new(),
        .unit_outputs = (uint32_t)mr_node_int(bench->node, "unit.outputs", 0),
        .unit_bytes = (size_t)mr_node_int(bench->node, "unit.bytes", 0),
        .max_message_bytes = (size_t)mr_node_int(bench->node, "max_message", 0),
    };
    mr_unit_init(&bench->unit);
    code = run_all(bench);
    if (!code)
        code = tell(bench);
    mr_unit_fini(&bench->unit, &bench->source);
    mr_part_fini(&bench->part);
    mr_pipeline_unpin(&bench->pipeline);
    mr_span_free(bench->pipeline.span);
    return code;
}

int mr_cli_bench(const struct mr_cli_args *args)
{
    struct mr_node *config = NULL;
    struct bench bench = {.args = args,
                          .source = {&source_ops},
                          .now_ms = mr_clock_wall_ms(),
                          .part = {.trying = -1}};
    if (!mr_cli_load(args, &config))
        return MR_EXIT_CONFIG;
    int code = MR_EXIT_USAGE;
    bench.node = mr_cli_pipeline(args, config, "bench", NULL);
    struct mr_shared_config *shared = mr_shared_config_new(config, false);
    if (bench.node)
        code = bench_pipeline(&bench, shared);
    if (bench.script)
        bench.script->ops->close(bench.script);
    mr_edition_release(bench.edition);
    mr_anyrow_free(bench.any);
    mr_lookup_free(bench.lookup);
    mr_lookup_schema_free(bench.schema);
    mr_buf_fini(&bench.text);
    free(bench.ends);
    mr_shared_config_release(shared);
    return code;
}
