-- config_check.lua - walks what config.lua returned along the option table: checks, defaults, the tree.
--
-- Gives nodes (config_nodes.lua). What concerns several options at once is in config_rules.lua. Runs once, in
-- the trusted state of config.c. Tests: tests/spec/config_spec.lua.

local need, sys = ...
local nodes = need "config_nodes"
local report = need "config_report"
local run = need "config_run"
local types = need "config_types"

local check = {}

--- The option table as a tree of specs: { path, type, option, kids = { name = spec }, order = { names }, any }.
function check.compile(options)
  local root = { type = "table", option = { path = "", type = "table" }, kids = {}, order = {} }
  for _, option in ipairs(options) do
    local spec = root
    for name in option.path:gmatch("[^.]+") do
      local below
      if name == "*" then below = spec.any else below = spec.kids[name] end
      if not below then
        below = { kids = {}, order = {} }
        if name == "*" then
          spec.any = below
        else
          spec.kids[name] = below
          spec.order[#spec.order + 1] = name
        end
      end
      spec = below
    end
    spec.option, spec.type = option, option.type
  end
  return root
end

local walker = {}
walker.__index = walker

function walker:error(place, path, ...)
  self.errors:add(place, path, ...)
end

--- Where the key and the value of `container[key]` stand; failing that, the nearest thing around them.
function walker:place(container, key, around)
  local places = self.places
  local set = places.set[container]
  if set and set[key] then return set[key] end
  local record = places.of(places.origin[container] or container)
  if record and record.fields[key] then return record.fields[key] end
  local assigned = type(key) == "string" and places.assigned[key]
  if assigned then return assigned end
  if record then return { key = record.place, value = record.place } end
  return around
end

--- Lua takes the last of doubled names without a word.
function walker:refuse_twice(value, path)
  local record = self.places.of(self.places.origin[value] or value)
  for _, doubled in ipairs(record and record.twice or {}) do
    self:error(doubled.place, nodes.path_of(path, doubled.key), "this name stands in the table twice")
  end
end

--- What another room says about a text: dsn, relation, listen.
function walker:ask_room(ask, node, at, path)
  local why = ask(node.value)
  if not why then return end
  -- What could not be read may hold a password anywhere; the room leaves it out, and here it is seen to.
  if node.secret then
    self.errors:hide(node.value)
    why = why:find(node.value, 1, true) and "the text cannot be read (not shown: it holds a secret)"
      or why:gsub('".*"', '"***"')
  end
  local prefix = path .. " = "
  if why:sub(1, #prefix) == prefix then why = why:sub(#prefix + 1) end
  self:error(at.value, path, "%s", why)
end

-- Readers by type: (walker, name, value, option, at, path) -> node, or nil after an error.
local read = {}

local function scalar(kind, show)
  return function(self, name, value, option, at, path)
    local made, why, shown = types[option.type](value, option, sys.nearest)
    if made == nil then
      self:error(at.value, path, "%s", why)
      return nil
    end
    local node = kind == "string" and nodes.text(name, made, at) or nodes.new(name, kind, made, at)
    node.show = show and show(made) or shown or node.show
    return node
  end
end

read.integer = scalar("int")
read.boolean = scalar("bool")
read.enum = scalar("string")
read.duration = scalar("int", types.show_duration)
read.size = scalar("int", types.show_size)
read.refresh = scalar("int")
read.share = scalar("string")
local read_text = scalar("string")

function read.string(self, name, value, option, at, path)
  local node
  if option.secret_ok and run.secret(value) then
    node = nodes.secret(name, value, at)
  else
    node = read_text(self, name, value, option, at, path)
  end
  local format = node and option.format
  if format == "script" then
    local full, why = sys.find_file(self.directory, node.value)
    if full then node.value = full else self:error(at.value, path, "%s", why) end
  elseif sys[format] then
    self:ask_room(sys[format], node, at, path)
  elseif format then
    local fine = types.format[format](node.value)
    if fine ~= true then self:error(at.value, path, "%s", fine) end
  end
  return node
end

function read.list(self, name, value, option, at, path)
  if option.one and type(value) == "string" then value = { value } end
  if not nodes.is_table(value) then
    self:error(at.value, path, "expected %s, got %s", types.expected("list"), types.got(value))
    return nil
  end
  local node, seen, count = nodes.new(name, "list", nil, at), {}, 0
  for _ in next, value do count = count + 1 end
  if count ~= #value then
    self:error(at.value, path, "expected a list of strings, got a table with names")
    return nil
  end
  for i, item in ipairs(value) do
    local item_at, item_path = self:place(value, i, at), nodes.path_of(path, i)
    if run.is_missing(item) then goto continue end
    if type(item) ~= "string" or item == "" then
      self:error(item_at.value, item_path, "expected a string, got %s", types.got(item))
    elseif seen[item] then
      self:error(item_at.value, item_path, "%s stands in the list twice", types.quote(item))
    else
      local fine = not option.format or types.format[option.format](item)
      if fine ~= true then self:error(item_at.value, item_path, "%s", fine) end
      seen[item] = true
      nodes.add(node, nodes.text(nil, item, item_at))
    end
    ::continue::
  end
  if count < (option.min_items or 0) then self:error(at.value, path, "the list is empty; expected at least one") end
  return node
end

--- { "both", ["field"] = "column" }: a table of columns by field.
function read.pairs(self, name, value, option, at, path)
  if not nodes.is_table(value) then
    self:error(at.value, path, "expected %s, got %s", types.expected("pairs"), types.got(value))
    return nil
  end
  local node, columns = nodes.new(name, "table", nil, at), {}
  self:refuse_twice(value, path)
  local function pair(key, field, column)
    local item_at, item_path = self:place(value, key, at), nodes.path_of(path, key)
    if run.is_missing(column) then return end
    if type(column) ~= "string" then
      self:error(item_at.value, item_path, "expected the name of a column, got %s", types.got(column))
      return
    end
    local fine = types.format.field(field)
    if fine == true then fine = field ~= "@timestamp" or "a message's timestamp is no field; see time_field" end
    if fine == true then fine = types.format.column(column) end
    if fine ~= true then
      self:error(item_at.value, item_path, "%s", fine)
    elseif columns[column] or node.by[field] then
      self:error(item_at.value, item_path, "%s stands in the table twice",
        types.quote(columns[column] and column or field))
    else
      columns[column] = true
      nodes.add(node, nodes.new(field, "string", column, item_at))
    end
  end
  for i, field in ipairs(value) do pair(i, type(field) == "string" and field or "", field) end
  for _, field in ipairs(nodes.sorted_names(value)) do pair(field, field, value[field]) end
  if next(value) == nil and (option.min_items or 0) > 0 then
    self:error(at.value, path, "it is empty; expected at least one")
  end
  return node
end

--- A table of the user's own, as it is.
function read.any(self, name, value, option, at, path)
  local kind = type(value)
  if kind == "string" then
    local node = nodes.text(name, value, at)
    node.secret = nil -- scripts see it
    return node
  end
  if kind == "boolean" then return nodes.new(name, "bool", value, at) end
  if kind == "number" then
    if value ~= value or value == math.huge or value == -math.huge then
      self:error(at.value, path, "expected a finite number, got %s", tostring(value))
      return nil
    end
    return nodes.new(name, math.type(value) == "integer" and "int" or "float", value, at)
  end
  if not nodes.is_table(value) then
    self:error(at.value, path, "expected text, a number, a boolean or a table of these, got %s", types.got(value))
    return nil
  end
  local is_list = #value > 0
  local node = nodes.new(name, is_list and "list" or "table", nil, at)
  self.inside = self.inside or {} -- the tables around this one: one that holds itself twice has 2^depth paths
  if self.inside[value] then
    self:error(at.value, path, "the table contains itself")
    return nil
  end
  self.depth = (self.depth or 0) + 1
  if self.depth > 32 then
    self:error(at.value, path, "tables are nested too deeply")
    self.depth = self.depth - 1
    return nil
  end
  self.inside[value] = true
  local names = nodes.sorted_names(value)
  if is_list then names = {} for i = 1, #value do names[i] = i end end
  local count = 0
  for _ in next, value do count = count + 1 end
  if count ~= #names then
    self:error(at.value, path, "expected a list, or a table in which all keys are strings")
  end
  for _, key in ipairs(names) do
    if not run.is_missing(value[key]) then
      nodes.add(node, read.any(self, not is_list and key or nil, value[key], option, self:place(value, key, at),
        nodes.path_of(path, key)))
    end
  end
  self.inside[value] = nil
  self.depth = self.depth - 1
  return node
end

function read.vars(self, name, value, option, at, path)
  if not nodes.is_table(value) or #value > 0 then
    local got = nodes.is_table(value) and "a list" or types.got(value)
    self:error(at.value, path, "expected a table with names, got %s", got)
    return nil
  end
  return read.any(self, name, value, option, at, path)
end

local function property_text(value)
  if type(value) == "string" then return value end
  if type(value) == "boolean" then return tostring(value) end
  if type(value) == "number" then return ("%.14g"):format(value) end
end

--- One librdkafka property: name and value are checked by librdkafka itself, where it is there.
function walker:property(key, value, option, at, path)
  local known = sys.kafka_names[1] == nil
  for _, name in ipairs(sys.kafka_names) do known = known or name == key end
  if not known then
    local near = sys.nearest(key, sys.kafka_names)
    if near then self.misspelt[near] = true end
    self:error(at.key, path, "librdkafka knows no such property%s", near and ("; did you mean %q?"):format(near) or "")
    return nil
  end
  local node
  if run.secret(value) then
    node = nodes.secret(key, value, at)
  else
    local text = property_text(value)
    if not text then
      self:error(at.value, path, "expected text, a number or a boolean, got %s", types.got(value))
      return nil
    end
    node = nodes.new(key, "string", text, at)
    if report.is_secret_name(key) then
      node.secret, node.show = true, "***"
      self.errors:hide(text)
    end
  end
  local why = sys.kafka_property(key, node.value, node.secret, option.side == "sink")
  if why then
    self:error(at.value, path, "%s", why)
    return nil
  end
  return node
end

--- Do the properties make sense together? The caret goes to the first one that the sentence names.
function walker:properties_together(node, at, path, for_sink)
  local names, values, secrets = {}, {}, {}
  for i, child in ipairs(node.children) do
    names[i], values[i], secrets[i] = child.name, child.value, child.secret or false
  end
  local why = sys.kafka_properties(names, values, secrets, for_sink)
  if not why then return end
  for name in why:gmatch('"([^"]+)"') do
    local child = node.by[name]
    if child then
      self:error(child.at.key, nodes.path_of(path, name), "%s", why)
      return
    end
  end
  self:error(at.key, path, "%s", why)
end

function read.properties(self, name, value, option, at, path)
  if not nodes.is_table(value) then
    self:error(at.value, path, "expected %s, got %s", types.expected("properties"), types.got(value))
    return nil
  end
  local node = nodes.new(name, "table", nil, at)
  self.misspelt = {}
  self:refuse_twice(value, path)
  for key in next, value do
    if type(key) ~= "string" then
      self:error(self:place(value, key, at).key, nodes.path_of(path, key),
        'a value without a name; expected ["property"] = value')
    end
  end
  local all_fine = true
  for _, key in ipairs(nodes.sorted_names(value)) do
    local item = not run.is_missing(value[key])
      and self:property(key, value[key], option, self:place(value, key, at), nodes.path_of(path, key))
    nodes.add(node, item or nil)
    all_fine = all_fine and item
  end
  for _, needed in ipairs(option.needs or {}) do
    local other_name = needed == "bootstrap.servers" and value["metadata.broker.list"]
    if value[needed] == nil and not other_name and not self.misspelt[needed] then
      self:error(at.key, nodes.path_of(path, needed), "required: the brokers, such as \"localhost:9092\"")
      all_fine = false
    end
  end
  if all_fine then self:properties_together(node, at, path, option.side == "sink") end
  return node
end

--- What stands for an option that the user left out.
function walker:absent(name, spec, at, path, misspelt)
  local option = spec.option
  if option.later then return nil end
  if option.required then
    if misspelt then return nil end
    self:error(at.key, path, "required: %s", nodes.first_sentence(option.doc))
    return nil
  end
  local value = option.default
  if path == "instance" then value = self.instance end
  if spec.type == "table" and not option.optional then value = {} end
  if value == nil then return nil end
  local node = self:read(name, value, spec, { key = at.key, value = at.value }, path)
  if node then nodes.mark_default(node) end
  return node
end

--- Says so; returns the name that was probably meant.
function walker:unknown(key, spec, at, path)
  if type(key) ~= "string" then
    self:error(at.key, path, "a value without a name; expected name = value")
    return nil
  end
  local known = {}
  for _, name in ipairs(spec.order) do
    if not spec.kids[name].option.later then known[#known + 1] = name end
  end
  local near = sys.nearest(key, known)
  if near then
    self:error(at.key, path, "there is no such option; did you mean %q?", near)
  else
    self:error(at.key, path, "there is no such option; known here: %s", table.concat(known, ", "))
  end
  return near
end

--- One entry under a name of the user's choice.
function walker:named(node, key, value, spec, at, path)
  local option = spec.option
  if not key:find(option.name_pattern) or #key > 64 then
    self:error(at.key, path, "expected %s, at most 64 long", option.name_text)
  elseif not run.is_missing(value) then
    nodes.add(node, self:read(key, value, spec, at, path))
  end
end

function read.table(self, name, value, option, at, path, spec)
  if not nodes.is_table(value) then
    self:error(at.value, path == "" and "config" or path, "expected a table, got %s", types.got(value))
    return nil
  end
  local node = nodes.new(name, "table", nil, at)
  node.written = {} -- names that the user gave, also those that turn out wrong
  node.misspelt = {}
  self:refuse_twice(value, path)
  for key in next, value do
    node.written[key] = true
    if type(key) ~= "string" or not (spec.kids[key] or spec.any) then
      local meant = self:unknown(key, spec, self:place(value, key, at), nodes.path_of(path, key))
      if meant then node.misspelt[meant] = true end
    end
  end
  for _, key in ipairs(spec.order) do
    local item, below, item_path = rawget(value, key), spec.kids[key], nodes.path_of(path, key)
    local made
    if item == nil then
      made = self:absent(key, below, at, item_path, node.misspelt[key])
    elseif below.option.later then
      self:error(self:place(value, key, at).key, item_path, "%s", below.option.later)
    elseif not run.is_missing(item) then
      made = self:read(key, item, below, self:place(value, key, at), item_path)
    end
    nodes.add(node, made)
  end
  if spec.any then
    local names = nodes.sorted_names(value)
    for _, key in ipairs(names) do
      self:named(node, key, rawget(value, key), spec.any, self:place(value, key, at), nodes.path_of(path, key))
    end
    if #names < (option.min_items or 0) then self:error(at.value, path, "it is empty; expected at least one") end
  end
  return node
end

function walker:read(name, value, spec, at, path)
  local reader = spec.type == "any" and read.vars or read[spec.type]
  local node = reader(self, name, value, spec.option, at, path, spec)
  if node then node.reloadable = spec.option.reloadable end
  return node
end

--- Checks `config` along `spec`. places: { origin, set, of, assigned }. Returns the root node; what is wrong is
--- in `errors`.
function check.walk(config, spec, places, errors, directory, instance)
  local self = setmetatable({ places = places, errors = errors, directory = directory, instance = instance }, walker)
  local record = type(config) == "table" and places.of(places.origin[config] or config)
  local start = record and record.place or { line = 1, column = 1, length = 1 }
  return self:read(nil, config, spec, { key = start, value = start }, "")
end

return check
