-- What a script may be: loading, what is refused and how it is said, the order of calls, lists of records, the bundle.
local script = require "tests.support.script"

local function refused(text, options)
  local object, message, code = script.open(text, options)
  assert.is_nil(object)
  assert.equal(78, code)
  return message
end

local function first_line(text)
  return (text:match("^[^\n]*"))
end

describe("loading a script", function()
  it("wants a table of functions", function()
    assert.matches("^s.lua: the script must end with 'return' and a table of its functions, got nothing", refused "")
    assert.matches("got number", refused "return 1")
  end)

  it("names the file that cannot be read", function()
    local object, message, code = require("millrace").script { path = "/nowhere/at/all.lua" }
    assert.is_nil(object)
    assert.equal(78, code)
    assert.equal("cannot read /nowhere/at/all.lua: No such file or directory", first_line(message))
  end)

  it("says file and line of a syntax error", function()
    assert.equal("s.lua:2: syntax error near 'oh'", first_line(refused "local s = {}\nno oh no\nreturn s"))
  end)

  it("says file, line and the nearest name of an unknown function", function()
    assert.equal("s.lua:2: 'fitler' is not part of a script (did you mean 'filter'?)",
      first_line(refused "local s = {}\nfunction s.fitler() end\nfunction s.map() end\nreturn s"))
  end)

  it("asks to make helpers local", function()
    assert.matches("^s.lua:1: 'tableau_of_things' is not part of a script, .*make a helper local",
      refused "local s = { tableau_of_things = 1 }\nfunction s.map() end\nreturn s")
  end)

  it("refuses what comes with the calendar", function()
    for name, sentence in pairs {
      hold_until = "it comes with the calendar", business_id = "it comes with the calendar" } do
      local message = refused("local s = {}\nfunction s.map() end\nfunction s." .. name .. "() end\nreturn s")
      assert.matches("^s.lua:3: '" .. name .. "' is not there yet: " .. sentence, message)
    end
  end)

  it("wants functions where functions belong", function()
    assert.equal("s.lua:2: 'map' must be a function, got a number",
      first_line(refused "local s = {}\ns.map = 3\nreturn s"))
    assert.matches("'fields' must be a table of field names and types, got a function",
      refused "local s = {}\nfunction s.map() end\nfunction s.fields() end\nreturn s")
  end)

  it("wants map without a lookup, key and project with one", function()
    assert.matches("the function 'map' is missing", refused "return {}")
    assert.matches("'key' needs a lookup, and the pipeline 'spec' has none: write map",
      refused "return { map = function() end, key = function() end }")
    assert.matches("the function 'project' is missing", refused("return { key = function() end }", script.LOOKUP))
    assert.matches("the function 'key' is missing", refused("return { project = function() end }", script.LOOKUP))
    assert.matches("has a lookup: write key and project %(or each%), not map",
      refused("return { map = function() end, key = function() end, project = function() end }", script.LOOKUP))
  end)

  it("is possible before the lookup's columns are known", function()
    local object = assert(script.open(
      "local hi = fmt 'hi {anything}'\nreturn { key = function() end, project = function() return { hi } end }",
      { has_lookup = true }))
    object:close()
  end)

  it("knows unknown globals by the nearest name", function()
    assert.equal("s.lua:1: undefined name 'tostrong' (did you mean 'tostring'?)",
      first_line(refused "local x = tostrong(1)\nreturn {}"))
  end)

  it("has a time limit too", function()
    assert.matches("the time limit of 50 ms is over", refused("while true do end", { time_limit = 0.05 }))
  end)
end)

