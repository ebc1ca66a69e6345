/*
 * postgres.c - the simulated database: ledger rows with locks, sessions, what COMMIT does.
 *
 * One thread. A session may outlive its client: its transaction stays open, and its locks with it,
 * until the server notices, another session ends it, or its idle time-out does. What was committed
 * asynchronously may be lost by a restart. Must not know the protocol: the compare-and-swap is
 * store.c's statement.
 */
#include "sim.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { IDLE_US = 30 * SECOND };

bool sim_pg_down(void)
{
    return sim.now_us < sim.pg_down_us;
}

static void job_free(struct sim_job *job)
{
    free(job->keys);
    free(job->cursor);
    *job = (struct sim_job){0};
}

void sim_job_set(struct sim_job *to, const struct mr_job_state *job)
{
    job_free(to);
    if (!job)
        return;
    *to = (struct sim_job){.present = true,
                           .keys = mr_alloc(job->keys.len + 1),
                           .cursor = mr_alloc(job->cursor.len + 1),
                           .keys_len = job->keys.len,
                           .cursor_len = job->cursor.len,
                           .trigger_ms = job->trigger_ms};
    if (job->keys.len)
        memcpy(to->keys, job->keys.ptr, job->keys.len);
    if (job->cursor.len)
        memcpy(to->cursor, job->cursor.ptr, job->cursor.len);
}

struct sim_redo *sim_redo_find(struct sim_ledger *ledger, int64_t unit)
{
    for (size_t i = 0; i < ledger->n_redos; i++)
        if (ledger->redos[i].unit == unit)
            return &ledger->redos[i];
    return NULL;
}

static void redo_forget(struct sim_ledger *ledger, int64_t up_to)
{
    size_t n = 0;
    for (size_t i = 0; i < ledger->n_redos; i++)
        if (ledger->redos[i].unit <= up_to)
            free(ledger->redos[i].payload);
        else
            ledger->redos[n++] = ledger->redos[i];
    ledger->n_redos = n;
}

/* --- sessions --- */

struct sim_session *sim_session_new(struct sim_worker *worker)
{
    if (sim.n_sessions == sizeof sim.sessions / sizeof *sim.sessions)
        return NULL;
    struct sim_session *session = mr_calloc(1, sizeof *session);
    session->alive = true;
    session->worker = worker;
    snprintf(session->mode, sizeof session->mode, "%s",
             !sim.mix->sink         ? "rows_only"
             : worker->exactly_once ? "exactly_once"
                                    : "at_least_once");
    snprintf(session->name, sizeof session->name, "%s", worker->name);
    session->active_us = sim.now_us;
    session->dead_us = session->commit_us = SIM_NEVER;
    sim.sessions[sim.n_sessions++] = session;
    return session;
}

/* Whoever waits for a row looks again. */
static void wake_lockers(void)
{
    for (int i = 0; i < sim.n_workers; i++)
        if (sim.workers[i]->locking && sim.workers[i]->wake_us > sim.now_us)
            sim.workers[i]->wake_us = sim.now_us;
}

void sim_unlock(struct sim_session *session)
{
    for (int p = 0; p < SIM_PARTS; p++)
        if (sim.ledger[p].lock == session) {
            sim.ledger[p].lock = NULL;
            wake_lockers();
        }
}

bool sim_lock(struct sim_session *session, int partition, int64_t until_us)
{
    struct sim_ledger *ledger = &sim.ledger[partition];
    struct sim_worker *worker = session->worker;
    while (ledger->lock && ledger->lock != session) {
        if (sim.now_us >= until_us)
            return false;
        session->active_us = SIM_NEVER; /* not idle */
        worker->locking = true;
        bool alive = sim_sleep_until(worker, until_us);
        worker->locking = false;
        if (!alive) /* and the session is not ours any more */
            return false;
        session->active_us = sim.now_us;
        if (!session->alive)
            return false;
    }
    ledger->lock = session;
    return true;
}

void sim_session_rollback(struct sim_session *session)
{
    for (int p = 0; p < SIM_PARTS; p++) {
        struct sim_step *step = &session->steps[p];
        job_free(&step->job);
        if (step->has_redo)
            free(step->redo.payload);
        *step = (struct sim_step){0};
    }
    session->rows.n = session->letters.n = 0;
    session->in_transaction = session->fails_check = session->fails_last = false;
    session->commit_us = SIM_NEVER;
    sim_unlock(session);
}

void sim_session_kill(struct sim_session *session)
{
    if (!session->alive)
        return;
    sim_session_rollback(session);
    session->alive = false;
    if (session->worker && session->worker->session == session && session->worker->locking)
        session->worker->wake_us = sim.now_us;
}

void sim_session_orphan(struct sim_session *session, int64_t notices_us)
{
    if (!session->alive)
        return;
    session->worker = NULL;
    session->active_us = sim.now_us;
    session->dead_us = notices_us;
    sim_event_at(notices_us);
    sim_event_at(session->active_us + IDLE_US);
}

