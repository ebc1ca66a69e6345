-- Subscriptions that change while campaigns are sent: SQL and campaigns in one stream, so that a campaign is in Kafka
-- a moment after the COMMIT before it; and what the outputs must then be, told by Postgres's own clock.
local daemon = require "tests.support.daemon"
local scene = require "tests.support.scene"
local shell = require "tests.support.shell"

local subscriptions = {}

local PRODUCE = os.getenv("MILLRACE_PRODUCE") or daemon.bin:gsub("[^/]*$", "tests/produce")

--- SQL: the server's processes that serve the feed of the table subscribers_restaurants.
subscriptions.FEED = "select pid from pg_stat_replication union select pid from pg_stat_activity where "
  .. "pid <> pg_backend_pid() and datname = current_database() and application_name like 'millrace%' "
  .. "and query ilike '%subscribers_changes%'"

--- Stops them (they stay connected and say nothing) until the function that it gives is called.
function subscriptions.stop_feed(s)
  local pids = s:sql(subscriptions.FEED):gsub("%s+", " ")
  assert(pids ~= "", "nothing serves the feed")
  shell.run("kill -STOP " .. pids)
  return function() shell.try("kill -CONT " .. pids) end
end

--- A line of a script: sends this campaign when the statements before it are committed.
function subscriptions.send(changes)
  return ("select E'k\\t' || $json$%s$json$;"):format(scene.campaign(changes))
end

--- Starts a script: a list of statements, run one after the other; what they select goes to the input topic, line by
--- line, at once. Gives a function that waits for its end.
function subscriptions.start(s, statements)
  local name = "script-" .. shell.serial()
  local path = shell.temp(".sql")
  shell.write(path, table.concat(statements, "\n") .. "\n")
  shell.run { "tests/support/spawn", name, "bash", "-c", [[
    set -o pipefail
    psql -qXAt -v ON_ERROR_STOP=1 "$1" -f "$2" | "$4" "$KAFKA_BROKERS" "$3"]], name, s.dsn, path, s.topic_in, PRODUCE }
  return function(seconds)
    local status
    shell.wait(seconds or 60, "the statements to be through", function()
      status = shell.read(("%s/exits/%s"):format(shell.run_dir(), name))
      return status
    end)
    assert(tonumber(status) == 0, shell.read(("%s/logs/%s.log"):format(shell.run_dir(), name)))
  end
end

--- Tables that remember when a subscription was there, and when a campaign was sent.
function subscriptions.remember(s)
  s:sql([[
    create table was (client text primary key, restaurant text, committed timestamptz default clock_timestamp(),
                      delete_began timestamptz, deleted timestamptz);
    create table sent (campaign text primary key, restaurant text, at timestamptz default clock_timestamp())]])
end

