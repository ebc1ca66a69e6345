/*
 * snapshot.c - a table or query read whole, by one binary COPY, into a lookup table.
 *
 * One thread a call; owns its connection for the length of the call. A read-only repeatable read
 * transaction, so that types and rows are of one moment. Rows are parsed where libpq put them
 * (tuples.c). Must not know how the table is laid out. Tests: tests/unit/test_postgres.c.
 */
#include "postgres/pg.h"
#include "postgres/tuples.h"
#include "postgres/values.h"
#include "postgres/postgres.h"
#include "base/arena.h"
#include "base/clock.h"

#include <stdlib.h>

enum { PROGRESS_MS = 100, LOOK_EVERY = 1024 };

struct described {
    struct mr_lookup_schema schema; /* first: it is what is given out */
    struct mr_lookup_column *columns;
    uint32_t *oids; /* base types */
    struct mr_arena arena;
};

struct reader {
    const struct mr_postgres_lookup_options *options;
    struct mr_pg pg;
    struct mr_buf source, select; /* FROM what; the SELECT of keys and columns */
    const char **names;           /* of the columns, keys first */
    size_t n;
    PGresult *all; /* description of SELECT *, owns names taken from it */
    struct described *described;
    struct mr_pg_tuples *tuples; /* while rows are read */
    uint64_t estimated, bytes;
    int64_t next_progress_ms;
};

static void described_free(struct described *d)
{
    if (!d)
        return;
    mr_arena_fini(&d->arena);
    free(d);
}

void mr_postgres_lookup_schema_free(struct mr_lookup_schema *schema)
{
    described_free((struct described *)schema);
}

static bool expect(struct reader *r, const PGresult *res, ExecStatusType status, const char *doing,
                   struct mr_error *err)
{
    return mr_pg_expect(&r->pg, res, status, MR_PG_READ, doing, err);
}

static bool execute(struct reader *r, const char *sql, const char *doing, struct mr_error *err)
{
    PGresult *res = mr_pg_query(&r->pg, sql, NULL);
    bool ok = expect(r, res, PGRES_COMMAND_OK, doing, err);
    PQclear(res);
    return ok;
}

/* --- what is read --- */

static bool make_source(struct reader *r, struct mr_error *err)
{
    const struct mr_postgres_lookup_options *o = r->options;
    if (!o->query)
        return mr_pg_put_table(&r->source, o->table, err);
    size_t len = strlen(o->query);
    while (len && strchr(" \t\r\n;", o->query[len - 1]))
        len--;
    mr_buf_put_char(&r->source, '(');
    mr_buf_put(&r->source, o->query, len);
    mr_buf_put_text(&r->source,
                    "\n) AS q"); /* on a line of its own: the query may end in a comment */
    return true;
}

/* Prepares and describes, one round trip. */
static PGresult *describe_sql(struct reader *r, const char *sql, struct mr_error *err)
{
    static const char doing[] = "describing what the lookup reads";
    PGresult *results[2] = {NULL}, *out = NULL;
    if (mr_pg_pipe_begin(&r->pg)) {
        mr_pg_pipe_prepare(&r->pg, "", sql);
        mr_pg_pipe_describe(&r->pg, "");
        (void)mr_pg_pipe_run(&r->pg, results, 2); /* what went wrong is in the results */
    }
    if (expect(r, results[0], PGRES_COMMAND_OK, doing, err) &&
        expect(r, results[1], PGRES_COMMAND_OK, doing, err)) {
        out = results[1];
        results[1] = NULL;
    }
    mr_pg_clear(results, 2);
    return out;
}

static bool is_key(const struct reader *r, const char *name)
{
    for (size_t i = 0; i < r->options->n_keys; i++)
        if (strcmp(r->options->keys[i], name) == 0)
            return true;
    return false;
}

/* Keys first, then the configured columns, or all that are not keys. */
static bool choose_names(struct reader *r, struct mr_error *err)
{
    const struct mr_postgres_lookup_options *o = r->options;
    struct mr_buf sql = {0};
    size_t n_all = 0;
    bool ok = true;
    if (!o->n_columns) {
        mr_buf_printf(&sql, "SELECT * FROM %s", mr_buf_cstr(&r->source));
        r->all = describe_sql(r, mr_buf_cstr(&sql), err);
        ok = r->all != NULL;
        n_all = ok ? (size_t)PQnfields(r->all) : 0;
    }
    r->names = mr_calloc(o->n_keys + o->n_columns + n_all, sizeof *r->names);
    for (size_t i = 0; i < o->n_keys; i++)
        r->names[r->n++] = o->keys[i];
    for (size_t i = 0; i < o->n_columns; i++)
        r->names[r->n++] = o->columns[i];
    for (size_t i = 0; i < n_all; i++)
        if (!is_key(r, PQfname(r->all, (int)i)))
            r->names[r->n++] = PQfname(r->all, (int)i);
    mr_buf_put_text(&r->select, "SELECT ");
    for (size_t i = 0; i < r->n; i++) {
        if (i)
            mr_buf_put_text(&r->select, ", ");
        mr_pg_put_ident(&r->select, r->names[i]);
    }
    mr_buf_printf(&r->select, " FROM %s", mr_buf_cstr(&r->source));
    mr_buf_fini(&sql);
    return ok;
}

