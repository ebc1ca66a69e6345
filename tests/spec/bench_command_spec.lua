-- millrace bench: figures about a script, on rows and messages that are made up or given. That there are figures, and
-- about the right work; none is compared with a bound.
local cjson = require "cjson"
local shell = require "tests.support.shell"

local bin = assert(os.getenv("MILLRACE_BIN"), "MILLRACE_BIN names the program")

local CONFIG = [[
local kafka = { ["bootstrap.servers"] = "127.0.0.1:1" }
local dsn = "host=127.0.0.1 port=1 dbname=x"
local function pipeline(script, lookup)
  return { source = { topics = "in", group = script .. (lookup or ""), kafka = kafka },
    lookup = lookup, script = script,
    sinks = { kafka = { topic = "out", kafka = kafka }, postgres = { dsn = dsn, table = "t" } } }
end
return {
  lookups = {
    people = { dsn = dsn, table = "t", key = "town", columns = { "name", "phone" } },
    wide = { dsn = dsn, table = "t", key = "town" },
  },
  pipelines = { joined = pipeline("joined.lua", "people"), each = pipeline("each.lua", "people"),
    mapped = pipeline("mapped.lua"), wide = pipeline("joined.lua", "wide") },
}
]]
local HEAD = [[
local s = { fields = { town = "string", at = "integer", open = "boolean?", list = "array", more = "table", any = "any",
  price = "number" } }
function s.filter(msg) if msg.closed then return false, "closed" end return true end
function s.key(msg) return msg.town end
function s.shape(rec) return rec end
function s.row(rec) return rec end
]]
local JOINED = HEAD .. "function s.project(msg, col) return { town = msg.town, name = col.name } end\nreturn s\n"
local EACH = HEAD .. [[
function s.each(msg, row)
  if row.name:sub(1, 1) < "8" then return nil end
  return { town = msg.town, name = row.name }
end
return s
]]
local MAPPED = "return { map = function(msg) return { a = msg.a } end, shape = function(rec) return rec end }\n"
local GOOD = '{"town":"ulm","at":1,"list":[],"more":{},"any":0,"price":1.5}\n'
local dir

local function bench(input, ...)
  local status, out, err = shell.try({ bin, "bench", "--json", ... }, { dir = dir, input = input })
  return status, status == 0 and cjson.decode(out) or out, err
end

setup(function()
  dir = shell.temp(".d")
  shell.run { "mkdir", dir }
  for name, text in pairs { ["config.lua"] = CONFIG, ["joined.lua"] = JOINED, ["each.lua"] = EACH,
    ["mapped.lua"] = MAPPED, ["rows.csv"] = "town,name,phone\nulm,Ann,1\nulm,Bob,2\nbonn,Cy,3\n" } do
    shell.write(dir .. "/" .. name, text)
  end
end)

describe("millrace bench", function()
  it("makes up messages from `fields`, and rows for the keys that they ask for", function()
    local status, f, err = bench("", "joined", "--messages", "2000", "--rows", "20000", "--each", "5")
    assert.equal(0, status, err)
    assert.same({ true, 1000, 20000, 4000, 2000, 10000, 0, 0 }, { f.made_up, f.samples, f.lookup_rows, f.lookup_keys,
      f.messages, f.outputs, f.dropped, f.dead_letters })
    assert.is_true(f.messages_per_s > 0 and f.rows_per_s > f.messages_per_s)
    assert.is_true(math.abs(f.share.lua + f.share.decode + f.share.stamp - 1) < 0.01)
    assert.is_true(f.share.lua > 0 and f.share.decode > 0 and f.share.stamp > 0)
  end)

  it("takes messages from standard input and rows from a file", function()
    local status, f, err = bench(GOOD .. "\n" .. GOOD, "joined", "--messages", "10", "--rows", "rows.csv")
    assert.equal(0, status, err)
    assert.same({ false, 2, 3, 10, 20 }, { f.made_up, f.samples, f.lookup_rows, f.messages, f.outputs })
    assert.matches("lookup people: ", err, 1, true)
  end)

  it("counts what `each` keeps, and its time apart from stamping", function()
    local status, f, err = bench(GOOD, "each", "--messages", "20", "--each", "1000")
    assert.equal(0, status, err)
    assert.is_true(f.outputs > 20 * 100 and f.outputs < 20 * 900, tostring(f.outputs))
    assert.is_true(f.share.lua > 0 and f.share.stamp > 0)
  end)

  it("needs no lookup", function()
    local status, f, err = bench('{"a":1}', "mapped", "--messages", "7")
    assert.equal(0, status, err)
    assert.same({ 7, 7, 0 }, { f.messages, f.outputs, f.lookup_rows })
  end)

  it("passes messages that leave nothing, and says why they do", function()
    local status, f, err = bench(GOOD .. GOOD:gsub("}\n$", ',"closed":1}\n'), "joined", "--messages", "10")
    assert.equal(0, status, err)
    assert.same({ 5, 50 }, { f.dropped, f.outputs })
    assert.matches("5 of 10 messages were dropped, the first one: closed", err, 1, true)
    local _
    status, _, err = bench('{"town":1}', "joined", "--messages", "10")
    assert.equal(65, status)
    assert.matches("10 of 10 would be dead letters, the first one: field ", err, 1, true)
    assert.matches("give real messages on standard input", err, 1, true)
  end)

  it("says what it lacks", function()
    local status, _, err = bench("", "mapped")
    assert.equal(64, status)
    assert.matches("give some on standard input", err, 1, true)
    status, _, err = bench("", "wide")
    assert.equal(64, status)
    assert.matches("lookups.wide names no `columns`", err, 1, true)
    status, _, err = bench("", "joined", "--rows", "none.csv")
    assert.is_true(status ~= 0)
    assert.matches("none.csv", err, 1, true)
  end)

  it("tells a person the same", function()
    local status, out, err = shell.try({ bin, "bench", "joined", "--messages", "100" }, { dir = dir, input = "" })
    assert.equal(0, status, err)
    assert.matches("messages/s", out, 1, true)
    assert.matches("of the time: Lua %d+ %%, decode %d+ %%, lookup and stamp %d+ %%", out)
  end)
end)
