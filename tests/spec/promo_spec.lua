-- scripts/promo.lua as config.lua has it: who gets what, and what is dropped or refused. Run it: millrace test
local testing = require "millrace.testing"

local RESTAURANT = "123e4567-e89b-12d3-a456-426614174000"
local START, END = 1659203516, 2659207116

local function client(i) return i .. "23e4567-e89b-12d3-a456-426614174000" end

--- The campaign of the example, with what `changes` says otherwise.
local function campaign(changes)
  local message = { restaurant_id = RESTAURANT, adv_campaign_id = "123e4567-e89b-12d3-a456-426614174003",
    adv_campaign_content = "first campaign", adv_campaign_owner = "Ivanov Ivan Ivanovich",
    adv_campaign_owner_contact = "iiivanov@restaurant_id", adv_campaign_datetime_start = START,
    adv_campaign_datetime_end = END, datetime_created = 1659131516 }
  for name, value in pairs(changes or {}) do message[name] = value end
  return message
end

local OTHER = RESTAURANT:sub(1, -2) .. "1"
local SUBSCRIBERS = {}
for i = 2, 8 do SUBSCRIBERS[#SUBSCRIBERS + 1] = { restaurant_id = RESTAURANT, client_id = client(i) } end
for _ = 1, 2 do SUBSCRIBERS[#SUBSCRIBERS + 1] = { restaurant_id = OTHER, client_id = client(9) } end
SUBSCRIBERS[#SUBSCRIBERS + 1] = { restaurant_id = RESTAURANT, client_id = client(0) }

-- The table of the Postgres sink, as `\d subscribers_feedback` shows it.
local FEEDBACK = {
  "id integer not null default", "restaurant_id text not null", "adv_campaign_id text not null",
  "adv_campaign_content text not null", "adv_campaign_owner text not null",
  "adv_campaign_owner_contact text not null", "adv_campaign_datetime_start bigint not null",
  "adv_campaign_datetime_end bigint not null", "datetime_created bigint not null", "client_id text not null",
  "trigger_datetime_created integer not null", "feedback character varying",
}

describe("the pipeline promo", function()
  local promo

  before_each(function()
    promo = testing.pipeline { pipeline = "promo", lookup = SUBSCRIBERS, table = FEEDBACK, now = 1700000000 }
  end)

  it("makes the eight outputs of the example: clients 0 and 2 to 8", function()
    promo:set_now(1700000000.75)
    local got = promo:send(campaign())
    local clients = {}
    for i, message in ipairs(got.messages) do
      local expected = campaign { client_id = message.value.client_id, trigger_datetime_created = 1700000000 }
      assert.same(expected, message.value)
      assert.equal(message.value.client_id, message.key)
      assert.equal("topic_out", message.topic)
      clients[i] = message.value.client_id
    end
    assert.same({ client(0), client(2), client(3), client(4), client(5), client(6), client(7), client(8) }, clients)
  end)

  it("writes the ten fields and an empty feedback into each row, and leaves the id to its default", function()
    local got = promo:send(campaign())
    assert.equal(8, #got.rows)
    assert.same(campaign { client_id = client(0), trigger_datetime_created = 1700000000, feedback = "" }, got.rows[1])
  end)

  it("leaves feedback out of the message", function()
    assert.is_nil(promo:send(campaign()).messages[1].value.feedback)
  end)

  it("keeps a campaign from its first to its last second", function()
    for _, now in ipairs { START, END, END + 0.999 } do
      promo:set_now(now)
      assert.equal(8, #promo:send(campaign()).messages)
    end
  end)

  it("drops what has not started and what has expired, each with its reason", function()
    for now, reason in pairs { [START - 1] = "not_started", [START - 0.001] = "not_started", [END + 1] = "expired" } do
      promo:set_now(now)
      assert.equal(reason, promo:send(campaign()).dropped)
    end
    assert.same({ not_started = 2, expired = 1 }, promo.dropped)
    assert.same({}, promo.messages)
  end)

  it("counts a doubled subscription once", function()
    local got = promo:send(campaign { restaurant_id = OTHER })
    assert.equal(1, #got.messages)
    assert.equal(client(9), got.messages[1].key)
  end)

  it("drops a restaurant without subscribers as no_rows", function()
    assert.equal("no_rows", promo:send(campaign { restaurant_id = "nobody" }).dropped)
  end)

  it("refuses a missing field and a field of the wrong type by name", function()
    local got = promo:send(campaign { adv_campaign_owner = testing.null })
    assert.same({ class = "schema", error = "field adv_campaign_owner: expected string, got null" }, got.dead)
    local message = campaign()
    message.adv_campaign_owner = nil
    assert.equal("field adv_campaign_owner: expected string, got nothing", promo:send(message).dead.error)
    assert.equal("field adv_campaign_datetime_end: expected integer, got string",
      promo:send(campaign { adv_campaign_datetime_end = "2659207116" }).dead.error)
  end)

  it("goes on after a bad message", function()
    assert.equal("decode", promo:send('{"restaurant_id": ').dead.class)
    assert.equal(8, #promo:send(campaign()).messages)
  end)

  it("carries any text safely into valid JSON", function()
    local nasty, key = '"\\ \1 \u{1f600} </script>', 'c"\\\n\1'
    promo:lookup { { restaurant_id = RESTAURANT, client_id = key } }
    local got = promo:send(campaign { adv_campaign_content = nasty })
    assert.equal(nasty, got.messages[1].value.adv_campaign_content)
    assert.equal(key, got.messages[1].value.client_id)
    assert.equal(key, got.messages[1].key)
  end)
end)
