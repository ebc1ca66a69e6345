/*
 * test_script.c - the script contract as the engine uses it: order of calls, who owns what for how
 * long, the state made anew, headers read only when asked for, the template as it is handed over.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/log.h"
#include "base/metrics.h"
#include "lua/host.h"
#include "lua/reads.h"
#include "lua/script.h"

#include <lauxlib.h>
#include <lua.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const struct mr_lookup_column lookup_columns[] = {
    {"id", MR_TEXT, "text"}, {"name", MR_TEXT, "text"}, {"n", MR_INT, "bigint"}};
static const struct mr_lookup_schema lookup = {"people", lookup_columns, 1, 3};

static const struct mr_row_column row_columns[] = {
    {.name = "id", .type_name = "text", .is_text = true, .not_null = true},
    {.name = "name", .type_name = "text", .is_text = true},
    {.name = "n", .type_name = "bigint"}};

/* The field as its length and the value's text: enough to see what was encoded, and how often. */
static int encoded;
static bool encode(const struct mr_row_column *column, const struct mr_value *value,
                   struct mr_buf *out, struct mr_error *err)
{
    (void)column;
    struct mr_buf text;
    mr_buf_init(&text);
    bool done = mr_value_text(&text, value, err);
    mr_buf_put_be32(out, (uint32_t)text.len);
    mr_buf_put(out, text.ptr, text.len);
    mr_buf_fini(&text);
    encoded++;
    return done;
}
static const struct mr_row_schema rows = {
    .table = "feedback", .columns = row_columns, .n = 3, .encode = encode};

static int headers_asked;
static void give_headers(struct mr_source *source, struct mr_record *rec)
{
    static const struct mr_header headers[] = {{{"h", 1}, {"v", 1}}};
    (void)source;
    headers_asked++;
    rec->headers = headers;
    rec->n_headers = 1;
}
static const struct mr_source_ops source_ops = {.headers = give_headers};
static struct mr_source source = {&source_ops};

static char path[64];

static struct mr_script *open_text(const char *text, bool joined, struct mr_error *err)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    struct mr_script_options options = {
        .path = path,
        .has_lookup = joined,
        .lookup = joined ? &lookup : NULL,
        .rows = joined ? &rows : NULL,
        .has_message = true,
        .time_limit_ms = 50,
        .memory_limit_bytes = 8 << 20,
        .pipeline = "unit",
    };
    struct mr_script *script = NULL;
    if (mr_script_open(&options, &script, err))
        assert_non_null(script);
    else
        assert_null(script);
    return script;
}

static struct mr_script *must_open(const char *text, bool joined)
{
    struct mr_error err;
    struct mr_script *script = open_text(text, joined, &err);
    if (!script)
        fail_msg("%s", err.msg);
    return script;
}

static struct mr_record record(const char *value)
{
    return (struct mr_record){
        .topic = "in", .offset = 5, .timestamp_ms = 1, .value = mr_bytes_of(value)};
}

static const struct mr_context ctx = {.now_ms = 1700000000123};

/* The way of one message up to the template; NULL: *verdict says why. */
static const struct mr_template *pass(struct mr_script *script, const char *value,
                                      enum mr_verdict *verdict, struct mr_error *err)
{
    struct mr_record rec = record(value);
    const struct mr_template *template = NULL;
    const struct mr_bytes *keys;
    const char *reason;
    size_t n;
    *verdict = script->ops->accept(script, &rec, &source, &ctx, &reason, err);
    if (*verdict == MR_VERDICT_EMIT && script->ops->uses_lookup(script))
        *verdict = script->ops->key(script, &ctx, &keys, &n, &reason, err);
    if (*verdict == MR_VERDICT_EMIT)
        *verdict = script->ops->project(script, &ctx, &template, &reason, err);
    return template;
}

#define JOINED                                                                                     \
    "local s = {} function s.key(m) return m.id end "                                              \
    "function s.project(m, col, ctx) return { id = m.id, name = col.name, at = ctx.now_ms } end "  \
    "function s.shape(r) return r, fmt '<{name}>', { h = r.id } end "                              \
    "function s.row(r) return { id = r.id, name = r.name } end return s"

