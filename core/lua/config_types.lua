-- config_types.lua - reads one value of each type of option: from what the user wrote to what the tree holds.
--
-- A reader gets the value and the option and returns the value for the tree, or nil and a sentence. Numbers and
-- booleans may come as text, since env() and --set give text. `show` writes a value as the user would write it.
-- Pure functions, in the trusted state of config.c. Tests: tests/spec/config_spec.lua.

local need = ...
local report = need "config_report"
local run = need "config_run"

local types = {}

local ARTICLE = { integer = "an integer", boolean = "true or false", string = "a string",
                  table = "a table", list = "a list of strings", properties = "a table of properties",
                  pairs = 'names, or ["field"] = "column"',
                  duration = 'a duration such as "500ms", "60s", "5m" or "1h"',
                  size = 'a size such as "512KB", "64MB" or "1GB"', enum = "a string" }

function types.expected(kind)
  return ARTICLE[kind] or kind
end

--- Text in quotes, short, without control characters.
function types.quote(text)
  text = report.mask_dsn(text)
  if #text > 60 then text = text:sub(1, 57) .. "..." end
  return '"' .. text:gsub('[%c"\\]', function(c)
    return (c == '"' or c == "\\") and "\\" .. c or ("\\%03d"):format(c:byte())
  end) .. '"'
end

--- What a value is, for "expected ..., got ...".
function types.got(value)
  if run.secret(value) then return "a secret" end
  local kind = type(value)
  if kind == "string" then return "the string " .. types.quote(value) end
  if kind == "number" then return "the number " .. tostring(value) end
  if kind == "boolean" then return tostring(value) end
  return "a " .. kind
end

local function wrong(value, option)
  return nil, ("expected %s, got %s"):format(types.expected(option.type), types.got(value))
end

local function in_range(n, option, low, high)
  if (low and n < low) or (high and n > high) then
    local range
    if low and high then range = ("%s to %s"):format(option.min, option.max)
    elseif low then range = ("at least %s"):format(option.min)
    else range = ("at most %s"):format(option.max) end
    return nil, "out of range: expected " .. range
  end
  return n
end

--- Number and unit: "1.5s" to a whole number of the smallest unit, or nil.
local function with_unit(text, units)
  local digits, unit = text:match("^%s*(%d+%.?%d*)%s*(%a+)%s*$")
  local factor = unit and units[unit]
  if not factor then return nil end
  local n = tonumber(digits) * factor
  return n < 2 ^ 62 and math.tointeger(n) or nil
end

local DURATION = { ms = 1, s = 1000, m = 60 * 1000, h = 3600 * 1000, d = 86400 * 1000 }
local SIZE = { B = 1, KB = 1 << 10, MB = 1 << 20, GB = 1 << 30, TB = 1 << 40,
               KiB = 1 << 10, MiB = 1 << 20, GiB = 1 << 30, TiB = 1 << 40 }

--- `usual`: the unit that is proposed where the option's default does not tell a better one.
local function unit_reader(units, usual)
  return function(value, option)
    if type(value) ~= "string" then
      local plain = math.type(value) == "integer"
      local _, sentence = wrong(value, option)
      local unit = type(option.default) == "string" and option.default:match("%a+$") or usual
      return nil, plain and sentence .. ("; write the unit: %q"):format(value .. unit) or sentence
    end
    local n = with_unit(value, units)
    if not n then return wrong(value, option) end
    return in_range(n, option, option.min and with_unit(option.min, units), option.max and with_unit(option.max, units))
  end
end

types.duration = unit_reader(DURATION, "s")
types.size = unit_reader(SIZE, "MB")

function types.string(value, option)
  if type(value) ~= "string" then return wrong(value, option) end
  if value:find("\0", 1, true) then return nil, "a zero byte cannot stand here" end
  if value == "" and not option.may_be_empty then return nil, "it is empty; expected text" end
  if option.pattern and not value:find(option.pattern) then
    return nil, ("expected %s, got %s"):format(option.pattern_text, types.quote(value))
  end
  return value
end

