/*
 * shape.c - what a lookup reads: its SELECT, and the names and types of the columns that come.
 *
 * One thread a call; owns nothing but what it gives. Keys first, then the configured columns, or
 * all that are not keys, then those by which rows will be told (ids). What Postgres describes are
 * base types: domains are resolved already. Must not know how rows are read. Tests:
 * tests/unit/test_postgres_lookup.c.
 */
#include "postgres/snapshot.h"
#include "postgres/values.h"

#include <stdlib.h>

struct work {
    struct mr_pg *pg;
    const struct mr_pg_snapshot_options *options;
    struct mr_buf source, *select; /* FROM what; the SELECT of all columns */
    const char **names;            /* of the columns */
    size_t n_columns, n;           /* without the ids; with them */
    PGresult *all;                 /* description of SELECT *, owns names taken from it */
};

static bool expect(struct work *w, const PGresult *res, ExecStatusType status, const char *doing,
                   struct mr_error *err)
{
    return mr_pg_expect(w->pg, res, status, MR_PG_READ, doing, err);
}

void mr_pg_shape_free(struct mr_pg_shape *shape)
{
    if (!shape)
        return;
    mr_lookup_schema_free(shape->schema);
    for (size_t i = 0; shape->names && i < shape->n_columns + shape->n_ids; i++)
        free((char *)shape->names[i]);
    free(shape->names);
    free(shape->oids);
    free(shape->seen);
    free(shape);
}

/* --- what is read --- */

static bool make_source(struct work *w, struct mr_error *err)
{
    const struct mr_postgres_lookup_options *o = w->options->lookup;
    if (!o->query)
        return mr_pg_put_table(&w->source, o->table, err);
    size_t len = strlen(o->query);
    while (len && strchr(" \t\r\n;", o->query[len - 1]))
        len--;
    mr_buf_put_char(&w->source, '(');
    mr_buf_put(&w->source, o->query, len);
    mr_buf_put_text(&w->source,
                    "\n) AS q"); /* on a line of its own: the query may end in a comment */
    return true;
}

/* Prepares and describes, one round trip. */
static PGresult *describe_sql(struct work *w, const char *sql, struct mr_error *err)
{
    static const char doing[] = "describing what the lookup reads";
    PGresult *results[2] = {NULL}, *out = NULL;
    if (mr_pg_pipe_begin(w->pg)) {
        mr_pg_pipe_prepare(w->pg, "", sql);
        mr_pg_pipe_describe(w->pg, "");
        (void)mr_pg_pipe_run(w->pg, results, 2); /* what went wrong is in the results */
    }
    if (expect(w, results[0], PGRES_COMMAND_OK, doing, err) &&
        expect(w, results[1], PGRES_COMMAND_OK, doing, err)) {
        out = results[1];
        results[1] = NULL;
    }
    mr_pg_clear(results, 2);
    return out;
}

static bool is_key(const struct mr_postgres_lookup_options *o, const char *name)
{
    for (size_t i = 0; i < o->n_keys; i++)
        if (strcmp(o->keys[i], name) == 0)
            return true;
    return false;
}

static bool choose_names(struct work *w, struct mr_error *err)
{
    const struct mr_postgres_lookup_options *o = w->options->lookup;
    struct mr_buf sql = {0};
    size_t n_all = 0;
    bool ok = true;
    if (!o->n_columns) {
        mr_buf_printf(&sql, "SELECT * FROM %s", mr_buf_cstr(&w->source));
        w->all = describe_sql(w, mr_buf_cstr(&sql), err);
        ok = w->all != NULL;
        n_all = ok ? (size_t)PQnfields(w->all) : 0;
    }
    w->names = mr_calloc(o->n_keys + o->n_columns + n_all + w->options->n_ids, sizeof *w->names);
    for (size_t i = 0; i < o->n_keys; i++)
        w->names[w->n++] = o->keys[i];
    for (size_t i = 0; i < o->n_columns; i++)
        w->names[w->n++] = o->columns[i];
    for (size_t i = 0; i < n_all; i++)
        if (!is_key(o, PQfname(w->all, (int)i)))
            w->names[w->n++] = PQfname(w->all, (int)i);
    w->n_columns = w->n;
    for (size_t i = 0; i < w->options->n_ids; i++)
        w->names[w->n++] = w->options->ids[i];
    mr_buf_put_text(w->select, "SELECT ");
    for (size_t i = 0; i < w->n; i++) {
        if (i)
            mr_buf_put_text(w->select, ", ");
        mr_pg_put_ident(w->select, w->names[i]);
    }
    mr_buf_printf(w->select, " FROM %s", mr_buf_cstr(&w->source));
    mr_buf_fini(&sql);
    return ok;
}

/* --- its types --- */

