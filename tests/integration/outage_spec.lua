-- Postgres or Kafka away, at start or later: the daemon says so, waits, and goes on alone.
local scene = require "tests.support.scene"
local shell = require "tests.support.shell"

local function service(name, action)
  shell.run { "tests/support/" .. name, action }
end

describe("a service that is away", function()
  local s
  before_each(function()
    s = scene.new()
    s:init()
    s.initialised = true
  end)
  after_each(function()
    service("postgres", "start")
    service("kafka", "start")
    s:close()
  end)

  -- `from`: what stands before in the log was said of something else.
  local function check_waits(d, line, from)
    shell.wait(30, function() return "the log to say what is away; it ends with\n" .. d:tail() end, function()
      return d:log():lower():find(line, from or 1, true)
    end)
    assert.equal(200, (d:get("/livez")))
    shell.wait(20, "/readyz to say 503", function() return (d:get("/readyz")) == 503 end)
    assert.is_nil(d:status())
  end

  it("Postgres at start: the daemon waits, then becomes ready by itself", function()
    service("postgres", "stop")
    local d = s:start { wait = false }
    check_waits(d, "postgres")
    service("postgres", "start")
    d:wait_ready()
    s:produce { scene.campaign() }
    s:wait_rows(8)
    assert.equal(0, (d:stop()))
    assert.equal(8, #s:values())
  end)

  it("Postgres later: what was sent meanwhile arrives, once", function()
    local d = s:start()
    s:produce { scene.campaign { adv_campaign_id = "one" } }
    s:wait_rows(8)
    local from = #d:log() + 1
    service("postgres", "kill")
    s:produce { scene.campaign { adv_campaign_id = "two" } }
    check_waits(d, "postgres", from)
    service("postgres", "start")
    s:produce { scene.campaign { adv_campaign_id = "three" } }
    s:wait_rows(24, 60)
    shell.wait(20, "/readyz to say 200", function() return (d:get("/readyz")) == 200 end)
    assert.equal(0, (d:stop()))
    assert.equal("one|8\nthree|8\ntwo|8", s:by_campaign())
    assert.is_true(#s:values() >= 24)
  end)

  it("Kafka at start: the daemon waits, then becomes ready by itself", function()
    service("kafka", "stop")
    local d = s:start { wait = false }
    check_waits(d, "kafka")
    service("kafka", "start")
    d:wait_ready(60)
    s:produce { scene.campaign() }
    s:wait_rows(8)
    assert.equal(0, (d:stop()))
  end)

  it("Kafka later: work goes on when it is back, Postgres exact", function()
    local d = s:start()
    s:produce { scene.campaign { adv_campaign_id = "one" } }
    s:wait_rows(8)
    local from = #d:log() + 1
    service("kafka", "kill")
    d:wait_log("cannot be reached", 40, from)
    assert.equal(200, (d:get("/livez")))
    service("kafka", "start")
    s:produce { scene.campaign { adv_campaign_id = "two" } }
    s:wait_rows(16, 90)
    assert.equal(0, (d:stop()))
    assert.equal("one|8\ntwo|8", s:by_campaign())
    assert.is_true(#s:values() >= 16)
  end)

  it("both: SIGTERM still ends the daemon in time", function()
    service("kafka", "stop")
    service("postgres", "stop")
    local d = s:start { wait = false }
    check_waits(d, "postgres")
    local status, seconds = d:stop(40)
    assert.equal(0, status)
    assert.is_true(seconds < 32, ("it took %.1f s"):format(seconds))
  end)
end)

describe("an input topic that is deleted and made again", function()
  local s
  before_each(function() s = scene.new() end)
  after_each(function() s:close() end)

  -- The new topic's first messages would otherwise be taken for ones that were read already.
  it("halts the daemon, which ends with the cure", function()
    s.promo.source.kafka["topic.metadata.refresh.interval.ms"] = "500"
    local d = s:start()
    s:produce { { value = scene.campaign(), partition = 0 }, { value = scene.campaign(), partition = 1 } }
    s:wait_rows(16)
    -- At rest: what is on its way when the offset vanishes too is a halt of another kind.
    shell.wait(20, "the ledger to keep no messages", function() return s:count("millrace_redo") == 0 end)
    shell.run { "tests/support/topics", "--delete", s.topic_in }
    d:wait_log("revoked", 40)
    shell.wait(10, "/readyz to say 503", function() return (d:get("/readyz")) == 503 end)
    shell.run { "tests/support/topics", s.topic_in .. ":2" }
    assert.equal(65, d:wait_end(40))
    assert.truthy(d:log():find("was deleted and made again", 1, true), d:tail())
    assert.equal(16, s:count())
  end)
end)