describe("require", function()
  setup(function()
    script.write("helper.lua", "return { double = function(x) return 2 * x end, name = ... }")
    script.write("circle_a.lua", "return require 'circle_b'")
    script.write("circle_b.lua", "return require 'circle_a'")
  end)

  it("loads a module that lies beside the script, once", function()
    local s = assert(script.open [[
      local helper = require "helper"
      assert(helper == require "helper" and helper.name == "helper")
      return { map = function(msg) return { d = helper.double(msg.n) } end }]])
    assert.equal('{"d":42}', script.value(s:process { value = '{"n":21}' }))
  end)

  it("gives cjson, whose null is ours", function()
    local s = assert(script.open [[
      local cjson = require "cjson"
      return { map = function(msg) return { same = cjson.null == null and msg.x == cjson.null,
        text = cjson.encode { 1 } } end }]])
    assert.equal('{"same":true,"text":"[1]"}', script.value(s:process { value = '{"x":null}' }))
  end)

  it("refuses circles, paths, missing modules and late calls", function()
    assert.matches("require 'circle_a' goes in a circle", refused "return require 'circle_a'")
    for _, name in ipairs { "../helper", "/etc/passwd", "a..b", ".a", "a.", "a/b" } do
      assert.matches("a module is named by letters", refused("return require '" .. name .. "'"), name)
    end
    assert.matches("cannot read .*/nothing_here.lua: No such file", refused "return require 'nothing_here'")
    local late = script.map "return { require 'helper' }"
    local got = late:process { value = "{}" }
    assert.equal("script", got.class)
    assert.matches("must stand at the top level of the script", got.error)
  end)

  it("makes modules part of the bundle", function()
    local text = "local h = require 'part'\nreturn { map = function() return { h } end }"
    script.write("part.lua", "return 1")
    local one, again = assert(script.open(text)), assert(script.open(text))
    assert.matches("^%x+$", one:bundle())
    assert.equal(32, #one:bundle())
    assert.equal(one:bundle(), again:bundle())
    script.write("part.lua", "return 2")
    assert.not_equal(one:bundle(), assert(script.open(text)):bundle())
    assert.not_equal(one:bundle(), assert(script.open(text .. "\n")):bundle())
  end)
end)

describe("the calls", function()
  it("come as fields, filter, key, project, shape, row", function()
    local s = assert(script.joined([[
      local order = {}
      local function note(name) order[#order + 1] = name end
      local s = { fields = { id = "string" } }
      function s.filter() note "filter" return true end
      function s.key(msg) note "key" return msg.id end
      function s.project(msg, col) note "project" return { id = msg.id, name = col.name } end
      function s.shape(rec) note "shape" return rec end
      function s.row(rec) note "row" return { name = rec.name, id = table.concat(order, " ") } end
      return s]], { table = { "id text", "name text" } }))
    local got = script.run(s)
    assert.equal("filter key project shape row", got.rows[1].id)
    assert.equal("schema", script.run(s, { value = '{"id":1}' }).class)
    assert.equal("filter key project shape row filter key project shape row", script.run(s).rows[1].id)
  end)

  it("drop by filter with a reason, kept short and clean", function()
    local s = assert(script.open [[
      local s = {}
      function s.filter(msg)
        if msg.how == "plain" then return false end
        if msg.how == "nil" then return nil end
        if msg.how == "number" then return false, 3 end
        if msg.how == "nothing" then return end
        if msg.how == "text" then return "expired" end
        return false, msg.how
      end
      function s.map(msg) return msg end
      return s]])
    local function how(text) return s:process { value = '{"how":"' .. text .. '"}' } end
    assert.same({ "drop", "late" }, { how("late").verdict, how("late").reason })
    assert.equal("filter", how("plain").reason)
    assert.equal("filter", how("nil").reason)
    assert.matches("the reason is a number", how("number").error)
    assert.equal("script", how("nothing").class)
    assert.matches("filter returned nothing", how("nothing").error)
    assert.equal("script", how("text").class)
    assert.matches("filter returned a string; return true", how("text").error)
    assert.equal(63, #how(("x"):rep(200)).reason)
  end)

  it("never let a message through after an error", function()
    local s = assert(script.open "return { filter = function(m) error('no: ' .. m.n) end, map = next }")
    local got = s:process { value = '{"n":1}' }
    assert.equal("reject", got.verdict)
    assert.equal("script", got.class)
    assert.equal("s.lua:1: no: 1", (first_line(got.error):gsub("^.*/s%d+.lua", "s.lua")))
    assert.matches("stack traceback", got.error)
    assert.equal(0, #got.messages)
  end)

  it("drop a Kafka null as a tombstone before anything runs", function()
    local got = script.map("error 'never'"):process {}
    assert.same({ "drop", "tombstone" }, { got.verdict, got.reason })
  end)
end)

describe("records", function()
  it("may be none, one or many from map", function()
    local s = script.map [[
      if msg.n == 0 then return nil end
      if msg.n == -1 then return array {} end
      if msg.n == 1 then return { i = 1 } end
      local list = {}
      for i = 1, msg.n do list[i] = { i = i } end
      return list]]
    local function of(n) return s:process { value = '{"n":' .. n .. "}" } end
    assert.same({ "drop", "no_output" }, { of(0).verdict, of(0).reason })
    assert.same({ "drop", "no_output" }, { of(-1).verdict, of(-1).reason })
    assert.equal('{"i":1}', script.value(of(1)))
    local three = of(3)
    assert.equal(3, #three.messages)
    assert.equal('{"i":3}', three.messages[3].value)
  end)

  it("are empty objects when they are {}", function()
    assert.equal("{}", script.value(script.map("return {}"):process { value = "1" }))
  end)

  it("are tables", function()
    assert.matches("map returned boolean; expected the record",
      script.map("return true"):process({ value = "1" }).error)
    assert.matches("map: a record is a table, got a number in the list of records",
      script.map("return { {}, 5 }"):process({ value = "1" }).error)
    assert.matches("project returned nothing; .*use filter", script.run(script.project "").error)
  end)

  it("multiply with the rows of the lookup", function()
    local got = script.run(script.project "return { { a = col.name }, { b = col.n } }",
      { rows = { { id = "a", name = "x", n = 1 }, { id = "a", name = "y", n = 2 } } })
    local values = {}
    for i, message in ipairs(got.messages) do values[i] = message.value end
    assert.same({ '{"a":"x"}', '{"b":1}', '{"a":"y"}', '{"b":2}' }, values)
  end)
end)
