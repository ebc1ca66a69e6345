/*
 * logical.c - the logical feed: a slot, the table as of its snapshot, and every change after it.
 *
 * One thread. Owns a replication connection (stream.c), an ordinary one beside it that tells where
 * the server stands and what the stream does not tell (watch.c), and what turns messages into
 * changes of the lookup (changes.c). A slot waits for every transaction that is open: meanwhile the
 * table is read plainly, at an interval. Tests: tests/unit/test_postgres_logical.c.
 */
#include "postgres/changes.h"
#include "postgres/stream.h"
#include "postgres/watch.h"
#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    SLOT_MS = 3000,     /* how long a load waits for its slot */
    GATHER_MS = 5,      /* transactions are shown together that come within */
    LOOK_MS = 1000,     /* from one look of the watch to the next */
    STATUS_MS = 5000,   /* a status update at least so often */
    REPORT_MS = 10,     /* and when there is something to report, at most */
    ASK_MS = 20,        /* where is the server: again, while somebody waits for the answer */
    NUDGE_MS = 250,     /* a position that is not reached: the log may not be written out */
    CLOCKS_MS = 60000,  /* how long the clocks' difference is measured */
    BUSY_MESSAGES = 256 /* between two looks at the clock */
};

enum phase {
    CLOSED,
    SLOT,   /* waiting for the slot, or it is there and its snapshot is not read */
    STREAMS /* changes come */
};

struct logical {
    struct mr_feed feed;
    const struct mr_postgres_feed_options *options;
    const struct mr_pg_survey *survey;
    enum phase phase;
    struct mr_pg_stream *stream;
    struct mr_pg_watch *watch;
    struct mr_pg_shape *shape;
    uint32_t *declared;
    struct mr_pg_changes *changes;
    struct mr_feed_state state;
    int64_t slot_ms;             /* when the slot was asked for */
    int64_t changes_before;      /* of earlier loads */
    uint64_t told;               /* the server has sent everything that was committed up to here */
    uint64_t reported;           /* the last status update */
    int64_t status_ms, asked_ms; /* when the last was sent, and the last that wanted a reply */
    int64_t gather_ms;           /* when the oldest transaction that is not shown came; 0: none */
    /* The look that waits for its position to be reached. */
    bool looked;
    struct mr_pg_seen seen;
    int64_t look_ms, nudge_ms; /* when the last look was begun; the last nudge */
    int64_t adopted;           /* truncates that a new file has been put down to */
    uint64_t nudge_lsn;        /* where we stood then */
    bool marked;               /* a mark was set since the last load */
    uint64_t mark, judged;     /* a look up to here found nothing amiss */
    int64_t behind_us, next_behind_us, clocks_ms; /* least of our clock less the server's */
};

static struct logical *logical_of(const struct mr_feed *feed)
{
    return (struct logical *)feed;
}

/* --- loading --- */

static void reset(struct logical *l)
{
    if (l->stream && mr_pg_stream_waits(l->stream) && l->watch)
        mr_pg_watch_end(l->watch, mr_pg_stream_pid(l->stream)); /* it would not notice */
    mr_pg_stream_free(l->stream);
    mr_pg_watch_close(l->watch);
    mr_pg_changes_free(l->changes);
    mr_pg_shape_free(l->shape);
    free(l->declared);
    l->stream = NULL;
    l->watch = NULL;
    l->changes = NULL;
    l->shape = NULL;
    l->declared = NULL;
    l->phase = CLOSED;
    l->changes_before = l->state.changes;
    l->told = l->reported = 0;
    l->status_ms = l->asked_ms = l->look_ms = l->gather_ms = l->nudge_ms = l->adopted = 0;
    l->judged = 0;
    l->looked = l->marked = false;
    l->behind_us = l->next_behind_us = INT64_MAX;
    l->clocks_ms = 0;
}

