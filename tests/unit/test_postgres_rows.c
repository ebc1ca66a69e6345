/*
 * test_postgres_rows.c - the pure half of the postgres room: values to and from COPY's binary form,
 * names, DSNs. Known bytes come from PostgreSQL 15 (COPY ... TO STDOUT (FORMAT binary)).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "postgres/pg.h"
#include "postgres/postgres.h"
#include "postgres/values.h"
#include "base/text.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static struct mr_row_column column(uint32_t oid, const char *type_name)
{
    bool is_text = oid == MR_OID_TEXT || oid == MR_OID_VARCHAR || oid == MR_OID_BPCHAR ||
                   oid == MR_OID_NAME || oid == MR_OID_JSON;
    return (struct mr_row_column){
        .name = "c", .type_name = type_name, .oid = oid, .typmod = -1, .is_text = is_text};
}

static struct mr_value text(const char *bytes)
{
    return (struct mr_value){.type = MR_TEXT, .bytes = mr_bytes_of(bytes)};
}
static struct mr_value integer(int64_t i)
{
    return (struct mr_value){.type = MR_INT, .i = i};
}
static struct mr_value real(double f)
{
    return (struct mr_value){.type = MR_FLOAT, .f = f};
}
static struct mr_value of(enum mr_type type, const char *bytes)
{
    return (struct mr_value){.type = type, .bytes = mr_bytes_of(bytes)};
}

/* Encodes and compares with hex digits; blanks in `hex` are left out. */
static void expect_hex(const struct mr_row_column *c, struct mr_value value, const char *hex)
{
    struct mr_buf out = {0}, got = {0}, want = {0};
    struct mr_error err;
    if (!mr_postgres_encode(c, &value, &out, &err))
        fail_msg("%s: %s", c->type_name, err.msg);
    for (size_t i = 0; i < out.len; i++)
        mr_buf_printf(&got, "%02x", (unsigned char)out.ptr[i]);
    for (; *hex; hex++)
        if (*hex != ' ')
            mr_buf_put_char(&want, *hex);
    assert_string_equal(mr_buf_cstr(&got), mr_buf_cstr(&want));
    mr_buf_fini(&out);
    mr_buf_fini(&got);
    mr_buf_fini(&want);
}

/* Refused, with this class and this sentence, and nothing is left in the buf. */
static void expect_refusal(const struct mr_row_column *c, struct mr_value value, const char *class_,
                           const char *sentence)
{
    struct mr_buf out = {0};
    struct mr_error err = {0};
    mr_buf_put_text(&out, "before");
    assert_false(mr_postgres_encode(c, &value, &out, &err));
    assert_int_equal(err.action, MR_REJECT);
    assert_string_equal(err.class_, class_);
    assert_string_equal(err.msg, sentence);
    assert_int_equal(out.len, 6);
    mr_buf_fini(&out);
}

static void integers(void **state)
{
    (void)state;
    struct mr_row_column i2 = column(MR_OID_INT2, "smallint"), i4 = column(MR_OID_INT4, "integer"),
                         i8 = column(MR_OID_INT8, "bigint");
    expect_hex(&i2, integer(-2), "00000002 fffe");
    expect_hex(&i4, integer(1659203516), "00000004 62e56fbc");
    expect_hex(&i8, integer(2659207116), "00000008 000000009e8047cc");
    expect_hex(&i8, integer(INT64_MIN), "00000008 8000000000000000");
    expect_hex(&i4, real(5.0), "00000004 00000005");
    expect_hex(&i4, of(MR_NUMERIC, "12.00"), "00000004 0000000c");
    expect_refusal(&i4, integer(2659207116), "schema",
                   "column \"c\": the int 2659207116 does not fit integer");
    expect_refusal(&i2, integer(32768), "schema",
                   "column \"c\": the int 32768 does not fit smallint");
    expect_refusal(&i8, real(0x1p63), "schema",
                   "column \"c\": the float 9.223372036854776e+18 does not fit bigint");
    expect_refusal(&i4, real(2.5), "schema", "column \"c\": the float 2.5 does not fit integer");
    expect_refusal(&i4, real(NAN), "schema", "column \"c\": the float NaN does not fit integer");
    expect_refusal(&i4, of(MR_NUMERIC, "12.01"), "schema",
                   "column \"c\": the numeric 12.01 does not fit integer");
    expect_refusal(&i8, of(MR_NUMERIC, "9223372036854775808"), "schema",
                   "column \"c\": the numeric 9223372036854775808 does not fit bigint");
    expect_refusal(&i4, text("5"), "schema",
                   "column \"c\" takes integer, not the text \"5\"; convert it with "
                   "math.tointeger(...)");
    expect_refusal(&i4, (struct mr_value){.type = MR_BOOL, .b = true}, "schema",
                   "column \"c\" takes integer, not the bool true");
    expect_hex(&i8, of(MR_NUMERIC, "9223372036854775807"), "00000008 7fffffffffffffff");
    expect_hex(&i8, of(MR_NUMERIC, "-9223372036854775808"), "00000008 8000000000000000");
}

