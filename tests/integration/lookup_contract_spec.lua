-- What a lookup promises when its table is in doubt, and when there are several: re-reads that are held back, a bound
-- on staleness, lookups that pipelines share, composite keys, queries.
local scene = require "tests.support.scene"
local shell = require "tests.support.shell"

describe("a lookup that is read again", function()
  local s, d
  before_each(function()
    s = scene.new()
    s.config.lookups.subscribers.refresh = "reload 1s"
    d = s:start()
  end)
  after_each(function() s:close() end)

  local function rows() return d:metric("lookup_rows$") end
  local function held() return d:metric("lookup_held_back_total$") or 0 end
  local function wait_rows(n)
    shell.wait(20, function() return ("%d rows (there are %s): %s"):format(n, tostring(rows()), d:tail()) end,
      function() return rows() == n end)
  end

  it("and comes back empty keeps its rows until somebody says that they may go", function()
    s:sql("create table saved as table subscribers_restaurants; truncate subscribers_restaurants")
    shell.wait(20, "the re-read to be held back", function() return held() == 1 end)
    assert.equal(10, rows())
    s:produce { scene.campaign { adv_campaign_id = "held" } }
    s:wait_rows(8)
    assert.truthy(d:log():find("held back", 1, true))
    d:signal("USR1")
    wait_rows(0)
    s:produce { scene.campaign { adv_campaign_id = "gone" } }
    shell.wait(20, "the campaign to reach nobody", function()
      return d:metric("drop", 'reason="no_rows"') == 1
    end)
    s:sql("insert into subscribers_restaurants table saved")
    wait_rows(10)
    s:produce { scene.campaign { adv_campaign_id = "back" } }
    s:wait_rows(16)
    assert.equal(0, (d:stop()))
    assert.equal("back|8\nheld|8", s:by_campaign())
  end)

  it("may lose half of its rows, and no more", function()
    s:sql("delete from subscribers_restaurants where id in (select id from subscribers_restaurants limit 5)")
    wait_rows(5)
    assert.equal(0, held())
    s:sql("delete from subscribers_restaurants where id in (select id from subscribers_restaurants limit 3)")
    shell.wait(20, "the re-read to be held back", function() return held() == 1 end)
    assert.equal(5, rows())
    assert.equal(0, (d:stop()))
  end)
end)

describe("a lookup that does not hear from Postgres", function()
  local s
  before_each(function() s = scene.new() end)
  after_each(function() s:close() end)

  -- The lookup's role may not log in for a while; what the sinks need is another one's.
  local function start(on_stale)
    local lookup, role = s.config.lookups.subscribers, "reader_" .. s.id
    lookup.refresh, lookup.max_staleness, lookup.on_stale = "logical", "2s", on_stale
    s:init()
    s.initialised = true
    s:sql(("create role %s login replication; grant select on subscribers_restaurants to %s"):format(role, role))
    lookup.dsn = s.dsn:gsub("//millrace@", "//" .. role .. "@")
    local d = s:start()
    shell.wait(20, "the feed to follow", function() return d:metric("lookup_stale$") == 0 end)
    s:sql(("alter role %s nologin"):format(role))
    s:sql(("select pg_terminate_backend(pid) from pg_stat_activity where usename = '%s'"):format(role))
    shell.wait(20, "the table to be stale", function() return d:metric("lookup_stale$") == 1 end)
    s:produce { scene.campaign() }
    return d, function() s:sql(("alter role %s login"):format(role)) end
  end

  it("serves on, and says so", function()
    local d, resume = start "serve"
    s:wait_rows(8)
    assert.equal(1, d:metric("lookup_stale$"))
    resume()
    shell.wait(20, "the table to be fresh again", function() return d:metric("lookup_stale$") == 0 end)
    assert.equal(0, (d:stop()))
  end)

  it("takes no message when it is to pause, and goes on when it hears again", function()
    local d, resume = start "pause"
    assert.is_true(shell.never(2, function() return s:count() > 0 end))
    resume()
    s:wait_rows(8, 40)
    shell.wait(20, "the table to be fresh again", function() return d:metric("lookup_stale$") == 0 end)
    assert.equal(0, (d:stop()))
  end)

  it("ends in time while it pauses", function()
    local d = start "pause"
    local status, seconds = d:stop()
    assert.equal(0, status)
    assert.is_true(seconds < 12, ("it took %.1f s"):format(seconds))
    assert.equal(0, s:count())
  end)
end)

