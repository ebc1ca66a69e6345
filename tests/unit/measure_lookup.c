/*
 * measure_lookup.c - prints what a lookup of many rows costs: memory, building, reading random keys
 * beside a plain hash-table probe, changes a second. Not a test.
 *
 *   measure_lookup [rows [rows a key [identities: 0 or 1]]]      default 10000000 100 1
 *
 * A uuid text as the key, a uuid text as the column, as subscribers have; a serial as the identity.
 */
#include "base/text.h"
#include "millrace/lookup.h"
#include "seed.h"

#include <string.h>
#include <time.h>

enum { ASKED = 1000000, CHANGES = 300000 };

static struct mr_lookup_column columns[] = {{"key", MR_TEXT, "text"}, {"client", MR_TEXT, "text"}};
static const struct mr_lookup_schema schema = {"measured", columns, 1, 2};

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static double status_bytes(const char *name)
{
    char line[256];
    double kb = 0;
    FILE *status = fopen("/proc/self/status", "r");
    while (status && fgets(line, sizeof line, status))
        if (strncmp(line, name, strlen(name)) == 0)
            kb = strtod(line + strlen(name), NULL);
    if (status)
        fclose(status);
    return kb * 1024;
}

static uint64_t mix(uint64_t value)
{
    struct seed seed = {value};
    return seed_next(&seed);
}

static struct mr_value uuid_text(char text[37], uint64_t n)
{
    uint8_t uuid[16];
    uint64_t high = mix(n);
    memcpy(uuid, &high, 8);
    memcpy(uuid + 8, &n, 8);
    mr_text_uuid_format(uuid, text);
    return (struct mr_value){.type = MR_TEXT, .bytes = {text, 36}};
}

static struct mr_lookup *build(uint64_t n, uint64_t n_keys, bool identified)
{
    struct mr_error err = {0};
    struct mr_table *table = NULL;
    struct mr_lookup *lookup = mr_lookup_new("measured");
    struct seed seed = {n};
    char texts[2][37];
    double before = status_bytes("VmRSS:"), started = now_s();
    struct mr_table_builder *builder = mr_table_builder_new(&schema, true, 0);
    if (identified)
        mr_table_builder_identify(builder, 1);
    bool ok = true;
    for (uint64_t i = 0; ok && i < n; i++) {
        struct mr_value values[] = {uuid_text(texts[0], seed_below(&seed, n_keys)),
                                    uuid_text(texts[1], n_keys + i)};
        struct mr_value id = {.type = MR_INT, .i = (int64_t)i + 1};
        ok = identified ? mr_table_builder_add_id(builder, values, &id, &err)
                        : mr_table_builder_add(builder, values, &err);
    }
    if (!ok || !mr_table_builder_finish(builder, &table, &err)) {
        fprintf(stderr, "%s\n", err.msg);
        exit(1);
    }
    double took = now_s() - started, bytes = (double)mr_table_stats(table).bytes;
    double rss = status_bytes("VmRSS:") - before, peak = status_bytes("VmHWM:") - before;
    printf("%.2f bytes a row held, %.2f resident; peak %.2f times the table; built in %.2f s (with "
           "making the input)\n",
           bytes / (double)n, rss / (double)n, peak / bytes, took);
    mr_lookup_swap(lookup, table);
    return lookup;
}

/* Random keys, in the form of cells, made before. */
static uint8_t *make_questions(uint64_t n_keys, size_t *len)
{
    struct mr_buf cells = {0};
    struct seed seed = {7};
    char text[37];
    for (size_t i = 0; i < ASKED; i++) {
        struct mr_value key = uuid_text(text, seed_below(&seed, n_keys));
        mr_cell_put(&cells, &key);
    }
    *len = cells.len / ASKED;
    return (uint8_t *)cells.ptr;
}

static void ask(struct mr_lookup *lookup, const uint8_t *questions, size_t len)
{
    struct mr_pin pin = {0};
    struct mr_span *span = mr_span_new();
    struct mr_row_ref row;
    uint64_t known = 0, rows = 0;
    if (!mr_lookup_pin(lookup, &pin))
        exit(1);
    double started = now_s();
    for (size_t i = 0; i < ASKED; i++) {
        struct mr_bytes key = {(const char *)questions + i * len, len};
        known += mr_span_open(span, pin.table, &key, 1, (struct mr_bytes){0});
    }
    double open_ns = (now_s() - started) * 1e9 / ASKED;
    started = now_s();
    for (size_t i = 0; i < ASKED / 10; i++) {
        struct mr_bytes key = {(const char *)questions + i * len, len};
        mr_span_open(span, pin.table, &key, 1, (struct mr_bytes){0});
        while (mr_span_next(span, &row))
            rows++;
    }
    double read_s = now_s() - started;
    printf("random keys: %.0f ns a key to find it and its first row (%.1f %% known); %.1f ns a "
           "row with all rows read\n",
           open_ns, 100.0 * (double)known / ASKED, read_s * 1e9 / (double)(rows ? rows : 1));
    mr_span_free(span);
    mr_lookup_unpin(lookup, &pin);
}

