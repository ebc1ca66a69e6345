-- New configuration and scripts for a running daemon: SIGHUP and --watch, what is taken, what is refused, and that
-- each output is made wholly by one version of the script.
local scene = require "tests.support.scene"
local shell = require "tests.support.shell"

-- The example with its version in key, value and row, so that what a bundle made can be told.
local function versioned(version)
  local text = shell.read("scripts/promo.lua")
  local function replace(from, to)
    local at, stop = text:find(from, 1, true)
    assert(at, "scripts/promo.lua has changed: " .. from)
    text = text:sub(1, at - 1) .. to .. text:sub(stop + 1)
  end
  replace("client_id = col.client_id,", ("client_id = col.client_id, version = %q,"):format(version))
  replace("return rec, rec.client_id", ("return rec, fmt %q"):format("{client_id}/" .. version))
  replace('rec.feedback = ""', "rec.feedback, rec.version = rec.version, nil")
  return text
end

local BROKEN = "local promo = {}\nfunction promo.filter(\nreturn promo\n"

describe("a reload", function()
  local s, d, script
  before_each(function()
    s = scene.new()
    script = s.dir .. "/script.lua"
    s:script(versioned("v1"))
    s:subscribers(2, 5)
  end)
  after_each(function() s:close() end)

  local function start(options)
    d = s:start(options)
    return d
  end

  -- Sends the signal and waits for the line that tells how it went.
  local function reload(expected)
    local from = #d:log() + 1
    d:signal("HUP")
    d:wait_log(expected, 20, from)
    local rest = d:log():sub(from)
    assert.is_nil(d:status())
    return rest
  end

  -- bundle -> version for what is in the topic; an output with parts of two versions is an error.
  local function versions_by_bundle()
    local seen = {}
    local out = shell.run { "kcat", "-b", os.getenv("KAFKA_BROKERS"), "-t", s.topic_out, "-C", "-e", "-q",
      "-X", "isolation.level=read_committed", "-f", "%h\t%k\t%s\n" }
    for headers, key, value in out:gmatch("([^\t\n]*)\t([^\t\n]*)\t([^\n]*)") do
      local bundle = headers:match("millrace%-bundle=(%x+)")
      local version = value:match('"version":"([^"]*)"')
      assert.equal(version, key:match("/(.*)$"), value)
      assert.is_true(not seen[bundle] or seen[bundle] == version,
        ("bundle %s made %s and %s"):format(bundle, seen[bundle], version))
      seen[bundle] = version
    end
    return seen
  end

  local function rows_of(version)
    return tonumber(s:sql(("select count(*) from subscribers_feedback where feedback = '%s'"):format(version)))
  end

  it("takes a new script, and says which bundle took the place of which", function()
    start()
    s:feed(4, 2)
    s:wait_rows(20)
    shell.write(script, versioned("v2"))
    local log = reload("reloaded: bundle ")
    local before, after, ms = log:match("reloaded: bundle (%x+) %-> (%x+), (%d+) ms")
    assert.truthy(ms, log)
    s:feed(4, 2)
    s:wait_rows(40)
    assert.same({ [before] = "v1", [after] = "v2" }, versions_by_bundle())
    assert.equal(20, rows_of("v1"))
    assert.equal(20, rows_of("v2"))
    assert.equal(1, d:metric("^millrace_bundle_info$", after, 'pipeline="promo"'))
    assert.is_nil(d:metric("^millrace_bundle_info$", before))
    assert.equal(1, d:metric("^millrace_reloads_total$", '"applied"'))
    assert.equal(0, (d:stop()))
    local ok, report = s:exact(8, 5)
    assert.is_true(ok, report)
  end)
end)