static bool ask_for_slot(struct logical *l, struct mr_error *err)
{
    if (PQserverVersion(mr_pg_watch_pg(l->watch)->conn) < 140000)
        return mr_error_set(err, MR_STOP, MR_EXIT_CONFIG,
                            "the logical feed needs Postgres 14 or later");
    l->stream = mr_pg_stream_new(l->options);
    if (!mr_pg_stream_open(l->stream, mr_pg_watch_pg(l->watch), err))
        return false;
    l->slot_ms = mr_clock_mono_ms();
    l->phase = SLOT;
    return mr_pg_stream_wait(l->stream, SLOT_MS, err);
}

/* The table as it is now, while the slot waits. */
static bool read_plainly(struct logical *l, struct mr_table **out, struct mr_error *err)
{
    struct mr_pg_snapshot_options plain = {.lookup = &l->options->lookup};
    char blocker[256];
    int64_t begun_ms = mr_clock_mono_ms();
    if (!mr_pg_snapshot_read(&plain, out, NULL, err))
        return false;
    mr_pg_watch_blocker(l->watch, blocker, sizeof blocker);
    l->state.as_of_ms = begun_ms;
    snprintf(l->state.why, sizeof l->state.why,
             "the replication slot waits for transactions that are open%s%s; until it is there the "
             "table is read again every %lld s",
             *blocker ? " " : "", blocker, (long long)l->options->interval_ms / 1000);
    return true;
}

static bool read_and_start(struct logical *l, struct mr_table **out, struct mr_error *err)
{
    struct mr_pg_snapshot_options of_slot = {.lookup = &l->options->lookup,
                                             .snapshot = mr_pg_stream_snapshot(l->stream),
                                             .beside = mr_pg_watch_pg(l->watch),
                                             .ids = l->survey->ids,
                                             .n_ids = l->survey->whole ? 0 : l->survey->n_ids};
    struct mr_table *table = NULL;
    bool ok = mr_pg_snapshot_read(&of_slot, &table, &l->shape, err) &&
              mr_pg_watch_declared(l->watch, l->shape, &l->declared, err);
    if (!ok || !mr_pg_stream_start(l->stream, err)) {
        mr_table_free(table);
        return false;
    }
    struct mr_pg_changes_options options = {.lookup = &l->options->lookup,
                                            .shape = l->shape,
                                            .declared = l->declared,
                                            .oid = mr_pg_watch_oid(l->watch),
                                            .schema = mr_pg_watch_schema(l->watch),
                                            .name = mr_pg_watch_name(l->watch)};
    l->changes = mr_pg_changes_new(&options);
    l->phase = STREAMS;
    l->status_ms = mr_clock_mono_ms();
    if (l->slot_ms > l->state.as_of_ms)
        l->state.as_of_ms = l->slot_ms;
    l->state.why[0] = '\0';
    *out = table;
    return true;
}

static bool load(struct mr_feed *feed, struct mr_table **out, struct mr_error *err)
{
    struct logical *l = logical_of(feed);
    bool ok = true;
    if (l->phase != SLOT) {
        reset(l);
        ok = mr_pg_watch_open(l->options, l->survey, &l->watch, err) && ask_for_slot(l, err);
    } else {
        ok = mr_pg_stream_wait(l->stream, 0, err);
    }
    if (ok)
        ok =
            mr_pg_stream_waits(l->stream) ? read_plainly(l, out, err) : read_and_start(l, out, err);
    if (!ok)
        reset(l);
    return ok;
}

/* --- following --- */

static bool called_off(const struct logical *l)
{
    const atomic_bool *cancel = l->options->lookup.cancel;
    return cancel && atomic_load(cancel);
}

/* Everything that was committed up to here is shown. */
static uint64_t position(const struct logical *l)
{
    struct mr_pg_changes_state s = mr_pg_changes_state(l->changes);
    return s.unshown || l->told < s.lsn ? s.lsn : l->told;
}

