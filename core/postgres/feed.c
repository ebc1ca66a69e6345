/*
 * feed.c - a lookup's feed: with each load the best kind that the server allows, and the reload
 * kind itself.
 *
 * One thread. Owns the kind in use; under `auto` a lesser one looks about once a minute whether a
 * better one can be had by now. A better one that the server seemed to allow, and that then failed,
 * is tried again ever more seldom. Must not know how a kind follows. Tests:
 * tests/unit/test_postgres_changelog.c.
 */
#include "postgres/changelog.h"
#include "base/clock.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { STEP_MS = 100, LOOK_MS = 60000, LOOK_MAX_MS = 3600000, TRIES = 3 };

struct chooser {
    struct mr_feed base;
    const struct mr_postgres_feed_options *options;
    struct mr_pg_survey survey;
    struct mr_feed *kind;       /* NULL before the first load, and for reload */
    struct mr_feed_state state; /* of reload; `why` of all */
    unsigned failed;            /* loads of the best kind in a row */
    bool loaded;                /* there was a load: what is refused now may be allowed again */
    int64_t loaded_ms, look_ms; /* when the last load began; when to look again */
    int64_t patience_ms;        /* between two looks; doubles when a better kind failed */
    int64_t changes;            /* of kinds that are closed */
    struct mr_pg_trim trim;     /* of a change-log that is written, but not read here */
    struct mr_pg trimmer;
};

/* --- the choice --- */

static int64_t look_ms(const struct mr_postgres_feed_options *options)
{
    return options->look_ms ? options->look_ms : LOOK_MS;
}

static bool survey_now(struct chooser *c, struct mr_pg_survey *out, struct mr_error *err)
{
    struct mr_pg pg = {0};
    /* Nothing depends on what the server would say. */
    if (c->options->refresh == MR_POSTGRES_REFRESH_RELOAD || c->options->lookup.query)
        return mr_pg_survey_make(NULL, c->options, out, err);
    struct mr_buf name = {0};
    mr_buf_printf(&name, "millrace/lookup/%s", c->options->lookup.name);
    mr_pg_init(&pg, c->options->lookup.dsn, mr_buf_cstr(&name), true);
    pg.cancel = c->options->lookup.cancel;
    pg.interruptible = true;
    bool ok = mr_pg_connect(&pg, err) && mr_pg_survey_make(&pg, c->options, out, err);
    mr_pg_fini(&pg);
    mr_buf_fini(&name);
    return ok;
}

static struct mr_feed *kind_new(struct chooser *c, enum mr_feed_kind kind)
{
    switch (kind) {
    case MR_FEED_LOGICAL:
        return mr_pg_logical_new(c->options, &c->survey);
    case MR_FEED_CHANGELOG:
        return mr_pg_changelog_new(c->options);
    default:
        return NULL;
    }
}

static void close_kind(struct chooser *c)
{
    if (c->kind) {
        c->changes += c->kind->ops->state(c->kind).changes;
        c->kind->ops->close(c->kind);
    }
    c->kind = NULL;
}

static void set_why(struct chooser *c, const char *why)
{
    snprintf(c->state.why, sizeof c->state.why, "%s", why);
}

static bool read_whole(struct chooser *c, struct mr_table **out, struct mr_error *err)
{
    struct mr_pg_snapshot_options read = {.lookup = &c->options->lookup};
    int64_t began_ms = mr_clock_mono_ms();
    if (!mr_pg_snapshot_read(&read, out, NULL, err))
        return false;
    c->state.as_of_ms = began_ms;
    return true;
}

/* Reads as this kind. */
static bool load_as(struct chooser *c, enum mr_feed_kind kind, struct mr_table **out,
                    struct mr_error *err)
{
    close_kind(c);
    c->state.kind = kind;
    c->kind = kind_new(c, kind);
    return c->kind ? c->kind->ops->load(c->kind, out, err) : read_whole(c, out, err);
}

static bool called_off(const struct chooser *c)
{
    const atomic_bool *cancel = c->options->lookup.cancel;
    return cancel && atomic_load(cancel);
}

/* Under `auto` a kind that fails makes room for the next, and is tried again later. */
static bool load_lesser(struct chooser *c, enum mr_feed_kind kind, struct mr_table **out,
                        struct mr_error *err)
{
    struct mr_error first = *err;
    char why[sizeof c->state.why];
    enum mr_feed_kind lesser =
        kind == MR_FEED_LOGICAL && !*c->survey.no_changelog ? MR_FEED_CHANGELOG : MR_FEED_RELOAD;
    if (!load_as(c, lesser, out, err)) {
        *err = first;
        return false;
    }
    snprintf(why, sizeof why, "%s feed: %.400s", mr_feed_kind_name(kind), first.msg);
    set_why(c, why);
    c->patience_ms = c->patience_ms * 2 < LOOK_MAX_MS ? c->patience_ms * 2 : LOOK_MAX_MS;
    return true;
}

/* A person is needed only as long as nothing has worked: afterwards the table that there is serves
 * until somebody has put it right. */
static bool give_up(const struct chooser *c, struct mr_error *err)
{
    if (c->loaded && err->action == MR_STOP)
        err->action = MR_RETRY;
    return false;
}

