-- shape and row: what they may return, what becomes of it, and what is refused.
local script = require "tests.support.script"

local TABLE = { "id integer not null default", "name text not null", "n bigint", "extra json", "made text generated" }

local function shaped(body)
  return script.run(script.project("return { id = msg.id, name = col.name, n = col.n }",
    "function s.shape(rec, ctx)\n" .. body .. "\nend"))
end

local function rowed(body, options)
  local all = { table = TABLE, message = false }
  for key, value in pairs(options or {}) do all[key] = value end
  return script.run(script.project("return { name = col.name, n = col.n }", body and "function s.row(rec, ctx)\n" ..
    body .. "\nend",
    all))
end

describe("the value", function()
  it("is the record itself without shape, and has no key", function()
    local got = script.run(script.project "return { z = 1, name = col.name, a = msg.id }")
    assert.equal('{"a":"a","name":"Ann","z":1}', script.value(got))
    assert.equal(script.null, got.messages[1].key)
    assert.same({}, got.messages[1].headers)
  end)

  it("may have a field without a name, again and again", function()
    local s = script.project "return { [''] = col.name }"
    for _ = 1, 3 do assert.equal('{"":"Ann"}', script.value(script.run(s))) end
  end)

  it("is JSON for a table, bytes for a string, fmt or placeholder, a tombstone for null", function()
    assert.equal('[1,"Ann"]', script.value(shaped "return { 1, rec.name }"))
    assert.equal("raw \255", script.value(shaped "return 'raw \\255'"))
    assert.equal("", script.value(shaped "return ''"))
    assert.equal("<Ann> 7", script.value(shaped "return fmt '<{name}> {n}'"))
    assert.equal("Ann", script.value(shaped "return rec.name"))
    assert.equal("7", script.value(shaped "return rec.n"))
    local got = shaped "return null, 'k'"
    assert.equal(script.null, got.messages[1].value)
    assert.equal("k", got.messages[1].key)
  end)

  it("cannot be nothing, a number, a boolean or a function", function()
    for returned, sentence in pairs { [""] = "shape returned no value; for a tombstone return null",
      ["nil"] = "shape returned no value",
      ["5"] = "the value is a number; it can be a table", ["true"] = "the value is a boolean",
      ["function() end"] = "the value is a function" } do
      local got = shaped("return " .. returned)
      assert.equal("script", got.class)
      assert.matches(sentence, got.error)
    end
  end)
end)

describe("the key", function()
  it("is a string, number, placeholder, fmt, null or nothing", function()
    local function key(expression) return shaped("return rec, " .. expression).messages[1].key end
    assert.equal("k", key "'k'")
    assert.equal("", key "''")
    assert.equal("12", key "12")
    assert.equal("9223372036854775807", key "math.maxinteger")
    assert.equal("1.5", key "1.5")
    assert.equal("Ann", key "rec.name")
    assert.equal("7/Ann", key "fmt '{n}/{name}'")
    assert.equal(script.null, key "null")
    assert.equal(script.null, key "nil")
  end)

  it("is no table", function()
    local got = shaped "return rec, {}"
    assert.equal("script", got.class)
    assert.matches("shape: the key is a table; it can be a string", got.error)
  end)
end)

