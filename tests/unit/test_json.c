/*
 * test_json.c - JSON to Lua values and back, at the level of C: what the stack holds, and that a
 * failure leaves nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "lua/encode.h"
#include "lua/host.h"
#include "lua/json.h"
#include "lua/placeholder.h"
#include "lua/sandbox.h"

#include <lua.h>
#include <stdio.h>
#include <stdlib.h>

struct fixture {
    struct mr_host *host;
    struct mr_json *json;
    struct mr_build build;
    /* of one job */
    void (*run)(lua_State *L, struct fixture *f);
    struct mr_error err;
    bool done;
};

static int job_open(lua_State *L)
{
    static const bool live = true;
    mr_sandbox_open(L);
    mr_placeholder_open(L, NULL, false, &live);
    return 0;
}

static int set_up(void **state)
{
    struct fixture *f = mr_calloc(1, sizeof *f);
    struct mr_host_limits limits = {.memory_bytes = 32 << 20, .time_ms = 1000};
    assert_true(mr_host_new(&limits, &f->host, &f->err));
    assert_true(mr_host_call(f->host, job_open, NULL, &f->err));
    f->json = mr_json_new();
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    mr_json_free(f->json);
    mr_build_fini(&f->build);
    mr_host_free(f->host);
    free(f);
    return 0;
}

static int job_run(lua_State *L)
{
    struct fixture *f = lua_touserdata(L, 1);
    lua_settop(L, 0);
    f->run(L, f);
    return 0;
}

static void in_gate(struct fixture *f, void (*run)(lua_State *L, struct fixture *f))
{
    f->run = run;
    if (!mr_host_call(f->host, job_run, f, &f->err))
        fail_msg("%s", f->err.msg);
}

static bool parse(struct fixture *f, const char *text)
{
    return mr_json_parse(f->json, mr_bytes_of(text), &f->err);
}

static void picks_values_as_text(void **state)
{
    static const struct {
        const char *path, *text;
    } cases[] = {
        {"id", "7"},
        {"a.b.c", "x\"y\n\xc3\xa4"},
        {"a.big", "123456789012345678901234567890.10"},
        {"a.e", "1e3"},
        {"a.yes", "true"},
        {"list", "[1, {\"k\": null} ]"},
        {"a.no", NULL},
        {"a.gone", NULL},
        {"id.x", NULL},
        {"", NULL},
        {"a.empty", ""},
    };
    struct fixture *f = *state;
    struct mr_buf out = {0};
    assert_true(parse(f, "{\"id\": 7 , \"a\": {\"big\":123456789012345678901234567890.10, \"no\": "
                         "null, \"b\": {\"c\": \"x\\\"y\\n\\u00e4\"}, \"e\": 1e3\n, \"yes\": true, "
                         "\"empty\": \"\"}, \"list\": [1, {\"k\": null} ] }"));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        mr_buf_reset(&out);
        assert_int_equal(mr_json_pick(f->json, cases[i].path, &out), cases[i].text != NULL);
        assert_string_equal(mr_buf_cstr(&out), cases[i].text ? cases[i].text : "");
    }
    assert_true(parse(f, "17"));
    assert_false(mr_json_pick(f->json, "id", &out));
    mr_buf_fini(&out);
}

static void push_and_encode(lua_State *L, struct fixture *f)
{
    f->done = mr_json_push(f->json, L, &f->err);
    assert_int_equal(lua_gettop(L), f->done ? 1 : 0);
    if (!f->done)
        return;
    mr_build_reset(&f->build);
    mr_build_begin(&f->build);
    f->done = mr_encode_json(L, 1, &f->build, "value", &f->err);
    assert_int_equal(lua_gettop(L), 1);
    mr_build_end(&f->build);
}

static void round_trip(struct fixture *f, const char *text, const char *expected)
{
    assert_true(parse(f, text));
    in_gate(f, push_and_encode);
    assert_true(f->done);
    assert_string_equal(mr_buf_cstr(&f->build.bytes), expected);
}

static void values_come_back(void **state)
{
    struct fixture *f = *state;
    round_trip(f, " [ 1 , -2.5 , \"x\" , null , true , {} , [] ] ",
               "[1,-2.5,\"x\",null,true,{},[]]");
    round_trip(f, "{\"b\":1,\"a\":{\"d\":[],\"c\":{}},\"b\":2}",
               "{\"a\":{\"c\":{},\"d\":[]},\"b\":2}");
    round_trip(f, "9223372036854775807", "9223372036854775807");
    round_trip(f, "\"\\u0000\"", "\"\\u0000\"");
}

static void check_types(lua_State *L, struct fixture *f)
{
    assert_true(mr_json_push(f->json, L, &f->err));
    for (int i = 1; i <= 5; i++)
        lua_rawgeti(L, 1, i);
    assert_true(lua_isinteger(L, 2));
    assert_true(lua_isnumber(L, 3) && !lua_isinteger(L, 3));
    assert_true(lua_islightuserdata(L, 4) && !lua_touserdata(L, 4));
    assert_true(mr_json_is_array(L, 5));
    assert_true(lua_istable(L, 6) && !mr_json_is_array(L, 6));
}

