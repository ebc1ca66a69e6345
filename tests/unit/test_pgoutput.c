/*
 * test_pgoutput.c - the messages of logical replication, taken apart, and what they ask of a
 * lookup. No server: test_postgres_logical.c has one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "postgres/changes.h"
#include "postgres/pgoutput.h"
#include "postgres/values.h"

#include <stdlib.h>

enum { OURS = 4711, OTHER = 4712 };

/* --- messages --- */

static void put8(struct mr_buf *out, int value)
{
    mr_buf_put_char(out, (char)value);
}

static void put64(struct mr_buf *out, uint64_t value)
{
    mr_buf_put_be32(out, (uint32_t)(value >> 32));
    mr_buf_put_be32(out, (uint32_t)value);
}

static void put_string(struct mr_buf *out, const char *text)
{
    mr_buf_put(out, text, strlen(text) + 1);
}

static void put_begin(struct mr_buf *out)
{
    put8(out, 'B');
    put64(out, 0x1600000000);
    put64(out, 77);
    mr_buf_put_be32(out, 4);
}

static void put_commit(struct mr_buf *out, uint64_t end, int64_t commit_us)
{
    put8(out, 'C');
    put8(out, 0);
    put64(out, end - 8);
    put64(out, end);
    put64(out, (uint64_t)commit_us);
}

struct column {
    const char *name;
    uint32_t type;
    bool identity;
};

static void put_relation(struct mr_buf *out, uint32_t oid, const char *name, char identity,
                         const struct column *columns, size_t n)
{
    put8(out, 'R');
    mr_buf_put_be32(out, oid);
    put_string(out, "public");
    put_string(out, name);
    put8(out, identity);
    mr_buf_put_be16(out, (uint16_t)n);
    for (size_t i = 0; i < n; i++) {
        put8(out, columns[i].identity);
        put_string(out, columns[i].name);
        mr_buf_put_be32(out, columns[i].type);
        mr_buf_put_be32(out, UINT32_MAX);
    }
}

/* Values: NULL is null, "~" an unchanged TOAST value, else four bytes or text in binary. */
static void put_tuple(struct mr_buf *out, char kind, const char *const *values, size_t n)
{
    put8(out, kind);
    mr_buf_put_be16(out, (uint16_t)n);
    for (size_t i = 0; i < n; i++) {
        if (!values[i] || strcmp(values[i], "~") == 0) {
            put8(out, values[i] ? 'u' : 'n');
            continue;
        }
        put8(out, 'b');
        if (*values[i] == '#') {
            mr_buf_put_be32(out, 4);
            mr_buf_put_be32(out, (uint32_t)strtoul(values[i] + 1, NULL, 10));
        } else {
            mr_buf_put_be32(out, (uint32_t)strlen(values[i]));
            mr_buf_put_text(out, values[i]);
        }
    }
}

static void put_change(struct mr_buf *out, char kind, uint32_t oid)
{
    put8(out, kind);
    mr_buf_put_be32(out, oid);
}

/* --- the reader --- */

static struct mr_pgo_space *space;

static bool reads(const struct mr_buf *bytes, struct mr_pgo_message *out)
{
    struct mr_error err = {0};
    bool ok = mr_pgo_read((const uint8_t *)bytes->ptr, bytes->len, space, out, &err);
    assert_true(ok || (err.action == MR_RETRY && err.msg[0]));
    return ok;
}

/* Whole it is a message; cut anywhere, or with a byte too many, it is none. */
static void reads_only_whole(struct mr_buf *bytes, struct mr_pgo_message *out)
{
    struct mr_pgo_message cut_short;
    size_t len = bytes->len;
    put8(bytes, 0);
    assert_false(reads(bytes, &cut_short));
    for (bytes->len = 0; bytes->len < len; bytes->len++) {
        /* Of its own, so that a sanitizer sees a read beyond it. */
        struct mr_buf copy = {0};
        mr_buf_put(&copy, bytes->ptr, bytes->len);
        struct mr_buf exact = {mr_realloc(copy.ptr, copy.len + !copy.len), copy.len, copy.len};
        assert_false(reads(&exact, &cut_short));
        mr_buf_fini(&exact);
    }
    bytes->len = len;
    if (!reads(bytes, out))
        fail_msg("a whole message of kind %c is not read", *bytes->ptr);
}

