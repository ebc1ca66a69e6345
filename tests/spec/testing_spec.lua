-- millrace.testing itself: each thing that docs/TESTING.md promises, on small scripts.
local testing = require "millrace.testing"
local null = testing.null

local function script(text, options)
  local all = { text = text }
  for name, value in pairs(options or {}) do all[name] = value end
  return testing.script(all)
end

--- map(msg, ctx) with this body.
local function map(body, options)
  return script("local s = {}\nfunction s.map(msg, ctx)\n" .. body .. "\nend\nreturn s\n", options)
end

local JOIN = [[
local s = {}
function s.key(msg) return msg.id end
function s.project(msg, col) return { id = msg.id, name = col.name, n = col.n } end
return s
]]

local function error_of(...)
  local done, message = pcall(...)
  assert.is_false(done)
  return message
end

describe("send", function()
  it("takes a table, bytes and null", function()
    local p = map "return { got = msg }"
    assert.same({ got = { a = 1, list = { 1, 2 }, none = null } },
      p:send({ a = 1, list = { 1, 2 }, none = null }).messages[1].value)
    assert.same({ got = 9007199254740993 }, p:send("9007199254740993").messages[1].value)
    assert.equal("tombstone", p:send(null).dropped)
    assert.same({ class = "decode" }, { class = p:send("{").dead.class })
    assert.matches("a message is a table", error_of(p.send, p, nil))
  end)

  it("gives the message what is said of it, and counts offsets", function()
    local p = map [[return { ctx.key, ctx.headers.trace, ctx.topic, ctx.partition, ctx.offset, ctx.timestamp_ms,
      ctx.attempt, ctx.now }]]
    -- A list of plain values is a list of records: hence the error of the first shape of this test.
    assert.equal("script", p:send({}).dead.class)
    p = map [[return { k = ctx.key, h = ctx.headers.trace, t = ctx.topic, p = ctx.partition, o = ctx.offset,
      ts = ctx.timestamp_ms, a = ctx.attempt, now = ctx.now }]]
    p:set_now "2026-11-22T17:31:18Z"
    p:send({})
    local got = p:send({}, { key = "k", headers = { trace = "x", b = "y" }, topic = "other", partition = 3,
      timestamp = "2026-11-22T17:31:17.5Z", attempt = 2 })
    assert.same({ k = "k", h = "x", t = "other", p = 3, o = 1, ts = 1795368677500, a = 2, now = 1795368678 },
      got.messages[1].value)
    assert.matches("no option 'keys'", error_of(p.send, p, {}, { keys = "k" }))
  end)

  it("shows value, bytes, key, headers and topic of a message", function()
    local p = script [[
      return { map = function(msg) return msg end,
        shape = function(rec) return rec.value, rec.key, { { "a", "1" }, { "b", null } } end }]]
    local got = p:send({ value = { x = 1 }, key = "k" })
    assert.same({ topic = "topic_out", key = "k", value = { x = 1 }, text = '{"x":1}',
      headers = { a = "1", b = null } }, got.messages[1])
    assert.same({ topic = "topic_out", value = "plain text", text = "plain text", headers = { a = "1", b = null } },
      p:send({ value = "plain text" }).messages[1])
    assert.equal(null, p:send('{"value":null}').messages[1].text)
  end)

  it("shows rows with their types", function()
    local p = map "return { i = 7, f = 0.5, t = '7', b = true, j = { 1, { x = null } }, n = null }"
    assert.same({ i = 7, f = 0.5, t = "7", b = true, j = { 1, { x = null } }, n = null }, p:send({}).rows[1])
  end)

  it("holds rows against a table that is given", function()
    local columns = { id = "integer not null default", n = "integer not null", data = "jsonb", ok = "boolean" }
    local p = map("return msg", { table = columns })
    assert.same({ n = 7, data = { a = 1 }, ok = true }, p:send({ n = 7, data = { a = 1 }, ok = true }).rows[1])
    assert.matches("n is missing", p:send({ ok = true }).dead.error)
    assert.matches("no column 'okk' %(did you mean 'ok'%?%)", p:send({ n = 1, okk = true }).dead.error)
    assert.matches("n is integer", p:send({ n = "1" }).dead.error)
  end)

  it("keeps account of everything until clear", function()
    local p = map [[
      if msg.drop then return nil end
      if msg.fail then error "no" end
      return { a = 1 }]]
    p:send({})
    p:send({ drop = true })
    p:send({ drop = true })
    p:send({ fail = true })
    assert.same({ 1, 1, 1 }, { #p.messages, #p.rows, #p.dead })
    assert.same({ no_output = 2 }, p.dropped)
    assert.matches("^script.lua:4: no", p.dead[1].error)
    p:clear()
    assert.same({ {}, {}, {}, {} }, { p.messages, p.rows, p.dead, p.dropped })
  end)

  it("leaves out a sink that is not there", function()
    assert.same({}, map("return { a = 1 }", { message = false }):send({}).messages)
    assert.same({}, map("return { a = 1 }", { rows = false }):send({}).rows)
  end)

  it("goes on where a fan-out fills the unit, as the daemon does", function()
    local rows = {}
    for i = 1, 25001 do rows[i] = { id = "a", name = ("n%05d"):format(i), n = i } end
    local p = script(JOIN, { key = "id", lookup = rows, rows = false })
    assert.equal(25001, #p:send({ id = "a" }).messages)
  end)
end)

describe("the lookup", function()
  it("is the rows that are given, and can be replaced", function()
    local p = script(JOIN, { key = "id", lookup = { { id = "a", name = "Ann", n = 7 } } })
    assert.same({ { id = "a", name = "Ann", n = 7 } }, p:send({ id = "a" }).rows)
    p:lookup { { id = "b", name = "Bob", n = null } }
    assert.equal("no_rows", p:send({ id = "a" }).dropped)
    assert.same({ { id = "b", name = "Bob", n = null } }, p:send({ id = "b" }).rows)
  end)

  it("takes declared types, by Postgres's names too", function()
    local p = script([[
      return { key = function(msg) return msg.id end,
        each = function(_, row) return { row.at, row.day, row.price, row.data.x, row.who } and
          { at = row.at, day = row.day, price = row.price, x = row.data.x, who = row.who } end }]],
      { key = "id", types = { at = "timestamptz", day = "date", price = "numeric", who = "uuid", data = "jsonb" },
        lookup = { { id = 1, at = "2026-11-22T17:31:18.25Z", day = "2026-11-22", price = "12.50", data = { x = 5 },
          who = "123E4567-E89B-12D3-A456-426614174000" } } })
    assert.same({ at = "2026-11-22T17:31:18.25Z", day = "2026-11-22", price = "12.50", x = 5,
      who = "123e4567-e89b-12d3-a456-426614174000" }, p:send({ id = 1 }).rows[1])
    assert.matches("'money' is not a type", error_of(script, JOIN, { key = "id", types = { n = "money" } }))
  end)

  it("has the key columns it is told, in that order", function()
    local p = script([[
      return { key = function(msg) return msg end, project = function(_, col) return { v = col.v } end }]],
      { key = { "b", "a" }, columns = { "v" }, lookup = { { a = 1, b = "x", v = "yes" } } })
    assert.equal("yes", p:send({ a = 1, b = "x" }).rows[1].v)
    assert.equal("no_rows", p:send({ a = 2, b = "x" }).dropped)
  end)

  it("says which value does not fit", function()
    local rows = { { id = "a", n = 7 }, { id = "b", n = "x" } }
    assert.matches("lookup: row 2, column n: expected int, got string",
      error_of(script, JOIN, { key = "id", lookup = rows }))
    assert.matches("lookup: row 1 is a number", error_of(script, JOIN, { key = "id", lookup = { 5 } }))
    assert.matches("row 1 has a column 'nam'; the lookup has client_id, restaurant_id", error_of(testing.pipeline,
      { pipeline = "promo", lookup = { { restaurant_id = "r", nam = "x" } } }))
    assert.matches("lookup: row 1, column at: .*'soon' is not a time",
      error_of(script, JOIN, { key = "id", types = { at = "timestamptz" }, lookup = { { id = "a", at = "soon" } } }))
  end)

  it("cannot be given to a script without one", function()
    assert.matches("has no lookup", error_of(map, "return msg", { lookup = {} }))
    local p = map "return msg"
    assert.matches("has no lookup", error_of(p.lookup, p, {}))
  end)
end)

describe("the clock", function()
  it("stands still until it is turned", function()
    local p = map "return { now = ctx.now, ms = ctx.now_ms }"
    assert.same({ now = 1767225600, ms = 1767225600000 }, p:send({}).rows[1])
    p:advance(0.25)
    assert.same({ now = 1767225600, ms = 1767225600250 }, p:send({}).rows[1])
    p:set_now(5)
    assert.equal(5, p:send({}).rows[1].now)
    assert.matches("set_now", error_of(p.set_now, p, "soon"))
    assert.matches("expected seconds", error_of(p.advance, p, -1))
  end)
end)

describe("init", function()
  it("sees the clock of the spec, also at a reload", function()
    local p = script([[local at
      return { init = function(ctx) at = ctx.now end, map = function() return { at = at } end }]], { now = 1000 })
    assert.equal(1000, p:send({}).rows[1].at)
    p:advance(5)
    assert.is_true(p:reload())
    assert.equal(1005, p:send({}).rows[1].at)
  end)
end)

describe("tick", function()
  local TICK = [[
    local s, ticks = {}, 0
    function s.tick(ctx) ticks = ticks + 1 if ctx.now == 1003 then error "three" end end
    function s.map() return { ticks = ticks } end
    return s]]

  it("runs at each second that begins while time goes by", function()
    local p = script(TICK, { now = 1000.5 })
    p:advance(0.4)
    assert.equal(0, p:send({}).rows[1].ticks)
    p:advance(0.1)
    assert.equal(1, p:send({}).rows[1].ticks)
    p:set_now(1010)
    assert.equal(1, p:send({}).rows[1].ticks)
    p:advance(10)
    assert.equal(11, p:send({}).rows[1].ticks)
  end)

  it("may fail: that is logged, and the next one runs", function()
    local p = script(TICK, { now = 1000 })
    p:advance(5)
    assert.equal(5, p:send({}).rows[1].ticks)
    assert.matches("^tick: script.lua:2: three", p.log[1].message)
    p:set_now(1003)
    local done, why = p:tick()
    assert.is_nil(done)
    assert.matches("script.lua:2: three", why)
    assert.is_true(map("return msg"):tick())
  end)
end)

describe("topics", function()
  it("are those that are allowed", function()
    local p = script([[return { map = function(msg) return msg end,
      shape = function(rec) return rec, nil, nil, rec.to end }]], { topic = "a", allowed_topics = { "b" } })
    assert.equal("a", p:send({}).messages[1].topic)
    assert.equal("b", p:send({ to = "b" }).messages[1].topic)
    assert.matches("allowed_topics", p:send({ to = "c" }).dead.error)
  end)
end)

describe("log and counters", function()
  it("show what the script said, all of it", function()
    local p = map "ctx.log.warn('n is', msg.n) ctx.count('seen', msg.n) return nil"
    for n = 1, 30 do p:send({ n = n }) end
    assert.equal(30, #p.log)
    assert.same({ "warn", "n is 30" }, { p.log[30].level, p.log[30].text })
    assert.same({ seen = 465 }, p:counts())
    assert.same({}, map("return msg"):counts())
  end)
end)

describe("reload", function()
  it("takes a new script with an empty state, and keeps the old one if it does not load", function()
    local body = "local n = 0 return { map = function() n = n + 1 return { v = %d, n = n } end }"
    local p = script(body:format(1))
    p:send({})
    assert.same({ v = 1, n = 2 }, p:send({}).rows[1])
    local done, why = p:reload { text = "return {" }
    assert.is_nil(done)
    assert.matches("^script.lua:1: unexpected symbol", why)
    assert.same({ v = 1, n = 3 }, p:send({}).rows[1])
    assert.is_true(p:reload { text = body:format(2) })
    assert.same({ v = 2, n = 1 }, p:send({}).rows[1])
  end)

  it("reads the file anew", function()
    local path = os.tmpname()
    local function write(text)
      local file <close> = assert(io.open(path, "w"))
      file:write(text)
    end
    write "return { map = function() return { v = 1 } end }"
    local p = testing.script(path)
    write "return { map = function() return { v = 2 } end }"
    assert.equal(1, p:send({}).rows[1].v)
    assert.is_true(p:reload())
    assert.equal(2, p:send({}).rows[1].v)
    os.remove(path)
  end)

  it("keeps lookup, table and clock", function()
    local p = script(JOIN, { key = "id", lookup = { { id = "a", name = "Ann", n = 7 } }, table = { id = "text" } })
    assert.matches("no column 'n", p:send({ id = "a" }).dead.error)
    p:advance(60)
    assert.is_true(p:reload { text = [[
      return { key = function() return "a" end, project = function(_, col, ctx) return { id = ctx.now } end }]] })
    assert.equal("1767225660", p:send({}).rows[1].id)
  end)
end)

describe("limits", function()
  it("hold as in the daemon, and the next message works", function()
    local p = map("while msg.loop do end return { a = 1 }", { limits = { time = 0.02 } })
    assert.equal("script_timeout", p:send({ loop = true }).dead.class)
    assert.equal(1, #p:send({}).messages)
  end)
end)

describe("an error of the spec", function()
  it("is told with the line of the spec", function()
    local p = map "return msg"
    local line = debug.getinfo(1, "l").currentline + 1
    local message = error_of(function() p:send(7) end)
    assert.matches("testing_spec.lua:" .. line .. ": send: a message is a table", message)
  end)
end)

describe("testing.pipeline", function()
  local CONFIG = [[
    return { pipelines = { p = {
      source = { topics = "in", group = "g", kafka = { ["bootstrap.servers"] = env "TESTING_SPEC_BROKERS" } },
      script = "promo.lua", vars = { limit = 5 },
      sinks = { kafka = { topic = "out", kafka = { ["bootstrap.servers"] = "x:1" } } },
      dead_letters = { topic = "dead" } } } }]]
  local path = os.tmpname()

  setup(function()
    local file <close> = assert(io.open(path, "w"))
    file:write(CONFIG)
  end)
  teardown(function() os.remove(path) end)

  it("takes vars, topics and limits from the configuration, and the environment from the spec", function()
    local text = os.tmpname()
    local file = assert(io.open(text, "w"))
    file:write "return { map = function(msg, ctx) return { limit = ctx.vars.limit, topic = ctx.topic } end }"
    file:close()
    local options = { config = path, env = { TESTING_SPEC_BROKERS = "b:1" }, set = { "pipelines.p.script=" .. text } }
    local p = testing.pipeline(options)
    local got = p:send({})
    assert.same({ limit = 5, topic = "in" }, got.messages[1].value)
    assert.equal("out", got.messages[1].topic)
    assert.matches("^%x+$", got.messages[1].bundle)
    assert.same({}, got.rows)
    assert.is_nil(os.getenv "TESTING_SPEC_BROKERS")
    options.set[2], options.set[3] = "pipelines.p.vars.limit=6", "pipelines.p.max_message=1KB"
    p = testing.pipeline(options)
    assert.equal(6, p:send({}).messages[1].value.limit)
    assert.equal("too_large", p:send({ ("x"):rep(2000) }).dead.class)
    os.remove(text)
  end)

  it("says what is wrong, as millrace check does", function()
    assert.matches("TESTING_SPEC_BROKERS", error_of(testing.pipeline, { config = path }))
    assert.matches("there is no pipeline 'q'; there are: promo", error_of(testing.pipeline, { pipeline = "q" }))
    assert.matches("no option 'conf'; there are: config,", error_of(testing.pipeline, { conf = path }))
    assert.matches("give either path or text", error_of(testing.script, {}))
  end)
end)
