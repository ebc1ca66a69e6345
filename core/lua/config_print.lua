-- config_print.lua - writes a checked configuration back: as Lua that config.lua could contain, or as JSON.
--
-- Defaults are filled in and marked; durations and sizes are written as the user would; secrets are ***.
-- Pure functions over the nodes (config_nodes.lua). Tests: tests/spec/config_spec.lua.

local printer = {}

local KEYWORD = {}
for word in ("and break do else elseif end false for function goto if in local nil not or repeat return then "
    .. "true until while"):gmatch("%a+") do
  KEYWORD[word] = true
end

local function quote_lua(text)
  return '"' .. text:gsub('[%c"\\]', function(c)
    if c == "\n" then return "\\n" end
    return (c == '"' or c == "\\") and "\\" .. c or ("\\%03d"):format(c:byte())
  end) .. '"'
end

local function quote_json(text)
  return '"' .. text:gsub('[%c"\\]', function(c)
    if c == "\n" then return "\\n" end
    return (c == '"' or c == "\\") and "\\" .. c or ("\\u%04x"):format(c:byte())
  end) .. '"'
end

--- Shortest text that reads back as the same float, and stays a float.
local function float_text(number)
  for precision = 14, 17 do
    local text = ("%%.%dg"):format(precision):format(number)
    if tonumber(text) == number then return text:find("[.e]") and text or text .. ".0" end
  end
end

local function scalar(node, quote)
  if node.show then return quote(node.show) end
  if node.secret then return quote("***") end
  if node.kind == "string" then return quote(node.value) end
  if node.kind == "float" then return float_text(node.value) end
  -- Written in digits it would be read as a float: a minus and an integer that is one too large.
  if node.value == math.mininteger and quote == quote_lua then return "math.mininteger" end
  return tostring(node.value)
end

local function key_lua(name)
  if name:find("^[%a_][%w_]*$") and not KEYWORD[name] then return name end
  return "[" .. quote_lua(name) .. "]"
end

local function is_flat_list(node)
  for _, child in ipairs(node.children) do
    if child.children then return false end
  end
  return node.kind == "list"
end

local function flat_list(node, quote, open, close)
  local items = {}
  for i, child in ipairs(node.children) do items[i] = scalar(child, quote) end
  return open .. table.concat(items, ", ") .. close
end

local function remark(node)
  if node.from then return ("  -- secret %s"):format(quote_lua(node.from)) end
  return node.default and "  -- default" or ""
end

local function write_lua(node, indent, out)
  local children = node.children
  if #children == 0 then
    out[#out + 1] = "{}"
  elseif is_flat_list(node) then
    out[#out + 1] = flat_list(node, quote_lua, "{ ", " }")
  else
    local deeper = indent .. "  "
    out[#out + 1] = "{\n"
    for _, child in ipairs(children) do
      out[#out + 1] = deeper .. (child.name and key_lua(child.name) .. " = " or "")
      if child.kind == "table" or child.kind == "list" then
        write_lua(child, deeper, out)
        out[#out + 1] = "," .. (#child.children == 0 and remark(child) or "") .. "\n"
      else
        out[#out + 1] = scalar(child, quote_lua) .. "," .. remark(child) .. "\n"
      end
    end
    out[#out + 1] = indent .. "}"
  end
end

local function write_json(node, indent, out)
  local children = node.children
  local open, close = "{", "}"
  if node.kind == "list" then open, close = "[", "]" end
  if #children == 0 then
    out[#out + 1] = open .. close
  elseif is_flat_list(node) then
    out[#out + 1] = flat_list(node, quote_json, "[", "]")
  else
    local deeper = indent .. "  "
    out[#out + 1] = open .. "\n"
    for i, child in ipairs(children) do
      out[#out + 1] = deeper .. (child.name and quote_json(child.name) .. ": " or "")
      if child.kind == "table" or child.kind == "list" then
        write_json(child, deeper, out)
      else
        out[#out + 1] = scalar(child, quote_json)
      end
      out[#out + 1] = (i < #children and "," or "") .. "\n"
    end
    out[#out + 1] = indent .. close
  end
end

function printer.lua(root)
  local out = { "return " }
  write_lua(root, "", out)
  return table.concat(out) .. "\n"
end

function printer.json(root)
  local out = {}
  write_json(root, "", out)
  return table.concat(out) .. "\n"
end

return printer
