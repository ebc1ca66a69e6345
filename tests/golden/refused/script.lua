-- What a message can do wrong, and what a script can.
local s = {}

function s.map(msg)
  if msg.how == "error" then error("this is an " .. msg.how) end
  if msg.how == "nan" then return { x = { 0 / 0 } } end
  if msg.how == "utf8" then return { x = "\xff" } end
  if msg.how == "nil" then return { x = msg.nothing.at_all } end
  if msg.how == "column" then return { nmae = "x" } end
  if msg.how == "type" then return { name = "x", n = "five" } end
  if msg.how == "missing" then return { n = 5 } end
  if msg.how == "list" then return { 1 } end
  return { name = msg.how }
end

return s
