/*
 * try.c - `millrace try`: the whole pipeline on stdin, without a broker and without a database.
 *
 * Main thread. What is printed for a message is what the daemon would have sent and written:
 * script, pipeline and stamper are the real ones (stream/trial.h); a table of Postgres is the file
 * --rows, and the columns of the feedback table are whatever the script names. Data goes to stdout,
 * a JSON object a line; what is said about it to stderr. Must not know formats (grid.c, records.c,
 * show.c). Tests: tests/spec/try_spec.lua.
 */
#include "cli/cli.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "cli/edition.h"
#include "cli/records.h"
#include "cli/rowsfile.h"
#include "cli/show.h"
#include "stream/anyrow.h"

#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

enum { EPOCH_OFFSET_S = 946684800 /* 2000-01-01, from which Postgres counts */ };

struct
try {
    const struct mr_cli_args *args;
    const struct mr_node *node;
    struct mr_names topics;
    struct mr_edition *edition;
    struct mr_anyrow *any;
    const struct mr_row_schema *rows;
    struct mr_lookup *lookup;
    struct mr_lookup_schema *schema;
    struct mr_script *script;
    struct mr_trial *trial;
    struct mr_records records;
    struct mr_show show;
    struct mr_buf out;
    int64_t now_ms; /* -1: the clock's */
    size_t line;
    uint64_t n_messages, n_outputs, n_dropped, n_dead;
};

/* --- before the first message --- */

/* Unix seconds, or a date and time as ISO 8601 writes them. */
static bool read_now(const char *text, int64_t *now_ms)
{
    char *end;
    struct mr_buf scratch = {0};
    struct mr_value value;
    struct mr_error err;
    double seconds = strtod(text, &end);
    bool ok = *text && !*end && fabs(seconds) < 1e12;
    if (ok) {
        *now_ms = (int64_t)llround(seconds * 1000);
    } else {
        ok = mr_rowsfile_value(MR_TIMESTAMP, mr_bytes_of(text), &scratch, &value, &err) &&
             value.type == MR_TIMESTAMP && value.i != INT64_MAX && value.i != INT64_MIN;
        if (ok)
            *now_ms = value.i / 1000 + (int64_t)EPOCH_OFFSET_S * 1000;
        else
            fprintf(stderr,
                    "millrace try: --now: expected unix seconds, such as 1700000000, or a time in "
                    "UTC, such as 2026-11-22T17:30:00Z; got \"%s\"\n",
                    text);
    }
    mr_buf_fini(&scratch);
    return ok;
}

static int read_rows(struct try *try, const struct mr_node *config)
{
    const char *name = mr_node_text(try->node, "lookup"), *path = try->args->rows;
    struct mr_buf text = {0};
    struct mr_error err;
    int code = MR_EXIT_OK;
    const struct mr_node *node = name ? mr_node_child(mr_node_at(config, "lookups"), name) : NULL;
    if (!node && path) {
        fprintf(stderr, "millrace try: the pipeline %s has no lookup: --rows is not needed\n",
                try->node->name);
        code = MR_EXIT_USAGE;
    } else if (node && !path) {
        mr_rowsfile_columns(node, &text);
        fprintf(stderr,
                "millrace try: the pipeline %s joins the lookup %s: give its rows with --rows FILE "
                "(.csv or .jsonl), with the columns %s\n",
                try->node->name, name, mr_buf_cstr(&text));
        code = MR_EXIT_USAGE;
    } else if (node) {
        if (mr_rowsfile_read(path, node, &try->lookup, &try->schema, &text, &err)) {
            fprintf(stderr, "lookup %s: %s\n", name, mr_buf_cstr(&text));
        } else {
            fprintf(stderr, "millrace try: %s\n", err.msg);
            code = err.code;
        }
    }
    mr_buf_fini(&text);
    return code;
}

/* The row of any name; or, where the configuration names the columns, of those. */
static void describe_rows(struct try *try)
{
    const char *table = mr_node_text(try->node, "sinks.postgres.table");
    const struct mr_node *columns = mr_node_at(try->node, "sinks.postgres.columns");
    if (!table)
        return;
    try->any = mr_anyrow_new(table);
    try->rows = mr_anyrow_schema(try->any);
    for (const struct mr_node *c = columns ? columns->children : NULL; c; c = c->next)
        try->rows->add(try->rows, c->text);
    if (columns && columns->n_children)
        mr_anyrow_close(try->any);
}

static int open_script(struct try *try, struct mr_shared_config *config)
{
    struct mr_error err;
    describe_rows(try);
    try->topics = mr_settings_topics(try->node);
    if (mr_edition_new(config, try->node, &try->edition, NULL, &err) &&
        mr_edition_open(try->edition, try->schema, try->rows, &try->script, &err))
        return MR_EXIT_OK;
    fprintf(stderr, "%s\n", err.msg);
    return err.code;
}

/* --- a message --- */

/* {"line":3, and what follows. */
static void begin_line(struct try *try)
{
    mr_buf_reset(&try->out);
    mr_buf_printf(&try->out, "{\"line\":%zu,", try->line);
}

static void end_line(struct try *try)
{
    mr_buf_put_char(&try->out, '\n');
    fwrite(try->out.ptr, 1, try->out.len, stdout);
}

static void take_output(void *arg, const struct mr_trial_output *output)
{
    struct try *try = arg;
    struct mr_buf inner = {0};
    begin_line(try);
    mr_show_output(&try->show, output, &inner);
    mr_buf_put(&try->out, inner.ptr + 1, inner.len - 1); /* without its "{" */
    mr_buf_fini(&inner);
    end_line(try);
    try->n_outputs++;
}

static void put_text(struct try *try, const char *name, const char *text)
{
    mr_buf_printf(&try->out, "\"%s\":", name);
    mr_text_json_string(&try->out, text, strlen(text));
}

