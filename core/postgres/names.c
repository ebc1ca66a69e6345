/*
 * names.c - names of tables and columns, checked and quoted, so that configuration never becomes
 * SQL.
 *
 * Pure; any thread; owns nothing. Names are taken exactly as written: `Orders` is "Orders", never
 * orders. Must not know the database. Tests: tests/unit/test_postgres_rows.c.
 */
#include "postgres/feed.h"
#include "base/text.h"

enum { IDENT_MAX = 63 }; /* NAMEDATALEN - 1: longer names would be cut by the server */

void mr_pg_put_ident(struct mr_buf *sql, const char *name)
{
    mr_buf_put_char(sql, '"');
    for (; *name; name++) {
        if (*name == '"')
            mr_buf_put_char(sql, '"');
        mr_buf_put_char(sql, *name);
    }
    mr_buf_put_char(sql, '"');
}

void mr_pg_put_literal(struct mr_buf *sql, const char *text)
{
    /* E'' means the same whatever standard_conforming_strings says. */
    mr_buf_put_text(sql, "E'");
    for (; *text; text++) {
        if (*text == '\'' || *text == '\\')
            mr_buf_put_char(sql, *text);
        mr_buf_put_char(sql, *text);
    }
    mr_buf_put_char(sql, '\'');
}

/* Reads one part at `at` into `part`; returns what follows it, or NULL if it is none. */
static const char *read_part(const char *at, char part[IDENT_MAX + 1])
{
    size_t len = 0;
    bool quoted = *at == '"';
    if (quoted)
        at++;
    for (;; at++) {
        if (quoted && at[0] == '"' && at[1] == '"')
            at++;
        else if (quoted ? *at == '"' : *at == '.' || !*at)
            break;
        else if (!*at || (!quoted && *at == '"'))
            return NULL;
        if (len == IDENT_MAX)
            return NULL;
        part[len++] = *at;
    }
    part[len] = '\0';
    if (!len || !mr_text_utf8_valid(part, len))
        return NULL;
    return at + quoted;
}

bool mr_pg_put_table(struct mr_buf *sql, const char *table, struct mr_error *err)
{
    char first[IDENT_MAX + 1], second[IDENT_MAX + 1];
    const char *rest = read_part(table, first);
    if (rest && *rest == '.')
        rest = read_part(rest + 1, second);
    else
        second[0] = '\0';
    if (!rest || *rest)
        return mr_error_set(
            err, MR_STOP, MR_EXIT_CONFIG,
            "\"%s\" does not name a table: write table or schema.table, each at most "
            "%d bytes, a part with a dot in it in double quotes",
            table, IDENT_MAX);
    mr_pg_put_ident(sql, first);
    if (second[0]) {
        mr_buf_put_char(sql, '.');
        mr_pg_put_ident(sql, second);
    }
    return true;
}

bool mr_postgres_table_check(const char *table, struct mr_error *err)
{
    struct mr_buf sql = {0};
    bool ok = mr_pg_put_table(&sql, table, err);
    mr_buf_fini(&sql);
    return ok;
}

bool mr_pg_log_name(const char *changelog, char name[MR_PG_LOG_NAME_MAX + 1], struct mr_error *err)
{
    char first[IDENT_MAX + 1], second[IDENT_MAX + 1];
    if (!mr_postgres_table_check(changelog, err))
        return false;
    const char *rest = read_part(changelog, first), *part = first;
    if (*rest == '.') {
        (void)read_part(rest + 1, second);
        part = second;
    }
    if (strlen(part) > MR_PG_LOG_NAME_MAX || strchr(part, '$'))
        return mr_error_set(err, MR_STOP, MR_EXIT_CONFIG,
                            "the change-log's name \"%s\" is used in the names of triggers: "
                            "expected at most %d bytes without a $",
                            part, MR_PG_LOG_NAME_MAX);
    memcpy(name, part, strlen(part) + 1);
    return true;
}

bool mr_pg_schema_name(const char *table, char name[MR_PG_IDENT_SIZE])
{
    char first[IDENT_MAX + 1];
    const char *rest = read_part(table, first);
    if (!rest || *rest != '.')
        return false;
    memcpy(name, first, sizeof first);
    return true;
}
