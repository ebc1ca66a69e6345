-- A pipeline is switched between at_least_once and exactly_once while campaigns keep coming: it never halts, Postgres
-- stays exact; so does Kafka after clean stops, and after kill -9 only what at_least_once sent may be there twice.
local cjson = require "cjson"
local scene = require "tests.support.scene"
local shell = require "tests.support.shell"

local CLIENTS = 100
local SWITCHES = { "at_least_once", "exactly_once", "at_least_once", "exactly_once" }

describe("switching the delivery", function()
  local s
  before_each(function()
    s = scene.new { partitions = 4 }
    s:subscribers(4, CLIENTS)
    s.promo.unit = { outputs = 500 }
  end)
  after_each(function() s:close() end)

  local function start(mode, instance)
    s.promo.delivery = mode
    return s:start { wait = false, env = { MILLRACE_INSTANCE = instance } }
  end

  -- Campaigns keep coming until there are n more rows.
  local function work(d, n)
    local goal = s:count() + n
    shell.wait(60, function() return ("%d rows (there are %d)\n%s"):format(goal, s:count(), d:tail()) end, function()
      assert.is_nil(d:status(), d:tail())
      if s.sent * CLIENTS < s:count() + 10 * n then s:feed(40, 4) end
      return s:count() >= goal
    end)
  end

  local function recorded_modes()
    return s:sql("select string_agg(distinct mode, ' ' order by mode) from millrace_ledger where unit > 0")
  end

  local function check(doubles)
    local ok, report = s:exact(s.sent, CLIENTS, doubles)
    assert.is_true(ok, report)
    assert.equal(0, s:count("millrace_dead"))
  end

  it("by SIGTERM leaves both sinks exact", function()
    s.sent = 0
    for i, mode in ipairs(SWITCHES) do
      local d = start(mode)
      work(d, 5000)
      if i == #SWITCHES then s:wait_rows(s.sent * CLIENTS, 90) end
      assert.equal(0, (d:stop()))
      if i == #SWITCHES then assert.equal(mode, recorded_modes()) end
    end
    check(false)
  end)

  it("by kill -9 doubles nothing in Postgres, and in Kafka only what at_least_once sent", function()
    s.sent = 0
    s.promo.source.static_membership = true -- none waits for the session time-out of the one before
    local phases = {}
    local function now_ms() return tonumber(shell.run { "date", "+%s%3N" }) end
    for round = 1, 2 do
      for i, mode in ipairs(SWITCHES) do
        local d = start(mode, "one")
        phases[#phases + 1] = { mode = mode, from = now_ms() }
        work(d, 3000)
        if round == 2 and i == #SWITCHES then
          s:wait_rows(s.sent * CLIENTS, 90)
          assert.equal(0, (d:stop()))
        else
          d:kill()
        end
        phases[#phases].to = now_ms()
      end
    end
    check(true)
    -- The first of two equal messages was sent by the phase that doubled it.
    local first, doubles = {}, 0
    for _, line in ipairs(s:values(nil, { "-f", "%T %s\n" })) do
      local at, value = line:match("^(%d+) (.*)$")
      at = tonumber(at)
      local message = cjson.decode(value)
      local pair = message.adv_campaign_id .. " " .. message.client_id
      if first[pair] then
        doubles = doubles + 1
        first[pair] = math.min(first[pair], at)
        for _, phase in ipairs(phases) do
          if phase.mode == "exactly_once" and first[pair] >= phase.from and first[pair] <= phase.to then
            error(pair .. " was doubled by exactly_once")
          end
        end
      else
        first[pair] = at
      end
    end
    print(("%d messages doubled by at_least_once in %d kills"):format(doubles, #phases - 1))
  end)

  it("one process after the other leaves both sinks exact", function()
    s.sent = 0
    local one, two = start("at_least_once"), start("at_least_once")
    one:wait_ready()
    two:wait_ready()
    work(one, 3000)
    for _, mode in ipairs { "exactly_once", "at_least_once", "exactly_once" } do
      for _ = 1, 2 do
        assert.equal(0, (one:stop()))
        one, two = two, start(mode)
        two:wait_ready()
        work(two, 5000)
      end
    end
    s:wait_rows(s.sent * CLIENTS, 90)
    assert.is_nil(one:status(), one:tail())
    assert.equal(0, (one:stop()))
    assert.equal(0, (two:stop()))
    check(false)
    assert.equal("exactly_once", recorded_modes())
  end)
end)
