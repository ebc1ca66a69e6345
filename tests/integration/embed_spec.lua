-- A C program that embeds Millrace by include/millrace.h alone (tests/unit/test_embed.c), on real services.
local daemon = require "tests.support.daemon"
local scene = require "tests.support.scene"
local shell = require "tests.support.shell"

describe("the embedding API", function()
  local s
  before_each(function() s = scene.new() end)
  after_each(function() s:close() end)

  it("opens, starts, gets ready, delivers, stops", function()
    local program = daemon.bin:gsub("[^/]*$", "tests/test_embed")
    s:init()
    s:subscribers(2, 50)
    s:produce(s:campaigns(10, 2))
    local status, out, err = shell.try({ "env", "MILLRACE_TEST_CONFIG=" .. s:write_config(),
      "MILLRACE_TEST_OUTPUTS=500", program })
    assert.equal(0, status, out .. err)
    assert.equal(500, s:count())
    local ok, report = s:exact(10, 50)
    assert.is_true(ok, report)
  end)
end)
