/*
 * script.c - the script, the lookup and the input of the simulation.
 *
 * A source message is "KEY ID"; what becomes of it stands in sim.messages[ID]. Its outputs, one for
 * each row of KEY, carry ID and trigger time, so that the checker can tell which attempt each
 * output comes from. The lookup has a few versions that differ in every third subscriber; the
 * others stay. One thread.
 */
#include "sim.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static const struct {
    char key;
    int clients;
} keys[] = {{'a', 3}, {'b', 1}, {'c', SIM_CLIENTS}, {'d', 10}, {'e', 0}, {'n', 0}};
enum { N_KEYS = sizeof keys / sizeof *keys };

/* --- the lookup --- */

int sim_clients_of(char key)
{
    for (int i = 0; i < N_KEYS; i++)
        if (keys[i].key == key)
            return keys[i].clients;
    return 0;
}

bool sim_client_stays(char key, int client)
{
    return client < sim_clients_of(key) && client % 3 != 2;
}

int sim_devices_of(char key, int client)
{
    (void)key;
    return client % 7 == 5 ? 2 : 1;
}

static bool is_in(char key, int client, int version)
{
    return sim_client_stays(key, client) || (client + version * 5 + key) % 7 < 4;
}

static struct mr_table *make_table(int version)
{
    const struct mr_lookup_column columns[] = {
        {"k", MR_TEXT, "text"}, {"client", MR_TEXT, "text"}, {"device", MR_TEXT, "text"}};
    const struct mr_lookup_schema schema = {"subscribers", columns, 1, 3};
    struct mr_table_builder *builder = mr_table_builder_new(&schema, true, 0);
    struct mr_table *table = NULL;
    struct mr_error err;
    for (int k = 0; k < N_KEYS; k++)
        for (int c = 0; c < keys[k].clients; c++)
            for (int d = 0; d < sim_devices_of(keys[k].key, c); d++) {
                char client[16], device[16];
                if (!is_in(keys[k].key, c, version))
                    continue;
                snprintf(client, sizeof client, "c%02d", c);
                snprintf(device, sizeof device, "%d", d);
                const struct mr_value values[] = {{.type = MR_TEXT, .bytes = {&keys[k].key, 1}},
                                                  {.type = MR_TEXT, .bytes = mr_bytes_of(client)},
                                                  {.type = MR_TEXT, .bytes = mr_bytes_of(device)}};
                mr_assert(mr_table_builder_add(builder, values, &err));
            }
    mr_assert(mr_table_builder_finish(builder, &table, &err));
    return table;
}

void sim_lookup_swap(struct mr_lookup *lookup, int version)
{
    mr_lookup_swap(lookup, make_table(version));
}

struct mr_lookup *sim_lookup_new(int version)
{
    struct mr_lookup *lookup = mr_lookup_new("subscribers");
    sim_lookup_swap(lookup, version);
    return lookup;
}

/* --- the input --- */

static enum sim_kind draw_kind(void)
{
    static const unsigned char percent[SIM_KINDS] = {
        [SIM_DROP] = 8,        [SIM_BAD] = 5,         [SIM_ENDS] = 5,      [SIM_POISON] = 4,
        [SIM_POISON_LATE] = 3, [SIM_POISON_LAST] = 3, [SIM_UNSENDABLE] = 5};
    int at = sim_below(100);
    if (sim.mix->killers && sim_percent(12))
        return SIM_KILLER;
    for (enum sim_kind kind = SIM_DROP; kind < SIM_KINDS; kind++) {
        at -= percent[kind];
        if (at >= 0)
            continue;
        if (kind == SIM_UNSENDABLE ? sim.mix->sink : kind < SIM_POISON || sim.mix->store)
            return kind;
        return SIM_PLAIN;
    }
    return SIM_PLAIN;
}

static int64_t add_controls(int partition, int64_t arrives_us)
{
    while (sim_percent(12))
        sim.input[partition][sim.n_input[partition]++] = (struct sim_entry){-1, arrives_us};
    return arrives_us;
}