static void integers_floats_nulls_and_empty_tables_differ(void **state)
{
    struct fixture *f = *state;
    assert_true(parse(f, "[1, 1.0, null, [], {}]"));
    in_gate(f, check_types);
}

static void a_large_integer_is_refused_and_leaves_the_stack_as_it_was(void **state)
{
    struct fixture *f = *state;
    static const char *const deep[] = {"9223372036854775808", "[[1, {\"a\": 9223372036854775808}]]",
                                       "{\"a\": [18446744073709551615]}"};
    for (size_t i = 0; i < 3; i++) {
        assert_true(parse(f, deep[i]));
        in_gate(f, push_and_encode);
        assert_false(f->done);
        assert_string_equal(f->err.class_, "decode");
    }
}

static void broken_text_has_a_class_and_a_place(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *text, *class_, *says;
    } cases[] = {
        {"", "decode", "empty"},
        {"[1,]", "decode", "position 3"},
        {"{\"a\":tru}", "decode", "position 5: tru}"},
        {"\"\\ud800\"", "utf8", "position 1"},
        {"\"\xc3\x28\"", "utf8", "byte 0xc3 at position 1"},
        {"\"\\q\"", "decode", "a malformed escape in a string, at position 1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_false(parse(f, cases[i].text));
        assert_string_equal(f->err.class_, cases[i].class_);
        assert_non_null(strstr(f->err.msg, cases[i].says));
        assert_int_equal(f->err.action, MR_REJECT);
    }
    round_trip(f, "1", "1");
}

/* Text that ends at the end of its page: the parser must not read on. */
static void the_text_may_end_anywhere(void **state)
{
    struct fixture *f = *state;
    const char *text = "{\"name\":\"value\",\"list\":[1,2,3]}";
    for (size_t len = 0; len <= strlen(text); len++) {
        char *exact = mr_alloc(len ? len : 1);
        memcpy(exact, text, len);
        bool whole = mr_json_parse(f->json, (struct mr_bytes){exact, len}, &f->err);
        free(exact);
        assert_int_equal(whole, len == strlen(text));
    }
}

static void push_large(lua_State *L, struct fixture *f)
{
    f->done = mr_json_push(f->json, L, &f->err);
    lua_rawgeti(L, 1, 100000);
    assert_int_equal(lua_tointeger(L, -1), 100000);
}

static void large_lists_and_objects_are_taken(void **state)
{
    struct fixture *f = *state;
    struct mr_buf text;
    mr_buf_init(&text);
    for (int i = 1; i <= 100000; i++)
        mr_buf_printf(&text, "%c%d", i == 1 ? '[' : ',', i);
    mr_buf_put_char(&text, ']');
    assert_true(parse(f, mr_buf_cstr(&text)));
    in_gate(f, push_large);
    mr_buf_reset(&text);
    for (int i = 0; i < 5000; i++)
        mr_buf_printf(&text, "%c\"n%04d\":%d", i == 0 ? '{' : ',', i, i);
    mr_buf_put_char(&text, '}');
    round_trip(f, mr_buf_cstr(&text), mr_buf_cstr(&text));
    mr_buf_fini(&text);
}

static void encode_too_large(lua_State *L, struct fixture *f)
{
    assert_true(mr_json_push(f->json, L, &f->err));
    mr_build_reset(&f->build);
    mr_build_begin(&f->build);
    f->build.limit_bytes = 10;
    f->done = mr_encode_json(L, 1, &f->build, "value", &f->err);
}

static void the_output_limit_holds(void **state)
{
    struct fixture *f = *state;
    assert_true(parse(f, "[1,2,3,4,5,6,7,8]"));
    in_gate(f, encode_too_large);
    assert_false(f->done);
    assert_string_equal(f->err.class_, "too_large");
}

static void push_without_memory(lua_State *L, struct fixture *f)
{
    f->done = mr_json_push(f->json, L, &f->err);
}

/* The allocation that fails raises through the C++ frames; nothing is lost or left behind. */
static void no_memory_while_building_is_an_error_of_the_message(void **state)
{
    struct fixture *f = *state;
    struct mr_buf text;
    mr_buf_init(&text);
    mr_buf_put_char(&text, '[');
    for (int i = 0; i < 200000; i++)
        mr_buf_printf(&text, "%s{\"a\":[\"%d\"]}", i ? "," : "", i);
    mr_buf_put_char(&text, ']');
    assert_true(parse(f, mr_buf_cstr(&text)));
    mr_buf_fini(&text);
    f->run = push_without_memory;
    assert_false(mr_host_call(f->host, job_run, f, &f->err));
    assert_string_equal(f->err.class_, "script_memory");
    assert_true(mr_host_spent(f->host));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(values_come_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(picks_values_as_text, set_up, tear_down),
        cmocka_unit_test_setup_teardown(integers_floats_nulls_and_empty_tables_differ, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_large_integer_is_refused_and_leaves_the_stack_as_it_was,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(broken_text_has_a_class_and_a_place, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_text_may_end_anywhere, set_up, tear_down),
        cmocka_unit_test_setup_teardown(large_lists_and_objects_are_taken, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_output_limit_holds, set_up, tear_down),
        cmocka_unit_test_setup_teardown(no_memory_while_building_is_an_error_of_the_message, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
