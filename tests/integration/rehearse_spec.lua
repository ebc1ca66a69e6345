-- A new script is rehearsed over the last messages before a reload takes it: what differs is told, and
-- reload.block_if keeps the old one. millrace try --against-live asks the running daemon for the same.
local cjson = require "cjson"
local scene = require "tests.support.scene"
local shell = require "tests.support.shell"

local PROMO = shell.read("scripts/promo.lua")

--- The example with one place replaced.
local function promo(from, to)
  local at, stop = PROMO:find(from, 1, true)
  assert(at, "scripts/promo.lua has changed: " .. from)
  return PROMO:sub(1, at - 1) .. to .. PROMO:sub(stop + 1)
end

local SAME = promo("return promo", "-- the same\nreturn promo")
local OTHER_VALUE = promo("adv_campaign_content = msg.adv_campaign_content,",
  'adv_campaign_content = "<" .. msg.adv_campaign_content .. ">",')
local RAISES = promo("function promo.key(msg)\n",
  'function promo.key(msg)\n  if msg.adv_campaign_id == "a2" then error("no a2") end\n')
local DROPS = promo("return true\n", 'return msg.adv_campaign_id ~= "a1", "not a1"\n')
local TOO_WIDE = promo('rec.feedback = ""', 'rec.trigger_datetime_created = "soon"')

