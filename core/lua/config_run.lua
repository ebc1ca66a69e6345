-- config_run.lua - runs config.lua: what it may use, env and secret, and what is said if it fails.
--
-- The chunk sees the sandbox of the scripts (sandbox.h), env and secret. A missing variable does not stop it:
-- it yields a stand-in that is reported and then ignored, so that all errors come out at once.
-- Runs once, in the trusted state of config.c. Must not know options. Tests: tests/spec/config_spec.lua.

local need, sys = ...
local source = need "config_source"

local run = {}

-- Secrets and stand-ins are empty tables known by identity: nothing in the chunk can reach what they stand for.
local secret_text = setmetatable({}, { __mode = "k" })
local secret_from = setmetatable({}, { __mode = "k" })
local missing = setmetatable({}, { __mode = "k" })

local function refuse_secret()
  error("a secret cannot be joined, compared or looked into; give the whole value as one secret", 2)
end
local secret_meta = {
  __metatable = "secret", __name = "secret",
  __tostring = function() return "***" end,
  __concat = refuse_secret, __index = refuse_secret, __newindex = refuse_secret, __len = refuse_secret,
  __lt = refuse_secret, __le = refuse_secret, __call = refuse_secret, __pairs = refuse_secret,
}

local function same(self, other)
  return missing[self] and self or other
end
local missing_meta = {
  __metatable = "missing", __tostring = function() return "" end,
  __concat = same, __add = same, __sub = same, __mul = same, __div = same, __mod = same, __idiv = same,
  __unm = same, __index = function(self) return self end, __call = same,
}

--- The text behind a secret and what it was made from; nil if the value is none.
function run.secret(value)
  return secret_text[value], secret_from[value]
end

function run.is_missing(value)
  return type(value) == "table" and missing[value] == true
end

local function stand_in()
  local value = setmetatable({}, missing_meta)
  missing[value] = true
  return value
end

local function read_secret(reference, directory)
  local kind, name = tostring(reference):match("^(%a+):(.+)$")
  if kind == "env" then
    local text = sys.getenv(name)
    if not text or text == "" then return nil, ("the environment has no %s"):format(name) end
    return text
  elseif kind == "file" then
    if name:sub(1, 1) ~= "/" and directory ~= "." then name = directory .. "/" .. name end
    return sys.read_secret(name, true)
  elseif kind == "cred" then
    local credentials = sys.getenv("CREDENTIALS_DIRECTORY")
    if not credentials then
      return nil, "there is no CREDENTIALS_DIRECTORY; systemd sets it for units with LoadCredential="
    end
    if name:find("/", 1, true) then return nil, "a credential's name has no '/'" end
    return sys.read_secret(credentials .. "/" .. name, false)
  end
  return nil, 'expected "env:NAME", "file:PATH" or "cred:NAME"'
end

--- env and secret for the chunk; `place_of` gives the place of the call that runs.
local function functions(report, directory, place_of)
  local function env(name, default)
    if type(name) ~= "string" or name == "" then
      report:add(place_of(), "env", "expected the name of an environment variable as a string")
      return stand_in()
    end
    local text = sys.getenv(name)
    if text and text ~= "" then return text end
    if default == nil then
      report:add(place_of(), ("env %q"):format(name),
        "not set in the environment, and there is no default; set it, or write env(%q, default)", name)
      return stand_in()
    end
    return default
  end
  local function secret(reference)
    local text, why = read_secret(reference, directory)
    if text == "" then text, why = nil, "it is empty" end
    if not text then
      report:add(place_of(), ("secret %q"):format(tostring(reference)), "%s", why)
      return stand_in()
    end
    report:hide(text)
    local value = setmetatable({}, secret_meta)
    secret_text[value], secret_from[value] = text, reference
    return value
  end
  return env, secret
end

--- A message of Lua, "file:line: text", to an error with a place.
local function add_lua_error(report, text, message)
  if type(message) ~= "string" then message = ("the error is a %s, not a text"):format(type(message)) end
  local line, rest = message:match("^config:(%d+): (.*)$")
  line = tonumber(line)
  if not line then
    report:add(nil, "Lua", "%s", message)
    return
  end
  local near = rest:match("near '(.-)'$") or rest:match("'([%a_][%w_]*)'")
  local byte = near and near:match("^<\\(%d+)>$") -- one that no token can begin with
  if byte then near = string.char(tonumber(byte)) end
  local place
  if rest:find("near <eof>", 1, true) then
    place = source.end_place(text)
  else
    place = (near and source.find_in_line(text, line, near)) or source.find_in_line(text, line)
  end
  report:add(place or { line = line, column = 1, length = 1 }, "Lua", "%s", rest)
end

--- Runs the text. Returns what it returned (nil after an error, which is in the report), a function that gives
--- { place, fields } for a table made by a constructor in the text, and the assignments by name.
function run.chunk(text, directory, report)
  local made, why = load(text, "=config", "t", {})
  if not made then
    add_lua_error(report, text, why)
    return nil
  end
  local marked, constructors, calls, assigned = source.mark(text, { env = true, secret = true })
  local constructor_of = setmetatable({}, { __mode = "k" })
  local call_place
  local function mark(number, value)
    constructor_of[value] = constructors[number]
    return value
  end
  local env, secret = functions(report, directory, function() return call_place end)
  local function call(number, f)
    if f ~= env and f ~= secret then return f end
    return function(...)
      call_place = calls[number]
      return f(...)
    end
  end
  local globals = sys.globals
  rawset(globals, "env", env)
  rawset(globals, "secret", secret)
  -- Marking makes expressions deeper: a text at the edge of what Lua can nest runs without places.
  made = load(marked, "=config", "t", globals) or load(text, "=config", "t", globals)
  local ok, result = pcall(made, mark, call)
  if not ok then
    add_lua_error(report, text, result)
    return nil
  end
  return result, function(value) return constructor_of[value] end, assigned
end

return run