/* For each of the two parallel lists: type, is it text, its name. */
static const char types_sql[] =
    "SELECT y.oid, y.typtype = 'e' OR y.typsend::oid::regproc::text IN "
    "('textsend', 'varcharsend', 'bpcharsend', 'namesend', 'citextsend') "
    "OR y.typsend::oid::regproc::text LIKE '%.citextsend', pg_catalog.format_type(u.typ, u.mod) "
    "FROM ROWS FROM (pg_catalog.unnest($1::oid[]), pg_catalog.unnest($2::int[])) "
    "WITH ORDINALITY AS u (typ, mod, i) "
    "JOIN pg_catalog.pg_type y ON y.oid = u.typ ORDER BY u.i";

static PGresult *ask_types(struct work *w, const PGresult *described, struct mr_error *err)
{
    struct mr_buf oids = {0}, mods = {0};
    struct mr_pg_args args = {0};
    for (int i = 0; i < PQnfields(described); i++) {
        mr_buf_printf(&oids, "%c%u", i ? ',' : '{', PQftype(described, i));
        mr_buf_printf(&mods, "%c%d", i ? ',' : '{', PQfmod(described, i));
    }
    mr_buf_put_char(&oids, '}');
    mr_buf_put_char(&mods, '}');
    mr_pg_arg_text(&args, mr_buf_cstr(&oids));
    mr_pg_arg_text(&args, mr_buf_cstr(&mods));
    PGresult *res = mr_pg_query(w->pg, types_sql, &args);
    if (!expect(w, res, PGRES_TUPLES_OK, "looking up the types of the lookup", err)) {
        PQclear(res);
        res = NULL;
    }
    mr_buf_fini(&oids);
    mr_buf_fini(&mods);
    return res;
}

static bool refuse_type(const char *name, const char *type_name, bool is_id, struct mr_error *err)
{
    return mr_error_set(err, MR_STOP, MR_EXIT_CONFIG,
                        is_id ? "column \"%s\" of the replica identity has type %s, by which a "
                                "lookup cannot tell rows: it carries %s"
                              : "column \"%s\" has type %s, which a lookup cannot carry: it "
                                "carries %s. List the columns that are wanted in `columns`, or "
                                "cast it in `query`",
                        name, type_name, mr_pg_decodable_types);
}

static bool fill(const struct work *w, const PGresult *types, struct mr_pg_shape *shape,
                 struct mr_error *err)
{
    mr_assert((size_t)PQntuples(types) == w->n);
    struct mr_lookup_column *columns = mr_calloc(w->n, sizeof *columns);
    bool ok = true;
    shape->n_columns = w->n_columns;
    shape->n_ids = w->options->n_ids;
    shape->names = mr_calloc(w->n, sizeof *shape->names);
    shape->oids = mr_calloc(w->n, sizeof *shape->oids);
    for (size_t i = 0; ok && i < w->n; i++) {
        int row = (int)i;
        shape->names[i] = mr_strdup(w->names[i]);
        shape->oids[i] = (uint32_t)strtoul(PQgetvalue(types, row, 0), NULL, 10);
        columns[i] = (struct mr_lookup_column){
            .name = w->names[i],
            .type = mr_pg_decoded_type(shape->oids[i], *PQgetvalue(types, row, 1) == 't'),
            .type_name = PQgetvalue(types, row, 2)};
        ok = columns[i].type != MR_NULL ||
             refuse_type(w->names[i], columns[i].type_name, i >= w->n_columns, err);
    }
    struct mr_lookup_schema schema = {.name = w->options->lookup->name,
                                      .columns = columns,
                                      .n_keys = w->options->lookup->n_keys,
                                      .n_columns = w->n_columns};
    if (ok)
        shape->schema = mr_lookup_schema_copy(&schema);
    free(columns);
    return ok;
}

bool mr_pg_shape_describe(struct mr_pg *pg, const struct mr_pg_snapshot_options *options,
                          struct mr_buf *select, struct mr_pg_shape **out, struct mr_error *err)
{
    struct work w = {.pg = pg, .options = options, .select = select};
    struct mr_pg_shape *shape = mr_calloc(1, sizeof *shape);
    PGresult *described = NULL, *types = NULL;
    bool ok = make_source(&w, err) && choose_names(&w, err);
    if (!ok)
        goto out;
    described = describe_sql(&w, mr_buf_cstr(select), err);
    types = described ? ask_types(&w, described, err) : NULL;
    ok = types && fill(&w, types, shape, err);
out:
    if (ok)
        *out = shape;
    else
        mr_pg_shape_free(shape);
    PQclear(types);
    PQclear(described);
    PQclear(w.all);
    mr_buf_fini(&w.source);
    free(w.names);
    return ok;
}
