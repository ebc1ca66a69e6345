--- Scripts for specs: from text to an open millrace.script, and messages through it.
local millrace = require "millrace"

local M = { null = millrace.null }
local n = 0

local function directory()
  return os.getenv("MILLRACE_RUN") or "/tmp"
end

--- Writes a file below the run's directory; returns its path.
function M.write(name, text)
  local path = directory() .. "/" .. name
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
  return path
end

--- Opens a script given as text: the object, or nil, the error text (with the path cut to s.lua) and the exit code.
function M.open(text, options)
  n = n + 1
  local path = M.write("s" .. n .. ".lua", text)
  local all = { path = path }
  for key, value in pairs(options or {}) do all[key] = value end
  local script, message, code = millrace.script(all)
  if script then return script end
  return nil, (message:gsub(path:gsub("%p", "%%%0"), "s.lua")), code
end

--- A pipeline without a lookup: the body is that of map(msg, ctx). Returns the object.
function M.map(body, options)
  return assert(M.open("local s = {}\nfunction s.map(msg, ctx)\n" .. body .. "\nend\nreturn s\n", options))
end

--- A pipeline with the lookup (id: text) -> (name: text, n: int), and one row for "a".
M.LOOKUP = { keys = { id = "text" }, columns = { name = "text", n = "int" } }
M.ROWS = { { id = "a", name = "Ann", n = 7 } }

function M.joined(text, options)
  local all = {}
  for key, value in pairs(M.LOOKUP) do all[key] = value end
  for key, value in pairs(options or {}) do all[key] = value end
  return M.open(text, all)
end

--- project(msg, col, ctx) has this body; shape and row are text that follows.
function M.project(body, rest, options)
  return assert(M.joined("local s = {}\nfunction s.key(msg) return msg.id end\n" ..
    "function s.project(msg, col, ctx)\n" .. body .. "\nend\n" .. (rest or "") .. "\nreturn s\n", options))
end

--- One message {"id":"a"} through it, with M.ROWS.
function M.run(script, message)
  local all = { value = '{"id":"a"}', now = 1000, rows = M.ROWS }
  for key, value in pairs(message or {}) do all[key] = value end
  return script:process(all)
end

--- The value of the only message that came out; raises what went wrong.
function M.value(result)
  assert(result.verdict == "emit", (result.error or result.reason))
  assert(#result.messages == 1, "one message expected, got " .. #result.messages)
  return result.messages[1].value
end

return M
