/*
 * work.c - a fixed amount of work of the hot path, for counting its instructions: tests/perf/run.
 *
 *   work decode | drop | project | each | stamp | lookup      prints how many times it was done
 *
 * decode: a campaign from JSON through `fields` and `filter`; drop: one that `filter` drops;
 * project: `key`, `project`, `shape`, `row` and the template; each: `each`, `shape` and the
 * template of one row; stamp: a message and a row of one subscriber; lookup: a key of ten rows,
 * found and walked. With scripts/promo.lua (each: bench/each/each.lua), the real objects and fixed
 * inputs. Only what the functions work_* call is counted, so that setting up costs nothing.
 */
#include "lua/script.h"
#include "stream/stamp.h"

#include "base/clock.h"
#include "base/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { CAMPAIGNS = 1000, ROWS = 10000, KEYS = 1000, RESTAURANTS = 10000, EACH = 10 };
enum { NOW_S = 1700000000 };

/* Called by its name, whole, whatever the optimizer would like. */
#define COUNTED __attribute__((noipa))

void work_decode(void);
void work_drop(void);
void work_project(void);
void work_each(void);
void work_stamp(void);
void work_lookup(void);

static struct mr_lookup_column columns[] = {{"restaurant_id", MR_TEXT, "text"},
                                            {"client_id", MR_TEXT, "text"}};
static const struct mr_lookup_schema schema = {"subscribers", columns, 1, 2};

#define TEXT(called)                                                                               \
    {                                                                                              \
        .name = (called), .type_name = "text", .oid = 25, .typmod = -1, .is_text = true            \
    }
#define NUMBER(called)                                                                             \
    {                                                                                              \
        .name = (called), .type_name = "bigint", .oid = 20, .typmod = -1                           \
    }
static const struct mr_row_column row_columns[] = {TEXT("restaurant_id"),
                                                   TEXT("adv_campaign_id"),
                                                   TEXT("adv_campaign_content"),
                                                   TEXT("adv_campaign_owner"),
                                                   TEXT("adv_campaign_owner_contact"),
                                                   NUMBER("adv_campaign_datetime_start"),
                                                   NUMBER("adv_campaign_datetime_end"),
                                                   NUMBER("datetime_created"),
                                                   TEXT("client_id"),
                                                   NUMBER("trigger_datetime_created"),
                                                   TEXT("feedback")};

static bool encode(const struct mr_row_column *column, const struct mr_value *value,
                   struct mr_buf *out, struct mr_error *err)
{
    struct mr_buf text = {0};
    bool ok = true;
    if (!column->is_text) {
        mr_buf_put_be32(out, 8);
        mr_buf_put_be64(out, (uint64_t)value->i);
    } else {
        ok = mr_value_text(&text, value, err);
        mr_buf_put_be32(out, (uint32_t)text.len);
        mr_buf_put(out, text.ptr, text.len);
        mr_buf_fini(&text);
    }
    return ok;
}

static const struct mr_row_schema row_schema = {.table = "subscribers_feedback",
                                                .columns = row_columns,
                                                .n = sizeof row_columns / sizeof *row_columns,
                                                .encode = encode};

static struct mr_script *script;
static struct mr_lookup *lookup;
static struct mr_pin pin;
static struct mr_span *span;
static struct mr_buf frames, rows;
static char messages[CAMPAIGNS][512];
static char keys[KEYS][64];
static size_t key_lens[KEYS];
static const struct mr_context ctx = {.now_ms = INT64_C(1000) * NOW_S};
static uint64_t done;

static void die(const char *what, const struct mr_error *err)
{
    fprintf(stderr, "work: %s: %s\n", what, err->msg);
    exit(70);
}

static struct mr_value uuid(char text[37], unsigned n, int kind)
{
    snprintf(text, 37, "%08x-e89b-12d3-a456-42661417400%d", n * UINT32_C(2654435761), kind);
    return (struct mr_value){.type = MR_TEXT, .bytes = {text, 36}};
}

/* --- what is counted --- */

