-- The command line: which commands and options there are, what is said of wrong ones, what goes where.
-- Nothing here needs Kafka or Postgres; with them: tests/integration/cli_spec.lua.
local cjson = require "cjson"
local shell = require "tests.support.shell"

local bin = assert(os.getenv("MILLRACE_BIN"), "MILLRACE_BIN names the program")
local root = shell.run("pwd"):gsub("%s+$", "")
local COMMANDS = { "run", "check", "init", "try", "audit", "repair", "test", "config", "version", "help" }

local CONFIG = [[
return {
  lookups = { l = { dsn = "host=127.0.0.1 port=1 dbname=x", table = "t", key = "k" } },
  pipelines = { p = {
    source = { topics = "in", group = "g", kafka = { ["bootstrap.servers"] = "127.0.0.1:1" } },
    lookup = "l",
    script = "s.lua",
    sinks = { postgres = { dsn = "host=127.0.0.1 port=1 dbname=x", table = "t" } },
  } },
}
]]
local SCRIPT = [[
local s = {}
function s.key(msg) return msg.id end
function s.project(msg, col) return { id = msg.id, a = col.a } end
return s
]]
local dir

local function millrace(...)
  return shell.try({ bin, ... }, { dir = dir })
end

local function usage_error(sentence, ...)
  local status, out, err = millrace(...)
  assert.equal("millrace" .. sentence .. "\n", err)
  assert.equal("", out)
  assert.equal(64, status)
end

setup(function()
  dir = shell.temp(".d")
  shell.run { "mkdir", dir }
end)

before_each(function()
  shell.write(dir .. "/config.lua", CONFIG)
  shell.write(dir .. "/s.lua", SCRIPT)
end)

