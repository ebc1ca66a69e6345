/*
 * fresh.h - how fresh a lookup's table is, between the thread that feeds it and the workers that
 * read it.
 *
 * The feeder says of what moment the table is; a worker asks whether that is good enough, and with
 * consistency = "strict" waits until what was committed before its question is shown. Any thread
 * where nothing else is said; no I/O. Times are monotonic milliseconds.
 */
#ifndef MR_STREAM_FRESH_H
#define MR_STREAM_FRESH_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct mr_fresh_options {
    int64_t max_staleness_ms;
    bool pause;  /* past it: take no messages. Otherwise the table serves as it is */
    bool strict; /* wait before each unit */
};

struct mr_fresh;

struct mr_fresh *mr_fresh_new(const struct mr_fresh_options *options);
void mr_fresh_free(struct mr_fresh *fresh);
const struct mr_fresh_options *mr_fresh_options(const struct mr_fresh *fresh);

/* --- the feeder --- */
/* The table is as of this moment or later; `grace_ms` more than max_staleness are in the nature of
 * the feed (a reload's interval). */
void mr_fresh_set(struct mr_fresh *fresh, int64_t as_of_ms, int64_t grace_ms);
/* The latest question; 0 before the first. */
uint64_t mr_fresh_asked(struct mr_fresh *fresh);
/* What was committed before this question is shown. */
void mr_fresh_answer(struct mr_fresh *fresh, uint64_t question);

/* --- the workers --- */
/* -1: not set yet. */
int64_t mr_fresh_staleness_ms(const struct mr_fresh *fresh);
bool mr_fresh_stale(const struct mr_fresh *fresh);
/* Stale, and not to be worked with. */
bool mr_fresh_pauses(const struct mr_fresh *fresh);
/* True at once unless strict. False: no answer in time, or *stop. */
bool mr_fresh_await(struct mr_fresh *fresh, const atomic_bool *stop, int timeout_ms);

#endif