static void check_run(const struct mr_template *template, struct mr_seg_run run,
                      const char *expected)
{
    struct mr_buf text;
    mr_buf_init(&text);
    for (uint32_t i = run.first; i < run.first + run.n; i++) {
        const struct mr_seg *seg = &template->segs[i];
        if (seg->kind == MR_SEG_BYTES)
            mr_buf_put(&text, template->bytes + seg->from, seg->len);
        else
            mr_buf_printf(&text, "$%d:%d", seg->kind, seg->column);
    }
    assert_string_equal(mr_buf_cstr(&text), expected);
    mr_buf_fini(&text);
}

static void a_template_is_segments_and_fields(void **state)
{
    (void)state;
    struct mr_error err;
    enum mr_verdict verdict;
    struct mr_script *script = must_open(JOINED, true);
    const struct mr_template *template = pass(script, "{\"id\":\"a\"}", &verdict, &err);
    assert_int_equal(verdict, MR_VERDICT_EMIT);
    assert_int_equal(template->n_outputs, 1);
    const struct mr_output *output = &template->outputs[0];
    assert_true(output->has_message && output->has_row);
    check_run(template, output->value, "{\"at\":1700000000123,\"id\":\"a\",\"name\":$1:1}");
    check_run(template, output->key, "<$3:1>");
    assert_int_equal(output->n_headers, 1);
    check_run(template, output->headers[0].name, "h");
    check_run(template, output->headers[0].value, "a");
    assert_int_equal(output->set->n, 2);
    assert_int_equal(output->fields[0].kind, MR_FIELD_CONST);
    assert_memory_equal(template->bytes + output->fields[0].from, "\0\0\0\1a", 5);
    assert_int_equal(output->fields[0].len, 5);
    assert_int_equal(output->fields[1].kind, MR_FIELD_COLUMN);
    assert_int_equal(output->fields[1].row_column, 1);
    assert_int_equal(output->fields[1].lookup_column, 1);
    script->ops->finish(script);
    script->ops->close(script);
}

static void column_sets_stay_for_the_life_of_the_script(void **state)
{
    (void)state;
    struct mr_error err;
    enum mr_verdict verdict;
    struct mr_script *script =
        must_open("return { key = function(m) return m.id end, project = function(m, col) "
                  "return { id = m.id, n = m.n, name = m.name } end, "
                  "shape = function() return '' end }",
                  true);
    const struct mr_column_set *sets[3];
    static const char *const values[] = {"{\"id\":\"a\",\"n\":1}", "{\"id\":\"a\",\"name\":\"x\"}",
                                         "{\"id\":\"a\"}"};
    for (int round = 0; round < 3; round++)
        for (size_t i = 0; i < 3; i++) {
            const struct mr_template *template = pass(script, values[i], &verdict, &err);
            assert_non_null(template);
            if (round == 0)
                sets[i] = template->outputs[0].set;
            assert_ptr_equal(template->outputs[0].set, sets[i]);
            script->ops->finish(script);
        }
    assert_int_equal(sets[0]->n, 2);
    assert_int_equal(sets[0]->columns[1], 2);
    assert_int_equal(sets[2]->n, 1);
    script->ops->close(script);
}

static void constants_are_encoded_once_a_message(void **state)
{
    (void)state;
    struct mr_error err;
    enum mr_verdict verdict;
    struct mr_script *script = must_open(JOINED, true);
    encoded = 0;
    assert_non_null(pass(script, "{\"id\":\"a\"}", &verdict, &err));
    assert_int_equal(encoded, 1);
    script->ops->finish(script);
    script->ops->close(script);
}

static void keys_are_canonical_and_stand_once(void **state)
{
    (void)state;
    struct mr_error err;
    struct mr_script *script = must_open("return { key = function(m) return m end, "
                                         "project = function() return {} end }",
                                         true);
    struct mr_record rec = record("[\"b\",\"a\",\"b\",null,\"a\"]");
    const struct mr_bytes *keys;
    const char *reason;
    size_t n;
    assert_int_equal(script->ops->accept(script, &rec, NULL, &ctx, &reason, &err), MR_VERDICT_EMIT);
    assert_int_equal(script->ops->key(script, &ctx, &keys, &n, &reason, &err), MR_VERDICT_EMIT);
    assert_int_equal(n, 2);
    struct mr_value value = {.type = MR_TEXT, .bytes = {"b", 1}};
    struct mr_buf canonical;
    mr_buf_init(&canonical);
    assert_true(mr_lookup_key(&lookup, &value, &canonical, &err));
    assert_int_equal(keys[0].len, canonical.len);
    assert_memory_equal(keys[0].ptr, canonical.ptr, canonical.len);
    mr_buf_fini(&canonical);
    script->ops->finish(script);
    script->ops->close(script);
}