describe("help", function()
  it("shows examples first, for each command, on stdout", function()
    for _, command in ipairs(COMMANDS) do
      local status, page, err = millrace("help", command)
      assert.equal("", err)
      assert.equal(0, status)
      assert.truthy(page:find("^Usage: millrace " .. command .. "[^\n]*\n\nExamples\n  millrace " .. command), page)
      for line in page:gmatch("[^\n]+") do assert.is_true(#line <= 100, line) end
      assert.equal(page, (select(2, millrace(command, "--help"))))
      assert.equal(page, (select(2, millrace(command, "-h"))))
    end
  end)

  it("without a command names all of them", function()
    local status, page = millrace("help")
    assert.equal(0, status)
    for _, command in ipairs(COMMANDS) do assert.truthy(page:find("\n  " .. command .. " +%l", 1), command) end
    assert.equal(page, (select(2, millrace("--help"))))
    assert.equal(page, (select(2, millrace("-h"))))
    local bare, out, err = millrace()
    assert.equal(64, bare)
    assert.equal("", out)
    assert.equal(page, err)
  end)

  it("names each option that a command takes", function()
    local takes = { check = { "connect", "json" }, init = { "print", "create-topics", "partitions", "replication" },
                    config = { "json", "docs" }, version = { "json" }, run = {}, help = {} }
    for command, options in pairs(takes) do
      local _, page = millrace("help", command)
      if command ~= "version" and command ~= "help" then
        options = { "config", "set", table.unpack(options) }
      end
      local shown = {}
      for name in page:gmatch("\n  [^\n]-%-%-([%l-]+)[^\n]*") do shown[name] = true end
      for _, name in ipairs(options) do assert.truthy(shown[name], command .. " --" .. name) end
    end
  end)
end)

describe("version", function()
  it("prints ours and those of the libraries", function()
    local status, out = millrace("version")
    assert.equal(0, status)
    assert.truthy(out:find("^millrace %d+%.%d+%.%d+\n"), out)
    for _, library in ipairs { "librdkafka", "libpq", "lua", "simdjson", "libmicrohttpd", "xxhash", "mimalloc" } do
      assert.truthy(out:find("\n  " .. library .. " +%d+%.%d+"), library .. " is not in " .. out)
    end
    assert.equal(out, (select(2, millrace("--version"))))
    local versions = cjson.decode((select(2, millrace("version", "--json"))))
    assert.equal(out:match("^millrace (%S+)"), versions.millrace)
    assert.equal(out:match("lua +(%S+)"), versions.lua)
  end)
end)

describe("a wrong command line is one sentence and 64:", function()
  it("an unknown command", function()
    usage_error([[: there is no command "chek"; did you mean "check"? (millrace help)]], "chek")
    usage_error([[: there is no command "frobnicate" (millrace help)]], "frobnicate")
    usage_error([[: expected a command before "-c", such as `millrace run` (millrace help)]], "-c", "x.lua")
    usage_error([[ help: there is no command "rum"; did you mean "run"?]], "help", "rum")
    usage_error([[ help: there is no command "frobnicate"]], "help", "frobnicate")
  end)

  it("an unknown option", function()
    usage_error(" check: there is no option --conect; did you mean --connect? (millrace help check)", "check",
      "--conect")
    usage_error(" config: there is no option --connect (millrace help config)", "config", "--connect")
    usage_error(" run: there is no option -x (millrace help run)", "run", "-x")
    usage_error(" run: there is no option --follow (millrace help run)", "run", "--set", "a=b", "--follow")
  end)

  it("a value too few or too many", function()
    usage_error(" check: the option -c wants a value (millrace help check)", "check", "-c")
    usage_error(" run: the option --set wants a value (millrace help run)", "run", "-c", "x", "--set")
    usage_error(" check: the option --json takes no value (millrace help check)", "check", "--json=1")
    usage_error(' check: "foo" is one word too many (millrace help check)', "check", "foo")
    usage_error(' help: "check" is one word too many (millrace help help)', "help", "run", "check")
    usage_error(' init: --partitions: expected a number from 1 to 100000, got "0"', "init", "--partitions", "0")
    usage_error(' init: --replication: expected a number from 1 to 1000, got "3x"', "init", "--replication=3x")
    usage_error(' repair: --partition: expected a number from 0 to 100000, got "-1"', "repair", "--partition", "-1")
    usage_error(" audit: there is no option --take (millrace help audit)", "audit", "--take", "kafka")
    usage_error(' audit: "twice" is one word too many (millrace help audit)', "audit", "promo", "twice")
  end)
end)

describe("check", function()
  it("reads the configuration and the scripts", function()
    local status, out, err = millrace("check")
    assert.equal("", err)
    assert.equal(([[
ok     config.lua: read
ok     pipelines.p.script: %s/s.lua
config.lua: no errors
]]):format(dir), out)
    assert.equal(0, status)
  end)

  it("names what is wrong with a script, and goes on", function()
    shell.write(dir .. "/s.lua", SCRIPT:gsub("s.project", "s.projekt"))
    local status, out, err = millrace("check")
    assert.equal(78, status)
    assert.equal("ok     config.lua: read\n", out)
    assert.truthy(err:find("^error  pipelines%.p%.script: .*projekt"), err)
    assert.truthy(err:find("\nconfig.lua: 1 error\n", 1, true), err)
  end)

  it("counts the errors of a configuration", function()
    local status, out, err = millrace("check", "--set", "pipelines.p.workers=0", "--set", "log.level=x")
    assert.equal(78, status)
    assert.equal("", out)
    assert.equal([[
--set:1:21: error: pipelines.p.workers: 0 is out of range: expected 1 to 64
    1 | pipelines.p.workers=0
      |                     ^
--set:2:11: error: log.level: expected one of "debug", "info", "warn", "error", got "x"
    2 | log.level=x
      |           ^
config.lua: 2 errors
]], err)
  end)

  it("gives findings as JSON, and nothing else on stdout", function()
    local status, out, err = millrace("check", "--json")
    assert.equal("", err)
    assert.equal(0, status)
    local null = cjson.null
    local function finding(all)
      for _, name in ipairs { "code", "where", "file", "line", "column", "hint" } do
        if all[name] == nil then all[name] = null end
      end
      return all
    end
    assert.same({ ok = true, findings = {
      finding { severity = "ok", where = "config.lua", message = "read" },
      finding { severity = "ok", where = "pipelines.p.script", message = dir .. "/s.lua" },
    } }, cjson.decode(out))
    status, out, err = millrace("check", "--json", "--set", "pipelines.p.worker=0", "--set", 'log.level="')
    assert.equal("", err)
    assert.equal(78, status)
    assert.same({ ok = false, findings = {
      finding { severity = "error", code = "config", where = "pipelines.p.worker", file = "--set", line = 1,
        column = 13, message = 'there is no such option; did you mean "workers"?', hint = 'did you mean "workers"?' },
      finding { severity = "error", code = "config", where = "log.level", file = "--set", line = 2, column = 11,
        message = 'expected one of "debug", "info", "warn", "error", got "\\""' },
    } }, cjson.decode(out))
  end)

  it("with --connect says all that cannot be reached, and checks the scripts nevertheless", function()
    local status, out, err = millrace("check", "--connect", "--json")
    assert.equal("", err)
    assert.equal(69, status)
    local well = {}
    for _, finding in ipairs(cjson.decode(out).findings) do well[finding.where] = finding.severity == "ok" end
    assert.same({ ["config.lua"] = true, ["lookups.l"] = false, ["pipelines.p.source"] = false,
                  ["pipelines.p.sinks.postgres"] = false, ["pipelines.p.script"] = true }, well)
  end)
end)

describe("init", function()
  it("prints the SQL, and connects to nothing", function()
    local status, out, err = millrace("init", "--print")
    assert.equal("", err)
    assert.equal(0, status)
    assert.truthy(out:find("^%-%- for pipelines%.p%.sinks%.postgres\n"), out)
    for _, name in ipairs { "millrace_meta", "millrace_ledger", "millrace_redo", "millrace_dead" } do
      assert.truthy(out:lower():find("create table[^;]*" .. name), name .. " is not in " .. out)
    end
  end)

  it("says what it cannot reach", function()
    local status, out, err = millrace("init")
    assert.equal(69, status)
    assert.equal("", out)
    assert.truthy(err:find("millrace init: pipelines.p.sinks.postgres: ", 1, true), err)
  end)
end)

describe("the program", function()
  it("loads the configuration in the root of the tree", function()
    local status, out, err = shell.try({ bin, "check" }, { dir = root })
    assert.equal(0, status, out .. err)
  end)

  it("refuses a wrong configuration in each command that reads one, with the same words", function()
    shell.write(dir .. "/config.lua", "return { lgo = 1 }\n")
    local said
    for _, command in ipairs { "run", "init", "config", "check" } do
      local status, out, err = millrace(command)
      assert.equal(78, status, command)
      assert.equal("", out)
      if command == "check" then err = err:gsub("config.lua: 2 errors\n$", "") end
      said = said or err
      assert.equal(said, err)
    end
  end)

  it("says so when its output cannot be written", function()
    local status, _, err = shell.try("'" .. bin .. "' help >/dev/full")
    assert.equal(69, status)
    assert.equal("millrace: the output could not be written\n", err)
  end)

  it("leaves no core behind, since memory holds passwords", function()
    local log = dir .. "/log"
    local line = "cd '%s' && { ulimit -c unlimited; '%s' run --set admin.listen=off >'%s' 2>&1 & } && echo $!"
    local pid = shell.run(line:format(dir, bin, log)):match("%d+")
    shell.wait(30, "the daemon's first line", function() return (shell.read(log) or ""):find("starting", 1, true) end)
    local limits = shell.read("/proc/" .. pid .. "/limits")
    os.execute("kill -KILL " .. pid)
    assert.truthy(limits:find("\nMax core file size +1 +1 "), limits)
  end)
end)
