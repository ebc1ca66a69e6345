/*
 * memory.c - see memory.h. Used by one thread at a time, or under the world's own mutex where a
 * worker runs.
 */
#include "memory.h"

#include "base/log.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void log_add(struct mem_log *log, char *owned)
{
    if (log->n == log->cap) {
        log->cap = log->cap ? log->cap * 2 : 64;
        log->items = mr_realloc(log->items, log->cap * sizeof *log->items);
    }
    log->items[log->n++] = owned;
}

static void log_move(struct mem_log *to, struct mem_log *from)
{
    for (size_t i = 0; i < from->n; i++)
        log_add(to, from->items[i]);
    from->n = 0;
}

static void log_clear(struct mem_log *log)
{
    for (size_t i = 0; i < log->n; i++)
        free(log->items[i]);
    log->n = 0;
}

static void log_fini(struct mem_log *log)
{
    log_clear(log);
    free(log->items);
    *log = (struct mem_log){0};
}

void mem_world_init(struct mem_world *world)
{
    *world = (struct mem_world){
        .ledger_id = "0123abcd", .mode = "at_least_once", .now_ms = 1700000000000};
}

void mem_world_fini(struct mem_world *world)
{
    for (int p = 0; p < MEM_PARTS; p++) {
        log_fini(&world->input[p]);
        free(world->ledger[p].keys);
        free(world->ledger[p].cursor);
    }
    for (int p = 0; p < MEM_PARTS; p++)
        free(world->ledger[p].redo);
    log_fini(&world->unseen);
    log_fini(&world->out);
    log_fini(&world->rows);
    log_fini(&world->dead);
}

void mem_add(struct mem_world *world, int partition, const char *value)
{
    pthread_mutex_lock(&lock);
    log_add(&world->input[partition], value ? mr_strdup(value) : NULL);
    pthread_mutex_unlock(&lock);
}

size_t mem_count(const struct mem_log *log, const char *text)
{
    size_t n = 0;
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < log->n; i++)
        n += strcmp(log->items[i], text) == 0;
    pthread_mutex_unlock(&lock);
    return n;
}

bool mem_all_read(const struct mem_world *world)
{
    bool all = true;
    pthread_mutex_lock(&lock);
    for (int p = 0; p < MEM_PARTS; p++)
        all = all && world->read[p] == world->input[p].n;
    pthread_mutex_unlock(&lock);
    return all;
}

static bool strikes(struct mem_world *world, enum mem_fault fault)
{
    if (world->fault != fault || --world->fault_in > 0)
        return false;
    world->fault = MEM_NONE;
    return true;
}

static bool away(struct mr_error *err, const char *what)
{
    return mr_error_set(err, MR_RETRY, MR_EXIT_UNREACHABLE, "injected: %s", what);
}

/* --- source --------------------------------------------------------------------------------------
 */

struct memory_source {
    struct mr_source base;
    struct mem_world *world;
    bool assigned;
    int64_t at[MEM_PARTS]; /* -1: not read */
    bool told_end[MEM_PARTS];
    int next;
    struct mr_partition parts[MEM_PARTS];
};

static const char topic_name[] = "in";

static enum mr_event source_poll(struct mr_source *base, int timeout_ms, struct mr_record *rec,
                                 struct mr_error *err)
{
    struct memory_source *source = (struct memory_source *)base;
    (void)timeout_ms;
    (void)err;
    source->world->polls++;
    if (!source->assigned) {
        source->assigned = true;
        return MR_EVENT_ASSIGNED;
    }
    if (source->world->rebalance) {
        source->world->rebalance = source->assigned = false;
        source->world->rows_at_rebalance = source->world->rows.n;
        return MR_EVENT_REVOKED;
    }
    enum mr_event event = MR_EVENT_NONE;
    pthread_mutex_lock(&lock);
    for (int i = 0; event == MR_EVENT_NONE && i < MEM_PARTS; i++) {
        int p = source->next++ % MEM_PARTS;
        int64_t at = source->at[p];
        struct mem_log *log = &source->world->input[p];
        if (at < 0)
            continue;
        while (at < (int64_t)log->n && !log->items[at])
            at++;
        source->at[p] = at;
        *rec = (struct mr_record){.topic = topic_name, .partition = p, .offset = at};
        if (at < (int64_t)log->n) {
            rec->value = mr_bytes_of(log->items[at]);
            source->at[p]++;
            source->told_end[p] = false;
            event = MR_EVENT_RECORD;
        } else if (!source->told_end[p]) {
            source->told_end[p] = true;
            source->world->read[p] = log->n;
            event = MR_EVENT_POSITION;
        }
    }
    pthread_mutex_unlock(&lock);
    return event;
}

