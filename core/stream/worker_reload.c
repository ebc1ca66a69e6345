/*
 * worker_reload.c - a worker's part in a reload: opens the script that is offered beside its own,
 * votes, and lets it take the place of the old one between two units.
 *
 * The calls of worker.h belong to the one thread that reloads and hold the lock for a moment; the
 * rest is the worker's thread, which opens, uses and closes every script of its. A fan-out that is
 * half sent keeps the script until it is done. Must not know what is in an edition. Tests:
 * tests/unit/test_reload.c, tests/integration/reload_spec.lua.
 */
#include "stream/worker_state.h"

/* --- the thread that reloads ---
 */

void mr_worker_offer(struct mr_worker *worker, struct mr_edition *edition,
                     const struct mr_worker_settings *settings)
{
    pthread_mutex_lock(&worker->lock);
    struct mr_offer *offer = &worker->offer;
    struct mr_edition *before = offer->offered;
    offer->offered = mr_edition_acquire(edition);
    offer->offered_settings = *settings;
    offer->serial++;
    offer->vote = MR_VOTE_PENDING;
    atomic_store(&worker->offer_changed, true);
    pthread_mutex_unlock(&worker->lock);
    mr_edition_release(before);
}

enum mr_vote mr_worker_vote(struct mr_worker *worker, struct mr_error *err)
{
    pthread_mutex_lock(&worker->lock);
    enum mr_vote vote = worker->offer.vote;
    if (vote == MR_VOTE_NO)
        *err = worker->offer.err;
    pthread_mutex_unlock(&worker->lock);
    return vote;
}

void mr_worker_decide(struct mr_worker *worker, bool take)
{
    pthread_mutex_lock(&worker->lock);
    struct mr_offer *offer = &worker->offer;
    struct mr_edition *left = offer->offered;
    if (take) {
        left = offer->accepted; /* the one before, unless the worker has noticed it */
        offer->accepted = offer->offered;
        offer->accepted_settings = offer->offered_settings;
        offer->accepted_serial = offer->serial;
        offer->settled = false;
    }
    offer->offered = NULL;
    atomic_store(&worker->offer_changed, true);
    pthread_mutex_unlock(&worker->lock);
    mr_edition_release(left);
}

bool mr_worker_settled(struct mr_worker *worker)
{
    pthread_mutex_lock(&worker->lock);
    bool settled = worker->offer.settled;
    pthread_mutex_unlock(&worker->lock);
    return settled;
}

/* --- the worker's thread ---
 */

static void close_script(struct mr_beside *beside)
{
    if (beside->script)
        beside->script->ops->close(beside->script);
    beside->script = NULL;
    mr_lookup_schema_free(beside->columns);
    beside->columns = NULL;
}

static void clear(struct mr_beside *beside)
{
    close_script(beside);
    mr_edition_release(beside->edition);
    *beside = (struct mr_beside){0};
}

/* Those of the lookup now, which may not be those of the script in use any more: that is found out
 * with a message only, and a script may have been edited because of it. NULL: no lookup. */
static struct mr_lookup_schema *copy_columns(const struct mr_worker *worker)
{
    struct mr_pin pin = {0};
    if (!worker->script_columns)
        return NULL;
    if (!mr_lookup_pin(worker->options.lookup, &pin))
        return mr_lookup_schema_copy(worker->script_columns);
    struct mr_lookup_schema *columns = mr_lookup_schema_copy(mr_table_schema(pin.table));
    mr_lookup_unpin(worker->options.lookup, &pin);
    return columns;
}

static bool open_script(struct mr_worker *worker, struct mr_beside *beside, struct mr_error *err)
{
    const struct mr_worker_factory *factory = &worker->options.factory;
    beside->columns = copy_columns(worker);
    if (factory->script(factory->arg, worker->options.index, beside->edition, beside->columns,
                        worker->script_rows, &beside->script, err))
        return true;
    close_script(beside);
    return false;
}

/* Takes the edition. */
static void try_offer(struct mr_worker *worker, struct mr_edition *edition,
                      const struct mr_worker_settings *settings, unsigned serial)
{
    const struct mr_edition *newest =
        worker->coming.there ? worker->coming.edition : worker->edition;
    struct mr_error err = {0};
    worker->tried = (struct mr_beside){
        .there = true, .serial = serial, .edition = edition, .settings = *settings};
    bool ok = true;
    if (!worker->script)
        ok = mr_error_set(&err, MR_RETRY, MR_EXIT_TRY_AGAIN,
                          "it has not started yet, so that nobody knows whether the script fits "
                          "(%s); reload when it has, or restart",
                          worker->status.problem); /* written by this thread alone */
    else if (edition != newest)
        ok = open_script(worker, &worker->tried, &err);
    if (!ok)
        clear(&worker->tried);
    pthread_mutex_lock(&worker->lock);
    if (worker->offer.serial == serial) { /* else it is not wanted any more */
        worker->offer.vote = ok ? MR_VOTE_YES : MR_VOTE_NO;
        worker->offer.err = err;
    }
    pthread_mutex_unlock(&worker->lock);
}

