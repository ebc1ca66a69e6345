/*
 * trim.c - what is deleted from a change-log: rows that whoever follows it has seen long ago.
 *
 * One thread. What was over when a snapshot was taken half an hour ago has been seen by every feed
 * that still looks: others read the table again (log.c). So no feed needs to know of the others,
 * and a transaction that was open for long is not overlooked. Tests:
 * tests/unit/test_postgres_changelog.c.
 */
#include "postgres/changelog.h"
#include "base/clock.h"
#include "base/log.h"

#include <inttypes.h>
#include <stdlib.h>

enum { TRIM_ROWS = 20000, MARK_EVERY_MS = MR_PG_LOG_KEEP_MS / (MR_PG_LOG_MARKS - 2) };

/* 0: nothing is old enough. */
static uint64_t settled_xid(struct mr_pg_trim *trim, const char *seen)
{
    int64_t now = mr_clock_mono_ms();
    unsigned newest = (trim->n_marks + MR_PG_LOG_MARKS - 1) % MR_PG_LOG_MARKS;
    if (!trim->n_marks || now - trim->marks[newest].at_ms >= MARK_EVERY_MS) {
        unsigned next = trim->n_marks++ % MR_PG_LOG_MARKS;
        trim->marks[next].at_ms = now;
        trim->marks[next].xmin = strtoull(seen, NULL, 10);
        trim->trimming = true;
    }
    uint64_t xid = 0;
    for (unsigned i = 0; i < MR_PG_LOG_MARKS && i < trim->n_marks; i++)
        if (now - trim->marks[i].at_ms >= MR_PG_LOG_KEEP_MS && trim->marks[i].xmin > xid)
            xid = trim->marks[i].xmin;
    if (!xid)
        trim->trimming = false;
    return xid;
}

void mr_pg_trim_step(struct mr_pg_trim *trim, struct mr_pg *pg, const char *log, const char *lookup,
                     const char *seen)
{
    uint64_t xid = settled_xid(trim, seen);
    if (!xid || !trim->trimming || trim->may_not)
        return;
    struct mr_buf sql = {0};
    struct mr_error err;
    mr_buf_printf(&sql,
                  "BEGIN READ WRITE; DELETE FROM %s WHERE ctid = ANY (ARRAY(SELECT ctid FROM %s "
                  "WHERE millrace_xid < '%" PRIu64 "' LIMIT %d)); COMMIT",
                  log, log, xid, TRIM_ROWS);
    if (!PQsendQuery(pg->conn, mr_buf_cstr(&sql)))
        goto out;
    for (PGresult *res; (res = mr_pg_next(pg, MR_PG_REPLY_MS)); PQclear(res)) {
        if (strncmp(PQcmdStatus(res), "DELETE", 6) == 0)
            trim->trimming = atoi(PQcmdTuples(res)) == TRIM_ROWS;
        if (mr_pg_expect(pg, res, PGRES_COMMAND_OK, MR_PG_READ, "trimming the change-log", &err))
            continue;
        trim->may_not = err.action == MR_STOP;
        trim->trimming = false; /* until the next mark */
        mr_log(MR_WARN, "lookup %s: %s%s", lookup, err.msg,
               trim->may_not ? "; it grows until its owner grants DELETE on it" : "");
    }
    if (mr_pg_alive(pg) && PQtransactionStatus(pg->conn) != PQTRANS_IDLE)
        PQclear(mr_pg_query(pg, "ROLLBACK", NULL));
out:
    mr_buf_fini(&sql);
}

/* --- a log that nobody here reads --- */

/* A snapshot, if there is a change-log and the right to delete from it. */
static PGresult *ask_snapshot(struct mr_pg *pg, const char *log)
{
    static const char sql[] =
        "SELECT pg_catalog.pg_current_snapshot() FROM pg_catalog.pg_attribute "
        "WHERE attrelid = pg_catalog.to_regclass($1) AND attname = 'millrace_xid' "
        "AND NOT pg_catalog.pg_is_in_recovery() "
        "AND pg_catalog.has_table_privilege(attrelid, 'DELETE')";
    struct mr_pg_args args = {0};
    mr_pg_arg_text(&args, log);
    return mr_pg_query(pg, sql, &args);
}

void mr_pg_trim_unused(struct mr_pg_trim *trim, struct mr_pg *pg,
                       const struct mr_postgres_feed_options *options)
{
    struct mr_buf log = {0}, name = {0};
    struct mr_error ignored;
    PGresult *res = NULL;
    if (!options->changelog || options->lookup.query ||
        (!trim->trimming && mr_clock_mono_ms() < trim->next_ms))
        return;
    trim->next_ms = mr_clock_mono_ms() + MARK_EVERY_MS;
    if (!mr_pg_put_table(&log, options->changelog, &ignored))
        goto out;
    if (!mr_pg_alive(pg)) {
        mr_buf_printf(&name, "millrace/lookup/%s", options->lookup.name);
        mr_pg_fini(pg);
        mr_pg_init(pg, options->lookup.dsn, mr_buf_cstr(&name), true);
        pg->cancel = options->lookup.cancel;
        pg->interruptible = true;
        trim->trimming = false;
        if (!mr_pg_connect(pg, &ignored))
            goto out;
    }
    res = ask_snapshot(pg, mr_buf_cstr(&log));
    if (PQresultStatus(res) == PGRES_TUPLES_OK && PQntuples(res))
        mr_pg_trim_step(trim, pg, mr_buf_cstr(&log), options->lookup.name, PQgetvalue(res, 0, 0));
    else
        trim->trimming = false;
    if (!trim->trimming)
        mr_pg_fini(pg);
out:
    PQclear(res);
    mr_buf_fini(&log);
    mr_buf_fini(&name);
}
