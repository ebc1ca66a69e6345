-- Random JSON through pipeline and stamper with an identity script comes out with the same values.
--
-- The seed is printed when a run fails; MILLRACE_SEED=n repeats it, MILLRACE_ROUNDS=n makes it longer.
local generator = require "tests.support.jsongen"
local reader = require "tests.support.jsonread"
local script = require "tests.support.script"

local seed = tonumber(os.getenv "MILLRACE_SEED") or os.time()
local rounds = tonumber(os.getenv "MILLRACE_ROUNDS") or 5000

local function check(text, expected, back, what)
  local read, got = pcall(reader.read, back)
  local difference = read and reader.difference(expected, got) or (not read and got)
  assert(not difference, ("seed %d, %s: %s\n  in:  %s\n  out: %s"):format(seed, what, difference, text, back))
end

describe("random JSON", function()
  local gen

  before_each(function() gen = generator.new(seed) end)

  it("is read back by the reader of this test as it was meant", function()
    for text, kind in pairs { ["[]"] = "array", ["{}"] = "object", ["1"] = "integer", ["1.0"] = "float",
      ["null"] = "null" } do
      assert.equal(kind, reader.read(text).kind)
    end
    for _, text in ipairs { "[1,]", '{"b":1,"a":2}', '{"a":1,"a":1}', "[1] ", "9223372036854775808", '"\1"',
      '"\\u0041"' } do
      assert.is_false((pcall(reader.read, text)), text)
    end
  end)

  it("comes back the same from map", function()
    local s = script.map "return { v = msg }"
    for _ = 1, rounds do
      local text, meaning = generator.value(gen)
      local back = script.value(s:process { value = text })
      check(text, { kind = "object", v = { v = meaning } }, back, "map")
    end
  end)

  it("comes back the same through json.decode and json.encode", function()
    local s = assert(script.open [[return {
      map = function(_, ctx) return { v = json.encode(json.decode(ctx.value)) } end,
      shape = function(rec) return rec.v end }]])
    for _ = 1, rounds // 4 do
      local text, meaning = generator.value(gen)
      check(text, meaning, script.value(s:process { value = text }), "json")
    end
  end)

  it("comes back the same beside placeholders, for each row", function()
    local s = script.project "return { row = col.name, v = msg.v, t = fmt '<{name}|{n}>' }"
    for _ = 1, rounds // 4 do
      local text, meaning = generator.value(gen)
      local _, name = generator.value(gen)
      name = name.kind == "string" and name.v or "plain"
      local got = script.run(s, { value = '{"id":"a","v":' .. text .. "}",
        rows = { { id = "a", name = name, n = 1 }, { id = "a", name = name .. "2", n = math.maxinteger } } })
      assert.equal("emit", got.verdict, got.error)
      assert.equal(2, #got.messages)
      for i, message in ipairs(got.messages) do
        local full = i == 1 and name or name .. "2"
        check(text, { kind = "object", v = { row = { kind = "string", v = full }, v = meaning,
          t = { kind = "string", v = ("<%s|%d>"):format(full, i == 1 and 1 or math.maxinteger) } } }, message.value,
            "rows")
      end
    end
  end)

  it("never comes through when a byte is broken, except as JSON that another reader takes too", function()
    local s = script.map "return { v = msg }"
    for _ = 1, rounds // 2 do
      local text = generator.value(gen)
      local at = gen.below(#text) + 1
      local broken = text:sub(1, at - 1) .. string.char(gen.below(256)) .. text:sub(at + 1)
      local got = s:process { value = broken }
      if got.verdict == "reject" then
        assert(got.class == "decode" or got.class == "utf8", ("seed %d: %s: %s"):format(seed, broken, got.error))
        assert(utf8.len(got.error), ("seed %d: the error for %q is not UTF-8"):format(seed, broken))
      else
        local read, why = pcall(reader.read, script.value(got))
        assert(read, ("seed %d: %q came out as no JSON: %s"):format(seed, broken, why))
      end
    end
  end)
end)
