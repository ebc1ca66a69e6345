-- testing.lua - millrace.testing: a pipeline in a spec, with a table made of Lua rows and a clock that the spec turns.
--
-- Part of the binary and of millrace.so; runs in the Lua of the spec, given the module `millrace` (core/lua/module.c).
-- Message, script, lookup and stamper take the way they take in the daemon; what is not there is Kafka, Postgres and
-- time. The reference for users: docs/TESTING.md. Tests: tests/spec/testing_spec.lua.
local millrace = ...

local M = { null = millrace.null, array = millrace.array, json = millrace.json, time = millrace.time }

local START = 1767225600 -- 2026-01-01T00:00:00Z: where the clock of a pipeline stands unless the spec says so

local Pipeline = {}
Pipeline.__index = Pipeline

--- Raises, with the line of the spec that asked for it.
local function fail(format, ...)
  local where = ""
  for level = 2, 50 do
    local info = debug.getinfo(level, "Sl")
    if not info then break end
    if info.source ~= "=testing.lua" and info.currentline > 0 then
      where = ("%s:%d: "):format(info.short_src, info.currentline)
      break
    end
  end
  error(where .. format:format(...), 0)
end

--- Unix seconds of a number or of a text such as 2026-11-22T17:31:18Z.
local function seconds_of(time, what)
  if type(time) == "number" then return time end
  local seconds, why
  if type(time) == "string" then seconds, why = millrace.time.parse(time) end
  if not seconds then
    fail("%s: expected unix seconds or a text such as \"2026-11-22T17:31:18Z\", got %s", what, why or type(time))
  end
  return seconds
end

