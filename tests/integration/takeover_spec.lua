-- A process that dies by kill -9 is followed in time: by another of its group within the session time-out (10 s) and
-- 3 s, by itself as a static member within 3 s. What it left open in Kafka holds nobody up. Both sinks stay exact.
local daemon = require "tests.support.daemon"
local scene = require "tests.support.scene"
local shell = require "tests.support.shell"

local SESSION, CLIENTS = 10, 200
local GRACE = daemon.bin:find("/release/", 1, true) and 3 or 20 -- with sanitizers times mean nothing

describe("after a kill -9", function()
  local s
  after_each(function() s:close() end)

  -- The seconds that a scenario gives are a promise. A machine that stands still for a moment breaks it too, but not
  -- three times in a row; what the scenario itself asserts has to hold each time.
  local function in_time(name, promise, scenario)
    local seconds
    for _ = 1, 3 do
      s = scene.new { partitions = 4 }
      s:subscribers(4, CLIENTS)
      s:let_rows_be_held()
      s.promo.unit = { outputs = 200 } -- many of them: a kill comes in the middle
      seconds = scenario()
      print(("%s: %.1f s"):format(name, seconds))
      if seconds < promise then return end
      s:close()
    end
    error(("%s: it took %.1f s"):format(name, seconds))
  end

  local function start(instance)
    return s:start { env = { MILLRACE_INSTANCE = instance }, wait = false }
  end

  -- The partitions that a process has, by the name in the ledger's owner.
  local function partitions_of(instance)
    local list = {}
    for part in s:sql(("select part from millrace_ledger where owner like '%%.%s.%%' order by 1"):format(instance))
        :gmatch("%d+") do
      list[#list + 1] = tonumber(part)
    end
    return list
  end

  -- "one" and "two" at work, with two partitions each.
  local function both()
    local one, two = start("one"), start("two")
    one:wait_ready()
    two:wait_ready()
    shell.wait(60, "both processes to have partitions", function()
      return #partitions_of("one") == 2 and #partitions_of("two") == 2
    end)
    return one, two
  end

  -- Sends a campaign to this partition; the id is the next of those that `exact` expects.
  local function campaign(partition)
    local list = s:campaigns(1, 4, s.sent + 1)
    list[1].partition = partition
    s:produce(list)
    s.sent = s.sent + 1
  end

  -- Seconds from `since` until somebody decides a unit of these partitions which is none of those that the dead process
  -- may have decided with its last breath.
  local function seconds_until_resumed(since, partitions, d)
    local ledger = ("select sum(unit) from millrace_ledger where part in (%s)"):format(table.concat(partitions, ","))
    local units = tonumber(s:sql(ledger))
    shell.wait(60, function() return ("a unit of its partitions\n%s"):format(d:tail()) end, function()
      if tonumber(s:sql(ledger)) > units + #partitions then return true end
      if s.sent < 2000 then s:feed(8, 4) end -- its own may have been done before the kill
    end)
    return shell.monotime() - since
  end

  local function finish(...)
    s:wait_rows(s.sent * CLIENTS, 90)
    for _, d in ipairs { ... } do assert.equal(0, (d:stop())) end
    local ok, report = s:exact(s.sent, CLIENTS, false)
    assert.is_true(ok, report)
  end

  local function followed_by_another()
    local one, two = both()
    local dead = partitions_of("one")
    s:feed(400, 4)
    s:wait_rows(4000)
    one:kill()
    local seconds = seconds_until_resumed(shell.monotime(), dead, two)
    finish(two)
    return seconds
  end

  local function readers_go_on()
    local one, two = both()
    s:feed(40, 4)
    s:wait_rows(40 * CLIENTS)
    local dead = partitions_of("one")
    shell.wait(20, "the topic to be at rest", function()
      return s:out_end("read_committed") == s:out_end("read_uncommitted")
    end)
    local readable, end_reader = s:reader()
    shell.wait(20, "the reader to have what is there", function() return readable() >= 40 * CLIENTS end)
    local release = s:hold_rows()
    campaign(dead[1])
    shell.wait(20, "messages in an open transaction", function()
      return s:out_end("read_committed") < s:out_end("read_uncommitted")
    end)
    one:kill()
    local since = shell.monotime()
    assert.is_true(s:out_end("read_committed") < s:out_end("read_uncommitted"), "nothing was left open")
    release()
    s:feed(8, 4)
    s:wait_rows(41 * CLIENTS) -- the other's own partitions go on, to whose messages nobody gets yet
    if shell.monotime() - since < SESSION - 6 then -- on a slow machine it may have been tidied by now
      assert.is_true(s:out_end("read_committed") < s:out_end("read_uncommitted"), "messages behind it can be read")
    end
    shell.wait(60, function() return "all messages to be readable\n" .. two:tail() end, function()
      return readable() >= s.sent * CLIENTS
    end)
    local seconds = shell.monotime() - since
    end_reader()
    finish(two)
    return seconds
  end

  local function followed_by_itself()
    s.promo.source.static_membership = true
    local one, two = both()
    local dead = partitions_of("one")
    s:feed(400, 4)
    s:wait_rows(4000)
    local from = #two:log() + 1
    one:kill()
    local since = shell.monotime()
    local again = start("one")
    local seconds = seconds_until_resumed(since, dead, again)
    assert.is_nil(two:log():find("revoked", from, true), two:tail())
    finish(again, two)
    assert.same(dead, partitions_of("one"))
    return seconds
  end

  it("in the middle of work, the other process goes on in time", function()
    in_time("takeover by another process", SESSION + GRACE, followed_by_another)
  end)

  it("between the messages and the decision, readers are not held up by what was left open", function()
    in_time("readers of the output topic were held up", SESSION + GRACE, readers_go_on)
  end)

  it("a static member that is started again goes on at once, and nobody else's partitions move", function()
    in_time("takeover by the same static member", GRACE, followed_by_itself)
  end)
end)
