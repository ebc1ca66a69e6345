-- RFC 8259, rule by rule: what is accepted and comes back out equal in value, and what is refused.
--
-- Each case: the rule that it tests, the bytes, and what is expected of them: a string is the value as it is written
-- again (`same`: byte for byte as it came), or the class of the dead letter.
-- luacheck: no max line length
-- The cases are our own. Where the RFC leaves the choice to us, docs/LUA.md ("JSON") says what was chosen.
local script = require "tests.support.script"

local same = {}
local decode, utf8_ = { class = "decode" }, { class = "utf8" }

local function deep(n, open, close) return open:rep(n) .. close:rep(n) end

local CASES = {
  ["2 grammar: any value may stand at the top"] = {
    { "an object", "{}", same }, { "an array", "[]", same }, { "a string", '"top"', same }, { "a number", "17", same },
    { "true", "true", same }, { "false", "false", same }, { "null", "null", same },
  },
  ["2 grammar: white space around the six structural characters"] = {
    { "space", ' { "a" : [ 1 , 2 ] } ', '{"a":[1,2]}' }, { "tab", "\t[\t1\t,\t2\t]\t", "[1,2]" },
    { "line feed", "\n[\n1\n,\n2\n]\n", "[1,2]" }, { "carriage return", "\r[\r1\r,\r2\r]\r", "[1,2]" },
    { "all four before a scalar", " \t\n\r5", "5" }, { "all four after a scalar", "5 \t\n\r", "5" },
    { "none at all", '{"a":[1,{"b":null}]}', same }, { "inside an empty object", "{ \n }", "{}" },
    { "inside an empty array", "[ \t ]", "[]" },
  },
  ["2 grammar: nothing else is white space"] = {
    { "form feed", "\f1", decode }, { "vertical tab", "[1,\v2]", decode }, { "no-break space", "[\194\1601]", decode },
    { "a NUL byte", "1\0", decode }, { "backspace", "\b1", decode }, { "line separator U+2028", "[1\226\128\168]", decode },
    { "ideographic space", "\227\128\1281", decode },
  },
  ["2 grammar: one text is one value"] = {
    { "nothing", "", decode }, { "white space only", " \n ", decode }, { "two numbers", "1 2", decode },
    { "two objects", "{}{}", decode }, { "two objects on two lines", "{}\n{}", decode }, { "a value and a comma", "1,", decode },
    { "a value and a closing bracket", "[1]]", decode }, { "a value and a closing brace", "{}}", decode },
    { "text behind a value", "true x", decode }, { "a comment", "1 // one", decode }, { "a comment in C style", "/**/1", decode },
    { "a hash comment", "#\n1", decode },
  },
  ["3 values: literals are lower case and whole"] = {
    { "True", "True", decode }, { "TRUE", "TRUE", decode }, { "FALSE", "[FALSE]", decode }, { "Null", "Null", decode },
    { "NULL", "[NULL]", decode }, { "nul", "nul", decode }, { "tru", "[tru]", decode }, { "truex", "truex", decode },
    { "nulll", "[nulll]", decode }, { "undefined", "undefined", decode }, { "nil", "nil", decode }, { "yes", "[yes]", decode },
    { "a bare word", "word", decode }, { "a bare word as a member", "{\"a\":word}", decode },
    { "literals side by side", "[true,false,null]", same }, { "a literal as a member", '{"a":true,"b":null}', same },
  },
  ["4 objects: members, names, separators"] = {
    { "empty", "{}", same }, { "one member", '{"a":1}', same }, { "members of every kind", '{"a":[],"b":{},"c":"","d":0}', same },
    { "an empty name", '{"":1}', same }, { "a name with white space", '{" ":1}', same }, { "a name with escapes", '{"\\n":1}', same },
    { "a name that is escaped is the same name", '{"\\u0061":1}', '{"a":1}' }, { "a name beyond ASCII", '{"ä€":1}', same },
    { "names come out sorted bytewise", '{"b":1,"a":2,"B":3}', '{"B":3,"a":2,"b":1}' },
    { "the last of equal names counts", '{"a":1,"a":2}', '{"a":2}' },
    { "equal after unescaping is equal", '{"a":1,"\\u0061":2}', '{"a":2}' },
    { "names differ by case", '{"A":1,"a":2}', same },
    { "a name without quotes", "{a:1}", decode }, { "a name in single quotes", "{'a':1}", decode },
    { "a number as a name", "{1:1}", decode }, { "null as a name", "{null:1}", decode },
    { "no colon", '{"a" 1}', decode }, { "two colons", '{"a"::1}', decode }, { "a comma for the colon", '{"a",1}', decode },
    { "an equals sign", '{"a"=1}', decode }, { "no value", '{"a":}', decode }, { "a name alone", '{"a"}', decode },
    { "a comma at the end", '{"a":1,}', decode }, { "a comma at the start", '{,"a":1}', decode },
    { "two commas", '{"a":1,,"b":2}', decode }, { "only a comma", "{,}", decode }, { "no comma", '{"a":1 "b":2}', decode },
    { "a semicolon", '{"a":1;"b":2}', decode }, { "not closed", '{"a":1', decode }, { "closed by a bracket", '{"a":1]', decode },
    { "only opened", "{", decode }, { "only closed", "}", decode },
  },
  ["5 arrays: elements, separators"] = {
    { "empty", "[]", same }, { "one element", "[1]", same }, { "elements of every kind", '[1,2.5,"a",true,null,{},[]]', same },
    { "order is kept", "[3,1,2]", same }, { "nested", "[[[1]],[]]", same }, { "empty ones in an empty one", "[[],{}]", same },
    { "nulls at the end", "[1,null,null]", same }, { "only null", "[null]", same },
    { "a comma at the end", "[1,]", decode }, { "a comma at the start", "[,1]", decode }, { "two commas", "[1,,2]", decode },
    { "only a comma", "[,]", decode }, { "no comma", "[1 2]", decode }, { "a colon", "[1:2]", decode },
    { "a semicolon", "[1;2]", decode }, { "not closed", "[1", decode }, { "closed by a brace", "[1}", decode },
    { "only opened", "[", decode }, { "only closed", "]", decode }, { "a member in it", '["a":1]', decode },
  },
  ["6 numbers: the integer part"] = {
    { "zero", "0", same }, { "one digit", "[7]", same }, { "several digits", "1234567890", same }, { "minus", "-1", same },
    { "minus zero", "-0", "0" }, { "the largest int64", "9223372036854775807", same },
    { "the smallest int64", "-9223372036854775808", same }, { "beyond 2^53", "9007199254740993", same },
    { "one more than int64", "9223372036854775808", decode }, { "one less than int64", "-9223372036854775809", decode },
    { "the largest uint64", "18446744073709551615", decode }, { "a hundred digits", ("9"):rep(100), decode },
    { "a leading zero", "01", decode }, { "two zeros", "00", decode }, { "a leading zero behind a minus", "-01", decode },
    { "a plus", "+1", decode }, { "only a minus", "-", decode }, { "two minuses", "--1", decode },
    { "white space behind a minus", "- 1", decode }, { "hexadecimal", "0x1F", decode }, { "octal", "0o17", decode },
    { "grouped digits", "1_000", decode }, { "grouped by a comma", "1,000", decode }, { "a suffix", "1L", decode },
    { "digits of another script", "\217\161", decode }, { "a full-width digit", "\239\188\145", decode },
  },
  ["6 numbers: the fraction"] = {
    { "a half", "0.5", same }, { "stays a float", "1.0", same }, { "many zeros behind the point", "1.000", "1.0" },
    { "minus zero as a float", "-0.0", same }, { "shortest form", "0.10", "0.1" }, { "17 digits", "0.30000000000000004", same },
    { "a third", "0.3333333333333333", same }, { "more digits than a binary64 has", "0.1000000000000000055511151231", "0.1" },
    { "no digit before the point", ".5", decode }, { "no digit behind the point", "1.", decode }, { "two points", "1.2.3", decode },
    { "a minus and a point", "-.5", decode }, { "a point alone", ".", decode }, { "a comma as the point", "[1,5.]", decode },
    { "a point before the exponent", "1.e5", decode },
  },
  ["6 numbers: the exponent"] = {
    { "small e", "1e2", "100.0" }, { "large E", "1E2", "100.0" }, { "plus", "1e+2", "100.0" }, { "minus", "1e-2", "0.01" },
    { "zeros in front", "1e05", "100000.0" }, { "of zero", "0e5", "0.0" }, { "exponent zero", "5e0", "5.0" },
    { "with a fraction", "1.5e3", "1500.0" }, { "the largest binary64", "1.7976931348623157e308", "1.7976931348623157e+308" },
    { "the smallest normal", "2.2250738585072014e-308", same }, { "the smallest of all", "5e-324", same },
    { "too small to be told from zero", "1e-400", "0.0" },
    { "too large for a binary64", "1e309", decode }, { "far too large", "1e99999", decode }, { "too large and negative", "-1e309", decode },
    { "no digits", "1e", decode }, { "a sign without digits", "1e+", decode }, { "two signs", "1e+-2", decode },
    { "a fraction in it", "1e2.5", decode }, { "white space in it", "1e 2", decode }, { "two exponents", "1e2e3", decode },
    { "an exponent alone", "e5", decode },
  },
  ["6 numbers: infinity and not-a-number are none"] = {
    { "NaN", "NaN", decode }, { "nan", "[nan]", decode }, { "Infinity", "Infinity", decode }, { "-Infinity", "[-Infinity]", decode },
    { "inf", "inf", decode },
  },
  ["7 strings: characters that stand for themselves"] = {
    { "empty", '""', same }, { "letters", '"abc"', same }, { "a solidus", '"a/b"', same }, { "a single quote", "\"it's\"", same },
    { "DEL", '"\127"', same }, { "two bytes", '"ä"', same }, { "three bytes", '"€"', same }, { "four bytes", '"😀"', same },
    { "the largest code point", '"\244\143\191\191"', same }, { "U+2028 and U+2029", '"\226\128\168\226\128\169"', same },
    { "a noncharacter", '"\239\191\191"', same }, { "a combining mark is not composed", '"e\204\129"', same },
    { "structural characters", '"{[]}:,"', same }, { "a private character", '"\238\128\128"', same },
  },
  ["7 strings: escapes"] = {
    { "quotation mark", '"\\""', same }, { "reverse solidus", '"\\\\"', same }, { "solidus", '"\\/"', '"/"' },
    { "backspace", '"\\b"', '"\\u0008"' }, { "form feed", '"\\f"', '"\\u000c"' }, { "line feed", '"\\n"', same },
    { "carriage return", '"\\r"', same }, { "tab", '"\\t"', same }, { "four hex digits", '"\\u00e4"', '"ä"' },
    { "hex digits of both cases", '"\\u20aC\\u20Ac"', '"€€"' }, { "an ASCII letter", '"\\u0041"', '"A"' },
    { "NUL", '"\\u0000"', same }, { "U+001F", '"\\u001F"', '"\\u001f"' }, { "a pair of surrogates", '"\\uD83D\\uDE00"', '"😀"' },
    { "an escaped reverse solidus before a u", '"\\\\u0041"', same }, { "DEL", '"\\u007f"', '"\127"' },
    { "an unknown letter", '"\\a"', decode }, { "an apostrophe", '"\\\'"', decode }, { "hex of C", '"\\x41"', decode },
    { "octal", '"\\101"', decode }, { "a capital U", '"\\U0041"', decode }, { "three hex digits", '"\\u004"', decode },
    { "no hex digits", '"\\u"', decode }, { "a letter that is no hex digit", '"\\u00G0"', decode }, { "braces", '"\\u{41}"', decode },
    { "a line end", '"\\\n"', decode }, { "nothing", '"\\', decode }, { "a sign in the digits", '"\\u+041"', decode },
  },
  ["7 strings: control characters must be escaped"] = {
    { "NUL", '"\0"', decode }, { "U+0001", '"\1"', decode }, { "tab", '"\t"', decode }, { "line feed", '"\n"', decode },
    { "carriage return", '"\r"', decode }, { "U+001F", '"\31"', decode }, { "in a name", '{"a\n":1}', decode },
  },
  ["7 strings: begin and end with a quotation mark"] = {
    { "not closed", '"abc', decode }, { "not opened", 'abc"', decode }, { "single quotes", "'abc'", decode },
    { "typographic quotes", "“abc”", decode }, { "an escaped end", '"abc\\"', decode }, { "two side by side", '"a""b"', decode },
    { "a quotation mark inside", '"a"b"', decode }, { "backquotes", "`abc`", decode },
  },
  ["8.1 encoding: UTF-8, and well-formed"] = {
    { "a byte order mark", "\239\187\191{}", decode }, { "a byte that is never used", '"\255"', utf8_ },
    { "a continuation alone", '"\128"', utf8_ }, { "two bytes cut short", '"\195"', utf8_ },
    { "three bytes cut short", '"\226\130"', utf8_ }, { "four bytes cut short", '"\240\159\152"', utf8_ },
    { "an overlong slash", '"\192\175"', utf8_ }, { "an overlong NUL", '"\192\128"', utf8_ },
    { "an overlong form of three bytes", '"\224\128\175"', utf8_ }, { "beyond U+10FFFF", '"\244\144\128\128"', utf8_ },
    { "five bytes", '"\248\136\128\128\128"', utf8_ }, { "ISO 8859-1", '"\228"', utf8_ }, { "in a name", '{"\228":1}', utf8_ },
    { "a surrogate as three bytes", '"\237\160\128"', utf8_ }, { "CESU-8", '"\237\160\189\237\184\128"', utf8_ },
  },
  ["8.1 encoding: UTF-16 and UTF-32 are refused"] = {
    { "UTF-16 little-endian", "[\0001\000]\000", decode }, { "UTF-16 big-endian", "\000[\0001\000]", decode },
    { "UTF-16 with a mark", "\255\254[\000]\000", { class = "decode", or_class = "utf8" } },
    { "UTF-32", "[\0\0\0]\0\0\0", decode },
  },
  ["8.2 characters: surrogates come in pairs"] = {
    { "the first alone", '"\\ud800"', utf8_ }, { "the second alone", '"\\udc00"', utf8_ }, { "the wrong way round", '"\\udc00\\ud800"', utf8_ },
    { "two first ones", '"\\ud800\\ud800"', utf8_ }, { "the first before a letter", '"\\ud800a"', utf8_ },
    { "the first before another escape", '"\\ud800\\n"', utf8_ }, { "in a name", '{"\\ud800":1}', utf8_ },
    { "the lowest pair", '"\\ud800\\udc00"', '"\240\144\128\128"' }, { "the highest pair", '"\\udbff\\udfff"', '"\244\143\191\191"' },
  },
  ["9 parsers: depth is bounded, length by max_message only"] = {
    { "64 arrays", deep(64, "[", "]"), same }, { "65 arrays", deep(65, "[", "]"), decode },
    { "64 objects", ('{"a":'):rep(63) .. "{}" .. ("}"):rep(63), same }, { "65 objects", ('{"a":'):rep(64) .. "{}" .. ("}"):rep(64), decode },
    { "a hundred thousand open arrays", ("["):rep(100000), decode },
    { "a string of a hundred thousand characters", '"' .. ("x"):rep(100000) .. '"', same },
    { "an array of ten thousand elements", "[" .. ("1,"):rep(9999) .. "1]", same },
  },
}

