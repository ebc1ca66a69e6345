-- config.lua: what is accepted, what is said of what is not, where the caret stands, and what is never shown.
-- Everything goes through the program: `millrace config` prints what is in force or what is wrong.
-- luacheck: no max string line length
local cjson = require "cjson"
local shell = require "tests.support.shell"

local bin = assert(os.getenv("MILLRACE_BIN"), "MILLRACE_BIN names the program")
local root = shell.run("pwd"):gsub("%s+$", "")
local dir

-- The least that is a configuration.
local LEAST = [[
return {
  pipelines = { p = {
    source = { topics = "in", group = "g", kafka = { ["bootstrap.servers"] = "h:1" } },
    script = "s.lua",
    sinks = { postgres = { dsn = "dbname=x", table = "t" } },
  } },
}
]]

local function replace(text, from, to)
  local first, last = text:find(from, 1, true)
  assert(first, "not there: " .. from)
  return text:sub(1, first - 1) .. to .. text:sub(last + 1)
end

--- LEAST with more options for the pipeline.
local function with(options)
  return replace(LEAST, '"s.lua",', '"s.lua", ' .. options)
end

-- LEAST with a Kafka sink; both take their properties from a local table k.
local TWICE = replace(replace(LEAST, '{ ["bootstrap.servers"] = "h:1" }', "k"), "sinks = {",
  'sinks = { kafka = { topic = "o", kafka = k },')

--- The whole configuration around these top-level options.
local function top(options)
  return replace(LEAST, "return {", "return { " .. options)
end

