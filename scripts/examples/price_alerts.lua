-- Price alerts: everyone who watches a product hears of it when its price falls to their threshold or below.
-- In: { product_id, price }, keyed by product_id. Lookup: who watches which product, and from which price on.
local alerts = { fields = { product_id = "string", price = "number" } }

-- State: the prices of each product, with the offsets at which they came. It lives in this worker and begins empty
-- after a start and a reload: the first price of a product alerts nobody.
local history = {}

--- The price before this message. Messages may come again (after an error; at each chunk of a long fan-out):
--- what was noted at this offset or later is forgotten then.
local function price_before(msg, ctx)
  local prices = history[msg.product_id] or {}
  while #prices > 0 and prices[#prices].offset >= ctx.offset do table.remove(prices) end
  local before = prices[#prices] and prices[#prices].price
  prices[#prices + 1] = { price = msg.price, offset = ctx.offset }
  if #prices > 1000 then table.remove(prices, 1) end
  history[msg.product_id] = prices
  return before
end

function alerts.filter(msg, ctx)
  msg.before = price_before(msg, ctx)
  if not msg.before then return false, "first_price" end
  return msg.price < msg.before, "not_cheaper"
end

function alerts.key(msg) return msg.product_id end

--- Once per watcher. A numeric column comes as a string of Postgres's digits.
function alerts.each(msg, row, ctx)
  local threshold = tonumber(row.threshold)
  if msg.price > threshold or msg.before <= threshold then return nil end       -- not crossed now
  return { client_id = row.client_id, product_id = msg.product_id, price = msg.price, alerted_at = ctx.now }
end

function alerts.shape(rec) return rec, rec.client_id end

return alerts
