/*
 * test_lookup.c - tables against a naive model of them, their budgets, and swapping under readers:
 * core/lookup.
 *
 * The model is in lookup_model.h. MILLRACE_LOOKUP_ROWS sets the size of the budget test (default
 * 200000).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/text.h"
#include "lookup_model.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void assert_stats(const struct model *model, const struct mr_table *table, size_t n)
{
    struct mr_table_stats stats = mr_table_stats(table);
    size_t n_keys = model->schema.n_keys, keys = 0;
    struct model_row *sorted = mr_calloc(model->n + 1, sizeof *sorted);
    if (model->n)
        memcpy(sorted, model->rows, model->n * sizeof *sorted);
    compare_from = 0, compare_to = n_keys;
    qsort(sorted, model->n, sizeof *sorted, compare_model_rows);
    for (size_t i = 0; i < model->n; i++)
        keys += i == 0 || compare_model_rows(&sorted[i - 1], &sorted[i]) != 0;
    assert_int_equal(stats.rows_read, n);
    assert_int_equal(stats.null_keys, model->null_keys);
    assert_int_equal(stats.rows, model->n); /* equal ones each for itself */
    assert_int_equal(stats.keys, keys);
    assert_true(stats.bytes > 0);
    free(sorted);
}

static void compare_random_table(struct seed *seed, size_t n, int questions)
{
    struct model model = {0};
    mr_arena_init(&model.arena);
    random_schema(&model, seed);
    struct mr_table *table = build_random(&model, seed, n, 0);
    assert_stats(&model, table, n);
    assert_true(mr_lookup_schema_equal(mr_table_schema(table), &model.schema));
    for (int i = 0; i < questions; i++)
        compare_questions(&model, table, seed);
    mr_table_free(table);
    model_free(&model);
}

static void tables_answer_as_the_model_does(void **state)
{
    (void)state;
    struct seed seed = seed_start("tables_answer_as_the_model_does");
    for (int i = 0; i < (SANITIZED ? 60 : 150); i++)
        compare_random_table(&seed, seed_below(&seed, 400), 6);
    compare_random_table(&seed, 3000, 3);
}

/* --- many rows: several runs a partition, one giant posting --- */

static struct mr_lookup_column pair_columns[] = {{"restaurant_id", MR_TEXT, "character varying"},
                                                 {"client_id", MR_TEXT, "character varying"}};
static const struct mr_lookup_schema pair_schema = {"subscribers", pair_columns, 1, 2};

static struct mr_value uuid_text(char text[37], uint64_t high, uint64_t low)
{
    uint8_t uuid[16];
    memcpy(uuid, &high, 8);
    memcpy(uuid + 8, &low, 8);
    mr_text_uuid_format(uuid, text);
    return (struct mr_value){.type = MR_TEXT, .bytes = {text, 36}};
}

static uint64_t mix(uint64_t value)
{
    struct seed seed = {value};
    return seed_next(&seed);
}

static struct mr_bytes pair_key(struct mr_buf *out, uint64_t which)
{
    char text[37];
    struct mr_error err;
    struct mr_value value = uuid_text(text, mix(which), which);
    mr_buf_reset(out);
    assert_true(mr_lookup_key(&pair_schema, &value, out, &err));
    return (struct mr_bytes){out->ptr, out->len};
}

