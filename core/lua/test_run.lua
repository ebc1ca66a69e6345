-- test_run.lua - runs busted inside `millrace test` and returns the exit code, or a code and a sentence.
--
-- Part of the binary, run by core/lua/test.c in the Lua state of the specs. busted ends by os.exit, which
-- would end the process with everything open: here it ends the run. Tests: tests/spec/test_command_spec.lua.

local OK, FAILED, USAGE, MISSING = 0, 1, 64, 69

local found, why = pcall(require, "busted.runner")
if not found then
  local module = tostring(why):match "module '([^']+)' not found" or "busted"
  return MISSING, ("busted, which runs the specs, cannot be loaded: Lua 5.4 finds no module '%s'. "
    .. "Install it: apt-get install lua-busted (it brings the rest)"):format(module)
end

local attributes = require("lfs").attributes
local function is_directory(path) return attributes(path, "mode") == "directory" end

-- Where specs are looked for unless the command line or a .busted file says so.
local function default_root()
  for _, path in ipairs { "tests/spec", "spec" } do
    if is_directory(path) then return path end
  end
end

local refused, nothing

-- busted's reader of the command line, which also takes .busted into account.
local read_cli = require "busted.modules.cli"
package.loaded["busted.modules.cli"] = function(options)
  local cli = read_cli(options)
  local parse = cli.parse
  function cli:parse(args)
    local parsed, message = parse(self, args)
    if not parsed then
      refused = true
      return parsed, message
    end
    local root = parsed.ROOT
    if type(root) == "table" and #root == 1 and root[1] == "spec" then
      local directory = default_root()
      if not directory then
        nothing = true
        os.exit(USAGE)
      end
      parsed.ROOT = { directory }
    end
    return parsed
  end
  return cli
end

-- What XML 1.0 has no way to say, by its number: a build server refuses the whole report for one such byte.
local function representable(text)
  text = text:gsub("[%z\1-\8\11\12\14-\31]", function(c) return ("\\x%02X"):format(c:byte()) end)
    :gsub("\xEF\xBF[\xBE\xBF]", function(c) return ("\\u{%X}"):format(utf8.codepoint(c)) end)
  local parts, from = {}, 1
  while true do
    local fine, at = utf8.len(text, from)
    if fine then break end
    parts[#parts + 1] = text:sub(from, at - 1) .. ("\\x%02X"):format(text:byte(at))
    from = at + 1
  end
  return table.concat(parts) .. text:sub(from)
end

-- busted's report for build servers, which takes names and messages as they are.
package.preload["busted.outputHandlers.junit"] = function(name)
  local xml = require "pl.xml"
  local cleaning = { tostring = function(...) return representable(xml.tostring(...)) end }
  package.loaded["pl.xml"] = setmetatable(cleaning, { __index = xml })
  local handler = assert(loadfile(assert(package.searchpath(name, package.path))))(name)
  package.loaded["pl.xml"] = xml
  return handler
end

local exited = {}
os.exit = function(code) error(setmetatable({ code = code }, exited), 0) end -- luacheck: ignore 122

local run = assert(load("require 'busted.runner' { standalone = false }", "@millrace test"))
local ended, result = xpcall(run, function(message)
  if getmetatable(message) == exited then return message end
  return debug.traceback(tostring(message), 2)
end)
io.stdout:flush()
io.stderr:flush()

if nothing then
  return USAGE, "there are no specs here: neither tests/spec nor spec is a directory. "
    .. "Go where config.lua is, or name the files: millrace test promo_spec.lua"
end
if ended then return OK end
if getmetatable(result) ~= exited then return 70, "busted broke: " .. tostring(result) end
if result.code == true or result.code == 0 or result.code == nil then return OK end
return refused and USAGE or FAILED
