-- selftest.lua - every check of this directory fails on a tree that violates it, says where, and passes without.
--
-- Each case is a small tree in a directory of its own: a sound one, with one file added or changed.
package.path = (arg[0]:match("^(.*)/[^/]*$") or ".") .. "/?.lua;" .. package.path
local here = arg[0]:match("^(.*)/[^/]*$") or "."

local function run(command)
  local pipe = io.popen(command .. " 2>&1")
  local out = pipe:read("a")
  local _, _, status = pipe:close()
  return status, out
end

local function output_of(command)
  local status, out = run(command)
  assert(status == 0, out)
  return (out:gsub("\n$", ""))
end

local root = output_of(("cd '%s/../..' && pwd"):format(here))
local scratch = output_of("mktemp -d")

local function write(path, text)
  output_of(("mkdir -p '%s'"):format(path:match("^(.*)/")))
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
end

local function slurp(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("a")
  file:close()
  return text
end

local function repeated(text, n)
  return (text .. "\n"):rep(n)
end

local sound = {
  [".clang-format"] = slurp(root .. "/.clang-format"),
  [".clang-tidy"] = slurp(root .. "/.clang-tidy"),
  [".luacheckrc"] = slurp(root .. "/.luacheckrc"),
  ["config.lua"] = "return {}\n",
  ["README.md"] = "Life of one message: `core/stream/a.c: mr_a_run`, `stream/a.c: twice`, `core/base/b.h`,\n"
    .. "`scripts/p.lua: key`, `stream/a.c: mr_a_run`, `stream/a.c: mr_a_run`; [metrics](docs/METRICS.md#x).\n",
  ["docs/METRICS.md"] = "| name | type |\n| `millrace_a_total` | counter | things |\n",
  ["scripts/p.lua"] = "local p = {}\n\nfunction p.key(msg)\n  return msg.id\nend\n\nreturn p\n",
  ["include/millrace.h"] = "/*\n * millrace.h - the API.\n */\n#ifndef M_H\n#define M_H\n#include <stddef.h>\n#endif\n",
  ["include/millrace/c.h"] = "/*\n * c.h - a contract.\n */\n#ifndef C_H\n#define C_H\n#include \"base/b.h\"\n#endif\n",
  ["core/base/b.h"] = "/*\n * b.h - base.\n */\n#ifndef B_H\n#define B_H\n#include <stdint.h>\n#endif\n",
  ["core/stream/a.h"] = "/*\n * a.h - a.\n */\n#ifndef A_H\n#define A_H\n#include \"millrace/c.h\"\n"
    .. "int mr_a_run(void);\nenum mr_kind { MR_COUNTER };\n"
    .. "int mr_a_count(enum mr_kind kind, const char *name);\n#endif\n",
  ["core/stream/a.c"] = "/*\n * a.c - a. Tests: tests/unit/test_a.c.\n */\n"
    .. "#include \"stream/a.h\"\n\n#include <stdio.h>\n\n"
    .. "/* exit() and lua_pcall() only in words; \"sleep(1)\" too */\n"
    .. "static int twice(int n)\n{\n    return 2 * n;\n}\n\n"
    .. "int mr_a_run(void)\n{\n    mr_a_count(MR_COUNTER, \"millrace_a_total\");\n"
    .. "    return twice(printf(\"exit(1)\"));\n}\n",
  ["core/kafka/client.h"] = "/*\n * client.h - private: it needs rdkafka.\n */\n#ifndef K_H\n#define K_H\n"
    .. "#include <librdkafka/rdkafka.h>\n#endif\n",
  ["core/admin/own.h"] = "/*\n * own.h - Private to core/admin.\n */\n#ifndef O_H\n#define O_H\n#endif\n",
  ["core/main.c"] = "/*\n * main.c - main.\n */\n#include \"stream/a.h\"\n\n#include <stdlib.h>\n\n"
    .. "int main(void)\n{\n    exit(mr_a_run());\n}\n",
  ["tests/unit/test_a.c"] = "/*\n * test_a.c\n */\nint main(void)\n{\n    return 0;\n}\n",
  ["tests/support/wait.sh"] = "until true; do\n    sleep 0.1 # poll\ndone\n",
}

local function including(line)
  return function(text)
    return (text:gsub("#include", line .. "\n#include", 1))
  end
end

local function appended(more)
  return function(text)
    return text .. more
  end
end

-- check, file, its new text (or a function of the sound one), what the finding must say
local cases = {
  { "fence.lua", "core/base/b.h", including '#include "stream/a.h"', "core/base/b.h:6: base may not include" },
  { "fence.lua", "include/millrace/c.h", including '#include "stream/a.h"', "contracts may not include" },
  { "fence.lua", "core/stream/a.c", including '#include "lookup/x.h"', "stream may not include" },
  { "fence.lua", "core/stream/a.c", including '#include "millrace.h"', "stream may not include" },
  { "fence.lua", "core/admin/x.c", '#include "kafka/kafka.h"\n', "admin may not include" },
  { "fence.lua", "core/cli/x.c", '#include "kafka/client.h"\n', "private to core/kafka %(it includes <librdkafka" },
  { "fence.lua", "core/cli/x.c", '#include "admin/own.h"\n', "private to core/admin %(it says so" },
  { "fence.lua", "core/cli/x.c", '#include "x.h"\n', "include \"x.h\" by its room" },
  { "fence.lua", "core/cli/x.c", "#include <lua.h>\n", "<lua.h> may be included in core/lua only" },
  { "fence.lua", "core/main.c", including "# include <libpq-fe.h>",
    "<libpq%-fe.h> may be included in core/postgres only" },
  { "fence.lua", "core/stream/a.c", including "#include <microhttpd.h>", "in core/admin only" },
  { "fence.lua", "core/stream/a.c", including "#include <jansson.h>", "<jansson.h> is not known here" },
  { "fence.lua", "include/millrace/c.h", including "#include <pthread.h>", "only C's own headers" },
  { "fence.lua", "include/millrace.h", including '#include "base/b.h"', "api may not include" },
  { "fence.lua", "include/millrace.h", appended(repeated("/* */", 120)), "stays under 120" },
  { "fence.lua", "core/stream/x.c", "void f(void)\n{\n    exit(1);\n}\n",
    "core/stream/x.c:3: exit%(%) is called in core/main.c only" },
  { "fence.lua", "core/lua/script.c", "int f(void) { return lua_pcall(L, 0, 0, 0); }\n",
    "lua_pcall%(%) is called in core/lua/host.c" },
  { "fence.lua", "core/kafka/x.cc", "#include <string>\n", "C%+%+ stands in core/lua only" },
  { "fence.lua", "core/attic/x.c", "int x;\n", "core/attic is not a room" },
  { "words.lua", "tools/x", "# TO" .. "DO later\n", "tools/x:1: the word TO" .. "DO" },
  { "words.lua", "core/stream/a.c", appended("/* FIX" .. "ME */\n"), "the word FIX" .. "ME" },
  { "waits.lua", "tests/unit/test_a.c", appended("void f(void) { usleep (10); }\n"),
    "test_a.c:8: a test that sleeps" },
  { "waits.lua", "tests/spec/x.lua", "os.execute('sleep 1')\n", "a test that sleeps" },
  { "waits.lua", "tests/spec/x.lua", "system.sleep(0.1)\n", "a test that sleeps" },
  { "waits.lua", "tests/integration/run", "#!/bin/sh\nsleep 5\n", "run:2: a test that sleeps" },
  { "references.lua", "README.md", "`core/stream/a.c: mr_a_stop`\n", "defines no such function" },
  { "references.lua", "README.md", "`stream/a.c: printf`\n", "defines no such function" },
  { "references.lua", "README.md", "`stream/z.c: mr_z_run`\n", "there is no such file" },
  { "references.lua", "README.md", "`scripts/p.lua: filter`\n", "defines no such function" },
  { "references.lua", "README.md", "`tools/demo`\n", "README.md:1: `tools/demo`: there is no such file" },
  { "references.lua", "README.md", "## Life of one message\n`stream/a.c: twice`\n", "found 1" },
  { "references.lua", "docs/X.md", "[readme](README.md)\n", "leads nowhere" },
  { "references.lua", "core/stream/a.c", "int x;\n", "begins with a comment" },
  { "references.lua", "core/stream/a.c", "/*\n * a.c - a. Tests: tests/unit/test_z.c.\n */\n",
    "test_z.c, which is not there" },
  { "sizes.lua", "core/stream/x.c", repeated("int x;", 801), "core/stream/x.c: the file has 801 lines" },
  { "sizes.lua", "core/stream/x.c", "int f(void)\n{\n" .. repeated("    g();", 120) .. "}\n",
    "function f has 122 lines" },
  { "sizes.lua", "core/lua/x.lua", "local function f()\n" .. repeated("  g()", 120) .. "end\n",
    "function f has 122 lines" },
  { "metrics.lua", "docs/METRICS.md", "| `millrace_b_total` | counter | things |\n",
    "millrace_b_total is registered nowhere" },
  { "metrics.lua", "docs/METRICS.md", "| `millrace_a_total` | gauge | things |\n", "is a counter, not a gauge" },
  { "metrics.lua", "docs/METRICS.md", "nothing\n", "core/stream/a.c:16: millrace_a_total does not stand in" },
  { "metrics.lua", "core/stream/x.c", 'f(MR_COUNTER, "millrace_b");\n',
    "millrace_b is a counter: the names of counters end" },
  { "metrics.lua", "core/stream/x.c", 'labelled("millrace_c_total",\n  "Things that were.");\n',
    "core/stream/x.c:1: millrace_c_total does not stand in" },
  { "metrics.lua", "core/stream/x.c", 'f(MR_GAUGE,\n  "millrace_a_total");\n', "millrace_a_total is a gauge here" },
  { "format", "core/stream/a.c", appended("int  x;\n"), "should be clang%-formatted" },
  { "format", "include/millrace/c.h", appended("int x ;\n"), "should be clang%-formatted" },
  { "lua", "scripts/p.lua", appended("unknown.x = 1\n"), "scripts/p.lua" },
  { "lua", "config.lua", "local x = 1\nreturn {}\n", "unused variable" },
  { "headers", "core/base/x.h", "static inline size_t f(void)\n{\n    return 1;\n}\n",
    "core/base/x.h does not compile alone" },
  { "tidy", "core/stream/a.c", appended("int f(int n)\n{\n    if (n == n)\n        return 1;\n    return 0;\n}\n"),
    "misc%-redundant%-expression" },
}

local failures = 0

local function fail(format, ...)
  failures = failures + 1
  io.stderr:write("FAILED ", format:format(...), "\n")
end

--- The sound tree with `path` changed to `text`, in a directory of its own.
local function plant(name, path, text)
  local tree = scratch .. "/" .. name
  for other, content in pairs(sound) do
    write(tree .. "/" .. other, content)
  end
  if path then
    write(tree .. "/" .. path, type(text) == "function" and text(sound[path]) or text)
  end
  write(tree .. "/build/compile_commands.json", ([[
[{ "directory": "%s", "command": "cc -std=c11 -Icore -Iinclude -c core/stream/a.c",
  "file": "%s/core/stream/a.c" }]
]]):format(tree, tree))
  return tree
end

local function check(name, tree)
  if name:find("%.lua$") then
    return run(("lua5.4 '%s/%s' '%s'"):format(here, name, tree))
  elseif name == "tidy" then
    return run(("'%s/tidy' '%s/build' '%s'"):format(here, tree, tree))
  end
  return run(("'%s/%s' '%s'"):format(here, name, tree))
end

local function main()
  local checked, n = {}, 0
  local tree = plant("sound")
  for _, case in ipairs(cases) do
    if not checked[case[1]] then
      checked[case[1]] = true
      n = n + 1
      local status, out = check(case[1], tree)
      if status ~= 0 then
        fail("%s on a sound tree:\n%s", case[1], out)
      end
    end
  end
  for number, case in ipairs(cases) do
    local status, out = check(case[1], plant("case" .. number, case[2], case[3]))
    if status == 0 then
      fail("%s accepts %s:\n%s", case[1], case[2], case[4])
    elseif not out:find(case[4]) then
      fail("%s on %s: expected \"%s\", got:\n%s", case[1], case[2], case[4], out)
    end
  end
  -- Every check of this directory is tested here.
  for name in output_of(("ls '%s'"):format(here)):gmatch("[^\n]+") do
    if not checked[name] and name ~= "run" and name ~= "lint.lua" and name ~= "selftest.lua"
      and name ~= "CMakeLists.txt" then
      fail("%s has no case in selftest.lua", name)
    end
  end
  print(("%d checks, %d violations"):format(n, #cases))
end

local ok, trouble = xpcall(main, debug.traceback)
output_of(("rm -rf '%s'"):format(scratch))
if not ok then
  fail("%s", trouble)
end
os.exit(failures == 0 and 0 or 1)
