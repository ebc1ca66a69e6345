-- lint.lua - uses of placeholders that Lua cannot catch while a script runs, found in its text.
--
-- `if col.vip` is always true and `col.x == "y"` always false, and no metamethod is asked. So: inside `project`, a
-- placeholder may only be a plain value: in a table, as an argument, in a return. `col` itself is not handed on, since
-- nothing can be said of its uses elsewhere. In `shape` and `row` the same holds for the fields of the record that
-- `project` made from a placeholder. Works on tokens, knows no types, and keeps quiet where it is not sure.
-- Names of columns are held against `columns` when they are known. Run by lint.c, in the trusted state of config.c.
-- Tests: tests/spec/lint_spec.lua.

local need, sys = ...
local source = need "config_source"

local lint = {}

local OPENS = { ["function"] = true, ["if"] = true, ["do"] = true, ["repeat"] = true }
local COMPARES = { ["=="] = true, ["~="] = true, ["<"] = true, [">"] = true, ["<="] = true, [">="] = true }
local COMPUTES = { [".."] = true, ["+"] = true, ["-"] = true, ["*"] = true, ["/"] = true, ["//"] = true, ["%"] = true,
  ["^"] = true, ["&"] = true, ["|"] = true, ["~"] = true, ["<<"] = true, [">>"] = true, ["#"] = true }
local ASKS = { ["if"] = true, ["elseif"] = true, ["while"] = true, ["until"] = true, ["and"] = true, ["or"] = true,
  ["not"] = true }
local ASKED = { ["then"] = true, ["and"] = true, ["or"] = true } -- what an `if` behind it asks is another matter

local CURE = "to decide by the values of a row write `each(msg, row, ctx)` in place of project"

local SENTENCES = {
  condition = { "%s is a placeholder, which is always true: this asks nothing of the row", CURE },
  compare = { "%s is a placeholder, which is equal to nothing and cannot be ordered: this asks nothing of the row",
    CURE },
  compute = { "%s is a placeholder, filled in for each row after the script has run: it cannot be computed with",
    "for text write fmt \"... {%s} ...\"; " .. CURE },
  key = { "%s is a placeholder: as the key of a table it is the same for all rows", CURE },
  index = { "%s is a placeholder: it has no fields and cannot be called", CURE },
  kept = { "%s is put into a variable: what becomes of a placeholder there cannot be checked",
    "write it where it is needed: in the table, the argument or the return" },
  alias = { "%s itself is handed on or kept: its uses there cannot be checked",
    "hand on what is needed: a table of placeholders, { a = %s.a }" },
}

local function text_of(token) return token and token.text end

local function is_op(token, text) return token ~= nil and token.kind ~= "string" and token.text == text end

--- The token behind the `end` of the function whose keyword is at i.
local function function_end(tokens, i)
  local depth = 0
  for k = i, #tokens do
    local token = tokens[k]
    if token.kind == "keyword" then
      if OPENS[token.text] then depth = depth + 1 end
      if token.text == "end" or token.text == "until" then
        depth = depth - 1
        if depth == 0 then return k end
      end
    end
  end
  return #tokens
end

--- The name that the function at token i gets: `function s.name(`, `name = function(`, `["name"] = function(`.
local function function_name(tokens, i)
  local k = i + 1
  while tokens[k] and not is_op(tokens[k], "(") do k = k + 1 end
  if k > i + 1 then return text_of(tokens[k - 1]), k end
  if not is_op(tokens[i - 1], "=") then return nil, k end
  local before = tokens[i - 2]
  if is_op(before, "]") then before = tokens[i - 3] end
  return before and before.text:match("[%a_][%w_]*"), k
end