static enum mr_feed_event again(struct mr_error *err, const struct logical *l, const char *why)
{
    mr_error_set(err, MR_RECOVER, MR_EXIT_TRY_AGAIN, "table \"%s\" %s", l->options->lookup.table,
                 why);
    return MR_FEED_READ;
}

/* How far our clock is ahead of the server's: the least of a minute or two, for the quickest
 * message came almost at once. */
static void compare_clocks(struct logical *l, int64_t sent_us)
{
    int64_t now_us = mr_clock_mono_us(), behind = now_us - sent_us;
    if (now_us / 1000 - l->clocks_ms > CLOCKS_MS) {
        l->behind_us = l->next_behind_us;
        l->next_behind_us = INT64_MAX;
        l->clocks_ms = now_us / 1000;
    }
    if (behind < l->next_behind_us)
        l->next_behind_us = behind;
    if (behind < l->behind_us)
        l->behind_us = behind;
}

static enum mr_feed_event show(struct logical *l, struct mr_lookup *lookup, struct mr_error *err)
{
    enum mr_feed_event event = mr_pg_changes_publish(l->changes, lookup, err);
    l->gather_ms = 0;
    return event;
}

/* What was shown, by a publish or at once: how late it was. */
static void note_shown(struct logical *l, int64_t shown_us_before)
{
    struct mr_pg_changes_state s = mr_pg_changes_state(l->changes);
    l->state.changes = l->changes_before + s.changes;
    if (s.shown_us == shown_us_before)
        return;
    int64_t lag_us = mr_clock_mono_us() - l->behind_us - s.shown_us;
    l->state.lag_ms = lag_us > 0 ? lag_us / 1000 : 0;
}

static enum mr_feed_event take_message(struct logical *l, struct mr_lookup *lookup,
                                       const struct mr_pgo_envelope *message, bool *reply,
                                       struct mr_error *err)
{
    compare_clocks(l, message->sent_us);
    if (message->kind == 'k') {
        if (message->lsn > l->told)
            l->told = message->lsn;
        *reply = *reply || message->reply;
        return MR_FEED_FOLLOWS;
    }
    enum mr_feed_event event =
        mr_pg_changes_apply(l->changes, lookup, message->body, message->len, err);
    if (event == MR_FEED_FOLLOWS && !l->gather_ms && mr_pg_changes_state(l->changes).unshown)
        l->gather_ms = mr_clock_mono_ms();
    return event;
}

/* Takes what has come; shows it when there is no more, or every few milliseconds. *more: there was
 * no end to it until the deadline. */
static enum mr_feed_event take_messages(struct logical *l, struct mr_lookup *lookup,
                                        int64_t deadline, bool *more, struct mr_error *err)
{
    enum mr_feed_event event = MR_FEED_FOLLOWS;
    int64_t shown_us = mr_pg_changes_state(l->changes).shown_us;
    bool reply = false;
    *more = true;
    for (int n = 1; event == MR_FEED_FOLLOWS && *more; n++) {
        struct mr_pgo_envelope message;
        enum mr_pg_stream_got got = mr_pg_stream_next(l->stream, &message, err);
        if (got == MR_PG_GOT)
            event = take_message(l, lookup, &message, &reply, err);
        else if (got == MR_PG_ENDED)
            event = MR_FEED_FAILED;
        *more = got != MR_PG_DRY;
        if (event == MR_FEED_FOLLOWS && l->gather_ms &&
            (!*more || mr_clock_mono_ms() - l->gather_ms >= GATHER_MS))
            event = show(l, lookup, err);
        if (n % BUSY_MESSAGES == 0 && (mr_clock_mono_ms() >= deadline || called_off(l)))
            break;
    }
    note_shown(l, shown_us);
    if (event == MR_FEED_FOLLOWS && reply) {
        l->status_ms = mr_clock_mono_ms();
        l->reported = position(l);
        if (!mr_pg_stream_status(l->stream, l->reported, false, err))
            event = MR_FEED_FAILED;
    }
    return event;
}

