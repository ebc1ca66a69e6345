-- Without a lookup: each event of a batch becomes a message of its own; deletions become tombstones.
local s = { fields = { events = "array" } }

function s.map(msg)
  local out = array {}
  for _, event in ipairs(msg.events) do
    if event.kind ~= "noise" then out[#out + 1] = event end
  end
  return out
end

function s.shape(event)
  if event.kind == "deleted" then return null, event.id end
  if event.kind == "raw" then return event.text, event.id, { { "kind", "raw" }, { "kind", "again" } } end
  return { id = event.id, data = event.data }, event.id, { kind = event.kind }
end

return s
