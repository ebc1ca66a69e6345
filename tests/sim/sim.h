/*
 * sim.h - the simulated world: what its files know of each other.
 *
 * One schedule is one struct sim, drawn from one seed: a topic with its messages, a consumer group,
 * a broker with transactions, a database, a few workers. The workers are the engine's own object
 * files, each on a stack of its own; they reach the world only through the contracts
 * (include/millrace), and each call of a contract is a place where the scheduler may go on with
 * another worker, lose the request or the reply, let the worker sleep, or end it. Time is a number.
 * One thread; no real clock, file or socket.
 *
 *     schedule.c  who lives, who goes on      stage.c     coroutines, time
 *     faults.c    what may go wrong           check.c     what must hold
 *     broker.c, group.c  Kafka's side         source.c, sink.c           the contracts
 *     postgres.c         Postgres's side      store.c, store_claim.c     of it
 *     script.c    script, lookup, input
 */
#ifndef MR_TESTS_SIM_H
#define MR_TESTS_SIM_H

#include "base/buf.h"
#include "millrace/script.h"
#include "millrace/sink.h"
#include "millrace/source.h"
#include "millrace/store.h"
#include "stream/worker.h"

#include <ucontext.h>

enum {
    SIM_PARTS = 4,
    SIM_SLOTS = 3,     /* worker processes at a time */
    SIM_LIVES = 64,    /* worker processes in all */
    SIM_MESSAGES = 48, /* source messages, all partitions */
    SIM_TABLES = 6,    /* versions of the lookup */
    SIM_CLIENTS = 24,  /* subscribers of the largest key */
    SIM_UNIT = 8,      /* outputs a unit: the largest key takes several */
    MS = 1000,
    SECOND = 1000000
};
#define SIM_NEVER INT64_MAX

/* What did not hold. */
enum sim_wrong {
    SIM_OUTCOME, /* something is missing, doubled, or in one sink only */
    SIM_STATE,   /* a rule about positions and units, on the way or at the end */
    SIM_HALT,    /* a worker gave up */
    SIM_UNREST   /* it does not come to an end */
};

/* What a mix of schedules is about; see `mixes` in main.c. */
struct sim_mix {
    const char *name;
    bool sink, store;
    int exactly, at_least; /* of ten processes, so many are of that mode */
    bool killers;          /* messages that kill whoever works on them */
    bool lax_group;        /* whoever holds the ledger's row may send offsets: nothing but the
                              ledger's fence, and the wait for it, keeps a zombie away */
};

enum sim_kind {
    SIM_PLAIN,
    SIM_DROP,        /* the filter drops it */
    SIM_BAD,         /* the script fails */
    SIM_ENDS,        /* the filter drops it from some moment on, be it in the middle */
    SIM_POISON,      /* COPY refuses a row */
    SIM_POISON_LATE, /* a deferred constraint does */
    SIM_POISON_LAST, /* COMMIT does */
    SIM_UNSENDABLE,  /* the broker refuses a message */
    SIM_KILLER,      /* kills whoever works on it */
    SIM_KINDS
};

struct sim_message {
    int partition;
    int64_t offset, arrives_us, ends_ms;
    enum sim_kind kind;
    char key;
    int victim; /* the client whose row or message is refused; -1: each */
    int deaths; /* of processes, or of their membership, that had noted it and not decided it */
    char text[40];
};

/* One entry of an input partition; id -1: a control record. */
struct sim_entry {
    int id;
    int64_t arrives_us;
};

/* A message or a row as it became visible. */
struct sim_output {
    int id, client, device;
    int64_t trigger_ms;
};
struct sim_outputs {
    struct sim_output *items;
    size_t n, cap;
};

struct sim_letter {
    int id;
    char class_[16];
};
struct sim_letters {
    struct sim_letter *items;
    size_t n, cap;
};

/* --- Kafka --- */

struct sim_offset {
    bool present;
    int64_t offset, unit; /* unit -1: not a mark of ours */
    char *metadata;
};

/* A transactional id and its open transaction. */
struct sim_txn {
    char name[48];
    int epoch;
    bool open;
    int64_t since_us;
    struct sim_outputs messages;
    struct sim_letters letters;
    struct sim_offset pending[SIM_PARTS];
};

/* An EndTxn that is still on its way. */
struct sim_ghost {
    int64_t at_us;
    struct sim_txn *txn; /* NULL: done */
    int epoch;
};

struct sim_member {
    int id; /* 0: free */
    struct sim_worker *worker;
    bool joined;
    unsigned parts;     /* of the generation in force */
    int64_t expires_us; /* not heard of until then: out */
};

struct sim_group {
    struct sim_member members[SIM_SLOTS * 4];
    int last_id, generation;
    bool preparing;
};

/* --- Postgres --- */

struct sim_redo {
    int64_t unit;
    char *payload;
    size_t len;
    uint32_t n, crc32c;
    const char *codec;
};

struct sim_job {
    bool present;
    char *keys, *cursor;
    size_t keys_len, cursor_len;
    int64_t trigger_ms;
};

