-- Run it in scripts/examples: millrace test
local testing = require "millrace.testing"

describe("masking", function()
  local p

  before_each(function() p = testing.pipeline { pipeline = "masking" } end)

  local function event(changes)
    local message = { event_id = "e1", region = "eu", user = { email = "ann@example.org", phone = "+43 660 1234567" } }
    for name, value in pairs(changes or {}) do message[name] = value end
    return message
  end

  it("masks personal data at any depth, in both sinks", function()
    local got = p:send(event { payments = { { card = "4111 1111 1111 1111", amount = 5 } } })
    local expected = event { payments = { { card = "**** **** **** **11", amount = 5 } } }
    expected.user = { email = "a***@example.org", phone = "+** *** *****67" }
    assert.same(expected, got.messages[1].value)
    assert.same({ event_id = "e1", region = "eu", body = expected }, got.rows[1])
    assert.is_nil(got.messages[1].text:find("ann@", 1, true))
  end)

  it("masks what is no address, letters of more than one byte, and numbers", function()
    local got = p:send(event { user = { email = "élodie@example.org", phone = 436601234567 },
      more = { email = "ann at home", name = null } })
    assert.same({ email = "é***@example.org", phone = "**********67" }, got.messages[1].value.user)
    assert.equal("***", got.messages[1].value.more.email)
  end)

  it("sends each region to its topic, and the rest to the topic of the sink", function()
    for region, topic in pairs { eu = "events_eu", us = "events_us", moon = "events_masked" } do
      assert.equal(topic, p:send(event { region = region }).messages[1].topic)
    end
  end)

  it("makes a dead letter of an event without a user", function()
    assert.equal("field user: expected table, got nothing", p:send({ event_id = "e2" }).dead.error)
  end)

  it("keeps empty lists and nulls", function()
    local got = p:send('{"event_id":"e1","region":null,"user":{"name":"Ann"},"tags":[],"more":null}')
    assert.equal('{"event_id":"e1","more":null,"region":null,"tags":[],"user":{"name":"***"}}', got.messages[1].text)
  end)
end)
