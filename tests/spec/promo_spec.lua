-- scripts/promo.lua as it is delivered, with a given now: who gets what, and what is dropped or refused.
local cjson = require "cjson"
local millrace = require "millrace"

local RESTAURANT = "123e4567-e89b-12d3-a456-426614174000"
local START, END = 1659203516, 2659207116
local EXAMPLE = '{"restaurant_id": "' .. RESTAURANT .. '","adv_campaign_id": "123e4567-e89b-12d3-a456-426614174003",' ..
  '"adv_campaign_content": "first campaign","adv_campaign_owner": "Ivanov Ivan Ivanovich",' ..
  '"adv_campaign_owner_contact": "iiivanov@restaurant_id","adv_campaign_datetime_start": ' .. START .. ',' ..
  '"adv_campaign_datetime_end": ' .. string.format("%d", END) .. ',"datetime_created": 1659131516}'

local function client(i)
  return i .. "23e4567-e89b-12d3-a456-426614174000"
end

--- The example with another restaurant.
local function with_restaurant(id)
  return EXAMPLE:sub(1, #'{"restaurant_id": "') .. id .. EXAMPLE:sub(#'{"restaurant_id": "' + #RESTAURANT + 1)
end

local ROWS = {}
for i = 2, 8 do ROWS[#ROWS + 1] = { restaurant_id = RESTAURANT, client_id = client(i) } end
for _ = 1, 2 do ROWS[#ROWS + 1] = { restaurant_id = RESTAURANT:sub(1, -2) .. "1", client_id = client(9) } end
ROWS[#ROWS + 1] = { restaurant_id = RESTAURANT, client_id = client(0) }

local FEEDBACK = {
  "id integer not null default", "restaurant_id text not null", "adv_campaign_id text not null",
  "adv_campaign_content text not null", "adv_campaign_owner text not null",
  "adv_campaign_owner_contact text not null", "adv_campaign_datetime_start bigint not null",
  "adv_campaign_datetime_end bigint not null", "datetime_created bigint not null", "client_id text not null",
  "trigger_datetime_created integer not null", "feedback character varying",
}

describe("scripts/promo.lua", function()
  local promo

  setup(function()
    promo = assert(millrace.script { path = "scripts/promo.lua", keys = { restaurant_id = "text" },
      columns = { client_id = "text" }, table = FEEDBACK })
  end)

  teardown(function() promo:close() end)

  local function at(now, value, rows)
    return promo:process { value = value or EXAMPLE, now = now, rows = rows or ROWS }
  end

  it("makes the eight outputs of the example: clients 0 and 2 to 8", function()
    local got = at(1700000000.75)
    assert.equal("emit", got.verdict)
    local clients = {}
    for i, message in ipairs(got.messages) do
      local value = cjson.decode(message.value)
      clients[i] = value.client_id
      assert.equal(value.client_id, message.key)
      assert.equal("first campaign", value.adv_campaign_content)
      assert.equal(1700000000, value.trigger_datetime_created)
      local n = 0
      for _ in pairs(value) do n = n + 1 end
      assert.equal(10, n)
    end
    assert.same({ client(0), client(2), client(3), client(4), client(5), client(6), client(7), client(8) }, clients)
  end)

  it("writes the ten fields and an empty feedback into each row, and leaves the id to its default", function()
    local got = at(1700000000)
    assert.equal(8, #got.rows)
    assert.same({ restaurant_id = RESTAURANT, adv_campaign_id = "123e4567-e89b-12d3-a456-426614174003",
      adv_campaign_content = "first campaign", adv_campaign_owner = "Ivanov Ivan Ivanovich",
      adv_campaign_owner_contact = "iiivanov@restaurant_id", adv_campaign_datetime_start = tostring(START),
      adv_campaign_datetime_end = string.format("%d", END), datetime_created = "1659131516",
      client_id = client(0), trigger_datetime_created = "1700000000", feedback = "" }, got.rows[1])
  end)

  it("leaves feedback out of the message", function()
    assert.is_nil(at(1700000000).messages[1].value:find("feedback"))
  end)

  it("keeps a campaign from its first to its last second", function()
    assert.equal("emit", at(START).verdict)
    assert.equal("emit", at(END).verdict)
    assert.equal("emit", at(END + 0.999).verdict)
  end)

  it("drops what has not started and what has expired, each with its reason", function()
    local early, late = at(START - 1), at(END + 1)
    assert.equal("drop", early.verdict)
    assert.equal("not_started", early.reason)
    assert.equal("drop", late.verdict)
    assert.equal("expired", late.reason)
    assert.equal("not_started", at(START - 0.001).reason)
  end)

  it("counts a doubled subscription once", function()
    local got = at(1700000000, with_restaurant(RESTAURANT:sub(1, -2) .. "1"))
    assert.equal(1, #got.messages)
    assert.equal(client(9), got.messages[1].key)
  end)

  it("drops a restaurant without subscribers as no_rows", function()
    local got = at(1700000000, with_restaurant("nobody"))
    assert.equal("drop", got.verdict)
    assert.equal("no_rows", got.reason)
  end)

  it("refuses a missing field and a field of the wrong type by name", function()
    local missing = at(1700000000, (EXAMPLE:gsub('"adv_campaign_owner": "[^"]*",', "")))
    assert.equal("reject", missing.verdict)
    assert.equal("schema", missing.class)
    assert.equal("field adv_campaign_owner: expected string, got nothing", missing.error)
    local wrong = at(1700000000, (EXAMPLE:gsub("2659207116", '"2659207116"')))
    assert.equal("field adv_campaign_datetime_end: expected integer, got string", wrong.error)
  end)

  it("goes on after a bad message", function()
    assert.equal("decode", at(1700000000, EXAMPLE:sub(1, -2)).class)
    assert.equal("emit", at(1700000000).verdict)
  end)

  it("carries any text safely into valid JSON", function()
    local nasty = '\\"\\\\ \\u0001 \\ud83d\\ude00 </script>'
    local got = at(1700000000, (EXAMPLE:gsub("first campaign", (nasty:gsub("%%", "%%%%")))),
      { { restaurant_id = RESTAURANT, client_id = 'c"\\\n\1' } })
    local value = cjson.decode(got.messages[1].value)
    assert.equal('"\\ \1 \u{1f600} </script>', value.adv_campaign_content)
    assert.equal('c"\\\n\1', value.client_id)
    assert.equal('c"\\\n\1', got.messages[1].key)
  end)
end)