struct sim_ledger {
    bool there;
    int64_t epoch, unit, next_offset, trying, trying_safe;
    bool begun, begun_safe;
    int attempts, attempts_safe;
    char mode[24], owner[48];
    struct sim_job job;
    struct sim_redo *redos;
    size_t n_redos;
    struct sim_session *lock;
};

/* What a transaction will do to a ledger row. */
struct sim_step {
    bool touched, has_redo;
    int64_t unit_before, unit, next_offset;
    struct sim_job job;
    struct sim_redo redo;
};

struct sim_session {
    bool alive, in_transaction;
    struct sim_worker *worker;    /* whose connection it was */
    int64_t active_us, dead_us;   /* last call; when the server notices that nobody is there */
    int64_t commit_us;            /* a COMMIT that is still on its way; SIM_NEVER: none */
    bool fails_check, fails_last; /* deferred constraints */
    struct sim_step steps[SIM_PARTS];
    struct sim_outputs rows;
    struct sim_letters letters;
    char mode[24], name[48]; /* of the process */
};

/* --- workers --- */

struct sim_worker {
    int slot, life;
    char name[48]; /* of the process: its transactional id, its owner in the ledger */
    bool exactly_once;
    struct mr_worker *engine;
    atomic_bool stop;
    bool running, ended, crashed, frozen, polling, locking;
    int doomed; /* points until it dies; 0: is not doomed */
    int64_t wake_us;
    int exit_code;
    ucontext_t context;
    void *stack, *fake_stack;
    struct sim_session *session;
    int member;               /* 0: none */
    bool swapped;             /* its sink lists the topics the other way round */
    int64_t noted[SIM_PARTS]; /* offset + 1 of its last attempt; 0: none */
    char halted[512];
};

struct sim_slot {
    struct sim_worker *worker; /* NULL: none runs */
    int64_t start_us;          /* the next; SIM_NEVER: not any more */
};

/* How often what happened, over all schedules. */
struct sim_counts {
    uint64_t schedules, steps, crashes, zombies, expelled, rebalances, lost_requests, lost_replies,
        in_doubt, late_commits, delayed_ends, ghosts, sessions_lost, blockers_ended, pg_restarts,
        broker_restarts, txn_timeouts, unstable, fenced, swaps_lost, redo_reads, chunks, adopts,
        dead, refusals, switches, stops, crash_loops, attempts, swaps, outputs, rows, marks;
};

struct sim {
    uint64_t seed, random;
    const struct sim_mix *mix;
    int64_t now_us;
    bool faults;
    int fault_rate, switch_rate, faults_left; /* per 10 000 points */
    unsigned fault_kinds;                     /* those of this schedule */
    int64_t faults_until_us, deadline_us;
    int64_t next_event_us;
    bool may_kill; /* one session may end another */
    bool dead_to_topic, static_members;
    uint32_t unit_outputs;
    uint64_t points;

    int n_parts;
    struct sim_message messages[SIM_MESSAGES];
    int n_messages;
    struct sim_entry *input[SIM_PARTS];
    int64_t n_input[SIM_PARTS];
    struct mr_lookup *lookup;
    int64_t swap_us;

    struct sim_group group;
    struct sim_txn txns[SIM_SLOTS + 1];
    struct sim_offset offsets[SIM_PARTS];
    struct sim_ghost ghosts[16];
    int64_t broker_down_us;
    struct sim_outputs visible;
    struct sim_letters dead_topic;

    struct sim_ledger ledger[SIM_PARTS];
    struct sim_session *sessions[256];
    size_t n_sessions;
    int64_t pg_down_us;
    struct sim_outputs rows;
    struct sim_letters dead_table;

    struct sim_worker *workers[SIM_LIVES];
    int n_workers;
    struct sim_slot slots[SIM_SLOTS];
    struct sim_worker *current;
    bool had_at_least_once, stopping;

    bool failed;
    enum sim_wrong wrong;
    char failure[1024];
};

extern struct sim sim;
extern struct sim_counts sim_counts;
extern bool sim_verbose;
extern bool
    sim_outcome_only; /* SIM_STATE is not looked at: a mutant is to be seen by its outcome */

/* --- chance --- */

