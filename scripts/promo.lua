-- Restaurant promo campaigns: everyone who has the restaurant among the favourites gets a message,
-- as long as the promo runs. The functions are called in the order in which they stand here.
---@type Script
local promo = {}

--- Checked before any function runs; a message that fails is dead-lettered as `schema`.
--- A "?" at the end of a type means: may be missing or null.
promo.fields = {
  restaurant_id = "string",
  adv_campaign_id = "string",
  adv_campaign_content = "string",
  adv_campaign_owner = "string",
  adv_campaign_owner_contact = "string",
  adv_campaign_datetime_start = "integer",
  adv_campaign_datetime_end = "integer",
  datetime_created = "integer",
}

--- Keep campaigns that run now. The second result names the reason: it becomes a metric label.
function promo.filter(msg, ctx)
  if ctx.now > msg.adv_campaign_datetime_end then return false, "expired" end
  if ctx.now < msg.adv_campaign_datetime_start then return false, "not_started" end
  return true
end

--- Which rows of the lookup belong to this message.
function promo.key(msg)
  return msg.restaurant_id
end

--- The joined record, once per message. `col.<name>` is a placeholder that is filled in for each row.
function promo.project(msg, col, ctx)
  return {
    restaurant_id = msg.restaurant_id,
    adv_campaign_id = msg.adv_campaign_id,
    adv_campaign_content = msg.adv_campaign_content,
    adv_campaign_owner = msg.adv_campaign_owner,
    adv_campaign_owner_contact = msg.adv_campaign_owner_contact,
    adv_campaign_datetime_start = msg.adv_campaign_datetime_start,
    adv_campaign_datetime_end = msg.adv_campaign_datetime_end,
    datetime_created = msg.datetime_created,
    client_id = col.client_id,
    trigger_datetime_created = ctx.now,
  }
end

--- The outgoing Kafka message, from the joined record: value, then (optional) key and headers.
function promo.shape(rec)
  return rec, rec.client_id
end

--- The row for Postgres, by column name. The user's answer is collected in `feedback` later.
function promo.row(rec)
  rec.feedback = ""
  return rec
end

return promo
