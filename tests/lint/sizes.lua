-- sizes.lua - prints the three longest files and functions; the soft limits are 400 lines a file, 60 a function.
--
-- Soft: what is longer has a reason. In core, twice the limit has none and fails.
package.path = (arg[0]:match("^(.*)/[^/]*$") or ".") .. "/?.lua;" .. package.path
local lint = require "lint"

local limits = { file = 400, ["function"] = 60 }
local longest = { file = {}, ["function"] = {} }

local function note(kind, lines, path, line, name)
  table.insert(longest[kind], { lines = lines, name = name and path .. ": " .. name or path })
  if lines > 2 * limits[kind] and not path:find("^tests/") then
    lint.found(path, line, "%s has %d lines; the soft limit is %d", name and kind .. " " .. name or "the file", lines,
      limits[kind])
  end
end

-- clang-format puts both braces of a function at the margin.
local function note_functions(path, lines)
  local name, from
  for number, line in ipairs(lines) do
    local called = line:match("^[%a_].-([%w_]+)%s*%(")
    if called and not line:find("^#") and not line:find(";%s*$") then
      name = called
    end
    if line == "{" and name then
      from = number
    elseif line:find("^}") and from then
      note("function", number - from + 1, path, from, name)
      name, from = nil, nil
    end
  end
end

local function note_lua_functions(path, lines)
  local name, from
  for number, line in ipairs(lines) do
    local called = line:match("^local function ([%w_]+)") or line:match("^function ([%w_.:]+)")
    if called and not line:find("%f[%w]end%s*$") then
      name, from = called, number
    elseif line:find("^end%f[%W]") and from then
      note("function", number - from + 1, path, from, name)
      name, from = nil, nil
    end
  end
end

local files = lint.files("^core/.*%.[ch]$", "^core/.*%.cc$", "^core/.*%.lua$", "^include/.*%.h$", "^tests/.*%.[ch]$",
  "^tests/.*%.lua$")
for _, path in ipairs(files) do
  local lines = lint.lines(path:find("%.lua$") and lint.read(path) or lint.code(lint.read(path)))
  note("file", #lines, path)
  if path:find("%.lua$") then
    note_lua_functions(path, lines)
  else
    note_functions(path, lines)
  end
end

for _, kind in ipairs { "file", "function" } do
  table.sort(longest[kind], function(a, b)
    return a.lines > b.lines
  end)
  print("longest " .. kind .. "s:")
  for i = 1, math.min(3, #longest[kind]) do
    print(("  %4d  %s"):format(longest[kind][i].lines, longest[kind][i].name))
  end
end

lint.finish(#files .. " files")
