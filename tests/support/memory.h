/*
 * memory.h - source, sink, store and script in memory: a world in which the engine runs without any
 * library.
 *
 * One world holds the input log, the group's offsets, the output log, the ledger and the rows.
 * Services (source, sink, store) are handles on it, several may exist at a time (a zombie and its
 * successor). Faults are asked for by the name of the step, and strike once, at the n-th time.
 */
#ifndef MR_TESTS_MEMORY_H
#define MR_TESTS_MEMORY_H

#include "millrace/script.h"
#include "millrace/sink.h"
#include "millrace/source.h"
#include "millrace/store.h"

enum { MEM_PARTS = 4 };

struct mem_log {
    char **items;
    size_t n, cap;
};

enum mem_fault {
    MEM_NONE,
    MEM_CLAIM,          /* store->claim fails */
    MEM_BEGIN,          /* store->begin fails */
    MEM_COPY,           /* store->copy fails, as a lost connection */
    MEM_FLUSH,          /* sink->flush fails: nothing more was acknowledged */
    MEM_COMMIT_LOST,    /* COMMIT is carried out, its reply lost */
    MEM_COMMIT_UNDONE,  /* the connection breaks, COMMIT was not carried out */
    MEM_OFFSETS,        /* source->commit fails, nothing written */
    MEM_OFFSETS_LOST,   /* source->commit is carried out, its reply lost */
    MEM_COMMITTED,      /* source->committed fails */
    MEM_ATTEMPT,        /* store->attempt fails */
    MEM_PLAIN_FAULTS,   /* from here on: what strikes with transactions only */
    MEM_FENCE,          /* sink->fence fails */
    MEM_OPEN,           /* sink->begin fails */
    MEM_SEND_OFFSETS,   /* sink->offsets fails */
    MEM_VISIBLE_LOST,   /* sink->commit is carried out, its reply lost */
    MEM_VISIBLE_UNDONE, /* sink->commit fails, the transaction stays open */
    MEM_FAULTS
};

struct mem_ledger {
    bool there, has_job;
    int64_t epoch, unit, next_offset;
    char mode[24];
    char *keys, *cursor;
    size_t keys_len, cursor_len;
    int64_t trigger_ms;
    int64_t trying;
    int attempts;
    bool begun;
    char *redo; /* of `unit`; NULL: none */
    size_t redo_len;
    uint32_t redo_n, redo_crc;
};

/* Kafka's transaction of the one transactional id that there is. */
struct mem_transaction {
    bool open, has_offsets[MEM_PARTS];
    struct mr_committed offsets[MEM_PARTS];
};

struct mem_world {
    struct mem_log input[MEM_PARTS]; /* values; a value of NULL stands for a control record */
    int64_t low[MEM_PARTS];          /* retention */
    struct mr_committed offsets[MEM_PARTS];
    struct mem_ledger ledger[MEM_PARTS];
    struct mem_log out;  /* "key|value" of each acknowledged message */
    struct mem_log rows; /* "a|b" of each committed row */
    struct mem_log dead; /* "class|value|error" */
    struct mem_transaction transaction;
    struct mem_log unseen; /* acknowledged within it */
    bool drops_offsets;    /* those of transactions, as librdkafka's mock cluster does */
    size_t dead_jobs;      /* dead letters that know where their fan-out stood */
    int redone;            /* redos that were asked for */
    int transactions;
    size_t produced; /* messages that were handed to a sink, acknowledged or not */
    enum mem_fault fault;
    int fault_in;                 /* strikes when it has counted down to 0 */
    const char *ledger_id, *mode; /* the mode that stores record */
    int64_t now_ms;
    bool rebalance;           /* the next poll says REVOKED, the one after it ASSIGNED */
    size_t rows_at_rebalance; /* rows that there were when it was told */
    _Atomic size_t polls;     /* of sources */
    size_t read[MEM_PARTS];   /* of `input`: a source has told that it stands there, at the end */
};

void mem_world_init(struct mem_world *world);
void mem_world_fini(struct mem_world *world);
void mem_add(struct mem_world *world, int partition, const char *value);
size_t mem_count(const struct mem_log *log, const char *text); /* how often it stands there */

/* A source has read all of `input`; what it gave was taken before, as a later poll tells the end.
 */
bool mem_all_read(const struct mem_world *world);

/* The member of a group of one: is assigned all MEM_PARTS partitions at the first poll. */
struct mr_source *mem_source(struct mem_world *world);
struct mr_sink *mem_sink(struct mem_world *world);
struct mr_store *mem_store(struct mem_world *world);
/* The same for a worker's factory; `arg` is the world. */
bool mem_make_source(void *arg, int index, struct mr_source **out, struct mr_error *err);
bool mem_make_sink(void *arg, int index, struct mr_sink **out, struct mr_error *err);
bool mem_make_store(void *arg, int index, struct mr_store **out, struct mr_error *err);

/*
 * The script: messages are words. "KEY TEXT" joins KEY's rows: message value "TEXT:<column>", key
 * <column>, row (TEXT, <column>). "drop WHY" drops, "bad WHY" is rejected, "none" has no key. A row
 * with the text "poison", or "poison@<column>" for just that row, is refused by the store when it
 * is copied.
 */
struct mr_script *mem_script(const struct mr_lookup_schema *columns, bool has_rows);
/* The same, whose outputs say "TEXT<tag>"; `each` is called in its thread for each message, and
 * each chunk of one. */
struct mr_script *mem_script_tagged(const struct mr_lookup_schema *columns, bool has_rows,
                                    const char *tag, void (*each)(void *arg), void *arg);

/* Log lines are left out, or printed where the environment has SHOW_LOG. */
void mem_hush_log(void);

/* A lookup with `n` rows "<key>-0000".. for each of the keys "a", "b", "c". */
struct mr_lookup *mem_lookup(int n);
/* The same rows for the keys of `keys`, to be swapped in. */
struct mr_table *mem_table(const char *keys, int n);

#endif
