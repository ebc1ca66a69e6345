-- tools/demo --once, as the README promises it: 8 messages on stdout and nothing else there, twice in a
-- row, two at once, from different directories, and nothing left behind. Runs the release build.
local cjson = require "cjson"
local shell = require "tests.support.shell"

local root = shell.run("pwd"):gsub("%s+$", "")

local function check(out, err)
  assert.truthy(err:find("delivery is at_least_once", 1, true), err)
  local clients = {}
  for line in out:gmatch("[^\n]+") do
    local message = cjson.decode(line)
    assert.equal("first campaign", message.adv_campaign_content)
    clients[#clients + 1] = message.client_id:sub(1, 1)
  end
  assert.equal("02345678", table.concat(clients))
  assert.truthy(err:find("8 rows", 1, true), err)
end

-- A place of its own for temporary directories: what is in it afterwards was left behind.
local place = shell.temp()
shell.run { "mkdir", place }
local env = { TMPDIR = place }

local function left_behind()
  return shell.run { "ls", place } .. shell.run([[cat /proc/[0-9]*/environ 2>/dev/null |
    tr '\0' '\n' | grep -F "MILLRACE_RUN=$TMPDIR/" || true]], { env = env })
end

describe("tools/demo #demo", function()
  it("--once prints the 8 messages, says that it runs at_least_once, twice, and leaves nothing behind", function()
    for _ = 1, 2 do
      local status, out, err = shell.try({ root .. "/tools/demo", "--once" }, { dir = "/", env = env })
      assert.equal(0, status, err)
      check(out, err)
    end
    assert.equal("", left_behind())
  end)

  it("--once runs twice at once from two directories", function()
    local a, b = shell.temp(), shell.temp()
    local line = ([[
      (cd / && %s/tools/demo --once >%s.out 2>%s.err; echo $? >%s.rc) &
      (cd tests && ../tools/demo --once >%s.out 2>%s.err; echo $? >%s.rc) &
      wait]]):format(root, a, a, a, b, b, b)
    assert.equal(0, (shell.try(line, { dir = root, env = env })))
    for _, path in ipairs { a, b } do
      assert.equal("0\n", shell.read(path .. ".rc"), shell.read(path .. ".err"))
      check(shell.read(path .. ".out"), shell.read(path .. ".err"))
    end
    assert.equal("", left_behind())
  end)

  it("--once --kafka gives the same with a real broker", function()
    local status, out, err = shell.try({ root .. "/tools/demo", "--once", "--kafka" }, { env = env })
    assert.equal(0, status, err)
    check(out, err)
  end)

  it("without --once says so too, sends campaigns, and leaves nothing behind", function()
    local path = shell.temp()
    local status, out, err = shell.try(([[
      %s/tools/demo >%s.out 2>%s.err & pid=$!
      for i in $(seq 1800); do grep -q '^campaigns ' %s.out && break; sleep 0.1; done # poll
      kill -TERM $pid; wait $pid; echo $? >%s.rc]]):format(root, path, path, path, path), { dir = "/", env = env })
    assert.equal(0, status, out .. err)
    out = shell.read(path .. ".out")
    assert.truthy(out:find("delivery is at_least_once", 1, true), out .. shell.read(path .. ".err"))
    assert.truthy(out:find("\ncampaigns %d+ +messages [1-9]"), out .. shell.read(path .. ".err"))
    assert.equal("", left_behind())
  end)
end)