static void a_giant_posting_is_sorted_and_whole(void **state)
{
    (void)state;
    enum { GIANT = 300000, DOUBLES = 1000 };
    struct mr_error err;
    struct mr_table *table = NULL;
    struct mr_buf key = {0};
    struct mr_row_ref row;
    char texts[2][40];
    uint64_t sum = 0, expected = 0, n = 0, doubles = 0;
    struct mr_table_builder *builder = mr_table_builder_new(&pair_schema, false, 0);
    for (uint64_t i = 0; i < GIANT + DOUBLES; i++) {
        uint64_t client = mix(i % GIANT);
        struct mr_value values[] = {uuid_text(texts[0], mix(7), 7), {.type = MR_TEXT}};
        /* Some are texts with a common beginning, which no prefix tells apart. */
        if (client % 4)
            values[1] = uuid_text(texts[1], client, i % GIANT);
        else
            values[1].bytes = (struct mr_bytes){
                texts[1], (size_t)snprintf(texts[1], 40, "client-number-%020" PRIu64, client)};
        assert_true(mr_table_builder_add(builder, values, &err));
        expected += i < GIANT ? client : 0;
    }
    assert_true(mr_table_builder_finish(builder, &table, &err));
    assert_int_equal(mr_table_stats(table).rows, GIANT + DOUBLES);
    struct mr_span *span = mr_span_new();
    struct mr_bytes bytes = pair_key(&key, 7);
    assert_int_equal(mr_span_open(span, table, &bytes, 1, (struct mr_bytes){0}), 1);
    for (const uint8_t *last = NULL; mr_span_next(span, &row); last = row.cells, n++) {
        struct mr_value value;
        uint64_t client;
        assert_true(!last || mr_cell_compare(last, row.cells) < 0);
        assert_true(row.new_row_key);
        mr_cell_read(row.cells, &value);
        if (value.type == MR_UUID)
            memcpy(&client, value.uuid, 8);
        else
            client = strtoull(value.bytes.ptr + strlen("client-number-"), NULL, 10);
        sum += client;
        doubles += row.copies == 2;
    }
    assert_int_equal(n, GIANT);
    assert_int_equal(doubles, DOUBLES);
    assert_true(sum == expected);
    mr_span_free(span);
    mr_buf_fini(&key);
    mr_table_free(table);
}

/* --- keys as scripts give them --- */

static struct mr_value text_of(const char *text)
{
    return (struct mr_value){.type = MR_TEXT, .bytes = mr_bytes_of(text)};
}

static bool finds(enum mr_type type, const char *type_name, struct mr_value held,
                  struct mr_value asked, struct mr_error *err)
{
    struct mr_lookup_column columns[] = {{"k", type, type_name}};
    struct mr_lookup_schema schema = {"one", columns, 1, 1};
    struct mr_table_builder *builder = mr_table_builder_new(&schema, true, 0);
    struct mr_table *table = NULL;
    struct mr_span *span = mr_span_new();
    struct mr_buf key = {0};
    *err = (struct mr_error){0};
    assert_true(mr_table_builder_add(builder, &held, err));
    assert_true(mr_table_builder_finish(builder, &table, err));
    bool found = false;
    if (mr_lookup_key(&schema, &asked, &key, err)) {
        struct mr_bytes bytes = {key.ptr, key.len};
        found = mr_span_open(span, table, &bytes, 1, (struct mr_bytes){0});
    }
    if (err->action)
        assert_int_equal(key.len, 0);
    mr_buf_fini(&key);
    mr_span_free(span);
    mr_table_free(table);
    return found;
}

#define INT(v)     ((struct mr_value){.type = MR_INT, .i = (v)})
#define FLOAT(v)   ((struct mr_value){.type = MR_FLOAT, .f = (v)})
#define NUMERIC(v) ((struct mr_value){.type = MR_NUMERIC, .bytes = mr_bytes_of(v)})

