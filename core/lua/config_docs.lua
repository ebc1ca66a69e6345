-- config_docs.lua - writes docs/CONFIG.md from the option table.
--
-- Pure. `millrace config --docs` prints it; a test of the label lint compares it with the file in the tree.

local docs = {}

local HEAD = [[
# Configuration

This page is made by `millrace config --docs > docs/CONFIG.md` from the option table in `core/lua/options.lua`.

`config.lua` is a Lua file that returns a table. It is read in a sandbox: no files, no network, a bounded run.
`millrace check` tells everything that is wrong with it at once; `millrace config` prints what is in force.

| in the file | meaning |
|---|---|
| `env("NAME")`, `env("NAME", default)` | An environment variable. Empty is unset; without a default an error. |
| `secret "env:NAME"` | A secret from the environment. It prints as `***` and cannot be joined with other text. |
| `secret "file:PATH"` | A secret from a file that neither group nor others may read, without the newline at its end. |
| `secret "cred:NAME"` | A systemd credential: the file NAME in `$CREDENTIALS_DIRECTORY`. |

| type | written |
|---|---|
| duration | `"500ms"`, `"60s"`, `"5m"`, `"1h"`, `"2d"` |
| size | `"512B"`, `"64KB"`, `"64MB"`, `"2GB"`; 1KB is 1024 bytes |
| share | `3`, or `"20%"` |
| list | `{ "a", "b" }`; where a single string will do, this is said |
| pairs | `{ "client_id", ["payload.id"] = "id" }`: a field and its column; a name alone stands for both |
| properties | `{ ["bootstrap.servers"] = "localhost:9092" }` |

Numbers and booleans may be written as text, since `env` gives text: `workers = env("WORKERS", 4)`.

Paths of files are relative to config.lua.

On the command line `--set pipelines.promo.workers=4` changes one value before anything is checked. Names with dots
stand in brackets, `--set 'pipelines.promo.source.kafka["fetch.min.bytes"]=1'`, lists as in Lua,
`--set 'lookups.subscribers.columns={"client_id"}'`. Secrets are refused there: others could read them.

A `*` in a heading stands for a name of your choice. Options marked (r) are taken over by a reload (SIGHUP, or
`millrace run --watch`; docs/LUA.md says what happens to scripts). A reload in which another one differs is refused
whole, with the names of those that want a restart.
]]

local function range_of(option)
  if option.min and option.max then return (", %s to %s"):format(option.min, option.max) end
  if option.min then return (", at least %s"):format(option.min) end
  if option.max then return (", at most %s"):format(option.max) end
  return ""
end

local function type_of(option)
  if option.type == "enum" then
    local values = {}
    for i, value in ipairs(option.values) do values[i] = ('`"%s"`'):format(value) end
    return table.concat(values, " or ")
  end
  if option.type == "refresh" then return "text" end
  if option.type == "any" then return "table" end
  local name = option.type
  if option.type == "list" then name = option.one and "list of strings, or one string" or "list of strings" end
  if option.secret_ok then name = name .. " or secret" end
  return name .. range_of(option)
end

local function default_of(option)
  if option.required then return "required" end
  if option.default_text then
    local text = "default: " .. option.default_text
    return option.required_when and ("%s; required when %s"):format(text, option.required_when) or text
  end
  if type(option.default) == "string" then return ('default `"%s"`'):format(option.default) end
  return ("default `%s`"):format(tostring(option.default))
end

local function entry(option, name)
  return ("- **`%s`**%s: %s; %s. %s\n"):format(name, option.reloadable and " (r)" or "", type_of(option),
    default_of(option), option.doc)
end

local function split(path)
  local parent, name = path:match("^(.*)%.([^.]+)$")
  return parent or "", name or path
end

local function children_of(options, path)
  local found = {}
  for _, option in ipairs(options) do
    if not option.later and option.type ~= "table" and split(option.path) == path then found[#found + 1] = option end
  end
  return found
end

function docs.write(options)
  local out = { HEAD, "\n## Top level\n\n" }
  for _, option in ipairs(children_of(options, "")) do out[#out + 1] = entry(option, option.path) end
  for _, option in ipairs(options) do
    if option.type == "table" and not option.later then
      out[#out + 1] = ("\n## `%s`%s\n\n%s\n"):format(option.path, option.required and " (required)" or "", option.doc)
      local inside = children_of(options, option.path)
      if #inside > 0 then out[#out + 1] = "\n" end
      for _, below in ipairs(inside) do
        local _, name = split(below.path)
        out[#out + 1] = entry(below, name)
      end
    end
  end
  out[#out + 1] = "\n## Not there yet\n\nThese names are known and refused, each with a sentence.\n\n"
  for _, option in ipairs(options) do
    if option.later then out[#out + 1] = ("- `%s`: %s.\n"):format(option.path, option.later) end
  end
  return table.concat(out)
end

return docs
