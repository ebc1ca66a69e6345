/*
 * schema.c - copies and comparison of a lookup's columns.
 *
 * Pure; any thread. A copy is one allocation for columns and texts each, owned by the caller.
 * Tests: tests/unit/test_lookup.c, test_stream.c.
 */
#include "millrace/lookup.h"

#include <stdlib.h>

struct mr_lookup_schema *mr_lookup_schema_copy(const struct mr_lookup_schema *schema)
{
    struct mr_lookup_schema *copy = mr_alloc(sizeof *copy);
    struct mr_lookup_column *columns = mr_calloc(schema->n_columns, sizeof *columns);
    *copy = *schema;
    copy->name = mr_strdup(schema->name);
    copy->columns = columns;
    for (size_t i = 0; i < schema->n_columns; i++) {
        columns[i].type = schema->columns[i].type;
        columns[i].name = mr_strdup(schema->columns[i].name);
        columns[i].type_name =
            mr_strdup(schema->columns[i].type_name ? schema->columns[i].type_name : "");
    }
    return copy;
}

bool mr_lookup_schema_equal(const struct mr_lookup_schema *a, const struct mr_lookup_schema *b)
{
    if (!a || !b)
        return a == b;
    if (a->n_keys != b->n_keys || a->n_columns != b->n_columns)
        return false;
    for (size_t i = 0; i < a->n_columns; i++)
        if (a->columns[i].type != b->columns[i].type ||
            strcmp(a->columns[i].name, b->columns[i].name) != 0)
            return false;
    return true;
}

void mr_lookup_schema_free(struct mr_lookup_schema *schema)
{
    if (!schema)
        return;
    for (size_t i = 0; i < schema->n_columns; i++) {
        free((void *)(uintptr_t)schema->columns[i].name);
        free((void *)(uintptr_t)schema->columns[i].type_name);
    }
    free((void *)(uintptr_t)schema->columns);
    free((void *)(uintptr_t)schema->name);
    free(schema);
}