static const struct mr_partition *source_assignment(struct mr_source *base, size_t *n)
{
    *n = MEM_PARTS;
    return ((struct memory_source *)base)->parts;
}

static bool source_committed(struct mr_source *base, const struct mr_partition *at, int timeout_ms,
                             struct mr_committed *out, struct mr_error *err)
{
    struct mem_world *world = ((struct memory_source *)base)->world;
    (void)timeout_ms;
    if (strikes(world, MEM_COMMITTED))
        return away(err, "committed");
    if (world->transaction.has_offsets[at->partition])
        return away(err, "an unstable offset");
    *out = world->offsets[at->partition];
    return true;
}

static bool source_watermarks(struct mr_source *base, const struct mr_partition *at, int timeout_ms,
                              int64_t *low, int64_t *high, struct mr_error *err)
{
    struct mem_world *world = ((struct memory_source *)base)->world;
    (void)timeout_ms;
    (void)err;
    pthread_mutex_lock(&lock);
    *low = world->low[at->partition];
    *high = (int64_t)world->input[at->partition].n;
    pthread_mutex_unlock(&lock);
    return true;
}

static bool source_start(struct mr_source *base, const struct mr_mark *marks, size_t n,
                         struct mr_error *err)
{
    struct memory_source *source = (struct memory_source *)base;
    (void)err;
    for (int p = 0; p < MEM_PARTS; p++) {
        source->at[p] = -1;
        source->told_end[p] = false;
    }
    for (size_t i = 0; i < n; i++)
        source->at[marks[i].at.partition] = marks[i].next_offset;
    return true;
}

static void put_offset(struct mr_committed *committed, const struct mr_mark *mark)
{
    committed->present = true;
    committed->offset = mark->next_offset;
    memcpy(committed->metadata, mark->metadata, sizeof committed->metadata);
}

static bool source_commit(struct mr_source *base, const struct mr_mark *marks, size_t n,
                          struct mr_error *err)
{
    struct mem_world *world = ((struct memory_source *)base)->world;
    if (strikes(world, MEM_OFFSETS))
        return away(err, "offset commit");
    for (size_t i = 0; i < n; i++) {
        put_offset(&world->offsets[marks[i].at.partition], &marks[i]);
    }
    return strikes(world, MEM_OFFSETS_LOST) ? away(err, "reply of offset commit") : true;
}

static const struct mr_member *source_member(struct mr_source *base)
{
    return ((struct memory_source *)base)->assigned ? (const struct mr_member *)base : NULL;
}

static void source_headers(struct mr_source *base, struct mr_record *rec)
{
    (void)base;
    (void)rec;
}

static void source_release(struct mr_source *base, struct mr_record *rec)
{
    (void)base;
    (void)rec;
}

static void source_close(struct mr_source *base)
{
    free(base);
}

struct mr_source *mem_source(struct mem_world *world)
{
    static const struct mr_source_ops ops = {.poll = source_poll,
                                             .assignment = source_assignment,
                                             .committed = source_committed,
                                             .watermarks = source_watermarks,
                                             .start = source_start,
                                             .commit = source_commit,
                                             .member = source_member,
                                             .headers = source_headers,
                                             .release = source_release,
                                             .close = source_close};
    struct memory_source *source = mr_calloc(1, sizeof *source);
    source->base.ops = &ops;
    source->world = world;
    for (int p = 0; p < MEM_PARTS; p++) {
        source->parts[p] = (struct mr_partition){topic_name, p};
        source->at[p] = -1;
    }
    return &source->base;
}

/* --- sink ----------------------------------------------------------------------------------------
 */