static void scripts_find_keys_in_any_equal_form(void **state)
{
    (void)state;
    struct mr_error err;
    struct mr_value uuid = {.type = MR_UUID, .uuid = {0xab, 1}};
    static const char low[] = "ab010000-0000-0000-0000-000000000000";
    static const char high[] = "AB010000-0000-0000-0000-000000000000";
    assert_true(finds(MR_UUID, "uuid", uuid, text_of(low), &err));
    assert_true(finds(MR_UUID, "uuid", uuid, text_of(high), &err));
    assert_true(finds(MR_TEXT, "text", text_of(low), text_of(low), &err));
    assert_false(finds(MR_TEXT, "text", text_of(low), text_of(high), &err)); /* byte for byte */
    assert_false(finds(MR_TEXT, "text", text_of(high), text_of(low), &err));
    assert_true(finds(MR_TEXT, "text", text_of(high), text_of(high), &err));
    assert_true(finds(MR_INT, "bigint", INT(-5), FLOAT(-5.0), &err));
    assert_true(finds(MR_FLOAT, "double precision", FLOAT(3), INT(3), &err));
    assert_true(finds(MR_FLOAT, "double precision", FLOAT(-0.0), FLOAT(0.0), &err));
    assert_true(finds(MR_NUMERIC, "numeric", NUMERIC("12.50"), FLOAT(12.5), &err));
    assert_true(finds(MR_NUMERIC, "numeric", NUMERIC("12.50"), text_of("12.5"), &err));
    assert_true(finds(MR_NUMERIC, "numeric", NUMERIC("1000"), INT(1000), &err));
    assert_true(finds(MR_NUMERIC, "numeric", NUMERIC("1000"), text_of("1e3"), &err));
    assert_true(finds(MR_NUMERIC, "numeric", NUMERIC("0.00"), INT(0), &err));
    assert_true(finds(MR_NUMERIC, "numeric", NUMERIC("-0.00125"), text_of("-1.250e-3"), &err));
    assert_true(finds(MR_NUMERIC, "numeric", NUMERIC("100000000000000000000"), FLOAT(1e20), &err));
    assert_true(finds(MR_DATE, "date", ((struct mr_value){.type = MR_DATE, .i = 9822}),
                      text_of("2026-11-22"), &err));
    struct mr_value at = {.type = MR_TIMESTAMP, .i = 848683878250000};
    static const char tz[] = "timestamp with time zone";
    assert_true(finds(MR_TIMESTAMP, tz, at, text_of("2026-11-22T17:31:18.25Z"), &err));
    assert_true(finds(MR_TIMESTAMP, tz, at, text_of("2026-11-22 18:31:18.250+01:00"), &err));
    assert_true(finds(MR_JSON, "jsonb",
                      ((struct mr_value){.type = MR_JSON, .bytes = mr_bytes_of("[1]")}),
                      text_of("[1]"), &err));
    /* Matches nothing, and is no error: the column could hold such a text. */
    assert_false(finds(MR_TEXT, "text", text_of("5"), INT(5), &err));
    assert_int_equal(err.action, 0);
    assert_false(finds(MR_INT, "integer", INT(0), (struct mr_value){.type = MR_NULL}, &err));
    assert_int_equal(err.action, 0);
}

static void keys_that_can_never_match_are_refused(void **state)
{
    (void)state;
    struct mr_error err;
    struct mr_value uuid = {.type = MR_UUID}, at = {.type = MR_TIMESTAMP}, day = {.type = MR_DATE};
    const struct {
        struct mr_value held, asked;
        const char *type_name;
    } cases[] = {
        {uuid, text_of("not-a-uuid"), "uuid"},
        {uuid, INT(1), "uuid"},
        {INT(1), text_of("1"), "integer"},
        {INT(1), FLOAT(1.5), "integer"},
        {INT(1), FLOAT(1e300), "integer"},
        {INT(1), FLOAT(NAN), "integer"},
        {INT(1), (struct mr_value){.type = MR_BOOL, .b = true}, "integer"},
        {NUMERIC("1"), text_of("one"), "numeric"},
        {NUMERIC("1"), text_of(""), "numeric"},
        {NUMERIC("1"), text_of("."), "numeric"},
        {NUMERIC("1"), text_of("1e"), "numeric"},
        {NUMERIC("1"), text_of("1e99999"), "numeric"},
        {NUMERIC("1"), FLOAT(INFINITY), "numeric"},
        {day, text_of("2026-02-29"), "date"},
        {day, text_of("2026-11-22T00:00:00Z"), "date"},
        {at, text_of("2026-11-22"), "timestamp with time zone"},
        {at, text_of("2026-11-22T24:00:00Z"), "timestamp with time zone"},
        {at, text_of("2026-11-22T10:00:00"), "timestamp with time zone"},
        {at, INT(5), "timestamp with time zone"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_false(
            finds(cases[i].held.type, cases[i].type_name, cases[i].held, cases[i].asked, &err));
        assert_int_equal(err.action, MR_REJECT);
        assert_string_equal(err.class_, "schema");
        assert_non_null(strstr(err.msg, cases[i].type_name));
        assert_non_null(strstr(err.msg, "lookup one"));
    }
}

static char *digits_around(const char *front, size_t zeros, const char *back)
{
    char *text = mr_alloc(strlen(front) + zeros + strlen(back) + 1);
    memcpy(text, front, strlen(front));
    memset(text + strlen(front), '0', zeros);
    strcpy(text + strlen(front) + zeros, back);
    return text;
}

/* Numerics have up to 131072 digits and 16383 places; a script's text has what a message brings. */
static void a_numeric_key_may_be_of_any_length(void **state)
{
    (void)state;
    struct mr_error err;
    static const size_t lengths[] = {990, 999, 1000, 1001, 1300, 1400, 2000, 16000};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        char *small = digits_around("-0.", lengths[i], "125");
        char *large = digits_around("7", lengths[i], "");
        char *shifted = digits_around("0.", lengths[i], "5e-1000");
        const char *texts[] = {small, large, shifted};
        for (size_t k = 0; k < 3; k++)
            if (!finds(MR_NUMERIC, "numeric", k == 2 ? NUMERIC("1") : NUMERIC(texts[k]),
                       text_of(texts[k]), &err) &&
                err.action)
                assert_string_equal(err.class_, "schema");
        assert_true(lengths[i] >= 1000 ||
                    finds(MR_NUMERIC, "numeric", NUMERIC(large), text_of(large), &err));
        assert_true(lengths[i] > 1000 ||
                    finds(MR_NUMERIC, "numeric", NUMERIC(small), text_of(small), &err));
        free(small);
        free(large);
        free(shifted);
    }
}

