-- /metrics of the real daemon: what Prometheus's own checker says, and whether the documentation is complete.
local scene = require "tests.support.scene"
local shell = require "tests.support.shell"

describe("/metrics", function()
  local s
  before_each(function() s = scene.new() end)
  after_each(function() s:close() end)

  local function metrics_after_work()
    local d = s:start()
    s:produce { scene.campaign(), scene.campaign { adv_campaign_datetime_end = 1 }, "not json" }
    s:wait_rows(8)
    s:wait_rows(1, nil, "millrace_dead")
    local code, body = d:get("/metrics")
    assert.equal(200, code)
    assert.equal(0, (d:stop()))
    return body
  end

  it("pleases promtool", function()
    local status, out, err = shell.try({ "promtool", "check", "metrics" }, { input = metrics_after_work() })
    assert.equal(0, status, out .. err)
    assert.equal("", out .. err)
  end)

  it("stands in docs/METRICS.md, each with its type", function()
    local document = shell.read("docs/METRICS.md")
    local n = 0
    for name, kind in metrics_after_work():gmatch("# TYPE (%S+) (%a+)") do
      n = n + 1
      assert.truthy(document:find(("| `%s` | %s |"):format(name, kind), 1, true), name)
    end
    assert.is_true(n > 15, n .. " metrics")
  end)

  it("is what curl gets with the headers that Prometheus expects", function()
    local d = s:start()
    local head = shell.run { "curl", "-sI", "-m", "5", d:address() .. "/metrics" }
    assert.truthy(head:find("^HTTP/1%.1 200"), head)
    assert.truthy(head:lower():find("content-type: text/plain; version=0.0.4", 1, true), head)
    local refused = shell.run { "curl", "-s", "-m", "5", "-H", "Host: example.org", d:address() .. "/metrics" }
    assert.is_nil(refused:find("millrace_", 1, true))
    assert.equal(0, (d:stop()))
  end)
end)
