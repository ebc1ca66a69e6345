/*
 * rowsfile.c - from cells of text to the table of a lookup: which columns, of which types, which
 * values.
 *
 * Main thread. Owns what it builds until it is given away. Without a database nobody knows the
 * types: the header says them, or they are guessed from all values of the column, and what was
 * guessed is said. Must not know file formats (grid.c). Tests: tests/spec/try_spec.lua.
 */
#include "cli/rowsfile.h"

#include "cli/grid.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

enum { DIGITS_SURE = 18 }; /* so many digits are an int64 for certain */

struct rows {
    const char *path;
    struct mr_grid grid;
    size_t from[MR_GRID_COLUMNS_MAX]; /* column of the grid, of each of the schema */
    struct mr_lookup_column columns[MR_GRID_COLUMNS_MAX];
    struct mr_lookup_schema schema;
    bool guessed[MR_GRID_COLUMNS_MAX];
    struct mr_error *err;
};

/* --- types --- */

/* As mr_type_name has them, and as Postgres has them. */
static const struct {
    const char *name;
    enum mr_type type;
} type_names[] = {
    {"text", MR_TEXT},   {"varchar", MR_TEXT},
    {"bool", MR_BOOL},   {"boolean", MR_BOOL},
    {"int", MR_INT},     {"integer", MR_INT},
    {"bigint", MR_INT},  {"smallint", MR_INT},
    {"float", MR_FLOAT}, {"double precision", MR_FLOAT},
    {"real", MR_FLOAT},  {"numeric", MR_NUMERIC},
    {"uuid", MR_UUID},   {"timestamp", MR_TIMESTAMP},
    {"date", MR_DATE},   {"timestamptz", MR_TIMESTAMP},
    {"json", MR_JSON},   {"jsonb", MR_JSON},
};
enum { N_TYPE_NAMES = sizeof type_names / sizeof *type_names };

/* What a single cell could be, at most: MR_NULL says nothing. */
static enum mr_type type_of_cell(const struct mr_grid_cell *cell, bool csv)
{
    switch (cell->kind) {
    case MR_JSON_NULL:
        return MR_NULL;
    case MR_JSON_BOOL:
        return MR_BOOL;
    case MR_JSON_OBJECT:
    case MR_JSON_ARRAY:
        return MR_JSON;
    case MR_JSON_INT:
        return cell->text.len <= DIGITS_SURE ? MR_INT : MR_NUMERIC;
    case MR_JSON_NUMBER:
        return MR_NUMERIC;
    case MR_JSON_STRING:
        break;
    }
    if (!csv)
        return MR_TEXT;
    const char *at = cell->text.ptr, *end = at + cell->text.len;
    if ((cell->text.len == 4 && memcmp(at, "true", 4) == 0) ||
        (cell->text.len == 5 && memcmp(at, "false", 5) == 0))
        return MR_BOOL;
    /* "007" is a text, and so is "-0". */
    at += at < end && *at == '-';
    size_t digits = 0;
    while (at + digits < end && at[digits] >= '0' && at[digits] <= '9')
        digits++;
    if (!digits || (digits > 1 && *at == '0') || (digits == 1 && *at == '0' && at > cell->text.ptr))
        return MR_TEXT;
    if (at + digits == end)
        return digits <= DIGITS_SURE ? MR_INT : MR_NUMERIC;
    if (at[digits] != '.' || at + digits + 1 == end)
        return MR_TEXT;
    for (at += digits + 1; at < end; at++)
        if (*at < '0' || *at > '9')
            return MR_TEXT;
    return MR_NUMERIC;
}

static enum mr_type guess(const struct mr_grid *grid, size_t column)
{
    enum mr_type type = MR_NULL;
    for (size_t i = 0; i < grid->n_rows; i++) {
        enum mr_type cell = type_of_cell(&grid->cells[i * grid->n_columns + column], grid->csv);
        bool number =
            (type == MR_INT || type == MR_NUMERIC) && (cell == MR_INT || cell == MR_NUMERIC);
        if (type == MR_NULL || cell == type)
            type = cell;
        else if (number)
            type = MR_NUMERIC;
        else if (cell != MR_NULL)
            return MR_TEXT;
    }
    return type == MR_NULL ? MR_TEXT : type;
}

