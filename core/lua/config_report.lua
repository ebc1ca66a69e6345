-- config_report.lua - collects what is wrong with a configuration and writes it all at once.
--
-- Each error is `file:line:col: error: path: sentence`, the line, and a caret under the key or value. Two
-- errors that say the same of the same place (a table used twice) come out once. Passwords in a line that is
-- shown are replaced by ***. A place is { line, column, length, set = number of the --set or nil }.
-- Runs once, in the trusted state of config.c. Must not know options. Tests: tests/spec/config_spec.lua.

local need = ...
local source = need "config_source"

local report = {}
report.__index = report

function report.new(file, text)
  return setmetatable({ file = file, text = text, sets = {}, errors = {}, secrets = {} }, report)
end

--- Any name with "pass" in it, however misspelt; a passfile is no secret.
local function mask_pair(name, equals)
  return name:lower():find("pass", 1, true) and name ~= "passfile" and name .. equals .. "***" or nil
end

--- Passwords in a text that may hold connection strings among other things become ***.
local function mask_inside(text)
  return (text
    :gsub("(%a[%w+.-]*://[^:@/?%s\"']*:)([^%s\"']*)@", "%1***@")
    :gsub("(%w+)(%s*=%s*)'[^']*'?", mask_pair)
    :gsub("(%w+)(%s*=%s*)[^%s&\"']+", mask_pair))
end

--- A password inside a connection string becomes ***. Returns the text and whether there was one.
function report.mask_dsn(text)
  local masked = mask_inside((text:gsub("^(%s*%a[%w+.-]*://[^:@/?]*:)(.*)(@)", "%1***%3")))
  return masked, masked ~= text
end

--- Is this librdkafka property one whose value nobody should read?
function report.is_secret_name(name)
  name = name:lower()
  return name:find("password", 1, true) ~= nil or name:find("secret", 1, true) ~= nil or name == "ssl.key.pem"
    or name == "sasl.oauthbearer.config"
end

--- From now on this text is not shown.
function report:hide(text)
  if #text >= 4 then self.secrets[text] = true end
end

function report:mask(text)
  for secret in pairs(self.secrets) do
    local from, to = text:find(secret, 1, true)
    while from do
      text = text:sub(1, from - 1) .. "***" .. text:sub(to + 1)
      from, to = text:find(secret, from + 3, true)
    end
  end
  return mask_inside(text)
end

