-- stdin: output messages, one JSON object a line. stdout: "campaign client" of each.
-- A line that is not one is printed too, marked, so that a comparison finds it.
local cjson = require "cjson"

io.stdout:setvbuf("full", 65536)
for line in io.lines() do
  local ok, message = pcall(cjson.decode, line)
  if ok and type(message) == "table" and message.adv_campaign_id and message.client_id then
    io.write(message.adv_campaign_id, " ", message.client_id, "\n")
  else
    io.write("unreadable ", line, "\n")
  end
end
