-- What things cost in a script: prints the table of docs/LUA.md, "What it costs". Not a test; run it by tools/cost.
-- Each figure is the best of several rounds, less what the loop (or the message without the thing) costs alone.
local testing = require "millrace.testing"

local LOOPS, MESSAGES, ROUNDS = 100000, 4000, 7
local MESSAGE = { id = "a", name = "Ann", city = "Wien", n = 5, price = 2.5, at = 1767225600, ok = true,
  tags = { 1, 2 } }
local ROW = { { id = "a", client_id = "123e4567-e89b-12d3-a456-426614174000", visits = 7 } }

local function best(measure)
  local least = math.huge
  for _ = 1, ROUNDS do
    collectgarbage()
    local began = os.clock()
    measure()
    least = math.min(least, os.clock() - began)
  end
  return least
end

--- Nanoseconds of `body` inside map.
local function inside(setup, body)
  local text = ([[
    local s = {}
    function s.map(msg, ctx)
      %s
      for i = 1, msg.loops do %s end
      return nil
    end
    return s]]):format(setup, body)
  local p = testing.script { text = text, limits = { time = 600 } }
  local bytes = '{"loops":' .. LOOPS .. "}"
  return best(function()
    local got = p:send(bytes, { headers = { trace = "x" } })
    assert(got.dropped == "no_output", got.dead and got.dead.error)
  end) / LOOPS * 1e9
end

--- Nanoseconds of a message through a script.
local function message(text, options)
  options.text, options.limits = text, { time = 600 }
  local p = testing.script(options)
  local raw = { value = testing.json.encode(MESSAGE), now = 1767225600, headers = {} }
  return best(function()
    for _ = 1, MESSAGES do p.core:process(raw) end
  end) / MESSAGES * 1e9
end

local function line(what, ns) print(("| %s | %d |"):format(what, math.max(0, math.floor(ns / 10 + 0.5) * 10))) end

it("measures", function()
  print "| in a script, once | ns |\n|---|---|"
  local loop = inside("", "local x = i")
  local things = {
    { "a field of `msg`", "", "local x = msg.loops" },
    { "`ctx.now`", "", "local x = ctx.now" },
    { "`ctx.headers.name`", "", "local x = ctx.headers.trace" },
    { "`ctx.count(name)`", "", "ctx.count 'x'" },
    { "a table of 8 fields", "", "local x = { a = 1, b = 2, c = 3, d = 4, e = 5, f = 6, g = 7, h = i }" },
    { "`\"text \" .. i`", "", "local x = 'text ' .. i" },
    { "`string.format(\"%s %d\", text, i)`", "", "local x = string.format('%s %d', 'text', i)" },
    { "`time.parse(text)`", "", "local x = time.parse '2026-11-22T17:31:18Z'" },
    { "`time.format(seconds)`", "", "local x = time.format(1767225600 + i)" },
    { "`json.encode`, 8 fields", "local t = { a = 1, b = 'x', c = 2.5, d = true, e = 'y', f = 6, g = 'z', h = 8 }",
      "local x = json.encode(t)" },
    { "`json.decode`, 8 fields",
      [[local t = '{"a":1,"b":"x","c":2.5,"d":true,"e":"y","f":6,"g":"z","h":8}']], "local x = json.decode(t)" },
    { "`pcall(f)`", "local f = function() end", "pcall(f)" },
  }
  for _, thing in ipairs(things) do line(thing[1], inside(thing[2], thing[3]) - loop) end

  print "\n| of one message | ns |\n|---|---|"
  local drop = "filter = function() return false end"
  local base = message("return { map = function() return nil end, " .. drop .. " }", {})
  line("decoding 8 fields, an empty `filter`, and what stands around it", base)
  line("`fields` of 8", message([[return { map = function() return nil end, fields = { id = "string", name = "string",
    city = "string", n = "integer", price = "number", at = "integer", ok = "boolean", tags = "array" }, ]] .. drop ..
    " }", {}) - base)
  line("a `map` that returns nil", message("return { map = function() return nil end }", {}) - base)
  local made = message("return { map = function(msg) return msg end }", { rows = false })
  line("`map` and a message of the same 8 fields", made - base)
  line("a `shape` besides", message([[return { map = function(msg) return msg end,
    shape = function(rec) return rec, rec.id end }]], { rows = false }) - made)
  line("one that changes the record", message([[return { map = function(msg) return msg end,
    shape = function(rec) rec.more = 1 return rec, rec.id end }]], { rows = false }) - made)
  local joined = { key = "id", lookup = ROW, rows = false }
  local key = "key = function(msg) return msg.id end, "
  line("`key` and finding its rows", message("return { " .. key .. "each = function() return nil end }", joined) - base)
  line("`key`, `project` of 8 fields and one row", message("return { " .. key .. [[project = function(msg, col)
    return { id = msg.id, name = msg.name, city = msg.city, n = msg.n, price = msg.price, at = msg.at,
      client_id = col.client_id, visits = col.visits } end }]], joined) - base)
end)
