-- The lookup follows its table: who subscribes gets the next campaign, who leaves gets none, whatever kind of feed
-- tells it, and while campaigns run.
local scene = require "tests.support.scene"
local shell = require "tests.support.shell"
local subscriptions = require "tests.support.subscriptions"

local ROUNDS = tonumber(os.getenv("MILLRACE_LOOKUP_ROUNDS")) or 200

-- The feed of the scene's lookup; `options` are more options of the lookup.
local function feed(s, kind, options)
  local lookup = s.config.lookups.subscribers
  lookup.refresh = kind
  if kind == "changelog" then lookup.changelog = "subscribers_changes" end
  for name, value in pairs(options or {}) do lookup[name] = value end
end

for _, kind in ipairs { "logical", "changelog" } do
  describe("a lookup that is fed by " .. kind, function()
    local s
    before_each(function() s = scene.new() end)
    after_each(function() s:close() end)

    it("with strict consistency: a campaign reaches who subscribed before it, and nobody who had left", function()
      feed(s, kind, { consistency = "strict" })
      s.promo.workers = 2
      s:sql("truncate subscribers_restaurants; "
        .. "insert into subscribers_restaurants (client_id, restaurant_id) values ('c0', 'r')")
      local d = s:start()
      local script, path = {}, shell.temp(".expected")
      local file <close> = assert(io.open(path, "wb"))
      for i = 1, ROUNDS do
        script[#script + 1] = ("begin; insert into subscribers_restaurants (client_id, restaurant_id) "
          .. "values ('c%d', 'r'); delete from subscribers_restaurants where client_id = 'c%d'; commit;")
          :format(i, i - 1)
        script[#script + 1] = subscriptions.send { adv_campaign_id = "a" .. i, restaurant_id = "r" }
        file:write("a", i, " c", i, "\n")
        -- The script waits for each: none may see what comes after it.
        script[#script + 1] = ("call seen('a%d');"):format(i)
      end
      file:flush()
      s:sql([[create procedure seen(campaign text) language plpgsql as $$ begin
        for i in 1 .. 8000 loop
          exit when exists (select 1 from subscribers_feedback where adv_campaign_id = campaign);
          perform pg_sleep(0.005); -- poll
          commit;
        end loop; end $$]])
      subscriptions.start(s, script)(30 + ROUNDS / 10)
      s:wait_rows(ROUNDS)
      assert.equal(0, (d:stop()))
      local ok, report = s:compare(path, false)
      assert.is_true(ok, report)
    end)

    it("changes while campaigns run, and each output's subscriber was there meanwhile", function()
      feed(s, kind, { consistency = "strict" })
      s.promo.workers = 2
      s.promo.unit = { outputs = 100 }
      s.promo.linger = "0ms" -- a campaign that joined a unit would see the table as it was when the unit began
      s:subscribers(3, 20)
      subscriptions.remember(s)
      local d = s:start()
      local one = subscriptions.start(s, subscriptions.come_and_go("t", 5 * ROUNDS, 3, "a"))
      local two = subscriptions.start(s, subscriptions.come_and_go("u", 5 * ROUNDS, 3))
      shell.wait(60, "some campaigns to be sent", function() return s:count("sent") > ROUNDS / 8 end)
      s:sql("select pg_terminate_backend(pid) from (" .. subscriptions.FEED .. ") f")
      one(60 + ROUNDS / 5)
      two(60 + ROUNDS / 5)
      shell.wait(60, "the last campaign", function()
        return s:sql("select count(distinct adv_campaign_id) from subscribers_feedback") ==
          s:sql("select count(*) from sent")
      end)
      assert.equal(0, (d:stop()))
      local wrong, due = subscriptions.wrong(s)
      assert.same({}, wrong)
      assert.is_true(due > ROUNDS / 4, ("only %d of those that come and go were due: it shows nothing"):format(due))
    end)

    it("does not see what its feed was not told yet, unless consistency is strict", function()
      for i, consistency in ipairs { "eventual", "strict" } do
        feed(s, kind, { consistency = consistency })
        local d = s:start()
        local restaurant = "r " .. consistency
        local function subscribe(client)
          s:sql(("insert into subscribers_restaurants (client_id, restaurant_id) values ('%s', '%s')")
            :format(client, restaurant))
        end
        local function reached()
          return s:sql(("select string_agg(client_id, ' ' order by client_id) from subscribers_feedback "
            .. "where adv_campaign_id = '%s'"):format(consistency))
        end
        local function is_reached() return reached() ~= "" end
        subscribe("first")
        shell.wait(20, "the feed to tell the first", function() return d:metric("lookup_keys$") == 2 + i end)
        local resume = subscriptions.stop_feed(s)
        finally(resume)
        subscribe("second")
        s:produce { scene.campaign { adv_campaign_id = consistency, restaurant_id = restaurant } }
        if consistency == "strict" then
          assert.is_true(shell.never(1.5, is_reached))
        else
          shell.wait(20, "the campaign", is_reached)
          assert.equal("first", reached())
        end
        resume()
        shell.wait(20, "the campaign", is_reached)
        assert.equal(consistency == "strict" and "first second" or "first", reached())
        assert.equal(0, (d:stop()))
      end
    end)
  end)
end

describe("after any churn", function()
  local s
  before_each(function() s = scene.new() end)
  after_each(function() s:close() end)

  for _, kind in ipairs { "logical", "changelog", "reload 1s" } do
    it("campaigns reach those whom SELECT names, with " .. kind, function()
      local seed = tonumber(os.getenv("MILLRACE_LOOKUP_SEED")) or os.time()
      math.randomseed(seed)
      print(("%s: MILLRACE_LOOKUP_SEED=%d"):format(kind, seed))
      local reloads = kind:find("reload", 1, true)
      feed(s, kind, { consistency = not reloads and "strict" or nil })
      s:sql("create table expected (pair text)")
      s:subscribers(5, 50)
      local d = s:start()
      local sent = 0
      for _ = 1, math.max(ROUNDS // 40, 2) do
        local one = subscriptions.start(s, subscriptions.churn(math.random, 60, 5))
        if not reloads then s:sql("select pg_terminate_backend(pid) from (" .. subscriptions.FEED .. ") f") end
        one(60)
        -- Quiet, and the restaurants r1 to r5 get a campaign each.
        s:sql("insert into subscribers_restaurants (client_id, restaurant_id) "
          .. "select 'k0', 'r' || i from generate_series(1, 5) i")
        if reloads then
          local loads = d:metric("lookup_loads_total$")
          shell.wait(30, "two more loads", function() return d:metric("lookup_loads_total$") > loads + 1 end)
        end
        s:sql(([[
          insert into expected select 'a' || %d + i || ' ' || client_id from generate_series(1, 5) i
            join (select distinct client_id, restaurant_id from subscribers_restaurants) c
              on c.restaurant_id = 'r' || (%d + i - 1) %% 5 + 1]]):format(sent, sent))
        s:produce(s:campaigns(5, 5, sent + 1))
        sent = sent + 5
        s:wait_rows(s:count("expected"), 60)
      end
      assert.equal(0, (d:stop()))
      local path = shell.temp(".expected")
      shell.write(path, s:sql("select pair from expected") .. "\n")
      local ok, report = s:compare(path, false)
      assert.is_true(ok, report)
    end)
  end
end)