/* False: the command ends, with err->code. */
static bool pass(struct try *try, struct mr_record *rec, struct mr_error *err)
{
    struct mr_trial_result result;
    int64_t now_ms = try->now_ms >= 0 || try->args->now ? try->now_ms : mr_clock_wall_ms();
    enum mr_verdict verdict = mr_trial_run(try->trial, rec, now_ms, &result, err);
    try->n_messages++;
    switch (verdict) {
    case MR_VERDICT_EMIT:
        return true;
    case MR_VERDICT_DROP:
        try->n_dropped++;
        begin_line(try);
        put_text(try, "dropped", result.reason);
        break;
    case MR_VERDICT_REJECT:
        try->n_dead++;
        begin_line(try);
        mr_buf_put_text(&try->out, "\"dead\":{");
        put_text(try, "class", err->class_);
        mr_buf_put_char(&try->out, ',');
        put_text(try, "error", err->msg);
        mr_buf_put_char(&try->out, '}');
        break;
    default:
        return false;
    }
    mr_buf_put_char(&try->out, '}');
    end_line(try);
    return true;
}

static bool is_blank(const char *text, size_t len)
{
    size_t i = 0;
    while (i < len && text[i] && strchr(" \t\r\n", text[i]))
        i++;
    return i == len;
}

static int pass_all(struct try *try)
{
    char *line = NULL;
    size_t cap = 0;
    ssize_t len;
    int code = MR_EXIT_OK;
    while (!code && (len = getline(&line, &cap, stdin)) >= 0) {
        struct mr_record rec;
        struct mr_error err;
        size_t n = (size_t)len;
        try->line++;
        n -= n && line[n - 1] == '\n';
        n -= n && line[n - 1] == '\r';
        if (is_blank(line, n))
            continue;
        if (!mr_records_read(&try->records, (struct mr_bytes){line, n}, try->line, &rec, &err) ||
            !pass(try, &rec, &err)) {
            fprintf(stderr, "millrace try: %s\n", err.msg);
            code = err.code ? err.code : MR_EXIT_BUG;
        }
        fflush(stdout); /* whoever reads us gets each message at once */
    }
    if (ferror(stdin)) {
        fputs("millrace try: the input could not be read\n", stderr);
        code = MR_EXIT_DATA;
    }
    free(line);
    if (try->n_messages == 0 && !code)
        fputs("millrace try: no message came on standard input; a line is a message: "
              "millrace try < in.jsonl\n",
              stderr);
    else
        fprintf(stderr,
                "%" PRIu64 " message%s: %" PRIu64 " output%s, %" PRIu64 " dropped, %" PRIu64
                " dead letter%s\n",
                try->n_messages, try->n_messages == 1 ? "" : "s", try->n_outputs,
                try->n_outputs == 1 ? "" : "s", try->n_dropped, try->n_dead,
                try->n_dead == 1 ? "" : "s");
    return code ? code : try->n_dead ? MR_EXIT_DATA : MR_EXIT_OK;
}

static int try_pipeline(struct try *try, struct mr_shared_config *config)
{
    int code = read_rows(try, mr_shared_config_tree(config));
    if (!code)
        code = open_script(try, config);
    if (code)
        return code;
    const struct mr_node *topics = mr_node_at(try->node, "source.topics");
    struct mr_trial_options options = {
        .script = try->script,
        .lookup = try->lookup,
        .columns = try->schema,
        .rows = try->rows,
        .chunk_outputs = (uint32_t)mr_node_int(try->node, "unit.outputs", 0),
        .chunk_bytes = (size_t)mr_node_int(try->node, "unit.bytes", 0),
        .max_message_bytes = (size_t)mr_node_int(try->node, "max_message", 0),
        .output = take_output,
        .arg = try,
    };
    try->trial = mr_trial_new(&options);
    mr_records_init(&try->records, try->args->records, topics->children->text);
    mr_show_init(&try->show, try->topics.items, try->topics.n, try->rows);
    if (isatty(STDIN_FILENO))
        fputs("a line is a message; Ctrl-D ends\n", stderr);
    code = pass_all(try);
    mr_show_fini(&try->show);
    mr_records_fini(&try->records);
    mr_trial_free(try->trial);
    return code;
}

int mr_cli_try(const struct mr_cli_args *args)
{
    struct mr_node *config = NULL;
    struct try try = {.args = args, .now_ms = -1};
    if (args->json && !args->against_live) {
        fputs("millrace try: --json belongs to --against-live; without it all data is JSON\n",
              stderr);
        return MR_EXIT_USAGE;
    }
    signal(SIGPIPE, SIG_DFL); /* as other filters do: `| head` ends us */
    if (args->now && !read_now(args->now, &try.now_ms))
        return MR_EXIT_USAGE;
    if (!mr_cli_load(args, &config))
        return MR_EXIT_CONFIG;
    int code = MR_EXIT_USAGE;
    if (args->against_live) {
        bool meant = !args->word || mr_cli_pipeline(args, config, "try", NULL);
        code = meant ? mr_cli_try_against_live(args, config, args->word) : code;
        mr_node_free(config);
        return code;
    }
    try.node = mr_cli_pipeline(args, config, "try", NULL);
    struct mr_shared_config *shared = mr_shared_config_new(config, false);
    if (try.node)
        code = try_pipeline(&try, shared);
    if (try.script)
        try.script->ops->close(try.script);
    mr_edition_release(try.edition);
    mr_anyrow_free(try.any);
    mr_lookup_free(try.lookup);
    mr_lookup_schema_free(try.schema);
    free(try.topics.items);
    mr_buf_fini(&try.out);
    mr_shared_config_release(shared);
    return code;
}