--- millrace COMMAND -c config.lua [arguments], in a clean environment: status, stdout, stderr.
local function millrace(command, text, arguments, env)
  shell.write(dir .. "/config.lua", text)
  local words = { "env", "-i", "PATH=" .. os.getenv("PATH"), "HOME=" .. dir, "ASAN_OPTIONS=detect_leaks=1" }
  for name, value in pairs(env or {}) do words[#words + 1] = name .. "=" .. value end
  for _, word in ipairs { bin, command, "-c", "config.lua" } do words[#words + 1] = word end
  for _, word in ipairs(arguments or {}) do words[#words + 1] = word end
  return shell.try(words, { dir = dir })
end

local function errors_of(text, sets, env)
  local arguments = {}
  for _, set in ipairs(sets or {}) do
    arguments[#arguments + 1] = "--set"
    arguments[#arguments + 1] = set
  end
  local status, out, err = millrace("config", text, arguments, env)
  assert.equal(78, status, out)
  assert.equal("", out)
  return err
end

--- The configuration in force, as a table (from the JSON).
local function loaded(text, sets, env)
  local arguments = { "--json" }
  for _, set in ipairs(sets or {}) do
    arguments[#arguments + 1] = "--set"
    arguments[#arguments + 1] = set
  end
  local status, out, err = millrace("config", text, arguments, env)
  assert.equal("", err)
  assert.equal(0, status)
  return cjson.decode(out)
end

--- Only the first lines of the errors.
local function sentences(text, sets, env)
  local found = {}
  for line in errors_of(text, sets, env):gmatch("[^\n]+") do
    if line:find(": error: ", 1, true) then found[#found + 1] = line end
  end
  return found
end

setup(function()
  dir = shell.temp(".d")
  shell.run { "mkdir", dir }
  shell.write(dir .. "/s.lua", "return {}\n")
end)

describe("a configuration", function()
  it("is filled with defaults", function()
    local config = loaded(LEAST, nil, { MILLRACE_INSTANCE = "here" })
    assert.same({
      instance = "here",
      reload = { rehearse = 200 },
      log = { level = "info", format = "auto" },
      admin = { listen = "127.0.0.1:9469" },
      lookups = {},
      pipelines = { p = {
        source = { topics = { "in" }, group = "g", start = "earliest", static_membership = false,
                   kafka = { ["bootstrap.servers"] = "h:1" } },
        script = dir .. "/s.lua",
        workers = 1, linger = config.pipelines.p.linger, drain_timeout = "10s", max_message = "1MB",
        limits = { time = "1s", memory = "64MB", output = "16MB" },
        unit = { outputs = 20000, bytes = "7MB" },
        sinks = { postgres = { dsn = "dbname=x", table = "t" } },
        delivery = "exactly_once",
        dead_letters = { table = "millrace_dead" },
      } },
    }, config)
  end)

  it("is named after the host unless the environment says otherwise", function()
    local host = shell.run("uname -n"):gsub("%s+$", "")
    assert.equal(host, loaded(LEAST).instance)
    assert.equal(host, loaded(LEAST, nil, { MILLRACE_INSTANCE = "" }).instance)
    assert.equal("here", loaded(LEAST, nil, { MILLRACE_INSTANCE = "here" }).instance)
    assert.equal("there", loaded(top 'instance = "there",', nil, { MILLRACE_INSTANCE = "here" }).instance)
  end)

  it("prints as Lua that reads back as the same", function()
    local text = replace(with [[workers = 3, vars = { a = { 1, 2.5, "x\ny" }, b = { c = true, ["end"] = "é" }, d = 1e300,
      e = math.mininteger },
      linger = "1500ms", max_message = "1536B", drain_timeout = "9m", limits = { time = "90s" },]],
      "pipelines =", 'lookups = { l = { dsn = "host=h", table = "a.b", key = { "x", "y" }, '
      .. 'refresh = "reload 300s" } }, pipelines =')
    local _, printed = millrace("config", text)
    local status, again, err = millrace("config", printed)
    assert.equal("", err)
    assert.equal(0, status)
    assert.equal((printed:gsub("%s+%-%- default", "")), (again:gsub("%s+%-%- default", "")))
    assert.same(loaded(text), loaded(printed))
    for _, line in ipairs { 'linger = "1500ms"', 'max_message = "1536B"', 'drain_timeout = "9m"', 'time = "90s"',
                            'refresh = "reload 5m"', "workers = 3,\n", '["end"] = "é"', "2.5", "1e+300" } do
      assert.truthy(printed:find(line, 1, true), line .. " is not in\n" .. printed)
    end
  end)

  it("marks defaults", function()
    local _, out = millrace("config", with "workers = 1,")
    assert.truthy(out:find("\n      workers = 1,\n", 1, true), out)
    assert.truthy(out:find('\n      drain_timeout = "10s",  -- default\n', 1, true), out)
    assert.truthy(out:find('\n      dead_letters = {\n        table = "millrace_dead",  -- default\n', 1, true), out)
  end)

  it("is read from the file in the root of the tree as it is", function()
    local status, out, err = shell.try({ "env", "-i", "PATH=" .. os.getenv("PATH"), bin, "config", "-c", "config.lua" },
      { dir = root })
    assert.equal("", err)
    assert.equal(0, status)
    for _, line in ipairs { 'dsn = "postgresql:///promo"', 'topic = "topic_out"', 'refresh = "auto"',
                            '["bootstrap.servers"] = "localhost:9092"', 'delivery = "exactly_once"' } do
      assert.truthy(out:find(line, 1, true), line .. " is not in\n" .. out)
    end
  end)

  it("has numbers and booleans also as text, since env gives text", function()
    local text = replace(with 'workers = env("W"),', "sinks = {", 'sinks = { kafka = { topic = "o", bundle_header = '
      .. 'env("B"), kafka = { ["bootstrap.servers"] = "h:1", ["linger.ms"] = 5, '
      .. '["socket.keepalive.enable"] = true } },')
    local p = loaded(text, nil, { W = "4", B = "false" }).pipelines.p
    assert.equal(4, p.workers)
    assert.is_false(p.sinks.kafka.bundle_header)
    assert.same({ ["bootstrap.servers"] = "h:1", ["linger.ms"] = "5", ["socket.keepalive.enable"] = "true" },
      p.sinks.kafka.kafka)
  end)

  it("takes dead letters to a topic, and none but the topic", function()
    local p = loaded(with 'dead_letters = { topic = "dead" },').pipelines.p
    assert.same({ topic = "dead" }, p.dead_letters)
  end)

  it("may say that there is no admin port", function()
    assert.equal("off", loaded(top 'admin = { listen = "off" },').admin.listen)
    assert.equal("", loaded(top 'admin = { listen = "" },').admin.listen)
  end)

  it("finds scripts beside itself, wherever it is called from", function()
    shell.write(dir .. "/config.lua", LEAST)
    local _, out = shell.try({ bin, "config", "-c", dir .. "/config.lua" }, { dir = "/" })
    assert.truthy(out:find(dir .. "/s.lua", 1, true), out)
  end)
end)

-- name, text, what is said of it. In the text, `with` and `top` say what differs from LEAST.
local CASES = {
  { "an unknown option", with "worker = 2,", [[
config.lua:4:23: error: pipelines.p.worker: there is no such option; did you mean "workers"?
    4 |     script = "s.lua", worker = 2,
      |                       ^~~~~~
]] },
  { "an unknown option that is near nothing", top "log = { colour = true },", [[
config.lua:1:18: error: log.colour: there is no such option; known here: level, format
    1 | return { log = { colour = true },
      |                  ^~~~~~
]] },
  { "a value without a name", with '"stray",', [[
config.lua:4:23: error: pipelines.p[1]: a value without a name; expected name = value
    4 |     script = "s.lua", "stray",
      |                       ^~~~~~~
]] },
  { "a name that stands twice", with "workers = 1, workers = 2,", [[
config.lua:4:36: error: pipelines.p.workers: this name stands in the table twice
    4 |     script = "s.lua", workers = 1, workers = 2,
      |                                    ^~~~~~~
]] },
  { "a wrong type", with 'workers = "four",', [[
config.lua:4:33: error: pipelines.p.workers: expected an integer, got the string "four"
    4 |     script = "s.lua", workers = "four",
      |                                 ^~~~~~
]] },
  { "a fraction", with "workers = 1.5,", [[
config.lua:4:33: error: pipelines.p.workers: expected an integer, got the number 1.5
    4 |     script = "s.lua", workers = 1.5,
      |                                 ^~~
]] },
  { "a number out of range", with "workers = 65,", [[
config.lua:4:33: error: pipelines.p.workers: 65 is out of range: expected 1 to 64
    4 |     script = "s.lua", workers = 65,
      |                                 ^~
]] },
  { "a duration without a unit", with "drain_timeout = 10,", [[
config.lua:4:39: error: pipelines.p.drain_timeout: expected a duration such as "500ms", "60s", "5m" or "1h", got the number 10; write the unit: "10s"
    4 |     script = "s.lua", drain_timeout = 10,
      |                                       ^~
]] },
  { "a duration with an unknown unit", with 'drain_timeout = "10 sec",', [[
config.lua:4:39: error: pipelines.p.drain_timeout: expected a duration such as "500ms", "60s", "5m" or "1h", got the string "10 sec"
    4 |     script = "s.lua", drain_timeout = "10 sec",
      |                                       ^~~~~~~~
]] },
  { "a duration that is too long", with 'drain_timeout = "1d",', [[
config.lua:4:39: error: pipelines.p.drain_timeout: out of range: expected 100ms to 10m
    4 |     script = "s.lua", drain_timeout = "1d",
      |                                       ^~~~
]] },
  { "a size without a unit", with "max_message = 5,", [[
config.lua:4:37: error: pipelines.p.max_message: expected a size such as "512KB", "64MB" or "1GB", got the number 5; write the unit: "5MB"
    4 |     script = "s.lua", max_message = 5,
      |                                     ^
]] },
  { "a word that is not one of several", top 'log = { level = "inof" },', [[
config.lua:1:26: error: log.level: expected one of "debug", "info", "warn", "error", got "inof"; did you mean "info"?
    1 | return { log = { level = "inof" },
      |                          ^~~~~~
]] },
  { "a boolean that is none", replace(LEAST, "sinks = {", 'sinks = { kafka = { topic = "o", bundle_header = "maybe", '
    .. 'kafka = { ["bootstrap.servers"] = "h:1" } },'), [[
config.lua:5:54: error: pipelines.p.sinks.kafka.bundle_header: expected true or false, got the string "maybe"
    5 |     sinks = { kafka = { topic = "o", bundle_header = "maybe", kafka = { ["bootstrap.servers"] = "h:1" } }, postgres = { dsn = "dbname=x", table = "t" } },
      |                                                      ^~~~~~~
]] },
  { "a table that is none", with "limits = 5,", [[
config.lua:4:32: error: pipelines.p.limits: expected a table, got the number 5
    4 |     script = "s.lua", limits = 5,
      |                                ^
]] },
  { "an option that must be there", replace(LEAST, 'group = "g", ', ""), [[
config.lua:3:5: error: pipelines.p.source.group: required: the consumer group
    3 |     source = { topics = "in", kafka = { ["bootstrap.servers"] = "h:1" } },
      |     ^~~~~~
]] },
  { "no pipelines", "return {}\n", [[
config.lua:1:8: error: pipelines: required: streams from source to sinks, by a name of your choice
    1 | return {}
      |        ^
]] },
  { "an empty list of pipelines", "return { pipelines = {} }\n", [[
config.lua:1:22: error: pipelines: it is empty; expected at least one
    1 | return { pipelines = {} }
      |                      ^
]] },
  { "a name that cannot be one", "return { pipelines = { ['a.b'] = {} } }\n", [[
config.lua:1:25: error: pipelines["a.b"]: expected a name of letters, digits, '_' and '-' that does not begin with a digit, at most 64 long
    1 | return { pipelines = { ['a.b'] = {} } }
      |                         ^~~~~
]] },
  { "an empty text", with 'lookup = "",', [[
config.lua:4:32: error: pipelines.p.lookup: it is empty; expected text
    4 |     script = "s.lua", lookup = "",
      |                                ^~
]] },
  { "a zero byte", with 'lookup = "a\\0b",', [[
config.lua:4:32: error: pipelines.p.lookup: a zero byte cannot stand here
    4 |     script = "s.lua", lookup = "a\0b",
      |                                ^~~~~~
]] },
  { "a list that is none", replace(LEAST, '"in"', "{ a = 1 }"), [[
config.lua:3:25: error: pipelines.p.source.topics: expected a list of strings, got a table with names
    3 |     source = { topics = { a = 1 }, group = "g", kafka = { ["bootstrap.servers"] = "h:1" } },
      |                         ^
]] },
  { "an item that is none", replace(LEAST, '"in"', '{ "in", 5, "in" }'), [[
config.lua:3:33: error: pipelines.p.source.topics[2]: expected a string, got the number 5
    3 |     source = { topics = { "in", 5, "in" }, group = "g", kafka = { ["bootstrap.servers"] = "h:1" } },
      |                                 ^
config.lua:3:36: error: pipelines.p.source.topics[3]: "in" stands in the list twice
    3 |     source = { topics = { "in", 5, "in" }, group = "g", kafka = { ["bootstrap.servers"] = "h:1" } },
      |                                    ^~~~
]] },
  { "an empty list", replace(LEAST, '"in"', "{}"), [[
config.lua:3:25: error: pipelines.p.source.topics: the list is empty; expected at least one
    3 |     source = { topics = {}, group = "g", kafka = { ["bootstrap.servers"] = "h:1" } },
      |                         ^
]] },
  { "a topic that cannot be one", replace(LEAST, '"in"', '"a topic"'), [[
config.lua:3:25: error: pipelines.p.source.topics[1]: expected a topic name of letters, digits, '.', '_' and '-', at most 249 long, got "a topic"
    3 |     source = { topics = "a topic", group = "g", kafka = { ["bootstrap.servers"] = "h:1" } },
      |                         ^~~~~~~~~
]] },
  { "a script that is not there", replace(LEAST, '"s.lua"', '"none.lua"'), [[
config.lua:4:14: error: pipelines.p.script: none.lua: No such file or directory (paths are relative to the configuration file)
    4 |     script = "none.lua",
      |              ^~~~~~~~~~
]] },
  { "a script that is a directory", replace(LEAST, '"s.lua"', '"."'), [[
config.lua:4:14: error: pipelines.p.script: . is not a regular file
    4 |     script = ".",
      |              ^~~
]] },
  { "a table name that cannot be one", replace(LEAST, '"t"', '"a.b.c"'), [[
config.lua:5:54: error: pipelines.p.sinks.postgres.table: "a.b.c" does not name a table: write table or schema.table, each at most 63 bytes, a part with a dot in it in double quotes
    5 |     sinks = { postgres = { dsn = "dbname=x", table = "a.b.c" } },
      |                                                      ^~~~~~~
]] },
  { "a property that librdkafka does not know", replace(LEAST, '"h:1" }', '"h:1", ["fetch.min.bites"] = 1 }'), [[
config.lua:3:86: error: pipelines.p.source.kafka["fetch.min.bites"]: librdkafka knows no such property; did you mean "fetch.min.bytes"?
    3 |     source = { topics = "in", group = "g", kafka = { ["bootstrap.servers"] = "h:1", ["fetch.min.bites"] = 1 } },
      |                                                                                      ^~~~~~~~~~~~~~~~~
]] },
  { "a property with a table", replace(LEAST, '"h:1"', '{ "h:1" }'), [[
config.lua:3:78: error: pipelines.p.source.kafka["bootstrap.servers"]: expected text, a number or a boolean, got a table
    3 |     source = { topics = "in", group = "g", kafka = { ["bootstrap.servers"] = { "h:1" } } },
      |                                                                              ^
]] },
  { "no brokers", replace(LEAST, '{ ["bootstrap.servers"] = "h:1" }', "{}"), [[
config.lua:3:44: error: pipelines.p.source.kafka["bootstrap.servers"]: required: the brokers, such as "localhost:9092"
    3 |     source = { topics = "in", group = "g", kafka = {} },
      |                                            ^~~~~
]] },
  { "a share above all", top 'reload = { block_if = { errors = 0, dropped = "120%" } },', [[
config.lua:1:56: error: reload.block_if.dropped: expected a number, or a share such as "20%", got the string "120%"
    1 | return { reload = { block_if = { errors = 0, dropped = "120%" } },
      |                                                        ^~~~~~
]] },
  { "an option of later releases", with "hold = {},", [[
config.lua:4:23: error: pipelines.p.hold: holding campaigns until they start comes with a later release
    4 |     script = "s.lua", hold = {},
      |                       ^~~~
]] },
  { "an audit of one sink", with 'audit = { key = { "a" } },', [[
config.lua:4:23: error: pipelines.p.audit: there is nothing to compare: it needs a Kafka sink and a Postgres sink
    4 |     script = "s.lua", audit = { key = { "a" } },
      |                       ^~~~~
]] },
  { "a change-log that is not named", top 'lookups = { l = { dsn = "host=h", table = "t", key = "k", refresh = "changelog" } },', [[
config.lua:1:78: error: lookups.l.refresh: the feed needs a table for the triggers to write: name it in `changelog`
    1 | return { lookups = { l = { dsn = "host=h", table = "t", key = "k", refresh = "changelog" } },
      |                                                                              ^~~~~~~~~~~
]] },
  { "a lookup of nothing", top 'lookups = { l = { dsn = "host=h", key = "k" } },', [[
config.lua:1:22: error: lookups.l.table: required: the table or view, or a `query` in its place
    1 | return { lookups = { l = { dsn = "host=h", key = "k" } },
      |                      ^
]] },
  { "a table and a query", top 'lookups = { l = { dsn = "host=h", table = "t", query = "SELECT 1 AS k", key = "k" } },', [[
config.lua:1:22: error: lookups.l: expected `table` or `query`, got both
    1 | return { lookups = { l = { dsn = "host=h", table = "t", query = "SELECT 1 AS k", key = "k" } },
      |                      ^
]] },
  { "a query that is followed", top 'lookups = { l = { dsn = "host=h", query = "SELECT 1 AS k", key = "k", refresh = "logical" } },', [[
config.lua:1:90: error: lookups.l.refresh: a query is read whole at an interval: expected "auto" or "reload 60s"
    1 | return { lookups = { l = { dsn = "host=h", query = "SELECT 1 AS k", key = "k", refresh = "logical" } },
      |                                                                                          ^~~~~~~~~
]] },
  { "strict reloads", top 'lookups = { l = { dsn = "host=h", table = "t", key = "k", refresh = "reload 5s", consistency = "strict" } },', [[
config.lua:1:105: error: lookups.l.consistency: a table that is read at an interval cannot tell what was committed since: use refresh = "auto"
    1 | return { lookups = { l = { dsn = "host=h", table = "t", key = "k", refresh = "reload 5s", consistency = "strict" } },
      |                                                                                                         ^~~~~~~~
]] },
  { "a refresh that is too quick", top 'lookups = { l = { dsn = "host=h", table = "t", key = "k", refresh = "reload 1ms" } },', [[
config.lua:1:78: error: lookups.l.refresh: the interval is too short: expected at least "1s"
    1 | return { lookups = { l = { dsn = "host=h", table = "t", key = "k", refresh = "reload 1ms" } },
      |                                                                              ^~~~~~~~~~~~
]] },
  { "a lookup that is not there", with 'lookup = "l",', [[
config.lua:4:32: error: pipelines.p.lookup: there is no lookup "l"; lookups is empty
    4 |     script = "s.lua", lookup = "l",
      |                                ^~~
]] },
  { "a lookup that is nearly there", replace(with 'lookup = "subscriber",', "pipelines =",
    'lookups = { subscribers = { dsn = "host=h", table = "t", key = "k" } }, pipelines ='), [[
config.lua:4:32: error: pipelines.p.lookup: there is no lookup "subscriber"; did you mean "subscribers"?
    4 |     script = "s.lua", lookup = "subscriber",
      |                                ^~~~~~~~~~~~
]] },
  { "a pipeline without a sink", replace(LEAST, 'postgres = { dsn = "dbname=x", table = "t" }', ""), [[
config.lua:5:5: error: pipelines.p.sinks: expected `kafka`, `postgres` or both: this pipeline would write nothing
    5 |     sinks = {  },
      |     ^~~~~
]] },
  { "dead letters without a place", replace(LEAST, 'postgres = { dsn = "dbname=x", table = "t" }',
    'kafka = { topic = "o", kafka = { ["bootstrap.servers"] = "h:1" } }'), [[
config.lua:2:17: error: pipelines.p.dead_letters.topic: required: without a Postgres sink, messages that cannot be processed need a topic to go to
    2 |   pipelines = { p = {
      |                 ^
]] },
  { "dead letters in two places", with 'dead_letters = { table = "d", topic = "d" },', [[
config.lua:4:53: error: pipelines.p.dead_letters: expected `table` or `topic`, got both
    4 |     script = "s.lua", dead_letters = { table = "d", topic = "d" },
      |                                                     ^~~~~
]] },
  { "dead letters among the outputs", replace(LEAST, 'postgres = { dsn = "dbname=x", table = "t" }',
    'kafka = { topic = "o", kafka = { ["bootstrap.servers"] = "h:1" } } }, dead_letters = { topic = "o"'), [[
config.lua:5:110: error: pipelines.p.dead_letters.topic: "o" is the topic of the outputs already: readers of one would have to tell the other apart; name another
    5 |     sinks = { kafka = { topic = "o", kafka = { ["bootstrap.servers"] = "h:1" } } }, dead_letters = { topic = "o" },
      |                                                                                                              ^~~
]] },
  { "a circle", with 'dead_letters = { topic = "in" },', [[
config.lua:4:48: error: pipelines.p.dead_letters.topic: this pipeline reads the topic "in" as well: it would feed itself
    4 |     script = "s.lua", dead_letters = { topic = "in" },
      |                                                ^~~~
]] },
  { "variables that are no data", with "vars = { f = function() return { 1, 2 }, 3 end, n = 0/0 },", [[
config.lua:4:36: error: pipelines.p.vars.f: expected text, a number, a boolean or a table of these, got a function
    4 |     script = "s.lua", vars = { f = function() return { 1, 2 }, 3 end, n = 0/0 },
      |                                    ^~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~
config.lua:4:75: error: pipelines.p.vars.n: expected a finite number, got -nan
    4 |     script = "s.lua", vars = { f = function() return { 1, 2 }, 3 end, n = 0/0 },
      |                                                                           ^~~
]] },
  { "an unset variable", with 'workers = env("WORKERS"), linger = env "LINGER",', [[
config.lua:4:33: error: env "WORKERS": not set in the environment, and there is no default; set it, or write env("WORKERS", default)
    4 |     script = "s.lua", workers = env("WORKERS"), linger = env "LINGER",
      |                                 ^~~~~~~~~~~~~~
config.lua:4:58: error: env "LINGER": not set in the environment, and there is no default; set it, or write env("LINGER", default)
    4 |     script = "s.lua", workers = env("WORKERS"), linger = env "LINGER",
      |                                                          ^~~~~~~~~~~~
]] },
  { "a syntax error", "return {\n  log = { level = 5 }\n  admin = {},\n}\n", [[
config.lua:3:3: error: Lua: '}' expected (to close '{' at line 1) near 'admin'
    3 |   admin = {},
      |   ^~~~~
]] },
  { "an end that comes too soon", "return {\n  log = {", [[
config.lua:2:10: error: Lua: unexpected symbol near <eof>
    2 |   log = {
      |          ^
]] },
  { "an undefined name", 'return {\n  log = { level = evn("X") } }\n', [[
config.lua:2:19: error: Lua: undefined name 'evn' (did you mean 'env'?)
    2 |   log = { level = evn("X") } }
      |                   ^~~
]] },
  { "an error of Lua", "local x\nreturn { log = x.y }\n", [[
config.lua:2:16: error: Lua: attempt to index a nil value (local 'x')
    2 | return { log = x.y }
      |                ^
]] },
  { "a file that returns nothing", "local config = {}\n", [[
config.lua:1:1: error: config: expected `return { ... }`: the file must return a table, not nothing
    1 | local config = {}
      | ^
]] },
  { "bytecode", "\27Lua\n", [[
config.lua:1:1: error: Lua: attempt to load a binary chunk (mode is 't')
    1 | ?Lua
      | ^
]] },
}

describe("of what is wrong, millrace says what, where and what instead:", function()
  for _, case in ipairs(CASES) do
    it(case[1], function() assert.equal(case[3], errors_of(case[2])) end)
  end

  it("all of it at once, in the order of the file", function()
    local lines = sentences [[
local kafka = { ["bootstrap.serverz"] = "h:1" }
return {
  lgo = {},
  pipelines = {
    a = { source = { topics = "in", group = "g", kafka = kafka }, script = "s.lua", workers = 0,
          sinks = { postgres = { dsn = "dbname=x", table = "t" } } },
    b = { source = { topics = "in", group = "g", kafka = kafka }, script = "s.lua", lingr = "5ms",
          sinks = { postgres = { dsn = "dbname=x", table = "t" } } },
  },
}
]]
    assert.same({
      'config.lua:1:18: error: pipelines.a.source.kafka["bootstrap.serverz"]: librdkafka knows no such property; '
        .. 'did you mean "bootstrap.servers"?',
      'config.lua:3:3: error: lgo: there is no such option; did you mean "log"?',
      "config.lua:5:95: error: pipelines.a.workers: 0 is out of range: expected 1 to 64",
      'config.lua:7:45: error: pipelines.b.source.group: the group "g" belongs to the pipeline "a" already; '
        .. "two pipelines may not share one",
      'config.lua:7:85: error: pipelines.b.lingr: there is no such option; did you mean "linger"?',
    }, lines)
  end)

  it("that the file is not there", function()
    local status, _, err = shell.try({ bin, "config", "-c", "none.lua" }, { dir = dir })
    assert.equal(78, status)
    assert.equal("none.lua:1:1: error: config: cannot be read: No such file or directory; name a file with -c\n", err)
  end)

  it("that it is no file", function()
    for path, why in pairs { ["."] = "Is a directory", ["/dev/zero"] = "File too large" } do
      local status, _, err = shell.try({ bin, "config", "-c", path }, { dir = dir })
      assert.equal(78, status)
      assert.equal(("%s:1:1: error: config: cannot be read: %s; name a file with -c\n"):format(path, why), err)
    end
  end)

  it("that it does not end", function()
    assert.equal("config.lua:1:1: error: Lua: it ran for more than 2 s; is there a loop without end?\n",
      errors_of "while true do end\n")
  end)

  it("that it wants too much memory", function()
    assert.equal("config.lua:1:1: error: Lua: not enough memory",
      errors_of("return { ('x'):rep(1 << 30) }\n"):match("^[^\n]*"))
  end)
end)

describe("the place of an error", function()
  local function place_of(text, sets)
    return (sentences(text, sets)[1]:match("^%S+:%d+:%d+: error: [^:]+"))
  end

  it("survives a local table that is used twice, and is told once", function()
    local lines = sentences('local k = {\n  ["bootstrap.servers"] = "h:1",\n  ["fetch.min.bites"] = 1 }\n' .. TWICE)
    assert.equal(1, #lines)
    assert.truthy(lines[1]:find('config.lua:3:4: error: pipelines.p.source.kafka["fetch.min.bites"]', 1, true))
  end)

  it("survives functions that make tables, and loops", function()
    assert.equal("config.lua:1:46: error: lookups.a.tabel", place_of(
      'local function l(t) return { dsn = "host=h", tabel = t } end\n' .. top 'lookups = { a = l "x" },'))
    assert.equal("config.lua:2:56: error: lookups.a.refresh", place_of('local ls = {}\nfor _, n in ipairs { "a", "b" } '
      .. 'do ls[n] = { refresh = "x", dsn = "host=h", table = n, key = "k" } end\n' .. top "lookups = ls,"))
  end)

  it("survives fields that are set later", function()
    assert.equal("config.lua:2:13: error: log.level", place_of('local log = {}\nlog.level = 5\n' .. top "log = log,"))
    assert.equal("config.lua:2:14: error: log.level", place_of('local l = {}\nl["level"] = 5\n' .. top "log = l,"))
  end)

  it("survives comments, long strings, escapes and quoted keys", function()
    assert.equal("config.lua:6:9: error: log.level", place_of('--[[ { "level" = \n ]] return { -- } {\n'
      .. '  instance = [==[a]==], ["log"] = { --[=[ ]] ]=]\n    format = "te\\z\n      xt",\n level= \'\\"{\'; },\n'
      .. LEAST:gsub("^return {", "")))
    assert.equal("config.lua:1:33: error: log.level", place_of(top "log = { ['lev\\101l'] = 5 },"))
  end)

  it("survives values made by calls and by expressions", function()
    assert.equal("config.lua:1:26: error: log.level", place_of(top 'log = { level = env("X", "y") .. ("z"):rep(2) },'))
    assert.equal("config.lua:1:26: error: log.level",
      place_of(top 'log = { level = (function(t) return t[1] end){ 5, 6 } },'))
    assert.equal("config.lua:1:26: error: log.level", place_of(top "log = { level = ('x'):rep(#{ 1, 2 }) },"))
  end)

  it("is the nearest thing around, where the value stands nowhere", function()
    assert.equal("config.lua:2:16: error: log.level", place_of('local k = "lev"\n' .. top 'log = { [k .. "el"] = 5 },'))
  end)

  it("counts characters, not bytes", function()
    assert.equal([=[
config.lua:1:30: error: log.level: expected one of "debug", "info", "warn", "error", got "ïnfö"
    1 | --[[é]] return { log={ level="ïnfö" },
      |                              ^~~~~~
]=], errors_of("--[[é]] " .. top 'log={ level="ïnfö" },'))
  end)

  it("costs nothing: what finds it leaves all Lua of this tree valid, line by line", function()
    local source = loadfile(root .. "/core/lua/config_source.lua")(function() end, {})
    local callable, n = { env = true, secret = true, require = true, assert = true, tostring = true }, 0
    for path in shell.run("find . -path ./build -prune -o -name '*.lua' -print", { dir = root }):gmatch("[^\n]+") do
      local text = shell.read(root .. "/" .. path) or ""
      local marked = source.mark(text, callable)
      local made, why = load(marked, "=" .. path, "t", {})
      assert.truthy(made, why)
      assert.equal(select(2, text:gsub("\n", "")), select(2, marked:gsub("\n", "")))
      n = n + 1
    end
    assert.is_true(n > 10)
  end)

  it("does not depend on names that the file uses itself", function()
    local config = loaded('local _mark, _call = 1, function(...) return ... end\n' .. top 'instance = _call("x"),')
    assert.equal("x", config.instance)
  end)

  it("is kept for a file that nests as deeply as Lua can", function()
    local deep = ("{ a = "):rep(30) .. "1" .. (" }"):rep(30)
    assert.truthy(loaded(with("vars = " .. deep .. ",")).pipelines.p.vars.a)
    assert.truthy(sentences(with("vars = " .. ("{ a = "):rep(40) .. "1" .. (" }"):rep(40) .. ","))[1]
      :find("nested too deeply", 1, true))
  end)

  it("is told of a table that contains itself, however many paths lead around", function()
    local told = sentences("local t = {} t.vars = t t.p = t " .. with("vars = t,"))
    assert.equal(2, #told)
    for _, sentence in ipairs(told) do
      assert.truthy(sentence:find("the table contains itself", 1, true), sentence)
    end
  end)
end)

describe("pairs", function()
  local K = 'local k = { ["bootstrap.servers"] = "h:1" }\n'
  local function audit(text) return K .. replace(TWICE, '"s.lua",', '"s.lua", audit = { ' .. text .. " },") end

  it("are names that stand for both sides, or a field and its column", function()
    local p = loaded(audit 'key = { "a", ["b.c"] = "d", ["@key"] = "e" }, time = "t"').pipelines.p
    assert.same({ key = { a = "a", ["b.c"] = "d", ["@key"] = "e" }, time = "t", time_unit = "s" }, p.audit)
    assert.same({ x = "x", a = "b" }, loaded(audit 'key = { "x" }', { "pipelines.p.audit.key.a=b" })
      .pipelines.p.audit.key)
  end)

  it("are checked one by one, and against each other", function()
    local told = sentences(audit('key = { 7, "a..b", "@kye", ["@timestamp"] = "x", c = true, d = "", e = "same", '
      .. '"same" }, compare = {}, time_field = "t"'))
    local list = table.concat(told, "\n")
    for _, text in ipairs {
      "key[1]: expected the name of a column, got the number 7", "key[2]: expected a field such as", 'got "@kye"',
      "a message's timestamp is no field", "key.c: expected the name of a column, got true",
      'key.e: "same" stands in the table twice', "time_field: it belongs to `time`",
    } do
      assert.truthy(list:find(text, 1, true), text .. "\n" .. list)
    end
    assert.truthy(sentences(audit 'key = {}')[1]:find("it is empty; expected at least one", 1, true))
    assert.truthy(sentences(audit 'key = { "a" }, compare = { x = "a" }')[1]
      :find('compare: the column "a" belongs to the key already', 1, true))
    assert.truthy(sentences(audit 'time = "a"')[1]:find("audit.key: required: ", 1, true))
  end)
end)

describe("--set", function()
  it("changes one value before anything is checked", function()
    local p = loaded(with "workers = 99,", { "pipelines.p.workers=4", "pipelines.p.linger=20ms",
      "pipelines.p.vars.a.b=5",
      'pipelines.p.vars.c={1, "x"}', "pipelines.p.vars.d=some text", "pipelines.p.source.topics=other",
      'pipelines.p.sinks.postgres.columns={"a", "b"}', 'pipelines.p.source.kafka["fetch.min.bytes"]=7',
      "pipelines.p.source.kafka.fetch.wait.max.ms=8" }).pipelines.p
    assert.equal(4, p.workers)
    assert.equal("20ms", p.linger)
    assert.same({ a = { b = 5 }, c = { 1, "x" }, d = "some text" }, p.vars)
    assert.same({ "other" }, p.source.topics)
    assert.same({ "a", "b" }, p.sinks.postgres.columns)
    assert.same({ ["bootstrap.servers"] = "h:1", ["fetch.min.bytes"] = "7", ["fetch.wait.max.ms"] = "8" },
      p.source.kafka)
  end)

  it("makes what is not there", function()
    local config = loaded(LEAST, { "log.level=debug", "lookups.l.dsn=host=h", "lookups.l.table=t", "lookups.l.key=k" })
    assert.equal("debug", config.log.level)
    assert.same({ "k" }, config.lookups.l.key)
    assert.equal("host=h", config.lookups.l.dsn)
  end)

  it("changes one place of a table that is used in two", function()
    local p = loaded('local k = { ["bootstrap.servers"] = "h:1" }\n' .. TWICE,
      { "pipelines.p.sinks.kafka.kafka.bootstrap.servers=other:1" }).pipelines.p
    assert.equal("h:1", p.source.kafka["bootstrap.servers"])
    assert.equal("other:1", p.sinks.kafka.kafka["bootstrap.servers"])
  end)

  it("is pointed to when it is wrong", function()
    assert.equal([[
config.lua:4:23: error: pipelines.p.worker: there is no such option; did you mean "workers"?
    4 |     script = "s.lua", worker = 2,
      |                       ^~~~~~
--set:1:21: error: pipelines.p.workers: expected an integer, got the string "x"
    1 | pipelines.p.workers=x
      |                     ^
--set:2:5: error: log.levle: there is no such option; did you mean "level"?
    2 | log.levle=info
      |     ^~~~~
--set:3:25: error: pipelines.p.source.kafka["fetch.min.bites"]: librdkafka knows no such property; did you mean "fetch.min.bytes"?
    3 | pipelines.p.source.kafka["fetch.min.bites"]=1
      |                         ^~~~~~~~~~~~~~~~~~~
--set:4:4: error: --set: expected path=value, such as pipelines.promo.workers=4 or 'lookups.a.columns={"b"}'
    4 | foo
      |    ^
--set:5:13: error: pipelines.p.script: this is a string, not a table: nothing can be set in it
    5 | pipelines.p.script.x=1
      |             ^~~~~~
--set:6:9: error: instance: it is empty; expected text
    6 | instance=
      |         ^
]], errors_of(with "worker = 2,", { "pipelines.p.workers=x", "log.levle=info",
      'pipelines.p.source.kafka["fetch.min.bites"]=1', "foo", "pipelines.p.script.x=1", "instance=" }))
  end)

  it("carries no secrets: others could read them", function()
    local err = errors_of(LEAST, { 'pipelines.p.source.kafka["sasl.password"]=sesame42',
      "pipelines.p.sinks.postgres.dsn=postgresql://u:sesame43@h/d" })
    assert.is_nil(err:find("sesame", 1, true), err)
    assert.equal([[
--set:1:43: error: pipelines.p.source.kafka["sasl.password"]: a secret on the command line can be read by everyone on this machine; write secret "env:NAME" in the file and set NAME
    1 | pipelines.p.source.kafka["sasl.password"]=***
      |                                           ^~~
--set:2:32: error: pipelines.p.sinks.postgres.dsn: a secret on the command line can be read by everyone on this machine; write secret "env:NAME" in the file and set NAME
    2 | pipelines.p.sinks.postgres.dsn=***
      |                                ^~~
]], err)
  end)
end)

describe("a secret", function()
  local SASL = replace(LEAST, '"h:1" }', '"h:1", ["security.protocol"] = "SASL_SSL", ["sasl.mechanisms"] = '
    .. '"SCRAM-SHA-512", ["sasl.username"] = "u", ["sasl.password"] = SECRET }')
  local function sasl(secret) return replace(SASL, "SECRET", secret) end

  it("comes from the environment, a file or a systemd credential, and prints as ***", function()
    shell.write(dir .. "/password", "sesame42\n")
    shell.run { "chmod", "600", dir .. "/password" }
    for reference, env in pairs {
      ["env:PW"] = { PW = "sesame42" }, ["file:password"] = {}, ["file:" .. dir .. "/password"] = {},
      ["cred:password"] = { CREDENTIALS_DIRECTORY = dir },
    } do
      local status, out, err = millrace("config", sasl(('secret "%s"'):format(reference)), nil, env)
      assert.equal("", err)
      assert.equal(0, status)
      assert.truthy(out:find(('["sasl.password"] = "***",  -- secret "%s"\n'):format(reference), 1, true), out)
      assert.is_nil(out:find("sesame", 1, true))
      local _, json = millrace("config", sasl(('secret "%s"'):format(reference)), { "--json" }, env)
      assert.equal("***", cjson.decode(json).pipelines.p.source.kafka["sasl.password"])
    end
  end)

  it("may be a whole connection string", function()
    local text = replace(LEAST, '"dbname=x"', 'secret "env:DSN"')
    local config = loaded(text, nil, { DSN = "host=h dbname=sesame42" })
    assert.equal("***", config.pipelines.p.sinks.postgres.dsn)
  end)

  it("cannot be joined with text, looked into or printed", function()
    for _, use in ipairs { 'secret "env:PW" .. "x"', '"x" .. secret "env:PW"', '#secret "env:PW"', 'secret("env:PW").x',
                           'error(tostring(secret "env:PW"))', 'error(secret "env:PW")',
                           'error(next(secret "env:PW") or "nothing")', 'setmetatable(secret "env:PW", {})',
                           'error(tostring(getmetatable(secret "env:PW")))' } do
      local err = errors_of(sasl(use), nil, { PW = "sesame42" })
      assert.is_nil(err:find("sesame", 1, true), err)
      assert.truthy(err:find(": error: Lua: ", 1, true), err)
    end
    assert.truthy(errors_of(sasl 'secret "env:PW" .. "x"', nil, { PW = "sesame42" })
      :find("error: Lua: a secret cannot be joined, compared or looked into; give the whole value as one secret\n", 1,
        true))
  end)

  it("in a connection string prints as ***, wherever the string stands", function()
    local text = replace(with 'vars = { other = "postgresql://u:sesame42@h/d" },', "dbname=x",
      "host=h password='sesame42 x' dbname=d")
    for _, arguments in ipairs { {}, { "--json" } } do
      local status, out, err = millrace("config", text, arguments)
      assert.equal(0, status, err)
      assert.is_nil(out:find("sesame", 1, true), out)
      assert.truthy(out:find("postgresql://u:***@h/d", 1, true), out)
      assert.truthy(out:find("host=h password=*** dbname=d", 1, true), out)
    end
  end)

  it("stands only where there are secrets", function()
    assert.equal([[
config.lua:1:26: error: log.level: expected one of "debug", "info", "warn", "error", got a secret
    1 | return { log = { level = secret "env:PW" },
      |                          ^~~~~~~~~~~~~~~
]], errors_of(top 'log = { level = secret "env:PW" },', nil, { PW = "sesame42" }))
    assert.truthy(sentences(with 'vars = { a = secret "env:PW" },', nil, { PW = "sesame42" })[1]
      :find("got a secret", 1, true))
  end)

  it("that is not there is an error at its place", function()
    shell.write(dir .. "/open", "sesame42\n")
    shell.run { "chmod", "644", dir .. "/open" }
    shell.write(dir .. "/empty", "\n")
    shell.run { "chmod", "600", dir .. "/empty" }
    for reference, sentence in pairs {
      ["env:NONE"] = "the environment has no NONE",
      ["file:open"] = "open may be read by group or others; chmod 600 it",
      ["file:none"] = "none: No such file or directory",
      ["file:empty"] = "it is empty",
      ["file:."] = ". is not a regular file",
      ["cred:x"] = "there is no CREDENTIALS_DIRECTORY; systemd sets it for units with LoadCredential=",
      ["what"] = 'expected "env:NAME", "file:PATH" or "cred:NAME"',
    } do
      assert.equal(('config.lua:3:205: error: secret "%s": %s'):format(reference, sentence),
        sentences(sasl(('secret "%s"'):format(reference)))[1])
    end
  end)

  -- Each text has sesame42 somewhere; whatever is wrong with the file, it is not shown.
  local SHOWN = {
    sasl '"sesame42"',
    replace(sasl '"sesame42"', "SCRAM-SHA-512", "SCRAM-SHA-51"),
    replace(sasl '"sesame42"', '["sasl.username"]', '["sasl.usernam"]'),
    replace(sasl 'env("NONE", "sesame42")', 'group = "g"', "group = = 5"),
    replace(sasl '("sesame42"):rep(1)', 'group = "g"', "group = = 5"),
    replace(sasl 'env("NONE", "sesame42")', '["sasl.username"]', '["sasl.usernam"]'),
    sasl '"sesame42',
    sasl "'sesame42', 5 + ",
    replace(LEAST, "dbname=x", "postgresql://u:sesame42@h/d"),
    replace(with 'worker = 1,', "dbname=x", "postgresql://u:sesame42@h:none/d"),
    replace(replace(LEAST, "dbname=x", "host=h password=sesame42"), 'table = "t"', 'tabel = "t"'),
    replace(replace(LEAST, "dbname=x", "host=h password='sesame42 x'"), 'table = "t"', 'tabel = "t"'),
    replace(replace(LEAST, "dbname=x", "postgresql://h/d?password=sesame42&x=1"), 'table = "t"', 'tabel = "t"'),
    replace(replace(LEAST, "dbname=x", "host=h passwort sesame42 password=sesame42"), 'table = "t"', 'tabel = "t"'),
    replace(replace(LEAST, "dbname=x", "host=h passwort=sesame42"), 'table = "t"', 'tabel = "t"'),
    replace(LEAST, "sinks =", "--[[ postgresql://u:sesame42@h ]] sink ="),
    replace(LEAST, '"t"', '"postgresql://u:sesame42@h/d"'),
    replace(LEAST, '"in"', '"postgresql://u:sesame42@h/d"'),
    replace(LEAST, 'kafka = {', 'kafka = { ["ssl.key.password"] = "sesame42", ["security.protocol"] = "what",'),
  }
  it("is shown nowhere, whatever is wrong", function()
    for _, text in ipairs(SHOWN) do
      for _, command in ipairs { "config", "check" } do
        local _, out, err = millrace(command, text)
        assert.is_nil((out .. err):find("sesame", 1, true), out .. err)
      end
      local _, out, err = millrace("check", text, { "--json" })
      assert.is_nil((out .. err):find("sesame", 1, true), out .. err)
    end
  end)

  it("does not keep the mistake a secret", function()
    for dsn, near in pairs {
      ["postgresql://u:sesame42@h/d?sslmod=disable"] = "sslmode", ["host=h password=sesame42 dbnme=x"] = "dbname",
    } do
      local text = errors_of(replace(LEAST, "dbname=x", dsn))
      assert.truthy(text:find('"***"; did you mean ' .. near .. "?", 1, true), text)
      assert.is_nil(text:find("sesame", 1, true), text)
    end
  end)

  it("keeps the caret right where a shorter *** stands before it", function()
    assert.equal([[
config.lua:5:65: error: pipelines.p.sinks.postgres.tabel: there is no such option; did you mean "table"?
    5 |     sinks = { postgres = { dsn = "postgresql://u:***@h/d", tabel = "t" } },
      |                                                            ^~~~~
]], errors_of(replace(replace(LEAST, "dbname=x", "postgresql://u:sesame42@h/d"), 'table = "t"', 'tabel = "t"')))
  end)
end)

describe("docs/CONFIG.md", function()
  it("names every option that a configuration in force shows", function()
    local docs = shell.read(root .. "/docs/CONFIG.md")
    local function names(value, path, out)
      for name, item in pairs(value) do
        local full = path == "" and name or path .. "." .. name
        out[#out + 1] = name
        if type(item) == "table" and #item == 0 and name ~= "kafka" and name ~= "vars" then names(item, full, out) end
      end
      return out
    end
    local config = loaded(LEAST)
    config.pipelines = config.pipelines.p
    for _, name in ipairs(names(config, "", {})) do
      assert.truthy(docs:find("`" .. name .. "`", 1, true) or docs:find("." .. name .. "`", 1, true), name)
    end
  end)
end)
