/*
 * context.h - ctx: what a script may ask about the message at hand.
 *
 * The view is C memory of the script; the userdata points to it while the message lasts. A ctx that
 * a script has kept raises when it is used later. Inside the gate, except mr_context_end.
 */
#ifndef MR_LUA_CONTEXT_H
#define MR_LUA_CONTEXT_H

#include "base/log.h"
#include "base/tree.h"
#include "millrace/record.h"
#include "millrace/script.h"
#include "millrace/source.h"

struct lua_State;

struct mr_view {
    const struct mr_context *ctx;
    struct mr_record *rec;
    struct mr_source *source; /* NULL: rec->headers are there already */
    bool headers_read;
    const char *pipeline, *bundle;
    bool quiet; /* log and count do nothing */
    struct mr_log_gate gate;
    struct mr_view **handle; /* inside the userdata of this message; NULL: none was made */
};

/* Once a state. `vars` may be NULL. */
void mr_context_open(struct lua_State *L, struct mr_view *view, const struct mr_node *vars);
/* Pushes the ctx of this message. */
void mr_context_push(struct lua_State *L, struct mr_view *view);
/* The message is done: what is kept of ctx is dead from here. */
void mr_context_end(struct mr_view *view);

#endif
