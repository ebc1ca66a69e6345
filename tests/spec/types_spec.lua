-- scripts/types/millrace.d.lua, from which editors know what a script sees: its names are those of the sandbox, and
-- each of them stands in docs/LUA.md.
local testing = require "millrace.testing"

local function read(path)
  local file <close> = assert(io.open(path))
  return file:read "a"
end

local types, docs = read "scripts/types/millrace.d.lua", read "docs/LUA.md"

--- The fields of a class, as a set of names.
local function fields(class)
  local set, block = {}, types:match("%-%-%-@class " .. class .. "\n(.-)\n\n")
  for name in block:gmatch "%-%-%-@field ([%a_][%w_]*)" do set[name] = true end
  return set
end

--- The functions and values that are given to the global table `of`; without it the globals.
local function members(of)
  local set = {}
  local head = of and of .. "%." or ""
  for name in ("\n" .. types):gmatch("\n" .. head .. "([%a_][%w_]*) = ") do set[name] = true end
  for name in types:gmatch("\nfunction " .. head .. "([%a_][%w_]*)%(") do set[name] = true end
  return set
end

local function set_of(list)
  local set = {}
  for _, name in ipairs(list) do set[name] = true end
  return set
end

--- What a script answers when it is asked.
local function ask(body)
  local p = testing.script { text = "return { map = function(msg, ctx) " .. body .. " end }", rows = false }
  local got = p:send({}, { key = "k" })
  return assert(got.messages[1], got.dead and got.dead.error or got.dropped).value
end

local LUA = set_of { "assert", "error", "getmetatable", "ipairs", "next", "pairs", "pcall", "rawequal", "rawget",
  "rawlen", "rawset", "require", "select", "setmetatable", "tostring", "tonumber", "type", "xpcall", "_VERSION",
  "string", "table", "math", "utf8", "os" }

local NAMES = "local names = array {} for name in pairs(%s) do names[#names + 1] = name end return { names = names }"

describe("millrace.d.lua", function()
  it("has the globals that the sandbox adds to Lua's own", function()
    local added = {}
    for _, name in ipairs(ask(NAMES:format "_ENV").names) do
      if not LUA[name] then added[name] = true end
    end
    assert.same(added, members())
  end)

  it("has the functions of each of Millrace's libraries", function()
    for _, library in ipairs { "json", "time" } do
      assert.same(set_of(ask(NAMES:format(library)).names), members(library), library)
    end
  end)

  it("has the fields of ctx", function()
    local names = read "core/lua/context.c":match "field_names%[%] = {(.-)}"
    local real = {}
    for name in names:gmatch '"([%w_]+)"' do real[name] = true end
    assert.same(real, fields "Context")
    for name in pairs(fields "Context") do ask("return { is = type(ctx." .. name .. ") }") end
    for name in pairs(fields "Log") do ask("ctx.log." .. name .. " 'x' return { a = 1 }") end
  end)

  it("has the functions of a script", function()
    local done, message = pcall(testing.script, { text = "return { nothing_like_it = 1 }" })
    assert.is_false(done)
    local real, names = {}, assert(message:match "a script, which has ([%w_, ]+);", message)
    for name in names:gmatch "[%a_]+" do real[name] = name ~= "and" or nil end
    assert.same(real, fields "Script")
  end)

  it("has the types of fields", function()
    for name in types:match "@alias FieldType\n(.-)\n\n":gmatch '"(%a+%??)"' do
      local text = "return { fields = { a = %q }, map = function(msg) return msg end }"
      testing.script({ text = text:format(name) }):close()
    end
  end)

  it("is Lua that an editor can read", function()
    assert(load(types))
    assert.same("table", type(testing.json.decode(read ".luarc.json")))
  end)
end)

describe("testing.d.lua", function()
  local text, guide = read "scripts/types/testing.d.lua", read "docs/TESTING.md"

  local function names(pattern)
    local set = {}
    for name in ("\n" .. text):gmatch(pattern) do set[name] = true end
    return set
  end

  it("has what the module has", function()
    assert(load(text))
    local real, declared = {}, names "\nfunction testing[.]([%a_]+)%("
    for name in pairs(names "\ntesting[.]([%a_]+) =") do declared[name] = true end
    for name in pairs(testing) do real[name] = true end
    assert.same(real, declared)
    for name in pairs(real) do assert(guide:find("testing." .. name, 1, true), name) end
  end)

  it("has the methods of a pipeline, and docs/TESTING.md does too", function()
    local real = {}
    for name, value in pairs(getmetatable(testing.script { text = "return { map = function() end }" })) do
      if type(value) == "function" then real[name] = true end
    end
    assert.same(real, names "\nfunction Pipeline:([%a_]+)%(")
    for name in pairs(real) do assert(guide:find("p:" .. name, 1, true), name) end
  end)
end)

describe("docs/LUA.md", function()
  it("names everything that millrace.d.lua has", function()
    local missing = {}
    local function look(set, pattern)
      for name in pairs(set) do
        if not docs:find(pattern:format(name)) then missing[#missing + 1] = name end
      end
    end
    look(fields "Script", "`%s")
    look(fields "Context", "`%s")
    look(members "json", "json%%.%s")
    look(members "time", "time%%.%s")
    look(members(), "%s")
    table.sort(missing)
    assert.same({}, missing)
  end)
end)
