/*
 * fuzz_pgoutput.c - what logical replication sends, applied to a lookup: malformed, or a table.
 *
 * Input: a byte of options (1: rows are told by all their columns, 2: all columns of the table are
 * the lookup's), then CopyData messages, each behind its length in two bytes; length 0: what was
 * collected is shown. The table has the oid 1 and is public.t (id int4, k text, v int4, n numeric);
 * the lookup has k as its key.
 */
#include "fuzz.h"

#include "postgres/changes.h"
#include "postgres/pgoutput.h"
#include "postgres/values.h"

enum { COLUMNS = 3 };

static const struct mr_lookup_column columns[COLUMNS] = {
    {"k", MR_TEXT, "text"}, {"v", MR_INT, "integer"}, {"n", MR_NUMERIC, "numeric"}};
static const struct mr_lookup_schema schema = {"fuzz", columns, 1, COLUMNS};

static struct mr_lookup *lookup_new(size_t n_ids)
{
    struct mr_lookup *lookup = mr_lookup_new("fuzz");
    struct mr_table_builder *builder = mr_table_builder_new(&schema, true, 0);
    struct mr_table *table = NULL;
    struct mr_error err;
    if (n_ids)
        mr_table_builder_identify(builder, n_ids);
    FUZZ_CHECK(mr_table_builder_finish(builder, &table, &err), "%s", err.msg);
    mr_lookup_swap(lookup, table);
    return lookup;
}

/* What was shown can be counted, and the position never goes back. */
static void check_state(const struct mr_pg_changes *changes, struct mr_lookup *lookup)
{
    struct mr_pg_changes_state state = mr_pg_changes_state(changes);
    struct mr_table_stats stats = mr_lookup_stats(lookup);
    FUZZ_CHECK(stats.keys <= stats.rows, "%llu keys of %llu rows", (unsigned long long)stats.keys,
               (unsigned long long)stats.rows);
    FUZZ_CHECK(stats.rows + stats.null_keys <= (uint64_t)state.changes,
               "%llu rows after %lld changes", (unsigned long long)stats.rows,
               (long long)state.changes);
}

static enum mr_feed_event one_message(struct mr_pg_changes *changes, struct mr_lookup *lookup,
                                      struct mr_bytes bytes, struct mr_error *err)
{
    struct mr_pgo_envelope envelope;
    if (!bytes.len)
        return mr_pg_changes_publish(changes, lookup, err);
    if (!mr_pgo_open((const uint8_t *)bytes.ptr, bytes.len, &envelope, err))
        return MR_FEED_FAILED;
    return envelope.kind == 'k'
               ? MR_FEED_FOLLOWS
               : mr_pg_changes_apply(changes, lookup, envelope.body, envelope.len, err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *names[] = {"k", "v", "n", "id"};
    static const char *const listed[] = {"v", "n"};
    static uint32_t oids[] = {MR_OID_TEXT, MR_OID_INT4, MR_OID_NUMERIC, MR_OID_INT4};
    struct fuzz_input in = {data, data + size};
    unsigned how = fuzz_byte(&in);
    struct mr_pg_shape shape = {.schema = (struct mr_lookup_schema *)&schema,
                                .names = names,
                                .oids = oids,
                                .n_columns = COLUMNS,
                                .n_ids = how & 1 ? 0 : 1};
    struct mr_postgres_lookup_options lookup_options = {
        .name = "fuzz", .table = "t", .columns = listed, .n_columns = how & 2 ? 0 : 2};
    struct mr_pg_changes_options options = {.lookup = &lookup_options,
                                            .shape = &shape,
                                            .declared = oids,
                                            .oid = 1,
                                            .schema = "public",
                                            .name = "t"};
    struct mr_lookup *lookup = lookup_new(shape.n_ids);
    struct mr_pg_changes *changes = mr_pg_changes_new(&options);
    enum mr_feed_event event = MR_FEED_FOLLOWS;
    while (event == MR_FEED_FOLLOWS && in.at < in.end) {
        struct mr_error err = {0};
        size_t len = fuzz_number(&in, 2), left = (size_t)(in.end - in.at);
        len = len < left ? len : left;
        /* Of its own, so that a read beyond it is seen. */
        char *copy = mr_alloc(len + !len);
        memcpy(copy, in.at, len);
        in.at += len;
        event = one_message(changes, lookup, (struct mr_bytes){copy, len}, &err);
        free(copy);
        if (event == MR_FEED_FOLLOWS)
            check_state(changes, lookup);
        else
            FUZZ_CHECK(err.msg[0] && err.action == (event == MR_FEED_READ ? MR_RECOVER : MR_RETRY),
                       "event %d, action %d: %s", (int)event, (int)err.action, err.msg);
    }
    mr_pg_changes_free(changes);
    mr_lookup_free(lookup);
    return 0;
}
