-- references.lua - what the documents say about the source is true.
--
-- In README.md and docs/*.md: each `file: function` names a function that the file defines, each `core/...` or
-- other path of the tree exists, each link to a file leads to one. In core: each head comment names its file,
-- and each "Tests: tests/..." exists.
package.path = (arg[0]:match("^(.*)/[^/]*$") or ".") .. "/?.lua;" .. package.path
local lint = require "lint"

local function exists(path)
  local file = io.open(lint.root .. "/" .. path)
  if file then
    file:close()
  end
  return file ~= nil
end

local function defines(path, name)
  local text = lint.read(path)
  if path:find("%.lua$") then
    return text:find("function%s+[%w_.:]-%f[%w_]" .. name .. "%s*%(")
      or text:find("%f[%w_]" .. name .. "%s*=%s*function")
  end
  -- A definition starts at the margin, and a brace at the margin comes before any semicolon.
  local code = lint.code(text)
  for at in ("\n" .. code):gmatch("\n()[%a_][^\n;]-%f[%w_]" .. name .. "%s*%(") do
    local rest = code:sub(at)
    local brace, semicolon = rest:find("\n{", 1, true), rest:find(";", 1, true)
    if brace and (not semicolon or brace < semicolon) then
      return true
    end
  end
  return false
end

local n_references = 0

-- A file is named by its path, or by its path below core/.
local function resolve(path)
  for _, prefix in ipairs { "", "core/" } do
    if exists(prefix .. path) then
      return prefix .. path
    end
  end
end

local function check_document(path)
  local folder = path:match("^(.*/)") or ""
  for number, line in ipairs(lint.lines(lint.read(path))) do
    for file, name in line:gmatch("`([%w_/.%-]+%.%a+): ([%a_][%w_.]*)%(?%)?`") do
      n_references = n_references + 1
      local at = resolve(file)
      if not at then
        lint.found(path, number, "`%s: %s`: there is no such file", file, name)
      elseif not defines(at, name:match("[%w_]+$")) then
        lint.found(path, number, "`%s: %s`: the file defines no such function", file, name)
      end
    end
    for file in line:gmatch("`([%w_.%-]+/[%w_/.%-]+)`") do
      local first = file:match("^[^/]+")
      if (first == "core" or first == "tests" or first == "tools" or first == "include" or first == "scripts"
          or first == "docs" or first == "bench" or first == "deploy") and not exists(file) then
        lint.found(path, number, "`%s`: there is no such file", file)
      end
    end
    for link in line:gmatch("%]%(([^)%s]+)%)") do
      local file = link:match("^[^#]*")
      if file ~= "" and not link:find("^%a+:") and not exists(folder .. file) then
        lint.found(path, number, "the link to %s leads nowhere", link)
      end
    end
  end
end

local documents = lint.files("^README%.md$", "^docs/[^/]+%.md$")
for _, path in ipairs(documents) do
  check_document(path)
end
local readme = lint.read("README.md")
if readme and readme:find("Life of one message") and n_references < 5 then
  lint.found("README.md", nil, "\"Life of one message\" leads the reader by `file: function` references; found %d",
    n_references)
end

local sources = lint.files("^core/.*%.[ch]$", "^core/.*%.cc$", "^include/.*%.h$")
for _, path in ipairs(sources) do
  local head = lint.read(path):match("^/%*\n(.-)%*/")
  local base = path:match("[^/]+$")
  if not head or not head:find(" * " .. base, 1, true) then
    lint.found(path, 1, "the file begins with a comment that says what it is: /* * %s - ...", base)
  else
    for test in head:gmatch("tests/[%w_/.%-]*[%w_]") do
      if not exists(test) then
        lint.found(path, nil, "its head comment names %s, which is not there", test)
      end
    end
  end
end

lint.finish(("%d documents, %d `file: function` references, %d heads"):format(#documents, n_references, #sources))
