-- testing.lua - millrace.testing: a pipeline in a spec, with a table made of Lua rows and a clock that the spec turns.
--
-- Part of the binary and of millrace.so; runs in the Lua of the spec, given the module `millrace` (core/lua/module.c)
-- and testing_data.lua. Message, script, lookup and stamper take the way they take in the daemon; what is not there is
-- Kafka, Postgres and time. The reference for users: docs/TESTING.md. Tests: tests/spec/testing_spec.lua.
local millrace, data = ...
local fail, seconds_of, refuse_unknown = data.fail, data.seconds_of, data.refuse_unknown

local M = { null = millrace.null, array = millrace.array, json = millrace.json, time = millrace.time }

local START = 1767225600 -- 2026-01-01T00:00:00Z: where the clock of a pipeline stands unless the spec says so

local Pipeline = {}
Pipeline.__index = Pipeline

-- --- the fake table ---

--- Replaces the rows of the lookup. Columns and types stay what they were when the pipeline was opened.
function Pipeline:lookup(rows)
  if not self.types then fail("the pipeline has no lookup") end
  self.core:fill(data.convert(rows, self.types, self.columns))
end

-- --- what a script logs and counts ---

local function take_log(list)
  for line in millrace.take_log():gmatch "[^\n]+" do
    local entry = millrace.json.decode(line)
    list[#list + 1] = { level = entry.level, message = entry.message,
      text = entry.message:match "^script: (.*) %(%S+/%-?%d+@%-?%d+%)$" or entry.message:match "^script: (.*)$"
        or entry.message }
  end
end

local function read_counts(name)
  local counts, label = {}, 'pipeline="' .. name .. '"'
  for labels, value in millrace.metrics():gmatch "millrace_script_count_total{([^\n]*)} (%S+)" do
    local counter = labels:find(label, 1, true) and labels:match 'name="(.-)"'
    if labels:find('other="1"', 1, true) then counter = "other" end
    if counter then counts[counter] = tonumber(value) end
  end
  return counts
end

--- What ctx.count has counted since the pipeline was opened: name -> number.
function Pipeline:counts()
  local counts = {}
  for name, value in pairs(read_counts(self.name)) do
    local n = value - (self.counted[name] or 0)
    if n > 0 then counts[name] = math.tointeger(n) or n end
  end
  return counts
end

-- --- messages ---

--- A script given as text lies in a file for a moment: its errors name it script.lua.
local function without_path(message, path)
  return (message:gsub(path:gsub("%p", "%%%0"), "script.lua"))
end

local SEND = { key = true, headers = true, timestamp = true, topic = true, partition = true, offset = true,
  attempt = true }

