-- Masking and routing: personal data is masked, and each event goes to the topic of its region.
-- In: { event_id, region, user = { email, phone, name }, ... }. No lookup: `map`.
local masking = { fields = { event_id = "string", region = "string?", user = "table" } }

local EMAIL = "^(" .. utf8.charpattern .. ").*@" -- a letter may be more than one byte

local function mask_email(email)
  local masked, n = email:gsub(EMAIL, "%1***@")
  return n > 0 and masked or "***"
end
local function mask_digits(text) return (text:gsub("%d", "*", select(2, text:gsub("%d", "")) - 2)) end -- but the last 2

local masks = { email = mask_email, phone = mask_digits, card = mask_digits, name = function() return "***" end }

--- Masks each value whose name `masks` knows, at any depth. The message is ours to change.
local function mask(value)
  for name, field in pairs(value) do
    if type(field) == "table" then
      mask(field)
    elseif masks[name] and field ~= null then
      value[name] = masks[name](tostring(field))
    end
  end
  return value
end

function masking.map(msg) return mask(msg) end

--- The fourth result is the topic: one of `allowed_topics`, or nil for the topic of the sink.
function masking.shape(rec, ctx)
  return rec, rec.event_id, nil, ctx.vars.topics[rec.region]
end

function masking.row(rec)
  return { event_id = rec.event_id, region = rec.region, body = rec }
end

return masking