static bool set_type(struct rows *rows, size_t i)
{
    const struct mr_grid *grid = &rows->grid;
    const char *name = grid->types[rows->from[i]];
    struct mr_lookup_column *column = &rows->columns[i];
    rows->guessed[i] = !name;
    if (!name) {
        column->type = guess(grid, rows->from[i]);
        column->type_name = mr_type_name(column->type);
        return true;
    }
    for (size_t t = 0; t < N_TYPE_NAMES; t++)
        if (strcmp(type_names[t].name, name) == 0) {
            column->type = type_names[t].type;
            column->type_name = type_names[t].name;
            return true;
        }
    return mr_error_set(rows->err, MR_STOP, MR_EXIT_DATA,
                        "%s:1: column %s: '%s' is no type; there are text, int, bool, numeric, "
                        "float, uuid, timestamptz, date and json",
                        rows->path, column->name, name);
}

/* --- columns --- */

static bool find_column(struct rows *rows, const char *name)
{
    struct mr_grid *grid = &rows->grid;
    size_t i = 0, at = rows->schema.n_columns;
    while (i < grid->n_columns && strcmp(grid->names[i], name) != 0)
        i++;
    if (i == grid->n_columns) {
        struct mr_buf names = {0};
        for (size_t n = 0; n < grid->n_columns; n++)
            mr_buf_printf(&names, "%s%s", n ? ", " : "", grid->names[n]);
        mr_error_set(rows->err, MR_STOP, MR_EXIT_DATA,
                     "%s: the column %s, which the lookup needs, is missing; the file has %s",
                     rows->path, name, names.len ? mr_buf_cstr(&names) : "none");
        mr_buf_fini(&names);
        return false;
    }
    if (at == MR_GRID_COLUMNS_MAX)
        return mr_error_set(rows->err, MR_STOP, MR_EXIT_DATA, "%s: too many columns", rows->path);
    rows->from[at] = i;
    rows->columns[at].name = grid->names[i];
    rows->schema.n_columns++;
    return set_type(rows, at);
}

static bool choose_columns(struct rows *rows, const struct mr_node *node)
{
    const struct mr_node *columns = mr_node_at(node, "columns");
    rows->schema = (struct mr_lookup_schema){.name = node->name, .columns = rows->columns};
    for (const struct mr_node *c = mr_node_at(node, "key")->children; c; c = c->next)
        if (!find_column(rows, c->text))
            return false;
    rows->schema.n_keys = rows->schema.n_columns;
    if (columns && columns->n_children) {
        for (const struct mr_node *c = columns->children; c; c = c->next)
            if (!find_column(rows, c->text))
                return false;
        return true;
    }
    for (size_t i = 0; i < rows->grid.n_columns; i++)
        if (!find_column(rows, rows->grid.names[i]))
            return false;
    return true;
}

void mr_rowsfile_columns(const struct mr_node *node, struct mr_buf *out)
{
    const struct mr_node *columns = mr_node_at(node, "columns");
    size_t n = 0;
    for (const struct mr_node *c = mr_node_at(node, "key")->children; c; c = c->next)
        mr_buf_printf(out, "%s%s (key)", n++ ? ", " : "", c->text);
    for (const struct mr_node *c = columns ? columns->children : NULL; c; c = c->next)
        mr_buf_printf(out, ", %s", c->text);
}

static void describe(const struct rows *rows, struct mr_buf *said)
{
    const struct mr_lookup_schema *schema = &rows->schema;
    bool any = false;
    mr_buf_printf(said, "%s: %zu row%s", rows->path, rows->grid.n_rows,
                  rows->grid.n_rows == 1 ? "" : "s");
    for (size_t i = 0; i < schema->n_columns; i++) {
        mr_buf_printf(said, "%s%s %s%s",
                      i == 0                ? "; key "
                      : i == schema->n_keys ? "; columns "
                                            : ", ",
                      schema->columns[i].name, schema->columns[i].type_name,
                      rows->guessed[i] ? "?" : "");
        any = any || rows->guessed[i];
    }
    if (any)
        mr_buf_put_text(said, rows->grid.csv ? " (?: guessed; the first line can say it: name:type)"
                                             : " (?: guessed from the values)");
}

/* --- values --- */

/* A number, date or the like is read as the lookup reads a key that a script gives as text. */
bool mr_rowsfile_value(enum mr_type type, struct mr_bytes text, struct mr_buf *scratch,
                       struct mr_value *value, struct mr_error *err)
{
    const struct mr_lookup_column column = {.name = "value", .type = type, .type_name = "value"};
    const struct mr_lookup_schema schema = {
        .name = "value", .columns = &column, .n_keys = 1, .n_columns = 1};
    struct mr_value given = {.type = MR_TEXT, .bytes = text};
    mr_buf_reset(scratch);
    if (!mr_lookup_key(&schema, &given, scratch, err))
        return false;
    mr_cell_read((const uint8_t *)scratch->ptr, value);
    return true;
}