static bool load_best(struct chooser *c, struct mr_table **out, struct mr_error *err)
{
    struct mr_buf why = {0};
    enum mr_feed_kind kind = MR_FEED_RELOAD;
    close_kind(c); /* it borrows the survey */
    mr_pg_survey_free(&c->survey);
    bool ok = survey_now(c, &c->survey, err) &&
              mr_pg_survey_choose(&c->survey, c->options, &kind, &why, err);
    if (!ok)
        goto out;
    set_why(c, mr_buf_cstr(&why));
    ok = load_as(c, kind, out, err);
    c->failed = ok ? 0 : c->failed + 1;
    if (ok)
        c->patience_ms = look_ms(c->options);
    else if (c->loaded && c->failed < TRIES)
        goto out; /* a hiccup: the rows there are serve until the next try */
    else if (c->options->refresh == MR_POSTGRES_REFRESH_AUTO && kind != MR_FEED_RELOAD &&
             !called_off(c))
        ok = load_lesser(c, kind, out, err);
out:
    mr_buf_fini(&why);
    return ok;
}

static bool load(struct mr_feed *feed, struct mr_table **out, struct mr_error *err)
{
    struct chooser *c = (struct chooser *)feed;
    c->loaded_ms = mr_clock_mono_ms();
    bool own = c->kind && c->state.kind == MR_FEED_LOGICAL && mr_pg_logical_pending(c->kind);
    bool ok = own ? c->kind->ops->load(c->kind, out, err) : load_best(c, out, err);
    if (!ok)
        return give_up(c, err);
    c->loaded = true;
    c->look_ms = mr_clock_mono_ms() + c->patience_ms;
    return true;
}

/* --- follow --- */

/* Under `auto`, with a lesser kind: can a better one be had by now? */
static bool better_is_there(struct chooser *c, struct mr_error *err)
{
    struct mr_pg_survey now = {0};
    struct mr_buf why = {0};
    struct mr_error ignored;
    enum mr_feed_kind kind = c->state.kind;
    if (c->options->refresh != MR_POSTGRES_REFRESH_AUTO || c->options->lookup.query ||
        c->state.kind == MR_FEED_LOGICAL || mr_clock_mono_ms() < c->look_ms)
        return false;
    c->look_ms = mr_clock_mono_ms() + c->patience_ms;
    bool better = survey_now(c, &now, &ignored) &&
                  mr_pg_survey_choose(&now, c->options, &kind, &why, &ignored) &&
                  kind > c->state.kind;
    if (better)
        mr_error_set(err, MR_RETRY, MR_EXIT_TRY_AGAIN, "the server now allows the %s feed",
                     mr_feed_kind_name(kind));
    mr_pg_survey_free(&now);
    mr_buf_fini(&why);
    return better;
}

/* The reload kind: waits, a step at a time. */
static enum mr_feed_event wait_interval(struct chooser *c, int timeout_ms, struct mr_error *err)
{
    int64_t until = mr_clock_mono_ms() + timeout_ms;
    int64_t over = c->loaded_ms + c->options->interval_ms;
    for (int64_t now; !called_off(c) && (now = mr_clock_mono_ms()) < until;) {
        if (now >= over) {
            mr_error_set(err, MR_RETRY, MR_EXIT_TRY_AGAIN, "the interval of %" PRId64 " s is over",
                         c->options->interval_ms / 1000);
            return MR_FEED_READ;
        }
        int64_t left = (over < until ? over : until) - now;
        mr_clock_sleep_ms(left < STEP_MS ? (int)left : STEP_MS);
    }
    return MR_FEED_FOLLOWS;
}

static enum mr_feed_event follow(struct mr_feed *feed, struct mr_lookup *lookup, int timeout_ms,
                                 struct mr_error *err)
{
    struct chooser *c = (struct chooser *)feed;
    if (better_is_there(c, err))
        return MR_FEED_READ;
    if (c->state.kind != MR_FEED_CHANGELOG)
        mr_pg_trim_unused(&c->trim, &c->trimmer, c->options);
    return c->kind ? c->kind->ops->follow(c->kind, lookup, timeout_ms, err)
                   : wait_interval(c, timeout_ms, err);
}

/* --- the rest --- */

static bool mark(struct mr_feed *feed, struct mr_error *err)
{
    struct chooser *c = (struct chooser *)feed;
    if (!c->kind)
        return mr_error_set(err, MR_RETRY, MR_EXIT_UNREACHABLE,
                            "a table that is read at an interval cannot tell what was committed "
                            "since");
    return c->kind->ops->mark(c->kind, err);
}

static bool reached(struct mr_feed *feed)
{
    struct chooser *c = (struct chooser *)feed;
    return c->kind && c->kind->ops->reached(c->kind);
}

static struct mr_feed_state state(struct mr_feed *feed)
{
    struct chooser *c = (struct chooser *)feed;
    struct mr_feed_state now = c->state;
    if (c->kind) {
        now = c->kind->ops->state(c->kind);
        if (!*now.why) /* a kind that is not at its best says so itself */
            memcpy(now.why, c->state.why, sizeof now.why);
        if (now.as_of_ms < c->state.as_of_ms)
            now.as_of_ms = c->state.as_of_ms;
    }
    c->state.as_of_ms = now.as_of_ms;
    now.changes += c->changes;
    return now;
}

static void close_feed(struct mr_feed *feed)
{
    struct chooser *c = (struct chooser *)feed;
    close_kind(c);
    mr_pg_survey_free(&c->survey);
    mr_pg_fini(&c->trimmer);
    free(c);
}

bool mr_postgres_feed_open(const struct mr_postgres_feed_options *options, struct mr_feed **out,
                           struct mr_error *err)
{
    static const struct mr_feed_ops ops = {load, follow, mark, reached, state, close_feed};
    if (options->lookup.table && !mr_postgres_table_check(options->lookup.table, err))
        return false;
    struct chooser *c = mr_calloc(1, sizeof *c);
    *c = (struct chooser){.base = {&ops},
                          .options = options,
                          .state = {.lag_ms = -1},
                          .patience_ms = look_ms(options)};
    *out = &c->base;
    return true;
}