static void every_kind_of_message_is_read(void **state)
{
    (void)state;
    static const struct column columns[] = {{"id", 23, true}, {"name", 25, false}};
    static const char *const row[] = {"#7", "seven"}, *const key[] = {"#6", NULL},
                             *const kept[] = {"#7", "~"};
    struct mr_pgo_message m;
    struct mr_buf b = {0};
    put_begin(&b);
    reads_only_whole(&b, &m);
    assert_int_equal(m.kind, 'B');
    assert_int_equal(m.commit_us, 77);

    mr_buf_reset(&b);
    put_commit(&b, 0x16b374d848, -5);
    reads_only_whole(&b, &m);
    assert_true(m.kind == 'C' && m.lsn == 0x16b374d848 && m.commit_us == -5);

    mr_buf_reset(&b);
    put8(&b, 'O');
    put64(&b, 1);
    put_string(&b, "elsewhere");
    reads_only_whole(&b, &m);

    mr_buf_reset(&b);
    put8(&b, 'Y');
    mr_buf_put_be32(&b, 16999);
    put_string(&b, "public");
    put_string(&b, "mood");
    reads_only_whole(&b, &m);

    mr_buf_reset(&b);
    put_relation(&b, OURS, "subs", 'd', columns, 2);
    reads_only_whole(&b, &m);
    assert_int_equal(m.relation, OURS);
    assert_string_equal(m.schema, "public");
    assert_string_equal(m.name, "subs");
    assert_int_equal(m.identity, 'd');
    assert_int_equal(m.n_columns, 2);
    assert_string_equal(m.columns[1].name, "name");
    assert_true(m.columns[0].is_identity && !m.columns[1].is_identity);
    assert_int_equal(m.columns[1].type, 25);

    mr_buf_reset(&b);
    put_change(&b, 'I', OURS);
    put_tuple(&b, 'N', row, 2);
    reads_only_whole(&b, &m);
    assert_int_equal(m.new_row.n, 2);
    assert_int_equal(m.new_row.values[1].len, 5);
    assert_memory_equal(m.new_row.values[1].bytes, "seven", 5);

    mr_buf_reset(&b);
    put_change(&b, 'U', OURS);
    put_tuple(&b, 'N', kept, 2);
    reads_only_whole(&b, &m);
    assert_int_equal(m.old_kind, 0);
    assert_int_equal(m.new_row.values[1].kind, 'u');

    mr_buf_reset(&b);
    put_change(&b, 'U', OURS);
    put_tuple(&b, 'K', key, 2);
    put_tuple(&b, 'N', row, 2);
    reads_only_whole(&b, &m);
    assert_int_equal(m.old_kind, 'K');
    assert_int_equal(m.old_row.values[1].kind, 'n');
    assert_int_equal(m.new_row.values[1].kind, 'b');

    mr_buf_reset(&b);
    put_change(&b, 'D', OURS);
    put_tuple(&b, 'O', row, 2);
    reads_only_whole(&b, &m);
    assert_int_equal(m.old_kind, 'O');

    mr_buf_reset(&b);
    put8(&b, 'T');
    mr_buf_put_be32(&b, 2);
    put8(&b, 1);
    mr_buf_put_be32(&b, OTHER);
    mr_buf_put_be32(&b, OURS);
    reads_only_whole(&b, &m);
    assert_true(mr_pgo_truncates(&m, OURS) && mr_pgo_truncates(&m, OTHER));
    assert_false(mr_pgo_truncates(&m, 1));
    mr_buf_fini(&b);
}

static void counts_and_lengths_are_not_believed(void **state)
{
    (void)state;
    struct mr_pgo_message m;
    struct mr_buf b = {0};
    static const char *const row[] = {"#7", "seven"};
    assert_false(reads(&b, &m)); /* nothing at all */
    put8(&b, 'M');
    assert_false(reads(&b, &m)); /* not asked for */

    mr_buf_reset(&b);
    put_change(&b, 'I', OURS); /* more columns than any tuple has, all there */
    put8(&b, 'N');
    mr_buf_put_be16(&b, MR_PGO_COLUMNS_MAX + 1);
    for (int i = 0; i <= MR_PGO_COLUMNS_MAX; i++)
        put8(&b, 'n');
    assert_false(reads(&b, &m));

    mr_buf_reset(&b);
    put_change(&b, 'I', OURS); /* a length that is negative, or huge */
    put8(&b, 'N');
    mr_buf_put_be16(&b, 1);
    put8(&b, 'b');
    mr_buf_put_be32(&b, UINT32_MAX);
    mr_buf_put_text(&b, "abc");
    assert_false(reads(&b, &m));

    mr_buf_reset(&b);
    put8(&b, 'T'); /* as many as four times that is zero again in 32 bits */
    mr_buf_put_be32(&b, 0x40000000);
    put8(&b, 0);
    assert_false(reads(&b, &m));

    mr_buf_reset(&b);
    put_change(&b, 'U', OURS); /* old and new of different lengths */
    put_tuple(&b, 'O', row, 1);
    put_tuple(&b, 'N', row, 2);
    assert_false(reads(&b, &m));

    mr_buf_reset(&b);
    put_change(&b, 'D', OURS); /* a delete of a new row */
    put_tuple(&b, 'N', row, 2);
    assert_false(reads(&b, &m));
    mr_buf_fini(&b);
}