/* It is decided: takes the edition, and what was opened from it. */
static void note_decision(struct mr_worker *worker, struct mr_edition *edition,
                          const struct mr_worker_settings *settings, unsigned serial)
{
    struct mr_beside *coming = &worker->coming;
    if (coming->there && coming->edition == edition) { /* other settings for it, then */
        coming->settings = *settings;
        mr_edition_release(edition);
        return;
    }
    clear(coming);
    *coming = (struct mr_beside){
        .there = true, .serial = serial, .edition = edition, .settings = *settings};
    if (worker->tried.serial == serial) {
        coming->script = worker->tried.script;
        coming->columns = worker->tried.columns;
        worker->tried.script = NULL;
        worker->tried.columns = NULL;
    }
}

void mr_worker_heed_offer(struct mr_worker *worker)
{
    if (!atomic_load_explicit(&worker->offer_changed, memory_order_relaxed))
        return;
    pthread_mutex_lock(&worker->lock);
    atomic_store(&worker->offer_changed, false);
    struct mr_offer offer = worker->offer;
    worker->offer.accepted = NULL; /* ours from here on */
    bool wanted = offer.offered && worker->tried.serial != offer.serial;
    if (wanted)
        mr_edition_acquire(offer.offered);
    pthread_mutex_unlock(&worker->lock);
    mr_watch_enter(&worker->watch, MR_PHASE_BUILD);
    if (offer.accepted)
        note_decision(worker, offer.accepted, &offer.accepted_settings, offer.accepted_serial);
    if (wanted || !offer.offered)
        clear(&worker->tried);
    if (wanted)
        try_offer(worker, offer.offered, &offer.offered_settings, offer.serial);
}

static void take_settings(struct mr_worker *worker, const struct mr_worker_settings *settings)
{
    /* Else it stays as small as failures have made it. */
    if (settings->unit_outputs != worker->options.settings.unit_outputs)
        worker->pipeline.unit_outputs = settings->unit_outputs;
    worker->options.settings = *settings;
    worker->pipeline.unit_bytes = settings->unit_bytes;
    worker->pipeline.max_message_bytes = settings->max_message_bytes;
}

/* False: it does not open any more, although it did when it was tried: the tables have changed. */
static bool take_script(struct mr_worker *worker, struct mr_beside *coming, struct mr_error *err)
{
    if (!coming->script && !open_script(worker, coming, err))
        return false;
    worker->script->ops->close(worker->script);
    worker->script = worker->pipeline.script = coming->script;
    coming->script = NULL;
    mr_lookup_schema_free(worker->script_columns); /* the old script has borrowed them */
    worker->script_columns = coming->columns;
    coming->columns = NULL;
    mr_pipeline_unpin(&worker->pipeline); /* the next message asks whether the table has them */
    mr_edition_release(worker->edition);
    worker->edition = mr_edition_acquire(coming->edition);
    return true;
}

void mr_worker_swap_if_due(struct mr_worker *worker)
{
    struct mr_error err;
    struct mr_beside *coming = &worker->coming;
    if (!coming->there || !worker->script || mr_worker_has_job(worker))
        return;
    /* The open unit borrows from the old script, and is made wholly by it. */
    if (!mr_unit_empty(&worker->unit) && !mr_worker_commit_unit(worker))
        return;
    if (coming->edition != worker->edition && !take_script(worker, coming, &err))
        mr_log(MR_ERROR,
               "the script in use stays here, although a newer one was taken elsewhere: %s",
               err.msg);
    else
        take_settings(worker, &coming->settings);
    clear(coming);
    pthread_mutex_lock(&worker->lock);
    worker->offer.settled = !worker->offer.accepted;
    pthread_mutex_unlock(&worker->lock);
}

void mr_worker_close_beside(struct mr_worker *worker)
{
    close_script(&worker->tried);
    close_script(&worker->coming);
}

void mr_worker_forget_offers(struct mr_worker *worker)
{
    clear(&worker->tried);
    clear(&worker->coming);
    pthread_mutex_lock(&worker->lock);
    struct mr_offer offer = worker->offer;
    worker->offer.offered = worker->offer.accepted = NULL;
    worker->offer.vote = MR_VOTE_NO;
    mr_error_set(&worker->offer.err, MR_RETRY, MR_EXIT_TRY_AGAIN, "it has ended");
    worker->offer.settled = true;
    pthread_mutex_unlock(&worker->lock);
    mr_edition_release(offer.offered);
    mr_edition_release(offer.accepted);
}