static void headers_are_read_when_the_script_asks(void **state)
{
    (void)state;
    struct mr_error err;
    enum mr_verdict verdict;
    struct mr_script *script =
        must_open("return { map = function(m, ctx) if m.ask then return { ctx.headers.h "
                  "and ctx.headers[1] and {} } end return {} end }",
                  false);
    headers_asked = 0;
    assert_non_null(pass(script, "{}", &verdict, &err));
    script->ops->finish(script);
    assert_int_equal(headers_asked, 0);
    for (int i = 1; i <= 2; i++) {
        assert_non_null(pass(script, "{\"ask\":true}", &verdict, &err));
        script->ops->finish(script);
        assert_int_equal(headers_asked, i);
    }
    script->ops->close(script);
}

static void a_spent_state_is_made_anew_from_the_same_sources(void **state)
{
    (void)state;
    struct mr_error err;
    enum mr_verdict verdict;
    struct mr_script *script = must_open(
        "local n = 0 return { map = function(m) n = n + 1 if m.loop then while true do end end "
        "return { n = n } end }",
        false);
    char bundle[64];
    snprintf(bundle, sizeof bundle, "%s", script->ops->bundle(script));
    FILE *file = fopen(path, "w"); /* what the file has become does not matter */
    fputs("broken now", file);
    fclose(file);
    for (int round = 0; round < 3; round++) {
        assert_null(pass(script, "{\"loop\":true}", &verdict, &err));
        assert_int_equal(verdict, MR_VERDICT_REJECT);
        assert_string_equal(err.class_, "script_timeout");
        script->ops->finish(script);
        const struct mr_template *template = pass(script, "{}", &verdict, &err);
        assert_non_null(template);
        check_run(template, template->outputs[0].value, "{\"n\":1}");
        script->ops->finish(script);
        assert_string_equal(script->ops->bundle(script), bundle);
    }
    script->ops->close(script);
}

static void closing_is_safe_at_any_moment(void **state)
{
    (void)state;
    struct mr_error err;
    enum mr_verdict verdict;
    struct mr_script *script = must_open(JOINED, true);
    script->ops->finish(script);
    script->ops->close(script);
    script = must_open(JOINED, true);
    assert_non_null(pass(script, "{\"id\":\"a\"}", &verdict, &err));
    script->ops->close(script); /* in the middle of a message */
    script = must_open("return { map = function() while true do end end }", false);
    assert_null(pass(script, "1", &verdict, &err));
    script->ops->close(script); /* without a state */
}

static void load_errors_stop_with_exit_code_78(void **state)
{
    (void)state;
    struct mr_error err;
    assert_null(open_text("return { mpa = function() end }", false, &err));
    assert_int_equal(err.action, MR_STOP);
    assert_int_equal(err.code, MR_EXIT_CONFIG);
    assert_non_null(strstr(err.msg, ":1: 'mpa' is not part of a script (did you mean 'map'?)"));
}

static void tombstones_are_dropped_and_empty_values_refused(void **state)
{
    (void)state;
    struct mr_error err;
    const char *reason = NULL;
    struct mr_script *script = must_open("return { map = function() return {} end }", false);
    struct mr_record rec = {.topic = "in"};
    assert_int_equal(script->ops->accept(script, &rec, NULL, &ctx, &reason, &err), MR_VERDICT_DROP);
    assert_string_equal(reason, "tombstone");
    script->ops->finish(script);
    rec.value = (struct mr_bytes){"", 0};
    assert_int_equal(script->ops->accept(script, &rec, NULL, &ctx, &reason, &err),
                     MR_VERDICT_REJECT);
    assert_string_equal(err.class_, "decode");
    script->ops->finish(script);
    script->ops->close(script);
}

