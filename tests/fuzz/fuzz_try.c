/*
 * fuzz_try.c - what `millrace try` is given: files of rows (CSV and JSON lines) as a lookup's
 * table, and whole messages as lines.
 *
 * Input: one byte (odd: a file of rows; even: lines), then the text.
 */
#include "fuzz.h"

#include "cli/records.h"
#include "cli/rowsfile.h"

#include <sys/mman.h>
#include <unistd.h>

/* A lookup with the key "k" and all columns of the file. */
static struct mr_node *lookup_node(void)
{
    struct mr_node *root = mr_node_new_root();
    struct mr_node *key = mr_node_add(root, "key", MR_NODE_LIST);
    mr_node_add(key, NULL, MR_NODE_STRING)->text = mr_strdup("k");
    root->name = mr_strdup("l");
    return root;
}

static void read_rows(struct mr_bytes text)
{
    char path[64];
    struct mr_error err = {0};
    struct mr_buf said = {0};
    struct mr_lookup *lookup = NULL;
    struct mr_lookup_schema *schema = NULL;
    struct mr_node *node = lookup_node();
    int fd = memfd_create("rows", 0);
    FUZZ_CHECK(fd >= 0 && write(fd, text.ptr, text.len) == (ssize_t)text.len, "no file");
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (mr_rowsfile_read(path, node, &lookup, &schema, &said, &err)) {
        FUZZ_CHECK(schema->n_keys == 1 && said.len, "nothing is said");
        struct mr_table_stats stats = mr_lookup_stats(lookup);
        FUZZ_CHECK(stats.rows + stats.null_keys <= stats.rows_read, "more rows than were read");
    } else {
        FUZZ_CHECK(err.msg[0] && err.action == MR_STOP && err.code == MR_EXIT_DATA, "%s", err.msg);
    }
    close(fd);
    mr_lookup_free(lookup);
    mr_lookup_schema_free(schema);
    mr_buf_fini(&said);
    mr_node_free(node);
}

static void read_lines(struct mr_bytes text)
{
    struct mr_records records;
    size_t number = 0;
    mr_records_init(&records, true, "in");
    for (const char *at = text.ptr, *end = at + text.len; at < end;) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        struct mr_bytes line = {at, (size_t)((stop ? stop : end) - at)};
        struct mr_record rec;
        struct mr_error err = {0};
        if (!line.len) {
            at++;
            continue;
        }
        if (!mr_records_read(&records, line, ++number, &rec, &err))
            FUZZ_CHECK(err.msg[0] && err.code == MR_EXIT_DATA, "%s", err.msg);
        else
            for (size_t i = 0; i < rec.n_headers; i++)
                FUZZ_CHECK(rec.headers[i].value.ptr || !rec.headers[i].value.len, "half a pair");
        at = stop ? stop + 1 : end;
    }
    mr_records_fini(&records);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = {data, data + size};
    bool rows = fuzz_byte(&in) & 1;
    struct mr_bytes text = fuzz_rest(&in);
    rows ? read_rows(text) : read_lines(text);
    return 0;
}
