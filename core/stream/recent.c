/*
 * recent.c - a ring of copied messages, written by workers, read by whoever rehearses.
 *
 * Any thread, under a mutex for which no worker waits: a message that comes while somebody else has
 * it is not kept. Owns the samples in the ring and a copy of the feedback table's description. Must
 * not know what is done with them. Tests: tests/unit/test_rehearse.c.
 */
#include "stream/recent.h"

#include <pthread.h>
#include <stdlib.h>

enum { PER_SECOND = 100, COST = 1000, LARGEST_PART = 4 };

struct mr_recent {
    pthread_mutex_t lock;
    atomic_size_t max;
    size_t max_bytes, bytes;
    struct mr_sample **ring; /* `max` places */
    size_t first, n;
    struct mr_row_schema *rows;
};

/* --- samples --- */

void mr_sample_release(struct mr_sample *sample)
{
    if (sample && atomic_fetch_sub_explicit(&sample->refs, 1, memory_order_acq_rel) == 1)
        free(sample);
}

static struct mr_bytes put(char **at, struct mr_bytes bytes)
{
    struct mr_bytes copy = {bytes.ptr ? *at : NULL, bytes.len};
    if (bytes.len)
        memcpy(*at, bytes.ptr, bytes.len);
    *at += bytes.len;
    return copy;
}

static size_t size_of(const struct mr_record *rec)
{
    size_t size = sizeof(struct mr_sample) + rec->n_headers * sizeof *rec->headers + rec->key.len +
                  rec->value.len + strlen(rec->topic) + 1;
    for (size_t i = 0; i < rec->n_headers; i++)
        size += rec->headers[i].name.len + rec->headers[i].value.len;
    return size;
}

static struct mr_sample *copy_sample(const struct mr_record *rec, int64_t now_ms)
{
    size_t size = size_of(rec);
    struct mr_sample *sample = mr_alloc(size);
    struct mr_header *headers = (struct mr_header *)(sample + 1);
    char *at = (char *)(headers + rec->n_headers);
    atomic_init(&sample->refs, 1);
    sample->bytes = size;
    sample->rec = *rec;
    sample->rec.handle = NULL;
    sample->rec.headers = headers;
    sample->now_ms = now_ms;
    sample->rec.key = put(&at, rec->key);
    sample->rec.value = put(&at, rec->value);
    for (size_t i = 0; i < rec->n_headers; i++)
        headers[i] =
            (struct mr_header){put(&at, rec->headers[i].name), put(&at, rec->headers[i].value)};
    sample->rec.topic = put(&at, (struct mr_bytes){rec->topic, strlen(rec->topic) + 1}).ptr;
    return sample;
}

/* --- the ring; the mutex is held --- */

static struct mr_sample *pop(struct mr_recent *recent)
{
    size_t max = atomic_load(&recent->max);
    struct mr_sample *sample = recent->ring[recent->first];
    recent->first = (recent->first + 1) % max;
    recent->n--;
    recent->bytes -= sample->bytes;
    return sample;
}

static void push(struct mr_recent *recent, struct mr_sample *sample)
{
    size_t max = atomic_load(&recent->max);
    recent->ring[(recent->first + recent->n++) % max] = sample;
    recent->bytes += sample->bytes;
}

/* True if one more sample of that size has a place. */
static bool has_place(const struct mr_recent *recent, size_t size)
{
    return recent->n == 0 ||
           (recent->n < atomic_load(&recent->max) && recent->bytes + size <= recent->max_bytes);
}

struct mr_recent *mr_recent_new(size_t max, size_t max_bytes)
{
    struct mr_recent *recent = mr_calloc(1, sizeof *recent);
    pthread_mutex_init(&recent->lock, NULL);
    atomic_init(&recent->max, max);
    recent->max_bytes = max_bytes;
    recent->ring = mr_calloc(max + 1, sizeof(struct mr_sample *));
    return recent;
}

void mr_recent_free(struct mr_recent *recent)
{
    if (!recent)
        return;
    while (recent->n)
        mr_sample_release(pop(recent));
    mr_recent_rows_free(recent->rows);
    pthread_mutex_destroy(&recent->lock);
    free(recent->ring);
    free(recent);
}

void mr_recent_resize(struct mr_recent *recent, size_t max)
{
    pthread_mutex_lock(&recent->lock);
    size_t n = 0;
    struct mr_sample **ring = mr_calloc(max + 1, sizeof(struct mr_sample *));
    while (recent->n) {
        bool fits = recent->n <= max;
        struct mr_sample *sample = pop(recent);
        if (fits)
            ring[n++] = sample;
        else
            mr_sample_release(sample);
    }
    free(recent->ring);
    recent->ring = ring;
    recent->first = recent->bytes = 0;
    atomic_store(&recent->max, max);
    for (size_t i = 0; i < n; i++)
        push(recent, ring[i]);
    pthread_mutex_unlock(&recent->lock);
}

