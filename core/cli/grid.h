/*
 * grid.h - a file of rows as columns and cells of text: CSV with a header, or JSON lines.
 *
 * What a cell means is decided later (rowsfile.c). Main thread. Embedded: read fills it, fini frees
 * what it owns; cells borrow from it.
 */
#ifndef MR_CLI_GRID_H
#define MR_CLI_GRID_H

#include "base/arena.h"
#include "base/buf.h"
#include "lua/json.h"

enum { MR_GRID_COLUMNS_MAX = 256 };

/* CSV knows texts and NULLs (an empty field without quotes); JSON lines say what they are. */
struct mr_grid_cell {
    enum mr_json_kind kind;
    struct mr_bytes text;
};

struct mr_grid {
    bool csv;
    const char *names[MR_GRID_COLUMNS_MAX];
    const char *types[MR_GRID_COLUMNS_MAX]; /* behind a ":" in the header; NULL: none */
    size_t n_columns, n_rows;
    struct mr_grid_cell *cells; /* n_rows times n_columns; what is missing is null */
    size_t *lines;              /* of each row, from 1 */
    struct mr_arena arena;
    struct mr_buf file;
};

/* False: *err is MR_STOP, exit code 65, with file and line. The grid is good for fini then too. */
MR_MUSTCHECK bool mr_grid_read(struct mr_grid *grid, const char *path, struct mr_error *err);
void mr_grid_fini(struct mr_grid *grid);

#endif
