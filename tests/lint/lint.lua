-- lint.lua - what the checks in this directory share: the tree's files, C without its comments, findings.
--
-- A check is `lua5.4 tests/lint/<check>.lua [ROOT]`; ROOT is the tree to check, this one by default, another
-- one in selftest.lua. Findings go to stderr as `file:line: sentence`; any finding means exit status 1.

local lint = {}

local here = arg[0]:match("^(.*)/[^/]*$") or "."
lint.root = arg[1] or here .. "/../.."

local findings = 0

function lint.found(path, line, format, ...)
  findings = findings + 1
  local where = line and ("%s:%d"):format(path, line) or path
  io.stderr:write(where, ": ", format:format(...), "\n")
end

--- Ends the check: `looked_at` says what was checked, for the reader of a green run.
function lint.finish(looked_at)
  if findings > 0 then
    io.stderr:write(findings, findings == 1 and " finding\n" or " findings\n")
    os.exit(1)
  end
  print(looked_at .. ": nothing found")
  os.exit(0)
end

function lint.read(path)
  local file = io.open(lint.root .. "/" .. path, "rb")
  if not file then
    return nil
  end
  local text = file:read("a")
  file:close()
  return text
end

--- Paths of the tree's files, relative to its root and sorted; only those that match one of the Lua patterns.
-- Build directories and what hides behind a dot directory are not the tree.
function lint.files(...)
  local patterns = { ... }
  local find = io.popen(("cd '%s' && find . -name '.?*' -type d -not -name .ci -prune -o -path ./build -prune"
    .. " -o -type f -print | LC_ALL=C sort"):format(lint.root))
  local files = {}
  for path in find:lines() do
    path = path:sub(3)
    for _, pattern in ipairs(patterns) do
      if path:find(pattern) then
        files[#files + 1] = path
        break
      end
    end
  end
  find:close()
  return files
end

function lint.lines(text)
  local lines = {}
  for line in (text:sub(-1) == "\n" and text or text .. "\n"):gmatch("(.-)\n") do
    lines[#lines + 1] = line
  end
  return lines
end

local function blank(text)
  return (text:gsub("[^\n]", " "))
end

--- C source with comments, strings and characters blanked out; lines stay where they are.
function lint.code(text)
  local out, at = {}, 1
  while at <= #text do
    local from = text:find("[/\"']", at)
    if not from then
      break
    end
    local two, to = text:sub(from, from + 1), nil
    if two == "/*" then
      to = select(2, text:find("*/", from + 2, true)) or #text
    elseif two == "//" then
      to = (text:find("\n", from, true) or #text + 1) - 1
    elseif two:sub(1, 1) == "/" then
      out[#out + 1] = text:sub(at, from)
      at = from + 1
    else
      local quote = two:sub(1, 1)
      to = from + 1
      while to <= #text and text:sub(to, to) ~= quote and text:sub(to, to) ~= "\n" do
        to = to + (text:sub(to, to) == "\\" and 2 or 1)
      end
    end
    if to then
      out[#out + 1] = text:sub(at, from - 1)
      out[#out + 1] = blank(text:sub(from, to))
      at = to + 1
    end
  end
  out[#out + 1] = text:sub(at)
  return table.concat(out)
end

return lint
