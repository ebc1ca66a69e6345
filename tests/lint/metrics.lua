-- metrics.lua - docs/METRICS.md names the metrics that the source registers, all of them and no others.
--
-- A metric is registered with its kind in front of its name (MR_COUNTER, "name") or its help behind it
-- ("name", "One sentence."); without a kind the name's _total tells. In the document a metric is a table row
-- that begins with its name: | `name` | counter | ...
package.path = (arg[0]:match("^(.*)/[^/]*$") or ".") .. "/?.lua;" .. package.path
local lint = require "lint"

local kinds = { MR_COUNTER = "counter", MR_GAUGE = "gauge" }
local registered, n = {}, 0

local function register(path, text, at, kind, name)
  local line = select(2, text:sub(1, at):gsub("\n", "")) + 1
  local known = registered[name]
  if not known then
    n = n + 1
  elseif known.kind ~= kind then
    lint.found(path, line, "%s is a %s here and a %s in %s", name, kind, known.kind, known.path)
  end
  registered[name] = known or { kind = kind, path = path, line = line }
  if (kind == "counter") ~= (name:find("_total$") ~= nil) then
    lint.found(path, line, "%s is a %s: the names of counters end in _total, others do not", name, kind)
  end
end

for _, path in ipairs(lint.files("^core/.*%.[ch]$", "^core/.*%.cc$")) do
  local text = lint.read(path)
  for at, kind, name in text:gmatch('()(MR_%u+),%s*"([%w_:]+)"') do
    if kinds[kind] then
      register(path, text, at, kinds[kind], name)
    end
  end
  for at, name in text:gmatch('()"(%l+_[%w_:]+)",%s*"%u[^"]* [^"]*"') do
    if name:find("^millrace_") or name:find("^process_") then
      register(path, text, at, registered[name] and registered[name].kind or name:find("_total$") and "counter"
        or "gauge", name)
    end
  end
end

local document = lint.read("docs/METRICS.md")
if not document then
  lint.found("docs/METRICS.md", nil, "is not there, but %d metrics are registered", n)
  lint.finish()
end
local documented = {}
for number, line in ipairs(lint.lines(document)) do
  local name, kind = line:match("^| `([%w_:]+)` | (%a+) |")
  if name then
    documented[name] = true
    if not registered[name] then
      lint.found("docs/METRICS.md", number, "%s is registered nowhere in core", name)
    elseif registered[name].kind ~= kind then
      lint.found("docs/METRICS.md", number, "%s is a %s, not a %s", name, registered[name].kind, kind)
    end
  end
end
for name, where in pairs(registered) do
  if not documented[name] then
    lint.found(where.path, where.line, "%s does not stand in docs/METRICS.md", name)
  end
end

lint.finish(n .. " metrics")
