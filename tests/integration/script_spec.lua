-- Scripts in the real daemon: hostile ones end as dead letters and nothing else does; `each` reaches every row that it
-- does not skip once, whatever dies; init, tick and topics of a script.
local daemon = require "tests.support.daemon"
local scene = require "tests.support.scene"
local shell = require "tests.support.shell"

local PROMO
do
  local file <close> = assert(io.open("scripts/promo.lua"))
  PROMO = file:read("a")
end

--- scripts/promo.lua, with `each` in place of `project`: `first` is what it does before it makes the record.
local function each(first, head)
  local text, n = PROMO:gsub("function promo%.project%(msg, col, ctx%)", "function promo.each(msg, col, ctx)\n" ..
    first:gsub("%%", "%%%%"))
  assert(n == 1, "scripts/promo.lua has no project(msg, col, ctx)")
  return (head or "") .. text
end

local HOSTILE = [[
local function recursion() return 1 + recursion() end
local hostile = {
  loop = function() while true do end end,
  pcall_loop = function() while true do pcall(function() while true do end end) end end,
  pattern = function() return ("a"):rep(5000):find(".-.-.-.-.-x") end,
  table_bomb = function() local t = {} for i = 1, 1e9 do t[i] = ("x"):rep(1e6) .. i end end,
  string_bomb = function() return ("x"):rep(1e9) end,
  recursion = function() return recursion() end,
  table_error = function() error({}) end,
  nil_error = function() error() end,
  index_error = function() return setmetatable({}, { __index = function() error "in index" end }).x end,
  coroutine = function() return coroutine.wrap(error)() end,
  exit = function() return os.exit(1) end,
  output = function() return { adv_campaign_content = ("x"):rep(2e6) } end,
}
]]

local EXPECTED = {
  { "loop", "script_timeout" }, { "pcall_loop", "script_timeout" }, { "pattern", "script_timeout" },
  { "table_bomb", "script_memory" }, { "string_bomb", "script_memory" }, { "recursion", "script_memory" },
  { "table_error", "script" }, { "nil_error", "script" }, { "index_error", "script" }, { "coroutine", "script" },
  { "exit", "script" }, { "output", "too_large" },
}

-- Long enough that a bomb reaches the memory first.
local TIME = daemon.bin:find("/release/", 1, true) and "1s" or "5s"

describe("hostile scripts in the daemon", function()
  local s
  before_each(function() s = scene.new { partitions = 1 } end)
  after_each(function() s:close() end)

  it("end as dead letters of their class; the state is made anew and the messages between go through", function()
    s.promo.limits = { time = TIME, memory = "64MB", output = "1MB" }
    s:script(each("  local bad = hostile[msg.adv_campaign_content]\n  if bad then return bad(msg) end\n", HOSTILE))
    s:subscribers(1, 3)
    local list = {}
    for i, case in ipairs(EXPECTED) do
      list[#list + 1] = scene.campaign { adv_campaign_id = "bad" .. i, restaurant_id = "r1",
                                         adv_campaign_content = case[1] }
      list[#list + 1] = scene.campaign { adv_campaign_id = "a" .. i, restaurant_id = "r1" }
    end
    local d = s:start()
    s:produce(list)
    s:wait_rows(#EXPECTED * 3, 240) -- some of them take all the CPU time that they may
    s:wait_rows(#EXPECTED, 60, "millrace_dead")
    assert.equal(0, (d:stop()))
    local dead = s:records("select class, error from millrace_dead order by src_offset")
    for i, case in ipairs(EXPECTED) do
      assert.equal(case[2], dead[i].class, case[1] .. ": " .. dead[i].error)
    end
    local ok, report = s:exact(#EXPECTED, 3)
    assert.is_true(ok, report)
  end)
end)

describe("each in the daemon", function()
  local N = 60000
  local s
  before_each(function() s = scene.new { partitions = 1 } end)
  after_each(function() s:close() end)

  it("reaches once each row that it does not skip, over many units and two kills", function()
    s.promo.unit = { outputs = 2000 }
    -- Nine rows of ten are skipped: whole units look at rows and make little of them, some nothing.
    s:script(each("  local i = tonumber(col.client_id:sub(2))\n" ..
      "  if i % 10 > 0 or i > 20000 and i < 40000 then return nil end\n"))
    s:sql(("truncate subscribers_restaurants; insert into subscribers_restaurants (client_id, restaurant_id) "
      .. "select 'c' || lpad(c::text, 8, '0'), 'big' from generate_series(1, %d) c"):format(N))
    local path = shell.temp(".expected")
    local file = assert(io.open(path, "wb"))
    local expected = 0
    for i = 10, N, 10 do
      if i <= 20000 or i >= 40000 then
        file:write("big ", ("c%08d"):format(i), "\n")
        expected = expected + 1
      end
    end
    file:close()
    local function done() return s:count("subscribers_feedback") end
    local d = s:start()
    s:produce { scene.campaign { adv_campaign_id = "big", restaurant_id = "big" } }
    for _, at in ipairs { 400, 1200 } do
      shell.wait(60, "some of the fan-out", function() return done() >= at end)
      d:kill()
      d = s:start()
    end
    s:wait_rows(expected, 120)
    assert.equal(0, (d:stop()))
    local ok, report = s:compare(path, false)
    os.remove(path)
    assert.is_true(ok, report)
    assert.equal("1", s:sql("select count(distinct trigger_datetime_created) from subscribers_feedback"))
  end)
end)

describe("init, tick and topics in the daemon", function()
  local s
  before_each(function() s = scene.new { partitions = 1 } end)
  after_each(function() s:close() end)

  it("init has run before the first message, tick comes by itself, outputs go where shape says", function()
    local other = s.id .. "_other"
    shell.run { "tests/support/topics", other .. ":1" }
    s.promo.sinks.kafka.allowed_topics = { other }
    s:subscribers(1, 4)
    s:script(each("  if not made then error 'init has not run' end\n", [[
local made, ticks = false, 0
]]):gsub("return promo%s*$", ([[
function promo.init() made = true end
function promo.tick(ctx)
  ticks = ticks + 1
  ctx.count("ticks")
  if ticks == 2 then error "the second tick fails" end
end
local shape = promo.shape
function promo.shape(rec, ctx)
  local value, key, headers = shape(rec, ctx)
  return value, key, headers, rec.client_id == "c2" and "%s" or nil
end
return promo
]]):format(other)))
    local d = s:start()
    s:produce { scene.campaign { adv_campaign_id = "a1", restaurant_id = "r1" } }
    s:wait_rows(4, 60)
    shell.wait(30, "three ticks, of which one failed", function()
      return (d:metric("^millrace_script_count_total$", 'name="ticks"') or 0) >= 3
        and d:metric("^millrace_script_tick_errors_total$") == 1
    end)
    d:wait_log("the second tick fails", 5)
    assert.equal(0, (d:stop()))
    assert.equal(3, #s:values())
    assert.equal(1, #s:values(other))
    assert.matches('"c2"', s:values(other)[1])
  end)
end)
