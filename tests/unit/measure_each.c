/*
 * measure_each.c - prints how many rows a second one core brings from a lookup through a script
 * into a unit, as messages of eight fields and as rows for Postgres: by `each`, and by `project`
 * beside it. Not a test.
 *
 *   measure_each [rows [rounds]]      default 20000 50
 */
#include "lua/script.h"
#include "postgres/postgres.h"
#include "stream/pipeline.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static const struct mr_lookup_column columns[] = {{"shop", MR_TEXT, "text"},
                                                  {"client_id", MR_TEXT, "uuid"},
                                                  {"name", MR_TEXT, "text"},
                                                  {"visits", MR_INT, "integer"}};
static const struct mr_lookup_schema schema = {"measured", columns, 1, 4};

enum { OID_TEXT = 25, OID_INT8 = 20 };
#define TEXT(n)                                                                                    \
    {                                                                                              \
        .name = n, .type_name = "text", .oid = OID_TEXT, .typmod = -1, .is_text = true             \
    }
#define INT8(n)                                                                                    \
    {                                                                                              \
        .name = n, .type_name = "bigint", .oid = OID_INT8, .typmod = -1                            \
    }
static const struct mr_row_column row_columns[] = {
    TEXT("shop"), TEXT("campaign"),  TEXT("text"), INT8("start"),
    INT8("stop"), TEXT("client_id"), TEXT("name"), INT8("created")};
static const struct mr_row_schema rows = {
    .table = "measured", .columns = row_columns, .n = 8, .encode = mr_postgres_encode};

#define RECORD(row)                                                                                \
    "  return { shop = msg.shop, campaign = msg.campaign, text = msg.text, start = msg.start,\n"   \
    "    stop = msg.stop, client_id = " row ".client_id, name = " row ".name, created = ctx.now }" \
    "\nend\nreturn s\n"
#define HEAD "local s = {}\nfunction s.key(msg) return msg.shop end\n"

static const struct {
    const char *name, *text;
} scripts[] = {
    {"project", HEAD "function s.project(msg, col, ctx)\n" RECORD("col")},
    {"each", HEAD "function s.each(msg, row, ctx)\n" RECORD("row")},
    {"each, one row in ten", HEAD "function s.each(msg, row, ctx)\n"
                                  "  if row.visits % 10 > 0 then return nil end\n" RECORD("row")},
    {"each, with shape and row", HEAD "function s.shape(rec) rec.shop = nil return rec, rec.name "
                                      "end\nfunction s.row(rec) rec.text = '' return rec end\n"
                                      "function s.each(msg, row, ctx)\n" RECORD("row")},
};

static const char message[] =
    "{\"shop\":\"3f0e\",\"campaign\":\"b2c7a9e4-91e0-4a58-8a52-8ed4b1a5f0de\",\"text\":"
    "\"first class breakfast, until noon\",\"start\":1763800000,\"stop\":1763900000}";

static double cpu_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static struct mr_lookup *build(int n)
{
    struct mr_error err;
    struct mr_table *table;
    struct mr_table_builder *builder = mr_table_builder_new(&schema, true, 0);
    for (int i = 0; i < n; i++) {
        char client[40], name[40];
        snprintf(client, sizeof client, "%08x-4f1a-4b52-9d3e-%012x", (unsigned)i * 2654435761u,
                 (unsigned)i);
        snprintf(name, sizeof name, "client number %d", i);
        const struct mr_value values[] = {{.type = MR_TEXT, .bytes = mr_bytes_of("3f0e")},
                                          {.type = MR_TEXT, .bytes = mr_bytes_of(client)},
                                          {.type = MR_TEXT, .bytes = mr_bytes_of(name)},
                                          {.type = MR_INT, .i = i}};
        mr_assert(mr_table_builder_add(builder, values, &err));
    }
    mr_assert(mr_table_builder_finish(builder, &table, &err));
    struct mr_lookup *lookup = mr_lookup_new("measured");
    mr_lookup_swap(lookup, table);
    return lookup;
}

static void no_headers(struct mr_source *source, struct mr_record *rec)
{
    (void)source;
    (void)rec;
}

static void measure(const char *name, const char *text, struct mr_lookup *lookup, int n, int rounds)
{
    static const struct mr_source_ops source_ops = {.headers = no_headers};
    static const char *const topics[] = {"out"};
    struct mr_source source = {&source_ops};
    struct mr_error err;
    char path[] = "/tmp/measure_each-XXXXXX";
    int fd = mkstemp(path);
    mr_assert(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
    struct mr_script_options options = {.path = path,
                                        .has_lookup = true,
                                        .lookup = &schema,
                                        .rows = &rows,
                                        .has_message = true,
                                        .topics = topics,
                                        .n_topics = 1,
                                        .time_limit_ms = 1000,
                                        .memory_limit_bytes = 64 << 20,
                                        .pipeline = "measured",
                                        .bundle_header = true};
    struct mr_script *script;
    if (!mr_script_open(&options, &script, &err)) {
        fprintf(stderr, "%s\n", err.msg);
        exit(1);
    }
    unlink(path);
    struct mr_pipeline pipeline = {.script = script,
                                   .source = &source,
                                   .lookup = lookup,
                                   .rows = &rows,
                                   .span = mr_span_new(),
                                   .unit_outputs = 1000000,
                                   .unit_bytes = 256 << 20,
                                   .max_message_bytes = 1 << 20};
    struct mr_part part = {.at = {.topic = "in"}};
    struct mr_record rec = {.topic = "in", .value = mr_bytes_of(message)};
    struct mr_unit unit;
    struct mr_pass pass;
    double took = 0;
    uint64_t outputs = 0;
    mr_unit_init(&unit);
    mr_assert(mr_pipeline_pin(&pipeline));
    for (int round = -1; round < rounds; round++) { /* the first one warms up */
        double from = cpu_s();
        enum mr_verdict verdict =
            mr_pipeline_run(&pipeline, &part, &rec, 1763850000000, &unit, &pass, &err);
        if (verdict != MR_VERDICT_EMIT || pass.segment->dead) {
            fprintf(stderr, "verdict %d: %s\n", (int)verdict, err.msg);
            exit(1);
        }
        took += round < 0 ? 0 : cpu_s() - from;
        outputs = unit.n_outputs;
        mr_unit_reset(&unit, &source);
    }
    double n_rows = (double)n * rounds;
    printf("%-26s %9.0f rows/s  %5.0f ns a row  %" PRIu64 " outputs of %d rows\n", name,
           n_rows / took, took / n_rows * 1e9, outputs, n);
    mr_pipeline_unpin(&pipeline);
    mr_unit_fini(&unit, &source);
    mr_span_free(pipeline.span);
    script->ops->close(script);
}

int main(int argc, char **argv)
{
    int n = argc > 1 ? atoi(argv[1]) : 20000, rounds = argc > 2 ? atoi(argv[2]) : 50;
    struct mr_lookup *lookup = build(n);
    for (size_t i = 0; i < sizeof scripts / sizeof *scripts; i++)
        measure(scripts[i].name, scripts[i].text, lookup, n, rounds);
    mr_lookup_free(lookup);
    return 0;
}
