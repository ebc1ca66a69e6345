-- millrace try: messages on stdin, rows from a file, what they became on stdout. Needs neither Kafka nor Postgres;
-- beside the daemon: tests/integration/rehearse_spec.lua.
local cjson = require "cjson"
local shell = require "tests.support.shell"

local bin = assert(os.getenv("MILLRACE_BIN"), "MILLRACE_BIN names the program")
local NOWHERE = "host=127.0.0.1 port=1 dbname=x"

local CONFIG = [[
local kafka = { ["bootstrap.servers"] = "127.0.0.1:1" }
return {
  lookups = { people = { dsn = "]] .. NOWHERE .. [[", table = "t", key = "town" } },
  pipelines = {
    joined = { source = { topics = "in", group = "g", kafka = kafka }, lookup = "people", script = "joined.lua",
      sinks = { kafka = { topic = "out", kafka = kafka, bundle_header = false },
                postgres = { dsn = "]] .. NOWHERE .. [[", table = "t" } } },
    mapped = { source = { topics = { "in", "in2" }, group = "h", kafka = kafka }, script = "mapped.lua",
      sinks = { kafka = { topic = "out", kafka = kafka, bundle_header = false } },
      dead_letters = { topic = "dead" } },
  },
}
]]
local JOINED = [[
local s = {}
function s.filter(msg, ctx)
  if msg.ends and ctx.now > msg.ends then return false, "over" end
  return true
end
function s.key(msg) return msg.town end
function s.project(msg, col, ctx)
  return { name = col.name, n = col.n, at = ctx.now, town = col.town }
end
function s.shape(rec) return rec, rec.name end
function s.row(rec) return { name = rec.name, n = rec.n, note = fmt "of {town}", list = { 1, "b" }, none = null } end
return s
]]
local MAPPED = [[
local s = {}
function s.map(msg, ctx)
  if msg.text then return { text = msg.text } end
  return { topic = ctx.topic, key = ctx.key, offset = ctx.offset, at = ctx.timestamp_ms, a = ctx.headers.a,
    value = msg }
end
function s.shape(rec)
  if rec.text then return rec.text, nil, { { "h", "1" }, { "h", "2" } } end
  return rec
end
return s
]]
local dir