static void floats(void **state)
{
    (void)state;
    struct mr_row_column f4 = column(MR_OID_FLOAT4, "real"),
                         f8 = column(MR_OID_FLOAT8, "double precision");
    expect_hex(&f8, real(0.1), "00000008 3fb999999999999a");
    expect_hex(&f8, integer(3), "00000008 4008000000000000");
    expect_hex(&f4, real(0.1), "00000004 3dcccccd");
    expect_hex(&f4, real(INFINITY), "00000004 7f800000");
    expect_hex(&f8, of(MR_NUMERIC, "-Infinity"), "00000008 fff0000000000000");
    expect_hex(&f8, of(MR_NUMERIC, "12345.678"), "00000008 40c81cd6c8b43958");
    expect_refusal(&f4, real(1e39), "schema", "column \"c\": the float 1e+39 does not fit real");
    expect_refusal(&f4, real(1e-60), "schema", "column \"c\": the float 1e-60 does not fit real");
    expect_refusal(&f8, of(MR_NUMERIC, "1e400"), "schema",
                   "column \"c\": the numeric 1e400 does not fit double precision");
    expect_refusal(&f8, text("0.1"), "schema",
                   "column \"c\" takes double precision, not the text \"0.1\"; convert it with "
                   "tonumber(...)");
}

static void texts(void **state)
{
    (void)state;
    struct mr_row_column plain = column(MR_OID_TEXT, "text"),
                         v3 = column(MR_OID_VARCHAR, "character varying(3)"),
                         name = column(MR_OID_NAME, "name");
    v3.typmod = 3 + 4;
    expect_hex(&plain, text(""), "00000000");
    expect_hex(&plain, text("\xc3\xbc"), "00000002 c3bc");
    expect_hex(&v3, text("\xc3\xbc\xc3\xbc\xc3\xbc"), "00000006 c3bcc3bcc3bc");
    expect_hex(&v3, text("abc  "), "00000005 6162632020"); /* Postgres cuts blanks */
    struct mr_value uuid = {.type = MR_UUID};
    assert_true(mr_text_uuid_parse("123e4567-e89b-12d3-a456-426614174000", 36, uuid.uuid));
    expect_hex(&plain, uuid,
               "00000024 31323365343536372d653839622d313264332d613435362d343236363134313734303030");
    expect_refusal(
        &v3, text("abcd"), "schema",
        "column \"c\" takes character varying(3), but the text \"abcd\" has 4 characters");
    expect_refusal(&plain, integer(5), "schema",
                   "column \"c\" takes text, not the int 5; make it a text with tostring(...), or "
                   "with fmt \"{column}\" if it comes from the lookup");
    expect_refusal(&plain, of(MR_JSON, "{\"a\":1}"), "schema",
                   "column \"c\" takes text, not the json {\"a\":1}; encode it with json.encode if "
                   "its text is meant");
    struct mr_value nul = {.type = MR_TEXT, .bytes = {"a\0bcdefghijk", 12}};
    expect_refusal(&plain, nul, "utf8",
                   "column \"c\": the text holds \\u0000, which Postgres's text cannot");
    expect_refusal(&plain, text("abcdefgh\xff"), "utf8",
                   "column \"c\": the text is not valid UTF-8");
    char longname[80];
    memset(longname, 'n', sizeof longname);
    struct mr_value toolong = {.type = MR_TEXT, .bytes = {longname, 64}};
    struct mr_buf out = {0};
    assert_false(mr_postgres_encode(&name, &toolong, &out, NULL));
    toolong.bytes.len = 63;
    assert_true(mr_postgres_encode(&name, &toolong, &out, NULL));
    mr_buf_fini(&out);
}