/* --- its types --- */

/* For each of the two parallel lists: type, is it text, its name. What Postgres describes are base
 * types: domains are resolved already. */
static const char types_sql[] =
    "SELECT y.oid, y.typtype = 'e' OR y.typsend::oid::regproc::text IN "
    "('textsend', 'varcharsend', 'bpcharsend', 'namesend', 'citextsend') "
    "OR y.typsend::oid::regproc::text LIKE '%.citextsend', pg_catalog.format_type(u.typ, u.mod) "
    "FROM ROWS FROM (pg_catalog.unnest($1::oid[]), pg_catalog.unnest($2::int[])) "
    "WITH ORDINALITY AS u (typ, mod, i) "
    "JOIN pg_catalog.pg_type y ON y.oid = u.typ ORDER BY u.i";

static PGresult *ask_types(struct reader *r, const PGresult *described, struct mr_error *err)
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
    PGresult *res = mr_pg_query(&r->pg, types_sql, &args);
    if (!expect(r, res, PGRES_TUPLES_OK, "looking up the types of the lookup", err)) {
        PQclear(res);
        res = NULL;
    }
    mr_buf_fini(&oids);
    mr_buf_fini(&mods);
    return res;
}

static bool fill(struct reader *r, const PGresult *types, struct mr_error *err)
{
    struct described *d = r->described = mr_calloc(1, sizeof *d);
    mr_arena_init(&d->arena);
    mr_assert((size_t)PQntuples(types) == r->n);
    d->columns = mr_arena_alloc(&d->arena, r->n * sizeof *d->columns);
    d->oids = mr_arena_alloc(&d->arena, r->n * sizeof *d->oids);
    for (size_t i = 0; i < r->n; i++) {
        int row = (int)i;
        d->oids[i] = (uint32_t)strtoul(PQgetvalue(types, row, 0), NULL, 10);
        enum mr_type type = mr_pg_decoded_type(d->oids[i], *PQgetvalue(types, row, 1) == 't');
        if (type == MR_NULL)
            return mr_error_set(
                err, MR_STOP, MR_EXIT_CONFIG,
                "column \"%s\" has type %s, which a lookup cannot carry: it carries %s. "
                "List the columns that are wanted in `columns`, or cast it in `query`",
                r->names[i], PQgetvalue(types, row, 2), mr_pg_decodable_types);
        d->columns[i] = (struct mr_lookup_column){
            .name = mr_arena_strdup(&d->arena, r->names[i]),
            .type = type,
            .type_name = mr_arena_strdup(&d->arena, PQgetvalue(types, row, 2))};
    }
    d->schema = (struct mr_lookup_schema){.name = mr_arena_strdup(&d->arena, r->options->name),
                                          .columns = d->columns,
                                          .n_keys = r->options->n_keys,
                                          .n_columns = r->n};
    return true;
}

static bool describe(struct reader *r, struct mr_error *err)
{
    PGresult *described = NULL, *types = NULL;
    bool ok = make_source(r, err) && choose_names(r, err);
    if (!ok)
        goto out;
    described = describe_sql(r, mr_buf_cstr(&r->select), err);
    types = described ? ask_types(r, described, err) : NULL;
    ok = types && fill(r, types, err);
out:
    PQclear(types);
    PQclear(described);
    return ok;
}

/* "... (cost=0.00..1.10 rows=10 width=64)": a guess for the progress bar, 0 if there is none. What
 * is refused here (no right to the table) would be refused below, and has aborted the transaction.
 */
static bool estimate(struct reader *r, struct mr_error *err)
{
    struct mr_buf sql = {0};
    mr_buf_printf(&sql, "EXPLAIN %s", mr_buf_cstr(&r->select));
    PGresult *res = mr_pg_query(&r->pg, mr_buf_cstr(&sql), NULL);
    bool ok = expect(r, res, PGRES_TUPLES_OK, "reading the lookup", err);
    if (ok && PQntuples(res)) {
        const char *rows = strstr(PQgetvalue(res, 0, 0), " rows=");
        r->estimated = rows ? strtoull(rows + 6, NULL, 10) : 0;
    }
    PQclear(res);
    mr_buf_fini(&sql);
    return ok;
}