static bool number(struct mr_bytes text, enum mr_type type, struct mr_value *value)
{
    char copy[400], *end = copy;
    if (text.len >= sizeof copy || !text.len || strchr(" \t", *text.ptr))
        return false;
    memcpy(copy, text.ptr, text.len);
    copy[text.len] = '\0';
    errno = 0;
    if (type == MR_INT)
        value->i = strtoll(copy, &end, 10);
    else
        value->f = strtod(copy, &end);
    return end == copy + text.len && !errno;
}

static bool is_word(struct mr_bytes text, const char *word)
{
    return text.len == strlen(word) && strncasecmp(text.ptr, word, text.len) == 0;
}

/* False: it is no value of that type. `scratch` is the column's own. */
static bool read_cell(const struct mr_grid_cell *cell, enum mr_type type, struct mr_json *json,
                      struct mr_buf *scratch, struct mr_value *value)
{
    struct mr_error unused;
    struct mr_bytes text = cell->text;
    value->type = cell->kind == MR_JSON_NULL ? MR_NULL : type;
    value->bytes = text;
    switch (value->type) {
    case MR_NULL:
    case MR_TEXT:
        return true;
    case MR_BOOL:
        value->b = is_word(text, "true") || is_word(text, "t") || is_word(text, "1");
        return value->b || is_word(text, "false") || is_word(text, "f") || is_word(text, "0");
    case MR_INT:
    case MR_FLOAT:
        return number(text, type, value);
    case MR_NUMERIC: /* as it was written, once it is known to be one */
        if (!mr_rowsfile_value(type, text, scratch, value, &unused))
            return false;
        *value = (struct mr_value){.type = MR_NUMERIC, .bytes = text};
        return true;
    case MR_JSON:
        if (cell->kind == MR_JSON_STRING && mr_json_parse(json, text, &unused))
            return true;
        return cell->kind != MR_JSON_STRING;
    case MR_UUID:
    case MR_TIMESTAMP:
    case MR_DATE:
        return mr_rowsfile_value(type, text, scratch, value, &unused);
    }
    return false;
}

static bool build(struct rows *rows, struct mr_table_builder *builder, struct mr_json *json,
                  struct mr_buf *scratch)
{
    const struct mr_lookup_schema *schema = &rows->schema;
    struct mr_value values[MR_GRID_COLUMNS_MAX];
    for (size_t r = 0; r < rows->grid.n_rows; r++) {
        const struct mr_grid_cell *cells = &rows->grid.cells[r * rows->grid.n_columns];
        for (size_t i = 0; i < schema->n_columns; i++) {
            const struct mr_grid_cell *cell = &cells[rows->from[i]];
            if (!read_cell(cell, schema->columns[i].type, json, &scratch[i], &values[i]))
                return mr_error_set(rows->err, MR_STOP, MR_EXIT_DATA,
                                    "%s:%zu: column %s: '%.*s' is not of type %s", rows->path,
                                    rows->grid.lines[r], schema->columns[i].name,
                                    (int)(cell->text.len < 60 ? cell->text.len : 60),
                                    cell->text.ptr, schema->columns[i].type_name);
        }
        if (!mr_table_builder_add(builder, values, rows->err))
            return false;
    }
    return true;
}

bool mr_rowsfile_read(const char *path, const struct mr_node *node, struct mr_lookup **out,
                      struct mr_lookup_schema **schema, struct mr_buf *said, struct mr_error *err)
{
    struct rows *rows = mr_calloc(1, sizeof *rows);
    struct mr_table_builder *builder = NULL;
    struct mr_table *table = NULL;
    struct mr_json *json = mr_json_new();
    struct mr_buf *scratch = mr_calloc(MR_GRID_COLUMNS_MAX, sizeof *scratch);
    rows->path = path;
    rows->err = err;
    bool ok = mr_grid_read(&rows->grid, path, err) && choose_columns(rows, node);
    if (ok) {
        builder = mr_table_builder_new(&rows->schema, mr_node_bool(node, "distinct", true), 0);
        ok = build(rows, builder, json, scratch);
    }
    if (ok) {
        ok = mr_table_builder_finish(builder, &table, err);
        builder = NULL;
    }
    if (ok) {
        describe(rows, said);
        *schema = mr_lookup_schema_copy(&rows->schema);
        *out = mr_lookup_new(node->name);
        mr_lookup_swap(*out, table);
    }
    mr_table_builder_free(builder);
    for (size_t i = 0; i < MR_GRID_COLUMNS_MAX; i++)
        mr_buf_fini(&scratch[i]);
    free(scratch);
    mr_json_free(json);
    mr_grid_fini(&rows->grid);
    free(rows);
    return ok;
}
