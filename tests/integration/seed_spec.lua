-- The first user's job, end to end, with kcat on both sides: the example message over a plain listener with
-- the config.lua of the source tree, and over SASL_SSL with SCRAM-SHA-512 and a private certificate authority.
local cjson = require "cjson"
local daemon = require "tests.support.daemon"
local scene = require "tests.support.scene"
local shell = require "tests.support.shell"

local campaign = shell.read("tests/support/seed-campaign.txt")
local fields = {
  restaurant_id = "123e4567-e89b-12d3-a456-426614174000",
  adv_campaign_id = "123e4567-e89b-12d3-a456-426614174003",
  adv_campaign_content = "first campaign",
  adv_campaign_owner = "Ivanov Ivan Ivanovich",
  adv_campaign_owner_contact = "iiivanov@restaurant_id",
  adv_campaign_datetime_start = 1659203516,
  adv_campaign_datetime_end = 2659207116,
  datetime_created = 1659131516,
}

local function clients()
  local list = {}
  for digit in ("02345678"):gmatch(".") do list[#list + 1] = digit .. "23e4567-e89b-12d3-a456-426614174000" end
  return list
end

-- The eight fields, the client, the time of the trigger; `extra` are the fields that a row has besides.
local function check_outputs(list, since, extra)
  assert.equal(8, #list)
  for i, client in ipairs(clients()) do
    local out = list[i]
    assert.equal(client, out.client_id)
    for name, value in pairs(fields) do assert.equal(value, out[name], name) end
    assert.is_true(out.trigger_datetime_created >= since and out.trigger_datetime_created <= os.time() + 1)
    local count = 0
    for _ in pairs(out) do count = count + 1 end
    assert.equal(10 + extra, count)
  end
end

local function check_rows(s, since)
  local rows = s:records("select * from subscribers_feedback order by client_id")
  check_outputs(rows, since, 2) -- id and feedback
  for _, row in ipairs(rows) do assert.equal("", row.feedback) end
end

-- cjson reads 1.0 and 1 alike; the text shows what was written.
local function check_text(values)
  for _, text in ipairs(values) do
    for _, name in ipairs { "adv_campaign_datetime_start", "adv_campaign_datetime_end", "datetime_created" } do
      assert.truthy(text:find(('"%s":%d[,}]'):format(name, fields[name])), text)
    end
    assert.truthy(text:find('"trigger_datetime_created":%d+[,}]'), text)
  end
end

describe("the seed's example", function()
  local s
  before_each(function() s = scene.new() end)
  after_each(function() s:close() end)

  it("gives 8 messages and 8 rows with the config.lua of the source tree", function()
    shell.run { "tests/support/topics", "topic_in:2", "topic_out:2" }
    local env = { MILLRACE_PG = s.dsn }
    assert.equal(0, (shell.try({ daemon.bin, "init", "-c", "config.lua" }, { env = env })))
    local d = daemon.start { config = "config.lua", env = env }
    s.daemons[1] = d
    d:wait_ready()
    local since = os.time()
    shell.run({ "kcat", "-b", os.getenv("KAFKA_BROKERS"), "-t", "topic_in", "-K:", "-P" }, { input = campaign })
    s:wait_rows(8)
    assert.equal(0, (d:stop()))

    local values = s:values("topic_out")
    check_text(values)
    local messages = {}
    for i, value in ipairs(values) do messages[i] = cjson.decode(value) end
    table.sort(messages, function(a, b) return a.client_id < b.client_id end)
    check_outputs(messages, since, 0)
    check_rows(s, since)
  end)

  it("gives the same over SASL_SSL, produced and read by kcat", function()
    s.promo.source.kafka = scene.sasl_kafka()
    s.promo.sinks.kafka.kafka = scene.sasl_kafka()
    local d = s:start()
    local since = os.time()
    local client = { "kcat", "-b", os.getenv("KAFKA_SASL_BROKERS"), "-X", "security.protocol=SASL_SSL",
      "-X", "sasl.mechanisms=SCRAM-SHA-512", "-X", "sasl.username=" .. os.getenv("KAFKA_USER"),
      "-X", "sasl.password=" .. os.getenv("KAFKA_PASSWORD"), "-X", "ssl.ca.location=" .. os.getenv("KAFKA_CA") }
    local produce = table.move({ "-t", s.topic_in, "-K:", "-P" }, 1, 4, #client + 1, { table.unpack(client) })
    shell.run(produce, { input = campaign })
    s:wait_rows(8)
    assert.equal(0, (d:stop()))

    local words = { "-t", s.topic_out, "-C", "-e", "-q", "-o", "beginning", "-X", "isolation.level=read_committed" }
    local messages = {}
    for line in shell.run(table.move(words, 1, #words, #client + 1, { table.unpack(client) })):gmatch("[^\n]+") do
      messages[#messages + 1] = cjson.decode(line)
    end
    table.sort(messages, function(a, b) return a.client_id < b.client_id end)
    check_outputs(messages, since, 0)
    check_rows(s, since)
  end)

  it("is keyed by the client, as the script says", function()
    local d = s:start()
    s:produce { { key = "first_message", value = campaign:match("^first_message:(.*)\n") } }
    s:wait_rows(8)
    assert.equal(0, (d:stop()))
    for _, line in ipairs(s:values(nil, { "-f", "%k %s\n" })) do
      local key, value = line:match("^(%S+) (.*)$")
      assert.equal(cjson.decode(value).client_id, key)
    end
  end)
end)