/* --- the rows --- */

static void report(struct reader *r, bool last)
{
    int64_t now = mr_clock_mono_ms();
    if (!r->options->progress || (!last && now < r->next_progress_ms))
        return;
    r->next_progress_ms = now + PROGRESS_MS;
    r->options->progress(r->options->progress_arg, mr_pg_tuples_rows(r->tuples), r->estimated,
                         r->bytes);
}

static bool called_off(struct reader *r, struct mr_error *err)
{
    if (!r->options->cancel || !atomic_load(r->options->cancel))
        return false;
    mr_error_set(err, MR_RETRY, MR_EXIT_TRY_AGAIN, "the read was called off");
    return true;
}

static bool read_rows(struct reader *r, struct mr_error *err)
{
    static const char doing[] = "reading the lookup";
    for (uint64_t messages = 0;; messages++) {
        char *row = NULL;
        int len = PQgetCopyData(r->pg.conn, &row, 1);
        if (len < 0)
            break; /* the end, or an error: the result says which */
        if (len == 0) {
            report(r, false);
            if (!mr_pg_wait_readable(&r->pg, MR_PG_FOREVER_MS) || !PQconsumeInput(r->pg.conn))
                return called_off(r, err) ? false : expect(r, NULL, PGRES_COMMAND_OK, doing, err);
            continue;
        }
        r->bytes += (uint64_t)len;
        bool ok = mr_pg_tuples_put(r->tuples, row, (size_t)len, err);
        PQfreemem(row);
        if (!ok)
            return false;
        if (messages % LOOK_EVERY == 0) {
            report(r, false);
            if (called_off(r, err))
                return false;
        }
    }
    PGresult *res = mr_pg_next(&r->pg, MR_PG_REPLY_MS);
    bool ok = expect(r, res, PGRES_COMMAND_OK, doing, err) && mr_pg_tuples_end(r->tuples, err);
    PQclear(res);
    return ok;
}

static bool copy_out(struct reader *r, struct mr_table_builder *builder, struct mr_error *err)
{
    struct mr_buf sql = {0};
    r->tuples = mr_pg_tuples_new(r->described->oids, r->n, builder);
    mr_buf_printf(&sql, "COPY (%s) TO STDOUT (FORMAT binary)", mr_buf_cstr(&r->select));
    PGresult *res = mr_pg_query(&r->pg, mr_buf_cstr(&sql), NULL);
    bool ok = expect(r, res, PGRES_COPY_OUT, "reading the lookup", err) && read_rows(r, err);
    PQclear(res);
    mr_buf_fini(&sql);
    return ok;
}

/* --- the whole --- */

static bool reader_open(struct reader *r, const struct mr_postgres_lookup_options *options,
                        struct mr_error *err)
{
    *r = (struct reader){.options = options};
    struct mr_buf name = {0};
    mr_buf_printf(&name, "millrace/lookup/%s", options->name);
    mr_pg_init(&r->pg, options->dsn, mr_buf_cstr(&name), true);
    mr_buf_fini(&name);
    r->pg.cancel = options->cancel;
    r->pg.interruptible = true;
    return mr_pg_connect(&r->pg, err) &&
           execute(r, "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY", "reading the lookup",
                   err) &&
           describe(r, err);
}

static void reader_close(struct reader *r)
{
    mr_pg_fini(&r->pg);
    mr_pg_tuples_free(r->tuples);
    PQclear(r->all);
    mr_buf_fini(&r->source);
    mr_buf_fini(&r->select);
    free(r->names);
    described_free(r->described);
}

bool mr_postgres_lookup_load(const struct mr_postgres_lookup_options *options,
                             struct mr_table **out, struct mr_error *err)
{
    struct reader r;
    struct mr_table_builder *builder = NULL;
    bool ok = reader_open(&r, options, err) && estimate(&r, err);
    if (!ok)
        goto out;
    builder = mr_table_builder_new(&r.described->schema, options->distinct, options->max_bytes);
    ok = copy_out(&r, builder, err);
    if (!ok)
        goto out;
    report(&r, true);
    ok = mr_table_builder_finish(builder, out, err);
    builder = NULL;
out:
    mr_table_builder_free(builder);
    reader_close(&r);
    return ok;
}

bool mr_postgres_lookup_schema(const struct mr_postgres_lookup_options *options,
                               struct mr_lookup_schema **out, struct mr_error *err)
{
    struct reader r;
    bool ok = reader_open(&r, options, err);
    if (ok) {
        *out = &r.described->schema;
        r.described = NULL;
    }
    reader_close(&r);
    return ok;
}
