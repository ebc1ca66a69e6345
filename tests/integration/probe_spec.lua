-- A broker that accepts the offsets of a transaction and throws them away (librdkafka's mock cluster does) is refused
-- before anything is delivered, with the way out; at_least_once works with it.
local cjson = require "cjson"
local daemon = require "tests.support.daemon"
local scene = require "tests.support.scene"
local shell = require "tests.support.shell"

local mockkafka = daemon.bin:gsub("[^/]+$", "millrace-mockkafka")

describe("a broker without transactions", function()
  local s, mock
  before_each(function()
    s = scene.new { partitions = 1 }
    local name = "mock-" .. shell.serial()
    mock = shell.run({ "tests/support/spawn", name, mockkafka, s.topic_in .. ":1", s.topic_out .. ":1" })
      :match("%d+")
    local brokers
    shell.wait(20, "the mock cluster to say where it is", function()
      brokers = (shell.read(("%s/logs/%s.log"):format(shell.run_dir(), name)) or ""):match("(%S+:%d+)\n")
      return brokers
    end)
    s.brokers = brokers
    s.promo.source.kafka["bootstrap.servers"] = brokers
    s.promo.sinks.kafka.kafka["bootstrap.servers"] = brokers
  end)
  after_each(function()
    s:close()
    shell.try { "kill", mock }
  end)

  local function send()
    shell.run({ "kcat", "-b", s.brokers, "-t", s.topic_in, "-P" }, { input = scene.campaign() .. "\n" })
  end

  it("is refused for exactly_once: exit 78, a sentence that names at_least_once, nothing delivered", function()
    send()
    local d = s:start { wait = false }
    assert.equal(78, d:wait_end(60), d:tail())
    local errors = {}
    for line in d:log():gmatch("[^\n]+") do
      local entry = cjson.decode(line)
      if entry.level == "error" or entry.level == "warn" then errors[#errors + 1] = entry.message end
    end
    assert.equal(1, #errors, d:log())
    assert.truthy(errors[1]:find("throws them away", 1, true), errors[1])
    assert.truthy(errors[1]:find('delivery = "at_least_once"', 1, true), errors[1])
    assert.equal(0, s:count())
    assert.equal("0", s:sql "select coalesce(max(unit), 0) from millrace_ledger")
  end)

  it("is told from the source's cluster: one transaction cannot span two", function()
    s.promo.source.kafka["bootstrap.servers"] = os.getenv("KAFKA_BROKERS")
    local d = s:start { wait = false }
    assert.equal(78, d:wait_end(60), d:tail())
    assert.truthy(d:log():find("which one cluster must hold", 1, true), d:log())
    assert.equal(0, s:count())
  end)

  it("will do for at_least_once, also for a pipeline that was refused", function()
    send()
    assert.equal(78, s:start({ wait = false }):wait_end(60))
    s.promo.delivery = "at_least_once"
    local d = s:start()
    s:wait_rows(8)
    assert.equal(0, (d:stop()))
    assert.equal(8, s:count())
  end)
end)
