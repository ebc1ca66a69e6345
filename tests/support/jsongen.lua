--- Random JSON: texts with every kind of value, and what they mean, from one seed.
--
-- Values are described by tables of their own ({ kind =, ... }), so that nothing depends on the decoder under test.
local M = {}

-- xorshift64*: the same run for the same seed, wherever it runs.
function M.new(seed)
  local state = seed ~= 0 and seed or 88172645463325252
  local gen = {}
  function gen.bits()
    state = state ~ (state >> 12)
    state = state ~ (state << 25)
    state = state ~ (state >> 27)
    return state * 0x2545F4914F6CDD1D
  end
  function gen.below(n) return (gen.bits() >> 1) % n end
  function gen.pick(list) return list[gen.below(#list) + 1] end
  return gen
end

local INTEGERS = { 0, 1, -1, 255, -256, 2147483647, -2147483648, 2147483648, 4294967296, 9007199254740991,
  9007199254740992, 9007199254740993, -9007199254740993, math.maxinteger, math.mininteger, math.maxinteger - 1 }
local FLOATS = { "0.0", "-0.0", "1.0", "1.5", "-2.25", "0.1", "1e10", "1E+2", "1e-7", "3.141592653589793", "5e-324",
  "2.2250738585072014e-308", "1.7976931348623157e308", "9007199254740993.0", "123456789.123456789", "0.1e1", "1e22",
  "1e23", "4.35", "0.000001", "100000000000000000000.0" }
local CODES = { 0, 1, 8, 9, 10, 13, 31, 32, 34, 38, 39, 47, 60, 92, 127, 128, 0xe9, 0x7ff, 0x800, 0x2028, 0x20ac,
  0xd7ff, 0xe000, 0xfffd, 0xffff, 0x10000, 0x1f600, 0x10ffff }
local SHORT = { [8] = "\\b", [9] = "\\t", [10] = "\\n", [12] = "\\f", [13] = "\\r", [34] = '\\"', [47] = "\\/",
  [92] = "\\\\" }

local function escaped(code)
  if code < 0x10000 then return ("\\u%04x"):format(code) end
  code = code - 0x10000
  return ("\\u%04X\\u%04x"):format(0xd800 + (code >> 10), 0xdc00 + (code & 0x3ff))
end

--- The text of one string with its quotes, and what it means.
local function string_of(gen)
  local text, value = { '"' }, {}
  for _ = 1, gen.below(12) do
    local code = gen.below(3) == 0 and gen.pick(CODES) or 97 + gen.below(26)
    value[#value + 1] = utf8.char(code)
    local must = code < 32 or code == 34 or code == 92
    if SHORT[code] and gen.below(2) == 0 then text[#text + 1] = SHORT[code]
    elseif must or gen.below(8) == 0 then text[#text + 1] = escaped(code)
    else text[#text + 1] = utf8.char(code) end
  end
  text[#text + 1] = '"'
  return table.concat(text), table.concat(value)
end

local function space(gen)
  return gen.below(6) == 0 and gen.pick { " ", "\n", "\t", "\r\n  " } or ""
end

local function value_of(gen, depth)
  local kind = gen.below(depth > 0 and 9 or 7)
  if kind == 0 then return "null", { kind = "null" } end
  if kind == 1 then
    local b = gen.below(2) == 0
    return tostring(b), { kind = "boolean", v = b }
  end
  if kind <= 3 then
    local i = gen.below(2) == 0 and gen.pick(INTEGERS) or gen.bits() >> gen.below(64)
    return ("%d"):format(i), { kind = "integer", v = i }
  end
  if kind == 4 then
    local text = gen.pick(FLOATS)
    if gen.below(2) == 0 then
      local f = string.unpack("d", string.pack("i8", gen.bits()))
      if f == f and f ~= math.huge and f ~= -math.huge then text = ("%.17g"):format(f) end
      if not text:find "[.eE]" then text = text .. ".0" end
    end
    return text, { kind = "float", v = tonumber(text) }
  end
  if kind <= 6 then
    local text, value = string_of(gen)
    return text, { kind = "string", v = value }
  end
  local texts, items = {}, {}
  local n = gen.below(5)
  if kind == 7 then
    for i = 1, n do texts[i], items[i] = value_of(gen, depth - 1) end
    for i = 1, n do texts[i] = space(gen) .. texts[i] .. space(gen) end
    return "[" .. table.concat(texts, ",") .. "]", { kind = "array", v = items }
  end
  for i = 1, n do
    local name_text, name = string_of(gen)
    local text, value = value_of(gen, depth - 1)
    texts[i] = space(gen) .. name_text .. space(gen) .. ":" .. space(gen) .. text
    items[name] = value -- the last of doubled names
  end
  return "{" .. table.concat(texts, ",") .. space(gen) .. "}", { kind = "object", v = items }
end

--- One JSON text and its meaning.
function M.value(gen)
  return value_of(gen, 1 + gen.below(6))
end

return M