describe("a rehearsal", function()
  local s, d, script

  before_each(function()
    s = scene.new()
    script = s.dir .. "/script.lua"
    s:script(PROMO)
    s:subscribers(2, 5)
  end)
  after_each(function() s:close() end)

  --- Four campaigns with five subscribers each have gone through.
  local function start()
    d = s:start()
    s:feed(4, 2)
    s:wait_rows(20)
  end

  local function reload(expected) return d:reload(expected) end

  it("says that nothing differs where nothing does, and sends nothing", function()
    start()
    shell.write(script, SAME)
    local log = reload("reloaded: bundle ")
    assert.truthy(log:find("rehearsal of promo: 4 messages: no difference (20 outputs, 0 errors), ", 1, true), log)
    assert.equal(20, s:count())
    s:feed(2, 2)
    s:wait_rows(30)
    assert.equal(0, (d:stop()))
    local ok, report = s:exact(6, 5)
    assert.is_true(ok, report)
  end)

  it("tells what changes with counts and the first examples, and lets it pass", function()
    start()
    shell.write(script, OTHER_VALUE)
    local log = reload("reloaded: bundle ")
    assert.truthy(log:find("rehearsal of promo: 4 of 4 messages differ: outputs 0 added, 0 dropped, 20 changed; " ..
      "errors 0 new, 0 gone, ", 1, true), log)
    local examples = 0
    for line in log:gmatch("rehearsal of promo: changed: [^\n]*") do
      examples = examples + 1
      assert.truthy(line:find(s.topic_in .. "/%d@%d+: "), line)
      assert.truthy(line:find("<first campaign>", 1, true), line)
      assert.is_true(#line < 600, line)
    end
    assert.equal(3, examples)
    -- What may block the next one can be said while it runs.
    s.config.reload = { block_if = { errors = 0 } }
    s:write_config()
    shell.write(script, RAISES)
    log = reload("reload blocked, ")
    assert.truthy(log:find("found 1 new error in 4 messages", 1, true), log)
  end)

  it("compares the first outputs of a large fan-out only, and says so", function()
    s:subscribers(2, 250)
    d = s:start()
    s:feed(2, 2)
    s:wait_rows(500)
    shell.write(script, OTHER_VALUE)
    local log = reload("reloaded: bundle ")
    assert.truthy(log:find("2 of 2 messages differ: outputs 0 added, 0 dropped, 200 changed; errors 0 new, 0 gone; " ..
      "of 2 messages only the first outputs were compared", 1, true), log)
  end)

  it("keeps the old script when block_if allows fewer new errors, and says how to force it", function()
    s.config.reload = { block_if = { errors = 0 } }
    start()
    shell.write(script, RAISES)
    local log = reload("reload blocked, ")
    assert.truthy(log:find("the rehearsal of promo found 1 new error in 4 messages, and reload.block_if.errors " ..
      "allows 0; to reload all the same, raise that limit or set reload.rehearse = 0 in the configuration, and " ..
      "reload again (the first is " .. s.topic_in, 1, true), log)
    assert.truthy(log:find("no a2", 1, true), log)
    assert.equal(1, d:metric("^millrace_reloads_total$", '"blocked"'))
    s:feed(4, 2) -- a5 .. a8, with the old one
    s:wait_rows(40)
    -- The limit is raised, in the configuration, and the same script passes.
    s.config.reload.block_if.errors = "25%"
    s:write_config()
    log = reload("reloaded: bundle ")
    assert.truthy(log:find("errors 1 new, 0 gone", 1, true), log)
    assert.equal(0, (d:stop()))
  end)

  it("keeps the old script when block_if allows fewer dropped outputs", function()
    s.config.reload = { block_if = { dropped = "20%" } }
    start()
    shell.write(script, DROPS)
    local log = reload("reload blocked, ")
    local sentence = "found 5 dropped outputs in 20 outputs, and reload.block_if.dropped allows 20%"
    assert.truthy(log:find(sentence, 1, true), log)
    assert.truthy(log:find("rehearsal of promo: dropped: ", 1, true), log)
    assert.truthy(log:find("(the message is dropped now: not a1)", 1, true), log)
    -- Without rehearsal nothing blocks.
    s.config.reload.rehearse = 0
    s:write_config()
    log = reload("reloaded: bundle ")
    assert.is_nil(log:find("rehearsal of", 1, true), log)
    assert.equal(0, (d:stop()))
  end)

  it("counts a row that the table cannot take as an error", function()
    s.config.reload = { block_if = { errors = 0 } }
    start()
    shell.write(script, TOO_WIDE)
    local log = reload("reload blocked, ")
    assert.truthy(log:find("found 4 new errors in 4 messages", 1, true), log)
    assert.truthy(log:find("trigger_datetime_created", 1, true), log)
    assert.equal(20, s:count())
    assert.equal("0", s:sql("select count(*) from millrace_dead"))
  end)

  it("knows a column that was added while nothing came", function()
    s.config.reload = { block_if = { errors = 0 } }
    start()
    s:sql("alter table subscribers_feedback add column more text")
    shell.write(script, promo('rec.feedback = ""', 'rec.feedback, rec.more = "", "m"'))
    local log = reload("reloaded: bundle ")
    assert.truthy(log:find("outputs 0 added, 0 dropped, 20 changed; errors 0 new, 0 gone", 1, true), log)
    s:feed(2, 2)
    s:wait_rows(30)
    assert.equal("10", s:sql("select count(*) from subscribers_feedback where more = 'm'"))
    assert.equal(0, (d:stop()))
  end)

  it("has nothing to say before the first message", function()
    d = s:start()
    shell.write(script, OTHER_VALUE)
    local log = reload("reloaded: bundle ")
    assert.truthy(log:find("rehearsal of promo: no message has come yet that could be rehearsed", 1, true), log)
  end)

  it("counts nothing and logs nothing for the script", function()
    s:script(promo("return msg.restaurant_id", 'ctx.count("seen") ctx.log("looked") return msg.restaurant_id')
      :gsub("function promo.key%(msg%)", "function promo.key(msg, ctx)")
      :gsub("return promo%s*$", 'function promo.init(ctx) ctx.count("began") end\n%0'))
    start()
    assert.equal(1, d:metric("^millrace_script_count_total$", '"began"'), "looking at the script counted, too")
    assert.equal(4, d:metric("^millrace_script_count_total$", '"seen"'))
    shell.write(script, shell.read(script) .. "\n-- again\n")
    local log = reload("reloaded: bundle ")
    assert.truthy(log:find("4 messages: no difference", 1, true), log)
    assert.is_nil(log:find("looked", 1, true), log)
    assert.equal(4, d:metric("^millrace_script_count_total$", '"seen"'))
    assert.equal(2, d:metric("^millrace_script_count_total$", '"began"'))
  end)

  it("compares with max_message as it is in force, not as it was when the script came", function()
    start()
    s.promo.max_message = "1KB"
    s:write_config()
    reload("changed: pipelines.promo.max_message")
    s:produce { { value = scene.campaign { adv_campaign_id = "b1", restaurant_id = "r1",
      adv_campaign_content = ("x"):rep(2000) }, partition = 0 } }
    d:wait_log("(too_large)", 20)
    shell.write(script, SAME)
    local log = reload("reloaded: bundle ")
    assert.truthy(log:find("rehearsal of promo: 5 messages: no difference (20 outputs, 1 error), ", 1, true), log)
    assert.truthy(log:find("rehearsal of promo: still an error: " .. s.topic_in .. "/0@2: too_large: ", 1, true), log)
  end)

  it("ends in time although the new script never does", function()
    s.config.reload = { block_if = { errors = 0 } }
    s.promo.limits = { time = "2s" }
    start()
    shell.write(script, promo("return msg.restaurant_id", "while true do end return msg.restaurant_id"))
    local began = shell.monotime()
    local log = reload("reload blocked, ")
    assert.is_true(shell.monotime() - began < 19, log)
    assert.truthy(log:find("script_timeout", 1, true), log)
    assert.truthy(log:find("after 5 s %d messages were left and not rehearsed"), log)
    -- The stream went on meanwhile, with the old script.
    s:feed(2, 2)
    s:wait_rows(30)
  end)

  describe("of what is on the disk, asked for by millrace try --against-live", function()
    --- status, stdout, stderr; `...`: more words.
    local function ask(...)
      return s:cli("try", "--against-live", "--set", "admin.listen=" .. d:address():match("//(.*)"), ...)
    end

    it("tells what would differ, and applies nothing", function()
      start()
      local status, out, err = ask()
      assert.equal("", err)
      assert.equal(0, status, out)
      assert.equal("what is on the disk is what runs\n", out)

      shell.write(script, OTHER_VALUE)
      status, out, err = ask("promo")
      assert.equal("", err)
      assert.equal(1, status, out)
      assert.truthy(out:find("rehearsal of promo: 4 of 4 messages differ: outputs 0 added, 0 dropped, 20 changed", 1,
        true), out)

      status, out = ask("--json")
      assert.equal(1, status, out)
      local report = cjson.decode(out)
      local promo_report = report.pipelines[1]
      assert.equal("promo", promo_report.pipeline)
      assert.same({ before = 20, after = 20, added = 0, dropped = 0, changed = 20 }, promo_report.outputs)
      assert.same({ before = 0, after = 0, new = 0, gone = 0 }, promo_report.errors)
      assert.equal(4, #promo_report.examples) -- one a message
      local example = promo_report.examples[1]
      assert.equal("changed", example.kind)
      assert.equal(s.topic_in, example.topic)
      assert.equal("first campaign", example.input.adv_campaign_content)
      assert.equal("first campaign", example.before.message.value.adv_campaign_content)
      assert.equal("<first campaign>", example.after.message.value.adv_campaign_content)
      assert.equal("<first campaign>", example.after.row.adv_campaign_content)
      assert.equal("number", type(example.after.row.trigger_datetime_created))
      assert.is_true(report.differs)

      s:feed(2, 2)
      s:wait_rows(30)
      assert.equal("0", s:sql("select count(*) from subscribers_feedback where adv_campaign_content like '<%'"))
      assert.equal(0, d:metric("^millrace_reloads_total$", '"applied"'))
      assert.equal(0, (d:stop()))
      local ok, report_of_both = s:exact(6, 5)
      assert.is_true(ok, report_of_both)
    end)

    it("says what would block a reload, and what would make it fail", function()
      s.config.reload = { block_if = { errors = 0 } }
      start()
      shell.write(script, RAISES)
      local status, out = ask()
      assert.equal(1, status)
      assert.truthy(out:find("a reload would be blocked: the rehearsal of promo found 1 new error", 1, true), out)
      shell.write(script, "return {")
      status, out = ask()
      assert.equal(78, status)
      assert.truthy(out:find("a reload would fail: .*script.lua:1: "), out)
    end)

    it("says so when no daemon listens", function()
      start()
      local address = d:address():match("//(.*)")
      assert.equal(0, (d:stop()))
      local status, out, err = s:cli("try", "--against-live", "--set", "admin.listen=" .. address)
      assert.equal(69, status)
      assert.equal("", out)
      assert.equal("millrace try: no daemon answers on " .. address .. " (admin.listen): Connection refused; is "
        .. "`millrace run` up, with this configuration?\n", err)
    end)
  end)
end)
