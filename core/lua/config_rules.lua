-- config_rules.lua - what must hold between several options of a configuration.
--
-- Works on the nodes (config_nodes.lua), which may be incomplete after errors: a rule whose parts are not there
-- says nothing. May add nodes (dead_letters). Runs once, in the trusted state of config.c.
-- Tests: tests/spec/config_spec.lua.

local need, sys = ...
local nodes = need "config_nodes"
local types = need "config_types"

local rules = {}

local function at(node, ...)
  for _, name in ipairs({ ... }) do
    node = node and node.by[name]
  end
  return node
end

local function value(node, ...)
  local found = at(node, ...)
  return found and found.value
end

local function names_of(node)
  local names = {}
  for i, child in ipairs(node and node.children or {}) do names[i] = child.name end
  return names
end

local function brokers(properties)
  return value(properties, "bootstrap.servers") or value(properties, "metadata.broker.list")
end

--- A pipeline that reads what it writes never comes to an end.
local function no_circle(errors, pipeline, path, topic, properties, where)
  if not topic or brokers(properties) ~= value(pipeline, "source", "kafka", "bootstrap.servers") then return end
  for _, read in ipairs(at(pipeline, "source", "topics") and at(pipeline, "source", "topics").children or {}) do
    if read.value == topic.value then
      errors:add(topic.at.value, path .. where, "this pipeline reads the topic %s as well: it would feed itself",
        types.quote(topic.value))
    end
  end
end

local function lookup_exists(errors, pipeline, path, lookups)
  local name = at(pipeline, "lookup")
  if not name or at(lookups, name.value) then return end
  if lookups and lookups.written[name.value] then return end -- it is there, and wrong: said already
  local known = names_of(lookups)
  local near = sys.nearest(name.value, known)
  local cure = near and ("did you mean %q?"):format(near)
    or #known > 0 and "there are: " .. table.concat(known, ", ") or "lookups is empty"
  errors:add(name.at.value, path .. ".lookup", "there is no lookup %s; %s", types.quote(name.value), cure)
end

local function dead_letters(errors, pipeline, path)
  local node, sinks = at(pipeline, "dead_letters"), at(pipeline, "sinks")
  if not node or not sinks or not next(sinks.written) then return end
  local with_postgres = sinks.written.postgres
  local written_table, topic = node.by.table, node.by.topic
  local output = at(pipeline, "sinks", "kafka", "topic")
  if topic and output and topic.value == output.value then
    errors:add(topic.at.value, path .. ".dead_letters.topic",
      "%s is the topic of the outputs already: readers of one would have to tell the other apart; name another",
      types.quote(topic.value))
  end
  if written_table and topic then
    errors:add(topic.at.key, path .. ".dead_letters", "expected `table` or `topic`, got both")
  elseif written_table and not with_postgres then
    errors:add(written_table.at.key, path .. ".dead_letters.table",
      "the table lies in the database of the Postgres sink, and there is none; name a `topic`")
  elseif not written_table and not topic then
    if node.written.table or node.written.topic then return end
    if with_postgres then
      local default = nodes.new("table", "string", "millrace_dead", node.at)
      default.default = true
      nodes.add(node, default)
    else
      errors:add(node.at.key, path .. ".dead_letters.topic",
        "required: without a Postgres sink, messages that cannot be processed need a topic to go to")
    end
  end
end

local function has_sink(errors, pipeline, path)
  local sinks = at(pipeline, "sinks")
  if sinks and not next(sinks.written) then
    errors:add(sinks.at.key, path .. ".sinks",
      "expected `kafka`, `postgres` or both: this pipeline would write nothing")
  end
end

--- Two sinks to compare, and each column in one role.
local function audit(errors, pipeline, path)
  local node, sinks = at(pipeline, "audit"), at(pipeline, "sinks")
  if not node then return end
  path = path .. ".audit"
  if sinks and not (sinks.written.kafka and sinks.written.postgres) then
    errors:add(node.at.key, path, "there is nothing to compare: it needs a Kafka sink and a Postgres sink")
  end
  local keys = {}
  for _, pair in ipairs(at(node, "key") and at(node, "key").children or {}) do keys[pair.value] = true end
  for _, pair in ipairs(at(node, "compare") and at(node, "compare").children or {}) do
    if keys[pair.value] then
      errors:add(pair.at.value, path .. ".compare", "the column %s belongs to the key already", types.quote(pair.value))
    end
  end
  local field = at(node, "time_field")
  if field and not node.written.time then
    errors:add(field.at.key, path .. ".time_field", "it belongs to `time`, which names the column")
  elseif field and field.value == "@key" then
    errors:add(field.at.value, path .. ".time_field", "a message's key is no time")
  end
