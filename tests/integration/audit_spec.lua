-- millrace audit: both sinks of a pipeline compared; every way in which they can differ is found and named.
local cjson = require "cjson"
local scene = require "tests.support.scene"
local shell = require "tests.support.shell"

describe("millrace audit", function()
  local s

  before_each(function()
    s = scene.new { partitions = 1 }
    s.promo.audit = { key = scene.code '{ "adv_campaign_id", client_id = "client_id" }',
                      compare = scene.code '{ "adv_campaign_content", "datetime_created" }',
                      time = "trigger_datetime_created" }
  end)
  after_each(function() s:close() end)

  -- Status, stdout, stderr; everything, also what was made a moment ago.
  local function audit(...)
    return s:cli("audit", "--until", "2100-01-01", ...)
  end

  local function found(...)
    local status, out, err = audit("--json", ...)
    assert.truthy(status == 0 or status == 1, err)
    return cjson.decode(out), status
  end

  -- Runs the pipeline over campaigns a1..an for 4 clients; 4n outputs.
  local function run(n)
    s:subscribers(1, 4)
    local d = s:start()
    s:produce(s:campaigns(n, 1))
    s:wait_rows(4 * n)
    assert.equal(0, (d:stop()))
  end

  -- Sends messages to the output topic as somebody else would.
  local function send(messages)
    local topic = s.topic_in
    s.topic_in = s.topic_out
    s:produce(messages)
    s.topic_in = topic
  end

  -- The counts that are not 0.
  local function faults(report)
    local list = {}
    for _, kind in ipairs { "missing", "extra", "differing", "doubled", "unreadable" } do
      if report[kind] > 0 then list[#list + 1] = ("%s %d"):format(kind, report[kind]) end
    end
    return table.concat(list, ", ")
  end

  it("finds nothing where there is nothing, and exits 0", function()
    run(10)
    local status, out, err = audit()
    assert.equal(0, status, out .. err)
    assert.truthy(out:find("promo: 40 messages, 40 rows, 0 missing, 0 extra, 0 differing, 0 doubled", 1, true), out)
    local report = found("promo")
    assert.is_true(report.equal)
    assert.same({}, report.examples)
    assert.equal(s.topic_out, report.topic)
  end)

  it("finds and names each kind of difference, and exits 1", function()
    run(5)
    s:sql("delete from subscribers_feedback where adv_campaign_id = 'a1' and client_id = 'c1'")
    s:sql("update subscribers_feedback set datetime_created = 7 where adv_campaign_id = 'a2' and client_id = 'c2'")
    s:sql("insert into subscribers_feedback select nextval('subscribers_feedback_id_seq'), restaurant_id, 'foreign', "
      .. "adv_campaign_content, adv_campaign_owner, adv_campaign_owner_contact, adv_campaign_datetime_start, "
      .. "adv_campaign_datetime_end, datetime_created, client_id, trigger_datetime_created, feedback "
      .. "from subscribers_feedback where adv_campaign_id = 'a3' and client_id = 'c3'")
    local doubled
    for _, value in ipairs(s:values()) do
      local message = cjson.decode(value)
      if message.adv_campaign_id == "a4" and message.client_id == "c4" then doubled = value end
    end
    send { { value = doubled, partition = 1 }, "no json",
           '{"adv_campaign_id": "a9", "trigger_datetime_created": "soon"}',
           '{"adv_campaign_id": "a9", "client_id": "nobody", "trigger_datetime_created": 1700000000}' }
    local report, status = found()
    assert.equal(1, status)
    assert.is_false(report.equal)
    assert.equal("missing 1, extra 2, differing 1, doubled 1, unreadable 2", faults(report))
    local by = {}
    for _, example in ipairs(report.examples) do
      by[example.kind] = by[example.kind] or {}
      table.insert(by[example.kind], example)
    end
    assert.same({ adv_campaign_id = "foreign", client_id = "c3" }, by.missing[1].key)
    assert.same({ adv_campaign_id = "a1", client_id = "c1" }, by.extra[1].key)
    assert.same({ adv_campaign_id = "a9", client_id = "nobody" }, by.extra[2].key)
    assert.same({ adv_campaign_id = "a2", client_id = "c2" }, by.differing[1].key)
    assert.equal("7", by.differing[1].row.datetime_created)
    assert.is_nil(by.differing[1].row.adv_campaign_content)
    assert.same({ adv_campaign_id = "a4", client_id = "c4" }, by.doubled[1].key)
    assert.same({ 2, 1 }, { by.doubled[1].messages, by.doubled[1].rows })
    local whys = by.unreadable[1].why .. by.unreadable[2].why
    assert.truthy(whys:find("not JSON", 1, true), whys)
    assert.truthy(whys:find("trigger_datetime_created is not of type integer, as column "
      .. "trigger_datetime_created is: soon", 1, true), whys)
    local code, text = audit()
    assert.equal(1, code)
    assert.truthy(text:find("missing: rows without a message\n  adv_campaign_id=foreign client_id=c3\n", 1, true), text)
    assert.truthy(text:find("datetime_created is %d+ in the message, 7 in the row"), text)
    assert.truthy(text:find("client_id=c4: 2 messages, 1 row (", 1, true), text)
  end)

  it("counts a doubled row as well, and a pair that is doubled in both as none", function()
    run(2)
    local copy = "insert into subscribers_feedback select nextval('subscribers_feedback_id_seq'), restaurant_id, "
      .. "adv_campaign_id, adv_campaign_content, adv_campaign_owner, adv_campaign_owner_contact, "
      .. "adv_campaign_datetime_start, adv_campaign_datetime_end, datetime_created, client_id, "
      .. "trigger_datetime_created, feedback from subscribers_feedback "
      .. "where adv_campaign_id = 'a1' and client_id = 'c1'"
    s:sql(copy)
    local report, status = found()
    assert.equal("doubled 1", faults(report))
    assert.equal(1, status)
    for _, value in ipairs(s:values()) do
      local message = cjson.decode(value)
      if message.adv_campaign_id == "a1" and message.client_id == "c1" then send { value } end
    end
    report, status = found()
    assert.equal("", faults(report))
    assert.equal(0, status)
    assert.equal(1, report.repeated)
  end)

  it("does not see messages of an aborted transaction", function()
    run(1)
    shell.run({ "/usr/bin/python3", "-c", [[
import os, sys
from confluent_kafka import Producer
p = Producer({"bootstrap.servers": os.environ["KAFKA_BROKERS"], "transactional.id": sys.argv[1]})
p.init_transactions(30)
p.begin_transaction()
for i in range(100):
    p.produce(sys.argv[1], value='{"adv_campaign_id": "ghost", "client_id": "c%d"}' % i)
p.flush()
p.abort_transaction(30)
]], s.topic_out })
    local report, status = found()
    assert.equal("", faults(report))
    assert.equal(0, status)
    assert.equal(4, report.messages)
  end)

  it("compares values as Postgres sees them: uuids, numbers, times, null", function()
    s:sql([[create table typed (id uuid, amount numeric(10,2), n int8, at timestamptz, on_day date, yes bool, doc jsonb,
      word varchar(20));
      insert into typed values ('123e4567-e89b-12d3-a456-426614174000', 1, 2, '2026-11-22 10:00+00', '2026-11-22', true,
      '{"a": 1, "b": [1.0]}', null), ('223e4567-e89b-12d3-a456-426614174000', 1.5, null, '2026-11-22 12:00+02',
      null, null, null, 'x	y\z')]])
    s.promo.sinks.postgres.table = "typed"
    s.promo.audit = { key = { ["who.id"] = "id" }, time = "at", time_field = "t",
      compare = scene.code '{ "amount", "n", "on_day", "yes", "doc", ["@key"] = "word" }' }
    send { { key = "", value = '{"who": {"id": "123E4567-E89B-12D3-A456-426614174000"}, "amount": 1.0, "n": 2.0, '
        .. '"t": "2026-11-22T13:00:00+03:00", "on_day": "2026-11-22", "yes": true, "doc": {"b": [1], "a": 1}}' } }
    local report = found("--since", "2026-11-22T09:00:00Z")
    assert.equal("missing 1, differing 1", faults(report)) -- the key is "" and not null: kcat
    assert.same({ word = "" }, report.examples[2].message)
    assert.same({ word = cjson.null }, report.examples[2].row)
    s:sql("update typed set word = '' where word is null")
    send { { key = "x", value = '{"who": {"id": "223e4567-e89b-12d3-a456-426614174000"}, "amount": "1.50", "n": null, '
        .. '"t": "2026-11-22T10:00:00Z"}' } }
    report = found()
    assert.equal("differing 1", faults(report))
    assert.same({ word = "x" }, report.examples[1].message)
    assert.equal(0, found("--since", "2026-11-22T10:00:01Z").rows)
  end)

  it("goes by a range of time, by default up to a few seconds ago", function()
    run(1)
    s:sql("delete from subscribers_feedback where client_id = 'c1'")
    assert.equal("extra 1", faults(found("--since", "1h")))
    assert.equal("", faults(found("--since", "2090-01-01")))
    local status, out = s:cli("audit", "--since", "1h", "--until", "30m", "--json")
    assert.equal(0, status, out)
    assert.equal(0, cjson.decode(out).messages)
  end)

  it("leaves out what is made now, until it has settled", function()
    s:init()
    local message = '{"adv_campaign_id": "a", "client_id": "c", "trigger_datetime_created": %d}'
    send { message:format(os.time() + 100) }
    local status, out, err = s:cli("audit")
    assert.equal(0, status, out .. err)
    assert.equal("extra 1", faults(found()))
    send { message:format(os.time() - 60) }
    status, out = s:cli("audit")
    assert.equal(1, status)
    assert.truthy(out:find("promo: 1 messages, 0 rows, 0 missing, 1 extra", 1, true), out)
  end)

  it("goes by Kafka's timestamps where messages have no time", function()
    run(2)
    s.promo.audit.time_field = "@timestamp"
    assert.equal("", faults(found("--since", "1h")))
    s:sql("delete from subscribers_feedback where client_id = 'c1'")
    assert.equal("extra 2", faults(found("--since", "1h")))
    assert.equal("", faults(found("--since", "2090-01-01")))
  end)

  it("says what is missing or wrong, with the exit code for it", function()
    local status, _, err = s:cli("audit", "promos")
    assert.equal(64, status)
    assert.truthy(err:find('there is no pipeline "promos"; there are: promo', 1, true), err)
    status, _, err = s:cli("audit", "--since", "noonish")
    assert.equal(64, status)
    assert.truthy(err:find('--since: "noonish" is no time', 1, true), err)
    s.promo.audit.compare = scene.code '{ "no_such_column" }'
    status, _, err = s:cli("audit")
    assert.equal(78, status)
    assert.truthy(err:find('has no column "no_such_column"', 1, true), err)
    s.promo.audit = nil
    status, _, err = s:cli("audit")
    assert.equal(78, status)
    assert.truthy(err:find("pipelines.promo has no `audit`", 1, true), err)
  end)

  it("says which right is missing", function()
    local role = s.id .. "_reader"
    s:sql(("create role %s login password 'x'; grant select on subscribers_feedback to %s; "
      .. "revoke temporary on database %s from public"):format(role, role, s.id))
    s.promo.sinks.postgres.dsn = s.dsn:gsub("//millrace@", "//" .. role .. "@")
    local status, _, err = shell.try({ require("tests.support.daemon").bin, "audit", "-c", s:write_config() },
      { env = { PGPASSWORD = "x" } })
    assert.equal(78, status, err)
    assert.truthy(err:find("grant temporary on database", 1, true), err)
  end)
end)
