-- One test's own corner of the services: a fresh database with the seed's two tables, fresh topics, a
-- config.lua that names them, and the clients (kcat, psql) to drive and read it. Nothing is shared with another test.
local cjson = require "cjson"
local shell = require "tests.support.shell"
local daemon = require "tests.support.daemon"

local scene = {}
scene.__index = scene

local env = os.getenv
local function plain_kafka()
  return { ["bootstrap.servers"] = env("KAFKA_BROKERS") }
end

--- The settings of the first user's broker, for librdkafka; the password comes from the environment.
function scene.sasl_kafka()
  return {
    ["bootstrap.servers"] = env("KAFKA_SASL_BROKERS"), ["security.protocol"] = "SASL_SSL",
    ["sasl.mechanisms"] = "SCRAM-SHA-512", ["ssl.ca.location"] = env("KAFKA_CA"),
    ["sasl.username"] = env("KAFKA_USER"), ["sasl.password"] = scene.code 'secret "env:KAFKA_PASSWORD"',
  }
end

--- A piece of Lua that goes into config.lua as it is.
function scene.code(text)
  return setmetatable({ code = text }, { __tostring = function() return text end })
end

local function dump(value, out, indent)
  if type(value) ~= "table" then
    out[#out + 1] = ("%q"):format(value)
  elseif getmetatable(value) then
    out[#out + 1] = tostring(value)
  else
    local names = {}
    for name in pairs(value) do names[#names + 1] = name end
    table.sort(names, function(a, b) return tostring(a) < tostring(b) end)
    out[#out + 1] = "{\n"
    for _, name in ipairs(names) do
      out[#out + 1] = indent .. "  [" .. ("%q"):format(name) .. "] = "
      dump(value[name], out, indent .. "  ")
      out[#out + 1] = ",\n"
    end
    out[#out + 1] = indent .. "}"
  end
end

--- The DSN of another database on the same server.
local function dsn_of(database, base)
  return (base:gsub("/promo%?", "/" .. database .. "?"))
end

--- `options`: partitions (of topic_in, default 2), topic_settings (for topic_in, such as "max.message.bytes=2000000").
function scene.new(options)
  options = options or {}
  local serial = shell.serial()
  local self = setmetatable({ daemons = {}, id = "t" .. serial }, scene)
  self.dir = ("%s/scene%d"):format(shell.run_dir(), serial)
  self.topic_in, self.topic_out = self.id .. "_in", self.id .. "_out"
  self.partitions = options.partitions or 2
  self.dsn = dsn_of(self.id, env("MILLRACE_PG"))
  self.dsn_tcp = dsn_of(self.id, env("MILLRACE_PG_TCP"))
  shell.run { "mkdir", "-p", self.dir }
  shell.run { "psql", "-qX", dsn_of("postgres", env("MILLRACE_PG")), "-c",
    "create database " .. self.id .. " template promo" }
  shell.run { "tests/support/topics", ("%s:%d%s"):format(self.topic_in, self.partitions, options.topic_settings and
    ":" .. options.topic_settings or ""), self.topic_out .. ":2" }
  self.config = {
    log = { level = "info" },
    admin = { listen = scene.code 'env("MILLRACE_ADMIN", "127.0.0.1:0")' },
    lookups = {
      subscribers = { dsn = self.dsn, table = "subscribers_restaurants", key = "restaurant_id",
                      columns = { "client_id" }, refresh = "auto" },
    },
    pipelines = {
      promo = {
        source = { topics = { self.topic_in }, group = self.id, kafka = plain_kafka() },
        lookup = "subscribers",
        script = shell.run("pwd"):gsub("%s+$", "") .. "/scripts/promo.lua",
        sinks = { kafka = { topic = self.topic_out, kafka = plain_kafka() },
                  postgres = { dsn = self.dsn, table = "subscribers_feedback" } },
        delivery = options.delivery or "exactly_once",
        dead_letters = { table = "millrace_dead" },
      },
    },
  }
  self.promo = self.config.pipelines.promo
  return self
end

--- Writes config.lua; gives its path.
function scene:write_config()
  local out = { "return " }
  dump(self.config, out, "")
  out[#out + 1] = "\n"
  local path = self.dir .. "/config.lua"
  shell.write(path, table.concat(out))
  return path
end

--- Uses this text as the pipeline's script.
function scene:script(text)
  local path = self.dir .. "/script.lua"
  shell.write(path, text)
  self.promo.script = path
end

--- millrace COMMAND -c config.lua ...: status, stdout, stderr.
function scene:cli(...)
  local words = { daemon.bin, (...), "-c", self:write_config(), select(2, ...) }
  return shell.try(words)
end

function scene:init()
  local status, out, err = self:cli("init")
  assert(status == 0, ("millrace init gave %d:\n%s%s"):format(status, out, err))
end

--- Starts a daemon on this scene's config; `options` as in daemon.start, and wait = false not to wait for ready.
function scene:start(options)
  options = options or {}
  if not self.initialised and options.init ~= false then
    self:init()
    self.initialised = true
  end
  local started = daemon.start { config = self:write_config(), args = options.args, env = options.env }
  self.daemons[#self.daemons + 1] = started
  if options.wait ~= false then started:wait_ready() end
  return started
end

--- Ends what the test left running; call it in after_each.
function scene:close()
  for _, started in ipairs(self.daemons) do started:discard() end
end

function scene:sql(query)
  return (shell.run { "psql", "-qXAt", "-v", "ON_ERROR_STOP=1", self.dsn, "-c", query }:gsub("\n$", ""))
end

--- The result of a query as a list of records.
function scene:records(query)
  return cjson.decode(self:sql("select coalesce(json_agg(q), '[]') from (" .. query .. ") q"))
end

function scene:count(table_name)
  return tonumber(self:sql("select count(*) from " .. (table_name or "subscribers_feedback")))
end

--- Rows of each campaign, as "id|count" lines.
function scene:by_campaign()
  return self:sql("select adv_campaign_id, count(*) from subscribers_feedback group by 1 order by 1")
end

function scene:wait_rows(n, seconds, table_name)
  local seen
  shell.wait(seconds or 40, function()
    local last = self.daemons[#self.daemons]
    return ("%d rows in %s (there are %s); the log ends with\n%s"):format(n, table_name or "subscribers_feedback",
      tostring(seen), last and last:tail() or "")
  end, function()
    seen = self:count(table_name)
    return seen >= n
  end)
end

--- Sends messages: strings (the value) or { key =, value =, partition = }.
function scene:produce(messages, kcat_options)
  local batches = {}
  for _, message in ipairs(messages) do
    if type(message) == "string" then message = { value = message } end
    local partition = message.partition or -1
    local batch = batches[partition] or {}
    batches[partition] = batch
    batch[#batch + 1] = (message.key or "k") .. "\t" .. message.value
  end
  for partition, batch in pairs(batches) do
    local words = { "kcat", "-b", env("KAFKA_BROKERS"), "-t", self.topic_in, "-P", "-K", "\t",
                    "-p", tostring(partition) }
    table.move(kcat_options or {}, 1, #(kcat_options or {}), #words + 1, words)
    shell.run(words, { input = table.concat(batch, "\n") .. "\n" })
  end
end

--- Waits until what was committed to the output topic can be read: Kafka answers a commit a moment before. A
--- transaction that somebody has left open would take a minute: that is not waited for.
function scene:settle()
  if not self.promo.sinks.kafka then return end
  local deadline = shell.monotime() + 10
  while self:out_end("read_committed") ~= self:out_end("read_uncommitted") and shell.monotime() < deadline do end
end

--- The values on a topic (default: the output, settled), as text, read by kcat as read_committed.
function scene:values(topic, kcat_options)
  if not topic then self:settle() end
  local words = { "kcat", "-b", env("KAFKA_BROKERS"), "-t", topic or self.topic_out, "-C", "-e", "-q",
                  "-o", "beginning", "-X", "isolation.level=read_committed" }
  table.move(kcat_options or {}, 1, #(kcat_options or {}), #words + 1, words)
  local values = {}
  for line in shell.run(words):gmatch("[^\n]+") do values[#values + 1] = line end
  return values
end

--- The messages on the output topic, decoded, sorted by client_id.
function scene:messages()
  local messages = {}
  for i, value in ipairs(self:values()) do messages[i] = cjson.decode(value) end
  table.sort(messages, function(a, b) return tostring(a.client_id) < tostring(b.client_id) end)
  return messages
end

--- A campaign that runs now, as JSON; `changes` replaces fields, cjson.null leaves a null, false leaves the field out.
function scene.campaign(changes)
  local now = os.time()
  local campaign = {
    restaurant_id = "123e4567-e89b-12d3-a456-426614174000", adv_campaign_id = "123e4567-e89b-12d3-a456-426614174003",
    adv_campaign_content = "first campaign", adv_campaign_owner = "Ivanov Ivan Ivanovich",
    adv_campaign_owner_contact = "iiivanov@restaurant_id", adv_campaign_datetime_start = now - 1000,
    adv_campaign_datetime_end = now + 100000, datetime_created = now - 2000,
  }
  for name, value in pairs(changes or {}) do
    if value == false then value = nil end
    campaign[name] = value
  end
  local out = {}
  for name, value in pairs(campaign) do
    local text = math.type(value) == "integer" and ("%d"):format(value) or cjson.encode(value)
    out[#out + 1] = ("%q: %s"):format(name, text)
  end
  table.sort(out)
  return "{" .. table.concat(out, ", ") .. "}"
end

--- Subscribes clients 1..n to the restaurants 1..r ("r<i>", "c<j>"), in place of the sample rows.
function scene:subscribers(restaurants, clients)
  self:sql(("truncate subscribers_restaurants; "
    .. "insert into subscribers_restaurants (client_id, restaurant_id) "
    .. "select 'c' || c, 'r' || r from generate_series(1, %d) r, generate_series(1, %d) c")
    :format(restaurants, clients))
end

--- Campaigns "a1".."an" for the restaurants r1..rr in turn, over all partitions; as produce takes them.
function scene:campaigns(n, restaurants, first)
  local list = {}
  for i = first or 1, (first or 1) + n - 1 do
    list[#list + 1] = {
      value = scene.campaign { adv_campaign_id = "a" .. i, restaurant_id = "r" .. (i - 1) % restaurants + 1 },
      partition = i % self.partitions,
    }
  end
  return list
end

--- Sends the next n campaigns of those; self.sent counts them.
function scene:feed(n, restaurants)
  self:produce(self:campaigns(n, restaurants, (self.sent or 0) + 1))
  self.sent = (self.sent or 0) + n
end

--- Lets hold_rows keep rows back, by a trigger that asks it; to be called before the first start, since a table that is
--- altered is looked at anew.
function scene:let_rows_be_held()
  self:sql([[create function held() returns trigger language plpgsql as
      'begin perform pg_advisory_xact_lock_shared(1); return null; end';
    create trigger held before insert on subscribers_feedback for each statement execute function held()]])
end

--- Keeps everybody from writing rows until the function that it returns is called. A unit then stops where its
--- messages are sent, in an open transaction, and nothing is decided. Postgres gives such a wait up after 5 s.
function scene:hold_rows()
  local name = "hold-" .. shell.serial()
  shell.run { "tests/support/spawn", name, "env", "PGAPPNAME=" .. name, "psql", "-qX", self.dsn, "-c",
    "select pg_advisory_lock(1)", "-c", "select pg_sleep_for('1 min')" }
  local mine = (" from pg_stat_activity where application_name = '%s' and wait_event = 'PgSleep'"):format(name)
  shell.wait(30, "the rows to be held", function() return self:sql("select count(*)" .. mine) == "1" end)
  return function() self:sql("select pg_terminate_backend(pid)" .. mine) end
end

--- A read_committed reader of the output topic that stays there: gives a function that tells how many messages it has
--- got, and one that ends it.
function scene:reader()
  local name = "reader-" .. shell.serial()
  local pid = shell.run { "tests/support/spawn", name, "kcat", "-b", env("KAFKA_BROKERS"), "-t", self.topic_out, "-C",
    "-q", "-u", "-o", "beginning", "-f", "\\n", "-X", "isolation.level=read_committed" } -- a byte for each message
  local path = ("%s/logs/%s.log"):format(shell.run_dir(), name)
  return function() return #(shell.read(path) or "") end, function() shell.run { "kill", (pid:gsub("%s", "")) } end
end

--- Where the output topic ends, summed over its partitions; "read_committed" stops before a transaction that is open.
function scene:out_end(isolation)
  local sum = 0
  for offset in shell.run { "kcat", "-b", env("KAFKA_BROKERS"), "-Q", "-t", self.topic_out .. ":0:-1",
      "-t", self.topic_out .. ":1:-1", "-X", "isolation.level=" .. isolation }:gmatch("offset (%d+)") do
    sum = sum + tonumber(offset)
  end
  return sum
end

--- Compares both sinks with the pairs expected of campaigns a1..an, each for c1..c<clients>; gives ok and
--- the report. The topic may hold doubles if `doubles` is true (a delivery that says at least once).
function scene:exact(n, clients, doubles)
  local path = shell.temp(".expected")
  local file <close> = assert(io.open(path, "wb"))
  for i = 1, n do
    for c = 1, clients do file:write("a", i, " c", c, "\n") end
  end
  file:flush()
  local ok, report = self:compare(path, doubles)
  os.remove(path)
  return ok, report
end

--- The same with a file of lines "campaign client". A sink that the pipeline does not have is not looked at.
function scene:compare(path, doubles)
  self:settle()
  local words = { "tests/support/exact", "--expected", path }
  if self.promo.sinks.kafka then table.move({ "--topic", self.topic_out }, 1, 2, #words + 1, words) end
  if self.promo.sinks.postgres then table.move({ "--dsn", self.dsn }, 1, 2, #words + 1, words) end
  if doubles then words[#words + 1] = "--doubles" end
  local status, out, err = shell.try(words)
  return status == 0, out .. err
end

return scene
