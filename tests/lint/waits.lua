-- waits.lua - no test sleeps to wait for a state: it polls a condition with a deadline.
--
-- The few helpers that poll have to pause between two looks; that line says so with the word "poll" in a comment.
package.path = (arg[0]:match("^(.*)/[^/]*$") or ".") .. "/?.lua;" .. package.path
local lint = require "lint"

local calls = {
  "%f[%w_]u?sleep%s*%(", -- C, Lua
  "%f[%w_]nanosleep%s*%(",
  "%f[%w_]clock_nanosleep%s*%(",
  "%f[%w_]sleep%s+[%d$\"'.]", -- shell, also inside os.execute
  "%f[%w_]pg_sleep%s*%(",
}

local files = lint.files("^tests/")
for _, path in ipairs(files) do
  if not path:find("^tests/lint/") then
    for number, line in ipairs(lint.lines(lint.read(path))) do
      for _, call in ipairs(calls) do
        if line:find(call) and not line:find("[/*%-#]%s*poll") then
          lint.found(path, number, "a test that sleeps: poll the condition with a deadline "
            .. "(a helper that polls says `poll` in a comment on that line)")
          break
        end
      end
    end
  end
end

lint.finish(#files .. " files of tests")