end

--- The later one, in the order of the file, is told.
local function one_group_each(errors, pipelines)
  local groups = {}
  for _, pipeline in ipairs(pipelines and pipelines.children or {}) do
    local group = at(pipeline, "source", "group")
    if group then groups[#groups + 1] = { group = group, pipeline = pipeline.name } end
  end
  table.sort(groups, function(a, b)
    local pa, pb = a.group.at.value, b.group.at.value
    if (pa.set or 0) ~= (pb.set or 0) then return (pa.set or 0) < (pb.set or 0) end
    if pa.line ~= pb.line then return pa.line < pb.line end
    return pa.column < pb.column
  end)
  local owner = {}
  for _, entry in ipairs(groups) do
    local first = owner[entry.group.value]
    if first then
      errors:add(entry.group.at.value, ("pipelines.%s.source.group"):format(entry.pipeline),
        "the group %s belongs to the pipeline %q already; two pipelines may not share one",
        types.quote(entry.group.value), first)
    else
      owner[entry.group.value] = entry.pipeline
    end
  end
end

-- Together they name a worker, in Kafka and Postgres: a name that were cut would be another worker's.
local NAME_BYTES = 220

local function short_names(errors, root, pipeline, path)
  local group, instance = at(pipeline, "source", "group"), at(root, "instance")
  if not group or type(group.value) ~= "string" then return end
  local bytes = #pipeline.name + #group.value + (instance and #tostring(instance.value) or 64)
  if bytes > NAME_BYTES then
    errors:add(group.at.value, path .. ".source.group",
      "names of pipeline, group and instance have %d bytes together, at most %d are allowed", bytes, NAME_BYTES)
  end
end

local QUERY_FEED = "a query is read whole at an interval: "

--- A table or a query, and a feed that can follow it.
local function lookup(errors, node, path)
  local relation, query, refresh = at(node, "table"), at(node, "query"), at(node, "refresh")
  local kind, changelog, strict = refresh and refresh.value, at(node, "changelog"), at(node, "consistency")
  if node.written.table and node.written.query then
    errors:add(node.at.key, path, "expected `table` or `query`, got both")
  elseif not node.written.table and not node.written.query then
    errors:add(node.at.key, path .. ".table", "required: the table or view, or a `query` in its place")
  elseif query and not relation and kind and kind < 0 then
    errors:add(refresh.at.value, path .. ".refresh", QUERY_FEED .. "expected \"auto\" or \"reload 60s\"")
  elseif query and changelog then
    errors:add(changelog.at.value, path .. ".changelog", QUERY_FEED .. "leave `changelog` out")
  elseif kind == -2 and not node.written.changelog then
    errors:add(refresh.at.value, path .. ".refresh",
      "the feed needs a table for the triggers to write: name it in `changelog`")
  end
  if strict and strict.value == "strict" and (kind and kind > 0 or query) then
    errors:add(strict.at.value, path .. ".consistency",
      "a table that is read at an interval cannot tell what was committed since: use refresh = \"auto\"")
  end
end

function rules.apply(root, errors)
  for _, node in ipairs(root.by.lookups and root.by.lookups.children or {}) do
    lookup(errors, node, "lookups." .. node.name)
  end
  one_group_each(errors, root.by.pipelines)
  for _, pipeline in ipairs(root.by.pipelines and root.by.pipelines.children or {}) do
    local path = "pipelines." .. pipeline.name
    local source, sink = at(pipeline, "source", "kafka"), at(pipeline, "sinks", "kafka", "kafka")
    no_circle(errors, pipeline, path, at(pipeline, "sinks", "kafka", "topic"), sink, ".sinks.kafka.topic")
    for _, allowed in ipairs(at(pipeline, "sinks", "kafka", "allowed_topics") and
      at(pipeline, "sinks", "kafka", "allowed_topics").children or {}) do
      no_circle(errors, pipeline, path, allowed, sink, ".sinks.kafka.allowed_topics")
    end
    no_circle(errors, pipeline, path, at(pipeline, "dead_letters", "topic"), sink or source, ".dead_letters.topic")
    has_sink(errors, pipeline, path)
    short_names(errors, root, pipeline, path)
    lookup_exists(errors, pipeline, path, root.by.lookups)
    dead_letters(errors, pipeline, path)
    audit(errors, pipeline, path)
  end
end

return rules