static char logged[512];
static void note_line(const char *text, void *arg)
{
    (void)arg;
    snprintf(logged, sizeof logged, "%s", text);
}

static void log_and_counters_name_message_and_pipeline(void **state)
{
    (void)state;
    struct mr_error err;
    enum mr_verdict verdict;
    struct mr_script *script =
        must_open("return { map = function(m, ctx) ctx.log.warn('odd', m.x, nil) "
                  "ctx.count('odd') ctx.count('odd', 2) return {} end }",
                  false);
    mr_log_hook(note_line, NULL);
    assert_non_null(pass(script, "{\"x\":1.5}", &verdict, &err));
    mr_log_hook(NULL, NULL);
    assert_non_null(strstr(logged, "script: odd 1.5 nil (in/0@5)"));
    assert_non_null(strstr(logged, "warn"));
    struct mr_metric *metric = mr_metrics_get(MR_COUNTER, "millrace_script_count_total", "",
                                              "pipeline=\"unit\",name=\"odd\"");
    assert_true(mr_metric_read(metric) == 3);
    script->ops->finish(script);
    script->ops->close(script);
}

/* With less and less memory a script loads, or says that it cannot; nothing leaks, nothing crashes.
 */
static void any_memory_limit_gives_a_script_or_an_error(void **state)
{
    (void)state;
    FILE *file = fopen(path, "w");
    fputs(JOINED, file);
    fclose(file);
    int opened = 0, refused = 0;
    for (size_t limit = 2000; limit < 120000; limit += 997) {
        struct mr_script_options options = {.path = path,
                                            .has_lookup = true,
                                            .lookup = &lookup,
                                            .rows = &rows,
                                            .has_message = true,
                                            .memory_limit_bytes = limit,
                                            .pipeline = "unit"};
        struct mr_error err;
        struct mr_script *script;
        if (!mr_script_open(&options, &script, &err)) {
            assert_int_equal(err.code, MR_EXIT_CONFIG);
            refused++;
            continue;
        }
        opened++;
        enum mr_verdict verdict;
        for (int i = 0; i < 3; i++) {
            if (!pass(script, "{\"id\":\"a long enough identifier to be a string of its own\"}",
                      &verdict, &err))
                assert_true(verdict == MR_VERDICT_REJECT || verdict == MR_VERDICT_STOP);
            script->ops->finish(script);
        }
        script->ops->close(script);
    }
    assert_true(opened > 10 && refused > 10);
}

/* --- what a function does with its first argument --- */

