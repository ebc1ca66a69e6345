/*
 * pgoutput.c - the messages of logical replication, taken apart.
 *
 * Pure; any thread; owns nothing. Nothing in the bytes is trusted: every length is held against
 * what is there, every count against what a tuple of Postgres can have, and a message must be used
 * up. Must not know libpq, nor what the messages mean to a lookup. Tests:
 * tests/unit/test_pgoutput.c, tests/fuzz/fuzz_pgoutput.c.
 */
#include "postgres/pgoutput.h"

#include <stdio.h>
#include <string.h>

/* What is left to read. After the first read beyond the end everything is zero and `bad`. */
struct cursor {
    const uint8_t *at, *end;
    bool bad;
};

static const uint8_t *take(struct cursor *in, size_t len)
{
    if (in->bad || (size_t)(in->end - in->at) < len) {
        in->bad = true;
        return NULL;
    }
    const uint8_t *at = in->at;
    in->at += len;
    return at;
}

static uint64_t number(struct cursor *in, size_t len)
{
    const uint8_t *at = take(in, len);
    uint64_t value = 0;
    for (size_t i = 0; at && i < len; i++)
        value = value << 8 | at[i];
    return value;
}

static const char *string(struct cursor *in)
{
    const uint8_t *zero = in->bad ? NULL : memchr(in->at, 0, (size_t)(in->end - in->at));
    if (!zero) {
        in->bad = true;
        return "";
    }
    const char *text = (const char *)in->at;
    in->at = zero + 1;
    return text;
}

static bool malformed(const char *what, char kind, struct mr_error *err)
{
    return mr_error_set(err, MR_RETRY, MR_EXIT_UNREACHABLE,
                        "%s of kind 0x%02x from Postgres is not of the form that logical "
                        "replication has",
                        what, (unsigned)(uint8_t)kind);
}

/* --- the envelope --- */

bool mr_pgo_open(const uint8_t *bytes, size_t len, struct mr_pgo_envelope *out,
                 struct mr_error *err)
{
    struct cursor in = {bytes, bytes + len, false};
    *out = (struct mr_pgo_envelope){.kind = (char)number(&in, 1)};
    if (out->kind == 'w') {
        out->lsn = number(&in, 8);
        number(&in,
               8); /* the end of the log: of no use, and the same as the first in this plugin */
        out->sent_us = (int64_t)number(&in, 8);
        out->body = in.at;
        out->len = (size_t)(in.end - in.at);
    } else if (out->kind == 'k') {
        out->lsn = number(&in, 8);
        out->sent_us = (int64_t)number(&in, 8);
        out->reply = number(&in, 1) != 0;
        in.bad = in.bad || in.at != in.end;
    } else {
        in.bad = true;
    }
    return !in.bad || malformed("a replication message", out->kind, err);
}

static void put_number(uint8_t *out, uint64_t value)
{
    for (int i = 0; i < 8; i++)
        out[i] = (uint8_t)(value >> (56 - 8 * i));
}

void mr_pgo_status(uint8_t *out, uint64_t lsn, int64_t now_us, bool reply)
{
    out[0] = 'r';
    put_number(out + 1, lsn);  /* written */
    put_number(out + 9, lsn);  /* flushed */
    put_number(out + 17, lsn); /* applied */
    put_number(out + 25, (uint64_t)now_us);
    out[33] = reply;
}

/* --- the messages --- */

static struct mr_pgo_tuple tuple(struct cursor *in, struct mr_pgo_value *values)
{
    size_t n = number(in, 2);
    in->bad = in->bad || n > MR_PGO_COLUMNS_MAX;
    for (size_t i = 0; !in->bad && i < n; i++) {
        char kind = (char)number(in, 1);
        values[i] = (struct mr_pgo_value){.kind = kind};
        if (kind == 't' || kind == 'b') {
            values[i].len = (uint32_t)number(in, 4);
            values[i].bytes = take(in, values[i].len);
        } else {
            in->bad = in->bad || (kind != 'n' && kind != 'u');
        }
    }
    return (struct mr_pgo_tuple){values, in->bad ? 0 : n};
}