static void no_headers(struct mr_source *source, struct mr_record *rec)
{
    (void)source, (void)rec;
}
static const struct mr_source_ops source_ops = {.headers = no_headers, .release = no_headers};
static struct mr_source source = {.ops = &source_ops};

/* Message i, to the point where its rows are asked for, or it is dropped. */
static void accept(unsigned i, const struct mr_context *when, enum mr_verdict expected)
{
    struct mr_error err;
    const char *reason = NULL;
    struct mr_record rec = {.topic = "topic_in",
                            .offset = i,
                            .timestamp_ms = ctx.now_ms,
                            .value = mr_bytes_of(messages[i])};
    if (script->ops->accept(script, &rec, &source, when, &reason, &err) != expected)
        die("accept", &err);
}

COUNTED void work_decode(void)
{
    for (unsigned i = 0; i < CAMPAIGNS; i++, done++) {
        accept(i, &ctx, MR_VERDICT_EMIT);
        script->ops->finish(script);
    }
}

/* As if they had all run out. */
COUNTED void work_drop(void)
{
    static const struct mr_context later = {.now_ms = INT64_C(2000) * NOW_S};
    for (unsigned i = 0; i < CAMPAIGNS; i++, done++) {
        accept(i, &later, MR_VERDICT_DROP);
        script->ops->finish(script);
    }
}

static const struct mr_template *project(void)
{
    struct mr_error err;
    const char *reason = NULL;
    const struct mr_bytes *found;
    const struct mr_template *template;
    size_t n;
    if (script->ops->key(script, &ctx, &found, &n, &reason, &err) != MR_VERDICT_EMIT ||
        script->ops->project(script, &ctx, &template, &reason, &err) != MR_VERDICT_EMIT)
        die("project", &err);
    return template;
}

COUNTED void work_project(void)
{
    project();
    done++;
}

/* All messages, since each is projected once; only work_project is counted. */
static void project_all(void)
{
    for (unsigned i = 0; i < CAMPAIGNS; i++) {
        accept(i, &ctx, MR_VERDICT_EMIT);
        work_project();
        script->ops->finish(script);
    }
}

/* The same row, again and again. */
static bool same_row(struct mr_rows *rows_, struct mr_row_ref *row, struct mr_error *err)
{
    static struct mr_row_ref first;
    (void)rows_, (void)err;
    if (done == ROWS)
        return false;
    if (!first.cells && !mr_span_next(span, &first))
        return false;
    *row = first;
    return true;
}

static bool count_row(struct mr_rows *rows_, const struct mr_template *made, struct mr_error *err)
{
    (void)rows_, (void)err;
    done += made->n_outputs;
    return true;
}

COUNTED void work_each(void)
{
    struct mr_error err;
    struct mr_rows all = {.next = same_row, .put = count_row, .budget_rows = ROWS};
    if (script->ops->each(script, &ctx, &all, &err) != MR_VERDICT_EMIT)
        die("each", &err);
}

static void open_key(unsigned i);

static void each_all(void)
{
    accept(0, &ctx, MR_VERDICT_EMIT);
    open_key(0);
    work_each();
    script->ops->finish(script);
}

static const struct mr_template *template;

COUNTED void work_stamp(void)
{
    struct mr_error err;
    struct mr_row_ref row;
    while (done < ROWS && mr_span_next(span, &row)) {
        if (!mr_stamp_row(template, &template->outputs[0], &schema, &row_schema, &row, ctx.now_ms,
                          &frames, &rows, &err))
            die("stamp", &err);
        done++;
    }
}

static void open_key(unsigned i)
{
    struct mr_bytes key = {keys[i], key_lens[i]};
    if (mr_span_open(span, pin.table, &key, 1, (struct mr_bytes){0}) != 1) {
        fputs("work: a key was not found\n", stderr);
        exit(70);
    }
}

static void stamp_all(void)
{
    accept(0, &ctx, MR_VERDICT_EMIT);
    template = project();
    for (unsigned i = 0; done < ROWS; i++) {
        open_key(i);
        work_stamp();
        if (frames.len > 1 << 20)
            mr_buf_reset(&frames), mr_buf_reset(&rows);
    }
    script->ops->finish(script);
}