--- place: where the caret goes; nil if all that is known is the file.
function report:add(place, path, format, ...)
  place = place or { line = 1, column = 1, length = 1 }
  local sentence = select("#", ...) > 0 and format:format(...) or format
  for _, other in ipairs(self.errors) do
    if other.sentence == sentence and other.place.line == place.line and other.place.column == place.column
        and other.place.set == place.set then
      return
    end
  end
  table.insert(self.errors, { place = place, path = path, sentence = sentence, order = #self.errors })
end

--- Is token i the string that names a variable or a secret, as in `env("NAME"`?
local function is_reference(tokens, i)
  local before = tokens[i - 1]
  if before and before.text == "(" then before = tokens[i - 2] end
  return before ~= nil and (before.text == "env" or before.text == "secret")
end

--- The name to which the "=" at token i gives a value.
local function assigned_name(tokens, i)
  local key = tokens[i - 1]
  if key and key.text == "]" then key = tokens[i - 2] end
  return key and key.text or ""
end

--- The string tokens of a line that must not be shown: those in the value of a secret name, and connection strings.
local function replacements(self, tokens, line)
  local found, depth = {}, nil -- depth: of brackets inside the value of a secret name; nil outside of one
  for i, token in ipairs(tokens) do
    local text = token.text
    if text == "=" then
      if not depth and report.is_secret_name(assigned_name(tokens, i)) then depth = 0 end
    elseif depth and (text == "(" or text == "{" or text == "[") then
      depth = depth + 1
    elseif depth and (text == ")" or text == "}" or text == "]") then
      depth = depth > 0 and depth - 1 or nil
    elseif depth == 0 and (text == "," or text == ";") then
      depth = nil
    end
    if token.line == line and token.kind == "string" then
      local shown
      if depth and not is_reference(tokens, i) then
        shown = token.text:sub(1, 1) .. "***" .. token.text:sub(1, 1)
      else
        local quote = token.text:match("^['\"]")
        shown = self:mask(token.text)
        if quote then shown = quote .. report.mask_dsn(self:mask(token.text:sub(2, -2))) .. quote end
        if shown == token.text then shown = nil end
      end
      if shown then found[#found + 1] = { token = token, shown = shown } end
    end
  end
  return found
end

--- The line as it may be shown, the place of the caret in it, and what was replaced.
local function shown_line(self, place)
  if place.set then
    local text = self.sets[place.set]
    local masked = self:mask(text)
    local path, value = text:match("^(.-%]?)=(.*)$")
    if path and value ~= "" and report.is_secret_name(path) then masked = path .. "=***" end
    return masked, math.min(place.column, #masked + 1), {}
  end
  self.lines = self.lines or {}
  if #self.lines == 0 then
    for line in (self.text .. "\n"):gmatch("(.-)\r?\n") do self.lines[#self.lines + 1] = line end
    self.tokens = source.tokens(self.text)
  end
  local line, column = self.lines[place.line] or "", place.column
  local replaced = replacements(self, self.tokens, place.line)
  for i = #replaced, 1, -1 do
    local token, shown = replaced[i].token, replaced[i].shown
    line = line:sub(1, token.column - 1) .. shown .. line:sub(token.column + #token.text)
    if token.column < place.column then column = column + #shown - #token.text end
    if token.column == place.column then replaced.length = #shown end
  end
  return self:mask(line), column, replaced
end

--- Characters, not bytes: what stands below the line has to stand right.
local function width(text)
  return select(2, text:gsub("[^\128-\191]", ""))
end

--- Nothing in a file may steer the terminal.
local function printable(text)
  return (text:gsub("[%c\127]", function(c) return c == "\t" and c or "?" end))
end

local function write_error(self, err, out)
  local place = err.place
  local line, column, replaced = shown_line(self, place)
  local sentence = err.sentence
  for _, entry in ipairs(replaced) do
    local from, to = sentence:find(entry.token.text, 1, true)
    if from then sentence = sentence:sub(1, from - 1) .. entry.shown .. sentence:sub(to + 1) end
  end
  local file, number, source_line = self.file, place.line, self.lines and self.lines[place.line] or ""
  if place.set then file, number, source_line = "--set", place.set, self.sets[place.set] end
  out[#out + 1] = ("%s:%d:%d: error: %s: %s\n"):format(file, number, width(source_line:sub(1, place.column - 1)) + 1,
    printable(err.path), printable(self:mask(sentence)))
  -- A tab stays a tab below it, so that the caret stands right whatever a tab is.
  line = printable(line)
  local indent = line:sub(1, column - 1):gsub("[\128-\191]", ""):gsub("[^\t]", " ")
  local length = math.max(1, width(line:sub(column, column + (replaced.length or place.length) - 1)))
  out[#out + 1] = ("%5d | %s\n      | %s^%s\n"):format(number, line, indent, ("~"):rep(length - 1))
end

--- All of it, in the order of the file, then that of the --set arguments. "" if nothing is wrong.
function report:text_of_all()
  table.sort(self.errors, function(a, b)
    local pa, pb = a.place, b.place
    if (pa.set or 0) ~= (pb.set or 0) then return (pa.set or 0) < (pb.set or 0) end
    if pa.line ~= pb.line then return pa.line < pb.line end
    if pa.column ~= pb.column then return pa.column < pb.column end
    return a.order < b.order
  end)
  local out = {}
  for _, err in ipairs(self.errors) do write_error(self, err, out) end
  return table.concat(out)
end

return report