local function append(list, items)
  for _, item in ipairs(items) do list[#list + 1] = item end
end

--- Sends one message through the pipeline. `value`: a table (sent as JSON), a string (those bytes), or null (a
--- tombstone). Returns what came of it: messages, rows, dropped (the reason), dead ({ class, error }).
function Pipeline:send(value, options)
  options = options or {}
  refuse_unknown(options, SEND, "send")
  if self.closed then fail("send: the pipeline is closed") end
  if options.headers ~= nil and type(options.headers) ~= "table" then
    fail("send: headers are { name = value }, got a %s", type(options.headers))
  end
  if type(value) == "table" then
    value = millrace.json.encode(value)
  elseif type(value) ~= "string" and value ~= M.null then
    fail("send: a message is a table, a string or null, got %s", value == nil and "nothing" or type(value))
  end
  local timestamp = seconds_of(options.timestamp or self.now, "timestamp")
  local offset = options.offset or self.next_offset
  self.next_offset = offset + 1
  local raw = self.core:process { value = value ~= M.null and value or nil, key = options.key,
    headers = data.read_headers(options.headers), timestamp_ms = math.floor(timestamp * 1000 + 0.5), now = self.now,
    topic = options.topic or self.topic, partition = options.partition or 0, offset = offset,
    attempt = options.attempt or 0 }
  take_log(self.log)
  if raw.verdict == "stop" or raw.verdict == "retry" then fail("the pipeline halts: %s", raw.error) end
  local result = { messages = {}, rows = {}, dropped = raw.reason }
  for i, message in ipairs(raw.messages) do result.messages[i] = data.show_message(message) end
  for i, row in ipairs(raw.rows) do result.rows[i] = data.show_row(row, self.readers) end
  if raw.class then
    local message = self.temporary and without_path(raw.error, self.temporary) or raw.error
    result.dead = { class = raw.class, error = message }
  end
  append(self.messages, result.messages)
  append(self.rows, result.rows)
  if result.dead then self.dead[#self.dead + 1] = result.dead end
  if result.dropped then self.dropped[result.dropped] = (self.dropped[result.dropped] or 0) + 1 end
  return result
end

--- Forgets what has come out so far. State of the script, lookup and clock stay.
function Pipeline:clear()
  self.messages, self.rows, self.dead, self.dropped, self.log = {}, {}, {}, {}, {}
end

-- --- the clock ---

--- Sets the clock: unix seconds, or a text such as "2026-11-22T17:31:18Z". No tick runs.
function Pipeline:set_now(time) self.now = seconds_of(time, "set_now") end

--- Lets time go by. The script's `tick`, if it has one, runs once for each second that begins.
function Pipeline:advance(seconds)
  if type(seconds) ~= "number" or seconds < 0 then fail("advance: expected seconds, got %s", tostring(seconds)) end
  local to = self.now + seconds
  for second = math.floor(self.now) + 1, math.floor(to) do
    self.now = second
    self:tick()
  end
  self.now = to
end

--- Runs the script's `tick` once, now: true; or nil and the error, which stands in the log too, as in the daemon.
function Pipeline:tick()
  local done, why = self.core:tick { now = self.now }
  take_log(self.log)
  if done then return true end
  why = self.temporary and without_path(why, self.temporary) or why
  self.log[#self.log + 1] = { level = "warn", text = why, message = "tick: " .. why }
  return nil, why
end

-- --- scripts ---

local function write_temporary(text)
  local path = os.tmpname()
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
  return path
end

--- Loads the script anew, as a reload does: a fresh state, or the old one if the new one does not load (nil and why).
--- `what`: nothing (the same file), a path, or { text = "..." }.
function Pipeline:reload(what)
  local text = type(what) == "table" and what.text or not what and self.text
  local path = text and write_temporary(text) or what
  local done, why = self.core:reload(path, self.now)
  if text then os.remove(path) end
  take_log(self.log)
  if not done then return nil, text and without_path(why, path) or why end
  self.text, self.temporary = text, text and path
  return true
end

--- Closes the pipeline. Not needed: the garbage collector does it.
function Pipeline:close()
  self.closed = true
  self.core:close()
end

local function open(spec)
  local core = { path = spec.path, now = spec.now, pipeline = spec.name, message = spec.message, topics = spec.topics,
    vars = spec.vars, time_limit = spec.time, memory_limit = spec.memory, output_limit = spec.output,
    max_message = spec.max_message, unit_outputs = spec.unit_outputs, unit_bytes = spec.unit_bytes,
    bundle_header = spec.bundle_header, distinct = spec.distinct }
  local self = setmetatable({ name = spec.name, topic = spec.topic, now = spec.now, next_offset = 0 }, Pipeline)
  self:clear()
  local rows
  if spec.key then
    rows = spec.rows or {}
    self.types = data.find_types(rows, spec.types)
    core.keys, core.columns = data.columns_of(spec, self.types)
    self.columns = {}
    for _, list in ipairs { core.keys, core.columns } do
      for _, column in ipairs(list) do self.columns[column[1]] = true end
    end
  elseif spec.rows then
    fail("%s has no lookup, so that no rows can be given", spec.what)
  end
  if spec.has_rows then
    core.table = "any"
    if spec.table then core.table, self.readers = data.read_table(spec.table) end
  end
  millrace.catch_log()
  self.counted = read_counts(spec.name)
  local why
  self.core, why = millrace.script(core)
  if not self.core then fail("%s", why) end
  if rows then self:lookup(rows) end
  take_log(self.log)
  return self
end

local PIPELINE = { config = true, pipeline = true, set = true, env = true, lookup = true, types = true, table = true,
  now = true }

local function load_config(options)
  local old = {}
  for name, value in pairs(options.env or {}) do
    old[name] = os.getenv(name) or false
    millrace.setenv(name, value)
  end
  local config, why = millrace.config(options.config or "config.lua", options.set)
  for name, value in pairs(old) do millrace.setenv(name, value or nil) end
  if not config then fail("%s", why) end
  return config
end

local function choose(pipelines, name)
  local names = data.sorted_names(pipelines)
  if not name and #names == 1 then return names[1] end
  if not name or not pipelines[name] then
    local what = name and ("there is no pipeline '%s'"):format(name) or "which pipeline? Say pipeline = ..."
    fail("%s; there are: %s", what, table.concat(names, ", "))
  end
  return name
end

--- Opens a pipeline of a config.lua. Options: config (default "config.lua"), pipeline (its name, if there are several),
--- lookup (rows), types (of its columns), table (of the Postgres sink), now, set, env.
function M.pipeline(options)
  options = options or {}
  refuse_unknown(options, PIPELINE, "testing.pipeline")
  local config = load_config(options)
  local name = choose(config.pipelines, options.pipeline)
  local p = config.pipelines[name]
  local lookup = p.lookup and config.lookups[p.lookup] or {}
  local kafka, postgres = p.sinks.kafka, p.sinks.postgres
  local topics = { kafka and kafka.topic }
  append(topics, kafka and kafka.allowed_topics or {})
  return open { what = "the pipeline " .. name, name = name, path = p.script, vars = p.vars,
    message = kafka ~= nil, topics = topics, bundle_header = kafka and kafka.bundle_header, has_rows = postgres ~= nil,
    table = options.table, key = lookup.key, columns = lookup.columns, distinct = lookup.distinct,
    rows = options.lookup, types = options.types, topic = p.source.topics[1],
    now = seconds_of(options.now or START, "now"), time = p.limits.time / 1000, memory = p.limits.memory,
    output = p.limits.output, max_message = p.max_message, unit_outputs = p.unit.outputs, unit_bytes = p.unit.bytes }
end

local SCRIPT = { path = true, text = true, key = true, columns = true, lookup = true, types = true, table = true,
  vars = true, topic = true, allowed_topics = true, now = true, limits = true, name = true, message = true,
  rows = true }
local LIMITS = { time = true, memory = true, output = true }

--- Opens a script without a configuration. Options: path or text; key (columns; then it has a lookup), columns, lookup
--- (rows), types; table; vars; topic and allowed_topics of the Kafka sink; message = false, rows = false: no such sink;
--- limits = { time = seconds, memory = bytes, output = bytes }; now.
function M.script(options)
  if type(options) == "string" then options = { path = options } end
  refuse_unknown(options, SCRIPT, "testing.script")
  refuse_unknown(options.limits or {}, LIMITS, "testing.script: limits")
  if (options.path == nil) == (options.text == nil) then fail("testing.script: give either path or text") end
  local path = options.path or write_temporary(options.text)
  local limits = options.limits or {}
  local key, topics = options.key, { options.topic or "topic_out" }
  if type(key) == "string" then key = { key } end
  append(topics, options.allowed_topics or {})
  local opened, result = pcall(open, { what = "the script", name = options.name or "script", path = path,
    vars = options.vars, message = options.message ~= false, topics = topics, has_rows = options.rows ~= false,
    table = options.table, key = key, columns = options.columns, rows = options.lookup, types = options.types,
    topic = "topic_in", now = seconds_of(options.now or START, "now"), time = limits.time, memory = limits.memory,
    output = limits.output })
  if options.text then os.remove(path) end
  if not opened then error(options.text and without_path(result, path) or result, 0) end
  if options.text then result.text, result.temporary = options.text, path end
  return result
end

return M
