/*
 * changelog.c - the change-log feed: what triggers have written into a log is read and applied.
 *
 * One thread; owns its connection. A poll reads the rows that its snapshot sees and the snapshot of
 * the poll before did not, so that each row comes once, whatever the order of commits, and nothing
 * waits for a transaction that is open for long. What cannot be told row by row (log.c) means: read
 * the whole table again. A lost connection is never resumed: the next may lead to another server.
 * Tests: tests/unit/test_postgres_changelog.c.
 */
#include "postgres/changelog.h"
#include "base/clock.h"
#include "base/log.h"

#include <poll.h>
#include <stdlib.h>

enum {
    TICK_MS = 100,
    GAP_MS = 10,   /* between two polls, at least: one takes along what many statements wrote */
    POLL_MS = 1000 /* at most, also without a NOTIFY (a pooler may not pass it on) */
};

struct changelog {
    struct mr_feed base;
    const struct mr_postgres_feed_options *options;
    struct mr_pg pg;
    struct mr_pg_shape *shape;
    struct mr_pg_log log;
    struct mr_pg_trim trim;
    struct mr_feed_state state;
    char *seen;        /* snapshot up to which changes are shown */
    int64_t polled_ms; /* when the last poll began */
    bool news, marked, settled;
};

static bool refuse(struct mr_error *err, const char *why)
{
    return mr_error_set(err, MR_RETRY, MR_EXIT_UNREACHABLE, "%s", why);
}

/* --- load --- */

static bool connect_log(struct changelog *c, struct mr_error *err)
{
    struct mr_buf name = {0};
    mr_buf_printf(&name, "millrace/lookup/%s", c->options->lookup.name);
    mr_pg_fini(&c->pg);
    mr_pg_init(&c->pg, c->options->lookup.dsn, mr_buf_cstr(&name), true);
    c->pg.cancel = c->options->lookup.cancel;
    c->pg.interruptible = true;
    mr_buf_fini(&name);
    return mr_pg_connect(&c->pg, err);
}

/* First the look, then the read: what changes between them shows as a difference. */
static bool load(struct mr_feed *feed, struct mr_table **out, struct mr_error *err)
{
    struct changelog *c = (struct changelog *)feed;
    struct mr_pg_snapshot_options read = {.lookup = &c->options->lookup, .beside = &c->pg};
    struct mr_table *table = NULL;
    int64_t began_ms = mr_clock_mono_ms();
    mr_pg_shape_free(c->shape);
    c->shape = NULL;
    bool ok = connect_log(c, err) && mr_pg_log_open(&c->log, &c->pg, c->options, err) &&
              mr_pg_snapshot_read(&read, &table, &c->shape, err) &&
              mr_pg_log_columns(&c->log, &c->pg, c->shape, err);
    if (ok && !c->shape->seen)
        ok = refuse(err, "the server is a standby, which cannot follow a change-log");
    if (!ok) {
        if (table)
            mr_table_free(table);
        return mr_error_context(err, "the change-log feed of lookup %s", c->options->lookup.name);
    }
    free(c->seen);
    c->seen = mr_strdup(c->shape->seen);
    c->polled_ms = 0;
    c->news = c->marked = c->settled = false;
    c->state.as_of_ms = began_ms;
    *out = table;
    return true;
}

/* --- a poll --- */

static enum mr_feed_event read_again(struct mr_error *err, const char *why)
{
    refuse(err, why);
    return MR_FEED_READ;
}

/* What a refusal of the table's means. */
static enum mr_feed_event event_of(const struct mr_error *err)
{
    return err->action == MR_RECOVER ? MR_FEED_READ : MR_FEED_FAILED;
}

static enum mr_feed_event show(struct changelog *c, struct mr_lookup *lookup,
                               const struct mr_pg_look *look, int64_t began_ms,
                               struct mr_error *err)
{
    if (look->rows && !mr_lookup_publish(lookup, err))
        return event_of(err);
    if (look->rows) {
        int64_t lag_ms = (look->now_us - look->last_us) / 1000 + mr_clock_mono_ms() - began_ms;
        c->state.lag_ms = lag_ms > 0 ? lag_ms : 0;
        c->state.changes += (int64_t)look->rows;
    }
    free(c->seen);
    c->seen = mr_strdup(look->snapshot);
    c->state.as_of_ms = began_ms;
    return MR_FEED_FOLLOWS;
}

