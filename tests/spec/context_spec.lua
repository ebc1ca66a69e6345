-- ctx: what it shows, how long it lives, log and counters.
local script = require "tests.support.script"

local function value_of(expression, message, options)
  local all = { value = '{"a":1}', now = 1700000000.25, key = "k", offset = 42, partition = 3, timestamp_ms = 5,
    headers = { { "h", "first" }, { "h", "last" }, { "empty", script.null } } }
  for key, value in pairs(message or {}) do all[key] = value end
  local got = script.map("return { v = " .. expression .. " }", options):process(all)
  return script.value(got):match('^{"v":(.*)}$')
end

local function error_of(body)
  return (script.map(body):process({ value = "1" }).error:match("^[^\n]*"):gsub("^.-%.lua:%d+: ", ""))
end

describe("ctx", function()
  it("shows the message and the time", function()
    assert.equal("1700000000", value_of "ctx.now")
    assert.equal("1700000000250", value_of "ctx.now_ms")
    assert.equal("-1", value_of("ctx.now", { now = -0.5 }))
    assert.equal('"topic_in"', value_of "ctx.topic")
    assert.equal("3", value_of "ctx.partition")
    assert.equal("42", value_of "ctx.offset")
    assert.equal('"k"', value_of "ctx.key")
    assert.equal("null", value_of("ctx.key", { key = script.null }))
    assert.equal('"{\\"a\\":1}"', value_of "ctx.value")
    assert.equal("5", value_of "ctx.timestamp_ms")
    assert.equal("true", value_of("ctx.timestamp_ms == nil", { timestamp_ms = -1 }))
    assert.equal("2", value_of("ctx.attempt", { attempt = 2 }))
    assert.equal("32", value_of "#ctx.bundle")
  end)

  it("shows headers by name (the last) and by number (the pair)", function()
    assert.equal('"last"', value_of "ctx.headers.h")
    assert.equal("null", value_of "ctx.headers.empty")
    assert.equal("true", value_of "ctx.headers.nothing == nil")
    assert.equal('["h","first"]', value_of "ctx.headers[1]")
    assert.equal('["empty",null]', value_of "ctx.headers[3]")
    assert.equal("true", value_of "ctx.headers[4] == nil and ctx.headers[0] == nil")
    assert.equal("3", value_of "#ctx.headers")
    assert.equal("0", value_of("#ctx.headers", { headers = {} }))
  end)

  it("counts by names and numbers that a page of metrics can hold", function()
    assert.matches("the name is not UTF%-8", error_of("ctx.count('\\255') return {}"))
    assert.matches("finite number", error_of("ctx.count('a', math.huge) return {}"))
    assert.matches("only goes up", error_of("ctx.count('a', 0/0) return {}"))
    assert.matches("only goes up", error_of("ctx.count('a', -1) return {}"))
  end)

  it("carries the configuration's vars", function()
    local options = { vars = { city = "Berlin", limit = 5, rate = 0.5, on = true, list = { 1, 2 },
      deep = { a = { b = "c" } } } }
    assert.equal('{"city":"Berlin","deep":{"a":{"b":"c"}},"limit":5,"list":[1,2],"on":true,"rate":0.5}',
      value_of("ctx.vars", nil, options))
    assert.equal("{}", value_of "ctx.vars")
  end)

  it("is the same in each call of a message", function()
    local s = assert(script.joined([[
      local first
      local s = {}
      function s.filter(_, ctx) first = ctx return true end
      function s.key(msg, ctx) assert(ctx == first) return msg.id end
      function s.project(_, _, ctx) assert(ctx == first) return { now = ctx.now } end
      function s.shape(rec, ctx) assert(ctx == first and first.now == rec.now) return rec end
      return s]]))
    assert.equal('{"now":1000}', script.value(script.run(s)))
    assert.equal('{"now":2000}', script.value(script.run(s, { now = 2000 })))
  end)

  it("raises when it is used after its message", function()
    local s = assert(script.open [[
      local kept, headers
      return { map = function(msg, ctx)
        if msg.use == "ctx" then return { kept.now } end
        if msg.use == "headers" then return { headers.x } end
        kept, headers = ctx, ctx.headers
        return {}
      end }]])
    assert.equal("emit", s:process({ value = "{}" }).verdict)
    for _, use in ipairs { "ctx", "headers" } do
      local got = s:process { value = '{"use":"' .. use .. '"}' }
      assert.equal("script", got.class)
      assert.matches("ctx is used after its message was done: it lives for one message only", got.error)
    end
  end)

  it("is read-only and knows its fields", function()
    assert.equal("ctx is read-only", error_of "ctx.now = 1")
    assert.equal("ctx is read-only", error_of "ctx.headers.x = 1")
    assert.equal("ctx has no field 'nwo' (did you mean 'now'?)", error_of "return { ctx.nwo }")
    assert.equal("ctx has fields by name, not number keys", error_of "return { ctx[1] }")
  end)
end)

describe("ctx.log", function()
  it("takes text, with levels", function()
    assert.equal("emit", script.map("ctx.log.debug('x', 1, nil, {}) return {}"):process({ value = "1" }).verdict)
    assert.matches("attempt to call a nil value %(field 'loud'%)", error_of "ctx.log.loud 'x'")
  end)
end)

describe("ctx.count", function()
  it("takes a name and a number that is not negative", function()
    assert.equal("emit",
      script.map("ctx.count 'a' ctx.count('a', 2) ctx.count('b', 0.5) return {}"):process({ value = "1" }).verdict)
    assert.matches("ctx.count takes a name", error_of "ctx.count(5)")
    assert.matches("a counter only goes up", error_of "ctx.count('a', -1)")
  end)

  it("does not fill the memory with names", function()
    local s = script.map("for i = 1, 20000 do ctx.count('name' .. msg.n .. '_' .. i) end return {}",
      { memory_limit = 2 << 20 })
    assert.equal("emit", s:process({ value = '{"n":1}' }).verdict)
  end)
end)
