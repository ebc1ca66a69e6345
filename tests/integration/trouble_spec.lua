-- What a person reads when a service does not want us: who refused whom, what to do, and nothing else.
local cjson = require "cjson"
local scene = require "tests.support.scene"
local shell = require "tests.support.shell"

describe("trouble", function()
  local s

  before_each(function() s = scene.new { partitions = 1 } end)
  after_each(function() s:close() end)

  local function use_kafka(kafka)
    s.promo.source.kafka, s.promo.sinks.kafka.kafka = kafka, kafka
  end

  -- Warnings and errors of a log, as texts.
  local function complaints(started)
    local texts = {}
    for line in started:log():gmatch("[^\n]+") do
      local entry = cjson.decode(line)
      if entry.level == "warn" or entry.level == "error" then texts[#texts + 1] = entry.message end
    end
    return texts
  end

  -- Starts a daemon that must end with 78 after a single complaint, which contains all the texts.
  local function halts(options, ...)
    options.wait = false
    local started = s:start(options)
    assert.equal(78, started:wait_end(30), started:tail())
    local texts = complaints(started)
    assert.equal(1, #texts, started:log())
    for _, text in ipairs { ... } do
      assert.truthy(texts[1]:find(text, 1, true), texts[1])
    end
    return texts[1]
  end

  it("with the Kafka password: exit 78, naming the principal and not the password", function()
    use_kafka(scene.sasl_kafka())
    local text = halts({ env = { KAFKA_PASSWORD = "not-the-password" } }, 'refused the login of user "promo"',
      os.getenv("KAFKA_SASL_BROKERS"), "check sasl.username, sasl.password and sasl.mechanisms")
    assert.is_nil(text:find("not-the-password", 1, true), text)
    local status, _, err = shell.try({ require("tests.support.daemon").bin, "check", "--connect", "-c",
      s:write_config() }, { env = { KAFKA_PASSWORD = "not-the-password" } })
    assert.equal(78, status, err)
    assert.truthy(err:find('refused the login of user "promo"', 1, true), err)
  end)

  it("with a certificate that is not trusted: exit 78, naming ssl.ca.location", function()
    local kafka = scene.sasl_kafka()
    kafka["ssl.ca.location"] = s.dir .. "/other.crt"
    shell.run { "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", s.dir .. "/other.key",
                "-out", kafka["ssl.ca.location"], "-subj", "/CN=other", "-days", "2" }
    use_kafka(kafka)
    halts({}, "could not be trusted", "check ssl.ca.location and the host name")
  end)

  it("with tables of Millrace that are missing: exit 78, naming `millrace init`", function()
    halts({ init = false }, "millrace_meta", "run `millrace init`")
  end)

  it("with the right to the lookup's table: exit 78, naming the table", function()
    local role = s.id .. "_weak"
    s:init()
    s:sql(("create role %s login password 'x'; grant select, insert, update on millrace_meta, millrace_ledger, "
      .. "millrace_dead, subscribers_feedback to %s; grant select, insert, delete on millrace_redo to %s; "
      .. "grant usage on all sequences in schema public to %s")
      :format(role, role, role, role))
    local dsn = s.dsn:gsub("//millrace@", "//" .. role .. "@")
    s.config.lookups.subscribers.dsn, s.promo.sinks.postgres.dsn = dsn, dsn
    halts({ init = false, env = { PGPASSWORD = "x" } }, "may not read public.subscribers_restaurants",
      "GRANT SELECT ON public.subscribers_restaurants TO " .. role)
  end)

  it("with Postgres away: one line for each that wants it, then nothing until it changes", function()
    local nowhere = "postgresql://u@127.0.0.1:1/promo"
    s.config.lookups.subscribers.dsn, s.promo.sinks.postgres.dsn = nowhere, nowhere
    local started = s:start { init = false, wait = false }
    shell.wait(20, "five attempts", function() return (started:metric("lookup_load_failures") or 0) >= 5 end)
    assert.equal(2, #complaints(started), started:log())
    assert.equal(503, (started:get("/readyz")))
    assert.equal(200, (started:get("/livez")))
    assert.equal(0, (started:stop()))
  end)

  for _, side in ipairs { "input", "output" } do
    it("with an " .. side .. " topic that is missing: says how to make it, begins when it is there", function()
      local topic = s.id .. "_late"
      if side == "input" then
        s.promo.source.topics, s.topic_in = { topic }, topic
      else
        s.promo.sinks.kafka.topic, s.topic_out = topic, topic
      end
      local started = s:start { wait = false }
      started:wait_log("topic " .. topic .. " does not exist")
      assert.truthy(complaints(started)[1]:find("millrace init --create-topics", 1, true), started:log())
      assert.equal(503, (started:get("/readyz")))
      shell.run { "tests/support/topics", topic .. ":1" }
      started:wait_ready(60)
      s:produce { scene.campaign() }
      s:wait_rows(8)
      assert.equal(0, (started:stop()))
    end)
  end

  it("with input that retention deleted unread: halts with the command that resolves it", function()
    local started = s:start()
    s:produce { scene.campaign() }
    s:wait_rows(8)
    assert.equal(0, (started:stop()))
    s:produce { scene.campaign(), scene.campaign() }
    local path = s.dir .. "/delete.json"
    shell.write(path, cjson.encode { version = 1, partitions = { { topic = s.topic_in, partition = 0, offset = 2 } } })
    shell.run { "tests/support/kafka", "delete-records", path }
    local again = s:start { wait = false }
    assert.equal(65, again:wait_end(40), again:tail())
    local texts = complaints(again)
    assert.equal(1, #texts, again:log())
    local says = s.topic_in .. "/0 of group " .. s.id .. ": messages 1 to 1 were deleted by retention"
    assert.truthy(texts[1]:find(says, 1, true), texts[1])
    local words = {}
    for word in texts[1]:match("run: millrace (repair [^;]*)"):gmatch("%S+") do words[#words + 1] = word end
    local status, out, err = s:cli(table.unpack(words))
    assert.equal(0, status, out .. err)
    s:start()
    s:wait_rows(16)
    assert.equal(16, s:count())
  end)
end)
