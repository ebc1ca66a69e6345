-- A letter to each person of a street: text with columns in it, key and headers, a row with the text.
local s = { fields = { street = "string", subject = "string", urgent = "boolean?" } }

function s.filter(_, ctx)
  if ctx.headers.test then return false, "test" end
  return true
end

function s.key(msg)
  return msg.street
end

function s.project(msg, col, ctx)
  return {
    to = col.name,
    house = col.house,
    subject = msg.subject,
    text = fmt "Dear {name} of no. {house}, {{this}} is for you.",
    sent = time.format(ctx.now),
  }
end

function s.shape(rec, ctx)
  return rec, fmt "{street}/{house}", { subject = rec.subject, to = rec.to, from = ctx.vars.sender }
end

function s.row(rec)
  return { name = rec.to, text = rec.text, extra = { house = rec.house, subject = rec.subject } }
end

return s
