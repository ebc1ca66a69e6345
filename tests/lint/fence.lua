-- fence.lua - who may include whom, and what may stand only in one place.
--
-- Arrows: base <- contracts <- stream, lookup <- kafka, postgres, lua, admin <- cli, main (files of core/ itself).
-- Adapters never include each other. A third-party header is included in its room only. A header that
-- includes one, or says "Private to core/<room>", is included from its room only, but for tests.
-- include/millrace.h is what other programs compile against: C headers only, under 120 lines.
package.path = (arg[0]:match("^(.*)/[^/]*$") or ".") .. "/?.lua;" .. package.path
local lint = require "lint"

local function set(words)
  local of = {}
  for word in words:gmatch("%S+") do
    of[word] = true
  end
  return of
end

-- Which rooms the files of a room may include.
local arrows = {
  base = set "base",
  contracts = set "base contracts",
  stream = set "base contracts stream",
  lookup = set "base contracts lookup",
  kafka = set "base contracts stream lookup kafka",
  postgres = set "base contracts stream lookup postgres",
  lua = set "base contracts stream lookup lua",
  admin = set "base contracts stream lookup admin",
  cli = set "base contracts stream lookup kafka postgres lua admin cli",
  main = set "base contracts stream lookup kafka postgres lua admin cli main api",
  api = set "",
}

-- Third-party headers, by pattern, and the rooms that may include them.
local third_party = {
  { "^librdkafka/", set "kafka" },
  { "^libpq", set "postgres" },
  { "^lua%.hp?p?$", set "lua" },
  { "^lauxlib%.h$", set "lua" },
  { "^lualib%.h$", set "lua" },
  { "^simdjson%.h$", set "lua" },
  { "^microhttpd%.h$", set "admin" },
  { "^xxhash%.h$", set "lookup base lua" },
  { "^lz4.*%.h$", set "stream" },
  { "^isa%-l/", set "stream" },
}

local c_headers = set [[assert.h complex.h ctype.h errno.h fenv.h float.h inttypes.h iso646.h limits.h locale.h
  math.h setjmp.h signal.h stdalign.h stdarg.h stdatomic.h stdbool.h stddef.h stdint.h stdio.h stdlib.h
  stdnoreturn.h string.h threads.h time.h uchar.h wchar.h wctype.h]]
local system_headers = set [[arpa/inet.h dirent.h dlfcn.h fcntl.h getopt.h glob.h grp.h ifaddrs.h langinfo.h libgen.h
  net/if.h netdb.h netinet/in.h netinet/tcp.h poll.h pthread.h pty.h pwd.h sched.h semaphore.h spawn.h strings.h
  sysexits.h syslog.h termios.h ucontext.h unistd.h wordexp.h execinfo.h malloc.h endian.h byteswap.h
  sys/epoll.h sys/eventfd.h sys/file.h sys/inotify.h sys/ioctl.h sys/mman.h sys/prctl.h sys/random.h
  sys/resource.h sys/select.h sys/signalfd.h sys/socket.h sys/stat.h sys/syscall.h sys/time.h sys/timerfd.h
  sys/types.h sys/uio.h sys/un.h sys/utsname.h sys/wait.h linux/limits.h]]

-- A function that may be called in one file only, and why.
local only_in = {
  { "exit", "core/main.c", "others return an error, so that what they hold is released" },
  { "lua_pcall", "core/lua/host.c", "the one protected gate into Lua" },
  { "lua_pcallk", "core/lua/host.c", "the one protected gate into Lua" },
}

local function room_of(path)
  if path == "include/millrace.h" then
    return "api"
  end
  if path:find("^include/millrace/") then
    return "contracts"
  end
  return path:match("^core/([^/]+)/") or "main"
end

-- The room whose header `name` is, as an #include "..." writes it.
local function target_of(name)
  if name == "millrace.h" then
    return "api"
  end
  local room = name:match("^([^/]+)/")
  return room == "millrace" and "contracts" or room
end

local function owners_of(name)
  for _, entry in ipairs(third_party) do
    if name:find(entry[1]) then
      return entry[2]
    end
  end
end

local function names(of)
  local list = {}
  for name in pairs(of) do
    list[#list + 1] = "core/" .. name
  end
  table.sort(list)
  return table.concat(list, " and ")
end

local files = lint.files("^core/.*%.[ch]$", "^core/.*%.cc$", "^include/.*%.h$")

-- What a room keeps to itself: name as included -> { room, reason }.
local private = {}
for _, path in ipairs(files) do
  local text = lint.read(path)
  local name = path:match("^core/(.+%.h)$")
  local said = name and text:match("Private to core/(%w+)")
  if said then
    private[name] = { room_of(path), "says so" }
  end
  for header in text:gmatch('#%s*include%s*<([^>]+)>') do
    if name and owners_of(header) then
      private[name] = { room_of(path), "includes <" .. header .. ">" }
    end
  end
end

local function check_angle(path, line, room, header)
  local owners = owners_of(header)
  if c_headers[header] then
    return
  end
  if room == "contracts" or room == "api" then
    lint.found(path, line, "<%s> in a public header: only C's own headers may stand here", header)
  elseif owners and not owners[room] then
    lint.found(path, line, "<%s> may be included in %s only", header, names(owners))
  elseif not owners and not system_headers[header] and not (path:find("%.cc$") and not header:find("%.")) then
    lint.found(path, line, "<%s> is not known here: add it to tests/lint/fence.lua with its room", header)
  end
end

local function check_quoted(path, line, room, header)
  local target = target_of(header)
  if not target or not (arrows[target] or target == "api") then
    lint.found(path, line, 'include "%s" by its room: "<room>/<file>.h" or "millrace/<file>.h"', header)
  elseif not (arrows[room] or {})[target] then
    lint.found(path, line, '%s may not include "%s": the arrows are at the top of tests/lint/fence.lua',
      room, header)
  elseif private[header] and private[header][1] ~= room then
    lint.found(path, line, '"%s" is private to core/%s (it %s)', header, private[header][1], private[header][2])
  end
end

for _, path in ipairs(files) do
  local room, text = room_of(path), lint.read(path)
  if not arrows[room] then
    lint.found(path, nil, "core/%s is not a room", room)
  end
  if path:find("%.cc$") and room ~= "lua" then
    lint.found(path, nil, "C++ stands in core/lua only, behind a C header")
  end
  local code = lint.lines(lint.code(text))
  for number, line in ipairs(lint.lines(text)) do
    local angle = line:match("^%s*#%s*include%s*<([^>]+)>")
    local quoted = line:match('^%s*#%s*include%s*"([^"]+)"')
    if angle then
      check_angle(path, number, room, angle)
    elseif quoted then
      check_quoted(path, number, room, quoted)
    end
    for _, rule in ipairs(only_in) do
      if path ~= rule[2] and (" " .. (code[number] or "")):find("[^%w_.>]" .. rule[1] .. "%s*%(") then
        lint.found(path, number, "%s() is called in %s only: %s", rule[1], rule[2], rule[3])
      end
    end
  end
  if room == "api" and #lint.lines(text) >= 120 then
    lint.found(path, nil, "%d lines; the embedding API stays under 120", #lint.lines(text))
  end
end

lint.finish(#files .. " files of core and include")