struct memory_sink {
    struct mr_sink base;
    struct mem_world *world;
    struct mem_log queue;
    bool transactional;
    bool open;     /* a transaction is, as far as its user knows */
    bool in_doubt; /* a commit that failed: only a fence or a new producer ends it */
};

static void end_transaction(struct mem_world *world)
{
    world->transaction = (struct mem_transaction){0};
    log_clear(&world->unseen);
}

static bool sink_fence(struct mr_sink *base, bool transactional, const char *owner,
                       struct mr_error *err)
{
    struct memory_sink *sink = (struct memory_sink *)base;
    if (transactional && strikes(sink->world, MEM_FENCE))
        return away(err, "fence");
    log_clear(&sink->queue);
    if (transactional)
        end_transaction(sink->world);
    if (!owner)
        sink->transactional = transactional;
    sink->in_doubt = sink->open = false;
    return true;
}

static bool sink_begin(struct mr_sink *base, struct mr_error *err)
{
    struct memory_sink *sink = (struct memory_sink *)base;
    mr_assert(sink->transactional && !sink->open);
    if (strikes(sink->world, MEM_OPEN))
        return away(err, "begin of a transaction");
    if (sink->in_doubt) /* then with a new producer, which ends it */
        end_transaction(sink->world);
    sink->in_doubt = false;
    sink->open = true;
    mr_assert(!sink->world->transaction.open);
    sink->world->transaction.open = true;
    return true;
}

static void sink_begin_offsets(struct mr_sink *base, struct mr_source *source,
                               const struct mr_mark *marks, size_t n)
{
    (void)source, (void)marks, (void)n;
    mr_assert(((struct memory_sink *)base)->world->transaction.open);
}

static bool sink_offsets(struct mr_sink *base, struct mr_source *source,
                         const struct mr_mark *marks, size_t n, struct mr_error *err)
{
    struct mem_world *world = ((struct memory_sink *)base)->world;
    mr_assert(world->transaction.open);
    if (strikes(world, MEM_SEND_OFFSETS))
        return away(err, "offsets of a transaction");
    if (!source->ops->member(source))
        return mr_error_set(err, MR_RECOVER, MR_EXIT_TRY_AGAIN, "the group has moved on");
    for (size_t i = 0; i < n; i++) {
        world->transaction.has_offsets[marks[i].at.partition] = true;
        put_offset(&world->transaction.offsets[marks[i].at.partition], &marks[i]);
    }
    return true;
}

static bool sink_commit(struct mr_sink *base, struct mr_error *err)
{
    struct memory_sink *sink = (struct memory_sink *)base;
    struct mem_world *world = sink->world;
    mr_assert(sink->open && world->transaction.open);
    if (strikes(world, MEM_VISIBLE_UNDONE)) {
        sink->in_doubt = true;
        return away(err, "commit of a transaction");
    }
    for (int p = 0; p < MEM_PARTS; p++)
        if (world->transaction.has_offsets[p] && !world->drops_offsets)
            world->offsets[p] = world->transaction.offsets[p];
    pthread_mutex_lock(&lock);
    log_move(&world->out, &world->unseen);
    pthread_mutex_unlock(&lock);
    end_transaction(world);
    sink->open = strikes(world, MEM_VISIBLE_LOST);
    return sink->open ? away(err, "reply of a transaction's commit") : true;
}

static uint16_t sink_topic(struct mr_sink *base, const char *name)
{
    (void)base;
    return strcmp(name, "dead") == 0;
}

static const char *sink_topic_name(struct mr_sink *base, uint16_t index)
{
    (void)base;
    static const char *const names[] = {"out", "dead"};
    return index < 2 ? names[index] : NULL;
}

static bool sink_produce(struct mr_sink *base, struct mr_bytes frames, struct mr_error *err)
{
    struct memory_sink *sink = (struct memory_sink *)base;
    (void)err;
    for (const char *at = frames.ptr; at < frames.ptr + frames.len;) {
        struct mr_frame frame;
        struct mr_bytes key, headers, value;
        at = mr_frame_read(at, &frame, &key, &headers, &value);
        struct mr_buf text = {0};
        mr_buf_printf(&text, "%.*s|%.*s", (int)key.len, key.ptr ? key.ptr : "", (int)value.len,
                      value.ptr ? value.ptr : "");
        log_add(&sink->queue, mr_strdup(mr_buf_cstr(&text)));
        sink->world->produced++;
        mr_buf_fini(&text);
    }
    return true;
}