/* What mr_value_json writes of a time finds it, also before Christ; years that no column holds are
 * refused before they overflow. */
static void times_as_keys_keep_to_the_calendar(void **state)
{
    (void)state;
    struct mr_error err;
    static const char tz[] = "timestamp with time zone";
    static const struct {
        enum mr_type type;
        int64_t held;
    } ends[] = {{MR_TIMESTAMP, INT64_C(-211813488000000000)},
                {MR_TIMESTAMP, INT64_C(9223371331199999999)},
                {MR_TIMESTAMP, INT64_C(-63114076800000001)}, /* the last of year 1 BC */
                {MR_DATE, -2451507},
                {MR_DATE, 2145031948},
                {MR_DATE, -730427}};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        struct mr_value held = {.type = ends[i].type, .i = ends[i].held};
        struct mr_buf text = {0};
        assert_true(mr_value_text(&text, &held, &err));
        if (!finds(held.type, tz, held, text_of(mr_buf_cstr(&text)), &err))
            fail_msg("not found: %s", mr_buf_cstr(&text));
        mr_buf_fini(&text);
    }
    static const char *const beyond[] = {"999999-12-31T23:59:59Z",      "294277-01-01T00:00:00Z",
                                         "294276-12-31T23:59:59-15:59", "4715-01-01T00:00:00Z BC",
                                         "0000-01-01T00:00:00Z BC",     "0001-02-29T24:00:00Z BC"};
    for (size_t i = 0; i < sizeof beyond / sizeof *beyond; i++) {
        struct mr_value at = {.type = MR_TIMESTAMP};
        assert_false(finds(MR_TIMESTAMP, tz, at, text_of(beyond[i]), &err));
        assert_string_equal(err.class_, "schema");
    }
    struct mr_value day = {.type = MR_DATE};
    assert_false(finds(MR_DATE, "date", day, text_of("5874898-01-01"), &err));
    assert_string_equal(err.class_, "schema");
}