/* A NUL or a broken byte is found wherever it stands, by words and by bytes. */
static void broken_text_is_found_at_every_place(void **state)
{
    (void)state;
    struct mr_row_column plain = column(MR_OID_TEXT, "text");
    char bytes[40];
    struct mr_buf out = {0};
    for (size_t len = 0; len < sizeof bytes; len++) {
        memset(bytes, 'x', sizeof bytes);
        struct mr_value value = {.type = MR_TEXT, .bytes = {bytes, len}};
        assert_true(mr_postgres_encode(&plain, &value, &out, NULL));
        for (size_t at = 0; at < len; at++) {
            bytes[at] = '\0';
            assert_false(mr_postgres_encode(&plain, &value, &out, NULL));
            bytes[at] = '\x80';
            assert_false(mr_postgres_encode(&plain, &value, &out, NULL));
            bytes[at] = 'x';
        }
    }
    mr_buf_fini(&out);
}

static void json(void **state)
{
    (void)state;
    struct mr_row_column j = column(MR_OID_JSON, "json"), b = column(MR_OID_JSONB, "jsonb");
    expect_hex(&j, of(MR_JSON, "{}"), "00000002 7b7d");
    expect_hex(&b, of(MR_JSON, "{}"), "00000003 01 7b7d");
    expect_hex(&b, text("a"), "00000004 01 226122");
    expect_hex(&b, integer(7), "00000002 01 37");
    expect_hex(&b, (struct mr_value){.type = MR_NULL}, "ffffffff");
    expect_hex(&b, of(MR_JSON, "\"\\\\u0000\""), "0000000a 01 225c5c753030303022");
    expect_refusal(&b, of(MR_JSON, "\"\\u0000\""), "utf8",
                   "column \"c\": the value holds \\u0000, which Postgres's jsonb cannot");
    expect_refusal(&b, of(MR_JSON, "\"\\\\\\u0000\""), "utf8",
                   "column \"c\": the value holds \\u0000, which Postgres's jsonb cannot");
    struct mr_buf out = {0};
    struct mr_value nan = real(NAN);
    assert_false(mr_postgres_encode(&b, &nan, &out, NULL));
    assert_int_equal(out.len, 0);
    mr_buf_fini(&out);
}

