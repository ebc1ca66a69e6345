-- Run it in scripts/examples: millrace test
local testing = require "millrace.testing"
local null = testing.null

describe("sensor thresholds", function()
  local p

  before_each(function()
    p = testing.pipeline { pipeline = "sensors", now = "2026-11-22T12:00:00Z", lookup = {
      { sensor_id = "boiler", client = "plant", low = 10.0, high = 90.0 },
      { sensor_id = "boiler", client = "insurer", low = null, high = 120.0 },
    } }
  end)

  local function reading(value, at) return p:send { sensor_id = "boiler", value = value, at = at or p.now } end

  it("keeps quiet within the limits", function()
    for _, value in ipairs { 10, 50.5, 90 } do assert.equal("no_output", reading(value).dropped) end
  end)

  it("raises an alarm for each client whose limit is broken", function()
    local got = reading(130)
    assert.same({ { sensor_id = "boiler", client = "insurer", kind = "high", value = 130, bound = 120.0, at = p.now },
      { sensor_id = "boiler", client = "plant", kind = "high", value = 130, bound = 90.0, at = p.now } }, got.rows)
    assert.same({ kind = "high" }, got.messages[1].headers)
    assert.same({ "plant" }, { reading(9.5).rows[1].client })
  end)

  it("drops what is an hour old, and what no table knows", function()
    assert.equal("too_old", reading(130, p.now - 3600).dropped)
    assert.equal("no_rows", p:send({ sensor_id = "fridge", value = 1, at = p.now }).dropped)
  end)

  it("reports a sensor that falls silent, once", function()
    reading(50)
    p:advance(60)
    assert.same({}, p:counts())
    p:advance(120)
    assert.same({ silent = 1 }, p:counts())
    assert.equal("sensor boiler is silent since 2026-11-22T12:00:00Z", p.log[1].text)
  end)
end)