/* A lookup may be nothing but its key: a row is then found, and has no cells. */
static void rows_without_columns_are_counted(void **state)
{
    (void)state;
    struct mr_lookup_column columns[] = {{"k", MR_INT, "integer"}};
    struct mr_lookup_schema schema = {"bare", columns, 1, 1};
    struct mr_span *span = mr_span_new();
    for (uint32_t copies = 1; copies <= 3; copies++) {
        struct mr_table_builder *builder = mr_table_builder_new(&schema, false, 0);
        struct mr_table *table = NULL;
        struct mr_value key = INT(5);
        struct mr_buf packed = {0};
        struct mr_row_ref row;
        struct mr_error err;
        for (uint32_t i = 0; i < copies; i++)
            assert_true(mr_table_builder_add(builder, &key, &err));
        assert_true(mr_table_builder_finish(builder, &table, &err));
        assert_true(mr_lookup_key(&schema, &key, &packed, &err));
        struct mr_bytes asked = {packed.ptr, packed.len};
        assert_int_equal(mr_span_open(span, table, &asked, 1, (struct mr_bytes){0}), 1);
        assert_true(mr_span_next(span, &row));
        assert_int_equal(row.copies, copies);
        assert_memory_equal(row.key, packed.ptr, packed.len);
        assert_false(mr_span_next(span, &row));
        mr_buf_fini(&packed);
        mr_table_free(table);
    }
    mr_span_free(span);
}

static void unknown_keys_and_empty_tables_find_nothing(void **state)
{
    (void)state;
    struct mr_error err;
    struct mr_table *table = NULL;
    struct mr_buf key = {0};
    struct mr_row_ref row;
    struct mr_bytes bytes = pair_key(&key, 1);
    struct mr_span *span = mr_span_new();
    assert_true(mr_table_builder_finish(mr_table_builder_new(&pair_schema, true, 0), &table, &err));
    assert_int_equal(mr_span_open(span, table, &bytes, 1, (struct mr_bytes){0}), 0);
    assert_false(mr_span_next(span, &row));
    assert_int_equal(mr_span_open(span, table, NULL, 0, (struct mr_bytes){0}), 0);
    assert_false(mr_span_next(span, &row));
    mr_table_free(table);
    mr_span_free(span);
    mr_buf_fini(&key);
}

/* --- budgets --- */

static size_t status_bytes(const char *name)
{
    char line[256];
    size_t kb = 0;
    FILE *status = fopen("/proc/self/status", "r");
    assert_non_null(status);
    while (fgets(line, sizeof line, status))
        if (strncmp(line, name, strlen(name)) == 0)
            kb = strtoull(line + strlen(name), NULL, 10);
    fclose(status);
    return kb * 1024;
}

static void reset_peak(void)
{
    FILE *refs = fopen("/proc/self/clear_refs", "w");
    assert_non_null(refs);
    fputs("5", refs);
    fclose(refs);
}