static const struct {
    const char *function, *names; /* NULL: more than read fields */
} readers[] = {
    {"function(m, c) return m.ends > c.now, 'over' end", "ends"},
    {"function(m) local a = m.a; for i = 1, m.n do a = a + i end return a == m.b end", "a n b"},
    {"function(m) if m.x == nil then return false end return not m.x and -m.x < m.y end", "x y"},
    {"function(m) return pcall(type, m.a), up[m.k], { m.a, x = m.b }, m.a .. m.b, #m.c end",
     "a k b c"},
    {"function(m) while m.a ~= 1 do if m.b then break end end up.last = m.c end", "a b c"},
    {"function(m) for k, v in pairs(m.list) do if v == m.v then return k end end end", "list v"},
    {"function(m, c) return c.a end", ""},
    {"function(m) end", ""},
    {"function() end", NULL},
    {"function(...) return (...).a end", NULL},
    {"function(m, ...) return m.a end", NULL},
    {"function(m) return m end", NULL},
    {"function(m) return m.a, m end", NULL},
    {"function(m) local n = m return n.a end", NULL},
    {"function(m) m = 1 end", NULL},
    {"function(m) m = m.a return m end", NULL},
    {"function(m) m.a = 1 end", NULL},
    {"function(m) m[1] = 1 end", NULL},
    {"function(m, k) m[k] = 1 end", NULL},
    {"function(m) return m[1] end", NULL},
    {"function(m, k) return m[k] end", NULL},
    {"function(m, k) return k[m] end", NULL},
    {"function(m, k) k.x = m end", NULL},
    {"function(m, k) k[1] = m end", NULL},
    {"function(m, k) k[k] = m end", NULL},
    {"function(m, k) k[m] = 1 end", NULL},
    {"function(m) up.x = m end", NULL},
    {"function(m) up = m end", NULL},
    {"function(m) return type(m) end", NULL},
    {"function(m) return m:f() end", NULL},
    {"function(m, k) return k:f(m) end", NULL},
    {"function(m) return { m } end", NULL},
    {"function(m) return { x = m } end", NULL},
    {"function(m) return #m end", NULL},
    {"function(m) return -m end", NULL},
    {"function(m) return not m end", NULL},
    {"function(m) return m .. 'x' end", NULL},
    {"function(m) return 'x' .. m end", NULL},
    {"function(m) return m + 1 end", NULL},
    {"function(m, k) return k + m end", NULL},
    {"function(m, k) return k == m end", NULL},
    {"function(m, k) return m < k end", NULL},
    {"function(m) return m == 1 end", NULL},
    {"function(m) return m and m end", NULL},
    {"function(m) return function() return m.a end end", NULL},
    {"function(m) for k in pairs(m) do return k end end", NULL},
    {"function(m) for i = 1, m do return i end end", NULL},
    {"function(m) goto l ::l:: do local k <close> = m end end", NULL},
    {"function(m) return m.a1,m.a2,m.a3,m.a4,m.a5,m.a6,m.a7,m.a8,m.a9,m.a10,m.a11,m.a12,m.a13,"
     "m.a14,m.a15,m.a16 end",
     "a1 a2 a3 a4 a5 a6 a7 a8 a9 a10 a11 a12 a13 a14 a15 a16"},
    {"function(m) return m.a1,m.a2,m.a3,m.a4,m.a5,m.a6,m.a7,m.a8,m.a9,m.a10,m.a11,m.a12,m.a13,"
     "m.a14,m.a15,m.a16,m.a17 end",
     NULL},
    {"function(m) return m['a\\0b'] end", NULL},
    {"type", NULL},
    {"nil", NULL},
};

