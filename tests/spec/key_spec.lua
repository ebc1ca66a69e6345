-- What key may return: scalars, lists, composites, nothing; and what the lookup makes of it.
local script = require "tests.support.script"

local ROWS = { { id = "a", name = "Ann", n = 1 }, { id = "b", name = "Bob", n = 2 }, { id = "c", name = "Ann", n = 1 } }

local function keyed(body, options, message)
  local s = assert(script.joined("return { key = function(msg, ctx) " .. body .. " end, " ..
    "project = function(msg, col) return { v = col.name } end }", options))
  local all = { value = "{}", rows = ROWS }
  for key, value in pairs(message or {}) do all[key] = value end
  return s:process(all)
end

local function names(got)
  assert(got.verdict == "emit", got.error or got.reason)
  local list = {}
  for i, message in ipairs(got.messages) do list[i] = message.value:match('"v":"(.*)"') end
  return table.concat(list, " ")
end

describe("key", function()
  it("may be one value", function()
    assert.equal("Bob", names(keyed "return 'b'"))
  end)

  it("may be a list, each key once", function()
    local got = keyed "return { 'b', 'a', 'b', 'b', 'a' }"
    assert.equal(2, got.n_keys)
    assert.equal("Ann Bob", names(got))
    assert.equal("Ann Bob", names(keyed("return { 'b', 'a', 'b', 'b', 'a' }", { distinct = false })))
  end)

  it("reaches a row by two keys once", function()
    assert.equal("Ann", names(keyed "return { 'a', 'c' }"))
  end)

  it("counts nil and null as no_key", function()
    for _, body in ipairs { "", "return nil", "return null", "return { null, null }", "return array {}",
      "return { id = null }" } do
      local got = keyed(body)
      assert.same({ "drop", "no_key" }, { got.verdict, got.reason }, body)
    end
    assert.equal("Ann", names(keyed "return { null, 'a' }"))
  end)

  it("counts unknown keys as no_rows", function()
    for _, body in ipairs { "return 'x'", "return { 'x', 'y' }", "return ''" } do
      local got = keyed(body)
      assert.same({ "drop", "no_rows" }, { got.verdict, got.reason }, body)
    end
    assert.equal("Ann", names(keyed "return { 'x', 'a' }"))
  end)

  it("may name its column", function()
    assert.equal("Ann", names(keyed "return { id = 'a' }"))
    assert.equal("Ann Bob", names(keyed "return { { id = 'a' }, { id = 'b' }, 'a' }"))
    assert.equal("key: 'ids' is not a key column of the lookup 'lookup' (did you mean 'id'?)",
      keyed("return { ids = 'a' }").error)
    assert.equal("schema", keyed("return { ids = 'a' }").class)
  end)

  it("has all columns of a composite key", function()
    local options = { keys = { a = "int", b = "text" }, columns = { name = "text" } }
    local message = { rows = { { a = 1, b = "x", name = "one" }, { a = 2, b = "x", name = "two" } } }
    assert.equal("two", names(keyed("return { b = 'x', a = 2 }", options, message)))
    assert.equal("one two", names(keyed("return { { a = 1, b = 'x' }, { a = 2, b = 'x' } }", options, message)))
    assert.equal("key: column b is missing", keyed("return { a = 1 }", options, message).error)
    assert.equal("key: the lookup 'lookup' has 2 key columns: return { a = ..., b = ... }, not a number",
      keyed("return 1", options, message).error)
    assert.equal("no_key", keyed("return { a = 1, b = null }", options, message).reason)
  end)

  it("compares uuids by value in a uuid column, byte for byte in a text column", function()
    local id = "123e4567-e89b-12d3-a456-42661417400f"
    local rows = { rows = { { id = id, name = "U" } } }
    local uuid = { keys = { id = "uuid" }, columns = { name = "text" } }
    local text = { keys = { id = "text" }, columns = { name = "text" } }
    assert.equal("U", names(keyed("return '" .. id:upper() .. "'", uuid, rows)))
    assert.equal("U", names(keyed("return '" .. id .. "'", text, rows)))
    assert.equal("no_rows", keyed("return '" .. id:upper() .. "'", text, rows).reason)
    assert.equal("schema", keyed("return 'not a uuid'", uuid, rows).class)
  end)

  it("is a string, a number or a boolean", function()
    for _, case in ipairs { { "function() end", "function" }, { "{ { {} } }", "table" } } do
      local got = keyed("return " .. case[1])
      assert.equal("schema", got.class, got.reason)
    end
    assert.equal("key: the value for column id is a function; it can be a string, a number or a boolean",
      keyed("return function() end").error)
  end)

  it("ends at 1024 keys", function()
    assert.equal("no_rows", keyed("local t = {} for i = 1, 1024 do t[i] = 'k' .. i end return t").reason)
    local got = keyed "local t = {} for i = 1, 1025 do t[i] = 'k' .. i end return t"
    assert.same({ "schema", "key: more than 1024 keys for one message" }, { got.class, got.error })
  end)

  it("has its columns as placeholders too", function()
    local s = script.project "return { id = col.id, name = col.name }"
    assert.equal('{"id":"a","name":"Ann"}', script.value(script.run(s)))
  end)
end)
