-- config_nodes.lua - the nodes of a checked configuration, and how things in it are called.
--
-- A node: { name, kind, value, show, secret, from, default, reloadable, children, by, at }. kind and value are those of
-- base/tree.h, `show` is how the user would write it, `from` what a secret was made from, `at` where it stands.
-- Pure functions, in the trusted state of config.c. Tests: tests/spec/config_spec.lua.

local need = ...
local report = need "config_report"
local run = need "config_run"

local nodes = {}

--- The path of an option below `path`; names that are no identifiers stand in brackets.
function nodes.path_of(path, key)
  if type(key) == "string" and key:find("^[%a_][%w_%-]*$") then return path == "" and key or path .. "." .. key end
  return path .. (type(key) == "string" and ("[%q]"):format(key) or ("[%s]"):format(tostring(key)))
end

function nodes.sorted_names(value)
  local names = {}
  for key in next, value do
    if type(key) == "string" then names[#names + 1] = key end
  end
  table.sort(names)
  return names
end

--- The first sentence, to go on after a colon.
function nodes.first_sentence(doc)
  local sentence = (doc:match("^(.-[.:]) ") or doc):gsub("[.:]$", "")
  if sentence:find("^%u%l") then sentence = sentence:sub(1, 1):lower() .. sentence:sub(2) end
  if sentence:find("^%u ") then sentence = sentence:sub(1, 1):lower() .. sentence:sub(2) end
  return sentence
end

--- Is it a table that the user wrote (not a secret)?
function nodes.is_table(value)
  return type(value) == "table" and not run.secret(value)
end

function nodes.new(name, kind, value, at)
  return { name = name, kind = kind, value = value, at = at,
           children = kind ~= "string" and {} or nil, by = {} }
end

function nodes.add(parent, node)
  if not node then return end
  parent.children[#parent.children + 1] = node
  if node.name then parent.by[node.name] = node end
end

function nodes.text(name, text, at)
  local node = nodes.new(name, "string", text, at)
  local masked, has_password = report.mask_dsn(text)
  if has_password then node.secret, node.show = true, masked end
  return node
end

function nodes.secret(name, value, at)
  local text, from = run.secret(value)
  local node = nodes.new(name, "string", text, at)
  node.secret, node.from, node.show = true, from, "***"
  return node
end

function nodes.mark_default(node)
  node.default = true
  for _, child in ipairs(node.children or {}) do nodes.mark_default(child) end
end

return nodes
