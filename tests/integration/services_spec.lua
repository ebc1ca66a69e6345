-- The test services themselves: they end with the command, in whatever way it ends, and leave nothing.
local shell = require "tests.support.shell"

local function is_running(pid)
  local status = shell.read(("/proc/%s/status"):format(pid))
  return status ~= nil and not status:find("\nState:%s+Z")
end

local function is_gone(dir, pid)
  return shell.try { "test", "-d", dir } ~= 0 and not is_running(pid)
end

describe("tests/support/services", function()
  -- Starts it with a private Postgres and a command that stays; gives its directory and the server's pid.
  local function start(name)
    local info = shell.temp(".info")
    local pid = shell.run { "tests/support/spawn", name, "tests/support/services", "--name", "inner",
      "--postgres", "--", "sh", "-c", [[
        read -r server since <"$MILLRACE_RUN/pids/postgres"
        echo "$MILLRACE_RUN $server" >"$0.new" && mv "$0.new" "$0"
        exec tail -f /dev/null]], info }
    local line = shell.wait(90, "the inner services to start", function() return shell.read(info) end)
    local dir, server = line:match("(%S+) (%d+)")
    assert.is_true(is_running(server))
    return tonumber(pid), dir, server
  end

  for _, signal in ipairs { "TERM", "INT", "KILL" } do
    it("leave no process and no file after SIG" .. signal, function()
      local pid, dir, server = start("inner-" .. signal:lower())
      shell.run { "kill", "-" .. signal, tostring(pid) }
      shell.wait(30, "directory and server to be gone", function() return is_gone(dir, server) end)
    end)
  end

  it("pass the command's exit status on, and keep the logs of a failure", function()
    local status, _, err = shell.try { "tests/support/services", "--postgres", "--", "sh", "-c", "exit 3" }
    assert.equal(3, status)
    local kept = err:match("the logs are in (%S+)")
    assert.truthy(kept, err)
    assert.truthy(shell.read(kept .. "/postgres.log"))
    shell.run { "rm", "-rf", kept }
    assert.equal(0, (shell.try { "tests/support/services", "--postgres", "--", "true" }))
  end)

  it("run side by side", function()
    local a_pid, a_dir, a_server = start("side-a")
    local b_pid, b_dir, b_server = start("side-b")
    assert.are_not.equal(a_dir, b_dir)
    shell.run { "kill", "-TERM", tostring(a_pid) }
    shell.wait(30, "the first to be gone", function() return is_gone(a_dir, a_server) end)
    assert.is_true(is_running(b_server))
    shell.run { "kill", "-TERM", tostring(b_pid) }
    shell.wait(30, "the second to be gone", function() return is_gone(b_dir, b_server) end)
  end)
end)