describe("headers", function()
  local function headers(expression) return shaped("return rec, nil, " .. expression) end

  it("come sorted from a table of names, in order from a list", function()
    assert.same({ { "a", "1" }, { "b", "Ann" }, { "c", script.null } },
      headers("{ c = null, a = 1, b = rec.name }").messages[1].headers)
    assert.same({ { "b", "x" }, { "a", "y" }, { "b", "7" } },
      headers("{ { 'b', 'x' }, { 'a', 'y' }, { 'b', fmt '{n}' } }").messages[1].headers)
    assert.same({ { "Ann", "v" } }, headers("{ { rec.name, 'v' } }").messages[1].headers)
    assert.same({}, headers("{}").messages[1].headers)
  end)

  it("say what is wrong with them", function()
    for expression, sentence in pairs { ["5"] = "the headers are a number; expected { name = value }",
      ["{ 'x' }"] = "header 1 is a string; expected { name, value }",
        ["{ a = {} }"] = "the value of a header is a table",
      ["{ { nil, 'x' } }"] = "a header has no name", ["{ [2] = 'x' }"] = "the name of a header is not a string" } do
      local got = headers(expression)
      assert.equal("script", got.class)
      assert.truthy(got.error:find(sentence, 1, true), got.error)
    end
  end)

  it("name the bundle when asked to", function()
    local s = script.map("return { 1 == 1 and {} }", { bundle_header = true })
    local got = s:process { value = "1" }
    assert.same({ { "millrace-bundle", s:bundle() } }, got.messages[1].headers)
  end)
end)