static inline uint64_t sim_draw(void)
{
    uint64_t z = (sim.random += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}
static inline int sim_below(int n)
{
    return (int)((sim_draw() >> 33) * (uint64_t)n >> 31);
}
static inline int64_t sim_between(int64_t lo, int64_t hi)
{
    return lo + (int64_t)(sim_draw() % (uint64_t)(hi - lo + 1));
}
/* In `n` of a hundred cases. */
static inline bool sim_percent(int n)
{
    return sim_below(100) < n;
}

/* --- stage.c --- */

void sim_setup(void); /* once */
/* Gives the worker a stack, on which resume runs its engine until it yields or has ended. */
void sim_stage_enter(struct sim_worker *worker);
void sim_stage_leave(struct sim_worker *worker);
void sim_stage_resume(struct sim_worker *worker);
void sim_stage_yield(struct sim_worker *worker);
/* Something will happen in the world at that time. */
void sim_event_at(int64_t us);
/* Something must hold and does not: the schedule ends. The first counts. */
void sim_fail(enum sim_wrong wrong, const char *format, ...) MR_PRINTF(2, 3);
void sim_trace(const struct sim_worker *worker, const char *format, ...) MR_PRINTF(2, 3);
/* A call of a dead worker: fails for good, so that it unwinds. */
bool sim_dead(struct mr_error *err);

/* --- faults.c --- */

enum sim_fate { SIM_GO, SIM_LOST, SIM_DEAD };

/* Before and after the effect of a call: others may run, and anything may happen. LOST: the request
 * (before) or the reply (after) is. */
enum sim_fate sim_before(struct sim_worker *worker, const char *op);
enum sim_fate sim_after(struct sim_worker *worker, const char *op);
/* The caller's time passes; others run. False: it is dead by then. */
bool sim_sleep_until(struct sim_worker *worker, int64_t us);
/* Dead from here on: nothing it does has an effect any more, and it unwinds at once. */
void sim_crash(struct sim_worker *worker, const char *why);
/* Its place is free: the next process of that name starts some time later. */
void sim_restart_later(struct sim_worker *worker, int64_t within_us);
void sim_faults_draw(void);
/* The messages that it was at are under suspicion. */
void sim_suspect(struct sim_worker *worker);

/* --- schedule.c --- */

/* Runs the schedule of that seed; false: something did not hold, see sim.failure. */
bool sim_run(const struct sim_mix *mix, uint64_t seed);

/* --- broker.c --- */
bool sim_broker_down(void);
struct sim_txn *sim_txn_of(const char *name);
/* init_transactions: what is open is aborted, earlier producers are fenced; the new epoch. */
int sim_txn_fence(struct sim_txn *txn);
void sim_txn_end(struct sim_txn *txn, bool commit);
/* EndTxn(commit) that arrives later. */
void sim_txn_end_later(struct sim_txn *txn, int64_t at_us);
bool sim_offset_unstable(int partition);
void sim_offset_set(struct sim_offset *offset, int64_t next_offset, const char *metadata);
void sim_offset_apply(int partition, int64_t next_offset, const char *metadata);
void sim_broker_tick(void);
void sim_broker_free(void);
int64_t sim_input_high(int partition);
void sim_outputs_add(struct sim_outputs *to, const struct sim_output *output);
void sim_outputs_move(struct sim_outputs *to, struct sim_outputs *from);
void sim_letters_add(struct sim_letters *to, int id, struct mr_bytes class_);
void sim_letters_move(struct sim_letters *to, struct sim_letters *from);

/* --- group.c --- */
struct sim_member *sim_member_find(int id);
int sim_group_join(struct sim_worker *worker);
void sim_group_rejoin(struct sim_member *member);
void sim_group_leave(int id);
/* The member's process is not heard of from now on, or is again. */
void sim_group_silent(int id);
void sim_group_heard(int id);
void sim_group_tick(void);

/* --- postgres.c --- */
bool sim_pg_down(void);
struct sim_session *sim_session_new(struct sim_worker *worker);
void sim_session_kill(struct sim_session *session); /* rolls back */
void sim_session_rollback(struct sim_session *session);
/* COMMIT as far as the database is concerned. */
void sim_session_commit(struct sim_session *session);
void sim_session_orphan(struct sim_session *session, int64_t notices_us);
/* Waits for the row; false: the time is over, or the connection. */
bool sim_lock(struct sim_session *session, int partition, int64_t until_us);
void sim_unlock(struct sim_session *session);
void sim_pg_flush(void); /* what was committed asynchronously is safe now */
void sim_pg_restart(void);
void sim_pg_tick(void);
void sim_pg_free(void);
void sim_job_set(struct sim_job *to, const struct mr_job_state *job);
struct sim_redo *sim_redo_find(struct sim_ledger *ledger, int64_t unit);

/* --- contracts --- */
struct mr_source *sim_source(struct sim_worker *worker);
struct mr_sink *sim_sink(struct sim_worker *worker);
struct mr_store *sim_store(struct sim_worker *worker);
struct mr_script *sim_script(struct sim_worker *worker, const struct mr_lookup_schema *columns,
                             bool has_rows);
/* What struct mr_member is here. */
struct sim_proof {
    int member, generation;
};
extern const char sim_topic[];

/* --- script.c --- */
struct mr_lookup *sim_lookup_new(int version);
void sim_lookup_swap(struct mr_lookup *lookup, int version);
void sim_input_make(void);
/* "ID@TRIGGER:cNN/D" and "ID@TRIGGER", "cNN", "D" back into numbers. */
bool sim_parse_output(struct mr_bytes text, struct sim_output *out);
bool sim_parse_row(struct mr_bytes text, struct mr_bytes client, struct mr_bytes device,
                   struct sim_output *out);
int sim_clients_of(char key);
/* Is the subscriber in each version of the table? And with how many devices? */
bool sim_client_stays(char key, int client);
int sim_devices_of(char key, int client);

/* --- check.c --- */
void sim_check_offsets(int partition); /* at any moment */
bool sim_settled(void);
void sim_check_end(void);
/* After a process that had time for all of its duties. */
void sim_check_tidy(void);

#endif