function types.integer(value, option)
  local n = math.tointeger(value)
  if type(value) == "string" then n = math.tointeger(tonumber(value)) end
  if not n then return wrong(value, option) end
  local ok, why = in_range(n, option, option.min, option.max)
  return ok, why and ("%s is %s"):format(n, why)
end

function types.boolean(value, option)
  if value == "true" then return true end
  if value == "false" then return false end
  if type(value) ~= "boolean" then return wrong(value, option) end
  return value
end

function types.enum(value, option, nearest)
  if type(value) ~= "string" then
    return nil, ("expected one of %s, got %s"):format(types.one_of(option.values), types.got(value))
  end
  for _, known in ipairs(option.values) do
    if value == known then return value end
  end
  local near = nearest(value, option.values)
  return nil, ("expected %s, got %s%s"):format(
    #option.values > 1 and "one of " .. types.one_of(option.values) or types.one_of(option.values), types.quote(value),
    near and ("; did you mean %q?"):format(near) or "")
end

function types.one_of(values)
  local quoted = {}
  for i, value in ipairs(values) do quoted[i] = '"' .. value .. '"' end
  return table.concat(quoted, ", ")
end

--- A number of things, or a share of them: kept as text, "3" or "20%".
function types.share(value)
  local n = math.type(value) == "integer" and value or type(value) == "string" and math.tointeger(tonumber(value))
  if n and n >= 0 and n < 2 ^ 53 then return tostring(n) end
  local percent = type(value) == "string" and tonumber(value:match("^%s*(%d+%.?%d*)%s*%%%s*$"))
  if percent and percent <= 100 then return ("%.14g%%"):format(percent) end
  return nil, ('expected a number, or a share such as "20%%", got %s'):format(types.got(value))
end

--- In place of an interval: core/cli/wire.c knows them.
local FEEDS = { auto = 0, logical = -1, changelog = -2 }

--- One of FEEDS, or "reload <duration>" with its milliseconds; nil, and how it is written.
function types.refresh(value)
  local expected = 'expected "auto", "logical", "changelog" or "reload 60s"'
  if type(value) ~= "string" then return nil, ("%s, got %s"):format(expected, types.got(value)) end
  if FEEDS[value] then return FEEDS[value], nil, value end
  local interval = value:match("^%s*reload%s+(.-)%s*$")
  local interval_ms = interval and with_unit(interval, DURATION)
  if not interval_ms then return nil, ("%s, got %s"):format(expected, types.quote(value)) end
  if interval_ms < 1000 then return nil, 'the interval is too short: expected at least "1s"' end
  return interval_ms, nil, "reload " .. types.show_duration(interval_ms)
end

local function show_with(n, names, units)
  for _, name in ipairs(names) do
    if n ~= 0 and n % units[name] == 0 then return ("%d%s"):format(n // units[name], name) end
  end
  return "0" .. names[#names]
end

function types.show_duration(n)
  -- "60s" reads better than "1m".
  if n % 1000 == 0 and n > 0 and n <= 120 * 1000 then return ("%ds"):format(n // 1000) end
  return show_with(n, { "d", "h", "m", "s", "ms" }, DURATION)
end

function types.show_size(n)
  return show_with(n, { "GB", "MB", "KB", "B" }, SIZE)
end

--- Checks of strings beyond the type, by `format`; other rooms check the rest (sys in config_check.lua).
types.format = {}

function types.format.column(value)
  local fine = value ~= "" and #value <= 63 and not value:find("%c")
  return fine or ("expected the name of a column, at most 63 bytes, got " .. types.quote(value))
end

--- A way through JSON, or one of the two parts of a message that are not its value.
function types.format.field(value)
  local fine = value == "@key" or value == "@timestamp"
    or value:sub(1, 1) ~= "@" and not value:find("%c") and not ("." .. value .. "."):find("..", 1, true)
  return fine or ('expected a field such as "client_id", "payload.client_id" or "@key", got ' .. types.quote(value))
end

function types.format.topic(value)
  local fine = #value <= 249 and value:find("^[%w%._%-]+$") and value ~= "." and value ~= ".."
  return fine or ("expected a topic name of letters, digits, '.', '_' and '-', at most 249 long, got "
    .. types.quote(value))
end

return types