static void envelopes_and_status_updates(void **state)
{
    (void)state;
    struct mr_buf b = {0};
    struct mr_pgo_envelope e;
    struct mr_error err;
    put8(&b, 'w');
    put64(&b, 10);
    put64(&b, 11);
    put64(&b, 12);
    mr_buf_put_text(&b, "body");
    assert_true(mr_pgo_open((const uint8_t *)b.ptr, b.len, &e, &err));
    assert_true(e.kind == 'w' && e.lsn == 10 && e.sent_us == 12 && e.len == 4);
    assert_memory_equal(e.body, "body", 4);
    for (size_t len = 0; len < 25; len++)
        assert_false(mr_pgo_open((const uint8_t *)b.ptr, len, &e, &err));
    mr_buf_reset(&b);
    put8(&b, 'k');
    put64(&b, 10);
    put64(&b, 12);
    put8(&b, 1);
    assert_true(mr_pgo_open((const uint8_t *)b.ptr, b.len, &e, &err));
    assert_true(e.kind == 'k' && e.lsn == 10 && e.sent_us == 12 && e.reply);
    assert_false(mr_pgo_open((const uint8_t *)b.ptr, b.len - 1, &e, &err));
    put8(&b, 1);
    assert_false(mr_pgo_open((const uint8_t *)b.ptr, b.len, &e, &err));
    *b.ptr = 'x';
    assert_false(mr_pgo_open((const uint8_t *)b.ptr, b.len, &e, &err));

    static const uint8_t wanted[] = {'r', 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2,
                                     0,   0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3, 1};
    uint8_t status[MR_PGO_STATUS_LEN];
    mr_pgo_status(status, 0x100000002, 3, true);
    assert_memory_equal(status, wanted, sizeof wanted);

    uint64_t lsn;
    assert_true(mr_pgo_lsn_parse("16/B374D848", &lsn) && lsn == 0x16b374d848);
    assert_true(mr_pgo_lsn_parse("0/0", &lsn) && lsn == 0);
    assert_false(mr_pgo_lsn_parse("16", &lsn));
    assert_false(mr_pgo_lsn_parse("16/x", &lsn));
    assert_false(mr_pgo_lsn_parse("16/1 ", &lsn));
    mr_buf_fini(&b);
}

/* --- what they ask of a lookup --- */

/* restaurant (key) and client of a table (id, restaurant, client), rows told by id. */
static const struct column table_columns[] = {
    {"id", MR_OID_INT4, true}, {"restaurant", MR_OID_TEXT, false}, {"client", 16999, false}};

struct scene {
    struct mr_lookup *lookup;
    struct mr_pg_changes *changes;
    struct mr_buf bytes;
    struct mr_error err;
};

static struct scene scene_new(void)
{
    static const struct mr_lookup_column columns[] = {{"restaurant", MR_TEXT, "text"},
                                                      {"client", MR_TEXT, "name_of_one"}};
    static const struct mr_lookup_schema schema = {"l", columns, 1, 2};
    static const char *names[] = {"restaurant", "client", "id"};
    static uint32_t oids[] = {MR_OID_TEXT, MR_OID_VARCHAR, MR_OID_INT4};
    static const uint32_t declared[] = {MR_OID_TEXT, 16999, MR_OID_INT4};
    static const struct mr_pg_shape shape = {
        (struct mr_lookup_schema *)&schema, names, oids, 2, 1, NULL};
    static const char *const listed[] = {"client"};
    static const struct mr_postgres_lookup_options lookup = {
        .name = "l", .table = "subs", .columns = listed, .n_columns = 1};
    static const struct mr_pg_changes_options options = {&lookup, &shape,   declared,
                                                         OURS,    "public", "subs"};
    struct scene s = {.lookup = mr_lookup_new("l"), .changes = mr_pg_changes_new(&options)};
    struct mr_table_builder *builder = mr_table_builder_new(&schema, true, 0);
    struct mr_table *table;
    mr_table_builder_identify(builder, 1);
    assert_true(mr_table_builder_finish(builder, &table, &s.err));
    mr_lookup_swap(s.lookup, table);
    return s;
}