/* The look's position is reached: what it saw can be held against what the stream has told. */
static enum mr_feed_event judge_look(struct logical *l, struct mr_error *err)
{
    struct mr_pg_changes_state s = mr_pg_changes_state(l->changes);
    l->looked = false;
    if (l->seen.altered)
        return again(err, l, "or what is published of it was altered");
    if (l->seen.refiled && s.truncates == l->adopted)
        return again(err, l, "was rewritten, or emptied in part");
    if (l->seen.refiled) {
        l->adopted = s.truncates;
        mr_pg_watch_adopt(l->watch);
    }
    if (l->seen.asked_ms > l->state.as_of_ms)
        l->state.as_of_ms = l->seen.asked_ms;
    l->judged = l->seen.lsn;
    return MR_FEED_FOLLOWS;
}

/* Nothing comes, and yet the position is not reached: it is not written out. */
static void nudge(struct logical *l, int64_t now)
{
    bool stands = l->looked && position(l) == l->nudge_lsn;
    if (stands && now - l->nudge_ms < NUDGE_MS)
        return;
    if (stands && !mr_pg_changes_state(l->changes).in_transaction)
        mr_pg_watch_nudge(l->watch);
    l->nudge_lsn = position(l);
    l->nudge_ms = now;
}

/* Asks the watch, judges its answer, and keeps the server informed. */
static enum mr_feed_event duties(struct logical *l, struct mr_error *err)
{
    int64_t now = mr_clock_mono_ms();
    if (!l->looked && (mr_pg_watch_socket(l->watch) >= 0 || now - l->look_ms >= LOOK_MS)) {
        if (mr_pg_watch_socket(l->watch) < 0)
            l->look_ms = now;
        l->looked = mr_pg_watch_look(l->watch, &l->seen);
    }
    if (l->looked && position(l) >= l->seen.lsn) {
        enum mr_feed_event event = judge_look(l, err);
        if (event != MR_FEED_FOLLOWS)
            return event;
    }
    uint64_t lsn = position(l);
    nudge(l, now);
    bool ask = l->looked && now - l->asked_ms >= ASK_MS;
    if (!ask && now - l->status_ms < (lsn == l->reported ? STATUS_MS : REPORT_MS))
        return MR_FEED_FOLLOWS;
    if (ask)
        l->asked_ms = now;
    l->status_ms = now;
    l->reported = lsn;
    return mr_pg_stream_status(l->stream, lsn, ask, err) ? MR_FEED_FOLLOWS : MR_FEED_FAILED;
}

static int until_next_duty(const struct logical *l, int64_t deadline)
{
    int64_t now = mr_clock_mono_ms(), next = deadline;
    int64_t look = l->look_ms + LOOK_MS;
    if (!l->looked && mr_pg_watch_socket(l->watch) < 0 && look < next)
        next = look;
    if (l->looked && l->asked_ms + ASK_MS < next)
        next = l->asked_ms + ASK_MS;
    if (position(l) != l->reported && l->status_ms + REPORT_MS < next)
        next = l->status_ms + REPORT_MS;
    return next > now ? (int)(next - now) : 0;
}

static enum mr_feed_event follow_stream(struct logical *l, struct mr_lookup *lookup,
                                        int64_t deadline, struct mr_error *err)
{
    int64_t changes = l->state.changes;
    for (;;) {
        bool more, awaited = l->looked;
        enum mr_feed_event event = take_messages(l, lookup, deadline, &more, err);
        if (event == MR_FEED_FOLLOWS)
            event = duties(l, err);
        bool news = l->state.changes != changes || (awaited && !l->looked);
        if (event != MR_FEED_FOLLOWS || news || mr_clock_mono_ms() >= deadline || called_off(l))
            return event;
        if (!more && !mr_pg_stream_poll(l->stream, mr_pg_watch_socket(l->watch),
                                        until_next_duty(l, deadline)))
            return MR_FEED_FOLLOWS; /* called off */
    }
}

