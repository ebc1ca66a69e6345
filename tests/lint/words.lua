-- words.lua - notes to oneself do not stand in the tree: what is open is an issue, what is done is done.
package.path = (arg[0]:match("^(.*)/[^/]*$") or ".") .. "/?.lua;" .. package.path
local lint = require "lint"

local words = { "TO" .. "DO", "FIX" .. "ME", "X" .. "XX", "HA" .. "CK" }

local files = lint.files(".")
for _, path in ipairs(files) do
  local text = lint.read(path)
  if not text:find("\0", 1, true) then
    for number, line in ipairs(lint.lines(text)) do
      for _, word in ipairs(words) do
        if line:find("%f[%w_]" .. word .. "%f[^%w_]") then
          lint.found(path, number, "the word %s: do it, or open an issue", word)
        end
      end
    end
  end
end

lint.finish(#files .. " files")
