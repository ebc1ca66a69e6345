/*
 * schema.c - copies and comparison of a lookup's columns.
 *
 * Pure; any thread. A copy is one allocation, owned by the caller.
 * Tests: tests/unit/test_lookup.c, test_stream.c.
 */
#include "millrace/lookup.h"

#include <stdlib.h>

static char *put_text(char **at, const char *text)
{
    char *copy = *at;
    *at = stpcpy(copy, text ? text : "") + 1;
    return copy;
}

static size_t text_size(const char *text)
{
    return (text ? strlen(text) : 0) + 1;
}

struct mr_lookup_schema *mr_lookup_schema_copy(const struct mr_lookup_schema *schema)
{
    size_t n = schema->n_columns, texts = text_size(schema->name);
    for (size_t i = 0; i < n; i++)
        texts += text_size(schema->columns[i].name) + text_size(schema->columns[i].type_name);
    struct mr_lookup_schema *copy = mr_alloc(sizeof *copy + n * sizeof *schema->columns + texts);
    struct mr_lookup_column *columns = (struct mr_lookup_column *)(copy + 1);
    char *at = (char *)(columns + n);
    *copy = *schema;
    copy->columns = columns;
    copy->name = put_text(&at, schema->name);
    for (size_t i = 0; i < n; i++) {
        columns[i].type = schema->columns[i].type;
        columns[i].name = put_text(&at, schema->columns[i].name);
        columns[i].type_name = put_text(&at, schema->columns[i].type_name);
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
    free(schema);
}