/* Functions of which it is certain that they leave their first argument as it is. */
static const struct {
    const char *function;
    enum mr_leaves leaves;
} keepers[] = {
    {"function(m) return m end", MR_LEAVES_ALL},
    {"function(m) return m, m.a end", MR_LEAVES_ALL},
    {"function(m, k) return m, m.a, nil, k.vars[m.b][1] end", MR_LEAVES_IT},
    {"function(m) return m, m.a, { kind = m.kind, 'x', m, { m.a } } end", MR_LEAVES_ALL},
    {"function(m) local t = {} t.a = m.a t[m.b] = 1 t[1] = m return t end", MR_LEAVES_ALL},
    {"function(m) local a, b, c return m, a, b, up end", MR_LEAVES_ALL},
    {"function(m) return { a = tostring(m.a) .. 'x', b = #m.b, c = m.c + 1 } end", MR_LEAVES_IT},
    {"function(m) if m.a then return m.a end return m.b end", MR_LEAVES_IT},
    {"function(m) m.a = 1 return m end", MR_LEAVES_NOT},
    {"function(m) m[1] = 1 return m end", MR_LEAVES_NOT},
    {"function(m, k) m[k] = 1 return m end", MR_LEAVES_NOT},
    {"function(m) local t = m t.a = 1 return m end", MR_LEAVES_NOT},
    {"function(m) local t = {} t = m t.a = 1 return m end", MR_LEAVES_NOT},
    {"function(m) local t, u = {}, {} t, u = m, t t.a = 1 return m end", MR_LEAVES_NOT},
    {"function(m) local t = {} do local u = t end t = nil t = m t[1] = 2 return m end",
     MR_LEAVES_NOT},
    {"function(m) local t = { m } t[1].a = 1 return m end", MR_LEAVES_NOT},
    {"function(m) local t = {} ::again:: t.a = 1 t = m if m.b then goto again end end",
     MR_LEAVES_NOT},
    {"function(m) local t = {} local a, b, c = nil t.a = 1 return m end", MR_LEAVES_ALL},
    {"function(m) local t = {} do t = nil end t.a = 1 return m end", MR_LEAVES_NOT},
    {"function(m) return m, up[m] end", MR_LEAVES_NOT},
    {"function(m) local t = m return m, up[t] end", MR_LEAVES_NOT},
    {"function(m) local t = { m } return m, up[t[1]] end", MR_LEAVES_NOT},
    {"function(m) local t, x = { x = m } x = t.x x.a = 1 return m end", MR_LEAVES_NOT},
    {"function(m) up = m return m end", MR_LEAVES_NOT},
    {"function(m) up.x = m return m end", MR_LEAVES_NOT},
    {"function(m) other = m return m end", MR_LEAVES_NOT},
    {"function(m) type(m) return m end", MR_LEAVES_NOT},
    {"function(m) return type(m) end", MR_LEAVES_NOT},
    {"function(m) return m:f() end", MR_LEAVES_NOT},
    {"function(m, k) return m, k() end", MR_LEAVES_NOT},
    {"function(m) return m + 1 end", MR_LEAVES_NOT},
    {"function(m) return m, m .. 'x' end", MR_LEAVES_NOT},
    {"function(m) return m, -m, #m end", MR_LEAVES_NOT},
    {"function(m) return m, function() m.a = 1 end end", MR_LEAVES_NOT},
    {"function(m) for k in pairs(m) do m[k] = nil end return m end", MR_LEAVES_NOT},
    {"function(m) for i = 1, 2 do up = i end return m end", MR_LEAVES_NOT},
    {"function(m) if m == up then m = up end m.a = 1 return m end", MR_LEAVES_NOT},
    {"function(m, ...) return m, ... end", MR_LEAVES_NOT},
    {"function() return up end", MR_LEAVES_NOT},
    {"type", MR_LEAVES_NOT},
    {"function(m) local t = { a = m.a } return t, t.a end", MR_LEAVES_ALL},
    {"function(m) return m, m.a.b end", MR_LEAVES_IT},
    {"function(m) return { n = m.n, x = up.x } end", MR_LEAVES_IT},
    {"function(m) return m, other end", MR_LEAVES_IT},
    {"function(m) local t = { [m] = 1 } return t end", MR_LEAVES_IT},
    {"function(m) local t = { m } return m, t[1].a end", MR_LEAVES_IT},
    {"function(m) up.n = 1 return m.n end", MR_LEAVES_IT},
    {"function(m) local c <close> = up return m.n end", MR_LEAVES_IT},
    {"function(m) local v = ({ { m } })[1][1] return m, up[v] end", MR_LEAVES_NOT},
    {"function(m) local v = ({ { m } })[1][1] v.x = 1 return m end", MR_LEAVES_NOT},
    {"function(m) return m, m[m] end", MR_LEAVES_NOT},
};

/* Functions of which it is certain that their result is made each time. */
static const struct {
    const char *function;
    bool makes;
} makers[] = {
    {"function(m) return { a = m.a, b = { m.b } } end", true},
    {"function(m) local t = {} t.a = m.a return t end", true},
    {"function(m) local t = {} local u = t u.a = 1 return u, m end", true},
    {"function(m, k, c) return { a = m.a, k.b, c = c.now, m, up } end", true},
    {"function(m) local r = { a = { m.b } } return r end", true},
    {"function(m) local t = { 1 } local r = { t } return t end", false},
    {"function(m) local r = {} r.self = r return r end", false},
    {"function(m) local r = {} r.child = { parent = r } return r end", false},
    {"function(m) local r = {} local box = { r } r.box = box return r end", false},
    {"function(m) local r = {} local t = { [r] = 1 } r.t = t return r end", false},
    {"function(m) local r = {} local v = ({ { r } })[1][1] r.x = up[v] return r end", false},
    {"function(m) return m end", false},
    {"function(m) return up end", false},
    {"function(m) return m, {} end", false},
    {"function(m) return end", false},
    {"function(m) end", false},
    {"function(m) local t = {} return end", false},
    {"function(m) local t = {} t = m.a return t end", false},
    {"function(m) local t = {} t = up return t end", false},
    {"function(m) local t = {} local x = up[t] return t end", false},
    {"function(m) local t = {} up.x = t return t end", false},
    {"function(m) local t = {} up = t return t end", false},
    {"function(m) local t = {} m.a = t return t end", false},
    {"function(m) if m.a then return up end return {} end", false},
    {"function(m) return type({}) end", false},
    {"function(m) local t = {} type(t) return t end", false},
    {"function(m) local t = {} return t, function() return t end end", false},
    {"type", false},
};

