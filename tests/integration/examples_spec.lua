-- scripts/examples as delivered, on the real services: one daemon, three pipelines, both sinks of each.
local cjson = require "cjson"
local daemon = require "tests.support.daemon"
local shell = require "tests.support.shell"

local CONFIG = "scripts/examples/config.lua"
local brokers = os.getenv "KAFKA_BROKERS"

describe("the example", function()
  local d, dsn, env

  local function sql(query)
    return (shell.run { "psql", "-qXAt", "-v", "ON_ERROR_STOP=1", dsn, "-c", query }:gsub("\n$", ""))
  end

  local function rows(query)
    return cjson.decode(sql("select coalesce(json_agg(q), '[]') from (" .. query .. ") q"))
  end

  --- Sends values, as tables, to the first partition: in this order.
  local function send(topic, values)
    local lines = {}
    for i, value in ipairs(values) do lines[i] = "k\t" .. cjson.encode(value) end
    shell.run({ "kcat", "-b", brokers, "-t", topic, "-P", "-K", "\t", "-p", "0" },
      { input = table.concat(lines, "\n") .. "\n" })
  end

  --- What stands on a topic, read committed: a list of { key, value, headers }, sorted by the bytes of the value.
  local function messages(topic)
    local list = {}
    local out = shell.run { "kcat", "-b", brokers, "-t", topic, "-C", "-e", "-q", "-o", "beginning",
      "-X", "isolation.level=read_committed", "-f", "%k\t%h\t%s\n" }
    for key, headers, value in out:gmatch "([^\t\n]*)\t([^\t\n]*)\t([^\n]*)\n" do
      list[#list + 1] = { key = key, headers = headers, text = value, value = cjson.decode(value) }
    end
    table.sort(list, function(a, b) return a.text < b.text end)
    return list
  end

  local function wait(what, n, count)
    shell.wait(40, function() return ("%d %s, there are %s\n%s"):format(n, what, count(), d:tail()) end,
      function() return count() >= n end)
    assert.equal(n, count())
  end

  local function wait_rows(table_name, n)
    wait("rows in " .. table_name, n, function() return tonumber(sql("select count(*) from " .. table_name)) end)
  end

  local function dead()
    return sql "select coalesce(string_agg(class || ': ' || error, ' | '), '') from millrace_dead"
  end

  setup(function()
    local base = os.getenv "MILLRACE_PG"
    dsn = base:gsub("/promo%?", "/examples?")
    shell.run { "psql", "-qX", (base:gsub("/promo%?", "/postgres?")), "-c", "create database examples" }
    shell.run { "psql", "-qX", "-v", "ON_ERROR_STOP=1", dsn, "-f", "scripts/examples/tables.sql" }
    sql [[
      insert into price_watchers values ('tea', 'ann', 5.00), ('tea', 'bob', 3.50), ('rice', 'ann', 1.10);
      insert into sensor_limits values ('boiler', 'plant', 10, 90), ('boiler', 'insurer', null, 120)]]
    env = { MILLRACE_PG = dsn, KAFKA_BROKERS = brokers }
    local status, out, err = shell.try({ daemon.bin, "init", "-c", CONFIG, "--create-topics" }, { env = env })
    assert(status == 0, out .. err)
    status, out, err = shell.try({ daemon.bin, "check", "-c", CONFIG, "--connect" }, { env = env })
    assert(status == 0, out .. err)
    d = daemon.start { config = CONFIG, env = env, args = { "--set", "admin.listen=off" } }
    d:wait_ready()
  end)

  teardown(function() if d then d:discard() end end)

  it("price_alerts alerts those whose threshold was crossed", function()
    local list = {}
    for i, price in ipairs { 9, 5, 4.9, 3.5, 8, 5.01, 4 } do list[i] = { product_id = "tea", price = price } end
    send("prices", list)
    wait_rows("price_alerts", 3)
    assert.same({ { client_id = "ann", price = 4 }, { client_id = "ann", price = 5 },
      { client_id = "bob", price = 3.5 } }, rows "select client_id, price from price_alerts order by 1, 2")
    local alerts = {}
    for i, message in ipairs(messages "price_alerts") do
      assert.equal(message.key, message.value.client_id)
      alerts[i] = message.value.client_id .. " " .. tostring(message.value.price)
    end
    table.sort(alerts)
    assert.equal(3, #alerts)
    assert.matches("^ann 4", alerts[1])
    assert.matches("^ann 5", alerts[2])
    assert.matches("^bob 3.5", alerts[3])
  end)

  it("sensors raises an alarm for each limit that is broken", function()
    local now = os.time()
    send("readings", { { sensor_id = "boiler", value = 50, at = now }, { sensor_id = "boiler", value = 130, at = now },
      { sensor_id = "fridge", value = 1, at = now }, { sensor_id = "boiler", value = 9.5, at = now },
      { sensor_id = "boiler", value = 130, at = now - 7200 } })
    wait_rows("alarms", 3)
    assert.same({ { client = "insurer", kind = "high", bound = 120 },
      { client = "plant", kind = "high", bound = 90 }, { client = "plant", kind = "low", bound = 10 } },
      rows "select client, kind, bound from alarms order by 1, 2")
    local alarms = messages "alarms"
    assert.equal(3, #alarms)
    for _, alarm in ipairs(alarms) do
      assert.equal("boiler", alarm.key)
      assert.matches("kind=" .. alarm.value.kind, alarm.headers)
    end
  end)

  it("masking masks personal data, and sends each region to its topic", function()
    local function event(id, region)
      return { event_id = id, region = region, user = { email = "ann@example.org", phone = "+43 660 1234567" } }
    end
    send("events", { event("e1", "eu"), event("e2", "us"), event("e3", "moon"), { event_id = "no user" } })
    wait_rows("events_masked", 3)
    wait("dead letters", 1, function() return tonumber(sql "select count(*) from millrace_dead") end)
    for topic, id in pairs { events_eu = "e1", events_us = "e2", events_masked = "e3" } do
      local list = messages(topic)
      assert.equal(1, #list)
      assert.equal(id, list[1].key)
      assert.same({ email = "a***@example.org", phone = "+** *** *****67" }, list[1].value.user)
      assert.same(list[1].value, rows("select body from events_masked where event_id = '" .. id .. "'")[1].body)
    end
    assert.matches("field user: expected table, got nothing", dead())
    assert.equal(0, (d:stop()))
  end)
end)