void sim_input_make(void)
{
    static const char drawn[] = "aaaaaabbbbccccddden";
    int64_t last_us[SIM_PARTS] = {0};
    int killers = 0;
    for (int p = 0; p < sim.n_parts; p++)
        sim.input[p] = mr_alloc(SIM_MESSAGES * 4 * sizeof *sim.input[p]);
    sim.n_messages = (int)sim_between(2, sim_percent(20) ? SIM_MESSAGES : 20);
    bool trickle = sim_percent(60);
    for (int id = 0; id < sim.n_messages; id++) {
        int p = sim_below(sim.n_parts);
        struct sim_message *message = &sim.messages[id];
        if (trickle && sim_percent(30))
            last_us[p] += sim_between(0, 10 * SECOND);
        int64_t at = last_us[p];
        if (sim.n_input[p] < SIM_MESSAGES * 2)
            add_controls(p, at);
        *message = (struct sim_message){.partition = p,
                                        .offset = sim.n_input[p],
                                        .arrives_us = at,
                                        .ends_ms = at / MS + sim_between(0, 20000),
                                        .kind = draw_kind(),
                                        .key = drawn[sim_below(sizeof drawn - 1)]};
        if (message->kind == SIM_KILLER && ++killers > 2)
            message->kind = SIM_PLAIN;
        int clients = sim_clients_of(message->key);
        message->victim = clients && sim_percent(60) ? sim_below(clients) : -1;
        snprintf(message->text, sizeof message->text, "%c %d", message->key, id);
        sim.input[p][sim.n_input[p]++] = (struct sim_entry){id, at};
    }
    for (int p = 0; p < sim.n_parts; p++)
        if (sim.n_input[p] < SIM_MESSAGES * 3)
            add_controls(p, last_us[p]);
}

/* --- outputs --- */

static bool read_client(const char *text, struct sim_output *out)
{
    return out->id >= 0 && out->id < sim.n_messages && text[0] == 'c' &&
           (out->client = atoi(text + 1)) < SIM_CLIENTS;
}

bool sim_parse_output(struct mr_bytes text, struct sim_output *out)
{
    char copy[64];
    char *rest = copy;
    snprintf(copy, sizeof copy, "%.*s", (int)text.len, text.ptr);
    out->id = (int)strtol(rest, &rest, 10);
    if (*rest++ != '@')
        return false;
    out->trigger_ms = strtoll(rest, &rest, 10);
    if (*rest++ != ':' || strlen(rest) != 5)
        return false;
    out->device = rest[4] - '0';
    return read_client(rest, out) && out->device >= 0 && out->device < 2;
}

bool sim_parse_row(struct mr_bytes text, struct mr_bytes client, struct mr_bytes device,
                   struct sim_output *out)
{
    char copy[64];
    snprintf(copy, sizeof copy, "%.*s:%.*s/%.*s", (int)text.len, text.ptr, (int)client.len,
             client.ptr, (int)device.len, device.ptr);
    return sim_parse_output(mr_bytes_of(copy), out);
}

/* --- the script --- */

struct script {
    struct mr_script base;
    struct sim_worker *worker;
    const struct mr_lookup_schema *columns;
    bool has_rows;
    char key_text[2];
    int id;
    struct mr_buf bytes, key;
    struct mr_bytes keys[1];
    struct mr_seg segs[4];
    struct mr_template_field fields[3];
    struct mr_column_set set;
    struct mr_output output;
    struct mr_template template;
};