static bool sink_flush(struct mr_sink *base, int timeout_ms, size_t *bad, struct mr_error *err)
{
    struct memory_sink *sink = (struct memory_sink *)base;
    (void)timeout_ms;
    *bad = 0;
    if (strikes(sink->world, MEM_FLUSH))
        return away(err, "flush");
    for (size_t i = 0; i < sink->queue.n; i++)
        if (strstr(sink->queue.items[i], "unsendable")) {
            *bad = i;
            return mr_error_reject(err, "too_large", "injected: frame %zu is refused", i);
        }
    pthread_mutex_lock(&lock);
    log_move(sink->transactional ? &sink->world->unseen : &sink->world->out, &sink->queue);
    pthread_mutex_unlock(&lock);
    return true;
}

static void sink_abort(struct mr_sink *base)
{
    struct memory_sink *sink = (struct memory_sink *)base;
    log_clear(&sink->queue);
    sink->open = false;
    if (sink->transactional && !sink->in_doubt)
        end_transaction(sink->world);
}

/* An open transaction stays open, as when a process dies: the next fence ends it. */
static void sink_close(struct mr_sink *base)
{
    log_fini(&((struct memory_sink *)base)->queue);
    free(base);
}

struct mr_sink *mem_sink(struct mem_world *world)
{
    static const struct mr_sink_ops ops = {.fence = sink_fence,
                                           .begin = sink_begin,
                                           .produce = sink_produce,
                                           .flush = sink_flush,
                                           .begin_offsets = sink_begin_offsets,
                                           .offsets = sink_offsets,
                                           .commit = sink_commit,
                                           .abort = sink_abort,
                                           .topic = sink_topic,
                                           .topic_name = sink_topic_name,
                                           .close = sink_close};
    struct memory_sink *sink = mr_calloc(1, sizeof *sink);
    sink->base.ops = &ops;
    sink->world = world;
    return &sink->base;
}

/* --- store ---------------------------------------------------------------------------------------
 */

struct memory_store {
    struct mr_store base;
    struct mem_world *world;
    bool open; /* a transaction */
    struct mem_ledger after[MEM_PARTS];
    bool touched[MEM_PARTS];
    struct mem_log rows, dead;
};

static struct mr_bytes field(const char **at)
{
    uint32_t len;
    memcpy(&len, *at, sizeof len);
    len = __builtin_bswap32(len);
    struct mr_bytes bytes = {*at + 4, len};
    *at += 4 + len;
    return bytes;
}

static void set_job(struct mem_ledger *ledger, const struct mr_job_state *job)
{
    free(ledger->keys);
    free(ledger->cursor);
    ledger->keys = ledger->cursor = NULL;
    ledger->has_job = job != NULL;
    if (!job)
        return;
    ledger->keys = mr_strndup(job->keys.ptr, job->keys.len);
    ledger->keys_len = job->keys.len;
    ledger->cursor = mr_strndup(job->cursor.ptr, job->cursor.len);
    ledger->cursor_len = job->cursor.len;
    ledger->trigger_ms = job->trigger_ms;
}

static void store_rollback(struct mr_store *base)
{
    struct memory_store *store = (struct memory_store *)base;
    for (int p = 0; p < MEM_PARTS; p++) {
        if (store->touched[p]) {
            set_job(&store->after[p], NULL);
            free(store->after[p].redo);
        }
        store->touched[p] = false;
    }
    log_clear(&store->rows);
    log_clear(&store->dead);
    store->open = false;
}

static bool store_connect(struct mr_store *base, struct mr_error *err)
{
    (void)base;
    (void)err;
    return true;
}