static void numerics(void **state)
{
    (void)state;
    struct mr_row_column n = column(MR_OID_NUMERIC, "numeric");
    /* ndigits, weight, sign, places, digits: as numeric_send writes them */
    expect_hex(&n, of(MR_NUMERIC, "0"), "00000008 0000 0000 0000 0000");
    expect_hex(&n, of(MR_NUMERIC, "1.50"), "0000000c 0002 0000 0000 0002 0001 1388");
    expect_hex(&n, integer(-12345), "0000000c 0002 0001 4000 0000 0001 0929");
    expect_hex(&n, real(5), "0000000a 0001 0000 0000 0000 0005");
    expect_hex(&n, real(0.1), "0000000a 0001 ffff 0000 0001 03e8");
    expect_hex(&n, text("0.00012"), "0000000c 0002 ffff 0000 0005 0001 07d0");
    expect_hex(&n, text("1e10"), "0000000a 0001 0002 0000 0000 0064");
    expect_hex(&n, of(MR_NUMERIC, "NaN"), "00000008 0000 0000 c000 0000");
    expect_hex(&n, real(-INFINITY), "00000008 0000 0000 f000 0000");
    static const char *const wrong[] = {"",    ".",     "1.",  "1e",  "1e1000000", "0x10",
                                        " 1",  "1 ",    "--1", "1e+", "1..2",      "nan",
                                        "1,5", "1_000", "e5",  "+",   "1e-x",      "Infinit"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct mr_buf out = {0};
        if (strcmp(wrong[i], "1.") != 0) /* which Postgres takes too */
            assert_false(mr_pg_numeric_put(&out, wrong[i], strlen(wrong[i])));
        mr_buf_fini(&out);
    }
    expect_refusal(&n, text("abc"), "schema", "column \"c\" takes numeric, not the text \"abc\"");
    expect_refusal(&n, (struct mr_value){.type = MR_BOOL}, "schema",
                   "column \"c\" takes numeric, not the bool false");
    expect_refusal(&n, of(MR_NUMERIC, "1e131073"), "schema",
                   "column \"c\": the numeric 1e131073 does not fit numeric");
}

/* What is written comes back with the same digits and places. */
static void numeric_round_trip(void **state)
{
    (void)state;
    srand(7);
    for (int round = 0; round < 20000; round++) {
        struct mr_buf digits = {0}, binary = {0}, back = {0};
        int whole = rand() % 14, places = rand() % 14;
        bool nonzero = false;
        if (rand() % 2)
            mr_buf_put_char(&digits, '-');
        if (!whole)
            mr_buf_put_char(&digits, '0');
        for (int i = 0; i < whole; i++) {
            char c = (char)('0' + (rand() % 3 ? 0 : rand() % 10));
            c = !i && c == '0' ? '4' : c;
            nonzero = true;
            mr_buf_put_char(&digits, c);
        }
        if (places)
            mr_buf_put_char(&digits, '.');
        for (int i = 0; i < places; i++) {
            char c = (char)('0' + (rand() % 3 ? 0 : rand() % 10));
            nonzero = nonzero || c != '0';
            mr_buf_put_char(&digits, c);
        }
        assert_true(mr_pg_numeric_put(&binary, digits.ptr, digits.len));
        assert_true(mr_pg_numeric_text(&back, (const uint8_t *)binary.ptr, binary.len));
        const char *want = mr_buf_cstr(&digits);
        if (!nonzero && *want == '-')
            want++; /* there is no negative zero */
        assert_string_equal(mr_buf_cstr(&back), want);
        mr_buf_fini(&digits);
        mr_buf_fini(&binary);
        mr_buf_fini(&back);
    }
}

static void uuids_and_bytes(void **state)
{
    (void)state;
    struct mr_row_column u = column(MR_OID_UUID, "uuid"), b = column(MR_OID_BYTEA, "bytea"),
                         flag = column(MR_OID_BOOL, "boolean");
    expect_hex(&u, text("123E4567-e89b-12d3-a456-426614174000"),
               "00000010 123e4567e89b12d3a456426614174000");
    expect_refusal(&u, text("123e4567"), "schema",
                   "column \"c\" takes uuid, not the text \"123e4567\"");
    struct mr_value raw = {.type = MR_TEXT, .bytes = {"\0\xff", 2}};
    expect_hex(&b, raw, "00000002 00ff");
    expect_hex(&flag, (struct mr_value){.type = MR_BOOL, .b = true}, "00000001 01");
    expect_refusal(&flag, integer(1), "schema", "column \"c\" takes boolean, not the int 1");
}