static enum mr_verdict script_accept(struct mr_script *base, struct mr_record *rec,
                                     struct mr_source *source, const struct mr_context *ctx,
                                     const char **reason, struct mr_error *err)
{
    struct script *script = (struct script *)base;
    (void)source;
    script->key_text[0] = rec->value.ptr[0];
    script->id = atoi(rec->value.ptr + 2);
    const struct sim_message *message = &sim.messages[script->id];
    switch (message->kind) {
    case SIM_ENDS:
        if (ctx->now_ms < 1700000000000 + message->ends_ms)
            break;
        *reason = "ended";
        return MR_VERDICT_DROP;
    case SIM_DROP:
        *reason = "dropped";
        return MR_VERDICT_DROP;
    case SIM_BAD:
        mr_error_reject(err, "script", "bad");
        return MR_VERDICT_REJECT;
    case SIM_KILLER:
        sim_crash(script->worker, "a message kills it");
        sim_dead(err);
        return MR_VERDICT_STOP;
    default:
        break;
    }
    return MR_VERDICT_EMIT;
}

static enum mr_verdict script_key(struct mr_script *base, const struct mr_context *ctx,
                                  const struct mr_bytes **out, size_t *n, const char **reason,
                                  struct mr_error *err)
{
    struct script *script = (struct script *)base;
    (void)ctx;
    if (script->key_text[0] == 'n') {
        *reason = "no_key";
        return MR_VERDICT_DROP;
    }
    struct mr_value value = {.type = MR_TEXT, .bytes = {script->key_text, 1}};
    mr_buf_reset(&script->key);
    if (!mr_lookup_key(script->columns, &value, &script->key, err))
        return MR_VERDICT_REJECT;
    script->keys[0] = (struct mr_bytes){script->key.ptr, script->key.len};
    *out = script->keys;
    *n = 1;
    return MR_VERDICT_EMIT;
}

static enum mr_verdict script_project(struct mr_script *base, const struct mr_context *ctx,
                                      const struct mr_template **out, const char **reason,
                                      struct mr_error *err)
{
    struct script *script = (struct script *)base;
    char text[40];
    (void)reason;
    (void)err;
    uint32_t len = (uint32_t)snprintf(text, sizeof text, "%d@%" PRId64, script->id, ctx->now_ms);
    mr_buf_reset(&script->bytes);
    mr_buf_printf(&script->bytes, "%s:/", text);
    mr_buf_put_be32(&script->bytes, len);
    mr_buf_put(&script->bytes, text, len);
    script->segs[0] = (struct mr_seg){.kind = MR_SEG_BYTES, .from = 0, .len = len + 1};
    script->segs[1] = (struct mr_seg){.kind = MR_SEG_TEXT, .column = 1};
    script->segs[2] = (struct mr_seg){.kind = MR_SEG_BYTES, .from = len + 1, .len = 1};
    script->segs[3] = (struct mr_seg){.kind = MR_SEG_TEXT, .column = 2};
    script->fields[0] = (struct mr_template_field){
        .kind = MR_FIELD_CONST, .row_column = 0, .from = len + 2, .len = 4 + len};
    for (uint16_t i = 1; i < 3; i++)
        script->fields[i] = (struct mr_template_field){
            .kind = MR_FIELD_COLUMN, .row_column = i, .lookup_column = i};
    script->set = (struct mr_column_set){.n = 3, .columns = {0, 1, 2}};
    script->output = (struct mr_output){.has_message = sim.mix->sink,
                                        .has_row = script->has_rows,
                                        .topic = script->worker->swapped ? 1 : 0,
                                        .value = {0, 4, false},
                                        .key = {1, 1, false},
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
    (void)base;
    return "b0";
}

static void script_close(struct mr_script *base)
{
    struct script *script = (struct script *)base;
    mr_buf_fini(&script->bytes);
    mr_buf_fini(&script->key);
    free(script);
}

struct mr_script *sim_script(struct sim_worker *worker, const struct mr_lookup_schema *columns,
                             bool has_rows)
{
    static const struct mr_script_ops ops = {.accept = script_accept,
                                             .key = script_key,
                                             .project = script_project,
                                             .finish = script_finish,
                                             .uses_lookup = script_uses_lookup,
                                             .bundle = script_bundle,
                                             .close = script_close};
    struct script *script = mr_calloc(1, sizeof *script);
    script->base.ops = &ops;
    script->worker = worker;
    script->columns = columns;
    script->has_rows = has_rows;
    return &script->base;
}