static enum mr_feed_event follow_slot(struct logical *l, int64_t deadline, struct mr_error *err)
{
    int64_t again_ms = l->state.as_of_ms + l->options->interval_ms;
    int64_t until = again_ms < deadline ? again_ms : deadline;
    int64_t left = until - mr_clock_mono_ms();
    if (!mr_pg_stream_wait(l->stream, left > 0 ? (int)left : 0, err))
        return called_off(l) ? MR_FEED_FOLLOWS : MR_FEED_FAILED;
    if (!mr_pg_stream_waits(l->stream))
        return again(err, l, "can be followed now: the replication slot is there");
    if (l->options->interval_ms > 0 && mr_clock_mono_ms() >= again_ms)
        return again(err, l, "is read again while its replication slot waits");
    return MR_FEED_FOLLOWS;
}

static enum mr_feed_event follow(struct mr_feed *feed, struct mr_lookup *lookup, int timeout_ms,
                                 struct mr_error *err)
{
    struct logical *l = logical_of(feed);
    int64_t deadline = mr_clock_mono_ms() + timeout_ms;
    enum mr_feed_event event = MR_FEED_FAILED;
    if (l->phase == CLOSED)
        mr_error_set(err, MR_RETRY, MR_EXIT_TRY_AGAIN, "the table has not been read yet");
    else if (l->phase == SLOT)
        event = follow_slot(l, deadline, err);
    else
        event = follow_stream(l, lookup, deadline, err);
    if (event == MR_FEED_FAILED || (event == MR_FEED_READ && l->phase == STREAMS)) {
        mr_lookup_discard(lookup);
        reset(l);
    }
    return event;
}

/* --- the rest --- */

static bool mark(struct mr_feed *feed, struct mr_error *err)
{
    struct logical *l = logical_of(feed);
    l->marked = false;
    if (l->phase != STREAMS)
        return mr_error_set(err, MR_RETRY, MR_EXIT_TRY_AGAIN,
                            "the changes of table \"%s\" are not followed just now",
                            l->options->lookup.table);
    l->marked = l->looked = mr_pg_watch_look_now(l->watch, &l->seen, err);
    l->mark = l->seen.lsn;
    l->look_ms = mr_clock_mono_ms();
    l->asked_ms = 0; /* the server is asked at once where it is */
    return l->marked;
}

static bool reached(struct mr_feed *feed)
{
    struct logical *l = logical_of(feed);
    return l->phase == STREAMS && l->marked && l->judged >= l->mark;
}

/* While the slot waits the table is read at an interval, and in the nature of that as old. */
static struct mr_feed_state state(struct mr_feed *feed)
{
    struct logical *l = logical_of(feed);
    struct mr_feed_state now = l->state;
    if (l->phase == SLOT)
        now.kind = MR_FEED_RELOAD;
    return now;
}

static void close_feed(struct mr_feed *feed)
{
    reset(logical_of(feed));
    free(logical_of(feed));
}

struct mr_feed *mr_pg_logical_new(const struct mr_postgres_feed_options *options,
                                  const struct mr_pg_survey *survey)
{
    static const struct mr_feed_ops ops = {.load = load,
                                           .follow = follow,
                                           .mark = mark,
                                           .reached = reached,
                                           .state = state,
                                           .close = close_feed};
    struct logical *l = mr_calloc(1, sizeof *l);
    l->feed.ops = &ops;
    l->options = options;
    l->survey = survey;
    l->state = (struct mr_feed_state){.kind = MR_FEED_LOGICAL, .lag_ms = -1};
    reset(l);
    return &l->feed;
}

bool mr_pg_logical_pending(const struct mr_feed *feed)
{
    return logical_of(feed)->phase == SLOT;
}
