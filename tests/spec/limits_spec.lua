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
      "s%d+.lua:3: the time limit of 100 ms is over %(limits.time%)\nstack traceback:.*s%d+.lua:3")
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

describe("string functions", function()
  it("end with the time limit, however a pattern backtracks", function()
    check("return { (('a'):rep(2000)):find('.-.-.-.-.-x') }", "script_timeout")
    check("return { (('a'):rep(300)):match(('a?'):rep(90) .. ('a'):rep(301)) }", "script_timeout")
    check("for _ in (('a'):rep(3000)):gmatch('(.-)(.-)(.-)(.-)b') do end", "script_timeout")
    check("return { (('a'):rep(3000)):gsub('.*.*.*.*b', '') }", "script_timeout")
    check("pcall(string.find, ('a'):rep(3000), '.-.-.-.-b') return {}", "script_timeout")
    check("return { (('x('):rep(30000)):find('%b()%b()') }", "script_timeout")
    check("local a = ('a'):rep(1e6) for i = 1, 1e9 do a:find(('a'):rep(5e5) .. 'b', 1, true) end", "script_timeout")
  end)

  it("end with the time limit, when each instruction works on megabytes", function()
    for _, work in ipairs { "big:upper()", "big:reverse()", "big .. 'x'", "('%s'):format(big)", "big:rep(2)",
      "big:gsub('x', 'y')", "table.concat({ big, big })", "big:sub(2)" } do
      check("local big = ('x'):rep(5e6) for i = 1, 1e9 do local x = " .. work .. " end", "script_timeout", nil,
        { memory_limit = 64 << 20 })
    end
  end)

  it("end with the time limit, when each looks at megabytes and makes nothing", function()
    for _, work in ipairs { "utf8.len(big)", "utf8.offset(big, -5000000)" } do
      local started = os.clock()
      check("local big = ('x'):rep(5e6) for i = 1, 1e9 do local x = " .. work .. " end", "script_timeout", nil,
        { memory_limit = 64 << 20 })
      assert.is_true(os.clock() - started < 2, work)
    end
  end)

  it("refuse a width that is no width", function()
    assert.matches("invalid conversion", bad(open "return { ('%99999999d'):format(1) }").error)
    assert.matches("invalid conversion", bad(open "return { ('%.99999999f'):format(1) }").error)
  end)

  it("do not fill the memory by one call", function()
    check("return { table.concat(setmetatable({}, nil), ('x'):rep(1e6)), ('x'):rep(1e6, ('y'):rep(100)) }",
      "script_memory")
    check("local t = {} for i = 1, 50 do t[i] = ('x'):rep(1e6) end return { table.concat(t) }", "script_memory")
    check("return { (('x'):rep(1e5):gsub('x', ('y'):rep(1e4))) }", "script_memory")
  end)
end)

describe("ctx.log", function()
  it("takes time in proportion to its text, however many values it gets", function()
    local started = os.clock()
    bad(open("local t = {} for i = 1, 9e5 do t[i] = 'x' end ctx.log(table.unpack(t)) return {}",
      { memory_limit = 256 << 20, time_limit = 20 }))
    assert.is_true(os.clock() - started < 5)
  end)
end)

describe("table functions", function()
  it("end with the time limit on long tables", function()
    local long = "local t = {} for i = 1, 2e5 do t[i] = i end "
    for _, work in ipairs { "table.insert(t, 1, 0)", "table.remove(t, 1)", "table.move(t, 1, #t, 2)",
      "table.concat(t, ',', 1, 2e5)" } do
      check(long .. "for i = 1, 1e9 do " .. work .. " end", "script_timeout", nil, { memory_limit = 64 << 20 })
    end
  end)

  it("end with the time limit where C answers for items that are not there", function()
    local endless = "local t = setmetatable({}, { __index = table.concat }) "
    for _, work in ipairs { "table.concat(t, '', 1, math.maxinteger)", "table.concat(t, '', 1, 1 << 40)",
      "table.concat(t, '', math.mininteger, math.maxinteger)" } do
      local s = open(endless .. "return { " .. work .. " }")
      assert.matches("too many results", bad(s).error)
    end
    local started = os.clock()
    check(endless .. "for i = 1, 1e9 do table.concat(t, '', 1, 1e6) end", "script_timeout")
    check("local t = {} for i = 1, 1e9 do local x = table.unpack(t, 1, 9e5) end", "script_timeout", nil,
      { memory_limit = 64 << 20 })
    assert.is_true(os.clock() - started < 4)
    assert.equal('{"a":"x","b":"xy","c":1}', script.value(bad(open(
      "return { a = table.concat({ 'x', 'y' }, ',', 1, 1), b = table.concat({ 'x', 'y' }, nil, 1, nil), " ..
      "c = select('#', table.unpack({ 1, 2 }, 2, nil)) }"))))
  end)

  it("survive a comparator that makes no sense", function()
    for _, order in ipairs { "function() return true end", "function(a, b) return a ~= b end",
      "function() error({}) end",
      "function(a, b) return math.random() < 0.5 end" } do
      local got = bad(open("local t = {} for i = 1, 2000 do t[i] = i % 7 end pcall(table.sort, t, " .. order ..
        ") return { n = #t }", { time_limit = 5 }))
      assert.equal('{"n":2000}', script.value(got))
    end
  end)
end)

