/*
 * group.c - the simulated consumer group: members, generations, session time-outs.
 *
 * One thread. As the classic protocol has it: a change of the members begins a rebalance; each
 * member hears of it at its next poll and joins again; when all have, the generation goes up and
 * the partitions are dealt. Whoever is silent longer than the session time-out is out, and hears
 * of it at its next poll. Must not know positions.
 */
#include "sim.h"

enum { SESSION_US = 10 * SECOND, N_MEMBERS = sizeof sim.group.members / sizeof(struct sim_member) };

struct sim_member *sim_member_find(int id)
{
    for (int i = 0; id && i < N_MEMBERS; i++)
        if (sim.group.members[i].id == id)
            return &sim.group.members[i];
    return NULL;
}

/* Whoever waits for something of the group looks again. */
static void wake_pollers(void)
{
    for (int i = 0; i < sim.n_workers; i++)
        if (sim.workers[i]->polling && sim.workers[i]->wake_us > sim.now_us)
            sim.workers[i]->wake_us = sim.now_us;
}

static void deal(void)
{
    struct sim_member *members[N_MEMBERS];
    int n = 0;
    for (int i = 0; i < N_MEMBERS; i++)
        if (sim.group.members[i].id) {
            sim.group.members[i].parts = 0;
            members[n++] = &sim.group.members[i];
        }
    int first = n ? sim_below(n) : 0;
    for (int p = 0; n && p < sim.n_parts; p++)
        members[(first + p) % n]->parts |= 1u << p;
}

static void complete(void)
{
    if (!sim.group.preparing)
        return;
    for (int i = 0; i < N_MEMBERS; i++)
        if (sim.group.members[i].id && !sim.group.members[i].joined)
            return;
    sim.group.preparing = false;
    sim.group.generation++;
    sim_counts.rebalances++;
    deal();
    sim_trace(NULL, "group: generation %d", sim.group.generation);
    wake_pollers();
}

static void prepare(void)
{
    if (!sim.group.preparing)
        for (int i = 0; i < N_MEMBERS; i++)
            sim.group.members[i].joined = false;
    sim.group.preparing = true;
    wake_pollers();
}

/* A static member that is back takes its place again; nobody else hears of it. */
static int take_place(struct sim_worker *worker)
{
    for (int i = 0; i < N_MEMBERS; i++) {
        struct sim_member *member = &sim.group.members[i];
        if (!member->id || strcmp(member->worker->name, worker->name) != 0)
            continue;
        sim_trace(worker, "is member %d in place of %d", sim.group.last_id + 1, member->id);
        sim_suspect(member->worker);
        member->id = ++sim.group.last_id;
        member->worker = worker;
        member->expires_us = SIM_NEVER;
        member->joined = true;
        complete();
        return sim.group.last_id;
    }
    return 0;
}

int sim_group_join(struct sim_worker *worker)
{
    int id = sim.static_members ? take_place(worker) : 0;
    if (id)
        return id;
    prepare();
    for (int i = 0; i < N_MEMBERS; i++) {
        struct sim_member *member = &sim.group.members[i];
        if (member->id)
            continue;
        *member = (struct sim_member){
            .id = ++sim.group.last_id, .worker = worker, .joined = true, .expires_us = SIM_NEVER};
        sim_trace(worker, "joins the group as member %d", member->id);
        complete();
        return sim.group.last_id;
    }
    return 0; /* full of the dead: later */
}

void sim_group_rejoin(struct sim_member *member)
{
    member->joined = true;
    complete();
}

static void drop(struct sim_member *member)
{
    sim_trace(NULL, "group: member %d is out", member->id);
    *member = (struct sim_member){0};
    prepare();
    complete();
}

void sim_group_leave(int id)
{
    struct sim_member *member = sim_member_find(id);
    if (member)
        drop(member);
}

void sim_group_silent(int id)
{
    struct sim_member *member = sim_member_find(id);
    if (!member)
        return;
    member->expires_us = sim.now_us + SESSION_US;
    sim_event_at(member->expires_us);
}

void sim_group_heard(int id)
{
    struct sim_member *member = sim_member_find(id);
    if (member)
        member->expires_us = SIM_NEVER;
}

void sim_group_tick(void)
{
    for (int i = 0; i < N_MEMBERS; i++) {
        struct sim_member *member = &sim.group.members[i];
        if (!member->id || member->expires_us == SIM_NEVER)
            continue;
        if (member->expires_us <= sim.now_us) {
            sim_counts.expelled++;
            sim_suspect(member->worker);
            drop(member);
        } else {
            sim_event_at(member->expires_us);
        }
    }
}