/* Of this thread: a busy machine shows less in it. */
static int64_t cpu_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void measure(uint64_t n, uint64_t rows_a_key, bool identified, double budget)
{
    struct mr_error err;
    struct mr_table *table = NULL;
    char texts[2][37];
    uint64_t n_keys = n / rows_a_key ? n / rows_a_key : 1;
    struct seed seed = {n};
    size_t before = status_bytes("VmRSS:");
    reset_peak();
    struct mr_table_builder *builder = mr_table_builder_new(&pair_schema, true, 0);
    int64_t building_us = 0, started = cpu_us();
    if (identified)
        mr_table_builder_identify(builder, 1);
    for (uint64_t i = 0; i < n; i++) {
        uint64_t key = seed_below(&seed, n_keys);
        struct mr_value values[] = {uuid_text(texts[0], mix(key), key),
                                    uuid_text(texts[1], mix(i), i)};
        struct mr_value id = {.type = MR_INT, .i = (int64_t)i + 1};
        assert_true(identified ? mr_table_builder_add_id(builder, values, &id, &err)
                               : mr_table_builder_add(builder, values, &err));
    }
    building_us = cpu_us() - started;
    started = cpu_us();
    assert_true(mr_table_builder_finish(builder, &table, &err));
    int64_t finish_us = cpu_us() - started;
    started = cpu_us();
    seed = (struct seed){n};
    for (uint64_t i = 0; i < n; i++) { /* what making the input costs */
        uint64_t key = seed_below(&seed, n_keys);
        uuid_text(texts[0], mix(key), key);
        uuid_text(texts[1], mix(i), i);
        __asm__ volatile("" : : "r"(texts) : "memory");
    }
    building_us -= cpu_us() - started;
    double rows = (double)n, bytes = (double)mr_table_stats(table).bytes;
    double rss = (double)status_bytes("VmRSS:") - (double)before;
    double peak = (double)status_bytes("VmHWM:") - (double)before;

    struct mr_span *span = mr_span_new();
    struct mr_buf key = {0};
    struct mr_row_ref row;
    uint64_t given = 0;
    started = cpu_us();
    for (uint64_t i = 0; i < n_keys; i++) {
        struct mr_bytes asked = pair_key(&key, i);
        if (mr_span_open(span, table, &asked, 1, (struct mr_bytes){0}))
            while (mr_span_next(span, &row))
                given++;
    }
    int64_t reading_us = cpu_us() - started;
    assert_int_equal(given, n);
    print_message("%" PRIu64 " rows, %" PRIu64
                  " a key%s: %.2f bytes a row held (%.2f resident), peak "
                  "%.2f times the table, add %.0f ns + finish %.0f ns a row, read %.1f ns a row\n",
                  n, rows_a_key, identified ? ", identified" : "", bytes / rows, rss / rows,
                  peak / bytes, 1e3 * (double)building_us / rows, 1e3 * (double)finish_us / rows,
                  1e3 * (double)reading_us / rows);
    assert_true(bytes / rows <= budget);
    if (!SANITIZED) { /* sanitizers keep shadows of their own */
        assert_true(rss / rows <= budget);
        assert_true(peak <= 1.3 * bytes + (1 << 20)); /* begun pages and sort space are fixed */
    }
    mr_buf_fini(&key);
    mr_span_free(span);
    mr_table_free(table);
    if (!SANITIZED)
        assert_true(status_bytes("VmRSS:") < before + (1 << 20)); /* given back */
}

static void memory_stays_in_its_budget(void **state)
{
    (void)state;
    const char *given = getenv("MILLRACE_LOOKUP_ROWS");
    uint64_t n = given ? strtoull(given, NULL, 10) : SANITIZED ? 50000 : 200000;
    measure(n, 100, false, 20);
    measure(n, 10, false, 26);
    measure(n, n, false, 20);
    measure(n, 100, true, 20 + 12);
    measure(n, 10, true, 26 + 12);
}

static void max_bytes_is_never_exceeded(void **state)
{
    (void)state;
    enum { LIMIT = 4 << 20 };
    struct mr_error err = {0};
    char texts[2][37];
    struct mr_table_builder *builder = mr_table_builder_new(&pair_schema, true, LIMIT);
    size_t before = status_bytes("VmRSS:");
    uint64_t i = 0;
    for (bool room = true; room; i++) {
        struct mr_value values[] = {uuid_text(texts[0], mix(i / 10), i / 10),
                                    uuid_text(texts[1], mix(i), i)};
        room = mr_table_builder_add(builder, values, &err);
    }
    assert_int_equal(err.action, MR_STOP);
    assert_int_equal(err.code, MR_EXIT_CONFIG);
    assert_non_null(strstr(err.msg, "subscribers"));
    assert_non_null(strstr(err.msg, "max_bytes"));
    assert_in_range(i, LIMIT / 30, LIMIT / 18);
    if (!SANITIZED) /* two pages of each kind in each partition may be begun */
        assert_true(status_bytes("VmRSS:") < before + LIMIT + 64 * 6 * 4096);
    mr_table_builder_free(builder);
}

/* --- swapping under readers --- */

enum { VERSIONS = 300, READERS = 3, ROWS_A_VERSION = 50 };

struct swapping {
    struct mr_lookup *lookup;
    atomic_bool over;
    atomic_uint wrong;
    atomic_uint_fast64_t reads;
};

