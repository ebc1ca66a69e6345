-- A record of eight fields made by Lua for every row: what `each` costs, and nothing else.
local each = {}

each.fields = {
  restaurant_id = "string",
  adv_campaign_id = "string",
  adv_campaign_content = "string",
  adv_campaign_owner = "string",
  adv_campaign_datetime_start = "integer",
  adv_campaign_datetime_end = "integer",
}

function each.key(msg)
  return msg.restaurant_id
end

function each.each(msg, row, ctx)
  return {
    restaurant_id = msg.restaurant_id,
    adv_campaign_id = msg.adv_campaign_id,
    adv_campaign_content = msg.adv_campaign_content,
    adv_campaign_owner = msg.adv_campaign_owner,
    adv_campaign_datetime_start = msg.adv_campaign_datetime_start,
    adv_campaign_datetime_end = msg.adv_campaign_datetime_end,
    client_id = row.client_id,
    trigger_datetime_created = ctx.now,
  }
end

function each.shape(rec)
  return rec, rec.client_id
end

return each
