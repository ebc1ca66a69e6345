/*
 * live.c - changing the current table: not there yet, every change is refused.
 *
 * The writer's thread. Tests: tests/unit/test_lookup.c.
 */
#include "lookup/table.h"

static bool not_yet(struct mr_error *err)
{
    return mr_error_set(err, MR_STOP, MR_EXIT_BUG, "a lookup's table cannot be changed yet");
}

void mr_table_builder_identify(struct mr_table_builder *builder, size_t n)
{
    (void)builder, (void)n;
}

bool mr_table_builder_add_id(struct mr_table_builder *builder, const struct mr_value *values,
                             const struct mr_value *ids, struct mr_error *err)
{
    (void)ids;
    return mr_table_builder_add(builder, values, err);
}

bool mr_lookup_put(struct mr_lookup *lookup, const struct mr_value *values,
                   const struct mr_value *ids, struct mr_error *err)
{
    (void)lookup, (void)values, (void)ids;
    return not_yet(err);
}

bool mr_lookup_take(struct mr_lookup *lookup, const struct mr_value *values, struct mr_error *err)
{
    (void)lookup, (void)values;
    return not_yet(err);
}

bool mr_lookup_take_id(struct mr_lookup *lookup, const struct mr_value *ids, struct mr_error *err)
{
    (void)lookup, (void)ids;
    return not_yet(err);
}

bool mr_lookup_find_id(struct mr_lookup *lookup, const struct mr_value *ids,
                       struct mr_value *values, bool *kept, struct mr_error *err)
{
    (void)lookup, (void)ids, (void)values;
    *kept = false;
    return not_yet(err);
}

void mr_lookup_discard(struct mr_lookup *lookup)
{
    (void)lookup;
}

bool mr_lookup_publish(struct mr_lookup *lookup, struct mr_error *err)
{
    (void)lookup;
    return not_yet(err);
}
