-- Hostile scripts: endless loops, memory, output, depth; each is one dead letter, and the next message is served.
local script = require "tests.support.script"

--- A script whose map runs `body` when the message says so, else returns the message.
local function open(body, options)
  local all = { time_limit = 0.1, memory_limit = 8 << 20 }
  for key, value in pairs(options or {}) do all[key] = value end
  return assert(script.open("local calls = 0\nlocal s = {}\nlocal function bad(msg, ctx) " .. body .. " end\n" ..
    "function s.map(msg, ctx)\n  calls = calls + 1\n  if msg.bad then return bad(msg, ctx) end\n" ..
    "  return { calls = calls }\nend\nreturn s\n", all))
end

local function bad(s) return s:process { value = '{"bad":true}' } end
local function good(s) return s:process { value = "{}" } end

--- Runs into the limit as `class`; afterwards a fresh state serves the next message.
local function check(body, class, pattern, options)
  local s = open(body, options)
  assert.equal('{"calls":1}', script.value(good(s)))
  local started = os.clock()
  local got = bad(s)
  assert.equal("reject", got.verdict, body)
  assert.equal(class, got.class, got.error)
  if pattern then assert.matches(pattern, got.error) end
  assert.is_true(os.clock() - started < 20)
  assert.equal(0, #got.messages)
  assert.equal('{"calls":1}', script.value(good(s)), "the state was not made anew")
  assert.equal('{"calls":2}', script.value(good(s)))
  s:close()
end

describe("the time limit", function()
  it("ends an endless loop, and says where", function()
    check("while true do end", "script_timeout",
      "the time limit of 100 ms is over %(limits.time%)\nstack traceback:.*s%d+.lua:3")
  end)

  it("is not swallowed by pcall", function()
    check("while true do pcall(function() while true do end end) end", "script_timeout")
    check("local function f() pcall(f) while true do end end f()", "script_timeout")
    check("for i = 1, 1e18 do pcall(error) end", "script_timeout")
    check("pcall(function() while true do end end) return {}", "script_timeout")
  end)

  it("is not swallowed by a message handler", function()
    check("while true do xpcall(function() while true do end end, function() while true do end end) end",
      "script_timeout")
    check("xpcall(error, function() while true do end end) while true do end", "script_timeout")
  end)

  it("is not swallowed by metamethods, iterators or to-be-closed variables", function()
    check("local t <close> = setmetatable({}, { __close = function() while true do end end }) while true do end",
      "script_timeout")
    check("local t = setmetatable({}, { __index = function() while true do end end }) return { pcall(next, t), t.x }",
      "script_timeout")
    check("for _ in function() return 1 end do end", "script_timeout")
    check("table.sort({ 3, 2, 1 }, function() while true do end end)", "script_timeout")
    check("('x'):gsub('x', function() while true do end end)", "script_timeout")
    check("setmetatable({}, { __tostring = function() while true do end end }) ctx.log(setmetatable({}, " ..
      "{ __tostring = function() while true do end end }))", "script_timeout")
  end)

  it("holds in every function of a script", function()
    local s = assert(script.joined([[
      local function stop(name, msg) if msg.at == name then while true do end end end
      local s = {}
      function s.filter(msg) stop("filter", msg) return true end
      function s.key(msg) stop("key", msg) return msg.id end
      function s.project(msg) stop("project", msg) return { at = msg.at } end
      function s.shape(rec) stop("shape", rec) return rec end
      function s.row(rec) stop("row", rec) return { id = rec.at } end
      return s]], { table = { "id text" }, time_limit = 0.05 }))
    for _, name in ipairs { "filter", "key", "project", "shape", "row" } do
      assert.equal("script_timeout", script.run(s, { value = '{"id":"a","at":"' .. name .. '"}' }).class, name)
      assert.equal("emit", script.run(s, { value = '{"id":"a","at":"x"}' }).verdict)
    end
  end)

  it("does not count what other messages took", function()
    local s = open("return {}", { time_limit = 0.02 })
    local finish = os.clock() + 0.1
    while os.clock() < finish do assert.equal("emit", good(s).verdict) end
  end)
end)

describe("library functions without instructions", function()
  it("are bounded", function()
    check("('x'):rep(1e9)", "script_memory", "more than 8388608 bytes of memory %(limits.memory%)")
    check("('x'):rep(1e5):rep(1e4)", "script_memory")
    for body, sentence in pairs {
      ["table.move({}, 1, math.maxinteger - 1, 2)"] = "table.move of more than",
      ["table.move({}, math.mininteger, math.maxinteger - 1, 2)"] = "t",
      ["table.insert(setmetatable({}, { __len = function() return 1 << 50 end }), 1, 1)"] =
        "says that it has 1125899906842624 items",
      ["table.remove(setmetatable({}, { __len = function() return 1 << 50 end }), 1)"] = "says that it has",
      ["table.concat(setmetatable({}, { __len = function() return 1 << 50 end, __index = table.concat }))"] =
        "says that it has",
      ["local a = ('a'):rep(1e6) return a:find(('a'):rep(5e5) .. 'b', 1, true)"] =
        "a pattern of 500001 bytes in a text of 1000000 is too much to search",
      ["table.unpack({}, 1, 1e8)"] = "too many results",
    } do
      local s = open(body)
      local got = bad(s)
      assert.equal("script", got.class, body)
      assert.matches(sentence, got.error)
      assert.equal('{"calls":2}', script.value(good(s)))
    end
  end)
end)

describe("the memory limit", function()
  it("ends a hoard", function()
    check("local t = {} for i = 1, 1e9 do t[i] = { i } end", "script_memory", "limits.memory")
    check("local s = 'x' while true do s = s .. s end", "script_memory")
  end)

  it("holds for what a script keeps between messages", function()
    local s = assert(script.open([[
      local kept = {}
      return { map = function(msg) kept[#kept + 1] = ("x"):rep(100000) .. #kept return { n = #kept } end }]],
      { memory_limit = 4 << 20 }))
    local classes = {}
    for _ = 1, 60 do
      local got = s:process { value = "{}" }
      classes[got.class or got.verdict] = (classes[got.class or got.verdict] or 0) + 1
    end
    assert.is_true(classes.script_memory >= 1)
    assert.is_true(classes.emit >= 40)
    assert.equal(60, classes.emit + classes.script_memory)
  end)

  it("lets a script live that notices in time", function()
    local s = open("return { ok = pcall(string.rep, 'x', 1e9) }")
    assert.equal('{"ok":false}', script.value(bad(s)))
    assert.equal('{"calls":2}', script.value(good(s)))
  end)

  it("refuses a limit in which no state fits", function()
    local object, message, code = script.open("return {}", { memory_limit = 1000 })
    assert.is_nil(object)
    assert.equal(78, code)
    assert.matches("limits.memory", message)
  end)
end)

describe("the stack", function()
  it("ends endless recursion as a script error", function()
    for _, body in ipairs { "local function f() return 1 + f() end return f()",
      "local t = setmetatable({}, { __index = function(t, k) return t[k] end }) return t.x",
      "local function f(s) return (s:gsub('.', f)) end return f 'x'" } do
      local got = bad(open(body, { memory_limit = 512 << 20, time_limit = 5 }))
      assert.equal("script", got.class, body)
      assert.matches("stack overflow", got.error)
    end
  end)
end)

describe("the output limit", function()
  it("refuses a message that grows too large", function()
    local s = open("local t = {} for i = 1, 1000 do t[i] = ('x'):rep(100) end return t[1] and { t = t }",
      { output_limit = 50000 })
    local got = bad(s)
    assert.equal("too_large", got.class)
    assert.matches("exceeds 50000 bytes %(limits.output%)", got.error)
    assert.equal('{"calls":2}', script.value(good(s)))
  end)

  it("counts all records of a message", function()
    local got = bad(open("local r = {} for i = 1, 100 do r[i] = { x = ('x'):rep(1000) } end return r",
      { output_limit = 50000 }))
    assert.equal("too_large", got.class)
  end)
end)

describe("depth", function()
  it("refuses what contains itself", function()
    local got = bad(open "local t = {} t.t = t return t")
    assert.equal("schema", got.class)
    assert.matches("t.t.t.*nested too deep, or contains itself", got.error)
  end)
end)