describe("texts of megabytes", function()
  -- An instruction, or one call of a library function, may look through all of one.
  local function ends(body)
    local started = os.clock()
    check(body, "script_timeout", nil, { memory_limit = 256 << 20 })
    assert.is_true(os.clock() - started < 5, body)
  end

  it("end with the time limit where they are read as numbers", function()
    local function reads(text, work)
      ends("local s, x = " .. text .. " for i = 1, 1e9 do pcall(function() " .. work .. " end) end")
    end
    for _, text in ipairs { "('9'):rep(16e6)", "'0x' .. ('0'):rep(16e6)" } do reads(text, "x = s * 2") end
    for _, work in ipairs { "x = -s", "x = s | 1", "for j = 1, s do break end", "x = tonumber(s)",
      "x = tonumber(s, 10)", "x = math.floor(s)", "x = ('a'):sub(s)", "x = ('%g'):format(s)" } do
      reads("(' '):rep(16e6) .. '1'", work)
    end
  end)

  it("end with the time limit where they are compared", function()
    for _, byte in ipairs { "x", "\\0" } do
      ends(("local s = ('%s'):rep(16e6) local t, x = s .. 'y' for i = 1, 1e9 do x = s < t end"):format(byte))
    end
    ends("local s = ('x'):rep(2e6) local t = {} for i = 1, 20 do t[i] = s .. i end for i = 1, 1e9 do table.sort(t) end")
    ends("local s, t = ('x'):rep(16e6), {} for i = 1, 1e4 do t[i] = s end table.sort(t)")
  end)

  it("end with the time limit where they are formats", function()
    for _, work in ipairs { "string.packsize(s)", "string.pack(s)", "string.unpack(s, 'x')" } do
      ends("local s = (' '):rep(16e6) for i = 1, 1e9 do pcall(function() return " .. work .. " end) end")
    end
  end)

  it("are not taken by the hundred", function()
    for _, work in ipairs { "math.max", "math.min", "string.char", "utf8.char", "string.format",
      "string.pack" } do
      local started = os.clock()
      local got = bad(open("local s, t = (' '):rep(16e6) .. '1', {} for i = 1, 5e4 do t[i] = s end return { " .. work ..
        "(('%d'):rep(5e4), table.unpack(t)) }", { memory_limit = 256 << 20 }))
      assert.equal("script", got.class)
      assert.matches("texts of more than 536870912 bytes in one call", got.error)
      assert.is_true(os.clock() - started < 5, work)
    end
  end)

  it("are worked with as before", function()
    local got = bad(open([[
      local long = ("x"):rep(1e6)
      local t = { long .. "b", "y", long .. "a", long, "" }
      table.sort(t)
      local ok, why = pcall(table.sort, { long, 1 })
      return { first = t[1] == "", second = t[2] == long, a = t[3]:sub(-1), b = t[4]:sub(-1), y = t[5], why = why,
        cut = ("%.3s|%d|%5.1f"):format(long, 7, 2.5), max = math.max(3, 11, 2.5), min = math.min(3, -1),
        wrong = select(2, pcall(function() local c = string.char({}) return c end)):match "bad.*", n = "12" + 1,
        u = utf8.char(228, 8364) }]],
      { memory_limit = 64 << 20, time_limit = 5 }))
    assert.equal('{"a":"a","b":"b","cut":"xxx|7|  2.5","first":true,"max":11,"min":-1,"n":13,"second":true,' ..
      '"u":"ä€","why":"attempt to compare number with string",' ..
      '"wrong":"bad argument #1 to \'char\' (number expected, got table)","y":"y"}', script.value(got))
  end)
end)