static void scene_free(struct scene *s)
{
    mr_pg_changes_free(s->changes);
    mr_lookup_free(s->lookup);
    mr_buf_fini(&s->bytes);
}

static enum mr_feed_event apply(struct scene *s)
{
    enum mr_feed_event event = mr_pg_changes_apply(
        s->changes, s->lookup, (const uint8_t *)s->bytes.ptr, s->bytes.len, &s->err);
    mr_buf_reset(&s->bytes);
    return event;
}

static enum mr_feed_event begin(struct scene *s)
{
    put_begin(&s->bytes);
    return apply(s);
}

static enum mr_feed_event commit(struct scene *s, uint64_t end)
{
    put_commit(&s->bytes, end, (int64_t)end);
    return apply(s);
}

static void relation(struct scene *s, uint32_t oid, const char *name, char identity,
                     const struct column *columns, size_t n)
{
    put_relation(&s->bytes, oid, name, identity, columns, n);
    assert_int_equal(apply(s), MR_FEED_FOLLOWS);
}

/* A relation of that form asks for a new read, in words that name `says`. */
static void is_read_again(uint32_t oid, const char *name, char identity,
                          const struct column *columns, size_t n, const char *says)
{
    struct scene s = scene_new();
    assert_int_equal(begin(&s), MR_FEED_FOLLOWS);
    relation(&s, oid, name, identity, columns, n);
    assert_int_equal(commit(&s, 100), MR_FEED_READ);
    if (!strstr(s.err.msg, says))
        fail_msg("%s", s.err.msg);
    scene_free(&s);
}

static void a_table_that_is_another_is_read_again(void **state)
{
    (void)state;
    struct column c[4];
    memcpy(c, table_columns, sizeof table_columns);
    is_read_again(OURS, "subs2", 'd', c, 3, "subs2");
    is_read_again(OTHER, "subs", 'd', c, 3, "replaced");
    is_read_again(OURS, "subs", 'd', c, 2, "column \"client\"");
    is_read_again(OURS, "subs", 'f', c, 3, "replica identity");
    is_read_again(OURS, "subs", 'n', c, 3, "replica identity");
    c[2].name = "clients";
    is_read_again(OURS, "subs", 'd', c, 3, "column \"client\"");
    c[2].name = "client";
    c[2].type = MR_OID_TEXT;
    is_read_again(OURS, "subs", 'd', c, 3, "type");
    c[2].type = 16999;
    c[1].identity = true;
    is_read_again(OURS, "subs", 'i', c, 3, "replica identity");
    c[0].identity = c[1].identity = false;
    is_read_again(OURS, "subs", 'i', c, 3, "replica identity");
}

static void other_tables_and_other_columns_do_not_matter(void **state)
{
    (void)state;
    struct scene s = scene_new();
    struct column c[4] = {
        table_columns[2], {"new", 600, false}, table_columns[0], table_columns[1]};
    static const char *const row[] = {"#1"};
    assert_int_equal(begin(&s), MR_FEED_FOLLOWS);
    relation(&s, OTHER, "others", 'f', table_columns, 1);
    put_change(&s.bytes, 'I', OTHER);
    put_tuple(&s.bytes, 'N', row, 1);
    assert_int_equal(apply(&s), MR_FEED_FOLLOWS);
    relation(&s, OURS, "subs", 'd', c, 4);
    assert_int_equal(commit(&s, 100), MR_FEED_FOLLOWS);
    struct mr_pg_changes_state state_now = mr_pg_changes_state(s.changes);
    assert_true(state_now.lsn == 100 && !state_now.unshown && state_now.changes == 0);
    scene_free(&s);
}

