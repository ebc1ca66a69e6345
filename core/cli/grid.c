/*
 * grid.c - reads CSV (RFC 4180) and JSON lines into columns and cells.
 *
 * Main thread. Owns the file's text and what was unescaped of it. The format is told by the name of
 * the file (.csv; .jsonl, .ndjson, .json), else by its first character. Must not know types or
 * lookups. Tests: tests/spec/try_spec.lua.
 */
#include "cli/grid.h"

#include "base/text.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum { READ_BYTES = 1 << 16 };

/* Cells and lines as they come, before their number is known. */
struct reader {
    struct mr_grid *grid;
    const char *path;
    struct mr_buf cells, lines;
    struct mr_json *json;
    size_t line;
    struct mr_grid_cell *row; /* JSON lines: of the row at hand */
    struct mr_error *err;
    bool ok;
};

static bool wrong(const struct reader *reader, const char *what)
{
    return mr_error_set(reader->err, MR_STOP, MR_EXIT_DATA, "%s:%zu: %s", reader->path,
                        reader->line, what);
}

static bool read_file(struct mr_buf *out, const char *path, struct mr_error *err)
{
    FILE *file = fopen(path, "rb");
    size_t n = 1;
    while (file && n) {
        n = fread(mr_buf_reserve(out, READ_BYTES), 1, READ_BYTES, file);
        mr_buf_commit(out, n);
    }
    bool ok = file && !ferror(file);
    if (!ok)
        mr_error_set(err, MR_STOP, MR_EXIT_DATA, "%s: %s", path, strerror(errno));
    if (file)
        fclose(file);
    return ok;
}

static bool ends_with(const char *text, const char *end)
{
    size_t len = strlen(text), n = strlen(end);
    return len >= n && strcmp(text + len - n, end) == 0;
}

static bool is_csv(const char *path, struct mr_bytes text)
{
    if (ends_with(path, ".csv"))
        return true;
    if (ends_with(path, ".jsonl") || ends_with(path, ".ndjson") || ends_with(path, ".json"))
        return false;
    size_t at = 0;
    while (at < text.len && strchr(" \t\r\n", text.ptr[at]))
        at++;
    return at == text.len || text.ptr[at] != '{';
}

/* The number of columns: there is none of that name. */
static size_t column_of(struct mr_grid *grid, struct mr_bytes name)
{
    for (size_t i = 0; i < grid->n_columns; i++)
        if (strlen(grid->names[i]) == name.len && memcmp(grid->names[i], name.ptr, name.len) == 0)
            return i;
    return grid->n_columns;
}

/* --- CSV --- */

/* One field; *last: it ends its line. Quotes are taken off in place. False: a quote without end. */
static bool csv_field(struct reader *reader, char **at, char *end, struct mr_grid_cell *cell,
                      bool *last)
{
    char *from = *at, *to = from;
    bool quoted = from < end && *from == '"';
    char *p = from + quoted;
    for (from = to = p; p < end; p++) {
        if (quoted && *p == '"' && p + 1 < end && p[1] == '"')
            p++;
        else if (quoted && *p == '"')
            break;
        else if (!quoted && (*p == ',' || *p == '\n'))
            break;
        if (*p == '\n')
            reader->line++;
        *to++ = *p;
    }
    if (quoted && p == end)
        return wrong(reader, "a quote is opened here, or above, and never closed");
    p += quoted;
    if (quoted && p < end && *p == '\r')
        p++;
    if (quoted && p < end && *p != ',' && *p != '\n')
        return wrong(reader, "after a closing quote a comma or the end of the line is expected");
    if (!quoted && to > from && to[-1] == '\r' && (p == end || *p == '\n'))
        to--;
    *last = p == end || *p == '\n';
    *at = p < end ? p + 1 : p;
    cell->kind = quoted || to > from ? MR_JSON_STRING : MR_JSON_NULL;
    cell->text = (struct mr_bytes){from, (size_t)(to - from)};
    return true;
}

/* "name" or "name:type" */
static bool csv_header(struct reader *reader, char **at, char *end)
{
    struct mr_grid *grid = reader->grid;
    bool last = false;
    while (!last) {
        struct mr_grid_cell cell;
        if (grid->n_columns == MR_GRID_COLUMNS_MAX)
            return wrong(reader, "too many columns");
        if (!csv_field(reader, at, end, &cell, &last))
            return false;
        char *name = mr_arena_alloc(&grid->arena, cell.text.len + 1);
        memcpy(name, cell.text.ptr, cell.text.len);
        name[cell.text.len] = '\0';
        char *colon = strchr(name, ':');
        if (colon)
            *colon = '\0';
        if (!*name)
            return wrong(reader, "the first line names the columns: one of them has no name");
        if (column_of(grid, mr_bytes_of(name)) < grid->n_columns)
            return wrong(reader, "the first line names the columns: two of them have one name");
        grid->types[grid->n_columns] = colon ? colon + 1 : NULL;
        grid->names[grid->n_columns++] = name;
    }
    return true;
}