/* --- the workers --- */

/* A bucket that holds `max` messages and is filled at PER_SECOND. */
static bool may_keep(struct mr_recent_tap *tap, size_t max, int64_t now_ms)
{
    int64_t full = (int64_t)max * COST, since_ms = now_ms - tap->at_ms;
    if (!tap->open || since_ms > INT32_MAX)
        tap->credit = full;
    else if (since_ms > 0)
        tap->credit += since_ms * (PER_SECOND * COST / 1000);
    if (tap->credit > full)
        tap->credit = full;
    tap->open = true;
    tap->at_ms = now_ms;
    if (tap->credit < COST)
        return false;
    tap->credit -= COST;
    return true;
}

void mr_recent_note(struct mr_recent *recent, struct mr_recent_tap *tap, struct mr_source *source,
                    struct mr_record *rec, int64_t now_ms)
{
    size_t max = recent ? atomic_load_explicit(&recent->max, memory_order_relaxed) : 0;
    if (!max || !may_keep(tap, max, now_ms) ||
        rec->key.len + rec->value.len > recent->max_bytes / LARGEST_PART)
        return;
    source->ops->headers(source, rec);
    struct mr_sample *sample = copy_sample(rec, now_ms), *gone = NULL;
    if (sample->bytes > recent->max_bytes / LARGEST_PART ||
        pthread_mutex_trylock(&recent->lock) != 0) {
        mr_sample_release(sample);
        return;
    }
    if (atomic_load(&recent->max)) {
        while (!has_place(recent, sample->bytes)) {
            mr_sample_release(gone);
            gone = pop(recent);
        }
        push(recent, sample);
        sample = NULL;
    }
    pthread_mutex_unlock(&recent->lock);
    mr_sample_release(gone);
    mr_sample_release(sample);
}

/* --- who rehearses --- */

struct mr_sample **mr_recent_take(struct mr_recent *recent, size_t max, size_t *n)
{
    pthread_mutex_lock(&recent->lock);
    size_t places = atomic_load(&recent->max);
    *n = recent->n < max ? recent->n : max;
    struct mr_sample **list = mr_calloc(*n + 1, sizeof(struct mr_sample *));
    for (size_t i = 0; i < *n; i++) {
        list[i] = recent->ring[(recent->first + recent->n - *n + i) % places];
        atomic_fetch_add_explicit(&list[i]->refs, 1, memory_order_relaxed);
    }
    pthread_mutex_unlock(&recent->lock);
    return list;
}

static struct mr_row_schema *copy_rows(const struct mr_row_schema *rows)
{
    struct mr_row_schema *copy = mr_alloc(sizeof *copy);
    struct mr_row_column *columns = mr_calloc(rows->n + 1, sizeof *columns);
    *copy = *rows;
    copy->columns = columns;
    copy->table = mr_strdup(rows->table);
    for (size_t i = 0; i < rows->n; i++) {
        columns[i] = rows->columns[i];
        columns[i].name = mr_strdup(rows->columns[i].name);
        columns[i].type_name = mr_strdup(rows->columns[i].type_name);
    }
    return copy;
}

void mr_recent_rows_free(struct mr_row_schema *rows)
{
    if (!rows)
        return;
    for (size_t i = 0; i < rows->n; i++) {
        free((void *)(uintptr_t)rows->columns[i].name);
        free((void *)(uintptr_t)rows->columns[i].type_name);
    }
    free((void *)(uintptr_t)rows->columns);
    free((void *)(uintptr_t)rows->table);
    free(rows);
}

void mr_recent_set_rows(struct mr_recent *recent, const struct mr_row_schema *rows)
{
    if (!recent)
        return;
    struct mr_row_schema *copy = rows ? copy_rows(rows) : NULL;
    pthread_mutex_lock(&recent->lock);
    struct mr_row_schema *before = recent->rows;
    recent->rows = copy;
    pthread_mutex_unlock(&recent->lock);
    mr_recent_rows_free(before);
}

struct mr_row_schema *mr_recent_rows(struct mr_recent *recent)
{
    pthread_mutex_lock(&recent->lock);
    struct mr_row_schema *copy = recent->rows ? copy_rows(recent->rows) : NULL;
    pthread_mutex_unlock(&recent->lock);
    return copy;
}
