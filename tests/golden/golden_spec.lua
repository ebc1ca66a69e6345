-- Triplets: <case>/script.lua, <case>/input.lua, <case>/expected.txt. Anyone can add one: write the first two, run
--   MILLRACE_UPDATE=1 tests/spec/run golden
-- and read what it wrote before believing it.
--
-- input.lua returns the options of millrace.script (see core/lua/module.c) with `now`, `rows` (of the lookup), and
-- `messages`: values as text, or tables of what process takes. Without script.lua, options.path names the script.
local millrace = require "millrace"

local root = "tests/golden/"

local function read(path)
  local file = io.open(path, "rb")
  if not file then return nil end
  local text = file:read "a"
  file:close()
  return text
end

--- Bytes as one line of UTF-8; null as such.
local function shown(bytes)
  if bytes == millrace.null then return "null" end
  return (bytes:gsub(utf8.len(bytes) and "%c" or "[%c\x80-\xff]", function(c) return ("\\x%02x"):format(c:byte()) end))
end

local function sorted(row)
  local names, parts = {}, {}
  for name in pairs(row) do names[#names + 1] = name end
  table.sort(names)
  for i, name in ipairs(names) do parts[i] = name .. "=" .. shown(row[name]) end
  return table.concat(parts, " | ")
end

local function render(got)
  local lines = {}
  local function line(format, ...) lines[#lines + 1] = format:format(...) end
  if got.verdict ~= "emit" then
    line("  %s %s", got.verdict, got.reason or got.class .. ": " .. got.error:match "^[^\n]*")
  end
  for _, message in ipairs(got.messages) do
    line("  message %s", shown(message.value))
    if message.key ~= millrace.null then line("    key %s", shown(message.key)) end
    for _, header in ipairs(message.headers) do line("    header %s: %s", shown(header[1]), shown(header[2])) end
  end
  for _, row in ipairs(got.rows) do line("  row %s", sorted(row)) end
  return table.concat(lines, "\n") .. "\n"
end

local function run(case)
  local input = dofile(root .. case .. "/input.lua")
  input.path = input.path or root .. case .. "/script.lua"
  local script, why = millrace.script(input)
  if not script then return "not loaded: " .. why:match "^[^\n]*" .. "\n" end
  local parts = {}
  for i, message in ipairs(input.messages) do
    if type(message) == "string" then message = { value = message } end
    message.now = message.now or input.now
    message.rows = message.rows or input.rows
    parts[i] = ("%d %s\n%s"):format(i, message.value and shown(message.value) or "null",
      render(script:process(message)))
  end
  script:close()
  return table.concat(parts)
end

describe("golden", function()
  local list = assert(io.popen("ls -d " .. root .. "*/"))
  local n = 0
  for path in list:lines() do
    local case = path:match "([^/]+)/$"
    n = n + 1
    it(case, function()
      local got = run(case)
      if os.getenv "MILLRACE_UPDATE" then
        local file = assert(io.open(path .. "expected.txt", "wb"))
        file:write(got)
        file:close()
      end
      assert.equal(read(path .. "expected.txt"), got)
    end)
  end
  list:close()
  it("has cases", function() assert.is_true(n > 0) end)
end)
