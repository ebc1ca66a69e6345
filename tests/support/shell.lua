-- Processes, files and waiting, for the integration tests: Lua 5.4 on top of sh.
-- Waiting is always for a condition, with a deadline; nothing here sleeps for a fixed time.
local system = require "system"

local shell = {}

--- One word of sh.
function shell.quote(text)
  return "'" .. tostring(text):gsub("'", "'\\''") .. "'"
end

local function read_file(path)
  local file = io.open(path, "rb")
  if not file then return nil end
  local text = file:read("a")
  file:close()
  return text
end
shell.read = read_file

function shell.write(path, text)
  local file <close> = assert(io.open(path, "wb"))
  assert(file:write(text))
end

local run_dir = os.getenv("MILLRACE_RUN")

--- The private directory of the services; the tests only work inside one.
function shell.run_dir()
  return assert(run_dir, "run these tests with tests/integration/run")
end

--- The next number of this run. Kept in a file, since busted loads modules anew for each spec file.
function shell.serial()
  local path = shell.run_dir() .. "/serial"
  local serial = (tonumber(read_file(path) or "") or 0) + 1
  shell.write(path, tostring(serial))
  return serial
end

--- A path in the run's directory that nobody else uses.
function shell.temp(suffix)
  return ("%s/tmp%d%s"):format(shell.run_dir(), shell.serial(), suffix or "")
end

--- Runs a list of words (or a line of sh); gives status, stdout, stderr. `env` is added to the
--- environment, `input` is stdin, `dir` the working directory.
function shell.try(command, options)
  options = options or {}
  local out, err = shell.temp(".out"), shell.temp(".err")
  local line = command
  if type(command) == "table" then
    local words = {}
    for i, word in ipairs(command) do words[i] = shell.quote(word) end
    line = table.concat(words, " ")
  end
  local set = {}
  for name, value in pairs(options.env or {}) do set[#set + 1] = name .. "=" .. shell.quote(value) .. " " end
  local from = "/dev/null"
  if options.input then
    from = shell.temp(".in")
    shell.write(from, options.input)
  end
  local _, _, status = os.execute(("cd %s && { %s%s\n} <%s >%s 2>%s"):format(
    shell.quote(options.dir or "."), #set > 0 and "export " .. table.concat(set) .. "; " or "", line,
    shell.quote(from), shell.quote(out), shell.quote(err)))
  local stdout, stderr = read_file(out), read_file(err)
  os.remove(out)
  os.remove(err)
  if options.input then os.remove(from) end
  return status, stdout, stderr
end

--- The same, for a command that must succeed; gives stdout.
function shell.run(command, options)
  local status, out, err = shell.try(command, options)
  if status ~= 0 then
    local text = type(command) == "table" and table.concat(command, " ") or command
    error(("status %d from: %s\n%s%s"):format(status, text, out or "", err or ""), 2)
  end
  return out
end

--- Calls `condition` until it gives a true value, which is returned. After `seconds` it is an error that says
--- what was awaited; `what` may be a function, called then.
function shell.wait(seconds, what, condition)
  local deadline = system.monotime() + seconds
  while true do
    local value = condition()
    if value then return value end
    if system.monotime() > deadline then
      if type(what) == "function" then what = what() end
      error(("not within %g s: %s"):format(seconds, what), 2)
    end
    system.sleep(0.03) -- poll
  end
end

--- True when `condition` stays false for that long; for "this must not happen".
function shell.never(seconds, condition)
  local deadline = system.monotime() + seconds
  repeat
    if condition() then return false end
    system.sleep(0.05) -- poll
  until system.monotime() > deadline
  return true
end

shell.monotime = system.monotime

return shell