COUNTED void work_lookup(void)
{
    struct mr_row_ref row;
    uint64_t n = 0;
    for (unsigned i = 0; i < KEYS; i++, done++) {
        open_key(i);
        while (mr_span_next(span, &row))
            n++;
    }
    mr_assert(n == (uint64_t)KEYS * EACH);
}

/* --- before it --- */

static void open_script(const char *path)
{
    static const char *const topics[] = {"topic_out"};
    struct mr_error err;
    const struct mr_script_options options = {.path = path,
                                              .has_lookup = true,
                                              .lookup = &schema,
                                              .rows = &row_schema,
                                              .has_message = true,
                                              .topics = topics,
                                              .n_topics = 1,
                                              .pipeline = "promo",
                                              .now_ms = ctx.now_ms,
                                              .bundle_header = true};
    if (!mr_script_open(&options, &script, &err))
        die(path, &err);
}

static void fill_lookup(void)
{
    struct mr_error err;
    struct mr_table *table;
    char texts[2][37];
    struct mr_table_builder *builder = mr_table_builder_new(&schema, true, 0);
    for (unsigned i = 0; i < RESTAURANTS * EACH; i++) {
        struct mr_value values[] = {uuid(texts[0], i / EACH, 1), uuid(texts[1], i, 0)};
        if (!mr_table_builder_add(builder, values, &err))
            die("lookup", &err);
    }
    if (!mr_table_builder_finish(builder, &table, &err))
        die("lookup", &err);
    lookup = mr_lookup_new("subscribers");
    mr_lookup_swap(lookup, table);
    mr_lookup_pin(lookup, &pin);
    span = mr_span_new();
}

static void make_inputs(void)
{
    struct mr_error err;
    struct mr_buf cells = {0};
    char restaurant[37], campaign[37];
    for (unsigned i = 0; i < CAMPAIGNS; i++) {
        uuid(restaurant, i, 1);
        uuid(campaign, i, 3);
        snprintf(messages[i], sizeof messages[i],
                 "{\"restaurant_id\": \"%s\", \"adv_campaign_id\": \"%s\", "
                 "\"adv_campaign_content\": \"two for one until the end of the week\", "
                 "\"adv_campaign_owner\": \"Ivanov Ivan Ivanovich\", "
                 "\"adv_campaign_owner_contact\": \"iiivanov@restaurant_id\", "
                 "\"adv_campaign_datetime_start\": %d, \"adv_campaign_datetime_end\": %d, "
                 "\"datetime_created\": %d}",
                 restaurant, campaign, NOW_S - 1000, NOW_S + 1000000, NOW_S - 2000);
    }
    for (unsigned i = 0; i < KEYS; i++) {
        struct mr_value key = uuid(restaurant, i * 7 % RESTAURANTS, 1);
        mr_buf_reset(&cells);
        if (!mr_lookup_key(&schema, &key, &cells, &err))
            die("key", &err);
        mr_assert(cells.len <= sizeof keys[i]);
        memcpy(keys[i], cells.ptr, key_lens[i] = cells.len);
    }
    mr_buf_fini(&cells);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } works[] = {{"decode", work_decode}, {"drop", work_drop},  {"project", project_all},
                 {"each", each_all},      {"stamp", stamp_all}, {"lookup", work_lookup}};
    mr_log_init(MR_WARN, MR_LOG_TEXT);
    fill_lookup();
    bool by_row = argc == 2 && strcmp(argv[1], "each") == 0;
    open_script(by_row ? "bench/each/each.lua" : "scripts/promo.lua");
    make_inputs();
    for (size_t i = 0; argc == 2 && i < sizeof works / sizeof *works; i++)
        if (strcmp(argv[1], works[i].name) == 0)
            works[i].run();
    if (!done)
        fputs("usage: work decode | drop | project | each | stamp | lookup\n", stderr);
    else
        printf("%" PRIu64 "\n", done);
    script->ops->close(script);
    mr_lookup_unpin(lookup, &pin);
    mr_lookup_free(lookup);
    mr_span_free(span);
    mr_buf_fini(&frames);
    mr_buf_fini(&rows);
    return done ? 0 : 64;
}
