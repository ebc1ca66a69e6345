/*
 * host.h - one Lua state with limits, and the single protected gate into it.
 *
 * Everything that can raise runs in a job: a C function behind mr_host_call, which gets its
 * argument as a light userdata (lua_touserdata(L, 1)). Nobody outside core/lua knows longjmp
 * exists. A job owns nothing that a longjmp would lose: what it allocates belongs to somebody who
 * was there before.
 *
 * Limits: memory by an accounting allocator; time by a count hook whose error is sticky: a pcall
 * inside the script gets the error again at its next instruction. Time is the thread's CPU time, so
 * that a stopped or starved process does not blame the script. After either limit the state is
 * spent: free it, make a new one. One thread makes, uses and frees a host.
 */
#ifndef MR_LUA_HOST_H
#define MR_LUA_HOST_H

#include "base/error.h"

#include <stdint.h>

struct lua_State;
struct mr_host;

struct mr_host_limits {
    size_t memory_bytes; /* 0: no limit */
    int64_t time_ms;     /* of one mr_host_call; 0: no limit */
};

/* A state with no libraries in it: the first job opens the sandbox (sandbox.h). */
MR_MUSTCHECK bool mr_host_new(const struct mr_host_limits *limits, struct mr_host **out,
                              struct mr_error *err);
void mr_host_free(struct mr_host *host);

/*
 * Runs `job` with `arg` as a light userdata. False: it raised; *err is MR_REJECT, class script
 * (with a traceback), script_timeout or script_memory. Whoever loads a configuration sets action
 * and code anew.
 */
MR_MUSTCHECK bool mr_host_call(struct mr_host *host, int (*job)(struct lua_State *L), void *arg,
                               struct mr_error *err);

/* After script_timeout or script_memory: no call works any more. */
bool mr_host_spent(const struct mr_host *host);

/* For code inside a job. */
struct mr_host *mr_host_of(struct lua_State *L);
/* The time limit has been hit: what a script wants to run now must not run. */
bool mr_host_expired(const struct mr_host *host);
/*
 * For C functions that work long without an instruction: `units` of work, each about as dear as one
 * instruction, are counted; raises when the time is over.
 */
void mr_host_work(struct lua_State *L, uint32_t units);
/* The time limit counts anew from here: for a call that does its work piece by piece. */
void mr_host_renew(struct mr_host *host);

size_t mr_host_memory_bytes(const struct mr_host *host);

#endif
