-- init(ctx) when a state is made, tick(ctx) between messages, and what ctx is without a message.
local script = require "tests.support.script"

local COUNTING = [[
  local s, made, ticks = {}, 0, 0
  function s.init(ctx) made = made + 1 end
  function s.tick(ctx)
    ticks = ticks + 1
    if ctx.vars.bad == "loop" then while true do end end
    if ctx.vars.bad then error("tick is out of order") end
  end
  function s.map(msg, ctx)
    if msg.loop then while true do end end
    return { made = made, ticks = ticks }
  end
  return s]]

local function value(s, message) return script.value(s:process { value = message or "{}" }) end

describe("init", function()
  it("runs once when the state is made, and again when a limit has ended it", function()
    local s = assert(script.open(COUNTING, { time_limit = 0.05 }))
    assert.equal('{"made":1,"ticks":0}', value(s))
    assert.is_true(s:tick {})
    assert.equal('{"made":1,"ticks":1}', value(s))
    assert.equal("script_timeout", s:process { value = '{"loop":true}' }.class)
    assert.equal('{"made":1,"ticks":0}', value(s))
  end)

  it("sees the time, the vars and the pipeline's log", function()
    local s = assert(script.open([[
      local s, seen = {}
      function s.init(ctx) seen = { now = ctx.now, v = ctx.vars.v } ctx.count("made") end
      function s.map() return seen end
      return s]], { now = 1700000000, vars = { v = 3 } }))
    assert.equal('{"now":1700000000,"v":3}', value(s))
  end)

  it("fails the load with file and line", function()
    local object, message, code = script.open "return { map = function() end, init = function() error 'no luck' end }"
    assert.is_nil(object)
    assert.equal(78, code)
    assert.matches("^s.lua:1: no luck", message)
    object, message = script.open("return { map = function() end, init = function() while true do end end }",
      { time_limit = 0.05 })
    assert.is_nil(object)
    assert.matches("the time limit of 50 ms is over", message)
  end)
end)

describe("tick", function()
  it("keeps to the limits, and costs the state only what a message would", function()
    local s = assert(script.open(COUNTING, { time_limit = 0.05, vars = { bad = "loop" } }))
    local done, message, class = s:tick {}
    assert.is_nil(done)
    assert.equal("script_timeout", class)
    assert.matches("the time limit of 50 ms is over", message)
    assert.equal('{"made":1,"ticks":0}', value(s), "a fresh state")
  end)

  it("says what it raised", function()
    local s = assert(script.open(COUNTING, { vars = { bad = "yes" } }))
    local done, message, class = s:tick {}
    assert.is_nil(done)
    assert.equal("script", class)
    assert.matches("s%d+.lua:6: tick is out of order", message)
    assert.equal('{"made":1,"ticks":1}', value(s))
  end)

  it("makes a state anew that was ended, before it runs", function()
    local s = assert(script.open(COUNTING, { time_limit = 0.05 }))
    s:process { value = '{"loop":true}' }
    assert.is_true(s:tick {})
    assert.equal('{"made":1,"ticks":1}', value(s))
  end)

  it("is nothing in a script that has none", function()
    assert.is_true(script.map("return {}"):tick {})
  end)
end)

describe("ctx without a message", function()
  it("raises for what only a message has, and says why", function()
    for _, field in ipairs { "topic", "partition", "offset", "key", "value", "timestamp_ms", "headers", "attempt" } do
      local s = assert(script.open("return { map = function() end, tick = function(ctx) return ctx." .. field ..
        " end }"))
      local done, message = s:tick {}
      assert.is_nil(done)
      assert.matches("ctx." .. field .. " is not there: init and tick have no message", message)
    end
  end)

  it("has the rest, and is dead afterwards", function()
    local s = assert(script.open [[
      local s, kept, seen = {}
      function s.tick(ctx) kept, seen = ctx, { ctx.now, ctx.now_ms, #ctx.bundle } ctx.log.debug("tick") end
      function s.map() return { seen = seen, dead = not pcall(function() return kept.now end) } end
      return s]])
    assert.is_true(s:tick { now = 5.5 })
    assert.equal('{"dead":true,"seen":[5,5500,32]}', value(s))
  end)
end)

describe("the topic of an output", function()
  local TOPICS = { topics = { "topic_out", "alerts", "archive" } }
  local function shape(result, options)
    return assert(script.open("return { map = function(msg) return msg end, shape = function(rec) return " .. result ..
      " end }", options or TOPICS))
  end
  local function topic(s, message) return s:process { value = message or "{}" }.messages[1].topic end

  it("is the sink's, unless shape names another as its fourth result", function()
    assert.equal("topic_out", topic(shape "rec"))
    assert.equal("topic_out", topic(shape "rec, nil, nil, nil"))
    assert.equal("topic_out", topic(shape "rec, nil, nil, 'topic_out'"))
    assert.equal("archive", topic(shape "rec, 'k', { h = 1 }, 'archive'"))
    assert.equal("alerts", topic(shape("rec, nil, nil, rec.to"), '{"to":"alerts"}'))
  end)

  it("must be one that the configuration allows", function()
    for result, sentence in pairs {
      ['rec, nil, nil, "alrets"'] =
        'the topic "alrets" is not allowed %(did you mean "alerts"%?%): the configuration ' ..
        'names the topics of a pipeline in sinks.kafka.allowed_topics',
      ["rec, nil, nil, 'elsewhere_entirely'"] = 'the topic "elsewhere_entirely" is not allowed: ',
      ["rec, nil, nil, 5"] = "shape: the topic is a number; it is a string, or nil",
      ["rec, nil, nil, null"] = "shape: the topic is a userdata; it is a string, or nil",
    } do
      local got = shape(result):process { value = "{}" }
      assert.equal("script", got.class)
      assert.matches(sentence, got.error)
    end
  end)

  it("may differ from record to record, and from row to row in each", function()
    local s = assert(script.joined([[
      local s = {}
      function s.key(msg) return msg.id end
      function s.each(msg, row) return row end
      function s.shape(rec) return rec.name, rec.name, nil, rec.n > 1 and "alerts" or nil end
      return s]], TOPICS))
    local got = script.run(s, { rows = { { id = "a", name = "x", n = 1 }, { id = "a", name = "y", n = 2 } } })
    assert.same({ "topic_out", "alerts" }, { got.messages[1].topic, got.messages[2].topic })
  end)

  it("is no placeholder", function()
    local s = script.project("return { a = col.name }", "function s.shape(rec) return rec, nil, nil, rec.a end")
    assert.matches("the topic is a placeholder; it is chosen before rows are filled in: .*write `each`",
      script.run(s).error)
  end)
end)
