-- each(msg, row, ctx): once per row, with real values.
local script = require "tests.support.script"
local null = script.null

--- A script whose each has this body; `rest` follows it.
local function each(body, rest, options)
  return assert(script.joined("local s = {}\nfunction s.key(msg) return msg.id end\n" ..
    "function s.each(msg, row, ctx)\n" .. body .. "\nend\n" .. (rest or "") .. "\nreturn s\n", options))
end

local function open_error(text, options)
  local object, message = script.joined(text, options)
  assert.is_nil(object)
  return message
end

local THREE = { { id = "a", name = "Ann", n = 1 }, { id = "a", name = "Bob", n = 2 }, { id = "a", name = "Cy", n = 3 } }

local function values(result)
  local list = {}
  assert.equal("emit", result.verdict, result.error or result.reason)
  for i, message in ipairs(result.messages) do list[i] = message.value end
  return list
end

describe("each", function()
  it("is called once per row, and sees its values and the message", function()
    local s = each "return { who = row.name, next = row.n + 1, shop = row.id, m = msg.id, t = ctx.now }"
    assert.same({
      '{"m":"a","next":2,"shop":"a","t":1000,"who":"Ann"}',
      '{"m":"a","next":3,"shop":"a","t":1000,"who":"Bob"}',
      '{"m":"a","next":4,"shop":"a","t":1000,"who":"Cy"}' }, values(script.run(s, { rows = THREE })))
  end)

  it("skips a row for which it returns nil, and drops a message of which nothing is left", function()
    local s = each "if row.n ~= 2 then return { n = row.n } end"
    assert.same({ '{"n":1}', '{"n":3}' }, values(script.run(s, { rows = THREE })))
    local got = script.run(each "", { rows = THREE })
    assert.equal("drop", got.verdict)
    assert.equal("no_output", got.reason)
  end)

  it("may return several records for a row, or an empty list", function()
    local s = each "local r = array {} for i = 2, row.n do r[#r + 1] = { row.name, i = nil } end return r"
    assert.equal("script", script.run(s, { rows = THREE }).class or "script")
    s = each "local r = array {} for i = 2, row.n do r[#r + 1] = { n = row.n, i = i } end return r"
    assert.same({ '{"i":2,"n":2}', '{"i":2,"n":3}', '{"i":3,"n":3}' }, values(script.run(s, { rows = THREE })))
  end)

  it("goes through shape and row, each with its own copy of the record", function()
    local s = each("return { name = row.name }", [[
      function s.shape(rec, ctx) rec.name = rec.name .. "!" return rec, rec.name, { h = rec.name } end
      function s.row(rec, ctx) rec.id = "r" return rec end]], { table = { "id text", "name text" } })
    local got = script.run(s)
    assert.equal('{"name":"Ann!"}', script.value(got))
    assert.equal("Ann!", got.messages[1].key)
    assert.same({ { "h", "Ann!" } }, got.messages[1].headers)
    assert.same({ id = "r", name = "Ann" }, { id = got.rows[1].id, name = got.rows[1].name })
  end)

  it("may return the row itself, and shape may add to it", function()
    local s = each("return row", "function s.shape(rec) rec.extra = 1 return rec end")
    assert.equal('{"extra":1,"id":"a","n":7,"name":"Ann"}', script.value(script.run(s)))
  end)

  it("keeps state from row to row", function()
    local s = assert(script.joined [[
      local s, sum = {}, 0
      function s.key(msg) return msg.id end
      function s.each(msg, row) sum = sum + row.n return { sum = sum } end
      return s]])
    assert.same({ '{"sum":1}', '{"sum":3}', '{"sum":6}' }, values(script.run(s, { rows = THREE })))
    assert.same({ '{"sum":7}', '{"sum":9}', '{"sum":12}' }, values(script.run(s, { rows = THREE })))
  end)

  it("may use fmt, which is filled in with the same row", function()
    local s = each "return { text = fmt '<{name}>' }"
    assert.equal('{"text":"<Ann>"}', script.value(script.run(s)))
  end)

  it("fails the whole message when one row fails, and serves the next", function()
    local s = each "if row.n == 2 then error 'two' end return { n = row.n }"
    local got = script.run(s, { rows = THREE })
    assert.equal("reject", got.verdict)
    assert.equal("script", got.class)
    assert.matches("s%d+.lua:4: two", got.error)
    assert.equal('{"n":7}', script.value(script.run(s)))
  end)

  it("refuses what is no record, with a sentence", function()
    for body, sentence in pairs {
      ["return 1"] =
        "each returned a number; expected the record %(a table%), a list of records, or nil to skip the row",
      ["return null"] = "each returned a userdata",
      ["return false"] = "each returned a boolean",
      ["return { { a = 1 }, 2 }"] = "each: a record is a table, got a number in the list of records",
      ["return { f = print }"] = "'print' is not there",
      ["return { f = error }"] = "f is a function: JSON cannot carry it",
    } do
      local got = script.run(each(body))
      assert.equal("reject", got.verdict, body)
      assert.matches(sentence, got.error)
    end
  end)
end)