--- The statements of `n` subscriptions to r1 .. r<restaurants> that come and go, each tenth followed by a campaign if
--- `campaign` is given (a prefix of their names). Half of them stay for five more, the others for half of the run.
function subscriptions.come_and_go(prefix, n, restaurants, campaign)
  local out = { "set synchronous_commit = off;" }
  local function add(...) out[#out + 1] = (...):format(select(2, ...)) end
  local function leave(j)
    local client = prefix .. j
    add("update was set delete_began = clock_timestamp() where client = '%s';", client)
    add("delete from subscribers_restaurants where client_id = '%s';", client)
    add("update was set deleted = clock_timestamp() where client = '%s';", client)
  end
  for j = 1, n do
    local client, restaurant = prefix .. j, "r" .. j % restaurants + 1
    add("insert into subscribers_restaurants (client_id, restaurant_id) values ('%s', '%s');", client, restaurant)
    add("insert into was (client, restaurant) values ('%s', '%s');", client, restaurant)
    if j > 5 and j % 2 == 0 then leave(j - 5) end -- the odd ones
    if j > n // 2 and j % 2 == 0 then leave(j - n // 2 - (n // 2) % 2) end -- the even ones
    if campaign and j % 10 == 0 then
      local id, at = campaign .. j // 10, "r" .. j // 10 % restaurants + 1
      add("insert into sent values ('%s', '%s');", id, at)
      out[#out + 1] = subscriptions.send { adv_campaign_id = id, restaurant_id = at }
    end
  end
  return out
end

--- `n` random transactions on the subscriptions of r1 .. r<restaurants>: they come, move, are doubled, leave, all or
--- some of them; some are rolled back. Never so many that a re-read would be held back. `random` as math.random.
function subscriptions.churn(random, n, restaurants)
  local out = { "set synchronous_commit = off; set lock_timeout = '5s';" }
  local function restaurant() return "r" .. random(restaurants) end
  local function client() return "k" .. random(200) end
  local changes = {
    function()
      return ("insert into subscribers_restaurants (client_id, restaurant_id) select 'k' || (i * 7919 %% 200), '%s' "
        .. "from generate_series(%d, %d) i;"):format(restaurant(), random(100), 100 + random(20))
    end,
    function()
      return ("insert into subscribers_restaurants (client_id, restaurant_id) select client_id, restaurant_id "
        .. "from subscribers_restaurants where client_id = '%s';"):format(client())
    end,
    function()
      return ("update subscribers_restaurants set restaurant_id = '%s' where client_id = '%s';")
        :format(restaurant(), client())
    end,
    function()
      return ("update subscribers_restaurants set client_id = '%s' where client_id = '%s' and restaurant_id = '%s';")
        :format(client(), client(), restaurant())
    end,
    function() return ("delete from subscribers_restaurants where client_id = '%s';"):format(client()) end,
    function()
      return ("delete from subscribers_restaurants where id in (select min(id) from subscribers_restaurants "
        .. "group by client_id, restaurant_id having count(*) > %d limit 10);"):format(random(3))
    end,
  }
  for _ = 1, n do
    out[#out + 1] = "begin;"
    for _ = 1, random(4) do out[#out + 1] = changes[random(#changes)]() end
    if random(4) == 1 then
      out[#out + 1] = "savepoint s; " .. changes[random(#changes)]() .. " rollback to s;"
    end
    out[#out + 1] = random(6) == 1 and "rollback;" or "commit;"
  end
  return out
end

--- What is wrong with the outputs, as a list of texts; how many of the subscriptions that come and go were due.
--- A campaign saw the table at some moment between when it was sent and the second of its trigger time.
function subscriptions.wrong(s)
  local wrong = {}
  local function look(what, query)
    local n = s:sql("select count(*) from (" .. query .. ") q")
    if n ~= "0" then
      wrong[#wrong + 1] = ("%s %s, such as %s"):format(n, what, s:sql("select * from (" .. query .. ") q limit 1"))
    end
  end
  s:sql([[
    drop view if exists must; drop view if exists seen;
    create view seen as select adv_campaign_id as campaign, client_id as client,
      to_timestamp(trigger_datetime_created + 1) as until from subscribers_feedback;
    create view must as
      select a.campaign, w.client, true as came from sent a join was w using (restaurant)
        join (select campaign, max(until) as until from seen group by 1) t using (campaign)
        where w.committed <= a.at and coalesce(w.delete_began, 'infinity') >= t.until
      union all select a.campaign, c.client_id, false from sent a join subscribers_restaurants c
        on c.restaurant_id = a.restaurant where c.client_id not in (select client from was)]])
  look("campaigns have no output", "select campaign from sent where campaign not in (select campaign from seen)")
  look("outputs came twice", "select campaign, client from seen group by 1, 2 having count(*) > 1")
  look("subscribers were there all the time and got nothing",
    "select campaign, client from must except select campaign, client from seen")
  look("outputs are for somebody who had left before the campaign was sent",
    "select s.campaign, s.client, w.deleted, a.at from seen s join sent a using (campaign) "
    .. "join was w using (client) where w.deleted < a.at")
  look("outputs are for somebody who never was there",
    "select s.campaign, s.client from seen s join sent a using (campaign) where not exists (select 1 from was w "
    .. "where w.client = s.client and w.restaurant = a.restaurant) and not exists (select 1 from "
    .. "subscribers_restaurants c where c.client_id = s.client and c.restaurant_id = a.restaurant)")
  -- Both sinks hold the same: the topic is compared with the rows.
  local path = shell.temp(".expected")
  shell.write(path, s:sql("select distinct campaign || ' ' || client from seen") .. "\n")
  local ok, report = s:compare(path, false)
  if not ok then wrong[#wrong + 1] = report end
  return wrong, tonumber(s:sql("select count(*) from must where came"))
end

return subscriptions