describe("what a script raises", function()
  --- One dead letter of class script, and the next message is served by the same state.
  local function raises(body, sentence)
    local s = open(body, { time_limit = 5, memory_limit = 256 << 20 })
    local got = bad(s)
    assert.equal("script", got.class, body .. ": " .. tostring(got.error))
    assert.matches(sentence, got.error)
    assert.equal('{"calls":2}', script.value(good(s)))
  end

  it("may be anything", function()
    raises("error()", "the error is a nil value, not a text")
    raises("error(nil)", "the error is a nil value, not a text")
    raises("error({})", "the error is a table value, not a text")
    raises("error({ code = 5 })", "the error is a table value")
    raises("error(true)", "the error is a boolean value")
    raises("error(function() end)", "the error is a function value")
    raises("error(null)", "the error is a userdata value")
    raises("error(42)", "42")
    raises("error(setmetatable({}, { __tostring = function() return 'my own text' end }))", "my own text")
    raises("error(setmetatable({}, { __tostring = function() return {} end }))", "the error is a table value")
    raises("error(setmetatable({}, { __tostring = function() error 'again' end }))", ".")
    raises("error(setmetatable({}, { __name = 5 }))", "the error is a table value")
    raises("error(('x'):rep(100000))", "xxxx")
    raises("error('not utf8: \\255')", "not utf8: %?")
  end)

  it("may come from a metamethod", function()
    raises("return setmetatable({}, { __index = function() error 'in index' end }).x", "in index")
    raises("local t = setmetatable({}, { __newindex = function() error 'in newindex' end }) t.x = 1", "in newindex")
    raises("local t <close> = setmetatable({}, { __close = function() error 'in close' end }) return {}", "in close")
    raises("local t <close> = setmetatable({}, { __close = function() error 'in close' end }) error 'in body'",
      "in close")
    raises("return #setmetatable({}, { __len = function() error 'in len' end })", "in len")
    raises("for _ in pairs(setmetatable({}, { __pairs = function() error 'in pairs' end })) do end", "in pairs")
    raises("return setmetatable({}, { __gc = function() end })", "__gc is not there: a script has no finalizers")
  end)

  it("is not run by C: what is returned is read without metamethods", function()
    local s = open [[return setmetatable({ a = 1 },
      { __index = function() error 'no' end, __len = error, __pairs = error })]]
    assert.equal('{"a":1}', script.value(bad(s)))
  end)

  it("is a stack that overflows, in Lua and in C", function()
    raises("local function f() return pcall(f) end local ok, e = f() error(tostring(e))", ".")
    raises("local function f(x) return (('x'):gsub('x', function() return f(x + 1) end)) end return { f(1) }",
      "stack overflow")
    raises("local t = {} for i = 1, 3000 do t = setmetatable({}, { __index = t }) end return { t.x }", "chain too long")
    raises("local t = setmetatable({}, {}) getmetatable(t).__index = t return { t.x }", "loop")
    raises("local function f(...) return (f(1, ...)) end return f()", ".")
    raises("return { ('('):rep(300):find(('('):rep(40)) }", "too many captures")
    raises("return { ('a'):rep(300):find(('a?'):rep(300)) }", "pattern too complex")
    raises("local t = {} for i = 1, 1e5 do t = { t } end return { json.encode(t) }",
      "json.encode.*nested too deep, or contains itself")
    raises("local t = {} t.t = t return { json.encode(t) }", "json.encode.*nested too deep, or contains itself")
    raises("return json.decode(('['):rep(1e5))", "json.decode: ")
    raises("local t = {} table.sort({ 1, 2, 3 }, function() return #t > 0 or error(t) end)", "the error is a table")
  end)
end)

describe("what is not there", function()
  it("says so, each with a sentence", function()
    for expression, sentence in pairs {
      ["os.exit()"] = "os.exit is not there", ["os.execute('ls')"] = "os.execute is not there",
      ["os.remove('x')"] = "os.remove is not there", ["load('return 1')"] = "'load' is not there",
      ["loadstring('x')"] = "'loadstring' is not there", ["dofile('x')"] = "'dofile' is not there",
      ["string.dump(function() end)"] = "attempt to call a nil value", ["debug.getinfo(1)"] = "'debug' is not there",
      ["coroutine.create(error)"] = "'coroutine' is not there", ["coroutine.wrap(error)"] = "'coroutine' is not there",
      ["io.open('x')"] = "'io' is not there", ["collectgarbage()"] = "'collectgarbage' is not there",
      ["package.loaded"] = "'package' is not there", ["_G.print"] = "'_G' is not there",
      ["print(1)"] = "'print' is not there",
      ["require('os')"] = "os", ["require('../../etc/passwd')"] = ".", ["getmetatable('').__index.rep"] = ".",
    } do
      local got = bad(open("return { " .. expression .. " }"))
      assert.equal("script", got.class, expression)
      assert.matches(sentence, got.error)
    end
  end)

  it("is a module in bytecode", function()
    script.write("bytecode_module.lua", string.dump(function() return {} end))
    local object, message = script.open("local m = require 'bytecode_module'\nreturn { map = function() return m end }")
    assert.is_nil(object)
    assert.matches("attempt to load a binary chunk", message)
    local path = script.write("bytecode.lua", string.dump(function() return { map = function() return {} end } end))
    object, message = require("millrace").script { path = path }
    assert.is_nil(object)
    assert.matches("attempt to load a binary chunk", message)
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

  it("refuses what contains itself twice as soon", function() -- and not after 2^64 ways into it
    local body = "local t = {} t.a = t t.b = t "
    local got = bad(open(body .. "return { n = t }", { table = { "n json" } }))
    assert.equal("schema", got.class)
    assert.matches("nested too deep, or contains itself", got.error)
    got = bad(open(body .. "return { json.encode(t) }"))
    assert.equal("script", got.class)
    assert.matches("json.encode.*nested too deep, or contains itself", got.error)
  end)

  it("ends where there are too many ways into one table", function()
    local got = bad(open([[local t = {} for _ = 1, 60 do t = { t, t } end
      return { json.encode(t) }]], { time_limit = 0.3 }))
    assert.equal("script_timeout", got.class)
  end)
end)
