-- `millrace test`: where specs are found, what the exit code says, and the outputs for build servers.
local shell = require "tests.support.shell"

local bin = assert(os.getenv("MILLRACE_BIN"), "MILLRACE_BIN names the program")
local root = shell.run("pwd"):gsub("%s+$", "")
local PASSES = [[
local testing = require "millrace.testing"
it("passes", function()
  local p = testing.script { text = "return { map = function(msg) return msg end }" }
  assert.same({ { a = 1 } }, p:send({ a = 1 }).rows)
end)
]]
local FAILS = 'it("fails", function() assert.equal(1, 2) end)\n'
local dir

local function millrace(options, ...)
  return shell.try({ bin, "test", ... }, { dir = dir, env = options.env })
end

before_each(function()
  dir = shell.temp ".d"
  shell.run { "mkdir", "-p", dir .. "/spec", dir .. "/other" }
end)

describe("millrace test", function()
  it("runs the files of spec, with the modules built in; 0 when all pass", function()
    shell.write(dir .. "/spec/a_spec.lua", PASSES)
    local status, out, err = millrace({})
    assert.matches("1 success / 0 failures / 0 errors", out)
    assert.equal("", err)
    assert.equal(0, status)
  end)

  it("prefers tests/spec", function()
    shell.run { "mkdir", "-p", dir .. "/tests/spec" }
    shell.write(dir .. "/spec/a_spec.lua", FAILS)
    shell.write(dir .. "/tests/spec/a_spec.lua", PASSES)
    assert.equal(0, (millrace({})))
  end)

  it("ends with 1 when a test fails, and when a file does not load", function()
    shell.write(dir .. "/spec/a_spec.lua", PASSES .. FAILS)
    local status, out = millrace({})
    assert.matches("1 success / 1 failure / 0 errors", out)
    assert.equal(1, status)
    shell.write(dir .. "/spec/a_spec.lua", "return {")
    assert.equal(1, (millrace({})))
    assert.equal(1, (millrace({}, "nowhere_spec.lua")))
  end)

  it("takes files, directories and busted's options", function()
    shell.write(dir .. "/other/b_spec.lua", PASSES .. FAILS)
    assert.equal(0, (millrace({}, "--filter", "passes", "other/b_spec.lua")))
    assert.equal(1, (millrace({}, "other")))
    local status, out = millrace({}, "--list", "other")
    assert.matches("passes\n", out)
    assert.equal(0, status)
  end)

  it("writes what a build server reads", function()
    shell.write(dir .. "/spec/a_spec.lua", PASSES .. FAILS)
    assert.equal(1, (millrace({}, "--output", "junit", "-Xoutput", "report.xml")))
    local report = shell.read(dir .. "/report.xml")
    assert.matches("<testsuites [^>]*tests='2'", report)
    assert.matches("<testsuites [^>]*failures='1'", report)
    local _, out = millrace({}, "-o", "TAP")
    assert.matches("^ok 1 %- passes\n", out)
    assert.matches("\nnot ok 2 %- fails", out)
  end)

  it("writes a report that is well-formed, whatever tests are called and say", function()
    shell.write(dir .. "/spec/a_spec.lua", [==[
it("is called \0 \27[31m & <b> \255 \xEF\xBF\xBE ä", function() end)
it("says it", function() error("bell \7, \xED\xA0\x80, cut \xC3", 0) end)
it("compares", function() assert.equal("\1\2", "\3]]>") end)
it("raises a table", function() error({ "\4" }) end)
describe("\5", function() error("\6", 0) end)
]==])
    assert.equal(1, (millrace({}, "-o", "junit", "-Xoutput", "report.xml")))
    local report = shell.read(dir .. "/report.xml")
    assert.is_nil(report:find("[%z\1-\8\11\12\14-\31]"), report)
    assert.is_truthy(utf8.len(report))
    assert.matches([[is called \x00 \x1B%[31m &amp; &lt;b&gt; \xFF \u{FFFE} ä]], report)
    assert.matches([[bell \x07, \xED\xA0\x80, cut \xC3]], report)
    -- Without the sanitizer of the program under test, which would tell of Python's own leaks.
    local count_cases = "import sys, xml.etree.ElementTree as tree\n" ..
      "print(len(list(tree.parse(sys.argv[1]).iter('testcase'))))"
    local status, count = shell.try({ "env", "-u", "LD_PRELOAD", "python3", "-c", count_cases, dir .. "/report.xml" })
    assert.same({ 0, "4\n" }, { status, count })
  end)

  it("survives a spec that ends the process", function()
    shell.write(dir .. "/spec/a_spec.lua", 'it("leaves", function() os.exit(0) end)\n' .. PASSES)
    assert.equal(1, (millrace({})))
  end)

  it("says what is wrong with the command line: 64", function()
    shell.write(dir .. "/spec/a_spec.lua", PASSES)
    local status, out, err = millrace({}, "--nonsense")
    assert.equal("", out)
    assert.matches("unknown/bad flag: %-%-nonsense", err)
    assert.equal(64, status)
  end)

  it("says so when there are no specs: 64", function()
    shell.run { "rmdir", dir .. "/spec" }
    local status, out, err = millrace({})
    assert.equal("", out)
    assert.matches("^millrace test: there are no specs here: .+ name the files", err)
    assert.equal(64, status)
  end)

  it("names the package when busted is not installed: 69", function()
    local status, _, err = millrace({ env = { LUA_PATH = "/nowhere", LUA_PATH_5_4 = "/nowhere" } })
    assert.matches("^millrace test: busted, .+ apt%-get install lua%-busted", err)
    assert.equal(69, status)
  end)

  it("prints its help, examples first", function()
    local status, out = millrace({}, "--help")
    assert.matches("^Usage: millrace test.-\n\nExamples\n", out)
    assert.equal(0, status)
  end)

  it("runs the shipped spec of promo where config.lua is", function()
    local status, out = shell.try({ bin, "test", "tests/spec/promo_spec.lua" }, { dir = root })
    assert.equal(0, status, out)
  end)
end)
