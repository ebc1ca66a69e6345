/*
 * error.h - what went wrong, and what the caller should do about it.
 *
 * An error lives on the caller's stack and is filled by the function that failed. `action` is set
 * where the knowledge is (the adapter knows librdkafka's retriable/fatal and Postgres's SQLSTATE
 * classes); the layers above put context in front of the message and obey. No allocation, any
 * thread.
 */
#ifndef MR_BASE_ERROR_H
#define MR_BASE_ERROR_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#define MR_MUSTCHECK    __attribute__((warn_unused_result))
#define MR_PRINTF(f, a) __attribute__((format(printf, f, a)))
#define MR_NORETURN     __attribute__((noreturn))

enum mr_action {
    MR_RETRY = 1, /* the service may come back: undo, back off, try again */
    MR_REJECT,    /* this message is at fault: dead letter, the stream goes on */
    MR_RECOVER,   /* state of the sinks is in doubt: claim again, which settles it */
    MR_STOP       /* only a person can help: halt loudly, say which command resolves it */
};

/* Exit codes, after sysexits(3); `code` of an error that ends the process is one of them. */
enum mr_exit {
    MR_EXIT_OK = 0,
    MR_EXIT_TESTS_FAILED = 1,
    MR_EXIT_USAGE = 64,       /* the command line is wrong */
    MR_EXIT_DATA = 65,        /* input or stored state is wrong */
    MR_EXIT_UNREACHABLE = 69, /* Kafka or Postgres is away */
    MR_EXIT_BUG = 70,         /* a broken invariant */
    MR_EXIT_TRY_AGAIN = 75,
    MR_EXIT_CONFIG = 78 /* configuration, script or principal is wrong */
};

struct mr_error {
    int code; /* enum mr_exit: how the process ends, should it end by this */
    enum mr_action action;
    char class_[16]; /* with MR_REJECT: decode utf8 schema script script_timeout script_memory
                        too_large rejected */
    char msg[1024];  /* one sentence or several lines, no newline at the end */
};

/* Fills `err`; returns false, so that callers can `return mr_error_set(...)`. `err` may be NULL. */
bool mr_error_set(struct mr_error *err, enum mr_action action, int code, const char *format, ...)
    MR_PRINTF(4, 5);

/* The same for MR_REJECT, with the dead-letter class. */
bool mr_error_reject(struct mr_error *err, const char *class_, const char *format, ...)
    MR_PRINTF(3, 4);

/* Puts "<format>: " in front of the message that is there. Returns false. */
bool mr_error_context(struct mr_error *err, const char *format, ...) MR_PRINTF(2, 3);

/* Allocation that does not fail: a process without memory says so and aborts (INVARIANTS.md). */
void *mr_alloc(size_t size_bytes) __attribute__((malloc, returns_nonnull));
void *mr_calloc(size_t n, size_t size_bytes) __attribute__((malloc, returns_nonnull));
void *mr_realloc(void *ptr, size_t size_bytes) __attribute__((returns_nonnull));
char *mr_strdup(const char *text) __attribute__((malloc, returns_nonnull));
char *mr_strndup(const char *text, size_t len) __attribute__((malloc, returns_nonnull));

/* On in release too: guards our own invariants, never input. Aborts with file and line. */
MR_NORETURN void mr_assert_failed(const char *what, const char *file, int line);
#define mr_assert(cond)                                                                            \
    do {                                                                                           \
        if (__builtin_expect(!(cond), 0))                                                          \
            mr_assert_failed(#cond, __FILE__, __LINE__);                                           \
    } while (0)

#endif
