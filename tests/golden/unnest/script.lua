-- Several keys for one message: whoever is reached twice hears once.
local s = {}

function s.key(msg)
  return msg.teams
end

function s.project(msg, col)
  return { { who = col.person, what = msg.what }, { copy = col.person } }
end

return s
