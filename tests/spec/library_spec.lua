-- The globals json, time, array and null.
local script = require "tests.support.script"

local function value_of(expression)
  return script.value(script.map("return { v = " .. expression .. " }"):process { value = "{}" }):match('^{"v":(.*)}$')
end

local function error_of(body)
  return (script.map(body):process({ value = "1" }).error:match("^[^\n]*"):gsub("^.-%.lua:%d+: ", ""))
end

describe("time.parse", function()
  it("takes no text with a NUL behind the time", function()
    assert.equal('{"v":true}', script.value(script.map("return { v = time.parse('2026-11-22\\0junk') == nil }")
      :process { value = "{}" }))
  end)
end)

describe("json", function()
  it("decodes and encodes as messages are", function()
    assert.equal('"{\\"a\\":[1,2.0,null,{},[]],\\"b\\":9007199254740993}"',
      value_of [=[json.encode(json.decode '{"b":9007199254740993,"a":[1,2.0,null,{},[]]}')]=])
    assert.equal('"[]"', value_of "json.encode(array {})")
    assert.equal('"{}"', value_of "json.encode {}")
    assert.equal('"\\"x\\""', value_of "json.encode 'x'")
    assert.equal("true", value_of "json.null == null")
  end)

  it("raises what is wrong, which pcall catches", function()
    assert.matches("^json.decode: not JSON: ", error_of "json.decode '{'")
    assert.matches("^json.encode is a function: JSON cannot carry it", error_of "json.encode(pcall)")
    assert.matches("^json.encode: a.b%[2%] is a function", error_of "json.encode { a = { b = { 1, pcall } } }")
    assert.equal("false", value_of "pcall(json.decode, '')")
  end)

  it("does not disturb the message", function()
    local s = script.map "local x = json.decode '[1,2,3]' return { msg, { n = #x } }"
    local got = s:process { value = '{"a":"b"}' }
    assert.equal('{"a":"b"}', got.messages[1].value)
    assert.equal('{"n":3}', got.messages[2].value)
  end)
end)

describe("array", function()
  it("makes a list, also an empty one", function()
    assert.equal("[]", value_of "array {}")
    assert.equal("[]", value_of "array()")
    assert.equal("[1,2]", value_of "array { 1, 2 }")
    assert.matches("table expected, got number", error_of "array(5)")
  end)
end)

describe("time.parse", function()
  it("reads ISO 8601", function()
    for text, seconds in pairs { ["1970-01-01T00:00:00Z"] = "0", ["2026-11-22T17:31:18Z"] = "1795368678",
      ["2026-11-22 17:31:18"] = "1795368678", ["2026-11-22T20:31:18+03:00"] = "1795368678",
      ["2026-11-22T12:01:18-0530"] = "1795368678", ["2026-11-22T20:31:18+03"] = "1795368678",
      ["2026-11-22"] = "1795305600", ["2026-11-22T17:31Z"] = "1795368660", ["1969-12-31T23:59:59Z"] = "-1",
      ["2000-02-29"] = "951782400", ["2016-12-31T23:59:60Z"] = "1483228800",
        ["2026-11-22T17:31:18.25Z"] = "1795368678.25" } do
      assert.equal(seconds, value_of("time.parse '" .. text .. "'"), text)
    end
  end)

  it("returns nil and a sentence for what is no time", function()
    for _, text in ipairs { "", "yesterday", "2026-13-01", "2026-02-29", "2026-11-22T24:00:01Z", "2026-11-22T17:31:61Z",
      "2026-11-22T17:31:18Zx", "2026-11-22T17:31:18.Z", "2026-1-2", "1795368678", "2026-11-22T17:31:18+25:00" } do
      assert.equal("[true,\"'" .. text .. "' is not a time such as 2026-11-22T17:31:18Z\"]",
        value_of("(function() local t, why = time.parse '" .. text .. "' return { t == nil, why } end)()"), text)
    end
  end)
end)

describe("time.format", function()
  it("writes UTC, with milliseconds if there are any", function()
    assert.equal('"2026-11-22T17:31:18Z"', value_of "time.format(1795368678)")
    assert.equal('"2026-11-22T17:31:18.250Z"', value_of "time.format(1795368678.25)")
    assert.equal('"1969-12-31T23:59:59.500Z"', value_of "time.format(-0.5)")
    assert.equal('"22.11.2026"', value_of "time.format(1795368678, '%d.%m.%Y')")
    assert.equal('""', value_of "time.format(1795368678, '')")
  end)

  it("refuses what is no time", function()
    assert.matches("not within the years 0 to 9999", error_of "time.format(1e18)")
    assert.matches("number expected, got string", error_of "time.format('now')")
    assert.matches("longer than 255 bytes", error_of "time.format(0, ('%Y'):rep(100))")
  end)
end)
