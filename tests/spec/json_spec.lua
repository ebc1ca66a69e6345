-- JSON in and out through an identity script: values, limits, error texts.
local script = require "tests.support.script"

local identity

local function through(value)
  return identity:process { value = value }
end

--- The text that comes back for a value inside {"v":...}.
local function back(text)
  return script.value(through('{"v":' .. text .. "}")):match('^{"v":(.*)}$')
end

local function refused(value, class)
  local got = through(value)
  assert.equal("reject", got.verdict, value)
  assert.equal(class, got.class, got.error)
  return got.error
end

describe("JSON", function()
  setup(function() identity = script.map "return { v = msg.v }" end)
  teardown(function() identity:close() end)

  it("keeps integers of 64 bits", function()
    for _, text in ipairs { "0", "-1", "9007199254740993", "9223372036854775807", "-9223372036854775808" } do
      assert.equal(text, back(text))
    end
  end)

  it("refuses integers beyond", function()
    assert.equal("the integer 9223372036854775808 is too large: integers end at 9223372036854775807",
      refused('{"v":9223372036854775808}', "decode"))
    assert.matches("a number that is malformed or too large, at position 5: 1844",
      refused('{"v":18446744073709551616}', "decode"))
    assert.matches("a number", refused('{"v":-9223372036854775809}', "decode"))
  end)

  it("keeps floats floats, shortest and exact", function()
    for text, expected in pairs { ["1.0"] = "1.0", ["0.1"] = "0.1", ["-0.0"] = "-0.0", ["1e0"] = "1.0",
      ["0.30000000000000004"] = "0.30000000000000004" } do
      assert.equal(expected, back(text), text)
    end
    assert.equal(5e-324, tonumber(back "5e-324"))
    assert.equal(1.7976931348623157e308, tonumber(back "1.7976931348623157e308"))
    assert.equal("float", math.type(tonumber(back "1e15")))
    assert.equal("float", math.type(tonumber(back "1e300")))
    assert.matches("a number", refused('{"v":1e400}', "decode"))
  end)

  it("keeps null, empty arrays and empty objects apart", function()
    assert.equal("null", back "null")
    assert.equal("[]", back "[]")
    assert.equal("{}", back "{}")
    assert.equal("[[],{},null,[[]]]", back "[[],{},null,[[]]]")
    assert.equal("{}", script.value(through "{}"))
  end)

  it("keeps strings, whatever is in them", function()
    assert.equal('"\\u0000\\u0001\\n\\t\\"\\\\/\u{1f600}é"',
      back '"\\u0000\\u0001\\n\\t\\"\\\\\\/\\ud83d\\ude00\\u00e9"')
  end)

  it("takes the last of doubled names", function()
    assert.equal("2", script.value(through '{"v":1,"v":2}'):match '^{"v":(.*)}$')
    assert.equal("null", script.value(through '{"v":1,"v":null}'):match '^{"v":(.*)}$')
  end)

  it("sorts names bytewise", function()
    assert.equal('{"":0,"A":1,"B":2,"a":3,"aa":4,"b":5,"é":6}', back '{"é":6,"b":5,"aa":4,"a":3,"B":2,"A":1,"":0}')
    local names, text = {}, {}
    for i = 1, 100 do names[i] = ("n%03d"):format(i) end
    for i = 1, 100 do text[i] = '"' .. names[101 - i] .. '":' .. i end
    local sorted = {}
    for i = 1, 100 do sorted[i] = '"' .. names[i] .. '":' .. 101 - i end
    assert.equal("{" .. table.concat(sorted, ",") .. "}", back("{" .. table.concat(text, ",") .. "}"))
  end)

  it("goes 64 levels deep and no further", function()
    local function nested(n, inner) return ("["):rep(n) .. inner .. ("]"):rep(n) end
    local any = script.map "return { ok = true }"
    assert.equal("emit", any:process({ value = nested(64, "1") }).verdict)
    assert.equal("emit", any:process({ value = nested(64, "") }).verdict)
    assert.equal("the value is nested more than 64 levels deep", any:process({ value = nested(65, "1") }).error)
    assert.equal("the value is nested more than 64 levels deep", any:process({ value = nested(65, "") }).error)
    assert.equal("decode", any:process({ value = ("["):rep(100000) }).class)
    assert.equal(nested(63, "1"), back(nested(63, "1")))
    local deeper = script.map "return { v = { v = msg } }"
    assert.equal("emit", deeper:process({ value = nested(62, "1") }).verdict)
    assert.matches("nested too deep", deeper:process({ value = nested(63, "1") }).error)
  end)

  it("takes any top-level value", function()
    local kind = script.map "return { t = msg == null and 'null' or math.type(msg) or type(msg) }"
    for text, name in pairs { ["1"] = "integer", ["1.5"] = "float", ['"x"'] = "string", ["true"] = "boolean",
      ["null"] = "null", ["[]"] = "table", [" {} "] = "table" } do
      assert.equal('{"t":"' .. name .. '"}', script.value(kind:process { value = text }), text)
    end
  end)

  it("says what is wrong with the bytes, and where", function()
    for value, sentence in pairs {
      [""] = "the value is empty: expected JSON",
      [" \n"] = "the value is blank: expected JSON",
      ['{"a":1'] = "position 5: 1",
      ['{"a":1,}'] = "position 7: }",
      ['{"a" 1}'] = "position 5: 1}",
      ["[1 2]"] = "position 3: 2]",
      ['{"a":nul}'] = "a word that is not true, false or null, at position 5: nul}",
      ['{"a":01}'] = "a number that is malformed or too large, at position 5: 01}",
      ['{"a":"\\x"}'] = "a malformed escape in a string, at position 6: \\x",
      ['{"a":"x'] = "a string that is not closed",
      ['{"a":"x\1"}'] = "a control character in a string that must be escaped, at position 7",
      ["\239\187\191{}"] = "it begins with a byte order mark",
      ["[NaN]"] = "not JSON",
      ["hello"] = "not JSON",
      ["1 2"] = "not JSON",
      ["'x'"] = "not JSON" } do
      local message = refused(value, "decode")
      assert.truthy(message:find(sentence, 1, true), value .. " -> " .. message)
    end
  end)

  it("refuses what is not UTF-8, and lone surrogates, as utf8", function()
    assert.equal("the value is not UTF-8: byte 0xff at position 6", refused('{"v":"\255"}', "utf8"))
    assert.equal("the value is not UTF-8: byte 0xe2 at position 8", refused('{"v":"é\226\130"}', "utf8"))
    assert.equal("the value is not UTF-8: byte 0xed at position 6", refused('{"v":"\237\160\128"}', "utf8"))
    assert.equal('a surrogate without its other half at position 6: \\ud800"}', refused('{"v":"\\ud800"}', "utf8"))
    assert.matches("position 6", refused('{"v":"\\udc00\\ud800"}', "utf8"))
    assert.matches("position 10", refused('{"v":"\\\\ud\\ud83dx"}', "utf8"))
    assert.matches("position 18", refused('{"v":"\\ud83d\\ude00\\uDBFF\\u0041"}', "utf8"))
  end)

  it("shows only clean text of a broken message", function()
    local message = refused('{"v": "' .. ("é"):rep(30) .. '\\x"}', "decode")
    assert.is_truthy(utf8.len(message))
    message = refused('["' .. ("\u{1f600}"):rep(10) .. '\\x"]', "decode")
    assert.matches("position 42: \\x\"%]$", message)
    assert.matches("in: %[\"" .. ("\u{1f600}"):rep(5) .. "%.%.%.$", refused('["' .. ("\u{1f600}"):rep(10), "decode"))
    assert.is_truthy(utf8.len(refused('[\1\2\n"' .. ("\u{20ac}"):rep(20), "decode")))
  end)
end)