--- Lines of stdout as tables; status; stderr.
local function try(input, ...)
  local status, out, err = shell.try({ bin, "try", ... }, { dir = dir, input = input })
  local lines = {}
  for line in out:gmatch("[^\n]+") do lines[#lines + 1] = cjson.decode(line) end
  return lines, status, err
end

local function joined(input, rows, ...)
  return try(input, "joined", "--rows", rows, ...)
end

setup(function()
  dir = shell.temp(".d")
  shell.run { "mkdir", dir }
end)

before_each(function()
  shell.write(dir .. "/config.lua", CONFIG)
  shell.write(dir .. "/joined.lua", JOINED)
  shell.write(dir .. "/mapped.lua", MAPPED)
  shell.write(dir .. "/rows.csv", "town,name,n\nulm,Ann,1\nulm,\"B, \"\"Bob\"\"\",\n\nbonn,Cy,3\r\n")
end)

describe("millrace try", function()
  it("prints the message and the row of each joined row, in the order of the input", function()
    local lines, status, err = joined('{"town":"ulm"}\n{"town":"bonn"}\n', "rows.csv", "--now", "1700000000")
    assert.equal(0, status, err)
    assert.same({
      { line = 1, message = { topic = "out", key = "Ann", headers = {},
          value = { name = "Ann", n = 1, at = 1700000000, town = "ulm" } },
        row = { name = "Ann", n = 1, note = "of ulm", list = { 1, "b" }, none = cjson.null } },
      { line = 1, message = { topic = "out", key = 'B, "Bob"', headers = {},
          value = { name = 'B, "Bob"', n = cjson.null, at = 1700000000, town = "ulm" } },
        row = { name = 'B, "Bob"', n = cjson.null, note = "of ulm", list = { 1, "b" }, none = cjson.null } },
      { line = 2, message = { topic = "out", key = "Cy", headers = {},
          value = { name = "Cy", n = 3, at = 1700000000, town = "bonn" } },
        row = { name = "Cy", n = 3, note = "of bonn", list = { 1, "b" }, none = cjson.null } },
    }, lines)
    assert.truthy(err:find("lookup people: rows.csv: 3 rows; key town text?; columns town text?, name text?, n int?", 1,
      true), err)
    assert.truthy(err:find("2 messages: 3 outputs, 0 dropped, 0 dead letters\n", 1, true), err)
  end)

  it("says what is dropped and why", function()
    local lines, status = joined('{"town":"ulm","ends":5}\n\n{"town":"rome"}\n{}\n', "rows.csv", "--now", "6")
    assert.same({ { line = 1, dropped = "over" }, { line = 3, dropped = "no_rows" }, { line = 4, dropped = "no_key" } },
      lines)
    assert.equal(0, status)
  end)

  it("knows the columns of the Postgres sink where the configuration names them", function()
    local columns = 'table = "t", columns = { "name", "n" } } } },'
    shell.write(dir .. "/config.lua", (CONFIG:gsub('table = "t" } } },', columns)))
    local lines, status = joined('{"town":"bonn"}', "rows.csv")
    assert.equal(65, status)
    assert.equal("schema", lines[1].dead.class)
    assert.truthy(lines[1].dead.error:find("row: the table t has no column '", 1, true), lines[1].dead.error)
  end)

  it("goes on after a dead letter, and exits with 65", function()
    shell.write(dir .. "/mapped.lua", [[return { map = function(msg) return { v = msg.a.b } end }]])
    local lines, status, err = try('nope\n{"a":1}\n{"a":{"b":2}}\n', "mapped")
    assert.equal(65, status)
    assert.equal("decode", lines[1].dead.class)
    assert.equal("script", lines[2].dead.class)
    assert.truthy(lines[2].dead.error:find("mapped.lua:1: ", 1, true), lines[2].dead.error)
    assert.same({ v = 2 }, lines[3].message.value)
    assert.truthy(err:find("2 dead letters", 1, true), err)
  end)

  it("keeps the state of the script from message to message", function()
    shell.write(dir .. "/mapped.lua", "local n = 0\nreturn { map = function() n = n + 1 return { n = n } end }")
    local lines = try("{}\n{}\n{}\n", "mapped")
    assert.equal(3, lines[3].message.value.n)
  end)

  it("takes rows as JSON lines, with their types", function()
    shell.write(dir .. "/rows.jsonl", '{"town":"ulm","name":"Ann","n":7}\n\n{"n":2.50,"town":"ulm","name":"Bob"}\n')
    local status, out, err = shell.try({ bin, "try", "joined", "--rows", "rows.jsonl" },
      { dir = dir, input = '{"town":"ulm"}' })
    assert.equal(0, status, err)
    assert.truthy(out:find('"n":2.50,', 1, true), out) -- numeric, digit by digit
    assert.truthy(err:find("n numeric?", 1, true), err)
  end)

  it("takes the types of a CSV from its header", function()
    shell.write(dir .. "/rows.csv", "town:uuid,name,n:float\n" ..
      "223E4567-E89B-12D3-A456-426614174000,007,1\n")
    local lines, status, err = joined('{"town":"223e4567-e89b-12d3-a456-426614174000"}', "rows.csv")
    assert.equal(0, status, err)
    assert.equal("007", lines[1].message.value.name)
    assert.equal("223e4567-e89b-12d3-a456-426614174000", lines[1].message.value.town)
    assert.truthy(err:find("key town uuid; columns town uuid, name text?, n float (?: guessed", 1, true), err)
  end)

  for what, case in pairs {
    ["a column that is missing"] = { "town,n\nulm,1\n",
      "rows.csv: the column name, which the lookup needs, is missing; the file has town, n" },
    ["a value of another type"] = { "town,name,n:int\nulm,x,1\nulm,y,many\n",
      "rows.csv:3: column n: 'many' is not of type int" },
    ["an unknown type"] = { "town,name,n:number\n", "rows.csv:1: column n: 'number' is no type" },
    ["a line with too few fields"] = { "town,name,n\nulm,x\n", "rows.csv:2: 2 fields, but the first line names 3" },
    ["bytes that are not UTF-8"] = { "town,name,n\nulm,\xe4,1\n", "rows.csv: it is not UTF-8 text" },
    ["two columns of one name"] = { "town,name,n,name\nulm,x,1,y\n",
      "rows.csv:1: the first line names the columns: two" },
    ["a word that is no bool"] = { "town,name,n:bool\nulm,x,t\nulm,x,FALSE\nulm,x,tomorrow\n",
      "rows.csv:4: column n: 'tomorrow' is not of type bool" },
    ["an empty file"] = { "", "rows.csv:1: the file is empty; its first line names the columns" },
    ["a quote that is not closed"] = { 'town,name,n\nulm,"x,1\n', "a quote is opened here" },
  } do
    it("refuses " .. what .. " in the rows", function()
      local columns = 'key = "town", columns = { "town", "name", "n" }'
      shell.write(dir .. "/config.lua", (CONFIG:gsub('key = "town"', columns)))
      shell.write(dir .. "/rows.csv", case[1])
      local lines, status, err = joined('{"town":"ulm"}', "rows.csv")
      assert.same({}, lines)
      assert.equal(65, status)
      assert.truthy(err:find(case[2], 1, true), err)
    end)
  end

  it("asks for rows where the pipeline has a lookup, and says which columns", function()
    local _, status, err = try("", "joined")
    assert.equal(64, status)
    assert.equal("millrace try: the pipeline joined joins the lookup people: give its rows with --rows FILE " ..
      "(.csv or .jsonl), with the columns town (key)\n", err)
    _, status, err = try("", "mapped", "--rows", "rows.csv")
    assert.equal(64, status)
    assert.equal("millrace try: the pipeline mapped has no lookup: --rows is not needed\n", err)
  end)

  it("takes whole messages with --records, and what kcat -J prints", function()
    local lines, status, err = try(table.concat({
      '{"value":{"x":1},"key":"k","headers":{"a":"1"},"timestamp":1234,"topic":"in2","offset":9}',
      '{"topic":"in","partition":1,"offset":5,"tstype":"create","ts":77,"headers":["a","2"],"key":null,' ..
        '"payload":"{\\"y\\":2}"}',
      '{"value":[],"headers":[["a","3"],["b",null]]}',
      '{"key":"k","value":null}',
    }, "\n"), "mapped", "--records")
    assert.equal(0, status, err)
    assert.same({ topic = "in2", key = "k", offset = 9, at = 1234, a = "1", value = { x = 1 } }, lines[1].message.value)
    assert.same({ topic = "in", key = cjson.null, offset = 5, at = 77, a = "2", value = { y = 2 } },
      lines[2].message.value)
    assert.equal("3", lines[3].message.value.a)
    assert.same({ line = 4, dropped = "tombstone" }, lines[4])
    lines, status, err = try('{"headers":7}', "mapped", "--records")
    assert.same({}, lines)
    assert.equal(65, status)
    assert.truthy(err:find("line 1: headers are an object, or a list of pairs", 1, true), err)
  end)

  it("takes each line as it is: NUL bytes are no blank line, blanks before a record no error", function()
    local lines, status = try("\0\0\n{}\n", "mapped")
    assert.equal("decode", lines[1].dead.class)
    assert.equal(2, #lines)
    assert.equal(65, status)
    local err
    lines, status, err = try('  {"value":{"x":1}}\n\t{"value":{"x":2}}\n', "mapped", "--records")
    assert.equal(0, status, err)
    assert.same({ x = 2 }, lines[2].message.value.value)
  end)

  it("keeps what a script logs within bounds: UTF-8, and no more than some kilobytes a line", function()
    shell.write(dir .. "/mapped.lua",
      "return { map = function(_, ctx) ctx.log('\\255 ' .. ('x'):rep(1e6)) return {} end }")
    local _, status, err = try("{}\n", "mapped")
    assert.equal(0, status, err)
    assert.truthy(err:find("script: ? xxx", 1, true), err:sub(1, 200))
    assert.is_true(#err < 10000)
  end)

  it("shows texts as they are, JSON as JSON, and headers with the same name", function()
    local lines = try('{"text":"plain"}\n{"text":"[1]"}\n{"text":"17"}\n', "mapped")
    assert.equal("plain", lines[1].message.value)
    assert.same({ 1 }, lines[2].message.value)
    assert.equal("17", lines[3].message.value)
    assert.same({ { "h", "1" }, { "h", "2" } }, lines[1].message.headers)
  end)

  it("reads the time as unix seconds or as ISO 8601, and refuses anything else", function()
    local lines = joined('{"town":"bonn"}', "rows.csv", "--now", "2026-11-22T17:30:00Z")
    assert.equal(1795368600, lines[1].message.value.at)
    local _, status, err = joined("", "rows.csv", "--now", "noon")
    assert.equal(64, status)
    assert.truthy(err:find('--now: expected unix seconds, such as 1700000000, or a time in UTC', 1, true), err)
  end)

  it("ends with 78 where configuration or script are wrong", function()
    shell.write(dir .. "/mapped.lua", "return {")
    local lines, status, err = try("{}", "mapped")
    assert.same({}, lines)
    assert.equal(78, status)
    assert.truthy(err:find("mapped.lua:1:", 1, true), err)
    assert.equal(78, (select(2, try("{}", "mapped", "--set", "pipelines.mapped.nonsense=1"))))
  end)

  it("names the pipelines where it is not clear which one is meant", function()
    local _, status, err = try("{}")
    assert.equal(64, status)
    assert.equal("millrace try: which pipeline? There are: joined, mapped\n", err)
  end)

  it("fans out to more rows than a unit holds", function()
    local rows = { "town,name,n" }
    for i = 1, 2500 do rows[#rows + 1] = ("ulm,c%d,%d"):format(i, i) end
    shell.write(dir .. "/rows.csv", table.concat(rows, "\n"))
    local lines, status, err = joined('{"town":"ulm"}', "rows.csv", "--set", "pipelines.joined.unit.outputs=100")
    assert.equal(0, status, err)
    assert.equal(2500, #lines)
  end)

  it("ends quietly when nobody reads on, and gives each message at once", function()
    local status, out, err = shell.try(("yes '{\"text\":\"a\"}' | %s try mapped | head -2"):format(shell.quote(bin)),
      { dir = dir })
    assert.equal(0, status, err)
    assert.equal("", err)
    assert.equal(2, select(2, out:gsub("\n", "")))
    -- The first output is read before the second message is written.
    local line = ("mkfifo in; %s try mapped <in 2>/dev/null | { read -r a; echo \"$a\" >first; cat >/dev/null; } & "
      .. "exec 9>in; echo '{\"text\":\"a\"}' >&9; i=0; until [ -s first ] || [ $i = 1000 ]; do i=$((i+1)); "
      .. "sleep 0.01; " -- poll
      .. "done; exec 9>&-; wait; cat first"):format(shell.quote(bin))
    status, out, err = shell.try(line, { dir = dir })
    assert.equal(0, status, err)
    assert.truthy(out:find('"value":"a"', 1, true), out)
  end)

  it("works in a pipe with jq", function()
    if not os.execute("command -v jq >/dev/null") then pending("jq is not installed") return end
    local out = shell.run(("printf '%%s\\n' '{\"town\":\"ulm\"}' | %s try joined --rows rows.csv 2>/dev/null " ..
      "| jq -r 'select(.row) | .row.name'"):format(shell.quote(bin)), { dir = dir })
    assert.equal('Ann\nB, "Bob"\n', out)
  end)
end)
