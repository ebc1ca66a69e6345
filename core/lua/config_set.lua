-- config_set.lua - `--set path=value`: changes what config.lua returned, before anything is checked.
--
-- Tables on the way are copied, so that a table that the file uses twice changes in one place only. What was
-- set remembers its --set, so that errors point to it. Values are taken as text; the checks read numbers,
-- booleans, durations and sizes from it. Lists and tables are written as in Lua: {"a", "b"}.
-- Runs once, in the trusted state of config.c. Tests: tests/spec/config_spec.lua.

local need = ...
local report = need "config_report"

local set = {}

--- "a.b["c.d"][1]" to a list of { key, column, length }; nil and where it ends to make sense.
local function split_path(text)
  local segments, at = {}, 1
  while true do
    local first, last, key = text:find("^([%a_][%w_%-]*)", at)
    if not first then
      first, last, key = text:find('^%["(.-)"%]', at)
    end
    if not first then
      first, last, key = text:find("^%['(.-)'%]", at)
      if not first then
        first, last, key = text:find("^%[(%d+)%]", at)
        key = tonumber(key)
      end
    end
    if not first then return nil, at end
    segments[#segments + 1] = { key = key, column = first, length = last - first + 1 }
    at = last + 1
    local c = text:sub(at, at)
    if c == "=" then return segments, at end
    if c == "." then at = at + 1 elseif c ~= "[" then return nil, at end
  end
end

--- The option that the segments lead to, and the number of segments that name it. Inside properties the rest of
--- the path is one name, dots and all: source.kafka.fetch.min.bytes.
local function find_option(spec, segments)
  for i, segment in ipairs(segments) do
    if spec.type == "properties" then
      local names = {}
      for j = i, #segments do names[#names + 1] = tostring(segments[j].key) end
      local last = segments[#segments]
      segments[i] = { key = table.concat(names, "."), column = segment.column,
                      length = last.column + last.length - segment.column }
      for j = #segments, i + 1, -1 do segments[j] = nil end
      return nil
    end
    if spec.type == "any" then return spec end
    spec = spec.kids and (spec.kids[segment.key] or spec.any)
    if not spec then return nil end
  end
  return spec
end

local LITERAL = { list = true, table = true, any = true, properties = true }

local function value_of(spec, text)
  if spec and LITERAL[spec.type] then
    local made = load("return " .. text, "=--set", "t", {})
    local ok, value = pcall(made or error)
    if ok and (value ~= nil or text == "nil") then return value end
  end
  return text
end

--- A copy of one level, which remembers where its keys stand.
local function copy_of(value, places)
  local copy = {}
  for key, item in next, value do copy[key] = item end
  places.origin[copy] = places.origin[value] or value
  places.set[copy] = {}
  for key, place in next, places.set[value] or {} do places.set[copy][key] = place end
  return copy
end

local function apply_one(config, number, text, spec, places, errors)
  local function fail(column, length, path, ...)
    errors:add({ set = number, line = number, column = column, length = length }, path, ...)
    return config
  end
  local segments, stop = split_path(text)
  if not segments then
    return fail(math.min(stop, #text + 1), 1, "--set",
      'expected path=value, such as pipelines.promo.workers=4 or \'lookups.a.columns={"b"}\'')
  end
  local option = find_option(spec, segments)
  local raw = text:sub(stop + 1)
  local value_place = { set = number, line = number, column = math.min(stop + 1, #text), length = math.max(#raw, 1) }
  local name = tostring(segments[#segments].key)
  local _, has_password = report.mask_dsn(raw)
  if report.is_secret_name(name) or has_password then
    errors:hide(raw)
    return fail(value_place.column, 3, text:sub(1, stop - 1),
      "a secret on the command line can be read by everyone on this machine; write "
      .. 'secret "env:NAME" in the file and set NAME')
  end
  local root = copy_of(config, places)
  local at = root
  for i, segment in ipairs(segments) do
    local key, last = segment.key, i == #segments
    local below = at[key]
    local place = { set = number, line = number, column = segment.column, length = segment.length }
    if not last and below ~= nil and type(below) ~= "table" then
      return fail(segment.column, segment.length, text:sub(1, segment.column + segment.length - 1),
        "this is a %s, not a table: nothing can be set in it", type(below))
    end
    if last or below == nil then
      places.set[at][key] = { key = place, value = last and value_place or place }
    end
    if last then
      at[key] = value_of(option, raw)
    else
      at[key] = copy_of(below or {}, places)
      at = at[key]
    end
  end
  return root
end

--- Applies all --set arguments, in order. `places.origin` and `places.set` are filled for config_check.
function set.apply(config, sets, spec, places, errors)
  for number, text in ipairs(sets) do
    config = apply_one(config, number, text, spec, places, errors)
  end
  return config
end

return set