static int job_makes(lua_State *L)
{
    lua_pushcfunction(L, job_makes);
    lua_setglobal(L, "type");
    for (size_t i = 0; i < sizeof makers / sizeof *makers; i++) {
        lua_pushfstring(L, "local up = {} return %s", makers[i].function);
        assert_int_equal(luaL_loadstring(L, lua_tostring(L, -1)), LUA_OK);
        lua_call(L, 0, 1);
        if (mr_reads_makes(L) != makers[i].makes)
            fail_msg("%s: %d", makers[i].function, !makers[i].makes);
        lua_settop(L, 1);
    }
    return 0;
}

static int job_keeps(lua_State *L)
{
    lua_pushcfunction(L, job_keeps);
    lua_setglobal(L, "type");
    for (size_t i = 0; i < sizeof keepers / sizeof *keepers; i++) {
        lua_pushfstring(L, "local up = {} return %s", keepers[i].function);
        assert_int_equal(luaL_loadstring(L, lua_tostring(L, -1)), LUA_OK);
        lua_call(L, 0, 1);
        enum mr_leaves leaves = mr_reads_leaves(L);
        if (leaves != keepers[i].leaves)
            fail_msg("%s: %d, not %d", keepers[i].function, (int)leaves, (int)keepers[i].leaves);
        lua_settop(L, 1);
    }
    return 0;
}

static int job_reads(lua_State *L)
{
    lua_pushcfunction(L, job_reads);
    lua_setglobal(L, "type");
    for (size_t i = 0; i < sizeof readers / sizeof *readers; i++) {
        struct mr_reads reads = {0};
        struct mr_buf names = {0};
        lua_pushfstring(L, "local up = {} return %s", readers[i].function);
        assert_int_equal(luaL_loadstring(L, lua_tostring(L, -1)), LUA_OK);
        lua_call(L, 0, 1);
        bool only = mr_reads_only(L, &reads);
        for (size_t k = 0; k < reads.n; k++)
            mr_buf_printf(&names, "%s%s", k ? " " : "", reads.names[k]);
        if (only != !!readers[i].names || (!only && reads.n))
            fail_msg("%s: %d", readers[i].function, only);
        if (only)
            assert_string_equal(mr_buf_cstr(&names), readers[i].names);
        mr_buf_fini(&names);
        mr_reads_fini(&reads);
        lua_settop(L, 1);
    }
    return 0;
}

static void in_a_host(int (*job)(lua_State *))
{
    struct mr_error err;
    struct mr_host *host;
    struct mr_host_limits limits = {0};
    assert_true(mr_host_new(&limits, &host, &err));
    if (!mr_host_call(host, job, NULL, &err))
        fail_msg("%s", err.msg);
    mr_host_free(host);
}

static void a_function_that_only_reads_fields_is_told_from_others(void **state)
{
    (void)state;
    in_a_host(job_reads);
}

static void a_function_that_leaves_the_record_is_told_from_others(void **state)
{
    (void)state;
    in_a_host(job_keeps);
    in_a_host(job_makes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_template_is_segments_and_fields),
        cmocka_unit_test(column_sets_stay_for_the_life_of_the_script),
        cmocka_unit_test(constants_are_encoded_once_a_message),
        cmocka_unit_test(keys_are_canonical_and_stand_once),
        cmocka_unit_test(headers_are_read_when_the_script_asks),
        cmocka_unit_test(a_spent_state_is_made_anew_from_the_same_sources),
        cmocka_unit_test(closing_is_safe_at_any_moment),
        cmocka_unit_test(load_errors_stop_with_exit_code_78),
        cmocka_unit_test(tombstones_are_dropped_and_empty_values_refused),
        cmocka_unit_test(log_and_counters_name_message_and_pipeline),
        cmocka_unit_test(a_function_that_only_reads_fields_is_told_from_others),
        cmocka_unit_test(a_function_that_leaves_the_record_is_told_from_others),
        cmocka_unit_test(any_memory_limit_gives_a_script_or_an_error),
    };
    snprintf(path, sizeof path, "/tmp/millrace-test-script.%d.lua", (int)getpid());
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    return failed;
}