describe("the row of each", function()
  it("names the nearest column for one that is not there", function()
    local got = script.run(each "return { x = row.nmae }")
    assert.equal("script", got.class)
    assert.matches("the lookup 'lookup' has no column 'nmae' %(did you mean 'name'%?%)", got.error)
    assert.matches("row has columns by name, not number keys", script.run(each "return { x = row[1] }").error)
  end)

  it("is filled anew for each row, whatever the script did to it", function()
    local s = each "local n = row.name row.name = nil row.n = 'x' return { n = n, gone = row.name == nil }"
    assert.same({ '{"gone":true,"n":"Ann"}', '{"gone":true,"n":"Bob"}', '{"gone":true,"n":"Cy"}' },
      values(script.run(s, { rows = THREE })))
  end)

  it("takes no new names, since it is used again", function()
    local got = script.run(each "row.extra = 1 return row")
    assert.matches("row is used again for the next row: put 'extra' into a table of your own, the record", got.error)
  end)

  it("can be iterated, and is the same table for each row", function()
    local s = each [[
      local names = {}
      for name in pairs(row) do names[#names + 1] = name end
      table.sort(names)
      return { names = table.concat(names, " "), same = msg.kept == row or msg.kept == nil, kept = msg.kept ~= nil,
        x = (function() msg.kept = row end)() }]]
    assert.same({ '{"kept":false,"names":"id n name","same":true}', '{"kept":true,"names":"id n name","same":true}',
      '{"kept":true,"names":"id n name","same":true}' }, values(script.run(s, { rows = THREE })))
  end)

  it("has real values of every type", function()
    local s = assert(script.open([[
      local s = {}
      function s.key(msg) return msg.id end
      function s.each(msg, row)
        local types = {}
        for name, value in pairs(row) do types[name] = value == null and "null" or math.type(value) or type(value) end
        return { row = row, types = types }
      end
      return s]], { keys = { id = "int" }, columns = { b = "bool", f = "float", num = "numeric", t = "text", u = "uuid",
        ts = "timestamp", d = "date", j = "json", nothing = "text" } }))
    local got = s:process { value = '{"id":5}', rows = { { id = 5, b = true, f = 1.0, num = "12.50", t = 'x"y',
      u = "b2c7a9e4-91e0-4a58-8a52-8ed4b1a5f0de", ts = 0, d = 0, j = '{"a": [1, {"b": null}], "e": []}' } } }
    assert.equal('{"row":{"b":true,"d":"2000-01-01","f":1.0,"id":5,"j":{"a":[1,{"b":null}],"e":[]},"nothing":null,' ..
      '"num":"12.50","t":"x\\"y","ts":"2000-01-01T00:00:00Z","u":"b2c7a9e4-91e0-4a58-8a52-8ed4b1a5f0de"},' ..
      '"types":{"b":"boolean","d":"string","f":"float","id":"integer","j":"table","nothing":"null","num":"string",' ..
      '"t":"string","ts":"string","u":"string"}}', script.value(got))
  end)

  it("is NULL as null, never nil", function()
    local s = each "return { isnull = row.name == null, isnil = row.name == nil }"
    assert.equal('{"isnil":false,"isnull":true}', script.value(script.run(s, { rows = { { id = "a", n = 1 } } })))
  end)
end)

describe("a long fan-out with each", function()
  --- n rows, in order of their names; `body` as in each.
  local function run(n, unit_outputs, body)
    local rows = {}
    for i = 1, n do rows[i] = { id = "a", name = ("x%05d"):format(i), n = i } end
    local s = each(body, nil, { unit_outputs = unit_outputs })
    local seen = {}
    for i, value in ipairs(values(script.run(s, { rows = rows }))) do seen[i] = value:match '"n":(%d+)' end
    return table.concat(seen, " ")
  end

  it("comes to the same whatever the size of a unit", function()
    local whole = run(300, nil, "if row.n % 3 == 0 then return { n = row.n } end")
    assert.equal(100, select(2, whole:gsub("%d+", "")))
    for _, size in ipairs { 1, 2, 7, 100, 299, 300, 301 } do
      assert.equal(whole, run(300, size, "if row.n % 3 == 0 then return { n = row.n } end"))
    end
  end)

  it("goes on over units of which every row is skipped, the last one too", function()
    assert.equal("500", run(1000, 10, "if row.n == 500 then return { n = row.n } end"))
    assert.equal("1000", run(1000, 10, "if row.n == 1000 then return { n = row.n } end"))
    assert.equal("1", run(1000, 10, "if row.n == 1 then return { n = row.n } end"))
  end)

  it("finds in every unit what key has written into the message", function()
    local s = assert(script.joined([[
      local s = {}
      function s.key(msg) msg.seen = "yes" return msg.id end
      function s.each(msg, row) return { n = row.n, seen = msg.seen } end
      return s]], { unit_outputs = 1 }))
    local rows = {}
    for i = 1, 3 do rows[i] = { id = "a", name = "x" .. i, n = i } end
    assert.same({ '{"n":1,"seen":"yes"}', '{"n":2,"seen":"yes"}', '{"n":3,"seen":"yes"}' },
      values(script.run(s, { rows = rows })))
  end)

  it("counts each row once", function()
    local s = assert(script.joined([[
      local s, seen = {}, 0
      function s.key(msg) return msg.id end
      function s.each(msg, row) seen = seen + 1 if row.n == 50 then return { seen = seen } end end
      return s]], { unit_outputs = 3 }))
    local rows = {}
    for i = 1, 50 do rows[i] = { id = "a", name = ("x%05d"):format(i), n = i } end
    assert.same({ '{"seen":50}' }, values(script.run(s, { rows = rows })))
  end)
end)

describe("each at load", function()
  it("stands in place of project, and needs a lookup", function()
    assert.matches("there is 'project' and 'each': a script has one of them", open_error(
      "return { key = function() end, each = function() end, project = function() end }"))
    assert.matches("write key and project %(or each%), not map", open_error(
      "return { key = function() end, each = function() end, map = function() end }"))
    assert.matches("the function 'project' is missing.*or 'each'", open_error "return { key = function() end }")
    local object, message = script.open "return { each = function() end }"
    assert.is_nil(object)
    assert.matches("'each' needs a lookup", message)
  end)
end)

describe("the limits of each", function()
  it("stop a row that does not end", function()
    local s = each("if row.n == 2 then while true do end end return { n = row.n }", nil, { time_limit = 0.05 })
    local got = script.run(s, { rows = THREE })
    assert.equal("script_timeout", got.class, got.error)
    assert.equal('{"n":7}', script.value(script.run(s)))
  end)

  it("count the time for a thousand rows at a time", function()
    local rows = {}
    for i = 1, 3000 do rows[i] = { id = "a", name = "x" .. i, n = i } end
    local body = "local x = 0 for i = 1, 3000 do x = x + i end return { x = x }"
    local started = os.clock()
    assert.equal(3000, #values(script.run(each(body, nil, { time_limit = 60 }), { rows = rows })))
    -- Enough for half of the rows, were it the limit of all of them.
    local s = each(body, nil, { time_limit = (os.clock() - started) / 2 })
    assert.equal(3000, #values(script.run(s, { rows = rows })))
  end)

  it("hold for the output of one row", function()
    local s = each("return { x = ('x'):rep(row.n) }", nil, { output_limit = 1000 })
    local rows = {}
    for i = 1, 100 do rows[i] = { id = "a", name = "x" .. i, n = 900 } end
    assert.equal(100, #values(script.run(s, { rows = rows })))
    rows[100].n = 1001
    assert.equal("too_large", script.run(s, { rows = rows }).class)
  end)
end)

describe("null in a script", function()
  it("is the null of the specs", function() assert.equal(null, require("cjson").null) end)
end)