static enum mr_feed_event poll_log(struct changelog *c, struct mr_lookup *lookup,
                                   struct mr_error *err)
{
    struct mr_pg_look look = {0};
    enum mr_feed_event event = MR_FEED_FAILED;
    int64_t began_ms = c->polled_ms = mr_clock_mono_ms();
    bool marked = c->marked;
    c->news = false;
    if (!mr_pg_log_look(&c->log, &c->pg, c->seen, lookup, &look, err))
        /* A log that is gone, or no longer to be read: the next load knows better. */
        event = err->action == MR_STOP ? MR_FEED_READ : event_of(err);
    else if (look.differs)
        event = read_again(err, look.differs);
    else
        event = show(c, lookup, &look, began_ms, err);
    if (event == MR_FEED_FOLLOWS && marked) {
        c->marked = false;
        c->settled = true;
    }
    if (event != MR_FEED_FOLLOWS)
        mr_lookup_discard(lookup);
    mr_pg_look_fini(&look);
    return event;
}

/* --- follow --- */

static bool called_off(const struct changelog *c)
{
    const atomic_bool *cancel = c->options->lookup.cancel;
    return cancel && atomic_load(cancel);
}

static void take_notices(struct changelog *c)
{
    for (PGnotify *notice; (notice = PQnotifies(c->pg.conn)); PQfreemem(notice))
        c->news = true;
}

/* A moment, or until something comes. False: the connection is gone. */
static bool wait_for_news(struct changelog *c, int64_t until_ms)
{
    int64_t left = until_ms - mr_clock_mono_ms();
    struct pollfd fd = {.fd = PQsocket(c->pg.conn), .events = POLLIN};
    if (left > 0 && poll(&fd, 1, left < TICK_MS ? (int)left : TICK_MS) > 0 &&
        !PQconsumeInput(c->pg.conn))
        return false;
    take_notices(c);
    return mr_pg_alive(&c->pg);
}

static int64_t due_ms(const struct changelog *c)
{
    if (c->marked)
        return 0;
    return c->polled_ms + (c->news ? GAP_MS : POLL_MS);
}

static enum mr_feed_event follow(struct mr_feed *feed, struct mr_lookup *lookup, int timeout_ms,
                                 struct mr_error *err)
{
    struct changelog *c = (struct changelog *)feed;
    int64_t until = mr_clock_mono_ms() + timeout_ms;
    if (!mr_pg_alive(&c->pg)) {
        refuse(err, "the connection to Postgres is lost");
        return MR_FEED_FAILED;
    }
    take_notices(c);
    for (int64_t due; !called_off(c);) {
        if (mr_clock_mono_ms() >= due_ms(c)) {
            int64_t changes = c->state.changes;
            enum mr_feed_event event = poll_log(c, lookup, err);
            if (event != MR_FEED_FOLLOWS)
                return event;
            take_notices(c);
            mr_pg_trim_step(&c->trim, &c->pg, mr_buf_cstr(&c->log.name), c->options->lookup.name,
                            c->seen);
            if (c->settled || c->state.changes != changes)
                break;
        }
        due = due_ms(c);
        if (mr_clock_mono_ms() >= until)
            break;
        if (!wait_for_news(c, due < until ? due : until)) {
            refuse(err, "the connection to Postgres is lost");
            return MR_FEED_FAILED;
        }
    }
    return MR_FEED_FOLLOWS;
}

/* --- the rest --- */

/* A poll that begins from now on sees what was committed before. */
static bool mark(struct mr_feed *feed, struct mr_error *err)
{
    struct changelog *c = (struct changelog *)feed;
    if (!mr_pg_alive(&c->pg))
        return refuse(err, "the connection to Postgres is lost");
    c->marked = true;
    c->settled = false;
    return true;
}

static bool reached(struct mr_feed *feed)
{
    return ((struct changelog *)feed)->settled;
}

static struct mr_feed_state state(struct mr_feed *feed)
{
    return ((struct changelog *)feed)->state;
}

static void close_log(struct mr_feed *feed)
{
    struct changelog *c = (struct changelog *)feed;
    mr_pg_log_fini(&c->log);
    mr_pg_fini(&c->pg);
    mr_pg_shape_free(c->shape);
    free(c->seen);
    free(c);
}

struct mr_feed *mr_pg_changelog_new(const struct mr_postgres_feed_options *options)
{
    static const struct mr_feed_ops ops = {load, follow, mark, reached, state, close_log};
    struct changelog *c = mr_calloc(1, sizeof *c);
    *c = (struct changelog){
        .base = {&ops}, .options = options, .state = {.kind = MR_FEED_CHANGELOG, .lag_ms = -1}};
    return &c->base;
}
