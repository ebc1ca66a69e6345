-- check --connect and init against real services: what is there, what is missing, what is created.
local cjson = require "cjson"
local scene = require "tests.support.scene"
local shell = require "tests.support.shell"

describe("the commands", function()
  local s

  before_each(function() s = scene.new() end)
  after_each(function() s:close() end)

  --- where -> list of texts, of the findings that are well (true) or not (false).
  local function findings(well, ...)
    local status, out, err = s:cli("check", "--json", ...)
    assert.equal("", err)
    local found = {}
    for _, finding in ipairs(cjson.decode(out).findings) do
      if (finding.severity == "ok") == well then
        found[finding.where] = found[finding.where] or {}
        table.insert(found[finding.where], finding.message)
      end
    end
    return found, status, out
  end

  it("check --connect finds nothing wrong where nothing is, and changes nothing", function()
    s:init()
    local query = "select relname, relnatts from pg_class where relnamespace = 'public'::regnamespace order by 1"
    local tables = s:sql(query)
    local wrong, status, out = findings(false, "--connect")
    assert.same({}, wrong)
    assert.equal(0, status)
    local well = findings(true, "--connect")
    assert.truthy(well["lookups.subscribers"][1]:find("key restaurant_id [^;]*; columns client_id "), out)
    assert.truthy(well["pipelines.promo.source"][1]:find(s.topic_in, 1, true), out)
    assert.truthy(well["pipelines.promo.sinks.kafka"][1]:find(s.topic_out, 1, true), out)
    assert.is_true(#well["pipelines.promo.sinks.postgres"] > 0, out)
    assert.truthy(well["pipelines.promo.script"], out)
    assert.equal(tables, s:sql(query))
    assert.equal("0", s:sql("select count(*) from millrace_ledger"))
  end)

  it("check --connect says everything that is wrong at once", function()
    s:init()
    s.config.lookups.subscribers.columns = { "client" }
    s.promo.source.topics = { s.id .. "_none" }
    s.promo.sinks.postgres.table = "nowhere"
    local wrong, status, out = findings(false, "--connect")
    assert.equal(78, status, out)
    assert.truthy(wrong["lookups.subscribers"][1]:find("client", 1, true), out)
    assert.truthy(wrong["pipelines.promo.source"][1]:find(s.id .. "_none", 1, true), out)
    assert.truthy(wrong["pipelines.promo.sinks.postgres"][1]:find("nowhere", 1, true), out)
    assert.is_nil(wrong["pipelines.promo.sinks.kafka"], out)
  end)

  it("check --connect holds the record that the script makes against the real columns", function()
    s:init()
    local file <close> = assert(io.open("scripts/promo.lua"))
    local promo = file:read("a")
    local function wrong_with(pattern, replacement)
      local text, n = promo:gsub(pattern, replacement)
      assert.equal(1, n)
      s:script(text)
      local wrong, status, out = findings(false, "--connect")
      assert.equal(wrong["pipelines.promo.script"] and 78 or 0, status, out)
      return table.concat(wrong["pipelines.promo.script"] or {}, "\n")
    end
    assert.equal("", wrong_with("return promo%s*$", "return promo\n"))
    assert.matches("the table subscribers_feedback has no column 'fedback' %(did you mean 'feedback'%?%)",
      wrong_with('rec.feedback = ""', 'rec.fedback = ""'))
    assert.matches("row.restaurant_id is missing: the column is NOT NULL",
      wrong_with('rec.feedback = ""', 'rec.feedback = "" rec.restaurant_id = nil'))
    assert.matches("the row's adv_campaign_datetime_start is col.client_id, which is character varying; "
      .. "the column of the table subscribers_feedback is bigint and cannot take it",
      wrong_with('rec.feedback = ""', 'rec.feedback = "" rec.adv_campaign_datetime_start = rec.client_id'))
    assert.matches("the lookup 'subscribers' has no column 'clinet_id'",
      wrong_with("col%.client_id", "col.clinet_id"))
  end)

  it("check --connect asks for `millrace init` where it has not run", function()
    local wrong, status, out = findings(false, "--connect")
    assert.equal(78, status, out)
    assert.truthy(wrong["pipelines.promo.sinks.postgres"][1]:find("millrace init", 1, true), out)
  end)

  it("init --create-topics creates the topics that are missing and leaves the others", function()
    local topic_in, topic_out, dead = s.id .. "_new", s.topic_out, s.id .. "_dead"
    s.promo.source.topics = { topic_in }
    s.promo.dead_letters = { topic = dead }
    for _ = 1, 2 do
      local status, out, err = s:cli("init", "--create-topics", "--partitions", "3")
      assert.equal(0, status, err)
      assert.equal("", out)
    end
    local list = cjson.decode(shell.run { "kcat", "-b", os.getenv("KAFKA_BROKERS"), "-L", "-J" })
    local partitions = {}
    for _, topic in ipairs(list.topics) do partitions[topic.topic] = #topic.partitions end
    assert.equal(3, partitions[topic_in])
    assert.equal(3, partitions[dead])
    assert.equal(2, partitions[topic_out])
    local wrong = findings(false, "--connect")
    assert.same({}, wrong)
  end)

  it("init --print prints what init does", function()
    local status, sql = s:cli("init", "--print")
    assert.equal(0, status)
    local path = shell.temp(".sql")
    shell.write(path, sql)
    shell.run { "psql", "-qX", "-v", "ON_ERROR_STOP=1", s.dsn, "-f", path }
    local wrong = findings(false, "--connect")
    assert.same({}, wrong)
  end)
end)