static void what_is_out_of_step_fails(void **state)
{
    (void)state;
    static const char *const row[] = {"#1", "r1", "c1"};
    struct scene s = scene_new();
    assert_int_equal(commit(&s, 100), MR_FEED_FAILED);
    scene_free(&s);
    s = scene_new();
    assert_int_equal(begin(&s), MR_FEED_FOLLOWS);
    assert_int_equal(begin(&s), MR_FEED_FAILED);
    scene_free(&s);
    s = scene_new(); /* a change outside a transaction, and one before its relation */
    put_change(&s.bytes, 'I', OURS);
    put_tuple(&s.bytes, 'N', row, 3);
    assert_int_equal(apply(&s), MR_FEED_FAILED);
    assert_int_equal(begin(&s), MR_FEED_FOLLOWS);
    put_change(&s.bytes, 'I', OURS);
    put_tuple(&s.bytes, 'N', row, 3);
    assert_int_equal(apply(&s), MR_FEED_FOLLOWS);
    assert_int_equal(commit(&s, 100), MR_FEED_FAILED);
    assert_int_equal(s.err.action, MR_RETRY);
    scene_free(&s);
    s = scene_new(); /* a row of another length than the relation */
    assert_int_equal(begin(&s), MR_FEED_FOLLOWS);
    relation(&s, OURS, "subs", 'd', table_columns, 3);
    put_change(&s.bytes, 'I', OURS);
    put_tuple(&s.bytes, 'N', row, 2);
    assert_int_equal(apply(&s), MR_FEED_FOLLOWS);
    assert_int_equal(commit(&s, 100), MR_FEED_FAILED);
    scene_free(&s);
}

/* The rows of one key, one behind the other: "c1,c2,". */
static const char *clients(struct scene *s, const char *restaurant)
{
    static char text[256];
    struct mr_pin pin = {0};
    struct mr_buf key = {0};
    struct mr_span *span = mr_span_new();
    struct mr_value value = {.type = MR_TEXT, .bytes = mr_bytes_of(restaurant)};
    struct mr_row_ref row;
    size_t len = 0;
    text[0] = '\0';
    assert_true(mr_lookup_pin(s->lookup, &pin));
    assert_true(mr_lookup_key(mr_table_schema(pin.table), &value, &key, &s->err));
    struct mr_bytes one = {key.ptr, key.len};
    if (mr_span_open(span, pin.table, &one, 1, (struct mr_bytes){NULL, 0}))
        while (mr_span_next(span, &row)) {
            mr_cell_read(row.cells, &value);
            len += (size_t)snprintf(text + len, sizeof text - len, "%.*s,", (int)value.bytes.len,
                                    value.bytes.ptr);
        }
    mr_lookup_unpin(s->lookup, &pin);
    mr_span_free(span);
    mr_buf_fini(&key);
    return text;
}

static void change(struct scene *s, char kind, const char *const *old_row, char old_kind,
                   const char *const *new_row)
{
    put_change(&s->bytes, kind, OURS);
    if (old_row)
        put_tuple(&s->bytes, old_kind, old_row, 3);
    if (new_row)
        put_tuple(&s->bytes, 'N', new_row, 3);
    assert_int_equal(apply(s), MR_FEED_FOLLOWS);
}

#define ROW(...) ((const char *const[]){__VA_ARGS__})

