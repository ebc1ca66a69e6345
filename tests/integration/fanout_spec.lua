-- One campaign for more subscribers than fit into a unit: once for everybody, with one trigger time, in bounded memory,
-- whatever dies and whoever comes and goes meanwhile; the others are served. MILLRACE_FANOUT=1000000 for as many.
local daemon = require "tests.support.daemon"
local scene = require "tests.support.scene"
local shell = require "tests.support.shell"

local N = tonumber(os.getenv("MILLRACE_FANOUT")) or 100000
local MEMORY_MB = daemon.bin:find("/release/", 1, true) and 64 or 2048 -- sanitizers keep what was freed
local LONG = 60 + N / 2000 -- seconds, for all of it on a busy machine

describe(("one campaign for %d subscribers"):format(N), function()
  local s
  before_each(function()
    s = scene.new { partitions = 4 }
    -- Names that sort as their numbers do: c00000001 ... are the order of the fan-out.
    s:sql(("truncate subscribers_restaurants; insert into subscribers_restaurants (client_id, restaurant_id) "
      .. "select 'c' || lpad(c::text, 8, '0'), 'big' from generate_series(1, %d) c; "
      .. "insert into subscribers_restaurants (client_id, restaurant_id) "
      .. "select 's' || c, 'small' from generate_series(1, 5) c"):format(N))
  end)
  after_each(function() s:close() end)

  local function client(i) return ("c%08d"):format(i) end

  local function start(instance)
    return s:start { env = { MILLRACE_INSTANCE = instance }, wait = false }
  end

  local function send(restaurant, partition)
    s:produce { { value = scene.campaign { adv_campaign_id = restaurant, restaurant_id = restaurant },
                  partition = partition } }
  end

  local function rows(campaign)
    return tonumber(s:sql(("select count(*) from subscribers_feedback where adv_campaign_id = '%s'"):format(campaign)))
  end

  local function half_done()
    local done = rows("big")
    assert.is_true(done > 0 and done < N, ("%d rows are done: not in the middle"):format(done))
  end

  -- Everybody but those in `without`, and those in `with`; one trigger time.
  local function check(with, without)
    local path = shell.temp(".expected")
    local file <close> = assert(io.open(path, "wb"))
    for i = 1, N do
      if not without[client(i)] then file:write("big ", client(i), "\n") end
    end
    for _, line in ipairs(with) do file:write(line, "\n") end
    file:flush()
    local ok, report = s:compare(path, false)
    os.remove(path)
    assert.is_true(ok, report)
    assert.equal("1", s:sql("select count(distinct trigger_datetime_created) from subscribers_feedback "
      .. "where adv_campaign_id = 'big'"))
    assert.equal(0, s:count("millrace_dead"))
  end

  it("reaches each once over three kills; one who comes or goes meanwhile at most once", function()
    s:let_rows_be_held()
    s.config.lookups.subscribers.refresh = "reload 1s"
    s.promo.source.static_membership = true
    s.promo.unit = { outputs = N // 500 } -- many: each step here comes in the middle
    local d = start("one")
    d:wait_ready(LONG)
    send("big", 0)
    s:wait_rows(N // 10, LONG)
    -- Held where it is until the new table is in use: two come and two go, one before and one behind the cursor.
    local release = s:hold_rows()
    half_done()
    s:sql(("insert into subscribers_restaurants (client_id, restaurant_id) "
      .. "values ('c00000000', 'big'), ('c99999998', 'big'), ('c99999999', 'big'); "
      .. "delete from subscribers_restaurants where client_id in ('%s', '%s')"):format(client(1), client(N)))
    shell.wait(LONG, "the lookup to be loaded again", function() return d:metric("lookup_rows$") == N + 6 end)
    release()
    for _, tenths in ipairs { 2, 4, 6 } do
      s:wait_rows(N * tenths // 10, LONG)
      d:kill()
      half_done()
      d = start("one")
    end
    s:wait_rows(N + 1, LONG)
    assert.equal(0, (d:stop()))
    check({ "big c99999998", "big c99999999" }, { [client(N)] = true })
  end)

  it("lets the group and the other partitions be served before it is done", function()
    s.promo.workers = 2
    s.promo.unit = { outputs = N // 1000 }
    local one = start("one")
    one:wait_ready(LONG)
    local other = tonumber(s:sql("select min(part) from millrace_ledger "
      .. "where owner <> (select owner from millrace_ledger where part = 0)"))
    send("big", 0)
    s:wait_rows(1, LONG)
    send("small", other)
    shell.wait(LONG, "the small campaign", function() return rows("small") == 5 end)
    half_done()
    local two = start("two")
    shell.wait(LONG, "the second process to have partitions", function()
      return s:sql("select count(*) from millrace_ledger where owner like '%.two.%'") ~= "0"
    end)
    half_done()
    s:wait_rows(N + 5, LONG)
    assert.equal(0, (one:stop()))
    assert.equal(0, (two:stop()))
    check({ "small s1", "small s2", "small s3", "small s4", "small s5" }, {})
  end)

  it(("takes less than %d MB beside the lookup"):format(MEMORY_MB), function()
    local d = start("one")
    d:wait_ready(LONG)
    local function mb(field)
      local status = shell.read(("/proc/%d/status"):format(d.pid))
      return tonumber(status:match(field .. ":%s*(%d+) kB")) / 1024
    end
    local loaded = mb("VmRSS")
    local peak_before = mb("VmHWM")
    local since = shell.monotime()
    send("big", 0)
    s:wait_rows(N, LONG)
    local seconds, peak = shell.monotime() - since, mb("VmHWM")
    print(("%d subscribers: %.1f s, %.0f MB when the lookup was loaded (peak until then %.0f), peak %.0f MB")
      :format(N, seconds, loaded, peak_before, peak))
    assert.equal(0, (d:stop()))
    assert.is_true(peak - loaded < MEMORY_MB, ("%.0f MB more than the lookup"):format(peak - loaded))
    check({}, {})
  end)
end)
