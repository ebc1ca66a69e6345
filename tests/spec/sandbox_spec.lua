-- What a script can reach, and what it cannot.
local script = require "tests.support.script"

--- Runs a body as map; the error's first line without the place, or nil.
local function error_of(body)
  local got = script.map(body):process { value = "{}" }
  return got.error and (got.error:match("^[^\n]*"):gsub("^.-%.lua:%d+: ", "")), got.class
end

--- The value of an expression, as JSON.
local function value_of(expression)
  return script.value(script.map("return { v = " .. expression .. " }"):process { value = "{}" }):match('^{"v":(.*)}$')
end

describe("the sandbox", function()
  it("has no way out", function()
    for _, name in ipairs { "io", "debug", "package", "load", "loadstring", "dofile", "loadfile", "coroutine",
      "collectgarbage", "_G" } do
      assert.matches("^'" .. name .. "' is not there: ", error_of("return " .. name), name)
    end
    assert.matches("^os.execute is not there: of os there are only os.time and os.date", error_of "os.execute 'true'")
    assert.matches("^os.getenv is not there", error_of "return os.getenv")
    assert.equal("true", value_of "string.dump == nil")
  end)

  it("tells what to use instead of print", function()
    assert.equal("'print' is not there: use ctx.log(text)", (error_of "print 'x'"))
  end)

  it("raises on an undefined name and on an assignment to a global", function()
    assert.matches("^undefined name 'zzzzzz'$", error_of "return zzzzzz")
    assert.equal("undefined name 'mth' (did you mean 'math'?)", (error_of "return mth.floor(1)"))
    local message, class = error_of "counter = 1"
    assert.equal("assignment to the global 'counter': use 'local counter'", message)
    assert.equal("script", class)
  end)

  it("keeps the safe library", function()
    assert.equal('"b"', value_of '("abc"):sub(2, 2)')
    assert.equal("3", value_of 'select("#", table.unpack({ 1, 2, 3 }))')
    assert.equal('"1,2"', value_of 'table.concat({ 1, 2 }, ",")')
    assert.equal("2", value_of "utf8.len('é!')")
    assert.equal("4", value_of "math.max(1, 4)")
    assert.equal("true", value_of "math.type(os.time()) == 'integer'")
    assert.equal('"1970-01-01"', value_of "os.date('!%Y-%m-%d', 0)")
    assert.equal('"ababab"', value_of '("ab"):rep(3)')
    assert.equal('"a-a"', value_of '("a"):rep(2, "-")')
    assert.equal('""', value_of '(""):rep(1e15 // 1 | 0)')
    assert.equal("[2,3]", value_of "{ ('abc'):find 'bc' }")
    assert.equal('"b"', value_of "('abc'):match('.', 2)")
    assert.equal('["xbx",2]', value_of "{ ('aba'):gsub('a', 'x') }")
    assert.equal('"a-b-"', value_of(
      "(function() local s = '' for w in ('a b'):gmatch '%a' do s = s .. w .. '-' end return s end)()"))
    assert.equal("[1,1,2]", value_of "table.move({ 1, 2 }, 1, 2, 2)")
    assert.equal("[3,1,2]", value_of "(function() local t = { 1, 2 } table.insert(t, 1, 3) return t end)()")
    assert.equal("[1,2,3]", value_of "(function() local t = { 3, 1, 2 } table.sort(t) return t end)()")
    assert.equal('[false,"x"]', value_of '{ pcall(error, "x") }')
    assert.equal('[false,"x!"]', value_of '{ xpcall(function() error("x", 0) end, function(m) return m .. "!" end) }')
  end)

  it("has no finalizers", function()
    assert.equal("__gc is not there: a script has no finalizers",
      (error_of "setmetatable({}, { __gc = function() end })"))
    assert.equal("5", value_of "setmetatable({}, { __index = function() return 5 end }).x")
  end)

  it("does not let a script change the strings' metatable", function()
    assert.equal('"string"', value_of 'getmetatable("")')
    assert.matches("cannot change a protected metatable", error_of "setmetatable(array {}, {})")
  end)

  it("loads no bytecode", function()
    local object, message = script.open(string.dump(load "return { map = function() end }"))
    assert.is_nil(object)
    assert.matches("attempt to load a binary chunk", message)
  end)

  it("says of a strange error value what it is", function()
    assert.matches("the error is a table value, not a text", (error_of "error {}"))
    assert.matches("the error is a nil value, not a text", (error_of "error()"))
    assert.equal("E", (error_of "error(setmetatable({}, { __tostring = function() return 'E' end }))"))
  end)

  it("makes valid UTF-8 of any error text", function()
    assert.equal("a?b", (error_of "error('a\\xffb', 0)"))
    assert.equal("é", (error_of "error('é', 0)"))
  end)
end)