static bool store_claim(struct mr_store *base, const struct mr_partition *at, int64_t epoch_before,
                        struct mr_claim *out, struct mr_error *err)
{
    struct memory_store *store = (struct memory_store *)base;
    struct mem_ledger *ledger = &store->world->ledger[at->partition];
    if (strikes(store->world, MEM_CLAIM))
        return away(err, "claim");
    *out = (struct mr_claim){.inserted = !ledger->there, .trying = -1};
    if (!ledger->there) {
        ledger->there = true;
        ledger->next_offset = ledger->trying = -1;
    }
    snprintf(out->mode, sizeof out->mode, "%s", ledger->mode);
    if (ledger->begun && epoch_before && ledger->epoch == epoch_before)
        ledger->trying = -1;
    ledger->attempts = ledger->trying < 0 ? 0 : ledger->attempts + ledger->begun;
    ledger->begun = false;
    out->attempts = ledger->attempts;
    out->trying = ledger->trying;
    static int64_t epochs;
    ledger->epoch = ++epochs;
    out->epoch = ledger->epoch;
    out->unit = ledger->unit;
    out->next_offset = ledger->next_offset;
    out->has_job = ledger->has_job;
    out->job = (struct mr_job_state){
        {ledger->keys, ledger->keys_len}, {ledger->cursor, ledger->cursor_len}, ledger->trigger_ms};
    return true;
}

static bool store_redo(struct mr_store *base, const struct mr_partition *at, int64_t unit,
                       struct mr_redo *out, bool *found, struct mr_error *err)
{
    struct mem_world *world = ((struct memory_store *)base)->world;
    const struct mem_ledger *ledger = &world->ledger[at->partition];
    (void)err;
    *found = ledger->redo && ledger->unit == unit;
    if (*found)
        *out = (struct mr_redo){.payload = {ledger->redo, ledger->redo_len},
                                .codec = "lz4/1",
                                .n = ledger->redo_n,
                                .crc32c = ledger->redo_crc};
    world->redone += *found;
    return true;
}

static bool store_attempt(struct mr_store *base, const struct mr_partition *at, int64_t epoch,
                          int64_t offset, struct mr_error *err)
{
    struct mem_world *world = ((struct memory_store *)base)->world;
    struct mem_ledger *ledger = &world->ledger[at->partition];
    mr_assert(!((struct memory_store *)base)->open);
    if (strikes(world, MEM_ATTEMPT))
        return away(err, "attempt");
    if (ledger->epoch != epoch)
        return mr_error_set(err, MR_RECOVER, MR_EXIT_TRY_AGAIN, "fenced");
    if (ledger->trying != offset)
        ledger->attempts = 0;
    ledger->trying = offset;
    ledger->begun = offset >= 0;
    return true;
}

static bool store_begin(struct mr_store *base, const struct mr_advance *steps, size_t n,
                        struct mr_error *err)
{
    struct memory_store *store = (struct memory_store *)base;
    mr_assert(!store->open);
    if (strikes(store->world, MEM_BEGIN))
        return away(err, "begin");
    store->open = true;
    for (size_t i = 0; i < n; i++) {
        int p = steps[i].at.partition;
        const struct mem_ledger *ledger = &store->world->ledger[p];
        if (ledger->epoch != steps[i].epoch || ledger->unit != steps[i].unit)
            return mr_error_set(err, MR_RECOVER, MR_EXIT_TRY_AGAIN, "lost the compare-and-swap");
        store->after[p] = (struct mem_ledger){.there = true,
                                              .epoch = ledger->epoch,
                                              .unit = steps[i].new_unit,
                                              .next_offset = steps[i].next_offset,
                                              .trying = -1};
        snprintf(store->after[p].mode, sizeof store->after[p].mode, "%s", store->world->mode);
        set_job(&store->after[p], steps[i].job);
        if (steps[i].redo) {
            const struct mr_redo *redo = steps[i].redo;
            store->after[p].redo = mr_strndup(redo->payload.ptr, redo->payload.len);
            store->after[p].redo_len = redo->payload.len;
            store->after[p].redo_n = redo->n;
            store->after[p].redo_crc = redo->crc32c;
        }
        store->touched[p] = true;
    }
    return true;
}

/* "poison", or "poison@" and the row's other field. */
static bool is_poison(struct mr_bytes a, struct mr_bytes b)
{
    return a.len >= 6 && memcmp(a.ptr, "poison", 6) == 0 &&
           (a.len == 6 || (a.len == 7 + b.len && memcmp(a.ptr + 7, b.ptr, b.len) == 0));
}