static struct mr_table *versioned_table(int64_t version)
{
    static struct mr_lookup_column columns[] = {
        {"k", MR_INT, "integer"}, {"v", MR_INT, "bigint"}, {"w", MR_INT, "bigint"}};
    struct mr_lookup_schema schema = {"versions", columns, 1, 3};
    struct mr_table_builder *builder = mr_table_builder_new(&schema, true, 0);
    struct mr_table *table = NULL;
    struct mr_error err;
    for (int64_t i = 0; i < ROWS_A_VERSION; i++) {
        struct mr_value values[] = {INT(1), INT(i), INT(version)};
        if (!mr_table_builder_add(builder, values, &err))
            abort();
    }
    if (!mr_table_builder_finish(builder, &table, &err))
        abort();
    return table;
}

static void *read_versions(void *arg)
{
    struct swapping *swapping = arg;
    struct mr_span *span = mr_span_new();
    struct mr_buf key = {0};
    struct mr_row_ref row;
    struct mr_value one = INT(1), value;
    int64_t newest = 0;
    mr_cell_put(&key, &one);
    struct mr_bytes bytes = {key.ptr, key.len};
    while (!atomic_load(&swapping->over)) {
        struct mr_pin pin = {0};
        if (!mr_lookup_pin(swapping->lookup, &pin))
            abort();
        int64_t version = -1, n = 0;
        mr_span_open(span, pin.table, &bytes, 1, (struct mr_bytes){0});
        for (; mr_span_next(span, &row); n++) {
            mr_cell_read(mr_cell_skip(row.cells), &value);
            if (value.i != version && version >= 0)
                atomic_fetch_add(&swapping->wrong, 1);
            version = value.i;
        }
        if (n != ROWS_A_VERSION || version < newest) /* never back to an older one */
            atomic_fetch_add(&swapping->wrong, 1);
        newest = version;
        mr_lookup_unpin(swapping->lookup, &pin);
        atomic_fetch_add(&swapping->reads, 1);
    }
    mr_buf_fini(&key);
    mr_span_free(span);
    return NULL;
}

static void readers_keep_the_table_they_pinned(void **state)
{
    (void)state;
    struct swapping swapping = {.lookup = mr_lookup_new("versions")};
    pthread_t readers[READERS];
    struct mr_pin held = {0};
    assert_false(mr_lookup_pin(swapping.lookup, &held));
    assert_string_equal(mr_lookup_name(swapping.lookup), "versions");
    mr_lookup_swap(swapping.lookup, versioned_table(0));
    for (int i = 0; i < READERS; i++)
        assert_int_equal(pthread_create(&readers[i], NULL, read_versions, &swapping), 0);
    for (int64_t version = 1; version <= VERSIONS; version++) {
        uint64_t reads = atomic_load(&swapping.reads);
        mr_lookup_swap(swapping.lookup, versioned_table(version));
        while (atomic_load(&swapping.reads) < reads + (version % 4 == 0))
            usleep(50); /* poll */
    }
    atomic_store(&swapping.over, true);
    for (int i = 0; i < READERS; i++)
        pthread_join(readers[i], NULL);
    assert_int_equal(atomic_load(&swapping.wrong), 0);
    /* A table outlives its place as the current one for as long as somebody reads it. */
    assert_true(mr_lookup_pin(swapping.lookup, &held));
    mr_lookup_swap(swapping.lookup, versioned_table(VERSIONS + 1));
    assert_int_equal(mr_table_stats(held.table).rows, ROWS_A_VERSION);
    mr_lookup_unpin(swapping.lookup, &held);
    mr_lookup_free(swapping.lookup);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_stays_in_its_budget), /* first: malloc has not grown yet */
        cmocka_unit_test(max_bytes_is_never_exceeded),
        cmocka_unit_test(tables_answer_as_the_model_does),
        cmocka_unit_test(a_giant_posting_is_sorted_and_whole),
        cmocka_unit_test(scripts_find_keys_in_any_equal_form),
        cmocka_unit_test(keys_that_can_never_match_are_refused),
        cmocka_unit_test(a_numeric_key_may_be_of_any_length),
        cmocka_unit_test(times_as_keys_keep_to_the_calendar),
        cmocka_unit_test(rows_without_columns_are_counted),
        cmocka_unit_test(unknown_keys_and_empty_tables_find_nothing),
        cmocka_unit_test(readers_keep_the_table_they_pinned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
