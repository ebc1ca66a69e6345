-- Run it in scripts/examples: millrace test
local testing = require "millrace.testing"

describe("price alerts", function()
  local p

  before_each(function()
    p = testing.pipeline { pipeline = "price_alerts", types = { threshold = "numeric" }, lookup = {
      { product_id = "tea", client_id = "ann", threshold = "5.00" },
      { product_id = "tea", client_id = "bob", threshold = "3.50" },
    } }
  end)

  local function price(value, options) return p:send({ product_id = "tea", price = value }, options) end

  it("alerts nobody at the first price, and nobody when it rises", function()
    assert.equal("first_price", price(4).dropped)
    assert.equal("not_cheaper", price(4).dropped)
    assert.equal("not_cheaper", price(6.5).dropped)
  end)

  it("alerts those whose threshold was crossed, in both sinks, once", function()
    price(9)
    local got = price(5)
    local alert = { client_id = "ann", product_id = "tea", price = 5, alerted_at = p.now }
    assert.same({ alert }, got.rows)
    assert.same(alert, got.messages[1].value)
    assert.equal("ann", got.messages[1].key)
    assert.equal("no_output", price(4.9).dropped)
    assert.equal("bob", price(3.5).rows[1].client_id)
  end)

  it("alerts again after the price was above", function()
    for _, value in ipairs { 9, 5, 9, 5 } do price(value) end
    assert.equal(2, #p.rows)
  end)

  it("says the same when messages come again", function()
    for offset, value in ipairs { 9, 6, 4 } do price(value, { offset = offset }) end
    local first = p.rows
    p:clear()
    price(6, { offset = 2 })
    price(4, { offset = 3 })
    assert.same(first, p.rows)
  end)

  it("begins anew after a reload", function()
    price(9)
    assert.is_true(p:reload())
    assert.equal("first_price", price(5).dropped)
  end)
end)
