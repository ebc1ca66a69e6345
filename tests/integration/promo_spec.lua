-- The promo rules against real services: who gets a campaign, and what is counted when nobody does.
local scene = require "tests.support.scene"
local shell = require "tests.support.shell"

describe("promo rules", function()
  local s
  before_each(function() s = scene.new() end)
  after_each(function() s:close() end)

  local function dropped(d, reason)
    return d:metric("drop", ('reason="%s"'):format(reason)) or 0
  end

  it("drops what is over or has not begun, counted by reason, and sends the rest", function()
    local d, now = s:start(), os.time()
    s:produce {
      scene.campaign { adv_campaign_id = "over", adv_campaign_datetime_end = now - 10 },
      scene.campaign { adv_campaign_id = "over", adv_campaign_datetime_end = now - 5 },
      scene.campaign { adv_campaign_id = "early", adv_campaign_datetime_start = now + 3600 },
      scene.campaign { adv_campaign_id = "now" },
    }
    s:wait_rows(8)
    shell.wait(20, "the drops to be counted", function()
      return dropped(d, "expired") == 2 and dropped(d, "not_started") == 1
    end)
    assert.equal(0, (d:stop()))
    assert.equal("now", s:sql("select distinct adv_campaign_id from subscribers_feedback"))
    assert.equal(8, #s:values())
  end)

  it("reads the time for each message, not at its start", function()
    local d = s:start()
    local start = os.time() + 6
    local early = scene.campaign { adv_campaign_id = "early", adv_campaign_datetime_start = start }
    s:produce { early }
    shell.wait(20, "the early campaign to be dropped", function() return dropped(d, "not_started") == 1 end)
    shell.wait(30, "the campaign's start", function() return os.time() > start end)
    s:produce { early }
    s:wait_rows(8)
    assert.equal(0, (d:stop()))
    for _, row in ipairs(s:records("select trigger_datetime_created as t from subscribers_feedback")) do
      assert.is_true(row.t >= start)
    end
  end)

  it("sends a doubled subscription once, and nothing for a restaurant without subscribers", function()
    local d = s:start()
    s:produce {
      scene.campaign { adv_campaign_id = "twice", restaurant_id = "123e4567-e89b-12d3-a456-426614174001" },
      scene.campaign { adv_campaign_id = "nobody", restaurant_id = "no such restaurant" },
      scene.campaign { adv_campaign_id = "last" },
    }
    s:wait_rows(9)
    assert.equal(0, (d:stop()))
    assert.equal("last|8\ntwice|1", s:by_campaign())
    assert.equal(9, #s:values())
    assert.equal(0, s:count("millrace_dead"))
  end)

  it("keeps whatever text a campaign holds", function()
    local d = s:start()
    local text = 'line\nbreak "quoted" \\ back\tslash / Ünïcode ресторан 🍜 \127 null NULL \\N'
    s:produce { scene.campaign { adv_campaign_content = text, adv_campaign_datetime_end = 9007199254740993 } }
    s:wait_rows(8)
    assert.equal(0, (d:stop()))
    for _, message in ipairs(s:messages()) do assert.equal(text, message.adv_campaign_content) end
    for _, value in ipairs(s:values()) do
      assert.truthy(value:find('"adv_campaign_datetime_end":9007199254740993', 1, true))
    end
    local rows = s:records("select adv_campaign_content as c, adv_campaign_datetime_end::text as e "
      .. "from subscribers_feedback")
    for _, row in ipairs(rows) do
      assert.equal(text, row.c)
      assert.equal("9007199254740993", row.e)
    end
  end)

  it("sees new subscribers after a reload of the lookup", function()
    s.config.lookups.subscribers.refresh = "reload 1s"
    local d = s:start()
    s:sql("insert into subscribers_restaurants (client_id, restaurant_id) values ('new', 'new restaurant')")
    local n = 0
    shell.wait(30, "a campaign for the new subscriber to reach it", function()
      n = n + 1
      s:produce { scene.campaign { adv_campaign_id = "n" .. n, restaurant_id = "new restaurant" } }
      return s:sql("select 1 from subscribers_feedback where client_id = 'new' limit 1") == "1"
    end)
    assert.equal(0, (d:stop()))
  end)
end)