-- The value goes out as it would stand in a message, a scalar too.
local echo = assert(script.open([[
  return { map = function(msg) return { v = msg } end, shape = function(rec) return json.encode(rec.v) end }]],
  { output_limit = 64 << 20 }))

local function check(case)
  local name, bytes, want = case[1], case[2], case[3]
  local got = echo:process { value = bytes }
  if want.class then
    assert.equal("reject", got.verdict, name)
    if got.class ~= want.or_class then assert.equal(want.class, got.class, name .. ": " .. got.error) end
    assert.equal(0, #got.messages)
    return
  end
  assert.equal("emit", got.verdict, name .. ": " .. tostring(got.error))
  assert.equal(want == same and bytes or want, got.messages[1].value, name)
end

describe("RFC 8259", function()
  local rules = {}
  for rule in pairs(CASES) do rules[#rules + 1] = rule end
  table.sort(rules)
  for _, rule in ipairs(rules) do
    for _, case in ipairs(CASES[rule]) do
      it(rule .. ": " .. case[1], function() check(case) end)
    end
  end

  it("is held in at least 150 cases that differ", function()
    local seen, count = {}, 0
    for _, list in pairs(CASES) do
      for _, case in ipairs(list) do
        count = count + (seen[case[2]] and 0 or 1)
        seen[case[2]] = true
      end
    end
    assert.is_true(count >= 150, count .. " cases")
  end)

  it("holds for what goes out: it is read again to the same bytes", function()
    for _, list in pairs(CASES) do
      for _, case in ipairs(list) do
        if not case[3].class then
          local first = echo:process { value = case[2] }.messages[1].value
          assert.equal(first, echo:process { value = first }.messages[1].value, case[1])
        end
      end
    end
  end)
end)