describe("shape and row", function()
  it("each get a copy of the record", function()
    local s = script.project("return { name = col.name, n = 1 }", [[
      function s.shape(rec) rec.n = 2 rec.only_shape = 1 return rec end
      function s.row(rec) rec.n = rec.n + 10 return rec end]], { table = TABLE })
    local got = script.run(s)
    assert.equal('{"n":2,"name":"Ann","only_shape":1}', script.value(got))
    assert.same({ { name = "Ann", n = "11" } }, got.rows)
  end)

  it("see nothing of what the other did, however it was done", function()
    for _, body in ipairs { "return rec", "return rec, rec.k, { h = rec.k }", "return { a = tostring(rec.a) }",
      "rec.a = 9 return rec", "local t = rec t.a = 9 return t", "local t = {} t = rec t.a = 9 return t",
      "local t = { rec } t[1].a = 9 return rec", "for k in pairs(rec) do rec[k] = nil end return { a = 1 }",
      "setmetatable(rec, { x = 1 }) return rec", "rawset(rec, 'a', 9) return rec",
      "local function f() rec.a = 9 end f() return rec", "kept = rec kept.a = 9 return rec",
      "rec.a, rec.b = rec.b, rec.a return rec",
      "local t = {} ::again:: t.a = 9 if t ~= rec then t = rec goto again end return rec" } do
      local function twice(shape, row)
        return assert(script.open(([[local s, kept = {}, nil
          function s.map() local r = { k = "k", a = 1, b = 2 } return { r, r } end
          function s.shape(rec) %s end
          function s.row(rec) %s end
          return s]]):format(shape, row), { table = { "k text", "a text", "b text" } })):process { value = "1" }
      end
      local row = { k = "k", a = "1", b = "2" }
      assert.same({ row, row }, twice(body, "return rec").rows, body)
      assert.equal('{"a":1,"b":2,"k":"k"}', twice("return rec", body).messages[2].value, body)
    end
  end)

  it("see nothing of what was done to the record of another message", function()
    for _, map in ipairs { "return kept", "return { a = 1 }", "kept = kept or { a = 1 } return kept",
      "local t = { a = 1 } t.b = kept.b return t", "if kept then return kept end return { a = 1 }" } do
      local s = assert(script.open(([[local s, kept = {}, { a = 1 }
        function s.map() %s end
        function s.shape(rec) return { a = rec.a } end
        function s.row(rec) rec.a = rec.a + 1 return rec end
        return s]]):format(map), { table = { "a text", "b text" } }))
      for _ = 1, 3 do
        local got = s:process { value = "1" }
        assert.same({ '{"a":1}', "2" }, { got.messages[1].value, got.rows[1].a }, map)
      end
    end
  end)

  it("get a copy of a record with a metatable", function()
    local s = script.project(
      [[return setmetatable({ a = 1 }, { __index = function(t, k) rawset(t, "a", 2) return k end })]],
      "function s.shape(rec) return { a = rec.a, b = rec.b } end function s.row(rec) return { name = rec.a } end",
      { table = TABLE })
    local got = script.run(s)
    assert.equal('{"a":1,"b":"b"}', script.value(got))
    assert.same({ { name = "1" } }, got.rows)
  end)

  -- Each would show it if shape and row got the record itself where somebody else can change it, keep it, or tell
  -- that it is the same one. `held` is what the script keeps of it.
  local SCRIPTS = {
    { "map gives the same table each time", "return held",
      "held.n = held.n .. '+' return { n = rec.n }", "return rec" },
    { "a table's __index changes it", "held = { n = msg.n } return held", "return rec, trap.x", "return rec" },
    { "row changes it from outside", "held = msg return msg", "return rec", "change() return rec" },
    { "it is in the list twice", "held = { n = msg.n } return { held, held }", "return rec",
      "change() return { n = rec.n }" },
    { "an __index gets it, out of two tables", "return { n = msg.n }",
      "local v = ({ { rec } })[1][1] return rec, trap[v]", "return rec" },
    { "an __index gets it where it is made",
      "local r = { n = msg.n } local v = ({ { r } })[1][1] r.x = trap[v] return r", "return { n = rec.n }",
      "change() return { n = rec.n }" },
    { "it is told from a copy", "held = { n = msg.n } return held",
      "local t = { [rec] = 'same' } return { n = rec.n, x = t[held] }", "return rec" },
    { "it contains itself", "local r = { n = msg.n } r.child = { parent = r } return r",
      "return { n = rec.n }", "rec.child.parent.n = 'changed' rec.child = nil return rec" },
    { "something is closed meanwhile", "held = { n = msg.n } return held",
      "local c <close> = trap return rec", "return { n = rec.n }" },
    { "it is read, and nothing else", "return { n = msg.n }", "return rec, rec.n", "return { n = rec.n }" },
  }
  for _, case in ipairs(SCRIPTS) do
    it("cannot tell it from a copy: " .. case[1], function()
      local results = {}
      for i, copied in ipairs { "", "local _ = function() return rec end " } do -- what is captured may be kept: a copy
        local s = assert(script.open(([[
          local s, held = {}, { n = "0" }
          local function change() held.n = held.n .. "!" return "k" end
          local trap = setmetatable({}, { __close = change, __index = function(_, key)
            if type(key) == "table" then held = key end
            return change() end })
          function s.map(msg) %s end
          function s.shape(rec) %s%s end
          function s.row(rec) %s%s end
          return s]]):format(case[2], copied, case[3], copied, case[4]), { table = { "n text" } }))
        results[i] = { s:process { value = '{"n":"1"}' }, s:process { value = '{"n":"2"}' } }
      end
      assert.equal("emit", results[1][1].verdict, results[1][1].error)
      assert.same(results[2], results[1])
    end)
  end

  it("leave the message itself alone", function()
    local s = assert(script.open [[
      return { map = function(msg) return { msg, msg } end, shape = function(rec) rec.x = rec.x + 1 return rec end }]])
    local got = s:process { value = '{"x":1}' }
    assert.equal('{"x":2}', got.messages[1].value)
    assert.equal('{"x":2}', got.messages[2].value)
  end)

  it("encode shape's result before row runs", function()
    local s = assert(script.open([[
      local inner = { 1 }
      return { map = function() return { name = "n", inner = inner } end,
               shape = function(rec) return rec end,
               row = function(rec) inner[1] = inner[1] + 1 return { name = rec.name, n = inner[1] } end }]],
                 { table = TABLE }))
    local got = s:process { value = "1" }
    assert.equal('{"inner":[1],"name":"n"}', script.value(got))
    assert.equal("2", got.rows[1].n)
  end)

  it("are not called for a sink that is not there", function()
    assert.equal("emit", rowed("return rec").verdict)
    local s = assert(script.open [[return { map = function() return {} end, row = function() error "never" end }]])
    assert.equal("emit", s:process({ value = "1" }).verdict)
    s = assert(script.open([[return { map = function() return { name = "x" } end,
      shape = function() error "never" end }]],
      { message = false, table = TABLE }))
    local got = s:process { value = "1" }
    assert.same({ 0, { { name = "x" } } }, { #got.messages, got.rows })
  end)
end)

describe("a row", function()
  it("is the record itself without row", function()
    assert.same({ { name = "Ann", n = "7" } }, rowed().rows)
  end)

  it("takes constants, placeholders and fmt; null is NULL; what is missing gets the column's default", function()
    assert.same({ { name = "x" } }, rowed("return { name = 'x' }").rows)
    assert.same({ { name = "x", n = script.null, id = "5" } }, rowed("return { name = 'x', n = null, id = 5 }").rows)
    assert.same({ { name = "Ann and 7" } }, rowed("return { name = fmt '{name} and {n}' }").rows)
    assert.same({ { name = "7" } }, rowed("return { name = rec.n }").rows)
  end)

  it("takes tables as JSON, with placeholders where the column is text", function()
    assert.same({ { name = "x", extra = '{"a":[1,null],"b":{}}' } },
      rowed("return { name = 'x', extra = { b = {}, a = { 1, null } } }").rows)
    assert.same({ { name = "x", extra = '{"who":"Ann"}' } },
      rowed("return { name = 'x', extra = { who = rec.name } }").rows)
    local got = rowed("return { name = 'x', n = { rec.name } }")
    assert.equal("schema", got.class)
    assert.matches("row.n: a table with placeholders is text made for each row, but the column is bigint", got.error)
  end)

  it("refuses an unknown column with the nearest name", function()
    for body, sentence in pairs {
      ["return { nmae = 'x' }"] = "row: the table feedback has no column 'nmae' (did you mean 'name'?)",
      ["return { name = 'x', something_else = 1 }"] = "row: the table feedback has no column 'something_else'",
      ["return { name = 'x', [1] = 1 }"] = "row: a row has columns by name; this one has a number key" } do
      local got = rowed(body)
      assert.same({ "schema", sentence }, { got.class, got.error })
    end
  end)

  it("refuses what the table would refuse", function()
    for body, sentence in pairs {
      ["return { n = 1 }"] = "row.name is missing: the column is NOT NULL and has no default",
      ["return { name = null }"] = "row: column name is NOT NULL",
      ["return { name = 'x', n = 'y' }"] = "row: column n is bigint and cannot take a value of type text",
      ["return { name = 'x', made = 'y' }"] = "row.made: the column is generated by Postgres and cannot be written",
      ["return { name = 'x', n = fmt '{n}' }"] = "row.n: a fmt is text made for each row, but the column is bigint; " ..
        "only a column of a text type can take it",
      ["return { name = function() end }"] = "row.name: is a function, which no column can take" } do
      local got = rowed(body)
      assert.same({ "schema", sentence }, { got.class, got.error })
    end
    local got = rowed "return { name = 'x\\255' }"
    assert.same({ "utf8", "row.name: is a string that is not UTF-8" }, { got.class, got.error })
  end)

  it("is a table", function()
    for returned, kind in pairs { ["5"] = "a number", [""] = "nothing", ["null"] = "null" } do
      local got = rowed("return " .. returned)
      assert.equal("script", got.class)
      assert.equal("row returned " .. kind .. "; expected a table of columns by name", got.error)
    end
  end)

  it("may carry other columns than the row before", function()
    local s = assert(script.open([[return { map = function(msg) return msg end }]], { table = TABLE, message = false }))
    for _ = 1, 3 do
      assert.same({ { name = "x" } }, s:process({ value = '{"name":"x"}' }).rows)
      assert.same({ { name = "y", n = "1" } }, s:process({ value = '{"name":"y","n":1}' }).rows)
    end
    assert.same({ { name = "x" }, { name = "y", n = "2" } },
      s:process({ value = '[{"name":"x"},{"name":"y","n":2}]' }).rows)
  end)
end)