static void times(void **state)
{
    (void)state;
    struct mr_row_column tz = column(MR_OID_TIMESTAMPTZ, "timestamp with time zone"),
                         local = column(MR_OID_TIMESTAMP, "timestamp without time zone"),
                         d = column(MR_OID_DATE, "date");
    expect_hex(&tz, text("2000-01-01T00:00:00Z"), "00000008 0000000000000000");
    expect_hex(&tz, text("2000-01-01 01:00:01.5+01:00"), "00000008 000000000016e360");
    expect_hex(&tz, text("1999-12-31T23:59:59.999999Z"), "00000008 ffffffffffffffff");
    expect_hex(&tz, text("infinity"), "00000008 7fffffffffffffff");
    expect_hex(&tz, (struct mr_value){.type = MR_TIMESTAMP, .i = 5}, "00000008 0000000000000005");
    expect_hex(&local, text("2000-01-01T00:00:01"), "00000008 00000000000f4240");
    expect_hex(&d, text("2000-03-01"), "00000004 0000003c");
    expect_hex(&d, text("1999-12-31"), "00000004 ffffffff");
    expect_hex(&d, (struct mr_value){.type = MR_DATE, .i = 60}, "00000004 0000003c");
    expect_refusal(&tz, text("2026-11-22T17:31:18"), "schema",
                   "column \"c\" takes timestamp with time zone, not the text "
                   "\"2026-11-22T17:31:18\"; say the zone: append Z or +01:00");
    expect_refusal(
        &tz, integer(1659203516), "schema",
        "column \"c\" takes timestamp with time zone, not the int 1659203516; a number is "
        "no time: time.format(...) makes one of it");
    expect_refusal(&d, text("2026-02-29"), "schema",
                   "column \"c\" takes date, not the text \"2026-02-29\"; write it as 2026-11-22");
    static const char *const wrong[] = {"2026-13-01T00:00:00Z",
                                        "2026-00-01T00:00:00Z",
                                        "2026-01-01T24:00:00Z",
                                        "2026-01-01T00:60:00Z",
                                        "2026-01-01T00:00:60Z",
                                        "2026-01-01T00:00:00.Z",
                                        "2026-01-01T00:00:00.1234567Z",
                                        "2026-1-01T00:00:00Z",
                                        "2026-01-01",
                                        "2026-01-01T00:00:00Zx",
                                        "26-01-01T00:00:00Z",
                                        "2026-01-01T00:00:00+1",
                                        "0000-01-01T00:00:00Z",
                                        "294277-01-01T00:00:00Z",
                                        "294276-12-31T23:59:59-01:00",
                                        "4714-11-24T00:00:00+01:00 BC",
                                        "294276-01-01T00:00:00Z BC",
                                        "",
                                        "now"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        int64_t micros;
        enum mr_pg_zone zone;
        if (mr_pg_timestamp_parse(wrong[i], strlen(wrong[i]), &micros, &zone))
            fail_msg("taken: %s", wrong[i]);
    }
}

static void timestamp_text_round_trip(void **state)
{
    (void)state;
    srand(11);
    for (int round = 0; round < 20000; round++) {
        int64_t micros = (int64_t)((((uint64_t)rand() << 31 | (uint64_t)rand()) << 2) %
                                   UINT64_C(400000000000000000)) -
                         INT64_C(200000000000000000);
        int64_t back;
        enum mr_pg_zone zone;
        struct mr_buf out = {0};
        mr_pg_timestamp_text(&out, micros);
        if (!mr_pg_timestamp_parse(out.ptr, out.len, &back, &zone))
            fail_msg("not read back: %s", mr_buf_cstr(&out));
        assert_true(back == micros);
        assert_int_equal(zone, MR_PG_ZONE_NONE);
        mr_buf_fini(&out);
    }
}

static void nulls_and_columns_that_cannot_be_written(void **state)
{
    (void)state;
    struct mr_row_column c = column(MR_OID_TEXT, "text");
    const struct mr_value null = {.type = MR_NULL};
    expect_hex(&c, null, "ffffffff");
    c.not_null = true;
    expect_refusal(&c, null, "schema", "column \"c\" (text) is NOT NULL, but got null");
    c = column(600, "point");
    expect_hex(&c, null, "ffffffff");
    struct mr_buf out = {0};
    struct mr_value value = text("(1,2)");
    struct mr_error err;
    assert_false(mr_postgres_encode(&c, &value, &out, &err));
    assert_non_null(strstr(err.msg, "column \"c\" has type point, which Millrace cannot write"));
    c = column(MR_OID_INT8, "bigint");
    c.generated = true;
    expect_refusal(&c, integer(1), "schema",
                   "column \"c\" is generated by Postgres and cannot be written");
    mr_buf_fini(&out);
}

