/*
 * tuples.c - the bytes of a binary COPY, taken apart into the rows of a lookup table.
 *
 * One thread. Owns the values of the row at hand. Nothing in the bytes is trusted: lengths are held
 * against what is there, counts against what was described. Must not know libpq. Tests:
 * tests/unit/test_postgres_rows.c, tests/unit/test_postgres_lookup.c, tests/fuzz/fuzz_copy.c.
 */
#include "postgres/tuples.h"
#include "postgres/values.h"

#include <stdlib.h>

static const uint8_t copy_signature[] = "PGCOPY\n\377\r\n";
enum { SIGNATURE_LEN = 11, HEADER_LEN = 19 };

struct mr_pg_tuples {
    const uint32_t *oids;
    size_t n, n_columns; /* fields; those before the ids */
    struct mr_table_builder *builder;
    bool started, ended;
    struct mr_value *values;
    struct mr_buf *scratch;
    uint64_t rows;
};

struct mr_pg_tuples *mr_pg_tuples_new(const uint32_t *oids, size_t n_columns, size_t n_ids,
                                      struct mr_table_builder *builder)
{
    struct mr_pg_tuples *t = mr_calloc(1, sizeof *t);
    size_t n = n_columns + n_ids;
    *t = (struct mr_pg_tuples){.oids = oids,
                               .n = n,
                               .n_columns = n_columns,
                               .builder = builder,
                               .values = mr_calloc(n, sizeof *t->values),
                               .scratch = mr_calloc(n, sizeof *t->scratch)};
    return t;
}

void mr_pg_tuples_free(struct mr_pg_tuples *tuples)
{
    if (!tuples)
        return;
    for (size_t i = 0; i < tuples->n; i++)
        mr_buf_fini(&tuples->scratch[i]);
    free(tuples->scratch);
    free(tuples->values);
    free(tuples);
}

static uint32_t read32(const uint8_t *at)
{
    uint32_t v;
    memcpy(&v, at, sizeof v);
    return __builtin_bswap32(v);
}

static bool malformed(const struct mr_pg_tuples *t, struct mr_error *err)
{
    return mr_error_set(err, MR_RETRY, MR_EXIT_UNREACHABLE,
                        "row %llu of the binary COPY is not of the form that was described",
                        (unsigned long long)t->rows + 1);
}

/* One tuple at `at`; NULL: malformed or refused, *err says. */
static const uint8_t *put_row(struct mr_pg_tuples *t, const uint8_t *at, const uint8_t *end,
                              struct mr_error *err)
{
    if (((size_t)at[0] << 8 | at[1]) != t->n) {
        malformed(t, err);
        return NULL;
    }
    at += 2;
    for (size_t i = 0; i < t->n; i++) {
        uint32_t len = end - at >= 4 ? read32(at) : 0;
        if (end - at < 4 || (len != UINT32_MAX && (size_t)(end - at - 4) < len)) {
            malformed(t, err);
            return NULL;
        }
        at += 4;
        if (len == UINT32_MAX) {
            t->values[i].type = MR_NULL;
            continue;
        }
        if (!mr_pg_decode(t->oids[i], at, len, &t->scratch[i], &t->values[i])) {
            malformed(t, err);
            return NULL;
        }
        at += len;
    }
    bool ok = t->n > t->n_columns
                  ? mr_table_builder_add_id(t->builder, t->values, t->values + t->n_columns, err)
                  : mr_table_builder_add(t->builder, t->values, err);
    return ok ? at : NULL;
}

bool mr_pg_tuples_put(struct mr_pg_tuples *t, const char *bytes, size_t len, struct mr_error *err)
{
    const uint8_t *at = (const uint8_t *)bytes, *end = at + len;
    if (!t->started) {
        if (len < HEADER_LEN || memcmp(at, copy_signature, SIGNATURE_LEN) != 0 ||
            len - HEADER_LEN < read32(at + 15))
            return malformed(t, err);
        at += HEADER_LEN + read32(at + 15);
        t->started = true;
    }
    while (at < end) {
        if (t->ended || end - at < 2)
            return malformed(t, err);
        if (at[0] == 0xff && at[1] == 0xff) {
            t->ended = true;
            at += 2;
            continue;
        }
        at = put_row(t, at, end, err);
        if (!at)
            return false;
        t->rows++;
    }
    return true;
}

bool mr_pg_tuples_end(const struct mr_pg_tuples *t, struct mr_error *err)
{
    return t->ended || malformed(t, err);
}

uint64_t mr_pg_tuples_rows(const struct mr_pg_tuples *t)
{
    return t->rows;
}
