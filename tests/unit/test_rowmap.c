/*
 * test_rowmap.c - identities and their payloads against a plain array of them:
 * core/lookup/rowmap.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "lookup/rowmap.h"
#include "seed.h"

#include <stdlib.h>
#include <string.h>

static struct rowid id_of(const struct rowmap *map, bool wide, int64_t i, struct mr_buf *scratch)
{
    struct mr_value value = {.type = MR_INT, .i = wide ? -i - 1 : i};
    struct rowid id = mr_rowmap_id(map, &value, 1, scratch);
    assert_int_equal(id.wide, wide);
    return id;
}

/* present[i]: the payload of identity i, 0 if it is not there. */
static void compare(const struct rowmap *map, bool wide, const uint64_t *present, int64_t n,
                    struct mr_buf *scratch)
{
    size_t count = 0;
    for (int64_t i = 0; i < n; i++) {
        uint64_t payload = 0;
        int found = mr_rowmap_find(map, id_of(map, wide, i, scratch), &payload);
        assert_int_equal(found, present[i] != 0);
        assert_true(payload == present[i]);
        count += present[i] != 0;
    }
    assert_int_equal(mr_rowmap_count(map), count);
}

/* Grows beyond the steps at which less is kept of an identity, falls, and grows again. */
static void churn(struct seed *seed, bool wide, int64_t n)
{
    struct rowmap *map = mr_rowmap_new(seed_next(seed));
    uint64_t *present = mr_calloc((size_t)n, sizeof *present);
    struct mr_buf scratch = {0};
    size_t bytes[2];
    for (int round = 0; round < 4; round++) {
        for (int64_t i = 0; i < n; i++) {
            bool there = present[i];
            if (round % 2 == 0 ? there : !there || seed_below(seed, 10) == 0)
                continue;
            struct rowid id = id_of(map, wide, i, &scratch);
            mr_rowmap_prefetch(map, id);
            mr_rowmap_prefetch_chunk(map, id);
            present[i] = there ? 0 : 1 + (seed_next(seed) >> 9);
            if (there)
                mr_rowmap_remove(map, id);
            else
                mr_rowmap_put(map, id, present[i]);
        }
        compare(map, wide, present, n, &scratch);
        if (round % 2 == 0)
            bytes[round / 2] = mr_rowmap_bytes(map);
    }
    assert_true(bytes[1] <= bytes[0] + bytes[0] / 16 + 8192); /* what was freed is used again */
    mr_rowmap_free(map);
    mr_buf_fini(&scratch);
    free(present);
}

static void identities_lead_to_their_payloads(void **state)
{
    (void)state;
    struct seed seed = seed_start("identities_lead_to_their_payloads");
    for (int wide = 0; wide < 2; wide++) {
        for (int i = 0; i < 20; i++)
            churn(&seed, wide, 1 + (int64_t)seed_below(&seed, 300));
        churn(&seed, wide, 20000);
    }
}

/* With 2^16 buckets another byte of each identity is left out. */
static void an_identity_takes_few_bytes(void **state)
{
    (void)state;
    static const struct {
        int64_t n;
        double narrow, wide;
    } budgets[] = {{100000, 11.6, 16.1}, {5000000, 10.6, 15.1}};
    for (size_t i = 0; i < (SANITIZED ? 1 : 2); i++)
        for (int wide = 0; wide < 2; wide++) {
            struct rowmap *map = mr_rowmap_new(i);
            struct mr_buf scratch = {0};
            for (int64_t id = 0; id < budgets[i].n; id++)
                mr_rowmap_put(map, id_of(map, wide, id, &scratch), (uint64_t)id + 1);
            double bytes = (double)mr_rowmap_bytes(map) / (double)budgets[i].n;
            print_message("%" PRId64 " identities of %d bits: %.2f bytes each\n", budgets[i].n,
                          wide ? 64 : 32, bytes);
            assert_true(bytes <= (wide ? budgets[i].wide : budgets[i].narrow));
            for (int64_t id = 0; id < budgets[i].n; id += 997) {
                uint64_t payload = 0;
                assert_int_equal(mr_rowmap_find(map, id_of(map, wide, id, &scratch), &payload), 1);
                assert_int_equal(payload, id + 1);
            }
            mr_rowmap_free(map);
            mr_buf_fini(&scratch);
        }
}

static void an_identity_that_is_there_twice_is_noticed(void **state)
{
    (void)state;
    struct rowmap *map = mr_rowmap_new(1);
    struct mr_buf scratch = {0};
    struct rowid id = id_of(map, false, 7, &scratch);
    uint64_t payload;
    for (uint64_t i = 1; i <= 1000; i++) {
        mr_rowmap_put(map, id, i);
        assert_int_equal(mr_rowmap_find(map, id, &payload), i == 1 ? 1 : 2);
    }
    mr_rowmap_free(map);
    mr_buf_fini(&scratch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(identities_lead_to_their_payloads),
        cmocka_unit_test(an_identity_takes_few_bytes),
        cmocka_unit_test(an_identity_that_is_there_twice_is_noticed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
