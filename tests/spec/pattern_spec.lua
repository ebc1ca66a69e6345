-- The bounded string functions are Lua's own, as far as anybody can tell: held against them on many texts and patterns.
-- luacheck: no max line length
local script = require "tests.support.script"
local cjson = require "cjson"

--- What a case gives, as text; the same code runs in the script and here.
local RUN = [[
  local function run(case)
    local results = { pcall(function()
      local first, more = string[case.f](table.unpack(case.args, 1, case.n))
      if case.f ~= "gmatch" then return string[case.f](table.unpack(case.args, 1, case.n)) end
      local all = { tostring(more) }
      for a, b, c in first do
        all[#all + 1] = tostring(a) .. "|" .. tostring(b) .. "|" .. tostring(c)
        if #all > 50 then break end
      end
      return table.concat(all, ";")
    end) }
    if not results[1] then return "error" end
    for k = 1, 8 do results[k] = tostring(results[k]) end
    local text = table.concat(results, "\1")
    return (text:gsub("[\128-\255]", function(c) return ("\\%02x"):format(c:byte()) end))
  end
]]

local s = assert(script.open(RUN .. [[
  return { map = function(msg)
    local out = array {}
    for i, case in ipairs(msg) do out[i] = run(case) end
    return { out = out }
  end }]], { output_limit = 64 << 20, time_limit = 20 }))

local expected = load(RUN .. " return run")()

local function compare(cases)
  local got = s:process { value = cjson.encode(cases) }
  assert.equal("emit", got.verdict, got.error)
  local out = cjson.decode(got.messages[1].value).out
  for i, case in ipairs(cases) do
    local want = expected(case)
    if out[i] ~= want then
      error(("%s(%s): expected %q, got %q"):format(case.f, cjson.encode(case.args), want, out[i]))
    end
  end
end

local function case(f, ...) return { f = f, args = { ... }, n = select("#", ...) } end

describe("patterns", function()
  it("match as the manual says", function()
    local cases = {}
    local texts = { "", "a", "hello world", "  trim me  ", "key = value", "f(a(b)c)d", "2026-11-22T17:31:18Z", "THE (quick) fox",
      "aaa", "x-y-z", "[set]", "100%", "a.b.c", "\0mid\0", "äöü", "%d", "^start$", "one;two;;four", "\n\t\r", "]" }
    local patterns = { "", "a", ".", ".*", ".-", "^a", "a$", "^$", "%a+", "%w+", "%s*", "(%a+) (%a+)", "()a()", "^%s*(.-)%s*$",
      "(%w+)%s*=%s*(%w+)", "%b()", "%f[%a]%a+", "%f[%A]", "(a)%1", "(.)%1", "[%w_]+", "[^%s]+", "[a-c]+", "[]]", "[^]]", "[a-]",
      "[%]]", "[-a]", "(%d+)-(%d+)-(%d+)", "a?b?c?", "a-b", "x*", "(x*)", "((a)(b))", "%.", "%%", "[%d%.]+", ";([^;]*)", "%z",
      "%g+", "%c", "%p", "%x+", "%u+", "%l+", "%S", "%D", "(", ")", "%", "[a", "[^", "%b", "%bx", "%f", "%1", "(()", "a**", "^",
      "$", "^^", "$$", "a+?", "[%a-z]", "[a-%%]", ".-b", "(a*(.)%w(%s*))", "(a(b", "%0", "[[]", "[]", "^(.*)$", "\0", "[\0]" }
    for _, text in ipairs(texts) do
      for _, p in ipairs(patterns) do
        cases[#cases + 1] = case("find", text, p)
        cases[#cases + 1] = case("match", text, p)
        cases[#cases + 1] = case("gmatch", text, p)
        cases[#cases + 1] = case("gsub", text, p, "<%0>")
        cases[#cases + 1] = case("gsub", text, p, "%1%2")
        cases[#cases + 1] = case("find", text, p, 1, true)
      end
    end
    compare(cases)
  end)

  it("begin where they are told to", function()
    local cases = {}
    for _, init in ipairs { -100, -6, -5, -1, 0, 1, 2, 5, 6, 7, 100 } do
      for _, p in ipairs { "l", "", "^l", "lo$", ".", "x", "(l)(l)" } do
        for _, f in ipairs { "find", "match", "gmatch" } do cases[#cases + 1] = case(f, "hello", p, init) end
        cases[#cases + 1] = case("find", "hello", p, init, true)
      end
    end
    compare(cases)
  end)

  it("replace as often as they are told to", function()
    local cases = {}
    for _, n in ipairs { -1, 0, 1, 2, 3, 100 } do
      for _, replacement in ipairs { "x", "", "%0%0", "%%", "%1", "%2", "%", "%a", 5, 1.5, { a = "b" }, { a = false }, { b = {} } } do
        cases[#cases + 1] = case("gsub", "abracadabra", "a", replacement, n)
        cases[#cases + 1] = case("gsub", "abracadabra", "(a)(.)", replacement, n)
        cases[#cases + 1] = case("gsub", "abracadabra", "()", replacement, n)
      end
    end
    compare(cases)
  end)

  it("agree on 20 000 random patterns", function()
    local seed = tonumber(os.getenv "MILLRACE_SEED") or os.time()
    math.randomseed(seed)
    local pieces = { "a", "b", ".", "%a", "%d", "%s", "%w", "[ab]", "[^a]", "[a-c]", "*", "+", "-", "?", "(", ")", "()", "%1", "^",
      "$", "%b()", "%f[a]", "%", "]", "[" }
    local letters = { "a", "b", "c", " ", "1", "(", ")", "-" }
    for _ = 1, 20 do
      local cases = {}
      for _ = 1, 1000 do
        local p, text = {}, {}
        for i = 1, math.random(1, 6) do p[i] = pieces[math.random(#pieces)] end
        for i = 1, math.random(0, 10) do text[i] = letters[math.random(#letters)] end
        local f = ({ "find", "match", "gmatch", "gsub" })[math.random(4)]
        cases[#cases + 1] = f == "gsub" and case(f, table.concat(text), table.concat(p), "<%0>")
          or case(f, table.concat(text), table.concat(p))
      end
      local done, message = pcall(compare, cases)
      assert.is_true(done, "MILLRACE_SEED=" .. seed .. ": " .. tostring(message))
    end
  end)

  it("call functions for what they replace, and methods of strings work", function()
    local got = script.map([[
      local seen = {}
      local text, n = ("hello world"):gsub("o(.?)", function(...) seen[#seen + 1] = table.concat({ ... }, ",") return "0" end)
      return { text = text, n = n, seen = seen, find = { ("abc"):find("b", 1, true) }, kept = (("abc"):gsub("%w", { a = "1" })) }
    ]]):process { value = "{}" }
    assert.equal('{"find":[2,2],"kept":"1bc","n":2,"seen":[" ","r"],"text":"hell0w0ld"}', script.value(got))
  end)
end)