describe("encoding", function()
  local function error_of(expression)
    local got = script.map("return { v = " .. expression .. " }"):process { value = "{}" }
    return got.error, got.class
  end

  it("refuses what JSON cannot carry, naming the path", function()
    for expression, sentence in pairs {
      ["0/0"] = "the message: v is not a finite number, which JSON cannot carry",
      ["{ a = { 1, 1/0 } }"] = "the message: v.a[2] is not a finite number, which JSON cannot carry",
      ["{ f = pcall }"] = "the message: v.f is a function: JSON cannot carry it",
      ["ctx"] = "the message: v is a userdata: JSON cannot carry it",
      ["{ [1.5] = 1 }"] = "the message: v is a table with a key that is not a string: JSON names are strings",
      ["{ [2] = 1 }"] = "the message: v is a table with a key that is not a string",
      ["{ 1, 2, x = 1 }"] = "the message: v is a list with a name in it: a JSON array has items only",
      ["{ 1, nil, 3 }"] = "the message: v is a list with a hole (nil): put null there",
      ["{ 1, [1000] = 3 }"] = "the message: v is a list with a hole (nil)" } do
      local message, class = error_of(expression)
      assert.truthy(message:find(sentence, 1, true), message)
      assert.equal("schema", class)
    end
  end)

  it("refuses strings that are not UTF-8, also in names", function()
    assert.same({ "the message: v.x is a string that is not UTF-8", "utf8" }, { error_of "{ x = '\\xff' }" })
    local message, class = error_of "{ ['\\xff'] = 1 }"
    assert.equal("utf8", class)
    assert.is_truthy(utf8.len(message))
  end)

  it("keeps a list of nulls", function()
    assert.equal('{"v":[null,1,null]}',
      script.value(script.map("return { v = { null, 1, null } }"):process { value = "1" }))
  end)
end)
