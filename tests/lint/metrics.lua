-- metrics.lua - docs/METRICS.md names the metrics that the source registers, all of them and no others.
--
-- A metric is registered with its kind and its name next to each other (MR_COUNTER, "name"), so both can be
-- compared. In the document a metric is a table row that begins with its name: | `name` | counter | ...
package.path = (arg[0]:match("^(.*)/[^/]*$") or ".") .. "/?.lua;" .. package.path
local lint = require "lint"

local kinds = { MR_COUNTER = "counter", MR_GAUGE = "gauge" }
local registered, n = {}, 0
for _, path in ipairs(lint.files("^core/.*%.[ch]$", "^core/.*%.cc$")) do
  local text = lint.read(path)
  for at, kind, name in text:gmatch('()(MR_%u+),%s*"([%w_:]+)"') do
    if kinds[kind] then
      local line = select(2, text:sub(1, at):gsub("\n", "")) + 1
      if not registered[name] then
        n = n + 1
      elseif registered[name].kind ~= kinds[kind] then
        lint.found(path, line, "%s is a %s here and a %s in %s", name, kinds[kind], registered[name].kind,
          registered[name].path)
      end
      registered[name] = { kind = kinds[kind], path = path, line = line }
      if kind == "MR_COUNTER" and not name:find("_total$") then
        lint.found(path, line, "%s: the name of a counter ends in _total", name)
      elseif kind == "MR_GAUGE" and name:find("_total$") then
        lint.found(path, line, "%s: the name of a gauge does not end in _total", name)
      end
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