static bool store_copy(struct mr_store *base, const struct mr_row_run *runs, size_t n,
                       struct mr_error *err)
{
    struct memory_store *store = (struct memory_store *)base;
    if (strikes(store->world, MEM_COPY))
        return away(err, "copy");
    for (size_t i = 0; i < n; i++) {
        size_t rows = 0;
        for (const char *at = runs[i].rows.ptr; at < runs[i].rows.ptr + runs[i].rows.len; rows++) {
            at += 2;
            struct mr_bytes a = field(&at), b = field(&at);
            struct mr_buf text = {0};
            mr_buf_printf(&text, "%.*s|%.*s", (int)a.len, a.ptr, (int)b.len, b.ptr);
            log_add(&store->rows, mr_strdup(mr_buf_cstr(&text)));
            mr_buf_fini(&text);
            if (is_poison(a, b))
                return mr_error_reject(err, "rejected", "injected: a row is refused");
        }
        mr_assert(rows == runs[i].n);
    }
    return true;
}

static bool store_bury(struct mr_store *base, const struct mr_dead_letter *letters, size_t n,
                       struct mr_error *err)
{
    struct memory_store *store = (struct memory_store *)base;
    (void)err;
    for (size_t i = 0; i < n; i++) {
        struct mr_buf text = {0};
        mr_buf_printf(&text, "%s|%.*s|%s", letters[i].class_, (int)letters[i].rec.value.len,
                      letters[i].rec.value.ptr, letters[i].error);
        log_add(&store->dead, mr_strdup(mr_buf_cstr(&text)));
        store->world->dead_jobs += letters[i].job != NULL;
        mr_buf_fini(&text);
    }
    return true;
}

static bool store_check(struct mr_store *base, struct mr_error *err)
{
    (void)base;
    (void)err;
    return true;
}

static enum mr_decision store_commit(struct mr_store *base, struct mr_error *err)
{
    struct memory_store *store = (struct memory_store *)base;
    struct mem_world *world = store->world;
    bool lost = strikes(world, MEM_COMMIT_LOST);
    if (!lost && strikes(world, MEM_COMMIT_UNDONE)) {
        store_rollback(base);
        away(err, "connection lost before COMMIT");
        return MR_IN_DOUBT;
    }
    for (int p = 0; p < MEM_PARTS; p++)
        if (store->touched[p]) {
            struct mem_ledger *ledger = &world->ledger[p];
            free(ledger->keys);
            free(ledger->cursor);
            free(ledger->redo);
            *ledger = store->after[p];
            store->after[p] = (struct mem_ledger){0};
            store->touched[p] = false;
        }
    pthread_mutex_lock(&lock);
    log_move(&world->rows, &store->rows);
    log_move(&world->dead, &store->dead);
    world->transactions++;
    pthread_mutex_unlock(&lock);
    store->open = false;
    if (lost) {
        away(err, "reply of COMMIT");
        return MR_IN_DOUBT;
    }
    return MR_DECIDED;
}

static int64_t store_now_ms(struct mr_store *base)
{
    return ((struct memory_store *)base)->world->now_ms;
}

static const char *store_ledger_id(struct mr_store *base)
{
    return ((struct memory_store *)base)->world->ledger_id;
}

static bool encode(const struct mr_row_column *column, const struct mr_value *value,
                   struct mr_buf *out, struct mr_error *err)
{
    struct mr_buf text = {0};
    bool ok = mr_value_text(&text, value, err);
    (void)column;
    mr_buf_put_be32(out, (uint32_t)text.len);
    mr_buf_put(out, text.ptr, text.len);
    mr_buf_fini(&text);
    return ok;
}

static const struct mr_row_column row_columns[] = {
    {.name = "a", .type_name = "text", .is_text = true},
    {.name = "b", .type_name = "text", .is_text = true},
};
static const struct mr_row_schema row_schema = {
    .table = "rows", .columns = row_columns, .n = 2, .encode = encode};

static const struct mr_row_schema *store_schema(struct mr_store *base)
{
    (void)base;
    return &row_schema;
}