local function sorted_names(set)
  local names = {}
  for name in pairs(set) do names[#names + 1] = name end
  table.sort(names)
  return names
end

local function refuse_unknown(options, known, what)
  for name in pairs(options) do
    if not known[name] then
      fail("%s: there is no option '%s'; there are: %s", what, tostring(name), table.concat(sorted_names(known), ", "))
    end
  end
end

-- --- the fake table ---

-- Postgres's names of types, as the core names them.
local ALIASES = {
  boolean = "bool", integer = "int", bigint = "int", smallint = "int", ["double precision"] = "float", real = "float",
  varchar = "text", ["character varying"] = "text", timestamptz = "timestamp", jsonb = "json",
}
local TYPES = { bool = true, int = true, float = true, numeric = true, text = true, uuid = true, timestamp = true,
  date = true, json = true }

local function type_of_value(value)
  if value == nil or value == M.null then return nil end
  if type(value) == "table" then return "json" end
  if type(value) == "boolean" then return "bool" end
  if type(value) == "number" then return math.type(value) == "integer" and "int" or "float" end
  return "text"
end

local EPOCH = 946684800 -- of Postgres: 2000-01-01, in unix seconds

local into = {
  timestamp = function(value, what) return math.floor((seconds_of(value, what) - EPOCH) * 1000000 + 0.5) end,
  date = function(value, what) return (seconds_of(value, what) - EPOCH) // 86400 end,
  numeric = function(value) return tostring(value) end,
  text = function(value) return tostring(value) end,
  json = function(value) return type(value) == "string" and value or millrace.json.encode(value) end,
}

-- What C takes as it is; anything else is said with its place.
local AS_IT_IS = {
  int = function(value) return math.type(value) == "integer" end,
  float = function(value) return type(value) == "number" end,
  bool = function(value) return type(value) == "boolean" end,
  uuid = function(value) return type(value) == "string" end,
}

--- The type of each column: declared, else that of the first value that is not null, else text.
local function find_types(rows, declared)
  local types = {}
  for i, row in ipairs(rows) do
    if type(row) ~= "table" then fail("lookup: row %d is a %s; expected { column = value }", i, type(row)) end
    for name, value in pairs(row) do
      local of = type_of_value(value)
      if of == "float" and types[name] == "int" or not types[name] then types[name] = of end
    end
  end
  for name, given in pairs(declared or {}) do
    local known = ALIASES[given] or given
    if not TYPES[known] then fail("types.%s: '%s' is not a type of a column", name, tostring(given)) end
    types[name] = known
  end
  return types
end

--- The rows as the core takes them; `known`: the names of the lookup's columns.
local function convert(rows, types, known)
  local list = {}
  for i, row in ipairs(rows) do
    local copy = {}
    for name, value in pairs(row) do
      if not known[name] then
        fail("lookup: row %d has a column '%s'; the lookup has %s", i, name, table.concat(sorted_names(known), ", "))
      end
      local of, where = types[name], ("lookup: row %d, column %s"):format(i, name)
      local fits = value == M.null or not AS_IT_IS[of] or AS_IT_IS[of](value)
      if not fits then fail("%s: expected %s, got %s", where, of, type(value)) end
      copy[name] = into[of] and value ~= M.null and into[of](value, where) or value
    end
    list[i] = copy
  end
  return list
end

--- Lists of { name, type }, in the order of the configuration: it is the order of the rows too.
local function columns_of(spec, types)
  local keys, columns = {}, {}
  for i, name in ipairs(spec.key) do keys[i] = { name, types[name] or "text" } end
  for i, name in ipairs(spec.columns or sorted_names(types)) do columns[i] = { name, types[name] or "text" } end
  return keys, columns
end

--- Replaces the rows of the lookup. Columns and types stay what they were when the pipeline was opened.
function Pipeline:lookup(rows)
  if not self.types then fail("the pipeline has no lookup") end
  self.core:fill(convert(rows, self.types, self.columns))
end

-- --- the table that takes the rows ---

-- What a row's field, a text, is in Lua, by the declared type.
local back = {
  integer = math.tointeger, bigint = math.tointeger, smallint = math.tointeger,
  boolean = function(text) return text == "true" end,
  real = tonumber, ["double precision"] = tonumber, json = millrace.json.decode, jsonb = millrace.json.decode,
}

--- { "client_id text not null", ... } or { client_id = "text not null" }: a list of texts, and how fields come back.
local function read_table(columns)
  local list, readers = {}, {}
  for name, text in pairs(columns) do
    list[#list + 1] = type(name) == "number" and text or name .. " " .. text
  end
  for _, text in ipairs(list) do
    local name, kind = text:match "^(%S+) (.*)$"
    if not name then fail("table: '%s' is not a column: write \"name type\"", text) end
    readers[name] = back[kind:gsub(" not null", ""):gsub(" default", ""):gsub(" generated", "")] or tostring
  end
  return list, readers
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

local function read_headers(headers)
  local list = {}
  if not headers then return list end
  for name, value in pairs(headers) do
    list[#list + 1] = type(name) == "number" and value or { name, value }
  end
  table.sort(list, function(a, b) return a[1] < b[1] end)
  return #headers > 0 and headers or list
end

local function show_message(raw)
  local message = { topic = raw.topic, text = raw.value, headers = {} }
  if raw.key ~= M.null then message.key = raw.key end
  for _, header in ipairs(raw.headers) do
    if header[1] == "millrace-bundle" then
      message.bundle = header[2]
    else
      message.headers[header[1]] = header[2]
    end
  end
  local decoded, value = false, raw.value
  if raw.value ~= M.null then decoded, value = pcall(millrace.json.decode, raw.value) end
  if decoded then message.value = value else message.value = raw.value end
  return message
end

local function show_row(raw, readers)
  local row = {}
  for name, text in pairs(raw) do
    local read = readers and readers[name] or millrace.json.decode
    if text == M.null then row[name] = text else row[name] = read(text) end
  end
  return row
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
    headers = read_headers(options.headers), timestamp_ms = math.floor(timestamp * 1000 + 0.5), now = self.now,
    topic = options.topic or self.topic, partition = options.partition or 0, offset = offset,
    attempt = options.attempt or 0 }
  take_log(self.log)
  if raw.verdict == "stop" or raw.verdict == "retry" then fail("the pipeline halts: %s", raw.error) end
  local result = { messages = {}, rows = {}, dropped = raw.reason }
  for i, message in ipairs(raw.messages) do result.messages[i] = show_message(message) end
  for i, row in ipairs(raw.rows) do result.rows[i] = show_row(row, self.readers) end
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
    self.types = find_types(rows, spec.types)
    core.keys, core.columns = columns_of(spec, self.types)
    self.columns = {}
    for _, list in ipairs { core.keys, core.columns } do
      for _, column in ipairs(list) do self.columns[column[1]] = true end
    end
  elseif spec.rows then
    fail("%s has no lookup, so that no rows can be given", spec.what)
  end
  if spec.has_rows then
    core.table = "any"
    if spec.table then core.table, self.readers = read_table(spec.table) end
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
  local names = sorted_names(pipelines)
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