describe("several lookups", function()
  local s
  before_each(function() s = scene.new() end)
  after_each(function() s:close() end)

  -- One more pipeline on the same input, which writes (campaign, client) to a table of its own name.
  local function pipeline(name, lookup, key)
    local path = ("%s/%s.lua"):format(s.dir, name)
    shell.write(path, ([[
      local s = {}
      function s.key(msg) return %s end
      function s.project(msg, col) return { campaign = msg.adv_campaign_id, client = col.client_id } end
      return s]]):format(key))
    s:sql(("create table %s (campaign text, client text)"):format(name))
    s.config.pipelines[name] = {
      source = { topics = { s.topic_in }, group = s.id .. name, kafka = s.promo.source.kafka },
      lookup = lookup, script = path, sinks = { postgres = { dsn = s.dsn, table = name } },
      dead_letters = { table = "millrace_dead" }, workers = 2,
    }
  end
  local function got(name, campaign)
    return s:sql(("select coalesce(string_agg(client, ' ' order by client), '') from %s where campaign = '%s'")
      :format(name, campaign))
  end
  local function wait_got(name, campaign, wanted)
    shell.wait(30, function()
      return ("%s of %s in %s, not %s"):format(wanted, campaign, name, got(name, campaign))
    end, function() return got(name, campaign) == wanted end)
  end

  it("and one that pipelines share is read and held once", function()
    pipeline("other", "subscribers", "msg.restaurant_id")
    s.config.lookups.subscribers.refresh = "logical"
    s:subscribers(2, 3)
    local d = s:start()
    s:produce { scene.campaign { adv_campaign_id = "a", restaurant_id = "r1" } }
    wait_got("other", "a", "c1 c2 c3")
    s:wait_rows(3)
    s:sql("insert into subscribers_restaurants (client_id, restaurant_id) values ('c4', 'r1')")
    shell.wait(20, "the new row", function() return d:metric("lookup_rows$") == 7 end)
    s:produce { scene.campaign { adv_campaign_id = "b", restaurant_id = "r1" } }
    wait_got("other", "b", "c1 c2 c3 c4")
    s:wait_rows(7)
    -- Where the slot had to wait, the table was read plainly before.
    assert.equal(d:log():find("the replication slot waits", 1, true) and 2 or 1, d:metric("lookup_loads_total$"))
    assert.equal("1", s:sql("select count(*) from pg_replication_slots where database = current_database()"))
    assert.equal(0, (d:stop()))
    shell.wait(20, "the slot to be gone", function() -- with the walsender, which ends a moment later
      return s:sql("select count(*) from pg_replication_slots where database = current_database()") == "0"
    end)
  end)

  it("of a composite key, and of a query, live beside it", function()
    s:sql([[
      create table in_city (id serial primary key, restaurant_id text, city int, client_id text);
      insert into in_city (restaurant_id, city, client_id) values
        ('r1', 1, 'one'), ('r1', 2, 'two'), ('r2', 1, 'three'), (null, 1, 'nobody'), ('r1', null, 'nobody')]])
    s:subscribers(2, 3)
    s.config.lookups.subscribers.refresh = "logical"
    s.config.lookups.in_city = { dsn = s.dsn, table = "in_city", key = { "restaurant_id", "city" },
                                 columns = { "client_id" }, refresh = "logical" }
    s.config.lookups.odd = {
      dsn = s.dsn, key = "restaurant_id", refresh = "reload 1s",
      query = "select restaurant_id, client_id from subscribers_restaurants where right(client_id, 1)::int % 2 = 1",
    }
    pipeline("cities", "in_city", "{ restaurant_id = msg.restaurant_id, city = msg.city }")
    pipeline("odds", "odd", "msg.restaurant_id")
    local d = s:start()
    local function send(id, city)
      s:produce { (scene.campaign { adv_campaign_id = id, restaurant_id = "r1", city = city }) }
    end
    send("a", 1)
    wait_got("cities", "a", "one")
    wait_got("odds", "a", "c1 c3")
    s:wait_rows(3)
    local changes = d:metric("lookup_changes_total$", 'lookup="in_city"') or 0
    s:sql("begin; update in_city set city = 2 where client_id = 'one'; update in_city set city = 1 "
      .. "where client_id in ('two', 'nobody'); delete from in_city where client_id = 'three'; commit; "
      .. "insert into subscribers_restaurants (client_id, restaurant_id) values ('c5', 'r1')")
    shell.wait(20, "the changes", function()
      return d:metric("lookup_changes_total$", 'lookup="in_city"') > changes and
        d:metric("lookup_rows$", 'lookup="odd"') == 5
    end)
    send("b", 1)
    send("c", 2)
    wait_got("cities", "b", "nobody two")
    wait_got("cities", "c", "one")
    wait_got("odds", "b", "c1 c3 c5")
    assert.equal(0, (d:stop()))
  end)
end)
