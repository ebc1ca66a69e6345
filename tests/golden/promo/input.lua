-- The first user's job: the delivered script, the example message, the sample rows.
local restaurant = "123e4567-e89b-12d3-a456-426614174000"
local function client(i) return i .. "23e4567-e89b-12d3-a456-426614174000" end

local rows = {}
for i = 2, 8 do rows[#rows + 1] = { restaurant_id = restaurant, client_id = client(i) } end
for _ = 1, 2 do rows[#rows + 1] = { restaurant_id = "123e4567-e89b-12d3-a456-426614174001", client_id = client(9) } end
rows[#rows + 1] = { restaurant_id = restaurant, client_id = client(0) }

local function campaign(id, first, last)
  return '{"restaurant_id": "' .. id .. '","adv_campaign_id": "123e4567-e89b-12d3-a456-426614174003",' ..
    '"adv_campaign_content": "first campaign","adv_campaign_owner": "Ivanov Ivan Ivanovich",' ..
    '"adv_campaign_owner_contact": "iiivanov@restaurant_id","adv_campaign_datetime_start": ' .. first ..
    ',"adv_campaign_datetime_end": ' .. last .. ',"datetime_created": 1659131516}'
end

return {
  path = "scripts/promo.lua",
  keys = { restaurant_id = "text" },
  columns = { client_id = "text" },
  table = {
    "id integer not null default", "restaurant_id text not null", "adv_campaign_id text not null",
    "adv_campaign_content text not null", "adv_campaign_owner text not null",
    "adv_campaign_owner_contact text not null", "adv_campaign_datetime_start bigint not null",
    "adv_campaign_datetime_end bigint not null", "datetime_created bigint not null", "client_id text not null",
    "trigger_datetime_created integer not null", "feedback character varying",
  },
  now = 1700000000,
  rows = rows,
  messages = {
    campaign(restaurant, 1659203516, "2659207116"),
    campaign("123e4567-e89b-12d3-a456-426614174001", 1659203516, "2659207116"),
    campaign("nobody-subscribed", 1659203516, "2659207116"),
    campaign(restaurant, 1700000001, "2659207116"),
    campaign(restaurant, 1659203516, "1699999999"),
    campaign(restaurant, '"1659203516"', "2659207116"),
    '{"restaurant_id": "' .. restaurant .. '"}',
    "not JSON",
  },
}
