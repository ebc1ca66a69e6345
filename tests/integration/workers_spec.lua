-- Workers and processes of one group share the partitions; a stop, a rebalance or a takeover loses and
-- doubles nothing. Traffic that is only dropped costs no transaction a message.
local scene = require "tests.support.scene"
local shell = require "tests.support.shell"

describe("workers", function()
  local s
  before_each(function() s = scene.new { partitions = 4 } end)
  after_each(function() s:close() end)

  for _, workers in ipairs { 1, 2, 4 } do
    it(("%d on 4 partitions give every pair once in both sinks"):format(workers), function()
      s:subscribers(10, 100)
      s.promo.workers = workers
      local d = s:start()
      s:produce(s:campaigns(200, 10))
      s:wait_rows(20000, 90)
      assert.equal(0, (d:stop()))
      local ok, report = s:exact(200, 100, false)
      assert.is_true(ok, report)
      assert.equal(tostring(workers), s:sql("select count(distinct owner) from millrace_ledger"))
    end)
  end

  it("of a stopped daemon are taken up by the next one without a double", function()
    s:subscribers(5, 500)
    s:produce(s:campaigns(100, 5))
    local stops = 0
    for round = 1, 20 do
      local d = s:start { wait = false }
      s:wait_rows(math.min(round * 5000, 50000), 90)
      assert.equal(0, (d:stop()))
      stops = stops + 1
      if s:count() >= 50000 then break end
    end
    assert.is_true(stops >= 1)
    local ok, report = s:exact(100, 500, false)
    assert.is_true(ok, report)
  end)

  it("of two processes share the partitions, and the survivor takes over", function()
    s:subscribers(4, 50)
    local a = s:start()
    local b = s:start()
    local function owners()
      return tonumber(s:sql("select count(distinct owner) from millrace_ledger where topic = '" .. s.topic_in .. "'"))
    end
    local sent = 0
    shell.wait(60, "both processes to own partitions", function()
      s:produce(s:campaigns(4, 4, sent + 1))
      sent = sent + 4
      return owners() == 2
    end)
    s:produce(s:campaigns(40, 4, sent + 1))
    sent = sent + 40
    s:wait_rows(sent * 50, 60)
    a:kill()
    s:produce(s:campaigns(40, 4, sent + 1))
    sent = sent + 40
    s:wait_rows(sent * 50, 60)
    assert.equal(1, owners())
    assert.equal(0, (b:stop()))
    local ok, report = s:exact(sent, 50, true)
    assert.is_true(ok, report)
  end)
end)

describe("traffic that is only dropped", function()
  local s
  before_each(function() s = scene.new { partitions = 1 } end)
  after_each(function() s:close() end)

  it("costs no database transaction a message, and is not read again after a restart", function()
    local d = s:start()
    local function commits()
      return tonumber((shell.run { "psql", "-qXAt", os.getenv("MILLRACE_PG"), "-c",
        ("select xact_commit from pg_stat_database where datname = '%s'"):format(s.id) }))
    end
    local expired, list = scene.campaign { adv_campaign_datetime_end = os.time() - 100 }, {}
    for i = 1, 20000 do list[i] = expired end
    local before = commits()
    s:produce(list)
    shell.wait(60, "all of it to be dropped", function() return d:metric("drop", 'reason="expired"') >= 20000 end)
    assert.equal(0, (d:stop()))
    assert.is_true(commits() - before < 200, ("%d transactions for 20000 messages"):format(commits() - before))
    assert.equal("20000", s:sql("select next_offset from millrace_ledger"))

    d = s:start()
    s:produce { scene.campaign() }
    s:wait_rows(8)
    assert.equal(0, d:metric("drop", 'reason="expired"') or 0)
    assert.equal(0, (d:stop()))
  end)
end)