void sim_pg_flush(void)
{
    for (int p = 0; p < SIM_PARTS; p++) {
        sim.ledger[p].trying_safe = sim.ledger[p].trying;
        sim.ledger[p].begun_safe = sim.ledger[p].begun;
        sim.ledger[p].attempts_safe = sim.ledger[p].attempts;
    }
}

static void apply_step(struct sim_session *session, int p)
{
    struct sim_ledger *ledger = &sim.ledger[p];
    struct sim_step *step = &session->steps[p];
    if (step->next_offset < ledger->next_offset)
        sim_fail(SIM_STATE,
                 "the ledger's position of partition %d went back from %" PRId64 " to %" PRId64, p,
                 ledger->next_offset, step->next_offset);
    if (step->unit < ledger->unit)
        sim_fail(SIM_STATE,
                 "the ledger's unit of partition %d went back from %" PRId64 " to %" PRId64, p,
                 ledger->unit, step->unit);
    if (step->job.present)
        sim_counts.chunks++;
    sim_trace(NULL, "ledger of %d: unit %" PRId64 ", next offset %" PRId64 "%s", p, step->unit,
              step->next_offset, step->job.present ? ", in a fan-out" : "");
    memcpy(ledger->mode, session->mode, sizeof ledger->mode);
    ledger->unit = step->unit;
    ledger->next_offset = step->next_offset;
    ledger->trying = -1;
    ledger->begun = false;
    ledger->attempts = 0;
    job_free(&ledger->job);
    ledger->job = step->job;
    step->job = (struct sim_job){0};
    redo_forget(ledger, step->unit_before);
    if (step->has_redo) {
        ledger->redos = mr_realloc(ledger->redos, (ledger->n_redos + 1) * sizeof *ledger->redos);
        ledger->redos[ledger->n_redos++] = step->redo;
        step->has_redo = false;
    }
}

void sim_session_commit(struct sim_session *session)
{
    unsigned touched = 0;
    for (int p = 0; p < SIM_PARTS; p++)
        if (session->steps[p].touched) {
            apply_step(session, p);
            touched |= 1u << p;
        }
    sim_counts.rows += session->rows.n;
    sim_outputs_move(&sim.rows, &session->rows);
    sim_letters_move(&sim.dead_table, &session->letters);
    sim_session_rollback(session);
    sim_pg_flush();
    for (int p = 0; p < SIM_PARTS; p++)
        if (touched & 1u << p)
            sim_check_offsets(p);
}

void sim_pg_restart(void)
{
    for (size_t i = 0; i < sim.n_sessions; i++)
        sim_session_kill(sim.sessions[i]);
    for (int p = 0; p < SIM_PARTS; p++)
        if (sim_percent(50)) {
            sim.ledger[p].trying = sim.ledger[p].trying_safe;
            sim.ledger[p].begun = sim.ledger[p].begun_safe;
            sim.ledger[p].attempts = sim.ledger[p].attempts_safe;
        }
    sim_counts.pg_restarts++;
}

static void session_tick(struct sim_session *session)
{
    if (session->commit_us <= sim.now_us) {
        sim_trace(NULL, "a late COMMIT arrives");
        sim_counts.late_commits++;
        session->commit_us = SIM_NEVER;
        if (session->in_transaction && !session->fails_check && !session->fails_last)
            sim_session_commit(session);
    }
    int64_t idle_us = session->in_transaction && session->active_us != SIM_NEVER
                          ? session->active_us + IDLE_US
                          : SIM_NEVER;
    if (session->dead_us <= sim.now_us || idle_us <= sim.now_us) {
        sim_trace(session->worker, "its database session ends");
        sim_session_kill(session);
        return;
    }
    sim_event_at(session->commit_us);
    sim_event_at(session->dead_us);
    sim_event_at(idle_us);
}

void sim_pg_tick(void)
{
    size_t n = 0;
    for (size_t i = 0; i < sim.n_sessions; i++) {
        struct sim_session *session = sim.sessions[i];
        if (session->alive)
            session_tick(session);
        if (!session->alive && (!session->worker || session->worker->session != session)) {
            free(session->rows.items);
            free(session->letters.items);
            free(session);
        } else {
            sim.sessions[n++] = session;
        }
    }
    sim.n_sessions = n;
}

void sim_pg_free(void)
{
    for (size_t i = 0; i < sim.n_sessions; i++) {
        struct sim_session *session = sim.sessions[i];
        sim_session_rollback(session);
        free(session->rows.items);
        free(session->letters.items);
        free(session);
    }
    for (int p = 0; p < SIM_PARTS; p++) {
        redo_forget(&sim.ledger[p], INT64_MAX);
        free(sim.ledger[p].redos);
        job_free(&sim.ledger[p].job);
    }
    free(sim.rows.items);
    free(sim.dead_table.items);
}
