--- A second JSON reader, for the property test: slow, strict, exact in int64, floats, nulls and empty lists.
--
-- It shares no line with the core. It gives the descriptions that jsongen.lua makes, and is stricter than JSON where
-- Millrace's output is defined further: names sorted bytewise and each once, no blanks, escapes only where needed.
local M = {}

local function fail(text, at, what)
  error(("%s at byte %d of %q"):format(what, at, text), 0)
end

local UNESCAPED = { b = "\b", f = "\f", n = "\n", r = "\r", t = "\t", ['"'] = '"', ["\\"] = "\\", ["/"] = "/" }

local function read_string(text, at)
  local parts = {}
  at = at + 1
  while true do
    local plain, stop = text:match('^([^"\\%c]*)()', at)
    parts[#parts + 1] = plain
    local c = text:sub(stop, stop)
    if c == '"' then
      local value = table.concat(parts)
      if not utf8.len(value) then fail(text, at, "not UTF-8") end
      return value, stop + 1
    elseif c == "\127" then
      parts[#parts + 1] = c
      at = stop + 1
    elseif c ~= "\\" then
      fail(text, stop, "a control character or the end in a string")
    elseif text:sub(stop + 1, stop + 1) == "u" then
      local code = tonumber(text:match("^%x%x%x%x", stop + 2), 16)
      if not code or code >= 32 then fail(text, stop, "an escape that is not needed") end
      parts[#parts + 1] = utf8.char(code)
      at = stop + 6
    else
      parts[#parts + 1] = UNESCAPED[text:sub(stop + 1, stop + 1)] or fail(text, stop, "an unknown escape")
      at = stop + 2
    end
  end
end

local read

local function read_array(text, at)
  local items = {}
  if text:sub(at + 1, at + 1) == "]" then return { kind = "array", v = items }, at + 2 end
  repeat
    items[#items + 1], at = read(text, at + 1)
    local c = text:sub(at, at)
    if c ~= "," and c ~= "]" then fail(text, at, "',' or ']' expected") end
  until c == "]"
  return { kind = "array", v = items }, at + 1
end

local function read_object(text, at)
  local items, before = {}, nil
  if text:sub(at + 1, at + 1) == "}" then return { kind = "object", v = items }, at + 2 end
  repeat
    local name
    if text:sub(at + 1, at + 1) ~= '"' then fail(text, at, "a name expected") end
    name, at = read_string(text, at + 1)
    -- not `before < name`: that is strcoll
    if before and not M.bytes_less(before, name) then fail(text, at, "names are not sorted") end
    before = name
    if text:sub(at, at) ~= ":" then fail(text, at, "':' expected") end
    items[name], at = read(text, at + 1)
    local c = text:sub(at, at)
    if c ~= "," and c ~= "}" then fail(text, at, "',' or '}' expected") end
  until c == "}"
  return { kind = "object", v = items }, at + 1
end

function M.bytes_less(a, b)
  for i = 1, math.min(#a, #b) do
    if a:byte(i) ~= b:byte(i) then return a:byte(i) < b:byte(i) end
  end
  return #a < #b
end

function read(text, at)
  local c = text:sub(at, at)
  if c == "[" then return read_array(text, at) end
  if c == "{" then return read_object(text, at) end
  if c == '"' then
    local value, stop = read_string(text, at)
    return { kind = "string", v = value }, stop
  end
  for word, value in pairs { null = { kind = "null" }, ["true"] = { kind = "boolean", v = true },
    ["false"] = { kind = "boolean", v = false } } do
    if text:sub(at, at + #word - 1) == word then return value, at + #word end
  end
  local number = text:match("^-?%d+%.?%d*[eE]?[-+]?%d*", at) or fail(text, at, "a value expected")
  if number:find "[.eE]" then return { kind = "float", v = tonumber(number) }, at + #number end
  local value = math.tointeger(tonumber(number))
  if not value or ("%d"):format(value) ~= number then fail(text, at, "an integer beyond int64") end
  return { kind = "integer", v = value }, at + #number
end

--- What one JSON text means; raises what is wrong with it.
function M.read(text)
  local value, at = read(text, 1)
  if at ~= #text + 1 then fail(text, at, "more than one value") end
  return value
end

--- The first difference of two descriptions, or nil.
function M.difference(a, b, path)
  path = path or "value"
  if a.kind ~= b.kind then return ("%s: %s and %s"):format(path, a.kind, b.kind) end
  if a.kind == "float" then
    if string.pack("d", a.v) ~= string.pack("d", b.v) then return ("%s: %.17g and %.17g"):format(path, a.v, b.v) end
  elseif a.kind == "array" or a.kind == "object" then
    for key, item in pairs(a.v) do
      if not b.v[key] then return ("%s: no %q"):format(path, key) end
      local found = M.difference(item, b.v[key], path .. "." .. key)
      if found then return found end
    end
    for key in pairs(b.v) do
      if not a.v[key] then return ("%s: %q is new"):format(path, key) end
    end
  elseif a.v ~= b.v then
    return ("%s: %q and %q"):format(path, tostring(a.v), tostring(b.v))
  end
end

return M