static void a_long_value_is_cut_in_the_sentence(void **state)
{
    (void)state;
    struct mr_row_column c = column(MR_OID_INT4, "integer");
    char bytes[5000];
    memset(bytes, 'y', sizeof bytes);
    struct mr_value value = {.type = MR_TEXT, .bytes = {bytes, sizeof bytes}};
    struct mr_buf out = {0};
    struct mr_error err;
    assert_false(mr_postgres_encode(&c, &value, &out, &err));
    assert_true(strlen(err.msg) < 250);
    assert_non_null(strstr(err.msg, "..."));
    mr_buf_fini(&out);
}

static void names(void **state)
{
    (void)state;
    static const struct {
        const char *table, *sql;
    } good[] = {{"t", "\"t\""},
                {"Orders", "\"Orders\""},
                {"app.t", "\"app\".\"t\""},
                {"\"a.b\".c", "\"a.b\".\"c\""},
                {"a b; drop table x", "\"a b; drop table x\""},
                {"\"q\"\"q\"", "\"q\"\"q\""}};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        struct mr_buf sql = {0};
        assert_true(mr_pg_put_table(&sql, good[i].table, NULL));
        assert_string_equal(mr_buf_cstr(&sql), good[i].sql);
        mr_buf_fini(&sql);
    }
    static const char *const bad[] = {
        "",      ".",
        "a.",    ".a",
        "a.b.c", "\"a",
        "a\"b",  "\"\"",
        "\xff",  "a1234567890123456789012345678901234567890123456789012345678901234"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct mr_error err;
        assert_false(mr_postgres_table_check(bad[i], &err));
        assert_int_equal(err.code, MR_EXIT_CONFIG);
    }
}

static void a_dsn_with_a_password_is_not_quoted(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "host=h password=geheim wort", "postgresql://u:geheim@h:x:y/db",
        "postgresql://u:geheim@[h/db", "password='geheim",
        "host=h geheim=1 password=x",  "postgresql://u:gehe%zzim@h/db"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct mr_error err = {0};
        if (mr_postgres_dsn_check(bad[i], &err))
            continue; /* libpq takes it: then nothing is said */
        assert_null(strstr(err.msg, "gehe"));
        assert_null(strstr(err.msg, "wort"));
        assert_int_equal(err.code, MR_EXIT_CONFIG);
    }
    struct mr_error err = {0};
    assert_false(mr_postgres_dsn_check("host=h password=geheim wort", &err));
    assert_false(mr_postgres_dsn_check("hostt=h", &err));
    assert_non_null(strstr(err.msg, "hostt"));
    assert_true(mr_postgres_dsn_check("postgresql://u:p@h:5432/db?sslmode=disable", &err));
    assert_true(mr_postgres_dsn_check("", &err));
}

static const char *param(const struct mr_pg_params *params, const char *keyword)
{
    for (size_t i = 0; i < params->n; i++)
        if (strcmp(params->keywords[i], keyword) == 0)
            return params->values[i];
    return NULL;
}

