-- Bad input: each bad message becomes one dead letter with its reason, its place and its bytes, and the good
-- messages around it go through.
local scene = require "tests.support.scene"
local shell = require "tests.support.shell"

local function hex(text)
  return (text:gsub(".", function(c) return ("%02x"):format(c:byte()) end))
end

describe("bad input", function()
  local s
  before_each(function() s = scene.new { partitions = 1 } end)
  after_each(function() s:close() end)

  -- Sends good, bad..., good to one partition; gives the dead letters in the order of their offsets.
  local function send(d, bad)
    local list = { scene.campaign { adv_campaign_id = "before" } }
    for _, value in ipairs(bad) do list[#list + 1] = { key = "bad key", value = value } end
    list[#list + 1] = scene.campaign { adv_campaign_id = "after" }
    s:produce(list)
    s:wait_rows(#bad, 60, "millrace_dead")
    s:wait_rows(16, 60)
    assert.equal(0, (d:stop()))
    assert.equal("after|8\nbefore|8", s:by_campaign())
    local counted = {}
    for _, message in ipairs(s:messages()) do
      counted[message.adv_campaign_id] = (counted[message.adv_campaign_id] or 0) + 1
    end
    -- A unit that Postgres refused may have reached Kafka before: at least once.
    assert.is_true(counted.before >= 8 and counted.after >= 8)
    counted.before, counted.after = nil, nil

    local dead = s:records("select class, error, grp, topic, part, src_offset, encode(key, 'escape') as key, "
      .. "encode(value, 'hex') as value from millrace_dead order by src_offset")
    assert.equal(#bad, #dead)
    for i, letter in ipairs(dead) do
      assert.equal(hex(bad[i]), letter.value)
      assert.equal("bad key", letter.key)
      assert.equal(s.topic_in, letter.topic)
      assert.equal(0, letter.part)
      assert.equal(i, letter.src_offset)
      assert.is_true(#letter.error > 0)
    end
    return dead, counted
  end

  local function classes(dead)
    local list = {}
    for i, letter in ipairs(dead) do list[i] = letter.class end
    return list
  end

  it("that is not JSON is dead-lettered as decode or utf8", function()
    local d = s:start()
    local dead, others = send(d, { "not json", '{"restaurant_id": "x"', "{} trailing", '{"a": 18446744073709551616}',
      '{"restaurant_id": "\xff\xfe"}' })
    assert.same({ "decode", "decode", "decode", "decode", "utf8" }, classes(dead))
    assert.same({}, others)
  end)

  it("of the wrong shape is dead-lettered as schema, naming field, expected and got", function()
    local d = s:start()
    local dead, others = send(d, {
      scene.campaign { adv_campaign_datetime_end = "tomorrow" },
      scene.campaign { restaurant_id = false },
      scene.campaign { adv_campaign_owner = 7 },
      scene.campaign { adv_campaign_content = require "cjson".null },
      "[]", "7",
    })
    for _, class in ipairs(classes(dead)) do assert.equal("schema", class) end
    local fields = { "adv_campaign_datetime_end", "restaurant_id", "adv_campaign_owner", "adv_campaign_content" }
    for i, field in ipairs(fields) do
      assert.truthy(dead[i].error:find(field, 1, true), dead[i].error)
    end
    assert.truthy(dead[1].error:find("integer", 1, true), dead[1].error)
    assert.truthy(dead[1].error:find("string", 1, true), dead[1].error)
    assert.same({}, others)
  end)

  it("that makes the script fail is dead-lettered with file and line", function()
    local text = shell.read("scripts/promo.lua"):gsub("return promo%s*$", [[
local keep = promo.filter
function promo.filter(msg, ctx)
  if msg.adv_campaign_content == "boom" then error("no boom today") end
  if msg.adv_campaign_content == "nil" then return msg.nothing.here end
  if msg.adv_campaign_content == "loop" then while true do end end
  return keep(msg, ctx)
end
return promo
]])
    s:script(text)
    local d = s:start()
    local dead, others = send(d, {
      scene.campaign { adv_campaign_content = "boom" }, scene.campaign { adv_campaign_content = "nil" },
      scene.campaign { adv_campaign_content = "loop" },
    })
    assert.same({ "script", "script", "script_timeout" }, classes(dead))
    assert.truthy(dead[1].error:find("no boom today", 1, true), dead[1].error)
    assert.truthy(dead[1].error:find("script%.lua:%d+"), dead[1].error)
    assert.truthy(dead[2].error:find("script%.lua:%d+"), dead[2].error)
    assert.same({}, others)
  end)

  it("whose row Postgres refuses is dead-lettered alone, and the unit around it goes through", function()
    s:sql("alter table subscribers_feedback add constraint no_poison check (adv_campaign_content <> 'poison')")
    local d = s:start()
    local list = {}
    for i = 1, 40 do
      list[i] = scene.campaign { adv_campaign_id = "c" .. i, adv_campaign_content = i % 13 == 0 and "poison" or "fine" }
    end
    s:produce(list)
    s:wait_rows(3, 60, "millrace_dead")
    s:wait_rows(37 * 8, 60)
    assert.equal(0, (d:stop()))
    assert.equal(37 * 8, s:count())
    assert.equal("296", s:sql("select count(distinct (adv_campaign_id, client_id)) from subscribers_feedback"))
    local dead = s:records("select class, error, src_offset, encode(value, 'hex') as value "
      .. "from millrace_dead order by src_offset")
    assert.equal(3, #dead)
    for i, letter in ipairs(dead) do
      assert.equal("rejected", letter.class)
      assert.truthy(letter.error:find("no_poison", 1, true), letter.error)
      assert.equal(i * 13 - 1, letter.src_offset)
      assert.equal(hex(list[i * 13]), letter.value)
    end
    local seen = {}
    for _, message in ipairs(s:messages()) do seen[message.adv_campaign_id .. message.client_id] = true end
    local n = 0
    for _ in pairs(seen) do n = n + 1 end
    assert.is_true(n >= 37 * 8)
  end)

  it("is logged with its place and counted by class", function()
    local d = s:start()
    s:produce { "not json", scene.campaign() }
    s:wait_rows(8)
    s:wait_rows(1, 20, "millrace_dead")
    shell.wait(20, "the dead letter to be counted", function() return d:metric("dead", 'class="decode"') == 1 end)
    local line
    for candidate in d:log():gmatch("[^\n]+") do
      if candidate:find("decode", 1, true) and candidate:find(s.topic_in, 1, true) then line = candidate end
    end
    assert.truthy(line, "no line of the log names the class and the topic:\n" .. d:tail())
    assert.equal(0, (d:stop()))
  end)

  it("goes to a dead-letter topic instead, if the config names one", function()
    local topic = s.id .. "_dead"
    shell.run { "tests/support/topics", topic .. ":1" }
    s.promo.dead_letters = { topic = topic }
    local d = s:start()
    s:produce { scene.campaign { adv_campaign_id = "before" }, { key = "bad key", value = "not json" },
      scene.campaign { adv_campaign_id = "after" } }
    s:wait_rows(16)
    shell.wait(20, "the dead letter on the topic", function() return #s:values(topic) >= 1 end)
    assert.equal(0, (d:stop()))
    assert.same({ "bad key not json" }, s:values(topic, { "-f", "%k %s\n" }))
  end)

  it("of a Kafka null is dropped as a tombstone", function()
    local d = s:start()
    shell.run({ "kcat", "-b", os.getenv("KAFKA_BROKERS"), "-t", s.topic_in, "-P", "-K", "\t", "-Z" },
      { input = "k\t\n" })
    s:produce { scene.campaign() }
    s:wait_rows(8)
    shell.wait(20, "the tombstone to be counted", function() return d:metric("drop", 'reason="tombstone"') == 1 end)
    assert.equal(0, (d:stop()))
    assert.equal(0, s:count("millrace_dead"))
  end)
end)