--- All functions of the script's contract: { name, params, from, to }.
local function functions_of(tokens)
  local found = {}
  for i, token in ipairs(tokens) do
    if token.kind == "keyword" and token.text == "function" then
      local name, k = function_name(tokens, i)
      local params = {}
      k = k + 1
      while tokens[k] and not is_op(tokens[k], ")") do
        if tokens[k].kind == "name" then params[#params + 1] = tokens[k].text end
        k = k + 1
      end
      if name then
        found[#found + 1] = { name = name, params = params, from = k + 1, to = function_end(tokens, i) - 1 }
      end
    end
  end
  return found
end

--- Is the "(" at token i that of a call?
local function is_call(tokens, i)
  local before = tokens[i - 1]
  return before ~= nil
    and (before.kind == "name" or before.kind == "string" or is_op(before, ")") or is_op(before, "]"))
end

--- What is wrong with the value that stands from token `from` to `to`; nil if nothing is.
local function misuse(tokens, from, to)
  while is_op(tokens[from - 1], "(") and is_op(tokens[to + 1], ")") and not is_call(tokens, from - 1) do
    from, to = from - 1, to + 1
  end
  local before, after = tokens[from - 1], tokens[to + 1]
  local b, a = before and before.kind ~= "string" and before.text, after and after.kind ~= "string" and after.text
  if COMPARES[b] or COMPARES[a] then return "compare" end
  if ASKS[b] or ASKED[a] then return "condition" end
  if COMPUTES[b] or COMPUTES[a] then return "compute" end
  if b == "[" and a == "]" then return "key" end
  local same_line = after and tokens[to].line == after.line
  if a == "." or a == ":" or a == "[" or a == "(" and same_line or a == "{" and same_line
      or after and after.kind == "string" and same_line then
    return "index"
  end
  if b == "=" then
    local target = tokens[from - 2]
    if is_op(target, ">") then return "kept" end -- local x <const> = col.x
    if target and target.kind == "name" then
      local owner = tokens[from - 3]
      if is_op(owner, ".") or is_op(owner, "{") or is_op(owner, ",") or is_op(owner, ";") then return nil end
      return "kept"
    end
  end
  return nil
end

local function add(found, file, tokens, from, to, kind, name, column)
  local sentence, cure = table.unpack(SENTENCES[kind])
  local first, last = tokens[from], tokens[to]
  found[#found + 1] = { file = file, line = first.line, column = first.column,
    length = last.line == first.line and last.last - first.first + 1 or #first.text, code = "placeholder-" .. kind,
    message = sentence:format(name), hint = cure:format(column or name) }
end

local function unknown_column(found, file, token, lookup, columns)
  for _, name in ipairs(columns) do
    if name == token.text then return end
  end
  local near = sys.nearest(token.text, columns)
  found[#found + 1] = { file = file, line = token.line, column = token.column, length = #token.text,
    code = "unknown-column", message = ("the lookup '%s' has no column '%s'"):format(lookup, token.text),
    hint = near and ("did you mean '%s'?"):format(near) or "there are: " .. table.concat(columns, ", ") }
end

--- Is the name at token i that variable, and not a field, a method, a label or the name of a field in a table?
local function is_variable(tokens, i, name)
  local token, before, after = tokens[i], tokens[i - 1], tokens[i + 1]
  if token.kind ~= "name" or token.text ~= name or is_op(before, ".") or is_op(before, ":") then return false end
  return not (is_op(after, "=") and (is_op(before, "{") or is_op(before, ",") or is_op(before, ";")))
end

--- Is the parameter hidden somewhere in the function: by a local, a loop, or a parameter of a function in it?
local function is_hidden(tokens, fn, name)
  local in_params = false
  for i = fn.from, fn.to do
    local before = tokens[i - 1]
    if before and before.kind == "keyword" and before.text == "function" then in_params = true end
    if tokens[i].kind == "name" and tokens[i].text == name then
      local word = before and before.kind == "keyword" and before.text
      if word == "local" or word == "for" or tokens[i + 1].text == "in" then return true end
      if in_params and (is_op(before, "(") or is_op(before, ",")) then return true end
    end
    if is_op(tokens[i], ")") then in_params = false end
  end
  return false
end

--- `col` in project; fields of the record that are placeholders are noted in `fields`.
local function lint_project(found, file, tokens, fn, lookup, fields)
  local col, others = fn.params[2], {}
  if col and is_hidden(tokens, fn, col) then return end
  for i = col and fn.from or fn.to + 1, fn.to do
    if tokens[i].kind == "name" and is_op(tokens[i + 1], "=") and not is_variable(tokens, i + 2, col) then
      others[tokens[i].text] = true
    end
    if is_variable(tokens, i, col) then
      local name = is_op(tokens[i + 1], ".") and tokens[i + 2]
      local to = i + 2
      if is_op(tokens[i + 1], "[") then
        name, to = tokens[i + 2], i + 3
      end
      if not name then
        add(found, file, tokens, i, i, "alias", col)
      else
        local shown = col .. (is_op(tokens[i + 1], ".") and "." .. name.text or "[" .. name.text .. "]")
        local kind = misuse(tokens, i, to)
        if kind then add(found, file, tokens, i, to, kind, shown, name.text) end
        if lookup.columns and is_op(tokens[i + 1], ".") then
          unknown_column(found, file, name, lookup.name, lookup.columns)
        end
        if is_op(tokens[i - 1], "=") and tokens[i - 2].kind == "name" then fields[tokens[i - 2].text] = shown end
      end
    end
  end
  for name in pairs(others) do fields[name] = nil end -- not always a placeholder: who knows which one that is
end

--- The record of shape and row: fields that hold placeholders, unless the function gives them another value.
local function lint_record(found, file, tokens, fn, fields)
  local rec, given = fn.params[1], {}
  for pass = 1, 2 do
    for i = rec and fn.from or fn.to + 1, fn.to do
      local field = is_variable(tokens, i, rec) and is_op(tokens[i + 1], ".") and tokens[i + 2]
      if field and fields[field.text] then
        if is_op(tokens[i + 3], "=") then
          given[field.text] = true
        elseif pass == 2 and not given[field.text] then
          local kind = misuse(tokens, i, i + 2)
          if kind and kind ~= "kept" then
            local shown = ("%s.%s (%s)"):format(rec, field.text, fields[field.text])
            add(found, file, tokens, i, i + 2, kind, shown, fields[field.text]:match("[%w_]+%]?$"))
          end
        end
      end
    end
  end
end

local function lint_each(found, file, tokens, fn, lookup)
  local row = fn.params[2]
  if row and is_hidden(tokens, fn, row) then return end
  for i = row and lookup.columns and fn.from or fn.to + 1, fn.to do
    if is_variable(tokens, i, row) and is_op(tokens[i + 1], ".") and not is_op(tokens[i + 3], "=") then
      unknown_column(found, file, tokens[i + 2], lookup.name, lookup.columns)
    end
  end
end

--- text of a script or module -> list of { file, line, column, length, code, message, hint }, in the order of the text.
function lint.run(file, text, lookup)
  local tokens, found, fields = source.tokens(text), {}, {}
  local functions = functions_of(tokens)
  for _, fn in ipairs(functions) do
    if fn.name == "project" then lint_project(found, file, tokens, fn, lookup, fields) end
    if fn.name == "each" then lint_each(found, file, tokens, fn, lookup) end
  end
  for _, fn in ipairs(functions) do
    if fn.name == "shape" or fn.name == "row" then lint_record(found, file, tokens, fn, fields) end
  end
  table.sort(found, function(a, b)
    if a.line ~= b.line then return a.line < b.line end
    if a.column ~= b.column then return a.column < b.column end
    return a.code < b.code
  end)
  return found
end

return lint