static void store_close(struct mr_store *base)
{
    struct memory_store *store = (struct memory_store *)base;
    store_rollback(base);
    log_fini(&store->rows);
    log_fini(&store->dead);
    free(store);
}

struct mr_store *mem_store(struct mem_world *world)
{
    static const struct mr_store_ops ops = {.connect = store_connect,
                                            .claim = store_claim,
                                            .redo = store_redo,
                                            .attempt = store_attempt,
                                            .begin = store_begin,
                                            .copy = store_copy,
                                            .bury = store_bury,
                                            .check = store_check,
                                            .commit = store_commit,
                                            .rollback = store_rollback,
                                            .reset = store_rollback,
                                            .now_ms = store_now_ms,
                                            .ledger_id = store_ledger_id,
                                            .schema = store_schema,
                                            .close = store_close};
    struct memory_store *store = mr_calloc(1, sizeof *store);
    store->base.ops = &ops;
    store->world = world;
    return &store->base;
}

/* --- script --------------------------------------------------------------------------------------
 */

struct memory_script {
    struct mr_script base;
    const char *tag;
    void (*each)(void *arg);
    void *arg;
    const struct mr_lookup_schema *columns;
    bool has_rows;
    char word[64], text[128];
    struct mr_buf bytes, key;
    struct mr_bytes keys[1];
    struct mr_seg segs[3];
    struct mr_template_field fields[2];
    struct mr_column_set set;
    struct mr_output output;
    struct mr_template template;
};

static enum mr_verdict script_accept(struct mr_script *base, struct mr_record *rec,
                                     struct mr_source *source, const struct mr_context *ctx,
                                     const char **reason, struct mr_error *err)
{
    struct memory_script *script = (struct memory_script *)base;
    (void)source;
    (void)ctx;
    script->word[0] = script->text[0] = '\0';
    sscanf(rec->value.ptr, "%63s %63s", script->word, script->text);
    if (script->tag)
        strcat(script->text, script->tag);
    if (script->each)
        script->each(script->arg);
    if (strcmp(script->word, "drop") == 0) {
        *reason = script->text;
        return MR_VERDICT_DROP;
    }
    if (strcmp(script->word, "bad") == 0) {
        mr_error_reject(err, "script", "%s", script->text);
        return MR_VERDICT_REJECT;
    }
    return MR_VERDICT_EMIT;
}

static enum mr_verdict script_key(struct mr_script *base, const struct mr_context *ctx,
                                  const struct mr_bytes **keys, size_t *n, const char **reason,
                                  struct mr_error *err)
{
    struct memory_script *script = (struct memory_script *)base;
    (void)ctx;
    if (strcmp(script->word, "none") == 0) {
        *reason = "no_key";
        return MR_VERDICT_DROP;
    }
    struct mr_value value = {.type = MR_TEXT, .bytes = mr_bytes_of(script->word)};
    mr_buf_reset(&script->key);
    if (!mr_lookup_key(script->columns, &value, &script->key, err))
        return MR_VERDICT_REJECT;
    script->keys[0] = (struct mr_bytes){script->key.ptr, script->key.len};
    *keys = script->keys;
    *n = 1;
    return MR_VERDICT_EMIT;
}

static enum mr_verdict script_project(struct mr_script *base, const struct mr_context *ctx,
                                      const struct mr_template **out, const char **reason,
                                      struct mr_error *err)
{
    struct memory_script *script = (struct memory_script *)base;
    uint32_t len = (uint32_t)strlen(script->text);
    (void)ctx;
    (void)reason;
    (void)err;
    mr_buf_reset(&script->bytes);
    mr_buf_printf(&script->bytes, "%s:", script->text);
    mr_buf_put_be32(&script->bytes, len);
    mr_buf_put(&script->bytes, script->text, len);
    script->segs[0] = (struct mr_seg){.kind = MR_SEG_BYTES, .from = 0, .len = len + 1};
    script->segs[1] = (struct mr_seg){.kind = MR_SEG_TEXT, .column = 1};
    script->segs[2] = (struct mr_seg){.kind = MR_SEG_TEXT, .column = 1};
    script->fields[0] = (struct mr_template_field){
        .kind = MR_FIELD_CONST, .row_column = 0, .from = len + 1, .len = 4 + len};
    script->fields[1] =
        (struct mr_template_field){.kind = MR_FIELD_COLUMN, .row_column = 1, .lookup_column = 1};
    script->set = (struct mr_column_set){.n = 2, .columns = {0, 1}};
    script->output = (struct mr_output){.has_message = true,
                                        .has_row = script->has_rows,
                                        .value = {0, 2, false},
                                        .key = {2, 1, false},
                                        .fields = script->fields,
                                        .set = &script->set};
    script->template = (struct mr_template){script->bytes.ptr, script->segs, &script->output, 1};
    *out = &script->template;
    return MR_VERDICT_EMIT;
}