static void certificates_are_verified_for_other_hosts(void **state)
{
    (void)state;
    static const struct {
        const char *dsn, *sslmode;
    } cases[] = {{"host=db.example dbname=x", "verify-full"},
                 {"postgresql://db.example/x", "verify-full"},
                 {"host=db.example sslmode=require", NULL},
                 {"postgresql://db.example/x?sslmode=disable", NULL},
                 {"host=localhost", NULL},
                 {"host=127.0.0.1", NULL},
                 {"host=/run/postgresql", NULL},
                 {"dbname=x", NULL},
                 {"host=localhost,db.example", "verify-full"},
                 {"host=localhost hostaddr=10.0.0.1", "verify-full"},
                 {"host=127.0.0.1.evil.example", "verify-full"}};
    unsetenv("PGSSLMODE");
    unsetenv("PGHOST");
    unsetenv("PGHOSTADDR");
    unsetenv("PGSERVICE");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct mr_pg pg = {.dsn = (char *)(uintptr_t)cases[i].dsn,
                           .application_name = (char[]){"a"}};
        struct mr_pg_params params;
        assert_true(mr_pg_params_make(&pg, &params, NULL));
        const char *mode = param(&params, "sslmode");
        if (!mode != !cases[i].sslmode || (mode && strcmp(mode, cases[i].sslmode) != 0))
            fail_msg("%s: %s", cases[i].dsn, mode ? mode : "nothing added");
        assert_string_equal(param(&params, "target_session_attrs"), "read-write");
        assert_string_equal(param(&params, "tcp_user_timeout"), "20000");
        mr_pg_params_free(&params);
    }
    setenv("PGHOST", "db.example", 1);
    struct mr_pg pg = {.dsn = (char[]){"dbname=x keepalives_idle=3 connect_timeout=2"},
                       .application_name = (char[]){"a"},
                       .reader = true};
    struct mr_pg_params params;
    assert_true(mr_pg_params_make(&pg, &params, NULL));
    assert_string_equal(param(&params, "sslmode"), "verify-full");
    assert_null(param(&params, "keepalives_idle"));
    assert_null(param(&params, "target_session_attrs"));
    assert_int_equal(params.timeout_ms, 2000);
    mr_pg_params_free(&params);
    setenv("PGSSLMODE", "require", 1);
    assert_true(mr_pg_params_make(&pg, &params, NULL));
    assert_null(param(&params, "sslmode"));
    mr_pg_params_free(&params);
    unsetenv("PGSSLMODE");
    unsetenv("PGHOST");
}

static void decoding_refuses_wrong_lengths(void **state)
{
    (void)state;
    static const uint32_t oids[] = {MR_OID_BOOL,   MR_OID_INT2,      MR_OID_INT4,
                                    MR_OID_INT8,   MR_OID_FLOAT4,    MR_OID_DATE,
                                    MR_OID_FLOAT8, MR_OID_TIMESTAMP, MR_OID_UUID,
                                    MR_OID_JSONB,  MR_OID_NUMERIC,   MR_OID_TIMESTAMPTZ};
    const uint8_t bytes[32] = {0};
    struct mr_buf scratch = {0};
    struct mr_value value;
    for (size_t i = 0; i < sizeof oids / sizeof *oids; i++) {
        assert_false(mr_pg_decode(oids[i], bytes, 0, &scratch, &value));
        assert_false(mr_pg_decode(oids[i], bytes, 7, &scratch, &value));
        assert_false(mr_pg_decode(oids[i], bytes, 31, &scratch, &value));
    }
    const uint8_t tenth[4] = {0x3d, 0xcc, 0xcc, 0xcd};
    assert_true(mr_pg_decode(MR_OID_FLOAT4, tenth, 4, &scratch, &value));
    assert_true(value.f == 0.1); /* not 0.10000000149 */
    mr_buf_fini(&scratch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(integers),
        cmocka_unit_test(floats),
        cmocka_unit_test(texts),
        cmocka_unit_test(broken_text_is_found_at_every_place),
        cmocka_unit_test(json),
        cmocka_unit_test(numerics),
        cmocka_unit_test(numeric_round_trip),
        cmocka_unit_test(uuids_and_bytes),
        cmocka_unit_test(times),
        cmocka_unit_test(timestamp_text_round_trip),
        cmocka_unit_test(nulls_and_columns_that_cannot_be_written),
        cmocka_unit_test(a_long_value_is_cut_in_the_sentence),
        cmocka_unit_test(names),
        cmocka_unit_test(a_dsn_with_a_password_is_not_quoted),
        cmocka_unit_test(certificates_are_verified_for_other_hosts),
        cmocka_unit_test(decoding_refuses_wrong_lengths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
