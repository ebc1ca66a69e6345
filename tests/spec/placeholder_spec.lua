-- col.<name> and fmt: where they may stand, what fills them in, and what misuse says.
local script = require "tests.support.script"

local function value_of(expression, message)
  return script.value(script.run(script.project("return { v = " .. expression .. " }"), message)):match('^{"v":(.*)}$')
end

local function error_of(body, rest)
  local got = script.run(script.project(body, rest))
  assert.equal("script", got.class, got.error)
  return (got.error:match("^[^\n]*"):gsub("^.-%.lua:%d+: ", ""))
end

describe("a placeholder", function()
  it("is the column's value in JSON, of its type", function()
    assert.equal('"Ann"', value_of "col.name")
    assert.equal("7", value_of "col.n")
    assert.equal('"a"', value_of "col.id")
    assert.equal('[{"x":7},"Ann"]', value_of "{ { x = col.n }, col.name }")
    assert.equal("null", value_of("col.name", { rows = { { id = "a", n = 1 } } }))
  end)

  it("is the same for all rows of a message, and filled in for each", function()
    local got = script.run(script.project "return { name = col.name }", { rows = {
      { id = "a", name = "x", n = 1 }, { id = "b", name = "never", n = 2 }, { id = "a", name = 'y"', n = 3 } } })
    assert.equal(2, #got.messages)
    assert.equal('{"name":"x"}', got.messages[1].value)
    assert.equal('{"name":"y\\""}', got.messages[2].value)
  end)

  it("may be kept in a variable, passed on and returned", function()
    assert.equal('"Ann"', value_of "(function(c) local x = c return x end)(col.name)")
  end)

  it("suggests the right name of a column", function()
    assert.equal("the lookup 'lookup' has no column 'nmae' (did you mean 'name'?)", error_of "return { col.nmae }")
    assert.equal("the lookup 'lookup' has no column 'something_else'", error_of "return { col.something_else }")
    assert.equal("col has columns by name, not number keys", error_of "return { col[1] }")
  end)

  it("names the cure when it is used as a value", function()
    for verb, expressions in pairs {
      concatenated = { "'Dear ' .. col.name", "col.name .. '!'" },
      ["added to"] = { "col.n + 1", "1 + col.n" }, ["subtracted from"] = { "col.n - 1" },
      multiplied = { "col.n * 2" }, divided = { "col.n / 2", "col.n // 2", "col.n % 2" }, raised = { "col.n ^ 2" },
      negated = { "-col.n" }, combined = { "col.n & 1", "col.n | 1", "col.n ~ 1" }, inverted = { "~col.n" },
      shifted = { "col.n << 1", "1 >> col.n" },
      compared = { "col.n < 1", "1 <= col.n", "col.n > 1", "col.n == col.name" },
      indexed = { "col.name.x", "col.name:upper()" }, measured = { "#col.name" }, called = { "col.name()" },
      ["made a string"] = { "tostring(col.name)", "('%s'):format(col.name)" },
      iterated = { "pairs(col.name)" },
    } do
      for _, expression in ipairs(expressions) do
        local message = error_of("local x = " .. expression .. " return { x }")
        assert.matches("^col%.%w+ is a placeholder, filled in for each row", message, expression)
        assert.matches("it cannot be " .. verb .. "%.", message, expression)
        assert.matches('For text write fmt ".-{%w+}', message, expression)
      end
    end
    assert.matches("it cannot be assigned to", error_of "col.name.x = 1")
  end)

  it("can neither be made nor taken apart by a script", function()
    assert.matches("col only gives placeholders", error_of "col.name = 1")
    assert.matches("col only gives placeholders", error_of "for _ in pairs(col) do end")
    assert.equal("false", value_of "getmetatable(col.name)")
  end)

  it("comes from project only: a kept col raises", function()
    local s = assert(script.joined [[
      local kept
      local s = {}
      function s.filter() return kept == nil or kept.name ~= nil end
      function s.key(msg) return msg.id end
      function s.project(_, col) kept = col return { v = col.name } end
      return s]])
    assert.equal("emit", script.run(s).verdict)
    assert.matches("col is used outside of project", script.run(s).error)
  end)

  it("has no value yet for json.encode", function()
    assert.matches("json.encode: a placeholder has no value yet",
      error_of "return { x = json.encode { { col.name } } }")
  end)
end)

describe("fmt", function()
  it("builds text with columns in it", function()
    assert.equal('"Dear Ann, no. 7"', value_of 'fmt "Dear {name}, no. {n}"')
    assert.equal('"Ann"', value_of 'fmt "{name}"')
    assert.equal('"AnnAnn"', value_of 'fmt "{name}{name}"')
    assert.equal('""', value_of 'fmt ""')
    assert.equal('"plain"', value_of 'fmt "plain"')
  end)

  it("escapes braces by doubling them", function()
    assert.equal('"{Ann} {{x}}"', value_of 'fmt "{{{name}}} {{{{x}}}}"')
  end)

  it("escapes what JSON demands, in its text and in the values", function()
    assert.equal('"a\\"b\\\\ q\\"\\n"', value_of("fmt 'a\"b\\\\ {name}'", { rows = { { id = "a", name = 'q"\n',
      n = 1 } } }))
  end)

  it("prints null as nothing", function()
    assert.equal('"[]"', value_of("fmt '[{name}]'", { rows = { { id = "a", n = 1 } } }))
  end)

  it("may stand at the top level of the script", function()
    local s = assert(script.joined [[
      local hello = fmt "hello {name}"
      return { key = function(m) return m.id end, project = function() return { t = hello } end }]])
    assert.equal('{"t":"hello Ann"}', script.value(script.run(s)))
    local object, message = script.joined "local x = fmt '{nmae}' return {}"
    assert.is_nil(object)
    assert.matches("s.lua:1: the lookup 'lookup' has no column 'nmae' %(did you mean 'name'%?%)", message)
  end)

  it("explains what is wrong with its text", function()
    assert.matches("fmt: a single '{' in \"a {name\"; for a brace write '{{'", error_of 'return { fmt "a {name" }')
    assert.matches("fmt: a single '}' in", error_of 'return { fmt "a } b" }')
    assert.matches("fmt: '{}' names no column", error_of 'return { fmt "a {} b" }')
    assert.matches("fmt takes a text", error_of "return { fmt(5) }")
    assert.matches("fmt takes a text: .* not a placeholder", error_of "return { fmt(col.name) }")
    assert.matches("a fmt is filled in for each row .* it cannot be concatenated",
      error_of "return { 'x' .. fmt '{name}' }")
    assert.matches("this pipeline has no lookup", script.map("return { fmt '{x}' }"):process({ value = "1" }).error)
  end)
end)
