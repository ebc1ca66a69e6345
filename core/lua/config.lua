-- config.lua - loads a configuration: the steps in order, and what config.c calls.
--
-- read -> run -> --set -> check -> rules. All that is wrong is collected on the way and written at once.
-- Runs once, in the trusted state of config.c. Tests: tests/spec/config_spec.lua.

local need, sys = ...
local check = need "config_check"
local options = need "options"
local print_config = need "config_print"
local report = need "config_report"
local rules = need "config_rules"
local run = need "config_run"
local set = need "config_set"
local docs = need "config_docs"

local config = {}

local function directory_of(path)
  return path:match("^(.*)/[^/]*$") or "."
end

local function instance_name()
  local name = sys.getenv("MILLRACE_INSTANCE")
  return name ~= nil and name ~= "" and name or sys.hostname()
end

--- Returns the root node and "", or nil and the errors as text.
function config.load(path, text, sets)
  local errors = report.new(path, text)
  errors.sets = sets
  local directory = directory_of(path)
  local value, constructor_of, assigned = run.chunk(text, directory, errors)
  if #errors.errors > 0 and value == nil then return nil, errors:text_of_all() end
  if type(value) ~= "table" then
    errors:add(nil, "config", "expected `return { ... }`: the file must return a table, not %s",
      value == nil and "nothing" or "a " .. type(value))
    return nil, errors:text_of_all()
  end
  local spec = check.compile(options)
  local places = { of = constructor_of, assigned = assigned, set = setmetatable({}, { __mode = "k" }),
                   origin = setmetatable({}, { __mode = "k" }) }
  value = set.apply(value, sets, spec, places, errors)
  local root = check.walk(value, spec, places, errors, directory, instance_name())
  if root then rules.apply(root, errors) end
  if #errors.errors > 0 then return nil, errors:text_of_all() end
  return root, ""
end

--- The configuration in force as text: format "lua" or "json".
function config.show(root, format)
  return print_config[format](root)
end

--- docs/CONFIG.md.
function config.docs()
  return docs.write(options)
end

return config
