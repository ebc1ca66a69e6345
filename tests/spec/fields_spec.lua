-- `fields`: what is checked before any function runs, and what the errors say.
local script = require "tests.support.script"

local function with(fields)
  return script.open("return { fields = " .. fields .. ", map = function(m) return { ok = true } end }")
end

local function check(fields, value)
  local got = assert(with(fields)):process { value = value }
  if got.verdict == "emit" then return nil end
  assert.equal("schema", got.class)
  return got.error
end

describe("fields", function()
  it("accept what they ask for", function()
    for kind, values in pairs {
      string = { '""', '"x"' }, integer = { "0", "-9223372036854775808", "9223372036854775807" },
      number = { "1", "1.5", "-0.0" }, boolean = { "true", "false" }, table = { "{}", '{"a":1}', "[]", "[1]" },
      array = { "[]", "[1]" }, any = { "1", '"x"', "[]", "false" } } do
      for _, value in ipairs(values) do
        assert.is_nil(check('{ f = "' .. kind .. '" }', '{"f":' .. value .. "}"), kind .. " " .. value)
        assert.is_nil(check('{ f = "' .. kind .. '?" }', '{"f":' .. value .. "}"), kind .. " " .. value)
      end
    end
  end)

  it("name the field, what was expected and what came", function()
    for _, case in ipairs {
      { "string", "1", "integer" }, { "string", "1.0", "float" }, { "integer", '"1"', "string" },
      { "integer", "1.0", "float" }, { "number", "true", "boolean" }, { "boolean", "0", "integer" },
      { "table", '"x"', "string" }, { "array", "{}", "table" }, { "array", '{"a":1}', "table" },
      { "string", "null", "null" }, { "any", "null", "null" }, { "integer", "[1]", "array" } } do
      assert.equal("field f: expected " .. case[1] .. ", got " .. case[3],
        check('{ f = "' .. case[1] .. '" }', '{"f":' .. case[2] .. "}"))
    end
    assert.equal("field f: expected any, got nothing", check('{ f = "any" }', "{}"))
  end)

  it("may be missing or null with a question mark, but not wrong", function()
    for _, value in ipairs { "{}", '{"f":null}', '{"f":5}' } do
      assert.is_nil(check('{ f = "integer?" }', value))
    end
    assert.equal("field f: expected integer, got string", check('{ f = "integer?" }', '{"f":"5"}'))
  end)

  it("want an object", function()
    assert.equal("the message is an array; the script's fields ask for an object", check('{ f = "any?" }', "[1]"))
    assert.equal("the message is a string; the script's fields ask for an object", check('{ f = "any?" }', '"x"'))
    assert.equal("the message is a null; the script's fields ask for an object", check('{ f = "any?" }', "null"))
  end)

  it("are checked in the order of their names", function()
    assert.matches("^field a:", check('{ b = "string", a = "string", c = "string" }', "{}"))
  end)

  it("take any top-level value when there are none", function()
    assert.is_nil(check("{}", "[1]"))
    assert.is_nil(check("{}", "3"))
  end)

  it("are checked when the script loads", function()
    local _, message, code = with '{ f = "strnig" }'
    assert.equal(78, code)
    assert.matches("^s.lua:1: fields.f: 'strnig' is not a type %(did you mean 'string'%?%); the types are", message)
    _, message = with "{ f = 5 }"
    assert.matches("fields.f: expected the name of a type", message)
    _, message = with '{ "string" }'
    assert.matches("fields: names are strings, not number keys", message)
  end)
end)
