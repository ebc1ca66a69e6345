-- testing_data.lua - the data of a spec on its way into the core and back: times, rows, types, headers, messages.
--
-- Part of the binary and of millrace.so, used by testing.lua alone. Given the module `millrace`. Errors name the line
-- of the spec. Tests: tests/spec/testing_spec.lua.
local millrace = ...

local M = {}
local null = millrace.null

--- Raises, with the line of the spec that asked for it.
function M.fail(format, ...)
  local where = ""
  for level = 2, 50 do
    local info = debug.getinfo(level, "Sl")
    if not info then break end
    if not info.source:find "^=testing" and info.currentline > 0 then
      where = ("%s:%d: "):format(info.short_src, info.currentline)
      break
    end
  end
  error(where .. format:format(...), 0)
end

--- Unix seconds of a number or of a text such as 2026-11-22T17:31:18Z.
function M.seconds_of(time, what)
  if type(time) == "number" then return time end
  local seconds, why
  if type(time) == "string" then seconds, why = millrace.time.parse(time) end
  if not seconds then
    M.fail("%s: expected unix seconds or a text such as \"2026-11-22T17:31:18Z\", got %s", what, why or type(time))
  end
  return seconds
end

function M.sorted_names(set)
  local names = {}
  for name in pairs(set) do names[#names + 1] = name end
  table.sort(names)
  return names
end

--- The names of a set as one text.
function M.names(set) return table.concat(M.sorted_names(set), ", ") end

function M.refuse_unknown(options, known, what)
  for name in pairs(options) do
    if not known[name] then
      M.fail("%s: there is no option '%s'; there are: %s", what, tostring(name), M.names(known))
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
  if value == nil or value == null then return nil end
  if type(value) == "table" then return "json" end
  if type(value) == "boolean" then return "bool" end
  if type(value) == "number" then return math.type(value) == "integer" and "int" or "float" end
  return "text"
end

local EPOCH = 946684800 -- of Postgres: 2000-01-01, in unix seconds

local into = {
  timestamp = function(value, what) return math.floor((M.seconds_of(value, what) - EPOCH) * 1000000 + 0.5) end,
  date = function(value, what) return (M.seconds_of(value, what) - EPOCH) // 86400 end,
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
function M.find_types(rows, declared)
  local types = {}
  for i, row in ipairs(rows) do
    if type(row) ~= "table" then M.fail("lookup: row %d is a %s; expected { column = value }", i, type(row)) end
    for name, value in pairs(row) do
      local of = type_of_value(value)
      if of == "float" and types[name] == "int" or not types[name] then types[name] = of end
    end
  end
  for name, given in pairs(declared or {}) do
    local known = ALIASES[given] or given
    if not TYPES[known] then M.fail("types.%s: '%s' is not a type of a column", name, tostring(given)) end
    types[name] = known
  end
  return types
end

--- The rows as the core takes them; `known`: the names of the lookup's columns.
function M.convert(rows, types, known)
  local list = {}
  for i, row in ipairs(rows) do
    local copy = {}
    for name, value in pairs(row) do
      if not known[name] then
        M.fail("lookup: row %d has a column '%s'; the lookup has %s", i, name, M.names(known))
      end
      local of, where = types[name], ("lookup: row %d, column %s"):format(i, name)
      local fits = value == null or not AS_IT_IS[of] or AS_IT_IS[of](value)
      if not fits then M.fail("%s: expected %s, got %s", where, of, type(value)) end
      copy[name] = into[of] and value ~= null and into[of](value, where) or value
    end
    list[i] = copy
  end
  return list
end

--- Lists of { name, type }, in the order of the configuration: it is the order of the rows too.
function M.columns_of(spec, types)
  local keys, columns = {}, {}
  for i, name in ipairs(spec.key) do keys[i] = { name, types[name] or "text" } end
  for i, name in ipairs(spec.columns or M.sorted_names(types)) do columns[i] = { name, types[name] or "text" } end
  return keys, columns
end

-- --- the table that takes the rows ---

-- What a row's field, a text, is in Lua, by the declared type.
local back = {
  integer = math.tointeger, bigint = math.tointeger, smallint = math.tointeger,
  boolean = function(text) return text == "true" end,
  real = tonumber, ["double precision"] = tonumber, json = millrace.json.decode, jsonb = millrace.json.decode,
}

--- { "client_id text not null", ... } or { client_id = "text not null" }: a list of texts, and how fields come back.
function M.read_table(columns)
  local list, readers = {}, {}
  for name, text in pairs(columns) do
    list[#list + 1] = type(name) == "number" and text or name .. " " .. text
  end
  for _, text in ipairs(list) do
    local name, kind = text:match "^(%S+) (.*)$"
    if not name then M.fail("table: '%s' is not a column: write \"name type\"", text) end
    readers[name] = back[kind:gsub(" not null", ""):gsub(" default", ""):gsub(" generated", "")] or tostring
  end
  return list, readers
end

-- --- messages ---

function M.read_headers(headers)
  local list = {}
  if not headers then return list end
  for name, value in pairs(headers) do
    list[#list + 1] = type(name) == "number" and value or { name, value }
  end
  table.sort(list, function(a, b) return a[1] < b[1] end)
  return #headers > 0 and headers or list
end

function M.show_message(raw)
  local message = { topic = raw.topic, text = raw.value, headers = {} }
  if raw.key ~= null then message.key = raw.key end
  for _, header in ipairs(raw.headers) do
    if header[1] == "millrace-bundle" then
      message.bundle = header[2]
    else
      message.headers[header[1]] = header[2]
    end
  end
  local decoded, value = false, raw.value
  if raw.value ~= null then decoded, value = pcall(millrace.json.decode, raw.value) end
  if decoded then message.value = value else message.value = raw.value end
  return message
end

function M.show_row(raw, readers)
  local row = {}
  for name, text in pairs(raw) do
    local read = readers and readers[name] or millrace.json.decode
    if text == null then row[name] = text else row[name] = read(text) end
  end
  return row
end

return M