/* The plainest table there is: 16 bytes of key, 8 of value, linear probing, half full. */
static void probe(uint64_t n_keys, const uint8_t *questions, size_t len)
{
    struct entry {
        uint64_t key[2], value;
    };
    size_t n = 16;
    while (n < 2 * n_keys)
        n *= 2;
    struct entry *entries = calloc(n, sizeof *entries);
    char text[37];
    struct mr_buf cells = {0};
    uint64_t found = 0, key[2];
    for (uint64_t i = 0; entries && i < n_keys; i++) {
        struct mr_value value = uuid_text(text, i);
        mr_buf_reset(&cells);
        mr_cell_put(&cells, &value);
        memcpy(key, cells.ptr + 1, 16);
        size_t at = mix(key[0] ^ key[1]) & (n - 1);
        while (entries[at].value)
            at = (at + 1) & (n - 1);
        entries[at] = (struct entry){{key[0], key[1]}, i + 1};
    }
    double started = now_s();
    for (size_t i = 0; entries && i < ASKED; i++) {
        memcpy(key, questions + i * len + 1, 16);
        size_t at = mix(key[0] ^ key[1]) & (n - 1);
        while (entries[at].value && (entries[at].key[0] != key[0] || entries[at].key[1] != key[1]))
            at = (at + 1) & (n - 1);
        found += entries[at].value != 0;
    }
    printf("a plain hash table of as many keys: %.0f ns a key (%.1f %% known)\n",
           (now_s() - started) * 1e9 / ASKED, 100.0 * (double)found / ASKED);
    mr_buf_fini(&cells);
    free(entries);
}

/* Half of the changes delete a row, half insert one. */
static void change(struct mr_lookup *lookup, uint64_t n, uint64_t n_keys, size_t a_publish)
{
    static int64_t next_id, next_gone = 1;
    struct mr_error err = {0};
    struct seed seed = {3};
    char texts[2][37];
    bool ok = true;
    double started = now_s(), slowest = 0;
    next_id = next_id ? next_id : (int64_t)n + 1;
    for (size_t i = 0; ok && i < CHANGES; i++) {
        struct mr_value id = {.type = MR_INT, .i = i % 2 ? next_id++ : next_gone++};
        if (i % 2) {
            struct mr_value values[] = {uuid_text(texts[0], seed_below(&seed, n_keys)),
                                        uuid_text(texts[1], n_keys + (uint64_t)id.i)};
            ok = mr_lookup_put(lookup, values, &id, &err);
        } else {
            ok = mr_lookup_take_id(lookup, &id, &err);
        }
        if (!ok || (i + 1) % a_publish)
            continue;
        double began = now_s();
        ok = mr_lookup_publish(lookup, &err);
        slowest = now_s() - began > slowest ? now_s() - began : slowest;
    }
    if (!ok || !mr_lookup_publish(lookup, &err))
        printf("%s\n", err.msg);
    struct mr_table_stats stats = mr_lookup_stats(lookup);
    printf("%zu changes a publish: %.0f changes a second, slowest publish %.1f ms; %.2f bytes a "
           "row then\n",
           a_publish, CHANGES / (now_s() - started), 1e3 * slowest,
           (double)stats.bytes / (double)stats.rows);
}

int main(int argc, char **argv)
{
    uint64_t n = argc > 1 ? strtoull(argv[1], NULL, 10) : 10000000;
    uint64_t rows_a_key = argc > 2 ? strtoull(argv[2], NULL, 10) : 100;
    bool identified = argc > 3 ? atoi(argv[3]) : 1;
    uint64_t n_keys = n / rows_a_key ? n / rows_a_key : 1;
    size_t len;
    printf("%" PRIu64 " rows, %" PRIu64 " a key%s\n", n, rows_a_key,
           identified ? ", identified by a serial" : "");
    struct mr_lookup *lookup = build(n, n_keys, identified);
    uint8_t *questions = make_questions(n_keys, &len);
    ask(lookup, questions, len);
    probe(n_keys, questions, len);
    if (identified) {
        change(lookup, n, n_keys, 1);
        change(lookup, n, n_keys, 100);
        ask(lookup, questions, len);
    }
    free(questions);
    mr_lookup_free(lookup);
    printf("%.1f MB resident at the end\n", status_bytes("VmRSS:") / 1e6);
    return 0;
}
