-- exactly_once with one sink alone, over kill -9 in the middle of work. Kafka alone: no database beside the lookup's; a
-- fan-out's cursor travels with the offset, dead letters are a topic. Postgres alone: the ledger.
local cjson = require "cjson"
local scene = require "tests.support.scene"
local shell = require "tests.support.shell"

local CLIENTS, BIG = 100, 20000

describe("exactly once with", function()
  local s
  before_each(function()
    s = scene.new { partitions = 4 }
    s:subscribers(4, CLIENTS)
    s:sql(("insert into subscribers_restaurants (client_id, restaurant_id) "
      .. "select 'b' || c, 'big' from generate_series(1, %d) c"):format(BIG))
    s.promo.unit = { outputs = 100 }
    s.promo.workers = 2
    s.sent = 0
  end)
  after_each(function() s:close() end)

  -- A successor of another name has to wait for the dead one's transaction to time out.
  local function start()
    return s:start { env = { MILLRACE_INSTANCE = "one" }, wait = false }
  end

  -- Two large campaigns among 160 small ones and 40 that cannot be read.
  local function send()
    s:feed(80, 4)
    for i = 1, 2 do
      s:produce { { value = scene.campaign { adv_campaign_id = "big" .. i, restaurant_id = "big" }, partition = i } }
    end
    local broken = {}
    for i = 1, 40 do broken[i] = { value = ("broken %d"):format(i), partition = i % s.partitions } end
    s:produce(broken)
    s:feed(80, 4)
    return s.sent * CLIENTS + 2 * BIG
  end

  -- Kills at three shares of the work; `seen` tells how much of it is there, `about` does in less time.
  local function over_kills(total, seen, about)
    local d, in_fanout, deaths = start(), false, 0
    for _, share in ipairs { 10, 30, 50 } do
      shell.wait(90, function() return ("%d %% of the work\n%s"):format(share, d:tail()) end, function()
        return about() >= total * share // 100
      end)
      d:kill()
      if seen() < total then deaths = deaths + 1 end
      d = start()
      shell.wait(60, function() return "the partitions to be claimed\n" .. d:tail() end, function()
        local _, claims = d:log():gsub('"claimed ', "")
        return claims >= s.partitions
      end)
      in_fanout = in_fanout or d:log():find("in the middle of a fan-out", 1, true) ~= nil
    end
    assert.is_true(deaths > 0, "all was done before the first kill")
    -- A machine that is busy otherwise may let a kill come too late.
    assert.is_true(in_fanout or deaths < 3, "no kill came in the middle of a fan-out")
    shell.wait(120, function() return ("all of the work, there is %d\n%s"):format(seen(), d:tail()) end, function()
      return seen() >= total
    end)
    assert.equal(0, (d:stop()))
  end

  local function check()
    local path = shell.temp(".expected")
    local file <close> = assert(io.open(path, "wb"))
    for i = 1, s.sent do
      for c = 1, CLIENTS do file:write("a", i, " c", c, "\n") end
    end
    for i = 1, 2 do
      for c = 1, BIG do file:write("big", i, " b", c, "\n") end
    end
    file:flush()
    local ok, report = s:compare(path, false)
    os.remove(path)
    assert.is_true(ok, report)
  end

  local function check_letters(list)
    table.sort(list)
    local expected = {}
    for i = 1, 40 do expected[i] = ("broken %d"):format(i) end
    table.sort(expected)
    assert.same(expected, list)
  end

  it("Kafka alone: messages and dead letters are there once, and no table was used", function()
    s.promo.sinks.postgres = nil
    s.promo.dead_letters = { topic = s.id .. "_dead" }
    s.promo.source.static_membership = true
    shell.run { "tests/support/topics", s.id .. "_dead:1" }
    local total = send()
    -- The end of a topic counts some control records for each unit too.
    over_kills(total, function() return #s:values(s.topic_out) end, function() return s:out_end("read_committed") end)
    check()
    check_letters(s:values(s.id .. "_dead"))
    assert.equal("", s:sql "select relname from pg_class where relname like 'millrace%' and relkind = 'r'")
    local times = {}
    for _, message in ipairs(s:messages()) do
      local id = message.adv_campaign_id
      assert.equal(times[id] or message.trigger_datetime_created, message.trigger_datetime_created)
      times[id] = message.trigger_datetime_created
    end
  end)

  it("Postgres alone: rows and dead letters are there once", function()
    s.promo.sinks.kafka = nil
    s.promo.source.static_membership = true
    local total = send()
    local function rows() return s:count() end
    over_kills(total, rows, rows)
    check()
    local letters = {}
    for i, row in ipairs(s:records "select convert_from(value, 'utf8') as value from millrace_dead") do
      letters[i] = row.value
    end
    check_letters(letters)
    assert.equal(cjson.encode { #s:values() }, "[0]")
  end)
end)