static void script_finish(struct mr_script *base)
{
    (void)base;
}

static bool script_uses_lookup(const struct mr_script *base)
{
    (void)base;
    return true;
}

static const char *script_bundle(const struct mr_script *base)
{
    const struct memory_script *script = (const struct memory_script *)base;
    return script->tag ? script->tag : "b0";
}

static void script_close(struct mr_script *base)
{
    struct memory_script *script = (struct memory_script *)base;
    mr_buf_fini(&script->bytes);
    mr_buf_fini(&script->key);
    free(script);
}

struct mr_script *mem_script(const struct mr_lookup_schema *columns, bool has_rows)
{
    static const struct mr_script_ops ops = {
        .accept = script_accept,
        .key = script_key,
        .project = script_project,
        .finish = script_finish,
        .uses_lookup = script_uses_lookup,
        .bundle = script_bundle,
        .close = script_close,
    };
    struct memory_script *script = mr_calloc(1, sizeof *script);
    script->base.ops = &ops;
    script->columns = columns;
    script->has_rows = has_rows;
    return &script->base;
}

struct mr_script *mem_script_tagged(const struct mr_lookup_schema *columns, bool has_rows,
                                    const char *tag, void (*each)(void *arg), void *arg)
{
    struct memory_script *script = (struct memory_script *)mem_script(columns, has_rows);
    script->tag = tag;
    script->each = each;
    script->arg = arg;
    return &script->base;
}

struct mr_table *mem_table(const char *keys, int n)
{
    const struct mr_lookup_column columns[] = {{"k", MR_TEXT, "text"}, {"client", MR_TEXT, "text"}};
    const struct mr_lookup_schema schema = {"subscribers", columns, 1, 2};
    struct mr_table_builder *builder = mr_table_builder_new(&schema, true, 0);
    struct mr_error err;
    for (const char *key = keys; *key; key++)
        for (int i = 0; i < n; i++) {
            char client[32];
            snprintf(client, sizeof client, "%c-%04d", *key, i);
            const struct mr_value values[] = {{.type = MR_TEXT, .bytes = {key, 1}},
                                              {.type = MR_TEXT, .bytes = mr_bytes_of(client)}};
            mr_assert(mr_table_builder_add(builder, values, &err));
        }
    struct mr_table *table = NULL;
    mr_assert(mr_table_builder_finish(builder, &table, &err));
    return table;
}

struct mr_lookup *mem_lookup(int n)
{
    struct mr_lookup *lookup = mr_lookup_new("subscribers");
    mr_lookup_swap(lookup, mem_table("abc", n));
    return lookup;
}

/* --- for a worker --- */

bool mem_make_source(void *arg, int index, struct mr_source **out, struct mr_error *err)
{
    (void)index;
    (void)err;
    *out = mem_source(arg);
    return true;
}

bool mem_make_sink(void *arg, int index, struct mr_sink **out, struct mr_error *err)
{
    (void)index;
    (void)err;
    *out = mem_sink(arg);
    return true;
}

bool mem_make_store(void *arg, int index, struct mr_store **out, struct mr_error *err)
{
    (void)index;
    (void)err;
    *out = mem_store(arg);
    return true;
}

static void hushed(const char *text, void *arg)
{
    (void)arg;
    if (getenv("SHOW_LOG"))
        printf("%s\n", text);
}

void mem_hush_log(void)
{
    mr_log_hook(hushed, NULL);
}
