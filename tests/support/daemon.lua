-- A millrace daemon under test: start it, read its log and its counters, end or kill it.
-- The binary is the one of MILLRACE_BIN (the preset under test).
local shell = require "tests.support.shell"

local daemon = {}
daemon.__index = daemon

daemon.bin = os.getenv("MILLRACE_BIN") or "build/debug/millrace"

--- `options`: config (path), env, args (more words for the command line), dir (working directory).
function daemon.start(options)
  local serial = shell.serial()
  local self = setmetatable({ name = "millrace-" .. serial }, daemon)
  local words = { "tests/support/spawn", self.name, "env" }
  local env = { MILLRACE_ADMIN = "127.0.0.1:0", MILLRACE_INSTANCE = "test-" .. serial }
  for name, value in pairs(options.env or {}) do env[name] = value end
  for name, value in pairs(env) do words[#words + 1] = name .. "=" .. value end
  words[#words + 1] = daemon.bin
  words[#words + 1] = "run"
  words[#words + 1] = "-c"
  words[#words + 1] = options.config
  for _, word in ipairs(options.args or {}) do words[#words + 1] = word end
  self.pid = tonumber(shell.run(words))
  return self
end

function daemon:log()
  return shell.read(("%s/logs/%s.log"):format(shell.run_dir(), self.name)) or ""
end

--- The exit status, or nil while it runs; 128 + signal if it was killed.
function daemon:status()
  return tonumber(shell.read(("%s/exits/%s"):format(shell.run_dir(), self.name)) or "")
end

--- The last lines of the log, for messages.
function daemon:tail()
  local lines = {}
  for line in self:log():gmatch("[^\n]+") do lines[#lines + 1] = line end
  return table.concat(lines, "\n", math.max(1, #lines - 14))
end

--- Waits for a plain text in the log (from byte `from` on); a daemon that ends meanwhile is an error.
function daemon:wait_log(text, seconds, from)
  shell.wait(seconds or 30, function()
    return ("the log to contain '%s'; it ends with\n%s"):format(text, self:tail())
  end, function()
    local status = self:status() -- first: what it says before it ends is then in the log
    if self:log():find(text, from or 1, true) then return true end
    if status then
      error(("the daemon ended with status %d before its log said '%s':\n%s")
        :format(status, text, self:tail()), 0)
    end
  end)
  return self
end

function daemon:wait_ready(seconds)
  return self:wait_log("ready: ", seconds or 40)
end

--- Waits until a SIGTERM is the daemon's to handle. Before its first steps any process dies of one.
function daemon:wait_signals()
  local bit <const> = 1 << (15 - 1)
  shell.wait(40, "the daemon to keep the signals that it serves", function()
    local kept = (shell.read(("/proc/%d/status"):format(self.pid)) or ""):match("SigBlk:%s*(%x+)")
    return self:status() or kept and tonumber(kept, 16) & bit ~= 0
  end)
end

function daemon:signal(name)
  if name == "TERM" or name == "INT" or name == "HUP" or name == "USR1" then self:wait_signals() end
  assert(not self:status(), "the daemon has ended already:\n" .. self:tail())
  shell.run { "kill", "-" .. name, tostring(self.pid) }
end

--- SIGHUP; gives what is logged from then on, up to the line with the plain text that tells how it went.
function daemon:reload(expected)
  local from = #self:log() + 1
  self:signal("HUP")
  return self:wait_log(expected, 20, from):log():sub(from)
end

function daemon:wait_end(seconds)
  return shell.wait(seconds or 40, function()
    return "the daemon to end; its log ends with\n" .. self:tail()
  end, function() return self:status() end)
end

local function sanitizer_report(log)
  local at = log:find("ERROR: AddressSanitizer", 1, true) or log:find("ERROR: LeakSanitizer", 1, true)
    or log:find("runtime error:", 1, true) or log:find("WARNING: ThreadSanitizer", 1, true)
  return at and log:sub(at, at + 3000)
end

--- SIGTERM; gives the exit status and the seconds it took. A sanitizer's report is an error.
function daemon:stop(seconds)
  local begin = shell.monotime()
  self:signal("TERM")
  local status = self:wait_end(seconds)
  local report = sanitizer_report(self:log())
  if report then error("a sanitizer reported:\n" .. report, 2) end
  return status, shell.monotime() - begin
end

function daemon:kill()
  self:signal("KILL")
  self:wait_end(20)
end

--- For `finally`: end it however it stands.
function daemon:discard()
  if not self:status() then
    shell.try { "kill", "-KILL", tostring(self.pid) }
    self:wait_end(20)
  end
end

--- "http://127.0.0.1:port" of the admin port.
function daemon:address()
  self:wait_log("admin: listening on http://")
  return (self:log():match("admin: listening on (http://[%d.]+:%d+)"))
end

--- Status and body of a GET.
function daemon:get(path)
  local _, out = shell.try { "curl", "-s", "-m", "30", "-w", "\n%{http_code}", self:address() .. path }
  local body, code = out:match("^(.*)\n(%d+)$")
  return tonumber(code), body
end

--- The sum of the counters whose name matches a Lua pattern and whose labels contain every given text.
function daemon:metric(pattern, ...)
  local code, body = self:get("/metrics")
  assert(code == 200, "GET /metrics gave " .. tostring(code))
  local sum
  for name, labels, value in body:gmatch("\n(millrace_[%w_]+){?([^\n}]*)}? ([%d.e+-]+)") do
    local fits = name:find(pattern)
    for _, text in ipairs { ... } do fits = fits and labels:find(text, 1, true) end
    if fits then sum = (sum or 0) + tonumber(value) end
  end
  return sum
end

return daemon