static void transactions_are_shown_whole(void **state)
{
    (void)state;
    struct scene s = scene_new();
    assert_int_equal(begin(&s), MR_FEED_FOLLOWS);
    relation(&s, OURS, "subs", 'd', table_columns, 3);
    change(&s, 'I', NULL, 0, ROW("#1", "r1", "c1"));
    change(&s, 'I', NULL, 0, ROW("#2", "r1", "c2"));
    assert_int_equal(commit(&s, 100), MR_FEED_FOLLOWS);
    assert_true(mr_pg_changes_state(s.changes).unshown);
    assert_string_equal(clients(&s, "r1"), "");
    /* In the middle of the next one, the first can be shown, and nothing of the second. */
    assert_int_equal(begin(&s), MR_FEED_FOLLOWS);
    change(&s, 'D', ROW("#1", NULL, NULL), 'K', NULL);
    assert_int_equal(mr_pg_changes_publish(s.changes, s.lookup, &s.err), MR_FEED_FOLLOWS);
    assert_string_equal(clients(&s, "r1"), "c1,c2,");
    assert_int_equal(mr_pg_changes_state(s.changes).lsn, 100);
    /* A value that was left out, another identity, another key. */
    change(&s, 'U', ROW("#2", NULL, NULL), 'K', ROW("#3", "r2", "~"));
    assert_int_equal(commit(&s, 200), MR_FEED_FOLLOWS);
    assert_int_equal(mr_pg_changes_publish(s.changes, s.lookup, &s.err), MR_FEED_FOLLOWS);
    assert_string_equal(clients(&s, "r1"), "");
    assert_string_equal(clients(&s, "r2"), "c2,");
    assert_int_equal(mr_pg_changes_state(s.changes).changes, 5);
    /* An update that changes nothing of ours. */
    assert_int_equal(begin(&s), MR_FEED_FOLLOWS);
    change(&s, 'U', NULL, 0, ROW("#3", "r2", "c2"));
    assert_int_equal(commit(&s, 300), MR_FEED_FOLLOWS);
    assert_int_equal(mr_pg_changes_state(s.changes).changes, 5);
    assert_int_equal(mr_pg_changes_state(s.changes).lsn, 300);
    /* A table that is emptied, with what was written before and after in the same transaction. */
    assert_int_equal(begin(&s), MR_FEED_FOLLOWS);
    change(&s, 'I', NULL, 0, ROW("#4", "r2", "c4"));
    put8(&s.bytes, 'T');
    mr_buf_put_be32(&s.bytes, 1);
    put8(&s.bytes, 0);
    mr_buf_put_be32(&s.bytes, OURS);
    assert_int_equal(apply(&s), MR_FEED_FOLLOWS);
    change(&s, 'I', NULL, 0, ROW("#5", "r2", "c5"));
    assert_string_equal(clients(&s, "r2"), "c2,");
    assert_int_equal(commit(&s, 400), MR_FEED_FOLLOWS);
    assert_string_equal(clients(&s, "r2"), "c5,");
    assert_int_equal(mr_pg_changes_state(s.changes).truncates, 1);
    /* What is not there cannot be taken: the table is not what it should be. */
    assert_int_equal(begin(&s), MR_FEED_FOLLOWS);
    change(&s, 'D', ROW("#99", NULL, NULL), 'K', NULL);
    enum mr_feed_event event = commit(&s, 500);
    if (event == MR_FEED_FOLLOWS)
        event = mr_pg_changes_publish(s.changes, s.lookup, &s.err);
    assert_int_equal(event, MR_FEED_READ);
    scene_free(&s);
}

/* More than is kept until the commit: collected in the lookup, and still not seen before. */
static void a_large_transaction_is_shown_at_its_end(void **state)
{
    (void)state;
    enum { ROWS = 30000 };
    struct scene s = scene_new();
    char id[16], client[16];
    assert_int_equal(begin(&s), MR_FEED_FOLLOWS);
    relation(&s, OURS, "subs", 'd', table_columns, 3);
    change(&s, 'I', NULL, 0, ROW("#0", "small", "c0"));
    assert_int_equal(commit(&s, 100), MR_FEED_FOLLOWS);
    assert_int_equal(begin(&s), MR_FEED_FOLLOWS);
    for (int i = 1; i <= ROWS; i++) {
        snprintf(id, sizeof id, "#%d", i);
        snprintf(client, sizeof client, "c%d", i);
        change(&s, 'I', NULL, 0, ROW(id, "large", client));
        if (i % 100)
            change(&s, 'D', ROW(id, NULL, NULL), 'K', NULL);
    }
    assert_string_equal(clients(&s, "small"), "c0,"); /* it was not kept back for the large one */
    assert_string_equal(clients(&s, "large"), "");
    assert_int_equal(mr_lookup_stats(s.lookup).rows, 1);
    assert_int_equal(commit(&s, 200), MR_FEED_FOLLOWS);
    assert_int_equal(mr_pg_changes_publish(s.changes, s.lookup, &s.err), MR_FEED_FOLLOWS);
    assert_int_equal(mr_lookup_stats(s.lookup).rows, 1 + ROWS / 100);
    scene_free(&s);
}

static int setup(void **state)
{
    (void)state;
    space = mr_alloc(sizeof *space);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    free(space);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_of_message_is_read),
        cmocka_unit_test(counts_and_lengths_are_not_believed),
        cmocka_unit_test(envelopes_and_status_updates),
        cmocka_unit_test(a_table_that_is_another_is_read_again),
        cmocka_unit_test(other_tables_and_other_columns_do_not_matter),
        cmocka_unit_test(what_is_out_of_step_fails),
        cmocka_unit_test(transactions_are_shown_whole),
        cmocka_unit_test(a_large_transaction_is_shown_at_its_end),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
