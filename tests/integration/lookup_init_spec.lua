-- What `millrace init` makes for a lookup's feed, what it leaves alone, and what `millrace check --connect` says of it.
local scene = require "tests.support.scene"
local shell = require "tests.support.shell"

describe("a lookup's feed", function()
  local s, lookup
  before_each(function()
    s = scene.new()
    lookup = s.config.lookups.subscribers
  end)
  after_each(function() s:close() end)

  -- What feeds need, as the database has it.
  local function made()
    return s:sql("select pubname, puballtables, pubinsert, pubupdate, pubdelete, pubtruncate from pg_publication")
      .. s:sql("select pg_get_triggerdef(oid), tgenabled from pg_trigger where not tgisinternal order by 1")
      .. s:sql("select pg_get_functiondef(oid), proacl from pg_proc where proname like '%_write'")
      .. s:sql("select a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, pg_get_expr(d.adbin, d.adrelid) "
        .. "from pg_attribute a left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum "
        .. "where a.attrelid = to_regclass('changes') and a.attnum > 0 order by a.attnum")
      .. s:sql("select pg_get_indexdef(indexrelid) from pg_index where indrelid = to_regclass('changes') order by 1")
  end

  local function triggers() return tonumber(s:sql("select count(*) from pg_trigger where not tgisinternal")) end

  it("is made by init: a publication, and triggers only where a change-log is named", function()
    local status, _, err = s:cli("init")
    assert.equal(0, status, err)
    assert.truthy(err:find("lookups.subscribers: publication millrace_subscribers made", 1, true), err)
    assert.truthy(err:find("lookups.subscribers: feed: logical", 1, true), err)
    assert.equal("millrace_subscribers", s:sql("select pubname from pg_publication_tables "
      .. "where tablename = 'subscribers_restaurants'"))
    assert.equal(0, triggers())
    lookup.changelog = "changes"
    status, _, err = s:cli("init")
    assert.equal(0, status, err)
    assert.truthy(err:find("publication millrace_subscribers was there", 1, true), err)
    assert.truthy(err:find("change-log changes made", 1, true), err)
    assert.equal(4, triggers())
    local first = made()
    status, _, err = s:cli("init")
    assert.equal(0, status, err)
    assert.truthy(err:find("change-log changes was there", 1, true), err)
    assert.equal(first, made())
  end)

  it("is the same when the printed SQL is run by psql", function()
    lookup.changelog = "changes"
    local status, sql, err = s:cli("init", "--print")
    assert.equal(0, status, err)
    assert.truthy(sql:find("-- for lookups.subscribers", 1, true), sql)
    assert.equal(0, triggers())
    local path = shell.temp(".sql")
    shell.write(path, sql)
    for _ = 1, 2 do -- and again
      shell.run { "psql", "-qX", "-v", "ON_ERROR_STOP=1", s.dsn, "-f", path }
    end
    local printed = made()
    assert.equal(4, triggers())
    s:sql("drop table changes cascade; drop function changes_write cascade; drop publication millrace_subscribers")
    s:init()
    assert.equal(made(), printed)
    s:init()
    assert.equal(made(), printed)
  end)

  it("is not made where it would break the application", function()
    s:sql("alter table subscribers_restaurants drop constraint subscribers_restaurants_pkey")
    local status, _, err = s:cli("init")
    assert.equal(0, status, err) -- there is a feed that works
    assert.truthy(err:find("no replica identity", 1, true), err)
    assert.truthy(err:find("feed: reload", 1, true), err)
    s:sql("delete from subscribers_restaurants where id = 1")
    lookup.refresh = "logical"
    status, _, err = s:cli("init")
    assert.equal(78, status, err)
    assert.truthy(err:find('refresh = "logical" is not possible', 1, true), err)
  end)

  it("is told by check --connect, with what a better one lacks", function()
    s:init()
    local status, out, err = s:cli("check", "--connect")
    assert.equal(0, status, out .. err)
    assert.truthy(out:find("lookups.subscribers: feed: logical", 1, true), out)
    s:sql("drop publication millrace_subscribers")
    status, out, err = s:cli("check", "--connect")
    assert.equal(0, status, out .. err)
    assert.truthy(out:find("feed: reload", 1, true), out)
    assert.truthy(out:find("there is no publication millrace_subscribers: run `millrace init`", 1, true), out)
    lookup.refresh = "logical"
    status, out, err = s:cli("check", "--connect")
    assert.equal(78, status, out .. err)
    assert.truthy(err:find('refresh = "logical" is not possible', 1, true), err)
  end)

  it("has a change-log of its own", function()
    lookup.changelog = "changes"
    s.config.lookups.second = { dsn = s.dsn, table = "subscribers_restaurants", key = "client_id",
                                  changelog = "changes" }
    for _, words in ipairs { { "init" }, { "check", "--connect" } } do
      local status, out, err = s:cli(table.unpack(words))
      assert.equal(78, status, out .. err)
      assert.truthy(err:find("has the same `changelog`: give each its own", 1, true), err)
    end
    s.config.lookups.second.changelog = "changes_too"
    local status, _, err = s:cli("init")
    assert.equal(0, status, err)
    assert.equal(8, triggers())
  end)

  it("is followed by a daemon whose role owns nothing", function()
    local role = s.id .. "_daemon"
    s:init()
    lookup.changelog = "changes"
    lookup.refresh = "changelog"
    s:init()
    s:sql(("create role %s login; grant select on subscribers_restaurants to %s; grant select, delete on changes to %s")
      :format(role, role, role))
    lookup.dsn = s.dsn:gsub("//millrace@", "//" .. role .. "@")
    s:subscribers(1, 3)
    local d = s:start { init = false }
    s:sql("insert into subscribers_restaurants (client_id, restaurant_id) "
      .. "select 'new', restaurant_id from subscribers_restaurants limit 1")
    shell.wait(20, "the row that was inserted is there", function()
      local _, body = d:get("/metrics")
      return body:match("\nmillrace_lookup_rows{[^}]*} (%d+)") == "4"
    end)
    assert.equal(0, (d:stop()))
  end)
end)
