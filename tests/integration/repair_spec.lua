-- Each halt is produced for real; the command that its sentence names is taken out of the log, run as it stands, and
-- the daemon goes on. `millrace repair` by itself: what it refuses, and that --print changes nothing.
local cjson = require "cjson"
local daemon = require "tests.support.daemon"
local scene = require "tests.support.scene"
local shell = require "tests.support.shell"

describe("millrace repair", function()
  local s

  before_each(function()
    s = scene.new { partitions = 1 }
    s.promo.delivery = "exactly_once"
    s.promo.audit = { key = scene.code '{ "adv_campaign_id", "client_id" }', time = "trigger_datetime_created" }
    s:subscribers(1, 4)
  end)
  after_each(function() s:close() end)

  local function campaign(name)
    s:produce { scene.campaign { adv_campaign_id = name, restaurant_id = "r1" } }
  end

  -- Starts, sends each campaign when the one before is delivered (so that each is a unit), stops.
  local function deliver(...)
    local started = s:start()
    for _, name in ipairs { ... } do
      local before = s:count()
      campaign(name)
      s:wait_rows(before + 4)
    end
    assert.equal(0, (started:stop()))
  end

  -- Starts a daemon that must end with 65; gives the last error and the commands that it names.
  local function halted(...)
    local started = s:start { wait = false }
    assert.equal(65, started:wait_end(40), started:tail())
    local text
    for line in started:log():gmatch("[^\n]+") do
      local entry = cjson.decode(line)
      if entry.level == "error" then text = entry.message end
    end
    for _, part in ipairs { ... } do assert.truthy(text:find(part, 1, true), text) end
    local commands = {}
    for command in text:gmatch("run: (millrace repair [^;]*)") do
      commands[#commands + 1] = command:match "^(.-)%s*$"
    end
    assert.truthy(commands[1], text)
    return commands, text
  end

  -- Runs a command line as it stands; "millrace" is the program under test.
  local function run(command)
    local line = command:gsub("^millrace", function() return shell.quote(daemon.bin) end)
    local status, out, err = shell.try(line .. " -c " .. shell.quote(s:write_config()))
    return status, out, err
  end

  local function repaired(command)
    local status, out, err = run(command)
    assert.equal(0, status, out .. err)
    assert.truthy(err:find("done: start it again", 1, true), err)
    return out
  end

  -- "id rows" of each campaign in the table, and on the topic.
  local function rows() return (s:by_campaign():gsub("\n", " ")) end
  local function messages()
    local counts, list = {}, {}
    for _, message in ipairs(s:messages()) do
      counts[message.adv_campaign_id] = (counts[message.adv_campaign_id] or 0) + 1
    end
    for name, n in pairs(counts) do list[#list + 1] = name .. "|" .. n end
    table.sort(list)
    return table.concat(list, " ")
  end

  local function audit()
    local _, out, err = s:cli("audit", "--until", "2100-01-01", "--json")
    local report = cjson.decode(out == "" and error(err) or out)
    return { missing = report.missing, extra = report.extra, doubled = report.doubled }
  end
  local CLEAN = { missing = 0, extra = 0, doubled = 0 }

  -- Commits an offset as another program would; waits until the group is empty.
  local function set_offset(offset)
    shell.wait(30, "the group to be empty", function()
      return shell.try({ "/usr/bin/python3", "-c", [[
import os, sys
from confluent_kafka import Consumer, TopicPartition
c = Consumer({"bootstrap.servers": os.environ["KAFKA_BROKERS"], "group.id": sys.argv[1]})
c.commit(offsets=[TopicPartition(sys.argv[2], 0, int(sys.argv[3]))], asynchronous=False)
]], s.promo.source.group, s.topic_in, tostring(offset) }) == 0
    end)
  end

  local function delete_records(before)
    local path = s.dir .. "/delete.json"
    shell.write(path,
      cjson.encode { version = 1, partitions = { { topic = s.topic_in, partition = 0, offset = before } } })
    shell.run { "tests/support/kafka", "delete-records", path }
  end

  it("cures a Postgres that was restored from an older backup", function()
    deliver("a")
    s:sql [[create table kept_ledger as select * from millrace_ledger;
      create table kept_rows as select * from subscribers_feedback]]
    deliver("b", "c")
    s:sql [[truncate millrace_ledger; insert into millrace_ledger select * from kept_ledger;
      truncate subscribers_feedback; insert into subscribers_feedback select * from kept_rows;
      delete from millrace_redo]]
    local commands = halted("Kafka has unit 3 but the ledger only 1", "Postgres lost committed rows")
    assert.equal(("millrace repair promo --topic %s --partition 0 --take kafka"):format(s.topic_in), commands[1])
    local out = repaired(commands[1])
    assert.truthy(out:find("ledger: offset 1, unit 1 -> offset 3, unit 3", 1, true), out)
    deliver("d")
    assert.equal("a|4 d|4", rows())
    assert.equal("a|4 b|4 c|4 d|4", messages())
    assert.same({ missing = 0, extra = 8, doubled = 0 }, audit())
  end)

  it("cures offsets that were reset from outside, by the ledger or by obeying them", function()
    deliver("a", "b")
    set_offset(0)
    local commands = halted("was set to 0 from outside; the ledger stands at 2")
    assert.equal(2, #commands)
    assert.truthy(commands[1]:find("--take ledger", 1, true) and commands[2]:find("--take kafka", 1, true))
    local out = repaired(commands[1])
    assert.truthy(out:find("Kafka:  offset 0, set from outside -> offset 2, unit 2", 1, true), out)
    deliver("c")
    assert.equal("a|4 b|4 c|4", rows())
    assert.equal("a|4 b|4 c|4", messages())
    assert.same(CLEAN, audit())

    set_offset(1)
    commands = halted("was set to 1 from outside; the ledger stands at 3")
    repaired(commands[2])
    deliver()
    s:start()
    s:wait_rows(20)
    assert.equal("a|4 b|8 c|8", rows())
    assert.equal("a|4 b|8 c|8", messages())
  end)

  it("cures a topic that was deleted and made again", function()
    deliver("a", "b")
    shell.run { "tests/support/topics", "--delete", s.topic_in }
    shell.wait(20, "the topic to be made again", function()
      return shell.try { "tests/support/topics", s.topic_in .. ":1" } == 0
    end)
    local commands = halted("stands at 2 but the topic ends at 0", "deleted and made again")
    assert.truthy(commands[1]:find("--take earliest", 1, true))
    repaired(commands[1])
    deliver("c")
    assert.equal("a|4 b|4 c|4", rows())
    assert.same(CLEAN, audit())
  end)

  it("cures input that retention deleted unread", function()
    deliver("a")
    campaign("lost")
    campaign("kept")
    delete_records(2)
    local commands = halted("messages 1 to 1 were deleted by retention")
    repaired(commands[1])
    s:start()
    s:wait_rows(8)
    assert.equal("a|4 kept|4", rows())
    assert.equal("a|4 kept|4", messages())
    assert.same(CLEAN, audit())
  end)

  it("cures a group that is paired with another database", function()
    deliver("a")
    local other = s.id .. "_other"
    s:sql(("create database %s template promo"):format(other))
    local dsn = s.dsn
    s.dsn = dsn:gsub("/" .. s.id .. "%?", "/" .. other .. "?")
    assert.not_equal(dsn, s.dsn)
    s.promo.sinks.postgres.dsn, s.config.lookups.subscribers.dsn = s.dsn, s.dsn
    s:init()
    s:subscribers(1, 4)
    local commands = halted("the group's offset belongs to another database's ledger", "sinks.postgres.dsn")
    local out = repaired(commands[1])
    assert.truthy(out:find("ledger: no position -> offset 1, unit 1", 1, true), out)
    deliver("b")
    assert.equal("b|4", rows())
    assert.equal("a|4 b|4", messages())
  end)

  it("keeps the fan-out of a message that stays where it is", function()
    s:subscribers(1, 20000)
    s.promo.unit = { outputs = 50 }
    local started = s:start()
    campaign("big")
    s:wait_rows(2000)
    started:kill()
    assert.is_true(s:count() < 20000, "it was done before the kill")
    set_offset(0)
    local commands = halted("from outside; the ledger stands at 0")
    local out = repaired(commands[1])
    assert.is_nil(out:find("the fan-out in progress ends", 1, true), out)
    s:start()
    s:wait_rows(20000, 60)
    assert.equal("20000|20000", s:sql "select count(*), count(distinct client_id) from subscribers_feedback")
    -- The unit that was on its way when the process died is not sent again by this cure.
    local found = audit()
    assert.is_true(found.missing <= 500 and found.extra == 0 and found.doubled == 0, cjson.encode(found))
  end)

  it("goes on after what Kafka has of a fan-out that Postgres has lost", function()
    s:subscribers(1, 20000)
    s.promo.unit = { outputs = 50 }
    local started = s:start()
    campaign "big"
    s:wait_rows(1000)
    started:kill()
    s:sql [[create table kept_ledger as select * from millrace_ledger;
      create table kept_rows as select * from subscribers_feedback]]
    started = s:start()
    s:wait_rows(s:count() + 2000)
    assert.equal(0, (started:stop())) -- killed, it would leave a transaction that the old ledger does not know of
    assert.is_true(s:count() < 20000, "it was done before the kill")
    s:sql [[truncate millrace_ledger; insert into millrace_ledger select * from kept_ledger;
      truncate subscribers_feedback; insert into subscribers_feedback select * from kept_rows;
      delete from millrace_redo]]
    local commands = halted "Postgres lost committed rows"
    local out = repaired(commands[1])
    assert.truthy(out:find("the fan-out in progress goes on after what Kafka has of it", 1, true), out)
    s:start()
    local report
    shell.wait(60, "a message for everybody", function()
      local _, text, err = s:cli("audit", "--until", "2100-01-01", "--json")
      report = cjson.decode(text == "" and error(err) or text)
      return report.messages >= 20000
    end)
    assert.same({ 20000, 0, 0 }, { report.messages, report.missing, report.doubled })
    assert.is_true(report.extra > 0, cjson.encode(report))
  end)

  it("cures a pipeline without a database too", function()
    s.promo.sinks.postgres, s.promo.audit = nil, nil
    s.promo.dead_letters = { topic = s.id .. "_dead" }
    shell.run { "tests/support/topics", s.id .. "_dead:1" }
    s:start()
    campaign("a")
    shell.wait(30, "the messages", function() return #s:values() == 4 end)
    assert.equal(0, (s.daemons[1]:stop()))
    campaign("lost")
    campaign("kept")
    delete_records(2)
    local commands = halted("messages 1 to 1 were deleted by retention")
    repaired(commands[1])
    s:start()
    shell.wait(30, "the messages", function() return #s:values() == 8 end)
    assert.equal("a|4 kept|4", messages())
  end)

  it("says what it would do, and does nothing, with --print; all partitions with --all", function()
    deliver("a")
    local before = s:sql("select * from millrace_ledger")
    local status, out, err = run("millrace repair promo --all --take earliest --print")
    assert.equal(0, status, err)
    assert.truthy(out:find("ledger: offset 1, unit 1 -> offset 0, unit 1", 1, true), out)
    assert.truthy(err:find("nothing was changed", 1, true), err)
    assert.equal(before, s:sql("select * from millrace_ledger"))
    repaired("millrace repair --all --take earliest")
    assert.equal("0|1", s:sql("select next_offset, unit from millrace_ledger"))
    s:start()
    s:wait_rows(8)
    assert.equal("a|8", rows())
  end)

  it("is refused while the group is at work, and changes nothing", function()
    local started = s:start()
    campaign("a")
    s:wait_rows(4)
    local status, _, err = run("millrace repair promo --partition 0 --take earliest")
    assert.equal(75, status, err)
    assert.truthy(err:find("stop all processes of group", 1, true), err)
    -- Also where Postgres does not know the process: Kafka does.
    s:sql "update millrace_ledger set owner = 'somebody else'"
    status, _, err = run("millrace repair promo --partition 0 --take earliest")
    assert.equal(75, status, err)
    assert.truthy(err:find("still has members", 1, true), err)
    campaign("b")
    s:wait_rows(8)
    assert.equal(0, (started:stop()))
    assert.equal("a|4 b|4", rows())
  end)

  it("wants to know which partition, and which of the places is right", function()
    for command, text in pairs {
      ["promo --all"] = "--take: expected ledger, kafka or earliest",
      ["promo --take newest --all"] = "--take: expected ledger, kafka or earliest",
      ["promo --take ledger"] = "which partitions?",
      ["promo --take ledger --all --partition 0"] = "which partitions?",
      ["promo --take ledger --partition 7"] = "has the partitions 0 to 0",
      ["promo --take ledger --partition 0 --topic other"] = "reads no such topic",
      ["other --take ledger --all"] = 'there is no pipeline "other"',
    } do
      local status, _, err = run("millrace repair " .. command)
      assert.equal(64, status, command .. "\n" .. err)
      assert.truthy(err:find(text, 1, true), err)
    end
    s:init()
    for take, text in pairs { ledger = "the ledger has no position", kafka = "the group has no committed offset" } do
      local status, _, err = run("millrace repair promo --partition 0 --take " .. take)
      assert.equal(65, status, err)
      assert.truthy(err:find(text, 1, true), err)
    end
    assert.equal("0", s:sql("select count(*) from millrace_ledger"))
  end)
end)
