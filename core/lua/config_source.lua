-- config_source.lua - where in config.lua each value stands.
--
-- Positions have to survive tables that are used twice, values made by functions, quoted keys, long strings
-- and comments. So the text is not matched against the result: each table constructor and each call of env
-- and secret is rewritten to tell, when it runs, which one it is (`{...}` becomes `mark(7, {...})`, without
-- moving a line). Whatever path a table is reached by later, its constructor says where its keys are.
-- Runs once, in the trusted state of config.c. Must not know options. Tests: tests/spec/config_spec.lua.

local source = {}

local KEYWORD = {}
for word in ("and break do else elseif end false for function goto if in local nil not or repeat return then "
    .. "true until while"):gmatch("%a+") do
  KEYWORD[word] = true
end

-- Longest first: "==" must not be read as two "=".
local OPERATORS = { "...", "==", "~=", "<=", ">=", "//", "::", "<<", ">>", ".." }

local function operator_at(text, at)
  for _, op in ipairs(OPERATORS) do
    if text:sub(at, at + #op - 1) == op then return op end
  end
  return text:sub(at, at)
end

local function long_bracket_end(text, at)
  local _, open_end, level = text:find("^%[(=*)%[", at)
  if not open_end then return nil end
  local _, close_end = text:find("]" .. level .. "]", open_end + 1, true)
  return close_end or #text
end

local function quoted_end(text, at)
  local quote, i = text:sub(at, at), at + 1
  while i <= #text do
    local c = text:sub(i, i)
    if c == quote then return i end
    if c == "\n" then return i - 1 end
    if c == "\\" then
      -- An escaped end of line, and \z, which takes all white space with it.
      local _, last = text:find("^z%s*", i + 1)
      i = (last or select(2, text:find("^\r?\n", i + 1)) or i + 1) + 1
    else
      i = i + 1
    end
  end
  return #text
end

local function number_end(text, at)
  local stop, exponent = select(2, text:find("^0[xX][%x%.]*", at)), "^[pP][+-]?%d+"
  if not stop then stop, exponent = select(2, text:find("^[%d%.]+", at)), "^[eE][+-]?%d+" end
  local _, with_exponent = text:find(exponent, stop + 1)
  return with_exponent or stop
end

local function comment_end(text, at)
  return long_bracket_end(text, at + 2) or (text:find("\n", at, true) or #text + 1) - 1
end

local function unquote(raw)
  local made = load("return " .. raw, "=literal", "t", {})
  return made and made()
end

--- The token that begins at `at`: its kind and its last byte.
local function token_at(text, at)
  local c = text:sub(at, at)
  local stop = c == "[" and long_bracket_end(text, at)
  if stop then return "string", stop end
  if c == '"' or c == "'" then return "string", quoted_end(text, at) end
  stop = select(2, text:find("^[%a_][%w_]*", at))
  if stop then return KEYWORD[text:sub(at, stop)] and "keyword" or "name", stop end
  if text:find("^%.?%d", at) then return "number", number_end(text, at) end
  return "operator", at + #operator_at(text, at) - 1
end

--- The list of tokens, comments left out: { kind, text, first, last, line, column }.
function source.tokens(text)
  local tokens, at, line, line_start = {}, 1, 1, 1
  local function pass_to(next_at)
    for newline in text:sub(at, next_at - 1):gmatch("()\n") do
      line, line_start = line + 1, at + newline
    end
    at = next_at
  end
  while true do
    pass_to(text:find("%S", at) or #text + 1)
    if at > #text then break end
    if text:sub(at, at + 1) == "--" then
      pass_to(comment_end(text, at) + 1)
    else
      local kind, last = token_at(text, at)
      tokens[#tokens + 1] = { kind = kind, text = text:sub(at, last), first = at, last = last,
                              line = line, column = at - line_start + 1 }
      pass_to(last + 1)
    end
  end
  return tokens
end

local NESTS = { ["("] = 1, ["{"] = 1, ["["] = 1, ["function"] = 1, ["if"] = 1, ["do"] = 1, ["repeat"] = 1,
                [")"] = -1, ["}"] = -1, ["]"] = -1, ["end"] = -1, ["until"] = -1 }

local function nesting(token)
  return (token.kind == "operator" or token.kind == "keyword") and NESTS[token.text] or 0
end

local function is_op(token, text)
  return token ~= nil and token.kind == "operator" and token.text == text
end

--- A place in the text: from token `first` to token `last`, cut at the end of the first line.
local function place(first, last)
  if not last or last.line ~= first.line or first.text == "{" then last = first end
  local length = last.last - first.first + 1
  local newline = first.text:find("\n", 1, true)
  if newline then length = newline - 1 end
  return { line = first.line, column = first.column, length = math.max(length, 1) }
end

--- Reads `[key] =` or `key =` at token i. Returns the key (nil if only running the text would tell), its place,
--- and where the value begins.
local function field_key(tokens, i)
  local token = tokens[i]
  if token.kind == "name" and is_op(tokens[i + 1], "=") then return token.text, place(token), i + 2 end
  if not is_op(token, "[") then return nil, nil, i end
  local depth, stop = 0, i
  repeat
    depth = depth + nesting(tokens[stop])
    stop = stop + 1
  until depth == 0 or not tokens[stop]
  local inner, key = tokens[i + 1], nil
  if stop == i + 3 and inner.kind == "string" then key = unquote(inner.text) end
  if stop == i + 3 and inner.kind == "number" then key = tonumber(inner.text) end
  return key, place(inner, tokens[stop - 2]), stop + 1
end

--- Reads the constructor whose "{" is token i. Returns its record and the token of its "}".
local function read_constructor(tokens, i)
  local record = { place = place(tokens[i]), fields = {}, twice = {} }
  local count = 0
  i = i + 1
  while tokens[i] and not is_op(tokens[i], "}") do
    local key, key_place, value = field_key(tokens, i)
    local named = value > i
    if not named then
      count = count + 1
      key = count
    end
    local depth
    i, depth = value, 0
    while tokens[i] do
      local token = tokens[i]
      if depth == 0 and (is_op(token, ",") or is_op(token, ";") or is_op(token, "}")) then break end
      depth = depth + nesting(token)
      i = i + 1
    end
    if tokens[value] and key ~= nil then
      local value_place = place(tokens[value], tokens[i - 1])
      if record.fields[key] then table.insert(record.twice, { key = key, place = key_place or value_place }) end
      record.fields[key] = { key = key_place or value_place, value = value_place }
    end
    if is_op(tokens[i], ",") or is_op(tokens[i], ";") then i = i + 1 end
  end
  return record, i
end

--- `t.name = ` and `t["name"] = `, outside constructors: where a key was written later. Ambiguous names: false.
local function read_assignment(tokens, i, assigned)
  local name, last
  if is_op(tokens[i], ".") and tokens[i + 1] and tokens[i + 1].kind == "name" then
    name, last = tokens[i + 1].text, i + 1
  elseif is_op(tokens[i], "[") and tokens[i + 1] and tokens[i + 1].kind == "string" and is_op(tokens[i + 2], "]")
      and i > 1 and (tokens[i - 1].kind == "name" or is_op(tokens[i - 1], "]")) then
    name, last = unquote(tokens[i + 1].text), i + 2
  end
  if not name or not is_op(tokens[last + 1], "=") or not tokens[last + 2] then return end
  local key, value = place(tokens[i + 1]), place(tokens[last + 2])
  assigned[name] = assigned[name] == nil and { key = key, value = value } or false
end

--- Is token i a "{" that is the argument of a call, as in `f{...}`?
local function is_argument(tokens, i)
  local before = tokens[i - 1]
  if not before then return false end
  return before.kind == "name" or before.kind == "string" or is_op(before, ")") or is_op(before, "]")
    or is_op(before, "}")
end

--- Is token i a name of `callable` that is called here? Returns the token where the call ends.
local function call_end(tokens, i, callable)
  local token, before, after = tokens[i], tokens[i - 1], tokens[i + 1]
  if token.kind ~= "name" or not callable[token.text] or not after then return nil end
  if before and (is_op(before, ".") or is_op(before, ":") or before.text == "function") then return nil end
  if after.kind == "string" then return after end
  if not is_op(after, "(") then return nil end
  local depth = 0
  for j = i + 1, #tokens do
    depth = depth + nesting(tokens[j])
    if depth == 0 then return tokens[j] end
  end
end

--- A name that the text does not use itself.
local function unused_name(text, name)
  while text:find(name, 1, true) do name = name .. "_" end
  return name
end

--- Rewrites `text`. Returns the new text, a list of constructors { place, fields, twice }, a list of call places, and
--- the assignments by name. `callable`: set of the names whose calls want a place.
function source.mark(text, callable)
  local tokens = source.tokens(text)
  local constructors, calls, assigned = {}, {}, {}
  local mark, call = unused_name(text, "_mark"), unused_name(text, "_call")
  local before, after = {}, {} -- what to put around a token, by its number
  for i, token in ipairs(tokens) do
    if is_op(token, "{") then
      local record, close = read_constructor(tokens, i)
      constructors[#constructors + 1] = record
      local argument = is_argument(tokens, i)
      before[i] = ("%s %s(%d,"):format(argument and "(" or "", mark, #constructors)
      if tokens[close] then after[close] = argument and "))" or ")" end
    else
      local stop = call_end(tokens, i, callable)
      if stop then
        calls[#calls + 1] = place(token, stop)
        before[i], after[i] = ("%s(%d,"):format(call, #calls), ")"
      end
      read_assignment(tokens, i, assigned)
    end
  end
  local out, at = { ("local %s, %s = ...; "):format(mark, call) }, 1
  for i, token in ipairs(tokens) do
    out[#out + 1] = text:sub(at, token.first - 1)
    out[#out + 1] = (before[i] or "") .. token.text .. (after[i] or "")
    at = token.last + 1
  end
  out[#out + 1] = text:sub(at)
  return table.concat(out), constructors, calls, assigned
end

--- The place of a name in a line, for messages of Lua that know only the line.
function source.find_in_line(text, line, word)
  for _, token in ipairs(source.tokens(text)) do
    if token.line == line and (word == nil or token.text == word) then return place(token) end
  end
end

--- Behind the last token.
function source.end_place(text)
  local tokens = source.tokens(text)
  local last = tokens[#tokens]
  if not last then return { line = 1, column = 1, length = 1 } end
  return { line = last.line, column = last.column + #last.text, length = 1 }
end

return source
