-- A filter that only reads fields of msg by name is called before the message's table is made: nothing may show it.
local script = require "tests.support.script"

-- The filter as it stands, and behind a function that passes msg on: that one is always given the whole message.
local function both(body, rest, options)
  local function open(form)
    return assert(script.open("local s, kept = {}, nil\n" .. form:gsub("BODY", (body:gsub("%%", "%%%%"))) .. "\n" ..
      (rest or "function s.map(msg) return msg end") .. "\nreturn s\n", options))
  end
  return open "function s.filter(msg, ctx) BODY end",
    open "local function filter(msg, ctx) BODY end\nfunction s.filter(msg, ctx) return filter(msg, ctx) end"
end

local function first_line(text)
  return text and text:match("^[^\n]*"):gsub("^[^:]*:%d+: ", "")
end

local function shown(got)
  local list = { got.verdict, got.reason or "-", got.class or "-", first_line(got.error) or "-" }
  for _, message in ipairs(got.messages) do list[#list + 1] = message.value end
  return table.concat(list, " | ")
end

-- What came of the message, the same by both ways.
local function same(body, value, rest, options)
  local short, whole = both(body, rest, options)
  local a, b = shown(short:process { value = value, now = 1000 }), shown(whole:process { value = value, now = 1000 })
  assert.equal(b, a, body .. " of " .. value)
  return a
end

local deep = '{"keep":false,"x":' .. ("["):rep(64) .. ("]"):rep(64) .. "}"

describe("a filter that only reads fields", function()
  it("gets the values of the message", function()
    for _, body in ipairs {
      "return msg.a", "return msg.a == 1, 'other'", "return msg.a ~= nil and msg.a ~= null, type(msg.b)",
      "return false, (tostring(msg.a):gsub('0x%x+', '')) .. tostring(math.type(msg.a))", "return msg.a < 2",
      "return msg.a.b == 1",
      "if msg.a == msg.b then return false, 'equal' end return true", "local x = msg.a return not x, type(x)",
      "for i = 1, 3 do if msg.a == i then return false, 'n' .. i end end return true", "return ctx.now > 1",
      "return #msg.a > 1, 'short'", "return msg.a:upper() == 'X', 'x'", "return", "return msg.a .. msg.b",
      "return true" } do
      for _, value in ipairs { '{"a":1,"b":2}', '{"b":1,"a":1}', '{"a":1.5}', '{"a":"x","b":"x"}', '{"a":true}',
        '{"a":false}', '{"a":null,"b":[1]}', '{"a":{"b":1}}', '{"a":[1,2,3]}', "{}", '{"a":1,"a":3}', '{"a":[],"a":2}',
        '{"a":1,"b":18446744073709551615}', '{"c":[[{"d":9223372036854775808}]],"a":2}', "[1]", "[]", "3", "null",
        '"a"', '{"a":1', '{"\\u0061":1,"b":1}', '{"a":"\\u0000"}', deep } do
        same(body, value)
      end
    end
  end)

  it("finds the members in any order, message after message", function()
    local short = both("return msg.a == 1 and msg.c == 3, tostring(msg.a) .. tostring(msg.c)")
    for _, case in ipairs { { '{"a":1,"b":2,"c":3}', "emit" }, { '{"c":3,"b":2,"a":1}', "emit" }, { '{"c":3}', "nil3" },
      { '{"a":1,"b":2,"c":3}', "emit" }, { '{"b":1,"a":2,"c":4}', "24" }, { '{"x":1,"a":1,"y":1,"c":3,"z":0}', "emit" },
      { "{}", "nilnil" } } do
      local got = short:process { value = case[1] }
      assert.equal(case[2], got.reason or got.verdict)
    end
    local many = {}
    for i = 1, 200 do many[i] = ('"m%d":%d'):format(i, i) end
    assert.equal("emit", short:process { value = "{" .. table.concat(many, ",") .. ',"c":3,"a":1}' }.verdict)
  end)

  it("does not hide what is wrong with the rest of what it drops", function()
    for _, value in ipairs { '{"keep":false,"x":18446744073709551615}',
      '{"keep":false,"x":[{"y":9223372036854775808}]}', deep } do
      assert.matches("^reject | %- | decode |", same("return msg.keep", value))
    end
    assert.matches("^drop", same("return msg.keep", '{"keep":false,"x":' .. ("["):rep(63) .. ("]"):rep(63) .. "}"))
  end)

  it("is asked after the fields are checked", function()
    local rest = [[
      s.fields = { a = "integer", b = "string?", c = "table?", d = "array?", e = "number?", f = "boolean?" }
      function s.map(msg) return msg end]]
    for _, value in ipairs { '{"a":1}', '{"a":2}', '{"a":"1"}', '{"a":null}', "{}", "[1]", '{"a":1,"b":2}',
      '{"a":1,"b":null}',
      '{"a":1,"c":[]}', '{"a":1,"c":1}', '{"a":1,"d":[]}', '{"a":1,"d":{}}', '{"a":1,"e":1}', '{"a":1,"e":0.5}',
      '{"a":1,"e":"1"}', '{"a":1,"f":true}', '{"a":1,"f":0}', '{"a":1.0}', '{"a":1,"a":"x"}', '{"a":"x","a":1}',
      '{"a":"x","z":18446744073709551615}' } do
      same("return msg.a == 1, 'other'", value, rest)
      same("return true", value, rest)
    end
    assert.matches("^reject | %- | schema | field a: expected integer, got string",
      same("return msg.a == 1", '{"a":"1"}', rest))
  end)

  it("may change a table that it has read", function()
    assert.equal('emit | - | - | - | {"a":{"n":2}}', same("msg.a.n = msg.a.n + 1 return true", '{"a":{"n":1}}'))
    assert.equal('emit | - | - | - | {"same":true}', same("kept = msg.a return true", '{"a":[1]}',
      "function s.map(msg) return { same = msg.a == kept } end"))
  end)

  it("gives each message a reason of its own", function()
    local short = both("return false, msg.why")
    local long = ("x"):rep(63)
    for _, case in ipairs { { "" }, { "late" }, { "late" }, { "early" }, { "late" }, { "" }, { long },
      { long .. "y", long }, { long .. "z", long }, { "\u{fc}", "\u{fc}" },
      { long:sub(2) .. "\u{fc}", long:sub(2) .. "?" }, { "late" } } do
      assert.equal(case[2] or case[1], short:process { value = ('{"why":"%s"}'):format(case[1]) }.reason)
    end
  end)

  it("may decode JSON besides", function()
    assert.equal('emit | - | - | - | {"a":"[1,2]","b":"x"}',
      same("return #json.decode(msg.a) == 2", '{"a":"[1,2]","b":"x"}'))
    assert.matches("json%.decode", same("return json.decode(msg.a)", '{"a":"[1,"}'))
  end)
end)

describe("a filter that does more with msg", function()
  -- All keep msg in some way, and drop it; the next message tells how many fields it had.
  it("is given all of it, whichever way", function()
    for _, body in ipairs {
      "kept = msg return msg.go", "local m = msg kept = m return msg.go", "kept = { msg } kept = kept[1] return msg.go",
      "kept = (function() return msg end)() return msg.go", "kept = select(1, msg) return msg.go",
      "kept = kept or msg return msg.go", "kept = msg and msg return msg.go",
      "msg.mark = 1 kept = { a = 1, b = 2, c = msg.mark } return msg.go",
      "kept = {} for k, v in pairs(msg) do kept[k] = v end return msg.go",
      "kept = {} for k, v in next, msg do kept[k] = v end return msg.go",
      "kept = { a = 1, b = 2, c = rawget(msg, 'b') } return msg.go",
      "kept = { a = 1, b = 2, c = msg['' .. 'b'] } local k = 'b' kept.c = msg[k] return msg.go",
      "local t = {} t.x = msg kept = t.x return msg.go", "kept = setmetatable(msg, nil) return msg.go",
      "local t = setmetatable({}, { __index = msg }) kept = { a = t.a, b = t.b, c = t.a } return msg.go",
      "local t = setmetatable({}, { __concat = function(_, m) return m end }) kept = t .. msg return msg.go",
      "local t = setmetatable({}, { __eq = function(_, m) kept = m return true end }) return t == msg and msg.go",
      "local go = msg.go msg = { m = msg } kept = msg.m return go", "goto on ::on:: kept = msg return msg.go",
      "kept = json.decode(json.encode(msg)) return msg.go" } do
      for _, object in ipairs { both(body, [[
        function s.map(msg)
          local n = 0
          for _ in pairs(kept or {}) do n = n + 1 end
          return { n = n }
        end]]) } do
        local got = object:process { value = '{"a":1,"b":2,"go":false}' }
        assert.equal("drop", got.verdict, body)
        got = object:process { value = '{"a":1,"b":2,"go":true}' }
        assert.equal('{"n":3}', got.messages[1] and got.messages[1].value, body .. (got.error or ""))
      end
    end
  end)

  it("is given all of it by a function of any arguments", function()
    local object = assert(script.open([[
      local s, kept = {}, nil
      s.filter = function(...) kept = ... return kept.go end
      function s.map() return kept end
      return s]]))
    assert.equal('{"b":1,"go":true}', object:process { value = '{"b":1,"go":true}' }.messages[1].value)
  end)
end)
