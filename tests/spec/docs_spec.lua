-- The examples of the documentation run: each ```lua block of docs/LUA.md, docs/TESTING.md and README.md is loaded by
-- the real core. The word behind `lua` says what a block is: config, script (a whole one, or some of its functions; so
-- is a block without a word that defines some), or spec.
local testing = require "millrace.testing"

local FILES = { "README.md", "docs/LUA.md", "docs/TESTING.md", "docs/REHEARSAL.md" }

local function read(path)
  local file <close> = assert(io.open(path))
  return file:read "a"
end

--- { kind, text, line } of each block.
local function blocks(path)
  local list, block, number = {}, nil, 0
  for line in (read(path) .. "\n"):gmatch "(.-)\n" do
    number = number + 1
    local kind = line:match "^```lua%s*(%S*)$"
    if kind then
      block = { kind = kind, lines = {}, line = number, at = path .. ":" .. number }
      list[#list + 1] = block
    elseif line == "```" then
      block = nil
    elseif block then
      block.lines[#block.lines + 1] = line
    end
  end
  for _, each in ipairs(list) do
    each.text = table.concat(each.lines, "\n") .. "\n"
    if each.kind == "" and each.text:find "function %a+[.]%a" then each.kind = "script" end
  end
  return list
end

--- Runs beside config.lua, so that the scripts it names are found.
local function run_config(block)
  local path = ("docs_spec_%d.tmp.lua"):format(block.line)
  local file = assert(io.open(path, "w"))
  file:write(block.text)
  file:close()
  local done, why = pcall(testing.pipeline, { config = path })
  os.remove(path)
  assert(done, why)
end

--- A part of a script is made whole: the functions that a pipeline must have are added.
local function run_script(block)
  local text = block.text
  local name = text:match "function ([%a_]+)[.]" or text:match "\n([%a_]+)[.]fields =" or "s"
  local joined = text:find "[.]key[%s(]" or text:find "[.]project[%s(]" or text:find "[.]each[%s(]"
  if not text:find "\nreturn %w" and not text:find "^return %w" then
    local rest = {}
    local function add(fn, body)
      if not text:find("[.]" .. fn .. "[%s(]") then
        rest[#rest + 1] = ("function %s.%s(msg) %s end"):format(name, fn, body)
      end
    end
    if joined then
      add("key", "return msg.key")
      if not text:find "[.]each[%s(]" then add("project", "return {}") end
    else
      add("map", "return msg")
    end
    text = ("local %s = {} %s\n%s\nreturn %s\n"):format(name, text, table.concat(rest, "\n"), name)
  end
  testing.script { text = text, key = joined and "key" or nil,
    types = { client_id = "text", name = "text", visits = "int" },
    columns = joined and { "client_id", "name", "visits" } or nil }
end

local KINDS = { config = run_config, script = run_script }

for _, path in ipairs(FILES) do
  describe(path, function()
    for _, block in ipairs(blocks(path)) do
      if block.kind == "spec" then
        describe("at line " .. block.line, assert(load(block.text, "@" .. block.at, "t", _ENV)))
      else
        it(("is right at line %d (%s)"):format(block.line, block.kind), function()
          local run = KINDS[block.kind]
          assert(run, block.at .. ": say what the block is: ```lua config, ```lua script or ```lua spec")
          run(block)
        end)
      end
    end
  end)
end

it("finds the examples", function()
  local n = 0
  for _, path in ipairs(FILES) do n = n + #blocks(path) end
  assert.is_true(n >= 5)
end)