static void relation(struct cursor *in, struct mr_pgo_column *columns, struct mr_pgo_message *out)
{
    out->relation = (uint32_t)number(in, 4);
    out->schema = string(in);
    out->name = string(in);
    out->identity = (char)number(in, 1);
    size_t n = number(in, 2);
    in->bad = in->bad || n > MR_PGO_COLUMNS_MAX;
    for (size_t i = 0; !in->bad && i < n; i++) {
        columns[i].is_identity = number(in, 1) & 1;
        columns[i].name = string(in);
        columns[i].type = (uint32_t)number(in, 4);
        number(in, 4); /* typmod */
    }
    out->columns = columns;
    out->n_columns = in->bad ? 0 : n;
}

/* I, U and D: an old row in U and D, a new one in I and U. */
static void change(struct cursor *in, struct mr_pgo_space *space, struct mr_pgo_message *out)
{
    out->relation = (uint32_t)number(in, 4);
    char next = (char)number(in, 1);
    if (out->kind != 'I' && (next == 'K' || next == 'O')) {
        out->old_kind = next;
        out->old_row = tuple(in, space->old_row);
        next = out->kind == 'U' ? (char)number(in, 1) : 0;
    }
    if (out->kind == 'D') {
        in->bad = in->bad || !out->old_kind;
        return;
    }
    in->bad = in->bad || next != 'N';
    out->new_row = tuple(in, space->new_row);
    in->bad = in->bad || (out->old_kind && out->old_row.n != out->new_row.n);
}

static void truncation(struct cursor *in, struct mr_pgo_message *out)
{
    out->n_truncated = number(in, 4);
    number(in, 1); /* CASCADE, RESTART IDENTITY */
    out->truncated = take(in, out->n_truncated * 4);
}

static void read_kind(struct cursor *in, struct mr_pgo_space *space, struct mr_pgo_message *out)
{
    switch (out->kind) {
    case 'B':
        out->lsn = number(in, 8);
        out->commit_us = (int64_t)number(in, 8);
        number(in, 4); /* xid */
        break;
    case 'C':
        number(in, 1); /* flags */
        number(in, 8); /* where the commit stands */
        out->lsn = number(in, 8);
        out->commit_us = (int64_t)number(in, 8);
        break;
    case 'O':
        number(in, 8);
        string(in);
        break;
    case 'Y':
        number(in, 4);
        string(in);
        string(in);
        break;
    case 'R':
        relation(in, space->columns, out);
        break;
    case 'I':
    case 'U':
    case 'D':
        change(in, space, out);
        break;
    case 'T':
        truncation(in, out);
        break;
    default:
        in->bad = true;
    }
}

bool mr_pgo_read(const uint8_t *bytes, size_t len, struct mr_pgo_space *space,
                 struct mr_pgo_message *out, struct mr_error *err)
{
    struct cursor in = {bytes, bytes + len, false};
    *out = (struct mr_pgo_message){.kind = (char)number(&in, 1)};
    if (!in.bad)
        read_kind(&in, space, out);
    return (!in.bad && in.at == in.end) || malformed("a change", out->kind, err);
}

bool mr_pgo_truncates(const struct mr_pgo_message *message, uint32_t relation_oid)
{
    struct cursor in = {message->truncated, message->truncated + message->n_truncated * 4, false};
    for (size_t i = 0; i < message->n_truncated; i++)
        if (number(&in, 4) == relation_oid)
            return true;
    return false;
}

bool mr_pgo_lsn_parse(const char *text, uint64_t *lsn)
{
    unsigned high, low;
    char rest;
    if (sscanf(text, "%8X/%8X%c", &high, &low, &rest) != 2)
        return false;
    *lsn = (uint64_t)high << 32 | low;
    return true;
}