static bool read_csv(struct reader *reader)
{
    struct mr_grid *grid = reader->grid;
    char *at = grid->file.ptr, *end = at + grid->file.len;
    if (grid->file.len >= 3 && memcmp(at, "\xef\xbb\xbf", 3) == 0)
        at += 3;
    reader->line = 1;
    if (at == end)
        return wrong(reader, "the file is empty; its first line names the columns");
    if (!csv_header(reader, &at, end))
        return false;
    while (at < end) {
        size_t line = ++reader->line, n = 0;
        bool last = false;
        if (*at == '\n' || (*at == '\r' && at + 1 < end && at[1] == '\n')) { /* an empty line */
            at += *at == '\r' ? 2 : 1;
            continue;
        }
        for (; !last; n++) {
            struct mr_grid_cell cell;
            if (!csv_field(reader, &at, end, &cell, &last))
                return false;
            mr_buf_put(&reader->cells, &cell, sizeof cell);
        }
        if (n != grid->n_columns) {
            char text[96];
            snprintf(text, sizeof text, "%zu fields, but the first line names %zu columns", n,
                     grid->n_columns);
            reader->line = line;
            return wrong(reader, text);
        }
        mr_buf_put(&reader->lines, &line, sizeof line);
        grid->n_rows++;
    }
    return true;
}

/* --- JSON lines --- */

static void see_name(void *arg, struct mr_bytes name, enum mr_json_kind kind, struct mr_bytes text)
{
    struct reader *reader = arg;
    struct mr_grid *grid = reader->grid;
    (void)kind;
    (void)text;
    if (!name.ptr || column_of(grid, name) < grid->n_columns)
        return;
    if (grid->n_columns == MR_GRID_COLUMNS_MAX) {
        reader->ok = false;
        wrong(reader, "too many columns");
        return;
    }
    char *copy = mr_arena_alloc(&grid->arena, name.len + 1);
    memcpy(copy, name.ptr, name.len);
    copy[name.len] = '\0';
    grid->names[grid->n_columns++] = copy;
}

static void take_member(void *arg, struct mr_bytes name, enum mr_json_kind kind,
                        struct mr_bytes text)
{
    struct reader *reader = arg;
    size_t column = column_of(reader->grid, name);
    if (column < reader->grid->n_columns)
        reader->row[column] = (struct mr_grid_cell){
            kind, {mr_arena_copy(&reader->grid->arena, text.ptr, text.len), text.len}};
}

/* One pass over the lines. */
static bool each_line(struct reader *reader,
                      bool (*line)(struct reader *reader, struct mr_bytes text))
{
    const char *at = reader->grid->file.ptr, *end = at + reader->grid->file.len;
    reader->line = 0;
    while (at < end) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        struct mr_bytes text = {at, (size_t)((stop ? stop : end) - at)};
        reader->line++;
        size_t blank = 0;
        while (blank < text.len && strchr(" \t\r", text.ptr[blank]))
            blank++;
        if (blank < text.len && !line(reader, text))
            return false;
        at = stop ? stop + 1 : end;
    }
    return true;
}

static bool names_of_line(struct reader *reader, struct mr_bytes text)
{
    struct mr_error err;
    reader->ok = true;
    if (!mr_json_parse(reader->json, text, &err))
        return wrong(reader, err.msg);
    if (text.ptr[strspn(text.ptr, " \t\r")] != '{' || !mr_json_each(reader->json, see_name, reader))
        return wrong(reader, "each line is a JSON object: {\"column\": value, ...}");
    return reader->ok;
}

static bool cells_of_line(struct reader *reader, struct mr_bytes text)
{
    struct mr_error err;
    struct mr_grid *grid = reader->grid;
    size_t size = grid->n_columns * sizeof *reader->row;
    reader->row = (struct mr_grid_cell *)(void *)mr_buf_reserve(&reader->cells, size);
    memset((void *)reader->row, 0, size); /* MR_JSON_NULL */
    mr_buf_commit(&reader->cells, size);
    bool ok =
        mr_json_parse(reader->json, text, &err) && mr_json_each(reader->json, take_member, reader);
    mr_assert(ok);
    mr_buf_put(&reader->lines, &reader->line, sizeof reader->line);
    grid->n_rows++;
    return true;
}

bool mr_grid_read(struct mr_grid *grid, const char *path, struct mr_error *err)
{
    struct reader reader = {.grid = grid, .path = path, .err = err, .json = mr_json_new()};
    *grid = (struct mr_grid){0};
    mr_arena_init(&grid->arena);
    bool ok = read_file(&grid->file, path, err);
    if (ok && (!mr_text_utf8_valid(grid->file.ptr, grid->file.len) ||
               (grid->file.len && memchr(grid->file.ptr, '\0', grid->file.len))))
        ok = mr_error_set(err, MR_STOP, MR_EXIT_DATA, "%s: it is not UTF-8 text", path);
    if (ok) {
        mr_buf_cstr(&grid->file); /* strspn above stops there */
        grid->csv = is_csv(path, (struct mr_bytes){grid->file.ptr, grid->file.len});
        ok = grid->csv ? read_csv(&reader)
                       : each_line(&reader, names_of_line) && each_line(&reader, cells_of_line);
    }
    grid->cells = (struct mr_grid_cell *)(void *)reader.cells.ptr;
    grid->lines = (size_t *)(void *)reader.lines.ptr;
    mr_json_free(reader.json);
    return ok;
}

void mr_grid_fini(struct mr_grid *grid)
{
    free(grid->cells);
    free(grid->lines);
    mr_buf_fini(&grid->file);
    mr_arena_fini(&grid->arena);
}
