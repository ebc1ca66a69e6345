-- `millrace check` on the text of scripts: uses of placeholders that Lua cannot catch while a script runs.
-- luacheck: no max line length
local cjson = require "cjson"
local shell = require "tests.support.shell"

local bin = assert(os.getenv("MILLRACE_BIN"), "MILLRACE_BIN names the program")
local dir

local CONFIG = [[
return {
  lookups = { l = { dsn = "host=127.0.0.1 port=1 dbname=x", table = "t", key = "k" } },
  pipelines = { p = {
    source = { topics = "in", group = "g", kafka = { ["bootstrap.servers"] = "127.0.0.1:1" } },
    lookup = "l",
    script = "s.lua",
    sinks = { postgres = { dsn = "host=127.0.0.1 port=1 dbname=x", table = "t" } },
  } },
}
]]

local function findings(script, ...)
  shell.write(dir .. "/config.lua", CONFIG)
  shell.write(dir .. "/s.lua", script)
  local status, out, err = shell.try({ bin, "check", "--json", ... }, { dir = dir })
  assert.equal("", err)
  local found = {}
  for _, finding in ipairs(cjson.decode(out).findings) do
    if finding.severity ~= "ok" then found[#found + 1] = finding end
  end
  assert.equal(#found > 0 and 78 or 0, status)
  return found
end

--- The body of project(msg, col, ctx), on line 4 of the script; `rest` follows it.
local function project(body, rest)
  return findings("local s = {}\nfunction s.key(msg) return msg.id end\nfunction s.project(msg, col, ctx)\n" .. body ..
    "\nend\n" .. (rest or "") .. "\nreturn s\n")
end

local function codes(found)
  local list = {}
  for i, finding in ipairs(found) do list[i] = finding.code:gsub("^placeholder%-", "") end
  return table.concat(list, " ")
end

setup(function()
  dir = shell.temp(".d")
  shell.run { "mkdir", dir }
end)

describe("check finds in project", function()
  it("a placeholder that is asked whether it is true", function()
    for _, body in ipairs { "if col.vip then return {} end return { 1 }", "if not col.vip then end return {}",
      "return { a = col.vip and 1 or 2 }", "return { a = msg.x or col.vip }", "while col.vip do end return {}",
      "repeat until col.vip return {}", "if msg.a then elseif col.vip then end return {}", "return { a = not col.vip }",
      "if (col.vip) then end return {}", "return { a = (col.vip) and 1 }", 'return { a = col["vip"] and 1 }' } do
      assert.equal("condition", codes(project(body)), body)
    end
  end)

  it("a placeholder that is compared", function()
    for _, body in ipairs { "return { a = col.x == 'y' }", "return { a = 'y' == col.x }", "if col.x ~= null then end return {}",
      "if col.n > 5 then end return {}", "if 5 <= col.n then end return {}", "return { f(msg) ~= (col.x) }" } do
      assert.equal("compare", codes(project(body)), body)
    end
  end)

  it("a placeholder that is computed with, called, indexed, or a key", function()
    assert.equal("compute", codes(project "return { a = 'x' .. col.name }"))
    assert.equal("compute", codes(project "return { a = col.n + 1 }"))
    assert.equal("compute", codes(project "return { a = -col.n }"))
    assert.equal("compute", codes(project "return { a = #col.name }"))
    assert.equal("index", codes(project "return { a = col.name.first }"))
    assert.equal("index", codes(project "return { a = col.name:upper() }"))
    assert.equal("index", codes(project "return { a = col.name() }"))
    assert.equal("key", codes(project "return { a = msg.names[col.id] }"))
    assert.equal("key", codes(project "return { [col.id] = 1 }"))
  end)

  it("a placeholder in a variable, and col itself anywhere but in front of a name", function()
    assert.equal("kept", codes(project "local x = col.x if msg.y then end return { x }"))
    assert.equal("kept", codes(project "local x = col.x return { x }"))
    assert.equal("kept", codes(project "local x <const> = col.x return { x }"))
    assert.equal("alias", codes(project "local c = col return { c.x }"))
    assert.equal("alias", codes(project "return helper(msg, col)"))
    assert.equal("alias", codes(project "return { c = col }"))
    assert.equal("alias", codes(project "local f = function() return col end return {}"))
  end)

  it("each of them, with place, cure and the path of the option", function()
    local found = project "  if col.vip then\n    return { a = col.n == 3 }\n  end\n  return {}"
    assert.same({ file = "s.lua", line = 4, column = 6, severity = "error", code = "placeholder-condition",
      where = "pipelines.p.script",
      message = "col.vip is a placeholder, which is always true: this asks nothing of the row",
      hint = "to decide by the values of a row write `each(msg, row, ctx)` in place of project" },
      (function(f) f.file = f.file:match("[^/]*$") return f end)(found[1]))
    assert.equal("placeholder-compare", found[2].code)
    assert.equal(5, found[2].line)
    assert.equal(18, found[2].column)
    assert.equal(2, #found)
  end)

  it("however the function gets its name", function()
    for _, form in ipairs { "local s = {} s.project = function(m, c) if c.x then end return {} end s.key = s.project return s",
      "return { key = function() end, project = function(m, c) if c.x then end return {} end }",
      "return { key = function() end, ['project'] = function(m, c) if c.x then end return {} end }",
      "local function project(m, c) if c.x then end return {} end return { key = project, project = project }" } do
      assert.equal("condition", codes(findings(form)), form)
    end
  end)

  it("in modules too", function()
    shell.write(dir .. "/helper.lua", "local m = {}\nfunction m.project(msg, col) return { a = col.x == 1 } end\nreturn m\n")
    local found = findings("local m = require 'helper'\nreturn { key = function() end, project = m.project }\n")
    assert.equal("compare", codes(found))
    assert.matches("helper.lua$", found[1].file)
  end)
end)

describe("check finds in shape and row", function()
  local MADE = "return { vip = col.vip, n = msg.n }"

  it("a field of the record that holds a placeholder and is asked something", function()
    for rest, expected in pairs {
      ["function s.shape(rec) if rec.vip then end return rec end"] = "condition",
      ["function s.row(r) return { a = r.vip == 1 } end"] = "compare",
      ["function s.shape(rec) return rec, rec.vip .. 'x' end"] = "compute",
      ["function s.shape(rec) return rec, rec.vip end"] = "",
      ["function s.shape(rec) if rec.n then end return rec end"] = "",
      ["function s.shape(rec) rec.vip = msg_vip(rec) if rec.vip then end return rec end\nfunction msg_vip() end"] = nil,
      ["function s.row(rec) rec.vip = 1 if rec.vip then end return rec end"] = "",
    } do
      local found = project(MADE, rest)
      assert.equal(expected, codes(found), rest)
      if expected ~= "" then assert.matches("vip %(col.vip%) is a placeholder", found[1].message) end
    end
  end)
end)

describe("check keeps quiet about", function()
  it("plain values: in tables, arguments and returns", function()
    for _, body in ipairs { "return { a = col.a, col.b, [1] = col.c; d = { col.d } }", "return f(col.a, col.b)",
      "local r = {} r.a = col.a r['b'] = col.b r[1] = col.c return r", "return { a = (col.a) }", "return col.a",
      "return { col = msg.col, x = msg.col.y, z = msg.col == 1 }", "-- if col.vip then\nreturn { s = 'if col.vip then' }",
      "local t = { a = col.a }\nif msg.x then t.b = 1 end return t", "local function f(x) return x end return { f(col.a) }",
      "table.insert(msg.list, col.a) return { l = msg.list }", "return { a = col.a,\n}", "return { x = fmt '<{name}>' }",
      "local r = { a = col.a }\n(f or g)(r) return r", "local r = {} r.a = col.a if msg.x then r.b = col.b end return r",
      "local r = {} repeat r.a = col.a until msg.x return r", "local r = {} r.a = col.a\nwhile msg.x do end return r" } do
      assert.equal("", codes(project(body)), body)
    end
  end)

  it("what is not surely a placeholder: a name that is hidden, a field that has another value elsewhere", function()
    for _, body in ipairs { "for _, col in ipairs(msg.list) do if col.x then end end return {}",
      "local col = msg.col if col.x == 1 then end return {}",
      "return { list = map(msg.list, function(m, col) return col.x + 1 end) }" } do
      assert.equal("", codes(project(body)), body)
    end
    local rest = "function s.shape(rec) if rec.id > 5 then end return rec end"
    assert.equal("", codes(project("return { id = msg.id, body = { id = col.id } }", rest)))
    assert.equal("compare", codes(project("return { id = col.id, body = { id = col.id } }", rest)))
  end)

  it("each, where rows have values", function()
    assert.equal("", codes(findings("local s = {}\nfunction s.key(msg) return msg.id end\nfunction s.each(msg, row)\n" ..
      "local n = row.n if row.vip and n > 3 or row.name == 'x' then return { [row.id] = row.n + 1 } end end return s")))
  end)

  it("the scripts that are shipped", function()
    local checked = 0
    local list = shell.run("ls scripts/*.lua scripts/examples/*.lua tests/golden/*/script.lua")
    for path in list:gmatch("%S+") do
      local file = assert(io.open(path))
      local text = file:read("a")
      file:close()
      if text:find("project") and not text:find("pipelines") then
        for _, finding in ipairs(findings(text)) do
          assert.is_nil(finding.code:match("^placeholder"), path .. ":" .. tostring(finding.line) .. ": " .. finding.message)
        end
        checked = checked + 1
      end
    end
    assert.is_true(checked >= 3)
  end)
end)

describe("check shows a finding", function()
  it("as compilers do: the place, the line, a caret", function()
    shell.write(dir .. "/config.lua", CONFIG)
    shell.write(dir .. "/s.lua", "local s = {}\nfunction s.key(msg) return msg.id end\n" ..
      "function s.project(msg, col)\n\tif col.vip then return {} end\n\treturn {}\nend\nreturn s\n")
    local status, out, err = shell.try({ bin, "check" }, { dir = dir })
    assert.equal(78, status)
    assert.equal("ok     config.lua: read\n", out)
    assert.equal(dir .. [[
/s.lua:4:5: error: col.vip is a placeholder, which is always true: this asks nothing of the row; to decide by the ]] ..
      "values of a row write `each(msg, row, ctx)` in place of project\n" ..
      "    4 | \tif col.vip then return {} end\n      | \t   ^~~~~~~\nconfig.lua: 1 error\n", err)
  end)

  it("and where a script does not load, in JSON that is UTF-8 whatever the script says", function()
    for text, place in pairs { ["local s = {}\nlocal x = = 1"] = { 2, "unexpected symbol near '='" },
      ["\n\nerror 'x:y: 5: z'"] = { 3, "x:y: 5: z" }, ["error('\\255\\0', 0)"] = { cjson.null, "?" },
      ["\nlocal x = '\228\n"] = { 2, "unfinished string near ''?'" } } do
      local found = findings(text)[1]
      assert.equal(place[1], found.line, found.message)
      assert.equal(place[2], found.message:match("^[^\n]*"))
      if place[1] ~= cjson.null then assert.matches("/s%.lua$", found.file) end
      assert.truthy(utf8.len(found.message))
    end
  end)

  it("and all of them at once: what does not load, and what is only written wrongly", function()
    local found = findings("local s = {}\nfunction s.project(msg, col) return { a = col.x == 1 } end\nreturn s\n")
    assert.equal(2, #found)
    assert.matches("the function 'key' is missing", found[1].message)
    assert.equal("config", found[1].code)
    assert.equal("placeholder-compare", found[2].code)
  end)
end)
