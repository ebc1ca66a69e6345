-- The daemon's manners: commands and their exit codes, the admin port, stopping, secrets.
local daemon = require "tests.support.daemon"
local scene = require "tests.support.scene"
local shell = require "tests.support.shell"

describe("the daemon", function()
  local s
  before_each(function() s = scene.new() end)
  after_each(function() s:close() end)

  it("answers on the admin port", function()
    local d = s:start()
    assert.equal(200, (d:get("/livez")))
    local code, body = d:get("/readyz?verbose")
    assert.equal(200, code)
    assert.is_true(#body > 0)
    code, body = d:get("/metrics")
    assert.equal(200, code)
    assert.truthy(body:find("# TYPE millrace_", 1, true))
    assert.equal(404, (d:get("/nothing")))
    assert.equal(0, (d:stop()))
  end)

  it("whose admin port is taken ends with an error that names the option", function()
    local first = s:start()
    local listen, port = first:address():match("http://(.*:(%d+))$")
    local second = s:start { wait = false, env = { MILLRACE_ADMIN = listen } }
    assert.is_true(second:wait_end(20) ~= 0)
    assert.truthy(second:log():find("admin.listen", 1, true), second:log())
    assert.truthy(second:log():find(port, 1, true), second:log())
    assert.equal(0, (first:stop()))
  end)

  it("drains at SIGTERM within drain_timeout, in the middle of work", function()
    s:subscribers(2, 20000)
    s.promo.drain_timeout = "10s"
    local d = s:start()
    s:produce(s:campaigns(20, 2))
    s:wait_rows(1)
    local status, seconds = d:stop(30)
    assert.equal(0, status)
    assert.is_true(seconds < 11, ("it took %.1f s"):format(seconds))
    d = s:start()
    s:wait_rows(400000, 120)
    assert.equal(0, (d:stop()))
    local ok, report = s:exact(20, 20000, true)
    assert.is_true(ok, report)
  end)

  it("that is stopped while it still reads its configuration ends in peace", function()
    s:start():stop()
    local path = s:write_config()
    shell.write(path, "for _ = 1, 10000000 do end\n" .. shell.read(path))
    local early
    for _ = 1, 5 do
      local d = daemon.start { config = path }
      s.daemons[#s.daemons + 1] = d
      d:wait_signals()
      early = not d:log():find("starting", 1, true)
      assert.equal(0, (d:stop()))
      if early then break end
    end
    assert.is_true(early, "the signals were kept only after the configuration had been read")
  end)

  it("creates its tables, twice without harm, and leaves the user's tables alone", function()
    local function user_tables()
      return s:sql("select table_name, column_name, data_type, column_default, is_nullable "
        .. "from information_schema.columns where table_name like 'subscribers%' order by 1, ordinal_position")
        .. s:sql("select * from subscribers_restaurants order by id") .. s:sql("select relname, relreplident "
        .. "from pg_class where relname like 'subscribers%' order by 1") .. s:sql("select tgname from pg_trigger")
    end
    local function own_tables()
      return s:sql("select table_name, column_name, data_type from information_schema.columns "
        .. "where table_name like 'millrace%' order by 1, ordinal_position")
    end
    local before = user_tables()
    s:init()
    local own, id = own_tables(), s:sql("select ledger_id from millrace_meta")
    assert.truthy(own:find("millrace_ledger", 1, true))
    assert.truthy(own:find("millrace_dead", 1, true))
    s:init()
    assert.equal(own, own_tables())
    assert.equal(id, s:sql("select ledger_id from millrace_meta"))
    assert.equal(before, user_tables())
    local status, out = s:cli("init", "--print")
    assert.equal(0, status)
    assert.truthy(out:lower():find("create table", 1, true))
  end)

  it("without its tables says that `millrace init` makes them", function()
    local d = s:start { init = false, wait = false }
    d:wait_log("millrace init")
    if not d:status() then d:signal("TERM") end
    d:wait_end(40)
  end)

  it("checks a config, also against the services", function()
    local status, out, err = s:cli("check")
    assert.equal(0, status, out .. err)
    assert.truthy(shell.run { daemon.bin, "version" }:find("%d+%.%d+%.%d+"))
    assert.truthy(shell.run { daemon.bin, "help" }:find("millrace run", 1, true))
    status, out = s:cli("config")
    assert.equal(0, status)
    assert.truthy(out:find(s.topic_in, 1, true))
    assert.equal(64, (shell.try { daemon.bin, "nonsense" }))
  end)

  it("refuses a bad config with all errors at once, each with file, line and column", function()
    local path = s.dir .. "/bad.lua"
    shell.write(path, ([[
return {
  pipelnes = {},
  log = { level = 7 },
  pipelines = {
    promo = { source = { topics = { "t" }, group = "g", kafka = { ["bootstrap.serverz"] = "x" } },
              script = "%s/scripts/promo.lua", workers = 0 },
  },
}
]]):format(shell.run("pwd"):gsub("%s+$", "")))
    for _, command in ipairs { "check", "run" } do
      local status, out, err = shell.try { daemon.bin, command, "-c", path }
      assert.equal(78, status, out .. err)
      assert.truthy(err:find("bad%.lua:2:%d+:"), err)
      assert.truthy(err:find("bad%.lua:3:%d+:"), err)
      assert.truthy(err:find("bad%.lua:5:%d+:"), err)
      assert.truthy(err:find("bad%.lua:6:%d+:"), err)
      assert.truthy(err:find("pipelines", 1, true), err)
      assert.truthy(err:find("bootstrap.servers", 1, true), err)
    end
  end)

  it("refuses a script that holds campaigns, until that exists", function()
    local script = shell.read("scripts/promo.lua")
      :gsub("return promo%s*$", "function promo.hold_until(msg) return msg.adv_campaign_datetime_start end\n%0")
    s:script(script)
    local status, _, err = s:cli("check")
    assert.equal(78, status, err)
    assert.truthy(err:find("hold_until", 1, true), err)
  end)

  it("takes options from the command line", function()
    local d = s:start { args = { "--set", "pipelines.promo.workers=2", "--set", "log.level=debug" } }
    s:produce(s:campaigns(10, 1))
    shell.wait(30, "two owners in the ledger", function()
      return s:sql("select count(distinct owner) from millrace_ledger") == "2"
    end)
    assert.equal(0, (d:stop()))
  end)

  it("never shows a secret", function()
    local kafka_secret, pg_secret = os.getenv("KAFKA_PASSWORD"), os.getenv("PGPASSWORD")
    s.promo.source.kafka = scene.sasl_kafka()
    s.promo.sinks.kafka.kafka = scene.sasl_kafka()
    local dsn = s.dsn_tcp:gsub("millrace@", "millrace:" .. pg_secret .. "@")
    s.promo.sinks.postgres.dsn = dsn
    s.config.lookups.subscribers.dsn = dsn
    s.config.log.level = "debug"
    local d = s:start()
    s:produce { scene.campaign(), "not json" }
    s:wait_rows(8)
    local shown = { d:log() }
    for _, path in ipairs { "/metrics", "/readyz?verbose" } do shown[#shown + 1] = select(2, d:get(path)) end
    for _, command in ipairs { "check", "config", "init" } do
      local status, out, err = s:cli(command)
      assert.equal(0, status, out .. err)
      shown[#shown + 1] = out .. err
      if command == "config" then assert.truthy(out:find("***", 1, true), out) end
    end
    shown[#shown + 1] = shell.read(("/proc/%d/cmdline"):format(d.pid))
    assert.equal(0, (d:stop()))
    shown[#shown + 1] = d:log()
    s.promo.sinks.postgres.dsn = dsn:gsub("/" .. s.id, "/nosuch")
    for _, command in ipairs { "check", "init" } do
      local _, out, err = s:cli(command)
      shown[#shown + 1] = out .. err
    end
    for _, text in ipairs(shown) do
      for _, secret in ipairs { kafka_secret, pg_secret } do
        local at = text:find(secret, 1, true)
        assert.is_nil(at, at and "a secret is shown: " .. text:sub(math.max(1, at - 200), at + #secret))
      end
    end
  end)
end)
